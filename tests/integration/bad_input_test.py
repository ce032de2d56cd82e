#!/usr/bin/env python3
"""Bad input for every field, parameter and id that openapi/platform.yaml names.

Generated from the description, so that a new operation is covered when it is described: wrong
types, missing, too long, out of range, unknown words; bodies that are no JSON, duplicate keys,
invalid UTF-8, depth bombs, 1 MB names; ids that are wrong, unknown or another team's; wrong
parameters of queries. Each answer must be a 4xx of the description, with code == status and a
message that names the field, and afterwards every list must read as before.
"""

import copy
import json
import os
import subprocess
import sys
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402
import openapi  # noqa: E402

BIG = 900_000  # below the body limit
NOBODY = "00000000-0000-4000-8000-000000000000"
LISTS = ("/v2/sandboxes", "/api-keys", "/volumes", "/secrets", "/snapshots", "/events/webhooks",
         "/nodes", "/templates")  # fmt: skip
# What changes by itself.
VOLATILE = {"metrics", "lastUsed", "createSuccesses", "createFails", "updatedAt", "token"}
WRONG = {
    "string": [5, True, ["x"], {"x": 1}],
    "integer": ["5", True, 5.5, [5], {}],
    "number": ["5", True, [5], {}],
    "boolean": ["true", 1, [True], {}],
    "object": ["x", 5, True, [1]],
    "array": ["x", 5, True, {"x": 1}],
}
# Fixed words, which never repeat what was sent (platform-api section 8).
SILENT = ("/secrets",)
E2B_WORDS = {"templateid": "template", "volumemounts": "mount"}
# A well-formed id of each kind that nothing has.
UNKNOWN_IDS = {
    "sandboxID": "i00000000000000000000", "volumeID": NOBODY, "apiKeyID": NOBODY,
    "accessTokenID": NOBODY, "teamID": NOBODY, "webhookID": NOBODY, "nodeID": "no-such-node",
    "secretID": "no-such-secret", "templateID": "no-such-template", "alias": "no-such-alias",
}  # fmt: skip
WRONG_IDS = {
    "sandboxID": ["UPPER", "a-b-c", "x" * 500, "é", "..", "a b"],
    "templateID": ["UPPER!", "a/b/c", "x" * 500],
    "alias": ["a/b/c", "x" * 500],
}
UUIDS = ["x", NOBODY + "0", NOBODY[:-1] + "g", "x" * 500, "é", ".."]


def types_of(schema):
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else kind


class Case:
    def __init__(self, at, value, what, missing=False):
        self.at, self.value, self.what, self.missing = at, value, what, missing

    def __repr__(self):
        return f"{'.'.join(map(str, self.at)) or 'body'}: {self.what}"


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.spec = openapi.Spec(openapi.source())
        cls.server = lib.Server().start()
        cls.admin = cls.make_key("ops", "admin")
        cls.other = cls.make_key("other", "read,write,keys")
        cls.server.other_keys.append(cls.other)
        cls.ids = cls.make_things()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    @classmethod
    def make_key(cls, namespace, scopes):
        done = subprocess.run(
            [os.path.join(cls.server.out, "sandpit"), "key", "create", "--namespace", namespace,
             "--client", "test", "--scope", scopes, "--state-dir", cls.server.state],
            check=True, capture_output=True, text=True)  # fmt: skip
        return done.stdout.strip()

    @classmethod
    def call(cls, method, path, body=None, key=None, raw=None):
        headers = {"X-API-Key": key or cls.server.key}
        if path.startswith(("/nodes", "/admin/")):
            headers = {"X-Admin-Token": cls.admin}
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        return cls.server.conn.request(method, path, data, headers)

    @classmethod
    def make_things(cls):
        """One of each thing that a path can name, of our own team."""
        row = cls.server.create(timeout=3600)
        team = cls.call("GET", "/teams").json[0]["teamID"]
        ids = {"sandboxID": row.row["sandboxID"], "teamID": team, "templateID": "base",
               "alias": "base", "nodeID": cls.call("GET", "/nodes").json[0]["id"]}  # fmt: skip
        makers = {
            "apiKeyID": ("/api-keys", {"name": "x"}, "id"),
            "accessTokenID": ("/access-tokens", {"name": "x"}, "id"),
            "volumeID": ("/volumes", {"name": "bad-input"}, "volumeID"),
            "secretID": ("/secrets", {"name": "bad-input", "value": "v"}, "secretID"),
            "webhookID": ("/events/webhooks", {"name": "x", "url": "https://example.com/x",
                          "events": ["sandbox.lifecycle.created"], "signatureSecret": "s" * 32},
                          "id"),
        }  # fmt: skip
        for name, (path, body, field) in makers.items():
            reply = cls.call("POST", path, body)
            if reply.status == 201:
                ids[name] = reply.json[field]
            elif reply.status != 501:
                raise AssertionError(f"{path}: {reply.status} {reply.body}")
        return ids

    # --- what must hold of every answer ---

    def state(self):
        """All lists, without what changes by itself."""

        def strip(value):
            if isinstance(value, dict):
                return {k: strip(v) for k, v in value.items() if k not in VOLATILE}
            return [strip(item) for item in value] if isinstance(value, list) else value

        return {path: strip(self.call("GET", path).json) for path in LISTS}

    def unchanged(self, before, what):
        after = self.state()
        for path, value in before.items():
            self.assertEqual(value, after[path], f"{what} changed {path}")

    def refused(self, method, path, reply, what, statuses=(400,), names=()):
        """REPLY is an error of the description. NAMES: one of them is in its message."""
        label = f"{method} {path.split('?')[0][:80]}: {what}"
        problems = self.spec.check(method, path, reply.status, reply.headers, reply.body)
        self.assertEqual(problems, [], label)
        self.assertIn(reply.status, statuses, f"{label}: {reply.body[:300]}")
        self.assertEqual(reply.json["code"], reply.status, label)
        message = reply.json["message"]
        self.assertTrue(message, label)
        if names and not path.startswith(SILENT):
            words = [str(name).lower() for name in names]
            words += [E2B_WORDS[word] for word in words if word in E2B_WORDS]
            found = any(word in message.lower() for word in words)
            self.assertTrue(found, f"{label}: {message!r} names none of {names}")

    # --- the cases of a body ---

    def sample(self, schema):
        """A value that SCHEMA allows, with what is required alone."""
        schema = self.spec.deref(schema)
        for word in ("example", "default", "const"):
            if schema.get(word) is not None:
                return copy.deepcopy(schema[word])
        if schema.get("examples"):
            return copy.deepcopy(schema["examples"][0])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self.sample(schema[word][0])
        if schema.get("enum"):
            return schema["enum"][0]
        kind = (types_of(schema) or ["object"])[0]
        if kind == "object":
            properties = schema.get("properties", {})
            return {name: self.sample(properties[name]) for name in schema.get("required", [])}
        if kind == "array":
            return []
        if kind == "string":
            return {"uuid": NOBODY, "date-time": "2026-01-02T03:04:05Z"}.get(
                schema.get("format"), "x" * max(1, schema.get("minLength", 1)))
        return {"boolean": True, "integer": max(1, schema.get("minimum", 1)), "number": 1}[kind]

    def branches(self, schema):
        schema = self.spec.deref(schema)
        if "anyOf" in schema or "oneOf" in schema:
            return [self.spec.deref(one) for one in schema.get("anyOf", schema.get("oneOf"))]
        return [schema]

    def cases_of(self, schema, at, required):
        """Yield a Case for each way in which the value AT can be wrong."""
        branches = self.branches(schema)
        kinds = {kind for one in branches for kind in types_of(one)}
        for kind in sorted(kinds - {"null"}):
            for value in WRONG[kind]:
                if not any(self.fits(one, value) for one in branches):
                    yield Case(at, value, f"{value!r} for {kind}")
        if required and "null" not in kinds:
            yield Case(at, None, "null")
            yield Case(at, None, "missing", missing=True)
        for one in branches:
            yield from self.limits_of(one, at)
            yield from self.inner_cases(one, at)

    def fits(self, schema, value):
        return not list(self.spec.check_value(schema, value, "$"))

    def limits_of(self, one, at):
        kinds = types_of(one)
        if "string" in kinds:
            if "enum" in one:
                yield Case(at, "no-such-word", "unknown word")
            if "maxLength" in one:
                yield Case(at, "x" * (one["maxLength"] + 1), "too long")
                yield Case(at, "x" * BIG, "1 MB")
            if one.get("minLength"):
                yield Case(at, "", "empty")
            for value in ("\x01!", "é/é/é", "x" * 300):
                if "pattern" in one and not self.fits(one, value):
                    yield Case(at, value, "another form")
            if one.get("format") == "uuid":
                yield Case(at, "x", "no UUID")
        if "integer" in kinds:
            if "minimum" in one:
                yield Case(at, one["minimum"] - 1, "below the minimum")
                yield Case(at, -(2**31) - 1, "far below")
            if "maximum" in one:
                yield Case(at, one["maximum"] + 1, "above the maximum")
            if one.get("format") == "int32":
                yield Case(at, 2**31, "past 32 bits")
            yield Case(at, 10**30, "past 64 bits")
        if "array" in kinds and one.get("maxItems"):
            item = self.sample(one.get("items", {"type": "string"}))
            yield Case(at, [item] * (one["maxItems"] + 1), "too many")
        if "object" in kinds and one.get("maxProperties"):
            many = {f"k{i}": "v" for i in range(one["maxProperties"] + 1)}
            yield Case(at, many, "too many")

    def inner_cases(self, one, at):
        for name, schema in one.get("properties", {}).items():
            yield from self.cases_of(schema, (*at, name), name in one.get("required", []))
        if isinstance(one.get("additionalProperties"), dict):
            yield from self.cases_of(one["additionalProperties"], (*at, "some-key"), False)
        if "items" in one and "array" in types_of(one):
            yield from self.cases_of(one["items"], (*at, 0), False)

    def body_with(self, schema, case):
        """A good body, but for CASE."""
        body = self.sample(schema)
        here, known = body, schema
        for i, step in enumerate(case.at):
            last = i == len(case.at) - 1
            if last and case.missing:
                here.pop(step, None)
                return body
            known = self.schema_below(known, step)
            value = case.value if last else self.sample(known)
            if isinstance(step, int):
                here[:] = [value]
            elif last or not isinstance(here.get(step), (dict, list)):
                here[step] = value
            here = here[step]
        return body if case.at else case.value

    def schema_below(self, schema, step):
        for one in self.branches(schema):
            if isinstance(step, int) and "items" in one:
                return one["items"]
            if step in one.get("properties", {}):
                return one["properties"][step]
            if isinstance(one.get("additionalProperties"), dict):
                return one["additionalProperties"]
        raise AssertionError(f"no {step} in {schema}")

    # --- operations ---

    def operations(self):
        for method, template, operation in self.spec.operations:
            if operation["x-sandpit-support"]["local"] != "supported":
                continue
            if operation["x-sandpit-scope"] != "none" and not template.startswith("/volumecontent"):
                yield method, template, operation

    def parameters(self, operation, where):
        found = [self.spec.deref(one) for one in operation.get("parameters", [])]
        return [one for one in found if one["in"] == where]

    def path(self, template, operation, **others):
        """TEMPLATE with our own things' ids, but OTHERS. None: one of them we do not have."""
        ids = {**self.ids, **others}
        for one in self.parameters(operation, "path"):
            if one["name"] not in ids:
                return None
            value = urllib.parse.quote(ids[one["name"]], safe="")
            template = template.replace("{%s}" % one["name"], value)
        return template

    def json_body(self, operation):
        content = operation.get("requestBody", {}).get("content", {})
        return content.get("application/json", {}).get("schema")

    def with_body(self):
        for method, template, operation in self.operations():
            schema = self.json_body(operation)
            path = self.path(template, operation)
            if schema is not None and path is not None:
                yield method, template, path, operation, schema

    def test_each_field_of_each_body(self):
        count = 0
        for method, template, path, _operation, schema in self.with_body():
            before = self.state()
            for one in self.branches(schema):
                for case in self.inner_cases(one, ()):
                    with self.subTest(operation=f"{method} {template}", case=repr(case)):
                        body = self.body_with(schema, case)
                        reply = self.call(method, path, body)
                        names = [step for step in case.at if isinstance(step, str)]
                        self.refused(method, path, reply, repr(case), names=[*names, "JSON"])
                        count += 1
            self.unchanged(before, f"{method} {template}")
        self.assertGreater(count, 200)

    def test_bodies_that_are_no_objects(self):
        deep = 100_000
        raws = {
            "an array": b"[]", "a string": b'"x"', "a number": b"5", "null": b"null",
            "cut": b'{"name":', "garbage after it": b"{} x", "no JSON": b"<xml/>",
            "a duplicate key": b'{"name":"a","name":"a","timeout":5,"timeout":5}',
            "a duplicate key inside": b'{"metadata":{"a":"1","a":"2"},"x":{"a":1,"a":1}}',
            "invalid UTF-8": b'{"name":"\xff\xfe","x":"\xc3"}',
            "a lone surrogate": b'{"name":"\\ud800"}',
            "a NUL": b'{"name":"a\\u0000b"}', "a raw NUL": b'{"name":"a\0b"}',
            "a depth bomb": b'{"x":' + b"[" * deep + b"]" * deep + b"}",
            "a depth bomb of objects": b'{"x":' * deep + b"1" + b"}" * deep,
            "65 levels": b'{"x":' + b"[" * 65 + b"]" * 65 + b"}",
            "a 1 MB key": b'{"' + b"k" * BIG + b'":1,"name":"\xff"}',
        }  # fmt: skip
        for method, template, path, _operation, _schema in self.with_body():
            before = self.state()
            for what, raw in raws.items():
                with self.subTest(operation=f"{method} {template}", body=what):
                    reply = self.call(method, path, raw=raw)
                    self.refused(method, path, reply, what)
            with self.subTest(operation=f"{method} {template}", body="too large"):
                reply = self.call(method, path, raw=b" " * (1024 * 1024 + 1))
                self.refused(method, path, reply, "too large", (413,))
            self.unchanged(before, f"{method} {template}")

    def good_body(self, operation):
        schema = self.json_body(operation)
        return None if schema is None else self.sample(schema)

    def test_ids_that_are_wrong_or_unknown(self):
        for method, template, operation in self.operations():
            before = self.state()
            for parameter in self.parameters(operation, "path"):
                name = parameter["name"]
                wrong = WRONG_IDS.get(name)
                if wrong is None and parameter["schema"].get("format") == "uuid":
                    wrong = UUIDS
                for value in wrong or []:
                    path = self.path(template, operation, **{name: value})
                    if path is None:
                        continue
                    with self.subTest(operation=f"{method} {template}", id=value[:40]):
                        reply = self.call(method, path, self.good_body(operation))
                        self.refused(method, path, reply, value[:40], (400, *self.missing(name)))
                path = self.path(template, operation, **{name: UNKNOWN_IDS[name]})
                if path is None:
                    continue
                with self.subTest(operation=f"{method} {template}", unknown=name):
                    reply = self.call(method, path, self.good_body(operation))
                    if reply.status != 200 or not self.is_empty(reply.json):
                        self.refused(method, path, reply, "unknown", self.missing(name))
            self.unchanged(before, f"{method} {template}")

    def missing(self, parameter):
        """The status of what is not there; a key sees no team but its own, which E2B says."""
        return (404, 403) if parameter == "teamID" else (404,)

    def is_empty(self, value):
        """E2B answers what an unknown sandbox logged or used with nothing, not with 404."""
        if isinstance(value, dict):
            return all(self.is_empty(item) for item in value.values())
        return value == []

    def test_another_teams_things_are_as_if_they_were_not_there(self):
        ours = {"sandboxID", "apiKeyID", "accessTokenID", "volumeID", "secretID", "webhookID"}
        for method, template, operation in self.operations():
            names = [one["name"] for one in self.parameters(operation, "path")]
            wanted = [name for name in names if name in ours]
            path = self.path(template, operation)
            if not wanted or path is None or template.startswith("/admin/"):
                continue
            before = self.state()
            nobody = self.path(template, operation, **{n: UNKNOWN_IDS[n] for n in wanted})
            body = self.good_body(operation)
            with self.subTest(operation=f"{method} {template}"):
                theirs = self.call(method, path, body, key=self.other)
                unknown = self.call(method, nobody, body, key=self.other)
                self.assertEqual(theirs.status, unknown.status, theirs.body)
                if theirs.status != 200 or not self.is_empty(theirs.json):
                    self.refused(method, path, theirs, "another team's", (404,))
                    mine = theirs.json["message"].replace(self.ids[wanted[0]], "ID")
                    its = unknown.json["message"].replace(UNKNOWN_IDS[wanted[0]], "ID")
                    self.assertEqual(mine, its)
            self.unchanged(before, f"{method} {template}")

    def test_wrong_parameters_of_queries(self):
        for method, template, operation in self.operations():
            path = self.path(template, operation)
            if path is None:
                continue
            good = [f"{one['name']}={urllib.parse.quote(str(self.sample(one['schema'])))}"
                    for one in self.parameters(operation, "query") if one.get("required")]  # fmt: skip
            before = self.state()
            for query, names in self.wrong_queries(operation):
                full = path + "?" + "&".join([one for one in good if not one.startswith(
                    query.split("=")[0] + "=")] + [query])  # fmt: skip
                with self.subTest(operation=f"{method} {template}", query=query[:60]):
                    reply = self.call(method, full, self.good_body(operation))
                    self.refused(method, full, reply, query[:60], names=names)
            self.unchanged(before, f"{method} {template}")

    def wrong_queries(self, operation):
        for one in ("%", "a=%zz", "a=%ff", "a=%00", "a=%c3"):
            yield one, ["query"]
        for parameter in self.parameters(operation, "query"):
            name, schema = parameter["name"], self.spec.deref(parameter["schema"])
            kinds = types_of(schema)
            values = []
            if "integer" in kinds:
                values += ["x", "1.5", "9" * 30, "1%20", "0x10"]
                values += [str(schema["minimum"] - 1)] if "minimum" in schema else []
                values += [str(schema["maximum"] + 1)] if "maximum" in schema else []
            if schema.get("enum") or schema.get("items", {}).get("enum"):
                values.append("no-such-word")
            if schema.get("format") in ("date-time", "uuid"):
                values += ["x", "2026-13-01T00:00:00Z"]
            if "boolean" in kinds:
                values.append("maybe")
            for value in values:
                yield f"{name}={value}", [name]
            if name == "nextToken":
                for value in ("x", "%21%21", "eA", "x" * 5000):
                    yield f"{name}={value}", ["token", name]


if __name__ == "__main__":
    lib.main()
