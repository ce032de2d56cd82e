#!/usr/bin/env python3
"""The unit that `make install` installs, under a real systemd: what stops, what stays."""

import json
import os
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

CONFIG = "/etc/sandpit/config.json"
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
UNIT = f"/sys/fs/cgroup{'' if V2 else '/systemd'}/system.slice/sandpit.service"


def systemctl(*args, check=True):
    done = subprocess.run(["systemctl", *args], capture_output=True, text=True)
    if check and done.returncode != 0:
        log = subprocess.run(["journalctl", "-u", "sandpit", "-n", "30", "--no-pager"],
                             capture_output=True, text=True).stdout  # fmt: skip
        raise AssertionError(f"systemctl {args}: {done.returncode} {done.stderr}\n{log}")
    return done


def show(name):
    return systemctl("show", "-P", name, "sandpit").stdout.strip()


class Installed(lib.Server):
    """The installed server, started and stopped by systemd."""

    def __init__(self):
        super().__init__(out="/usr/local/bin")
        self.state, self.run = "/var/lib/sandpit", "/run/sandpit"
        settings = {
            "api_listen": f"127.0.0.1:{self.api_port}",
            "traffic_listen": f"127.0.0.1:{self.traffic_port}",
            "ops_listen": f"127.0.0.1:{self.ops_port}",
        }
        os.makedirs(os.path.dirname(CONFIG), exist_ok=True)
        with open(CONFIG, "w") as file:
            json.dump(settings, file)

    def ready(self):
        lib.wait_until("/readyz", 30 * lib.time_factor(), self._answers)
        self.conn.close()

    def _answers(self):
        try:
            return self.ops("GET", "/readyz").status == 200
        except OSError:
            return False


class Unit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        systemctl("daemon-reload")
        cls.server = Installed()
        systemctl("start", "sandpit")
        cls.server.ready()
        made = cls.server.cli("key", "create", "--namespace", "a", "--client", "vm", "--json")
        cls.server.key = json.loads(made.stdout)["key"]
        lib.wait_until("the key", 5 * lib.time_factor(),
                       lambda: cls.server.api("GET", "/sandboxes").status == 200)  # fmt: skip

    @classmethod
    def tearDownClass(cls):
        systemctl("stop", "sandpit", check=False)

    def setUp(self):
        self.box = self.server.create(timeout=600)
        self.addCleanup(self.clean)
        self.mark = f"mark-{self.box.id}"
        self.box.background(f"exec -a {self.mark} sleep 1000")
        self.box.sh("echo kept >/tmp/kept")

    def clean(self):
        systemctl("reset-failed", "sandpit", check=False)
        systemctl("start", "sandpit")
        self.server.ready()
        self.box.kill()

    def assert_lives(self):
        self.assertEqual(len(lib.host_pids(self.mark)), 1, "the sandbox's process ended")

    def assert_adopted(self):
        self.server.ready()
        self.assertEqual(self.server.all_sandboxes(), [self.box.id])
        self.assertEqual(self.box.sh("cat /tmp/kept").text, "kept\n")

    def processes(self):
        """Names of what is in the unit's control group and below."""
        found = []
        for folder, _, files in os.walk(UNIT):
            if "cgroup.procs" in files:
                with open(os.path.join(folder, "cgroup.procs")) as file:
                    for pid in file.read().split():
                        with open(f"/proc/{pid}/comm") as comm:
                            found.append(comm.read().strip())
        return found

    @unittest.skipUnless(V2, "version 1: systemd counts sandboxes as the unit's")
    def test_the_group_of_the_unit_holds_the_servers_own_only(self):
        names = self.processes()
        self.assertTrue(names)
        self.assertFalse([name for name in names if name in ("envd", "slirp4netns", "sandpit-router")], names)

    @lib.limit(120)
    def test_stop_is_quick_and_clean_and_sandboxes_stay(self):
        began = time.monotonic()
        systemctl("stop", "sandpit")
        self.assertLess(time.monotonic() - began, 20 * lib.time_factor())
        self.assertEqual((show("ActiveState"), show("Result")), ("inactive", "success"))
        lib.wait_until("the launcher ends", 10 * lib.time_factor(),
                       lambda: "sandpit-launch" not in self.processes())  # fmt: skip
        if V2:
            self.assertEqual(self.processes(), [])
        self.assert_lives()
        systemctl("start", "sandpit")
        self.assert_adopted()
        self.assertEqual(show("ActiveState"), "active")

    @lib.limit(120)
    def test_restart_keeps_sandboxes(self):
        systemctl("restart", "sandpit")
        self.assert_lives()
        self.assert_adopted()

    @lib.limit(120)
    def test_a_killed_server_is_started_again(self):
        pid = show("MainPID")
        systemctl("kill", "--kill-who=main", "-s", "KILL", "sandpit")
        lib.wait_until("a new one", 30 * lib.time_factor(),
                       lambda: show("MainPID") not in (pid, "0"))  # fmt: skip
        self.assert_lives()
        self.assert_adopted()

    @unittest.skipUnless(V2, "version 1: all of the unit is sandboxes, too")
    @lib.limit(120)
    def test_all_of_the_unit_killed_at_once(self):
        pid = show("MainPID")
        systemctl("kill", "--kill-who=all", "-s", "KILL", "sandpit")
        lib.wait_until("a new one", 30 * lib.time_factor(),
                       lambda: show("MainPID") not in (pid, "0"))  # fmt: skip
        self.assert_lives()
        self.assert_adopted()

    @lib.limit(120)
    def test_a_reload_of_systemd_leaves_limits_alone(self):
        before = lib.sandbox_cgroups([self.mark])
        self.assertTrue([folder for folder in before if "/slot-" in folder])
        systemctl("daemon-reload")
        systemctl("set-property", "--runtime", "sandpit", "CPUWeight=50", "MemoryMax=2G")
        self.assertEqual(lib.sandbox_cgroups([self.mark]), before)
        for name in ("memory.max", "pids.max", "cpu.max") if V2 else ():
            with open(f"{before.copy().pop()}/{name}") as file:
                self.assertNotEqual(file.read().split()[0], "max")
        self.assert_adopted()

    @lib.limit(120)
    def test_a_memory_hog_inside_does_not_end_the_service(self):
        pid = show("MainPID")
        row = self.server.api("GET", f"/sandboxes/{self.box.id}").json
        done = self.box.sh(f"python3 -c 'x = bytearray({row['memoryMB'] + 100} << 20)'; echo $?")
        self.assertIn("137", done.text)
        time.sleep(1)
        self.assertEqual((show("ActiveState"), show("MainPID")), ("active", pid))
        self.assert_adopted()


if __name__ == "__main__":
    lib.main()
