"""tests/integration/proxy_test.py - the proxy on real sockets, with a guest server of the test.

Needs $OUT/tests/integration/proxy_server, which is built here.
"""

import base64
import hashlib
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib
from proxy_backend import CHUNK, Backend, reset

OUT = os.environ.get("SANDPIT_OUT") or os.environ.get("OUT") or os.path.join(lib.ROOT, "build/release")
PROGRAM = os.path.join(OUT, "tests/integration/proxy_server")
SANDBOX = "iaaaaaaaaaaaaaaaaaaaa"
PRIVATE = "ibbbbbbbbbbbbbbbbbbbb"
PAUSED = "ipppppppppppppppppppp"
BIG = 200 * 1024 * 1024
NOT_FOUND = b'{"sandboxId":"%s","message":"The sandbox was not found","code":502}'
CLOSED = (b'{"sandboxId":"%s","message":"The sandbox is running but port is not open",'
          b'"port":%d,"code":502}')
FACTOR = float(os.environ.get("SANDPIT_TIME_FACTOR") or 1)


class Proxy:
    def __init__(self, envd_port, idle_ms=630000, threads=2):
        self.folder = tempfile.TemporaryDirectory()
        self.cert = os.path.join(self.folder.name, "cert.pem")
        key = os.path.join(self.folder.name, "key.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=box.test", "-keyout", key, "-out", self.cert,
             "-addext", "subjectAltName=DNS:*.box.test"],
            check=True, capture_output=True)
        self.log = open(os.path.join(self.folder.name, "log"), "w+b")
        self.process = subprocess.Popen(
            [PROGRAM, str(threads), self.cert, key, str(envd_port), str(idle_ms)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            # else ASan keeps 256 MiB of freed buffers, and no bound could be seen
            env=dict(os.environ, ASAN_OPTIONS="quarantine_size_mb=4:" +
                     os.environ.get("ASAN_OPTIONS", "")))
        words = self.process.stdout.readline().split()
        self.port, self.tls_port = int(words[1]), int(words[2])

    def order(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def stats(self):
        self.order("stats")
        names = ("requests", "upgrades", "errors", "bytes_in", "bytes_out")
        return dict(zip(names, map(int, self.process.stdout.readline().split())))

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(file.read().split("VmRSS:")[1].split()[0])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        """End it; what a sanitizer has to say is an error."""
        self.order("quit")
        code = self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.seek(0)
        log = self.log.read().decode(errors="replace")
        self.log.close()
        self.folder.cleanup()
        if code != 0 or lib.SANITIZER.search(log):
            raise AssertionError(f"the proxy ended with {code}:\n{log[-8000:]}")


class Client:
    """A raw connection to the proxy."""

    def __init__(self, proxy, tls=False, timeout=20, host=None):
        self.sock = socket.create_connection(("127.0.0.1", proxy.tls_port if tls else proxy.port))
        self.sock.settimeout(timeout * FACTOR)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context(cafile=proxy.cert)
            self.sock = context.wrap_socket(
                self.sock, server_hostname="x.box.test", suppress_ragged_eofs=False)
        self.stream = self.sock.makefile("rb")
        self.host = host

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.sock.close()

    def send(self, method, path, fields=(), body=b"", host=None):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or self.host}"]
        lines += [f"{name}: {value}" for name, value in fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def head(self):
        line = self.stream.readline()
        if not line:
            raise EOFError("no response")
        self.status = int(line.split()[1])
        self.fields = {}
        while (line := self.stream.readline()) not in (b"\r\n", b""):
            name, value = line.decode("latin-1").rstrip("\r\n").split(": ", 1)
            self.fields[name.lower()] = value
        return self.status

    def body(self, method="GET"):
        if method == "HEAD" or self.status in (204, 304) or self.status < 200:
            return b""
        if self.fields.get("transfer-encoding") == "chunked":
            out = b""
            while size := int(self.stream.readline(), 16):
                out += self.stream.read(size)
                self.stream.readline()
            self.trailers = []
            while (line := self.stream.readline()) not in (b"\r\n", b""):
                self.trailers.append(line.decode().strip())
            return out
        if "content-length" in self.fields:
            return self.stream.read(int(self.fields["content-length"]))
        return self.stream.read()

    def get(self, path, fields=(), body=b"", host=None, method=None):
        method = method or ("POST" if body else "GET")
        self.send(method, path, fields, body, host)
        self.head()
        return self.body(method)


class ProxyTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        build = os.path.basename(OUT)
        if build in ("release", "debug", "asan", "tsan", "cov") or not os.path.exists(PROGRAM):
            subprocess.run(["make", f"OUT={OUT}", f"BUILD={build}", PROGRAM], cwd=lib.ROOT,
                           check=True, stdout=subprocess.DEVNULL)
        cls.guest = Backend()
        cls.envd = Backend()
        cls.proxy = Proxy(cls.envd.port)
        cls.host = f"{cls.guest.port}-{SANDBOX}.box.test"
        cls.envd_host = f"49983-{SANDBOX}.box.test:3443"

    @classmethod
    def tearDownClass(cls):
        cls.guest.close()
        cls.envd.close()
        cls.proxy.stop()

    def client(self, host=None, **options):
        client = Client(self.proxy, host=host or self.host, **options)
        self.addCleanup(client.__exit__)
        return client

    def closed_port(self):
        return lib.free_ports(1)[0]

    # --- plain exchanges ---

    def test_request_and_response_pass(self):
        client = self.client()
        what = json.loads(client.get("/a%2Fb//c?x=%zz&y;z", body=b"data" * 100))
        self.assertEqual(client.status, 200)
        self.assertEqual(what["path"], "/a%2Fb//c?x=%zz&y;z")
        self.assertEqual(what["sha256"], hashlib.sha256(b"data" * 100).hexdigest())

    def test_connection_to_the_client_is_kept(self):
        client = self.client()
        for i in range(50):
            self.assertEqual(client.get("/small", body=b"x" * i), b"hello")

    def test_pipelined_requests_are_answered_in_order(self):
        client = self.client()
        data = b"".join(
            f"POST /n{i} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: 3\r\n\r\nabc".encode()
            for i in range(20))
        client.sock.sendall(data)
        for i in range(20):
            client.head()
            self.assertEqual(json.loads(client.body())["path"], f"/n{i}")

    def test_request_may_come_byte_by_byte(self):
        client = self.client()
        for byte in f"POST /slowly HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: 2\r\n\r\nok".encode():
            client.sock.sendall(bytes([byte]))
        client.head()
        self.assertEqual(json.loads(client.body())["size"], 2)

    def test_head_and_bodiless_statuses(self):
        client = self.client()
        self.assertEqual(client.get("/x", method="HEAD"), b"")
        for code in (204, 304):
            self.assertEqual(client.get(f"/status/{code}"), b"")
            self.assertEqual(client.status, code)
            self.assertEqual(client.fields["x-code"], str(code))
        self.assertEqual(client.get("/small"), b"hello")

    def test_chunked_both_ways_with_trailers(self):
        client = self.client()
        client.send("POST", "/echo", [("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")])
        for _ in range(100):
            client.sock.sendall(b"5;ext=1\r\nhello\r\n")
        client.sock.sendall(b"0\r\nX-Sum: 42\r\n\r\n")
        client.head()
        what = json.loads(client.body())
        self.assertEqual(what["size"], 500)
        self.assertEqual(what["trailers"], ["X-Sum: 42"])
        self.assertEqual(client.get("/chunked/300"), b"c" * 300000)
        self.assertEqual(client.trailers, ["X-End: yes"])
        self.assertEqual(client.get("/small"), b"hello")

    def test_response_without_length_ends_with_the_connection(self):
        client = self.client()
        self.assertEqual(client.get("/until-close"), b"no length")
        self.assertEqual(client.fields["connection"], "close")
        self.assertEqual(client.stream.read(), b"")

    def test_http_1_0_client_gets_no_chunks_and_a_close(self):
        client = self.client()
        client.sock.sendall(f"GET /chunked/3 HTTP/1.0\r\nHost: {self.host}\r\n\r\n".encode())
        client.head()
        self.assertNotIn("transfer-encoding", client.fields)
        self.assertEqual(client.fields["connection"], "close")
        self.assertEqual(client.stream.read(), b"c" * 3000)

    def test_interim_responses_pass(self):
        client = self.client()
        client.send("GET", "/hints")
        self.assertEqual((client.head(), client.fields["link"]), (103, "</a.css>"))
        self.assertEqual((client.head(), client.fields["link"]), (103, "</b.css>"))
        client.head()
        self.assertEqual(client.body(), b"page")

    def test_expect_continue_is_asked_of_the_guest(self):
        client = self.client()
        client.send("POST", "/continue", [("Content-Length", "4"), ("Expect", "100-continue")])
        self.assertEqual(client.head(), 100)
        client.sock.sendall(b"body")
        client.head()
        self.assertEqual(json.loads(client.body())["size"], 4)

    def test_absolute_form_names_the_host(self):
        client = self.client(host="ignored.example")
        what = json.loads(client.get(f"http://{self.host}/abs?q"))
        self.assertEqual(what["path"], "/abs?q")
        self.assertIn(f"\r\nHost: {self.host}\r\n", what["raw"])

    # --- heads ---

    def test_forged_forwarding_fields_are_replaced(self):
        fields = [("Forwarded", "for=1.2.3.4"), ("X-Forwarded-For", "1.2.3.4"),
                  ("X-Forwarded-Host", "evil"), ("x-forwarded-proto", "https"), ("X-Own", "1"),
                  ("Connection", "keep-alive, X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "1"),
                  ("TE", "trailers, gzip"), ("Proxy-Authorization", "x"),
                  ("E2b-Sandbox-Id", PRIVATE), ("Authorization", "Basic dXNlcjo=")]
        raw = json.loads(self.client().get("/x", fields))["raw"]
        for name in ("Forwarded:", "X-Forwarded-For", "evil", "proto", "X-Hop", "Keep-Alive",
                     "gzip", "Proxy-Auth"):
            self.assertNotIn(name, raw)
        for line in (f"X-Forwarded-Host: {self.host}", f"Host: {self.host}", "X-Own: 1",
                     "TE: trailers", f"E2b-Sandbox-Id: {PRIVATE}", "Connection: close",
                     "Authorization: Basic dXNlcjo="):
            self.assertIn(f"\r\n{line}\r\n", raw)

    def test_hop_by_hop_fields_of_a_response_stay(self):
        client = self.client()
        client.get("/hop")
        self.assertEqual(set(client.fields), {"content-length", "x-public"})

    def test_envd_gets_a_token_that_names_the_user(self):
        def claims(value):
            fields = [("Authorization", value)] if value else []
            raw = json.loads(self.client(self.envd_host).get("/x", fields))["raw"]
            self.assertEqual(raw.lower().count("\r\nauthorization:"), 1)
            token = raw.split("Authorization: Bearer ")[1].split("\r\n")[0]
            part = token.split(".")[1]
            return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))

        basic = "Basic " + base64.b64encode(b"r\xc3\xb6\xc3\xb6t:pw").decode()
        named = claims(basic)
        self.assertEqual(named["sub"], SANDBOX)
        self.assertEqual(named["user"], "rööt")
        self.assertGreater(named["exp"], time.time())
        for value in (None, "Basic !!!", "Bearer forged", "Basic dXNlcg=="):
            self.assertNotIn("user", claims(value))

    # --- finding the sandbox ---

    def test_headers_route_on_shared_hosts_only(self):
        client = self.client()
        route = [("E2b-Sandbox-Id", SANDBOX), ("E2b-Sandbox-Port", str(self.guest.port))]
        for host in ("localhost", "127.0.0.1:3002", "[::1]:1", "sandbox.box.test"):
            self.assertIn("raw", json.loads(client.get("/x", route, host=host)))
        other = [("E2b-Sandbox-Id", PAUSED), ("E2b-Sandbox-Port", "1")]
        self.assertIn("raw", json.loads(client.get("/x", other)))

    def test_malformed_hosts(self):
        id_only = [("E2b-Sandbox-Id", SANDBOX)]
        bad_port = [("E2b-Sandbox-Id", SANDBOX), ("E2b-Sandbox-Port", "x")]
        for host, fields, text in (
            ("localhost", [], b"Invalid host\n"),
            ("127.0.0.1", id_only, b"missing header\n"),
            ("localhost", bad_port, b"Invalid sandbox port\n"),
            ("nothing", [], b"Invalid host\n"),
            ("80-UPPER_.box.test", [], b"Invalid sandbox ID\n"),
        ):
            client = self.client()
            self.assertEqual(client.get("/", fields, host=host), text)
            self.assertEqual(client.status, 400)
            self.assertEqual(client.fields["content-type"], "text/plain; charset=utf-8")
            self.assertEqual(client.fields["x-content-type-options"], "nosniff")
            self.assertEqual(client.get("/small"), b"hello")  # the connection goes on

    def test_unknown_and_paused_sandboxes(self):
        client = self.client()
        for name in ("izzz", PAUSED, "igoneeeeeeeeeeeeeeeee"):
            self.assertEqual(client.get("/x", host=f"3000-{name}.box.test"),
                             NOT_FOUND % name.encode())
            self.assertEqual(client.status, 502)
            self.assertEqual(client.fields["content-type"], "application/json; charset=utf-8")

    def test_closed_port_after_about_a_second(self):
        port = self.closed_port()
        client = self.client()
        start = time.monotonic()
        self.assertEqual(client.get("/x", host=f"{port}-{SANDBOX}.box.test"),
                         CLOSED % (SANDBOX.encode(), port))
        self.assertEqual(client.status, 502)
        self.assertTrue(0.9 <= time.monotonic() - start < 3 * FACTOR)
        self.assertEqual(client.get("/x", host=f"99999-{SANDBOX}.box.test"),
                         CLOSED % (SANDBOX.encode(), 99999))

    def test_browser_gets_a_page(self):
        client = self.client()
        page = client.get("/", [("User-Agent", "Mozilla/5.0 Chrome"), ("Accept", "text/html")],
                          host="3000-izzz.box.test")
        self.assertEqual(client.fields["content-type"], "text/html; charset=utf-8")
        self.assertIn(b"<title>Sandbox Not Found</title>", page)

    def test_server_that_is_just_starting_is_reached(self):
        port = self.closed_port()
        backend = []
        timer = threading.Timer(0.3, lambda: backend.append(Backend(port=port)))
        timer.start()
        self.assertEqual(self.client().get("/small", host=f"{port}-{SANDBOX}.box.test"), b"hello")
        backend[0].close()

    def test_server_on_ipv6_loopback_only_is_reached_at_once(self):
        try:
            backend = Backend(socket.AF_INET6)
        except OSError as error:
            self.skipTest(f"no IPv6 loopback: {error}")
        start = time.monotonic()
        self.assertEqual(self.client().get("/small", host=f"{backend.port}-{SANDBOX}.box.test"),
                         b"hello")
        self.assertLess(time.monotonic() - start, 0.8)
        backend.close()

    def test_private_traffic_wants_its_token(self):
        client = self.client(f"{self.guest.port}-{PRIVATE}.box.test")
        self.assertIn(b"Token header 'e2b-traffic-access-token' is missing\",\"code\":403}",
                      client.get("/x"))
        self.assertEqual(client.status, 403)
        self.assertIn(b"is invalid\",\"code\":403}",
                      client.get("/x", [("E2b-Traffic-Access-Token", "guess")]))
        raw = json.loads(client.get("/x", [("e2b-traffic-access-token", "let me in")]))["raw"]
        self.assertIn("e2b-traffic-access-token: let me in", raw)
        self.assertIn("raw", json.loads(client.get("/x", host=f"49983-{PRIVATE}.box.test")))

    def test_internal_paths_are_refused_before_lookup(self):
        client = self.client()
        for path in ("/init", "//init", "/init/", "/files/../init", "/%69nit?x", "/x/%2e%2e/init"):
            self.assertEqual(
                client.get(path, host="49983-izzz.box.test", method="POST"),
                b'{"message":"This endpoint is reserved for the E2B control plane and is not '
                b'reachable through the sandbox URL","path":"/init","code":404}')
        self.assertEqual(json.loads(client.get("/init"))["path"], "/init")  # a user port

    def test_api_gets_the_socket_with_nothing_consumed(self):
        for tls in (False, True):
            client = self.client(tls=tls)
            self.assertEqual(client.get("/small"), b"hello")
            client.send("GET", "/sandboxes", [("X-A", "1")], host="api.box.test:3443")
            client.head()
            self.assertEqual(client.body(), b"GET /sandboxes HTTP/1.1\r\n"
                             b"Host: api.box.test:3443\r\nX-A: 1\r\n\r\n")

    # --- what is refused ---

    def test_ambiguous_requests_are_refused(self):
        host = f"Host: {self.host}\r\n".encode()
        line = b"POST / HTTP/1.1\r\n"
        for data, status in (
            (line + host + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (line + host + host + b"\r\n", 400),
            (line + b"\r\n", 400),
            (line + host + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
            (line + host + b"A: b\r\n c\r\n\r\n", 400),
            (line + host + b"A : b\r\n\r\n", 400),
            (line + host + b"A: b\0c\r\n\r\n", 400),
            (line + host + b"A: b\rc\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\n" + host + b"\r\n", 505),
            (b"CONNECT a.b:1 HTTP/1.1\r\n" + host + b"\r\n", 400),
            (line + host + b"A: b\r\n" * 101 + b"\r\n", 431),
            (line + host + b"A: " + b"b" * 70000 + b"\r\n\r\n", 431),
        ):
            client = self.client()
            client.sock.sendall(data)
            self.assertEqual(client.head(), status, data[:80])
            self.assertEqual(client.fields["connection"], "close")
            client.body()
            self.assertEqual(client.stream.read(), b"")

    def test_malformed_chunks_never_look_complete(self):
        client = self.client()
        client.send("POST", "/echo", [("Transfer-Encoding", "chunked")])
        client.sock.sendall(b"5\r\nhelloX")
        client.head()
        self.assertEqual(client.status, 400)

    # --- streams ---

    def test_200_mb_each_way_in_bounded_memory(self):
        block = os.urandom(CHUNK)
        digest = hashlib.sha256()
        before = self.proxy.rss_kib()
        client = self.client(timeout=120)
        client.send("POST", "/echo", [("Content-Length", str(BIG))])
        peak = 0
        for _ in range(BIG // CHUNK):
            client.sock.sendall(block)
            digest.update(block)
            peak = max(peak, self.proxy.rss_kib())
        client.head()
        what = json.loads(client.body())
        self.assertEqual((what["size"], what["sha256"]), (BIG, digest.hexdigest()))
        expected = hashlib.sha256(bytes(range(256)) * (BIG // 256)).hexdigest()
        client.send("GET", f"/big/{BIG}")
        client.head()
        digest, left = hashlib.sha256(), BIG
        while left > 0:
            part = client.stream.read1(CHUNK)
            digest.update(part)
            left -= len(part)
            peak = max(peak, self.proxy.rss_kib())
        self.assertEqual(digest.hexdigest(), expected)
        self.assertLess(peak - before, 32 * 1024)

    def test_slow_reader_stops_the_sender(self):
        client = self.client()
        client.send("GET", "/endless")
        client.head()
        time.sleep(0.5)
        before = self.proxy.stats()["bytes_out"]
        time.sleep(0.5)
        self.assertEqual(self.proxy.stats()["bytes_out"], before)
        client.__exit__()
        lib.wait_until("the sender is cut", 10, lambda: self.guest.count("cut") > 0)

    def test_events_are_passed_at_once(self):
        client = self.client()
        client.send("GET", "/sse")
        client.head()
        for i in range(3):
            client.stream.readline()
            _, number, sent = client.stream.readline().split()
            if i == 0:  # the last one is sent 0.4 s later
                self.assertLess(time.monotonic() - float(sent), 0.3)
            self.assertEqual(int(number), i)
            client.stream.readline()
            client.stream.readline()

    def test_response_before_the_request_ends(self):
        client = self.client()
        client.send("POST", "/early", [("Content-Length", str(BIG))])
        client.sock.sendall(b"x" * CHUNK)
        self.assertEqual(client.head(), 413)
        self.assertEqual(client.body(), b"too much")
        self.assertEqual(client.stream.read(), b"")

    def test_request_that_ends_after_its_response_leaves_the_connection_usable(self):
        ends = (
            ([("Content-Length", "9")], b"12345", b"6789"),
            ([("Transfer-Encoding", "chunked")], b"5\r\n12345\r\n", b"4\r\n6789\r\n0\r\n\r\n"),
        )
        for host in (self.host, self.envd_host):
            for tls in (False, True):
                for fields, begin, end in ends:
                    client = self.client(host, tls=tls)
                    for _ in range(3):
                        client.send("POST", "/early", fields)
                        client.sock.sendall(begin)
                        self.assertEqual((client.head(), client.body()), (413, b"too much"))
                        self.assertNotIn("connection", client.fields)
                        client.sock.sendall(end)
                    self.assertEqual(client.get("/small"), b"hello")

    def test_tls_streams_both_ways(self):
        client = self.client(tls=True, timeout=60)
        data = os.urandom(8 * 1024 * 1024)
        what = json.loads(client.get("/echo", body=data))
        self.assertEqual(what["sha256"], hashlib.sha256(data).hexdigest())
        self.assertEqual(len(client.get("/big/8000000")), 8000000)
        self.assertEqual(client.get("/until-close"), b"no length")

    # --- ends ---

    def test_client_that_leaves_is_noticed_upstream(self):
        before = self.guest.count("gone")
        client = self.client()
        client.send("GET", "/wait")
        lib.wait_until("the guest waits", 5, lambda: self.guest.count("waiting") > before)
        client.__exit__()
        lib.wait_until("the guest notices", 5, lambda: self.guest.count("gone") > before)

    def test_cut_response_is_cut_for_the_client(self):
        for tls in (False, True):
            for how in ("length", "chunked", "reset"):
                client = self.client(tls=tls)
                client.send("GET", f"/die/{how}")
                client.head()
                with self.assertRaises((ConnectionResetError, ssl.SSLError)):
                    while client.stream.read1(100):
                        pass

    def test_no_response_counts_as_a_closed_port(self):
        for how in ("nothing", "head", "garbage"):
            client = self.client()
            self.assertEqual(client.get(f"/die/{how}"),
                             CLOSED % (SANDBOX.encode(), self.guest.port))

    def test_ended_sandbox_resets_its_connections(self):
        guest = f"{self.guest.port}-iggggggggggggggggggggg.box.test"
        other = self.client()
        other.send("GET", "/sse")
        other.head()
        cut = [self.client(guest) for _ in range(5)]
        for client in cut:
            client.send("GET", "/endless")
            client.head()
        self.proxy.order("ended iggggggggggggggggggggg")
        for client in cut:
            with self.assertRaises(ConnectionResetError):
                while client.stream.read1(CHUNK):
                    pass
        other.body()  # another sandbox's stream goes on

    # --- upgrades ---

    def test_websocket_echo(self):
        for tls in (False, True):
            client = self.client(tls=tls)
            client.send("GET", "/ws", [("Connection", "Upgrade"), ("Upgrade", "websocket"),
                                       ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")])
            self.assertEqual(client.head(), 101)
            self.assertEqual(client.fields["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            self.assertEqual(client.fields["upgrade"], "websocket")
            self.assertEqual(client.stream.read(5), b"first")
            data = os.urandom(300000)
            client.sock.sendall(data)  # not in a thread: one TLS object is not for two at once
            self.assertEqual(client.stream.read(300000), data)

    def test_tunnel_ends_one_side_at_a_time(self):
        client = self.client()
        client.send("GET", "/ws", [("Connection", "upgrade"), ("Upgrade", "raw")])
        client.head()
        client.stream.read(5)
        client.sock.sendall(b"last words")
        client.sock.shutdown(socket.SHUT_WR)
        self.assertEqual(client.stream.read(), b"last wordsafter eof")

    def test_upgrade_to_something_else_is_refused(self):
        client = self.client()
        client.send("GET", "/wrong-upgrade", [("Connection", "Upgrade"), ("Upgrade", "websocket")])
        self.assertEqual(client.head(), 502)

    # --- envd's kept connections ---

    def test_envd_connections_are_reused_and_replaced(self):
        client = self.client(self.envd_host)
        client.get("/small")
        before = self.envd.count("connections")
        for _ in range(20):
            self.assertEqual(client.get("/small", body=b"x"), b"hello")
        self.assertEqual(self.envd.count("connections"), before)
        for _ in range(20):  # each time the kept connection is closed by envd
            self.assertEqual(client.get("/bye", body=b"x"), b"bye")

    def test_guest_connections_are_not_kept(self):
        client = self.client()
        before = self.guest.count("connections")
        for _ in range(3):
            client.get("/small")
        self.assertEqual(self.guest.count("connections"), before + 3)

    # --- many ---

    def test_500_connections_at_once(self):
        clients = [self.client(self.envd_host if i % 2 else self.host) for i in range(500)]
        for i, client in enumerate(clients):
            client.send("POST", f"/n{i}", body=b"z" * i)
        for i, client in enumerate(clients):
            client.head()
            what = json.loads(client.body())
            self.assertEqual((what["path"], what["size"]), (f"/n{i}", i))

    def test_disorder_leaves_the_proxy_well(self):
        """Clients that leave at any moment, sandboxes that end meanwhile."""
        ending = f"{self.guest.port}-iggggggggggggggggggggg.box.test"
        hosts = [self.host, self.envd_host, ending, f"1-{SANDBOX}.box.test", "izzz.box.test"]
        paths = ["/small", "/big/3000000", "/chunked/500", "/die/length", "/die/reset", "/early",
                 "/bye", "/until-close", "/wait", "/ws", "/hints", "/init"]

        def disorder(seed):
            rnd = random.Random(seed)
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                try:
                    with Client(self.proxy, tls=rnd.random() < 0.2, timeout=0.2) as client:
                        for _ in range(rnd.randrange(1, 5)):
                            fields = []
                            if rnd.random() < 0.3:
                                fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
                            body = os.urandom(rnd.choice([0, 0, 10, 100000]))
                            client.send(rnd.choice(["GET", "POST", "HEAD"]), rnd.choice(paths),
                                        fields, body, rnd.choice(hosts))
                            if rnd.random() < 0.5:
                                client.head()
                            if rnd.random() < 0.3:
                                client.stream.read1(rnd.randrange(1, 100000))
                        if rnd.random() < 0.3:
                            reset(client.sock)
                except (OSError, EOFError, ValueError, IndexError):
                    pass

        before = self.proxy.descriptors()
        threads = [threading.Thread(target=disorder, args=(seed,)) for seed in range(16)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.proxy.order("ended iggggggggggggggggggggg")
            time.sleep(0.02)
        self.assertEqual(self.client().get("/small"), b"hello")
        self.assertEqual(self.client(self.envd_host).get("/small"), b"hello")
        # lingering ends within 2 s; up to 8 connections to envd are kept in each of 2 loops
        lib.wait_until("descriptors are closed", 10,
                       lambda: self.proxy.descriptors() <= before + 2 + 16)


class IdleTest(unittest.TestCase):
    def test_idle_client_is_closed_and_drain_ends_the_others(self):
        envd = Backend()
        proxy = Proxy(envd.port, idle_ms=400)
        host = f"49983-{SANDBOX}.box.test"
        try:
            with Client(proxy, host=host) as idle:
                idle.get("/small")
                start = time.monotonic()
                self.assertEqual(idle.stream.read(), b"")
                self.assertTrue(0.3 < time.monotonic() - start < 2 * FACTOR)
            with Client(proxy, host=host) as busy, Client(proxy, host=host) as idle:
                busy.send("GET", "/sse")
                busy.head()
                proxy.order("drain")
                self.assertEqual(idle.stream.read(), b"")
                self.assertIn(b"data: 2", busy.body())
                self.assertEqual(busy.stream.read(), b"")
        finally:
            envd.close()
            proxy.stop()

    def test_slow_guest_stops_the_client_whose_end_is_still_noticed(self):
        guest = Backend()
        proxy = Proxy(guest.port, threads=1)
        before = proxy.descriptors()
        try:
            client = Client(proxy, host=f"{guest.port}-{SANDBOX}.box.test")
            client.send("POST", "/slow-reader", [("Content-Length", str(BIG))])
            client.sock.settimeout(1)
            with self.assertRaises(TimeoutError):
                for _ in range(BIG // CHUNK):
                    client.sock.sendall(b"x" * CHUNK)
            self.assertEqual(proxy.descriptors(), before + 2)
            client.stream.close()
            reset(client.sock)  # nothing is read from it now, and nothing written to it
            lib.wait_until("both sides are closed", 15, lambda: proxy.descriptors() == before)
            guest.keep.set()
        finally:
            guest.close()
            proxy.stop()


if __name__ == "__main__":
    lib.main()
