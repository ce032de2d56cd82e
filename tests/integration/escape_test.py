#!/usr/bin/env python3
"""What root inside a sandbox cannot do: see, touch or exhaust the host or another sandbox.

Each test tries to get out, as the sandbox's root, and looks at the host for an effect. A refusal
alone is not trusted where the effect can be looked at.
"""

import contextlib
import os
import re
import secrets
import socket
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

SECRET = "secret-of-the-host-" + secrets.token_hex(12)


def setUpModule():
    lib.need_root()


def own_addresses():
    """The host's addresses beside loopback."""
    found = set()
    with contextlib.suppress(OSError):
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        probe.connect(("192.0.2.1", 9))  # no packet is sent: the kernel picks our address
        found.add(probe.getsockname()[0])
        probe.close()
    return found


def mem_available_mb():
    with open("/proc/meminfo") as file:
        return int(re.search(r"MemAvailable:\s+(\d+)", file.read()).group(1)) // 1024


def processes():
    return sum(name.isdigit() for name in os.listdir("/proc"))


class Canary:
    """A listener on the host that counts who reaches it."""

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.sock.bind((address, 0))
        self.sock.listen(16)
        self.port = self.sock.getsockname()[1]
        self.hits = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                conn, _ = self.sock.accept()
                self.hits += 1
                conn.close()

    def close(self):
        self.sock.close()


class Inside(unittest.TestCase):
    """One sandbox for the tests that do not harm it."""

    @classmethod
    def setUpClass(cls):
        cls.server = lib.Server()
        cls.server.start()
        cls.box = cls.server.create(timeout=1800)
        cls.other = cls.server.create(timeout=1800)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, f"server ended with {code}"

    def root(self, script, **options):
        return self.box.sh(script, user="root", **options)

    def python(self, code, **options):
        return self.box.exec("/usr/bin/python3", ["-c", code], user="root", **options)

    def assert_refused(self, script):
        result = self.root(script)
        self.assertNotEqual(result.exit_code, 0, f"{script!r} worked: {result}")
        return result


class Files(Inside):
    def test_root_inside_is_root_there(self):
        self.assertEqual(self.root("id -u").text, "0\n")

    def test_no_file_of_the_host_is_readable(self):
        paths = []
        for folder in ("/tmp", "/var/tmp", "/root", "/home", "/srv", "/opt", "/etc", self.server.folder):
            with contextlib.suppress(OSError):
                handle, path = tempfile.mkstemp(prefix="sandpit-canary-", dir=folder)
                os.write(handle, SECRET.encode())
                os.fchmod(handle, 0o644)
                os.close(handle)
                self.addCleanup(os.unlink, path)
                paths.append(path)
        self.assertGreaterEqual(len(paths), 3)
        for path in paths:
            for prefix in ("", "/proc/1/root", "/proc/self/root", "/proc/1/cwd", "/proc/thread-self/root"):
                result = self.root(f"cat '{prefix}{path}' '{prefix}/../../../..{path}'")
                self.assertNotIn(SECRET, result.text, f"{prefix}{path}")
        result = self.root("find / -xdev -name 'sandpit-canary-*' 2>/dev/null; find /proc/*/root/ -maxdepth 3"
                           " -name 'sandpit-canary-*' 2>/dev/null")  # fmt: skip
        self.assertEqual(result.text, "")

    def test_the_hosts_accounts_and_keys_are_not_there(self):
        with open("/etc/shadow") as file:
            host_shadow = file.read()
        shadow = self.root("cat /etc/shadow").text
        self.assertNotEqual(shadow, host_shadow)
        self.assertEqual(self.root("ls /etc/ssh/ssh_host_* /root/.ssh 2>/dev/null").text, "")
        self.assertEqual(self.root(f"ls -d '{self.server.state}' '{lib.ROOT}' 2>/dev/null").text, "")

    def test_usr_cannot_be_written_through_to_the_host(self):
        name = "sandpit-canary-" + secrets.token_hex(6)
        self.root(f"echo x > /usr/bin/{name}; mount -o remount,rw /usr; echo x > /usr/{name};"
                  f"mount -o remount,rw,bind /usr; echo x > /usr/lib/{name}")  # fmt: skip
        for folder in ("/usr/bin", "/usr", "/usr/lib"):
            self.assertFalse(os.path.exists(f"{folder}/{name}"))
        before = os.stat("/usr/bin/true")
        self.root("chmod 777 /usr/bin/true; chown 1000 /usr/bin/true; echo > /usr/bin/true;"
                  "touch -d 2001-01-01 /usr/bin/true")  # fmt: skip
        after = os.stat("/usr/bin/true")
        for field in ("st_mode", "st_uid", "st_size", "st_mtime_ns"):
            self.assertEqual(getattr(before, field), getattr(after, field))

    def test_what_root_makes_is_not_roots_on_the_host(self):
        name = "sandpit-canary-" + secrets.token_hex(6)
        result = self.root(f"cp /usr/bin/id /tmp/{name} && chmod 4755 /tmp/{name}")
        self.assertEqual(result.exit_code, 0, result)
        found = []
        for base, _, files in os.walk(self.server.folder):
            found += [os.path.join(base, file) for file in files if file == name]
        for path in found:
            self.assertNotEqual(os.stat(path).st_uid, 0, f"{path} is setuid root of the host")

    def test_two_sandboxes_share_no_id(self):
        ranges = []
        for box in (self.box, self.other):
            for name in ("uid_map", "gid_map"):
                for line in box.sh(f"cat /proc/self/{name}").text.splitlines():
                    inside, outside, length = map(int, line.split())
                    self.assertGreater(outside, 0, "the host's own ids are mapped")
                    ranges.append((box.id, name, outside, outside + length))
        for id_a, name_a, from_a, to_a in ranges:
            for id_b, name_b, from_b, to_b in ranges:
                if id_a != id_b and name_a == name_b:
                    self.assertFalse(from_a < to_b and from_b < to_a, f"{ranges}")

    def test_no_block_device_of_the_host_opens(self):
        numbers = set()
        for base in ("/sys/block", "/sys/class/block"):
            for name in os.listdir(base):
                with contextlib.suppress(OSError), open(f"{base}/{name}/dev") as file:
                    numbers.add(tuple(file.read().strip().split(":")))
        for major, minor in sorted(numbers)[:20]:
            result = self.root(
                f"cd /tmp && rm -f d && mknod d b {major} {minor} && head -c 1 d | wc -c"
            )
            self.assertNotIn("1", result.text, f"device {major}:{minor}: {result}")
        for name, major, minor in (("mem", 1, 1), ("kmsg", 1, 11), ("port", 1, 4)):
            result = self.root(f"cd /tmp && rm -f d && mknod d c {major} {minor} && timeout 2 head -c 1 d | wc -c")
            self.assertNotIn("1", result.text, f"{name}: {result}")

    def test_dev_is_minimal(self):
        allowed = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue",
                   "fd", "stdin", "stdout", "stderr", "core", "console", "fuse", "net"}  # fmt: skip
        names = set(self.root("ls /dev").text.split())
        self.assertTrue({"null", "zero", "urandom", "ptmx", "pts"} <= names, names)
        self.assertEqual(names - allowed, set())

    def test_mounts_reach_no_device(self):
        with open("/proc/self/mountinfo") as file:
            devices = [line.split(" - ")[1].split()[1] for line in file if " / / " in line]
        for device in devices + ["/dev/vda", "/dev/sda", "/dev/nvme0n1"]:
            self.assert_refused(f"mkdir -p /tmp/m && mount {device} /tmp/m")
        for kind in ("ext4", "xfs", "btrfs", "devtmpfs", "debugfs", "tracefs", "securityfs", "bpf"):
            result = self.root(f"mkdir -p /tmp/m && mount -t {kind} none /tmp/m && ls /tmp/m")
            if kind == "bpf" and result.exit_code == 0:
                self.assertEqual(result.text, "")  # an empty instance of its own is harmless
            else:
                self.assertNotEqual(result.exit_code, 0, kind)

    def test_file_handles_do_not_open_what_is_outside(self):
        code = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
opened = 0
fd = os.open("/", os.O_RDONLY)
for inode in (2, 128, 256):
    handle = ctypes.create_string_buffer(struct.pack("=IiQII", 8, 1, inode, 0, 0))
    got = libc.open_by_handle_at(fd, handle, os.O_RDONLY)
    opened += got >= 0
print("opened", opened)
"""
        self.assertEqual(self.python(code).text, "opened 0\n")


class Processes(Inside):
    def test_no_process_of_the_host_is_visible(self):
        mark = "canary-" + secrets.token_hex(8)
        child = os.fork()
        if child == 0:
            os.execv("/bin/sh", [mark, "-c", "sleep 60; :"])
        self.addCleanup(os.waitpid, child, 0)
        self.addCleanup(os.kill, child, 9)
        result = self.root("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls -d /proc/[0-9]* | wc -l")
        self.assertNotIn(mark, result.text)
        self.assertNotIn("sandpit serve", result.text)
        count = int(result.text.split()[-1])
        self.assertLess(count, 20)
        self.root(f"kill -9 {child} {os.getpid()} {self.server.process.pid}")
        self.assertIsNone(self.server.process.poll())
        os.kill(child, 0)

    def test_killing_everything_inside_harms_no_one_else(self):
        box = self.server.create(timeout=60)
        with contextlib.suppress(Exception):
            box.sh("kill -9 -1", user="root", conn=lib.Http(self.server.traffic_port, timeout=5))
        self.assertEqual(self.other.sh("echo fine").text, "fine\n")
        self.assertEqual(self.server.ops("GET", "/readyz").status, 200)
        box.kill()

    def test_dangerous_system_calls_are_refused(self):
        code = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
calls = {"kexec_load": 246, "init_module": 175, "finit_module": 313, "delete_module": 176,
         "reboot": 169, "swapon": 167, "swapoff": 168, "bpf": 321, "perf_event_open": 298,
         "add_key": 248, "request_key": 249, "keyctl": 250, "iopl": 172, "ioperm": 173,
         "acct": 163, "settimeofday": 164, "open_by_handle_at": 304,
         "lookup_dcookie": 212, "quotactl": 179, "userfaultfd": 323}
for name, number in sorted(calls.items()):
    ctypes.set_errno(0)
    got = libc.syscall(number, 0, 0, 0, 0, 0, 0)
    code = ctypes.get_errno()
    if got >= 0 or code not in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        print(name, got, errno.errorcode.get(code, code))
"""
        if os.uname().machine != "x86_64":
            self.skipTest("system call numbers are x86-64's")
        self.assertEqual(self.python(code).text, "")

    def test_kernel_settings_do_not_change(self):
        watched = ("kernel/core_pattern", "kernel/modprobe", "kernel/hostname", "vm/overcommit_memory",
                   "kernel/panic", "fs/file-max")  # fmt: skip
        watched = [name for name in watched if os.path.exists(f"/proc/sys/{name}")]
        values = {}
        for name in watched:
            with open(f"/proc/sys/{name}") as file:
                values[name] = file.read()
        self.root("for f in " + " ".join(f"/proc/sys/{n}" for n in watched) + "; do echo 7 > $f; done;"
                  "hostname changed; mount -o remount,rw /proc/sys; echo 7 > /proc/sys/kernel/panic;"
                  "echo b > /proc/sysrq-trigger")  # fmt: skip
        for name in watched:
            with open(f"/proc/sys/{name}") as file:
                self.assertEqual(file.read(), values[name], name)

    def test_kernel_memory_and_log_are_masked(self):
        for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug",
                     "/sys/firmware", "/sys/kernel/debug/*", "/sys/fs/bpf/*"):  # fmt: skip
            result = self.root(f"timeout 5 head -c 64 {path} 2>/dev/null | wc -c")
            self.assertEqual(result.text.strip(), "0", path)
        result = self.root("dmesg | head -3")
        self.assertEqual(result.text, "")

    def test_a_new_proc_mount_shows_no_host_process(self):
        result = self.root("mkdir -p /tmp/p && mount -t proc proc /tmp/p && ls -d /tmp/p/[0-9]* | wc -l")
        if result.exit_code == 0 and result.text.strip():
            self.assertLess(int(result.text.split()[-1]), 20)
        self.root("umount /tmp/p")

    def test_namespaces_of_the_host_cannot_be_entered(self):
        result = self.root("readlink /proc/1/ns/* /proc/self/ns/*")
        ours = set(lib.namespaces("self").values())
        shared = ours & set(result.text.split())
        self.assertFalse({name for name in shared if not name.startswith("time:")}, shared)
        self.root("nsenter -t 1 -a true")  # whatever it does, it is the sandbox's own pid 1
        self.assertEqual(self.root("nsenter -t 1 -m ls /work /var/lib/sandpit 2>/dev/null").text, "")


class Network(Inside):
    def try_connect(self, box, targets):
        code = """
import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit("@", 1)
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
        print("reached", target)
    except OSError:
        pass
"""
        return box.exec("/usr/bin/python3", ["-c", code, *targets], user="root").text

    def test_host_loopback_is_out_of_reach(self):
        canaries = [Canary("127.0.0.1"), Canary("0.0.0.0")]
        with contextlib.suppress(OSError):
            canaries.append(Canary("::1"))
        targets = []
        for canary in canaries:
            self.addCleanup(canary.close)
            for address in ("127.0.0.1", "::1", "10.0.2.2", "10.0.2.3", "169.254.169.254", "172.17.0.1"):
                targets.append(f"{address}@{canary.port}")
        for port in (self.server.api_port, self.server.traffic_port, self.server.ops_port):
            targets += [f"127.0.0.1@{port}", f"10.0.2.2@{port}"]
        self.assertEqual(self.try_connect(self.box, targets), "")
        self.assertEqual([canary.hits for canary in canaries], [0] * len(canaries))

    def test_gateways_inside_do_not_lead_to_the_host(self):
        canary = Canary("127.0.0.1")
        self.addCleanup(canary.close)
        routes = self.root("awk '$3 != \"00000000\" {print $3}' /proc/net/route | tail -n +2").text.split()
        gateways = [".".join(str(b) for b in bytes.fromhex(r)[::-1]) for r in routes]
        self.try_connect(self.box, [f"{gateway}@{canary.port}" for gateway in gateways])
        self.assertEqual(canary.hits, 0, f"through {gateways}")

    def test_the_hosts_own_addresses_are_out_of_reach(self):
        addresses = own_addresses()
        if not addresses:
            self.skipTest("the host has no address beside loopback")
        canary = Canary("0.0.0.0")
        self.addCleanup(canary.close)
        self.try_connect(self.box, [f"{address}@{canary.port}" for address in addresses])
        self.assertEqual(canary.hits, 0)

    def test_another_sandbox_is_out_of_reach(self):
        serve = "import http.server; http.server.ThreadingHTTPServer(('', 8077), http.server.SimpleHTTPRequestHandler).serve_forever()"
        self.other.background(f'cd /tmp && exec python3 -c "{serve}"')
        lib.wait_until("its server", 15 * lib.time_factor(), lambda: self.page_of(self.other) == 200)
        text = self.other.sh("awk '/32 host/ {print f} {f=$2}' /proc/net/fib_trie | sort -u").text
        addresses = {a for a in text.split() if not a.startswith("127.")}
        targets = [f"{a}@{port}" for a in addresses | {"127.0.0.1"} for port in (8077, lib.ENVD_PORT)]
        reached = self.try_connect(self.box, targets)
        own = {f"reached 127.0.0.1@{lib.ENVD_PORT}"}
        mine = self.root("awk '/32 host/ {print f} {f=$2}' /proc/net/fib_trie | sort -u").text.split()
        own |= {f"reached {a}@{lib.ENVD_PORT}" for a in mine}  # its own envd, behind its own address
        self.assertEqual(set(reached.splitlines()) - own, set(), f"addresses {addresses}")

    def page_of(self, box):
        conn = lib.Http(self.server.traffic_port, timeout=10)
        try:
            return conn.request("GET", "/", headers={"Host": box.host(8077)}).status
        finally:
            conn.close()

    def test_abstract_sockets_of_the_host_are_out_of_reach(self):
        name = "\0canary-" + secrets.token_hex(8)
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.bind(name)
        sock.listen(1)
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({name!r}); print('reached')"
        self.assertEqual(self.python(code).text, "")

    def test_processes_inside_cannot_use_envd_without_its_token(self):
        code = f"""
import http.client
c = http.client.HTTPConnection("127.0.0.1", {lib.ENVD_PORT}, timeout=5)
c.request("POST", "/process.Process/List", "{{}}", {{"Content-Type": "application/json"}})
print(c.getresponse().status)
"""
        result = self.box.exec("/usr/bin/python3", ["-c", code])
        self.assertEqual(result.text, "401\n")


class Limits(Inside):
    def test_limits_cannot_be_raised(self):
        mark = "limited-" + secrets.token_hex(6)
        self.box.background(f"exec -a {mark} sleep 60", user="root")
        folders = lib.sandbox_cgroups([mark])
        before = self.limits(folders)
        self.assertTrue(before, "no limit file of the sandbox found")
        memory = [text for path, text in before.items() if "memory." in path]
        promised = self.server.api("GET", f"/sandboxes/{self.box.id}").json["memoryMB"] << 20
        self.assertTrue(memory and all(int(text) <= promised for text in memory), before)
        pids = [text for path, text in before.items() if path.endswith("pids.max")]
        self.assertTrue(pids and all(int(text) < 10000 for text in pids), before)
        self.root("""
for f in $(find /sys/fs/cgroup -name 'memory.max' -o -name 'memory.limit_in_bytes' -o -name pids.max \
    -o -name cpu.max -o -name cpu.cfs_quota_us 2>/dev/null); do echo max > $f; echo -1 > $f; done
mkdir -p /tmp/cg
for kind in 'cgroup2 none' 'cgroup -o memory none' 'cgroup -o pids none' 'cgroup -o cpu none'; do
    mount -t $kind /tmp/cg 2>/dev/null || continue
    for f in $(find /tmp/cg -name memory.max -o -name memory.limit_in_bytes -o -name pids.max \
        -o -name cpu.max); do echo max > $f; echo -1 > $f; done
    find /tmp/cg -name cgroup.procs | while read f; do echo $$ > $f; done
    umount /tmp/cg
done
""")
        self.assertEqual(self.limits(folders), before)
        later = "later-" + secrets.token_hex(6)
        self.box.background(f"exec -a {later} sleep 60", user="root")
        for some in (mark, later):
            self.assertEqual(lib.sandbox_cgroups([some]), folders, "it left its cgroup")

    @staticmethod
    def limits(folders):
        found = {}
        for folder in folders:
            for name in ("memory.max", "memory.limit_in_bytes", "pids.max", "cpu.max", "cpu.cfs_quota_us"):
                with contextlib.suppress(OSError), open(os.path.join(folder, name)) as file:
                    found[os.path.join(folder, name)] = file.read()
        return found

    @lib.limit(180)
    def test_a_fork_bomb_is_contained(self):
        box = self.server.create(timeout=300)
        mark = "bomb-" + secrets.token_hex(6)
        box.background(f"exec -a {mark} sleep 300")
        folders = lib.sandbox_cgroups([mark])
        bomb = f"""
import os, signal, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
end = time.time() + 30
while time.time() < end:
    try:
        os.fork()
    except OSError:
        time.sleep(0.05)
# {mark}
"""
        conn = lib.Http(self.server.traffic_port)
        events = box.start("/usr/bin/python3", ["-c", bomb], user="root", conn=conn)
        next(events)
        peak = 0
        before = processes()
        for _ in range(12):
            time.sleep(0.5)
            peak = max(peak, processes() - before)
            began = time.monotonic()
            self.assertEqual(self.other.sh("echo fine").text, "fine\n")
            self.assertLess(time.monotonic() - began, 10 * lib.time_factor(), "others stall")
            self.assertEqual(self.server.ops("GET", "/readyz").status, 200)
        self.assertGreater(peak, 20, "the bomb did not go off")
        self.assertLess(peak, 5000)
        self.assertEqual(box.kill(), 204)
        lib.wait_until("the bomb is gone", 10 * lib.time_factor(), lambda: not lib.host_pids(mark))
        self.assertEqual(lib.leftovers([box.id], {}, self.server.folder, folders), [])

    @lib.limit(180)
    def test_a_memory_hog_is_contained(self):
        box = self.server.create(timeout=300)
        row = self.server.api("GET", f"/sandboxes/{box.id}").json
        limit = row["memoryMB"]
        if mem_available_mb() < limit * 2 + 512:
            self.skipTest(f"less than twice the sandbox's {limit} MB is free")
        before = mem_available_mb()
        lowest = [before]
        stop = threading.Event()

        def watch():
            while not stop.is_set():
                lowest[0] = min(lowest[0], mem_available_mb())
                time.sleep(0.1)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        hog = f"""
keep = []
for n in range({limit} * 3 // 16):
    keep.append(bytearray(b"x" * (16 << 20)))
print("took it all")
"""
        conn = lib.Http(self.server.traffic_port)
        try:
            result = box.exec("/usr/bin/python3", ["-c", hog], user="root", conn=conn)
            self.assertNotIn("took it all", result.text)
            self.assertNotEqual(result.exit_code, 0)
        except (ConnectionError, EOFError, lib.ConnectError):
            pass  # the whole sandbox may have gone with it
        finally:
            stop.set()
            watcher.join()
        self.assertLess(before - lowest[0], limit * 1.3 + 300, "it took more than its limit")
        self.assertEqual(self.other.sh("echo fine").text, "fine\n")
        self.assertEqual(self.server.ops("GET", "/readyz").status, 200)
        box.kill()

    @lib.limit(180)
    def test_memory_of_tmp_and_shm_counts(self):
        """Files on memory file systems are memory too."""
        box = self.server.create(timeout=300)
        limit = self.server.api("GET", f"/sandboxes/{box.id}").json["memoryMB"]
        if mem_available_mb() < limit * 2 + 512:
            self.skipTest(f"less than twice the sandbox's {limit} MB is free")
        before = mem_available_mb()
        conn = lib.Http(self.server.traffic_port)
        with contextlib.suppress(ConnectionError, EOFError, lib.ConnectError):
            box.exec("/bin/bash", ["-c", f"head -c {limit * 2}M /dev/zero > /dev/shm/fill"],
                     user="root", conn=conn)  # fmt: skip
        self.assertLess(before - mem_available_mb(), limit * 1.3 + 300)
        self.assertEqual(self.other.sh("echo fine").text, "fine\n")
        box.kill()

    def test_cpu_of_one_does_not_starve_another(self):
        box = self.server.create(timeout=120)
        for _ in range(4):
            box.background("while :; do :; done")
        began = time.monotonic()
        for _ in range(5):
            self.assertEqual(self.other.sh("echo fine").text, "fine\n")
        self.assertLess(time.monotonic() - began, 10 * lib.time_factor())
        box.kill()


if __name__ == "__main__":
    lib.main()
