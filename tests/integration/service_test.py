#!/usr/bin/env python3
"""The server as a service: keys that end, signals, hostile requests, and what is not built."""

import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402


def setUpModule():
    lib.need_root()


def raw(port, data, wait_s=5):
    """Send DATA as it is and return everything that comes until the peer closes or is silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as sock:
        sock.sendall(data)
        got = b""
        try:
            while part := sock.recv(65536):
                got += part
                if b"\r\n\r\n" in got and not got.startswith(b"HTTP/1.1 1"):
                    sock.settimeout(0.3)
        except (TimeoutError, ConnectionResetError):
            pass
        return got


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


class WithServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = lib.Server()
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, f"server ended with {code}"


class Keys(WithServer):
    def test_a_revoked_key_is_refused_within_a_second(self):
        key, row = self.server.new_key("revoked")
        lib.wait_until("it works", 2, lambda: self.server.api("GET", "/sandboxes", key=key).status == 200)
        self.server.cli("key", "revoke", row["id"])
        began = time.monotonic()
        lib.wait_until(
            "the refusal", 5, lambda: self.server.api("GET", "/sandboxes", key=key).status == 401, 0.02
        )
        self.assertLess(time.monotonic() - began, 1.0 * lib.time_factor())

    def test_a_new_key_works_within_a_second(self):
        key, _ = self.server.new_key("fresh")
        lib.wait_until(
            "the key", 1 * lib.time_factor(),
            lambda: self.server.api("GET", "/sandboxes", key=key).status == 200, 0.02,
        )  # fmt: skip

    def test_a_rotated_key_overlaps_and_then_ends(self):
        key, row = self.server.new_key("rotated")
        out = self.server.cli("key", "rotate", row["id"], "--overlap", "2s", "--json")
        fresh = json.loads(out.stdout)["key"]
        self.server.other_keys.append(fresh)
        lib.wait_until("new key", 2, lambda: self.server.api("GET", "/sandboxes", key=fresh).status == 200)
        self.assertEqual(self.server.api("GET", "/sandboxes", key=key).status, 200)
        lib.wait_until("old key", 5, lambda: self.server.api("GET", "/sandboxes", key=key).status == 401)
        self.assertEqual(self.server.api("GET", "/sandboxes", key=fresh).status, 200)

    def test_an_expired_key_is_refused(self):
        key, _ = self.server.new_key("expiring", "test", "--expires", "2s")
        lib.wait_until("it works", 2, lambda: self.server.api("GET", "/sandboxes", key=key).status == 200)
        lib.wait_until("it ends", 5, lambda: self.server.api("GET", "/sandboxes", key=key).status == 401)

    def test_a_read_key_cannot_write(self):
        key, _ = self.server.new_key("reader", "test", "--scope", "read")
        lib.wait_until("it works", 2, lambda: self.server.api("GET", "/sandboxes", key=key).status == 200)
        reply = self.server.api("POST", "/v2/sandboxes", {"templateID": "base"}, key=key)
        self.assertEqual((reply.status, reply.json["code"]), (403, 403))

    def test_another_namespaces_sandbox_is_not_found(self):
        key, _ = self.server.new_key("stranger")
        lib.wait_until("it works", 2, lambda: self.server.api("GET", "/sandboxes", key=key).status == 200)
        box = self.server.create(timeout=60)
        self.addCleanup(box.kill)
        for method, path, body in (
            ("GET", f"/sandboxes/{box.id}", None),
            ("DELETE", f"/sandboxes/{box.id}", None),
            ("POST", f"/sandboxes/{box.id}/timeout", {"timeout": 1}),
            ("POST", f"/sandboxes/{box.id}/refreshes", {}),
            ("POST", f"/v2/sandboxes/{box.id}/connect", {"timeout": 10}),
        ):
            reply = self.server.api(method, path, body, key=key)
            self.assertEqual((reply.status, reply.json["code"]), (404, 404), f"{method} {path}")
        self.assertNotIn(box.id, self.server.all_sandboxes(key))
        self.assertEqual(self.server.api("GET", f"/sandboxes/{box.id}").status, 200)

    def test_no_key_and_wrong_keys(self):
        for headers in (
            {}, {"X-API-Key": "e2b_" + "0" * 40}, {"X-API-Key": ""}, {"X-API-Key": "x" * 5000},
            {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic dTpw"},
        ):  # fmt: skip
            reply = self.server.api("GET", "/sandboxes", key="", headers=headers)
            self.assertEqual(reply.status, 401, f"{headers}")
            self.assertEqual(reply.json["code"], 401)
            self.assertTrue(reply.json["message"])

    def test_the_key_list_shows_no_key(self):
        key, row = self.server.new_key("listed")
        out = self.server.cli("key", "list", "--json").stdout
        self.assertIn(row["id"], out)
        self.assertNotIn(key, out)
        self.assertNotIn(key[4:], out)

    def test_no_secret_is_logged_or_readable(self):
        key, _ = self.server.new_key("quiet")
        lib.wait_until("it works", 2, lambda: self.server.api("GET", "/sandboxes", key=key).status == 200)
        box = self.server.create(timeout=60)
        self.addCleanup(box.kill)
        box.sh("echo content-of-a-command")
        box.write("/tmp/x", b"content-of-a-file")
        with open(self.server.log, errors="replace") as file:
            log = file.read()
        for word in (key, self.server.key, box.token, "content-of-a-file"):
            self.assertNotIn(word, log)
        for name in ("dev.env", "dev-plain.env"):
            mode = os.stat(os.path.join(self.server.state, name)).st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o600)
        for line in log.splitlines():
            if line.startswith("{"):
                row = json.loads(line)
                self.assertTrue({"time", "level", "msg"} <= set(row), line)

    def test_network_facing_process_is_not_root(self):
        users = set()
        for task in os.listdir(f"/proc/{self.server.process.pid}/task"):
            with open(f"/proc/{self.server.process.pid}/task/{task}/status") as file:
                users |= {line.split()[2] for line in file if line.startswith("Uid:")}
        self.assertNotIn("0", users)


class Requests(WithServer):
    def test_ambiguous_framing_is_refused(self):
        port = self.server.api_port
        head = b"POST /v2/sandboxes HTTP/1.1\r\nHost: a\r\nX-API-Key: " + self.server.key.encode() + b"\r\n"
        bodies = {
            "CL and TE": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "TE and CL": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
            "two CL": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
            "two differing CL": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
            "two Host": b"Host: b\r\nContent-Length: 2\r\n\r\n{}",
            "obs-fold": b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}",
            "signed CL": b"Content-Length: +2\r\n\r\n{}",
            "TE unknown": b"Transfer-Encoding: gzip\r\n\r\n",
            "space before colon": b"Content-Length : 2\r\n\r\n{}",
        }
        before = self.server.all_sandboxes()
        for name, rest in bodies.items():
            with self.subTest(name):
                answer = raw(port, head + rest)
                self.assertIn(status_of(answer), (400, 413, 501), answer[:200])
                self.assertEqual(answer.count(b"HTTP/1.1 "), 1, "answered twice: smuggled")
        self.assertEqual(self.server.all_sandboxes(), before)

    def test_garbage_is_answered_or_dropped_and_the_server_stays(self):
        for data in (b"\r\n" * 10000, b"GET", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\0" * 4096,
                     b"GET / HTTP/9.9\r\n\r\n", b"A" * 100000, b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
                     b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
                     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):  # fmt: skip
            for port in (self.server.api_port, self.server.traffic_port, self.server.ops_port):
                try:
                    answer = raw(port, data, wait_s=1)
                except OSError:
                    continue
                if answer:
                    self.assertGreaterEqual(status_of(answer), 400, f"{data[:30]!r}: {answer[:80]!r}")
        self.assertEqual(self.server.ops("GET", "/readyz").status, 200)

    def test_bad_bodies_are_400_and_change_nothing(self):
        before = self.server.all_sandboxes()
        for body in ("{", "[]", "7", "null", '{"templateID":', '{"templateID": 7}', "{}",
                     '{"templateID":"base","timeout":0}', '{"templateID":"base","timeout":-5}',
                     '{"templateID":"base","timeout":"soon"}', '{"templateID":"base","metadata":[1]}',
                     '{"templateID":"base","metadata":{"a":1}}', '{"templateID":"base","envVars":{"a":{}}}',
                     '{"templateID":"base","timeout":99999999999}', '{"templateID":"ba\\u0000se"}',
                     "\xff\xfe", '{"templateID":"' + "a" * 3000 + '"}'):  # fmt: skip
            reply = self.server.api("POST", "/v2/sandboxes", body.encode("latin-1"))
            self.assertIn(reply.status, (400, 404), f"{body[:60]}: {reply.status} {reply.body[:200]}")
            self.assertEqual(reply.json["code"], reply.status)
            self.assertTrue(reply.json["message"])
        self.assertEqual(self.server.all_sandboxes(), before)

    def test_a_body_beyond_the_limit_is_refused(self):
        reply = raw(
            self.server.api_port,
            b"POST /v2/sandboxes HTTP/1.1\r\nHost: a\r\nX-API-Key: " + self.server.key.encode()
            + b"\r\nContent-Length: 99999999\r\n\r\n" + b" " * 65536,
        )  # fmt: skip
        self.assertEqual(status_of(reply), 413, reply[:200])

    def test_unknown_paths_and_methods(self):
        reply = self.server.api("GET", "/no/such/path")
        self.assertEqual((reply.status, reply.json["code"]), (404, 404))
        reply = self.server.api("PUT", "/sandboxes", {})
        self.assertEqual((reply.status, reply.json["code"]), (405, 405))
        allowed = {word.strip() for word in reply.headers["Allow"].split(",")}
        self.assertTrue({"GET", "POST"} <= allowed, allowed)

    def test_routes_of_the_contract_that_are_not_built_say_so(self):
        build = "00000000-0000-0000-0000-000000000000"
        routes = [
            ("POST", "/v3/templates"), ("GET", f"/templates/x/builds/{build}/status"),
            ("POST", f"/v2/templates/x/builds/{build}"), ("POST", "/templates/tags"),
        ]  # fmt: skip
        for method, path in routes:
            with self.subTest(f"{method} {path}"):
                reply = self.server.api(method, path, {} if method == "POST" else None)
                self.assertEqual((reply.status, reply.json["code"]), (501, 501), reply.body[:200])
                self.assertTrue(reply.json["message"])

    def test_other_routes_of_the_contract_are_there(self):
        box = self.server.create(timeout=120)
        self.addCleanup(box.kill)
        routes = [
            ("GET", "/volumes"), ("POST", "/volumes"), ("GET", "/secrets"), ("POST", "/secrets"),
            ("GET", "/teams"), ("GET", "/api-keys"), ("POST", "/api-keys"), ("GET", "/nodes"),
            ("GET", "/snapshots"), ("GET", "/events/sandboxes"), ("GET", "/events/webhooks"),
            ("POST", f"/sandboxes/{box.id}/snapshots"), ("POST", f"/sandboxes/{box.id}/fork"),
            ("GET", f"/sandboxes/{box.id}/metrics"), ("GET", f"/sandboxes/{box.id}/logs"),
            ("PUT", f"/sandboxes/{box.id}/network"), ("POST", f"/sandboxes/{box.id}/pause"),
        ]  # fmt: skip
        for method, path in routes:
            with self.subTest(f"{method} {path}"):
                reply = self.server.api(method, path, {} if method in ("POST", "PUT") else None)
                self.assertNotIn(reply.status, (404, 405, 500, 501), reply.body[:200])

    def test_health_and_operations(self):
        self.assertIn(self.server.api("GET", "/health", key="").status, (200, 204))
        self.assertEqual(self.server.ops("GET", "/livez").status, 200)
        metrics = self.server.ops("GET", "/metrics")
        self.assertEqual(metrics.status, 200)
        self.assertRegex(metrics.body.decode(), r"(?m)^sandpit_\w+(\{.*\})? [\d.e+]+$")

    def test_request_ids_differ_and_reach_the_log(self):
        names = [self.server.api("GET", "/sandboxes").headers for _ in range(2)]
        ids = [h.get("X-Request-Id") or h.get("X-E2B-Trace-ID") for h in names]
        self.assertTrue(all(ids), f"{names[0].items()}")
        self.assertNotEqual(ids[0], ids[1])


class Traffic(WithServer):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.box = cls.server.create(timeout=600)

    def get(self, path="/health", headers=None, method="GET"):
        conn = lib.Http(self.server.traffic_port, timeout=20)
        try:
            return conn.request(method, path, headers=headers)
        finally:
            conn.close()

    def test_hosts_and_headers_that_name_a_sandbox(self):
        routing = {"E2b-Sandbox-Id": self.box.id, "E2b-Sandbox-Port": str(lib.ENVD_PORT)}
        upper = f"{lib.ENVD_PORT}-{self.box.id}.SANDPIT.localhost:{self.server.traffic_port}"
        for headers in (
            {"Host": self.box.host()}, {"Host": upper}, {"Host": self.box.host() + "."},
            {"Host": f"{lib.ENVD_PORT}-{self.box.id}-6532622b.sandpit.localhost"},
            {"Host": "sandbox.sandpit.localhost", **routing}, {"Host": "localhost", **routing},
            {"Host": "127.0.0.1:1", **routing}, {"Host": "[::1]:1", **routing},
        ):  # fmt: skip
            self.assertEqual(self.get(headers=headers).status, 204, f"{headers}")

    def test_headers_never_override_a_sandboxs_own_host(self):
        other = {"E2b-Sandbox-Id": "i" + "z" * 20, "E2b-Sandbox-Port": "1"}
        self.assertEqual(self.get(headers={"Host": self.box.host(), **other}).status, 204)

    def test_exact_refusals(self):
        routing = {"E2b-Sandbox-Id": self.box.id}
        cases = [
            ({"Host": "nodot"}, 400, "Invalid host"),
            ({"Host": "localhost"}, 400, "Invalid host"),
            ({"Host": "sandbox.x.y"}, 400, "Invalid host"),
            ({"Host": "49983-Not_An_Id.sandpit.localhost"}, 400, "Invalid sandbox ID"),
            ({"Host": "localhost", **routing}, 400, "missing header"),
            ({"Host": f"port-{self.box.id}.sandpit.localhost"}, 400, "Invalid sandbox port"),
            ({"Host": "localhost", **routing, "E2b-Sandbox-Port": "x"}, 400, "Invalid sandbox port"),
        ]
        for headers, status, text in cases:
            reply = self.get(headers=headers)
            self.assertEqual((reply.status, reply.body.decode().strip()), (status, text), f"{headers}")

    def test_a_connection_may_ask_for_the_api_and_for_sandboxes(self):
        def ask(method, path, host, fields="", body=""):
            return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n{body}".encode()

        api = ask("GET", "/sandboxes/" + self.box.id, "api.sandpit.localhost", f"X-API-Key: {self.server.key}\r\n")
        box = ask("GET", "/health", self.box.host())
        upload = ask("POST", "/files?path=/tmp/x", self.box.host(), "Content-Length: 99999999\r\n", "x" * 9999)
        absolute = ask("GET", "http://" + self.box.host() + "/health", "api.sandpit.localhost")
        for requests, statuses in (
            ([box, api, api], [204, 200, 200]),
            ([box, api, box, api], [204, 200, 421]),
            ([api, absolute], [200, 421]),
            ([api, upload], [200, 421]),
        ):
            for secure in (False, True):
                for at_once in (False,) if upload in requests else (False, True):
                    got = self.converse(requests, secure, at_once)
                    self.assertEqual([status_of(b"HTTP/1.1 " + part) for part in got.split(b"HTTP/1.1 ")[1:]],
                                     statuses, f"tls {secure}, at once {at_once}: {got}")  # fmt: skip
                    if statuses[-1] == 421:
                        self.assertEqual(json.loads(got.rpartition(b"\r\n\r\n")[2])["code"], 421)

    def converse(self, requests, secure, at_once):
        """Send REQUESTS on one connection and return all that comes."""
        port = self.server.tls_port if secure else self.server.traffic_port
        sock = socket.create_connection(("localhost", port), timeout=10)
        if secure:
            context = ssl.create_default_context(cafile=os.path.join(self.server.state, "tls", "ca.pem"))
            sock = context.wrap_socket(sock, server_hostname="api.sandpit.localhost")
        got = b""
        with sock:
            for text in [b"".join(requests)] if at_once else requests:
                try:
                    sock.sendall(text)
                    sock.settimeout(10)
                    while part := sock.recv(65536):
                        got += part
                        sock.settimeout(0.3)
                except (TimeoutError, ConnectionError, ssl.SSLError):
                    pass
        return got

    def test_reserved_paths_of_envd(self):
        for path in ("/init", "//init", "/init/", "/files/../init", "/%69nit", "/freeze", "/upgrade"):
            for method in ("GET", "POST"):
                reply = self.get(path, {"Host": self.box.host()}, method)
                self.assertEqual(reply.status, 404, f"{method} {path}")
                self.assertIn("reserved for the E2B control plane", reply.json["message"])

    def test_forged_forwarding_headers_do_not_reach_the_guest(self):
        code = (
            "import http.server\n"
            "class H(http.server.BaseHTTPRequestHandler):\n"
            "    def do_GET(self):\n"
            "        body = str(self.headers).encode()\n"
            "        self.send_response(200); self.send_header('Content-Length', str(len(body)))\n"
            "        self.end_headers(); self.wfile.write(body)\n"
            "http.server.ThreadingHTTPServer(('127.0.0.1', 8055), H).serve_forever()\n"
        )
        self.box.write("/tmp/headers.py", code.encode())
        self.box.background("exec python3 /tmp/headers.py")
        host = self.box.host(8055)
        lib.wait_until("its server", 15 * lib.time_factor(),
                       lambda: self.get("/", {"Host": host}).status == 200)  # fmt: skip
        text = self.get("/", {
            "Host": host, "Forwarded": "for=evil", "X-Forwarded-For": "evil", "X-Forwarded-Proto": "evil",
            "X-Forwarded-Host": "evil", "Authorization": "Basic dXNlcjpwdw==",
        }).body.decode().lower()  # fmt: skip
        self.assertNotIn("evil", text)
        self.assertIn(f"host: {host}", text)
        self.assertIn(f"x-forwarded-host: {host}", text)
        self.assertIn("authorization: basic dxnlcjpwdw==", text)
        self.assertNotIn("bearer", text)

    def test_a_closed_port_is_told_after_about_a_second(self):
        began = time.monotonic()
        reply = self.get("/", {"Host": self.box.host(8998)})
        self.assertEqual(
            reply.json,
            {"sandboxId": self.box.id, "message": "The sandbox is running but port is not open",
             "port": 8998, "code": 502},
        )  # fmt: skip
        self.assertLess(time.monotonic() - began, 5 * lib.time_factor())


class Signals(unittest.TestCase):
    @lib.limit(120)
    def test_sigterm_drains_and_sandboxes_stay(self):
        with lib.Server() as server:
            box = server.create(timeout=300)
            box.sh("echo kept > /tmp/kept")
            answers = []

            def slow():
                conn = lib.Http(server.traffic_port)
                answers.append(box.sh("sleep 2; echo finished", conn=conn).text)

            thread = threading.Thread(target=slow)
            thread.start()
            time.sleep(0.7)
            began = time.monotonic()
            self.assertEqual(server.terminate(), 0)
            self.assertLess(time.monotonic() - began, 25 * lib.time_factor())
            thread.join(10)
            self.assertEqual(answers, ["finished\n"], "a running request was cut")
            server.start()
            self.assertEqual(server.all_sandboxes(), [box.id])
            self.assertEqual(box.sh("cat /tmp/kept").text, "kept\n")

    @lib.limit(60)
    def test_sighup_keeps_it_running(self):
        with lib.Server() as server:
            box = server.create(timeout=60)
            for _ in range(3):
                server.process.send_signal(signal.SIGHUP)
                time.sleep(0.2)
            self.assertEqual(server.ops("GET", "/readyz").status, 200)
            self.assertEqual(box.sh("echo here").text, "here\n")

    @lib.limit(60)
    def test_a_second_server_on_the_same_state_is_refused(self):
        with lib.Server() as server:
            second = lib.Server(folder=os.path.join(server.folder, "second"))
            second.state, second.run = server.state, server.run
            with self.assertRaises(AssertionError):
                second.start()
            self.assertEqual(server.ops("GET", "/readyz").status, 200)

    @lib.limit(60)
    def test_the_domain_is_named_as_given_and_others_are_refused(self):
        for domain, warned in (("sandpit.localhost", True), ("sandpit.localhost:9443", False)):
            with lib.Server(args=["--domain", domain]) as server:
                reply = server.api("POST", "/sandboxes", {"templateID": "base", "timeout": 60})
                self.assertEqual((reply.status, reply.json["domain"]), (201, domain))
                with open(server.log) as log:
                    self.assertEqual("on port 443" in log.read(), warned)
                for host, status in ((f"49983-{reply.json['sandboxID']}.sandpit.localhost:1", 204),
                                     (f"49983-{reply.json['sandboxID']}.other.localhost", 400)):  # fmt: skip
                    conn = lib.Http(server.traffic_port)
                    self.assertEqual(conn.request("GET", "/health", headers={"Host": host}).status, status)
                    conn.close()

    def test_a_port_in_use_is_named(self):
        with lib.Server() as server:
            second = lib.Server(folder=os.path.join(server.folder, "second"))
            second.api_port = server.api_port
            with self.assertRaises(AssertionError) as caught:
                second.start()
            self.assertIn(str(server.api_port), str(caught.exception))


class Cli(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = lib.Server()  # never started: only its folder and paths
        cls.addClassCleanup(shutil.rmtree, cls.server.folder)

    def run_cli(self, *args):
        command = [os.path.join(self.server.out, "sandpit"), *args]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60)  # fmt: skip

    def test_version_and_help(self):
        self.assertEqual(self.run_cli("version").returncode, 0)
        self.assertIn("serve", self.run_cli("--help").stdout)

    def test_unknown_words_are_refused_with_a_hint(self):
        for args in (("nonsense",), ("serve", "--no-such-flag"), ("key", "nonsense"), ("serve", "--api-listen", "x:y:z")):
            done = self.run_cli(*args)
            self.assertNotEqual(done.returncode, 0, args)
            self.assertTrue(done.stderr.strip(), args)

    def test_doctor_prints_a_table(self):
        done = self.run_cli("doctor", "--state-dir", self.server.state)
        self.assertIn("cgroup", done.stdout + done.stderr)
        self.assertIn("overlay", done.stdout + done.stderr)

    def test_check_config_accepts_nothing_and_refuses_nonsense(self):
        path = os.path.join(self.server.folder, "bad.conf")
        with open(path, "w") as file:
            file.write("this is = = not a setting\n")
        done = self.run_cli("check-config", "--config", path)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("bad.conf", done.stdout + done.stderr)


if __name__ == "__main__":
    lib.main()
