#!/usr/bin/env python3
"""Host names, header rules and secrets in real sandboxes, up to servers in a world of their own.

The gateway alone, with all its cases, is in gateway_test.py. Here is the whole: API, policy,
redirect, certificates that programs in the sandbox trust, rotation, crashes.
"""

import contextlib
import ctypes
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import gateway_test as parts  # noqa: E402
import lib  # noqa: E402
import netlab  # noqa: E402

OUT = os.environ.get("SANDPIT_OUT") or os.path.join(lib.ROOT, "build/release")
FACTOR = lib.time_factor()
ALL = ["0.0.0.0/0"]
LIBC = ctypes.CDLL(None, use_errno=True)
SERVER = None


def in_world(world):
    """This thread's new sockets are the world's from now on."""
    with open(f"/proc/{world.process.pid}/ns/net") as there:
        if LIBC.setns(there.fileno(), 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")


def serve_socks(world):
    """SOCKS5 at OTHER:1080; what it connects to is of the same world."""
    in_world(world)
    parts.NAMES = dict(netlab.NAMES)
    parts.inside = lambda name: contextlib.nullcontext()  # its threads are there already
    server = parts.Threads((netlab.OTHER, 1080), parts.Socks)
    server.context = None
    server.serve_forever()


def serve_tls(world, folder):
    """An echo in TLS at WEB:443 for web.test and sub.web.test."""
    subprocess.run(
        f"cd {folder} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
        "-keyout w.key -out w.pem -subj /CN=world -days 2 "
        "-addext subjectAltName=DNS:web.test,DNS:sub.web.test",
        shell=True, check=True, capture_output=True)  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/w.pem", f"{folder}/w.key")

    def run(port, with_context):
        in_world(world)
        server = parts.Threads((netlab.WEB, port), parts.Echo)
        server.context = with_context
        server.serve_forever()

    threading.Thread(target=run, args=(443, context), daemon=True).start()
    threading.Thread(target=run, args=(8081, None), daemon=True).start()
    threading.Thread(target=serve_socks, args=(world,), daemon=True).start()
    return f"{folder}/w.pem"


class Case(unittest.TestCase):
    def make(self, **network):
        sandbox = SERVER.create(network=network)
        self.addCleanup(sandbox.kill)
        return sandbox

    def put(self, sandbox, body):
        SERVER.api("PUT", f"/sandboxes/{sandbox.id}/network", body)

    def secret(self, name, value):
        SERVER.api("POST", "/secrets", {"name": name, "value": value})
        self.addCleanup(SERVER.api, "DELETE", f"/secrets/{name}")

    def code(self, sandbox, url, options=""):
        result = sandbox.sh(f"curl -s -m 10 -o /dev/null -w '%{{http_code}}' {options} {url}")
        return result.stdout.decode()

    def seen(self, sandbox, command):
        result = sandbox.sh(command)
        text = result.stdout.decode()
        self.assertTrue(text.startswith("{"), (text, result))
        headers = json.loads(text)["headers"]
        return {name.lower(): value for name, value in headers}


def rules(value, host="web.test"):
    return {host: [{"transform": {"headers": {"authorization": value}}}]}


class Names(Case):
    def test_only_names_that_are_listed(self):
        sandbox = self.make(allowOut=["web.test", "*.web.test"], denyOut=ALL)
        self.assertEqual(self.code(sandbox, "https://web.test/", "-k"), "200")
        self.assertEqual(self.code(sandbox, "https://sub.web.test/", "-k"), "200")
        self.assertEqual(self.code(sandbox, "http://other.test/"), "403")
        self.assertEqual(self.code(sandbox, f"http://{netlab.WEB}/"), "403")
        self.assertEqual(self.code(sandbox, "http://inside.test/"), "403")

    def test_rules_change_while_it_runs(self):
        sandbox = self.make(allowOut=["web.test"], denyOut=ALL)
        self.assertEqual(self.code(sandbox, "https://web.test/", "-k"), "200")
        self.put(sandbox, {"allowOut": ["other.test"], "denyOut": ALL})
        self.assertEqual(self.code(sandbox, "https://web.test/", "-k"), "000")
        self.assertEqual(self.code(sandbox, "http://other.test/"), "200")
        self.put(sandbox, {})
        self.assertEqual(self.code(sandbox, "https://web.test/", "-k"), "200")


class Rules(Case):
    def test_a_secret_is_set_and_is_never_in_the_sandbox(self):
        self.secret("api-key", "needle-one")
        sandbox = self.make(rules=rules("Bearer ${e2b.secrets.api-key}"))
        for command in (
            "curl -s https://web.test/",
            "python3 -c 'import urllib.request as u; print(u.urlopen(\"https://web.test/\").read().decode())'",
            "command -v node >/dev/null || { curl -s https://web.test/; exit; }; "
            "node -e 'fetch(\"https://web.test/\").then(r => r.text()).then(t => console.log(t))'",
        ):
            seen = self.seen(sandbox, command)
            self.assertEqual(seen["authorization"], "Bearer needle-one", command)
        found = sandbox.sh("env; cat /proc/*/environ | tr '\\0' '\\n'; grep -rs needle-one /etc /run /home /tmp")
        self.assertNotIn(b"needle-one", found.stdout + found.stderr)
        info = SERVER.api("GET", f"/sandboxes/{sandbox.id}").json
        self.assertEqual(info["network"]["rules"], rules("Bearer ${e2b.secrets.api-key}"))
        with open(SERVER.log) as file:
            self.assertNotIn("needle-one", file.read())

    def test_a_new_value_counts_from_then_on(self):
        self.secret("rotating", "first")
        sandbox = self.make(rules=rules("${e2b.secrets.rotating}"))
        self.assertEqual(self.seen(sandbox, "curl -s https://web.test/")["authorization"], "first")
        SERVER.api("POST", "/secrets/rotating", {"value": "second"})
        time.sleep(1)
        self.assertEqual(self.seen(sandbox, "curl -s https://web.test/")["authorization"], "second")

    def test_a_secret_that_is_made_and_removed_later(self):
        sandbox = self.make(rules=rules("${e2b.secrets.later}"))
        self.assertEqual(self.code(sandbox, "https://web.test/"), "502")
        SERVER.api("POST", "/secrets", {"name": "later", "value": "here"})
        time.sleep(1)
        self.assertEqual(self.seen(sandbox, "curl -s https://web.test/")["authorization"], "here")
        SERVER.api("DELETE", "/secrets/later")
        time.sleep(1)
        self.assertEqual(self.code(sandbox, "https://web.test/"), "502")

    def test_rules_given_to_a_running_sandbox(self):
        sandbox = self.make()
        self.assertEqual(self.code(sandbox, "https://web.test/"), "000")  # the world's own certificate
        self.put(sandbox, {"rules": rules("plain")})
        self.assertEqual(self.seen(sandbox, "curl -s https://web.test/")["authorization"], "plain")


class Proxies(Case):
    def test_everything_that_is_allowed_leaves_by_the_proxy(self):
        proxy = {"address": f"{netlab.OTHER}:1080", "username": "user", "password": "pass"}
        sandbox = self.make(allowOut=["web.test"], denyOut=ALL, egressProxy=proxy)
        parts.Socks.asked.clear()
        self.assertEqual(self.code(sandbox, "https://web.test/", "-k"), "200")
        self.assertEqual(parts.Socks.asked, [("web.test", 443)])
        self.assertEqual(self.code(sandbox, "http://other.test/"), "403")
        shown = SERVER.api("GET", f"/sandboxes/{sandbox.id}").body
        self.assertNotIn(b'"pass"', shown)
        self.put(sandbox, {"egressProxy": {**proxy, "password": "wrong"}})
        self.assertEqual(self.code(sandbox, "https://web.test/", "-k"), "000")


class Crashes(Case):
    def gateway_pid(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/comm") as file:
                    if file.read().strip() != "sandpit-gateway":
                        continue
                if os.readlink(f"/proc/{pid}/root") == f"{SERVER.run}/gateway":
                        return int(pid)
            except OSError:
                continue
        return None

    def test_a_gateway_that_is_killed_comes_back_with_its_rules(self):
        sandbox = self.make(rules=rules("after-the-fall"))
        before = self.gateway_pid()
        self.assertIsNotNone(before)
        os.kill(before, signal.SIGKILL)
        lib.wait_until("another gateway", 15 * FACTOR,
                       lambda: self.gateway_pid() not in (None, before))  # fmt: skip
        lib.wait_until("its rules", 15 * FACTOR,
                       lambda: self.code(sandbox, "https://web.test/") == "200")  # fmt: skip
        seen = self.seen(sandbox, "curl -s https://web.test/")
        self.assertEqual(seen["authorization"], "after-the-fall")

    def test_a_server_that_is_killed_changes_nothing(self):
        self.secret("lasting", "still-there")
        sandbox = self.make(rules=rules("${e2b.secrets.lasting}"))
        SERVER.kill9()
        SERVER.start()
        lib.wait_until("the rules", 15 * FACTOR,
                       lambda: self.code(sandbox, "https://web.test/") == "200")  # fmt: skip
        self.assertEqual(self.seen(sandbox, "curl -s https://web.test/")["authorization"], "still-there")


SETUP = """
import socket, time
took = []
for _ in range(200):
    began = time.monotonic()
    with socket.create_connection((%r, 8081)) as sock:
        sock.sendall(b"GET / HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n")
        sock.recv(65536)
    took.append(time.monotonic() - began)
print(round(sorted(took)[100] * 1000, 2))
"""


def bench():
    """By slirp4netns alone and by the gateway before it: MB/s, and ms from connect to answer."""
    size = 500_000_000
    listed = {"allowOut": ["web.test"], "denyOut": ALL}
    for name, network, url in (
        ("slirp4netns alone, HTTP", {}, "http://web.test:8081"),
        ("gateway, HTTP by name", listed, "http://web.test:8081"),
        ("slirp4netns alone, TLS", {}, "-k https://web.test"),
        ("gateway, TLS by name", listed, "-k https://web.test"),
        ("gateway, TLS with headers", {"rules": rules("x")}, "https://web.test"),
    ):
        sandbox = SERVER.create(network=network)
        out = sandbox.sh(f"curl -s -o /dev/null -w '%{{speed_download}}' {url}/big/{size}").stdout
        setup = ""
        if "8081" in url:
            sandbox.write("/tmp/setup.py", (SETUP % netlab.WEB).encode())
            setup = sandbox.sh("python3 /tmp/setup.py").stdout.decode().strip() + " ms"
        print(f"{name:28} {float(out) / 1e6:8.0f} MB/s {setup}")
        sandbox.kill()


def main():
    global SERVER
    lib.need_root()
    netlab.enter()
    world = netlab.World()
    try:
        with tempfile.TemporaryDirectory(prefix="gateway-box-") as folder:
            os.chmod(folder, 0o755)
            roots = serve_tls(world, folder)
            code = 0
            with lib.Server(out=OUT, args=["--egress-ca-file", roots]) as SERVER:
                if "--bench" in sys.argv:
                    bench()
                else:
                    try:
                        lib.main(__name__)
                    except SystemExit as end:
                        code = end.code
            sys.exit(code)
    finally:
        world.close()


if __name__ == "__main__":
    main()
