#!/usr/bin/env python3
"""Processes of envd in depth: replay from an offset, back-pressure, order and words, terminals.

Beside envd_test.py, whose Envd and Stream it uses. Prints one line per failed check and
`N passed, N failed` at its end.
"""
import base64
import os
import resource
import sys
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
