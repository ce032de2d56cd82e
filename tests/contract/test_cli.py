"""The E2B command-line client (npm @e2b/cli), unmodified: what of it talks to sandboxes.

CONTRACT_CLI names its program. Run by run.py.
"""

import contextlib
import hashlib
import json
import os
import pty
import re
import secrets
import select
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402
from e2b import Sandbox  # noqa: E402

CLI = os.environ["CONTRACT_CLI"]  # there when the JavaScript packages are installed
FACTOR = lib.time_factor()


@unittest.skipUnless(os.path.exists(CLI), "@e2b/cli is not installed")
class Cli(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sbx = Sandbox.create(timeout=900, metadata={"mark": "cli"})
        cls.id = cls.sbx.sandbox_id

    @classmethod
    def tearDownClass(cls):
        cls.sbx.kill()

    def run_it(self, *words, stdin=b"", code=0):
        done = subprocess.run([CLI, "sandbox", *words], input=stdin, capture_output=True,
                              timeout=60 * FACTOR)  # fmt: skip
        if code is not None:
            self.assertEqual(done.returncode, code, done)
        return done

    def test_list_and_info(self):
        rows = json.loads(self.run_it("list", "--format", "json").stdout)
        self.assertIn(self.id, [row["sandboxId"] for row in rows])
        shown = self.run_it("info", self.id).stdout.decode()
        self.assertIn(self.id, shown)

    def test_exec(self):
        done = self.run_it("exec", "-u", "root", "-c", "/tmp", "-e", "A=b c", self.id,
                           "bash", "-c", 'echo "$(id -un) $PWD $A"; echo err >&2; exit 5', code=5)  # fmt: skip
        self.assertEqual(done.stdout, b"root /tmp b c\n")
        self.assertIn(b"err\n", done.stderr)

    def test_exec_passes_input(self):
        data = secrets.token_hex(200_000).encode()
        done = self.run_it("exec", self.id, "sha256sum", stdin=data)
        self.assertEqual(done.stdout.split()[0].decode(), hashlib.sha256(data).hexdigest())

    def test_exec_large_output(self):
        # Into a file: the client exits without waiting for a pipe to take what it wrote.
        with tempfile.TemporaryFile() as file:
            subprocess.run([CLI, "sandbox", "exec", self.id, "seq", "100000"], check=True, stdout=file,
                           stdin=subprocess.DEVNULL, timeout=60 * FACTOR)  # fmt: skip
            file.seek(0)
            self.assertTrue(file.read() == b"".join(b"%d\n" % i for i in range(1, 100001)))

    def test_exec_in_the_background(self):
        self.run_it("exec", "-b", self.id, "sleep", "222")
        found = [p for p in self.sbx.commands.list() if "sleep 222" in " ".join(p.args)]
        self.assertEqual(len(found), 1)
        self.sbx.commands.kill(found[0].pid)

    def test_connect(self):
        main, sub = pty.openpty()
        process = subprocess.Popen([CLI, "sandbox", "connect", self.id], stdin=sub, stdout=sub,
                                   stderr=sub, start_new_session=True)  # fmt: skip
        os.close(sub)
        self.addCleanup(os.close, main)
        self.until(main, rb"user@\S+:~\$")
        os.write(main, b"echo $((6*7))-$(tty)\r")
        self.until(main, rb"42-/dev/pts/\d+")
        os.write(main, b"exit\r")
        self.assertIsNotNone(process.wait(30 * FACTOR))

    def until(self, main, pattern):
        data, end = b"", time.monotonic() + 30 * FACTOR
        while not re.search(pattern, data):
            self.assertLess(time.monotonic(), end, f"no {pattern} in {data[-500:]}")
            if select.select([main], [], [], 0.2)[0]:
                with contextlib.suppress(OSError):
                    data += os.read(main, 65536)

    def test_kill(self):
        made = Sandbox.create(timeout=60)
        self.run_it("kill", made.sandbox_id)
        self.assertIs(made.is_running(), False)
        gone = self.run_it("exec", made.sandbox_id, "true", code=None)
        self.assertNotEqual(gone.returncode, 0)

    def test_logs(self):
        self.sbx.commands.run("true")

        def shown():
            text = self.run_it("logs", self.id).stdout.decode()
            return text if "Process ended" in text else None

        text = lib.wait_until("log lines", 30, shown)
        self.assertIn("Sandbox created", text)
        self.assertIn("INFO", text)
        rows = self.run_it("logs", "--format", "json", self.id).stdout.decode().splitlines()
        rows = [json.loads(row) for row in rows if row.startswith("{")]
        self.assertTrue(all(row["level"] for row in rows) and rows)
        self.run_it("logs", "--level", "ERROR", self.id)

    def test_logs_follow(self):
        made = Sandbox.create(timeout=300)
        follow = subprocess.Popen([CLI, "sandbox", "logs", "-f", made.sandbox_id],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  stdin=subprocess.DEVNULL)  # fmt: skip
        try:
            time.sleep(1.5 * FACTOR)
            made.commands.run("true")
            seen, limit = b"", time.monotonic() + 30 * FACTOR
            while b"Process ended" not in seen and time.monotonic() < limit:
                if select.select([follow.stdout], [], [], 0.5)[0]:
                    seen += os.read(follow.stdout.fileno(), 65536)
            self.assertIn(b"Process ended", seen)
            self.assertEqual(seen.count(b"Sandbox created"), 1)
        finally:
            follow.kill()
            follow.wait()
            follow.stdout.close()
            made.kill()

    def test_metrics(self):
        lib.wait_until("figures", 30, lambda: b"CPU" in self.run_it("metrics", self.id).stdout)

    def shown(self, *words):
        done = self.run_it(*words)
        return (done.stdout + done.stderr).decode()

    def ids(self, *words):
        rows = json.loads(self.run_it("list", "--format", "json", *words).stdout)
        return [row["sandboxId"] for row in rows]

    def test_list_filters_orders_and_limits(self):
        mark = secrets.token_hex(4)
        made = [Sandbox.create(timeout=60, metadata={"mark": mark}) for _ in range(3)]
        for sbx in made:
            self.addCleanup(sbx.kill)
        mine = [sbx.sandbox_id for sbx in made]
        where = ("--metadata", f"mark={mark}")
        self.assertEqual(self.ids(*where, "--order", "desc"), mine[::-1])
        self.assertEqual(self.ids(*where, "--order", "asc"), mine)
        # The server gives the newest; the client sorts what it prints.
        self.assertEqual(sorted(self.ids(*where, "--limit", "2")), sorted(mine[1:]))
        self.assertEqual(self.ids(*where, "--template", "no-such-template"), [])
        made[1].pause()
        self.assertEqual(self.ids(*where, "--state", "paused"), [mine[1]])
        self.assertEqual(sorted(self.ids(*where, "--state", "running")),
                         sorted([mine[2], mine[0]]))

    def test_kill_many_and_kill_all(self):
        mark = secrets.token_hex(4)
        made = [Sandbox.create(timeout=60, metadata={"mark": mark}) for _ in range(4)]
        ids = [sbx.sandbox_id for sbx in made]
        self.run_it("kill", ids[0], ids[1])
        self.assertEqual(sorted(self.ids("--metadata", f"mark={mark}")), sorted(ids[2:]))
        self.run_it("kill", "--all", "--metadata", f"mark={mark}")
        self.assertEqual(self.ids("--metadata", f"mark={mark}"), [])
        self.assertIs(self.sbx.is_running(), True)  # not marked so

    def test_pause_and_resume(self):
        made = Sandbox.create(timeout=60)
        self.addCleanup(made.kill)
        self.run_it("pause", made.sandbox_id)
        self.assertIn("paused", self.shown("info", made.sandbox_id))
        self.assertIn("already paused", self.shown("pause", made.sandbox_id))
        self.run_it("resume", made.sandbox_id)
        self.assertIs(made.is_running(), True)

    def test_create_detached(self):
        for word in ("create", "spawn"):
            out = self.shown(word, "base", "--detach", "--timeout", "60",
                             "--lifecycle.ontimeout", "pause", "--lifecycle.autoresume")  # fmt: skip
            found = re.search(r"\bi[a-z0-9]{20}\b", out)
            self.assertIsNotNone(found, out)
            self.addCleanup(Sandbox.kill, found[0])
            info = Sandbox.get_info(found[0])
            self.assertEqual(info.lifecycle, {"on_timeout": "pause", "auto_resume": True})
            self.assertLess(abs((info.end_at - info.started_at).total_seconds() - 60), 5)

    def test_create_connects_a_terminal_and_ends_with_it(self):
        main, sub = pty.openpty()
        process = subprocess.Popen([CLI, "sandbox", "create", "base", "-e", "MARK=m42"], stdin=sub,
                                   stdout=sub, stderr=sub, start_new_session=True)  # fmt: skip
        os.close(sub)
        self.addCleanup(os.close, main)
        before = set(self.ids())
        self.until(main, rb"user@\S+:~\$")
        os.write(main, b"echo got-$MARK\r")
        self.until(main, rb"got-m42")
        os.write(main, b"exit\r")
        self.assertIsNotNone(process.wait(30 * FACTOR))
        lib.wait_until("its end", 30 * FACTOR, lambda: set(self.ids()) <= before)

    def test_snapshots(self):
        made = Sandbox.create(timeout=120)
        self.addCleanup(made.kill)
        name = "cli-" + secrets.token_hex(4)
        made.files.write("/home/user/kept", "yes")
        self.assertIn(name, self.shown("snapshot", "create", made.sandbox_id, "--name", name))
        rows = json.loads(self.run_it("snapshot", "list", made.sandbox_id, "--format", "json").stdout)
        found = [row["snapshotId"] for row in rows if name in row["snapshotId"]]
        self.assertEqual(len(found), 1, rows)
        again = Sandbox.create(found[0], timeout=60)
        self.addCleanup(again.kill)
        self.assertEqual(again.files.read("/home/user/kept"), "yes")
        again.kill()
        self.run_it("snapshot", "delete", found[0])
        self.assertNotIn(name, self.shown("snapshot", "list", "--format", "json"))

    def test_what_is_not_there_is_said(self):
        gone = "i" + "0" * 20
        for words in (("info", gone), ("pause", gone), ("resume", gone), ("exec", gone, "true"),
                      ("snapshot", "create", gone)):  # fmt: skip
            done = self.run_it(*words, code=None)
            text = (done.stdout + done.stderr).decode().lower()
            self.assertRegex(text, "(not|wasn't) found|doesn't exist", words)

    def test_every_command_is_tried_here(self):
        tried = {"connect", "info", "list", "kill", "pause", "resume", "create", "logs", "metrics",
                 "exec", "snapshot", "help"}  # fmt: skip
        for words, known in (((), tried), (("snapshot",), {"create", "list", "delete", "help"})):
            out = self.shown(*words, "--help")
            commands = set(re.findall(r"^  ([a-z]+)[| ]", out.split("Commands:")[1], re.M))
            self.assertEqual(commands - known, set(), "the client has commands that no test calls")


if __name__ == "__main__":
    lib.main()
