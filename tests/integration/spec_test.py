#!/usr/bin/env python3
"""openapi/platform.yaml by itself: complete, consistent, and what docs/compatibility.md shows.

usage: spec_test.py            check
       spec_test.py --table    write the table of operations in docs/compatibility.md
"""

import os
import re
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402
import openapi  # noqa: E402

PAGE = os.path.join(lib.ROOT, "docs/compatibility.md")
BEGIN = "<!-- operations: written by tests/integration/spec_test.py --table -->"
END = "<!-- operations end -->"
ENGINES = ("local", "kubernetes")
# What the newest client declares (platform-api section 11): each must be declared here.
DECLARED = """
GET /sandboxes 200 400 401 429 500
POST /sandboxes 201 400 401 429 500 503 504
GET /sandboxes/metrics 200 400 401 429 500
DELETE /sandboxes/{sandboxID} 204 401 404 409 429 500
GET /sandboxes/{sandboxID} 200 401 404 429 500
POST /sandboxes/{sandboxID}/connect 200 201 400 401 404 409 429 500 503 504
POST /sandboxes/{sandboxID}/fork 201 401 404 409 429 500 503
GET /sandboxes/{sandboxID}/logs 200 401 404 429 500
GET /sandboxes/{sandboxID}/metrics 200 400 401 404 429 500
PUT /sandboxes/{sandboxID}/network 204 401 404 409 429 500
POST /sandboxes/{sandboxID}/pause 204 401 404 409 429 500 503
POST /sandboxes/{sandboxID}/refreshes 204 401 404 429
POST /sandboxes/{sandboxID}/resume 201 400 401 404 409 429 500 503 504
POST /sandboxes/{sandboxID}/snapshots 201 400 401 404 429 500 503
POST /sandboxes/{sandboxID}/timeout 204 401 404 429 500
GET /secrets 200 400 401 403 404 409 429 500 502 504
POST /secrets 201 400 401 403 404 409 429 500 502 504
DELETE /secrets/{secretID} 204 400 401 403 404 409 429 500 502 504
GET /secrets/{secretID} 200 400 401 403 404 409 429 500 502 504
POST /secrets/{secretID} 200 400 401 403 404 409 429 500 502 504
GET /snapshots 200 401 429 500
GET /v2/sandboxes 200 400 401 429 500
POST /v2/sandboxes 201 400 401 403 404 409 422 429 500 503 504
POST /v2/sandboxes/{sandboxID}/connect 200 201 400 401 404 409 429 500 503 504
GET /v2/sandboxes/{sandboxID}/logs 200 401 404 429 500
GET /volumes 200 401 429 500
POST /volumes 201 400 401 429 500
DELETE /volumes/{volumeID} 204 401 404 429 500
GET /volumes/{volumeID} 200 401 404 429 500
"""


def table(spec):
    lines = ["| operation | scope | local | kubernetes |", "| --- | --- | --- | --- |"]
    for method, template, operation in spec.operations:
        marks = ["yes" if operation["x-sandpit-support"][engine] == "supported" else "no"
                 for engine in ENGINES]  # fmt: skip
        lines.append(f"| `{method} {template}` | {operation['x-sandpit-scope']} | "
                     + " | ".join(marks) + " |")  # fmt: skip
    return "\n".join(lines)


def page_parts():
    with open(PAGE, encoding="utf-8") as file:
        head, found, rest = file.read().partition(BEGIN)
    return head, rest.partition(END)[0], rest.partition(END)[2] if found else None


def write_table():
    head, _, tail = page_parts()
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(f"{head}{BEGIN}\n\n{table(openapi.Spec(openapi.source()))}\n\n{END}{tail}")


class Description(unittest.TestCase):
    def setUp(self):
        self.spec = openapi.Spec(openapi.source())

    def test_the_page_shows_each_operation(self):
        self.assertEqual(page_parts()[1].strip(), table(self.spec), "run spec_test.py --table")

    def test_statuses_of_the_newest_client_are_declared(self):
        known = {f"{m} {t}": set(o["responses"]) for m, t, o in self.spec.operations}
        for line in DECLARED.strip().splitlines():
            method, template, *statuses = line.split()
            operation = known[f"{method} {template}"]
            self.assertEqual(set(statuses) - operation, set(), line)

    def test_each_operation_is_whole(self):
        ids = set()
        for method, template, operation in self.spec.operations:
            label = f"{method} {template}"
            self.assertNotIn(operation["operationId"], ids, label)
            ids.add(operation["operationId"])
            self.assertTrue(operation["summary"], label)
            self.assertEqual(set(operation["x-sandpit-support"]), set(ENGINES), label)
            found = [self.spec.deref(one) for one in operation.get("parameters", [])]
            named = {one["name"] for one in found if one["in"] == "path"}
            self.assertEqual(named, set(re.findall(r"\{(\w+)\}", template)), label)
            good = [status for status in operation["responses"] if status < "400"]
            if "supported" in operation["x-sandpit-support"].values():
                self.assertTrue(good, f"{label}: no success is declared")
            else:
                self.assertIn("501", operation["responses"], label)
            if operation["x-sandpit-scope"] != "none":
                self.assertLessEqual({"400", "401", "403"}, set(operation["responses"]), label)

    def test_errors_are_the_error_of_the_contract(self):
        for method, template, operation in self.spec.operations:
            for status, answer in operation["responses"].items():
                answer = self.spec.deref(answer)
                if status < "400" or template == "/health":
                    continue
                schema = answer["content"]["application/json"]["schema"]
                fields = self.spec.deref(schema)["properties"]
                self.assertLessEqual({"code", "message"}, set(fields), f"{method} {template}")

    def contents(self):
        for method, template, operation in self.spec.operations:
            body = operation.get("requestBody", {}).get("content", {})
            answers = [self.spec.deref(one).get("content", {})
                       for one in operation["responses"].values()]  # fmt: skip
            for content in (body, *answers):
                for media in content.values():
                    yield f"{method} {template}", media

    def test_every_schema_can_be_checked_and_fits_its_examples(self):
        count = 0
        for label, media in self.contents():
            list(self.spec.check_value(media["schema"], None, label))  # knows every keyword
            if "example" in media:
                found = list(self.spec.check_value(media["schema"], media["example"], label))
                self.assertEqual(found, [], label)
                count += 1
        for name, schema in self.spec.document["components"]["schemas"].items():
            examples = [*schema.get("examples", []), *([schema["example"]] if "example" in schema else [])]
            for example in examples:
                self.assertEqual(list(self.spec.check_value(schema, example, name)), [], name)
                count += 1
        self.assertGreater(count, 10)

    def test_required_fields_are_declared_ones(self):
        def look(node, at):
            if isinstance(node, dict):
                if isinstance(node.get("required"), list) and "properties" in node:
                    self.assertLessEqual(set(node["required"]), set(node["properties"]), at)
                for name, value in node.items():
                    look(value, f"{at}/{name}")
            elif isinstance(node, list):
                for i, value in enumerate(node):
                    look(value, f"{at}/{i}")

        look(self.spec.document, "#")


if __name__ == "__main__":
    if "--table" in sys.argv:
        write_table()
    else:
        lib.main()
