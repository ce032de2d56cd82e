"""Secret of the Python SDK, both kinds: every method, and what it says of what goes wrong."""

import datetime
import inspect
import os
import secrets
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402
from e2b import AsyncSecret, Secret  # noqa: E402
from e2b.exceptions import SecretException, SecretNotFoundException  # noqa: E402


class Secrets:
    kind = None

    def setUp(self):
        self.name = "test-" + secrets.token_hex(6)

    async def do(self, result):
        return await result if inspect.isawaitable(result) else result

    async def make(self, name=None, value="v", **options):
        info = await self.do(self.kind.create(name or self.name, value, **options))
        self.addCleanup(Secret.destroy, info.secret_id)
        return info

    async def test_create_tells_all_but_the_value(self):
        value = "hidden-" + secrets.token_hex(8)
        info = await self.make(" " + self.name.upper() + " ", value, metadata={"team": "é"})
        self.assertEqual((info.name, info.version, info.metadata),
                         (self.name, 1, {"team": "é"}))  # fmt: skip
        self.assertRegex(info.secret_id, "^sec_[0-7][0-9a-hjkmnp-tv-z]{25}$")
        self.assertIsInstance(info.created_at, datetime.datetime)
        self.assertEqual(info.created_at, info.updated_at)
        self.assertNotIn(value, repr(info))

    async def test_it_is_found_by_id_and_by_name(self):
        info = await self.make()
        for key in (info.secret_id, self.name, self.name.upper()):
            self.assertEqual(await self.do(self.kind.get_info(key)), info)
            self.assertTrue(await self.do(self.kind.exists(key)))

    async def test_an_update_is_a_version_and_keeps_metadata_unless_given(self):
        info = await self.make(metadata={"a": "1"})
        second = await self.do(self.kind.update(self.name, "v2"))
        self.assertEqual((second.version, second.metadata, second.created_at),
                         (2, {"a": "1"}, info.created_at))  # fmt: skip
        third = await self.do(self.kind.update(info.secret_id, "v3", metadata={"b": "2"}))
        self.assertEqual((third.version, third.metadata), (3, {"b": "2"}))
        self.assertGreaterEqual(third.updated_at, second.updated_at)
        fourth = await self.do(self.kind.update(self.name, "v4", metadata={}))
        self.assertEqual((fourth.version, fourth.metadata), (4, {}))

    async def test_pages_hold_each_secret_once(self):
        made = {(await self.make(f"{self.name}-{i}")).secret_id for i in range(5)}
        pages, found = self.kind.list(limit=2), []
        while pages.has_next:
            page = await self.do(pages.next_items())
            self.assertLessEqual(len(page), 2)
            found += [info.secret_id for info in page]
        self.assertEqual(len(found), len(set(found)))
        self.assertLessEqual(made, set(found))

    async def test_what_is_destroyed_is_gone(self):
        info = await self.make()
        self.assertTrue(await self.do(self.kind.destroy(self.name)))
        self.assertFalse(await self.do(self.kind.destroy(self.name)))
        self.assertFalse(await self.do(self.kind.exists(info.secret_id)))
        for call in (self.kind.get_info(self.name) if self.kind is AsyncSecret else None,
                     self.kind.update(self.name, "x") if self.kind is AsyncSecret else None):  # fmt: skip
            if call is not None:
                with self.assertRaises(SecretNotFoundException):
                    await call
        if self.kind is Secret:
            self.assertRaises(SecretNotFoundException, Secret.get_info, self.name)
            self.assertRaises(SecretNotFoundException, Secret.update, self.name, "x")

    async def test_refusals_have_fixed_words(self):
        await self.make()
        for text, name, options in (
            ("409: Secret cannot be modified in its current state", self.name, {}),
            ("400: Invalid secrets request", "no spaces", {}),
            ("400: Invalid secrets request", "sec_reserved", {}),
            ("400: Invalid secrets request", "m", {"metadata": {"k" * 129: "v"}}),
        ):
            with self.assertRaises(SecretException) as caught:
                await self.do(self.kind.create(name, "v", **options))
            self.assertEqual(str(caught.exception), text)


class SecretsSync(Secrets, unittest.IsolatedAsyncioTestCase):
    kind = Secret


class SecretsAsync(Secrets, unittest.IsolatedAsyncioTestCase):
    kind = AsyncSecret


del Secrets

if __name__ == "__main__":
    lib.main()
