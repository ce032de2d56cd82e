"""The disk of a sandbox as its user and its operator see it: figures, the limit, a full machine."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import lib  # noqa: E402

MIB = 1 << 20


def metrics(sandbox):
    headers = {"Host": sandbox.host(), "X-Access-Token": sandbox.token or ""}
    reply = sandbox.conn.request("GET", "/metrics", None, headers)
    assert reply.status == 200, reply.body
    return reply.json


def has_image(server):
    return os.path.exists(os.path.join(server.state, "storage.img"))


class Disk(unittest.TestCase):
    def test_figures_are_the_sandboxs_own(self):
        with lib.Server() as server:
            if not has_image(server):
                self.skipTest("this machine has no image: plain folders have no limit")
            sandbox = server.create(timeout=120)
            before = metrics(sandbox)
            self.assertEqual(before["disk_total"], 10240 * MIB)
            self.assertLess(before["disk_used"], 32 * MIB)
            sandbox.exec("dd", ["if=/dev/urandom", "of=/home/user/f", "bs=1M", "count=64"])
            sandbox.exec("python3", ["-c", "import os; os.sync()"])
            used = metrics(sandbox)["disk_used"] - before["disk_used"]
            self.assertGreaterEqual(used, 60 * MIB)
            self.assertLess(used, 80 * MIB)
            sandbox.kill()

    def test_a_nearly_full_machine_creates_nothing(self):
        with lib.Server(args=["--storage-reserve-mb", "16000000"]) as server:
            reply = server.api("POST", "/v2/sandboxes", {"templateID": "base"})
            self.assertEqual(reply.status, 503)
            self.assertIn("storage-reserve-mb", reply.json["message"])
            self.assertEqual(server.all_sandboxes(), [])

    def test_plain_folders_when_asked_for(self):
        with lib.Server(args=["--storage-plain"]) as server:
            self.assertFalse(has_image(server))
            sandbox = server.create(timeout=120)
            self.assertEqual(sandbox.exec("echo", ["works"]).stdout, b"works\n")
            sandbox.kill()


if __name__ == "__main__":
    lib.main()
