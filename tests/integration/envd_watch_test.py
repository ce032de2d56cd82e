#!/usr/bin/env python3
"""tests/integration/envd_watch_test.py - watches of a running envd: what they tell adds up to the disk.

A model of the tree is built from events alone, while several processes create, write, rename, move
out and in, and remove files and folders as fast as they can. At the end it must equal the disk.

    ENVD=build/asan/envd tests/integration/envd_watch_test.py [WORD]
"""

import http.client
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ENVD = os.environ.get("ENVD", "build/release/envd")
OPERATIONS = int(os.environ.get("ENVD_STORM", "800"))  # of each process
FACTOR = int(os.environ.get("SANDPIT_TIME_FACTOR", "1"))
TOP = os.path.realpath(tempfile.mkdtemp(prefix="envd-watch-"))
passed = failed = 0
PORT = ENVD_PID = 0


def check(what, ok, got=None):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print(f"FAILED: {what}" + (f": {got!r}"[:1500] if got is not None else ""), flush=True)


def same(what, got, want):
    check(what, got == want, (got, want))


def at(*names):
    return os.path.join(TOP, *names)


class Rpc:
    """Unary calls over one kept connection."""

    def __init__(self):
        self.conn = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60 * FACTOR)

    def __call__(self, name, **request):
        self.conn.request("POST", "/filesystem.Filesystem/" + name, json.dumps(request),
                          {"Content-Type": "application/json"})
        response = self.conn.getresponse()
        answer = json.loads(response.read())
        return answer if response.status == 200 else {"error": answer}


class Stream:
    """A WatchDir call, armed."""

    def __init__(self, **request):
        self.sock = socket.create_connection(("127.0.0.1", PORT), timeout=60 * FACTOR)
        message = json.dumps(request).encode()
        body = b"\0" + len(message).to_bytes(4, "big") + message
        self.sock.sendall(b"POST /filesystem.Filesystem/WatchDir HTTP/1.1\r\nHost: x\r\n"
                          b"Content-Type: application/connect+json\r\n"
                          b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.response = http.client.HTTPResponse(self.sock, method="POST")
        self.response.begin()
        self.first = self.message()

    def exact(self, size):
        data = b""
        while len(data) < size:
            piece = self.response.read(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def message(self):
        head = self.exact(5)
        return json.loads(self.exact(int.from_bytes(head[1:], "big")))

    def events(self):
        """Each event as it comes; an end of the stream is the last one."""
        while True:
            message = self.message()
            if "filesystem" in message:
                event = message["filesystem"]
                yield event["type"][len("EVENT_TYPE_"):], event["name"]
            elif "keepalive" not in message:
                yield "END", json.dumps(message)
                return

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)  # a reader in another thread is woken by this only
        self.response.close()
        self.sock.close()


class Polled:
    """The same by CreateWatcher and GetWatcherEvents."""

    def __init__(self, **request):
        self.rpc = Rpc()
        self.id = self.rpc("CreateWatcher", **request)["watcherId"]

    def events(self):
        while True:
            answer = self.rpc("GetWatcherEvents", watcherId=self.id)
            if "error" in answer:
                yield "END", json.dumps(answer)
                return
            for event in answer.get("events", []):
                yield event["type"][len("EVENT_TYPE_"):], event["name"]
            time.sleep(0.02)

    def close(self):
        Rpc()("RemoveWatcher", watcherId=self.id)  # a follower's thread may be using the other one


# ---- The storm: a name's part before "." is unique, what follows changes with each rename ----


def fresh_name(state, kind):
    state["next"] += 1
    return f"{kind}{state['seed']}_{state['next']}.0"


def renamed(name):
    unique, count = name.split(".")
    return f"{unique}.{int(count) + 1}"


def pick_folder(rng, top):
    """Some folder of the tree, TOP more often than others."""
    path = top
    while rng.random() < 0.7:
        with os.scandir(path) as entries:
            below = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        if not below:
            break
        path = rng.choice(below)
    return path


def pick_entry(rng, top, kind=None):
    folder = pick_folder(rng, top)
    names = [n for n in os.listdir(folder) if not kind or n.startswith(kind)]
    return os.path.join(folder, rng.choice(names)) if names else None


def make_file(rng, state, folder):
    with open(os.path.join(folder, fresh_name(state, "f")), "w") as f:
        f.write("x" * rng.randrange(3))


def deep_folders(rng, state, folder):
    path = os.path.join(folder, *(fresh_name(state, "d") for _ in range(rng.randrange(1, 12))))
    os.makedirs(path)
    for _ in range(rng.randrange(4)):
        make_file(rng, state, path)


def remove_all(top):
    """By path, not by descriptors as rmtree does: what is moved out meanwhile is left alone."""
    for path, folders, files in os.walk(top, topdown=False):
        for name in files:
            os.remove(os.path.join(path, name))
        os.rmdir(path)


def operate(rng, state, top, outside):
    dice = rng.random()
    if dice < 0.30:
        make_file(rng, state, pick_folder(rng, top))
    elif dice < 0.50:
        deep_folders(rng, state, pick_folder(rng, top))
    elif dice < 0.60:
        entry = pick_entry(rng, top)
        if entry:
            os.chmod(entry, rng.choice((0o700, 0o755)))
    elif dice < 0.80:
        entry = pick_entry(rng, top)
        if entry:
            os.rename(entry, os.path.join(pick_folder(rng, top), renamed(os.path.basename(entry))))
    elif dice < 0.85:
        entry = pick_entry(rng, top, "d")
        if entry:
            os.rename(entry, os.path.join(outside, renamed(os.path.basename(entry))))
    elif dice < 0.90:
        names = os.listdir(outside)
        if names:
            name = rng.choice(names)
            os.rename(os.path.join(outside, name),
                      os.path.join(pick_folder(rng, top), renamed(name)))
    else:
        entry = pick_entry(rng, top)
        if entry and os.path.isdir(entry):
            remove_all(entry)
        elif entry:
            os.remove(entry)


def storm(seed, top, outside, count):
    rng = random.Random(seed)
    state = {"seed": seed, "next": 0}
    for _ in range(count):
        try:
            operate(rng, state, top, outside)
        except OSError:
            pass  # another process was faster


def tree_of(top, recursive=True):
    found = set()
    for path, folders, files in os.walk(top):
        found |= {os.path.relpath(os.path.join(path, n), top) for n in folders + files}
        if not recursive:
            break
    return found


class Model:
    """The tree that events describe."""

    def __init__(self, names=()):
        self.names = set(names)
        self.moved = (None, set())  # the next name of what went just now, what was below it

    def below(self, name):
        return {n for n in self.names if n == name or n.startswith(name + "/")}

    def apply(self, kind, name):
        base = name.rsplit("/", 1)[-1]
        follows, below = self.moved
        self.moved = (None, set())
        if kind == "CREATE":
            self.names.add(name)
            if base == follows:  # a rename inside the tree: two events in a row, one name further
                self.names |= {name + rest for rest in below}
        elif kind in ("REMOVE", "RENAME"):
            gone = self.below(name)
            self.names -= gone
            if kind == "RENAME" and "." in base:
                self.moved = (renamed(base), {n[len(name):] for n in gone})


class Follower(threading.Thread):
    """Keeps a model up to date until nothing has come for a while after the last name."""

    def __init__(self, what, watch, names=(), last="sentinel"):
        super().__init__(daemon=True)
        self.what, self.watch, self.model, self.last_name = what, watch, Model(names), last
        self.count, self.end, self.last = 0, None, time.monotonic()
        self.saw_end = threading.Event()
        self.start()

    def run(self):
        try:
            for kind, name in self.watch.events():
                if kind == "END":
                    self.end = name
                    break
                self.count += 1
                self.last = time.monotonic()
                self.model.apply(kind, name)
                if name == self.last_name:
                    self.saw_end.set()
        except (OSError, EOFError, ValueError, AttributeError, http.client.HTTPException):
            pass  # closed
        self.saw_end.set()

    def finish(self):
        check(f"{self.what}: the last event comes", self.saw_end.wait(60 * FACTOR))
        while time.monotonic() - self.last < 0.5 and not self.end:
            time.sleep(0.05)
        return self.model.names


def run_storm(top, outside, processes, count):
    workers = [multiprocessing.Process(target=storm, args=(seed, top, outside, count))
               for seed in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with open(os.path.join(top, "sentinel"), "w"):
        pass


def compare(follower, want):
    got = follower.finish()
    same(f"{follower.what}: does not fail", follower.end, None)
    check(f"{follower.what}: {follower.count} events add up to the disk", got == want,
          {"missing": sorted(want - got)[:5], "too many": sorted(got - want)[:5],
           "of": len(want)})


def test_storm():
    top, outside = at("storm"), at("outside")
    os.makedirs(outside)
    os.makedirs(os.path.join(top, "d9_1.0", "d9_2.0"))
    before, flat = tree_of(top), tree_of(top, False)
    followers = [
        Follower("stream, recursive", Stream(path=top, recursive=True), before),
        Follower("stream, entries", Stream(path=top, recursive=True, includeEntry=True), before),
        Follower("stream", Stream(path=top), flat),
        Follower("polled, recursive", Polled(path=top, recursive=True), before),
        Follower("polled", Polled(path=top), flat),
    ]
    many = [Polled(path=top, recursive=bool(i % 2)) for i in range(25)]
    run_storm(top, outside, 3, OPERATIONS)
    want, want_flat = tree_of(top), tree_of(top, False)
    for follower in followers:
        compare(follower, want if "," in follower.what else want_flat)
    for i, watch in enumerate(many[:4]):
        compare(Follower(f"polled late {i}{', recursive' if i % 2 else ''}", watch,
                         before if i % 2 else flat), want if i % 2 else want_flat)
    for follower in followers:
        follower.watch.close()
    for watch in many:
        watch.close()
    for follower in followers:
        follower.join(20)


def test_start_in_storm():
    """A watch that begins while a storm is on sees each change of what it does not know yet."""
    top, outside = at("started"), at("started-outside")
    os.makedirs(outside)
    os.makedirs(top)
    storms = threading.Thread(target=run_storm, args=(top, outside, 2, OPERATIONS // 2))
    storms.start()
    watches = [Stream(path=top, recursive=True) for _ in range(6)]
    followers = [Follower(f"begun in a storm {i}", watch, last="after it")
                 for i, watch in enumerate(watches)]
    storms.join()
    with open(os.path.join(top, "d0_0.0"), "w"):
        pass
    for folder, _, _ in list(os.walk(top)):  # each folder that is there at the end is watched
        with open(os.path.join(folder, "mark"), "w"):
            pass
    with open(os.path.join(top, "after it"), "w"):  # a watch may have begun after the storm's end
        pass
    want = {n for n in tree_of(top) if n.endswith("mark")}
    for follower in followers:
        got = {n for n in follower.finish() if n.endswith("mark")}
        same(f"{follower.what}: does not fail", follower.end, None)
        check(f"{follower.what}: every folder is followed", want == got,
              {"missing": sorted(want - got)[:3], "too many": sorted(got - want)[:3]})
        follower.watch.close()


def drain(rpc, watcher):
    answer = rpc("GetWatcherEvents", watcherId=watcher)
    return [(e["type"][len("EVENT_TYPE_"):], e["name"]) for e in answer.get("events", [])], answer


def test_shared_folder():
    """Watches of one folder share its kernel watch; each sees what happens after its own start."""
    rpc, top = Rpc(), at("shared")
    os.mkdir(top)
    watchers, names = [], []
    for i in range(40):  # more than there are inotify instances
        watchers.append(rpc("CreateWatcher", path=top)["watcherId"])
        names.append(f"n{i}")
        os.mkdir(os.path.join(top, names[-1]))
    os.mkdir(os.path.join(top, "end"))
    for i, watcher in enumerate(watchers):
        got = []
        for _ in range(200 * FACTOR):
            got += drain(rpc, watcher)[0]
            if ("CREATE", "end") in got:
                break
            time.sleep(0.05)
        if got != [("CREATE", n) for n in names[i:] + ["end"]]:
            check(f"watch {i} of one folder", False, got)
            break
    else:
        check("40 watches of one folder", True)
    threads = os.listdir(f"/proc/{ENVD_PID}/task")
    check("they share threads", len(threads) <= 12 + 4 + 8 + 2, len(threads))
    for watcher in watchers[1:]:
        rpc("RemoveWatcher", watcherId=watcher)
    os.mkdir(os.path.join(top, "later"))
    time.sleep(0.2 * FACTOR)
    same("the last one still sees", drain(rpc, watchers[0])[0], [("CREATE", "later")])
    os.rename(top, top + ".moved")
    time.sleep(0.2 * FACTOR)
    same("the folder's own end", drain(rpc, watchers[0])[0], [("RENAME", ".")])
    rpc("RemoveWatcher", watcherId=watchers[0])


def test_overflow():
    """More than a polled watcher may keep: what came first is given, then the error, each time."""
    rpc, top = Rpc(), at("overflow")
    os.mkdir(top)
    watcher = rpc("CreateWatcher", path=top)["watcherId"]
    other = rpc("CreateWatcher", path=top)["watcherId"]
    count, fetched = 0, 0
    for _ in range(26):
        for _ in range(1000):  # 225 bytes each
            os.mkdir(os.path.join(top, f"{count:06}" + "n" * 200))
            count += 1
        time.sleep(0.01 * FACTOR)
        fetched += len(drain(rpc, other)[0])
    time.sleep(0.5 * FACTOR)
    events, answer = drain(rpc, watcher)
    check("what fits is kept", 15000 < len(events) < count, (len(events), str(answer)[:200]))
    same("in order", [n[:6] for _, n in events[:15000]], [f"{i:06}" for i in range(15000)])
    for _ in range(2):
        error = rpc("GetWatcherEvents", watcherId=watcher).get("error", {})
        same("then the overflow is told", (error.get("code"), error.get("message")),
             ("internal", "watcher error: fsnotify: queue or buffer overflow"))
    same("one that is fetched loses nothing", fetched + len(drain(rpc, other)[0]), count)
    same("it can be removed", rpc("RemoveWatcher", watcherId=watcher), {})
    rpc("RemoveWatcher", watcherId=other)


def test_slow_client():
    """A client that does not read for a while gets every event once it does."""
    top = at("slow")
    os.mkdir(top)
    watch = Stream(path=top)
    for i in range(15000):
        os.mkdir(os.path.join(top, f"{i:06}" + "s" * 200))
        if i % 1000 == 0:
            time.sleep(0.01 * FACTOR)
    time.sleep(0.5 * FACTOR)
    events = watch.events()
    got = [next(events) for _ in range(15000)]
    same("each of 15,000 events", [n[:6] for _, n in got], [f"{i:06}" for i in range(15000)])
    os.mkdir(os.path.join(top, "end"))
    same("and what happens then", next(events), ("CREATE", "end"))
    watch.close()


TESTS = [test_slow_client, test_storm, test_start_in_storm, test_shared_folder, test_overflow]


def start_envd():
    global PORT, ENVD_PID
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        PORT = s.getsockname()[1]
    envd = subprocess.Popen([ENVD, "--listen", f"127.0.0.1:{PORT}", "--insecure"])
    ENVD_PID = envd.pid
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", PORT)).close()
            break
        except OSError:
            time.sleep(0.05)
    return envd


def main():
    global failed
    envd = start_envd()
    try:
        for test in TESTS:
            if len(sys.argv) > 1 and sys.argv[1] not in test.__name__:
                continue
            try:
                test()
            except Exception:
                failed += 1
                print(f"FAILED: {test.__name__}\n{traceback.format_exc()}", flush=True)
    finally:
        check("envd still runs", envd.poll() is None, envd.returncode)
        envd.send_signal(signal.SIGTERM)
        check("envd ends in order", envd.wait(30) in (0, -signal.SIGTERM), envd.returncode)
        shutil.rmtree(TOP, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
