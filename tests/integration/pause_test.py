#!/usr/bin/env python3
"""Pauses of both kinds, snapshots and forks, and what is left of each when the server is killed in
the middle of it or the machine starts again."""

import contextlib
import glob
import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

KEPT = "x-sandpit-kept"


def setUpModule():
    lib.need_root()


def pause(server, sandbox, **body):
    return server.api("POST", f"/sandboxes/{sandbox.id}/pause", body)


def connect(server, sandbox, **body):
    return server.api("POST", f"/v2/sandboxes/{sandbox.id}/connect", body)


def detail(server, sandbox):
    return server.api("GET", f"/sandboxes/{sandbox.id}").json


def snapshot(server, sandbox, **body):
    return server.api("POST", f"/sandboxes/{sandbox.id}/snapshots", body)


def delete_snapshot(server, snapshot_id):
    return server.api("DELETE", "/templates/" + urllib.parse.quote(snapshot_id, safe=""))


def fork(server, sandbox, **body):
    return server.api("POST", f"/sandboxes/{sandbox.id}/fork", body)


def launcher_pid(server):
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(path) as file:
            text = file.read()
            name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") :].split()
            if name == "sandpit-launch" and int(rest[2]) == server.process.pid:
                return int(path.split("/")[2])
    raise AssertionError("no launcher")


def kept_on_disk(server, kind):
    """The names in the storage's folder "sandboxes" or "snapshots", in the launcher's view."""
    root = f"/proc/{launcher_pid(server)}/root{server.state}"
    for name in ("storage", "plain"):
        path = f"{root}/{name}/{kind}"
        if os.path.isdir(path):
            return sorted(n for n in os.listdir(path) if not n.startswith("spare-"))
    raise AssertionError("no storage")


def rows(server, table):
    with contextlib.closing(sqlite3.connect(f"file:{server.state}/db/sandpit.db?mode=ro", uri=True)) as db:
        return db.execute(f"SELECT id, state FROM {table} ORDER BY id").fetchall()


def reboot(server):
    """What a restart of the machine leaves: no process, nothing in the run folder, the disk."""
    server.kill9()
    end = time.monotonic() + 20
    while True:
        pids = server_processes(server) + router_processes(server)
        if not pids:
            break
        if time.monotonic() > end:
            raise TimeoutError("processes of sandboxes do not end")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        thaw_all(server)
        time.sleep(0.05)
    shutil.rmtree(server.run, ignore_errors=True)
    server.start()


def groups(server):
    """Control groups of SERVER's sandboxes: those with a process whose record is in its run folder."""
    found = set()
    for path in glob.glob(f"{server.run}/sandboxes/*"):
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            pid = json.load(file)["pid"]
            with open(f"/proc/{pid}/cgroup") as lines:
                found |= {line.strip().split(":", 2)[2] for line in lines}
    return {group for group in found if "/sandpit-" in group}


def trees(server):
    """The names of SERVER's control groups' trees: sandpit-<hash>."""
    return {part for group in groups(server) for part in group.split("/") if part.startswith("sandpit-")}


def router_processes(server):
    """What holds the network that sandboxes go out by, and what runs with it; in no group of theirs."""
    mark = f"--run-dir\0{server.run}\0".encode()
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if mark in file.read():
                found.append(int(path.split("/")[2]))
    return found


def server_processes(server):
    names = server.__dict__.setdefault("group_trees", set())
    names |= trees(server)
    found = []
    for path in glob.glob("/proc/[0-9]*/cgroup"):
        with contextlib.suppress(OSError), open(path) as file:
            text = file.read()
            if any(f"/{name}/" in text for name in names):
                found.append(int(path.split("/")[2]))
    return found


def thaw_all(server):
    """Version 1: what is frozen does not die before it is thawed."""
    for name in server.group_trees:
        for path in glob.glob(f"/sys/fs/cgroup/freezer/**/{name}/**/freezer.state", recursive=True):
            with contextlib.suppress(OSError), open(path, "w") as file:
                file.write("THAWED")


class Pause(unittest.TestCase):
    def setUp(self):
        self.server = lib.Server().start()
        self.addCleanup(self.server.stop)

    def check(self, reply, status, kept=None):
        self.assertEqual(reply.status, status, reply.body)
        self.assertEqual(reply.headers.get(KEPT), kept, reply.body)
        return reply.json

    @lib.limit(120)
    def test_both_kinds_keep_what_they_say(self):
        server = self.server
        sandbox = server.create(envVars={"COLOUR": "blue"}, metadata={"a": "b"})
        sandbox.sh("echo one > /home/user/file; ln /home/user/file /home/user/link; mkdir /var/mine", user="root")
        sandbox.background("exec -a paused-mark sleep 1000")
        count = "pgrep -fc '^paused-mar[k]'"
        self.assertEqual(sandbox.sh(count).text, "1\n")

        self.check(pause(server, sandbox), 204, "memory")
        self.assertEqual((detail(server, sandbox)["state"], detail(server, sandbox)["pauseMode"]), ("paused", "full"))
        self.check(connect(server, sandbox), 201, "memory")
        self.assertNotIn("pauseMode", detail(server, sandbox))
        self.assertEqual(sandbox.sh(count).text, "1\n")

        self.check(pause(server, sandbox, memory=False), 204, "filesystem")
        self.assertEqual(detail(server, sandbox)["pauseMode"], "filesystem")
        self.assertEqual(lib.host_pids("paused-mark"), [])
        row = self.check(connect(server, sandbox, timeout=100), 201, "filesystem")
        self.assertEqual((row["sandboxID"], row["envdAccessToken"]), (sandbox.id, sandbox.token))
        self.assertEqual(sandbox.sh(count).text, "0\n")
        self.assertEqual(sandbox.sh("cat ~/link; stat -c %h ~/file; ls -d /var/mine; echo $COLOUR").text,
                         "one\n2\n/var/mine\nblue\n")  # fmt: skip
        self.assertEqual(detail(server, sandbox)["metadata"], {"a": "b"})

        sandbox.background("exec -a paused-mark sleep 1000")
        self.check(pause(server, sandbox), 204, "memory")
        self.check(connect(server, sandbox, memory=False), 201, "filesystem")
        self.assertEqual(sandbox.sh(count + "; cat ~/file").text, "0\none\n")
        self.check(connect(server, sandbox, memory=False), 200)  # it runs: nothing changes
        for _ in range(3):  # as often as one likes
            self.check(pause(server, sandbox, memory=False), 204, "filesystem")
            self.check(server.api("POST", f"/sandboxes/{sandbox.id}/resume", {}), 201, "filesystem")
        self.assertEqual(sandbox.sh("cat ~/file").text, "one\n")
        self.check(pause(server, sandbox, memory=False), 204, "filesystem")
        self.assertEqual(sandbox.kill(), 204)
        self.assertEqual(kept_on_disk(server, "sandboxes"), [])

    @lib.limit(120)
    def test_an_envd_that_does_not_answer(self):
        server = self.server
        sandbox = server.create()
        sandbox.sh("echo kept > ~/file; sync")
        pid = sandbox_init(server, sandbox)
        os.kill(pid, signal.SIGSTOP)
        try:
            reply = pause(server, sandbox, requireHealthyGuest=True)
            self.check(reply, 503)
            self.assertEqual(detail(server, sandbox)["state"], "running")
            self.check(pause(server, sandbox), 204, "memory")
            self.assertIs(detail(server, sandbox)["envdUnresponsiveAtPause"], True)
            refused = self.check(connect(server, sandbox), 409)
            self.assertEqual(refused["error_code"], "sandbox_snapshot_guest_agent_unresponsive")
            self.assertEqual(detail(server, sandbox)["state"], "paused")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.check(connect(server, sandbox, memory=False), 201, "filesystem")
        self.assertEqual(sandbox.sh("cat ~/file").text, "kept\n")
        self.assertNotIn("envdUnresponsiveAtPause", detail(server, sandbox))

    @lib.limit(180)
    def test_a_restart_of_the_machine(self):
        server = self.server
        frozen = server.create(envVars={"A": "1"})
        stopped, runs = server.create(), server.create()
        auto = server.create(autoPause=True)
        for sandbox in (frozen, stopped, runs, auto):
            sandbox.sh(f"echo {sandbox.id} > ~/file; sync ~/file")
        name = self.check(snapshot(server, runs, name="kept"), 201, "filesystem")["snapshotID"]
        self.check(pause(server, frozen), 204, "memory")
        self.check(pause(server, stopped, memory=False), 204, "filesystem")

        reboot(server)
        for sandbox in (frozen, stopped, auto):
            self.assertEqual(detail(server, sandbox).get("pauseMode"), "filesystem", sandbox.id)
            self.check(connect(server, sandbox), 201, "filesystem")
            self.assertEqual(sandbox.sh("cat ~/file").text, f"{sandbox.id}\n")
        self.assertEqual(frozen.sh("echo $A").text, "1\n")
        self.assertEqual(server.api("GET", f"/sandboxes/{runs.id}").status, 404)
        again = server.create(templateID=name)
        self.assertEqual(again.sh("cat ~/file").text, f"{runs.id}\n")
        self.assertEqual(kept_on_disk(server, "sandboxes"), sorted(s.id for s in (frozen, stopped, auto, again)))


def sandbox_init(server, sandbox):
    """The pid of the first process of SANDBOX, on the host."""
    with open(f"{server.run}/sandboxes/{sandbox.id}") as file:
        return json.load(file)["pid"]


class Snapshots(unittest.TestCase):
    def setUp(self):
        self.server = lib.Server().start()
        self.addCleanup(self.server.stop)

    @lib.limit(120)
    def test_a_snapshot_is_one_moment_and_stands_alone(self):
        server = self.server
        source = server.create(envVars={"A": "1", "B": "1"})
        # Two files that are always written in this order: no snapshot may have the second one ahead.
        source.sh("echo 0 > ~/first; echo 0 > ~/second; sudo mkdir -p /opt/deep; sudo touch /opt/deep/file")
        source.background("i=0; while :; do i=$((i+1)); echo $i > ~/first.new; mv ~/first.new ~/first;"
                          " echo $i > ~/second.new; mv ~/second.new ~/second; done")  # fmt: skip
        made = []
        for _ in range(3):
            reply = snapshot(server, source)
            self.assertEqual((reply.status, reply.headers.get(KEPT)), (201, "filesystem"), reply.body)
            made.append(reply.json["snapshotID"])
        source.sh("rm -rf ~/first; echo gone > ~/second; sudo rm -r /opt/deep")
        self.assertEqual(len(set(made)), 3)
        for name in made:
            copy = server.create(templateID=name, envVars={"B": "2"})
            self.assertEqual(copy.row["templateID"], name.partition(":")[0])
            text = copy.sh("cat ~/first ~/second; ls /opt/deep; echo $A$B").text.split()
            self.assertIn(int(text[0]) - int(text[1]), (0, 1), text)
            self.assertEqual(text[2:], ["file", "12"])
            self.assertEqual(delete_snapshot(server, name).status, 204)
            self.assertEqual(delete_snapshot(server, name).status, 404)
            self.assertEqual(copy.sh("ls /opt/deep").text, "file\n")  # its file system is its own
            self.assertEqual(server.api("POST", "/v2/sandboxes", {"templateID": name}).status, 404)
        self.assertEqual(kept_on_disk(server, "snapshots"), [])

    @lib.limit(120)
    def test_forks_have_all_of_their_source_and_one_capture(self):
        server = self.server
        source = server.create(envVars={"A": "1"}, metadata={"k": "v"}, autoPause=True)
        source.sh("echo one > ~/file")
        reply = fork(server, source, count=10, timeout=60)
        self.assertEqual((reply.status, reply.headers.get(KEPT)), (201, "filesystem"), reply.body)
        ids = set()
        for entry in reply.json:
            self.assertEqual(list(entry), ["sandbox"])
            one = lib.Sandbox(server, entry["sandbox"])
            ids.add(one.id)
            self.assertNotEqual(one.token, source.token)
            self.assertEqual(one.sh("cat ~/file; echo $A").text, "one\n1\n")
            info = detail(server, one)
            self.assertEqual((info["metadata"], info["lifecycle"]["onTimeout"]), ({"k": "v"}, "pause"))
            self.assertEqual(info["templateID"], "base")
        self.assertEqual(len(ids | {source.id}), 11)
        self.assertEqual(source.sh("cat ~/file").text, "one\n")
        self.assertEqual(kept_on_disk(server, "snapshots"), [])

    @lib.limit(60)
    def test_another_namespace_sees_none_of_it(self):
        server = self.server
        source = server.create()
        name = snapshot(server, source, name="mine").json["snapshotID"]
        key, _ = server.new_key("elsewhere")
        path = "/templates/" + urllib.parse.quote(name, safe="")
        for method, where, body in (
            ("GET", path, None), ("DELETE", path, None),
            ("POST", "/v2/sandboxes", {"templateID": name}),
            ("POST", "/v2/sandboxes", {"templateID": "mine"}),
            ("POST", f"/sandboxes/{source.id}/snapshots", {}),
            ("POST", f"/sandboxes/{source.id}/fork", {}),
            ("POST", f"/sandboxes/{source.id}/pause", {}),
        ):  # fmt: skip
            self.assertEqual(server.api(method, where, body, key=key).status, 404, (method, where))
        self.assertEqual(server.api("GET", "/snapshots", key=key).json, [])
        self.assertEqual([row["snapshotID"] for row in server.api("GET", "/snapshots").json], [name])

    @lib.limit(60)
    def test_wrong_bodies_change_nothing(self):
        server = self.server
        source = server.create()
        cases = {
            "snapshots": ["[]", "{", '{"name":7}', '{"name":""}', '{"name":"a b"}', '{"name":"other/x"}',
                          '{"memory":"no"}', json.dumps({"name": "n" * 500}), '{"name":"a:"}',
                          '{"name":"x\\u0000"}', b'{"name":"\xff"}'],
            "fork": ["[]", '{"count":0}', '{"count":101}', '{"count":"1"}', '{"count":1.5}', '{"count":-1}',
                     '{"timeout":0}', '{"timeout":-1}', '{"timeout":86401}', '{"timeout":"x"}',
                     '{"count":99999999999999999999}'],
            "pause": ["[]", '{"memory":1}', '{"requireHealthyGuest":"x"}', "nonsense"],
            "connect": ["[]", '{"timeout":-1}', '{"timeout":1,"memory":0}', '{"timeout":90000}'],
            "resume": ["[]", '{"timeout":-1}', '{"memory":{}}'],
        }  # fmt: skip
        for operation, bodies in cases.items():
            for body in bodies:
                reply = server.api("POST", f"/sandboxes/{source.id}/{operation}", body)
                self.assertEqual(reply.status, 400, (operation, body, reply.body))
                self.assertEqual(reply.json["code"], 400)
        for query in ("limit=0", "limit=101", "limit=x", "nextToken=%00", "nextToken=abc", "sandboxID=A%2F"):
            self.assertEqual(server.api("GET", f"/snapshots?{query}").status, 400, query)
        for bad in ("%20", "a%2Fb%2Fc", "%00", "x" * 300):
            self.assertIn(server.api("DELETE", f"/templates/{bad}").status, (400, 404), bad)
        self.assertEqual(server.api("DELETE", "/templates/base").status, 403)
        self.assertEqual(server.api("GET", "/snapshots").json, [])
        self.assertEqual(server.all_sandboxes(), [source.id])
        self.assertEqual(detail(server, source)["state"], "running")


class Crashes(unittest.TestCase):
    ROUNDS = 3

    def setUp(self):
        self.server = lib.Server().start()
        self.addCleanup(self.server.stop)
        self.random = random.Random(7)

    def cut(self, call, longest_ms):
        """CALL in a thread of its own, and kill -9 of the server after a random while of it."""
        answer = []

        def run():
            with contextlib.suppress(Exception):
                answer.append(call())

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(self.random.random() * longest_ms / 1000)
        self.server.kill9()
        thread.join()
        self.server.start()
        return answer[0] if answer else None

    def agree(self, ids):
        """Store, disk and API name the same sandboxes and snapshots, and nothing is half done."""
        server = self.server
        self.assertEqual(sorted(server.all_sandboxes()), sorted(ids))
        self.assertEqual({state for _, state in rows(server, "sandboxes")} - {"running", "paused"}, set())
        self.assertEqual([row[0] for row in rows(server, "sandboxes")], sorted(ids))
        self.assertEqual(kept_on_disk(server, "sandboxes"), sorted(ids))
        self.assertEqual({state for _, state in rows(server, "snapshots")} - {"ready"}, set())
        self.assertEqual(kept_on_disk(server, "snapshots"), [row[0] for row in rows(server, "snapshots")])

    @lib.limit(240)
    def test_a_server_killed_in_a_snapshot_or_fork_leaves_none_half_made(self):
        server = self.server
        source = server.create()
        source.sh("head -c 20000000 /dev/urandom > ~/data; echo one > ~/file")
        ids = {source.id}
        for i in range(self.ROUNDS):
            conn = lib.Http(server.api_port)
            key = {"X-API-Key": server.key, "Content-Type": "application/json"}
            reply = self.cut(lambda: conn.request("POST", f"/sandboxes/{source.id}/snapshots", "{}", key), 60)
            conn.close()
            names = [row["snapshotID"] for row in server.api("GET", "/snapshots").json]
            if reply and reply.status == 201:
                self.assertIn(reply.json["snapshotID"], names)
            self.agree(ids)
            self.assertEqual(source.sh("cat ~/file").text, "one\n")  # it goes on
            for name in names:
                copy = server.create(templateID=name)
                self.assertEqual(copy.sh("cat ~/file; stat -c %s ~/data").text, "one\n20000000\n")
                copy.kill()
                self.assertEqual(delete_snapshot(server, name).status, 204)

            conn = lib.Http(server.api_port)
            reply = self.cut(
                lambda: conn.request("POST", f"/sandboxes/{source.id}/fork", '{"count":4,"timeout":300}', key), 100
            )
            conn.close()
            now = set(server.all_sandboxes())
            if reply and reply.status == 201:
                self.assertEqual(len(now), len(ids) + 4)
            for sandbox_id in now - ids:  # those that were made are whole; nobody knows them
                self.assertEqual(server.api("DELETE", f"/sandboxes/{sandbox_id}").status, 204)
            self.agree(ids)

    def die_at(self, place, call):
        """CALL in a server that kills itself at PLACE, which is then started again."""
        self.server.terminate()
        os.environ["SANDPIT_FAULT"] = place
        try:
            self.server.start()
        finally:
            del os.environ["SANDPIT_FAULT"]
        with self.assertRaises((OSError, http.client.HTTPException), msg=place):
            call()
        self.server.process.wait(20 * lib.time_factor())
        self.server.start()

    @lib.limit(300)
    def test_the_server_may_die_at_every_step(self):
        server = self.server
        with open(os.path.join(server.out, "sandpit"), "rb") as file:
            if b"SANDPIT_FAULT" not in file.read():
                self.skipTest("a release build has no places to die at")
        box = server.create(timeout=3000)
        box.sh("echo one > ~/file")
        for memory in (True, False):
            for place in ("pause.intended", "pause.acted"):
                self.die_at(place, lambda: pause(server, box, memory=memory))
                self.assertEqual(detail(server, box)["pauseMode"], "full" if memory else "filesystem", place)
                self.assertEqual(connect(server, box, timeout=3000).headers[KEPT],
                                 "memory" if memory else "filesystem")  # fmt: skip
            for place in ("resume.intended", "resume.acted") + (() if memory else ("resume.stopped",)):
                self.assertEqual(pause(server, box, memory=memory).status, 204)
                self.die_at(place, lambda: connect(server, box))
                self.assertEqual(detail(server, box)["state"], "paused", place)
                self.assertEqual(connect(server, box, timeout=3000).status, 201)
            self.agree([box.id])
            self.assertEqual(box.sh("cat ~/file").text, "one\n")
        for place in ("snapshot.intended", "snapshot.made"):
            self.die_at(place, lambda: snapshot(server, box, name="mine"))
            self.assertEqual(server.api("GET", "/snapshots").json, [], place)
            self.agree([box.id])
            self.assertEqual(box.sh("cat ~/file").text, "one\n", place)  # it is not left frozen
        name = snapshot(server, box, name="mine").json["snapshotID"]
        self.die_at("snapshot.deleted", lambda: delete_snapshot(server, name))
        self.assertEqual(server.api("GET", "/snapshots").json, [])
        self.agree([box.id])
        for place in ("fork.begun", "fork.made"):
            self.die_at(place, lambda: fork(server, box, count=2, timeout=300))
            for other in set(server.all_sandboxes()) - {box.id}:
                self.assertEqual(server.api("DELETE", f"/sandboxes/{other}").status, 204)
            self.agree([box.id])

    @lib.limit(240)
    def test_a_server_killed_in_a_pause_or_resume_loses_nothing(self):
        server = self.server
        sandbox = server.create(timeout=3000)
        sandbox.sh("echo one > ~/file")
        key = {"X-API-Key": server.key, "Content-Type": "application/json"}
        for i in range(self.ROUNDS * 2):
            body = json.dumps({"memory": bool(i % 2)})
            for operation in ("pause", "resume"):
                conn = lib.Http(server.api_port)
                reply = self.cut(lambda: conn.request("POST", f"/sandboxes/{sandbox.id}/{operation}", body, key), 25)
                conn.close()
                if reply and reply.status < 300:
                    self.assertEqual(detail(server, sandbox)["state"],
                                     "paused" if operation == "pause" else "running")  # fmt: skip
                self.agree([sandbox.id])
                if operation == "pause" and detail(server, sandbox)["state"] == "running":
                    self.assertEqual(pause(server, sandbox, memory=bool(i % 2)).status, 204)
            self.assertIn(connect(server, sandbox, timeout=3000).status, (200, 201))
            self.assertEqual(sandbox.sh("cat ~/file").text, "one\n")


if __name__ == "__main__":
    lib.main()
