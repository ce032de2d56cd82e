"""tests/openapi.py - is an answer of the API what openapi/platform.yaml says?

Stricter than JSON Schema: a field that the description does not name is a fault, and so is a status
it does not declare. A keyword that is not known here is an error of the test, so that nothing in
the description goes unchecked. Only the standard library.
"""

import json
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATE_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.I)
METHODS = ("get", "post", "put", "patch", "delete")
# Say nothing about a value, or are looked at elsewhere.
PASSIVE = {"description", "title", "example", "examples", "default", "deprecated", "readOnly",
           "writeOnly", "contentMediaType"}  # fmt: skip
TYPES = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "null": lambda v: v is None,
}
FORMATS = {
    "date-time": lambda v: DATE_TIME.match(v),
    "uuid": lambda v: UUID.match(v),
    "int32": lambda v: -(2**31) <= v < 2**31,
    "int64": lambda v: -(2**63) <= v < 2**63,
    "uri": lambda v: re.match(r"^[a-z][a-z0-9+.-]*:", v),
}
LOOSE = {"double", "float", "byte", "binary", "password", "ipv4", "hostname"}


def source():
    """The description in the source tree."""
    with open(os.path.join(ROOT, "openapi/platform.yaml"), encoding="utf-8") as file:
        return json.load(file)


class Spec:
    def __init__(self, document):
        self.document = document
        self.operations = []  # (METHOD, template, operation)
        for template, methods in document["paths"].items():
            for method, operation in methods.items():
                if method in METHODS:
                    self.operations.append((method.upper(), template, operation))
        self.seen = {}  # (METHOD, template): statuses that answers had

    def deref(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"].lstrip("#/").split("/"):
                target = target[part]
            node = target
        return node

    def find(self, method, target):
        """(template, operation) of a request's target, or None. A word comes before a parameter."""
        parts = target.split("?")[0].split("/")
        best = None
        for known, template, operation in self.operations:
            words = template.split("/")
            if known != method or len(words) != len(parts):
                continue
            if all(w == p or (w.startswith("{") and p) for w, p in zip(words, parts)):
                weight = [not w.startswith("{") for w in words]
                if best is None or weight > best[0]:
                    best = (weight, template, operation)
        return best and best[1:]

    def check(self, method, target, status, headers, body):
        """What is wrong with an answer: a list of sentences, empty when all is well."""
        found = self.find("GET" if method == "HEAD" else method, target)
        if method == "OPTIONS":
            return []
        if found is None:
            if status not in (400, 404, 405, 413, 431):
                return [f"{method} {target}: {status} for what is not described"]
            return self.check_error(status, headers, body)
        template, operation = found
        self.seen.setdefault((method, template), set()).add(status)
        answers = operation["responses"]
        if str(status) not in answers:
            return [f"{method} {template}: status {status} is not declared: {body[:200]!r}"]
        answer = self.deref(answers[str(status)])
        problems = self.check_body(answer, status, headers, b"" if method == "HEAD" else body,
                                   method == "HEAD")  # fmt: skip
        for name, header in answer.get("headers", {}).items():
            header = self.deref(header)
            value = headers.get(name)
            if value is None and header.get("required"):
                problems.append(f"header {name} is missing")
        return [f"{method} {template}: {status}: {problem}" for problem in problems]

    def check_error(self, status, headers, body):
        schema = {"$ref": "#/components/schemas/Error"}
        return self.check_json(schema, status, headers, body)

    def check_body(self, answer, status, headers, body, head):
        content = answer.get("content")
        if not content:
            return [f"has a body, none is declared: {body[:100]!r}"] if body else []
        kind = (headers.get("Content-Type") or "").split(";")[0]
        if kind not in content:
            return [f"content type {kind!r} is not declared"]
        if head or kind != "application/json":
            return []
        return self.check_json(content[kind].get("schema", {}), status, headers, body)

    def check_json(self, schema, status, headers, body):
        try:
            value = json.loads(body)
        except ValueError:
            return [f"the body is no JSON: {body[:100]!r}"]
        problems = list(self.check_value(schema, value, "$"))
        if status >= 400 and isinstance(value, dict) and isinstance(value.get("code"), int):
            if value["code"] != status:
                problems.append(f"code {value['code']} is not the status")
            if not value.get("message"):
                problems.append("the message is empty")
        return problems

    def check_value(self, schema, value, at):
        """Yield what VALUE, found AT, has that SCHEMA does not allow."""
        schema = self.deref(schema)
        for keyword, wanted in schema.items():
            if keyword in PASSIVE or keyword.startswith("x-"):
                continue
            try:
                check = getattr(self, "on_" + keyword)
            except AttributeError:
                raise AssertionError(f"{at}: tests/openapi.py does not know {keyword!r}") from None
            yield from check(schema, wanted, value, at)

    def on_type(self, schema, wanted, value, at):
        wanted = [wanted] if isinstance(wanted, str) else wanted
        if not any(TYPES[name](value) for name in wanted):
            yield f"{at} is no {' or '.join(wanted)}: {value!r:.80}"

    def on_enum(self, schema, wanted, value, at):
        if value not in wanted:
            yield f"{at} is not one of {wanted}: {value!r:.80}"

    def on_const(self, schema, wanted, value, at):
        if value != wanted:
            yield f"{at} is not {wanted!r}: {value!r:.80}"

    def on_required(self, schema, wanted, value, at):
        if isinstance(value, dict):
            for name in wanted:
                if name not in value:
                    yield f"{at}.{name} is missing"

    def on_properties(self, schema, wanted, value, at):
        if not isinstance(value, dict):
            return
        others = schema.get("additionalProperties", False)
        for name, item in value.items():
            if name in wanted:
                yield from self.check_value(wanted[name], item, f"{at}.{name}")
            elif others is False:
                yield f"{at}.{name} is not declared: {item!r:.80}"

    def on_additionalProperties(self, schema, wanted, value, at):
        if isinstance(value, dict) and isinstance(wanted, dict):
            for name, item in value.items():
                if name not in schema.get("properties", {}):
                    yield from self.check_value(wanted, item, f"{at}.{name}")

    def on_propertyNames(self, schema, wanted, value, at):
        if isinstance(value, dict):
            for name in value:
                yield from self.check_value(wanted, name, f"{at}: the name {name!r}")

    def on_maxProperties(self, schema, wanted, value, at):
        if isinstance(value, dict) and len(value) > wanted:
            yield f"{at} has {len(value)} fields"

    def on_minProperties(self, schema, wanted, value, at):
        if isinstance(value, dict) and len(value) < wanted:
            yield f"{at} has {len(value)} fields"

    def on_items(self, schema, wanted, value, at):
        if isinstance(value, list):
            for i, item in enumerate(value):
                yield from self.check_value(wanted, item, f"{at}[{i}]")

    def on_uniqueItems(self, schema, wanted, value, at):
        if wanted and isinstance(value, list):
            if len({json.dumps(item, sort_keys=True) for item in value}) < len(value):
                yield f"{at} repeats an item"

    def on_minItems(self, schema, wanted, value, at):
        if isinstance(value, list) and len(value) < wanted:
            yield f"{at} has {len(value)} items"

    def on_maxItems(self, schema, wanted, value, at):
        if isinstance(value, list) and len(value) > wanted:
            yield f"{at} has {len(value)} items"

    def on_minLength(self, schema, wanted, value, at):
        if isinstance(value, str) and len(value) < wanted:
            yield f"{at} is shorter than {wanted}: {value!r:.80}"

    def on_maxLength(self, schema, wanted, value, at):
        if isinstance(value, str) and len(value) > wanted:
            yield f"{at} is longer than {wanted}: {value!r:.80}"

    def on_pattern(self, schema, wanted, value, at):
        if isinstance(value, str) and not re.search(wanted, value):
            yield f"{at} is not of the form {wanted}: {value!r:.80}"

    def on_minimum(self, schema, wanted, value, at):
        if TYPES["number"](value) and value < wanted:
            yield f"{at} is below {wanted}: {value}"

    def on_maximum(self, schema, wanted, value, at):
        if TYPES["number"](value) and value > wanted:
            yield f"{at} is above {wanted}: {value}"

    def on_exclusiveMinimum(self, schema, wanted, value, at):
        if TYPES["number"](value) and value <= wanted:
            yield f"{at} is not above {wanted}: {value}"

    def on_format(self, schema, wanted, value, at):
        if wanted in LOOSE:
            return
        right_kind = TYPES["integer" if wanted.startswith("int") else "string"]
        if right_kind(value) and not FORMATS[wanted](value):
            yield f"{at} is no {wanted}: {value!r:.80}"

    def on_anyOf(self, schema, wanted, value, at):
        tries = [list(self.check_value(one, value, at)) for one in wanted]
        if all(tries):
            yield f"{at} fits none of anyOf: {min(tries, key=len)}"

    def on_oneOf(self, schema, wanted, value, at):
        fits = [one for one in wanted if not list(self.check_value(one, value, at))]
        if len(fits) != 1:
            yield f"{at} fits {len(fits)} of oneOf: {value!r:.200}"

    def on_allOf(self, schema, wanted, value, at):
        """Fields of all parts together; each part alone does not know the others'."""
        merged = {"type": "object", "properties": {}, "required": []}
        for one in wanted:
            one = self.deref(one)
            merged["properties"].update(one.get("properties", {}))
            merged["required"] += one.get("required", [])
        yield from self.check_value(merged, value, at)
