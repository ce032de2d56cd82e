#!/usr/bin/env python3
"""The server on cgroup v2: what the kernel holds of a sandbox's limits, pause, crash, leftovers."""

import glob
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

ROUNDS = 100 if lib.time_factor() == 1 else 10
BOMB_PIDS = 300  # of a fork bomb; an emulated processor is long busy with thousands


def own_group():
    with open("/proc/self/cgroup") as file:
        return file.read().strip().removeprefix("0::")


def bases():
    return set(glob.glob("/sys/fs/cgroup/sandpit-*")) - {"/sys/fs/cgroup/sandpit-host"}


def knob(folder, name):
    with open(os.path.join(folder, name)) as file:
        return file.read().strip()


def counters(folder, name):
    return dict(line.split() for line in knob(folder, name).splitlines())


class Version2(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.before = bases()
        cls.group = own_group()
        cls.server = lib.Server()
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, f"server ended with {code}"
        left = bases() - cls.before
        assert not left, f"control groups are left: {left}"
        assert not lib.mounts_with(cls.server.folder), lib.mounts_with(cls.server.folder)
        assert not lib.host_pids(cls.server.folder), lib.host_pids(cls.server.folder)

    def create(self, **body):
        """A sandbox and the folder of its control group."""
        box = self.server.create(timeout=300, **body)
        self.addCleanup(box.kill)
        mark = f"mark-{box.id}"
        box.background(f"exec -a {mark} sleep 1000")
        folders = lib.wait_until("its process", 10 * lib.time_factor(),
                                 lambda: lib.sandbox_cgroups([mark]))  # fmt: skip
        self.assertEqual(len(folders), 1, folders)
        return box, folders.pop()

    def test_groups_lie_outside_the_servers_own(self):
        _, folder = self.create()
        base = os.path.dirname(folder)
        self.assertEqual(os.path.dirname(base), "/sys/fs/cgroup")
        self.assertIn(os.path.basename(base)[:8], "sandpit-")
        for line in (own_group(), self.group):
            self.assertNotIn(line.strip("/") or "none", folder)
        routers = lib.host_pids("slirp4netns")
        self.assertTrue(routers)
        with open(f"{base}/router/cgroup.procs") as file:
            self.assertIn(routers[0], [int(line) for line in file])

    def test_limits_are_those_that_the_api_tells(self):
        box, folder = self.create()
        row = self.server.api("GET", f"/sandboxes/{box.id}").json
        self.assertEqual(knob(folder, "memory.max"), str(row["memoryMB"] << 20))
        self.assertEqual(knob(folder, "cpu.max"), f"{row['cpuCount'] * 100000} 100000")
        self.assertGreater(int(knob(folder, "pids.max")), 100)
        if os.path.exists(f"{folder}/memory.swap.max"):
            self.assertEqual(knob(folder, "memory.swap.max"), "0")

    @lib.limit(90)
    def test_a_memory_hog_is_killed_and_the_sandbox_lives(self):
        box, folder = self.create()
        megabytes = int(knob(folder, "memory.max")) >> 20
        done = box.sh(f"python3 -c 'x = bytearray({megabytes + 100} << 20)'; echo $?")
        self.assertIn("137", done.text, done)
        self.assertGreaterEqual(int(counters(folder, "memory.events")["oom_kill"]), 1)
        self.assertLessEqual(int(knob(folder, "memory.peak") if os.path.exists(f"{folder}/memory.peak")
                                 else 0), megabytes << 20)  # fmt: skip
        self.assertEqual(box.sh("echo alive").text, "alive\n")

    @lib.limit(120)
    def test_a_fork_bomb_is_contained(self):
        box, folder = self.create()
        other, _ = self.create()
        with open(f"{folder}/pids.max", "w") as file:
            file.write(str(BOMB_PIDS))
        box.background("timeout 10 bash -c 'f() { f | f & }; f' >/dev/null 2>&1")
        full = lib.wait_until("the limit is met", 30 * lib.time_factor(),
                              lambda: int(counters(folder, "pids.events")["max"]))  # fmt: skip
        self.assertGreater(full, 0)
        self.assertLessEqual(int(knob(folder, "pids.current")), BOMB_PIDS)
        self.assertEqual(other.sh("echo alive").text, "alive\n")
        self.assertEqual(box.kill(), 204)
        lib.wait_until("its group is gone or empty", 20 * lib.time_factor(),
                       lambda: not os.path.exists(folder) or int(knob(folder, "pids.current")) < 10)  # fmt: skip

    def test_cpu_is_throttled(self):
        box, folder = self.create()
        with open(f"{folder}/cpu.max", "w") as file:  # the machine may have no more than the limit
            file.write("20000 100000")
        began, at = time.monotonic(), int(counters(folder, "cpu.stat")["usage_usec"])
        box.sh("timeout 3 bash -c 'while :; do :; done'")
        used = (int(counters(folder, "cpu.stat")["usage_usec"]) - at) / 1e6
        self.assertLess(used / (time.monotonic() - began), 0.3)
        self.assertGreater(int(counters(folder, "cpu.stat")["nr_throttled"]), 0)

    def test_files_and_commands(self):
        box, _ = self.create()
        data = os.urandom(300000)
        box.write("/tmp/data", data)
        self.assertEqual(box.read("/tmp/data"), data)
        self.assertEqual(box.sh("id -u", user="root").text, "0\n")
        self.assertEqual(box.sh("sudo id -u").text, "0\n")
        self.assertEqual(box.sh("ls /sys/fs/cgroup | wc -l").text, "0\n")

    def test_pause_freezes_and_resume_goes_on(self):
        box, folder = self.create()
        box.background("while :; do echo x >>/tmp/ticks; sleep 0.05; done")
        self.assertEqual(self.server.api("POST", f"/sandboxes/{box.id}/pause", {}).status, 204)
        self.assertEqual(counters(folder, "cgroup.events")["frozen"], "1")
        used = counters(folder, "cpu.stat")["usage_usec"]
        time.sleep(0.5)
        self.assertEqual(counters(folder, "cpu.stat")["usage_usec"], used)
        reply = self.server.api("POST", f"/v2/sandboxes/{box.id}/connect", {"timeout": 300})
        self.assertEqual(reply.status, 201, reply.body)
        self.assertEqual(counters(folder, "cgroup.events")["frozen"], "0")
        self.assertEqual(box.sh("echo alive").text, "alive\n")

    def test_a_paused_one_can_be_killed(self):
        box, folder = self.create()
        self.assertEqual(self.server.api("POST", f"/sandboxes/{box.id}/pause", {}).status, 204)
        self.assertEqual(box.kill(), 204)
        lib.wait_until("its processes end", 20 * lib.time_factor(),
                       lambda: not lib.host_pids(f"mark-{box.id}"))  # fmt: skip

    @lib.limit(90)
    def test_a_killed_server_finds_its_sandboxes_again(self):
        box, folder = self.create()
        paused, paused_folder = self.create()
        self.server.api("POST", f"/sandboxes/{paused.id}/pause", {})
        box.sh("echo kept >/tmp/kept")
        self.server.kill9()
        self.server.start()
        self.assertTrue({box.id, paused.id} <= set(self.server.all_sandboxes()) | {paused.id})
        self.assertEqual(box.sh("cat /tmp/kept").text, "kept\n")
        self.assertEqual(lib.sandbox_cgroups([f"mark-{box.id}"]), {folder})
        self.assertEqual(counters(paused_folder, "cgroup.events")["frozen"], "1")
        self.server.api("POST", f"/v2/sandboxes/{paused.id}/connect", {"timeout": 300})
        self.assertEqual(paused.sh("echo alive").text, "alive\n")

    @lib.limit(120)
    def test_zz_figures(self):
        rows = {"POST /v2/sandboxes": [], "DELETE": []}
        for _ in range(ROUNDS):
            began = time.perf_counter()
            box = self.server.create(timeout=60)
            done = time.perf_counter()
            box.kill()
            rows["POST /v2/sandboxes"].append(done - began)
            rows["DELETE"].append(time.perf_counter() - done)
            time.sleep(0.02)
        for name, values in rows.items():
            values.sort()
            print(f"\nFIGURE {name}: p50 {values[ROUNDS // 2] * 1e3:.2f} ms, "
                  f"p99 {values[ROUNDS * 99 // 100] * 1e3:.2f} ms")  # fmt: skip
        self.assertEqual(self.server.all_sandboxes(), [])


if __name__ == "__main__":
    lib.main()
