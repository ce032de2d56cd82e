#!/usr/bin/env python3
"""Limits of namespaces and keys: set by `sandpit limit`, followed by a running server, told to
clients with the headers that their retries obey."""

import datetime
import json
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402


def setUpModule():
    lib.need_root()
    Limits.server = lib.Server(args=["--max-sandboxes", "3", "--max-lifetime", "7200"])
    Limits.server.start()


def tearDownModule():
    if Limits.server.stop() != 0:
        raise AssertionError(Limits.server.log_tail())


class Limits(unittest.TestCase):
    server = None

    def create(self, key, status=201, **fields):
        reply = self.server.api("POST", "/v2/sandboxes", {"templateID": "base", **fields}, key=key)
        self.assertEqual(reply.status, status, reply.body)
        return reply

    def limit(self, *args):
        return json.loads(self.server.cli("limit", *args, "--json").stdout)

    def kill_all(self, key):
        for sandbox_id in self.server.all_sandboxes(key):
            self.server.api("DELETE", f"/sandboxes/{sandbox_id}", key=key)

    def test_concurrent_sandboxes_of_a_namespace_and_of_a_key(self):
        key, row = self.server.new_key("crowd")
        second, _ = self.server.new_key("crowd")
        for _ in range(3):
            made = self.create(key).json
        reply = self.create(key, 429)
        self.assertIn("maximum number of concurrent E2B sandboxes (3)", reply.json["message"])
        self.assertEqual(reply.headers["Should-Retry"], "false")
        self.assertIsNone(reply.headers.get("Retry-After"))
        self.create(second, 429)
        self.assertEqual(self.limit("set", "--namespace", "crowd", "--max-sandboxes", "5"),
                         {"namespace": "crowd", "max_sandboxes": 5})
        self.limit("set", "--key", row["id"], "--max-sandboxes", "3")
        reply = self.create(key, 429)
        self.assertIn("(3) of this API key", reply.json["message"])
        self.create(second)
        self.server.api("POST", f"/sandboxes/{made['sandboxID']}/pause", {}, key=key)
        self.create(key)
        reply = self.server.api("POST", f"/v2/sandboxes/{made['sandboxID']}/connect", {}, key=key)
        self.assertEqual(reply.status, 429, reply.body)
        self.limit("clear", "--key", row["id"])
        reply = self.server.api("POST", f"/v2/sandboxes/{made['sandboxID']}/connect", {}, key=key)
        self.assertEqual(reply.status, 201, reply.body)
        self.server.kill9()
        self.server.start()  # what is set and what runs is known again
        self.create(key, 429)
        self.kill_all(key)
        self.limit("clear", "--namespace", "crowd")

    def test_creates_per_second(self):
        key, _ = self.server.new_key("hurry")
        self.limit("set", "--namespace", "hurry", "--creates-per-second", "2",
                   "--max-sandboxes", "0")
        first = self.create(key)
        self.assertEqual([first.headers[f"RateLimit-{name}"]
                          for name in ("Limit", "Remaining", "Reset")], ["2", "1", "1"])
        refused, made, end = 0, 0, time.monotonic() + 1
        while time.monotonic() < end:
            reply = self.server.api("POST", "/v2/sandboxes", {"templateID": "base"}, key=key)
            self.assertIn(reply.status, (201, 429))
            self.assertEqual(reply.headers["RateLimit-Limit"], "2")
            if reply.status == 201:
                made += 1
                continue
            refused += 1
            self.assertEqual(reply.json, {"code": 429, "message": "Rate limit exceeded"})
            self.assertEqual(reply.headers["Retry-After"], "1")
            self.assertEqual(reply.headers["Should-Retry"], "true")
        self.assertGreater(refused, 0)
        self.assertLessEqual(made, 4)
        wrong = self.server.api("POST", "/v2/sandboxes", {"templateID": 5}, key=key)
        self.assertEqual(wrong.status, 400)  # and nothing is taken for it
        self.kill_all(key)

    def test_size_and_lifetime(self):
        key, row = self.server.new_key("small")
        for option, word in (("--max-cpu", "cores"), ("--max-memory-mb", "memory"),
                             ("--max-disk-mb", "disk")):
            self.limit("set", "--key", row["id"], option, "1")
            self.assertIn(word, self.create(key, 400).json["message"])
            self.limit("clear", "--key", row["id"])
        reply = self.create(key, 400, timeout=7201)
        self.assertEqual(reply.json["message"], "Timeout cannot be greater than 2 hours")
        made = self.create(key, timeout=7200).json["sandboxID"]
        reply = self.server.api("POST", f"/sandboxes/{made}/timeout", {"timeout": 86400}, key=key)
        self.assertEqual(reply.status, 204)
        info = self.server.api("GET", f"/sandboxes/{made}", key=key).json
        start, end = (datetime.datetime.fromisoformat(info[name].replace("Z", "+00:00"))
                      for name in ("startedAt", "endAt"))
        self.assertAlmostEqual((end - start).total_seconds(), 7200, delta=0.1)
        reply = self.server.api("POST", f"/v2/sandboxes/{made}/connect", {"timeout": 7201}, key=key)
        self.assertEqual(reply.status, 400, reply.body)
        self.kill_all(key)

    def test_the_command_refuses_what_it_does_not_know(self):
        for args in (["set", "--max-cpu", "1"], ["set", "--namespace", "a"],
                     ["set", "--namespace", "a", "--key", "b", "--max-cpu", "1"],
                     ["set", "--namespace", "A!", "--max-cpu", "1"],
                     ["set", "--namespace", "a", "--max-cpu", "-1"],
                     ["set", "--namespace", "a", "--max-cpu", "99999999999"],
                     ["clear"], ["list", "--namespace", "a"], ["list", "--max-cpu", "1"], ["x"], []):
            done = self.server.cli("limit", *args, check=False)
            self.assertEqual(done.returncode, 2, (args, done.stderr))
        done = self.server.cli("limit", "set", "--key", "no-such-key", "--max-cpu", "1", check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("no key with id", done.stderr)


if __name__ == "__main__":
    lib.main()
