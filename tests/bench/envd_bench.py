#!/usr/bin/env python3
"""tests/bench/envd_bench.py - envd alone on loopback: size, start, memory, exec, Stat, streams, files.

usage: envd_bench.py [--out build/release] [--rounds 3] [--only WORD]    WORD: a part of a figure
bench.py calls run() for its table. Clients are load.c and ssh_load.c (`make bench-clients`), because
Python is slower than what is measured.

CPU is the process's own clock (clock_gettime), all its threads and none of its children; of a peer,
that of all its processes. Private memory is Private_Clean + Private_Dirty of smaps_rollup, of a peer
the sum over its processes. A rate is the median of ROUNDS.

The given figures of E2B's envd 0.6.13 (Go) are of another run on a machine like the one of
docs/benchmarks.md, daemon alone, JSON codec. They are not measured here.
"""

import argparse
import contextlib
import json
import os
import pwd
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
sys.path.insert(0, HERE)

import lib  # noqa: E402
from figures import Rate, Table, Times, optional  # noqa: E402

STARTS = 60
EXECS = 1000
STATS = 60_000
STREAM_BYTES = 1 << 30
FILE_BYTES = 256 << 20
FILE_TIMES = 6
IDLE = 10_000
IDLE_S = 5  # then a daemon is idle
ENDED_S = 35  # then envd has forgotten the output of a process that ended
MEMORY_FOLDER = "/dev/shm"
PIECE = ("--listen", "127.0.0.1:{port}", "--insecure")

# figure: E2B's envd (Go) as given; our goal
BINARY = ("envd: binary", "13.1 MB", "<= 2 MB")
START = ("envd: start to /health", "8.5 ms", "<= 2 ms")
MEMORY_IDLE = ("envd: private memory, idle", "12.2 MB", "<= 1.2 MB")
MEMORY_AFTER = ("envd: private memory, after all loads below", "19.5 MB", "")
TRUE = ("envd: `true`, kept connection", "4.3 ms, p99 9.2", "<= 1.5 ms")
TRUE_CPU = ("envd: `true`, CPU of the daemon", "1.7 ms", "<= 0.5 ms")
SHELL = ("envd: `bash -l -c true`, as SDKs run it", "", "")
STAT = ("envd: Stat, 16 connections", "10,600 /s", ">= 31,800 /s")
STAT_CPU = ("envd: Stat, CPU each", "127 µs", "<= 31.7 µs")
STDOUT_JSON = ("envd: stdout of one process, JSON", "104 MB/s", ">= 400 MB/s")
STDOUT_PROTO = ("envd: stdout of one process, proto", "", ">= 1,000 MB/s")
UPLOAD = ("envd: raw upload to tmpfs", "672 MiB/s", ">= 1,344 MiB/s")
UPLOAD_CPU = ("envd: raw upload, CPU a MiB", "1.4 ms", "<= 0.7 ms")
DOWNLOAD = ("envd: download from tmpfs", "1,343 MiB/s", ">= 2,686 MiB/s")
DOWNLOAD_CPU = ("envd: download, CPU a MiB", "", "")
IDLE_WATCH = (f"envd: {IDLE:,} idle WatchDir streams, each", "", "<= 2 KiB")
IDLE_PROCESS = (f"envd: {IDLE:,} idle readers of one process, each", "", "<= 2 KiB")


class Value(Rate):
    """One measured figure that is no rate."""

    def cells(self):
        return f"{self.value:,.2f} {self.unit}", ""


# --- looking at processes ---


def descendants(pid):
    """PID and all processes below it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError), open(f"/proc/{parent}/task/{parent}/children") as file:
            found += [int(word) for word in file.read().split()]
    return found


def cpu_of(pids):
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += lib.process_clock_s(pid)
    return total


class Daemon:
    """A server process on a port of its own, quiet, ended at the end of a `with`."""

    def __init__(self, command, port, cwd=None):
        self.port = port
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=cwd,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        self.pid = self.process.pid

    def __enter__(self):
        lib.wait_until(self.process.args[0], 10, self._listens, 0.01)
        return self

    def __exit__(self, kind, value, trace):
        self.process.terminate()
        self.process.wait()

    def _listens(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.process.args[0]} ended with {self.process.returncode}")
        with open("/proc/net/tcp") as file:
            return f":{self.port:04X} 00000000:0000 0A" in file.read()

    def pids(self):
        return descendants(self.pid)

    def private(self):
        return sum(lib.private_bytes(pid) for pid in self.pids())


class Load:
    """load.c, pointed at a daemon."""

    def __init__(self, out):
        self.program = os.path.join(out, "tests/bench/load")

    def command(self, daemon, path, method="GET", headers=(), body=None, size=0, conns=1, count=1,
                events=None):  # fmt: skip
        args = [self.program, "-X", method, "-c", str(conns), "-n", str(count)]
        for header in headers:
            args += ["-H", header]
        if body:
            args += ["-d", body]
        if size:
            args += ["-b", str(size)]
        if events:
            args += ["-e", events]
        return [*args, str(daemon.port), path]

    def run(self, daemon, path, **options):
        """What the client reports, and the server's CPU in it as "cpu" (seconds)."""
        pids = daemon.pids()
        before = cpu_of(pids)
        done = subprocess.run(self.command(daemon, path, **options), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=300)  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{path}: {done.stderr.strip()}")
        found = json.loads(done.stdout)
        found["cpu"] = cpu_of(pids) - before
        return found

    @contextlib.contextmanager
    def hold(self, daemon, path, conns, **options):
        """CONNS connections with an answer each, kept open inside the `with`."""
        command = self.command(daemon, path, conns=conns, **options)
        command.insert(1, "-w")
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            if client.stdout.readline() != "ready\n":
                raise RuntimeError(f"{path}: {conns} connections could not be held")
            yield
            client.stdin.close()
            if client.wait(60) != 0:
                raise RuntimeError(f"{path}: a held connection was lost")


class Found(Times):
    """p50 and p99 that the client worked out."""

    def __init__(self, found):
        self.p50, self.p99 = found["p50_us"] / 1000, found["p99_us"] / 1000

    def cells(self):
        return f"{self.p50:.2f} ms", f"{self.p99:.2f} ms"

    def middle(self):
        return self.p50


def median(rounds, call, key):
    runs = sorted((call() for _ in range(rounds)), key=key)
    return runs[len(runs) // 2]


# --- requests ---


def proto_field(number, data):
    size, digits = len(data), b""
    while size >= 128:
        digits, size = digits + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + digits + bytes([size]) + data


def start_proto(cmd, *args):
    """StartRequest{process{cmd, args}, stdin: false} in an envelope."""
    config = proto_field(1, cmd.encode()) + b"".join(proto_field(2, arg.encode()) for arg in args)
    message = proto_field(1, config) + b"\x20\x00"
    return b"\0" + struct.pack(">I", len(message)) + message


def start_json(cmd, *args, envs=None):
    process = {"cmd": cmd, "args": list(args), "envs": envs or {}}
    return lib.envelope({"process": process, "stdin": False})


JSON_STREAM = ["Content-Type: application/connect+json"]
PROTO_STREAM = ["Content-Type: application/connect+proto"]
JSON_UNARY = ["Content-Type: application/json"]
ZEROS = ("/usr/bin/head", "-c", str(STREAM_BYTES), "/dev/zero")


class Bench:
    def __init__(self, out, rounds, table, only, folder):
        self.out, self.rounds, self.table, self.only, self.folder = out, rounds, table, only, folder
        self.load = Load(out)
        self.memory = tempfile.mkdtemp(prefix="sandpit-bench-", dir=MEMORY_FOLDER)
        os.chmod(self.folder, 0o755)
        os.chmod(self.memory, 0o777)

    def wanted(self, *figures):
        return any(self.only in figure[0] for figure in figures)

    def row(self, figure, ours, peer="", theirs=None):
        if self.wanted(figure):
            self.table.add(figure[0], ours, peer, theirs, given=figure[1], goal=figure[2])

    def file(self, name, data):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    # --- daemons ---

    def envd_command(self, port):
        return [os.path.join(self.out, "envd"), *(word.format(port=port) for word in PIECE)]

    def envd(self):
        (port,) = lib.free_ports(1)
        return Daemon(self.envd_command(port), port, self.folder)

    def nginx_command(self, port):
        path = os.path.join(self.folder, "nginx.conf")
        with open(path, "w") as file:
            file.write(NGINX.format(folder=self.folder, memory=self.memory, port=port,
                                    user=pwd.getpwuid(os.getuid()).pw_name))  # fmt: skip
        return ["nginx", "-c", path, "-p", self.folder]

    def nginx(self):
        (port,) = lib.free_ports(1)
        return Daemon(self.nginx_command(port), port, self.folder)

    # --- figures ---

    def size(self):
        path = os.path.join(self.out, "envd")
        theirs = optional("nginx's size", "nginx", lambda: Value(
            os.path.getsize(shutil.which("nginx")) / 1e6, "MB"))  # fmt: skip
        self.row(BINARY, Value(os.path.getsize(path) / 1e6, "MB"), "nginx, dynamic", theirs)

    def start_times(self, make):
        """From fork to the end of the first answer; connections are tried every 50 µs."""
        values = []
        for _ in range(STARTS):
            (port,) = lib.free_ports(1)
            command = make(port)
            began = time.perf_counter()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, cwd=self.folder)  # fmt: skip
            try:
                first_answer(port)
                values.append((time.perf_counter() - began) * 1000)
            finally:
                process.terminate()
                process.wait()
        return Times(values)

    def start(self):
        theirs = optional("nginx's start", "nginx", lambda: self.start_times(self.nginx_command))
        self.row(START, self.start_times(self.envd_command), "nginx", theirs)

    def idle_memory(self, daemon, peer):
        for each in (daemon, peer):
            if each:
                self.load.run(each, "/health", count=1)
        time.sleep(IDLE_S)
        theirs = Value(peer.private() / 1e6, "MB") if peer else None
        self.row(MEMORY_IDLE, Value(daemon.private() / 1e6, "MB"), "nginx", theirs)

    def memory_after(self, daemon, peer):
        time.sleep(ENDED_S)
        theirs = Value(peer.private() / 1e6, "MB") if peer else None
        self.row(MEMORY_AFTER, Value(daemon.private() / 1e6, "MB"), "nginx", theirs)

    def exec(self, daemon, ssh):
        """Both with an empty home: what is in this machine's .bashrc is not measured."""

        def ours(cmd, *args, count=EXECS):
            body = self.file("start", start_json(cmd, *args, envs={"HOME": self.folder}))
            return self.load.run(daemon, "/process.Process/Start", method="POST", body=body,
                                 headers=JSON_STREAM, count=count, events="json")  # fmt: skip

        def theirs(command, count=EXECS):
            return optional("sshd", "/usr/sbin/sshd", lambda: ssh.run(command, count)) if ssh else None

        ours("/bin/true", count=50)
        if self.wanted(TRUE, TRUE_CPU):
            mine = median(self.rounds, lambda: ours("/bin/true"), lambda found: found["p50_us"])
            peer = theirs("exec /bin/true")
            self.row(TRUE, Found(mine), "sshd, kept connection", peer and Found(peer))
            self.row(TRUE_CPU, Value(mine["cpu"] / EXECS * 1e3, "ms"), "sshd",
                     peer and Value(peer["cpu"] / EXECS * 1e3, "ms"))  # fmt: skip
        if self.wanted(SHELL):
            mine = ours("/bin/bash", "-l", "-c", "true", count=EXECS // 4)
            peer = theirs("exec /bin/bash -l -c true", EXECS // 4)
            self.row(SHELL, Found(mine), "sshd, kept connection", peer and Found(peer))

    def stat(self, daemon, peer):
        if not self.wanted(STAT, STAT_CPU):
            return
        path = os.path.join(self.memory, "small")
        with open(path, "wb") as file:
            file.write(b"x" * 128)
        body = self.file("stat", json.dumps({"path": path}).encode())

        def ours():
            return self.load.run(daemon, "/filesystem.Filesystem/Stat", method="POST", body=body,
                                 headers=JSON_UNARY, conns=16, count=STATS)  # fmt: skip

        def theirs():
            return self.load.run(peer, "/files/small", method="HEAD", conns=16, count=STATS)

        ours()
        mine = median(self.rounds, ours, lambda found: found["seconds"])
        other = median(self.rounds, theirs, lambda found: found["seconds"]) if peer else None
        self.row(STAT, Rate(STATS / mine["seconds"], "/s"), "nginx, HEAD of a file",
                 other and Rate(STATS / other["seconds"], "/s"))  # fmt: skip
        self.row(STAT_CPU, Value(mine["cpu"] / STATS * 1e6, "µs"), "nginx, HEAD of a file",
                 other and Value(other["cpu"] / STATS * 1e6, "µs"))  # fmt: skip

    def stdout(self, daemon, ssh):
        if not self.wanted(STDOUT_JSON, STDOUT_PROTO):
            return

        def rate(found):
            if found["payload"] != STREAM_BYTES:
                raise RuntimeError(f"{found['payload']} bytes of {STREAM_BYTES} came")
            return Rate(STREAM_BYTES / found["seconds"] / 1e6, "MB/s")

        command = "exec " + " ".join(ZEROS)
        peer = optional("sshd", "/usr/sbin/sshd", lambda: ssh.run(command, 1)) if ssh else None
        for figure, headers, events, body in (
            (STDOUT_JSON, JSON_STREAM, "json", start_json(*ZEROS)),
            (STDOUT_PROTO, PROTO_STREAM, "proto", start_proto(*ZEROS)),
        ):
            path = self.file("zeros", body)

            def ours():
                return self.load.run(daemon, "/process.Process/Start", method="POST", body=path,
                                     headers=headers, events=events)  # fmt: skip

            if self.wanted(figure):
                mine = median(self.rounds, ours, lambda found: found["seconds"])
                self.row(figure, rate(mine), "sshd, AES-GCM", peer and rate(peer))

    def files(self, daemon, peer):
        """Uploads replace one file on tmpfs; downloads read it."""
        path = os.path.join(self.memory, "large")
        mib = FILE_BYTES * FILE_TIMES / (1 << 20)

        def up(server, target, method, headers):
            return lambda: self.load.run(server, target, method=method, headers=headers,
                                         size=FILE_BYTES, count=FILE_TIMES)  # fmt: skip

        def down(server, target):
            return lambda: self.load.run(server, target, count=FILE_TIMES)

        def both(figure, cpu_figure, mine, theirs, peer_name):
            mine = median(self.rounds, mine, lambda found: found["seconds"])
            other = median(self.rounds, theirs, lambda found: found["seconds"]) if peer else None
            self.row(figure, Rate(mib / mine["seconds"], "MiB/s"), peer_name,
                     other and Rate(mib / other["seconds"], "MiB/s"))  # fmt: skip
            self.row(cpu_figure, Value(mine["cpu"] / mib * 1e3, "ms"), peer_name,
                     other and Value(other["cpu"] / mib * 1e3, "ms"))  # fmt: skip

        octets = ["Content-Type: application/octet-stream"]
        if not self.wanted(UPLOAD, UPLOAD_CPU, DOWNLOAD, DOWNLOAD_CPU):
            return
        first = up(daemon, f"/files?path={path}", "POST", octets)
        first()
        if self.wanted(UPLOAD, UPLOAD_CPU):
            both(UPLOAD, UPLOAD_CPU, first, up(peer, "/files/put", "PUT", []), "nginx, WebDAV PUT")
        if self.wanted(DOWNLOAD, DOWNLOAD_CPU):
            both(DOWNLOAD, DOWNLOAD_CPU, down(daemon, f"/files?path={path}"),
                 down(peer, "/files/large"), "nginx, static file")  # fmt: skip

    def idle_streams(self):
        """A daemon of its own for each kind: what streams cost while they are open."""
        if not self.wanted(IDLE_WATCH, IDLE_PROCESS):
            return
        theirs = optional("nginx, idle", "nginx", lambda: self.held(self.nginx(), "/health"))
        if self.wanted(IDLE_WATCH):
            body = self.file("watch", lib.envelope({"path": self.folder}))
            ours = self.held(self.envd(), "/filesystem.Filesystem/WatchDir", body)
            self.row(IDLE_WATCH, ours, "nginx, idle connections", theirs)
        if self.wanted(IDLE_PROCESS):
            body = self.file("connect", lib.envelope({"process": {"tag": "idle"}}))
            ours = self.held(self.envd(), "/process.Process/Connect", body, sleeper=True)
            self.row(IDLE_PROCESS, ours, "nginx, idle connections", theirs)

    def held(self, daemon, path, body=None, sleeper=False):
        with daemon, contextlib.ExitStack() as stack:
            self.load.run(daemon, "/health", count=1000)
            if sleeper:
                start = {"process": {"cmd": "/bin/sleep", "args": ["600"]}, "tag": "idle", "stdin": False}
                held = self.file("sleep", lib.envelope(start))
                stack.enter_context(self.load.hold(daemon, "/process.Process/Start", 1, method="POST",
                                                   body=held, headers=JSON_STREAM))  # fmt: skip
            before = daemon.private()
            options = {"method": "POST", "body": body, "headers": JSON_STREAM} if body else {}
            with self.load.hold(daemon, path, IDLE, **options):
                time.sleep(1)
                return Value((daemon.private() - before) / IDLE / 1024, "KiB")


def first_answer(port):
    deadline = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)) as conn:
                conn.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                if conn.recv(4096).startswith(b"HTTP/1.1 204"):
                    return
                raise RuntimeError("not the answer of /health")
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.00005)


NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; user {user};
worker_rlimit_nofile 20000;
events {{ worker_connections 16000; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000; keepalive_timeout 600;
    client_max_body_size 0; client_body_temp_path {memory}/t1; proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /health {{ return 204; }}
        location /files/ {{ alias {memory}/; dav_methods PUT; }}
    }}
}}
"""

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
MaxSessions 100
SetEnv HOME={folder}
"""


class Sshd:
    """OpenSSH's server with keys of its own, for this user."""

    def __init__(self, out, folder):
        self.program = os.path.join(out, "tests/bench/ssh_load")
        self.folder = folder
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-m", "PEM", "-f",
                            os.path.join(folder, name)], check=True)  # fmt: skip
        (port,) = lib.free_ports(1)
        config = os.path.join(folder, "sshd_config")
        with open(config, "w") as file:
            file.write(SSHD.format(port=port, folder=folder))
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        self.daemon = Daemon(["/usr/sbin/sshd", "-D", "-f", config], port)

    def __enter__(self):
        self.daemon.__enter__()
        return self

    def __exit__(self, *what):
        self.daemon.__exit__(*what)

    def run(self, command, count):
        """As Load.run; CPU is that of sshd's processes, without the login and the commands."""
        user = pwd.getpwuid(os.getuid()).pw_name
        key = os.path.join(self.folder, "user_key")
        args = [self.program, str(self.daemon.port), user, key, str(count), command]
        with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            if client.stdout.readline() != "ready\n":
                raise RuntimeError("ssh_load could not log in")
            pids = self.daemon.pids()
            before = cpu_of(pids)
            client.stdin.write("\n")
            client.stdin.flush()
            line = client.stdout.readline()
            spent = cpu_of(pids) - before
            client.stdin.close()
            client.wait(30)
        if not line:
            raise RuntimeError("ssh_load failed")
        found = json.loads(line)
        found["cpu"] = spent
        return found


def peer_or_none(stack, what, program, make):
    if not shutil.which(program):
        print(f"no {what}: {program} is not installed", file=sys.stderr)
        return None
    return stack.enter_context(make())


def run(table, out, only="", rounds=3):
    """Add envd's rows to TABLE. ONLY: a part of a figure's name."""
    most = min(20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with tempfile.TemporaryDirectory(prefix="sandpit-bench-") as folder, contextlib.ExitStack() as stack:
        bench = Bench(out, rounds, table, only, folder)
        stack.callback(shutil.rmtree, bench.memory, ignore_errors=True)
        if bench.wanted(BINARY):
            bench.size()
        if bench.wanted(START):
            bench.start()
        daemon = stack.enter_context(bench.envd())
        peer = peer_or_none(stack, "nginx", "nginx", bench.nginx)
        if bench.wanted(MEMORY_IDLE):
            bench.idle_memory(daemon, peer)
        ssh = None
        if bench.wanted(TRUE, TRUE_CPU, SHELL, STDOUT_JSON, STDOUT_PROTO):
            ssh = peer_or_none(stack, "sshd", "/usr/sbin/sshd", lambda: Sshd(out, folder))
        bench.exec(daemon, ssh)
        bench.stat(daemon, peer)
        bench.stdout(daemon, ssh)
        bench.files(daemon, peer)
        if bench.wanted(MEMORY_AFTER):
            bench.memory_after(daemon, peer)
        bench.idle_streams()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.environ.get("SANDPIT_OUT") or f"{lib.ROOT}/build/release")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    table = Table()
    run(table, os.path.abspath(options.out), options.only, options.rounds)
    print(table.text())


if __name__ == "__main__":
    main()
