#!/usr/bin/env python3
"""tests/bench/egress_bench.py - what leaves a sandbox, beside plain slirp4netns.

usage: egress_bench.py OUT ROUNDS    (in namespaces of its own, by itself; prints JSON)

Both sides reach the same listener in a namespace that stands for the internet (tests/netlab.py), by
the same client, in turns, in the same minutes: ours from inside a sandbox by way of the router;
the peer from a bare network namespace whose only way out is `slirp4netns -c --mtu=65520`.
"""

import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import lib  # noqa: E402
import netlab  # noqa: E402
from figures import Rate, Times  # noqa: E402

MB = 192
CONNECTS = 200
ID_BASE = netlab.ID_BASE + 5000 * 65536

CLIENT = f"""
import json, socket, time
def one():
    sock = socket.create_connection(("{netlab.WEB}", 9000), 10)
    return sock
sock = one(); sock.sendall(b"source {MB}"); began = time.perf_counter(); got = 0
while True:
    data = sock.recv(1 << 20)
    if not data:
        break
    got += len(data)
assert got == {MB} << 20, got
down = {MB} / (time.perf_counter() - began)
sock = one(); sock.sendall(b"sink"); block = bytes(1 << 20); began = time.perf_counter()
for _ in range({MB}):
    sock.sendall(block)
sock.shutdown(socket.SHUT_WR); sock.recv(1)
up = {MB} / (time.perf_counter() - began)
connects = []
for _ in range({CONNECTS}):
    began = time.perf_counter(); sock = one(); connects.append((time.perf_counter() - began) * 1000); sock.close()
print(json.dumps({{"down": down, "up": up, "connects": connects}}))
"""


class Plain:
    """A bare namespace behind slirp4netns."""

    def __init__(self):
        self.hold = subprocess.Popen(["unshare", "--net", "sleep", "3600"])
        time.sleep(0.3)
        self.slirp = subprocess.Popen(
            ["slirp4netns", "-c", "--mtu=65520", "--disable-host-loopback", str(self.hold.pid), "tap0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        time.sleep(1)

    def run(self):
        done = subprocess.run(["nsenter", "--net", "--target", str(self.hold.pid), "/usr/bin/python3",
                               "-c", CLIENT], capture_output=True, text=True, check=True)  # fmt: skip
        return json.loads(done.stdout)

    def close(self):
        for process in (self.slirp, self.hold):
            process.kill()
            process.wait()


class Ours:
    def __init__(self, server, **body):
        self.sandbox = server.create(**body)

    def run(self):
        result = self.sandbox.exec("/usr/bin/python3", ["-c", CLIENT])
        if result.exit_code != 0:
            raise RuntimeError(result.stderr.decode()[-300:])
        return json.loads(result.stdout)


def ruled_create(server, rounds):
    """A create whose rules are a list of 100, in ms."""
    rules = {"denyOut": [f"203.1.{i}.0/24" for i in range(100)]}
    times = {"with": [], "without": []}
    for _ in range(rounds):
        for name, body in (("without", {}), ("with", {"network": rules})):
            began = time.perf_counter()
            box = server.create(timeout=60, **body)
            times[name].append((time.perf_counter() - began) * 1000)
            box.kill()
            time.sleep(0.05)  # another spare is made meanwhile
    return times


def inside(out, rounds):
    world = netlab.World()
    with lib.Server(out=out, args=["--id-base", str(ID_BASE)]) as server:
        sides = {
            "peer": Plain(),
            "open": Ours(server),
            "ruled": Ours(server, network={"denyOut": [f"203.1.{i}.0/24" for i in range(100)]}),
        }
        found = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                found[name].append(side.run())
        sides["peer"].close()
        created = ruled_create(server, 10 * rounds)
    world.close()
    print(json.dumps({"egress": found, "created": created}))


def run(table, out, rounds=3):
    done = subprocess.run([sys.executable, os.path.abspath(__file__), out, str(rounds)],
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"no egress figures: {done.stderr[-600:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    found = answer["egress"]

    def rate(name, key):
        return Rate(statistics.median(round_[key] for round_ in found[name]), "MiB/s")

    def connects(name):
        return Times([value for round_ in found[name] for value in round_["connects"]])

    for name, title in (("open", "no rules"), ("ruled", "100 denied networks")):
        for key, what in (("down", "download"), ("up", "upload")):
            table.add(f"egress: {what}, {title}", rate(name, key), "slirp4netns alone", rate("peer", key))
        table.add(f"egress: TCP connect, {title}", connects(name), "slirp4netns alone", connects("peer"))
    table.add("egress: create with 100 denied networks", Times(answer["created"]["with"]),
              "create without rules", Times(answer["created"]["without"]))  # fmt: skip


if __name__ == "__main__":
    netlab.enter()
    inside(sys.argv[1], int(sys.argv[2]))
