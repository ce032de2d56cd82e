#!/usr/bin/env python3
"""The subcommands that need no server: keys, settings, lists, and what they say when misused."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import unittest
from datetime import datetime, timedelta, timezone

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

OUT = os.path.abspath(os.environ.get("SANDPIT_OUT") or os.path.join(lib.ROOT, "build/release"))
KEY = re.compile(r"^e2b_[0-9a-f]{40}$")


def parse_date(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


class WithState(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="cli-test-")
        self.state = os.path.join(self.folder, "state")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def run_cli(self, *args, env=None, state=True):
        command = [os.path.join(OUT, "sandpit"), *args]
        if state:
            command += ["--state-dir", self.state]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SANDPIT_")}
        clean.update({k: os.environ[k] for k in ("SANDPIT_OUT",) if k in os.environ})
        clean.update(env or {})
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=clean
        )

    def must(self, *args, **options):
        done = self.run_cli(*args, **options)
        self.assertEqual(done.returncode, 0, (args, done.stderr))
        return done

    def refused(self, code, needle, *args, **options):
        done = self.run_cli(*args, **options)
        self.assertEqual(done.returncode, code, (args, done.stdout, done.stderr))
        self.assertIn(needle, done.stderr, args)
        self.assertEqual(done.stdout, "", args)
        return done

    def create(self, *args):
        return json.loads(
            self.must("key", "create", "--namespace", "team", "--client", "ci", "--json", *args).stdout
        )

    def rows(self):
        return {row["id"]: row for row in json.loads(self.must("key", "list", "--json").stdout)}


class Keys(WithState):
    def test_create_prints_only_the_key_on_stdout(self):
        done = self.must("key", "create", "--namespace", "team", "--client", "ci")
        self.assertRegex(done.stdout.rstrip("\n"), KEY)
        self.assertNotIn(done.stdout.strip(), done.stderr)

    def test_row_has_the_fields_of_the_contract(self):
        before = datetime.now(timezone.utc) - timedelta(seconds=1)
        row = self.create()
        self.assertRegex(row["key"], KEY)
        self.assertEqual(row["namespace"], "team")
        self.assertEqual(row["client"], "ci")
        self.assertEqual(row["scopes"], ["read", "write"])
        self.assertIsNone(row["expires_at"])
        self.assertGreater(parse_date(row["created_at"]), before)
        listed = self.rows()[row["id"]]
        self.assertNotIn("key", listed)
        self.assertEqual({k: v for k, v in row.items() if k != "key"}, listed)

    def test_scope_and_expiry_are_kept(self):
        row = self.create("--scope", "read", "--expires", "30d")
        self.assertEqual(row["scopes"], ["read"])
        life = parse_date(row["expires_at"]) - parse_date(row["created_at"])
        self.assertLess(abs(life - timedelta(days=30)), timedelta(seconds=5))

    def test_the_key_itself_is_stored_nowhere(self):
        text = self.create()["key"]
        for root, _, names in os.walk(self.state):
            for name in names:
                with open(os.path.join(root, name), "rb") as file:
                    data = file.read()
                self.assertNotIn(text.encode(), data, name)
                self.assertNotIn(text[4:].encode(), data, name)
        self.assertNotIn(text, self.must("key", "list").stdout)

    def test_revoked_key_is_shown_as_such(self):
        row = self.create()
        self.assertTrue(json.loads(self.must("key", "revoke", row["id"], "--json").stdout)["revoked"])
        self.assertTrue(self.rows()[row["id"]]["revoked"])
        self.assertIn("revoked", self.must("key", "list").stdout)

    def test_rotate_makes_a_twin_and_ends_the_old_key(self):
        old = self.create("--scope", "read")
        new = json.loads(self.must("key", "rotate", old["id"], "--overlap", "1h", "--json").stdout)
        self.assertRegex(new["key"], KEY)
        self.assertNotEqual(new["key"], old["key"])
        for field in ("namespace", "client", "scopes"):
            self.assertEqual(new[field], old[field])
        self.assertIsNone(new["expires_at"])
        rows = self.rows()
        left = parse_date(rows[old["id"]]["expires_at"]) - datetime.now(timezone.utc)
        self.assertLess(abs(left - timedelta(hours=1)), timedelta(seconds=10))

    def test_rotate_never_lengthens_a_life(self):
        old = self.create("--expires", "10m")
        self.must("key", "rotate", old["id"], "--overlap", "1h")
        self.assertEqual(self.rows()[old["id"]]["expires_at"], old["expires_at"])

    def test_unknown_id_is_a_failure(self):
        self.create()
        for verb in ("revoke", "rotate"):
            self.refused(1, "no key with id 'nope'", "key", verb, "nope")

    def test_a_revoked_key_is_not_rotated(self):
        row = self.create()
        self.must("key", "revoke", row["id"])
        self.refused(1, "revoked", "key", "rotate", row["id"])
        self.assertEqual(len(self.rows()), 1)

    def test_misuse_is_named_and_changes_nothing(self):
        create = ("key", "create", "--namespace", "team", "--client", "ci")
        cases = [
            ("needs a command", ("key",)),
            ("nonsense", ("key", "nonsense")),
            ("--namespace", ("key", "create", "--client", "ci")),
            ("--client", ("key", "create", "--namespace", "team")),
            ("namespace", ("key", "create", "--namespace", "Team", "--client", "ci")),
            ("client", ("key", "create", "--namespace", "team", "--client", "c/i")),
            ("admin", (*create, "--scope", "read,root")),
            ("soon", (*create, "--expires", "soon")),
            ("--expires", (*create, "--expires", "0s")),
            ("--colour", (*create, "--colour", "red")),
            ("given twice", (*create, "--client", "other")),
            ("no further word", (*create, "extra")),
            ("id of a key", ("key", "revoke")),
            ("--overlap", ("key", "revoke", "x", "--overlap", "1h")),
            ("belong to key create", ("key", "list", "--namespace", "team")),
        ]
        for needle, args in cases:
            self.refused(2, needle, *args)
        self.assertFalse(os.path.exists(self.state))

    def test_a_folder_never_used_is_told_apart(self):
        for args in (("key", "list"), ("key", "revoke", "x"), ("sandbox", "list")):
            self.refused(1, self.state, *args)
        self.assertFalse(os.path.exists(self.state))

    def test_files_are_private(self):
        self.create()
        for path in (self.state, os.path.join(self.state, "db")):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o700)
        db = os.path.join(self.state, "db", "sandpit.db")
        self.assertEqual(stat.S_IMODE(os.stat(db).st_mode), 0o600)

    def test_root_leaves_the_servers_files_to_the_server(self):
        lib.need_root()
        self.create()
        folder = os.path.join(self.state, "db")
        for path in (folder, *(os.path.join(folder, name) for name in os.listdir(folder))):
            os.chown(path, 4242, 4242)
        self.create()
        self.rows()
        for name in os.listdir(folder):
            self.assertEqual(os.stat(os.path.join(folder, name)).st_uid, 4242, name)

    def test_many_at_once(self):
        self.create()
        failed = []

        def work():
            for _ in range(5):
                done = self.run_cli("key", "create", "--namespace", "team", "--client", "ci")
                if done.returncode != 0:
                    failed.append(done.stderr)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        self.assertEqual(len(self.rows()), 21)


class Settings(WithState):
    def setUp(self):
        super().setUp()
        self.envd = os.path.join(self.folder, "envd")
        with open(self.envd, "w") as file:
            file.write("#!/bin/sh\n")
        os.chmod(self.envd, 0o755)

    def check(self, *args, **options):
        return json.loads(self.must("check-config", "--envd", self.envd, *args, **options).stdout)

    def test_defaults(self):
        done = self.check()
        self.assertEqual(done["api_listen"], "127.0.0.1:3000")
        self.assertEqual(done["engine"], "local")
        self.assertIsNone(done["domain"])
        self.assertIs(done["dev"], False)

    def test_flags_then_variables_then_file(self):
        path = os.path.join(self.folder, "sandpit.json")
        with open(path, "w") as file:
            json.dump({"api_listen": ":1", "ops_listen": ":1", "traffic_listen": ":1", "workers": 3}, file)
        done = self.check(
            "--config", path, "--api-listen", ":3",
            env={"SANDPIT_API_LISTEN": ":2", "SANDPIT_OPS_LISTEN": ":2"},
        )
        self.assertEqual(done["api_listen"], ":3")
        self.assertEqual(done["ops_listen"], ":2")
        self.assertEqual(done["traffic_listen"], ":1")
        self.assertEqual(done["workers"], 3)

    def test_mistakes_are_named(self):
        bad = os.path.join(self.folder, "bad.json")
        with open(bad, "w") as file:
            file.write('{"api_listen": 3}')
        self.refused(2, "api_listen", "check-config", "--config", bad)
        self.refused(2, "--api-listen", "check-config", "--api-listen", "127.0.0.1:99999")
        self.refused(2, "--nonsense", "check-config", "--nonsense")
        self.refused(2, "nobody-here", "check-config", "--envd", self.envd, "--user", "nobody-here")
        self.refused(2, "root", "check-config", "--envd", self.envd, "--user", "root")
        self.refused(2, "SANDPIT_WORKERS", "check-config", env={"SANDPIT_WORKERS": "x"})
        self.refused(2, "/nonexistent", "check-config", "--envd", "/nonexistent")
        self.refused(
            2, "/nonexistent.pem", "check-config", "--envd", self.envd, "--tls-listen", ":1",
            "--tls-cert", "/nonexistent.pem", "--tls-key", self.envd,
        )

    def test_kubernetes_is_refused_clearly(self):
        done = self.must("check-config", "--engine", "kubernetes")
        self.assertIn("no kubernetes engine yet", done.stderr)
        self.refused(1, "kubernetes", "serve", "--engine", "kubernetes")

    def test_help_and_documentation_name_every_setting(self):
        with open(os.path.join(lib.ROOT, "docs", "configuration.md")) as file:
            docs = file.read()
        text = self.must("serve", "--help", state=False).stdout
        for key in self.check():
            flag = "--" + key.replace("_", "-")
            self.assertIn(flag, text)
            self.assertIn(f"`{flag}`", docs)


class Others(WithState):
    def test_version(self):
        done = json.loads(self.must("version", "--json", state=False).stdout)
        self.assertTrue(done["version"])
        self.assertRegex(done["envd_version"], r"^\d+\.\d+\.\d+$")

    def test_what_is_not_built_says_so(self):
        self.refused(1, "cannot build", "template", "build")
        self.refused(2, "E2B_API_KEY", "sandbox", "kill", "i" + "a" * 20)

    def test_no_sandboxes_is_an_empty_list(self):
        self.create()
        self.assertEqual(json.loads(self.must("sandbox", "list", "--json").stdout), [])

    def test_unknown_commands_are_refused(self):
        self.refused(2, "nonsense", "nonsense", state=False)
        self.refused(2, "nonsense", "sandbox", "nonsense")
        self.refused(2, "--nonsense", "version", "--nonsense", state=False)

    def test_a_full_disk_is_noticed(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [os.path.join(OUT, "sandpit"), "version"], stdout=full, stderr=subprocess.PIPE, text=True
            )
        self.assertEqual(done.returncode, 1)
        self.assertIn("standard output", done.stderr)

    def test_doctor_is_a_table_or_json(self):
        done = self.run_cli("doctor", "--json")
        rows = json.loads(done.stdout)
        self.assertTrue(rows)
        for row in rows:
            self.assertEqual(set(row), {"name", "state", "found", "remedy"})
            self.assertIn(row["state"], ("OK", "WARN", "FAIL"))
            if row["state"] != "OK":
                self.assertTrue(row["remedy"], row)
        self.assertEqual(done.returncode, 1 if any(row["state"] == "FAIL" for row in rows) else 0)
        table = self.run_cli("doctor").stdout
        self.assertEqual(table.split()[:4], ["NAME", "STATE", "FOUND", "REMEDY"])


if __name__ == "__main__":
    lib.main()
