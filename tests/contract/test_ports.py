"""Services inside a sandbox, whatever address they listen on, through the URLs of get_host."""

import os
import secrets
import sys
import time
import unittest
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402
from e2b import Sandbox  # noqa: E402

DOMAIN = os.environ.get("CONTRACT_MODE") == "domain"
HERE = os.path.dirname(os.path.abspath(__file__))
FACTOR = lib.time_factor()
SCHEME = "https" if DOMAIN else "http"
SERVER = "python3 /tmp/echo_server.py"


def get(host, timeout=60):
    """(status, body) of GET / of HOST."""
    context = lib.tls_context() if DOMAIN else None
    try:
        url = f"{SCHEME}://{host}/"
        with urllib.request.urlopen(url, timeout=timeout, context=context) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Ports(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sbx = Sandbox.create(timeout=600)
        with open(os.path.join(HERE, "echo_server.py")) as file:
            cls.sbx.files.write("/tmp/echo_server.py", file.read())

    @classmethod
    def tearDownClass(cls):
        cls.sbx.kill()

    def start(self, command):
        handle = self.sbx.commands.run(command, background=True, timeout=0)
        self.addCleanup(handle.kill)
        return handle

    def until_up(self, host):
        lib.wait_until("the service", 15 * FACTOR, lambda: get(host)[0] == 200)

    def web_socket(self, host):
        port = int(host.rsplit(":", 1)[1])
        context = lib.tls_context() if DOMAIN else None
        ws = lib.WebSocket("127.0.0.1", port, host, "/", context)
        self.addCleanup(ws.close)
        return ws

    def reached(self, port, address):
        host = self.sbx.get_host(port)
        self.start(f"{SERVER} {port} {address}")
        self.until_up(host)
        self.assertEqual(get(host), (200, f"hello from {host}".encode()))
        ws = self.web_socket(host)
        data = secrets.token_bytes(300_000)
        ws.send(data)
        self.assertTrue(ws.recv() == (2, data), "bytes differ")
        # And nothing of envd's between: what the service sees listens as it was told.
        listening = self.sbx.commands.run(f"ss -Hltn 'sport = :{port}'").stdout
        self.assertEqual(len(listening.splitlines()), 1, listening)

    def test_on_the_ipv4_loopback_only(self):
        self.reached(8201, "127.0.0.1")

    def test_on_the_ipv6_loopback_only(self):
        self.reached(8202, "::1")

    def test_on_every_ipv4_address(self):
        self.reached(8203, "0.0.0.0")

    def test_on_every_ipv6_address(self):
        self.reached(8204, "::")

    def test_a_service_that_comes_late_is_waited_for(self):
        for port, address in ((8205, "127.0.0.1"), (8206, "::1")):
            host = self.sbx.get_host(port)
            self.start(f"sleep 0.5; exec {SERVER} {port} {address}")
            status, body = get(host)
            if status == 502:  # a slow machine: more than the second that the proxy waits
                self.until_up(host)
            else:
                self.assertEqual((status, body), (200, f"hello from {host}".encode()))

    def test_a_service_that_comes_later_still_is_there_then(self):
        host = self.sbx.get_host(8207)
        began = time.monotonic()
        self.assertEqual(get(host)[0], 502)
        self.assertGreater(time.monotonic() - began, 0.5, "a closed port was not retried")
        self.start(f"{SERVER} 8207")
        self.until_up(host)

    def test_a_service_that_moves_is_found_again(self):
        host = self.sbx.get_host(8208)
        for address in ("127.0.0.1", "::1", "0.0.0.0"):
            handle = self.start(f"exec {SERVER} 8208 {address}")
            self.until_up(host)
            handle.kill()
            lib.wait_until("its end", 10 * FACTOR, lambda: get(host)[0] == 502)

    def test_many_requests_at_once(self):
        host = self.sbx.get_host(8209)
        self.start(f"{SERVER} 8209 ::1")
        self.until_up(host)
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda i: get(host), range(64)))
        self.assertEqual(set(found), {(200, f"hello from {host}".encode())})

    def test_another_sandbox_does_not_reach_it(self):
        ports = {8210: "127.0.0.1", 8211: "::1", 8212: "0.0.0.0", 8213: "::"}
        for port, address in ports.items():
            self.start(f"{SERVER} {port} {address}")
            self.until_up(self.sbx.get_host(port))
        other = Sandbox.create(timeout=120)
        self.addCleanup(other.kill)
        own = self.sbx.commands.run("hostname -I").stdout.split()
        probe = (
            "for a in 127.0.0.1 ::1 {}; do for p in {}; do "
            "timeout 2 python3 -c 'import socket,sys; socket.create_connection(sys.argv[1:], 1)' "
            "$a $p 2>/dev/null && echo reached $a $p; done; done; echo done"
        ).format(" ".join(own), " ".join(str(port) for port in ports))
        # The probe itself is right: from inside, the addresses answer.
        inside = self.sbx.commands.run(probe, timeout=120).stdout
        self.assertIn("reached 127.0.0.1 8210", inside)
        self.assertIn("reached ::1 8211", inside)
        for address in own:
            self.assertIn(f"reached {address} {8213 if ':' in address else 8212}", inside)
        self.assertEqual(other.commands.run(probe, timeout=120).stdout, "done\n")

    def test_an_upgrade_is_a_raw_pipe_both_ways(self):
        host = self.sbx.get_host(8214)
        self.start(f"{SERVER} 8214 ::1")
        self.until_up(host)
        first, second = self.web_socket(host), self.web_socket(host)
        for i in range(50):  # two at once do not mix
            first.send(f"first {i}")
            second.send(f"second {i}")
            self.assertEqual(first.recv(), (1, f"first {i}".encode()))
            self.assertEqual(second.recv(), (1, f"second {i}".encode()))
        first.send(b"", opcode=8)  # a close is answered, and the service then hangs up
        self.assertEqual(first.recv(), (8, b""))
        self.assertEqual(first.file.read(), b"")


if __name__ == "__main__":
    lib.main()
