#!/usr/bin/env python3
"""The process side of envd as a client sees it: process.Process, sessions, /init, HTTP strictness.

Starts `$ENVD --listen 127.0.0.1:PORT --insecure`, prints one line per failed check and
`N passed, N failed` at its end. Standard library only: envelopes and protobuf by hand.
"""
import base64
import hashlib
import hmac
import http.client
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ENVD = os.environ.get("ENVD") or os.path.join(
    os.environ.get("OUT") or os.environ.get("SANDPIT_OUT") or "build/release", "envd")
BIG = int(os.environ.get("ENVD_BIG_MIB", "100")) << 20
passed = failed = 0
BASIC_USER = "Basic " + base64.b64encode(b"nobody:").decode()


def check(what, ok, got=None):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {what}" + (f": {got!r}" if got is not None else ""), flush=True)


def same(what, got, want):
    check(what, got == want, {"got": got, "want": want})


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Envd:
    """One running envd."""

    def __init__(self, *args, config=None):
        self.port = free_port()
        fds = ()
        argv = [ENVD, "--listen", f"127.0.0.1:{self.port}", *args]
        if config is not None:
            r, w = os.pipe()
            os.write(w, json.dumps(config).encode())
            os.close(w)
            argv += ["--config-fd", str(r)]
            fds = (r,)
        self.proc = subprocess.Popen(argv, pass_fds=fds, stderr=subprocess.PIPE)
        self.log = []
        threading.Thread(target=self.read_log, daemon=True).start()
        for fd in fds:
            os.close(fd)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("envd does not listen")

    def read_log(self):
        for line in self.proc.stderr:
            self.log.append(line.decode(errors="replace"))

    def stop(self):
        self.proc.send_signal(signal.SIGTERM)
        try:
            self.proc.wait(10)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        same("envd stops on SIGTERM, without a complaint of a sanitizer", self.proc.returncode, 0)
        if self.proc.returncode != 0:
            print("".join(self.log[-60:]))

    def connect(self, timeout=60):
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        conn.connect()
        conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return conn

    def request(self, method, path, body=None, headers=None):
        conn = self.connect()
        conn.request(method, path, body, headers or {})
        r = conn.getresponse()
        data = r.read()
        conn.close()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, data

    def unary(self, method, message, headers=None, path="process.Process"):
        status, _, data = self.request(
            "POST", f"/{path}/{method}", json.dumps(message).encode(),
            {"Content-Type": "application/json", **(headers or {})})
        try:
            return status, json.loads(data)
        except ValueError:
            return status, data

    def stream(self, method, message, headers=None, timeout=60):
        return Stream(self, method, json.dumps(message).encode(), "json", headers, timeout)

    def start(self, cmd, args=(), headers=None, timeout=60, **fields):
        config = {"cmd": cmd, "args": list(args)}
        for key in ("envs", "cwd"):
            if key in fields:
                config[key] = fields.pop(key)
        return self.stream("Start", {"process": config, **fields}, headers, timeout)

    def bash(self, script, **fields):
        return self.start("/bin/bash", ["-c", script], **fields)


class Stream:
    """The events of a Start or Connect."""

    def __init__(self, envd, method, body, codec, headers, timeout):
        self.codec = codec
        self.conn = envd.connect(timeout)
        self.conn.request("POST", f"/process.Process/{method}",
                          struct.pack(">BI", 0, len(body)) + body,
                          {"Content-Type": f"application/connect+{codec}", **(headers or {})})
        self.response = self.conn.getresponse()
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.pty = bytearray()
        self.end = self.pid = self.trailer = None
        self.keepalives = 0
        self.biggest = 0

    def read(self, n):
        data = self.response.read(n)
        if len(data) != n:
            raise EOFError("the stream ends inside an envelope")
        return data

    def raw(self):
        flags, size = struct.unpack(">BI", self.read(5))
        return flags, self.read(size)

    def next(self):
        """One event, or None at the end."""
        flags, data = self.raw()
        if flags & 2:
            self.trailer = json.loads(data)
            same("nothing follows the end envelope", self.response.read(), b"")
            self.conn.close()
            return None
        event = json.loads(data)["event"]
        if "start" in event:
            self.pid = event["start"]["pid"]
        elif "data" in event:
            for kind in ("stdout", "stderr", "pty"):
                if kind in event["data"]:
                    chunk = base64.b64decode(event["data"][kind])
                    self.biggest = max(self.biggest, len(chunk))
                    getattr(self, kind).extend(chunk)
        elif "end" in event:
            self.end = event["end"]
        elif "keepalive" in event:
            self.keepalives += 1
        return event

    def until(self, what):
        while True:
            event = self.next()
            if event is None:
                return None
            if what(event):
                return event

    def run(self):
        while self.next() is not None:
            pass
        return self

    def close(self):
        self.conn.close()
        self.response.close()


def started(stream):
    event = stream.next()
    check("the first event is start", event is not None and "start" in event, event)
    return stream


# ---- Commands ----

def test_output_and_exit_codes(envd):
    s = envd.bash("echo out; echo err >&2; exit 3").run()
    same("stdout", bytes(s.stdout), b"out\n")
    same("stderr", bytes(s.stderr), b"err\n")
    same("end of exit 3", s.end, {"exitCode": 3, "exited": True, "status": "exit status 3",
                                  "error": "exit status 3"})
    same("trailer", s.trailer, {})
    same("content type", s.response.getheader("content-type"), "application/connect+json")
    s = envd.start("true").run()
    same("end of true: defaults are left out", s.end, {"exited": True, "status": "exit status 0"})
    s = envd.bash("kill -SEGV $$").run()
    same("killed by a signal", (s.end["exitCode"], "exited" in s.end), (-1, False))
    check("name of the signal", s.end["status"].startswith("signal: segmentation fault"), s.end)
    s = envd.bash("printf '\\xff\\xfe'").run()
    same("bytes that are not UTF-8", bytes(s.stdout), b"\xff\xfe")


def test_missing_programs_are_exits(envd):
    s = envd.start("no-such-program").run()
    same("missing program", s.end["exitCode"], 127)
    same("its words", bytes(s.stderr), b"/bin/sh: 1: exec: no-such-program: not found\n")
    s = envd.start("/etc/passwd").run()
    same("not executable", s.end["exitCode"], 126)
    check("its words", b"Permission denied" in s.stderr, bytes(s.stderr))
    s = envd.start("").run()
    same("empty command", s.end["exitCode"], 127)
    with tempfile.NamedTemporaryFile("w", suffix=".sh", delete=False) as f:
        f.write("echo plain $1\n")
    os.chmod(f.name, 0o755)
    s = envd.start(f.name, ["script"]).run()
    os.unlink(f.name)
    same("a script without #! runs in a shell", bytes(s.stdout), b"plain script\n")


def test_environment(envd):
    s = envd.start("env", envs={"A": "1", "HOME": "/x", "E2B_SANDBOX": "mine"}).run()
    env = dict(line.split("=", 1) for line in s.stdout.decode().splitlines())
    same("nothing else is inherited", sorted(env),
         ["A", "E2B_SANDBOX", "HOME", "LOGNAME", "PATH", "USER"])
    same("the request wins", (env["A"], env["HOME"], env["E2B_SANDBOX"], env["USER"]),
         ("1", "/x", "mine", "root"))
    s = envd.bash("id -un; id -u; echo $HOME; id -G", cwd="/",
                  headers={"Authorization": BASIC_USER}).run()
    lines = s.stdout.decode().splitlines()
    same("Basic names the user", lines[:2], ["nobody", "65534"])
    same("home and groups of the user", lines[2:], [os.path.expanduser("~nobody"), "65534"])


def test_child_is_clean(envd):
    s = envd.bash("ls -l /proc/self/fd | grep -c socket; grep -E 'Sig(Blk|Ign)' /proc/self/status; "
                  "cat /proc/self/oom_score_adj; ulimit -n").run()
    lines = s.stdout.decode().split()
    same("no socket, signals clean", lines[:5],
         ["0", "SigBlk:", "0000000000000000", "SigIgn:", "0000000000000000"])
    same("oom_score_adj", lines[5], "100")
    same("limit of descriptors is the one envd got", lines[6],
         str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    s = envd.bash("ls /proc/self/fd | wc -l").run()
    check("three streams only", int(s.stdout) <= 5, bytes(s.stdout))
    s = envd.bash("echo hi > /dev/stderr", cwd="/", headers={"Authorization": BASIC_USER}).run()
    same("/dev/stderr can be opened by the user", bytes(s.stderr), b"hi\n")


def test_working_folder(envd):
    s = envd.start("pwd", cwd="/usr").run()
    same("cwd", bytes(s.stdout), b"/usr\n")
    s = envd.start("pwd").run()
    same("home by default", s.stdout.decode().strip(), os.path.expanduser("~root"))
    s = envd.start("pwd", cwd="/no/such/folder").run()
    same("missing cwd", s.trailer, {"error": {"code": "invalid_argument",
                                              "message": "cwd '/no/such/folder' does not exist"}})
    s = envd.start("pwd", cwd="/etc/passwd").run()
    same("cwd is a file", s.trailer["error"]["code"], "invalid_argument")
    check("its words", s.trailer["error"]["message"].startswith("error starting process 'pwd': "
                                                                "chdir /etc/passwd: not a dir"),
          s.trailer)
    s = envd.start("pwd", cwd="~other").run()
    same("~other", s.trailer["error"]["code"], "invalid_argument")


def test_stdin(envd):
    s = started(envd.start("cat"))
    sel = {"process": {"pid": s.pid}}
    for part in (b"one\n", b"two\n"):
        same("SendInput", envd.unary("SendInput", {
            **sel, "input": {"stdin": base64.b64encode(part).decode()}}), (200, {}))
    same("CloseStdin", envd.unary("CloseStdin", sel), (200, {}))
    s.run()
    same("what cat wrote", bytes(s.stdout), b"one\ntwo\n")
    s = envd.start("cat", stdin=False).run()
    same("no stdin is /dev/null", (bytes(s.stdout), s.end["status"]), (b"", "exit status 0"))
    s = started(envd.start("sleep", ["30"]))
    for _ in range(2):
        same("CloseStdin, also twice", envd.unary("CloseStdin", {"process": {"pid": s.pid}}),
             (200, {}))
    envd.unary("SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGKILL"})
    s.run()
    s = started(envd.start("sleep", ["30"], stdin=False))
    status, reply = envd.unary("SendInput", {"process": {"pid": s.pid},
                                             "input": {"stdin": "eA=="}})
    same("stdin off", (status, reply["code"], reply["message"]),
         (500, "internal", "error writing to stdin: stdin not enabled or closed"))
    status, reply = envd.unary("SendInput", {"process": {"pid": s.pid}, "input": {"pty": "eA=="}})
    same("pty input without pty", reply["message"],
         "error writing to tty: tty not assigned to process — input should be written to the "
         "stdin, not the tty")
    same("empty input", envd.unary("SendInput", {"process": {"pid": s.pid}})[0], 501)
    envd.unary("SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGKILL"})
    s.run()


def test_large_input_is_held_back_and_complete(envd):
    data = os.urandom(6 << 20)
    s = started(envd.bash("sleep 0.5; sha256sum"))
    sel = {"process": {"pid": s.pid}}
    status, _ = envd.unary("SendInput", {**sel,
                                         "input": {"stdin": base64.b64encode(data).decode()}})
    same("6 MiB in one message", status, 200)
    envd.unary("CloseStdin", sel)
    s.run()
    same("every byte arrived", s.stdout.decode().split()[0], hashlib.sha256(data).hexdigest())


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def envelope(message):
    data = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(data)) + data


def test_stream_input(envd):
    s = started(envd.start("sha256sum"))
    data = os.urandom(3 << 20)
    sock = socket.create_connection(("127.0.0.1", envd.port), 30)
    sock.sendall(b"POST /process.Process/StreamInput HTTP/1.1\r\nHost: x\r\n"
                 b"Content-Type: application/connect+json\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = envelope({"start": {"process": {"pid": s.pid}}}) + envelope({"keepalive": {}})
    for at in range(0, len(data), 50000):
        part = base64.b64encode(data[at:at + 50000]).decode()
        body += envelope({"data": {"input": {"stdin": part}}})
    for at in range(0, len(body), 77777):
        sock.sendall(chunk(body[at:at + 77777]))
    sock.sendall(b"0\r\n\r\n")
    reply = b""
    while b"0\r\n\r\n" not in reply:
        more = sock.recv(65536)
        if not more:
            break
        reply += more
    sock.close()
    check("StreamInput answers with an empty message and an end", b"{}" in reply and
          b"200 OK" in reply and b"error" not in reply, reply)
    envd.unary("CloseStdin", {"process": {"pid": s.pid}})
    s.run()
    same("streamed bytes", s.stdout.decode().split()[0], hashlib.sha256(data).hexdigest())
    body = envelope({"data": {"input": {"stdin": "eA=="}}})
    status, _, reply = envd.request("POST", "/process.Process/StreamInput", body,
                                    {"Content-Type": "application/connect+json"})
    same("data before start", json.loads(reply[5:])["error"]["code"], "invalid_argument")


def test_signals(envd):
    for name, want in (("SIGNAL_SIGKILL", "killed"), ("SIGNAL_SIGTERM", "terminated")):
        s = started(envd.start("sleep", ["30"]))
        same("SendSignal", envd.unary("SendSignal", {"process": {"pid": s.pid}, "signal": name}),
             (200, {}))
        s.run()
        same(name, s.end, {"exitCode": -1, "status": f"signal: {want}", "error": f"signal: {want}"})
    status, reply = envd.unary("SendSignal", {"process": {"pid": 4194300},
                                              "signal": "SIGNAL_SIGKILL"})
    same("unknown pid", (status, reply), (404, {"code": "not_found", "message":
                                                "process with pid 4194300 not found"}))
    s = started(envd.start("sleep", ["30"]))
    status, reply = envd.unary("SendSignal", {"process": {"pid": s.pid}})
    same("unspecified signal", (status, reply), (501, {
        "code": "unimplemented", "message": "invalid signal: SIGNAL_UNSPECIFIED"}))
    same("empty selector", envd.unary("SendSignal", {"signal": 9})[0], 501)
    same("numbers of enums", envd.unary("SendSignal", {"process": {"pid": s.pid}, "signal": 9})[0],
         200)
    s.run()


def test_kill_does_not_wait_for_grandchildren(envd):
    s = started(envd.bash("sleep 20 & echo ready; wait"))
    s.until(lambda e: "data" in e)
    at = time.monotonic()
    envd.unary("SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGKILL"})
    s.run()
    check("killed at once", time.monotonic() - at < 5, time.monotonic() - at)
    at = time.monotonic()
    s = envd.bash("sleep 1.5 & echo now").run()
    check("end waits for a grandchild with the pipe", time.monotonic() - at > 1.2)
    same("and is an exit", s.end["status"], "exit status 0")


def test_timeout_kills(envd):
    at = time.monotonic()
    s = envd.start("sleep", ["30"], headers={"Connect-Timeout-Ms": "500"}).run()
    took = time.monotonic() - at
    check("in time", 0.4 < took < 5, took)
    same("deadline", s.trailer, {"error": {"code": "deadline_exceeded",
                                           "message": "context deadline exceeded"}})
    same("no end event", s.end, None)
    time.sleep(0.3)
    check("the process is dead", not os.path.exists(f"/proc/{s.pid}"))
    s = started(envd.start("sleep", ["30"], headers={"Connect-Timeout-Ms": "700"}))
    s.close()
    time.sleep(0.3)
    check("alive after its client left", os.path.exists(f"/proc/{s.pid}"))
    time.sleep(1.5)
    check("dead after its deadline", not os.path.exists(f"/proc/{s.pid}"))
    status, reply = envd.unary("List", {}, {"Connect-Timeout-Ms": "12345678901"})
    same("timeout of 11 digits", (status, reply["code"]), (400, "invalid_argument"))


def test_pty(envd):
    s = started(envd.start("/bin/bash", ["--norc", "-i"], pty={"size": {"cols": 111, "rows": 33}},
                           envs={"TERM": "xterm", "PS1": "$ "}))
    sel = {"process": {"pid": s.pid}}

    def say(text):
        same("pty input", envd.unary("SendInput", {
            **sel, "input": {"pty": base64.b64encode(text.encode()).decode()}})[0], 200)

    def seen(text):
        while text not in s.pty.decode(errors="replace"):
            if s.next() is None:
                break
        check(f"the terminal shows {text!r}", text in s.pty.decode(errors="replace"), bytes(s.pty))

    say("stty size; tty\n")
    seen("33 111")
    seen("/dev/pts/")
    same("resize", envd.unary("Update", {**sel, "pty": {"size": {"cols": 60, "rows": 20}}})[0], 200)
    say("stty size\n")
    seen("20 60\r\n")
    while not s.pty.endswith(b"$ ") and s.next() is not None:
        pass
    status, reply = envd.unary("SendInput", {**sel, "input": {"stdin": "eA=="}})
    same("stdin to a pty", (reply["code"], reply["message"]),
         ("internal", "error writing to stdin: tty assigned to process — input should be written "
          "to the pty, not the stdin"))
    status, reply = envd.unary("CloseStdin", sel)
    same("CloseStdin on a pty", (status, reply["code"], reply["message"]),
         (500, "unknown", "error closing stdin: cannot close stdin for PTY process — send Ctrl+D "
          "(0x04) instead"))
    say("\x04")
    s.run()
    same("Ctrl+D ends it", s.end["exited"], True)
    check("pty chunks", s.biggest <= 16 << 10, s.biggest)
    s = started(envd.start("sleep", ["9"]))
    status, reply = envd.unary("Update", {"process": {"pid": s.pid},
                                          "pty": {"size": {"cols": 1, "rows": 1}}})
    same("resize without pty", reply["message"],
         "error resizing tty: tty not assigned to process")
    same("Update without pty", envd.unary("Update", {"process": {"pid": s.pid}})[0], 200)
    envd.unary("SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGKILL"})
    s.run()
    s = envd.bash("echo $(tty) ; head -c 300000 /dev/zero | tr '\\0' x", cwd="/", pty={
        "size": {"cols": 80, "rows": 24}}, headers={"Authorization": BASIC_USER}).run()
    same("all output of a terminal", s.pty.count(b"x"), 300000)


def test_list_and_tags(envd):
    s = started(envd.start("sleep", ["30"], tag="my tag", envs={"K": "v"}, cwd="/tmp"))
    status, reply = envd.unary("List", {})
    mine = [p for p in reply["processes"] if p["pid"] == s.pid]
    same("List", mine, [{"pid": s.pid, "tag": "my tag",
                         "config": {"cmd": "sleep", "args": ["30"], "envs": {"K": "v"},
                                    "cwd": "/tmp"}}])
    other = started(envd.stream("Connect", {"process": {"tag": "my tag"}}))
    same("Connect by tag", other.pid, s.pid)
    same("kill by tag", envd.unary("SendSignal", {"process": {"tag": "my tag"},
                                                  "signal": "SIGNAL_SIGKILL"})[0], 200)
    s.run()
    other.run()
    same("both are told", other.end, s.end)
    same("exited ones vanish", [p for p in envd.unary("List", {})[1].get("processes", [])
                                if p["pid"] == s.pid], [])
    after = started(envd.stream("Connect", {"process": {"pid": s.pid}})).run()
    same("Connect after the end", after.end, s.end)
    same("unknown tag", envd.stream("Connect", {"process": {"tag": "zz"}}).run().trailer,
         {"error": {"code": "not_found", "message": "process with tag zz not found"}})


def test_many_readers(envd):
    s = started(envd.bash("read go; for i in $(seq 2000); do echo line $i; done; exit 7"))
    readers = [started(envd.stream("Connect", {"process": {"pid": s.pid}})) for _ in range(5)]
    gone = started(envd.stream("Connect", {"process": {"pid": s.pid}}))
    gone.close()
    envd.unary("SendInput", {"process": {"pid": s.pid}, "input": {"stdin": "Z28K"}})
    threads = [threading.Thread(target=r.run) for r in readers]
    for t in threads:
        t.start()
    s.run()
    for t in threads:
        t.join()
    want = b"".join(b"line %d\n" % i for i in range(1, 2001))
    same("the starter sees all", bytes(s.stdout), want)
    for r in readers:
        same("so does a reader", (bytes(r.stdout), r.end), (want, s.end))


def test_client_may_leave(envd):
    with tempfile.TemporaryDirectory() as folder:
        s = started(envd.bash(f"for i in $(seq 20); do echo x; sleep 0.05; done; "
                              f"echo done > {folder}/done"))
        s.close()
        for _ in range(100):
            if os.path.exists(f"{folder}/done"):
                break
            time.sleep(0.05)
        check("the process went on", os.path.exists(f"{folder}/done"))


def test_slow_reader_holds_the_process_back(envd):
    s = started(envd.bash("yes 0123456789abcdef | head -c 40000000 | tee >(wc -c >&2) | cat"))
    time.sleep(1.5)
    with open(f"/proc/{envd.proc.pid}/status") as f:
        rss = [int(line.split()[1]) for line in f if line.startswith("VmRSS")][0]
    check("envd keeps little of it", rss < (300 << 10 if "san" in ENVD else 24 << 10), rss)
    s.run()
    same("nothing is lost", len(s.stdout), 40000000)
    same("in order", hashlib.sha256(s.stdout).digest(),
         hashlib.sha256((b"0123456789abcdef\n" * 2352942)[:40000000]).digest())


def test_keepalive(envd):
    s = envd.start("sleep", ["2.6"], headers={"Keepalive-Ping-Interval": "1"}).run()
    same("one event a second of silence", s.keepalives, 2)


def test_a_hundred_processes(envd):
    results = {}

    def one(i):
        s = envd.bash(f"echo out {i}; echo err {i} >&2; sleep 0.5; exit {i}").run()
        results[i] = (bytes(s.stdout), bytes(s.stderr), s.end.get("exitCode", 0))

    at = time.monotonic()
    threads = [threading.Thread(target=one, args=(i,)) for i in range(100)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    same("each has its own output", results, {
        i: (b"out %d\n" % i, b"err %d\n" % i, i) for i in range(100)})
    check("side by side", time.monotonic() - at < 30, time.monotonic() - at)


def test_a_thousand_connections_and_processes(envd):
    conns = [envd.connect() for _ in range(1000)]
    body = b"{}"
    for c in conns:
        c.request("POST", "/process.Process/List", body, {"Content-Type": "application/json"})
    ok = 0
    for c in conns:
        r = c.getresponse()
        r.read()
        ok += r.status == 200
    same("1,000 connections are served", ok, 1000)
    pids = []
    script = "exec sleep 60 >/dev/null 2>&1 </dev/null"
    for c in conns:
        msg = json.dumps({"process": {"cmd": "sleep", "args": ["60"]}, "stdin": True}).encode()
        c.request("POST", "/process.Process/Start", struct.pack(">BI", 0, len(msg)) + msg,
                  {"Content-Type": "application/connect+json"})
    for c in conns:
        r = c.getresponse()
        flags, size = struct.unpack(">BI", r.read(5))
        pids.append(json.loads(r.read(size))["event"]["start"]["pid"])
    same("1,000 processes at once", len(set(pids)), 1000)
    same("all are listed", len(envd.unary("List", {})[1]["processes"]) >= 1000, True)
    for c in conns:
        c.close()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for _ in range(100):
        if not envd.unary("List", {})[1]:
            break
        time.sleep(0.05)
    same("all are gone", envd.unary("List", {})[1], {})


def test_big_output(envd):
    script = ("import sys\n"
              f"n = {BIG} // 4\n"
              "import struct\n"
              "w = sys.stdout.buffer.write\n"
              "for at in range(0, n, 65536):\n"
              "    k = min(65536, n - at)\n"
              "    w(struct.pack('<%dI' % k, *range(at, at + k)))\n")
    at = time.monotonic()
    s = started(envd.start(sys.executable, ["-c", script], timeout=300))
    check("chunk size", s.biggest <= 32 << 10, s.biggest)
    s.run()
    took = time.monotonic() - at
    same("length", len(s.stdout), BIG)
    want = hashlib.sha256()
    for start in range(0, BIG // 4, 65536):
        k = min(65536, BIG // 4 - start)
        want.update(struct.pack(f"<{k}I", *range(start, start + k)))
    same("every byte", hashlib.sha256(s.stdout).hexdigest(), want.hexdigest())
    check("chunks are at most 32 KiB", s.biggest <= 32 << 10, s.biggest)
    print(f"{BIG >> 20} MiB of output in {took:.1f} s (client included)")


# ---- Binary protobuf ----

def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, data):
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(data):
    out, at = [], 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            out.append((tag >> 3, number()))
        else:
            size = number()
            out.append((tag >> 3, data[at:at + size]))
            at += size
    return out


def test_binary_protobuf(envd):
    config = field(1, b"/bin/bash") + field(2, b"-c") + field(2, b"echo $V; exit 4") + field(
        3, field(1, b"V") + field(2, b"\xc3\xa4"))
    s = Stream(envd, "Start", field(1, config) + field(4, 0), "proto", None, 30)
    events = []
    while True:
        flags, data = s.raw()
        if flags & 2:
            break
        events.append(fields(dict(fields(data))[1]))
    same("end envelope is JSON", data, b"{}")
    same("content type", s.response.getheader("content-type"), "application/connect+proto")
    same("kinds of events", [e[0][0] for e in events], [1, 2, 3])
    same("stdout", fields(events[1][0][1]), [(1, b"\xc3\xa4\n")])
    same("exit code is zigzag", dict(fields(events[2][0][1])),
         {1: 8, 2: 1, 3: b"exit status 4", 4: b"exit status 4"})
    status, headers, data = envd.request("POST", "/process.Process/List", b"",
                                         {"Content-Type": "application/proto"})
    same("unary", (status, headers["content-type"]), (200, "application/proto"))
    status, headers, data = envd.request("POST", "/process.Process/SendSignal", b"\x0a\xff",
                                         {"Content-Type": "application/proto"})
    same("bad message", (status, json.loads(data)["code"]), (400, "invalid_argument"))


# ---- Protocol ----

def test_protocol_errors(envd):
    def code(status_and_body):
        return status_and_body[0], status_and_body[1].get("code")

    same("405", envd.request("GET", "/process.Process/Update")[:1], (405,))
    same("Allow", envd.request("GET", "/process.Process/Start")[1].get("allow"), "POST")
    status, headers, _ = envd.request("POST", "/process.Process/Start", b"{}",
                                      {"Content-Type": "application/json"})
    same("unary type on a stream", status, 415)
    check("Accept-Post", "application/connect+json" in headers.get("accept-post", ""), headers)
    same("no message", code(envd.unary("List", {}, {"Connect-Protocol-Version": "2"})),
         (400, "invalid_argument"))
    status, _, data = envd.request("POST", "/process.Process/List", b"",
                                   {"Content-Type": "application/json"})
    same("empty JSON", (status, json.loads(data)["message"]),
         (400, "unmarshal message: zero-length payload is not a valid JSON object"))
    same("unknown fields are ignored", envd.unary("List", {"zzz": [1]})[0], 200)
    same("unknown compression", code(envd.unary("List", {}, {"Content-Encoding": "br"})),
         (501, "unimplemented"))
    same("identity", envd.unary("List", {}, {"Content-Encoding": "identity"})[0], 200)
    import gzip
    status, _, data = envd.request("POST", "/process.Process/List", gzip.compress(b"{}"), {
        "Content-Type": "application/json", "Content-Encoding": "gzip"})
    same("gzip", status, 200)
    same("charset", envd.unary("List", {}, {"Content-Type": "application/json; charset=utf-8"})[0],
         200)
    s = envd.stream("Start", {"process": {"cmd": 5}}).run()
    same("a stream's error is in its end", (s.response.status, s.trailer["error"]["code"]),
         (200, "invalid_argument"))
    s = envd.stream("Start", {"process": {"cmd": "true"}},
                    {"Authorization": "Basic " + base64.b64encode(b"nosuch:").decode()}).run()
    same("unknown user", s.trailer["error"],
         {"code": "unauthenticated", "message": "invalid username: 'nosuch'"})
    same("unknown user fails /health", envd.request("GET", "/health", headers={
        "Authorization": "Basic " + base64.b64encode(b"nosuch:").decode()})[0], 401)
    same("not built", code(envd.unary("CreateWatcher", {"path": "/"},
                                      path="filesystem.Filesystem"))[0] in (200, 501), True)
    same("404", envd.request("GET", "/nothing")[::2], (404, b"404 page not found\n"))


def raw(envd, data, timeout=5):
    """The answer to raw bytes, read until the connection closes or nothing comes."""
    sock = socket.create_connection(("127.0.0.1", envd.port), timeout)
    sock.sendall(data)
    sock.settimeout(1)
    out = b""
    try:
        while True:
            more = sock.recv(65536)
            if not more:
                return out, True
            out += more
    except socket.timeout:
        return out, False
    except ConnectionResetError:
        return out, True
    finally:
        sock.close()


def test_strict_heads(envd):
    h = b"Host: x\r\n"
    for what, data in (
            ("CL and TE", b"POST /init HTTP/1.1\r\n" + h +
             b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"),
            ("two Content-Length", b"POST /init HTTP/1.1\r\n" + h +
             b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
            ("two Host", b"GET /health HTTP/1.1\r\n" + h + h + b"\r\n"),
            ("no Host", b"GET /health HTTP/1.1\r\n\r\n"),
            ("obs-fold", b"GET /health HTTP/1.1\r\n" + h + b"A: b\r\n c\r\n\r\n"),
            ("bare LF", b"GET /health HTTP/1.1\r\n" + h + b"A: b\nC: d\r\n\r\n"),
            ("space before colon", b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n"),
            ("NUL", b"GET /health HTTP/1.1\r\n" + h + b"A: \0\r\n\r\n"),
            ("bad chunk", b"POST /init HTTP/1.1\r\n" + h +
             b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
            ("negative length", b"POST /init HTTP/1.1\r\n" + h + b"Content-Length: -1\r\n\r\n")):
        out, closed = raw(envd, data)
        check(f"{what}: 400 and closed", out.startswith(b"HTTP/1.1 400 ") and closed, out)
    out, closed = raw(envd, b"GET /health HTTP/1.1\r\n" + h + b"A: " + b"x" * 70000 + b"\r\n\r\n")
    check("a head above 64 KiB", out.startswith(b"HTTP/1.1 431") and closed, out[:80])
    out, closed = raw(envd, b"GET /health HTTP/1.1\r\n" + h + b"\r\n" * 1 +
                      b"GET /envs HTTP/1.1\r\n" + h + b"\r\n" + b"GET /health HTTP/1.1\r\n" + h +
                      b"Connection: close\r\n\r\n")
    same("three requests at once", (out.count(b"HTTP/1.1 204"), out.count(b"HTTP/1.1 200"), closed),
         (2, 1, True))
    out, closed = raw(envd, b"POST /nothing HTTP/1.1\r\n" + h + b"Content-Length: 5\r\n\r\nhello"
                      b"GET /health HTTP/1.1\r\n" + h + b"\r\n")
    check("an unwanted body is drained", b"404" in out and b"204" in out and not closed, out)
    out, _ = raw(envd, b"POST /process.Process/List HTTP/1.1\r\n" + h + b"Expect: 100-continue\r\n"
                 b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    check("100 Continue", out.startswith(b"HTTP/1.1 100 ") and b"200 OK" in out, out)
    out, closed = raw(envd, b"GET /health HTTP/1.0\r\n\r\n")
    check("HTTP/1.0", out.startswith(b"HTTP/1.1 204") and closed, out)
    big = b"POST /process.Process/List HTTP/1.1\r\n" + h + b"Content-Type: application/json\r\n" \
        b"Content-Length: 9000000\r\n\r\n"
    out, _ = raw(envd, big)
    check("a message above the limit", b"resource_exhausted" in out, out)


def test_cors(envd):
    status, headers, _ = envd.request("OPTIONS", "/process.Process/Start", headers={
        "Origin": "http://a", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-access-token"})
    same("preflight", (status, headers.get("access-control-allow-origin"),
                       headers.get("access-control-allow-methods"),
                       headers.get("access-control-allow-headers"),
                       headers.get("access-control-max-age")),
         (204, "*", "POST", "content-type,x-access-token", "7200"))
    status, headers, _ = envd.request("GET", "/health", headers={"Origin": "http://a"})
    same("allow-origin", headers.get("access-control-allow-origin"), "*")
    check("expose-headers", "Grpc-Status" in headers.get("access-control-expose-headers", ""))
    same("vary", envd.request("GET", "/health")[1].get("vary"), "Origin")


def test_stats(envd):
    def stats():
        return json.loads(envd.request("GET", "/stats")[2])

    before = stats()
    s = started(envd.stream("Start", {"process": {"cmd": "sleep", "args": ["30"]}}))
    watcher = envd.unary("CreateWatcher", {"path": "/usr"}, path="filesystem.Filesystem")[1]
    now = stats()
    same("a process, its connection and a watch count",
         [now[k] - before[k] for k in ("processesRunning", "connections", "watches")], [1, 1, 1])
    check("time passes", now["uptimeMs"] >= before["uptimeMs"])
    check("memory is counted", 0 < now["privateBytes"] < 1 << 30, now)
    envd.unary("RemoveWatcher", watcher, path="filesystem.Filesystem")
    envd.unary("SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGKILL"})
    s.run()
    now = stats()
    same("an ended process is kept, its watch gone",
         (now["processesRunning"], now["watches"]), (before["processesRunning"], before["watches"]))
    check("kept", now["processesKept"] >= 1)


MEMORY = """
import mmap, time
m = mmap.mmap(-1, 32 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(0, len(m), 4096):
    m[i] = 1
print("full", flush=True)
time.sleep(60)
"""


def test_collapse(envd):
    """Where this machine lets us; else the reason is in the answer."""
    s = started(envd.stream("Start", {"process": {"cmd": sys.executable, "args": ["-c", MEMORY]}}))
    with open(f"/proc/{s.pid}/smaps_rollup") as f:
        before = f.read()
    time.sleep(1)
    status, _, data = envd.request("POST", "/collapse")
    answer = json.loads(data)
    if status == 501:
        check("it says why not", "CAP_SYS_NICE" in answer["message"] or
              "process_madvise" in answer["message"], answer)
    else:
        same("status", status, 200)
        check("it was looked at", answer["regions"] >= 1 and answer["chunks"] >= 15, answer)
        same("all chunks are told of", answer["chunks"],
             answer["collapsed"] + answer["alreadyHuge"] + answer["skipped"])
        with open(f"/proc/{s.pid}/smaps_rollup") as f:
            after = f.read()
        same("huge pages are what it says", huge_kib(after) - huge_kib(before) >= 2048,
             answer["collapsed"] > 0)
    envd.unary("SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGKILL"})
    s.run()


def huge_kib(rollup):
    return [int(line.split()[1]) for line in rollup.splitlines()
            if line.startswith("AnonHugePages")][0]


def test_init(envd):
    def init(message):
        return envd.request("POST", "/init", json.dumps(message).encode())

    status, headers, data = init({"envVars": {"FOO": "bar"}, "defaultUser": "nobody",
                                  "defaultWorkdir": "/usr", "timestamp": "2030-01-01T00:00:00Z"})
    same("init", (status, headers.get("x-envd-version"), data), (204, "0.6.13", b""))
    s = envd.bash("id -un; pwd; echo $FOO").run()
    same("defaults", s.stdout.decode().split(), ["nobody", "/usr", "bar"])
    same("envs", json.loads(envd.request("GET", "/envs")[2]), {"FOO": "bar", "E2B_SANDBOX": "true"})
    same("an older one changes nothing", init({"timestamp": "2029-01-01T00:00:00Z",
                                               "envVars": {"FOO": "old"}})[0], 204)
    same("still", json.loads(envd.request("GET", "/envs")[2])["FOO"], "bar")
    for bad in ({"volumeMounts": [{"path": "/x"}]}, {"volumeMounts": ["/x"]}, {"caBundle": "x"},
                {"caBundle": 1}, {"hyperloopIP": "x y"}, {"envVars": {"A=B": "c"}},
                {"accessToken": ""}, {"accessToken": "a\\b"}, {"envVars": {"A": 1}},
                {"timestamp": "yesterday"}):
        same(f"refused: {bad}", init(bad)[0], 400)
    same("an internal variable cannot be taken over",
         (init({"envVars": {"E2B_SANDBOX": "no"}})[0],
          json.loads(envd.request("GET", "/envs")[2])), (204, {"E2B_SANDBOX": "true"}))
    init({"defaultUser": "ghost"})
    s = envd.start("true").run()
    same("unknown default user", s.trailer["error"],
         {"code": "unauthenticated", "message": "invalid default user: 'ghost'"})


# ---- Tokens ----

KEY = bytes(range(32))
REFUSED = ("unauthorized access, please provide a valid access token or method signing if "
           "supported")


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def jwt(key=KEY, alg="HS256", **claims):
    claims = {"sub": "sbx1", "iat": int(time.time()), "exp": int(time.time()) + 60, **claims}
    claims = {k: v for k, v in claims.items() if v is not None}
    head = b64url(json.dumps({"alg": alg, "typ": "JWT"}).encode())
    text = head + b"." + b64url(json.dumps(claims).encode())
    return (text + b"." + b64url(hmac.new(key, text, hashlib.sha256).digest())).decode()


def statuses(envd, headers):
    rpc = envd.unary("List", {}, headers)[0]
    return (envd.request("GET", "/health", headers=headers)[0],
            envd.request("GET", "/envs", headers=headers)[0], rpc)


def test_jwt(envd_unused):
    envd = Envd(config={"jwtKey": KEY.hex(), "sandboxID": "sbx1", "templateID": "tpl",
                        "envVars": {"A": "b"}})
    bearer = {"Authorization": "Bearer " + jwt()}
    same("without", statuses(envd, {}), (204, 200, 401))
    same("with", statuses(envd, bearer), (204, 200, 200))
    status, body = envd.unary("List", {})
    same("words", (status, body), (401, {"code": 401, "message": REFUSED}))
    for what, token in (("expired", jwt(exp=int(time.time()) - 60)), ("no expiry", jwt(exp=None)),
                        ("another sandbox", jwt(sub="sbx2")), ("another key", jwt(bytes(32))),
                        ("alg none", jwt(alg="none")), ("alg HS512", jwt(alg="HS512")),
                        ("cut", jwt()[:-2]), ("garbage", "abc"), ("not yet", jwt(nbf=1 << 40))):
        same(f"JWT {what}", statuses(envd, {"Authorization": "Bearer " + token}), (401, 401, 401))
    same("Basic alone", envd.unary("List", {}, {"Authorization": BASIC_USER})[0], 401)
    s = envd.bash("id -un; echo $E2B_SANDBOX_ID $E2B_TEMPLATE_ID $A", cwd="/",
                  headers={"Authorization": "Bearer " + jwt(user="nobody")}).run()
    same("the claim names the user", s.stdout.decode().split(), ["nobody", "sbx1", "tpl", "b"])
    s = envd.start("true", headers={"Authorization": "Bearer " + jwt(user="ghost")}).run()
    same("unknown user in it", s.trailer["error"]["message"], "invalid username: 'ghost'")
    same("init from inside", envd.request("POST", "/init", b"{}")[0], 401)
    same("init by the platform", envd.request("POST", "/init", b"{}", bearer)[0], 204)
    log = "".join(envd.log)
    check("no secret in the log", KEY.hex() not in log and jwt()[:40] not in log)
    envd.stop()


def test_access_token(envd_unused):
    envd = Envd(config={"jwtKey": KEY.hex(), "sandboxID": "sbx1", "accessToken": "secret-1"})
    token = {"X-Access-Token": "secret-1"}
    bearer = {"Authorization": "Bearer " + jwt()}
    same("nothing", statuses(envd, {}), (204, 401, 401))
    same("token", statuses(envd, token), (204, 200, 200))
    same("a JWT does not replace it", statuses(envd, bearer), (204, 401, 401))
    same("wrong token", statuses(envd, {"X-Access-Token": "secret-2"}), (204, 401, 401))
    same("both", statuses(envd, {**token, **bearer}), (204, 200, 200))
    same("a bad JWT with the token", statuses(envd, {**token, "Authorization": "Bearer x"}),
         (401, 401, 401))
    s = envd.bash("id -un", cwd="/", headers={**token, "Authorization": BASIC_USER}).run()
    same("Basic names the user", bytes(s.stdout), b"nobody\n")
    envd.stop()
    envd = Envd()
    same("first init is open", envd.request("POST", "/init", b'{"accessToken":"t1"}')[0], 204)
    same("then guarded", envd.unary("List", {})[0], 401)
    same("init with it", envd.request("POST", "/init", b'{"accessToken":"t1"}')[0], 204)
    status, _, text = envd.request("POST", "/init", b'{"accessToken":"t2"}')
    same("another token", (status, text), (401, b"access token validation failed"))
    status, _, text = envd.request("POST", "/init", b"{}")
    same("clearing", (status, text), (401, b"access token reset not authorized"))
    envd.stop()


def test_latency(envd):
    conn = envd.connect()
    msg = json.dumps({"process": {"cmd": "/bin/true"}, "stdin": False}).encode()
    times = []
    for _ in range(300):
        at = time.perf_counter()
        conn.request("POST", "/process.Process/Start", struct.pack(">BI", 0, len(msg)) + msg,
                     {"Content-Type": "application/connect+json"})
        data = conn.getresponse().read()
        times.append(time.perf_counter() - at)
    check("the connection stays", b"exit status 0" in data, data)
    times.sort()
    print(f"exec of true on a warm connection: p50 {times[150] * 1e3:.2f} ms, "
          f"p99 {times[296] * 1e3:.2f} ms")


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    envd = Envd("--insecure")
    tests = [(name, fn) for name, fn in globals().items()
             if name.startswith("test_") and only in name]
    tests.sort(key=lambda t: t[0] == "test_init")  # it changes the defaults
    for name, fn in tests:
        try:
            fn(envd)
        except Exception:
            check(name, False)
            traceback.print_exc()
            if envd.proc.poll() is not None:
                print("".join(envd.log[-80:]))
                break
    envd.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
