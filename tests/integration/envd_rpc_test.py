#!/usr/bin/env python3
"""The Connect protocol of envd beside the conformance suite: what the reference says row by row.

GET, compressed answers, refused protocols, timeouts, keep-alive events, a client that is gone.
"""
import base64
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lib  # noqa: E402

OUT = os.environ.get("SANDPIT_OUT") or os.environ.get("OUT") or "build/release"
ENVD = os.environ.get("ENVD") or os.path.join(OUT, "envd")
JSON = {"Content-Type": "application/json"}
STREAM = {"Content-Type": "application/connect+json"}
STAT = "/filesystem.Filesystem/Stat"


class Rpc(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.port = lib.free_ports(1)[0]
        cls.proc = subprocess.Popen([ENVD, "--listen", f"127.0.0.1:{cls.port}", "--insecure"],
                                    stderr=subprocess.DEVNULL)
        lib.wait_until("envd", 20 * lib.time_factor(), cls.listens)

    @classmethod
    def tearDownClass(cls):
        cls.proc.send_signal(signal.SIGTERM)
        assert cls.proc.wait(20 * lib.time_factor()) == 0

    @classmethod
    def listens(cls):
        try:
            socket.create_connection(("127.0.0.1", cls.port), 1).close()
            return True
        except OSError:
            return False

    def request(self, method, path, body=None, headers=None):
        http = lib.Http(self.port)
        try:
            return http.request(method, path, body, headers)
        finally:
            http.close()

    def get(self, path, **query):
        return self.request("GET", f"{path}?{urllib.parse.urlencode(query)}")

    def open(self, method, message, headers=None):
        http = lib.Http(self.port)
        self.addCleanup(http.close)
        return http.open("POST", method, lib.envelope(message), {**STREAM, **(headers or {})})

    def sleeper(self, headers=None, seconds="30"):
        """An open stream of a process that is silent, and its pid."""
        stream = self.open("/process.Process/Start",
                           {"process": {"cmd": "sleep", "args": [seconds]}, "stdin": False},
                           headers)
        events = lib.envelopes(stream)
        pid = json.loads(next(events)[1])["event"]["start"]["pid"]
        return pid, events

    def kill(self, pid):
        self.request("POST", "/process.Process/SendSignal", json.dumps(
            {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"}), JSON)


class Get(Rpc):
    def test_methods_without_side_effects_answer_get(self):
        reply = self.get(STAT, encoding="json", message='{"path":"/etc"}', connect="v1")
        self.assertEqual((reply.status, reply.json["entry"]["path"]), (200, "/etc"))
        self.assertEqual(reply.headers["Content-Type"], "application/json")
        for path in ("/process.Process/List", "/filesystem.Filesystem/ListDir"):
            self.assertEqual(self.get(path, encoding="json", message='{"path":"/etc"}').status, 200)

    def test_base64_proto_and_compression(self):
        proto = b"\x0a\x04/etc"
        for text in (base64.urlsafe_b64encode(proto), base64.urlsafe_b64encode(proto).rstrip(b"=")):
            reply = self.get(STAT, encoding="proto", message=text, base64="1")
            self.assertEqual(reply.status, 200)
            self.assertEqual(reply.headers["Content-Type"], "application/proto")
            self.assertIn(b"/etc", reply.body)
        self.assertEqual(self.get(STAT, encoding="proto", message=proto).status, 200)
        packed = base64.urlsafe_b64encode(gzip.compress(b'{"path":"/etc"}'))
        reply = self.get(STAT, encoding="json", message=packed, base64="1", compression="gzip")
        self.assertEqual(reply.json["entry"]["name"], "etc")

    def test_what_is_wrong_is_refused(self):
        for query, status, code in [
            ({"encoding": "json"}, 400, "invalid_argument"),
            ({"encoding": "json", "message": "{"}, 400, "invalid_argument"),
            ({"encoding": "json", "message": "{}", "connect": "v2"}, 400, "invalid_argument"),
            ({"encoding": "json", "message": "***", "base64": "1"}, 400, "invalid_argument"),
            ({"encoding": "json", "message": "{}", "compression": "br"}, 501, "unimplemented"),
            ({"encoding": "xml", "message": "{}"}, 415, None),
            ({"message": "{}"}, 415, None),
        ]:
            with self.subTest(query):
                reply = self.get(STAT, **query)
                self.assertEqual((reply.status, (reply.json or {}).get("code")), (status, code))

    def test_others_do_not(self):
        for path in ("/process.Process/Start", "/filesystem.Filesystem/Remove",
                     "/filesystem.Filesystem/GetWatcherEvents"):
            reply = self.get(path, encoding="json", message="{}")
            self.assertEqual((reply.status, reply.headers["Allow"], reply.body), (405, "POST", b""))
        reply = self.request("PUT", STAT)
        self.assertEqual((reply.status, reply.headers["Allow"]), (405, "GET, POST"))


class Types(Rpc):
    def test_grpc_and_others_are_refused_with_what_is_served(self):
        for kind in ("application/grpc", "application/grpc+proto", "application/grpc-web",
                     "application/grpc-web+proto", "application/grpc-web-text", "text/plain",
                     "application/connect+json", "application/jsonx", ""):
            with self.subTest(kind):
                reply = self.request("POST", STAT, b"\0\0\0\0\0", {"Content-Type": kind})
                self.assertEqual((reply.status, reply.body), (415, b""))
                self.assertEqual(reply.headers["Accept-Post"],
                                 "application/json, application/proto")
        reply = self.request("POST", "/process.Process/Start", b"\0\0\0\0\0",
                             {"Content-Type": "application/grpc-web"})
        self.assertEqual((reply.status, reply.headers["Accept-Post"]),
                         (415, "application/connect+json, application/connect+proto"))

    def test_a_stream_has_its_exact_type(self):
        stream = self.open("/process.Process/Start", {"process": {"cmd": "true"}})
        self.assertEqual(stream.headers["Content-Type"], "application/connect+json")
        self.assertEqual(json.loads(list(lib.envelopes(stream))[-1][1]), {})


class Gzip(Rpc):
    LISTING = json.dumps({"path": "/usr/bin", "depth": 1})

    def test_a_large_answer_is_compressed_when_asked(self):
        path = "/filesystem.Filesystem/ListDir"
        plain = self.request("POST", path, self.LISTING, {**JSON, "Accept-Encoding": "identity"})
        self.assertNotIn("Content-Encoding", plain.headers)
        for accept, packed in [("gzip, deflate", True), ("br;q=1, gzip;q=0.1", True), ("*", True),
                               ("gzip;q=0", False), ("gzip;q=0.000", False), ("br", False)]:
            with self.subTest(accept):
                reply = self.request("POST", path, self.LISTING,
                                     {**JSON, "Accept-Encoding": accept})
                self.assertEqual(reply.headers.get("Content-Encoding"), "gzip" if packed else None)
                text = gzip.decompress(reply.body) if packed else reply.body
                self.assertEqual(json.loads(text), plain.json)
        small = self.request("POST", STAT, '{"path":"/"}', {**JSON, "Accept-Encoding": "gzip"})
        self.assertNotIn("Content-Encoding", small.headers)

    def test_a_stream_only_with_its_own_header(self):
        script = {"process": {"cmd": "/bin/sh", "args": ["-c", "yes | head -c 300000"]}}
        for header, packed in [("Connect-Accept-Encoding", True), ("Accept-Encoding", False)]:
            stream = self.open("/process.Process/Start", script, {header: "gzip"})
            self.assertEqual(stream.headers["Connect-Content-Encoding"],
                             "gzip" if packed else None)
            data, flags_seen = b"", 0
            for flags, payload in lib.envelopes(stream):
                flags_seen |= flags
                event = json.loads(gzip.decompress(payload) if flags & 1 else payload)
                data += base64.b64decode(event.get("event", {}).get("data", {}).get("stdout", ""))
            self.assertEqual((data, flags_seen & 1), (b"y\n" * 150000, int(packed)))


class Time(Rpc):
    def test_keepalives_come_at_their_interval(self):
        pid, events = self.sleeper({"Keepalive-Ping-Interval": "1"})
        at = [time.monotonic()]
        for _ in range(3):
            self.assertEqual(json.loads(next(events)[1]), {"event": {"keepalive": {}}})
            at.append(time.monotonic())
        for before, after in zip(at, at[1:]):
            self.assertAlmostEqual(after - before, 1, delta=0.2 * lib.time_factor())
        self.kill(pid)

    def test_watches_have_keepalives_too(self):
        stream = self.open("/filesystem.Filesystem/WatchDir", {"path": "/usr"},
                           {"Keepalive-Ping-Interval": "1"})
        events = lib.envelopes(stream)
        self.assertEqual(json.loads(next(events)[1]), {"start": {}})
        self.assertEqual(json.loads(next(events)[1]), {"keepalive": {}})

    def test_a_timeout_ends_streams_and_client_streams(self):
        pid, _ = self.sleeper()
        begun = time.monotonic()
        stream = self.open("/process.Process/Connect", {"process": {"pid": pid}},
                           {"Connect-Timeout-Ms": "300"})
        flags, end = list(lib.envelopes(stream))[-1]
        self.assertEqual((flags, json.loads(end)["error"]),
                         (2, {"code": "deadline_exceeded", "message": "context deadline exceeded"}))
        self.assertAlmostEqual(time.monotonic() - begun, 0.3, delta=0.25 * lib.time_factor())
        sock = socket.create_connection(("127.0.0.1", self.port), 10)
        sock.sendall(b"POST /process.Process/StreamInput HTTP/1.1\r\nHost: x\r\nContent-Type: "
                     b"application/connect+json\r\nTransfer-Encoding: chunked\r\n"
                     b"Connect-Timeout-Ms: 200\r\n\r\n")
        data = b""
        while b"deadline_exceeded" not in data:
            part = sock.recv(4096)
            self.assertTrue(part, data)
            data += part
        sock.close()
        self.kill(pid)

    def test_a_unary_call_that_times_out_is_504(self):
        # Its body never comes to an end.
        sock = socket.create_connection(("127.0.0.1", self.port), 10)
        sock.sendall(b"POST " + STAT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                     b"Content-Type: application/json\r\nConnect-Timeout-Ms: 200\r\n\r\n{")
        data = sock.recv(4096)
        self.assertTrue(data.startswith(b"HTTP/1.1 504 "), data)
        self.assertIn(b'"deadline_exceeded"', data)
        sock.close()

    def test_timeouts_that_are_none(self):
        for text in ("12345678901", "-1", "1s", "0x10"):
            with self.subTest(text):
                reply = self.request("POST", STAT, '{"path":"/"}',
                                     {**JSON, "Connect-Timeout-Ms": text})
                self.assertEqual((reply.status, reply.json["code"]), (400, "invalid_argument"))
                self.assertTrue(reply.json["message"].startswith("parse timeout: "))

    def test_a_client_that_is_gone_is_noticed(self):
        pid, _ = self.sleeper()

        def sockets():
            return len([fd for fd in os.listdir(f"/proc/{self.proc.pid}/fd")])

        before = sockets()
        streams = []
        for _ in range(20):
            http = lib.Http(self.port)
            stream = http.open("POST", "/process.Process/Connect",
                               lib.envelope({"process": {"pid": pid}}), STREAM)
            next(lib.envelopes(stream))
            streams.append((http, stream))
        self.assertGreaterEqual(sockets(), before + 20)
        for http, stream in streams:
            stream.close()
            http.close()
        lib.wait_until("the streams' ends", 5 * lib.time_factor(), lambda: sockets() <= before)
        self.kill(pid)


if __name__ == "__main__":
    lib.main()
