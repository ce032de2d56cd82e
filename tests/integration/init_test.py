#!/usr/bin/env python3
"""envd as a sandbox's first process: memory, process and signal storms do not take it down.

Each test does its worst inside a real sandbox; then envd must answer, run a command, and be the
same process as before.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

MIB = 1 << 20
ALONE = 3  # processes of an idle sandbox that `ls` sees: envd, its spawner, the shell


def setUpModule():
    lib.need_root()


class Init(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = lib.Server()
        cls.addClassCleanup(cls.server.stop)
        cls.server.start()

    def setUp(self):
        self.box = self.server.create()
        self.addCleanup(self.box.kill)
        self.envd = self.identity()

    def identity(self):
        """Which process is the first one: its start time."""
        stat = self.box.sh("cat /proc/1/stat", user="root").text
        return stat[stat.rindex(")") :].split()[20 - 1]

    def assert_alive(self):
        """/health answers, a command runs and ends, all by the envd there was."""
        reply = self.box.conn.request("GET", "/health", None, self.box.headers())
        self.assertEqual(reply.status, 204)
        result = self.box.sh("echo well")
        self.assertEqual((result.text, result.exit_code), ("well\n", 0), result)
        self.assertEqual(self.identity(), self.envd)

    def limit_bytes(self):
        return self.box.row.get("memoryMB", 1024) * MIB

    # --- control groups ---

    def test_envd_and_its_processes_are_in_different_groups(self):
        def groups():
            text = self.box.sh("cat /proc/1/cgroup; echo -; cat /proc/self/cgroup").text
            return text.split("-\n", 1)

        def memory(text):
            for line in text.splitlines():
                if ":memory:" in line or line.startswith("0::/") and ":memory:" not in text:
                    return line.split(":", 2)[2]
            raise AssertionError(text)

        lib.wait_until("envd has left its processes' group", 5,
                       lambda: memory(groups()[0]).startswith("/.."))  # fmt: skip
        self.assertEqual(memory(groups()[1]), "/")

    def test_a_terminal_gets_a_group_of_its_own(self):
        conn = lib.Http(self.server.traffic_port)
        events = self.box.start("/bin/sh", ["-c", "sleep 100"], pty=(80, 24), conn=conn)
        pid = next(events)[1]["pid"]
        self.addCleanup(conn.close)
        lib.wait_until("the terminal has been moved", 5,
                       lambda: "ptys" in self.box.sh(f"cat /proc/{pid}/cgroup").text)  # fmt: skip

    def test_nothing_of_the_groups_is_passed_on(self):
        result = self.box.sh("ls -l /proc/self/fd", user="root")
        self.assertNotIn("cgroup", result.text)
        self.assertNotEqual(self.box.sh("ls -l /proc/1/fd").exit_code, 0, "not for the user")

    # --- memory ---

    def test_a_hog_is_killed_and_not_envd(self):
        for user in ("user", "root"):
            result = self.box.sh("exec python3 -c 'x = bytearray(1500 << 20)'", user=user)
            self.assertEqual(result.exit_code, -1, result)
            self.assertIn("killed", result.status)
            self.assert_alive()

    def test_a_hog_that_protects_itself_is_killed_and_not_envd(self):
        script = "echo 0 >/proc/self/oom_score_adj; sudo -n true; exec sudo -n python3 -c "
        result = self.box.sh(script + "'x = bytearray(1500 << 20)'")
        self.assertNotEqual(result.exit_code, 0, result)
        self.assert_alive()

    @unittest.skipIf(
        "san" in os.environ.get("SANDPIT_OUT", ""),
        "a sanitizer's envd is fifty times larger, and the kernel takes its child before its exec first",
    )
    def test_many_small_hogs_do_not_take_envd(self):
        self.box.background(
            "for i in $(seq 500); do"
            " (echo 0 >/proc/self/oom_score_adj;"
            "  exec perl -e '$x = \"x\" x 4000000; sleep 100') & done; wait"
        )
        deadline = time.monotonic() + 60
        while self.usage() < 0.8 * self.limit_bytes() and time.monotonic() < deadline:
            time.sleep(0.2)
        self.assertGreater(self.usage(), 0.5 * self.limit_bytes(), "they did take the memory")
        time.sleep(1)
        reply = self.box.conn.request("GET", "/health", None, self.box.headers())
        self.assertEqual(reply.status, 204)
        lib.wait_until("a command ends them", 90, self.end_storm)
        self.assert_alive()

    def usage(self):
        reply = self.box.conn.request("GET", "/metrics", None, self.box.headers())
        return reply.json["mem_used"] + reply.json["mem_cache"]

    def test_a_full_shm_leaves_room_for_commands(self):
        result = self.box.sh("cat /dev/zero >/dev/shm/full; df --output=pcent /dev/shm", user="root")
        self.assertIn("No space left", result.stderr.decode())
        self.assertIn("100%", result.text)
        self.assert_alive()
        size = int(self.box.sh("stat -c %s /dev/shm/full").text)
        self.assertLess(size, self.limit_bytes() * 0.6)
        self.assertGreater(size, self.limit_bytes() * 0.3)

    def test_an_upload_into_memory_does_not_take_envd(self):
        blob = b"x" * (64 * MIB)
        with self.assertRaises(lib.ApiError) as caught:
            for i in range(self.limit_bytes() // len(blob) + 1):
                self.box.write(f"/dev/shm/{i}", blob, user="root")
        self.assertEqual(caught.exception.status, 507)
        self.assert_alive()

    def test_files_on_disk_do_not_take_envd(self):
        size = self.limit_bytes() // MIB + 200
        result = self.box.sh(f"head -c {size}M /dev/zero >/tmp/big && stat -c %s /tmp/big")
        self.assertEqual(result.text, f"{size * MIB}\n", result)
        self.assert_alive()

    # --- processes ---

    def count(self):
        result = self.box.sh("ls -d /proc/[0-9]* | wc -l", user="root")
        return int(result.text) if result.exit_code == 0 else None

    def few_left(self):
        count = self.count()
        return count is not None and count <= ALONE + 4

    def test_a_storm_of_processes_leaves_envd_its_threads(self):
        """As many as there may be; asleep, for the machine has others to serve."""
        script = "while (1) { $p = fork; sleep 1 if !defined $p; sleep 1000 if $p == 0 }"
        parent = self.box.background(f"exec perl -e '{script}'")
        lib.wait_until("no more can be started", 60, self.storm_is_full, 0.5)
        reply = self.box.conn.request("GET", "/health", None, self.box.headers())
        self.assertEqual(reply.status, 204)
        self.box.write("/tmp/written", b"meanwhile")  # a thread of envd does this
        self.assertEqual(self.box.read("/tmp/written"), b"meanwhile")
        selector = {"process": {"pid": parent}, "signal": "SIGNAL_SIGKILL"}
        self.box.rpc("process.Process/SendSignal", selector)
        lib.wait_until("there is room for a command that ends it", 90, self.end_storm, 0.2)
        self.assert_alive()

    def storm_is_full(self):
        refused = self.box.exec("/bin/true").error
        if refused:
            self.assertIn("temporarily unavailable", refused.message)
        return refused is not None

    def end_storm(self):
        result = self.box.exec("/usr/bin/pkill", ["-KILL", "perl"], user="root")
        return result.error is None and self.few_left()

    def test_orphans_are_reaped(self):
        script = "for i in $(seq 3000); do (true &) ; done; echo done"
        self.assertEqual(self.box.sh(script).text, "done\n")
        zombies = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true"
        lib.wait_until("no zombie is left", 20, lambda: self.box.sh(zombies).text == "0\n")
        self.assertTrue(self.few_left())

    # --- signals ---

    def test_signals_to_the_first_process_do_nothing(self):
        for signo in ("KILL", "TERM", "STOP", "INT", "HUP", "USR1", "SEGV", "QUIT", "TSTP", "PIPE"):
            self.assertNotEqual(self.box.sh(f"kill -{signo} 1").exit_code, 0, "not the user's")
            self.assertEqual(self.box.sh(f"kill -{signo} 1", user="root").exit_code, 0)
        self.assert_alive()

    def test_signals_to_all_do_not_stop_envd(self):
        for signo in ("TERM", "STOP", "HUP", "KILL"):
            self.box.sh(f"kill -{signo} -1", user="root", timeout_ms=3000)
            self.assert_alive()

    def test_the_spawner_comes_back_in_its_group(self):
        spawner = "grep -lz '^envd' /proc/[0-9]*/cmdline | cut -d/ -f3 | grep -vx 1"
        before = self.box.sh(spawner, user="root").text.split()
        self.assertEqual(len(before), 1, before)
        self.box.sh(f"sleep 0.5; kill -9 {before[0]}", user="root")
        self.assert_alive()
        after = self.box.sh(spawner, user="root").text.split()
        self.assertEqual(len(after), 1, after)
        self.assertNotEqual(after, before)
        group = self.box.sh("grep -E ':memory:|^0::' /proc/self/cgroup | head -1").text
        self.assertEqual(group.strip().split(":", 2)[2], "/", "limits of users' processes")
        for _ in range(3):  # stopped, it is told to go on
            self.box.sh(f"kill -STOP {after[0]}", user="root")
            self.assert_alive()

    def test_killing_the_spawner_while_it_works_loses_no_command(self):
        find = "pid=$(grep -lz '^envd' /proc/[0-9]*/cmdline | cut -d/ -f3 | grep -vx 1)"
        self.box.background(
            f"exec sudo -n bash -c 'for i in $(seq 40); do {find}; kill -9 $pid; sleep 0.02; done'"
        )
        for i in range(60):
            result = self.box.sh(f"echo {i}")
            if result.error:
                self.assertIn("temporarily unavailable", result.error.message)
            elif "killed" not in result.status:  # before its exec it looks like envd
                self.assertEqual(result.text, f"{i}\n", result)
        lib.wait_until("nobody kills any more", 60,
                       lambda: not self.box.rpc("process.Process/List", {}).get("processes"))  # fmt: skip
        self.assert_alive()

    def test_the_log_is_the_roots(self):
        self.assertIn("envd serves", self.box.sh("cat /run/e2b/envd.log", user="root").text)
        self.assertNotEqual(self.box.sh("cat /run/e2b/envd.log").exit_code, 0)
        self.assertEqual(self.box.sh("stat -c %a /run/e2b/envd.log", user="root").text, "600\n")

    def test_oom_scores(self):
        self.assertEqual(self.box.sh("cat /proc/self/oom_score_adj").text, "100\n")
        self.assertEqual(self.box.sh("cat /proc/1/oom_score_adj", user="root").text, "0\n")

    def test_priority_is_envds_alone(self):
        stat = self.box.sh("cat /proc/1/stat").text
        self.assertEqual(stat[stat.rindex(")") :].split()[19 - 2], "-20")
        for user in ("user", "root"):
            self.assertEqual(self.box.sh("nice", user=user).text, "0\n")
            self.assertEqual(self.box.sh("nice -n -5 nice", user=user).text, "0\n", "not again")


@unittest.skipUnless(os.path.isdir("/sys/fs/cgroup/memory"), "version 1 alone")
class Alone(unittest.TestCase):
    """An envd of our own, with groups of our own, in place of a sandbox."""

    traffic_port, kept = 0, []

    def setUp(self):
        self.group = f"init-test-{os.getpid()}"
        self.folders = [f"/sys/fs/cgroup/{name}/{self.group}" for name in ("memory", "pids", "cpu", "freezer")]
        for folder in self.folders:
            os.makedirs(f"{folder}/guest")
            self.addCleanup(os.rmdir, folder)
            self.addCleanup(os.rmdir, f"{folder}/guest")
        fds = {os.open(f"{folder}{at}/cgroup.procs", os.O_WRONLY): kind for folder in self.folders
               for at, kind in (("", "envd"), ("/guest", "user"))}  # fmt: skip
        fds[os.open(f"{self.folders[3]}/guest/freezer.state", os.O_RDWR)] = "freezer"
        fds[os.open(f"{self.folders[0]}/memory.usage_in_bytes", os.O_RDONLY)] = "memory"
        fds[os.open(f"{self.folders[0]}/memory.stat", os.O_RDONLY)] = "memory-stat"
        self.envd = os.path.join(os.environ.get("SANDPIT_OUT", "build/release"), "envd")
        self.traffic_port = lib.free_ports(1)[0]
        self.process = subprocess.Popen(
            [self.envd, "--listen", f"127.0.0.1:{self.traffic_port}", "--insecure", "--group-fds",
             ",".join(f"{kind}={fd}" for fd, kind in fds.items())],
            pass_fds=list(fds), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=self.enter,
        )  # fmt: skip
        for fd in fds:
            os.close(fd)
        self.addCleanup(self.end)
        self.box = lib.Sandbox(self, {"sandboxID": "none"})
        lib.wait_until("envd", 10 * lib.time_factor(), self.answers)

    def enter(self):
        for folder in self.folders:
            with open(f"{folder}/guest/cgroup.procs", "w") as file:
                file.write("0")

    def end(self):
        with open(f"{self.folders[3]}/guest/freezer.state", "w") as file:
            file.write("THAWED")
        self.process.terminate()
        try:
            self.assertEqual(self.process.wait(20), 0)
        finally:
            self.process.kill()
        for pid in self.members("/guest") - {str(os.getpid())}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        lib.wait_until("nobody is left in the groups", 10, lambda: not self.members("/guest"))

    def answers(self):
        try:
            return self.box.conn.request("GET", "/health").status == 204
        except OSError:
            return False

    def members(self, at):
        found = set()
        for folder in self.folders:
            with open(f"{folder}{at}/cgroup.procs") as file:
                found |= set(file.read().split())
        return found

    def assert_parted(self):
        text = self.box.sh("cat /proc/self/cgroup").text
        self.assertEqual(text.count(f"/{self.group}/guest\n"), 4, text)
        lib.wait_until("envd is outside", 5, lambda: self.members("") == {str(self.process.pid)})
        self.assertEqual(len(self.members("/guest")), 1, "the spawner")

    def post(self, path):
        return self.box.conn.request("POST", path, b"")

    def test_freeze(self):
        self.assert_parted()
        pid = self.box.background("i=0; while :; do i=$((i + 1)); done")

        def ticks():
            with open(f"/proc/{pid}/stat") as file:
                return file.read().split()[13]

        reply = self.post("/freeze?maxWaitMs=5000")
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual((reply.json["frozen"], reply.json["notFrozen"]), (1, 0))
        before = ticks()
        time.sleep(0.2)
        self.assertEqual(ticks(), before)
        self.assertIn("frozen", self.box.exec("/bin/true").error.message)
        self.assertEqual(self.post("/freeze").status, 204)  # again
        self.assertEqual(self.post("/freeze?maxWaitMs=0").json["preFrozen"], 1)
        self.assertEqual(self.post("/unfreeze").status, 204)
        lib.wait_until("it goes on", 5, lambda: ticks() != before)
        self.assertEqual(self.post("/freeze?maxWaitMs=5000").status, 200)
        self.assertEqual(self.post("/freeze?maxWaitMs=x").status, 400)
        self.assertEqual(self.post("/init").status, 204)  # an empty body; thaws
        self.assertEqual(self.box.sh(f"kill -9 {pid}; echo on").text, "on\n")

    def test_metrics_are_the_groups(self):
        self.box.sh("true")

        def agree():  # the kernel counts what has just been freed a little longer
            used = self.box.conn.request("GET", "/metrics").json
            with open(f"{self.folders[0]}/memory.usage_in_bytes") as file:
                group = int(file.read())
            return abs(used["mem_used"] + used["mem_cache"] - group) < 4 * MIB

        lib.wait_until("metrics that say what the group says", 20 * lib.time_factor(), agree)

    def test_env_is_envs(self):
        for path in ("/env", "/envs"):
            self.assertEqual(self.box.conn.request("GET", path).json, {"E2B_SANDBOX": "true"})

    def test_groups_stay_as_they_are(self):
        self.assert_parted()
        json_type = {"Content-Type": "application/json"}
        self.assertEqual(self.box.conn.request("POST", "/init", "{}", json_type).status, 204)
        with open(self.envd, "rb") as file:
            reply = self.box.conn.request("POST", "/upgrade", file.read())
        self.assertEqual(reply.status, 204, reply.body)
        self.assert_parted()


class Platform(unittest.TestCase):
    """caBundle and volumeMounts: an envd in a mount namespace with a trust store of its own."""

    traffic_port, kept = 0, []
    BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
    SOURCE = "/usr/local/share/ca-certificates/sandpit-platform.crt"
    OLD = "# others\nkept as they are"
    LOCAL, RUN = "true", "exec"  # further set-up; how envd is run

    def setUp(self):
        self.tmp = tempfile.mkdtemp(prefix="init-test-")
        self.addCleanup(shutil.rmtree, self.tmp)
        envd = os.path.join(os.environ.get("SANDPIT_OUT", "build/release"), "envd")
        self.traffic_port = lib.free_ports(1)[0]
        script = (
            "mount -t tmpfs none /etc/ssl/certs && mount -t tmpfs none /usr/local/share &&"
            f" mount -t tmpfs none {self.tmp} &&"
            f" printf '{self.OLD}' >{self.BUNDLE} && mkdir -p {self.tmp}/there &&"
            f" mount -t tmpfs before {self.tmp}/there && {self.LOCAL} &&"
            f" {self.RUN} {envd} --listen 127.0.0.1:{self.traffic_port} --insecure"
        )
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.addCleanup(self.end)
        self.box = lib.Sandbox(self, {"sandboxID": "none"})
        lib.wait_until("envd", 10 * lib.time_factor(), self.answers)

    answers = Alone.answers

    def end(self):
        self.process.terminate()
        try:
            self.assertEqual(self.process.wait(20), 0)
        finally:
            self.process.kill()

    def init(self, **message):
        return self.box.conn.request("POST", "/init", json.dumps(message),
                                     {"Content-Type": "application/json"})  # fmt: skip

    def inside(self, path):
        with open(f"/proc/{self.process.pid}/root{path}") as file:
            return file.read()

    def refused(self, status, words, **message):
        reply = self.init(**message)
        self.assertEqual(reply.status, status, reply.body)
        self.assertIn(words, reply.body.decode())

    def make_pem(self, name):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                   "-nodes", "-subj", f"/CN={name}", "-keyout", "/dev/null"]  # fmt: skip
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def upgrade(self):
        envd = os.path.join(os.environ.get("SANDPIT_OUT", "build/release"), "envd")
        with open(envd, "rb") as file:
            self.assertEqual(self.box.conn.request("POST", "/upgrade", file.read()).status, 204)

    # --- certificates ---

    def test_certificates_come_and_are_replaced(self):
        one, two = self.make_pem("one"), self.make_pem("two")
        self.assertEqual(self.init(caBundle="A text before.\n" + one.replace("\n", "\r\n")).status, 204)
        text = self.inside(self.BUNDLE)
        self.assertTrue(text.startswith(self.OLD + "\n"), text)
        self.assertEqual((text.count("BEGIN CERTIFICATE"), one in text), (1, True), text)
        self.assertEqual(self.inside(self.SOURCE), one)
        self.assertEqual(self.init(caBundle=one).status, 204)
        self.assertEqual(self.inside(self.BUNDLE), text)
        self.assertEqual(self.init().status, 204)  # says nothing of it
        self.assertEqual(self.inside(self.BUNDLE), text)
        self.assertEqual(self.init(caBundle=two + one).status, 204)
        text = self.inside(self.BUNDLE)
        self.assertEqual((text.count("BEGIN CERTIFICATE"), two + one in text), (2, True), text)
        self.assertTrue(text.startswith(self.OLD + "\n"), text)
        self.assertEqual(os.listdir(f"/proc/{self.process.pid}/root/etc/ssl/certs"),
                         ["ca-certificates.crt"])  # fmt: skip
        self.upgrade()
        self.assertEqual(self.init(caBundle=one).status, 204)
        self.assertNotIn(two, self.inside(self.BUNDLE))

    def test_what_is_no_certificate_changes_nothing(self):
        pem = self.make_pem("one")
        lines = pem.splitlines(True)
        for bad in ("x", pem.replace("CERTIFICATE", "PRIVATE KEY"), "".join(lines[:-1]),
                    "".join(lines[:3] + lines[4:]), "".join(lines[1:]), pem + lines[0],
                    pem.replace("M", "*", 1), pem * 1000, lines[0] + lines[-1]):  # fmt: skip
            self.refused(400, "caBundle", caBundle=bad, envVars={"A": "b"})
        self.assertEqual(self.inside(self.BUNDLE), self.OLD)
        self.assertNotIn("A", self.box.conn.request("GET", "/envs").json)

    def test_a_stale_document_installs_nothing(self):
        self.assertEqual(self.init(timestamp="2030-01-01T00:00:00Z").status, 204)
        reply = self.init(timestamp="2029-01-01T00:00:00Z", caBundle=self.make_pem("one"))
        self.assertEqual(reply.status, 204)
        self.assertEqual(self.inside(self.BUNDLE), self.OLD)

    # --- volumes ---

    def mounted(self):
        at = [line.split() for line in open(f"/proc/{self.process.pid}/mountinfo")]
        return [line[4] for line in at if line[4].startswith(self.tmp + "/")]

    def test_bad_volumes_are_refused(self):
        for target, path in (("10.0.0.1:/v", "x"), ("10.0.0.1:/v", "/x/../y"), ("10.0.0.1:/v", "//"),
                             ("10.0.0.1:/v", "/x\0y"), ("10.0.0.1", "/x"), ("10.0.0.1,hard:/v", "/x"),
                             ("", "/x"), ("10.0.0.1:/v", ""), ("10.0.0.1:/v", "/x" * 3000),
                             ("10.0.0.1:v", "/x")):  # fmt: skip
            reply = self.init(volumeMounts=[{"nfs_target": target, "path": path}], envVars={"A": "b"})
            self.assertEqual(reply.status, 400, (target, path))
        self.refused(400, "more than", volumeMounts=[{"nfs_target": "1.2.3.4:/", "path": "/x"}] * 65)
        self.assertNotIn("A", self.box.conn.request("GET", "/envs").json)

    @unittest.skipIf("nfs\n" in open("/proc/filesystems").read(), "a kernel with an NFS client")
    def test_a_kernel_without_nfs_says_so(self):
        """What was mounted there is gone by then, and the folders are made."""
        self.assertEqual(self.mounted(), [f"{self.tmp}/there"])
        volume = {"nfs_target": "127.0.0.1:/v", "path": f"{self.tmp}/there"}
        self.refused(400, "no NFS client", volumeMounts=[volume], lifecycleID="a")
        self.assertEqual(self.mounted(), [])
        volume["path"] = f"{self.tmp}/new//deep/"
        self.refused(400, "no NFS client", volumeMounts=[volume], lifecycleID="a")
        self.assertTrue(os.path.isdir(f"/proc/{self.process.pid}/root{self.tmp}/new/deep"))
        self.upgrade()  # nobody is left who holds it up
        self.refused(400, "no NFS client", volumeMounts=[volume], lifecycleID="a")


class ReadOnly(Platform):
    """The same where the trust store's folder cannot be written, and nothing be mounted."""

    LOCAL = "mount -o remount,ro /etc/ssl/certs"
    RUN = "exec setpriv --bounding-set=-sys_admin"

    def test_certificates_come_and_are_replaced(self):
        self.refused(503, "Read-only file system", caBundle=self.make_pem("one"))
        self.assertEqual(self.inside(self.BUNDLE), self.OLD)

    def test_a_kernel_without_nfs_says_so(self):
        volume = {"nfs_target": "127.0.0.1:/v", "path": f"{self.tmp}/there"}
        self.refused(400, "sandboxes of this engine may not mount NFS", volumeMounts=[volume])
        self.assertEqual(self.mounted(), [f"{self.tmp}/there"])


if __name__ == "__main__":
    lib.main()
