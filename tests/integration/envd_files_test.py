#!/usr/bin/env python3
"""The file side of envd as a client sees it: /files, filesystem.Filesystem, /metrics.

Starts `$ENVD --listen 127.0.0.1:PORT --insecure` as root, works in a temporary folder, prints one
line per failed check and `N passed, N failed` at its end.
"""
import base64
import email.utils
import gzip
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from urllib.parse import quote, urlencode

ENVD = os.environ.get("ENVD", "build/release/envd")
BIG = int(os.environ.get("ENVD_BIG_MIB", "200")) << 20
passed = failed = 0


ENVD_PID = None
SANITIZED = "asan" in ENVD or "tsan" in ENVD


def memory(pid):
    """Private memory of a process in KiB."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        rows = dict(line.split(":", 1) for line in f if line[:7] == "Private")
    return sum(int(value.split()[0]) for value in rows.values())


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


PORT = free_port()
TOP = tempfile.mkdtemp(prefix="envd-files-")


def check(what, ok, got=None):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {what}" + (f": {got!r}" if got is not None else ""), flush=True)


def same(what, got, want):
    check(what, got == want, (got, want))


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def message(self):
        return self.json.get("message")


def ask(method, path, body=None, headers=None, query=None, chunked=False):
    conn = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
    try:
        url = path + ("?" + urlencode(query) if query else "")
        conn.request(method, url, body, headers or {}, encode_chunked=chunked)
        return Answer(conn.getresponse())
    finally:
        conn.close()


def rpc(name, message, user=None, binary=None):
    headers = {"Content-Type": "application/json", "Connect-Protocol-Version": "1"}
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:".encode()).decode()
    return ask("POST", "/filesystem.Filesystem/" + name, json.dumps(message), headers)


def get(path, headers=None, **query):
    return ask("GET", "/files", None, headers, {"path": path, **query})


def put(path, data, headers=None, **query):
    headers = {"Content-Type": "application/octet-stream", **(headers or {})}
    return ask("POST", "/files", data, headers, {"path": path, **query})


def multipart(parts, boundary="bOuNd"):
    out = b""
    for name, filename, data in parts:
        disposition = f'form-data; name="{name}"'
        if filename is not None:
            disposition += f'; filename="{filename}"'
        out += (f"--{boundary}\r\nContent-Disposition: {disposition}\r\n"
                "Content-Type: application/octet-stream\r\n\r\n").encode() + data + b"\r\n"
    return out + f"--{boundary}--\r\n".encode()


def post_multipart(parts, headers=None, **query):
    headers = {"Content-Type": "multipart/form-data; boundary=bOuNd", **(headers or {})}
    return ask("POST", "/files", multipart(parts), headers, query)


def at(*names):
    return os.path.join(TOP, *names)


def content(path):
    with open(path, "rb") as f:
        return f.read()


def make(name, data=b"", mode=None):
    with open(at(name), "wb") as f:
        f.write(data)
    if mode is not None:
        os.chmod(at(name), mode)
    return at(name)


# ---- filesystem.Filesystem ----


def test_stat():
    path = make("stat.txt", b"hello", 0o640)
    os.utime(path, ns=(0, 1700000000_123456789))
    a = rpc("Stat", {"path": path})
    same("stat status", a.status, 200)
    e = a.json["entry"]
    same("stat entry", {k: e[k] for k in ("name", "type", "path", "size", "permissions", "mode",
                                         "owner", "group", "modifiedTime")},
         {"name": "stat.txt", "type": "FILE_TYPE_FILE", "path": path, "size": "5",
          "permissions": "-rw-r-----", "mode": 0o640, "owner": "root", "group": "root",
          "modifiedTime": "2023-11-14T22:13:20.123456789Z"})
    check("no symlink fields", "symlinkTarget" not in e and not e.get("isSymlink"))
    a = rpc("Stat", {"path": at("none")})
    same("missing", (a.status, a.json["code"], a.message),
         (404, "not_found", f"file not found: lstat {at('none')}: no such file or directory"))
    a = rpc("Stat", {"path": path + "/x"})
    same("below a file", (a.status, a.json["code"], a.message),
         (500, "internal", f"error getting file info: lstat {path}/x: not a directory"))
    a = rpc("Stat", {"path": "~other/x"})
    same("another's home", (a.status, a.json["code"]), (400, "invalid_argument"))
    same("another's home text", a.message, "failed to expand path '' for user 'root': "
         "cannot expand user-specific home dir")
    home = os.path.expanduser("~root")
    for path_, want in (("~", home), ("", home), ("~/", home), ("x/..", home), ("/", "/"),
                        (TOP + "//.", TOP + "//.")):
        same(f"path rule {path_!r}", rpc("Stat", {"path": path_}).json["entry"]["path"], want)


def test_links():
    make("target", b"12345", 0o600)
    os.symlink("target", at("link"))
    os.symlink("nowhere", at("broken"))
    e = rpc("Stat", {"path": at("link")}).json["entry"]
    same("link", (e["type"], e["isSymlink"], e["symlinkTarget"], e["permissions"], e["mode"],
                  e["size"]),
         ("FILE_TYPE_FILE", True, os.path.realpath(at("target")), "Lrwxrwxrwx", 0o600, "6"))
    e = rpc("Stat", {"path": at("broken")}).json["entry"]
    same("broken link", (e.get("type"), e["isSymlink"], e["symlinkTarget"], e.get("mode")),
         (None, True, at("broken"), None))
    os.mkfifo(at("fifo"))
    e = rpc("Stat", {"path": at("fifo")}).json["entry"]
    same("fifo", (e.get("type"), e["permissions"]), (None, "prw-r--r--"))


def test_make_dir():
    a = rpc("MakeDir", {"path": at("m/a/b")}, user="nobody")
    same("make_dir", (a.status, a.json["entry"]["type"], a.json["entry"]["permissions"],
                      a.json["entry"]["owner"]),
         (200, "FILE_TYPE_DIRECTORY", "drwxr-xr-x", "nobody"))
    st = os.stat(at("m"))
    same("parents", (st.st_uid, stat.S_IMODE(st.st_mode)), (65534, 0o755))
    a = rpc("MakeDir", {"path": at("m/a")})
    same("exists", (a.status, a.json["code"], a.message),
         (409, "already_exists", f"directory already exists: {at('m/a')}"))
    make("plain")
    a = rpc("MakeDir", {"path": at("plain")})
    same("is a file", (a.status, a.json["code"], a.message),
         (400, "invalid_argument",
          f"path already exists but it is not a directory: {at('plain')}"))
    a = rpc("MakeDir", {"path": at("plain/x")})
    same("parent is a file", (a.json["code"], a.message),
         ("internal", f"error getting file info: stat {at('plain/x')}: not a directory"))
    a = rpc("MakeDir", {"path": at("x")}, user="no-such-user")
    same("unknown user", (a.status, a.json["code"], a.message),
         (401, "unauthenticated", "invalid username: 'no-such-user'"))


def test_list():
    os.makedirs(at("l/d/e"))
    for name in ("l/b", "l/B", "l/.h", "l/d/x", "l/d/e/y"):
        make(name)
    os.symlink("d", at("l/s"))

    def names(**request):
        return [os.path.relpath(e["path"], at("l"))
                for e in rpc("ListDir", request).json.get("entries", [])]

    same("depth 0", names(path=at("l")), [".h", "B", "b", "d", "s"])
    same("depth 2", names(path=at("l"), depth=2), [".h", "B", "b", "d", "d/e", "d/x", "s"])
    same("depth 9", names(path=at("l"), depth=9),
         [".h", "B", "b", "d", "d/e", "d/e/y", "d/x", "s"])
    entries = rpc("ListDir", {"path": at("l/s"), "depth": 1}).json["entries"]
    same("through a link", entries[0]["path"], at("l/s/e"))
    same("empty", rpc("ListDir", {"path": at("m/a/b")}).json, {})
    a = rpc("ListDir", {"path": at("none")})
    same("missing", (a.status, a.json["code"]), (404, "not_found"))
    check("missing text", a.message.startswith("path not found: "), a.message)
    a = rpc("ListDir", {"path": at("plain")})
    same("file", (a.json["code"], a.message),
         ("invalid_argument", f"path is not a directory: {at('plain')}"))
    os.symlink("cycle", at("cycle"))
    a = rpc("ListDir", {"path": at("cycle")})
    same("cycle", (a.status, a.json["code"], a.message),
         (400, "failed_precondition", f"cyclic symlink or chain >255 links at \"{at('cycle')}\""))
    with open(os.path.join(at("l").encode(), b"bad\xff"), "w"):
        pass
    a = rpc("ListDir", {"path": at("l")})
    same("a name that is not UTF-8", (a.status, len(a.json["entries"])), (200, 6))
    os.remove(os.path.join(at("l").encode(), b"bad\xff"))


def test_many():
    os.mkdir(at("many"))
    for i in range(100000):
        os.close(os.open(at(f"many/{i:06d}"), os.O_CREAT | os.O_WRONLY))
    start = time.monotonic()
    a = rpc("ListDir", {"path": at("many")})
    took = time.monotonic() - start
    entries = a.json["entries"]
    same("100,000 entries", (len(entries), entries[-1]["name"]), (100000, "099999"))
    print(f"list of 100,000 entries: {took:.2f} s, {len(a.body) >> 20} MiB")
    start = time.monotonic()
    same("100,000 removed", rpc("Remove", {"path": at("many")}).status, 200)
    print(f"remove of 100,000 files: {time.monotonic() - start:.2f} s")
    check("gone", not os.path.exists(at("many")))


def test_move():
    make("from", b"1")
    a = rpc("Move", {"source": at("from"), "destination": at("mv/sub/to")}, user="nobody")
    same("move", (a.status, a.json["entry"]["path"], a.json["entry"]["name"]),
         (200, at("mv/sub/to"), "to"))
    same("parents' owner", os.stat(at("mv")).st_uid, 65534)
    make("from", b"2")
    rpc("Move", {"source": at("from"), "destination": at("mv/sub/to")})
    same("replaced", content(at("mv/sub/to")), b"2")
    a = rpc("Move", {"source": at("from"), "destination": at("mv/x")})
    same("missing", (a.status, a.json["code"]), (404, "not_found"))
    check("missing text", a.message.startswith("source file not found: "), a.message)
    a = rpc("Move", {"source": at("mv"), "destination": at("mv/sub/in")})
    same("into itself", (a.status, a.json["code"]), (500, "internal"))
    check("into itself text", a.message.startswith("error renaming: "), a.message)


def test_remove():
    os.makedirs(at("r/a/b"))
    make("r/a/f")
    os.symlink(at("m"), at("r/l"))
    same("remove", (rpc("Remove", {"path": at("r")}).status, os.path.exists(at("r"))),
         (200, False))
    check("link not followed", os.path.isdir(at("m/a")))
    a = rpc("Remove", {"path": at("r")})
    same("missing is fine", (a.status, a.json), (200, {}))
    fd = os.open(TOP, os.O_RDONLY)
    for _ in range(10000):
        os.mkdir("deep", dir_fd=fd)
        new = os.open("deep", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = new
    os.close(fd)
    same("10,000 levels", rpc("Remove", {"path": at("deep")}).status, 200)
    check("10,000 levels gone", not os.path.exists(at("deep")))


# ---- GET /files ----


def test_odd_requests():
    """Bad paths and files of other kinds: the right error, and nothing is changed."""
    os.makedirs(at("odd/full/in"))
    os.mkfifo(at("odd/fifo"))
    make("odd/file")
    os.symlink("loop", at("odd/loop"))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(at("odd/sock"))
    name = "n" * 256
    for call, request, status, code, text in (
            ("Stat", {"path": at("odd") + "\0x"}, 400, "invalid_argument", "NUL"),
            ("Stat", {"path": at("odd", name)}, 500, "internal", "file name too long"),
            ("Stat", {"path": "/x" * 2100}, 500, "internal", "error getting file info: lstat /x/x"),
            ("Stat", {"path": at("odd/loop/x")}, 500, "internal", "too many levels"),
            ("Stat", {"path": at("odd/none")}, 404, "not_found", "file not found: lstat "),
            ("Stat", {"path": at("odd/file/x")}, 500, "internal", "not a directory"),
            ("Stat", {"path": at("odd/fifo/")}, 500, "internal", "not a directory"),
            ("ListDir", {"path": at("odd/fifo")}, 400, "invalid_argument", "not a directory"),
            ("ListDir", {"path": at("odd/loop")}, 400, "failed_precondition", "cyclic symlink"),
            ("MakeDir", {"path": at("odd/fifo")}, 400, "invalid_argument", "not a directory"),
            ("MakeDir", {"path": at("odd/sock/x")}, 500, "internal", "not a directory"),
            ("Remove", {"path": at("odd/full/.")}, 500, "internal", "invalid argument"),
            ("Remove", {"path": at("odd/full/..")}, 500, "internal", "device or resource busy"),
            ("Remove", {"path": at("odd/full/in/../..")}, 500, "internal", "busy"),
            ("Remove", {"path": "/proc"}, 500, "internal", "device or resource busy"),
            ("Move", {"source": at("odd/file"), "destination": "/proc/x"}, 500, "internal",
             "error renaming: rename "),
            ("Move", {"source": at("odd/full"), "destination": at("odd/full/in/x")}, 500, "internal",
             "invalid argument"),
            ("Move", {"source": at("odd/none"), "destination": at("odd/new/x")}, 404, "not_found",
             "source file not found: "),
            ("CreateWatcher", {"path": at("odd/fifo")}, 400, "invalid_argument", "not a directory"),
            ("CreateWatcher", {"path": at("odd/loop")}, 500, "internal", "too many levels")):
        a = rpc(call, request)
        same(f"{call} {str(request)[:60]}", (a.status, a.json.get("code")), (status, code))
        check(f"{call} {str(request)[:60]}: its text", text in a.json.get("message", ""), a.json)
    same("nothing has changed", sorted(os.listdir(at("odd"))),
         ["fifo", "file", "full", "loop", "sock"])
    same("nothing was emptied", os.listdir(at("odd/full")), ["in"])
    kinds = {e["name"]: (e.get("type"), e["permissions"][0])
             for e in rpc("ListDir", {"path": at("odd")}).json["entries"]}
    same("kinds", kinds, {"fifo": (None, "p"), "sock": (None, "S"), "loop": (None, "L"),
                          "file": ("FILE_TYPE_FILE", "-"), "full": ("FILE_TYPE_DIRECTORY", "d")})
    same("a device", rpc("Stat", {"path": "/dev/null"}).json["entry"]["permissions"], "Dcrw-rw-rw-")


def test_names():
    """A name that is not UTF-8 cannot be told as it is; the list and the events still come."""
    os.mkdir(at("bytes"))
    watch = Stream(path=at("bytes"))
    watch.message()
    for name in (b"a\xffb", b"\xc3", "ü".encode()):
        open(os.path.join(os.fsencode(at("bytes")), name), "wb").close()
    same("list", [e["name"] for e in rpc("ListDir", {"path": at("bytes")}).json["entries"]],
         ["a\ufffdb", "\ufffd", "ü"])
    same("events", [watch.event()["name"] for _ in range(3)], ["a\ufffdb", "\ufffd", "ü"])
    watch.close()


def test_long_calls():
    """Removals of large trees leave short calls their threads."""
    for i in range(12):
        for j in range(40):
            os.makedirs(at(f"long/{i}/{j}"))
            for k in range(25):
                open(at(f"long/{i}/{j}/{k}"), "w").close()
    make("long.file")
    os.symlink("long.file", at("long.link"))  # a Stat that needs a worker
    done = []
    threads = [threading.Thread(target=lambda i=i: done.append(
        rpc("Remove", {"path": at(f"long/{i}")}).status)) for i in range(12)]
    for thread in threads:
        thread.start()
    worst = 0
    while any(t.is_alive() for t in threads):
        begun = time.monotonic()
        same("a short call meanwhile", rpc("Stat", {"path": at("long.link")}).status, 200)
        worst = max(worst, time.monotonic() - begun)
    for thread in threads:
        thread.join()
    same("removals", done, [200] * 12)
    same("all gone", os.listdir(at("long")), [])
    print(f"12 removals of 1,000 files: the slowest Stat meanwhile took {worst * 1000:.0f} ms")


def test_get():
    data = bytes(range(256)) * 40
    make("g.bin", data)
    a = get(at("g.bin"))
    same("get", (a.status, a.body == data, a.headers["Content-Length"],
                 a.headers["Accept-Ranges"], a.headers["Content-Type"],
                 a.headers["Content-Disposition"], a.headers["ETag"]),
         (200, True, str(len(data)), "bytes", "application/octet-stream",
          "inline; filename=g.bin", None))
    same("vary", a.headers["Vary"], "Accept-Encoding")
    same("last-modified", a.headers["Last-Modified"],
         email.utils.formatdate(int(os.stat(at("g.bin")).st_mtime), usegmt=True))
    make("empty")
    a = get(at("empty"))
    same("empty", (a.status, a.body, a.headers["Content-Length"]), (200, b"", "0"))
    make("page", b"<html>hi")
    same("sniffed", get(at("page")).headers["Content-Type"], "text/html; charset=utf-8")
    make("a.json", b"{}")
    same("by extension", get(at("a.json")).headers["Content-Type"], "application/json")
    make("gr\u00fc n.txt", b"x")
    same("rfc 2231", get(at("gr\u00fc n.txt")).headers["Content-Disposition"],
         "inline; filename*=utf-8''gr%C3%BC%20n.txt")
    a = get(at("none"))
    same("missing", (a.status, a.json), (404, {
        "code": 404, "message": f"path '{at('none')}' does not exist"}))
    a = get(TOP)
    same("directory", (a.status, a.message), (400, f"path '{TOP}' is a directory"))
    a = get(at("fifo"))
    same("fifo", (a.status, a.message), (400, f"path '{at('fifo')}' is not a regular file"))
    same("device", get("/dev/zero").status, 400)
    a = get(at("g.bin"), username="nobody-at-all")
    same("user", (a.status, a.message), (401, "error looking up user 'nobody-at-all': "
                                         "user: unknown user nobody-at-all"))
    same("other home", get("~x/y").status, 400)
    same("post only path", ask("PUT", "/files").status, 405)
    same("generated", get("/proc/self/stat").body[:1].isdigit(), True)
    check("link followed", get(at("link")).body == b"12345")


def test_ranges():
    data = bytes(range(100))
    path = make("range.bin", data)

    def ranged(value, **more):
        return get(path, {"Range": value, **more})

    for value, part, text in (("bytes=0-9", data[:10], "bytes 0-9/100"),
                              ("bytes=90-", data[90:], "bytes 90-99/100"),
                              ("bytes=-5", data[-5:], "bytes 95-99/100"),
                              ("bytes=50-1000", data[50:], "bytes 50-99/100")):
        a = ranged(value)
        same(value, (a.status, a.body, a.headers["Content-Range"], a.headers["Content-Length"]),
             (206, part, text, str(len(part))))
    a = ranged("bytes=0-1,10-12")
    kind, _, boundary = a.headers["Content-Type"].partition("; boundary=")
    same("several", (a.status, kind), (206, "multipart/byteranges"))
    same("several length", a.headers["Content-Length"], str(len(a.body)))
    parts = a.body.split(b"--" + boundary.encode())
    same("several parts", [p.partition(b"\r\n\r\n")[2][:-2] for p in parts[1:-1]],
         [data[0:2], data[10:13]])
    check("part head", b"Content-Range: bytes 10-12/100" in parts[2])
    a = ranged("bytes=100-")
    same("unsatisfiable", (a.status, a.headers["Content-Range"]), (416, "bytes */100"))
    same("malformed", ranged("bytes=x").status, 416)
    modified = get(path).headers["Last-Modified"]
    old = "Thu, 01 Jan 1998 00:00:00 GMT"
    same("if-range same", ranged("bytes=0-0", **{"If-Range": modified}).status, 206)
    same("if-range other", ranged("bytes=0-0", **{"If-Range": old}).status, 200)
    a = get(path, {"If-Modified-Since": modified})
    same("not modified", (a.status, a.body), (304, b""))
    same("modified", get(path, {"If-Modified-Since": old}).status, 200)
    same("unmodified", get(path, {"If-Unmodified-Since": modified}).status, 200)
    same("precondition", get(path, {"If-Unmodified-Since": old}).status, 412)


def test_encoding():
    path = make("enc.txt", b"text " * 1000)
    a = get(path, {"Accept-Encoding": "gzip, deflate, br"})
    same("identity preferred", (a.headers["Content-Encoding"], len(a.body)), (None, 5000))
    a = get(path, {"Accept-Encoding": "gzip, identity;q=0"})
    same("gzip when it must be", (a.headers["Content-Encoding"], gzip.decompress(a.body)),
         ("gzip", b"text " * 1000))
    a = get(path, {"Accept-Encoding": "br, identity;q=0"})
    same("none", a.status, 406)
    a = get(path, {"Accept-Encoding": "gzip, identity;q=0", "Range": "bytes=0-1"})
    same("gzip and range", a.status, 406)


# ---- POST /files ----


def test_raw():
    a = put(at("p/q/raw.txt"), b"content", username="nobody")
    same("raw", (a.status, a.json), (200, [
        {"path": at("p/q/raw.txt"), "name": "raw.txt", "type": "file"}]))
    st, dir_st = os.stat(at("p/q/raw.txt")), os.stat(at("p"))
    same("owners", (st.st_uid, stat.S_IMODE(st.st_mode), dir_st.st_uid,
                    stat.S_IMODE(dir_st.st_mode)), (65534, 0o644, 65534, 0o755))
    os.chmod(at("p/q/raw.txt"), 0o751)
    put(at("p/q/raw.txt"), b"new")
    st = os.stat(at("p/q/raw.txt"))
    same("overwritten", (content(at("p/q/raw.txt")), st.st_uid, stat.S_IMODE(st.st_mode)),
         (b"new", 0, 0o751))
    os.symlink("p/q/raw.txt", at("to-raw"))
    put(at("to-raw"), b"through")
    same("link followed", (content(at("p/q/raw.txt")), os.path.islink(at("to-raw"))),
         (b"through", True))
    put(at("empty-up"), b"")
    same("empty", content(at("empty-up")), b"")
    same("nothing left over", sorted(os.listdir(at("p/q"))), ["raw.txt"])
    a = ask("POST", "/files", b"x", {"Content-Type": "application/octet-stream"})
    same("no path", (a.status, a.message),
         (400, "path query parameter is required for raw body upload"))
    a = put(TOP, b"x")
    same("directory", (a.status, a.message), (400, f"path is a directory: {TOP}"))
    a = put(at("p/q/raw.txt/x"), b"x")
    same("parent is a file", (a.status, a.message),
         (500, f"error ensuring directories: path is a file: {at('p/q/raw.txt')}"))
    a = put(at("x"), b"x", username="no-one")
    same("user", (a.status, a.message),
         (401, "error looking up user 'no-one': user: unknown user no-one"))
    a = ask("POST", "/files", b"x", {"Content-Type": "text/plain"}, {"path": at("x")})
    same("type", (a.status, a.message),
         (400, "unsupported content type: text/plain, expected multipart/form-data or "
               "application/octet-stream"))
    a = ask("POST", "/files", iter([b"chunk", b"ed" * 100000]),
            {"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"},
            {"path": at("chunked")}, chunked=True)
    same("chunked", (a.status, content(at("chunked"))), (200, b"chunk" + b"ed" * 100000))


def test_gzip_body():
    packed = gzip.compress(b"z" * 3000000) + gzip.compress(b"tail")
    same("gzip", put(at("gz"), packed, {"Content-Encoding": "gzip"}).status, 200)
    same("gzip content", content(at("gz")), b"z" * 3000000 + b"tail")
    for name, body, encoding in (("broken", b"not gzip", "gzip"), ("cut", packed[:50], "gzip"),
                                 ("unknown", b"x", "br")):
        a = put(at("gz"), body, {"Content-Encoding": encoding})
        same(name, a.status, 400)
        check(name + " text", a.message.startswith("error decompressing request body: "),
              a.message)
    same("gzip old content", len(content(at("gz"))), 3000004)
    a = ask("POST", "/files", gzip.compress(multipart([("file", at("gzm"), b"in")])),
            {"Content-Type": "multipart/form-data; boundary=bOuNd", "Content-Encoding": "gzip"})
    same("gzip multipart", (a.status, content(at("gzm"))), (200, b"in"))


def test_multipart():
    a = post_multipart([("file", "ignored", b"one")], path=at("mp/one"))
    same("one", (a.status, a.json[0]["path"], content(at("mp/one"))), (200, at("mp/one"), b"one"))
    big = os.urandom(3 << 20) + b"\r\n--bOuN\r\n--bOuNdX"
    a = post_multipart([("file", at("mp/a b"), b"A"), ("other", "x", b"skip"),
                        ("file", at("mp/sub/big"), big), ("file", at("mp/none"), b"")])
    same("several", (a.status, [r["name"] for r in a.json]), (200, ["a b", "big", "none"]))
    check("several content", content(at("mp/a b")) == b"A" and content(at("mp/sub/big")) == big
          and content(at("mp/none")) == b"")
    a = post_multipart([("file", at("mp/twice"), b"1"), ("file", at("mp/twice"), b"2")])
    same("same target", a.status, 400)
    check("same target text", a.message.startswith(
        f"you cannot upload multiple files to the same path '{at('mp/twice')}' in one upload "
        "request, only the first specified file was uploaded"), a.message)
    same("first is kept", content(at("mp/twice")), b"1")
    same("no file part", (lambda x: (x.status, x.json))(post_multipart([("x", "y", b"")])),
         (200, []))
    a = ask("POST", "/files", b"--bOuNd\r\n\r\nx", {
        "Content-Type": "multipart/form-data; boundary=bOuNd"})
    same("cut multipart", a.status, 400)
    a = ask("POST", "/files", b"", {"Content-Type": "multipart/form-data"})
    same("no boundary", a.status, 400)


def test_metadata():
    a = put(at("meta"), b"x", {"X-Metadata-Key": "value", "X-Metadata-B": "2"})
    try:
        os.setxattr(at("meta"), "user.probe", b"1")
    except OSError:
        print("metadata: skipped, this file system keeps no attributes")
        return
    same("metadata", a.json[0].get("metadata"), {"key": "value", "b": "2"})
    e = rpc("Stat", {"path": at("meta")}).json["entry"]
    same("stat metadata", e.get("metadata"), {"key": "value", "b": "2"})
    a = put(at("meta"), b"x", {"X-Metadata-C": "3"})
    same("replaced", a.json[0].get("metadata"), {"c": "3"})
    same("foreign attribute kept", os.getxattr(at("meta"), "user.probe"), b"1")
    check("cleared", "metadata" not in put(at("meta"), b"x").json[0])
    a = put(at("meta"), b"x", {"X-Metadata-" + "k" * 247: "v"})
    check("key too long", a.status == 400 and a.message.startswith("invalid metadata: "), a.body)
    a = put(at("meta"), b"x", {"X-Metadata-A": "v" * 4090})
    check("too much", a.status == 400 and a.message.startswith("invalid metadata: "), a.body)


def test_cut_upload():
    put(at("whole"), b"old content")
    for body_type, head in (
            ("application/octet-stream", b""),
            ("multipart/form-data; boundary=bOuNd",
             b'--bOuNd\r\nContent-Disposition: form-data; name="file"\r\n\r\n')):
        with socket.create_connection(("127.0.0.1", PORT)) as s:
            s.sendall(f"POST /files?path={quote(at('whole'))} HTTP/1.1\r\nHost: x\r\n"
                      f"Content-Type: {body_type}\r\nContent-Length: 1000000\r\n\r\n".encode()
                      + head + b"n" * 500000)
            time.sleep(0.1)
        time.sleep(0.2)
        same(f"cut {body_type[:12]}", content(at("whole")), b"old content")
    check("nothing left", not [n for n in os.listdir(TOP) if n.startswith(".envd")],
          os.listdir(TOP))
    hard = at("hard")
    os.link(at("whole"), hard)
    put(at("whole"), b"both")
    same("hard link", content(hard), b"both")


def test_no_space():
    mount = at("small")
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=20", "none", mount],
                      stderr=subprocess.DEVNULL).returncode != 0:
        print("no space: skipped, tmpfs cannot be mounted here")
        return
    try:
        same("fits", put(os.path.join(mount, "f"), b"1" * 700000).status, 200)
        a = put(os.path.join(mount, "g"), b"2" * 2000000)
        same("too large", (a.status, a.message),
             (507, "attempted to write 2000000 bytes: not enough disk space available"))
        a = post_multipart([("file", os.path.join(mount, "g"), b"2" * 2000000)])
        same("too large, length unknown", (a.status, a.message),
             (507, "not enough disk space available"))
        same("nothing new", os.listdir(mount), ["f"])
        same("over the old one", put(os.path.join(mount, "f"), b"3" * 900000).status, 200)
        os.remove(os.path.join(mount, "f"))
        for i in range(30):
            a = put(os.path.join(mount, str(i)), b"")
            if a.status != 200:
                break
        check("inodes", a.status == 507 and a.message.startswith("not enough inodes available: "),
              a.body)
    finally:
        subprocess.run(["umount", mount], check=True)


def compose(**request):
    return ask("POST", "/files/compose", json.dumps(request), {"Content-Type": "application/json"})


def test_compose():
    parts = [make(f"part{i}", bytes([65 + i]) * (i * 100000)) for i in range(4)]
    whole = b"".join(content(p) for p in parts)
    a = compose(source_paths=parts, destination=at("co/whole"), username="nobody")
    same("compose", (a.status, a.json),
         (200, {"path": at("co/whole"), "name": "whole", "type": "file"}))
    same("composed", (content(at("co/whole")) == whole, os.stat(at("co/whole")).st_uid), (True,
                                                                                         65534))
    check("sources are gone", not any(os.path.exists(p) for p in parts))
    make("p1", b"1")
    for what, request, status, message in (
            ("no sources", {"source_paths": [], "destination": at("x")}, 400,
             "source_paths must not be empty"),
            ("no destination", {"source_paths": [at("p1")]}, 400, "destination is required"),
            ("missing", {"source_paths": [at("p1"), at("p2")], "destination": at("co/whole")}, 404,
             f"source file not found: {at('p2')}"),
            ("folder", {"source_paths": [at("co")], "destination": at("x")}, 400,
             f"source is not a regular file: {at('co')}"),
            ("itself", {"source_paths": [at("p1")], "destination": at("p1")}, 400,
             f"source and destination are the same file: {at('p1')}"),
            ("user", {"source_paths": [at("p1")], "destination": at("x"), "username": "nn"}, 401,
             "error looking up user 'nn': user: unknown user nn")):
        a = compose(**request)
        same("compose " + what, (a.status, a.message), (status, message))
    same("nothing changed", (content(at("p1")), content(at("co/whole")) == whole), (b"1", True))


def test_big():
    block = os.urandom(1 << 20)
    want = hashlib.sha256()
    path = at("big")
    conn = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
    for _ in range(BIG >> 20):
        want.update(block)
    start = time.monotonic()
    conn.putrequest("POST", "/files?path=" + quote(path))
    conn.putheader("Content-Type", "application/octet-stream")
    conn.putheader("Content-Length", str(BIG))
    conn.endheaders()
    for _ in range(BIG >> 20):
        conn.sock.sendall(block)
    status = conn.getresponse().read() and 200
    took = time.monotonic() - start
    print(f"upload of {BIG >> 20} MiB: {BIG / took / 1e6:.0f} MB/s")
    same("big upload", (status, os.path.getsize(path)), (200, BIG))
    conn.request("GET", "/files?path=" + quote(path))
    response = conn.getresponse()
    start, total, buffer = time.monotonic(), 0, bytearray(1 << 20)
    with open(at("big.copy"), "wb") as out:
        while n := response.readinto(buffer):
            out.write(memoryview(buffer)[:n])
            total += n
    took = time.monotonic() - start
    print(f"download of {BIG >> 20} MiB: {BIG / took / 1e6:.0f} MB/s (written by the client)")
    got = hashlib.sha256()
    with open(at("big.copy"), "rb") as f:
        while piece := f.read(1 << 20):
            got.update(piece)
    same("big download", (total, got.hexdigest()), (BIG, want.hexdigest()))
    conn.close()
    os.remove(at("big.copy"))
    start = time.monotonic()
    body = multipart([("file", path, b"X" * 64 * (1 << 20))])
    same("big multipart", ask("POST", "/files", body, {
        "Content-Type": "multipart/form-data; boundary=bOuNd"}).status, 200)
    print(f"multipart of 64 MiB: {len(body) / (time.monotonic() - start) / 1e6:.0f} MB/s")
    same("big multipart size", os.path.getsize(path), 64 << 20)


def test_parallel():
    errors = []

    def work(i):
        for k in range(20):
            path, data = at(f"par/{i}/{k}"), os.urandom(10000 + i)
            if put(path, data).status != 200 or get(path).body != data:
                errors.append(path)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    same("parallel", errors, [])


def start_upload(path, size, first, kind="raw"):
    """An upload that has sent FIRST of its SIZE bytes."""
    s = socket.create_connection(("127.0.0.1", PORT), timeout=30)
    head, tail = b"", b""
    content_type, more = "application/octet-stream", ""
    if kind == "form":
        head = b'--bOuNd\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        tail = b"\r\n--bOuNd--\r\n"
        content_type = "multipart/form-data; boundary=bOuNd"
    if kind == "gzip":
        more = "Content-Encoding: gzip\r\n"
    framing = f"Content-Length: {len(head) + size + len(tail)}"
    s.sendall(f"POST /files?path={quote(path)} HTTP/1.1\r\nHost: x\r\n{more}"
              f"Content-Type: {content_type}\r\n{framing}\r\n\r\n".encode() + head + first)
    return s, tail


def answer_of(sock):
    response = http.client.HTTPResponse(sock, method="POST")
    response.begin()
    return response.status, response.read()


def test_slow_clients():
    """200 slow uploads and 100 downloads that nobody reads: others do not notice."""
    count, size = 200, 300000
    before = memory(ENVD_PID)
    data = make("slow.bin", os.urandom(8 << 20))
    slow = [start_upload(at("slow", str(i)), size, b"a" * 1000, "form" if i % 2 else "raw")
            for i in range(count)]
    readers = [socket.create_connection(("127.0.0.1", PORT), timeout=30) for _ in range(100)]
    for s in readers:
        s.sendall(f"GET /files?path={quote(data)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    time.sleep(0.3)
    began = time.monotonic()
    fast = os.urandom(1 << 20)
    for i in range(10):
        same("fast beside slow", (put(at("fast"), fast).status, get(at("fast")).body == fast),
             (200, True))
    took = time.monotonic() - began
    check("slow clients hold nobody up", took < 5, took)
    grown = memory(ENVD_PID) - before
    print(f"300 slow clients: 10 fast ones took {took:.2f} s, {grown} KiB more memory")
    check("slow clients cost little memory", SANITIZED or grown < 8192, grown)
    for step in range(3):
        for s, _ in slow:
            s.sendall(bytes([98 + step]) * ((size - 1000) // 3))
    answers = []
    for s, tail in slow:
        s.sendall(b"z" * (size - 1000 - (size - 1000) // 3 * 3) + tail)
        answers.append(answer_of(s)[0])
        s.close()
    same("slow uploads end well", set(answers), {200})
    third = (size - 1000) // 3
    want = b"a" * 1000 + b"".join(bytes([98 + step]) * third for step in range(3))
    want += b"z" * (size - len(want))
    check("slow contents", all(content(at("slow", str(i))) == want for i in range(count)))
    for s in readers[:50]:
        s.close() # midway
    want = content(data)
    for s in readers[50:60]:
        response = http.client.HTTPResponse(s)
        response.begin()
        check("slow download", response.read() == want)
    for s in readers:
        s.close()


def test_many_transfers():
    """More than are begun at a time: the others wait for their turn, and nobody is refused."""
    slow = [start_upload(at("wait", str(i)), 100, b"1") for i in range(600)]
    other = socket.create_connection(("127.0.0.1", PORT), timeout=30)
    other.sendall(f"GET /files?path={quote(at('g.bin'))} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    same("rpc beside them", rpc("Stat", {"path": TOP}).status, 200)
    for s, _ in slow[:300]:
        s.sendall(b"2" * 99)
    same("in the end", answer_of(other)[0], 200)
    for s, _ in slow[300:]:
        s.sendall(b"2" * 99)
    same("all 600", {answer_of(s)[0] for s, _ in slow}, {200})
    for s, _ in slow:
        s.close()
    other.close()
    packed = gzip.compress(b"gz" * 1000)
    slow = [start_upload(at("wait-gz", str(i)), len(packed), packed[:20], "gzip")
            for i in range(100)]
    for s, _ in slow:
        s.sendall(packed[20:])
    same("100 packed ones", {answer_of(s)[0] for s, _ in slow}, {200})
    check("packed content", all(content(at("wait-gz", str(i))) == b"gz" * 1000 for i in range(100)))
    for s, _ in slow:
        s.close()


def test_metrics():
    a = ask("GET", "/metrics")
    same("metrics", a.status, 200)
    m = a.json
    check("metrics fields", set(m) == {"ts", "cpu_count", "cpu_used_pct", "mem_total", "mem_used",
                                       "mem_cache", "mem_total_mib", "mem_used_mib", "disk_used",
                                       "disk_total"}, m)
    check("metrics values", abs(m["ts"] - time.time()) < 5 and m["cpu_count"] > 0
          and 0 <= m["cpu_used_pct"] <= 100 and 0 < m["mem_used"] < m["mem_total"]
          and 0 < m["disk_used"] <= m["disk_total"]
          and m["mem_total_mib"] == m["mem_total"] >> 20, m)


# ---- Watching ----


class Stream:
    """A WatchDir call; events come as (type, name) or messages."""

    def __init__(self, headers=None, **request):
        self.sock = socket.create_connection(("127.0.0.1", PORT), timeout=20)
        message = json.dumps(request).encode()
        body = b"\0" + len(message).to_bytes(4, "big") + message
        more = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
        self.sock.sendall((f"POST /filesystem.Filesystem/WatchDir HTTP/1.1\r\nHost: x\r\n"
                           f"Content-Type: application/connect+json\r\n{more}"
                           f"Content-Length: {len(body)}\r\n\r\n").encode() + body)
        self.response = http.client.HTTPResponse(self.sock, method="POST")
        self.response.begin()

    def exact(self, n):
        out = b""
        while len(out) < n:
            piece = self.response.read(n - len(out))
            if not piece:
                raise EOFError
            out += piece
        return out

    def message(self):
        head = self.exact(5)
        return head[0], json.loads(self.exact(int.from_bytes(head[1:], "big")))

    def event(self):
        while True:
            flags, message = self.message()
            if flags == 0 and "filesystem" in message:
                return message["filesystem"]
            if flags == 2:
                return message

    def until(self, kind, name):
        """All events up to the one of that type and name."""
        seen = []
        while True:
            event = self.event()
            if "error" in event or not event:
                return seen + [event]
            seen.append((event["type"][len("EVENT_TYPE_"):], event["name"]))
            if seen[-1] == (kind, name):
                return seen

    def close(self):
        self.response.close()
        self.sock.close()


def poll_events(watcher):
    events = rpc("GetWatcherEvents", {"watcherId": watcher}).json.get("events", [])
    return [(e["type"][len("EVENT_TYPE_"):], e["name"]) for e in events]


def test_watch():
    os.makedirs(at("w/sub"))
    w = Stream(path=at("w"))
    same("start comes first", w.message(), (0, {"start": {}}))
    make("w/f", b"1")
    same("create and write", w.until("WRITE", "f"), [("CREATE", "f"), ("WRITE", "f")])
    os.chmod(at("w/f"), 0o600)
    same("chmod", w.until("CHMOD", "f")[-1], ("CHMOD", "f"))
    os.rename(at("w/f"), at("w/g"))
    same("rename", w.until("CREATE", "g"), [("RENAME", "f"), ("CREATE", "g")])
    make("w/sub/deep")
    os.remove(at("w/g"))
    same("not recursive", w.until("REMOVE", "g"), [("REMOVE", "g")])
    put(at("w/up"), b"new")
    same("upload of a new file", w.until("WRITE", "up"), [("CREATE", "up"), ("WRITE", "up")])
    put(at("w/up"), b"over")
    same("upload over a file", w.until("WRITE", "up"), [("CHMOD", "up"), ("WRITE", "up")])
    post_multipart([("file", at("w/mp"), b"")])
    same("upload of an empty file", w.until("WRITE", "mp"), [("CREATE", "mp"), ("WRITE", "mp")])
    w.close()


def test_watch_recursive():
    os.makedirs(at("wr/a/b"))
    w = Stream(path=at("wr"), recursive=True, includeEntry=True)
    w.message()
    make("wr/a/b/f", b"12")
    event = w.event()
    same("entry", (event["name"], event["entry"]["path"], event["entry"]["name"]),
         ("a/b/f", at("wr/a/b/f"), "f"))
    w.until("WRITE", "a/b/f")
    os.makedirs(at("wr/p/q/r"))
    same("new folders", w.until("CREATE", "p/q/r"),
         [("CREATE", "p"), ("CREATE", "p/q"), ("CREATE", "p/q/r")])
    time.sleep(0.2)
    make("wr/p/q/r/x", b"1")
    same("in a new folder", w.until("WRITE", "p/q/r/x"),
         [("CREATE", "p/q/r/x"), ("WRITE", "p/q/r/x")])
    os.rename(at("wr/p"), at("wr/moved"))
    same("moved folder", w.until("CREATE", "moved"), [("RENAME", "p"), ("CREATE", "moved")])
    time.sleep(0.2)
    make("wr/moved/q/r/y", b"1")
    same("in a moved folder", w.until("WRITE", "moved/q/r/y"),
         [("CREATE", "moved/q/r/y"), ("WRITE", "moved/q/r/y")])
    os.rename(at("wr/moved"), at("away"))
    w.until("RENAME", "moved")
    time.sleep(0.2)
    make("away/q/unseen", b"1")
    os.mkdir(at("wr/end"))
    seen = w.until("CREATE", "end")
    check("what moved away is not watched", ("CREATE", "moved/q/unseen") not in seen
          and ("CREATE", "end") in seen, seen)
    os.makedirs(at("wr/storm"))
    for i in range(300):
        os.makedirs(at(f"wr/storm/{i}/in"))
    names, event = [], {}
    while event.get("name") != "storm/299/in":
        event = w.event()
        names.append((event["type"], event["name"]))
    want = {f"storm/{i}" for i in range(300)} | {f"storm/{i}/in" for i in range(300)}
    got = [n for t, n in names if t == "EVENT_TYPE_CREATE"]
    check("a storm of folders: each is told", want <= set(got), sorted(want - set(got))[:5])
    check("a storm of folders: told once", len(got) == len(set(got)),
          [n for n in got if got.count(n) > 1][:5])
    w.close()


def test_watch_errors():
    w = Stream(path=at("none"))
    flags, end = w.message()
    same("missing", (flags, end["error"]["code"]), (2, "not_found"))
    check("missing text", end["error"]["message"].startswith(f"path {at('none')} not found: "))
    w.close()
    w = Stream(path=at("plain"))
    same("a file", w.message()[1]["error"],
         {"code": "invalid_argument",
          "message": f"path {at('plain')} not a directory: %!w(<nil>)"})
    w.close()
    w = Stream(headers={"Connect-Timeout-Ms": "300"}, path=TOP)
    w.message()
    same("timeout", w.event()["error"]["code"], "deadline_exceeded")
    w.close()
    w = Stream(headers={"Keepalive-Ping-Interval": "1"}, path=at("wr"))
    w.message()
    same("keepalive", w.message(), (0, {"keepalive": {}}))
    w.close()


def test_watch_polled():
    os.mkdir(at("wp"))
    a = rpc("CreateWatcher", {"path": at("wp"), "recursive": True})
    watcher = a.json["watcherId"]
    check("id", len(watcher) == 21 and watcher[0] == "w" and watcher.isalnum(), watcher)
    same("none yet", rpc("GetWatcherEvents", {"watcherId": watcher}).json, {})
    make("wp/f", b"1")
    time.sleep(0.2)
    same("events", poll_events(watcher), [("CREATE", "f"), ("WRITE", "f")])
    same("drained", poll_events(watcher), [])
    same("removed", rpc("RemoveWatcher", {"watcherId": watcher}).json, {})
    for name in ("GetWatcherEvents", "RemoveWatcher"):
        a = rpc(name, {"watcherId": watcher})
        same(name + " of none", (a.status, a.json["code"], a.message),
             (404, "not_found", f"watcher with id {watcher} not found"))
    a = rpc("CreateWatcher", {"path": at("none")})
    same("missing", (a.status, a.json["code"]), (404, "not_found"))
    many = [rpc("CreateWatcher", {"path": at("wp")}).json.get("watcherId") for _ in range(50)]
    check("50 watchers", all(many))
    for watcher in many:
        rpc("RemoveWatcher", {"watcherId": watcher})


# ---- Signatures: an envd with an access token ----


def sign(path, operation, user, token, expiration=None):
    text = f"{path}:{operation}:{user}:{token}" + (f":{expiration}" if expiration else "")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    query = {"signature": "v1_" + digest}
    if expiration:
        query["signature_expiration"] = expiration
    return query


def test_signatures():
    global PORT
    main_port, PORT = PORT, free_port()
    envd = start_envd("--listen", f"127.0.0.1:{PORT}")
    try:
        token, path = "s3cret-token", at("signed.txt")
        a = ask("POST", "/init", json.dumps({"accessToken": token}),
                {"Content-Type": "application/json"})
        same("init", a.status, 204)
        later, earlier = int(time.time()) + 100, int(time.time()) - 100
        for what, answer, status, message in (
                ("nothing", put(path, b"x"), 401, "missing signature query parameter"),
                ("wrong token", put(path, b"x", {"X-Access-Token": "no"}), 401,
                 "access token present in header but does not match"),
                ("token", put(path, b"by token", {"X-Access-Token": token}), 200, None),
                ("signature", put(path, b"signed", **sign(path, "write", "", token)), 200, None),
                ("read with write", get(path, **sign(path, "write", "", token)), 401,
                 "invalid signature"),
                ("other path", get(path, **sign(path + "x", "read", "", token)), 401,
                 "invalid signature"),
                ("other user", get(path, username="nobody", **sign(path, "read", "", token)), 401,
                 "invalid signature"),
                ("read", get(path, **sign(path, "read", "", token)), 200, None),
                ("user", get(path, username="nobody", **sign(path, "read", "nobody", token)), 200,
                 None),
                ("in time", get(path, **sign(path, "read", "", token, later)), 200, None),
                ("late", get(path, **sign(path, "read", "", token, earlier)), 401,
                 "signature is already expired")):
            same("signed: " + what, answer.status, status)
            if message:
                same("signed: " + what, answer.json, {"code": status, "message": message})
        same("not a number", get(path, **{**sign(path, "read", "", token),
                                          "signature_expiration": "soon"}).status, 400)
        same("content", content(path), b"signed")
        same("rpc needs the token", rpc("Stat", {"path": path}).status, 401)
    finally:
        stop_envd(envd)
        PORT = main_port


TESTS = [test_stat, test_links, test_make_dir, test_list, test_many, test_move, test_remove,
         test_odd_requests, test_names, test_long_calls,
         test_get, test_ranges, test_encoding, test_raw, test_gzip_body, test_multipart,
         test_metadata, test_cut_upload, test_no_space, test_compose, test_big, test_parallel,
         test_slow_clients, test_many_transfers,
         test_metrics, test_watch, test_watch_recursive, test_watch_errors, test_watch_polled,
         test_signatures]


def start_envd(*args):
    global ENVD_PID
    envd = subprocess.Popen([ENVD, *args])
    ENVD_PID = ENVD_PID or envd.pid
    for _ in range(200):
        try:
            if ask("GET", "/health").status == 204:
                break
        except OSError:
            time.sleep(0.05)
    return envd


def stop_envd(envd):
    if envd.poll() is not None:
        check("envd still runs", False, envd.returncode)
        return
    envd.send_signal(signal.SIGTERM)
    try:
        code = envd.wait(20)
        check("envd ends in order", code in (0, -signal.SIGTERM), code)
    except subprocess.TimeoutExpired:
        envd.kill()
        envd.wait()
        check("envd ends on SIGTERM", False)


def main():
    global failed
    envd = start_envd("--listen", f"127.0.0.1:{PORT}", "--insecure")
    try:
        for test in TESTS:
            try:
                test()
            except Exception:
                failed += 1
                print(f"FAILED: {test.__name__}\n{traceback.format_exc()}", flush=True)
            if envd.poll() is not None:
                break
    finally:
        stop_envd(envd)
        shutil.rmtree(TOP, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
