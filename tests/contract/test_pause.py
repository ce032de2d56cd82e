"""pause, connect, snapshots and forks of the Python SDK, both kinds: every method and option."""

import asyncio
import secrets

from both import FACTOR, Both, both, lib
from e2b import (
    InvalidArgumentException,
    SandboxException,
    SandboxNotFoundException,
    SandboxState,
)

SOON = {"request_timeout": 30 * FACTOR}
COUNT = "pgrep -fc '^paused-mar[k]'; true"


@both
class Pauses(Both):
    async def mark(self):
        await self.do(self.sbx.commands.run("exec -a paused-mark sleep 1000", background=True))
        await self.until("mark", 10, self.marks)

    async def marks(self):
        return int(await self.sh(COUNT))

    async def info(self):
        return await self.do(self.sbx.get_info())

    async def test_memory_is_kept_by_default_and_a_second_pause_is_told(self):
        await self.mark()
        self.assertIs(await self.do(self.sbx.pause(**SOON)), True)
        self.assertIs(await self.do(self.sbx.pause()), False)
        info = await self.info()
        self.assertEqual(info.state, SandboxState.PAUSED)
        self.assertIsNone(info.envd_unresponsive_at_pause)
        await self.do(self.sbx.connect(timeout=1800, on_resume="restore", **SOON))
        self.assertEqual(await self.marks(), 1)
        self.assertEqual((await self.info()).state, SandboxState.RUNNING)
        await self.sh("pkill -f '^paused-mar[k]'")

    async def test_files_alone(self):
        for options in ({"mode": "filesystem"}, {"keep_memory": False}):
            await self.mark()
            await self.sh("echo $RANDOM > ~/number; cp ~/number ~/copy")
            self.assertIs(await self.do(self.sbx.pause(**options)), True)
            await self.do(self.sbx.connect(timeout=1800))
            self.assertEqual(await self.marks(), 0)
            await self.sh("cmp ~/number ~/copy")

    async def test_on_resume_reboot(self):
        await self.mark()
        await self.do(self.sbx.pause(mode="full"))
        again = await self.do(self.kind.connect(self.sbx.sandbox_id, timeout=1800, on_resume="reboot"))
        self.assertEqual(await self.marks(), 0)
        await self.mark()
        await self.do(again.connect(on_resume="reboot"))  # it runs: nothing changes
        self.assertEqual(await self.marks(), 1)
        await self.refused(InvalidArgumentException, again.connect, on_resume="never")
        await self.sh("pkill -f '^paused-mar[k]'")

    async def test_strict_and_the_old_name(self):
        self.assertIs(await self.do(self.sbx.pause(strict=True)), True)
        await self.do(self.sbx.connect(timeout=1800))
        self.assertIs(await self.do(self.sbx.beta_pause()), True)
        await self.do(self.sbx.connect(timeout=1800))
        self.assertIs(await self.do(self.kind.pause(self.sbx.sandbox_id)), True)
        await self.do(self.sbx.connect(timeout=1800))
        await self.refused(SandboxNotFoundException, self.kind.pause, "i" + "x" * 20)

    async def test_many_connects_at_once_are_one_start(self):
        await self.do(self.sbx.pause(mode="filesystem"))
        calls = [self.kind.connect(self.sbx.sandbox_id, timeout=1800) for _ in range(4 if self.is_async else 1)]
        for sandbox in await asyncio.gather(*(self.do(call) for call in calls)):
            self.assertEqual(sandbox.sandbox_id, self.sbx.sandbox_id)
        self.assertEqual((await self.info()).state, SandboxState.RUNNING)

    async def test_what_happens_at_the_timeout(self):
        cases = (
            ({"on_timeout": "pause"}, "full"),
            ({"on_timeout": {"action": "pause", "mode": "full"}, "auto_resume": False}, "full"),
            ({"on_timeout": {"action": "pause", "mode": "filesystem"}}, "filesystem"),
            ({"on_timeout": {"action": "kill"}}, None),
        )
        for lifecycle, mode in cases:
            made = await self.do(self.kind.create(lifecycle=lifecycle, timeout=60))
            await self.do(made.files.write("/home/user/file", "one"))
            await self.do(made.commands.run("exec -a paused-mark sleep 1000", background=True))
            await asyncio.sleep(0.2)  # its exec
            info = await self.do(made.get_info())
            self.assertEqual(info.lifecycle["on_timeout"], "pause" if mode else "kill")
            await self.do(made.set_timeout(0))
            if mode is None:
                await self.refused(SandboxNotFoundException, made.get_info)
                continue
            info = await self.do(made.get_info())
            self.assertEqual(info.state, SandboxState.PAUSED)
            await self.do(made.connect(timeout=60))
            marks = (await self.do(made.commands.run(COUNT))).stdout
            self.assertEqual(marks, "1\n" if mode == "full" else "0\n")
            self.assertEqual(await self.do(made.files.read("/home/user/file")), "one")
            self.assertTrue(await self.do(made.kill()))

    async def test_a_paused_one_can_be_killed_and_its_clients_are_told(self):
        made = await self.do(self.kind.create(timeout=60))
        await self.do(made.pause())
        await self.refused(SandboxException, made.set_timeout, 30)
        await self.refused(SandboxException, made.create_snapshot)
        await self.refused(SandboxException, made.fork)
        self.assertTrue(await self.do(made.kill()))
        self.assertFalse(await self.do(made.kill()))


@both
class Snapshots(Both):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.name = "test-" + secrets.token_hex(6)

    async def delete(self, snapshot_id):
        return await self.do(self.kind.delete_snapshot(snapshot_id, **SOON))

    async def missing(self, template):
        error = await self.refused(SandboxException, self.kind.create, template)
        self.assertIn("404", str(error))

    async def test_without_a_name(self):
        await self.sh("echo kept > ~/file; exec -a paused-mark sleep 1 &")
        info = await self.do(self.sbx.create_snapshot(**SOON))
        await self.sh("echo changed > ~/file")
        self.assertRegex(info.snapshot_id, "^[a-z0-9]{20}:default$")
        self.assertEqual(info.names, [])
        made = await self.do(self.kind.create(info.snapshot_id, timeout=60, envs={"A": "1"}))
        result = await self.do(made.commands.run("cat ~/file; echo $A"))
        self.assertEqual(result.stdout, "kept\n1\n")
        self.assertIs(await self.delete(info.snapshot_id), True)
        self.assertIs(await self.delete(info.snapshot_id), False)
        self.assertEqual((await self.do(made.commands.run("cat ~/file"))).stdout, "kept\n")
        await self.do(made.kill())
        await self.missing(info.snapshot_id)

    async def test_names_and_tags(self):
        first = await self.do(self.sbx.create_snapshot(self.name, mode="filesystem"))
        team = first.snapshot_id.partition("/")[0]
        self.assertEqual(first.snapshot_id, f"{team}/{self.name}:default")
        self.assertEqual(first.names, [first.snapshot_id])
        second = await self.do(self.kind.create_snapshot(self.sbx.sandbox_id, f"{team}/{self.name}:v2", mode="full"))
        self.assertEqual(second.names, [f"{team}/{self.name}:v2"])
        again = await self.do(self.sbx.create_snapshot(name=self.name))
        self.assertEqual(again.snapshot_id, first.snapshot_id)
        ids = set()
        for template in (self.name, f"{team}/{self.name}", f"{self.name}:v2", second.snapshot_id):
            made = await self.do(self.kind.create(template, timeout=60))
            info = await self.do(made.get_info())
            ids.add(info.template_id)
            self.assertEqual(info.name, self.name)
            await self.do(made.kill())
        self.assertEqual(len(ids), 1)  # builds of one template
        await self.missing(f"{self.name}:v3")
        self.assertIs(await self.delete(f"{self.name}:v2"), True)
        self.assertIs(await self.delete(self.name), True)
        self.assertIs(await self.delete(self.name), False)

    async def test_wrong_names(self):
        for name in ("a b", "a/b/c", "no-such-team/x", "a:", "x" * 300):
            error = await self.refused(SandboxException, self.sbx.create_snapshot, name)
            self.assertIn("400", str(error))
        await self.refused(SandboxNotFoundException, self.kind.create_snapshot, "i" + "x" * 20)

    async def test_lists_and_pages(self):
        names = [f"{self.name}-{i}" for i in range(5)]
        for name in names:
            await self.do(self.sbx.create_snapshot(name))
        pages, found = self.sbx.list_snapshots(limit=2), []
        while pages.has_next:
            page = await self.do(pages.next_items())
            self.assertLessEqual(len(page), 2)
            found += [info.names[0].partition("/")[2] for info in page]
        self.assertEqual([n for n in found if n.startswith(self.name)], [f"{n}:default" for n in reversed(names)])
        named = await self.do(self.kind.list_snapshots(name=names[1]).next_items())
        self.assertEqual([info.names[0].partition("/")[2] for info in named], [names[1] + ":default"])
        of_it = self.kind.list_snapshots(sandbox_id=self.sbx.sandbox_id, limit=1)
        first = (await self.do(of_it.next_items()))[0]
        rest = self.kind.list_snapshots(
            sandbox_id=self.sbx.sandbox_id, limit=1, next_token=of_it.next_token, **SOON
        )
        self.assertNotEqual((await self.do(rest.next_items()))[0].snapshot_id, first.snapshot_id)
        self.assertEqual(await self.do(self.kind.list_snapshots(sandbox_id="i" + "x" * 20).next_items()), [])
        self.assertEqual(await self.do(self.sbx.list_snapshots(name="no-such-name").next_items()), [])
        bad = self.kind.list_snapshots(limit=101)
        await self.refused(SandboxException, bad.next_items)
        for name in names:
            self.assertIs(await self.delete(name), True)

    async def test_forks(self):
        await self.sh("echo source > ~/file")
        forks = await self.do(self.sbx.fork(timeout=60, count=3, **SOON))
        self.assertEqual(len({fork.sandbox_id for fork in forks} | {self.sbx.sandbox_id}), 4)
        for number, fork in enumerate(forks):
            await self.do(fork.commands.run(f"echo {number} >> ~/file"))
        for number, fork in enumerate(forks):
            self.assertEqual(await self.do(fork.files.read("/home/user/file")), f"source\n{number}\n")
            await self.do(fork.kill())
        self.assertEqual(await self.sh("cat ~/file"), "source\n")
        (one,) = await self.do(self.kind.fork(self.sbx.sandbox_id))
        self.assertTrue(await self.do(one.is_running()))
        await self.do(one.kill())
        for count in (0, 101):
            await self.refused((InvalidArgumentException, SandboxException), self.sbx.fork, count=count)
        await self.refused(SandboxNotFoundException, self.kind.fork, "i" + "x" * 20)


if __name__ == "__main__":
    lib.main()
