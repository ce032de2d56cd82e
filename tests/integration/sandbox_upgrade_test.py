#!/usr/bin/env python3
"""A server with another envd takes over: the envd of a running sandbox is upgraded in place, and its
processes, terminals and streams on kept connections to it go on."""

import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

OUT = os.environ.get("SANDPIT_OUT") or os.environ.get("OUT") or "build/release"
NEXT = os.path.abspath(os.path.join(OUT, "tests/integration/envd_next"))
BAD = os.path.abspath(os.path.join(OUT, "tests/integration/envd_bad"))


def setUpModule():
    lib.need_root()


def version(server, sandbox):
    return server.api("GET", f"/sandboxes/{sandbox.id}").json["envdVersion"]


class SandboxUpgrade(unittest.TestCase):
    @lib.limit(180)
    def test_a_new_server_brings_its_envd_along(self):
        with lib.Server() as server:
            sandboxes = [server.create(timeout=300), server.create(timeout=300, secure=True)]
            pids = [sandbox.background("for i in $(seq 1 100000); do echo $i >> /tmp/log; sleep 0.02; done")
                    for sandbox in sandboxes]
            for sandbox in sandboxes:
                sandbox.write("/home/user/kept", b"as it was")
            paused = server.create(timeout=300)
            server.api("POST", f"/sandboxes/{paused.id}/pause")
            first = version(server, sandboxes[0])
            begun = [sandbox.sh("cut -d' ' -f22 /proc/1/stat").text for sandbox in sandboxes]
            server.kill9()
            server.args = [*server.args, "--envd", NEXT]
            server.start()
            for sandbox in sandboxes:
                lib.wait_until("upgrade", 30 * lib.time_factor(),
                               lambda s=sandbox: version(server, s) == "0.6.99")
            self.assertNotEqual(first, "0.6.99")
            for sandbox, pid, first_process in zip(sandboxes, pids, begun):
                listed = [one["pid"] for one in sandbox.rpc("process.Process/List", {})["processes"]]
                self.assertIn(pid, listed, "its process is still known")
                self.assertEqual(sandbox.sh("cut -d' ' -f22 /proc/1/stat").text, first_process)
                self.assertEqual(sandbox.read("/home/user/kept"), b"as it was")
                lines = [int(n) for n in sandbox.sh("cat /tmp/log").text.split()]
                self.assertEqual(lines, list(range(1, len(lines) + 1)))
                time.sleep(0.3)
                self.assertGreater(len(sandbox.sh("cat /tmp/log").text.split()), len(lines))
            self.assertEqual(version(server, paused), first, "a paused one is left alone")

    @lib.limit(180)
    def test_a_faulty_envd_leaves_the_sandbox_as_it_was(self):
        folder = os.path.dirname(BAD)
        faulty = os.path.join(folder, "envd_faulty")
        with open(BAD, "rb") as src, open(faulty, "wb") as dst:
            dst.write(src.read() + b"C")
        os.chmod(faulty, 0o755)
        self.addCleanup(os.unlink, faulty)
        with lib.Server() as server:
            sandbox = server.create(timeout=300)
            first = version(server, sandbox)
            server.kill9()
            server.args = [*server.args, "--envd", faulty]
            server.start()
            lib.wait_until("the refusal", 30 * lib.time_factor(),
                           lambda: "envd not upgraded, will retry" in server.log_tail(400))
            self.assertEqual(sandbox.sh("echo still here").text, "still here\n")
            self.assertEqual(version(server, sandbox), first)


if __name__ == "__main__":
    lib.main()
