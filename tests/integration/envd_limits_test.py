#!/usr/bin/env python3
"""envd under bad input and many connections: the right answer, and bounded memory.

Starts `$ENVD --listen 127.0.0.1:PORT --insecure` for each test. Memory is what smaps_rollup calls
private, and is only looked at in a release build: sanitizers have their own.
"""
import contextlib
import gzip
import io
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lib  # noqa: E402

OUT = os.environ.get("SANDPIT_OUT") or os.environ.get("OUT") or "build/release"
ENVD = os.environ.get("ENVD") or os.path.join(OUT, "envd")
MEASURED = os.path.basename(os.path.dirname(os.path.abspath(ENVD))) == "release"
MEMORY_MAX_KIB = 8 << 10
STREAM_MAX_BYTES = 2 << 10
MESSAGE_MAX = 3 << 20
MANY = 1000 if MEASURED else 200
STREAMS = 5000 if MEASURED else 300


def head(path, length, kind="application/json", extra=""):
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
            f"{'Transfer-Encoding: chunked' if length is None else f'Content-Length: {length}'}\r\n"
            f"{extra}\r\n").encode()


class Envd(unittest.TestCase):
    def setUp(self):
        resource.setrlimit(resource.RLIMIT_NOFILE,
                           (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        self.port = lib.free_ports(1)[0]
        self.proc = subprocess.Popen([ENVD, "--listen", f"127.0.0.1:{self.port}", "--insecure"],
                                     stderr=subprocess.DEVNULL)
        lib.wait_until("envd", 20 * lib.time_factor(), self.listens)
        self.socks = []
        self.peak_kib = 0
        self.idle_kib = self.private_kib()

    def tearDown(self):
        for sock in self.socks:
            sock.close()
        self.proc.send_signal(signal.SIGTERM)
        self.assertEqual(self.proc.wait(20 * lib.time_factor()), 0)

    def listens(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True

    def private_kib(self):
        with open(f"/proc/{self.proc.pid}/smaps_rollup") as file:
            kib = sum(int(line.split()[1]) for line in file if line.startswith("Private_"))
        self.peak_kib = max(getattr(self, "peak_kib", 0), kib)
        return kib

    @contextlib.contextmanager
    def watched(self):
        """Memory is looked at every 10 ms, and must stay in its bound."""
        stop = threading.Event()

        def watch():
            while not stop.wait(0.01):
                self.private_kib()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        print(f"    at most {self.peak_kib} KiB")
        if MEASURED:
            self.assertLess(self.peak_kib, MEMORY_MAX_KIB)

    def connect(self, data=b""):
        sock = socket.create_connection(("127.0.0.1", self.port), 30)
        self.socks.append(sock)
        if data:
            sock.sendall(data)
        return sock

    def call(self, path, body, kind="application/json", **headers):
        http = lib.Http(self.port, timeout=60)
        reply = http.request("POST", path, body, {"Content-Type": kind, **headers})
        http.close()
        return reply

    def alive(self, seconds=8):
        began = time.monotonic()
        reply = self.call("/filesystem.Filesystem/Stat", b'{"path":"/"}')
        self.assertEqual(reply.status, 200, reply.body)
        self.assertLess(time.monotonic() - began, seconds * lib.time_factor())

    def push(self, count, first, more=b""):
        """COUNT connections that send FIRST, then as much of MORE as is taken without waiting."""
        socks = []
        for _ in range(count):
            sock = self.connect(first)
            sock.setblocking(False)
            if more:
                with contextlib.suppress(OSError):
                    sock.send(more)
            socks.append(sock)
        return socks

    def process(self, cmd, *args, stdin=False):
        body = lib.envelope({"process": {"cmd": cmd, "args": list(args)}, "stdin": stdin})
        sock = self.connect(head("/process.Process/Start", len(body), "application/connect+json")
                            + body)
        data = b""
        while b'"pid":' not in data:
            data += sock.recv(65536)
        return int(data.split(b'"pid":')[1].split(b"}")[0])


class BadInput(Envd):
    def test_messages_that_are_wrong_get_their_code(self):
        many = b'{"process":{"cmd":"x","args":[' + b'"",' * 500000 + b'""]}}'
        start, stat = "/process.Process/Start", "/filesystem.Filesystem/Stat"
        deep = b'{"a":' * 100000 + b"1" + b"}" * 100000
        cases = [
            (stat, b"", 400, "invalid_argument"),
            (stat, b"{", 400, "invalid_argument"),
            (stat, b'{"path":', 400, "invalid_argument"),
            (stat, b'{"path":"\xff"}', 400, "invalid_argument"),
            (stat, b'{"path":"a\\u0000b"}', 400, "invalid_argument"),
            (stat, b'{"path":"\\ud800"}', 400, "invalid_argument"),
            (stat, b'{"path":7}', 400, "invalid_argument"),
            (stat, b'{"path":"/"} {}', 400, "invalid_argument"),
            (stat, deep, 400, "invalid_argument"),
            (stat, b"[" * 1000000, 400, "invalid_argument"),
            (stat, b'{"x":[' + b"0," * 1000000 + b"0]," + b'"path":"/nowhere"}', 404, "not_found"),
            (stat, b'{"path":"' + b"a" * (MESSAGE_MAX - 20), 400, "invalid_argument"),
            (stat, b'{"path":"' + b"a" * MESSAGE_MAX + b'"}', 429, "resource_exhausted"),
        ]
        with self.watched():
            for path, body, status, code in cases:
                with self.subTest(body[:20]):
                    reply = self.call(path, body)
                    self.assertEqual((reply.status, (reply.json or {}).get("code")), (status, code))
            self.alive()
            # Small on the wire, large in memory.
            reply = self.call(start, lib.envelope(many), "application/connect+json")
            self.assertIn(b"resource_exhausted", reply.body)
            tiny = b"\x12\x00" * 1000000
            proto = b"\x0a" + self.varint(len(tiny)) + tiny
            reply = self.call(start, lib.envelope(proto), "application/connect+proto")
            self.assertIn(b"resource_exhausted", reply.body)
            bomb = gzip.compress(bytes(200 << 20), 9)
            reply = self.call(stat, bomb, **{"Content-Encoding": "gzip"})
            self.assertEqual((reply.status, reply.json["code"]), (429, "resource_exhausted"))
            self.alive()

    @staticmethod
    def varint(value):
        out = b""
        while value >= 128:
            out += bytes([value & 127 | 128])
            value >>= 7
        return out + bytes([value])

    def test_envelopes_that_are_wrong_get_their_code(self):
        path, kind = "/process.Process/Start", "application/connect+json"
        for body, code in [
            (b"", "unimplemented"),
            (b"\x00\x00", "invalid_argument"),
            (b"\x00\x00\x00\x00\x09{}", "invalid_argument"),
            (b"\x00\xff\xff\xff\xff{}", "resource_exhausted"),
            (b"\x7f\x00\x00\x00\x02{}", "invalid_argument"),
            (b"\x01\x00\x00\x00\x02{}", "internal"),
            (lib.envelope({}) * 2, "unimplemented"),
        ]:
            with self.subTest(body):
                reply = self.call(path, body, kind)
                self.assertEqual(reply.status, 200)
                flags, end = list(lib.envelopes(io.BytesIO(reply.body)))[-1]
                self.assertEqual((flags, json.loads(end)["error"]["code"]), (2, code))
        self.alive()

    def test_heads_that_are_wrong_are_refused(self):
        for data, status in [
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"400"),
            (b"GET / HTTP/1.1\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70000, b"431"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20000 + b"\r\n", b"4"),
            (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", b"505"),
            (head("/init", 5, extra="Transfer-Encoding: chunked\r\n"), b"400"),
            (head("/process.Process/List", None) + b"zz\r\n", b"400"),
        ]:
            with self.subTest(data[:40]):
                sock = self.connect()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    sock.sendall(data)
                self.assertTrue(sock.recv(4096).split(b" ")[1].startswith(status))
        self.alive()


class Many(Envd):
    def test_half_bodies_hold_little(self):
        with self.watched():
            self.push(MANY, head("/filesystem.Filesystem/Stat", MESSAGE_MAX), b'{"path":"'
                      + b"a" * 200000)
            self.alive()

    def test_half_chunked_bodies_hold_little(self):
        with self.watched():
            self.push(MANY, head("/filesystem.Filesystem/Stat", None),
                      b"30000\r\n" + b"a" * 0x30000)
            self.alive()

    def test_half_envelopes_of_client_streams_hold_little(self):
        for size in (0x30000, 0x2000):
            with self.subTest(size), self.watched():
                self.push(MANY,
                          head("/process.Process/StreamInput", None, "application/connect+json"),
                          b"30005\r\n\x00" + struct.pack(">I", MESSAGE_MAX) + b"a" * size)
                self.alive()

    def test_half_heads_hold_little(self):
        with self.watched():
            self.push(MANY, b"POST /process.Process/List HTTP/1.1\r\nHost: x\r\nX-A: "
                      + b"a" * 30000)
            self.alive()

    def test_requests_behind_an_open_stream_hold_little(self):
        pid = self.process("sleep", "1000")
        body = lib.envelope({"process": {"pid": pid}})
        with self.watched():
            self.push(MANY, head("/process.Process/Connect", len(body), "application/connect+json")
                      + body, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 800)
            self.alive()
        os.kill(pid, signal.SIGKILL)

    def test_large_messages_at_once_all_arrive(self):
        pid = self.process("/bin/sh", "-c", "exec cat >/dev/null", stdin=True)
        data = json.dumps({"process": {"pid": pid},
                           "input": {"stdin": "QUFB" * 500000}}).encode()
        statuses = []

        def send():
            statuses.append(self.call("/process.Process/SendInput", data).status)

        threads = [threading.Thread(target=send) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(statuses, [200] * 12)
        os.kill(pid, signal.SIGKILL)

    @lib.limit(240)
    def test_an_idle_stream_keeps_two_kib(self):
        pid = self.process("sleep", "1000")
        body = lib.envelope({"process": {"pid": pid}})
        time.sleep(3)
        before = self.private_kib()
        request = head("/process.Process/Connect", len(body), "application/connect+json",
                       "User-Agent: e2b-js-sdk/2.51.0\r\nConnect-Protocol-Version: 1\r\n"
                       "Keepalive-Ping-Interval: 50\r\nAuthorization: Basic cm9vdDo=\r\n"
                       "Accept-Encoding: gzip, deflate\r\nSec-Fetch-Mode: cors\r\n") + body
        for _ in range(STREAMS):
            self.connect(request)
        data = b""
        while b'"pid":' not in data:
            part = self.socks[-1].recv(65536)
            self.assertTrue(part)
            data += part
        time.sleep(1)
        each = (self.private_kib() - before) * 1024 / STREAMS
        print(f"    an idle stream of a process: {each:.0f} bytes, {STREAMS} open")
        if MEASURED:
            self.assertLess(each, STREAM_MAX_BYTES)
        self.alive()
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    lib.main()
