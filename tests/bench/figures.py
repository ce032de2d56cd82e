"""tests/bench/figures.py - figures and the table that `make bench` prints."""

import shutil
import subprocess
import sys

GIVEN = "E2B's envd (Go), given"


class Times:
    """Durations in milliseconds."""

    unit = "ms"

    def __init__(self, values):
        self.values = sorted(values)

    def at(self, share):
        return self.values[min(len(self.values) - 1, int(len(self.values) * share))]

    def cells(self):
        return f"{self.at(0.5):.2f} ms", f"{self.at(0.99):.2f} ms"

    def middle(self):
        return self.at(0.5)


class Rate:
    def __init__(self, value, unit):
        self.value = value
        self.unit = unit

    def cells(self):
        return f"{self.value:,.0f} {self.unit}", ""

    def middle(self):
        return self.value


class Table:
    """Rows; those with a given figure of E2B's envd and a goal have two columns more."""

    HEAD = ["figure", "ours", "p99", "peer", "peer's", "p99", "ratio", GIVEN, "goal"]

    def __init__(self):
        self.rows = []

    def add(self, figure, ours, peer="", theirs=None, given="", goal=""):
        ratio = f"{ours.middle() / theirs.middle():.2f}" if theirs and theirs.middle() else ""
        cells = [figure, *ours.cells(), peer, *(theirs.cells() if theirs else ("", "")), ratio, given, goal]
        self.rows.append(cells)
        print("  ".join(cell for cell in cells if cell), file=sys.stderr, flush=True)

    def text(self, keep=lambda figure: True):
        """The rows whose figure KEEP takes, without columns that are empty in all of them."""
        rows = [row for row in self.rows if keep(row[0])]
        columns = [i for i in range(len(self.HEAD)) if i < 7 or any(row[i] for row in rows)]
        rows = [[row[i] for i in columns] for row in (self.HEAD, *rows)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
        lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in rows]
        lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
        return "\n".join(lines)


def optional(what, program, call):
    """A peer's figure, or None with a word when its program is missing or refuses to run here."""
    if not shutil.which(program):
        print(f"no {what}: {program} is not installed", file=sys.stderr)
        return None
    try:
        return call()
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(f"no {what}: {error}", file=sys.stderr)
        return None
