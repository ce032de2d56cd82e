#!/usr/bin/env python3
"""What sandboxes reach, tried from inside against real listeners in namespaces of the test's own.

The world (tests/netlab.py) holds public, private and metadata addresses; the server runs beside it.
"""

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402
import netlab  # noqa: E402
from netlab import CGNAT, DNS, HOST, METADATA, OTHER, PRIVATE, PRIVATE_2, WEB  # noqa: E402

ALL = "0.0.0.0/0"

# Inside: one line, "open <answer>" or the name of the error.
PROBE = """
import socket, sys
kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
try:
    if kind == "tcp":
        sock = socket.create_connection((address, port), 3)
        sock.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        answer = sock.recv(4096).split(b"\\r\\n\\r\\n")[-1]
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(1.5)
        sock.connect((address, port))
        sock.send(sys.argv[4].encode() * int(sys.argv[5]) if len(sys.argv) > 5 else b"hi")
        answer = sock.recv(65536)[:60]
    print("open", answer.decode())
except OSError as err:
    print(type(err).__name__, err.errno)
"""

# Inside, left running: reads ticks of a connection and writes down how it ended.
STREAM = """
import socket, time
sock = socket.create_connection(("%s", 9000), 3)
sock.sendall(b"stream")
try:
    while sock.recv(100):
        open("/tmp/ticks", "a").write(".")
    end = "closed"
except OSError as err:
    end = type(err).__name__
open("/tmp/end", "w").write(end)
"""


def setUpModule():
    lib.need_root()
    global world, server
    world = netlab.World()
    unittest.addModuleCleanup(world.close)
    server = lib.Server(args=["--id-base", str(netlab.ID_BASE)])
    unittest.addModuleCleanup(server.stop)
    server.start()


def probe(sandbox, kind, address, port, *more):
    sandbox.write("/tmp/probe.py", PROBE.encode())
    result = sandbox.exec("python3", ["/tmp/probe.py", kind, address, str(port), *map(str, more)])
    return result.stdout.decode().strip() or result.stderr.decode()


def tcp(sandbox, address, port=80):
    """Whether ADDRESS answers, and it is the world's."""
    answer = probe(sandbox, "tcp", address, port)
    if answer.startswith("open"):
        assert f'"at": "{address}"' in answer, answer
        return True
    return False


def udp(sandbox, address):
    answer = probe(sandbox, "udp", address, 7)
    if answer.startswith("open"):
        assert answer == f"open {address} hi", answer
        return True
    return False


def resolved(sandbox, name="web.test"):
    """The address that the sandbox's resolver gives, "" for none in time."""
    return sandbox.sh(f"timeout 3 getent ahostsv4 {name} | head -1 | cut -d' ' -f1").text.strip()


def put(sandbox, **rules):
    return server.api("PUT", f"/sandboxes/{sandbox.id}/network", rules)


def shown(sandbox):
    return server.api("GET", f"/sandboxes/{sandbox.id}").json


def pid_of(sandbox):
    """Its first process, on the host."""
    return written_pid(os.path.join(server.run, "sandboxes", sandbox.id))


def written_pid(path):
    with open(path) as file:
        found = re.search(r'"pid": ?(\d+)', file.read())
    return int(found.group(1)) if found else 0  # 0: is being written


def router_pid():
    return written_pid(os.path.join(server.run, "router"))


def inside(pid, *command, **options):
    """COMMAND as the host's root in PID's network namespace: an attacker with every capability."""
    return subprocess.run(["nsenter", "--net", "--target", str(pid), *command],
                          capture_output=True, text=True, **options)


# An ICMP echo through a datagram socket, which needs no privilege. 1: Linux's IPPROTO_ICMP.
ECHO = """
import socket, sys
family, protocol, kind = (10, 58, 128) if ":" in sys.argv[1] else (2, 1, 8)
sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
sock.settimeout(1.5)
scope = socket.if_nametoindex("eth0") if sys.argv[1][0] == "f" else 0
target = (sys.argv[1], 0, 0, scope) if family == 10 else (sys.argv[1], 0)
try:
    sock.sendto(bytes([kind, 0, 0, 0, 0, 1, 0, 1]) + b"ping", target)
    print("answer" if sock.recv(99)[8:] == b"ping" else "junk")
except TimeoutError:
    print("silence")
except OSError:
    print("refused")
"""


def echo4(sandbox, address):
    sandbox.write("/tmp/echo.py", ECHO.encode())
    return sandbox.exec("python3", ["/tmp/echo.py", address]).text.strip()


def echo6(pid, address):
    inside(pid, "sysctl", "-q", "net.ipv4.ping_group_range=0 4294967294")
    result = inside(pid, sys.executable, "-c", ECHO, address)
    return result.stdout.strip() or result.stderr


class Case(unittest.TestCase):
    def create(self, **body):
        sandbox = server.create(**body)
        self.addCleanup(sandbox.kill)
        return sandbox

    def reaches(self, sandbox, yes=(), no=()):
        for address in yes:
            self.assertTrue(tcp(sandbox, address), f"tcp {address}")
            self.assertTrue(udp(sandbox, address), f"udp {address}")
        for address in no:
            self.assertFalse(tcp(sandbox, address), f"tcp {address}")
            self.assertFalse(udp(sandbox, address), f"udp {address}")


class Defaults(Case):
    def test_the_internet_is_open_and_what_is_internal_is_not(self):
        sandbox = self.create()
        with self.canary("0.0.0.0") as port:
            for address in (HOST, "127.0.0.1", "10.0.2.2", "100.64.0.1"):
                self.assertFalse(tcp(sandbox, address, port), address)
        self.reaches(sandbox, [WEB, OTHER], [PRIVATE, PRIVATE_2, METADATA, CGNAT])
        self.assertEqual(resolved(sandbox), WEB)

    @contextlib.contextmanager
    def canary(self, address):
        """A listener of the host that nobody may reach."""
        hits = []
        listener = socket.create_server((address, 0))

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    hits.append(listener.accept())

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.close()
        self.assertEqual(hits, [])

    def test_without_internet_nothing_answers_not_even_the_resolver(self):
        for body in ({"allow_internet_access": False}, {"network": {"denyOut": [ALL]}}):
            sandbox = self.create(**body)
            self.reaches(sandbox, [], [WEB])
            self.assertEqual(resolved(sandbox), "")

    def test_no_sandbox_reaches_another(self):
        one, two = self.create(), self.create()
        two.background("python3 -m http.server 8000 --bind 0.0.0.0")
        address = two.sh("hostname -I | cut -d' ' -f1").text.strip()
        self.assertTrue(address.startswith("100.64."), address)
        lib.wait_until("the server inside", 10, lambda: "200" in two.sh(
            "curl -s -o /dev/null -w %{http_code} http://127.0.0.1:8000/").text)
        self.assertFalse(tcp(one, address, 8000))
        self.assertEqual(put(one, allowOut=[address + "/32", "100.64.0.0/10"]).status, 204)
        self.assertFalse(tcp(one, address, 8000))

    def test_ipv6_leads_nowhere(self):
        one, two = self.create(), self.create()
        for pid in (pid_of(one), pid_of(two)):
            found = inside(pid, "ip", "-6", "-o", "addr", "show", "dev", "eth0").stdout
            self.assertNotIn("global", found)
        self.assertEqual(inside(router_pid(), "ip", "-6", "-o", "addr").stdout, "")
        # neither all nodes of the link nor the other sandbox's link-local address answer
        local = re.search(r"fe80[0-9a-f:]+", inside(
            pid_of(two), "ip", "-6", "-o", "addr", "show", "dev", "eth0").stdout).group(0)
        for address in ("ff02::1", local):
            self.assertIn(echo6(pid_of(one), address), ("silence", "refused"), address)
        self.assertEqual(echo6(pid_of(two), "::1"), "answer")  # the question itself is good


class Rules(Case):
    def test_allowed_beats_denied(self):
        sandbox = self.create(network={"allowOut": [WEB, "9.9.9.0/24"], "denyOut": [ALL]})
        self.reaches(sandbox, [WEB], [OTHER, PRIVATE, METADATA])
        self.assertTrue(udp(sandbox, DNS))
        self.assertEqual(shown(sandbox)["network"],
                         {"allowOut": [WEB, "9.9.9.0/24"], "denyOut": [ALL]})

    def test_what_is_denied_is_denied_alone(self):
        sandbox = self.create(network={"denyOut": [WEB + "/32", "9.0.0.0/8"]})
        self.reaches(sandbox, [OTHER], [WEB, DNS])
        self.assertEqual(resolved(sandbox), WEB)

    def test_private_networks_open_to_who_names_them(self):
        wide = self.create(network={"allowOut": [ALL, "0.0.0.0/1"]})
        self.reaches(wide, [WEB], [PRIVATE, PRIVATE_2, METADATA])
        named = self.create(network={"allowOut": ["10.77.0.0/16", METADATA]})
        self.reaches(named, [WEB, PRIVATE, METADATA], [PRIVATE_2])
        never = self.create(network={"allowOut": [HOST, "127.0.0.0/8", "10.0.2.0/24", "10.0.0.0/8"]})
        self.reaches(never, [PRIVATE], [HOST, "10.0.2.2"])

    def test_ping_follows_the_rules(self):
        sandbox = self.create(network={"allowOut": [WEB], "denyOut": [ALL]})
        self.assertEqual(echo4(sandbox, WEB), "answer")
        self.assertIn(echo4(sandbox, OTHER), ("silence", "refused"))
        self.assertEqual(put(sandbox).status, 204)
        self.assertEqual(echo4(sandbox, OTHER), "answer")
        self.assertIn(echo4(sandbox, PRIVATE), ("silence", "refused"))

    def test_a_datagram_in_fragments_follows_the_rules(self):
        sandbox = self.create(network={"denyOut": [OTHER]})
        self.assertIn("open", probe(sandbox, "udp", WEB, 7, "x", 30000))
        self.assertNotIn("open", probe(sandbox, "udp", OTHER, 7, "x", 30000))

    def test_an_update_replaces_all_egress_and_keeps_ingress(self):
        sandbox = self.create(network={"denyOut": [WEB], "maskRequestHost": "a.test"})
        self.reaches(sandbox, [OTHER], [WEB])
        self.assertEqual(put(sandbox, denyOut=[OTHER]).status, 204)
        self.reaches(sandbox, [WEB], [OTHER])
        self.assertEqual(shown(sandbox)["network"],
                         {"denyOut": [OTHER], "maskRequestHost": "a.test"})
        self.assertEqual(put(sandbox, allow_internet_access=False).status, 204)
        self.reaches(sandbox, [], [WEB, OTHER])
        self.assertIs(shown(sandbox)["allowInternetAccess"], False)
        self.assertEqual(put(sandbox, allow_internet_access=False, allowOut=[WEB]).status, 204)
        self.reaches(sandbox, [WEB], [OTHER])
        self.assertEqual(put(sandbox).status, 204)
        self.reaches(sandbox, [WEB, OTHER], [PRIVATE])
        self.assertIsNone(shown(sandbox)["allowInternetAccess"])
        self.assertEqual(shown(sandbox)["network"], {"maskRequestHost": "a.test"})

    def test_an_update_cuts_what_it_forbids_and_leaves_the_rest(self):
        for rules in ({"denyOut": [WEB]}, {"allowOut": [OTHER], "denyOut": [ALL]},
                      {"allow_internet_access": False}):
            sandbox = self.create()
            sandbox.write("/tmp/stream.py", (STREAM % WEB).encode())
            sandbox.background("python3 /tmp/stream.py")
            lib.wait_until("ticks", 10, lambda: sandbox.sh("wc -c </tmp/ticks").text.strip() > "1")
            self.assertEqual(put(sandbox, denyOut=[OTHER]).status, 204)
            before = int(sandbox.sh("wc -c </tmp/ticks").text)
            lib.wait_until("it goes on", 10,
                           lambda: int(sandbox.sh("wc -c </tmp/ticks").text) > before + 3)
            self.assertEqual(put(sandbox, **rules).status, 204)
            time.sleep(0.5)
            before = int(sandbox.sh("wc -c </tmp/ticks").text)
            time.sleep(0.5)
            self.assertLessEqual(int(sandbox.sh("wc -c </tmp/ticks").text), before + 1, rules)
            if "allow_internet_access" not in rules:
                self.assertEqual(sandbox.sh("cat /tmp/end").text, "ConnectionResetError", rules)

    def test_what_is_refused_changes_nothing(self):
        sandbox = self.create(network={"denyOut": [WEB]})
        for rules, status, message in (
            ({"allowOut": ["no name"]}, 400, "invalid allowed address no name"),
            ({"denyOut": ["example.com"]}, 400, "invalid denied CIDR example.com"),
            ({"allowOut": ["a.test"]}, 400, "When specifying allowed domains"),
            ({"egressProxy": {"address": "127.0.0.1:1080"}}, 400, "internal address"),
            ({"egressProxy": {"address": "localhost:1080"}}, 400, "internal address"),
            ({"egressProxy": {"address": "inside.test:1080"}}, 400, "internal address"),
            ({"allow_internet_access": "no"}, 400, "allow_internet_access"),
            ({"rules": {"*": []}}, 400, "invalid domain *"),
        ):
            reply = put(sandbox, **rules)
            self.assertEqual((reply.status, reply.json["code"]), (status, status), rules)
            self.assertIn(message, reply.json["message"])
        for body in (b"[]", b"{", b"\xff"):
            reply = server.api("PUT", f"/sandboxes/{sandbox.id}/network", body)
            self.assertEqual(reply.status, 400, body)
        self.assertEqual(shown(sandbox)["network"], {"denyOut": [WEB]})
        self.reaches(sandbox, [OTHER], [WEB])

    def test_only_a_running_sandbox_of_ones_own_is_updated(self):
        sandbox = self.create()
        stranger, _ = server.new_key("strangers")
        path = f"/sandboxes/{sandbox.id}/network"
        self.assertEqual(server.api("PUT", path, {}, key=stranger).status, 404)
        self.assertEqual(server.api("PUT", "/sandboxes/inosuchsandbox/network", {}).status, 404)
        self.assertEqual(server.api("PUT", "/sandboxes/NO_ID/network", {}).status, 400)
        self.assertEqual(server.api("POST", f"/sandboxes/{sandbox.id}/pause", {}).status, 204)
        self.assertEqual(put(sandbox).status, 409)

    def test_a_full_list_takes_one_update(self):
        sandbox = self.create()
        deny = [f"93.184.{i >> 8}.{i & 255}/32" for i in range(999)] + [OTHER]
        started = time.monotonic()
        self.assertEqual(put(sandbox, denyOut=deny).status, 204)
        self.assertLess(time.monotonic() - started, 5 * lib.time_factor())
        self.reaches(sandbox, [WEB], [OTHER])
        self.assertEqual(put(sandbox, denyOut=deny + [WEB]).status, 400)

    def test_dns_servers_open_with_host_names_alone(self):
        # without a gateway in this build, host names are refused: then there is nothing to look at
        reply = server.api("POST", "/v2/sandboxes", {
            "templateID": "base", "network": {"allowOut": ["web.test"], "denyOut": [ALL],
                                              "dnsServers": [netlab.GOOGLE_DNS]}})
        if reply.status == 501:
            self.skipTest("no egress gateway")
        sandbox = lib.Sandbox(server, reply.json)
        self.addCleanup(sandbox.kill)
        self.assertEqual(resolved(sandbox), WEB)
        self.assertFalse(udp(sandbox, DNS))
        put(sandbox, allowOut=["web.test"], denyOut=[ALL], dnsServers=[])
        self.assertEqual(resolved(sandbox), "")


class Spoofing(Case):
    """Root of the host in the sandbox's namespace: more than any process inside can be."""

    def raw(self, pid, source, target, text):
        script = """
import socket, struct, sys
source, target, text = sys.argv[1], sys.argv[2], sys.argv[3].encode()
udp = struct.pack(">HHHH", 4000, 7, 8 + len(text), 0) + text
head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                   socket.inet_aton(source), socket.inet_aton(target))
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
sock.sendto(head + udp, (target, 0))
"""
        return inside(pid, sys.executable, "-c", script, source, target, text)

    def test_a_foreign_source_address_is_dropped(self):
        open_one = self.create(network={"allowOut": ["10.77.0.0/16"]})
        other = self.create()
        address = open_one.sh("hostname -I | cut -d' ' -f1").text.strip()
        seen = lambda: int(re.search(r"(\d+)", inside(  # noqa: E731
            router_pid(), "sh", "-c", "nft list counter inet lab spoofed | grep -o 'packets [0-9]*'"
        ).stdout).group(1))
        table = ("table inet lab { counter spoofed { }\n chain watch { type filter hook forward "
                 "priority -10;\n ip saddr %s iifname \"sb*\" counter name spoofed\n }\n }\n" % address)
        self.assertEqual(inside(router_pid(), "nft", "-f", "-", input=table).stderr, "")
        self.addCleanup(lambda: inside(router_pid(), "nft", "delete", "table", "inet", "lab"))
        self.assertEqual(self.raw(pid_of(open_one), address, WEB, "own").returncode, 0)
        lib.wait_until("the counter works", 5, lambda: seen() > 0)
        time.sleep(0.3)  # what the world answers may be answered in turn
        before = seen()
        self.assertEqual(self.raw(pid_of(other), address, WEB, "forged").returncode, 0)
        self.assertEqual(self.raw(pid_of(other), address, PRIVATE, "forged").returncode, 0)
        time.sleep(0.3)
        self.assertEqual(seen(), before)

    def test_another_address_on_ones_own_link_reaches_nothing(self):
        one, two = self.create(), self.create()
        pid = pid_of(one)
        victim = two.sh("hostname -I | cut -d' ' -f1").text.strip()
        inside(pid, "ip", "addr", "add", victim + "/32", "dev", "eth0")
        inside(pid, "ip", "neigh", "flush", "all")
        inside(pid, "arping", "-U", "-c1", "-I", "eth0", victim)
        probe_it = ("import socket;s=socket.socket();s.settimeout(2);s.bind(('%s',0));"
                    "s.connect(('%s',80));print('open')" % (victim, WEB))
        self.assertNotIn("open", inside(pid, sys.executable, "-c", probe_it).stdout)
        self.reaches(two, [WEB])

    def test_nobody_inside_can_change_the_rules(self):
        sandbox = self.create(network={"denyOut": [WEB]})
        result = sandbox.sh("nft flush ruleset; ip link set eth0 down; ip addr add 1.2.3.4 dev eth0;"
                            "echo 1 >/proc/sys/net/ipv4/conf/all/forwarding; true", user="root")
        self.assertEqual(result.exit_code, 0)
        self.reaches(sandbox, [OTHER], [WEB])
        raw = sandbox.sh("python3 -c 'import socket; socket.socket(socket.AF_PACKET, "
                         "socket.SOCK_RAW)'", user="root")
        self.assertRegex(raw.stderr.decode(), "PermissionError|Address family not supported")


class Survival(Case):
    def test_rules_hold_across_kill_9_of_the_server_and_pauses(self):
        sandbox = self.create(network={"allowOut": [WEB, PRIVATE], "denyOut": [ALL]})
        plain = self.create()
        server.kill9()
        server.start()
        self.reaches(sandbox, [WEB, PRIVATE], [OTHER])
        self.reaches(plain, [WEB, OTHER], [PRIVATE])
        self.assertEqual(server.api("POST", f"/sandboxes/{sandbox.id}/pause", {}).status, 204)
        server.kill9()
        server.start()
        reply = server.api("POST", f"/v2/sandboxes/{sandbox.id}/connect", {"timeout": 300})
        self.assertEqual(reply.status, 201)
        self.reaches(sandbox, [WEB, PRIVATE], [OTHER])
        self.assertEqual(put(sandbox, denyOut=[WEB]).status, 204)
        self.reaches(sandbox, [OTHER], [WEB, PRIVATE])

    def test_rules_hold_in_a_fork_and_after_a_boot(self):
        sandbox = self.create(network={"allowOut": [WEB], "denyOut": [ALL]})
        path = f"/sandboxes/{sandbox.id}"
        reply = server.api("POST", f"{path}/fork", {"count": 1, "timeout": 300})
        self.assertEqual(reply.status, 201)
        forked = lib.Sandbox(server, reply.json[0]["sandbox"])
        self.addCleanup(forked.kill)
        self.reaches(forked, [WEB], [OTHER, PRIVATE])
        self.assertEqual(server.api("POST", f"{path}/pause", {"memory": False}).status, 204)
        server.kill9()
        server.start()
        self.assertNotIn("network rules cannot be renewed", server.log_tail(1000))
        self.assertEqual(server.api("POST", f"/v2{path}/connect", {"timeout": 300}).status, 201)
        self.reaches(sandbox, [WEB], [OTHER, PRIVATE])

    def test_an_operator_may_keep_private_networks_closed(self):
        sandbox = self.create(network={"allowOut": [WEB, PRIVATE], "denyOut": [ALL]})
        self.reaches(sandbox, [WEB, PRIVATE])
        server.terminate()
        server.args.append("--no-private-egress")
        server.start()
        try:  # what was allowed before is not any more
            self.reaches(sandbox, [WEB], [PRIVATE])
            reply = put(sandbox, allowOut=[METADATA])
            self.assertEqual((reply.status, reply.json["message"]), (
                400, f"invalid allowed address {METADATA}: private networks are closed on this "
                "server"))
        finally:
            server.terminate()
            server.args.remove("--no-private-egress")
            server.start()

    def test_rules_come_back_with_a_new_router(self):
        sandbox = self.create(network={"allowOut": [WEB], "denyOut": [ALL]})
        pid = router_pid()
        os.kill(pid, 9)
        lib.wait_until("another router", 10, lambda: router_pid() not in (0, pid))
        lib.wait_until("the uplink", 20, lambda: tcp(sandbox, WEB))
        self.reaches(sandbox, [], [OTHER, PRIVATE])
        pid = router_pid()
        server.kill9()  # and both at once: all links are gone then
        os.kill(pid, 9)
        server.start()
        lib.wait_until("the uplink", 20, lambda: tcp(sandbox, WEB))
        self.reaches(sandbox, [], [OTHER, PRIVATE])

    def test_a_slot_used_again_has_none_of_the_last_ones_rules(self):
        for _ in range(3):
            sandbox = self.create(network={"allowOut": ["10.77.0.0/16"], "denyOut": [ALL]})
            self.reaches(sandbox, [PRIVATE], [WEB])
            sandbox.kill()
        found = inside(router_pid(), "nft", "list", "set", "inet", "sandpit", "opened").stdout
        self.assertNotIn("elements", found)


class Ingress(Case):
    ECHO = ("import http.server,sys\n"
            "class H(http.server.BaseHTTPRequestHandler):\n"
            "  def do_GET(self):\n"
            "    body = ('%s|%s' % (self.headers['Host'], self.headers['X-Forwarded-Host'])).encode()\n"
            "    self.send_response(200); self.send_header('Content-Length', str(len(body)))\n"
            "    self.end_headers(); self.wfile.write(body)\n"
            "s = http.server.ThreadingHTTPServer(('0.0.0.0', int(sys.argv[1])), H)\n"
            "if len(sys.argv) > 2:\n"
            "  import ssl\n"
            "  c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain('/tmp/c.pem')\n"
            "  s.socket = c.wrap_socket(s.socket, server_side=True)\n"
            "s.serve_forever()\n")

    def serve(self, sandbox, port, tls=False):
        sandbox.write("/tmp/echo.py", self.ECHO.encode())
        if tls:
            sandbox.write("/tmp/c.pem", self.certificate())
        sandbox.background(f"python3 /tmp/echo.py {port} {'tls' if tls else ''}")
        lib.wait_until("the service", 10, lambda: sandbox.sh(
            f"python3 -c \"import socket; socket.create_connection(('127.0.0.1',{port}),1)\""
        ).exit_code == 0)

    @staticmethod
    def certificate():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "c.pem")
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=elsewhere",
                 "-keyout", path, "-out", path + ".crt"], check=True, capture_output=True)
            with open(path, "rb") as key, open(path + ".crt", "rb") as cert:
                return key.read() + cert.read()

    def get(self, sandbox, port, headers=None):
        conn = lib.Http(server.traffic_port)
        self.addCleanup(conn.close)
        return conn.request("GET", "/x", None, {"Host": sandbox.host(port), **(headers or {})})

    def test_the_host_that_a_service_sees(self):
        plain = self.create()
        self.serve(plain, 8000)
        host = plain.host(8000)
        self.assertEqual(self.get(plain, 8000).body.decode(), f"{host}|{host}")
        masked = self.create(network={"maskRequestHost": "localhost:${PORT}"})
        self.serve(masked, 8000)
        self.assertEqual(self.get(masked, 8000).body.decode(),
                         f"localhost:8000|{masked.host(8000)}")
        self.assertEqual(masked.sh("echo envd is not masked").exit_code, 0)

    def test_a_service_that_speaks_tls(self):
        sandbox = self.create(network={"httpsPorts": [8443, 8001]})
        self.serve(sandbox, 8443, tls=True)
        host = sandbox.host(8443)
        for _ in range(3):
            reply = self.get(sandbox, 8443)
            self.assertEqual((reply.status, reply.body.decode()), (200, f"{host}|{host}"))
        self.serve(sandbox, 8001)  # plain, where TLS was promised
        reply = self.get(sandbox, 8001)
        self.assertEqual(reply.status, 502)
        self.assertIn("port is not open", reply.json["message"])
        self.assertEqual(self.get(sandbox, 8002).status, 502)

    def test_private_traffic_wants_the_token(self):
        sandbox = self.create(network={"allowPublicTraffic": False})
        token = sandbox.row["trafficAccessToken"]
        self.serve(sandbox, 8000)
        self.assertEqual(self.get(sandbox, 8000).status, 403)
        good = {"e2b-traffic-access-token": token}
        self.assertEqual(self.get(sandbox, 8000, good).status, 200)
        self.assertEqual(put(sandbox, denyOut=[WEB]).status, 204)
        self.assertEqual(self.get(sandbox, 8000).status, 403)
        self.assertIs(shown(sandbox)["network"]["allowPublicTraffic"], False)
        for value in (None, True):
            other = self.create(network={"allowPublicTraffic": value})
            self.assertNotIn("trafficAccessToken", other.row)


if __name__ == "__main__":
    netlab.enter()
    lib.main()
