#!/usr/bin/env python3
"""Traffic wakes sandboxes that were paused, if they were created so."""

import concurrent.futures
import datetime
import hashlib
import http.client
import json
import os
import re
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

# A server in the sandbox that counts requests, tells the length and hash of a body, and streams.
BACKEND = r"""
import hashlib, http.server, socketserver, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_GET(self):
        if self.path == "/stream":
            self.send_response(200); self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
            for i in range(5):
                self.wfile.write(b"2\r\n%d\n\r\n" % i); self.wfile.flush(); time.sleep(0.05)
            self.wfile.write(b"0\r\n\r\n"); return
        self.answer(b"hello")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b"%d %s" % (len(body), hashlib.sha256(body).hexdigest().encode()))
    def answer(self, body):
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
class S(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True; request_queue_size = 256
S(("0.0.0.0", 8000), H).serve_forever()
"""
# The server's side of a WebSocket: sends back the first bytes that it gets.
ECHO = r"""
import base64, hashlib, socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", 8001)); s.listen(8)
while True:
    c, _ = s.accept(); head = b""
    while b"\r\n\r\n" not in head and (more := c.recv(4096)):
        head += more
    if b"\r\n\r\n" not in head:
        c.close(); continue
    key = [l for l in head.split(b"\r\n") if l.lower().startswith(b"sec-websocket-key")][0].split(b": ")[1]
    ok = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              b"Sec-WebSocket-Accept: " + ok + b"\r\n\r\n")
    c.sendall(c.recv(4096)); c.close()
"""


def setUpModule():
    lib.need_root()
    Wake.server = lib.Server(args=["--threads", "2"])
    Wake.server.start()


def tearDownModule():
    if Wake.server.stop() != 0:
        raise AssertionError(Wake.server.log_tail())


def unix_time(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Wake(unittest.TestCase):
    server = None

    def new(self, auto_resume=True, **fields):
        if auto_resume:
            fields = {"autoPause": True, "autoResume": {"enabled": True}, **fields}
        box = self.server.create(**fields)
        self.addCleanup(lambda: self.server.api("DELETE", f"/sandboxes/{box.id}"))
        return box

    def with_backend(self, program=BACKEND, port=8000, **fields):
        box = self.new(**fields)
        box.write("/tmp/backend.py", program)
        box.background("exec python3 /tmp/backend.py")
        box.sh(f"for i in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && break; "
               "sleep 0.1; done")
        return box

    def pause(self, box, **body):
        reply = self.server.api("POST", f"/sandboxes/{box.id}/pause", body)
        self.assertEqual(reply.status, 204, reply.body)

    def state(self, box):
        return self.server.api("GET", f"/sandboxes/{box.id}").json

    def ask(self, box, method="GET", path="/", body=None, port=8000, headers=None):
        conn = http.client.HTTPConnection("127.0.0.1", self.server.traffic_port, timeout=90)
        try:
            conn.request(method, path, body,
                         {"Host": f"{port}-{box.id}.x", **(headers or {})})
            reply = conn.getresponse()
            return reply.status, reply.read()
        finally:
            conn.close()

    def test_a_request_wakes_it_and_its_body_arrives_whole(self):
        box = self.with_backend()
        body = os.urandom(3 << 20)
        self.pause(box)
        self.assertEqual(self.state(box)["state"], "paused")
        status, answer = self.ask(box, "POST", "/", body)
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer.decode(), f"{len(body)} {hashlib.sha256(body).hexdigest()}")
        self.assertEqual(self.state(box)["state"], "running")

    def test_a_stream_and_a_websocket_wake_it(self):
        box = self.with_backend()
        self.pause(box)
        self.assertEqual(self.ask(box, path="/stream"), (200, b"0\n1\n2\n3\n4\n"))
        box = self.with_backend(ECHO, 8001)
        self.pause(box)
        with socket.create_connection(("127.0.0.1", self.server.traffic_port), 60) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: 8001-{box.id}.x\r\nUpgrade: websocket\r\n"
                         "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nhello".encode())
            got = b""
            while True:
                more = sock.recv(4096)
                if not more:
                    break
                got += more
        self.assertIn(b"101 Switching Protocols", got)
        self.assertTrue(got.endswith(b"\r\n\r\nhello"), got)

    def test_a_hundred_requests_at_once_wake_it_once(self):
        box = self.with_backend()
        self.pause(box)
        with open(self.server.log, errors="replace") as file:
            file.seek(0, os.SEEK_END)
            with concurrent.futures.ThreadPoolExecutor(100) as pool:
                answers = list(pool.map(lambda _: self.ask(box), range(100)))
            log = file.read()
        self.assertEqual(set(answers), {(200, b"hello")})
        resumed = re.findall(r'"msg":"sandbox resumed","sandbox_id":"%s"' % box.id, log)
        self.assertEqual(len(resumed), 1)

    def test_it_lives_as_long_as_it_was_created_for_and_no_less_than_five_minutes(self):
        for timeout, least in ((20, 300), (900, 900)):
            box = self.new(timeout=timeout)
            self.pause(box)
            self.assertEqual(self.ask(box, port=49983, path="/health",
                                      headers={"X-Access-Token": box.token})[0], 204)
            info = self.state(box)
            end = unix_time(info["endAt"]) - unix_time(info["startedAt"])
            self.assertAlmostEqual(end, least, delta=1)
            self.assertEqual(info["lifecycle"], {"autoResume": True, "onTimeout": "pause"})

    def test_without_being_asked_for_traffic_wakes_nothing(self):
        box = self.new(auto_resume=False)
        self.pause(box)
        status, body = self.ask(box)
        self.assertEqual(status, 502)
        self.assertEqual(json.loads(body), {"sandboxId": box.id, "code": 502,
                                            "message": "The sandbox was not found"})
        self.assertEqual(self.state(box)["state"], "paused")

    def test_who_has_no_token_wakes_nothing(self):
        box = self.new()
        private = self.new(network={"allowPublicTraffic": False})
        for target in (box, private):
            self.pause(target)
        for target, port, headers in (
                (box, 49983, {}), (box, 49983, {"X-Access-Token": "wrong"}),
                (private, 8000, {}), (private, 8000, {"e2b-traffic-access-token": "wrong"}),
                (private, 8000, {"X-Access-Token": private.token})):
            status, body = self.ask(target, port=port, path="/health", headers=headers)
            self.assertEqual(status, 403)
            self.assertIn("can't be resumed with the credentials", json.loads(body)["message"])
            self.assertEqual(json.loads(body)["code"], 403)
        for target in (box, private):
            self.assertEqual(self.state(target)["state"], "paused")
        token = self.server.api("POST", f"/v2/sandboxes/{private.id}/connect",
                                {"timeout": 300}).json["trafficAccessToken"]
        self.pause(private)
        status, _ = self.ask(private, headers={"e2b-traffic-access-token": token})
        self.assertEqual(status, 502)  # it runs; nothing listens there
        self.assertEqual(self.state(private)["state"], "running")

    def test_it_is_paused_again_at_its_end_and_survives_kill_9(self):
        box = self.with_backend()
        self.pause(box)
        self.server.kill9()
        self.server.start()
        self.assertEqual(self.ask(box), (200, b"hello"))
        self.server.api("POST", f"/sandboxes/{box.id}/timeout", {"timeout": 0})
        self.assertEqual(self.state(box)["state"], "paused")
        self.assertEqual(self.ask(box), (200, b"hello"))

    def test_requests_and_pauses_against_each_other(self):
        box = self.with_backend()
        stop = time.monotonic() + 3
        seen, errors = [], []

        def requests():
            while time.monotonic() < stop:
                try:
                    seen.append(self.ask(box)[0])
                except (OSError, http.client.HTTPException):
                    errors.append(1)  # a pause cuts what runs

        threads = [threading.Thread(target=requests) for _ in range(4)]
        for thread in threads:
            thread.start()
        conn = lib.Http(self.server.api_port)
        while time.monotonic() < stop:
            conn.request("POST", f"/sandboxes/{box.id}/pause", "{}",
                         {"X-API-Key": self.server.key})
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        conn.close()
        self.assertGreater(len(seen), 10)
        self.assertLessEqual(set(seen), {200, 502})  # 502: cut before an answer began
        self.assertEqual(self.ask(box), (200, b"hello"))


if __name__ == "__main__":
    lib.main()
