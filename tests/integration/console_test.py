#!/usr/bin/env python3
"""`sandpit sandbox list|kill|exec|connect`: the console, against a server of its own.

Output has to be byte-exact whatever happens to the server in between.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

FACTOR = lib.time_factor()


class Console(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        lib.need_root()
        cls.server = lib.Server()
        cls.server.start()
        cls.box = cls.server.create(timeout=1800)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def env(self, mode="dev-plain.env", **changes):
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(("E2B_", "SSL_CERT_")) and "proxy" not in name.lower()}  # fmt: skip
        env.update(self.server.dev_env(mode))
        for name, value in changes.items():
            env.pop(name, None)
            if value is not None:
                env[name] = value
        return env

    def command(self, *words):
        return [os.path.join(self.server.out, "sandpit"), "sandbox", *words]

    def run_it(self, *words, stdin=b"", mode="dev-plain.env", timeout=60, **changes):
        return subprocess.run(self.command(*words), input=stdin, capture_output=True,
                              env=self.env(mode, **changes), timeout=timeout * FACTOR)  # fmt: skip

    def exec(self, *command, options=(), box=None, **more):
        return self.run_it("exec", (box or self.box).id, *options, "--", *command, **more)

    def open(self, *words, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=self.env(), **more)  # fmt: skip

    # --- list and kill ---

    def test_list_and_kill(self):
        made = [self.server.create() for _ in range(3)]
        for mode in ("dev-plain.env", "dev.env"):
            out = self.run_it("list", "--json", mode=mode)
            self.assertEqual(out.returncode, 0, out.stderr)
            ids = [row["sandboxID"] for row in json.loads(out.stdout)]
            self.assertEqual(set(ids), {box.id for box in made} | {self.box.id})
        table = self.run_it("list").stdout.decode()
        self.assertIn(made[0].id, table)
        out = self.run_it("kill", made[0].id, made[1].id)
        self.assertEqual((out.returncode, out.stdout.decode().split()), (0, [made[0].id, made[1].id]))
        out = self.run_it("kill", made[0].id, made[2].id)  # one is gone: the other goes, too
        self.assertEqual(out.returncode, 1)
        self.assertEqual(out.stdout.decode().split(), [made[2].id])
        self.assertIn(f"no sandbox {made[0].id}", out.stderr.decode())
        left = {row["sandboxID"] for row in json.loads(self.run_it("list", "--json").stdout)}
        self.assertEqual(left, {self.box.id})

    def test_kill_in_json(self):
        made = self.server.create()
        out = self.run_it("kill", "--json", made.id, "i" + "z" * 20)
        self.assertEqual(out.returncode, 1)
        gone, missing = json.loads(out.stdout)
        self.assertEqual(gone, {"id": made.id, "killed": True, "error": None})
        self.assertIs(missing["killed"], False)
        self.assertIn("no sandbox", missing["error"])

    def test_list_has_all_pages(self):
        made = [self.server.create() for _ in range(4)]
        rows = json.loads(self.run_it("list", "--json").stdout)
        self.assertLessEqual({box.id for box in made}, {row["sandboxID"] for row in rows})
        self.run_it("kill", *[box.id for box in made])

    # --- what is refused ---

    def test_bad_input(self):
        good = self.box.id
        for code, words, text, changes in (
            (2, ("exec", good, "--", "true"), "E2B_API_KEY", {"E2B_API_KEY": None}),
            (2, ("exec", good, "--", "true"), "E2B_DOMAIN", {"E2B_DOMAIN": None, "E2B_API_URL": None}),
            (2, ("exec", good, "--", "true"), "http://", {"E2B_API_URL": "ftp://x"}),
            (2, ("exec", good), "which command", {}),
            (2, ("exec", good, "--"), "which command", {}),
            (2, ("exec", "--", "true"), "which sandbox", {}),
            (2, ("exec", good, "--nonsense", "--", "true"), "--nonsense", {}),
            (2, ("exec", good, "--env", "novalue", "--", "true"), "NAME=VALUE", {}),
            (2, ("exec", good, "--tty", "--", "true"), "terminal", {}),
            (2, ("exec", "../etc", "--", "true"), "not a sandbox id", {}),
            (2, ("exec", "I" + good[1:], "--", "true"), "not a sandbox id", {}),
            (2, ("connect", good, "x"), "PID", {}),
            (2, ("connect", good), "terminal", {}),
            (2, ("connect",), "which sandbox", {}),
            (2, ("kill",), "which sandbox", {}),
            (2, ("kill", good, "a/b"), "not a sandbox id", {}),
            (2, ("nonsense",), "nonsense", {}),
            (125, ("exec", "i" + "z" * 20, "--", "true"), "no sandbox", {}),
            (125, ("exec", good, "--", "true"), "", {"E2B_API_KEY": "e2b_" + "0" * 40}),
            (125, ("exec", good, "--", "true"), "cannot reach", {"E2B_API_URL": "http://127.0.0.1:1"}),
            (125, ("exec", good, "--", "true"), "cannot reach", {"E2B_SANDBOX_URL": "http://127.0.0.1:1"}),
            (125, ("exec", good, "--user", "nobody-here", "--", "true"), "invalid username", {}),
            (125, ("exec", good, "--cwd", "/none", "--", "true"), "does not exist", {}),
            (125, ("connect", good, "999999"), "process with pid 999999 not found", {}),
            (1, ("kill", "i" + "z" * 20), "no sandbox", {}),
            (1, ("list",), "cannot reach", {"E2B_API_URL": "http://127.0.0.1:1"}),
            (1, ("list",), "", {"E2B_API_KEY": "e2b_" + "0" * 40}),
        ):  # fmt: skip
            out = self.run_it(*words, **changes)
            self.assertEqual(out.returncode, code, f"{words} {changes}: {out}")
            self.assertIn(text, out.stderr.decode(), f"{words} {changes}")
            self.assertEqual(out.stdout, b"")
            self.assertTrue(out.stderr.startswith(b"sandpit: "), out.stderr)
        self.assertEqual(self.server.api("GET", f"/sandboxes/{good}").status, 200)

    def test_certificates_are_checked(self):
        out = self.exec("true", mode="dev.env", SSL_CERT_FILE="/etc/ssl/certs/ca-certificates.crt")
        self.assertEqual(out.returncode, 125)
        self.assertIn("certificate", out.stderr.decode())

    # --- exec ---

    def test_streams_and_exit_codes(self):
        for mode in ("dev-plain.env", "dev.env"):
            out = self.exec("bash", "-c", "cat; echo err >&2; exit 3", stdin=b"in \x00\xff\n", mode=mode)
            self.assertEqual((out.stdout, out.stderr, out.returncode), (b"in \x00\xff\n", b"err\n", 3))
        for script, code in (("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143),
                             ("ulimit -c 0; kill -SEGV $$", 139), ("kill -HUP $$", 129)):  # fmt: skip
            self.assertEqual(self.exec("bash", "-c", script).returncode, code, script)
        self.assertEqual(self.exec("no-such-program").returncode, 127)

    def test_options(self):
        out = self.exec(
            "bash", "-c", 'echo "$(id -un) $PWD $A $B|$*"', "x", "--env", "a b", "-- c", "",
            options=("--user", "root", "--cwd=/tmp", "--env", "A=1=2", "--env=B=é x"),
        )  # fmt: skip
        self.assertEqual(out.stdout.decode(), "root /tmp 1=2 é x|--env a b -- c \n")
        self.assertEqual(out.returncode, 0)

    def test_much_input(self):
        data = os.urandom(20 << 20)
        out = self.exec("sha256sum", stdin=data)
        self.assertEqual(out.stdout.split()[0].decode(), hashlib.sha256(data).hexdigest())
        out = self.exec("head", "-c", "7", stdin=data)  # a program that stops reading
        self.assertEqual((out.stdout, out.returncode), (data[:7], 0))

    def test_a_slow_reader_gets_everything(self):
        process = self.open("exec", self.box.id, "--", "seq", "400000")
        time.sleep(1)
        out, _ = process.communicate(timeout=60 * FACTOR)
        self.assertTrue(out == b"".join(b"%d\n" % i for i in range(1, 400001)), len(out))

    def test_small_rings(self):
        with lib.Server(args=["--replay-bytes", "65536", "--replay-total-bytes", "65536"]) as server:
            box = server.create()
            command = [os.path.join(server.out, "sandpit"), "sandbox", "exec", box.id, "--"]
            env = dict(self.env(), **server.dev_env("dev-plain.env"))
            script = "seq 100000; seq 100000 >&2"
            began = time.monotonic()
            out = subprocess.run([*command, "bash", "-c", script], stdin=subprocess.DEVNULL,
                                 capture_output=True, env=env, timeout=60 * FACTOR)  # fmt: skip
            self.assertTrue(out.stdout == out.stderr == self.numbered(100000), len(out.stdout))
            self.assertLess(time.monotonic() - began, 10 * FACTOR)

    def test_a_reader_that_leaves_ends_the_command(self):
        process = self.open("exec", self.box.id, "--", "yes", "gone-reader")
        process.stdout.read(1000)
        process.stdout.close()
        self.assertEqual(process.wait(30 * FACTOR), 143)
        process.stderr.close()

    def test_signals(self):
        for signals, code in (((signal.SIGINT,), 143), ((signal.SIGTERM, signal.SIGTERM), 137)):
            script = "echo ready; exec sleep 100" if code == 143 else "trap '' TERM; echo ready; while :; do sleep 0.1; done"
            process = self.open("exec", self.box.id, "--", "bash", "-c", script)
            self.assertEqual(process.stdout.readline(), b"ready\n")
            for signo in signals:
                process.send_signal(signo)
                time.sleep(0.5)
            self.assertEqual(process.wait(30 * FACTOR), code)
            process.communicate()

    # --- the server goes away ---

    def restart(self):
        self.server.kill9()
        self.server.start()

    def numbered(self, count):
        return b"".join(b"%d\n" % i for i in range(1, count + 1))

    @lib.limit(300)
    def test_two_million_lines_over_a_killed_server(self):
        count = 2_000_000
        process = self.open("exec", self.box.id, "--", "bash", "-c", f"seq {count}; echo err >&2; exit 5")
        parts, killed = [], threading.Event()

        def read():
            size = 0
            while data := process.stdout.read1(1 << 16):
                parts.append(data)
                size += len(data)
                if size > 4_000_000 and not killed.is_set():
                    killed.set()

        reader = threading.Thread(target=read)
        reader.start()
        self.assertTrue(killed.wait(60 * FACTOR))
        self.restart()
        self.assertEqual(process.wait(120 * FACTOR), 5)
        reader.join(10)
        self.assertTrue(b"".join(parts) == self.numbered(count), "bytes differ")
        self.assertEqual(process.stderr.read(), b"err\n")
        process.stdout.close()
        process.stderr.close()

    @lib.limit(300)
    def test_a_server_killed_again_and_again(self):
        script = "for i in $(seq 300); do seq 2000; echo e$i >&2; sleep 0.02; done"
        process = self.open("exec", self.box.id, "--", "bash", "-c", script)
        stopped = threading.Event()

        def kill():
            while not stopped.wait(0.7 * FACTOR):
                self.restart()

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            out, err = process.communicate(timeout=200 * FACTOR)
        finally:
            stopped.set()
            killer.join()
        self.assertEqual(process.returncode, 0, err[-300:])
        self.assertTrue(out == self.numbered(2000) * 300, f"{len(out)} bytes")
        self.assertEqual(err, b"".join(b"e%d\n" % i for i in range(1, 301)))

    @lib.limit(300)
    def test_input_over_a_killed_server(self):
        # The command reads slowly, so that most of the time input is on its way.
        script = "import sys, hashlib, time\nh = hashlib.sha256()\n" \
                 "while d := sys.stdin.buffer.read(100000): h.update(d); time.sleep(0.01)\n" \
                 "print(h.hexdigest())"  # fmt: skip
        data = os.urandom(30 << 20)
        process = self.open("exec", self.box.id, "--", "python3", "-c", script, stdin=subprocess.PIPE)
        feeder = threading.Thread(target=lambda: (process.stdin.write(data), process.stdin.close()))
        feeder.start()
        for _ in range(3):
            time.sleep(0.6)
            self.restart()
        self.assertEqual(process.wait(120 * FACTOR), 0, process.stderr.read() if process.poll() else "")
        feeder.join()
        self.assertEqual(process.stdout.read().strip().decode(), hashlib.sha256(data).hexdigest())
        process.stdout.close()
        process.stderr.close()

    def test_an_end_while_the_server_is_down(self):
        process = self.open("exec", self.box.id, "--", "bash", "-c", "echo a; sleep 1; echo b; exit 9")
        self.assertEqual(process.stdout.readline(), b"a\n")
        self.server.kill9()
        time.sleep(1.5)
        self.server.start()
        out, _ = process.communicate(timeout=60 * FACTOR)
        self.assertEqual((out, process.returncode), (b"b\n", 9))

    def test_a_sandbox_that_is_killed(self):
        box = self.server.create()
        process = self.open("exec", box.id, "--", "bash", "-c", "echo up; sleep 100")
        self.assertEqual(process.stdout.readline(), b"up\n")
        box.kill()
        self.assertEqual(process.wait(60 * FACTOR), 125)
        self.assertIn(b"not found", process.communicate()[1])

    # --- connect and terminals ---

    def test_connect_to_a_process(self):
        pid = self.box.background("for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done; exit 4")
        time.sleep(0.7)
        process = self.open("connect", self.box.id, str(pid), "--replay")
        out, _ = process.communicate(timeout=30 * FACTOR)
        self.assertEqual((out, process.returncode), (b"1\n2\n3\n4\n5\n6\n", 4))
        first = self.open("exec", self.box.id, "--", "bash", "-c",
                          "echo $$; read line; echo got $line; exit 2", stdin=subprocess.PIPE)  # fmt: skip
        pid = int(first.stdout.readline())
        out = self.run_it("connect", self.box.id, str(pid), stdin=b"text\n")
        self.assertEqual((out.stdout, out.returncode), (b"got text\n", 2))
        self.assertEqual(first.communicate()[0], b"got text\n")
        self.assertEqual(first.returncode, 2)

    def test_leaving_a_process_alone(self):
        pid = self.box.background("sleep 60")
        process = self.open("connect", self.box.id, str(pid))
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(20 * FACTOR), 130)
        process.communicate()
        listed = [row["pid"] for row in self.box.rpc("process.Process/List", {})["processes"]]
        self.assertIn(pid, listed)
        self.box.rpc("process.Process/SendSignal", {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})

    def terminal(self, *words, size=(24, 80)):
        main, sub = pty.openpty()
        fcntl.ioctl(sub, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        process = subprocess.Popen(self.command(*words), stdin=sub, stdout=sub, stderr=sub,
                                   env=self.env(TERM="xterm"), start_new_session=True)  # fmt: skip
        self.addCleanup(os.close, main)
        self.addCleanup(os.close, sub)
        return process, main, sub

    def until(self, main, pattern):
        """What the terminal shows until PATTERN is there."""
        data, end = b"", time.monotonic() + 20 * FACTOR
        while not re.search(pattern, data):
            self.assertLess(time.monotonic(), end, f"no {pattern} in {data[-500:]}")
            if select.select([main], [], [], 0.2)[0]:
                with contextlib.suppress(OSError):
                    data += os.read(main, 65536)
        return data

    def test_a_terminal(self):
        process, main, sub = self.terminal("exec", self.box.id, "--tty", "--", "bash", "--norc")
        before = termios.tcgetattr(sub)
        os.write(main, b"tty; stty size; echo <$TERM>\n".replace(b"<$TERM>", b"'<'$TERM'>'"))
        self.until(main, b"<xterm>")
        os.write(main, b"sleep 100\n")
        time.sleep(0.3)
        os.write(main, b"\x03echo int''errupted\n")  # Ctrl-C reaches the sleep, not the console
        self.until(main, b"interrupted")
        fcntl.ioctl(sub, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
        process.send_signal(signal.SIGWINCH)
        time.sleep(0.5)
        os.write(main, b"stty size\n")
        self.until(main, b"33 111")
        self.restart()  # the shell is still there
        os.write(main, b"echo st''ill\n")
        self.until(main, b"still")
        os.write(main, b"exit 6\n")
        self.assertEqual(process.wait(20 * FACTOR), 6)
        after = termios.tcgetattr(sub)
        self.assertEqual(before[3] & termios.ECHO, after[3] & termios.ECHO, "not as it was")

    def test_connect_opens_a_shell_and_comes_back_to_it(self):
        process, main, _ = self.terminal("connect", self.box.id)
        os.write(main, b"echo pid=$$-\n")
        pid = int(re.search(rb"pid=(\d+)-", self.until(main, rb"pid=\d+-")).group(1))
        process.send_signal(signal.SIGHUP)
        self.assertEqual(process.wait(20 * FACTOR), 129)
        process, main, _ = self.terminal("connect", self.box.id, str(pid), "--replay")
        self.until(main, b"pid=%d-" % pid)
        os.write(main, b"exit 3\n")
        self.assertEqual(process.wait(20 * FACTOR), 3)


if __name__ == "__main__":
    lib.main()
