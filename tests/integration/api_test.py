#!/usr/bin/env python3
"""The Platform API over HTTP, as clients that are no SDK see it.

usage: api_test.py            starts $OUT/tests/integration/api_server (an engine in memory)
       API_URL=http://127.0.0.1:3000 E2B_API_KEY=e2b_... api_test.py      a server that runs

With API_URL, tests that need a second key (E2B_API_KEY_READ, E2B_API_KEY_OTHER), the operations
listener (OPS_URL) or an engine that fails on demand are skipped and counted.
"""

import base64
import concurrent.futures
import contextlib
import datetime
import http.client
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import openapi  # noqa: E402

ID = re.compile(r"^i[a-z0-9]{20}$")
DATE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
SANDBOX = {"templateID", "sandboxID", "clientID", "envdVersion"}
LISTED = SANDBOX | {"startedAt", "endAt", "cpuCount", "memoryMB", "diskSizeMB", "state"}
TEMPLATE = {"templateID", "buildID", "cpuCount", "memoryMB", "diskSizeMB", "public", "aliases",
            "names", "createdAt", "updatedAt", "createdBy", "lastSpawnedAt", "spawnCount",
            "buildCount", "envdVersion", "buildStatus"}


class Skip(Exception):
    pass


class Server:
    """The server under test: one of our own, or the one that API_URL names."""

    def __init__(self):
        self.process = self.dir = None
        self.url = os.environ.get("API_URL")
        if self.url:
            self.key = os.environ["E2B_API_KEY"]
            self.read_key = os.environ.get("E2B_API_KEY_READ")
            self.other_key = os.environ.get("E2B_API_KEY_OTHER")
            self.ops_url = os.environ.get("OPS_URL")
            self.admin_key = os.environ.get("E2B_ADMIN_TOKEN")
        else:
            self.start()

    def start(self):
        out = os.environ.get("OUT", "build/release")
        self.dir = self.dir or tempfile.mkdtemp(prefix="api-test-")
        self.process = subprocess.Popen(
            [os.path.join(out, "tests/integration/api_server"), self.dir], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=open(os.path.join(self.dir, "log"), "ab"), text=True)
        words = self.process.stdout.readline().split()
        if not words:
            raise RuntimeError("the server did not start: " + self.log())
        self.url, self.ops_url = ("http://127.0.0.1:" + port for port in words[1:3])
        self.key, self.read_key, self.other_key, self.admin_key = words[3:7]

    def log(self):
        with open(os.path.join(self.dir, "log"), encoding="utf-8") as file:
            return file.read()

    def stop(self):
        if self.process:
            self.process.stdin.close()
            code = self.process.wait(20)
            assert code == 0, f"the server ended with {code}: {self.log()[-4000:]}"

    def tell(self, words):
        """A line for api_server: let the engine's next calls fail, or drain."""
        if not self.process:
            raise Skip("needs the engine in memory")
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"


    @contextlib.contextmanager
    def broken_store(self, event, table="sandboxes"):
        """While it lasts, EVENT (INSERT, UPDATE, DELETE) on TABLE fails."""
        if not self.process:
            raise Skip("needs a store of our own")
        base = sqlite3.connect(os.path.join(self.dir, "sandpit.db"), timeout=10,
                               isolation_level=None)
        base.execute(f"CREATE TRIGGER broken BEFORE {event} ON {table} "
                     "BEGIN SELECT RAISE(ABORT, 'broken on purpose'); END")
        try:
            yield
        finally:
            base.execute("DROP TRIGGER broken")
            base.close()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


SPEC = openapi.Spec(openapi.source())
SERVER = None
MINE = []  # sandboxes to end


def call(method, path, body=None, key=True, headers=None, url=None, raw=None, chunked=False):
    parts = urllib.parse.urlsplit(url or SERVER.url)
    conn = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    headers = dict(headers or {})
    if key:
        headers["X-API-Key"] = SERVER.key if key is True else key
    data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
    if data is not None:
        headers.setdefault("Content-Type", "application/json")
    if chunked:
        conn.request(method, path, body=iter([data[:3], data[3:]]), headers=headers,
                     encode_chunked=True)
    else:
        conn.request(method, path, body=data, headers=headers)
    response = conn.getresponse()
    answer = Answer(response.status, response.headers, response.read())
    conn.close()
    if url is None:
        problems = SPEC.check(method, path, answer.status, answer.headers, answer.body)
        assert not problems, problems
    return answer


def new(path="/v2/sandboxes", key=True, **fields):
    answer = call("POST", path, {"templateID": "base", **fields}, key=key)
    assert answer.status == 201, (answer.status, answer.body)
    MINE.append((answer.json["sandboxID"], key))
    return answer.json


def check_error(answer, status, *words):
    assert answer.status == status, (answer.status, status, answer.body)
    assert answer.headers["Content-Type"].startswith("application/json"), answer.headers
    assert answer.json["code"] == status and isinstance(answer.json["message"], str), answer.body
    for word in words:
        assert word in answer.json["message"], (word, answer.body)


def date(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def left_s(sandbox_id):
    info = call("GET", "/sandboxes/" + sandbox_id).json
    return (date(info["endAt"]) - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


def encode(metadata):
    """As both SDKs send it: each part, the pairs, and the whole as a query value."""
    quote = lambda text: urllib.parse.quote(text, safe="")
    return quote(quote("&".join(quote(k) + "=" + quote(v) for k, v in metadata.items())))


def listed(query="", key=True):
    answer = call("GET", "/v2/sandboxes" + query, key=key)
    assert answer.status == 200, (answer.status, answer.body)
    return [item["sandboxID"] for item in answer.json]


# --- creating ---------------------------------------------------------------------------------

def test_a_v2_sandbox_has_the_fields_of_the_contract():
    box = new(metadata={"a": "b"}, envVars={"A": "1"}, timeout=60)
    assert SANDBOX <= box.keys() and ID.match(box["sandboxID"]), box
    assert box["templateID"] == "base" and box["clientID"] == "6532622b", box
    assert re.match(r"^[0-9a-f]{64}$", box["envdAccessToken"]), box  # v2 is always secure
    assert "trafficAccessToken" not in box and "domain" in box, box


def test_v1_defaults_are_15_s_and_not_secure():
    box = new("/sandboxes")
    assert "envdAccessToken" not in box, box
    assert 10 < left_s(box["sandboxID"]) <= 15
    assert "envdAccessToken" in new("/sandboxes", secure=True)


def test_v2_default_is_300_s():
    assert 290 < left_s(new()["sandboxID"]) <= 300


def test_a_chunked_body_is_read():
    answer = call("POST", "/v2/sandboxes", raw=b'{"templateID":"base"}', chunked=True)
    assert answer.status == 201, answer.body
    MINE.append((answer.json["sandboxID"], True))


def test_get_shows_what_was_asked_for():
    box = new(metadata={"k é": "v"}, timeout=60, allow_internet_access=False, autoPause=True,
              autoResume={"enabled": True}, network={"allowPublicTraffic": False})
    assert re.match(r"^[0-9a-f]{64}$", box["trafficAccessToken"]), box
    info = call("GET", "/sandboxes/" + box["sandboxID"]).json
    assert LISTED <= info.keys(), info
    assert info["metadata"] == {"k é": "v"} and info["state"] == "running", info
    assert info["allowInternetAccess"] is False, info
    assert info["network"] == {"allowPublicTraffic": False}, info
    assert info["lifecycle"] == {"autoResume": True, "onTimeout": "pause"}, info
    assert info["envdAccessToken"] == box["envdAccessToken"], info
    assert "trafficAccessToken" not in info and "pauseMode" not in info, info
    assert DATE.match(info["startedAt"]) and DATE.match(info["endAt"]), info
    assert 59.9 < (date(info["endAt"]) - date(info["startedAt"])).total_seconds() < 60.1


def test_get_leaves_out_what_was_not_asked_for():
    info = call("GET", "/sandboxes/" + new()["sandboxID"]).json
    assert "network" not in info and info["allowInternetAccess"] is None, info
    assert info["metadata"] == {}, info


def test_an_id_may_carry_a_client_part():
    box = new()
    assert call("GET", f"/sandboxes/{box['sandboxID']}-{box['clientID']}").status == 200


def test_wrong_bodies_are_refused_by_field():
    for fields, word in [
            ({}, "templateID"), ({"templateID": 5}, "templateID"), ({"templateID": ""}, "templateID"),
            ({"templateID": "x" * 300}, "Invalid template reference"),
            ({"timeout": "9"}, "timeout"),
            ({"iam": {"tokens": {"t": {"audience": "a", "tokenType": "JWT-SVID"}}}}, "iam"),
            ({"timeout": 1.5}, "timeout"), ({"timeout": 2 ** 40}, "timeout"),
            ({"timeout": 0}, "Timeout must be greater than 0"),
            ({"timeout": -5}, "Timeout must be greater than 0"),
            ({"timeout": 86401}, "Timeout cannot be greater than 24 hours"),
            ({"metadata": {"a": 1}}, "metadata"), ({"metadata": []}, "metadata"),
            ({"envVars": {"a": None}}, "envVars"), ({"envVars": {"a=b": ""}}, "envVars"),
            ({"autoPause": "yes"}, "autoPause"), ({"autoPauseMemory": False}, "autoPauseMemory"),
            ({"allow_internet_access": 1}, "allow_internet_access"),
            ({"network": []}, "network"), ({"network": {"allowOut": "x"}}, "allowOut")]:
        if fields and "templateID" not in fields:
            fields = {"templateID": "base", **fields}
        check_error(call("POST", "/v2/sandboxes", fields), 400, word)


def test_bytes_that_are_no_good_json_are_refused():
    for raw in [b"{", b"[]", b'"x"', b'{"templateID":"base","templateID":"base"}',
                b'{"templateID":"\xff"}', b'{"templateID":"a\\u0000b"}', b'{"templateID":"base"} x',
                b'{"templateID":' + b"[" * 3000 + b"]" * 3000 + b"}"]:
        check_error(call("POST", "/v2/sandboxes", raw=raw), 400, "Error when parsing request: ")


def test_wrong_shapes_are_told_in_the_words_of_the_contract():
    box = new()["sandboxID"]
    for path, body in [
            ("/v2/sandboxes", {}), ("/v2/sandboxes", {"templateID": 5}),
            ("/sandboxes", {"templateID": "base", "secure": "x"}),
            ("/v2/sandboxes", {"templateID": "base", "timeout": 2 ** 31}),
            ("/v2/sandboxes", {"templateID": "base", "metadata": {"a": 1}}),
            ("/v2/sandboxes", {"templateID": "base", "network": []}),
            (f"/sandboxes/{box}/timeout", {}), (f"/sandboxes/{box}/timeout", {"timeout": -1}),
            (f"/sandboxes/{box}/refreshes", {"duration": 3601}),
            (f"/sandboxes/{box}/connect", {}), (f"/v2/sandboxes/{box}/connect", {"memory": "x"})]:
        check_error(call("POST", path, body), 400, "validation error: ")
    for query in ["limit=0", "order=up", "state=gone", "startedAfter=now"]:
        check_error(call("GET", "/v2/sandboxes?" + query), 400, "validation error: ")


def test_what_is_not_built_is_refused_and_named():
    mounts = [{"name": "v", "path": "/v"}]  # the engine in memory has no volumes
    answer = call("POST", "/v2/sandboxes", {"templateID": "base", "volumeMounts": mounts})
    check_error(answer, 400, "not enabled")


def test_an_idempotency_key_makes_one_sandbox():
    key = {"Idempotency-Key": f"k-{os.getpid()}-1"}
    first = call("POST", "/v2/sandboxes", raw=b'{"templateID":"base","metadata":{"a":"1","b":"2"}}',
                 headers=key)
    again = call("POST", "/v2/sandboxes",
                 raw=b' {"metadata": {"b": "2", "a": "\\u0031"}, "templateID": "base"}', headers=key)
    assert (first.status, again.status) == (201, 201)
    assert first.json == again.json and again.json["envdAccessToken"]
    other = call("POST", "/v2/sandboxes", {"templateID": "base"}, headers=key)
    check_error(other, 409, "Idempotency-Key")
    assert other.json["error_code"] == "idempotency_request_mismatch"
    assert other.headers["should-retry"] == "false"
    v1 = call("POST", "/sandboxes", raw=b'{"templateID":"base","metadata":{"a":"1","b":"2"}}',
              headers=key)
    check_error(v1, 409)
    call("DELETE", f"/sandboxes/{first.json['sandboxID']}")
    gone = call("POST", "/v2/sandboxes",
                raw=b'{"templateID":"base","metadata":{"a":"1","b":"2"}}', headers=key)
    assert gone.status == 201 and gone.json == first.json


def test_an_idempotency_key_has_one_form():
    for bad in ("", "A", "a b", "a_b", "x" * 256):
        check_error(call("POST", "/v2/sandboxes", {"templateID": "base"},
                         headers={"Idempotency-Key": bad}), 400, "Idempotency-Key")


def test_without_a_store_for_its_key_nothing_is_done():
    before = len(listed())
    with SERVER.broken_store("INSERT", "claims"):
        answer = call("POST", "/v2/sandboxes", {"templateID": "base"},
                      headers={"Idempotency-Key": f"k-{os.getpid()}-3"})
        check_error(answer, 503)
        assert answer.json["error_code"] == "idempotency_store_unavailable"
        assert answer.headers["should-retry"] == "true" and answer.headers["retry-after"] == "1"
    assert len(listed()) == before
    assert call("POST", "/v2/sandboxes", {"templateID": "base"},
                headers={"Idempotency-Key": f"k-{os.getpid()}-3"}).status == 201


def test_a_refusal_is_not_kept_under_its_key():
    key = {"Idempotency-Key": f"k-{os.getpid()}-2"}
    check_error(call("POST", "/v2/sandboxes", {"templateID": "nowhere"}, headers=key), 404)
    assert call("POST", "/v2/sandboxes", {"templateID": "base"}, headers=key).status == 201


def test_unknown_fields_and_empty_options_are_passed_over():
    new(later={"x": [1]}, volumeMounts=[], mcp=None, iam={}, metadata=None,
        network={"allowOut": [], "denyOut": ["0.0.0.0/0"], "rules": {}, "egressProxy": None})


def test_private_traffic_needs_secure_in_v1():
    check_error(call("POST", "/sandboxes", {"templateID": "base",
                                            "network": {"allowPublicTraffic": False}}),
                400, "'secure' flag")


def test_templates_that_are_not_there():
    check_error(call("POST", "/v2/sandboxes", {"templateID": "nope"}), 404,
                "template 'nope' not found")
    check_error(call("POST", "/v2/sandboxes", {"templateID": "base:v9"}), 404,
                "tag 'v9' does not exist for template 'base'")
    check_error(call("POST", "/v2/sandboxes", {"templateID": "a b"}), 400,
                "Invalid template reference")


def test_a_create_that_fails_has_its_error_code_and_leaves_nothing():
    before = listed()
    SERVER.tell("fail create 1")
    answer = call("POST", "/v2/sandboxes", {"templateID": "base"})
    check_error(answer, 500)
    assert answer.json["error_code"] == "sandbox_create_failed", answer.body
    assert listed() == before


# --- lists ------------------------------------------------------------------------------------

def test_metadata_filters_as_sdks_encode_them():
    tag = str(time.time())
    one = new(metadata={"run": tag, "a b": "c&d=é"})["sandboxID"]
    two = new(metadata={"run": tag, "x": "1"})["sandboxID"]
    assert sorted(listed("?metadata=" + encode({"run": tag}))) == sorted([two, one])
    assert listed("?metadata=" + encode({"run": tag, "a b": "c&d=é"})) == [one]
    assert listed("?metadata=" + encode({"run": tag, "x": "2"})) == []
    assert listed("?metadata=run%3D" + tag + "%26x%3D1") == [two]  # encoded once, by hand
    v1 = call("GET", "/sandboxes?metadata=" + encode({"run": tag})).json
    assert sorted(item["sandboxID"] for item in v1) == sorted([two, one])
    check_error(call("GET", "/v2/sandboxes?metadata=a"), 400, "Error parsing metadata")
    check_error(call("GET", "/sandboxes?metadata=a%3Db%3Dc"), 400, "Error parsing metadata")


def test_pages_hold_each_sandbox_once():
    tag = "page" + str(time.time())
    made = [new(metadata={"run": tag})["sandboxID"] for _ in range(7)]
    for order, wanted in [("desc", made[::-1]), ("asc", made)]:
        query = f"?limit=3&order={order}&metadata=" + encode({"run": tag})
        got, token, pages = [], None, 0
        while True:
            answer = call("GET", "/v2/sandboxes" + query +
                          ("&nextToken=" + urllib.parse.quote(token) if token else ""))
            assert answer.status == 200, answer.body
            assert answer.headers["X-Total-Running"] == "7", answer.headers
            assert all(LISTED <= item.keys() for item in answer.json), answer.body
            got += [item["sandboxID"] for item in answer.json]
            pages += 1
            token = answer.headers["X-Next-Token"]
            if not token:
                break
        assert sorted(got) == sorted(wanted) and pages == 3, (got, wanted, pages)
        starts = {item["sandboxID"]: item["startedAt"] for item in call("GET", "/v2/sandboxes").json}
        assert [starts[i] for i in got] == sorted((starts[i] for i in got), reverse=order == "desc")


def test_a_page_token_is_for_one_order():
    tag = "token" + str(time.time())
    for _ in range(2):
        new(metadata={"run": tag})
    query = "?limit=1&metadata=" + encode({"run": tag})
    token = urllib.parse.quote(call("GET", "/v2/sandboxes" + query).headers["X-Next-Token"])
    check_error(call("GET", f"/v2/sandboxes{query}&order=asc&nextToken={token}"), 400,
                "Invalid next token")
    forged = base64.urlsafe_b64encode(b"x").decode().rstrip("=")
    check_error(call("GET", "/v2/sandboxes?nextToken=" + forged), 400, "Invalid next token")


def test_lists_filter_by_state_template_and_start():
    tag = "state" + str(time.time())
    running = new(metadata={"run": tag})
    paused = new(metadata={"run": tag})
    assert call("POST", f"/sandboxes/{paused['sandboxID']}/pause", {}).status == 204
    query = "?metadata=" + encode({"run": tag})
    assert listed(query + "&state=running") == [running["sandboxID"]]
    assert listed(query + "&state=paused") == [paused["sandboxID"]]
    assert len(listed(query + "&state=running%2Cpaused")) == 2 == len(listed(query))
    assert "X-Total-Running" not in call("GET", "/v2/sandboxes?state=paused").headers
    assert len(listed(query + "&template=base")) == 2 and listed(query + "&template=nope") == []
    check_error(call("GET", "/v2/sandboxes?template=base:x"), 400, "tags are not supported here")
    start = call("GET", "/sandboxes/" + paused["sandboxID"]).json["startedAt"]
    assert paused["sandboxID"] in listed(query + "&startedAfter=" + urllib.parse.quote(start))
    assert listed(query + "&startedAfter=2999-01-01T00:00:00Z") == []
    v1 = [item["sandboxID"] for item in call("GET", "/sandboxes").json]
    assert running["sandboxID"] in v1 and paused["sandboxID"] not in v1


def test_wrong_list_parameters_are_refused():
    for query in ["limit=0", "limit=101", "limit=x", "limit=", "order=up", "state=gone",
                  "startedAfter=now", "nextToken=%25", "metadata=%zz"]:
        check_error(call("GET", "/v2/sandboxes?" + query), 400)


# --- ends -------------------------------------------------------------------------------------

def test_a_killed_sandbox_is_gone():
    path = "/sandboxes/" + new()["sandboxID"]
    answer = call("DELETE", path)
    assert answer.status == 204 and answer.body == b"", (answer.status, answer.body)
    for method, what in [("DELETE", ""), ("GET", ""), ("POST", "/timeout"), ("POST", "/connect")]:
        answer = call(method, path + what, None if method != "POST" else {"timeout": 10})
        check_error(answer, 404, f'Sandbox "{path[11:]}" doesn\'t exist or you don\'t have access')


def test_wrong_ids_are_refused():
    for wrong in ["UPPER", "a-b-c", "a.b", "a%2Fb", "i" * 40, "%C3%A9"]:
        check_error(call("GET", "/sandboxes/" + wrong), 400, "Invalid sandbox ID")
        check_error(call("DELETE", "/sandboxes/" + wrong), 400, "Invalid sandbox ID")
    check_error(call("GET", "/sandboxes/inotthere"), 404, "doesn't exist")


def test_timeouts_move_both_ways():
    box = new()["sandboxID"]
    path = f"/sandboxes/{box}/timeout"
    assert call("POST", path, {"timeout": 600}).status == 204 and 590 < left_s(box) <= 600
    assert call("POST", path, {"timeout": 30}).status == 204 and 25 < left_s(box) <= 30
    assert call("POST", path, {"timeout": 10 ** 6}).status == 204 and 86390 < left_s(box) <= 86400
    for body in [{}, {"timeout": -1}, {"timeout": "1"}, {"timeout": None}, {"timeout": 2 ** 33}]:
        check_error(call("POST", path, body), 400, "timeout")
    assert call("POST", path, {"timeout": 0}).status == 204
    check_error(call("GET", "/sandboxes/" + box), 404)


def test_a_sandbox_ends_at_its_timeout():
    box = new(timeout=1)["sandboxID"]
    assert call("GET", "/sandboxes/" + box).status == 200
    deadline = time.time() + 5
    while call("GET", "/sandboxes/" + box).status == 200:
        assert time.time() < deadline
        time.sleep(0.05)
    check_error(call("GET", "/sandboxes/" + box), 404)


def test_refreshes_only_extend():
    box = new(timeout=60)["sandboxID"]
    path = f"/sandboxes/{box}/refreshes"
    assert call("POST", path, {"duration": 20}).status == 204 and 50 < left_s(box) <= 60
    assert call("POST", path, {"duration": 900}).status == 204 and 890 < left_s(box) <= 900
    assert call("POST", path).status == 204
    check_error(call("POST", path, {"duration": 3601}), 400, "duration")
    short = new(timeout=5)["sandboxID"]
    assert call("POST", f"/sandboxes/{short}/refreshes", {"duration": 0}).status == 204
    assert 12 < left_s(short) <= 15


def test_connect_extends_and_shows_tokens():
    box = new(timeout=60)
    for version in ["", "/v2"]:
        path = f"{version}/sandboxes/{box['sandboxID']}/connect"
        answer = call("POST", path, {"timeout": 10})
        assert answer.status == 200 and answer.json == box, (answer.status, answer.body, box)
        assert 50 < left_s(box["sandboxID"]) <= 60
        check_error(call("POST", path, {"timeout": 86401}), 400, "24 hours")
        answer = call("POST", path, {"timeout": 10, "memory": False})
        assert answer.status == 200, answer.body  # it runs: there is nothing to start
    check_error(call("POST", f"/sandboxes/{box['sandboxID']}/connect", {}), 400, "timeout")
    assert call("POST", f"/v2/sandboxes/{box['sandboxID']}/connect").status == 200
    assert 290 < left_s(box["sandboxID"]) <= 300


def test_pause_and_what_wakes_it():
    box = new(timeout=60)["sandboxID"]
    path = "/sandboxes/" + box
    assert call("POST", path + "/pause").status == 204
    check_error(call("POST", path + "/pause", {}), 409, "already paused")
    info = call("GET", path).json
    assert info["state"] == "paused" and info["pauseMode"] == "full", info
    check_error(call("POST", path + "/timeout", {"timeout": 5}), 409)
    answer = call("POST", f"/v2{path}/connect", {"timeout": 30})
    assert answer.status == 201 and 25 < left_s(box) <= 30, answer.body
    check_error(call("POST", path + "/resume", {}), 409, "already running")
    assert call("POST", path + "/pause", {}).status == 204
    answer = call("POST", path + "/resume", {"timeout": 40})
    assert answer.status == 201 and answer.json["sandboxID"] == box and 35 < left_s(box) <= 40
    assert call("POST", path + "/pause", {}).status == 204
    assert call("DELETE", path).status == 204


def test_auto_pause_comes_at_the_timeout():
    box = new(timeout=60, autoPause=True)["sandboxID"]
    assert call("POST", f"/sandboxes/{box}/timeout", {"timeout": 0}).status == 204
    assert call("GET", "/sandboxes/" + box).json["state"] == "paused"


def test_a_kill_that_fails_can_be_repeated():
    box = new()["sandboxID"]
    SERVER.tell("fail destroy 1")
    answer = call("DELETE", "/sandboxes/" + box)
    check_error(answer, 500)
    assert answer.json["error_code"] == "internal_server_error", answer.body
    check_error(call("GET", "/sandboxes/" + box), 404)
    check_error(call("POST", f"/v2/sandboxes/{box}/connect"), 409, "is being killed")
    assert call("DELETE", "/sandboxes/" + box).status == 204


def test_a_store_that_fails_changes_nothing():
    box = new(timeout=60)["sandboxID"]
    path = "/sandboxes/" + box
    before = listed()
    with SERVER.broken_store("INSERT"):
        check_error(call("POST", "/v2/sandboxes", {"templateID": "base"}), 500)
        check_error(call("POST", path + "/pause", {}), 500)
    with SERVER.broken_store("UPDATE"):
        check_error(call("POST", path + "/timeout", {"timeout": 600}), 500)
        check_error(call("POST", path + "/connect", {"timeout": 600}), 500)
        check_error(call("DELETE", path), 500)
    assert listed() == before
    assert call("GET", path).json["state"] == "running" and 50 < left_s(box) <= 60
    with SERVER.broken_store("DELETE"):
        assert call("DELETE", path).status == 204  # it is gone; the next start removes the row
    check_error(call("GET", path), 404)


def test_many_clients_at_once():
    def life(number):
        box = new(metadata={"n": str(number)})["sandboxID"]
        assert call("POST", f"/v2/sandboxes/{box}/connect", {"timeout": 400}).status == 200
        assert call("GET", "/sandboxes/" + box).json["metadata"] == {"n": str(number)}
        return call("DELETE", "/sandboxes/" + box).status

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(life, range(40))) == [204] * 40


# --- who may ----------------------------------------------------------------------------------

def test_calls_without_a_good_key_are_401():
    check_error(call("GET", "/v2/sandboxes", key=None), 401, "authorization header is missing")
    check_error(call("GET", "/v2/sandboxes", key="e2b_" + "0" * 40), 401, "Invalid API key")
    check_error(call("POST", "/v2/sandboxes", {}, key="nonsense"), 401)


def test_a_bearer_token_is_a_key_too():
    token = "sk_" + SERVER.key
    answer = call("GET", "/v2/sandboxes", key=None, headers={"Authorization": "Bearer " + token})
    assert answer.status == 200, answer.body


def test_a_key_for_reading_cannot_write():
    if not SERVER.read_key:
        raise Skip("needs E2B_API_KEY_READ")
    box = new()["sandboxID"]
    assert box in listed(key=SERVER.read_key)
    check_error(call("DELETE", "/sandboxes/" + box, key=SERVER.read_key), 403)
    check_error(call("POST", "/v2/sandboxes", {"templateID": "base"}, key=SERVER.read_key), 403)
    assert call("GET", "/sandboxes/" + box).status == 200


def test_another_namespace_sees_nothing():
    if not SERVER.other_key:
        raise Skip("needs E2B_API_KEY_OTHER")
    box = new()["sandboxID"]
    other = {"key": SERVER.other_key}
    assert box not in listed(**other)
    for method, path, body in [("GET", "", None), ("DELETE", "", None), ("POST", "/pause", {}),
                               ("POST", "/timeout", {"timeout": 0}), ("POST", "/refreshes", {}),
                               ("POST", "/connect", {"timeout": 1}), ("POST", "/resume", {})]:
        check_error(call(method, f"/sandboxes/{box}{path}", body, **other), 404, "doesn't exist")
    assert call("GET", "/sandboxes/" + box).status == 200


# --- templates, routes, operations ------------------------------------------------------------

def test_the_base_template_is_listed_and_found():
    for path in ["/templates", "/v2/templates", "/default-templates"]:
        answer = call("GET", path)
        assert answer.status == 200, answer.body
        base = [item for item in answer.json if item["templateID"] == "base"][0]
        assert TEMPLATE <= base.keys() and UUID.match(base["buildID"]), base
        assert base["public"] is True and base["buildStatus"] == "ready", base
    one = call("GET", "/templates/base").json
    assert TEMPLATE | {"builds"} <= one.keys() and len(one["builds"]) == 1, one
    assert call("GET", "/templates/aliases/base").json == {"templateID": "base", "public": True}
    check_error(call("GET", "/templates/aliases/nope"), 404)
    check_error(call("GET", "/templates/nope"), 404, "Template nope not found")
    check_error(call("GET", "/templates?teamID=x"), 400, "Team ID param mismatch")
    new(**{"metadata": {}}, timeout=5)


def test_every_unbuilt_route_says_so():
    spec = call("GET", "/openapi.json", key=None)
    assert spec.status == 200 and spec.headers["Content-Type"].startswith("application/json")
    count = 0
    for path, methods in spec.json["paths"].items():
        for method, operation in methods.items():
            if operation["x-sandpit-support"]["local"] == "supported":
                continue
            wanted = path
            path_now = re.sub(r"\{\w+\}", "x", path)
            headers = {"X-Admin-Token": SERVER.admin_key or ""}
            answer = call(method.upper(), path_now, {} if method != "get" else None,
                          headers=headers)
            check_error(answer, 501, wanted)
            count += 1
    assert count > 5, count


def test_envd_is_described_too():
    spec = call("GET", "/openapi-envd.json", key=None)
    assert spec.status == 200 and spec.headers["Content-Type"].startswith("application/json")
    assert "/files" in spec.json["paths"] and "/process.Process/Start" in spec.json["paths"]


def test_browsers_of_any_origin_may_call():
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "DELETE",
           "Access-Control-Request-Headers": "x-api-key, authorization,content-type"}
    for path in ("/v2/sandboxes", "/sandboxes/x", "/nothing/here"):
        answer = call("OPTIONS", path, key=None, headers=ask)
        assert answer.status == 204 and answer.body == b"", answer.body
        assert answer.headers["Access-Control-Allow-Origin"] == "*", answer.headers
        assert answer.headers["Access-Control-Allow-Headers"] == ask[
            "Access-Control-Request-Headers"], answer.headers
        assert "DELETE" in answer.headers["Access-Control-Allow-Methods"], answer.headers
        assert answer.headers["Access-Control-Allow-Credentials"] is None, answer.headers
        assert int(answer.headers["Access-Control-Max-Age"]) > 0, answer.headers
    ask["Access-Control-Request-Headers"] = "x<script>"
    answer = call("OPTIONS", "/v2/sandboxes", key=None, headers=ask)
    assert answer.headers["Access-Control-Allow-Headers"] is None, answer.headers
    for answer in (call("GET", "/v2/sandboxes"), call("GET", "/v2/sandboxes", key=None),
                   call("GET", "/nothing/here"), call("DELETE", "/sandboxes/" + "i" * 20),
                   call("POST", "/v2/sandboxes", raw=b"x" * (1024 * 1024 + 1))):
        assert answer.headers["Access-Control-Allow-Origin"] == "*", answer.headers
        assert answer.headers["Access-Control-Expose-Headers"] == "*", answer.headers
    check_error(call("OPTIONS", "/v2/sandboxes"), 405)  # no preflight


def test_unknown_paths_and_methods():
    check_error(call("GET", "/nothing/here"), 404)
    answer = call("PUT", "/v2/sandboxes", {})
    check_error(answer, 405)
    assert {"GET", "POST"} <= set(re.split(r", *", answer.headers["Allow"])), answer.headers


def test_health_needs_no_key():
    answer = call("GET", "/health", key=None)
    assert answer.status == 200 and answer.body == b"Health check successful", answer.body


def test_operations_listener():
    if not SERVER.ops_url:
        raise Skip("needs OPS_URL")
    new()
    for path in ["/livez", "/readyz"]:
        assert call("GET", path, key=None, url=SERVER.ops_url).status == 200
    text = call("GET", "/metrics", key=None, url=SERVER.ops_url).body.decode()
    for name in ['sandpit_sandboxes{state="running"}', 'sandpit_sandbox_creates_total{result="ok"}',
                 'sandpit_http_requests_total{listener="api",method="POST",route="/v2/sandboxes"'
                 ',code="201"}', "sandpit_work_waiting"]:
        value = re.search("^" + re.escape(name) + r" (\S+)$", text, re.M)
        assert value, (name, text)
        if "waiting" not in name:
            assert float(value.group(1)) > 0, value.group(0)


def test_z_a_server_that_stops_is_not_ready():  # the last one
    SERVER.tell("drain")
    answer = call("GET", "/readyz", key=None, url=SERVER.ops_url)
    assert answer.status == 503 and answer.body == b"the server is stopping", answer.body
    answer = call("GET", "/health", key=None)
    assert answer.status == 503 and answer.body == b"Service is unavailable", answer.body
    assert call("GET", "/livez", key=None, url=SERVER.ops_url).status == 200


def main(names=None):
    """Run the tests among NAMES (those of another file), else those of this one."""
    global SERVER
    SERVER = Server()
    passed = failed = skipped = 0
    tests = [(n, f) for n, f in (names or globals()).items() if n.startswith("test_") and callable(f)]
    for name, test in tests:
        if len(sys.argv) > 1 and sys.argv[1] not in name:
            continue
        try:
            test()
            passed += 1
        except Skip as why:
            print(f"SKIP {name}: {why}")
            skipped += 1
        except Exception:
            print(f"FAIL {name}")
            traceback.print_exc()
            failed += 1
        for box, key in MINE:
            call("DELETE", "/sandboxes/" + box, key=key)
        MINE.clear()
    try:
        SERVER.stop()
    except Exception:
        traceback.print_exc()
        failed += 1
    if SERVER.dir:
        shutil.rmtree(SERVER.dir)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
