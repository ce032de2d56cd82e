#!/usr/bin/env python3
"""server/loop and server/http over real sockets, by the small server http_server.c.

usage: http_test.py [PATH OF http_server]; its default is $OUT/tests/integration/http_server.
"""

import json
import os
import random
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings

BODY_MAX = 65536
KEY = {"X-API-Key": "let-me-in"}


class Server:
    """The program under test, with a certificate of its own."""

    def __init__(self, program, threads=2, descriptors=None):
        def limit():
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        self.program = program
        self.dir = tempfile.mkdtemp(prefix="http-test-")
        self.make_cert("one.test")
        self.err_path = os.path.join(self.dir, "stderr")
        with open(self.err_path, "wb") as err:
            self.process = subprocess.Popen(
                [program, str(threads), self.path("cert.pem"), self.path("key.pem")],
                stdout=subprocess.PIPE, stderr=err, text=True, preexec_fn=limit)
        words = self.process.stdout.readline().split()
        if not words or words[0] != "ready":
            raise RuntimeError("the server did not start: " + self.log())
        self.port, self.tls_port, self.peek_port = (int(word) for word in words[1:])

    def path(self, name):
        return os.path.join(self.dir, name)

    def make_cert(self, name):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=" + name,
             "-keyout", self.path("key.pem"), "-out", self.path("cert.pem")],
            check=True, stderr=subprocess.DEVNULL)

    def log(self):
        with open(self.err_path, encoding="utf-8") as file:
            return file.read()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)
        assert self.process.stdout.readline() == "reloaded\n"

    def terminate(self, timeout=10):
        """SIGTERM, then the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class Client:
    """One connection; answers are read one by one."""

    def __init__(self, port, host="127.0.0.1", context=None, timeout=10):
        self.sock = socket.create_connection((host, port), timeout)
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname="one.test")
        self.buffer = b""

    def send(self, data):
        self.sock.sendall(data)

    def fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data

    def read(self, method="GET"):
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {}
        for line in lines[1:]:
            name, value = line.split(": ", 1)
            headers[name.lower()] = value
        length = int(headers.get("content-length", "0"))
        if method == "HEAD" or status == 100:
            length = 0
        while len(self.buffer) < length:
            self.fill()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Answer(status, headers, body)

    def ask(self, method, path, headers=None, body=None):
        self.send(request(method, path, headers, body))
        return self.read(method)

    def at_end(self):
        """The server has closed, with nothing more to read."""
        if self.buffer:
            return False
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def request(method, path, headers=None, body=None):
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: test"]
    lines += ["%s: %s" % pair for pair in (headers or {}).items()]
    if body is not None:
        lines.append("Content-Length: %d" % len(body))
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def chunked(parts):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def equal(got, want):
    if got != want:
        raise AssertionError("got %r, want %r" % (got, want))


def want_refused(client, status=400):
    answer = client.read()
    equal(answer.status, status)
    equal(answer.headers["connection"], "close")
    equal(answer.headers["content-type"], "application/json")
    equal(answer.json()["code"], status)
    assert answer.json()["message"]
    assert client.at_end(), "the connection stays open"
    return answer


def keep_alive_serves_many_requests(server):
    with Client(server.port) as client:
        for _ in range(5):
            answer = client.ask("GET", "/hello")
            equal((answer.status, answer.body), (200, b"hello\n"))
            equal(answer.headers["connection"], "keep-alive")
            equal(answer.headers["server"], "sandpit")
    with Client(server.port) as client:
        equal(client.ask("GET", "/hello", {"Connection": "close"}).headers["connection"], "close")
        assert client.at_end()
    with Client(server.port) as client:
        answer = client.ask("GET", "/hello", {"Connection": "keep-alive, close"})
        equal(answer.headers["connection"], "close")


def both_families_of_localhost_listen(server):
    for host in ("127.0.0.1", "::1"):
        with Client(server.port, host) as client:
            equal(client.ask("GET", "/hello").status, 200)


def pipelined_requests_are_answered_in_order(server):
    with Client(server.port) as client:
        client.send(b"".join(request("GET", "/items/%d" % i, KEY) for i in range(50)))
        for i in range(50):
            equal(client.read().json()["id"], str(i))
    with Client(server.port) as client:
        big = os.urandom(50000)
        head = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(request("POST", "/echo", None, b"one") + head + chunked([b"t", b"wo"]) +
                    request("POST", "/echo", None, big) + request("GET", "/slow?ms=30") +
                    request("GET", "/hello"))
        equal([client.read().body for _ in range(5)], [b"one", b"two", big, b"late\n", b"hello\n"])


def a_bad_request_behind_a_good_one_is_not_served(server):
    bad = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Client(server.port) as client:
        client.send(request("GET", "/hello") + bad + chunked([b"x"]) + request("GET", "/hello"))
        equal(client.read().status, 200)
        want_refused(client)
    with Client(server.port) as client:  # its body not complete
        client.send(request("GET", "/hello") + bad + b"5\r\nx")
        equal(client.read().status, 200)
        want_refused(client)


def chunked_bodies_arrive_whole(server):
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Client(server.port) as client:
        client.send(head + chunked([b"hello ", b"world"]))
        equal(client.read().body, b"hello world")
        for byte in head + b"3;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\n":
            client.send(bytes([byte]))
        equal(client.read().body, b"abc")
        parts = [os.urandom(997) for _ in range(60)]
        client.send(head)
        for part in parts:
            client.send(b"%X\r\n%s\r\n" % (len(part), part))
        client.send(b"0\r\n\r\n")
        equal(client.read().body, b"".join(parts))
        client.send(head + b"zz\r\n")
        want_refused(client)


STRICT = {
    "CL and TE": b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                 b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "two equal CL": b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                    b"Content-Length: 3\r\n\r\nabc",
    "CL list": b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    "CL sign": b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "two Host": b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no Host": b"GET /hello HTTP/1.1\r\n\r\n",
    "obs-fold": b"GET /hello HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "obs-fold with a body": b"POST /echo HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n"
                            b"Content-Length: 3\r\n\r\nabc",
    "blank before colon": b"GET /hello HTTP/1.1\r\nHost : a\r\n\r\n",
    "bare CR": b"GET /hello HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
    "bare LF": b"GET /hello HTTP/1.1\nHost: a\n\n",
    "NUL": b"GET /hello HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
    "name": b"GET /hello HTTP/1.1\r\nHost: a\r\nX(y): b\r\n\r\n",
    "TE gzip": b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "TE on 1.0": b"POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two TE": b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
              b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


def ambiguous_requests_are_refused(server):
    for name, data in STRICT.items():
        try:
            with Client(server.port) as client:
                client.send(data)
                want_refused(client)
            with Client(server.port) as client:  # not only the first of a connection
                equal(client.ask("GET", "/hello").status, 200)
                client.send(data[:20])
                time.sleep(0.01)
                client.send(data[20:])
                want_refused(client)
            with Client(server.port) as client:  # pipelined behind a request
                client.send(request("GET", "/hello") + data)
                equal(client.read().status, 200)
                # h2o itself closes without a word on what it cannot parse
                try:
                    equal(client.read().status, 400)
                except (EOFError, ConnectionResetError):
                    pass
                assert client.at_end()
        except Exception as error:
            raise AssertionError("%s: %r" % (name, error)) from error


def bodies_have_a_limit(server):
    most = os.urandom(BODY_MAX)
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Client(server.port) as client:
        equal(client.ask("POST", "/echo", None, most).body, most)
        client.send(head + chunked([most]))
        equal(client.read().body, most)
        client.send(request("POST", "/echo", None, most + b"x"))
        want_refused(client, 413)
    with Client(server.port) as client:  # no need to send what will be refused
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n")
        want_refused(client, 413)
    with Client(server.port) as client:
        client.send(head + b"%x\r\n" % (BODY_MAX + 1) + most + b"x")
        want_refused(client, 413)
    with Client(server.port) as client:  # far more: the answer must survive the unread rest
        try:
            client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n" +
                        bytes(8000000))
        except (ConnectionResetError, BrokenPipeError):
            pass
        want_refused(client, 413)


def heads_have_a_limit(server):
    with Client(server.port) as client:
        equal(client.ask("GET", "/hello", {"X": "y" * 60000}).status, 200)
        client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70000)
        want_refused(client, 431)
    with Client(server.port) as client:
        client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70000 + b"\r\n\r\n")
        want_refused(client, 431)
    with Client(server.port) as client:
        fields = {"X-%d" % i: "y" for i in range(99)}
        equal(client.ask("GET", "/hello", fields).status, 200)
        client.send(request("GET", "/hello", dict(fields, more="y")))
        want_refused(client, 431)


def expect_is_met(server):
    head = (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
            b"Expect: 100-continue\r\n\r\n")
    with Client(server.port) as client:
        for _ in range(2):
            client.send(head)
            equal(client.read().status, 100)
            client.send(b"abc")
            equal(client.read().body, b"abc")
        client.send(head.replace(b"100-continue", b"a-miracle"))
        want_refused(client, 417)
    with Client(server.port) as client:
        client.send(head.replace(b": 3", b": 9999999"))
        want_refused(client, 413)


def routes_answer_by_the_table(server):
    with Client(server.port) as client:
        answer = client.ask("GET", "/nothing?secret=1")
        equal((answer.status, answer.json()), (404, {"code": 404,
                                                     "message": "no such path: /nothing"}))
        equal(client.ask("GET", "/hello/").status, 404)
        equal(client.ask("GET", "/items//").status, 404)
        answer = client.ask("PUT", "/items/7")
        equal((answer.status, answer.json()["code"]), (405, 405))
        equal(answer.headers["allow"], "GET, HEAD, DELETE")
        answer = client.ask("GET", "/items/7/pause")
        equal((answer.status, answer.headers["allow"]), (405, "POST"))
        answer = client.ask("POST", "/items/7/pause")
        equal((answer.status, answer.json()["message"]),
              (501, "POST /items/{itemID}/pause is not supported yet by this server"))
        equal(client.ask("GET", "/items/7").status, 401)
        equal(client.ask("GET", "/items/special").body, b"hello\n")
        answer = client.ask("HEAD", "/hello")
        equal((answer.status, answer.headers["content-length"], answer.body), (200, "6", b""))
        answer = client.ask("DELETE", "/items/7", KEY)
        equal((answer.status, "content-length" in answer.headers), (204, False))
        equal(client.ask("GET", "http://other.test/hello?x").body, b"hello\n")
        equal(client.ask("OPTIONS", "*").status, 404)
        equal(client.ask("GET", "/forget").status, 500)
        equal(client.ask("GET", "/hello").status, 200)


def parameters_and_queries_are_decoded(server):
    with Client(server.port) as client:
        answer = client.ask("GET", "/items/a%2Fb%20c?x=1&q=u+v%26w&q=2", KEY).json()
        equal(answer["id"], "a/b c")
        equal(answer["q"], "u v&w")
        equal(answer["raw"], "u+v%26w")
        equal(answer["path"], "/items/a%2Fb%20c")
        equal(answer["user"], "tester")
        for path in ("/items/%zz", "/items/%00", "/items/%ff", "/items/a?q=%", "/hello?%00=1"):
            equal(client.ask("GET", path, KEY).status, 400)
        for path in (b"/\xff", b"/x" + "\u00e4".encode() * 400, b"/y" + "\u00e4".encode() * 401):
            client.send(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = client.read()
            equal((answer.status, answer.json()["code"]), (404, 404))
        equal(client.ask("POST", "/items", None, b'{"a": [1]}').json(), {"a": [1]})
        equal(client.ask("POST", "/items").json(), {})
        equal(client.ask("POST", "/items", None, b"[1]").status, 400)
        equal(client.ask("POST", "/items", None, b'{"a": ').status, 400)


def request_ids_are_echoed_when_sane(server):
    with Client(server.port) as client:
        for sane in ("abc", "A.b_c-9", "x" * 36):
            equal(client.ask("GET", "/hello", {"X-Request-Id": sane}).headers["x-request-id"], sane)
        for odd in ("", "x" * 37, "a b", 'a"b', "a/b"):
            made = client.ask("GET", "/hello", {"X-Request-Id": odd}).headers["x-request-id"]
            assert made != odd and len(made) == 36, made
        equal(len({client.ask("GET", "/hello").headers["x-request-id"] for _ in range(20)}), 20)


def deferred_replies_outlive_their_clients(server):
    with Client(server.port) as client:
        before = client.ask("GET", "/gone").json()["gone"]
        leavers = [Client(server.port) for _ in range(40)]
        for i, leaver in enumerate(leavers):
            leaver.send(request("GET", "/slow?ms=%d" % (100 + i)) * (1 + i % 2))
        time.sleep(0.05)
        for i, leaver in enumerate(leavers):
            if i % 3 == 0:  # a reset instead of an orderly end
                leaver.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                       b"\x01\0\0\0\0\0\0\0")
            leaver.close()
        time.sleep(0.5)
        assert client.ask("GET", "/gone").json()["gone"] >= before + 40
        equal(client.ask("GET", "/slow?ms=1").body, b"late\n")


def workers_answer_on_the_loop(server):
    clients = [Client(server.port) for _ in range(20)]
    for client in clients:
        client.send(request("GET", "/work") * 10)
    for client in clients:
        equal([client.read().body for _ in range(10)], [b"late\n"] * 10)
        client.close()


def ten_thousand_requests_over_fifty_connections(server):
    failures = []

    def run(worker):
        try:
            clients = [Client(server.port) for _ in range(10)]
            for turn in range(200):
                for index, client in enumerate(clients):
                    client.send(request("GET", "/items/%d-%d-%d" % (worker, turn, index), KEY))
                for index, client in enumerate(clients):
                    equal(client.read().json()["id"], "%d-%d-%d" % (worker, turn, index))
            for client in clients:
                client.close()
        except Exception as error:  # reported by the main thread
            failures.append(error)

    with Client(server.port) as client:
        before = client.ask("GET", "/gone").json()
        threads = [threading.Thread(target=run, args=(i,)) for i in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        equal(failures, [])
        after = client.ask("GET", "/gone").json()
        equal(after["requests"] - before["requests"], 10001)
        equal(after["ok"] - before["ok"], 10001)


def slow_clients_time_out(server):
    begun = time.monotonic()
    with Client(server.port) as idle, Client(server.port) as head, Client(server.port) as body, \
            Client(server.port) as again:
        equal(again.ask("GET", "/hello").status, 200)
        head.send(b"GET /hel")
        body.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        again.send(request("GET", "/hello") + b"GET /hel")  # a part behind a whole request
        equal(again.read().status, 200)
        time.sleep(0.5)
        head.send(b"l")  # a byte now and then is no excuse
        for client in (head, body, again):
            want_refused(client, 408)
        took = time.monotonic() - begun
        assert 0.9 < took < 2.5, took
        assert idle.at_end()
        took = time.monotonic() - begun
        assert 2.9 < took < 4.5, took


def clients_that_do_not_read_are_closed(server):
    with Client(server.port) as client:
        client.sock.setblocking(False)
        data = request("POST", "/echo", None, bytes(BODY_MAX))
        sent = 0
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:  # until the buffers of both sides are full
            try:
                sent += client.sock.send(data[sent % len(data):])
            except BlockingIOError:
                time.sleep(0.05)
        assert sent > 10 * BODY_MAX, sent
        time.sleep(3)
        client.sock.settimeout(5)
        try:
            while client.sock.recv(1 << 20):
                pass
        except ConnectionResetError:
            pass


def clients_that_break_off_anywhere_do_no_harm(server):
    chance = random.Random(7)
    whole = [request("GET", "/hello") * 3, request("POST", "/echo", None, b"x" * 3000),
             b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
             chunked([b"y" * 500] * 5) + request("GET", "/slow?ms=5"),
             STRICT["CL and TE"], request("GET", "/work") * 2,
             b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"]
    for turn in range(400):
        data = chance.choice(whole)
        with Client(server.port if turn % 4 else server.tls_port,
                    context=None if turn % 4 else tls_context()) as client:
            cut = chance.randrange(len(data) + 1)
            client.send(data[:cut])
            if chance.random() < 0.5:
                time.sleep(0.002)
            if chance.random() < 0.3:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                       b"\x01\0\0\0\0\0\0\0")
    with Client(server.port) as client:
        equal(client.ask("GET", "/hello").status, 200)


def without_descriptors_accepting_pauses(server):
    small = Server(server.program, 1, 40)
    try:
        clients = [Client(small.port) for _ in range(100)]
        time.sleep(0.6)
        with open("/proc/%d/stat" % small.process.pid, encoding="ascii") as file:
            ticks = sum(int(word) for word in file.read().rsplit(")", 1)[1].split()[11:13])
        equal(clients[0].ask("GET", "/hello").status, 200)
        lines = small.log().count("accepting pauses")
        assert 1 <= lines <= 20, lines
        assert ticks / os.sysconf("SC_CLK_TCK") < 1.5, ticks
        for client in clients[:80]:
            client.close()
        equal(clients[99].ask("GET", "/hello").status, 200)
        equal(small.terminate(), 0)
    finally:
        small.close()


def tls_context(alpn=None, version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    if version:
        context.minimum_version = context.maximum_version = version
    return context


def tls_speaks_http_1_1_alone(server):
    for alpn, chosen in ((["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"),
                         (["h2"], None), (None, None)):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with Client(server.tls_port, context=tls_context(alpn, version)) as client:
                equal(client.sock.selected_alpn_protocol(), chosen)
                big = os.urandom(BODY_MAX)
                for _ in range(3):
                    equal(client.ask("POST", "/echo", None, big).body, big)
                client.send(request("GET", "/hello") * 5)
                equal([client.read().body for _ in range(5)], [b"hello\n"] * 5)
    with Client(server.tls_port, context=tls_context()) as client:
        client.send(STRICT["CL and TE"])
        equal(client.read().status, 400)
    with Client(server.tls_port) as client:
        client.send(request("GET", "/hello"))  # plain HTTP on the TLS port
        assert client.at_end() or client.fill() is None


def tls_refuses_old_versions(server):
    context = tls_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        Client(server.tls_port, context=context)
    except ssl.SSLError:
        return
    raise AssertionError("TLS 1.1 was accepted")


def tls_sessions_resume_by_ticket(server):
    context = tls_context(None, ssl.TLSVersion.TLSv1_2)
    with Client(server.tls_port, context=context) as client:
        equal(client.ask("GET", "/hello").status, 200)
        session = client.sock.session
    sock = socket.create_connection(("127.0.0.1", server.tls_port), 10)
    with context.wrap_socket(sock, server_hostname="one.test", session=session) as again:
        assert again.session_reused


def a_connection_read_from_before_keeps_its_input(server):
    for data, status in ((request("GET", "/hello"), 200), (STRICT["CL and TE"], 400),
                         (request("POST", "/echo", None, b"x" * 9000), 200)):
        for cut in (4, 30, len(data)):
            with Client(server.peek_port, context=tls_context()) as client:
                client.send(data[:cut])
                time.sleep(0.02)
                client.send(data[cut:])
                equal(client.read().status, status)
                if status == 200:
                    equal(client.ask("GET", "/hello").body, b"hello\n")


def a_stuck_handshake_holds_nobody_up(server):
    stuck = [Client(server.tls_port) for _ in range(30)]
    for client in stuck[::2]:
        client.send(b"\x16\x03\x01")
    with Client(server.tls_port, context=tls_context()) as client:
        equal(client.ask("GET", "/hello").status, 200)
    for client in stuck:
        client.close()


def server_cert(server):
    with Client(server.tls_port, context=tls_context()) as client:
        return client.sock.getpeercert(True)


def tls_reload_takes_new_files_or_keeps_the_old(server):
    first = server_cert(server)
    with Client(server.tls_port, context=tls_context()) as client:
        equal(client.ask("GET", "/hello").status, 200)
        server.make_cert("two.test")
        equal(server_cert(server), first)
        server.reload()
        second = server_cert(server)
        assert second != first
        equal(client.ask("GET", "/hello").status, 200)  # an open connection goes on
    with open(server.path("key.pem"), "w", encoding="ascii") as file:
        file.write("not a key\n")
    server.reload()
    equal(server_cert(server), second)
    assert "cannot use the TLS key" in server.log()


def requests_are_logged_without_secrets(server):
    lines = [json.loads(line) for line in server.log().splitlines()]
    requests = [line for line in lines if line["msg"] == "request"]
    line = next(line for line in requests if line["path"] == "/items/{itemID}")
    for field in ("method", "status", "duration_ms", "request_id"):
        assert field in line, field
    for secret in ("let-me-in", "secret=1", "u+v"):
        assert secret not in server.log(), secret


def drain_finishes_what_runs_and_ends(server):
    idle = [Client(server.port) for _ in range(10)]
    for client in idle[::2]:
        equal(client.ask("GET", "/hello").status, 200)
    secure = Client(server.tls_port, context=tls_context())
    equal(secure.ask("GET", "/hello").status, 200)
    busy = [Client(server.port) for _ in range(10)]
    for client in busy:
        client.send(request("GET", "/slow?ms=600") + request("GET", "/hello"))
    arriving = []
    for cut in (10, -3):  # in the head, in the body
        text = request("POST", "/echo", body=b"whole")
        arriving.append((Client(server.port), text[cut:]))
        arriving[-1][0].send(text[:cut])
    time.sleep(0.2)
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    for client in idle + [secure]:
        assert client.at_end()
    assert time.monotonic() - begun < 0.3
    try:
        Client(server.port).close()
        raise AssertionError("a new connection was accepted")
    except ConnectionRefusedError:
        pass
    for client in busy:
        answer = client.read()
        equal((answer.body, answer.headers["connection"]), (b"late\n", "close"))
        assert client.at_end()
    equal(server.process.poll(), None)  # it waits for what has begun to arrive
    for client, rest in arriving:
        client.send(rest)
        answer = client.read()
        equal((answer.status, answer.body), (200, b"whole"))
        assert client.at_end()
    equal(server.process.wait(10), 0)
    equal(server.process.stdout.read(), "stopped\n")


TESTS = [
    keep_alive_serves_many_requests,
    both_families_of_localhost_listen,
    pipelined_requests_are_answered_in_order,
    a_bad_request_behind_a_good_one_is_not_served,
    chunked_bodies_arrive_whole,
    ambiguous_requests_are_refused,
    bodies_have_a_limit,
    heads_have_a_limit,
    expect_is_met,
    routes_answer_by_the_table,
    parameters_and_queries_are_decoded,
    request_ids_are_echoed_when_sane,
    deferred_replies_outlive_their_clients,
    workers_answer_on_the_loop,
    ten_thousand_requests_over_fifty_connections,
    slow_clients_time_out,
    clients_that_do_not_read_are_closed,
    clients_that_break_off_anywhere_do_no_harm,
    without_descriptors_accepting_pauses,
    tls_speaks_http_1_1_alone,
    tls_refuses_old_versions,
    tls_sessions_resume_by_ticket,
    a_connection_read_from_before_keeps_its_input,
    a_stuck_handshake_holds_nobody_up,
    tls_reload_takes_new_files_or_keeps_the_old,
    requests_are_logged_without_secrets,
    drain_finishes_what_runs_and_ends,  # the last: it ends the server
]


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        os.environ.get("OUT", "build/release"), "tests/integration/http_server")
    server = Server(program)
    passed = failed = 0
    try:
        for test in TESTS:
            try:
                test(server)
                passed += 1
            except Exception:
                failed += 1
                print("FAIL " + test.__name__)
                traceback.print_exc(file=sys.stdout)
            if server.process.poll() is not None and test is not TESTS[-1]:
                print("FAIL the server ended with %d" % server.process.returncode)
                failed += len(TESTS) - TESTS.index(test) - 1
                break
        if failed > 0:
            print("\n".join(line for line in server.log().splitlines()
                            if not line.startswith('{"time"'))[-6000:])
    finally:
        server.close()
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
