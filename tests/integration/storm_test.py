#!/usr/bin/env python3
"""Sixteen clients create, kill, pause, resume and snapshot while the server is killed with -9 again
and again.

Afterwards what the clients were told, the store, the host's folders, mounts and processes agree
exactly: no sandbox is lost, doubled or orphaned, and each one that was acknowledged exists or was
killed. SANDPIT_STORM=N is the number of operations (500 in its long form).
"""

import contextlib
import glob
import http.client
import json
import os
import random
import re
import sqlite3
import sys
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

OPERATIONS = int(os.environ.get("SANDPIT_STORM", "300"))
CLIENTS = 16
KEPT_MAX = 3  # sandboxes of one client at the same time
UP_S = (0.1, 0.4)  # a server serves so long
ID = re.compile(r"^i[a-z0-9]{20}$")


def setUpModule():
    lib.need_root()


class Client(threading.Thread):
    """One user: every call is repeated until it has an answer that settles it."""

    def __init__(self, server, number, seed, budget):
        super().__init__(name=f"client-{number}")
        self.server = server
        self.number = number
        self.random = random.Random(f"{seed}-{number}")
        self.budget = budget
        self.conn = lib.Http(server.api_port, timeout=60)
        self.alive = {}  # id: "running" or "paused", as acknowledged
        self.killed = set()
        self.snapshots = set()  # acknowledged and not deleted
        self.lost_answers = 0
        self.counts = {}
        self.error = None

    def call(self, method, path, body=None, headers=None):
        """One try; None when the server went away before it answered."""
        try:
            reply = self.conn.request(
                method, path, None if body is None else json.dumps(body),
                {"X-API-Key": self.server.key, "Content-Type": "application/json",
                 **(headers or {})})
        except (OSError, http.client.HTTPException):
            self.conn.close()
            self.lost_answers += 1
            time.sleep(0.1)
            return None
        if reply.status in (500, 503):  # its launcher is gone, or it is starting
            time.sleep(0.1)
            return None
        return reply

    def settle(self, method, path, body=None, headers=None, again=()):
        """Repeat until there is an answer that is not one of the statuses AGAIN."""
        deadline = time.monotonic() + 120 * lib.time_factor()
        while time.monotonic() < deadline:
            reply = self.call(method, path, body, headers)
            if reply is not None and reply.status not in again:
                return reply
            time.sleep(0.05 if reply is None else 0.2)
        raise AssertionError(f"{method} {path} was never settled")

    def create(self):
        template = "base"
        if self.snapshots and self.random.random() < 0.5:
            template = self.random.choice(sorted(self.snapshots))
        key = f"storm-{os.getpid()}-{self.number}-{self.counts.get('create', 0)}"
        while True:
            reply = self.settle("POST", "/v2/sandboxes", {"templateID": template, "timeout": 600},
                                {"Idempotency-Key": key})
            code = (reply.json or {}).get("error_code")
            if reply.status != 409 or code != "idempotency_in_progress":
                break
        if reply.status != 201:
            raise AssertionError(f"create: {reply.status} {reply.body}")
        self.alive[reply.json["sandboxID"]] = "running"

    def snapshot(self, sandbox_id):
        """A try whose answer is lost may leave one that nobody knows of: it is listed, though."""
        reply = self.settle("POST", f"/sandboxes/{sandbox_id}/snapshots", {})
        if reply.status != 201:
            raise AssertionError(f"snapshot: {reply.status} {reply.body}")
        self.snapshots.add(reply.json["snapshotID"])

    def forget(self):
        snapshot_id = self.random.choice(sorted(self.snapshots))
        reply = self.settle("DELETE", f"/templates/{urllib.parse.quote(snapshot_id, safe='')}")
        if reply.status not in (204, 404):
            raise AssertionError(f"delete of a snapshot: {reply.status} {reply.body}")
        self.snapshots.remove(snapshot_id)

    def kill(self, sandbox_id):
        reply = self.settle("DELETE", f"/sandboxes/{sandbox_id}")
        if reply.status not in (204, 404):  # 404: an earlier try of ours did it
            raise AssertionError(f"kill: {reply.status} {reply.body}")
        del self.alive[sandbox_id]
        self.killed.add(sandbox_id)

    def pause(self, sandbox_id):
        reply = self.settle("POST", f"/sandboxes/{sandbox_id}/pause", {})
        if reply.status not in (204, 409):  # 409: an earlier try of ours did it
            raise AssertionError(f"pause: {reply.status} {reply.body}")
        self.alive[sandbox_id] = "paused"

    def resume(self, sandbox_id):
        reply = self.settle("POST", f"/v2/sandboxes/{sandbox_id}/connect", {"timeout": 600})
        if reply.status not in (200, 201):
            raise AssertionError(f"resume: {reply.status} {reply.body}")
        self.alive[sandbox_id] = "running"

    def step(self):
        if not self.alive or (len(self.alive) < KEPT_MAX and self.random.random() < 0.4):
            what, target = "create", None
        elif self.snapshots and self.random.random() < 0.05:
            what, target = "forget", None
        else:
            target = self.random.choice(sorted(self.alive))
            turn = {"running": "pause", "paused": "resume"}[self.alive[target]]
            what = self.random.choice(["kill", turn, turn])
            if turn == "pause" and self.random.random() < 0.15:
                what = "snapshot"
        self.counts[what] = self.counts.get(what, 0) + 1
        getattr(self, what)(*([target] if target else []))

    def run(self):
        try:
            while self.budget.take():
                self.step()
        except Exception as error:  # shown by the main thread
            self.error = error
        finally:
            self.conn.close()


class Budget:
    def __init__(self, count):
        self.left = count
        self.lock = threading.Lock()

    def take(self):
        with self.lock:
            self.left -= 1
            return self.left >= 0


def launcher_of(server):
    pid = server.process.pid
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return int(file.read().split()[0])


class Storm(unittest.TestCase):
    def crash(self, server, chance):
        """Kill -9 the server, sometimes with its launcher, and start it again."""
        launcher = launcher_of(server)
        if chance.random() < 0.3:
            os.kill(launcher, 9)
        server.kill9()
        server.start()

    def on_host(self, server):
        """Folders of sandboxes in the launcher's view: those of the run and of the storage."""
        root = f"/proc/{launcher_of(server)}/root"
        found = {}
        for name, path in (("run", f"{server.run}/sandboxes"),
                           ("storage", f"{server.state}/storage/sandboxes")):
            with contextlib.suppress(FileNotFoundError):
                found[name] = {entry for entry in os.listdir(root + path) if ID.match(entry)}
        return found

    def rows(self, server):
        base = sqlite3.connect(f"file:{server.state}/db/sandpit.db?mode=ro", uri=True, timeout=20)
        with contextlib.closing(base):
            return (dict(base.execute("SELECT id, state FROM sandboxes")),
                    base.execute("SELECT count(*) FROM claims WHERE state = 'open'").fetchone()[0])

    def agree(self, server, alive):
        """What differs between the clients' view and each of the others: a list, best empty."""
        wrong = []
        rows, open_claims = self.rows(server)
        if rows != alive:
            wrong.append(f"store: {set(rows.items()) ^ set(alive.items())}")
        if open_claims:
            wrong.append(f"{open_claims} claims are still open")
        wrong += self.agree_on_snapshots(server) + self.agree_on_processes(server, alive)
        listed = set(server.all_sandboxes())
        if listed != set(alive):
            wrong.append(f"listed: {listed ^ set(alive)}")
        for name, found in self.on_host(server).items():
            if found != set(alive):
                wrong.append(f"{name} folders: {found ^ set(alive)}")
        return wrong

    def inits(self, server, alive):
        """{id: pid of its first process} as the launcher has noted it."""
        root = f"/proc/{launcher_of(server)}/root{server.run}/sandboxes"
        found = {}
        for sandbox_id in alive:
            with contextlib.suppress(FileNotFoundError), open(f"{root}/{sandbox_id}") as file:
                found[sandbox_id] = json.load(file)["pid"]
        return found

    def agree_on_processes(self, server, alive):
        """Each has one first process in a namespace of its own, and no other group has anybody."""
        inits = self.inits(server, alive)
        spaces = {name: lib.namespaces(pid).get("pid") for name, pid in inits.items()}
        wrong = [f"no process of {name}" for name in set(alive) - set(spaces)]
        wrong += [f"{name} has no process {inits[name]}" for name, pid in spaces.items() if not pid]
        if len(set(spaces.values())) != len(spaces):
            wrong.append(f"shared namespaces: {spaces}")
        used = set().union(*(lib.cgroups_of(pid) for pid in inits.values()))
        others = {path for group in used for path in glob.glob(f"{os.path.dirname(group)}/*")
                  if os.path.isdir(path)} - used  # fmt: skip
        return wrong + lib.leftovers([], {}, server.folder, others)

    def agree_on_snapshots(self, server):
        base = sqlite3.connect(f"file:{server.state}/db/sandpit.db?mode=ro", uri=True, timeout=20)
        with contextlib.closing(base):
            rows = dict(base.execute("SELECT id, state FROM snapshots"))
        wrong = [f"snapshot {name} is {state}" for name, state in rows.items() if state != "ready"]
        root = f"/proc/{launcher_of(server)}/root"
        with contextlib.suppress(FileNotFoundError):
            found = set(os.listdir(f"{root}{server.state}/storage/snapshots"))
            if found != set(rows):
                wrong.append(f"snapshot folders: {found ^ set(rows)}")
        return wrong

    def listed_snapshots(self, server):
        found, query = set(), ""
        while True:
            reply = server.api("GET", "/snapshots" + query)
            self.assertEqual(reply.status, 200)
            found |= {row["snapshotID"] for row in reply.json}
            token = reply.headers.get("X-Next-Token")
            if not token:
                return found
            query = "?nextToken=" + urllib.parse.quote(token)

    def test_clients_and_host_agree_after_many_crashes(self):
        seed = os.environ.get("SANDPIT_SEED", str(os.getpid()))
        print(f"seed {seed}", file=sys.stderr)
        chance = random.Random(seed)
        server = lib.Server(args=["--warm-min", "2", "--warm-max", "8"])
        crashes = 0
        with server:
            budget = Budget(OPERATIONS)
            clients = [Client(server, i, seed, budget) for i in range(CLIENTS)]
            for client in clients:
                client.start()
            while any(client.is_alive() for client in clients):
                time.sleep(chance.uniform(*UP_S) * min(2, lib.time_factor()))
                if any(client.is_alive() for client in clients):
                    self.crash(server, chance)
                    crashes += 1
            self.assertEqual([(c.error, self.story(server, c.error)) for c in clients if c.error], [])
            self.crash(server, chance)  # what was under way is settled by now
            alive = {k: v for client in clients for k, v in client.alive.items()}
            killed = set().union(*(client.killed for client in clients))
            total = {}
            for client in clients:
                for what, count in client.counts.items():
                    total[what] = total.get(what, 0) + count
            print(f"{total}, {crashes + 1} crashes, {sum(c.lost_answers for c in clients)} answers "
                  f"lost, {len(alive)} alive", file=sys.stderr)
            self.assertEqual(sum(total.values()), OPERATIONS)
            self.assertGreater(crashes, 2)
            with contextlib.suppress(TimeoutError):  # ends that failed are tried again every 5 s
                lib.wait_until("agreement", 20 * lib.time_factor(),
                               lambda: not self.agree(server, alive))
            self.assertEqual(self.agree(server, alive), [])
            self.assertEqual(lib.leftovers(killed, {}, server.folder), [])
            known = set().union(*(client.snapshots for client in clients))
            self.assertEqual(known - self.listed_snapshots(server), set(), "snapshots are lost")
            self.each_answers(server, alive)
            for snapshot_id in self.listed_snapshots(server):
                name = urllib.parse.quote(snapshot_id, safe="")
                self.assertEqual(server.api("DELETE", f"/templates/{name}").status, 204)
            for sandbox_id in alive:
                self.assertEqual(server.api("DELETE", f"/sandboxes/{sandbox_id}").status, 204)
            self.assertEqual(self.agree(server, {}), [])
            server.terminate()
            with contextlib.suppress(TimeoutError):
                lib.wait_until("clean-up", 10 * lib.time_factor(),
                               lambda: not self.left(server, alive | dict.fromkeys(killed)))
            self.assertEqual(self.left(server, alive | dict.fromkeys(killed)), [])
            server.start()

    def each_answers(self, server, alive):
        """Those that run do, the paused ones can be resumed, and each knows its own id."""
        for sandbox_id, state in alive.items():
            reply = server.api("GET", f"/sandboxes/{sandbox_id}")
            self.assertEqual((reply.status, reply.json["state"]), (200, state))
            reply = server.api("POST", f"/v2/sandboxes/{sandbox_id}/connect", {"timeout": 600})
            self.assertEqual(reply.status, 200 if state == "running" else 201, reply.body)
            box = lib.Sandbox(server, reply.json)
            self.assertEqual(box.sh("echo $E2B_SANDBOX_ID").text.strip(), sandbox_id)

    def story(self, server, text):
        """What the log says about the sandboxes that TEXT names."""
        ids = set(re.findall(r"\bi[a-z0-9]{20}\b", str(text)))
        with open(server.log, errors="replace") as file:
            lines = [line for line in file if any(name in line for name in ids)]
        sys.stderr.write("".join(lines[-40:]))
        return f"{len(lines)} lines above"

    def left(self, server, ids):
        found = [f"process {pid}" for pid in lib.host_pids(server.folder)]
        found += [f"mount {line}" for line in lib.mounts_with(server.folder)]
        return found + lib.leftovers(ids, {}, server.folder)


if __name__ == "__main__":
    lib.main()
