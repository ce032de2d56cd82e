#!/usr/bin/env python3
"""Processes of envd in depth: replay from an offset, back-pressure, order and words, terminals.

Beside envd_test.py, whose Envd and Stream it uses. Prints one line per failed check and
`N passed, N failed` at its end.
"""
import base64
import json
import os
import resource
import sys
import tempfile
import threading
import time
import traceback

import envd_test
from envd_test import Envd, check, same, started

ASAN = "asan" in envd_test.ENVD or "tsan" in envd_test.ENVD
SLOW = 3 if ASAN else 1


def wait(what, predicate, seconds=10):
    end = time.monotonic() + seconds * SLOW
    while not predicate():
        if time.monotonic() > end:
            check(what, False, "not in time")
            return False
        time.sleep(0.01)
    return True


def connect(envd, pid, replay=None, **headers):
    if replay is not None:
        headers["Sandpit-Replay-From"] = replay
    return envd.stream("Connect", {"process": {"pid": pid}}, headers)


def offsets(stream):
    return stream.response.getheader("Sandpit-Offsets")


def kill(envd, pid, name="SIGNAL_SIGKILL"):
    return envd.unary("SendSignal", {"process": {"pid": pid}, "signal": name})


def send(envd, pid, data, kind="stdin"):
    return envd.unary("SendInput", {"process": {"pid": pid},
                                    "input": {kind: base64.b64encode(data).decode()}})


def refusal(stream):
    error = stream.run().trailer["error"]
    return error["code"], error["message"]


# ---- Replay ----

def test_replay_of_a_running_process(envd):
    s = started(envd.bash("printf hello; printf oops >&2; read x; echo $x; exit 3"))
    while len(s.stdout) + len(s.stderr) < 9:
        s.next()
    plain = started(connect(envd, s.pid))
    same("a plain Connect begins now", offsets(plain), "stdout=5, stderr=4")
    cases = [("0", "stdout=0, stderr=0", b"hello", b"oops"),
             ("earliest", "stdout=0, stderr=0", b"hello", b"oops"),
             ("3", "stdout=3, stderr=4", b"lo", b""),
             ("stdout=2", "stdout=2, stderr=4", b"llo", b""),
             ("stderr=1", "stdout=5, stderr=1", b"", b"ops"),
             (" stderr=4 ,\tstdout=5 ", "stdout=5, stderr=4", b"", b""),
             ("stdout=earliest, stderr=0", "stdout=0, stderr=0", b"hello", b"oops")]
    readers = [(started(connect(envd, s.pid, ask)), *want) for ask, *want in cases]
    send(envd, s.pid, b"now\n")
    for reader, where, out, err in [(plain, "stdout=5, stderr=4", b"", b""), *readers]:
        reader.run()
        same("replay, then what comes", (offsets(reader), bytes(reader.stdout),
                                         bytes(reader.stderr)), (where, out + b"now\n", err))
        same("the end", reader.end["exitCode"], 3)
    same("the starter sees each byte once", bytes(s.run().stdout), b"hellonow\n")
    late = started(connect(envd, s.pid, "stdout=5,stderr=2")).run()
    same("replay of an ended process", (bytes(late.stdout), bytes(late.stderr), late.end),
         (b"now\n", b"ps", s.end))
    late = started(connect(envd, s.pid)).run()
    same("a plain Connect to it", (bytes(late.stdout), bytes(late.stderr), late.end, offsets(late)),
         (b"", b"", s.end, "stdout=9, stderr=4"))


def test_replay_refusals(envd):
    s = started(envd.bash("printf hello; read x"))
    s.next()
    for ask in ("", "x", "-1", "1x", "stdout", "stdout=", "stdout=1,", "stdout=1,stdout=2",
                "stdin=1", "stdout = 1", "99999999999999999999", "0x10", "stdout=1 stderr=2",
                "stdout=" + "1" * 3000, "stdout=1,,stderr=1"):
        code, message = refusal(connect(envd, s.pid, ask))
        same(f"{ask[:30]!r} is refused", (code, "Sandpit-Replay-From" in message),
             ("invalid_argument", True))
    same("no terminal", refusal(connect(envd, s.pid, "pty=0")),
         ("invalid_argument", "Sandpit-Replay-From: the process has no pty"))
    same("past the end", refusal(connect(envd, s.pid, "6")),
         ("out_of_range", "stdout has no offset 6 to replay from: available are 0 to 5"))
    same("past the end of the other", refusal(connect(envd, s.pid, "stderr=1")),
         ("out_of_range", "stderr has no offset 1 to replay from: available are 0 to 0"))
    send(envd, s.pid, b"\n")
    s.run()
    same("past the end of an ended one", refusal(connect(envd, s.pid, "6")),
         ("out_of_range", "stdout has no offset 6 to replay from: available are 0 to 5"))


def test_replay_keeps_the_last_bytes(envd):
    size = 3000000
    s = started(envd.bash(f"seq 1000000 | head -c {size}; read x"))
    want = b"".join(b"%d\n" % i for i in range(1, 1000000))[:size]
    while len(s.stdout) < size:
        s.next()
    first = size - (1 << 20)
    same("what is gone is named", refusal(connect(envd, s.pid, str(first - 1))),
         ("out_of_range", f"stdout has no offset {first - 1} to replay from: available are "
          f"{first} to {size}"))
    readers = [(at, started(connect(envd, s.pid, str(at))))
               for at in (first, first + 1, first + 32767, size - 1, size)]
    readers.append((first, started(connect(envd, s.pid, "earliest"))))
    send(envd, s.pid, b"\n")
    for at, reader in readers:
        reader.run()
        check(f"every byte from {at}", bytes(reader.stdout) == want[at:], len(reader.stdout))
        check("chunks", reader.biggest <= 32 << 10, reader.biggest)
    same("the starter has all", bytes(s.run().stdout) == want, True)


def test_input_at_an_offset(envd):
    def at(offset, data):
        return envd.unary("SendInput", {"process": {"pid": s.pid}, "input": {
            "stdin": base64.b64encode(data).decode()}}, {"Sandpit-Input-Offset": str(offset)})

    s = started(envd.bash("cat"))
    same("the first", at(0, b"hello ")[0], 200)
    same("again", at(0, b"hello ")[0], 200)
    same("half of it again", at(3, b"lo wor")[0], 200)
    same("nothing", at(9, b"")[0], 200)
    same("a gap", at(10, b"x"), (400, {"code": "out_of_range", "message":
         "input is missing: these bytes begin at 10, taken are 9"}))
    for bad in ("-1", "x", ""):
        same(f"{bad!r} is refused", at(bad, b"x")[0], 400)
    same("another sender is not counted", send(envd, s.pid, b"ld")[0], 200)
    same("as this shows", at(9, b"!")[0], 200)
    envd.unary("CloseStdin", {"process": {"pid": s.pid}})
    same("each byte once", bytes(s.run().stdout), b"hello world!")


# ---- Hold: nothing is dropped before it is acknowledged ----

HOLD = "Sandpit-Hold"


def acknowledge(envd, pid, text):
    return envd.unary("Update", {"process": {"pid": pid}}, {"Sandpit-Acknowledge": text})


def held(envd, script, seconds, **fields):
    return started(envd.start("/bin/bash", ["-c", script], {HOLD: str(seconds)}, **fields))


def test_a_held_process_waits_for_its_reader(envd):
    want = b"".join(b"%d\n" % i for i in range(1, 1000001))
    s = held(envd, "seq 1000000; echo end >&2; exit 7", 60)
    got = bytearray()
    for cut in (300000, 300001, 2000000, 5000000):  # a client that is cut off again and again
        while len(got) + len(s.stdout) < cut:
            s.next()
            if len(s.stdout) > 200000:
                got += s.stdout
                s.stdout.clear()
                same("acknowledged", acknowledge(envd, s.pid, f"stdout={len(got)}")[0], 200)
        got += s.stdout
        s.close()
        time.sleep(0.2)  # it could write megabytes in this time
        s = started(connect(envd, s.pid, f"stdout={len(got)}, stderr=0", **{HOLD: "60"}))
        same("continues where it was", offsets(s), f"stdout={len(got)}, stderr=0")
    while s.next() is not None:
        if len(s.stdout) > 200000:
            got += s.stdout
            s.stdout.clear()
            acknowledge(envd, s.pid, f"stdout={len(got)}")
    check("every byte", bytes(got + s.stdout) == want, len(got) + len(s.stdout))
    same("stderr", bytes(s.stderr), b"end\n")
    same("the end", s.end["exitCode"], 7)


def test_a_hold_limits_what_is_unacknowledged(envd):
    s = held(envd, "seq 1000000", 60)
    while len(s.stdout) < 1 << 20:
        s.next()
    s.conn.sock.settimeout(0.5 * SLOW)
    try:
        s.next()
        check("more than a ring without an acknowledgement", len(s.stdout) <= 1 << 20, len(s.stdout))
    except TimeoutError:
        pass
    same("a ring of it", len(s.stdout), 1 << 20)
    same("of the future", acknowledge(envd, s.pid, f"stdout={1 << 30}"),
         (400, {"code": "invalid_argument", "message": f"offset {1 << 30} cannot have been received: "
                f"there are {1 << 20} bytes"}))
    for bad in ("7", "stdout", "pty=1", "stdout=1, stdout=2", "stdin=1"):
        same(f"{bad} is refused", acknowledge(envd, s.pid, bad)[0], 400)
    same("of the past", acknowledge(envd, s.pid, "stdout=0, stderr=0")[0], 200)
    kill(envd, s.pid)
    s.close()


def test_a_hold_ends(envd):
    s = held(envd, "seq 1000000; sleep 600", 1)
    pid = s.pid
    s.close()
    time.sleep(2.5 * SLOW)  # the process goes on after the first second
    same("what was dropped is said", refusal(connect(envd, pid, "0"))[0], "out_of_range")
    kill(envd, pid)
    for bad in ("0", "3601", "-1", "x", ""):
        code, _ = refusal(envd.start("/bin/true", (), {HOLD: bad}))
        same(f"hold {bad!r} is refused", code, "invalid_argument")


def test_replay_of_a_terminal(envd):
    s = started(envd.bash("stty -opost; printf 'h\xc3\xa9llo'; read x; printf bye",
                          pty={"size": {"cols": 80, "rows": 24}}))
    while len(s.pty) < 6:
        s.next()
    first = started(connect(envd, s.pid, "pty=2"))
    second = started(connect(envd, s.pid, "0"))
    same("a terminal has one output", (offsets(first), offsets(second)), ("pty=2", "pty=0"))
    same("it has no stdout", refusal(connect(envd, s.pid, "stdout=0"))[0], "invalid_argument")
    send(envd, s.pid, b"\n", "pty")
    s.run()
    same("second reader", bytes(second.run().pty), bytes(s.pty))
    same("first reader, from inside a character", bytes(first.run().pty), bytes(s.pty[2:]))


def test_replay_size_is_a_setting(envd_unused):
    envd = Envd("--insecure")
    try:
        for bad in (1, -1, "x", 1 << 40):
            same(f"{bad} is refused", envd.request("POST", "/init", b'{"sandpitReplayBytes":%s}' %
                                                   (b'"x"' if bad == "x" else b"%d" % bad))[0], 400)
        same("/init", envd.request("POST", "/init", b'{"sandpitReplayBytes":65536,'
                                   b'"sandpitReplayTotalBytes":131072}')[0], 204)
        s = envd.bash("seq 1000000 | head -c 200000").run()
        last = started(connect(envd, s.pid, "earliest")).run()
        same("64 KiB are kept", (offsets(last), len(last.stdout)), ("stdout=134464, stderr=0", 65536))
        check("the last", bytes(last.stdout) == bytes(s.stdout[134464:]))
        more = [envd.bash("seq 1000000 | head -c 200000").run() for _ in range(4)]
        same("the total: oldest ended ones lose theirs", refusal(connect(envd, s.pid, "199999")),
             ("out_of_range", "stdout has no offset 199999 to replay from: available are 200000 "
              "to 200000"))
        last = started(connect(envd, more[-1].pid, "earliest")).run()
        same("the newest has its own", len(last.stdout), 65536)
        live = [started(envd.bash("seq 1000000 | head -c 200000; read x")) for _ in range(8)]
        for s in live:
            while len(s.stdout) < 200000:
                s.next()
        kept = [started(connect(envd, s.pid, "earliest")) for s in live]
        for s, k in zip(live, kept):
            send(envd, s.pid, b"\n")
            check("each", bytes(k.run().stdout) == bytes(s.stdout[-len(k.stdout):]))
        kept = sorted(len(k.stdout) for k in kept)
        check("running ones share it", kept[0] >= 16 << 10 and sum(kept) <= 160 << 10, kept)
    finally:
        envd.stop()


# ---- Back-pressure ----

def written(pid):
    with open(f"/proc/{pid}/io") as f:
        return [int(line.split()[1]) for line in f if line.startswith("wchar")][0]


def stands_still(pid):
    """The bytes a process has written when it has stopped writing."""
    before = -1
    while (now := written(pid)) != before:
        before = now
        time.sleep(0.3)
    return now


def test_slow_reader_among_others(envd):
    size = 12000000
    s = started(envd.start("head", ["-c", str(size), "/dev/zero"]))
    held = stands_still(s.pid)
    check("one that does not read holds it back", held < size, held)
    fast = started(connect(envd, s.pid))
    done = threading.Thread(target=fast.run)
    done.start()
    time.sleep(0.5)
    check("so it does with another that reads", written(s.pid) < size and done.is_alive(),
          written(s.pid))
    s.run()
    done.join()
    same("nobody misses a byte", (len(s.stdout), s.end["status"]), (size, "exit status 0"))
    begin = int(offsets(fast).split(",")[0].split("=")[1])
    same("from where it began", (len(fast.stdout) + begin, fast.end), (size, s.end))


def test_reader_that_leaves_lets_go(envd):
    size = 12000000
    s = started(envd.start("head", ["-c", str(size), "/dev/zero"]))
    stands_still(s.pid)
    check("held", os.path.exists(f"/proc/{s.pid}"))
    s.close()
    wait("it runs to its end", lambda: not os.path.exists(f"/proc/{s.pid}"))
    late = started(connect(envd, s.pid, "earliest")).run()
    same("its last bytes and its end", (len(late.stdout), offsets(late), late.end),
         (1 << 20, f"stdout={size - (1 << 20)}, stderr=0",
          {"exited": True, "status": "exit status 0"}))


def test_without_readers_nothing_blocks(envd):
    s = started(envd.bash("read x; head -c 50000000 /dev/zero; head -c 50000000 /dev/zero >&2"))
    s.close()
    time.sleep(0.1)
    at = time.monotonic()
    send(envd, s.pid, b"\n")
    wait("it ends", lambda: not os.path.exists(f"/proc/{s.pid}"))
    check("soon", time.monotonic() - at < 5 * SLOW, time.monotonic() - at)
    late = started(connect(envd, s.pid)).run()
    same("and has its status", late.end["status"], "exit status 0")


def test_kill_of_a_held_process_loses_nothing(envd):
    s = started(envd.bash("exec seq 100000000"))
    wrote = stands_still(s.pid)
    same("kill", kill(envd, s.pid)[0], 200)
    wait("dead", lambda: not os.path.exists(f"/proc/{s.pid}"))
    s.run()
    same("killed", s.end["status"], "signal: killed")
    wrote -= len("100")  # its oom_score_adj
    check("all it wrote arrives", len(s.stdout) == wrote, (len(s.stdout), wrote))
    check("in order", b"".join(b"%d\n" % i for i in range(1, 600000)).startswith(bytes(s.stdout)))


def test_slow_reader_outlives_the_ended_process(envd):
    size = 1500000
    s = started(envd.bash(f"read x; head -c {size} /dev/zero"))
    slow = [started(connect(envd, s.pid)) for _ in range(3)]
    fast = threading.Thread(target=s.run)
    fast.start()
    send(envd, s.pid, b"\n")
    fast.join(0.5)
    gone = slow.pop()
    gone.close()
    for reader in slow:
        reader.run()
        same("everything, then the end", (len(reader.stdout), reader.end["status"]),
             (size, "exit status 0"))
    fast.join()
    same("the other too", len(s.stdout), size)


def private_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Private_"))


def test_many_stalled_readers_cost_little(envd_unused):
    count, total = 150, 8 << 20
    envd = Envd("--insecure")
    try:
        same("/init", envd.request("POST", "/init",
                                   b'{"sandpitReplayTotalBytes":%d}' % total)[0], 204)
        stalled = [started(envd.bash("exec seq 100000000")) for _ in range(count)]
        for s in (stalled[0], stalled[-1]):
            stands_still(s.pid)
        kib = private_kib(envd.proc.pid)
        rings = (total + count * (16 << 10)) >> 10
        check("8 MiB at most beyond the rings", ASAN or kib < rings + 8192, kib)
        s = envd.bash("seq 300000").run()
        check("one that reads gets all", bytes(s.stdout) ==
              b"".join(b"%d\n" % i for i in range(1, 300001)), len(s.stdout))
        for s in stalled:
            kill(envd, s.pid)
        want = b"".join(b"%d\n" % i for i in range(1, 3000000))
        for s in stalled[:10]:
            s.run()
            check("what was held is complete", want.startswith(bytes(s.stdout)) and
                  len(s.stdout) > 1 << 16, len(s.stdout))
        for s in stalled:
            s.close()
        same("nothing runs", envd.unary("List", {}), (200, {}))
    finally:
        envd.stop()


# ---- Order and words ----

SIGNALS = {
    1: "hangup", 2: "interrupt", 3: "quit", 4: "illegal instruction", 5: "trace/breakpoint trap",
    6: "aborted", 7: "bus error", 8: "floating point exception", 9: "killed",
    10: "user defined signal 1", 11: "segmentation fault", 12: "user defined signal 2",
    13: "broken pipe", 14: "alarm clock", 15: "terminated", 16: "stack fault",
    24: "CPU time limit exceeded", 25: "file size limit exceeded", 26: "virtual timer expired",
    27: "profiling timer expired", 29: "I/O possible", 30: "power failure", 31: "bad system call",
    35: "signal 35", 64: "signal 64"}


def test_every_signal_has_its_name(envd):
    for number, name in SIGNALS.items():
        s = envd.start("/bin/sh", ["-c", f"ulimit -c 0; kill -{number} $$"]).run()
        want = f"signal: {name}"
        same(f"signal {number}", s.end, {"exitCode": -1, "status": want, "error": want})


def test_core_dumps_are_named(envd):
    with open("/proc/sys/kernel/core_pattern") as f:
        pattern = f.read().strip()
    with tempfile.TemporaryDirectory() as folder:
        s = envd.bash("ulimit -c unlimited && kill -SEGV $$", cwd=folder).run()
        dumped = bool(os.listdir(folder))
    if not pattern.startswith(("/", "|")):
        want = "signal: segmentation fault" + (" (core dumped)" if dumped else "")
        same("core dumped, or not", s.end["status"], want)
    check("its words", s.end["status"].removesuffix(" (core dumped)") ==
          "signal: segmentation fault" and s.end["error"] == s.end["status"], s.end)


def test_order_of_events(envd):
    s = envd.bash("for i in $(seq 300); do echo $i; echo $i >&2; done; exit 2")
    kinds = []
    while (event := s.next()) is not None:
        kinds.append(next(iter(event)))
    same("start first, end last, once each", (kinds[0], kinds[-1], kinds.count("start"),
                                              kinds.count("end"), set(kinds[1:-1])),
         ("start", "end", 1, 1, {"data"}))
    lines = b"".join(b"%d\n" % i for i in range(1, 301))
    same("each output in order", (bytes(s.stdout), bytes(s.stderr)), (lines, lines))


def test_errors_of_unary_calls(envd):
    no_pid = (404, {"code": "not_found", "message": "process with pid 4194300 not found"})
    no_tag = (404, {"code": "not_found", "message": "process with tag nobody not found"})
    fields = {"SendInput": {"input": {"stdin": "eA=="}}, "SendSignal": {"signal": "SIGNAL_SIGKILL"},
              "CloseStdin": {}, "Update": {"pty": {"size": {"cols": 1, "rows": 1}}}}
    for method, rest in fields.items():
        same(f"{method}: no pid", envd.unary(method, {"process": {"pid": 4194300}, **rest}), no_pid)
        same(f"{method}: no tag", envd.unary(method, {"process": {"tag": "nobody"}, **rest}),
             no_tag)
        for selector in ({}, {"process": {}}):
            status, reply = envd.unary(method, {**selector, **rest})
            same(f"{method}: empty selector", (status, reply["code"], reply["message"][:18]),
                 (501, "unimplemented", "invalid input type"))
        status, reply = envd.unary(method, {"process": {"pid": -1}, **rest})
        same(f"{method}: negative pid", (status, reply["code"]), (400, "invalid_argument"))
    for method, message in (("Connect", no_pid), ("Connect", no_tag)):
        selector = {"tag": "nobody"} if "tag" in message[1]["message"] else {"pid": 4194300}
        s = envd.stream("Connect", {"process": selector}).run()
        same("Connect", s.trailer, {"error": message[1]})
    same("Connect: empty selector",
         envd.stream("Connect", {}).run().trailer["error"]["code"], "unimplemented")
    same("Start: no process", envd.stream("Start", {}).run().trailer["error"]["code"],
         "invalid_argument")
    s = envd.start("true", envs={"A=B": "1"}).run()
    same("Start: a name with =", s.trailer["error"]["code"], "invalid_argument")
    s = envd.start("true", envs={"": "1"}).run()
    same("Start: an empty name", s.trailer["error"]["code"], "invalid_argument")


def test_errors_of_input(envd):
    s = started(envd.start("cat"))
    for empty in ({}, {"input": {}}):
        status, reply = envd.unary("SendInput", {"process": {"pid": s.pid}, **empty})
        same("empty input", (status, reply["code"], reply["message"][:18]),
             (501, "unimplemented", "invalid input type"))
    same("CloseStdin", envd.unary("CloseStdin", {"process": {"pid": s.pid}}), (200, {}))
    status, reply = send(envd, s.pid, b"x")
    same("after CloseStdin", (status, reply), (500, {
        "code": "internal", "message": "error writing to stdin: stdin not enabled or closed"})
        if status != 404 else (404, {"code": "not_found",
                                     "message": f"process with pid {s.pid} not found"}))
    s.run()
    same("cat ends", (bytes(s.stdout), s.end["status"]), (b"", "exit status 0"))
    s = started(envd.bash("exec <&-; sleep 30"))
    time.sleep(0.3)
    status, reply = send(envd, s.pid, b"x")
    same("a process that closed its input", (status, reply["code"], reply["message"]),
         (500, "internal", "error writing to stdin: broken pipe"))
    kill(envd, s.pid)
    s.run()
    status, reply = send(envd, s.pid, b"x")
    same("one that ended", (status, reply["code"]), (404, "not_found"))
    s = started(envd.start("sleep", ["30"]))
    big = base64.b64encode(bytes(100000)).decode()
    conn = envd.connect()
    conn.request("POST", "/process.Process/SendInput",
                 json.dumps({"process": {"pid": s.pid}, "input": {"stdin": big}}).encode(),
                 {"Content-Type": "application/json"})
    time.sleep(0.2)
    kill(envd, s.pid)
    reply = json.loads(conn.getresponse().read())
    same("input that nobody will read", (reply["code"], reply["message"]),
         ("internal", "error writing to stdin: broken pipe"))
    s.run()


def stream_input(envd, *messages):
    """What StreamInput answers: ({} or the message, the end's JSON)."""
    body = b"".join(envd_test.envelope(m) for m in messages)
    _, _, reply = envd.request("POST", "/process.Process/StreamInput", body,
                               {"Content-Type": "application/connect+json"})
    found = []
    while reply:
        size = int.from_bytes(reply[1:5], "big")
        found.append(json.loads(reply[5:5 + size]))
        reply = reply[5 + size:]
    return found


def test_stream_input_errors_and_switch(envd):
    one, two = started(envd.start("cat")), started(envd.start("cat"))

    def start_of(process):
        return {"start": {"process": {"pid": process.pid}}}

    def data(text):
        return {"data": {"input": {"stdin": base64.b64encode(text).decode()}}}

    same("a second start switches", stream_input(
        envd, start_of(one), data(b"1"), {"keepalive": {}}, start_of(two), data(b"2"),
        start_of(one), data(b"11")), [{}, {}])
    for process, want in ((one, b"111"), (two, b"2")):
        envd.unary("CloseStdin", {"process": {"pid": process.pid}})
        same("in order", bytes(process.run().stdout), want)
    s = started(envd.start("cat"))
    cases = [
        ([{}], "unimplemented", "invalid event type"),
        ([{"start": {}}], "unimplemented", "invalid input type"),
        ([{"start": {"process": {"pid": 4194300}}}], "not_found",
         "process with pid 4194300 not found"),
        ([start_of(s), {"data": {}}], "unimplemented", "invalid input type"),
        ([start_of(s), {"data": {"input": {"pty": "eA=="}}}], "internal",
         "error writing to tty: tty not assigned to process"),
        ([data(b"x")], "invalid_argument", "data came before"),
        ([start_of(s), data(b"kept"), start_of(one)], "not_found",
         f"process with pid {one.pid} not found"),
    ]
    for messages, code, words in cases:
        error = stream_input(envd, *messages)[-1].get("error", {})
        same(f"{messages[-1]}", (error.get("code"), error.get("message", "")[:len(words)]),
             (code, words))
    envd.unary("CloseStdin", {"process": {"pid": s.pid}})
    same("what came before an error is written", bytes(s.run().stdout), b"kept")
    same("nothing at all", stream_input(envd), [{}, {}])


def test_signals_go_to_the_process_alone(envd):
    s = started(envd.bash("trap 'echo child >&2; exit' TERM; sleep 30 & echo $!; "
                          "while :; do sleep 0.05; done"))
    while b"\n" not in s.stdout:
        s.next()
    child = int(s.stdout)
    same("SIGTERM", kill(envd, s.pid, "SIGNAL_SIGTERM"), (200, {}))
    s.run()
    same("its handler ran", (bytes(s.stderr), s.end["status"]), (b"child\n", "exit status 0"))
    check("its child lives", os.path.exists(f"/proc/{child}"))
    os.kill(child, 9)
    s = started(envd.start("sleep", ["30"]))
    for number in (1, 2, 3, 18, 19, 64, -1):
        status, reply = envd.unary("SendSignal", {"process": {"pid": s.pid}, "signal": number})
        same(f"signal {number}", (status, reply), (501, {
            "code": "unimplemented", "message": f"invalid signal: {number}"}))
    kill(envd, s.pid)
    s.run()


def test_exited_but_not_ended(envd):
    s = started(envd.bash("sleep 1.2 & exit 4"))
    wait("exited", lambda: not os.path.exists(f"/proc/{s.pid}"))
    same("not in List", [p for p in envd.unary("List", {})[1].get("processes", [])
                         if p["pid"] == s.pid], [])
    same("a signal comes too late", kill(envd, s.pid), (500, {
        "code": "internal", "message": "error sending signal: os: process already finished"}))
    late = started(connect(envd, s.pid))
    s.run()
    late.run()
    same("one end for both", (s.end["exitCode"], late.end), (4, s.end))


def test_deadlines(envd):
    at = time.monotonic()
    s = started(envd.bash("sleep 1.5; echo still here"))
    short = started(connect(envd, s.pid, **{"Connect-Timeout-Ms": "300"})).run()
    took = time.monotonic() - at
    check("a Connect's timeout ends its stream", 0.25 < took < 1.4, took)
    same("with", (short.end, short.trailer), (None, {"error": {
        "code": "deadline_exceeded", "message": "context deadline exceeded"}}))
    s.run()
    same("not the process", (bytes(s.stdout), s.end["status"]), (b"still here\n", "exit status 0"))
    s = started(envd.bash("echo first; sleep 30", headers={"Connect-Timeout-Ms": "600"}))
    other = started(connect(envd, s.pid, "0"))
    s.run()
    other.run()
    same("a Start's timeout ends the process", (s.end, s.trailer["error"]["code"]),
         (None, "deadline_exceeded"))
    same("another reader sees its end", (bytes(other.stdout), other.end["status"]),
         (b"first\n", "signal: killed"))
    s = envd.start("sleep", ["0.5"], headers={"Connect-Timeout-Ms": "0"}).run()
    same("0 is never", s.end["status"], "exit status 0")


def test_keepalive_of_each_stream(envd):
    s = started(envd.bash("for i in 1 2 3 4 5 6; do sleep 0.5; echo; done; sleep 1.4"))
    loud = started(connect(envd, s.pid, **{"Keepalive-Ping-Interval": "1"}))
    loud.run()
    s.run()
    same("any data restarts the interval", loud.keepalives, 1)
    same("none without its time", s.keepalives, 0)


def test_tags(envd):
    first = started(envd.start("cat", tag="twin"))
    second = started(envd.bash("exit 5", tag="other"))
    second.run()
    after = started(envd.stream("Connect", {"process": {"tag": "other"}})).run()
    same("an ended one is found by its tag", after.end, second.end)
    third = started(envd.start("cat", tag="other"))
    found = started(envd.stream("Connect", {"process": {"tag": "other"}}))
    same("a new one with its tag takes its place", found.pid, third.pid)
    same("the old one is forgotten", refusal(connect(envd, second.pid))[0], "not_found")
    fourth = envd.bash("exit 6", tag="twin").run()
    found_twin = started(envd.stream("Connect", {"process": {"tag": "twin"}}))
    same("a running one is found before an ended one", found_twin.pid, first.pid)
    same("which has its pid still", started(connect(envd, fourth.pid)).run().end["exitCode"], 6)
    for s in (first, third):
        kill(envd, s.pid)
        s.run()
    for s in (found, found_twin):
        s.close()


def test_sessions(envd):
    s = envd.bash("ps -o sid= -p $$; ps -o pgid= -p $$").run()
    same("a plain process is in envd's session and group", s.stdout.decode().split(),
         [str(os.getsid(envd.proc.pid)), str(os.getpgid(envd.proc.pid))])
    s = envd.bash("ps -o sid= -p $$; ps -o pgid= -p $$", pty={}).run()
    same("a terminal has its own", s.pty.decode().split(), [str(s.pid)] * 2)


def test_methods_that_are_not(envd):
    for method in ("GetResult", "Nothing"):
        same(method, envd.request("POST", f"/process.Process/{method}", b"{}",
                                  {"Content-Type": "application/json"})[0], 404)


# ---- Terminals ----

class Terminal:
    """A login shell as pty.create starts it, and a reader of its screen."""

    def __init__(self, envd, cmd="/bin/bash", args=("--norc", "-i"), size=(80, 24), **envs):
        self.envd = envd
        self.stream = started(envd.start(
            cmd, list(args), pty={"size": {"cols": size[0], "rows": size[1]}},
            envs={"TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8",
                  "PS1": "$ ", **envs}))
        self.pid = self.stream.pid
        self.at = 0

    def text(self):
        return self.stream.pty[self.at:].decode(errors="replace")

    def type(self, data):
        same("pty input", send(self.envd, self.pid, data.encode(), "pty"), (200, {}))

    def see(self, text):
        """Read until TEXT is there; what came before it, and it, is done with."""
        self.stream.conn.sock and self.stream.conn.sock.settimeout(10 * SLOW)
        while text not in self.text():
            if self.stream.next() is None:
                break
        check(f"the terminal shows {text!r}", text in self.text(), self.text()[-500:])
        if text in self.text():
            place = self.text().index(text) + len(text)
            self.at += len(self.text()[:place].encode())

    def close(self):
        kill(self.envd, self.pid)
        self.stream.run()


def test_login_shell(envd):
    t = Terminal(envd, args=("-i", "-l"), size=(101, 37))
    t.type("PS1='$ '; shopt -q login_shell && echo lo''gin; echo $TERM/$LANG; tty; stty size\n")
    t.see("login\r\n")
    t.see("xterm-256color/C.UTF-8\r\n")
    t.see("/dev/pts/")
    t.see("37 101\r\n")
    t.type("exit 7\n")
    t.stream.run()
    same("exit", (t.stream.end["exitCode"], t.stream.end["status"]), (7, "exit status 7"))


def test_resize_reaches_the_foreground(envd):
    t = Terminal(envd)
    t.type("trap 'echo si''ze $(stty size)' WINCH\n")
    t.see("$ ")
    t.type("sh -c 'trap \"echo in''ner; exit\" WINCH; echo rea''dy; while :; do sleep 0.05; done'\n")
    t.see("ready\r\n")
    same("Update", envd.unary("Update", {"process": {"pid": t.pid},
                                         "pty": {"size": {"cols": 65, "rows": 43}}}), (200, {}))
    t.see("inner\r\n")
    t.type("stty size\n")
    t.see("43 65\r\n")
    same("sizes are cut to 16 bits", envd.unary("Update", {
        "process": {"pid": t.pid}, "pty": {"size": {"cols": 65536 + 70, "rows": 131072 + 30}}}),
         (200, {}))
    t.type("stty size\n")
    t.see("30 70\r\n")
    t.close()


def test_control_c_interrupts_the_foreground_only(envd):
    t = Terminal(envd)
    t.type("sleep 1000 & echo back''ground $!\n")
    t.see("background ")
    while "\r\n" not in t.text():
        t.stream.next()
    background = int(t.text().split()[0])
    t.see("$ ")
    t.type("sleep 2000; echo sta''tus $?\n")
    time.sleep(0.3)
    t.type("\x03")
    t.see("^C")
    t.see("$ ")
    t.type("echo again $?\n")
    t.see("again 130\r\n")
    check("the background lives", os.path.exists(f"/proc/{background}"))
    os.kill(background, 9)
    t.close()


def test_job_control(envd):
    t = Terminal(envd)
    t.type("sleep 0.7; echo ne''ver\n")
    time.sleep(0.3)
    t.type("\x1a")
    t.see("Stopped")
    t.type("jobs\n")
    t.see("sleep 0.7")
    t.type("fg; echo d''one $?\n")
    t.see("done 0\r\n")
    t.type("cat\n")
    time.sleep(0.2)
    t.type("line\n")
    t.see("line\r\nline\r\n")
    t.type("\x04")
    t.see("$ ")
    t.type("\x04")
    t.stream.run()
    same("Ctrl-D ends the shell", t.stream.end["exited"], True)


def test_utf8_across_chunks(envd):
    word = "äöü€𝄞"
    with tempfile.NamedTemporaryFile("wb", suffix=".txt") as f:
        f.write((word * 20000).encode())
        f.flush()
        s = started(envd.bash(f"stty raw; printf x; cat {f.name}", pty={}))
        second = started(connect(envd, s.pid, "0"))
        for reader in (s, second):
            reader.run()
            check("no byte of a character is lost", reader.pty.decode() == "x" + word * 20000,
                  len(reader.pty))
            check("chunks", reader.biggest <= 16 << 10, reader.biggest)
    t = Terminal(envd, "/bin/cat", ())
    raw = word.encode()
    for i in range(len(raw)):
        send(envd, t.pid, raw[i:i + 1], "pty")
    t.type("\n")
    t.see(word + "\r\n" + word + "\r\n")
    t.type("\x04")
    t.stream.run()


def test_terminal_reconnects(envd):
    t = Terminal(envd)
    t.type("echo be''fore\n")
    t.see("before\r\n")
    t.see("$ ")
    seen = len(t.stream.pty)
    t.stream.close()
    send(envd, t.pid, b"echo mean''while; sleep 0.2; echo still mean''while\n", "pty")
    time.sleep(0.8)
    back = started(connect(envd, t.pid, f"pty={seen}"))
    all_of_it = started(connect(envd, t.pid, "0"))
    plain = started(connect(envd, t.pid))
    same("it stays a terminal", envd.unary("Update", {
        "process": {"pid": t.pid}, "pty": {"size": {"cols": 90, "rows": 20}}}), (200, {}))
    send(envd, t.pid, b"stty size; exit\n", "pty")
    for reader in (back, all_of_it, plain):
        reader.run()
        same("the end", reader.end["status"], "exit status 0")
    screen = all_of_it.pty.decode()
    check("all of it", "before\r\n" in screen and "still meanwhile\r\n" in screen and
          "20 90\r\n" in screen, screen)
    same("what was missed, once", bytes(back.pty), bytes(all_of_it.pty[seen:]))
    check("from now on", "meanwhile" not in plain.pty.decode() and "20 90\r\n" in
          plain.pty.decode(), bytes(plain.pty))


def test_terminal_hangs_up(envd):
    with tempfile.TemporaryDirectory() as folder:
        t = Terminal(envd)
        t.type(f"sh -c 'trap \"echo hup > {folder}/hup; exit\" HUP; echo rea''dy; "
               "while :; do sleep 0.05; done'\n")
        t.see("ready\r\n")
        t.close()
        same("killed", t.stream.end["status"], "signal: killed")
        wait("the foreground hears of it", lambda: os.path.exists(f"{folder}/hup"))


def test_grandchild_holds_the_terminal(envd):
    at = time.monotonic()
    s = started(envd.bash("trap '' HUP; (sleep 1; echo la''te) & exit 3", pty={})).run()
    took = time.monotonic() - at
    check("end waits for the last that holds it", took > 0.9, took)
    same("its output is there, then the end", (b"late" in s.pty, s.end["exitCode"]), (True, 3))
    s = started(envd.bash("trap '' HUP; sleep 20 & echo $!; wait", pty={}))
    while b"\n" not in s.pty:
        s.next()
    at = time.monotonic()
    kill(envd, s.pid)
    s.run()
    check("a kill does not wait", time.monotonic() - at < 5, time.monotonic() - at)
    try:
        os.kill(int(s.pty), 9)
    except ProcessLookupError:
        pass


def test_terminal_without_size_or_program(envd):
    s = envd.bash("stty size", pty={}).run()
    same("no size is 0 0", bytes(s.pty), b"0 0\r\n")
    s = envd.start("no-such-program", pty={"size": {"cols": 80, "rows": 24}}).run()
    same("a missing program", (s.end["exitCode"], bytes(s.pty)),
         (127, b"/bin/sh: 1: exec: no-such-program: not found\r\n"))
    s = envd.start("pwd", cwd="/etc/passwd", pty={"size": {"cols": 80, "rows": 24}}).run()
    words = ("error starting pty with command 'pwd' in dir '/etc/passwd' with '80' cols and '24' "
             "rows: ")
    same("a failed start", (s.trailer["error"]["code"], s.trailer["error"]["message"][:len(words)]),
         ("invalid_argument", words))
    s = started(envd.start("cat", pty={}, stdin=False))
    same("stdin is for processes without terminal", send(envd, s.pid, b"x\n", "pty"), (200, {}))
    kill(envd, s.pid)
    s.run()


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    envd = Envd("--insecure")
    for name, fn in list(globals().items()):
        if not name.startswith("test_") or only not in name:
            continue
        try:
            fn(envd)
        except Exception:
            check(name, False)
            traceback.print_exc()
            if envd.proc.poll() is not None:
                print("".join(envd.log[-80:]))
                break
    envd.stop()
    print(f"{envd_test.passed} passed, {envd_test.failed} failed")
    return 1 if envd_test.failed or not envd_test.passed else 0


if __name__ == "__main__":
    sys.exit(main())
