#!/usr/bin/env python3
"""Secrets over HTTP on an engine in memory: bad input, namespaces, limits, restarts, what is on disk."""

import base64
import os
import sqlite3
import subprocess
import sys
import traceback
import urllib.parse

import api_test as api

WORDS = {400: "Invalid secrets request", 404: "Secret not found",
         409: "Secret cannot be modified in its current state"}  # fmt: skip


def call(method, path="", body=None, **options):
    return api.call(method, "/secrets" + path, body, **options)


def make(name, value="v", **fields):
    answer = call("POST", "", {"name": name, "value": value, **fields})
    assert answer.status == 201, answer.body
    return answer.json


def refused(answer, status):
    api.check_error(answer, status)
    assert answer.json["message"] == WORDS[status], answer.body


def test_a_new_one_is_complete():
    made = make("Complete", metadata={"a": "b"})
    assert set(made) == {"secretID", "name", "currentVersion", "metadata", "createdAt", "updatedAt"}
    assert api.DATE.match(made["createdAt"]) and made["createdAt"] == made["updatedAt"], made
    assert call("GET", "/" + made["secretID"]).json == made
    assert call("GET", "/COMPLETE").json == made


def test_bad_bodies_are_refused_in_fixed_words():
    many = {f"k{i}": "v" for i in range(33)}
    for body in ({}, {"name": "a"}, {"value": "v"}, {"name": 1, "value": "v"},
                 {"name": "a", "value": 1}, {"name": "a", "value": ""}, {"name": "", "value": "v"},
                 {"name": "a", "value": None}, {"name": "a" * 129, "value": "v"},
                 {"name": "a.b", "value": "v"}, {"name": "sec_a", "value": "v"},
                 {"name": "a", "value": "v" * 65537}, {"name": "a", "value": "v", "metadata": []},
                 {"name": "a", "value": "v", "metadata": {"k": 1}},
                 {"name": "a", "value": "v", "metadata": many},
                 {"name": "a", "value": "v", "metadata": {"k": "v" * 1025}}):  # fmt: skip
        refused(call("POST", "", body), 400)
    for raw in (b"", b"[]", b"{", b'{"name":"a","name":"b","value":"v"}', b'{"name":"a","value":"\xff"}',
                b'{"name":"a","value":"\\u0000"}'):  # fmt: skip
        refused(call("POST", raw=raw), 400)
    refused(call("GET", "/a"), 404)


def test_unknown_fields_pass_and_an_update_needs_a_value():
    made = make("fields", extra=1)
    for body in ({}, {"value": 1}, {"value": ""}, {"metadata": {}}):
        refused(call("POST", "/fields", body), 400)
    assert call("GET", "/fields").json == made
    answer = call("POST", "/fields", {"value": "w", "name": "other"})
    assert answer.status == 200 and answer.json["name"] == "fields", answer.body


def test_names_are_unique_in_a_namespace_and_free_again_when_gone():
    first = make("twice")
    refused(call("POST", "", {"name": " TWICE ", "value": "v"}), 409)
    assert call("DELETE", "/twice").status == 204
    assert make("twice")["secretID"] != first["secretID"]
    refused(call("GET", "/" + first["secretID"]), 404)


def test_another_namespace_sees_nothing():
    made = make("mine")
    for key in ("mine", made["secretID"]):
        refused(call("GET", "/" + key, key=api.SERVER.other_key), 404)
        refused(call("POST", "/" + key, {"value": "x"}, key=api.SERVER.other_key), 404)
        refused(call("DELETE", "/" + key, key=api.SERVER.other_key), 404)
    assert call("GET", "", key=api.SERVER.other_key).json == []
    theirs = call("POST", "", {"name": "mine", "value": "t"}, key=api.SERVER.other_key)
    assert theirs.status == 201, theirs.body
    assert call("GET", "/mine").json == made


def test_scopes():
    api.check_error(call("GET", key=None), 401)
    assert call("GET", key=api.SERVER.read_key).status == 200
    api.check_error(call("POST", "", {"name": "s", "value": "v"}, key=api.SERVER.read_key), 403)


def test_strange_keys_are_not_found():
    for key in ("%00", "a%2Fb", "sec_", "sec_8zzzzzzzzzzzzzzzzzzzzzzzzz", "%ff", "x" * 4000, "'--"):
        answer = call("GET", "/" + key)
        assert answer.status in (400, 404), (key, answer.body)


def test_pages():
    made = [make(f"page-{i}")["secretID"] for i in range(7)]
    seen, token, pages = [], "", 0
    while True:
        query = "?limit=3" + (f"&nextToken={urllib.parse.quote(token)}" if token else "")
        answer = call("GET", query)
        seen += [row["secretID"] for row in answer.json]
        pages += 1
        token = answer.headers.get("X-Next-Token")
        if not token:
            break
        assert len(answer.json) == 3, answer.body
    assert seen == sorted(set(seen), reverse=True) and set(made) <= set(seen), seen
    assert pages >= 3
    for query in ("?limit=0", "?limit=101", "?limit=x", "?limit=", "?nextToken=x", "?nextToken=%21",
                  "?nextToken=" + base64.urlsafe_b64encode(b"sec_" + b"u" * 26).decode()):  # fmt: skip
        refused(call("GET", query), 400)


def test_values_are_nowhere_on_disk_and_survive_a_restart():
    value = "needle-in-the-hay-4711"
    made = make("kept", value, metadata={"where": "here"})
    assert call("POST", "/kept", {"value": value + "-2"}).json["currentVersion"] == 2
    server = api.SERVER
    if not server.process:
        raise api.Skip("needs a store of our own")
    server.process.kill()
    server.process.wait()
    found = subprocess.run(["grep", "-raFl", value, server.dir], capture_output=True, text=True)
    assert found.stdout == "", found.stdout
    server.start()
    again = call("GET", "/kept").json
    assert (again["secretID"], again["currentVersion"]) == (made["secretID"], 2), again
    with sqlite3.connect(os.path.join(server.dir, "sandpit.db")) as base:
        rows = base.execute("SELECT sealed FROM secrets WHERE name = 'kept'").fetchall()
    assert len(rows) == 1 and value not in rows[0][0]


def test_y_the_number_is_bounded():
    have = 0
    for i in range(1100):
        answer = call("POST", "", {"name": f"many-{i}", "value": "v"})
        if answer.status != 201:
            refused(answer, 409)
            break
        have += 1
    assert 900 < have < 1000, have
    assert call("DELETE", "/many-0").status == 204
    assert call("POST", "", {"name": "again", "value": "v"}).status == 201


def main():
    api.SERVER = api.Server()
    passed = failed = skipped = 0
    for name, test in [(n, f) for n, f in globals().items() if n.startswith("test_")]:
        if len(sys.argv) > 1 and sys.argv[1] not in name:
            continue
        try:
            test()
            passed += 1
        except api.Skip as why:
            print(f"SKIP {name}: {why}")
            skipped += 1
        except Exception:
            print(f"FAIL {name}")
            traceback.print_exc()
            failed += 1
    try:
        api.SERVER.stop()
    finally:
        api.shutil.rmtree(api.SERVER.dir)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
