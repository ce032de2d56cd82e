#!/usr/bin/env python3
"""Who may call what of envd: every route, with and without tokens, users, CORS, and POST /init.

Prints one line per failed check and `N passed, N failed` at its end.
"""
import base64
import json
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import envd_test as base  # noqa: E402

same = base.same
TOKEN = "a" * 64
REFUSAL = {"code": 401, "message": "unauthorized access, please provide a valid access token "
                                   "or method signing if supported"}
GHOST = {"Authorization": "Basic " + base64.b64encode(b"ghost:").decode()}
UNARY = ["/process.Process/List", "/filesystem.Filesystem/Stat", "/filesystem.Filesystem/ListDir",
         "/filesystem.Filesystem/CreateWatcher"]
STREAMS = ["/process.Process/Start", "/process.Process/Connect",
           "/filesystem.Filesystem/WatchDir"]
GUARDED = [("GET", "/metrics"), ("GET", "/stats"), ("GET", "/envs"), ("POST", "/files/compose"), ("POST", "/freeze"),
           ("POST", "/unfreeze"), ("POST", "/collapse"), ("GET", "/nowhere"), ("PUT", "/health"),
           *(("POST", path) for path in UNARY)]
JSON = {"Content-Type": "application/json"}
STREAM = {"Content-Type": "application/connect+json"}
ENVELOPE = struct.pack(">BI", 0, 2) + b"{}"


def refused(what, answer):
    status, headers, body = answer
    same(f"{what}: status", status, 401)
    same(f"{what}: type", headers.get("content-type"), "application/json; charset=utf-8")
    same(f"{what}: words", json.loads(body or b"null"), REFUSAL)


def test_token(envd):
    """envd-api section 6.1."""
    right, wrong = {"X-Access-Token": TOKEN}, {"X-Access-Token": "b" * 64}
    for method, path in GUARDED:
        refused(f"{method} {path} without", envd.request(method, path, b"{}", JSON))
        refused(f"{method} {path} wrong", envd.request(method, path, b"{}", {**JSON, **wrong}))
    for path in STREAMS:
        refused(f"{path} without", envd.request("POST", path, ENVELOPE, STREAM))
    for headers in ({}, wrong, right):
        status, got, body = envd.request("GET", "/health", headers=headers)
        same("health is open", (status, got.get("cache-control"), body), (204, "no-store", b""))
    same("with it", envd.request("GET", "/envs", headers=right)[0], 200)
    same("a call with it", envd.unary("List", {}, right)[0], 200)
    status, _, body = envd.request("GET", "/nowhere", headers=right)
    same("unknown path", (status, body), (404, b"404 page not found\n"))
    status, headers, _ = envd.request("PUT", "/health", headers=right)
    same("wrong method", (status, headers.get("allow")), (405, "GET"))
    for method in ("GET", "POST"):
        status, _, body = envd.request(method, "/files?path=x", b"", wrong)
        same(f"{method} /files, wrong", (status, json.loads(body)["message"]),
             (401, "access token present in header but does not match"))
        status, _, body = envd.request(method, "/files?path=x", b"")
        same(f"{method} /files, none", (status, json.loads(body)["message"]),
             (401, "missing signature query parameter"))


def test_user(envd):
    """envd-api section 6.2: one that is not in passwd fails every route."""
    want = {"code": "unauthenticated", "message": "invalid username: 'ghost'"}
    for method, path in [("GET", "/health"), ("GET", "/nowhere"), ("POST", "/init"),
                         ("GET", "/metrics"), *(("POST", path) for path in UNARY)]:
        status, _, body = envd.request(method, path, b"{}", {**JSON, **GHOST})
        same(f"{method} {path}", (status, json.loads(body or b"null")), (401, want))
    for path in STREAMS:
        status, _, body = envd.request("POST", path, ENVELOPE, {**STREAM, **GHOST})
        same(f"{path}: status and flag", (status, body[:1]), (200, b"\x02"))
        same(f"{path}: words", json.loads(body[5:])["error"], want)


def test_cors(envd):
    """envd-api section 7.2."""
    origin = {"Origin": "http://x.test"}
    ask = {**origin, "Access-Control-Request-Method": "POST",
           "Access-Control-Request-Headers": "x-access-token,content-type"}
    for path in ("/health", "/process.Process/Start", "/init", "/nowhere"):
        status, headers, body = envd.request("OPTIONS", path, headers={**ask, **GHOST})
        same(f"preflight of {path}",
             (status, body, headers.get("access-control-allow-origin"),
              headers.get("access-control-allow-methods"),
              headers.get("access-control-allow-headers"), headers.get("access-control-max-age"),
              "access-control-allow-credentials" in headers),
             (204, b"", "*", "POST", "x-access-token,content-type", "7200", False))
    ask["Access-Control-Request-Method"] = "TRACE"
    same("no such method", envd.request("OPTIONS", "/health", headers=ask)[1].get(
        "access-control-allow-methods"), None)
    for path in ("/health", "/metrics"):
        headers = envd.request("GET", path, headers=origin)[1]
        same(f"answer of {path}, refused or not",
             (headers.get("access-control-allow-origin"), headers.get("vary"),
              headers.get("access-control-expose-headers")),
             ("*", "Origin", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, Location, "
                             "Cache-Control, X-Content-Type-Options, Sandpit-Offsets"))
        headers = envd.request("GET", path)[1]
        same("no origin", (headers.get("access-control-allow-origin"), headers.get("vary")),
             (None, "Origin"))


def test_init(envd):
    """envd-api section 7.3."""
    token = {}

    def init(what, want, message, words=None):
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        status, headers, text = envd.request("POST", "/init", body, JSON)
        same(what, status, want)
        same(f"{what}: headers", (headers.get("cache-control"), "x-envd-version" in headers),
             ("no-store", True))
        if words is not None:
            same(f"{what}: words", text.decode(), words)

    def envs():
        return json.loads(envd.request("GET", "/envs", headers=token)[2])

    init("empty body", 204, b"")
    init("bad JSON", 400, b"{")
    init("first token", 204, {"accessToken": TOKEN, "envVars": {"A": "1", "B": "2"}})
    refused("then it is asked for", envd.request("GET", "/envs"))
    token["X-Access-Token"] = TOKEN
    same("variables", {k: envs().get(k) for k in "AB"}, {"A": "1", "B": "2"})
    init("another token", 401, {"accessToken": "c" * 64}, "access token validation failed")
    init("no token", 401, {"envVars": {}}, "access token reset not authorized")
    init("empty body, later", 401, b"", "access token reset not authorized")
    same("refusals change nothing", {k: envs().get(k) for k in "AB"}, {"A": "1", "B": "2"})
    init("replaced", 204, {"accessToken": TOKEN, "envVars": {"B": "3"}})
    same("absent ones are gone", {k: envs().get(k) for k in "AB"}, {"A": None, "B": "3"})
    for stamp, value in (("2030-01-01T00:00:00.5Z", "4"), ("2030-01-01T00:00:00.5Z", "x"),
                         ("2029-01-01T00:00:00Z", "x"), ("2030-01-01T00:00:00.500000001Z", "5")):
        before = envs()["B"]
        init(f"at {stamp}", 204, {"accessToken": TOKEN, "envVars": {"B": value},
                                  "timestamp": stamp})
        same(f"B after {stamp}", envs()["B"], before if value == "x" else value)
    init("not a time", 400, {"accessToken": TOKEN, "timestamp": "soon"})


def test_jwt():
    """Both kinds of Authorization, and the token beside them."""
    envd = base.Envd(config={"jwtKey": base.KEY.hex() if isinstance(base.KEY, bytes) else base.KEY,
                             "sandboxID": "sbx", "accessToken": TOKEN})
    bad = {"Authorization": "Bearer a.b.c"}
    token = {"X-Access-Token": TOKEN}
    try:
        same("token alone", envd.unary("List", {}, token)[0], 200)
        for path in ("/health", "/envs"):
            refused(f"{path}, bad JWT beside the token",
                    envd.request("GET", path, headers={**token, **bad}))
        same("Basic and token", envd.unary("List", {}, {
            **token, "Authorization": base.BASIC_USER})[0], 200)
        refused("Basic is no token", envd.request("GET", "/envs", headers={
            "Authorization": base.BASIC_USER}))
        refused("a token is no platform", envd.request("POST", "/freeze", b"", token))
    finally:
        envd.stop()


def main():
    for test, config in ((test_token, {"accessToken": TOKEN}), (test_user, {}), (test_init, {}),
                         (test_cors, {"accessToken": TOKEN})):
        envd = base.Envd(config=config)
        try:
            test(envd)
        finally:
            envd.stop()
    test_jwt()
    print(f"{base.passed} passed, {base.failed} failed")
    return 1 if base.failed else 0


if __name__ == "__main__":
    sys.exit(main())
