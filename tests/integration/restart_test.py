#!/usr/bin/env python3
"""Sandboxes outlive the server: it is killed with -9 and started again, and nothing is lost; what
ends afterwards leaves nothing behind on the host."""

import contextlib
import datetime
import os
import secrets
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

COUNT = 20
LIFE_S = 45
SLACK_S = 3


def setUpModule():
    lib.need_root()


def unix_time(text):
    """Seconds of an RFC 3339 time with up to nanoseconds."""
    head, _, rest = text.rstrip("Z").partition(".")
    moment = datetime.datetime.fromisoformat(head).replace(tzinfo=datetime.timezone.utc)
    return moment.timestamp() + float("0." + (rest or "0"))


def start_ticking(sandbox):
    """A command that writes the time into a file five times a second. Returns its mark."""
    mark = "tick-" + secrets.token_hex(8)
    sandbox.background(f"exec -a {mark} bash -c 'while :; do date +%s.%N > /tmp/tick; sleep 0.2; done'")
    return mark


def last_tick(sandbox):
    for _ in range(20):  # the file is empty for the moment between its opening and `date`
        text = sandbox.sh("cat /tmp/tick").text.strip()
        if text:
            return float(text)
        time.sleep(0.05)
    return 0.0


def look_at(marks):
    """Namespaces and cgroups of the sandboxes in which processes with one of MARKS run."""
    return lib.sandbox_namespaces(marks), lib.sandbox_cgroups(marks)


class Restart(unittest.TestCase):
    def assert_nothing_left(self, server, ids, seen, marks):
        namespaces, cgroups = seen

        def look():
            left = lib.leftovers(ids, namespaces, server.folder, cgroups)
            left += [f"process with {mark}" for mark in marks if lib.host_pids(mark)]
            return left

        try:
            lib.wait_until("clean-up", 10 * lib.time_factor(), lambda: not look())
        except TimeoutError:
            self.fail("left behind:\n" + "\n".join(look()[:20]))

    @lib.limit(240)
    def test_twenty_survive_a_killed_server_and_end_at_their_timeouts(self):
        with lib.Server() as server:
            life = int(LIFE_S * lib.time_factor())
            sandboxes = [server.create(timeout=life, metadata={"n": str(n)}) for n in range(COUNT)]
            marks = [start_ticking(sandbox) for sandbox in sandboxes]
            seen = look_at(marks)
            self.assertGreaterEqual(len(seen[0]), COUNT * 4, "too few namespaces: isolated?")
            self.assertGreaterEqual(len(seen[1]), COUNT, "too few cgroups: limited?")
            before = {row["sandboxID"]: row for row in server.api("GET", "/sandboxes").json}
            self.assertEqual(len(before), COUNT)

            server.kill9()
            down_at = time.time()
            time.sleep(1.5)
            for mark in marks:
                self.assertTrue(lib.host_pids(mark), "a command died with the server")
            server.start()

            after = {row["sandboxID"]: row for row in server.api("GET", "/sandboxes").json}
            self.assertEqual(set(after), set(before))
            for sandbox in sandboxes:
                row, old = after[sandbox.id], before[sandbox.id]
                for field in ("metadata", "startedAt", "endAt", "templateID"):
                    self.assertEqual(row[field], old[field])
                tick = last_tick(sandbox)
                self.assertGreater(tick, down_at + 0.5, "it did not run while the server was away")
                self.assertLess(time.time() - tick, 5 * lib.time_factor(), "its command has ended")
                self.assertEqual(sandbox.sh("echo new").text, "new\n")

            ends = {key: unix_time(row["endAt"]) for key, row in after.items()}
            ended = {}
            while len(ended) < COUNT:
                now = time.time()
                alive = {row["sandboxID"] for row in server.api("GET", "/sandboxes").json}
                for key in ends:
                    if key in alive:
                        self.assertLess(now, ends[key] + SLACK_S * lib.time_factor(), f"{key} is late")
                    else:
                        ended.setdefault(key, now)
                time.sleep(0.2)
            for key, when in ended.items():
                self.assertGreater(when, ends[key] - 0.5, f"{key} ended early")
            self.assert_nothing_left(server, ends, seen, marks)

    @lib.limit(120)
    def test_a_timeout_that_passed_while_the_server_was_away(self):
        with lib.Server() as server:
            short = server.create(timeout=3)
            long = server.create(timeout=300)
            marks = [start_ticking(short)]
            seen = look_at(marks)
            server.kill9()
            time.sleep(4)
            server.start()
            lib.wait_until(
                "the overdue end", 5 * lib.time_factor(),
                lambda: server.all_sandboxes() == [long.id],
            )  # fmt: skip
            self.assert_nothing_left(server, [short.id], seen, marks)
            self.assertEqual(long.sh("echo there").text, "there\n")

    @lib.limit(120)
    def test_server_and_launcher_killed_together(self):
        """What an init system's kill of the whole service does."""
        with lib.Server() as server:
            sandbox = server.create()
            mark = start_ticking(sandbox)
            seen = look_at([mark])
            for pid in lib.host_pids(server.state):
                os.kill(pid, signal.SIGKILL)
            server.kill9()
            time.sleep(0.5)
            self.assertTrue(lib.host_pids(mark), "the command died with the server")
            server.start()
            self.assertEqual(server.all_sandboxes(), [sandbox.id])
            self.assertEqual(sandbox.sh("echo there").text, "there\n")
            self.assertEqual(sandbox.kill(), 204)
            self.assert_nothing_left(server, [sandbox.id], seen, [mark])

    @lib.limit(120)
    def test_a_sandbox_that_died_meanwhile_is_forgotten(self):
        with lib.Server() as server:
            gone = server.create()
            here = server.create()
            mark = start_ticking(gone)
            seen = look_at([mark])
            pid = lib.marked_pids(mark)[0]
            server.kill9()
            for victim in processes_of_same_namespace(pid, "pid"):
                with contextlib.suppress(ProcessLookupError):  # its init takes the others along
                    os.kill(victim, signal.SIGKILL)
            server.start()
            lib.wait_until(
                "it is gone", 5 * lib.time_factor(), lambda: server.all_sandboxes() == [here.id]
            )
            self.assertEqual(server.api("GET", f"/sandboxes/{gone.id}").status, 404)
            self.assert_nothing_left(server, [gone.id], seen, [mark])

    @lib.limit(180)
    def test_many_lives_leave_nothing(self):
        """Create and kill in a row: no descriptor, mount, cgroup or namespace stays."""
        with lib.Server(args=["--warm-max", "4"]) as server:  # spares are no leak
            server.create().kill()  # what is made once and kept does not count
            time.sleep(0.5)
            mounts = len(lib.mounts_with(server.folder))
            fds = self.descriptors(server)
            ids, marks, seen = [], [], ({}, set())
            for _ in range(30):
                sandbox = server.create(timeout=60)
                marks.append(start_ticking(sandbox))
                namespaces, cgroups = look_at(marks[-1:])
                seen[0].update(namespaces)
                seen[1].update(cgroups)
                ids.append(sandbox.id)
                self.assertEqual(sandbox.kill(), 204)
            server.kept.clear()
            self.assert_nothing_left(server, ids, seen, marks)
            self.assertLessEqual(len(lib.mounts_with(server.folder)), mounts)
            lib.wait_until(
                f"descriptors back to {fds}", 10,
                lambda: all(now <= was + 2 for now, was in zip(self.descriptors(server), fds)),
            )  # fmt: skip

    @lib.limit(60)
    def test_a_stopped_server_without_sandboxes_leaves_nothing(self):
        server = lib.Server()
        server.start()
        box = server.create()
        _, cgroups = look_at([start_ticking(box)])
        box.kill()
        server.kept.clear()
        self.assertEqual(server.terminate(), 0)

        def look():
            left = [f"process {pid}" for pid in lib.host_pids(server.folder)]
            left += lib.mounts_with(server.folder)
            return left + lib.leftovers([box.id], {}, server.folder, cgroups)

        try:
            lib.wait_until("clean-up", 10 * lib.time_factor(), lambda: not look())
        except TimeoutError:
            self.fail("left behind:\n" + "\n".join(look()[:20]))
        server.stop()

    @staticmethod
    def descriptors(server):
        """Open descriptors of the server and of the launcher, its only child."""
        pid = server.process.pid
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            pids = [pid, *map(int, file.read().split())]
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]


def processes_of_same_namespace(pid, kind):
    wanted = lib.namespaces(pid)[f"{kind}"]
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and lib.namespaces(entry).get(kind) == wanted:
            found.append(int(entry))
    return found


if __name__ == "__main__":
    lib.main()
