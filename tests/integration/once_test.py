#!/usr/bin/env python3
"""A create with an Idempotency-Key makes one sandbox, wherever the server dies.

Builds other than release have places where SANDPIT_FAULT lets a process of the server kill itself
(server/base/fault.h). At each of them: create, let it die, start again, create again with the same
key. There must be one sandbox, and of the other try nothing on the host.
"""

import contextlib
import http.client
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

PLACES = ["create.claimed", "create.intended", "launcher.asked", "launcher.ordered",
          "launcher.runs", "create.made", "create.settled", "create.answer"]  # fmt: skip
DONE = ["create.settled", "create.answer"]  # from here on the retry answers for the first try


def setUpModule():
    lib.need_root()


def ask(server, key):
    """POST with KEY; the reply, or None when the server died meanwhile."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.api("POST", "/v2/sandboxes", {"templateID": "base", "timeout": 300},
                          headers={"Idempotency-Key": key})
    return None


def start_with_fault(server, place):
    os.environ["SANDPIT_FAULT"] = place
    try:
        server.start()
    finally:
        del os.environ["SANDPIT_FAULT"]


class Once(unittest.TestCase):
    def crash_at(self, server, place, key):
        """Create with KEY in a server that dies at PLACE."""
        start_with_fault(server, place)
        reply = ask(server, key)
        if place.startswith("launcher."):
            server.kill9()  # without its launcher it would only say 500 or 503
            self.assertTrue(reply is None or reply.status != 201, reply and reply.body)
            return
        self.assertIsNone(reply)
        server.process.wait(20 * lib.time_factor())

    def on_host(self, server):
        """The sandboxes that the launcher has notes of."""
        pid = server.process.pid
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            launcher = file.read().split()[0]
        return {name for name in os.listdir(f"/proc/{launcher}/root{server.run}/sandboxes")
                if name.startswith("i")}

    def retry(self, server, key):
        """Ask until it is no longer "in progress", as a client does."""
        deadline = time.monotonic() + 30 * lib.time_factor()
        while True:
            reply = ask(server, key)
            code = (reply.json or {}).get("error_code")
            if reply.status != 409 or code != "idempotency_in_progress":
                return reply
            self.assertEqual(reply.headers.get("Should-Retry"), "true")
            self.assertLess(time.monotonic(), deadline, "still in progress")
            time.sleep(0.2)

    def test_the_server_may_die_at_every_step_of_a_create(self):
        server = lib.Server(args=["--warm-min", "1", "--warm-max", "1"])
        with open(os.path.join(server.out, "sandpit"), "rb") as file:
            if b"SANDPIT_FAULT" not in file.read():
                self.skipTest("a release build has no places to die at")
        with server:
            pass_on = server.create()  # something else that lives, to be left alone
            server.terminate()
            for place in PLACES:
                with self.subTest(place=place):
                    key = "once-" + place.replace(".", "-")
                    self.crash_at(server, place, key)
                    server.start()
                    known = set(server.all_sandboxes()) - {pass_on.id}
                    self.assertEqual(len(known), 1 if place in DONE else 0, known)
                    reply = self.retry(server, key)
                    self.assertEqual(reply.status, 201, reply.body)
                    made = reply.json["sandboxID"]
                    if place in DONE:
                        self.assertEqual({made}, known)
                    self.assertEqual(ask(server, key).json, reply.json)
                    self.assertEqual(set(server.all_sandboxes()), {pass_on.id, made})
                    box = lib.Sandbox(server, reply.json)
                    self.assertEqual(box.sh("echo alive").text.strip(), "alive")
                    self.assertEqual(self.on_host(server), {pass_on.id, made})
                    box.kill()
                    self.assertEqual(ask(server, key).json, reply.json)  # made once, whatever came
                    server.terminate()
            server.start()
            self.assertEqual(pass_on.sh("echo alive").text.strip(), "alive")

    def test_a_key_survives_kill_9_and_refuses_another_body(self):
        with lib.Server() as server:
            first = ask(server, "kept")
            self.assertEqual(first.status, 201)
            server.kill9()
            server.start()
            again = ask(server, "kept")
            self.assertEqual((again.status, again.json), (201, first.json))
            other = server.api("POST", "/v2/sandboxes", {"templateID": "base", "timeout": 301},
                               headers={"Idempotency-Key": "kept"})
            self.assertEqual(other.status, 409)
            self.assertEqual(other.json["error_code"], "idempotency_request_mismatch")


if __name__ == "__main__":
    lib.main()
