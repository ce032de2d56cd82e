#!/usr/bin/env python3
"""POST /upgrade: another envd takes over while everything is in use; nothing is lost or doubled.

$OUT/envd and $OUT/tests/integration/envd_next (the same but for its version) replace each other;
$OUT/tests/integration/envd_bad is refused. Prints one line per failed check and
`N passed, N failed` at its end.
"""
import base64
import hashlib
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import envd_test as et  # noqa: E402
from envd_test import Envd, Stream, check, field, fields, same, started  # noqa: E402

OUT = os.environ.get("OUT") or os.environ.get("SANDPIT_OUT") or "build/release"
THIS = open(os.path.join(OUT, "envd"), "rb").read()
NEXT = open(os.path.join(OUT, "tests/integration/envd_next"), "rb").read()
BAD = open(os.path.join(OUT, "tests/integration/envd_bad"), "rb").read()
SANITIZED = b"__asan_init" in THIS or b"__tsan_init" in THIS
UPGRADES = int(os.environ.get("ENVD_UPGRADES", "4" if SANITIZED else "20"))
INPUT_MIB = 8 if SANITIZED else 100


def upgrade(envd, program, headers=None):
    return envd.request("POST", "/upgrade", program, headers)


def told(headers):
    return json.loads(headers.get("x-envd-handover", "{}"))


def running(**options):
    envd = Envd("--insecure", **options)
    same("/init", envd.request("POST", "/init", b"{}")[0], 204)
    return envd


class Background(threading.Thread):
    """A thread whose failure counts."""

    def __init__(self, what, fn, *args):
        super().__init__(daemon=True)
        self.what, self.fn, self.args = what, fn, args
        self.start()

    def run(self):
        try:
            self.fn(*self.args)
        except Exception as e:  # pylint: disable=broad-except
            check(f"{self.what} goes on", False, f"{e!r} {traceback.format_exc()}")

    def done(self, timeout=120):
        self.join(timeout)
        check(f"{self.what} ends", not self.is_alive())


# ---- Refusals ----

def test_refusals():
    envd = Envd("--insecure")
    same("before the first /init", upgrade(envd, NEXT)[::2],
         (409, b'{"code":409,"message":"envd not initialized"}\n'))
    envd.request("POST", "/init", b"{}")
    s = started(envd.bash("for i in $(seq 1 1000); do echo $i; sleep 0.01; done"))
    cases = {
        "nothing": b"",
        "a script": b"#!/bin/sh\necho envd-handover 1 1 1\n",
        "garbage": os.urandom(5000),
        "only ELF's first bytes": b"\x7fELF",
        "a cut program": NEXT[:200000],
        "a cut header": NEXT[:60],
        "a program for another machine": NEXT[:18] + b"\xf3\x00" + NEXT[20:],
        "an envd without upgrades": BAD + b"U",
        "an envd of other formats": BAD + b"N",
        "one that crashes at once": BAD + b"X",
        "one that crashes when it reads": BAD + b"C",
        "one that says no": BAD + b"W",
        "one that says nothing": BAD + b"S",
        "one that says too much": BAD + b"B",
        "one that never ends": BAD + b"H",
    }
    for what, program in cases.items():
        begun = time.monotonic()
        status, headers, body = upgrade(envd, program)
        check(f"{what} is refused with a reason", status == 400 and len(json.loads(body)["message"]) > 10,
              (status, body))
        check(f"{what} is refused in time", time.monotonic() - begun < 12)
        same(f"after {what} envd is there", envd.request("GET", "/health")[0], 204)
        if what == "one that says no":
            same("its words are text", json.loads(body)["message"],
                 "the new envd cannot take over: no state  [1mof mine")
        if what == "an envd without upgrades":
            check("its words are told", "unrecognized option '--handover-format'" in body.decode(), body)
    first = Background("an upgrade that takes its time", lambda: same(
        "a slow one is refused for itself", upgrade(envd, BAD + b"T")[0], 400))
    time.sleep(0.5)
    same("one at a time", upgrade(envd, NEXT)[0], 409)
    same("meanwhile files are served",
         envd.unary("Stat", {"path": "/etc/passwd"}, path="filesystem.Filesystem")[0], 200)
    first.done()
    same("the process has not noticed", s.run().end, {"exited": True, "status": "exit status 0"})
    same("nor its output", bytes(s.stdout), b"".join(b"%d\n" % i for i in range(1, 1001)))
    same("GET is not allowed", envd.request("GET", "/upgrade")[0], 405)
    same("at last a good one", upgrade(envd, NEXT)[0], 204)
    envd.stop()


def test_idle_timeout():
    """--idle-timeout holds for a connection that is made after the upgrade too."""
    envd = Envd("--insecure", "--idle-timeout", "1")
    same("/init", envd.request("POST", "/init", b"{}")[0], 204)
    same("upgrade", upgrade(envd, NEXT)[0], 204)
    conn = envd.connect(30)
    conn.sock.sendall(b"POST /init HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    try:
        while conn.sock.recv(4096):
            pass
        cut = True
    except ConnectionResetError:
        cut = True
    except TimeoutError:
        cut = False
    same("a body that stands still is cut off", cut, True)
    conn.close()
    envd.stop()


def test_who_may():
    config = {"jwtKey": et.KEY.hex(), "sandboxID": "sbx1", "templateID": "tpl", "accessToken": "tok",
              "envVars": {"A": "b"}, "defaultUser": "nobody", "defaultWorkdir": "/tmp"}
    envd = Envd(config=config)
    user = {"Authorization": "Bearer " + et.jwt(), "X-Access-Token": "tok"}
    platform = {"Authorization": "Bearer " + et.jwt(platform=True)}
    for what, headers in (("nobody", {}), ("a client with a token", {"X-Access-Token": "tok"}),
                          ("a client through the proxy", user)):
        same(f"{what} may not", upgrade(envd, NEXT, headers)[0], 401)
    status, headers, _ = upgrade(envd, NEXT, platform)
    same("the platform may", (status, headers.get("x-envd-version")), (204, "0.6.99"))
    same("the settings are kept", json.loads(envd.request("GET", "/envs", headers=user)[2]), {
        "A": "b", "E2B_SANDBOX": "true", "E2B_SANDBOX_ID": "sbx1", "E2B_TEMPLATE_ID": "tpl"})
    same("the token, too", envd.unary("List", {}, {"X-Access-Token": "other"})[0], 401)
    same("and who may upgrade", upgrade(envd, THIS, user)[0], 401)
    s = envd.start("/bin/sh", ["-c", "id -un; pwd; ulimit -n"], headers=user).run()
    first = bytes(s.stdout)
    same("user and folder", first.split()[:2], [b"nobody", b"/tmp"])
    same("once more", upgrade(envd, THIS, platform)[0], 204)
    s = envd.start("/bin/sh", ["-c", "id -un; pwd; ulimit -n"], headers=user).run()
    same("limits of processes do not change", bytes(s.stdout), first)
    envd.stop()


# ---- Under load ----

def numbered(envd, end, codec):
    """Every line of a process that writes all the time, as the client gets it."""
    script = f"for k in $(seq 0 {end - 1}); do seq $((k * 50000 + 1)) $((k * 50000 + 50000)); sleep 0.1; done; exit 7"
    want = hashlib.sha256()
    for i in range(1, end * 50000 + 1):
        want.update(b"%d\n" % i)
    got = hashlib.sha256()
    if codec == "json":
        s = envd.bash(script)
        event = {}
        while event is not None:
            event = s.next()
            got.update(s.stdout)
            s.stdout.clear()
        code = s.end["exitCode"]
    else:
        config = field(1, b"/bin/bash") + field(2, b"-c") + field(2, script.encode())
        s = Stream(envd, "Start", field(1, config), "proto", None, 60)
        kinds = []
        while True:
            flags, data = s.raw()
            if flags & 2:
                break
            kind, value = fields(dict(fields(data))[1])[0]
            kinds.append(kind)
            if kind == 2:
                got.update(dict(fields(value))[1])
            elif kind == 3:
                code = dict(fields(value))[1] >> 1
        same("events in order", (kinds[0], kinds[-1], kinds.count(1), kinds.count(3)), (1, 3, 1, 1))
    same(f"every line of {codec}", got.hexdigest(), want.hexdigest())
    same(f"exit code of {codec}", code, 7)


def slow_reader(envd, stop):
    """It takes little at a time: the process is held back, nothing is lost."""
    s = envd.bash("yes 0123456789abcde | head -c 20000000")
    total = hashlib.sha256()
    count = 0
    while True:
        event = s.next()
        if event is None:
            break
        count += len(s.stdout)
        total.update(s.stdout)
        s.stdout.clear()
        if not stop.is_set():
            time.sleep(0.02)
    want = hashlib.sha256(b"0123456789abcde\n" * (20000000 // 16))
    same("what a slow reader gets", (count, total.hexdigest()), (20000000, want.hexdigest()))


def terminal(envd, stop):
    s = started(envd.start("/bin/bash", ["--norc", "-i"], pty={"size": {"cols": 80, "rows": 24}},
                           envs={"PS1": "", "TERM": "dumb"}))
    say = lambda text: same("SendInput to a terminal", envd.unary("SendInput", {
        "process": {"pid": s.pid}, "input": {"pty": base64.b64encode(text).decode()}})[0], 200)
    say(b"stty -echo\n")
    at = 0
    while not stop.is_set():
        at += 1
        say(b"echo mark-$((%d + 0))-\n" % at)
        s.until(lambda e, n=at: b"mark-%d-" % n in s.pty)
    say(b"exit 9\n")
    s.run()
    marks = [int(m.split(b"-")[0]) for m in bytes(s.pty).split(b"\nmark-")[1:]]
    same("each answer of a terminal once, in order", [m for m in marks if m > 1],
         list(range(2, at + 1)))
    same("a shell's exit", s.end["exitCode"], 9)


def streamed_input(envd, mib):
    s = started(envd.start("sha256sum", stdin=True))
    rest = Background("sha256sum's stream", s.run)
    block = os.urandom(1 << 20)
    want = hashlib.sha256()
    sock = socket.create_connection(("127.0.0.1", envd.port), 60)
    sock.sendall(b"POST /process.Process/StreamInput HTTP/1.1\r\nHost: x\r\n"
                 b"Content-Type: application/connect+proto\r\nTransfer-Encoding: chunked\r\n\r\n")

    def send(message):
        data = struct.pack(">BI", 0, len(message)) + message
        for at in range(0, len(data), 77777):
            part = data[at:at + 77777]
            sock.sendall(b"%x\r\n" % len(part) + part + b"\r\n")
    send(field(1, field(1, field(1, s.pid))))
    for i in range(mib):
        data = bytes([i & 255]) + block[1:]
        want.update(data)
        send(field(2, field(2, field(1, data))))
    sock.sendall(b"0\r\n\r\n")
    reply = b""
    while b"0\r\n\r\n" not in reply and (more := sock.recv(65536)):
        reply += more
    sock.close()
    check("StreamInput ends well", b"200 OK" in reply and b"error" not in reply, reply)
    same("CloseStdin", envd.unary("CloseStdin", {"process": {"pid": s.pid}})[0], 200)
    rest.done()
    same(f"{mib} MiB streamed in", s.stdout.decode().split()[0], want.hexdigest())


def large_inputs(envd, stop):
    """SendInput into a pipe that is full for a while: the answer comes when all is written."""
    rounds = 0
    while not stop.is_set():
        rounds += 1
        s = started(envd.bash("sleep 0.4; sha256sum; exit 3", stdin=True))
        data = os.urandom(300000)
        same("a SendInput that has to wait", envd.unary("SendInput", {
            "process": {"pid": s.pid}, "input": {"stdin": base64.b64encode(data).decode()}})[0], 200)
        envd.unary("CloseStdin", {"process": {"pid": s.pid}})
        s.run()
        same("what it wrote", (s.stdout.decode().split()[0], s.end["exitCode"]),
             (hashlib.sha256(data).hexdigest(), 3))
    check("inputs were sent", rounds > 0)


def short_commands(envd, stop):
    at = 0
    while not stop.is_set():
        at += 1
        s = envd.bash(f"echo {at}; exit {at % 100}").run()
        same("a short command", (bytes(s.stdout), s.end["exitCode"] if at % 100 else 0),
             (b"%d\n" % at, at % 100))
    check("commands ran", at > 0)


def file_calls(envd, stop, folder):
    """On one kept connection, one after the other: each is answered, and done once."""
    conn = envd.connect()
    at = 0
    while not stop.is_set():
        at += 1
        for method, want in (("MakeDir", 200), ("MakeDir", 409), ("Stat", 200), ("Remove", 200)):
            conn.request("POST", f"/filesystem.Filesystem/{method}",
                         json.dumps({"path": f"{folder}/dir-{at}"}),
                         {"Content-Type": "application/json"})
            r = conn.getresponse()
            data = r.read()
            if r.status != want:
                same(f"{method} {at}", (r.status, data), want)
    check("file calls were made", at > 0)


def uploads(envd, stop, folder):
    at = 0
    while not stop.is_set():
        at += 1
        data = os.urandom(1 << 20)
        path = f"{folder}/upload-{at % 3}"
        sock = socket.create_connection(("127.0.0.1", envd.port), 60)
        sock.sendall(b"POST /files?path=%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                     b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
                     % (path.encode(), len(data)))
        for part in range(0, len(data), 1 << 17):
            sock.sendall(data[part:part + (1 << 17)])
            time.sleep(0.03)
        reply = b""
        while more := sock.recv(65536):
            reply += more
        same("an upload", (reply[:15], open(path, "rb").read() == data), (b"HTTP/1.1 200 OK", True))
    check("uploads were made", at > 0)


def pings(envd, stop, waits):
    conn = envd.connect()
    while not stop.is_set():
        begun = time.monotonic()
        conn.request("GET", "/health")
        r = conn.getresponse()
        r.read()
        waits.append((time.monotonic() - begun) * 1000)
        if r.status != 204:
            same("/health", r.status, 204)
        time.sleep(0.001)


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


def test_under_load():
    envd = running()
    stop = threading.Event()
    waits = []
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        idle = [envd.connect() for _ in range(20)]
        for conn in idle:
            conn.request("GET", "/health")
            conn.getresponse().read()
        work = [
            Background("a writer in JSON", numbered, envd, 20, "json"),
            Background("a writer in protobuf", numbered, envd, 20, "proto"),
            Background("a slow reader", slow_reader, envd, stop),
            Background("a terminal", terminal, envd, stop),
            Background("a streamed input", streamed_input, envd, INPUT_MIB),
            Background("large inputs", large_inputs, envd, stop),
            Background("short commands", short_commands, envd, stop),
            Background("file calls", file_calls, envd, stop, folder),
            Background("uploads", uploads, envd, stop, folder),
            Background("pings", pings, envd, stop, waits),
        ]
        time.sleep(0.3)
        took = []
        for i in range(UPGRADES):
            begun = time.monotonic()
            status, headers, body = upgrade(envd, NEXT if i % 2 == 0 else THIS)
            took.append(time.monotonic() - begun)
            same(f"upgrade {i} under load", (status, headers.get("x-envd-version")),
                 (204, "0.6.99" if i % 2 == 0 else "0.6.13"))
            check("all was taken over", told(headers).get("failed") is False, (headers, body))
            time.sleep(0.15)
        stop.set()
        for one in work:
            one.done()
        for conn in idle:
            conn.request("GET", "/health")
            same("an idle connection is of use", conn.getresponse().status, 204)
    waits.sort()
    print(f"{UPGRADES} upgrades under load: {sum(took) / len(took) * 1000:.0f} ms each with the wait "
          f"for transfers; /health p50 {waits[len(waits) // 2]:.1f} ms, worst {waits[-1]:.1f} ms")
    envd.stop()


# ---- One thing at a time ----

def test_requests_in_halves():
    envd = running()
    socks = {}

    def half(name, data):
        socks[name] = socket.create_connection(("127.0.0.1", envd.port), 30)
        socks[name].sendall(data)

    def rest(name, data, want):
        socks[name].sendall(data)
        reply = b""
        while want not in reply and (more := socks[name].recv(65536)):
            reply += more
        check(f"{name} is answered", reply.startswith(b"HTTP/1.1 20") and want in reply, reply)
        return reply

    body = json.dumps({"path": "/etc/passwd"}).encode()
    half("half a head", b"GET /hea")
    half("half a body", b"POST /filesystem.Filesystem/Stat HTTP/1.1\r\nHost: x\r\nContent-Type: "
         b"application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:9])
    half("half a chunk", b"POST /filesystem.Filesystem/Stat HTTP/1.1\r\nHost: x\r\nContent-Type: "
         b"application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body[:9])
    half("a body that is asked for", b"POST /init HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
         b"Content-Length: 2\r\n\r\n")
    same("100 Continue", socks["a body that is asked for"].recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
    half("a refused body", b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n12345")
    check("a refusal comes first", socks["a refused body"].recv(1000).startswith(b"HTTP/1.1 404"))
    s = started(envd.start("cat", stdin=True))
    half("half an input stream", b"POST /process.Process/StreamInput HTTP/1.1\r\nHost: x\r\n"
         b"Content-Type: application/connect+json\r\nTransfer-Encoding: chunked\r\n\r\n")
    stream = et.envelope({"start": {"process": {"pid": s.pid}}}) + et.envelope(
        {"data": {"input": {"stdin": base64.b64encode(b"first ").decode()}}}) + et.envelope(
        {"data": {"input": {"stdin": base64.b64encode(b"second").decode()}}})
    cut = len(stream) - 20
    socks["half an input stream"].sendall(et.chunk(stream[:cut])[:-30])
    time.sleep(0.2)
    status, headers, _ = upgrade(envd, NEXT)
    same("upgrade", (status, told(headers).get("failed")), (204, False))
    rest("half a head", b"lth HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n")
    rest("half a body", body[9:], b'"/etc/passwd"')
    rest("half a chunk", body[9:] + b"\r\n0\r\n\r\n", b'"/etc/passwd"')
    rest("a body that is asked for", b"{}", b"204 No Content")
    rest("a refused body", b"x" * 49995 + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"204 No Content")
    socks["half an input stream"].sendall(et.chunk(stream[:cut])[-30:])
    rest("half an input stream", et.chunk(stream[cut:]) + b"0\r\n\r\n", b"0\r\n\r\n")
    envd.unary("CloseStdin", {"process": {"pid": s.pid}})
    same("what came in halves", bytes(s.run().stdout), b"first second")
    for sock in socks.values():
        sock.close()
    envd.stop()


def test_processes():
    envd = running()
    timed = started(envd.bash("echo on; sleep 60", headers={"Connect-Timeout-Ms": "1500"}))
    begun = time.monotonic()
    ended = envd.bash("echo kept; exit 5").run()
    tagged = started(envd.bash("echo one; read x; echo two $x; exit 6", tag="mine", stdin=True))
    tagged.until(lambda e: tagged.stdout)
    waiting = started(envd.bash("sleep 0.3; exit 4"))
    orphans = started(envd.bash("(sleep 0.2; echo late) & exit 0"))
    silent = envd.stream("Connect", {"process": {"tag": "mine"}}, {"Keepalive-Ping-Interval": "1"})
    started(silent)
    gone = started(envd.bash("seq 1 30000; read x", stdin=True, tag="gone"))
    gone.until(lambda e: gone.stdout.endswith(b"30000\n"))
    gone.close()
    for program in (NEXT, THIS, NEXT):
        status, headers, _ = upgrade(envd, program)
        same("upgrade", (status, told(headers).get("failed")), (204, False))
    same("processes", (told(headers)["procs"] >= 3, told(headers)["retained"] >= 1), (True, True))
    again = envd.stream("Connect", {"process": {"pid": ended.pid}}).run()
    same("one that had ended is still known", again.end["exitCode"], 5)
    again = envd.stream("Connect", {"process": {"pid": ended.pid}},
                        {"Sandpit-Replay-From": "earliest"}).run()
    same("and what it wrote", bytes(again.stdout), b"kept\n")
    again = envd.stream("Connect", {"process": {"tag": "gone"}}, {"Sandpit-Replay-From": "stdout=6"})
    started(again)
    again.until(lambda e: again.stdout.endswith(b"30000\n"))
    same("output at its offsets", bytes(again.stdout),
         b"".join(b"%d\n" % i for i in range(1, 30001))[6:])
    envd.unary("SendInput", {"process": {"tag": "gone"},
                             "input": {"stdin": base64.b64encode(b"\n").decode()}})
    same("and its end", again.run().end["exited"], True)
    same("a child that ended meanwhile", waiting.run().end["exitCode"], 4)
    same("a grandchild's output", bytes(orphans.run().stdout), b"late\n")
    silent.until(lambda e: "keepalive" in e)
    same("keep-alives go on", silent.keepalives, 1)
    second = started(envd.stream("Connect", {"process": {"tag": "mine"}}))
    envd.unary("SendInput", {"process": {"tag": "mine"},
                             "input": {"stdin": base64.b64encode(b"three\n").decode()}})
    for reader, want in ((tagged, b"one\ntwo three\n"), (silent, b"two three\n"), (second, b"two three\n")):
        reader.run()
        same("each reader of one process", (bytes(reader.stdout), reader.end["exitCode"]), (want, 6))
    timed.run()
    same("a deadline", (timed.trailer.get("error", {}).get("code"), timed.end),
         ("deadline_exceeded", None))
    check("in its time", 1.2 < time.monotonic() - begun < 4, time.monotonic() - begun)
    listed = envd.unary("List", {})[1].get("processes", [])
    same("nothing is left", listed, [])
    envd.stop()


def test_a_hold_and_numbered_input():
    def send(offset, data):
        return envd.unary("SendInput", {"process": {"pid": s.pid}, "input": {
            "stdin": base64.b64encode(data).decode()}}, {"Sandpit-Input-Offset": str(offset)})[0]

    envd = running()
    s = started(envd.start("/bin/bash", ["-c", "read a; read b; echo $a $b >&2; seq 1000000"],
                           {"Sandpit-Hold": "60"}))
    same("one line", send(0, b"one\n"), 200)
    same("upgrade", upgrade(envd, NEXT)[0], 204)
    same("the same again, and more", send(0, b"one\ntwo\n"), 200)
    while len(s.stdout) < 500000:
        s.next()
    same("acknowledged", envd.unary("Update", {"process": {"pid": s.pid}},
                                    {"Sandpit-Acknowledge": "stdout=400000"})[0], 200)
    got = bytes(s.stdout[:400000])
    s.close()
    same("upgrade with nobody there", upgrade(envd, THIS)[0], 204)
    time.sleep(0.3)
    s = started(Stream(envd, "Connect", json.dumps({"process": {"pid": s.pid}}).encode(), "json",
                       {"Sandpit-Replay-From": "stdout=400000, stderr=0", "Sandpit-Hold": "60"}, 60))
    while s.next() is not None:
        if len(s.stdout) > 200000:
            got += s.stdout
            s.stdout.clear()
            envd.unary("Update", {"process": {"pid": s.pid}},
                       {"Sandpit-Acknowledge": f"stdout={len(got)}"})
    check("every byte", got + s.stdout == b"".join(b"%d\n" % i for i in range(1, 1000001)), len(got))
    same("input once", bytes(s.stderr), b"one two\n")
    envd.stop()


class Watch(Stream):
    """WatchDir: the events of a stream."""

    def __init__(self, envd, path):
        self.conn = envd.connect(60)
        self.conn.request("POST", "/filesystem.Filesystem/WatchDir", et.envelope(
            {"path": path, "recursive": True}), {"Content-Type": "application/connect+json"})
        self.response = self.conn.getresponse()
        self.events = []
        flags, data = self.raw()
        same("the watch begins", (flags, json.loads(data)), (0, {"start": {}}))

    def until_name(self, name):
        while not self.events or self.events[-1]["name"] != name:
            flags, data = self.raw()
            if flags & 2:
                raise EOFError(f"the watch ends: {data}")
            if "filesystem" in (message := json.loads(data)):
                self.events.append(message["filesystem"])


def storm(folder, stop, made):
    """Folders and files in them, at once and later, some renamed."""
    at = 0
    while not stop.is_set():
        at += 1
        os.mkdir(f"{folder}/d{at}")
        for i in range(5):
            with open(f"{folder}/d{at}/f{i}", "w", encoding="ascii"):
                pass
        made += [f"d{at}"] + [f"d{at}/f{i}" for i in range(5)]
        if at % 7 == 0:
            os.rename(f"{folder}/d{at}", f"{folder}/e{at}")
            with open(f"{folder}/e{at}/g", "w", encoding="ascii"):
                pass
            made += [f"e{at}", f"e{at}/g"]
        if at > 5:
            name = f"{'de'[(at - 5) % 7 == 0]}{at - 5}/late"
            os.mkdir(f"{folder}/{name}")
            made.append(name)
        time.sleep(0.001)


def created(names):
    """How often each. What lies in a folder that is renamed is told below the name it has then."""
    return Counter("d" + name[1:] for name in names)


def told_of(events):
    return created(e["name"] for e in events
                   if e["type"] == "EVENT_TYPE_CREATE" and e["name"] != "last")


def test_watches():
    envd = running()
    call = lambda method, message: envd.unary(method, message, path="filesystem.Filesystem")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        os.makedirs(f"{folder}/deep/er")
        stream, stop, made = Watch(envd, folder), threading.Event(), []
        idle = Watch(envd, f"{folder}/deep")
        polled = call("CreateWatcher", {"path": folder, "recursive": True})[1]["watcherId"]
        reading = Background("a watch", stream.until_name, "last")
        work = Background("a storm", storm, folder, stop, made)
        events = []
        for i in range(UPGRADES):
            status, headers, body = upgrade(envd, NEXT if i % 2 == 0 else THIS)
            same("an upgrade in a storm", (status, told(headers).get("watchers"), told(headers).get("failed")),
                 (204, 3, False))
            if i % 3 == 0:
                events += call("GetWatcherEvents", {"watcherId": polled})[1].get("events", [])
            time.sleep(0.1)
        stop.set()
        work.done()
        with open(f"{folder}/last", "w", encoding="ascii"):
            pass
        reading.done()
        for _ in range(200):
            events += call("GetWatcherEvents", {"watcherId": polled})[1].get("events", [])
            if any(e["name"] == "last" for e in events):
                break
            time.sleep(0.05)
        check("much has happened", len(made) > 20 * UPGRADES, len(made))
        for what, told_events in (("a stream", stream.events), ("a polled watcher", events)):
            got, want = told_of(told_events), created(made)
            same(f"{what} misses nothing", want - got, Counter())
            missed = {name.split("/")[0][1:] for name in want - got}
            for number, event in enumerate(told_events):
                if event["name"].split("/")[0][1:] in missed:
                    print("what it was told:", number, event["type"], event["name"])
            same(f"{what} tells nothing twice", got - want, Counter())
        with open(f"{folder}/deep/er/x", "w", encoding="ascii"):
            pass
        idle.until_name("er/x")
        same("a watch where nothing happened", [e["name"] for e in idle.events][:1], ["er/x"])
        same("a polled one can be removed", call("RemoveWatcher", {"watcherId": polled})[0], 200)
        idle.close()
        stream.close()
        time.sleep(0.2)
        status, headers, _ = upgrade(envd, NEXT)
        same("no watch is left", told(headers).get("watchers"), 0)
    envd.stop()


def test_stays_small():
    envd = running()
    s = started(envd.start("cat", stdin=True))
    sizes, fds = [], []
    for i in range(UPGRADES):
        same("upgrade", upgrade(envd, NEXT if i % 2 == 0 else THIS)[0], 204)
        sizes.append(resident_kib(envd.proc.pid))
        fds.append(len(os.listdir(f"/proc/{envd.proc.pid}/fd")))
    check("descriptors do not pile up", max(fds) - min(fds) <= 2 and fds[-1] <= fds[0] + 1, fds)
    if not SANITIZED:
        check("nor does memory", max(sizes[2:]) - sizes[1] <= 300, sizes)
    with open(f"/proc/{envd.proc.pid}/comm", encoding="ascii") as f:
        same("its name", f.read(), "envd\n")
    envd.unary("CloseStdin", {"process": {"pid": s.pid}})
    same("its process", s.run().end["exited"], True)
    envd.stop()


def test_a_long_transfer_is_waited_for():
    envd = running()
    with tempfile.TemporaryDirectory() as folder:
        sock = socket.create_connection(("127.0.0.1", envd.port), 60)
        sock.sendall(b"POST /files?path=%s/long HTTP/1.1\r\nHost: x\r\nContent-Type: "
                     b"application/octet-stream\r\nContent-Length: 10\r\n\r\n12345" % folder.encode())
        time.sleep(0.2)
        result = []
        waiting = Background("an upgrade that waits",
                             lambda: result.append(upgrade(envd, NEXT)[0]))
        slowest = 0
        for _ in range(20):
            begun = time.monotonic()
            same("file calls meanwhile",
                 envd.unary("Stat", {"path": "/"}, path="filesystem.Filesystem")[0], 200)
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.1)
        check("they wait a little at most", slowest < 4, slowest)
        same("the upgrade has waited", result, [])
        sock.sendall(b"67890")
        check("the upload ends as it would have", sock.recv(1000).startswith(b"HTTP/1.1 200"))
        waiting.done()
        same("then it takes place", result, [204])
        with open(f"{folder}/long", "rb") as f:
            same("the file", f.read(), b"1234567890")
        sock.close()
    envd.stop()


def main():
    for name, test in sorted(globals().items()):
        if not name.startswith("test_") or (len(sys.argv) > 1 and sys.argv[1] not in name):
            continue
        try:
            test()
        except Exception:  # pylint: disable=broad-except
            check(name, False, traceback.format_exc())
    print(f"{et.passed} passed, {et.failed} failed")
    return et.failed > 0


if __name__ == "__main__":
    sys.exit(main())
