"""What a sandbox uses, as the Python SDKs read it, sync and async."""

import asyncio
import datetime
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402
from e2b import AsyncSandbox, Sandbox, SandboxException  # noqa: E402


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sbx = Sandbox.create(timeout=300)

    @classmethod
    def tearDownClass(cls):
        cls.sbx.kill()

    def test_metrics_show_a_busy_cpu(self):
        begun = datetime.datetime.now(datetime.timezone.utc)
        busy = self.sbx.commands.run("while :; do :; done", background=True)
        rows = lib.wait_until(
            "a busy CPU", 40,
            lambda: [r for r in [self.sbx.get_metrics()] if any(x.cpu_used_pct > 3 for x in r)],
        )[0]  # fmt: skip
        busy.kill()
        for row in rows:
            self.assertIsInstance(row.timestamp, datetime.datetime)
            self.assertGreater(row.cpu_count, 0)
            self.assertLessEqual(row.cpu_used_pct, 100)
            self.assertTrue(0 < row.mem_used <= row.mem_total)
            self.assertGreaterEqual(row.mem_cache, 0)
            self.assertTrue(0 <= row.disk_used <= row.disk_total)
        some = Sandbox.get_metrics(self.sbx.sandbox_id, start=begun)
        self.assertTrue(some)
        long_ago = datetime.datetime.fromtimestamp(1000, datetime.timezone.utc)
        self.assertEqual(self.sbx.get_metrics(end=long_ago), [])

    def test_asynchronously(self):
        async def fetch():
            return await AsyncSandbox.get_metrics(self.sbx.sandbox_id)

        lib.wait_until("figures", 20, lambda: asyncio.run(fetch()))

    def test_what_never_was_is_refused(self):
        with self.assertRaises(SandboxException):
            Sandbox.get_metrics("i" + "z" * 20)

    def test_what_has_ended_is_still_shown(self):
        sbx = Sandbox.create(timeout=300)
        lib.wait_until("figures", 20, sbx.get_metrics)
        sbx.kill()
        time.sleep(0.2)
        self.assertTrue(Sandbox.get_metrics(sbx.sandbox_id))


if __name__ == "__main__":
    lib.main()
