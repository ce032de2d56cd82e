"""tests/lib.py - what the system tests share: a server of their own, raw clients, a test runner.

Only the standard library, so that the same file serves the system's Python and the SDKs' virtual
environment. A Server lives in a folder of its own (state, run-time files, log), on free ports, and
takes its sandboxes with it when it is stopped.

    python3 tests/lib.py sweep FOLDER    end everything that servers under FOLDER left behind
"""

import base64
import contextlib
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENVD_PORT = 49983
READY_S = 30
# What a sanitizer writes to a log when it found something.
SANITIZER = re.compile(
    r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|SUMMARY: \w+Sanitizer"
)


def free_ports(count):
    """COUNT TCP ports that nobody listens on, neither on 127.0.0.1 nor on ::1."""
    held, ports = [], []
    try:
        while len(ports) < count:
            four = socket.socket(socket.AF_INET)
            held.append(four)
            four.bind(("127.0.0.1", 0))
            port = four.getsockname()[1]
            with contextlib.suppress(OSError):
                six = socket.socket(socket.AF_INET6)
                held.append(six)
                try:
                    six.bind(("::1", port))
                except OSError as error:
                    if error.errno == 98:  # in use there: take another
                        continue
            ports.append(port)
    finally:
        for sock in held:
            sock.close()
    return ports


def wait_until(what, seconds, predicate, interval=0.05):
    """Poll PREDICATE until it is true and return its value; TimeoutError names WHAT."""
    end = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(interval)


class ApiError(Exception):
    def __init__(self, status, body, headers):
        super().__init__(f"{status}: {body!r:.300}")
        self.status = status
        self.body = body
        self.headers = headers


class Reply:
    """A finished HTTP reply. `json` is None when the body is no JSON."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body
        try:
            self.json = json.loads(body) if body else None
        except ValueError:
            self.json = None


class Http:
    """A keep-alive HTTP/1.1 connection to 127.0.0.1:PORT; opens itself again when it was closed."""

    def __init__(self, port, timeout=60):
        self.port = port
        self.timeout = timeout
        self.conn = None

    def close(self):
        if self.conn:
            self.conn.close()
        self.conn = None

    def request(self, method, path, body=None, headers=None):
        response = self.open(method, path, body, headers)
        return Reply(response.status, response.headers, response.read())

    def open(self, method, path, body=None, headers=None):
        """The response, its body unread. A reused connection that died is tried once more."""
        for attempt in (0, 1):
            fresh = self.conn is None
            if fresh:
                self.conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
            try:
                self.conn.request(method, path, body=body, headers=headers or {})
                return self.conn.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.close()
                if fresh or attempt:
                    raise
            except Exception:
                self.close()
                raise
        raise AssertionError("unreachable")


# --- Connect protocol (envd-api reference, section 2.2) ---

FLAG_END = 0x02


def envelope(message, flags=0):
    """One envelope: flags, big-endian length, payload. MESSAGE is a dict (JSON) or bytes."""
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack(">BI", flags, len(payload)) + payload


def envelopes(stream):
    """Yield (flags, payload) of a readable STREAM until it ends. EOFError when cut inside one."""
    while True:
        head = _read_exactly(stream, 5)
        if head is None:
            return
        flags, length = struct.unpack(">BI", head)
        payload = _read_exactly(stream, length) if length else b""
        if payload is None:
            raise EOFError("envelope cut after its head")
        yield flags, payload


def _read_exactly(stream, count):
    data = b""
    while len(data) < count:
        part = stream.read(count - len(data))
        if not part:
            if data:
                raise EOFError("envelope cut")
            return None
        data += part
    return data


class ConnectError(Exception):
    def __init__(self, code, message, status=200):
        super().__init__(f"[{code}] {message}")
        self.code = code
        self.message = message
        self.status = status


class Result:
    """How a process ended. `error` is the Connect error of the stream, if any."""

    def __init__(self):
        self.pid = 0
        self.stdout = b""
        self.stderr = b""
        self.pty = b""
        self.exit_code = None
        self.status = None
        self.error = None

    @property
    def text(self):
        return self.stdout.decode(errors="replace")

    def __repr__(self):
        return (
            f"exit {self.exit_code} ({self.status}) error {self.error} "
            f"stdout {self.stdout[-400:]!r} stderr {self.stderr[-400:]!r}"
        )


class Sandbox:
    """A sandbox over raw HTTP: the traffic listener, a per-sandbox Host header, JSON Connect."""

    def __init__(self, server, row):
        self.server = server
        self.row = row
        self.id = row["sandboxID"]
        self.token = row.get("envdAccessToken")
        self.conn = Http(server.traffic_port)

    def host(self, port=ENVD_PORT):
        return f"{port}-{self.id}.sandpit.localhost"

    def headers(self, user=None, extra=None):
        headers = {"Host": self.host()}
        if self.token:
            headers["X-Access-Token"] = self.token
        if user:
            pair = base64.b64encode(f"{user}:".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        headers.update(extra or {})
        return headers

    def rpc(self, method, message, user=None):
        """A unary call; METHOD like "process.Process/List". ConnectError when it is refused."""
        headers = self.headers(user, {"Content-Type": "application/json"})
        reply = self.conn.request("POST", f"/{method}", json.dumps(message), headers)
        if reply.status != 200:
            body = reply.json or {"code": None, "message": reply.body.decode(errors="replace")}
            raise ConnectError(body.get("code"), body.get("message"), reply.status)
        return reply.json

    def start(self, cmd, args=(), user=None, envs=None, cwd=None, pty=None, stdin=False, conn=None,
              timeout_ms=None):
        """Start a process and return the open event stream: an iterator of (kind, value)."""
        process = {"cmd": cmd, "args": list(args)}
        if envs:
            process["envs"] = envs
        if cwd:
            process["cwd"] = cwd
        message = {"process": process, "stdin": stdin}
        if pty:
            message["pty"] = {"size": {"cols": pty[0], "rows": pty[1]}}
        extra = {"Content-Type": "application/connect+json", "Connect-Protocol-Version": "1"}
        if timeout_ms:
            extra["Connect-Timeout-Ms"] = str(timeout_ms)
        conn = conn or self.conn
        response = conn.open(
            "POST", "/process.Process/Start", envelope(message), self.headers(user, extra)
        )
        if response.status != 200:
            body = response.read()
            raise ConnectError(None, body.decode(errors="replace"), response.status)
        return self._events(response)

    @staticmethod
    def _events(response):
        for flags, payload in envelopes(response):
            message = json.loads(payload)
            if flags & FLAG_END:
                response.read()  # the chunked end, so that the connection can be used again
                yield "close", message.get("error")
                return
            for kind, value in message["event"].items():
                yield kind, value
        raise EOFError("stream ended without its end envelope")

    def collect(self, events):
        result = Result()
        for kind, value in events:
            if kind == "start":
                result.pid = value["pid"]
            elif kind == "data":
                for name, data in value.items():
                    setattr(result, name, getattr(result, name) + base64.b64decode(data))
            elif kind == "end":
                result.exit_code = value.get("exitCode", 0)
                result.status = value.get("status")
            elif kind == "close" and value:
                result.error = ConnectError(value.get("code"), value.get("message"))
        return result

    def exec(self, cmd, args=(), **options):
        return self.collect(self.start(cmd, args, **options))

    def sh(self, script, user=None, **options):
        """Run SCRIPT in bash; USER None is the default user, "root" the sandbox's root."""
        return self.exec("/bin/bash", ["-c", script], user=user, **options)

    def background(self, script, user=None):
        """Start SCRIPT on a connection of its own and leave it running. Returns its pid."""
        conn = Http(self.server.traffic_port)
        events = self.start("/bin/bash", ["-c", script], user=user, conn=conn)
        kind, value = next(events)
        if kind != "start":
            raise AssertionError(f"first event was {kind}: {value}")
        self.server.kept.append((conn, events))
        return value["pid"]

    def write(self, path, data, user=None):
        query = {"path": path}
        if user:
            query["username"] = user
        reply = self.conn.request(
            "POST", "/files?" + urllib.parse.urlencode(query), data,
            self.headers(extra={"Content-Type": "application/octet-stream"}),
        )
        if reply.status != 200:
            raise ApiError(reply.status, reply.body, reply.headers)
        return reply.json

    def read(self, path):
        reply = self.conn.request(
            "GET", "/files?" + urllib.parse.urlencode({"path": path}), None, self.headers()
        )
        if reply.status != 200:
            raise ApiError(reply.status, reply.body, reply.headers)
        return reply.body

    def kill(self):
        return self.server.api("DELETE", f"/sandboxes/{self.id}").status


class Server:
    """`sandpit serve --dev` in FOLDER (made if None). Use as a context manager."""

    def __init__(self, folder=None, out=None, args=()):
        self.out = os.path.abspath(
            out or os.environ.get("SANDPIT_OUT") or os.path.join(ROOT, "build/release")
        )
        self.own_folder = folder is None
        base = os.environ.get("SANDPIT_TEST_DIR") or None
        if base:
            os.makedirs(base, exist_ok=True)
        self.folder = folder or tempfile.mkdtemp(prefix="sandpit-", dir=base)
        os.makedirs(self.folder, exist_ok=True)
        os.chmod(self.folder, 0o755)  # the server's unprivileged user walks through it
        self.state = os.path.join(self.folder, "state")
        self.run = os.path.join(self.folder, "run")
        self.log = os.path.join(self.folder, "server.log")
        self.api_port, self.traffic_port, self.ops_port, self.tls_port = free_ports(4)
        self.args = list(args)
        self.process = None
        self.key = None
        self.conn = Http(self.api_port)
        self.kept = []
        self.other_keys = []

    # --- life ---

    def command(self):
        return [
            os.path.join(self.out, "sandpit"), "serve", "--dev",
            "--state-dir", self.state, "--run-dir", self.run,
            "--api-listen", f"127.0.0.1:{self.api_port}",
            "--traffic-listen", f"127.0.0.1:{self.traffic_port}",
            "--ops-listen", f"127.0.0.1:{self.ops_port}",
            "--tls-listen", f"localhost:{self.tls_port}",
        ] + self.args  # fmt: skip

    def start(self):
        with open(os.path.join(self.folder, "server.json"), "w") as file:
            json.dump({"command": self.command(), "ops": self.ops_port, "api": self.api_port}, file)
        # The log is stderr; how to use the server, with the key, is printed on stdout.
        with open(self.log, "ab") as log, open(os.path.join(self.folder, "stdout"), "wb") as out:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=log, cwd=self.folder
            )
        try:
            wait_until("/readyz", READY_S * time_factor(), self._ready)
        except Exception:
            self.kill9()
            if not self.key:  # it never ran, so there is nothing to sweep up
                os.unlink(os.path.join(self.folder, "server.json"))
            raise AssertionError(f"server did not get ready; its log:\n{self.log_tail()}") from None
        self.key = self.dev_env("dev.env")["E2B_API_KEY"]
        return self

    def _ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"server ended with {self.process.returncode}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ops("GET", "/readyz").status == 200
        return False

    def log_tail(self, lines=30):
        with contextlib.suppress(OSError), open(self.log, errors="replace") as file:
            return "".join(file.readlines()[-lines:])
        return "(no log)"

    def terminate(self, timeout=30):
        """SIGTERM and wait; sandboxes stay. Returns the exit code."""
        self.conn.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout * time_factor())

    def kill9(self):
        """End the server at once, as a crash would. Sandboxes stay."""
        self.conn.close()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """End every sandbox, then the server, then the folder. Returns the exit code."""
        self.conn.close()
        self.kept = []
        if not self.process:
            return 0
        if self.process.poll() is not None:
            self.start()
        for key in [self.key] + self.other_keys:
            with contextlib.suppress(ApiError):  # a key that a test revoked
                for sandbox_id in self.all_sandboxes(key):
                    self.api("DELETE", f"/sandboxes/{sandbox_id}", key=key)
        code = self.terminate()
        with open(self.log, errors="replace") as file:
            found = [line for line in file if SANITIZER.search(line)]
        os.unlink(os.path.join(self.folder, "server.json"))
        if self.own_folder and not found and code == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        if found:
            raise AssertionError(f"sanitizer report in {self.log}: {found[0].strip()}")
        return code

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        if kind is not None:
            sys.stderr.write(f"--- end of {self.log}\n{self.log_tail()}")
        code = self.stop()
        if kind is None and code != 0:
            raise AssertionError(f"server ended with {code}; log {self.log}:\n{self.log_tail()}")

    # --- use ---

    def dev_env(self, name):
        """The variables of <state>/NAME: lines like export NAME=value, quoted for a shell."""
        path = os.path.join(self.state, name)
        script = 'set -a; . "$1"; env -0'
        raw = subprocess.run(
            ["/bin/sh", "-c", script, "sh", path], env={"PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE, check=True,
        ).stdout  # fmt: skip
        pairs = (item.split("=", 1) for item in raw.decode().split("\0") if "=" in item)
        return {name: value for name, value in pairs if name not in ("PATH", "PWD", "SHLVL", "_")}

    def api(self, method, path, body=None, key=None, headers=None):
        """A Platform API call with the development key, or KEY ("" for none). Never raises on 4xx."""
        all_headers = {"X-API-Key": self.key if key is None else key} if key != "" else {}
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            all_headers["Content-Type"] = "application/json"
        all_headers.update(headers or {})
        return self.conn.request(method, path, body, all_headers)

    def ops(self, method, path):
        conn = Http(self.ops_port, timeout=10)
        try:
            return conn.request(method, path)
        finally:
            conn.close()

    def create(self, key=None, **body):
        """POST /v2/sandboxes; templateID base and 300 s unless BODY says otherwise."""
        message = {"templateID": "base", "timeout": 300}
        message.update(body)
        reply = self.api("POST", "/v2/sandboxes", message, key=key)
        if reply.status != 201:
            raise ApiError(reply.status, reply.body, reply.headers)
        return Sandbox(self, reply.json)

    def all_sandboxes(self, key=None):
        ids, token = [], None
        while True:
            query = "?nextToken=" + urllib.parse.quote(token) if token else ""
            reply = self.api("GET", "/v2/sandboxes" + query, key=key)
            if reply.status != 200:
                raise ApiError(reply.status, reply.body, reply.headers)
            ids += [row["sandboxID"] for row in reply.json]
            token = reply.headers.get("X-Next-Token")
            if not token:
                return ids

    def cli(self, *args, check=True):
        """Run `sandpit ARGS --state-dir …`; the CompletedProcess with text output."""
        command = [os.path.join(self.out, "sandpit"), *args, "--state-dir", self.state]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            check=check,
        )  # fmt: skip

    def new_key(self, namespace, client="test", *args):
        """Make a key and return (its text, its row)."""
        out = self.cli("key", "create", "--namespace", namespace, "--client", client, "--json", *args)
        row = json.loads(out.stdout)
        self.other_keys.append(row["key"])
        return row["key"], row


# --- WebSocket, client side (RFC 6455) ---


class WebSocket:
    """A client for text and binary frames, over a plain or TLS connection."""

    def __init__(self, address, port, host, path="/", context=None, headers=None):
        raw = socket.create_connection((address, port), timeout=30)
        name = host.rsplit(":", 1)[0]
        self.sock = context.wrap_socket(raw, server_hostname=name) if context else raw
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket",
                 "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        lines += [f"{k}: {v}" for k, v in (headers or {}).items()]
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.file = self.sock.makefile("rb")
        status = self.file.readline().decode()
        self.headers = http.client.parse_headers(self.file)
        if " 101 " not in status:
            raise ConnectionError(f"no upgrade: {status.strip()}")

    def send(self, data, opcode=None):
        payload = data.encode() if isinstance(data, str) else data
        code = opcode if opcode is not None else (1 if isinstance(data, str) else 2)
        if len(payload) < 126:
            head = struct.pack(">BB", 0x80 | code, 0x80 | len(payload))
        elif len(payload) < 65536:
            head = struct.pack(">BBH", 0x80 | code, 0x80 | 126, len(payload))
        else:
            head = struct.pack(">BBQ", 0x80 | code, 0x80 | 127, len(payload))
        mask = os.urandom(4)
        pad = mask * (len(payload) // 4 + 1)
        body = (
            int.from_bytes(payload, "big") ^ int.from_bytes(pad[: len(payload)], "big")
        ).to_bytes(len(payload), "big")
        self.sock.sendall(head + mask + body)

    def recv(self):
        """(opcode, payload) of the next frame."""
        first, second = _read_exactly(self.file, 2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", _read_exactly(self.file, 2))
        elif length == 127:
            (length,) = struct.unpack(">Q", _read_exactly(self.file, 8))
        return first & 0x0F, _read_exactly(self.file, length) if length else b""

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.close()


# --- what a sandbox is on the host ---


def host_pids(marker):
    """Pids of the host whose command line holds MARKER, except our own."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            pid = int(path.split("/")[2])
            if marker.encode() in file.read() and pid != os.getpid():
                found.append(pid)
    return found


def process_clock_s(pid):
    """CPU seconds of PID, all its threads and none of its children."""
    return time.clock_gettime((~pid << 3) | 2)


def spares(server):
    """How many sandboxes SERVER has ready for the next creates."""
    launchers, found = set(), []
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(path) as file:
            text = file.read()
            name, parent = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") :].split()[2]
            if name == "sandpit-launch" and int(parent) == server.process.pid:
                launchers.add(text.split()[0])
            elif name == "sandpit-spare":
                found.append(parent)
    return sum(parent in launchers for parent in found)


def private_bytes(pid):
    total = 0
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                total += int(line.split()[1]) * 1024
    return total


def marked_pids(mark):
    """The same of a sandbox's process that has just been started: its exec may be a moment away."""
    return wait_until(f"a process with {mark}", 10 * time_factor(), lambda: host_pids(mark))


def namespaces(pid):
    """{"net": "net:[4026…]", …} of a process."""
    found = {}
    for path in glob.glob(f"/proc/{pid}/ns/*"):
        with contextlib.suppress(OSError):
            found[os.path.basename(path)] = os.readlink(path)
    return found


def now_boot_s():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def started_boot_s(pid):
    """When a process began, on the clock of now_boot_s."""
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def sandbox_namespaces(marks):
    """{name: now} of the namespaces, not the host's own, of processes with one of MARKS."""
    ours = set(namespaces("self").values())
    now = now_boot_s()
    found = {}
    for mark in marks:
        for pid in marked_pids(mark):
            found.update((name, now) for name in namespaces(pid).values() if name not in ours)
    return found


def namespace_holders(seen, server_text):
    """Who still holds one of SEEN ({name: when it was last a sandbox's}): a list of sentences.

    The kernel gives a name again to a later namespace. So a process counts only if it began before
    the name was last seen, and not if it is of the server (SERVER_TEXT in its command line), which
    keeps processes in store for the next sandboxes; mounts count only if they are the server's.
    """
    found = []
    stored = set(host_pids(server_text))
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if not entry.isdigit() or int(entry) in stored:
                continue
            held = seen.keys() & set(namespaces(entry).values())
            began = started_boot_s(entry) if held else 0
            found += [f"{name} of process {entry}" for name in held if began < seen[name]]
    for line in mounts_with(server_text):
        if " - nsfs " in line and line.split()[0] in seen:
            found.append(f"mount {line}")
    return found


def mounts_with(text):
    """Lines of any process's mount table that hold TEXT; spares, which wait in theirs, are none."""
    found = set()
    for path in glob.glob("/proc/[0-9]*/mountinfo"):
        with contextlib.suppress(OSError), open(path) as file, open(f"{path[:-9]}comm") as comm:
            if comm.read().strip() == "sandpit-spare":
                continue
            found.update(line.strip().split(" ", 3)[3] for line in file if text in line)
    return sorted(found)


def cgroups_of(pid):
    """The folders under /sys/fs/cgroup of a process's sandbox; the root's is none."""
    found = set()
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            path = line.rstrip("\n").split(":", 2)[2]
            path = re.sub(r"/(guest(/\w+)?|envd)$", "", path)  # of which it is a part
            if path != "/":
                found |= {f for f in glob.glob(f"/sys/fs/cgroup/*{path}") if os.path.isdir(f)}
                found |= {f for f in [f"/sys/fs/cgroup{path}"] if os.path.isdir(f)}
    return found


def sandbox_cgroups(marks):
    found = set()
    for mark in marks:
        for pid in marked_pids(mark):
            found |= cgroups_of(pid)
    return found


def leftovers(ids, seen, server_text, cgroups=()):
    """What is left on the host of sandboxes that are gone: a list of sentences, best empty.

    A cgroup may stay while its server runs, which uses it for the next sandbox, but then with
    nobody in it beside what the server keeps in store.
    """
    found = namespace_holders(seen, server_text)
    for sandbox_id in ids:
        found += [f"mount {line}" for line in mounts_with(sandbox_id)]
        found += [f"process {pid} names it" for pid in host_pids(sandbox_id)]
    stored = set(host_pids(server_text))
    for folder in cgroups:
        if not os.path.isdir(folder):
            continue
        if not stored:
            found.append(f"cgroup {folder}")
        for path in glob.glob(f"{folder}/**/cgroup.procs", recursive=True):
            with contextlib.suppress(OSError), open(path) as file:
                found += [f"process {pid} in {path}" for pid in set(map(int, file)) - stored]
    return found


# --- running tests ---


def time_factor():
    """How much longer everything may take: sanitizers are slow."""
    return float(os.environ.get("SANDPIT_TIME_FACTOR", "1"))


def need_root():
    if os.geteuid() != 0:
        raise unittest.SkipTest("needs root")


class _Result(unittest.TextTestResult):
    """Ends a test that takes too long, and counts what ran."""

    limit_s = 120
    passed = 0

    def startTest(self, test):
        method = getattr(test, test._testMethodName)
        limit = getattr(method, "limit_s", self.limit_s) * time_factor()
        self.began = time.monotonic()

        def expired(signum, frame):
            raise TimeoutError(f"test took longer than {limit:.0f} s")

        signal.signal(signal.SIGALRM, expired)
        signal.setitimer(signal.ITIMER_REAL, limit)
        super().startTest(test)

    def stopTest(self, test):
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self.showAll:
            self.stream.writeln(f"    {time.monotonic() - self.began:.2f} s")
        super().stopTest(test)

    def addSuccess(self, test):
        self.passed += 1
        super().addSuccess(test)


def limit(seconds):
    """Decorator: another time limit for one test."""

    def mark(method):
        method.limit_s = seconds
        return method

    return mark


def main(module="__main__"):
    """Run the tests of MODULE; the last line is "N passed, N failed, N skipped"; then exit."""

    def ended(signum, frame):
        raise SystemExit("ended by a signal")

    signal.signal(signal.SIGTERM, ended)
    names = [name for name in sys.argv[1:] if not name.startswith("-")]
    loader = unittest.TestLoader()
    module = sys.modules[module]
    loader.testNamePatterns = [f"*{name}*" for name in names] or None
    suite = loader.loadTestsFromModule(module)
    runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=_Result)
    result = runner.run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    skipped = len(result.skipped)
    for test, why in result.skipped:
        print(f"SKIPPED {test}: {why}")
    print(f"{result.passed} passed, {failed} failed, {skipped} skipped", flush=True)
    sys.exit(1 if failed or result.passed + skipped == 0 else 0)


# --- sweeping up after tests that were killed ---


def sweep(folder):
    """End servers and sandboxes that tests under FOLDER left behind."""
    for path in glob.glob(os.path.join(folder, "**/server.json"), recursive=True):
        with open(path) as file:
            known = json.load(file)
        where = os.path.dirname(path)
        print(f"sweep: {where}", file=sys.stderr)
        for pid in host_pids(os.path.join(where, "state")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server = Server(folder=where, out=os.path.dirname(known["command"][0]))
        try:
            server.start().stop()
        except Exception as error:
            print(f"sweep: {where}: {error}", file=sys.stderr)


def tls_context():
    """A client context that trusts what SSL_CERT_FILE names."""
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "sweep":
        sys.exit("usage: lib.py sweep FOLDER")
    sweep(sys.argv[2])
