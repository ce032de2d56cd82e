#!/usr/bin/env python3
"""Integration test of envd's /files where things go wrong: odd targets, bad requests, slow clients.

Beside envd_files_test.py, whose helpers it uses. `$ENVD` names the binary.
usage: tests/integration/envd_transfer_test.py
"""
import http.client
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import time
from urllib.parse import quote

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import envd_files_test as base  # noqa: E402
from envd_files_test import (Stream, answer_of, ask, at, check, content, get,  # noqa: E402
                             multipart, post_multipart, put, same, start_upload)


def make(name, data=b"", mode=None):
    os.makedirs(os.path.dirname(at(name)), exist_ok=True)
    return base.make(name, data, mode)


def raw(text, body=b"", read=True):
    """Send a request as it is. Returns status and body."""
    with socket.create_connection(("127.0.0.1", base.PORT), timeout=20) as s:
        s.sendall(text.encode() + body)
        if not read:
            return None
        return answer_of(s)


def upload_head(path, *more, kind="application/octet-stream"):
    lines = [f"POST /files?path={quote(path)} HTTP/1.1", "Host: x", f"Content-Type: {kind}", *more]
    return "\r\n".join(lines) + "\r\n\r\n"


def hidden(folder):
    return [name for name in os.listdir(folder) if name.startswith(".envd")]


# ---- What GET is asked for ----


def test_methods():
    for method in ("HEAD", "PUT", "DELETE", "PATCH"):
        a = ask(method, "/files", query={"path": "/etc/hosts"})
        same(method, (a.status, a.headers["Allow"], a.body), (405, "GET, POST", b""))


def test_far_range():
    """5 GiB, nearly all of it a hole: offsets beyond 32 bits."""
    path, size = make("sparse"), 5 << 30
    with open(path, "r+b") as f:
        f.truncate(size)
        f.seek(size - 10)
        f.write(b"0123456789")
    for value, part, text in (("bytes=-10", b"0123456789", f"{size - 10}-{size - 1}"),
                              (f"bytes={size - 4}-", b"6789", f"{size - 4}-{size - 1}"),
                              (f"bytes={4 << 30}-{(4 << 30) + 2}", b"\0\0\0",
                               f"{4 << 30}-{(4 << 30) + 2}")):
        a = get(path, {"Range": value})
        same(value, (a.status, a.body, a.headers["Content-Range"]),
             (206, part, f"bytes {text}/{size}"))
    a = get(path, {"Range": f"bytes={size - 2}-,0-1"})
    check("far and near", a.status == 206 and b"89\r\n" in a.body and b"\0\0\r\n" in a.body, a.body)
    same("past the end", get(path, {"Range": f"bytes={size}-"}).status, 416)
    same("past 64 bits", get(path, {"Range": "bytes=99999999999999999999-"}).status, 416)
    os.remove(path)


def test_range_forms():
    path = make("forms.bin", bytes(range(200)))
    for value, status in (("bytes=5-4", 416), ("bytes=-", 416), ("bytes=a-b", 416),
                          ("bytes=1", 416), ("items=0-1", 416), ("bytes=--1", 416),
                          ("bytes=0-199,0-199", 200), ("bytes=" + ",".join(["0-0"] * 80), 200),
                          ("bytes= 0-1 , 5-6 ", 206), ("bytes=-0", 416), ("bytes=0-0,-0", 206)):
        same(value[:30], get(path, {"Range": value}).status, status)
    empty = make("forms.empty")
    same("range of nothing", get(empty, {"Range": "bytes=0-1"}).status, 200)


def test_conditions():
    path = make("cond.txt", b"text")
    modified = get(path).headers["Last-Modified"]
    old, future = "Thu, 01 Jan 1998 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    for what, headers, status in (
            ("match of nothing", {"If-Match": '"tag"'}, 412),
            ("match of anything", {"If-Match": "*"}, 200),
            ("match goes before unmodified", {"If-Match": "*", "If-Unmodified-Since": old}, 200),
            ("none match goes before modified",
             {"If-None-Match": '"tag"', "If-Modified-Since": modified}, 200),
            ("none match of anything", {"If-None-Match": "*"}, 304),
            ("unmodified goes before modified",
             {"If-Unmodified-Since": old, "If-Modified-Since": future}, 412),
            ("asctime", {"If-Modified-Since": "Fri Jan  1 00:00:00 2100"}, 304),
            ("no date", {"If-Modified-Since": "yesterday"}, 200),
            ("condition before range", {"If-Modified-Since": future, "Range": "bytes=0-0"}, 304),
            ("if-range with a tag", {"If-Range": '"tag"', "Range": "bytes=0-0"}, 200)):
        same(what, get(path, headers).status, status)
    a = get(path, {"If-Modified-Since": future})
    same("304 has no body", (a.body, a.headers["Content-Length"], a.headers["Last-Modified"]),
         (b"", None, modified))


def test_types():
    for name, data, kind in (("a.txt", b"", "text/plain; charset=utf-8"),
                             ("a.HTML", b"", "text/html; charset=utf-8"),
                             ("a.png", b"", "image/png"), ("text", b"hello\n",
                                                           "text/plain; charset=utf-8"),
                             ("image", b"\x89PNG\r\n\x1a\n..", "image/png"),
                             ("binary", b"\0\1\2\3", "application/octet-stream"),
                             ("pdf", b"%PDF-1.7", "application/pdf")):
        same("type " + name, get(make("ty/" + name, data)).headers["Content-Type"], kind)
    for name, want in (("a b", '"a b"'), ('q"uote', '"q\\"uote"'), ("plain", "plain"),
                       ("se;mi", '"se;mi"')):
        same("disposition " + name, get(make("ty/" + name)).headers["Content-Disposition"],
             "inline; filename=" + want)
    a = get(make("ty/li\nne"))
    same("line break in a name", (a.status, a.headers["Content-Disposition"]),
         (200, "inline; filename*=utf-8''li%0Ane"))


# ---- What POST is asked for ----


def test_odd_targets():
    os.mkfifo(at("fifo"))
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(at("sock"))
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    os.symlink(f"/proc/{reader.pid}/fd/0", at("to-pipe"))
    for path in (at("fifo"), at("sock"), "/dev/null", f"/proc/{reader.pid}/fd/0", at("to-pipe")):
        a = put(path, b"x")
        same("upload to " + path, (a.status, a.message[:27]), (400, "path is not a regular file:"))
    same("download of a fifo", get(at("fifo")).status, 400)
    same("download of a socket", get(at("sock")).status, 400)
    same("into a device", put("/dev/null/x", b"x").status, 500)
    sock.close()
    reader.communicate()
    os.symlink("loop2", at("loop1"))
    os.symlink("loop1", at("loop2"))
    same("a loop of links", (put(at("loop1"), b"x").status, get(at("loop1")).status), (500, 500))
    os.symlink("not/yet", at("dangling"))
    same("dangling link", (put(at("dangling"), b"made").status, content(at("not/yet"))),
         (200, b"made"))
    os.mkdir(at("real"))
    os.symlink("real", at("linked-dir"))
    same("through a linked folder", (put(at("linked-dir/f"), b"1").status, content(at("real/f"))),
         (200, b"1"))
    same("dots", (put(at("real/../up"), b"2").status, content(at("up"))), (200, b"2"))
    same("not cleaned", put(at("real/../up"), b"2").json[0]["path"], at("real/../up"))
    same("slash at the end", put(at("real") + "/", b"x").status, 400)
    same("long name", put(at("n" * 256), b"x").status, 500)
    same("long path", put("/" + "n/" * 9000, b"x").status, 400)
    for head in ("GET /files?path=/tmp/a%00b", "POST /files?path=/tmp/a%00b", "GET /files?path=%",
                 "GET /files?path=%zz"):
        status, _ = raw(head + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        same(head, status, 400)


def test_what_stays():
    """An existing file keeps mode, hard links and mounts; an open reader keeps the old content."""
    path = make("stay/f", b"old", mode=0o640)
    reader = open(path, "rb")
    same("over", put(path, b"new", username="nobody").status, 200)
    st = os.stat(path)
    same("mode and owner", (stat.S_IMODE(st.st_mode), st.st_uid), (0o640, 65534))
    same("open reader", reader.read(), b"old")
    reader.close()
    make("stay/mounted", b"under")
    make("stay/source", b"source")
    if subprocess.run(["mount", "--bind", at("stay/source"), at("stay/mounted")],
                      stderr=subprocess.DEVNULL).returncode != 0:
        print("a mounted file: skipped, mounts are not possible here")
        return
    try:
        same("a mounted file", (put(at("stay/mounted"), b"through").status,
                                content(at("stay/source"))), (200, b"through"))
        same("nothing hidden left", hidden(at("stay")), [])
    finally:
        subprocess.run(["umount", at("stay/mounted")], check=True)


def test_read_only():
    mount = at("ro")
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "none", mount],
                      stderr=subprocess.DEVNULL).returncode != 0:
        print("read-only: skipped, mounts are not possible here")
        return
    try:
        make("ro/f", b"old")
        subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
        for name in ("f", "new"):
            a = put(os.path.join(mount, name), b"x")
            check("read-only " + name, a.status == 500 and "read-only file system" in a.message,
                  a.body)
        same("still there", content(os.path.join(mount, "f")), b"old")
    finally:
        subprocess.run(["umount", mount], check=True)


def test_full_disk():
    """All kinds of bodies, with and without a known length: the old file stays, nothing is left."""
    mount = at("full")
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", mount],
                      stderr=subprocess.DEVNULL).returncode != 0:
        print("full disk: skipped, mounts are not possible here")
        return
    path, big = os.path.join(mount, "f"), b"b" * (6 << 20)
    octets = {"Content-Type": "application/octet-stream"}
    try:
        same("fits", put(path, b"old").status, 200)
        chunked = ask("POST", "/files", iter([big[:1 << 20]] * 6),
                      {**octets, "Transfer-Encoding": "chunked"}, {"path": path}, chunked=True)
        known = put(path, big)
        form = post_multipart([("file", path, big)])
        full = "not enough disk space available"
        for what, a, text in (("chunked", chunked, full), ("form", form, full),
                              ("known", known, f"attempted to write {len(big)} bytes: {full}")):
            same("full disk, " + what, (a.status, a.message), (507, text))
            same("old content after " + what, (content(path), os.listdir(mount)), (b"old", ["f"]))
        # it fills up while the body, whose length is known, is on its way
        s, _ = start_upload(os.path.join(mount, "g"), 3 << 20, b"g" * (1 << 20))
        time.sleep(0.1)
        with open(os.path.join(mount, "filler"), "wb") as f:
            f.write(b"." * (5 << 19))
        s.sendall(b"g" * (2 << 20))
        same("filled meanwhile", answer_of(s)[0], 507)
        s.close()
        os.remove(os.path.join(mount, "filler"))
        same("nothing of it", os.listdir(mount), ["f"])
        parts = []
        for i in range(3):
            parts.append(os.path.join(mount, str(i)))
            same("a part fits", put(parts[-1], b"p" * (1 << 20)).status, 200)
        a = base.compose(source_paths=parts, destination=os.path.join(mount, "whole"))
        same("compose", (a.status, a.message), (507, full))
        same("parts remain", sorted(os.listdir(mount)), ["0", "1", "2", "f"])
    finally:
        subprocess.run(["umount", mount], check=True)


def test_refused_midway():
    """A client that is still sending gets the reason: before its body, or in the middle of it."""
    for what, head, status in (
            ("directory", upload_head(base.TOP, "Content-Length: 50000000"), 400),
            ("type", upload_head(at("x"), "Content-Length: 50000000", kind="text/plain"), 400),
            ("bad part", upload_head(at("x"), "Content-Length: 50000000",
                                     kind="multipart/form-data; boundary=b"), 400)):
        body = b"--b\r\nNo header: " + b"x" * (20 << 10)
        with socket.create_connection(("127.0.0.1", base.PORT), timeout=20) as s:
            s.sendall(head.encode() + body)
            same("refused: " + what, answer_of(s)[0], status)
    # what is small is read to its end, and the connection goes on
    conn = http.client.HTTPConnection("127.0.0.1", base.PORT, timeout=20)
    for path, status in ((base.TOP, 400), (at("after-error"), 200), (at("fifo"), 400),
                         (at("after-error"), 200)):
        conn.request("POST", "/files?path=" + quote(path), b"x" * 100000,
                     {"Content-Type": "application/octet-stream"})
        port = conn.sock.getsockname()[1]
        response = conn.getresponse()
        response.read()
        same("kept connection", (response.status, conn.sock and conn.sock.getsockname()[1]),
             (status, port))
    conn.close()


def test_bad_requests():
    for what, lines in (
            ("negative length", ["Content-Length: -1"]), ("not a length", ["Content-Length: 1x"]),
            ("beyond 64 bits", ["Content-Length: 99999999999999999999"]),
            ("two lengths", ["Content-Length: 1", "Content-Length: 2"]),
            ("length and chunks", ["Content-Length: 1", "Transfer-Encoding: chunked"])):
        status, _ = raw(upload_head(at("bad"), *lines), b"x")
        same(what, status, 400)
    chunked = upload_head(at("bad"), "Transfer-Encoding: chunked")
    for what, body in (("no hex", b"zz\r\n"), ("huge", b"fffffffffffffffff\r\n"),
                       ("no CRLF after data", b"1\r\nab\r\n0\r\n\r\n")):
        status, _ = raw(chunked, body)
        same("chunks: " + what, status, 400)
    check("no file of it", not os.path.exists(at("bad")))
    huge = upload_head(at("bad"), f"Content-Length: {1 << 62}")
    status, text = raw(huge, b"x")
    same("4 EiB", status, 507)


def test_bad_multipart():
    form = "multipart/form-data; boundary=b"
    disposition = b'Content-Disposition: form-data; name="file"'
    target = b'; filename="' + at("mpbad").encode() + b'"\r\n\r\n'
    for what, kind, body in (
            ("no boundary", "multipart/form-data", b""),
            ("empty boundary", "multipart/form-data; boundary=", b"--\r\n"),
            ("long boundary", "multipart/form-data; boundary=" + "b" * 300, b""),
            ("open quote", 'multipart/form-data; boundary="b', b"--b--"),
            ("nothing", form, b""), ("text only", form, b"hello"),
            ("cut in a head", form, b"--b\r\n" + disposition),
            ("cut in the body", form, b"--b\r\n" + disposition + target + b"data"),
            ("cut in the boundary", form, b"--b\r\n" + disposition + target + b"data\r\n--b"),
            ("giant head", form, b"--b\r\nX: " + b"y" * 20000 + b"\r\n\r\n\r\n--b--"),
            ("NUL in a head", form, b"--b\r\n" + disposition + b'; filename="a\0b"\r\n\r\n\r\n--b--'),
            ("bad disposition", form, b'--b\r\nContent-Disposition: form-data; name="file\r\n\r\n\r\n--b--')):
        a = ask("POST", "/files", body, {"Content-Type": kind})
        same("multipart: " + what, a.status, 400)
    check("no file of it", not os.path.exists(at("mpbad")))
    inner = multipart([("file", at("mpbad"), b"inner")], boundary="in")
    a = post_multipart([("file", at("nested"), inner)])
    same("a form inside a form is content", (a.status, content(at("nested")) == inner), (200, True))
    name = "x" * 200 + "\u00e9"
    a = ask("POST", "/files", b"--b\r\n" + disposition + b"; filename*=utf-8''"
            + quote(at(name)).encode() + b"\r\n\r\ndata\r\n--b--\r\n", {"Content-Type": form})
    same("extended file name", (a.status, content(at(name))), (200, b"data"))
    a = ask("POST", "/files", b"preamble\r\n--b \t\r\n" + disposition + b'; filename="'
            + at("epi").encode() + b'"\r\n\r\n\r\n--bogus\r\n\r\n--b--\r\nepilogue',
            {"Content-Type": form})
    same("preamble, padding, epilogue", (a.status, content(at("epi"))), (200, b"\r\n--bogus\r\n"))
    many = [("file", at("mpmany", str(i)), str(i).encode()) for i in range(500)]
    a = post_multipart(many)
    same("500 files", (a.status, len(a.json), content(at("mpmany/499"))), (200, 500, b"499"))
    a = ask("POST", "/files", multipart([("file", "rel/ative", b"r")]),
            {"Content-Type": "multipart/form-data; boundary=bOuNd"}, {"username": "nobody"})
    check("relative to a home", a.status in (200, 500), a.body)  # nobody's home does not exist


def test_metadata_rules():
    a = put(at("md"), b"x", {"X-Metadata-Umlaut": "\u00e4"})
    same("not ASCII", (a.status, a.message[:17]), (400, "invalid metadata:"))
    check("nothing was written", not os.path.exists(at("md")))
    try:
        os.setxattr(make("probe"), "user.probe", b"1")
    except OSError:
        return
    conn = http.client.HTTPConnection("127.0.0.1", base.PORT, timeout=20)
    conn.putrequest("POST", "/files?path=" + quote(at("md")))
    for name, value in (("Content-Type", "application/octet-stream"), ("Content-Length", "0"),
                        ("X-Metadata-K", "first"), ("x-metadata-k", "second")):
        conn.putheader(name, value)
    conn.endheaders()
    same("the first counts", conn.getresponse().read().count(b'"k":"first"'), 1)
    conn.close()
    a = post_multipart([("file", at("md1"), b"1"), ("file", at("md2"), b"2")], {"X-Metadata-A": "b"})
    same("for all files", [row["metadata"] for row in a.json], [{"a": "b"}] * 2)


# ---- Watchers, clients that leave, idle ones ----


def test_watched_replacement():
    """A large file that is replaced, and one with many writes: no hidden name, a write at the end."""
    os.mkdir(at("wt"))
    make("wt/f", b"old", mode=0o600)
    w = Stream(path=at("wt"))
    w.message()
    put(at("wt/f"), b"n" * 5000000)
    put(at("wt/new"), b"n" * 5000000)
    os.link(at("wt/f"), at("wt/last"))
    seen = w.until("CREATE", "last")
    check("write on each name", ("WRITE", "f") in seen and ("WRITE", "new") in seen, seen)
    same("no other names", {name for _, name in seen}, {"f", "new", "last"})
    w.close()


def test_killed():
    """kill -9 in the middle of uploads leaves the old files and nothing else."""
    main_port, base.PORT = base.PORT, base.free_port()
    envd = base.start_envd("--listen", f"127.0.0.1:{base.PORT}", "--insecure")
    try:
        make("killed/old", b"old")
        socks = [start_upload(at("killed", name), 1 << 20, b"n" * 500000, kind)[0]
                 for name, kind in (("old", "raw"), ("new", "raw"), ("form", "form"))]
        time.sleep(0.3)
        envd.kill()
        envd.wait()
        for s in socks:
            s.close()
        same("after a kill", (os.listdir(at("killed")), content(at("killed/old"))), (["old"], b"old"))
    finally:
        if envd.poll() is None:
            envd.kill()
        base.PORT = main_port


def test_idle():
    main_port, base.PORT = base.PORT, base.free_port()
    envd = base.start_envd("--listen", f"127.0.0.1:{base.PORT}", "--insecure", "--idle-timeout", "2")
    try:
        make("idle/large", b"l" * (32 << 20))
        stuck, _ = start_upload(at("idle/stuck"), 1000, b"1")
        slow, _ = start_upload(at("idle/slow"), 6, b"1")
        reader = socket.create_connection(("127.0.0.1", base.PORT), timeout=20)
        reader.sendall(f"GET /files?path={quote(at('idle/large'))} HTTP/1.1\r\nHost: x\r\n\r\n"
                       .encode())
        for _ in range(5):
            time.sleep(1)
            slow.sendall(b"2")
        same("slow but moving", (answer_of(slow)[0], content(at("idle/slow"))), (200, b"122222"))
        try:
            same("a body that stands still", stuck.recv(100), b"")
        except ConnectionResetError:
            pass
        got = 0
        try:
            while data := reader.recv(1 << 20):
                got += len(data)
        except ConnectionResetError:
            pass
        check("an answer that nobody takes", got < 32 << 20, got)
        same("nothing of it", sorted(os.listdir(at("idle"))), ["large", "slow"])
        for s in (stuck, slow, reader):
            s.close()
    finally:
        base.stop_envd(envd)
        base.PORT = main_port


def test_fair():
    """More endless clients than workers: a small request gets its turn."""
    stop = threading.Event()

    big = make("fair.bin")
    with open(big, "r+b") as f:
        f.truncate(64 << 30)

    def pull():
        with socket.create_connection(("127.0.0.1", base.PORT), timeout=20) as s:
            s.sendall(f"GET /files?path={quote(big)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while not stop.is_set() and s.recv(1 << 20):
                pass

    threads = [threading.Thread(target=pull) for _ in range(70)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    began = time.monotonic()
    for _ in range(3):
        same("small beside endless", put(at("fair.small"), b"x").status, 200)
    took = time.monotonic() - began
    stop.set()
    for thread in threads:
        thread.join()
    print(f"3 small uploads beside 70 endless downloads: {took:.2f} s")
    check("small ones get their turn", took < 15, took)
    os.remove(big)


def test_no_thread():
    """While the sandbox may have no more threads a transfer waits; then it is served."""
    uid, path = 54321, make("threads.txt", b"text")
    main_port, base.PORT = base.PORT, base.free_port()
    os.chmod(base.TOP, 0o755)

    def drop():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)

    with open(base.ENVD, "rb") as f: # a copy which that user may run
        program = make("envd", f.read(), mode=0o755)
    envd = subprocess.Popen([program, "--listen", f"127.0.0.1:{base.PORT}", "--insecure"],
                            preexec_fn=drop)

    def allow(threads):
        child = os.fork()  # root without CAP_SYS_RESOURCE may not do it for another user
        if child == 0:
            try:
                drop()
                resource.prlimit(envd.pid, resource.RLIMIT_NPROC, (threads, 500))
            except OSError:
                os._exit(1)
            os._exit(0)
        same("limit", os.waitpid(child, 0)[1], 0)

    try:
        for _ in range(200):
            try:
                if ask("GET", "/health").status == 204:
                    break
            except OSError:
                time.sleep(0.05)
        allow(1)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(get(path, username="root")))
        thread.start()
        time.sleep(0.5)
        same("no thread, no answer", answers, [])
        same("the loop goes on", ask("GET", "/health").status, 204)
        allow(500)
        thread.join()
        same("served in the end", (answers[0].status, answers[0].body), (200, b"text"))
    finally:
        base.stop_envd(envd)
        base.PORT = main_port


TESTS = [test_methods, test_far_range, test_range_forms, test_conditions, test_types,
         test_odd_targets, test_what_stays, test_read_only, test_full_disk, test_refused_midway,
         test_bad_requests, test_bad_multipart, test_metadata_rules, test_watched_replacement,
         test_killed, test_idle, test_fair, test_no_thread]


if __name__ == "__main__":
    base.TESTS = [globals()[name] for name in sys.argv[1:]] or TESTS
    sys.exit(base.main())
