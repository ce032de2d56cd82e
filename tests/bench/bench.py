#!/usr/bin/env python3
"""tests/bench/bench.py - one table: figure, ours, peer, ratio. Called by run.sh.

usage: bench.py [--out build/release] [--rounds 100] [--only envd|egress|start|exec|sdk|proxy|platform[:GROUP]]
                [--write docs/benchmarks.md]

Latencies are sequential, on keep-alive connections, of a release build; the clients are Python's
http.client and the SDKs. Peers run in the same minutes on the same machine: bubblewrap, crun and
runc start /bin/true on a root file system of the same kind (/usr bound read-only); nginx proxies to
the same program with the same settings as the one inside the sandbox. Ratio is ours / peer for
times (below 1: ours is faster) and ours / peer for rates (above 1: ours is faster).
"""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "contract"))

import egress_bench  # noqa: E402
import envd_bench  # noqa: E402
import lib  # noqa: E402
import platform_bench  # noqa: E402
import run as contract  # noqa: E402
from figures import Rate, Table, Times, optional  # noqa: E402

BACKEND_PORT = 8000
WRK_S = 5
TABLE, ENVD_TABLE, PLATFORM_TABLE = "table", "envd table", "platform table"
EGRESS_TABLE = "egress table"  # the blocks of docs/benchmarks.md


def measure(rounds, call, warm=3):
    """CALL() times itself and returns seconds, or returns None and is timed as a whole."""
    values = []
    for number in range(rounds + warm):
        began = time.perf_counter()
        took = call()
        took = took if took is not None else time.perf_counter() - began
        if number >= warm:
            values.append(took * 1000)
    return Times(values)


def run_quiet(command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-300:]}")
    return done


# --- starting a process in a sandbox: ours and peers ---


def create_latency(server, rounds):
    def one():
        began = time.perf_counter()
        box = server.create(timeout=60)
        took = time.perf_counter() - began
        box.kill()
        return took

    return measure(rounds, one)


def first_result_latency(server, rounds):
    traffic = lib.Http(server.traffic_port)

    def one():
        began = time.perf_counter()
        box = server.create(timeout=60)
        result = box.exec("/bin/true", conn=traffic)
        took = time.perf_counter() - began
        if result.exit_code != 0:
            raise RuntimeError(f"{result}")
        box.kill()
        return took

    return measure(rounds, one)


def delete_latency(server, rounds):
    def one():
        box = server.create(timeout=60)
        began = time.perf_counter()
        box.kill()
        return time.perf_counter() - began

    return measure(rounds, one)


def warm_exec(server, rounds):
    box = server.create(timeout=600)

    def one():
        result = box.exec("/bin/true")
        if result.exit_code != 0:
            raise RuntimeError(f"{result}")

    times = measure(rounds * 3, one, 10)
    box.kill()
    return times


@contextlib.contextmanager
def envd_alone(out):
    """envd on this machine, outside any sandbox and without the proxy."""
    (port,) = lib.free_ports(1)
    process = subprocess.Popen(
        [os.path.join(out, "envd"), "--listen", f"127.0.0.1:{port}", "--insecure"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        conn = lib.Http(port, timeout=5)

        def ready():
            with contextlib.suppress(OSError):
                return conn.request("GET", "/health").status == 204

        lib.wait_until("envd", 5, ready)
        yield port
    finally:
        process.terminate()
        process.wait()


def direct_exec(out, rounds):
    with envd_alone(out) as port:

        class Alone:
            traffic_port = port
            kept = []

        box = lib.Sandbox(Alone, {"sandboxID": "alone"})

        def one():
            result = box.exec("/bin/true", user="root")
            if result.exit_code != 0:
                raise RuntimeError(f"{result}")

        return measure(rounds * 3, one, 10)


def bubblewrap(rounds):
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr",
               "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
               "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev",
               "--tmpfs", "/tmp", "/bin/true"]  # fmt: skip
    return measure(rounds, lambda: run_quiet(command) and None)


def oci_bundle(folder, runtime):
    """A bundle like our base template: /usr of the host read-only, the rest empty."""
    rootfs = os.path.join(folder, "rootfs")
    for name in ("usr", "proc", "dev", "sys", "tmp"):
        os.makedirs(os.path.join(rootfs, name))
    for name in ("bin", "lib", "lib64", "sbin"):
        os.symlink(f"usr/{name}", os.path.join(rootfs, name))
    run_quiet([runtime, "spec"], cwd=folder)
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        config = json.load(file)
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/bin/true"]
    config["mounts"].append({"destination": "/usr", "type": "bind", "source": "/usr",
                             "options": ["rbind", "ro"]})  # fmt: skip
    config["linux"]["resources"] = {"memory": {"limit": 512 << 20}, "pids": {"limit": 512}}
    with open(path, "w") as file:
        json.dump(config, file)


def oci(runtime, rounds):
    with tempfile.TemporaryDirectory(prefix="sandpit-bench-") as folder:
        oci_bundle(folder, runtime)
        number = [0]

        def one():
            number[0] += 1
            name = f"sandpit-bench-{os.getpid()}-{number[0]}"
            run_quiet([runtime, "run", "--bundle", folder, name], timeout=30)

        return measure(rounds, one)


HYBRID = "/sys/fs/cgroup/unified"


def on_v1(times):
    """
    The Times that the expression TIMES makes, in a mount namespace where only cgroup v1 is seen where
    v1 and v2 are side by side, which crun refuses.
    """
    if not os.path.ismount(HYBRID):
        return eval(times, {"bench": sys.modules[__name__], "platform_bench": platform_bench})
    code = f"import bench, json, platform_bench; print(json.dumps(({times}).values))"
    done = run_quiet(["unshare", "-m", "sh", "-c", 'umount "$1" && exec "$2" -c "$3"', "sh", HYBRID,
                      sys.executable, code], cwd=HERE, timeout=600)  # fmt: skip
    return Times(json.loads(done.stdout))


# --- through the SDKs ---

SDK_PYTHON = """
import json, sys, time
from e2b import Sandbox
create, first, warm = [], [], []
for n in range(int(sys.argv[1]) + 2):
    began = time.perf_counter()
    sbx = Sandbox.create(timeout=60)
    made = time.perf_counter()
    sbx.commands.run("true")
    done = time.perf_counter()
    sbx.commands.run("true")
    again = time.perf_counter()
    sbx.kill()
    if n >= 2:
        first.append((done - began) * 1000)
        warm.append((again - done) * 1000)
print(json.dumps({"first": first, "warm": warm}))
"""

SDK_NODE = """
import { Sandbox } from 'e2b'
const first = [], warm = []
for (let n = 0; n < Number(process.argv[2]) + 2; n++) {
  const began = performance.now()
  const sbx = await Sandbox.create({ timeoutMs: 60_000 })
  await sbx.commands.run('true')
  const done = performance.now()
  await sbx.commands.run('true')
  const again = performance.now()
  await sbx.kill()
  if (n >= 2) { first.push(done - began); warm.push(again - done) }
}
console.log(JSON.stringify({ first, warm }))
process.exit(0)
"""


def sdk_latency(server, name, rounds, mode):
    env = contract.environment(server, mode)
    if name == "js":
        path = os.path.join(contract.NODE, "bench.mjs")
        with open(path, "w") as file:
            file.write(SDK_NODE)
        env["PATH"] = f"{contract.NODE}/node_modules/.bin:" + env["PATH"]
        command, cwd = ["node", path, str(rounds)], contract.NODE
    else:
        command, cwd = [f"{contract.VENV}/bin/python", "-c", SDK_PYTHON, str(rounds)], HERE
    found = json.loads(run_quiet(command, env=env, cwd=cwd, timeout=600).stdout.splitlines()[-1])
    return Times(found["first"]), Times(found["warm"])


# --- the proxy ---

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    {servers}
}}
"""
BACKEND = "server {{ listen 127.0.0.1:{port}; root {folder}/www; }}"
PROXY = """
upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; }}
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_set_header Host $http_host; proxy_buffering off;
    }}
}}
server {{
    listen 127.0.0.1:{fresh};
    location / {{
        proxy_pass http://127.0.0.1:{backend}; proxy_set_header Host $http_host; proxy_buffering off;
    }}
}}
"""
SMALL, LARGE_MB = b"x" * 128, 16


@contextlib.contextmanager
def nginx(folder, servers):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w") as file:
        file.write(NGINX.format(folder=folder, servers=servers))
    process = subprocess.Popen(["nginx", "-c", path, "-p", folder], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def backend_inside(server):
    box = server.create(timeout=1800)
    folder = "/tmp/bench"
    conf = NGINX.format(folder=folder, servers=BACKEND.format(port=BACKEND_PORT, folder=folder))
    box.write(f"{folder}/nginx.conf", conf.encode())
    box.write(f"{folder}/www/small", SMALL)
    box.sh(f"head -c {LARGE_MB}M /dev/urandom > {folder}/www/large")
    box.background(f"exec nginx -c {folder}/nginx.conf -p {folder}")
    conn = lib.Http(server.traffic_port, timeout=10)
    lib.wait_until(
        "the backend inside", 10,
        lambda: conn.request("GET", "/small", headers={"Host": box.host(BACKEND_PORT)}).status == 200,
    )  # fmt: skip
    conn.close()
    return box


def wrk(port, path, host, connections):
    done = run_quiet(["wrk", "-t1", f"-c{connections}", f"-d{WRK_S}", "-H", f"Host: {host}",
                      f"http://127.0.0.1:{port}/{path}"], timeout=WRK_S + 30)  # fmt: skip
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"wrk: {done.stdout}")
    requests = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1))
    return requests


def proxy_rates(server, table):
    box = backend_inside(server)
    host = box.host(BACKEND_PORT)
    backend, proxy, fresh = lib.free_ports(3)
    with tempfile.TemporaryDirectory(prefix="sandpit-bench-") as folder:
        os.chmod(folder, 0o755)
        os.makedirs(os.path.join(folder, "b/www"))
        with open(os.path.join(folder, "b/www/small"), "wb") as file:
            file.write(SMALL)
        with open(os.path.join(folder, "b/www/large"), "wb") as file:
            file.write(os.urandom(1 << 20) * LARGE_MB)
        with nginx(os.path.join(folder, "b"), BACKEND.format(port=backend, folder=folder + "/b")), \
             nginx(os.path.join(folder, "p"), PROXY.format(port=proxy, fresh=fresh, backend=backend)):  # fmt: skip
            time.sleep(0.5)
            for connections in (1, 32):
                ours = wrk(server.traffic_port, "small", host, connections)
                for name, port in (("nginx, new connection each", fresh), ("nginx, kept", proxy)):
                    table.add(f"proxy, 128-byte replies, {connections} connection(s)",
                              Rate(ours, "/s"), name, Rate(wrk(port, "small", host, connections), "/s"))  # fmt: skip
            ours = wrk(server.traffic_port, "large", host, 2) * LARGE_MB
            theirs = wrk(proxy, "large", host, 2) * LARGE_MB
            table.add(f"proxy, {LARGE_MB} MiB replies, 2 connections", Rate(ours, "MiB/s"), "nginx",
                      Rate(theirs, "MiB/s"))  # fmt: skip
    box.kill()


def create_rate(server, at_once=8, total=80):
    """Creates a second with several at once; each is killed in the same thread."""
    from concurrent.futures import ThreadPoolExecutor

    def one(_):
        conn = lib.Http(server.api_port)
        body = json.dumps({"templateID": "base", "timeout": 60})
        headers = {"X-API-Key": server.key, "Content-Type": "application/json"}
        reply = conn.request("POST", "/v2/sandboxes", body, headers)
        if reply.status != 201:
            raise RuntimeError(f"{reply.status} {reply.body}")
        conn.request("DELETE", f"/sandboxes/{reply.json['sandboxID']}", None, headers)
        conn.close()

    with ThreadPoolExecutor(at_once) as pool:
        began = time.perf_counter()
        list(pool.map(one, range(total)))
        return Rate(total / (time.perf_counter() - began), "/s")


def machine():
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    release = ".".join(platform.release().split("-")[0].split(".")[:2])
    return f"{os.cpu_count()} cores, kernel {release}, cgroup v{2 if unified else 1}"


def write(path, name, text):
    """Replace what is between the marks of block NAME in PATH, or add the block."""
    begin, end = f"<!-- {name}: begin, written by `make bench` -->", f"<!-- {name}: end -->"
    block = f"{begin}\n{text}\n{end}"
    with open(path) as file:
        old = file.read()
    if begin in old:
        new = re.sub(re.escape(begin) + ".*" + re.escape(end), lambda _: block, old, flags=re.S)
    else:
        new = f"{old}\n{block}\n"
    with open(path, "w") as file:
        file.write(new)


def is_envd(figure):
    return figure.startswith("envd: ")


def is_platform(figure):
    return figure.startswith("platform: ")


def is_egress(figure):
    return figure.startswith("egress: ")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.environ.get("SANDPIT_OUT") or f"{lib.ROOT}/build/release")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", nargs="?", const=f"{lib.ROOT}/docs/benchmarks.md")
    options = parser.parse_args()
    rounds, table = options.rounds, Table()

    def wanted(word):
        return options.only in word

    if wanted("envd"):
        envd_bench.run(table, os.path.abspath(options.out))
    if wanted("platform") or options.only.startswith("platform:"):
        group = options.only.partition(":")[2]
        platform_bench.run(table, options.out, sys.modules[__name__], group)
    if wanted("egress"):
        egress_bench.run(table, os.path.abspath(options.out))
    if options.only not in ("envd", "egress") and not options.only.startswith("platform"):
        with_server(options, table, wanted)
    about = f"{machine()}; release build"
    print(f"{about}; {rounds} rounds, sequential.\n\n{table.text()}")
    if options.write:
        kinds = ((TABLE, lambda figure: not (is_envd(figure) or is_platform(figure) or is_egress(figure)), f"{about}; {rounds} rounds, sequential."),
                 (ENVD_TABLE, is_envd, f"{about}."),
                 (PLATFORM_TABLE, is_platform, f"{about}."), (EGRESS_TABLE, is_egress, f"{about}."))  # fmt: skip
        for name, keep, head in kinds:
            if any(keep(row[0]) for row in table.rows):
                write(options.write, name, f"{head}\n\n{table.text(keep)}")


def with_server(options, table, wanted):
    rounds, peers = options.rounds, {}
    with lib.Server(out=options.out) as server:
        if wanted("start"):
            peers["bubblewrap"] = optional("bubblewrap", "bwrap", lambda: bubblewrap(rounds))
            for runtime in ("crun", "runc"):
                times = f"bench.oci({runtime!r}, {rounds})"
                peers[f"{runtime} run"] = optional(runtime, runtime, lambda: on_v1(times))
            created = create_latency(server, rounds)
            first = first_result_latency(server, rounds)
            for figure, ours in (("POST /v2/sandboxes", created),
                                 ("create to first result of `true`, raw HTTP", first)):  # fmt: skip
                beside = [(f"{name} /bin/true", times) for name, times in peers.items() if times]
                for name, theirs in beside or [("", None)]:
                    table.add(figure, ours, name, theirs)
            table.add("DELETE /sandboxes/{id}", delete_latency(server, rounds))
            table.add("create and kill, 8 at once", create_rate(server))
        if wanted("exec"):
            table.add("exec of `true`, warm connection, through the proxy", warm_exec(server, rounds),
                      "envd, no proxy, no sandbox", direct_exec(options.out, rounds))  # fmt: skip
        if wanted("sdk"):
            for name, title in (("python", "Python"), ("js", "JavaScript")):
                contract.install(name)
                for mode in ("domain", "plain"):
                    how = "TLS" if mode == "domain" else "no TLS"
                    first, warm = sdk_latency(server, name, max(20, rounds // 3), mode)
                    table.add(f"create to first result, {title} SDK, {how}", first)
                    table.add(f"commands.run('true') again, {title} SDK, {how}", warm)
        if wanted("proxy") and shutil.which("wrk") and shutil.which("nginx"):
            proxy_rates(server, table)


if __name__ == "__main__":
    main()
