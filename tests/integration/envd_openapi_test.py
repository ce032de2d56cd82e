#!/usr/bin/env python3
"""What envd answers is what openapi/envd.yaml says: status, content type, form of the JSON.

The file is YAML that is also JSON, so the standard library reads it. Each call of CALLS goes to
`$ENVD --listen 127.0.0.1:PORT --insecure`; each operation of the file must be called at least once.
"""
import base64
import contextlib
import ctypes
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from urllib.parse import quote

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lib  # noqa: E402

OUT = os.environ.get("SANDPIT_OUT") or os.environ.get("OUT") or "build/release"
ENVD = os.environ.get("ENVD") or os.path.join(OUT, "envd")
CAP_SYS_ADMIN = 21
PR_CAPBSET_DROP = 24
NOBODY = {"Authorization": "Basic " + base64.b64encode(b"no-such-user:").decode()}
PYTHON_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool,
                "number": (int, float), "null": type(None)}

# Headers of HTTP and of the Connect protocol, and what an error keeps of the answer it replaces.
ANYWHERE = {"content-type", "content-length", "date", "connection", "transfer-encoding", "vary",
            "x-content-type-options", "cache-control", "connect-accept-encoding",
            "content-disposition", "last-modified", "accept-ranges", "x-envd-version"}

with open(os.path.join(lib.ROOT, "openapi", "envd.yaml")) as file:
    SPEC = json.load(file)


def resolve(part):
    while "$ref" in part:
        node = SPEC
        for name in part["$ref"].removeprefix("#/").split("/"):
            node = node[name]
        part = node
    return part


def check(schema, value, where):
    """The part of JSON Schema that the file uses for answers."""
    schema = resolve(schema)
    if "anyOf" in schema:
        failures = []
        for option in schema["anyOf"]:
            try:
                return check(option, value, where)
            except AssertionError as failure:
                failures.append(str(failure))
        raise AssertionError(f"{where}: {value!r} is none of it: {failures}")
    types = schema.get("type", [])
    types = types if isinstance(types, list) else [types]
    if types:
        fits = any(isinstance(value, PYTHON_TYPES[name]) and
                   not (isinstance(value, bool) and name != "boolean") for name in types)
        assert fits, f"{where}: {value!r} is no {types}"
    assert value in schema.get("enum", [value]), f"{where}: {value!r}"
    if isinstance(value, list) and "items" in schema:
        for item in value:
            check(schema["items"], item, where + "[]")
    if isinstance(value, dict):
        check_object(schema, value, where)


def check_object(schema, value, where):
    missing = set(schema.get("required", [])) - value.keys()
    assert not missing, f"{where}: {missing} missing"
    for name, item in value.items():
        inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
        if inner is not None:
            check(inner, item, f"{where}.{name}")
        else:
            assert "properties" not in schema, f"{where}: {name} is not in the file"


def media_type(wanted, kind):
    return "*/*" if "*/*" in wanted else (kind or "").split(";")[0]


def check_answer(operation, status, headers, body):
    where = f"{operation['operationId']} {status}"
    response = operation["responses"].get(str(status))
    assert response is not None, f"{where} is not in the file: {body[:300]!r}"
    response = resolve(response)
    for name in headers:
        known = ANYWHERE | {header.lower() for header in response.get("headers", {})}
        assert name.lower() in known, f"{where}: header {name}"
    wanted = response.get("content")
    if not wanted:
        assert body == b"" and headers["Content-Type"] is None, f"{where}: {body[:300]!r}"
        return
    kind = media_type(wanted, headers["Content-Type"])
    assert kind in wanted, f"{where}: type {headers['Content-Type']}"
    if kind == "application/json":
        check(wanted[kind]["schema"], json.loads(body), where)


def rpc(name, message, status=200, headers=None):
    return ("POST", "/" + name, message if isinstance(message, bytes) else json.dumps(message),
            {"Content-Type": "application/json", **(headers or {})}, status)


def stream(name, message, status=200, headers=None):
    return ("POST", "/" + name, lib.envelope(message),
            {"Content-Type": "application/connect+json", **(headers or {})}, status)


def calls(folder):
    """(method, path, body, headers, status) by which each operation is tried."""
    file, other = folder + "/file", folder + "/other"
    octets = {"Content-Type": "application/octet-stream"}
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    part = ('--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\nx\r\n--b--\r\n'
            % other)
    selector = {"process": {"pid": 4194304}}
    got = f"/files?path={quote(file)}"
    P, F = "process.Process/", "filesystem.Filesystem/"
    return [
        ("GET", "/health", None, {}, 204),
        ("GET", "/health", None, NOBODY, 401),
        ("GET", "/health", "x", {}, 413),
        ("GET", "/envs", None, {}, 200),
        ("GET", "/env", None, {}, 200),
        ("GET", "/metrics", None, {"Origin": "http://x"}, 200),
        ("POST", "/upgrade", b"x", octets, 409),
        ("POST", "/init", json.dumps({"envVars": {"A": "b"}}), {}, 204),
        ("POST", "/init", "{", {}, 400),
        ("POST", "/init", "x" * ((1 << 20) + 1), {}, 413),
        ("POST", "/upgrade", b"no program", octets, 400),
        ("POST", got, "hello", {**octets, "X-Metadata-Colour": "red"}, 200),
        ("POST", "/files", part, form, 200),
        ("POST", got, "hello", {}, 400),
        ("POST", got + "&username=no-such-user", "hello", octets, 401),
        ("GET", got, None, {}, 200),
        ("GET", got, None, {"Accept-Encoding": "gzip, identity;q=0"}, 200),
        ("GET", got, None, {"Range": "bytes=1-2"}, 206),
        ("GET", got, None, {"Range": "bytes=0-0,2-2"}, 206),
        ("GET", got, None, {"If-None-Match": "*"}, 304),
        ("GET", f"/files?path={folder}", None, {}, 400),
        ("GET", got, None, NOBODY, 401),
        ("GET", got + "x", None, {}, 404),
        ("GET", got, None, {"Accept-Encoding": "identity;q=0"}, 406),
        ("GET", got, None, {"If-Match": '"x"'}, 412),
        ("GET", got, None, {"Range": "bytes=99-"}, 416),
        ("GET", "/files?path=/proc/self/status", None, {}, 200),
        ("POST", "/files/compose", json.dumps({"source_paths": [file, other],
                                               "destination": folder + "/both"}), {}, 200),
        ("POST", "/files/compose", "{}", {}, 400),
        ("POST", "/files/compose", json.dumps({"source_paths": [file], "destination": "x"}), {},
         404),
        ("POST", "/freeze", None, {}, 501),
        ("POST", "/freeze?maxWaitMs=x", None, {}, 400),
        ("POST", "/unfreeze", None, {}, 501),
        ("POST", "/collapse", None, {}, 200),  # no process, nothing to do
        ("GET", "/stats", None, {}, 200),
        rpc(P + "List", {}),
        rpc(P + "List", "", 400),
        rpc(P + "List", {}, 401, NOBODY),
        rpc(P + "List", {}, 415, {"Content-Type": "text/plain"}),
        rpc(P + "List", {}, 501, {"Content-Encoding": "br"}),
        rpc(P + "List", b" " * (4 << 20), 429),
        ("GET", f"/{P}List?encoding=json&message=%7B%7D", None, {}, 200),
        ("GET", f"/{P}List", None, {}, 415),
        stream(P + "Start", {"process": {"cmd": "/bin/true"}}),
        stream(P + "Start", {}, 415, {"Content-Type": "application/json"}),
        stream(P + "Start", {"process": {"cmd": "/bin/cat"}, "tag": "t"}, 200,
               {"Connect-Timeout-Ms": "500", "Sandpit-Hold": "60"}),
        stream(P + "Connect", {"process": {"tag": "t"}}, 200,
               {"Sandpit-Replay-From": "stdout=0, stderr=0"}),
        stream(P + "StreamInput", {"start": selector}),
        rpc(P + "Update", selector, 404),
        rpc(P + "Update", selector, 404, {"Sandpit-Acknowledge": "stdout=1"}),
        rpc(P + "SendInput", {**selector, "input": {"stdin": ""}}, 404),
        rpc(P + "SendInput", {**selector, "input": {"stdin": ""}}, 404,
            {"Sandpit-Input-Offset": "0"}),
        rpc(P + "SendSignal", {**selector, "signal": "SIGNAL_SIGTERM"}, 404),
        rpc(P + "CloseStdin", selector, 404),
        rpc(F + "Stat", {"path": folder}),
        rpc(F + "Stat", {"path": file}, 404),
        ("GET", f"/{F}Stat?encoding=json&message={quote(json.dumps({'path': folder}))}", None, {},
         200),
        rpc(F + "MakeDir", {"path": folder + "/a"}),
        rpc(F + "MakeDir", {"path": folder + "/a"}, 409),
        rpc(F + "Move", {"source": folder + "/a", "destination": folder + "/b"}),
        rpc(F + "Move", {"source": folder + "/a", "destination": folder + "/b"}, 404),
        rpc(F + "ListDir", {"path": folder, "depth": 1}),
        rpc(F + "ListDir", {"path": file, "depth": 1}, 404),
        ("GET", f"/{F}ListDir?encoding=json&message={quote(json.dumps({'path': folder}))}", None,
         {}, 200),
        rpc(F + "Remove", {"path": folder + "/b"}),
        rpc(F + "CreateWatcher", {"path": folder}),
        rpc(F + "CreateWatcher", {"path": file}, 404),
        rpc(F + "GetWatcherEvents", {"watcherId": "none"}, 404),
        rpc(F + "RemoveWatcher", {"watcherId": "none"}, 404),
        stream(F + "WatchDir", {"path": folder}, 200, {"Connect-Timeout-Ms": "200"}),
        ("POST", "/fsthaw", None, {}, None),
    ]


def lose_sys_admin():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) != 0:
        os._exit(111)


class EnvdOpenapi(unittest.TestCase):
    def start(self, *flags, **options):
        self.port = lib.free_ports(1)[0]
        proc = subprocess.Popen([ENVD, "--listen", f"127.0.0.1:{self.port}", *flags],
                                stderr=subprocess.DEVNULL, **options)
        self.addCleanup(self.stop, proc)
        lib.wait_until("envd", 20 * lib.time_factor(), self.listens)
        return proc

    def start_harmless(self, *flags, **options):
        """One that cannot freeze the file system of this machine, whatever it is asked."""
        root = os.getuid() == 0
        proc = self.start(*flags, preexec_fn=lose_sys_admin if root else None, **options)
        with open(f"/proc/{proc.pid}/status") as status:
            mask = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
        self.assertEqual(mask >> CAP_SYS_ADMIN & 1, 0)

    def stop(self, proc):
        proc.send_signal(signal.SIGTERM)
        self.assertEqual(proc.wait(20 * lib.time_factor()), 0)

    def listens(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True

    def call(self, method, path, body, headers, status):
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * lib.time_factor())
        with contextlib.closing(conn):
            conn.request(method, path, body=body, headers=headers)
            answer = conn.getresponse()
            data = answer.read()
        operation = SPEC["paths"][path.split("?")[0]][method.lower()]
        with self.subTest(f"{method} {path} {headers}"):
            if status is not None:
                self.assertEqual(answer.status, status, data[:300])
            check_answer(operation, answer.status, NoCors(answer.headers), data)
        return operation["operationId"]

    def test_answers_are_as_the_file_says(self):
        self.start("--insecure")
        with tempfile.TemporaryDirectory() as folder:
            called = {self.call(*call) for call in calls(folder)}
        described = {operation["operationId"] for path in SPEC["paths"].values()
                     for operation in path.values()}
        self.assertEqual(described - called, {"fsfreeze"})  # not this machine's

    def test_without_the_privilege_no_file_system_is_frozen(self):
        if os.getuid() != 0:
            self.skipTest("needs root, to have a privilege that it can lose")
        self.start_harmless("--insecure")
        for path in "/fsfreeze", "/fsthaw":
            self.call("POST", path, None, {}, 501)

    def test_who_may_call_is_as_the_file_says(self):
        for config, closed in (
                ({"jwtKey": "01" * 32}, {"guarded", "files", "platform", "own"}),
                ({"accessToken": "x"}, {"guarded", "files", "platform", "own", "token"})):
            read, write = os.pipe()
            os.write(write, json.dumps(config).encode())
            os.close(write)
            self.start_harmless("--config-fd", str(read), pass_fds=[read])
            os.close(read)
            for path, methods in SPEC["paths"].items():
                for method, operation in methods.items():
                    refused = operation["x-sandpit-auth"] in closed
                    status = 401 if refused else 204 if path == "/health" else 200
                    self.call(method.upper(), path + "?path=/etc/passwd", None, {}, status)

    def test_what_is_not_described_is_not_there(self):
        self.start("--insecure")
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(conn):
            for method, path, wanted in (("GET", "/nothing", 404), ("PUT", "/files", 405),
                                         ("HEAD", "/health", 405)):
                conn.request(method, path)
                answer = conn.getresponse()
                answer.read()
                self.assertEqual((answer.status, answer.headers["Allow"] is not None),
                                 (wanted, wanted == 405))


class NoCors:
    """Headers without those that any answer may have (info.description says so)."""

    def __init__(self, headers):
        self.headers = headers

    def __iter__(self):
        return (name for name in self.headers if not name.lower().startswith("access-control-"))

    def __getitem__(self, name):
        return self.headers[name]


if __name__ == "__main__":
    lib.main()
