"""tests/bench/platform_bench.py - sandboxes by the crowd: the Platform API on the local engine.

Called by bench.py (`--only platform`). Creates are timed by tests/bench/load.c, in bursts of as
many as there are clients: "warm" has that many sandboxes built ahead, "cold" none. Peers run in the
same minutes: crun starts the same number of `/bin/true` at once, `cp -a` copies the same files.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import envd_bench
import lib
from figures import Rate, Times, optional

CROWD = 1000
GIB_FILES, GIB_FILE_MIB = 8, 128  # one GiB
SETTLE_S = 3


class Value(Rate):
    def cells(self):
        return f"{self.value:,.2f} {self.unit}", ""


def api(server, method, path, body=None, want=(200, 201, 204)):
    reply = server.api(method, path, body)
    if reply.status not in want:
        raise RuntimeError(f"{method} {path}: {reply.status} {reply.body[:300]}")
    return reply


def kill_all(server):
    ids = server.all_sandboxes()
    with ThreadPoolExecutor(8) as pool:
        conns = [lib.Http(server.api_port) for _ in range(8)]

        def end(number):
            for sandbox_id in ids[number::8]:
                conns[number].request("DELETE", f"/sandboxes/{sandbox_id}", None, {"X-API-Key": server.key})

        list(pool.map(end, range(8)))
        for conn in conns:
            conn.close()


class Creator:
    """Bursts of creates from C clients."""

    def __init__(self, server, out, folder):
        self.server, self.program = server, os.path.join(out, "tests/bench/load")
        self.body = os.path.join(folder, "create.json")
        with open(self.body, "w") as file:
            file.write('{"templateID":"base","timeout":3600}')

    def burst(self, clients, count):
        done = subprocess.run(
            [self.program, "-X", "POST", "-H", f"X-API-Key: {self.server.key}",
             "-H", "Content-Type: application/json", "-d", self.body, "-t",
             "-c", str(clients), "-n", str(count), str(self.server.api_port), "/v2/sandboxes"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip()[-300:])
        return [us / 1000 for us in json.loads(done.stdout)["times_us"]]


def create_times(out, clients, warm, rounds):
    """Latencies of ROUNDS bursts of CLIENTS creates at once, each into a pool that is ready."""
    size = str(clients + 4 if warm else 0)
    args = ("--warm-min", size, "--warm-max", size, "--warm-idle", "0")
    times = []
    with tempfile.TemporaryDirectory(prefix="sandpit-bench-") as folder, lib.Server(out=out, args=args) as server:
        creator = Creator(server, out, folder)
        for number in range(rounds + 1):
            lib.wait_until("a full pool", 60, lambda: lib.spares(server) >= int(size))
            time.sleep(0.05)
            found = creator.burst(clients, clients)
            times += found if number > 0 else []  # the first warms caches
            kill_all(server)
    return Times(times)


def crun_times(bench, clients, rounds):
    """CLIENTS times `crun run` of /bin/true at once; each one's time."""
    with tempfile.TemporaryDirectory(prefix="sandpit-bench-") as folder:
        bench.oci_bundle(folder, "crun")
        times = []

        def one(name):
            began = time.perf_counter()
            bench.run_quiet(["crun", "run", "--bundle", folder, name], timeout=60)
            times.append((time.perf_counter() - began) * 1000)

        with ThreadPoolExecutor(clients) as pool:
            for number in range(rounds):
                names = [f"sandpit-bench-{os.getpid()}-{number}-{i}" for i in range(clients)]
                list(pool.map(one, names))
        return Times(times)


def creates(table, out, bench):
    for clients, rounds in ((1, 60), (8, 12), (50, 4)):
        peer = optional("crun", "crun", lambda: bench.on_v1(
            f"platform_bench.crun_times(bench, {clients}, {max(3, rounds // 4)})"))  # fmt: skip
        for kind in ("warm", "cold"):
            ours = create_times(out, clients, kind == "warm", rounds)
            table.add(f"platform: create, {clients} at once, {kind}", ours,
                      "crun run /bin/true" if peer else "", peer)  # fmt: skip


# --- a thousand idle ones ---


def available_bytes():
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no MemAvailable")


def bwrap_memory(count):
    """Bytes of the machine's memory for each of COUNT idle `bwrap sleep`."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr",
               "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
               "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev",
               "--tmpfs", "/tmp", "/bin/sleep", "600"]  # fmt: skip
    before, processes = available_bytes(), []
    try:
        for _ in range(count):
            processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        time.sleep(SETTLE_S)
        return (before - available_bytes()) / count
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def list_times(server, path, rounds=100):
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        api(server, "GET", path)
        times.append((time.perf_counter() - began) * 1000)
    return Times(times)


def cpu_share(pids, seconds):
    """Processor time of PIDS while nothing is asked of them, in percent of one core."""
    before = envd_bench.cpu_of(pids)
    time.sleep(seconds)
    return (envd_bench.cpu_of(pids) - before) / seconds * 100


def crowd(table, out):
    with tempfile.TemporaryDirectory(prefix="sandpit-bench-") as folder, lib.Server(out=out) as server:
        creator = Creator(server, out, folder)
        creator.burst(8, 20)
        time.sleep(SETTLE_S)
        before, began = available_bytes(), time.perf_counter()
        creator.burst(8, CROWD)
        table.add(f"platform: creates a second until {CROWD:,} run", Rate(CROWD / (time.perf_counter() - began), "/s"))
        time.sleep(SETTLE_S)
        peer = optional("bubblewrap", "bwrap", lambda: Value(bwrap_memory(100) / 2**20, "MiB"))
        table.add(f"platform: memory of one of {CROWD:,} idle sandboxes",
                  Value((before - available_bytes()) / CROWD / 2**20, "MiB"),
                  "bwrap sleep" if peer else "", peer)  # fmt: skip
        table.add(f"platform: a page of 100 of {CROWD:,}", list_times(server, "/v2/sandboxes?limit=100"))
        table.add(f"platform: GET /sandboxes, all {CROWD:,}", list_times(server, "/sandboxes", 20))
        table.add(f"platform: create while {CROWD:,} run", Times(creator.burst(1, 60)))
        pids = envd_bench.descendants(server.process.pid)
        table.add(f"platform: the server's CPU while {CROWD:,} idle", Value(cpu_share(pids, 20), "% of a core"))
        server.kill9()
        began = time.perf_counter()
        server.start()
        table.add(f"platform: kill -9, start, {CROWD:,} adopted, /readyz", Value(time.perf_counter() - began, "s"))
        kill_all(server)


# --- pause, snapshot, fork ---


def timed(call):
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def pauses(table, server, rounds):
    box = server.create(timeout=3600)
    path = f"/sandboxes/{box.id}"
    rows = {"pause": [], "connect to a paused one": [], "pause without memory": [],
            "connect after it, until a command has run": []}  # fmt: skip
    for _ in range(rounds):
        rows["pause"].append(timed(lambda: api(server, "POST", f"{path}/pause", {})))
        rows["connect to a paused one"].append(
            timed(lambda: api(server, "POST", f"/v2{path}/connect", {"timeout": 3600})))  # fmt: skip
    for _ in range(rounds):
        rows["pause without memory"].append(
            timed(lambda: api(server, "POST", f"{path}/pause", {"memory": False})))  # fmt: skip

        def back():
            api(server, "POST", f"/v2{path}/connect", {"timeout": 3600})
            if box.sh("true").exit_code != 0:
                raise RuntimeError("the command failed")

        box.conn.close()
        rows["connect after it, until a command has run"].append(timed(back))
    box.kill()
    for name, values in rows.items():
        table.add(f"platform: {name}", Times(values))


def fill(box):
    done = box.sh(f"for i in $(seq {GIB_FILES}); do "
                  f"head -c {GIB_FILE_MIB}M /dev/urandom >/home/user/big$i || exit 1; done")  # fmt: skip
    if done.exit_code != 0:
        raise RuntimeError(f"cannot fill: {done}")


def copy_times(folder, rounds):
    source = os.path.join(folder, "source")
    os.makedirs(source)
    for number in range(GIB_FILES):
        with open(os.path.join(source, f"big{number}"), "wb") as file:
            file.write(os.urandom(GIB_FILE_MIB << 20))
    times = []
    for _ in range(rounds):
        target = os.path.join(folder, "target")
        times.append(timed(lambda: subprocess.run(["cp", "-a", source, target], check=True)))
        shutil.rmtree(target)
    return Times(times)


def snapshots(table, server, rounds=5):
    box = server.create(timeout=3600)
    fill(box)
    with tempfile.TemporaryDirectory(prefix="sandpit-bench-", dir=server.folder) as folder:
        peer = copy_times(folder, rounds)
    dirty, again, start = [], [], []
    for number in range(rounds):
        if number == 0:
            dirty.append(timed(lambda: api(server, "POST", f"/sandboxes/{box.id}/snapshots", {})))
        again.append(timed(lambda: api(server, "POST", f"/sandboxes/{box.id}/snapshots", {})))
    name = api(server, "GET", "/snapshots").json[0]["snapshotID"]
    for _ in range(rounds * 4):
        body = {"templateID": name, "timeout": 600}
        began = time.perf_counter()
        made = api(server, "POST", "/v2/sandboxes", body).json["sandboxID"]
        start.append((time.perf_counter() - began) * 1000)
        api(server, "DELETE", f"/sandboxes/{made}")
    table.add("platform: first snapshot of 1 GiB just written", Times(dirty), "cp -a of 1 GiB", peer)
    table.add("platform: snapshot of 1 GiB", Times(again), "cp -a of 1 GiB", peer)
    table.add("platform: create from that snapshot", Times(start))
    for count in (1, 10):
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            rows = api(server, "POST", f"/sandboxes/{box.id}/fork", {"count": count, "timeout": 600}).json
            times.append((time.perf_counter() - began) * 1000)
            if any("sandbox" not in row for row in rows):
                raise RuntimeError(f"fork: {rows}")
            for row in rows:
                api(server, "DELETE", f"/sandboxes/{row['sandbox']['sandboxID']}")
        table.add(f"platform: fork of 1 GiB, {count} at once", Times(times), "cp -a of 1 GiB", peer)
    kill_all(server)


def run(table, out, bench, only=""):
    """Add the rows to TABLE. ONLY: a part of a group's name."""
    out = os.path.abspath(out)
    if only in "creates":
        creates(table, out, bench)
    if only in "crowd":
        crowd(table, out)
    with contextlib.ExitStack() as stack:
        if only in "pauses" or only in "snapshots":
            server = stack.enter_context(lib.Server(out=out))
        if only in "pauses":
            pauses(table, server, 30)
        if only in "snapshots":
            snapshots(table, server)
