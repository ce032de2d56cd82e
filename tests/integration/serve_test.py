#!/usr/bin/env python3
"""How `serve` starts and what it gives away: privileges, files, the development key, settings."""

import json
import os
import pty
import re
import signal
import ssl
import subprocess
import sys
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402


def setUpModule():
    lib.need_root()


def status_fields(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def log_rows(server):
    with open(server.log, errors="replace") as file:
        return [json.loads(line) for line in file if line.startswith("{")]


class Privileges(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = lib.Server()
        os.chmod(cls.server.folder, 0o700)  # as below /root: only root may pass
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def test_every_thread_is_without_privileges(self):
        pid = self.server.process.pid
        for task in os.listdir(f"/proc/{pid}/task"):
            fields = status_fields(f"{pid}/task/{task}")
            self.assertEqual(len(set(fields["Uid"].split())), 1)
            self.assertNotIn("0", fields["Uid"].split() + fields["Gid"].split())
            self.assertNotIn("0", fields["Groups"].split())
            for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                self.assertEqual(int(fields[name], 16), 0, name)
            self.assertEqual(fields["NoNewPrivs"], "1")

    def test_mounts_are_its_own_and_none_is_left_on_the_host(self):
        pid = self.server.process.pid
        self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink("/proc/self/ns/mnt"))
        with open("/proc/self/mountinfo") as file:
            self.assertNotIn("/run/.sandpit-ns", file.read())
        with open(f"/proc/{pid}/mountinfo") as file:
            self.assertIn("/run/.sandpit-ns/state", file.read())

    def test_the_server_owns_its_database_and_nothing_above_it(self):
        uid = int(status_fields(self.server.process.pid)["Uid"].split()[0])
        owned = {}
        for root, folders, files in os.walk(self.server.state):
            for name in folders + files:
                path = os.path.join(root, name)
                if os.lstat(path).st_uid == uid:
                    owned[os.path.relpath(path, self.server.state)] = True
        self.assertIn("db", owned)
        self.assertTrue(all(p.split("/")[0] == "db" or p == "tls/server.key" for p in owned), owned)
        self.assertEqual(os.stat(self.server.state).st_uid, 0)
        self.assertEqual(os.stat(self.server.state).st_mode & 0o7777, 0o710)

    def test_no_core_files_and_as_many_descriptors_as_allowed(self):
        with open(f"/proc/{self.server.process.pid}/limits") as file:
            limits = {line[:25].strip(): line[25:].split() for line in file}
        self.assertEqual(limits["Max core file size"][:2], ["0", "0"])
        self.assertEqual(limits["Max open files"][0], limits["Max open files"][1])


class Development(unittest.TestCase):
    def test_files_say_what_the_contract_says(self):
        with lib.Server() as server:
            domain = server.dev_env("dev.env")
            self.assertEqual(set(domain), {"E2B_API_KEY", "E2B_DOMAIN", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"})
            self.assertRegex(domain["E2B_API_KEY"], r"^e2b_[0-9a-f]{40}$")
            self.assertEqual(domain["E2B_DOMAIN"], f"sandpit.localhost:{server.tls_port}")
            self.assertEqual(domain["NODE_EXTRA_CA_CERTS"], os.path.join(server.state, "tls/ca.pem"))
            self.assertEqual(domain["SSL_CERT_FILE"], os.path.join(server.state, "tls/bundle.pem"))
            plain = server.dev_env("dev-plain.env")
            self.assertEqual(plain["E2B_API_KEY"], domain["E2B_API_KEY"])
            self.assertEqual(plain["E2B_API_URL"], f"http://127.0.0.1:{server.api_port}")
            self.assertEqual(plain["E2B_SANDBOX_URL"], f"http://127.0.0.1:{server.traffic_port}")
            self.assertEqual(plain["E2B_DOMAIN"], f"sandpit.localhost:{server.traffic_port}")

    def test_tls_is_trusted_through_the_bundle_alone(self):
        with lib.Server() as server:
            url = f"https://api.sandpit.localhost:{server.tls_port}/sandboxes"
            request = urllib.request.Request(url, headers={"X-API-Key": server.key})
            ours = ssl.create_default_context(cafile=server.dev_env("dev.env")["SSL_CERT_FILE"])
            self.assertEqual(urllib.request.urlopen(request, context=ours, timeout=10).read(), b"[]")
            with self.assertRaises(urllib.error.URLError):
                urllib.request.urlopen(request, context=ssl.create_default_context(), timeout=10)

    def test_key_is_kept_while_it_is_valid(self):
        with lib.Server() as server:
            first, first_domain = server.key, server.dev_env("dev.env")["E2B_DOMAIN"]
            self.assertEqual(server.terminate(), 0)
            server.tls_port = lib.free_ports(1)[0]
            server.start()
            self.assertEqual(server.key, first)
            self.assertNotEqual(server.dev_env("dev.env")["E2B_DOMAIN"], first_domain)
            rows = json.loads(server.cli("key", "list", "--json").stdout)
            self.assertEqual(len(rows), 1)
            self.assertEqual((rows[0]["namespace"], rows[0]["client"]), ("default", "dev"))
            server.cli("key", "revoke", rows[0]["id"])
            self.assertEqual(server.terminate(), 0)
            server.start()
            self.assertNotEqual(server.key, first)
            self.assertEqual(server.api("GET", "/sandboxes").status, 200)
            self.assertEqual(server.api("GET", "/sandboxes", key=first).status, 401)

    def test_export_lines_work_and_hold_the_key_on_a_terminal_only(self):
        with lib.Server() as server:
            with open(os.path.join(server.folder, "stdout")) as file:
                lines = [line for line in file if line.startswith("export ")]
            self.assertEqual(len(lines), 9)
            self.assertNotIn(server.key, "".join(lines))
            script = "".join(lines[:4]) + 'printf %s "$E2B_API_KEY"'
            done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True)
            self.assertEqual(done.stdout, server.key)
            self.assertEqual(server.terminate(), 0)
            terminal, other_end = pty.openpty()
            process = subprocess.Popen(server.command(), stdout=other_end, stderr=subprocess.DEVNULL)
            server.process = process
            os.close(other_end)
            seen = b""
            while b"run(" not in seen.partition(b"Python")[2]:
                seen += os.read(terminal, 65536)
            self.assertIn(server.key.encode(), seen)
            os.close(terminal)


class Start(unittest.TestCase):
    def run_serve(self, server, *args):
        return subprocess.run(
            [*server.command(), *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )

    def test_second_server_names_the_first(self):
        with lib.Server() as server:
            done = self.run_serve(server)
            self.assertEqual(done.returncode, 1)
            self.assertIn(str(server.process.pid), done.stderr)

    def test_start_after_a_crash_is_immediate(self):
        with lib.Server() as server:
            key = server.key
            for _ in range(3):
                server.kill9()
                server.start()
            self.assertEqual(server.key, key)
            self.assertEqual(server.api("GET", "/sandboxes").status, 200)

    def test_without_root_it_says_what_to_do(self):
        server = lib.Server()
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *server.command()]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertTrue(re.search("root|Permission denied", done.stderr), done.stderr)
        self.assertFalse(os.path.exists(server.state))
        os.rmdir(server.folder)

    def test_sighup_changes_what_it_may_and_names_the_rest(self):
        with lib.Server() as server:
            path = os.path.join(server.folder, "sandpit.json")

            def write(settings):
                with open(path, "w") as file:
                    json.dump(settings, file)
                os.chmod(path, 0o644)

            write({"log_level": "info"})
            self.assertEqual(server.terminate(), 0)
            server.args = ["--config", path]
            server.start()
            write({"log_level": "warn", "workers": 3})
            server.process.send_signal(signal.SIGHUP)
            lib.wait_until(
                "the warning", 5,
                lambda: any(row.get("setting") == "workers" for row in log_rows(server)),
            )  # fmt: skip
            server.api("GET", "/health")
            before = len(log_rows(server))
            server.api("GET", "/health")  # an info line, were it not for the level
            self.assertEqual(len(log_rows(server)), before)
            write({"log_level": "loud"})
            server.process.send_signal(signal.SIGHUP)
            lib.wait_until(
                "the error", 5, lambda: any("loud" in row.get("error", "") for row in log_rows(server))
            )
            self.assertEqual(server.api("GET", "/sandboxes").status, 200)

    def test_while_it_drains_it_is_alive_but_not_ready(self):
        with lib.Server() as server:
            box = server.create(timeout=60)
            events = box.start("/bin/sleep", ["60"], conn=lib.Http(server.traffic_port))
            self.assertEqual(next(events)[0], "start")
            server.process.send_signal(signal.SIGTERM)
            lib.wait_until("503", 5, lambda: server.ops("GET", "/readyz").status == 503)
            self.assertEqual(server.ops("GET", "/livez").status, 200)
            self.assertEqual(server.ops("GET", "/metrics").status, 200)
            with self.assertRaises(OSError):
                lib.Http(server.api_port).request("GET", "/health")
            self.assertIsNone(server.process.poll())  # it waits for the stream
            server.process.send_signal(signal.SIGTERM)  # and now does not
            self.assertEqual(server.process.wait(10 * lib.time_factor()), 0)
            server.start()
            self.assertEqual(server.all_sandboxes(), [box.id])


if __name__ == "__main__":
    lib.main()
