#!/usr/bin/env python3
"""The egress gateway between real network namespaces: a sandbox's, the router's, and a world of
servers (DNS, HTTP, TLS, SOCKS5) that see what arrives. Clients are curl, openssl and sockets.
"""

import contextlib
import ctypes
import json
import os
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

OUT = os.environ.get("SANDPIT_OUT") or os.path.join(lib.ROOT, "build/release")
FACTOR = lib.time_factor()
TAG = f"{os.getpid() % 10000}"
BOX, ROUTER, WORLD = f"gwb{TAG}", f"gwr{TAG}", f"gww{TAG}"
BOX_ADDRESS, ROUTER_ADDRESS = "100.64.0.2", "100.64.0.1"
DNS, GOOD, OTHER, PROXY, PRIVATE = ("203.0.113.53", "203.0.113.10", "203.0.113.11",
                                    "203.0.113.12", "10.9.0.10")  # fmt: skip
NAMES = {"good.test": GOOD, "www.good.test": GOOD, "deep.www.good.test": GOOD, "other.test": OTHER,
         "inner.test": PRIVATE, "loop.test": "127.0.0.1", "api.secret.test": GOOD,
         "plain.secret.test": GOOD, "wrong.secret.test": OTHER, "proxy.test": PROXY}  # fmt: skip
ALL = ["0.0.0.0/0"]
LIBC = ctypes.CDLL(None, use_errno=True)


def sh(command, check=True):
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return done.stdout


@contextlib.contextmanager
def inside(name):
    """This thread in the network namespace NAME: sockets made here stay there."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{name}") as there:
        if LIBC.setns(there.fileno(), 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            if LIBC.setns(home.fileno(), 0x40000000):
                os._exit(1)


def make_namespaces():
    for name in (BOX, ROUTER, WORLD):
        sh(f"ip netns add {name} && ip -n {name} link set lo up")
    sh(f"ip -n {ROUTER} link add sb0 type veth peer name eth0 netns {BOX}")
    sh(f"ip -n {ROUTER} link add up0 type veth peer name eth0 netns {WORLD}")
    sh(f"ip -n {ROUTER} addr add {ROUTER_ADDRESS}/30 dev sb0")
    sh(f"ip -n {BOX} addr add {BOX_ADDRESS}/30 dev eth0")
    for dev, name in (("sb0", ROUTER), ("up0", ROUTER), ("eth0", BOX), ("eth0", WORLD)):
        sh(f"ip -n {name} link set {dev} up")
    sh(f"ip -n {BOX} route add default via {ROUTER_ADDRESS}")
    sh(f"ip -n {ROUTER} addr add 203.0.113.1/24 dev up0")
    sh(f"ip -n {ROUTER} addr add 10.9.0.1/24 dev up0")
    for address in (DNS, GOOD, OTHER, PROXY):
        sh(f"ip -n {WORLD} addr add {address}/24 dev eth0")
    sh(f"ip -n {WORLD} addr add {PRIVATE}/24 dev eth0")
    sh(f"ip -n {WORLD} route add 100.64.0.0/10 via 203.0.113.1")  # for `direct`
    sh(f"ip netns exec {ROUTER} sysctl -qw net.ipv4.ip_forward=1")
    redirect(True)


def redirect(on):
    rule = "iif sb0 meta l4proto tcp redirect to :15001" if on else ""
    text = ("table ip gw\ndelete table ip gw\ntable ip gw {\n chain pre {\n"
            f"  type nat hook prerouting priority -100;\n  {rule}\n }}\n}}\n")  # fmt: skip
    subprocess.run(["ip", "netns", "exec", ROUTER, "nft", "-f", "-"], input=text, text=True,
                   check=True)  # fmt: skip


def make_certificates(folder):
    """A CA of the world and one certificate for its names."""
    names = ",".join(f"DNS:{name}" for name in NAMES if name != "wrong.secret.test")
    sh(f"cd {folder} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
       "-keyout wca.key -out wca.pem -subj /CN=world -days 2 2>/dev/null && "
       "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout w.key -out w.csr "
       f"-subj /CN=w 2>/dev/null && printf 'subjectAltName={names}' > ext && "
       "openssl x509 -req -in w.csr -CA wca.pem -CAkey wca.key -CAcreateserial -days 2 "
       "-extfile ext -out w.pem 2>/dev/null")  # fmt: skip


class Threads(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def handle_error(self, request, client_address):
        pass


def serve(address, port, handler, context=None):
    with inside(WORLD):
        server = Threads((address, port), handler, bind_and_activate=False)
        server.server_bind()
        server.server_activate()
    server.context = context
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def read_head(file):
    lines = []
    while (line := file.readline()) not in (b"\r\n", b""):
        lines.append(line.decode("latin-1").rstrip("\r\n"))
    return lines


class Echo(socketserver.StreamRequestHandler):
    """HTTP, maybe in TLS: answers with what it saw, as JSON; keeps the connection."""

    def setup(self):
        if self.server.context:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def body(self, headers):
        if headers.get("transfer-encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(headers.get("content-length", 0)))

    def send_big(self, size):
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        part = b"x" * 1_000_000
        while size > 0:
            self.wfile.write(part[:size])
            size -= len(part)

    def handle(self):
        while lines := read_head(self.rfile):
            pairs = [line.split(": ", 1) for line in lines[1:]]
            headers = {name.lower(): value for name, value in pairs}
            if headers.get("upgrade") == "websocket":
                self.wfile.write(b"HTTP/1.1 101 ok\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
                while data := self.rfile.readline():
                    self.wfile.write(b"echo " + data)
                return
            body = self.body(headers)
            seen = json.dumps({"line": lines[0], "headers": pairs, "size": len(body),
                               "at": self.request.getsockname()[0]}).encode()  # fmt: skip
            if lines[0].startswith("GET /big"):
                self.send_big(int(lines[0].split()[1][5:]))
                continue
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(seen), seen))


class Greeter(socketserver.BaseRequestHandler):
    """A protocol where the server speaks first, then echoes."""

    def handle(self):
        self.request.sendall(b"220 hello\r\n")
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Socks(socketserver.BaseRequestHandler):
    """SOCKS5 with a password; notes what it was asked for."""

    asked = []

    def setup(self):
        if self.server.context:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)

    def take(self, size):
        data = b""
        while len(data) < size:
            part = self.request.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def handle(self):
        methods = self.take(self.take(2)[1])
        if 2 not in methods:
            self.request.sendall(b"\x05\xff")
            return
        self.request.sendall(b"\x05\x02")
        user = self.take(self.take(2)[1])
        password = self.take(self.take(1)[0])
        good = (user, password) == (b"user", b"pass")
        self.request.sendall(b"\x01\x00" if good else b"\x01\x01")
        if not good:
            return
        kind = self.take(4)[3]
        host = self.take(self.take(1)[0]).decode() if kind == 3 else socket.inet_ntoa(self.take(4))
        port = struct.unpack("!H", self.take(2))[0]
        Socks.asked.append((host, port))
        with inside(WORLD):
            up = socket.create_connection((NAMES.get(host, host), port), timeout=10)
        self.request.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        threading.Thread(target=self.copy, args=(up, self.request), daemon=True).start()
        self.copy(self.request, up)

    @staticmethod
    def copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def answer_dns():
    with inside(WORLD):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((DNS, 53))

    def run():
        while True:
            data, peer = sock.recvfrom(2000)
            at, labels = 12, []
            while size := data[at]:
                labels.append(data[at + 1 : at + 1 + size].decode())
                at += size + 1
            address = NAMES.get(".".join(labels).lower())
            question = data[12 : at + 5]
            head = data[:2] + (b"\x81\x80" if address else b"\x81\x83")
            head += struct.pack("!HHHH", 1, 1 if address else 0, 0, 0) + question
            if address:
                head += b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + socket.inet_aton(address)
            sock.sendto(head, peer)

    threading.Thread(target=run, daemon=True).start()


def hello(name, records=1):
    """A ClientHello of openssl's own making for NAME, in that many records."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    tls = context.wrap_bio(into, out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    data = out.read()
    if records == 1:
        return data
    body, size = data[5:], len(data[5:]) // records + 1
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"\x16\x03\x01" + struct.pack("!H", len(part)) + part for part in parts)


class Gateway:
    def __init__(self, folder):
        self.folder = folder
        self.socket = os.path.join(folder, "gw.sock")
        self.version = time.monotonic_ns()
        self.start()

    def start(self):
        resolver = str(struct.unpack("!I", socket.inet_aton(DNS))[0])
        self.log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", ROUTER, f"{OUT}/tests/integration/gateway_server", self.socket,
             f"{self.folder}/ca", f"{self.folder}/wca.pem", resolver, f"{self.folder}/empty", "65533"],
            stdout=self.log, stderr=self.log)  # fmt: skip
        lib.wait_until("the gateway", 10 * FACTOR, lambda: self.call(2, None, "10.255.255.1") == 0)

    def call(self, op, policy, address=BOX_ADDRESS):
        self.version += 1
        number = struct.unpack("!I", socket.inet_aton(address))[0]
        packet = struct.pack("=IIIIQ24s", 0x53504731, op, number, 0, self.version, b"itest")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = []
        try:
            sock.settimeout(10)
            sock.connect(self.socket)
            if policy is not None:
                fds = [os.memfd_create("policy")]
                os.write(fds[0], policy if isinstance(policy, bytes) else json.dumps(policy).encode())
            socket.send_fds(sock, [packet], fds)
            reply = sock.recv(2000)
        except OSError:
            return None
        finally:
            for fd in fds:
                os.close(fd)
            sock.close()
        return struct.unpack("=II", reply[:8])[1]

    def policy(self, **fields):
        assert self.call(1, fields) == 0

    def log_text(self):
        with open(os.path.join(self.folder, "log")) as file:
            return file.read()


def curl(*args):
    """(exit code, output) of curl in the sandbox; names lead wherever DNS says."""
    pins = []
    for name, address in NAMES.items():
        for port in (80, 443):
            pins += ["--resolve", f"{name}:{port}:{address}"]
    command = ["ip", "netns", "exec", BOX, "curl", "-s", "-m", str(int(20 * FACTOR)), *pins, *args]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gw = GATEWAY
        cls.world = ["--cacert", f"{GATEWAY.folder}/wca.pem"]
        cls.ours = ["--cacert", f"{GATEWAY.folder}/ca/ca.pem"]

    def seen(self, *args):
        code, out = curl(*args)
        self.assertEqual(code, 0, out)
        seen = json.loads(out)
        seen["all"] = {}
        for name, value in seen["headers"]:
            seen["all"].setdefault(name, []).append(value)
        return seen

    def connect(self, address, port):
        with inside(BOX):
            sock = socket.create_connection((address, port), timeout=15 * FACTOR)
        self.addCleanup(sock.close)
        return sock

    def closed(self, sock):
        """What still comes before the end, whichever way it ends."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while part := sock.recv(65536):
                data += part
        return data


class Names(Case):
    def setUp(self):
        self.gw.policy(allowOut=["good.test", "*.good.test"], denyOut=ALL)

    def test_tls_to_a_listed_name_passes_untouched(self):
        seen = self.seen(*self.world, "https://good.test/a")
        self.assertEqual((seen["line"], seen["at"]), ("GET /a HTTP/1.1", GOOD))

    def test_wildcards_cover_what_is_below_and_not_the_name_itself(self):
        for name in ("www.good.test", "deep.www.good.test"):
            self.seen(*self.world, f"https://{name}/")
        self.gw.policy(allowOut=["*.good.test"], denyOut=ALL)
        self.assertNotEqual(curl(*self.world, "https://good.test/")[0], 0)

    def test_tls_to_another_name_gets_an_alert(self):
        sock = self.connect(OTHER, 443)
        sock.sendall(hello("other.test"))
        self.assertEqual(self.closed(sock), b"\x15\x03\x03\x00\x02\x02\x31")

    def test_http_to_another_name_is_told_why(self):
        code, out = curl("-w", "%{http_code}", "http://other.test/")
        self.assertEqual((code, out[-3:]), (0, "403"), out)
        self.assertIn("other.test", out)
        self.assertIn("allowOut", out)

    def test_http_to_a_listed_name_passes(self):
        self.assertEqual(self.seen("http://good.test/x")["at"], GOOD)

    def test_a_listed_name_leads_where_we_resolve_it_to(self):
        """The sandbox says that good.test is at another server: it is not believed."""
        seen = self.seen(*self.world, "--connect-to", f"good.test:443:{OTHER}:443", "https://good.test/")
        self.assertEqual(seen["at"], GOOD)

    def test_a_host_that_is_not_the_first_one_ends_the_connection(self):
        sock = self.connect(GOOD, 80)
        sock.sendall(b"GET /1 HTTP/1.1\r\nHost: good.test\r\n\r\n")
        self.assertIn(b"200 OK", sock.recv(65536))
        sock.sendall(b"GET /2 HTTP/1.1\r\nHost: other.test\r\n\r\n")
        self.assertIn(b"421 ", self.closed(sock))

    def test_a_target_that_names_another_host_is_refused(self):
        sock = self.connect(GOOD, 80)
        sock.sendall(b"GET http://other.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n")
        self.assertIn(b"400 ", self.closed(sock))

    def test_two_hosts_and_smuggling_are_refused(self):
        for head in (b"Host: good.test\r\nHost: other.test\r\n",
                     b"Host: good.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"):  # fmt: skip
            sock = self.connect(GOOD, 80)
            sock.sendall(b"GET / HTTP/1.1\r\n" + head + b"\r\n")
            self.assertNotIn(b"200 OK", self.closed(sock))

    def test_addresses_and_unknown_protocols_are_cut(self):
        for first in (b"GET / HTTP/1.1\r\nHost: 203.0.113.10\r\n\r\n", b"\x00\x01\x02\x03", b"SSH-2.0-x\r\n"):
            sock = self.connect(GOOD, 80)
            sock.sendall(first)
            self.assertNotIn(b"200 OK", self.closed(sock))

    def test_a_hello_without_a_name_or_with_an_address(self):
        for name in (None, "203.0.113.10"):
            sock = self.connect(GOOD, 443)
            sock.sendall(hello(name))
            self.assertEqual(self.closed(sock)[-1:], b"\x31")

    def test_a_hello_in_many_records_and_slowly(self):
        sock = self.connect(GOOD, 443)
        for byte in (data := hello("good.test", 7))[:40]:
            sock.sendall(bytes([byte]))
            time.sleep(0.005)
        sock.sendall(data[40:])
        self.assertEqual(sock.recv(3)[:1], b"\x16")  # ServerHello

    def test_a_hello_too_large_or_malformed(self):
        whole = hello("good.test")
        huge = b"\x16\x03\x01\x40\x00\x01\x00\x80\x00" + b"\x00" * 40000
        for data in (huge, whole[:9] + b"\xff\xff" + whole[11:], whole[:5] + b"\x02" + whole[6:]):
            sock = self.connect(GOOD, 443)
            sock.sendall(data)
            self.assertNotIn(b"\x16\x03", self.closed(sock)[:2])

    def test_names_that_lead_into_private_networks(self):
        self.gw.policy(allowOut=["inner.test", "loop.test"], denyOut=ALL)
        for name in ("inner.test", "loop.test"):
            code, out = curl("-w", "%{http_code}", "--connect-to", f"{name}:80:{GOOD}:80", f"http://{name}/")
            self.assertEqual((code, out[-3:]), (0, "403"), out)
        self.gw.policy(allowOut=["inner.test", "10.9.0.0/24"], denyOut=ALL)
        self.assertEqual(self.seen("http://inner.test/")["at"], PRIVATE)

    def test_a_name_that_does_not_exist(self):
        self.gw.policy(allowOut=["*.test"], denyOut=ALL)
        code, out = curl("-w", "%{http_code}", "--connect-to", f"no.test:80:{GOOD}:80", "http://no.test/")
        self.assertEqual((code, out[-3:]), (0, "502"), out)

    def test_without_a_policy_everything_is_cut(self):
        self.assertEqual(self.gw.call(2, None), 0)
        self.assertNotEqual(curl("http://good.test/")[0], 0)

    def test_a_policy_that_is_not_understood_changes_nothing(self):
        for bad in (b"", b"{", b"[]", b'{"rules":[]}', b'{"rules":{"a.test":{}}}',
                    b'{"egressProxy":{}}', b'{"egressProxy":{"address":"x"}}',
                    b'{"rules":{"a.test":[{"transform":{"headers":{"a b":"c"}}}]}}',
                    b'{"rules":{"a.test":[{"transform":{"headers":{"a":"b\\r\\nc"}}}]}}'):  # fmt: skip
            self.assertEqual(self.gw.call(1, bad), 1, bad)
        self.seen(*self.world, "https://good.test/a")


class Addresses(Case):
    def test_a_server_that_speaks_first(self):
        self.gw.policy(allowOut=[GOOD, "good.test"], denyOut=ALL)
        sock = self.connect(GOOD, 25)
        self.assertEqual(sock.recv(100), b"220 hello\r\n")
        sock.sendall(b"x" * 3000)
        got = b""
        while len(got) < 3000:
            got += sock.recv(65536)
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(self.closed(sock), b"")

    def test_the_same_while_names_matter(self):
        self.gw.policy(rules=RULES)
        self.assertEqual(self.connect(GOOD, 25).recv(100), b"220 hello\r\n")

    def test_private_networks_need_to_be_named(self):
        self.gw.policy(rules=RULES)
        self.assertNotEqual(curl(f"http://{PRIVATE}/")[0], 0)
        self.gw.policy(rules=RULES, allowOut=["10.9.0.0/24"])
        self.assertEqual(self.seen(f"http://{PRIVATE}/")["at"], PRIVATE)

    def test_a_closed_port(self):
        self.gw.policy(allowOut=[GOOD], denyOut=ALL, rules=RULES)
        self.assertIn(curl(f"http://{GOOD}:81/")[0], (52, 56, 0))


RULES = {"api.secret.test": [{"transform": {"headers": {"authorization": "Bearer s3cr3t", "X-Two": "2"}}}],
         "*.secret.test": [{"transform": {"headers": {"x-wild": "w"}}}],
         "broken.good.test": [{"transform": {"headers": {"x-none": None}}}],
         "www.good.test": [{"transform": {"headers": {"x-none": None}}}]}  # fmt: skip


class Rules(Case):
    def setUp(self):
        self.gw.policy(rules=RULES)

    def test_headers_are_set_within_tls(self):
        seen = self.seen(*self.ours, "-H", "Authorization: mine", "-H", "Accept: a/b", "https://api.secret.test/p?q")
        self.assertEqual(seen["line"], "GET /p?q HTTP/1.1")
        self.assertEqual(seen["all"]["authorization"], ["Bearer s3cr3t"])
        self.assertEqual((seen["all"]["x-two"], seen["all"]["Accept"]), (["2"], ["a/b"]))
        self.assertNotIn("Authorization", seen["all"])
        self.assertNotIn("x-wild", seen["all"])

    def test_headers_are_set_in_clear(self):
        seen = self.seen("http://plain.secret.test/")
        self.assertEqual(seen["all"]["x-wild"], ["w"])

    def test_other_hosts_are_left_alone(self):
        seen = self.seen(*self.world, "https://good.test/")
        self.assertNotIn("authorization", seen["all"])

    def test_rules_grant_nothing(self):
        self.gw.policy(rules=RULES, denyOut=ALL, allowOut=["good.test"])
        self.assertNotEqual(curl(*self.ours, "https://api.secret.test/")[0], 0)

    def test_a_rule_goes_to_the_host_itself_not_where_the_sandbox_says(self):
        seen = self.seen(*self.ours, "--connect-to", f"api.secret.test:443:{OTHER}:443", "https://api.secret.test/")
        self.assertEqual(seen["at"], GOOD)

    def test_another_host_within_the_connection_gets_nothing(self):
        code, out = curl(*self.ours, "-w", "%{http_code}", "-H", "Host: other.test", "https://api.secret.test/")
        self.assertEqual((code, out[-3:]), (0, "421"), out)

    def test_trace_is_refused(self):
        code, out = curl(*self.ours, "-w", "%{http_code}", "-X", "TRACE", "https://api.secret.test/")
        self.assertEqual((code, out[-3:]), (0, "405"), out)

    def test_a_server_that_cannot_be_trusted(self):
        code, out = curl(*self.ours, "-w", "%{http_code}", "https://wrong.secret.test/")
        self.assertEqual((code, out[-3:]), (0, "502"), out)
        self.assertIn("trusted", out)

    def test_a_secret_that_is_not_there(self):
        code, out = curl(*self.ours, "-w", "%{http_code}", "https://www.good.test/")
        self.assertEqual((code, out[-3:]), (0, "502"), out)
        self.assertIn("x-none", out)

    def test_the_sandbox_must_trust_our_ca(self):
        self.assertEqual(curl(*self.world, "https://api.secret.test/")[0], 60)

    def test_bodies_and_many_requests_on_one_connection(self):
        path = os.path.join(self.gw.folder, "body")
        with open(path, "wb") as file:
            file.write(os.urandom(3_000_000))
        code, out = curl(*self.ours, "-H", "Expect:", "--data-binary", f"@{path}", "https://api.secret.test/1",
                         "--next", "-s", *self.ours, "--resolve", f"api.secret.test:443:{GOOD}",
                         "-H", "Transfer-Encoding: chunked", "-H", "Expect:", "-T", path, "https://api.secret.test/2",
                         "--next", "-s", *self.ours, "--resolve", f"api.secret.test:443:{GOOD}",
                         "https://api.secret.test/3")  # fmt: skip
        self.assertEqual(code, 0)
        rows, decoder, at = [], json.JSONDecoder(), 0
        while at < len(out):
            row, at = decoder.raw_decode(out, at)
            rows.append(row)
        self.assertEqual([row["size"] for row in rows], [3_000_000, 3_000_000, 0])
        for row in rows:
            self.assertIn(["authorization", "Bearer s3cr3t"], row["headers"])

    def test_a_large_answer(self):
        code, out = curl(*self.ours, "https://api.secret.test/big/20000000")
        self.assertEqual((code, len(out)), (0, 20_000_000))

    def tls(self, name):
        context = ssl.create_default_context(cafile=f"{self.gw.folder}/ca/ca.pem")
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context.wrap_socket(self.connect(GOOD, 443), server_hostname=name)

    def test_only_http_1_is_offered_and_web_sockets_pass(self):
        sock = self.tls("api.secret.test")
        self.assertEqual(sock.selected_alpn_protocol(), "http/1.1")
        sock.sendall(b"GET / HTTP/1.1\r\nHost: api.secret.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        head = sock.recv(4096)
        self.assertIn(b" 101 ", head)
        for line in (b"one\n", b"\x81\x05GET / HTTP/1.1\n"):
            sock.sendall(line)
            self.assertEqual(sock.recv(4096), b"echo " + line)

    def test_a_changed_rule_counts_from_the_next_request(self):
        sock = self.tls("api.secret.test")
        request = b"GET / HTTP/1.1\r\nHost: api.secret.test\r\n\r\n"
        sock.sendall(request)
        self.assertIn(b"Bearer s3cr3t", sock.recv(65536))
        self.gw.policy(rules={"api.secret.test": [{"transform": {"headers": {"authorization": "rotated"}}}]})
        sock.sendall(request)
        answer = sock.recv(65536)
        self.assertIn(b"rotated", answer)
        self.assertNotIn(b"s3cr3t", answer)

    def test_headers_never_reach_the_log(self):
        self.seen(*self.ours, "https://api.secret.test/")
        self.assertNotIn("s3cr3t", self.gw.log_text())


class Updates(Case):
    def test_what_becomes_forbidden_is_cut_and_the_rest_stays(self):
        self.gw.policy(allowOut=["good.test", "other.test"], denyOut=ALL)
        socks = {}
        for name, address in (("good.test", GOOD), ("other.test", OTHER)):
            socks[name] = self.connect(address, 80)
            socks[name].sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            self.assertIn(b"200 OK", socks[name].recv(65536))
        self.gw.policy(allowOut=["good.test"], denyOut=ALL)
        self.assertEqual(self.closed(socks["other.test"]), b"")
        socks["good.test"].sendall(b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n")
        self.assertIn(b"200 OK", socks["good.test"].recv(65536))
        self.assertEqual(self.gw.call(2, None), 0)
        self.assertEqual(self.closed(socks["good.test"]), b"")

    def test_an_old_policy_is_passed_over(self):
        self.gw.policy(allowOut=["good.test"], denyOut=ALL)
        now, self.gw.version = self.gw.version, 1
        self.assertEqual(self.gw.call(1, {}), 0)
        self.gw.version = now
        self.assertNotEqual(curl(*self.world, "https://other.test/")[0], 0)

    def test_killed_it_refuses_until_it_is_told(self):
        self.gw.policy(allowOut=["good.test"], denyOut=ALL)
        self.seen(*self.world, "https://good.test/")
        self.gw.process.kill()
        self.gw.process.wait()
        self.assertNotEqual(curl("-m", "3", *self.world, "https://good.test/")[0], 0)
        self.gw.start()
        self.assertNotEqual(curl("-m", "3", *self.world, "https://good.test/")[0], 0)
        self.gw.policy(allowOut=["good.test"], denyOut=ALL)
        self.seen(*self.world, "https://good.test/")


class Proxies(Case):
    def proxy(self, **fields):
        Socks.asked.clear()
        return {"address": f"{PROXY}:1080", "username": "user", "password": "pass", **fields}

    def test_names_are_left_to_the_proxy(self):
        self.gw.policy(allowOut=["good.test"], denyOut=ALL, egressProxy=self.proxy())
        self.seen(*self.world, "https://good.test/")
        self.assertEqual(Socks.asked, [("good.test", 443)])
        self.assertNotEqual(curl(*self.world, "https://other.test/")[0], 0)
        self.assertEqual(len(Socks.asked), 1)

    def test_addresses_go_through_it_and_the_server_may_speak_first(self):
        self.gw.policy(egressProxy=self.proxy(address="proxy.test:1080"))
        self.assertEqual(self.connect(GOOD, 25).recv(100), b"220 hello\r\n")
        self.assertEqual(Socks.asked, [(GOOD, 25)])

    def test_wrong_credentials_and_a_proxy_that_is_not_there(self):
        self.gw.policy(allowOut=["good.test"], denyOut=ALL, egressProxy=self.proxy(password="no"))
        code, out = curl("-w", "%{http_code}", "http://good.test/")
        self.assertEqual((code, out[-3:]), (0, "502"), out)
        self.assertIn("credentials", out)
        self.gw.policy(allowOut=["good.test"], denyOut=ALL, egressProxy=self.proxy(address=f"{PROXY}:1"))
        self.assertEqual(curl("-w", "%{http_code}", "http://good.test/")[1][-3:], "502")

    def test_tls_to_the_proxy_and_headers_within(self):
        with open(f"{self.gw.folder}/wca.pem") as file:
            ca = file.read()
        tls = {"enabled": True, "serverName": "proxy.test", "caCert": ca}
        self.gw.policy(rules=RULES, egressProxy=self.proxy(address=f"{PROXY}:1443", tls=tls))
        seen = self.seen(*self.ours, "https://api.secret.test/")
        self.assertEqual(seen["all"]["authorization"], ["Bearer s3cr3t"])
        self.assertEqual(Socks.asked, [("api.secret.test", 443)])
        code, out = curl(*self.ours, "https://api.secret.test/big/3000000")
        self.assertEqual((code, len(out)), (0, 3_000_000))
        tls["serverName"] = "nobody.test"
        self.gw.policy(rules=RULES, egressProxy=self.proxy(address=f"{PROXY}:1443", tls=tls))
        self.assertEqual(curl(*self.ours, "-w", "%{http_code}", "https://api.secret.test/")[1][-3:], "502")


class Load(Case):
    def test_many_connections_and_the_limit_of_one_sandbox(self):
        self.gw.policy(allowOut=["good.test"], denyOut=ALL)
        socks = [self.connect(GOOD, 80) for _ in range(1024)]
        time.sleep(0.3 * FACTOR)
        late = self.connect(GOOD, 80)
        self.assertEqual(self.closed(late), b"")
        for sock in socks[:50]:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n")
        for sock in socks[:50]:
            self.assertIn(b"200 OK", sock.recv(65536))
        for sock in socks:
            sock.close()
        lib.wait_until("room again", 10 * FACTOR, lambda: curl("http://good.test/")[0] == 0)

    @unittest.skipIf("asan" in OUT or "tsan" in OUT, "sanitizers keep what has been freed")
    def test_who_does_not_read_is_waited_for_with_little_memory(self):
        self.gw.policy(allowOut=["good.test"], denyOut=ALL)
        before = self.rss_kb()
        socks = [self.connect(GOOD, 80) for _ in range(40)]
        for sock in socks:
            sock.sendall(b"GET /big/50000000 HTTP/1.1\r\nHost: good.test\r\n\r\n")
        time.sleep(1.5 * FACTOR)
        self.assertLess(self.rss_kb() - before, 40 * 256)

    def rss_kb(self):
        pid = self.gw.process.pid  # `ip netns exec` has become it
        with open(f"/proc/{pid}/status") as file:
            return int(next(line for line in file if line.startswith("VmRSS")).split()[1])


class ZLast(Case):
    def test_no_sanitizer_has_spoken(self):
        self.assertIsNone(lib.SANITIZER.search(self.gw.log_text()), self.gw.log_text()[-5000:])


class Confinement(Case):
    def test_it_has_no_files_no_rights_and_another_user(self):
        pid = self.gw.process.pid  # `ip netns exec` has become it
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        self.assertEqual(status["Uid"].split(), ["65533"] * 4)
        self.assertEqual((status["CapEff"], status["CapPrm"], status["NoNewPrivs"]), ("0" * 16, "0" * 16, "1"))
        self.assertEqual(os.readlink(f"/proc/{pid}/root"), f"{self.gw.folder}/empty")


def bench_speed(url, *args):
    code, out = curl("-o", "/dev/null", "-w", "%{speed_download}", *args, url)
    return float(out) / 1e6 if code == 0 else float("nan")


def bench_setup(count=300):
    """Median ms of connect, request, answer."""
    took = []
    with inside(BOX):
        for _ in range(count):
            began = time.monotonic()
            with socket.create_connection((GOOD, 80)) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n")
                sock.recv(65536)
            took.append(time.monotonic() - began)
    return sorted(took)[count // 2] * 1000


def bench():
    """Directly, and by the gateway: by name, with headers set in TLS. MB/s and ms."""
    size = 1_000_000_000
    world = ["--cacert", f"{GATEWAY.folder}/wca.pem"]
    ours = ["--cacert", f"{GATEWAY.folder}/ca/ca.pem"]
    rows = []
    redirect(False)
    rows.append(("direct, HTTP", bench_speed(f"http://good.test/big/{size}"), bench_setup()))
    rows.append(("direct, TLS", bench_speed(f"https://good.test/big/{size}", *world), None))
    redirect(True)
    GATEWAY.policy(allowOut=["good.test", "*.secret.test"], denyOut=ALL, rules=RULES)
    rows.append(("gateway, HTTP by name", bench_speed(f"http://good.test/big/{size}"), bench_setup()))
    rows.append(("gateway, TLS by name", bench_speed(f"https://good.test/big/{size}", *world), None))
    rows.append(("gateway, TLS with headers", bench_speed(f"https://api.secret.test/big/{size}", *ours), None))
    for name, speed, setup in rows:
        print(f"{name:28} {speed:8.0f} MB/s" + (f" {setup:8.2f} ms connect to answer" if setup else ""))


GATEWAY = None


def main():
    global GATEWAY
    lib.need_root()
    folder = tempfile.mkdtemp(prefix="gateway-test-")
    os.chmod(folder, 0o755)
    os.mkdir(f"{folder}/empty", 0o755)
    servers = []
    try:
        make_namespaces()
        make_certificates(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/w.pem", f"{folder}/w.key")
        answer_dns()
        for address in (GOOD, OTHER, PRIVATE):
            servers += [serve(address, 80, Echo), serve(address, 443, Echo, context)]
        servers += [serve(GOOD, 25, Greeter), serve(PROXY, 1080, Socks), serve(PROXY, 1443, Socks, context)]
        GATEWAY = Gateway(folder)
        if "--bench" in sys.argv:
            return bench()
        lib.main(__name__)
    finally:
        if GATEWAY:
            GATEWAY.process.kill()
            GATEWAY.process.wait()
        for name in (BOX, ROUTER, WORLD):
            sh(f"ip netns del {name}", check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
