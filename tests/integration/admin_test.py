#!/usr/bin/env python3
"""Teams, API keys, access tokens, nodes and the operators' routes; see api_test.py for its usage."""

import contextlib
import re
import sqlite3
import os
import sys
import time
import uuid

import api_test as api
from api_test import UUID, DATE, call, check_error, new

NOBODY = "00000000-0000-0000-0000-000000000000"


def bearer(text, team=None):
    headers = {"Authorization": "Bearer " + text}
    if team:
        headers["X-Team-ID"] = team
    return headers


def ask(method, path, body=None, **options):
    """With the user token of our key."""
    options.setdefault("headers", bearer("sk_" + api.SERVER.key))
    return call(method, path, body, key=None, **options)


def admin(method, path, body=None, team=None, token=None):
    headers = {"X-Admin-Token": token or api.SERVER.admin_key}
    if team:
        headers["X-Team-ID"] = team
    return call(method, path, body, key=None, headers=headers)


def my_team():
    answer = ask("GET", "/teams")
    assert answer.status == 200, answer.body
    return answer.json[0]


def make(name="k", **options):
    answer = ask("POST", "/api-keys", {"name": name}, **options)
    assert answer.status == 201, answer.body
    return answer.json


def works(key):
    return call("GET", "/v2/sandboxes", key=key).status == 200


def test_teams_is_one_default_team_with_a_new_key_each_time():
    first, second = my_team(), my_team()
    assert set(first) == {"teamID", "name", "apiKey", "isDefault"}, first
    assert first["isDefault"] is True and first["name"] == "team", first
    assert uuid.UUID(first["teamID"]).version == 5 and first["teamID"] == second["teamID"]
    assert first["apiKey"] != second["apiKey"] and works(first["apiKey"]), first
    names = [key["name"] for key in ask("GET", "/api-keys").json]
    assert names.count("CLI login/configure") >= 2, names


def test_a_key_is_made_shown_once_listed_renamed_and_ended():
    key = make("my key é")
    assert re.match(r"^e2b_[0-9a-f]{40}$", key["key"]) and UUID.match(key["id"]), key
    assert key["mask"] == {"prefix": "e2b_", "valueLength": 40,
                           "maskedValuePrefix": key["key"][4:6],
                           "maskedValueSuffix": key["key"][-4:]}, key  # fmt: skip
    assert DATE.match(key["createdAt"]) and key["lastUsed"] is None, key
    assert UUID.match(key["createdBy"]["id"]) and key["createdBy"]["email"] is None, key
    assert works(key["key"])  # at once
    row = [row for row in ask("GET", "/api-keys").json if row["id"] == key["id"]][0]
    assert "key" not in row and row["name"] == "my key é" and DATE.match(row["lastUsed"]), row
    answer = ask("PATCH", "/api-keys/" + key["id"], {"name": "other"})
    assert answer.status == 200 and answer.body == b"", answer.body
    row = [row for row in ask("GET", "/api-keys").json if row["id"] == key["id"]][0]
    assert row["name"] == "other", row
    assert ask("DELETE", "/api-keys/" + key["id"].upper()).status == 204
    assert not works(key["key"])  # at once
    assert key["id"] not in [row["id"] for row in ask("GET", "/api-keys").json]
    check_error(ask("DELETE", "/api-keys/" + key["id"]), 404, "API key not found")
    check_error(ask("PATCH", "/api-keys/" + key["id"], {"name": "x"}), 404)


def test_a_key_made_by_a_key_can_do_no_more_than_it():
    key = make()["key"]
    check_error(call("POST", "/api-keys", {"name": "x"}, key=key), 403, "'keys'")
    check_error(call("GET", "/teams", key=key), 403, "'keys'")
    check_error(call("GET", "/api-keys", key=api.SERVER.read_key), 403, "'keys'")
    box = new(key=key)
    assert call("GET", "/sandboxes/" + box["sandboxID"]).status == 200  # of one team


def test_another_team_sees_nothing():
    key = make()
    other = {"headers": bearer("sk_" + api.SERVER.other_key)}
    assert key["id"] not in [row["id"] for row in ask("GET", "/api-keys", **other).json]
    check_error(ask("PATCH", "/api-keys/" + key["id"], {"name": "x"}, **other), 404)
    check_error(ask("DELETE", "/api-keys/" + key["id"], **other), 404)
    assert works(key["key"])


def test_wrong_names_and_ids_change_nothing():
    before = ask("GET", "/api-keys").json
    for name in (None, 5, "", "a\nb", "a\u009bb", "x" * 129, ["a"], "\x7f"):
        body = {} if name is None else {"name": name}
        for method, path in (("POST", "/api-keys"), ("POST", "/access-tokens"),
                             ("PATCH", "/api-keys/" + before[0]["id"])):
            check_error(ask(method, path, body), 400, "name")
    for path in ("/api-keys/x", "/api-keys/" + NOBODY[:-1], "/access-tokens/x"):
        check_error(ask("DELETE", path), 400, "UUID")
    check_error(ask("DELETE", "/access-tokens/" + before[0]["id"]), 404, "Access token not found")
    after = ask("GET", "/api-keys").json
    assert [row["name"] for row in after] == [row["name"] for row in before]
    assert make("é" * 128)["name"] == "é" * 128


def test_an_access_token_is_a_bearer_alone():
    answer = ask("POST", "/access-tokens", {"name": "laptop"})
    assert answer.status == 201, answer.body
    token = answer.json
    assert set(token) == {"id", "name", "token", "mask", "createdAt"}, token
    assert token["mask"]["prefix"] == "sk_e2b_" and token["mask"]["valueLength"] == 40, token
    text = token["token"]
    assert call("GET", "/v2/sandboxes", key=None, headers=bearer(text)).status == 200
    assert ask("GET", "/teams", headers=bearer(text)).status == 200
    check_error(call("GET", "/v2/sandboxes", key=text), 401)
    check_error(call("GET", "/v2/sandboxes", key=text[3:]), 401)
    assert token["id"] not in [row["id"] for row in ask("GET", "/api-keys").json]
    check_error(ask("DELETE", "/api-keys/" + token["id"]), 404)
    assert ask("DELETE", "/access-tokens/" + token["id"]).status == 204
    check_error(call("GET", "/v2/sandboxes", key=None, headers=bearer(text)), 401)


def test_the_team_of_a_user_token_must_be_its_own():
    team, text = my_team()["teamID"], "sk_" + api.SERVER.key
    for good in (team, team.upper()):
        answer = call("GET", "/v2/sandboxes", key=None, headers=bearer(text, good))
        assert answer.status == 200, answer.body
    check_error(call("GET", "/v2/sandboxes", key=None, headers=bearer(text, NOBODY)), 403, "team")
    check_error(call("GET", "/v2/sandboxes", key=None, headers=bearer(text, "x")), 400, "UUID")


def test_an_operator_acts_in_the_team_that_is_named():
    team, box = my_team()["teamID"], new()
    rows = admin("GET", "/v2/sandboxes", team=team)
    assert rows.status == 200 and box["sandboxID"] in [row["sandboxID"] for row in rows.json]
    check_error(admin("GET", "/v2/sandboxes"), 401, "X-Team-ID")
    check_error(admin("GET", "/v2/sandboxes", team=NOBODY), 403, "Team not found")
    check_error(admin("GET", "/v2/sandboxes", team=team, token=api.SERVER.key), 401, "admin")
    check_error(call("GET", "/v2/sandboxes", key=api.SERVER.admin_key), 403, "'read'")


def test_operators_routes_want_the_admin_token():
    for method, path in (("GET", "/nodes"), ("GET", "/nodes/x"), ("POST", "/nodes/x"),
                         ("GET", "/admin/sandboxes/running-counts"),
                         ("POST", f"/admin/teams/{NOBODY}/sandboxes/kill"),
                         ("POST", f"/admin/teams/{NOBODY}/api-keys"),
                         ("DELETE", f"/admin/teams/{NOBODY}/api-keys/{NOBODY}")):  # fmt: skip
        check_error(call(method, path, {}), 401, "X-Admin-Token")
        check_error(admin(method, path, {}, token=api.SERVER.key), 401, "admin")
        check_error(call(method, path, {}, key=api.SERVER.admin_key), 401, "X-Admin-Token")


def test_an_operator_makes_and_ends_keys_of_a_team():
    team = my_team()["teamID"]
    answer = admin("POST", f"/admin/teams/{team}/api-keys", {"name": "by operator"})
    assert answer.status == 201 and works(answer.json["key"]), answer.body
    path = f"/admin/teams/{team}/api-keys/{answer.json['id']}"
    check_error(admin("DELETE", f"/admin/teams/{NOBODY}/api-keys/{answer.json['id']}"), 404)
    assert admin("DELETE", path).status == 204 and not works(answer.json["key"])
    check_error(admin("DELETE", path), 404)
    check_error(admin("POST", f"/admin/teams/{NOBODY}/api-keys", {"name": "x"}), 404)
    check_error(admin("POST", "/admin/teams/x/api-keys", {"name": "x"}), 400, "UUID")


def test_running_counts_and_kill_of_a_team():
    team = my_team()["teamID"]
    boxes = [new() for _ in range(3)]
    foreign = new(key=api.SERVER.other_key)
    counts = admin("GET", "/admin/sandboxes/running-counts").json
    assert counts[team] == 3 and sum(counts.values()) == 4, counts
    answer = admin("POST", f"/admin/teams/{team}/sandboxes/kill")
    assert answer.json == {"killedCount": 3, "failedCount": 0}, answer.body
    for box in boxes:
        check_error(call("GET", "/sandboxes/" + box["sandboxID"]), 404)
    assert call("GET", "/sandboxes/" + foreign["sandboxID"], key=api.SERVER.other_key).status == 200
    assert team not in admin("GET", "/admin/sandboxes/running-counts").json
    check_error(admin("POST", f"/admin/teams/{NOBODY}/sandboxes/kill"), 404)


def test_the_node_says_what_it_is():
    new()
    nodes = admin("GET", "/nodes").json
    assert len(nodes) == 1, nodes
    node = nodes[0]
    assert node["status"] == "ready" and DATE.match(node["statusChangedAt"]), node
    assert node["sandboxCount"] == 1 and node["createSuccesses"] >= 1, node
    assert node["metrics"]["cpuCount"] == os.cpu_count(), node
    assert 0 <= node["metrics"]["cpuPercent"] <= 100, node
    assert node["metrics"]["allocatedCPU"] >= 1 and node["metrics"]["allocatedMemoryBytes"] > 0
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert abs(node["metrics"]["memoryTotalBytes"] - total) < total / 10, node
    assert 0 < node["metrics"]["memoryUsedBytes"] <= node["metrics"]["memoryTotalBytes"], node
    disk = node["metrics"]["disks"][0]
    assert disk["mountPoint"].startswith("/") and 0 < disk["usedBytes"] <= disk["totalBytes"], disk
    assert node["machineInfo"]["cpuArchitecture"] == os.uname().machine, node
    assert admin("GET", "/nodes/" + node["id"]).json["clusterID"] == node["clusterID"]
    assert len(admin("GET", "/nodes?clusterID=" + node["clusterID"]).json) == 1
    assert admin("GET", "/nodes?clusterID=" + NOBODY).json == []
    check_error(admin("GET", "/nodes?clusterID=x"), 400, "clusterID")
    check_error(admin("GET", "/nodes/nope"), 404, "Node not found")


@contextlib.contextmanager
def status(word):
    node = admin("GET", "/nodes").json[0]["id"]
    answer = admin("POST", "/nodes/" + node, {"status": word})
    assert answer.status == 204, answer.body
    try:
        yield node
    finally:
        assert admin("POST", "/nodes/" + node, {"status": "ready"}).status == 204


def test_a_node_that_drains_takes_no_new_sandboxes():
    box = new()
    assert call("POST", f"/sandboxes/{box['sandboxID']}/pause").status == 204
    for word in ("draining", "standby"):
        with status(word):
            assert admin("GET", "/nodes").json[0]["status"] == word
            for path in ("/sandboxes", "/v2/sandboxes"):
                answer = call("POST", path, {"templateID": "base"})
                check_error(answer, 503, "Failed to place sandbox", "drain")
                assert answer.headers["Retry-After"] and answer.json["error_code"], answer.body
    with status("draining"):
        answer = call("POST", f"/v2/sandboxes/{box['sandboxID']}/connect", {})
        assert answer.status == 201, answer.body  # it was there before
    new()


def test_wrong_statuses_change_nothing():
    node = admin("GET", "/nodes").json[0]
    path = "/nodes/" + node["id"]
    for word in ("connecting", "unhealthy"):
        check_error(admin("POST", path, {"status": word}), 409, word)
    for body in ({}, {"status": "gone"}, {"status": 1}, {"status": "ready", "clusterID": "x"}):
        check_error(admin("POST", path, body), 400)
    check_error(admin("POST", path, {"status": "draining", "clusterID": NOBODY}), 404)
    check_error(admin("POST", "/nodes/x", {"status": "draining"}), 404)
    now = admin("GET", "/nodes").json[0]
    assert (now["status"], now["statusChangedAt"]) == (node["status"], node["statusChangedAt"])


def test_y_a_restart_keeps_status_and_last_use():
    server = api.SERVER
    if not server.process:
        raise api.Skip("needs a server of our own")
    node = admin("GET", "/nodes").json[0]
    admin("POST", "/nodes/" + node["id"], {"status": "draining"})
    works(server.read_key)
    before = time.time()
    keys = server.key, server.read_key, server.other_key, server.admin_key
    server.stop()
    base = sqlite3.connect(os.path.join(server.dir, "sandpit.db"))
    used = base.execute("SELECT max(used_ms) FROM keys").fetchone()[0]
    base.close()
    assert abs(used / 1000 - before) < 30, used
    server.start()
    server.key, server.read_key, server.other_key, server.admin_key = keys
    again = admin("GET", "/nodes").json[0]
    assert again["status"] == "draining" and again["clusterID"] == node["clusterID"], again
    assert again["serviceInstanceID"] != node["serviceInstanceID"], again
    check_error(call("POST", "/sandboxes", {"templateID": "base"}), 503)
    assert admin("POST", "/nodes/" + node["id"], {"status": "ready"}).status == 204


if __name__ == "__main__":
    sys.exit(api.main(globals()))
