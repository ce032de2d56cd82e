"""Sandboxes that traffic wakes, and creates that happen once, by the Python SDK of both kinds."""

import asyncio
import secrets

from both import Both, both, lib
from e2b import RateLimitException, SandboxException, SandboxState
from e2b.exceptions import InvalidArgumentException

WAKES = {"on_timeout": "pause", "auto_resume": True}


@both
class Wakes(Both):
    async def paused(self):
        made = await self.do(self.kind.create(lifecycle=WAKES, timeout=60))
        await self.do(made.files.write("/home/user/file", "one"))
        await self.do(made.set_timeout(0))
        self.assertEqual((await self.do(made.get_info())).state, SandboxState.PAUSED)
        return made

    async def test_a_call_to_a_paused_one_wakes_it(self):
        made = await self.paused()
        info = await self.do(made.get_info())
        self.assertEqual(info.lifecycle, {"on_timeout": "pause", "auto_resume": True})
        self.assertEqual(await self.do(made.files.read("/home/user/file")), "one")
        self.assertEqual((await self.do(made.get_info())).state, SandboxState.RUNNING)
        await self.do(made.set_timeout(0))
        self.assertEqual((await self.do(made.commands.run("cat ~/file"))).stdout, "one")
        await self.do(made.set_timeout(0))
        self.assertTrue(await self.do(made.is_running()))
        self.assertTrue(await self.do(made.kill()))

    async def test_many_calls_at_once(self):
        made = await self.paused()
        if self.is_async:
            texts = await asyncio.gather(*(made.files.read("/home/user/file") for _ in range(30)))
            self.assertEqual(set(texts), {"one"})
        self.assertEqual(await self.do(made.files.read("/home/user/file")), "one")
        self.assertTrue(await self.do(made.kill()))

    async def test_without_auto_resume_it_stays_paused(self):
        lifecycle = {"on_timeout": "pause", "auto_resume": False}
        made = await self.do(self.kind.create(lifecycle=lifecycle, timeout=60))
        await self.do(made.pause())
        self.assertFalse(await self.do(made.is_running()))
        self.assertEqual((await self.do(made.get_info())).state, SandboxState.PAUSED)
        self.assertTrue(await self.do(made.kill()))


@both
class Once(Both):
    async def test_the_same_key_gives_the_same_sandbox(self):
        key = "contract-" + secrets.token_hex(8)
        first = await self.do(self.kind.create(timeout=60, idempotency_key=key))
        again = await self.do(self.kind.create(timeout=60, idempotency_key=key))
        self.assertEqual(first.sandbox_id, again.sandbox_id)
        await self.do(again.files.write("/home/user/file", "one"))  # with tokens that open it
        self.assertEqual(await self.do(first.files.read("/home/user/file")), "one")
        error = await self.refused(SandboxException, self.kind.create, timeout=61,
                                   idempotency_key=key)
        self.assertIn("409", str(error))
        self.assertNotIsInstance(error, RateLimitException)
        self.assertTrue(await self.do(first.kill()))

    async def test_a_key_of_another_form_is_refused(self):
        await self.refused(InvalidArgumentException, self.kind.create, timeout=60,
                           idempotency_key="Not This")


if __name__ == "__main__":
    lib.main()
