"""What an SDK offers, and a table of which test calls what.

The Python SDK's methods and parameters come from its signatures (record.py); the JavaScript SDK's
are read here from its type declarations.
"""

import glob
import json
import os
import re

# The name in the table, and the class of index.d.ts.
JS_CLASSES = (("commands", "Commands"), ("handle", "CommandHandle"), ("pty", "Pty"),
              ("files", "Filesystem"), ("watch", "WatchHandle"), ("git", "Git"))  # fmt: skip
# A constructor's business, and what only the SDK sees.
NOT_OURS = {"constructor"}


def block(text, start):
    """What stands between the brace at or after START and its partner."""
    begin = text.index("{", start)
    depth = 0
    for i in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[begin + 1 : i]
    raise ValueError("unbalanced braces")


class Declarations:
    def __init__(self, path):
        with open(path) as file:
            self.text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)

    def fields(self, expression, seen=()):
        """The names that an options type has: of interfaces, aliases, Pick<…> and literals."""
        names = set()
        for picked in re.findall(r"Pick<[^<>]*?,((?:\s*\|?\s*'\w+')+)>", expression):
            names |= set(re.findall(r"'(\w+)'", picked))
        rest = re.sub(r"Pick<[^<>]*>", "", expression)
        names |= set(re.findall(r"[{;]\s*(\w+)\??:", rest))
        for name in re.findall(r"\b[A-Z]\w*Opts\b", rest):
            if name not in seen:
                names |= self.type_fields(name, (*seen, name))
        return names

    def type_fields(self, name, seen):
        found = re.search(rf"^interface {name}\b([^{{]*)\{{", self.text, re.M)
        if found:
            body = block(self.text, found.start(1))
            own = set(re.findall(r"^\s*(\w+)\??:", body, re.M))
            return own | self.fields(found.group(1), seen)
        found = re.search(rf"^type {name} = ([^;]*);", self.text, re.M)
        return self.fields(found.group(1), seen) if found else set()

    def methods(self, name):
        """{method: option names} of class NAME."""
        start = re.search(rf"^declare class {name}\b", self.text, re.M).start()
        body = block(self.text, start)
        found = {}
        for match in re.finditer(r"^  (get )?(\w+)(?:<[^>]*>)?\((.*)\): .*;$", self.flat(body), re.M):
            if match.group(2) not in NOT_OURS:
                found.setdefault(match.group(2), set()).update(self.fields(match.group(3)))
        return found

    @staticmethod
    def flat(body):
        """One declaration a line."""
        lines, depth = [], 0
        for line in body.split("\n"):
            if depth:
                lines[-1] += " " + line.strip()
            else:
                lines.append(line)
            depth += line.count("{") + line.count("(") - line.count("}") - line.count(")")
        return "\n".join(lines)


def merge_python(paths):
    rows = {}
    for path in paths:
        with open(path) as file:
            for key, found in json.load(file).items():
                row = rows.setdefault(key, {"options": {}, "tests": {}})
                for name, given in found["parameters"].items():
                    row["options"][name] = row["options"].get(name, False) or given
                add_tests(row, found)
    return rows


def merge_js(paths, declarations):
    rows = {}
    for prefix, name in JS_CLASSES:
        for method, options in Declarations(declarations).methods(name).items():
            rows[f"{prefix}.{method}"] = {"options": dict.fromkeys(sorted(options), False), "tests": {}}
    for path in paths:
        with open(path) as file:
            for key, found in json.load(file).items():
                row = rows.get(key)  # private ones are called, too
                if row is None:
                    continue
                row["options"].update({n: True for n in found["options"] if n in row["options"]})
                add_tests(row, found)
    return rows


def add_tests(row, found):
    for test, calls in found["tests"].items():
        if test != "(no test)":
            row["tests"][test] = row["tests"].get(test, 0) + calls


def gaps(rows):
    """Sentences about what no test calls."""
    found = []
    for key, row in sorted(rows.items()):
        if not row["tests"]:
            found.append(f"{key}: no test calls it")
            continue
        missing = [name for name, given in row["options"].items() if not given]
        if missing:
            found.append(f"{key}: never with {', '.join(missing)}")
    return found


def load(prefix, sdk, declarations):
    paths = sorted(glob.glob(f"{prefix}-{sdk}-*"))
    return merge_js(paths, declarations) if sdk == "js" else merge_python(paths)


def chosen(row, all_rows):
    """The one or two tests that are about this method: those that call the fewest others."""
    width = {}
    for other in all_rows.values():
        for test in other["tests"]:
            width[test] = width.get(test, 0) + 1
    ranked = sorted(row["tests"], key=lambda test: (width[test], -row["tests"][test], test))
    return ranked[:2]


def table(rows):
    lines = []
    for key, row in rows.items():
        options = ", ".join(f"`{name}`" for name in row["options"]) or "–"
        tests = "; ".join(chosen(row, rows))
        lines.append(f"| `{key}` | {options} | {tests} ({len(row['tests'])}) |")
    return "\n".join(["| method | parameters, all used | tests about it (of how many) |", "| --- | --- | --- |", *lines])


def marks(sdk):
    return f"<!-- {sdk}: written by tests/contract/run.py --table -->", f"<!-- {sdk}: end -->"


def write_table(page, sdk, version, rows):
    """Put the table between its marks in PAGE."""
    begin, end = marks(sdk)
    with open(page) as file:
        head, _, rest = file.read().partition(begin)
    tail = rest.partition(end)[2]
    with open(page, "w") as file:
        file.write(f"{head}{begin}\n\n{version}:\n\n{table(rows)}\n\n{end}{tail}")


def is_described(page, sdk, version):
    """Whether PAGE's table is of this version."""
    begin, end = marks(sdk)
    with open(page) as file:
        return f"\n{version}:\n" in file.read().partition(begin)[2].partition(end)[0]
