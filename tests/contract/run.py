#!/usr/bin/env python3
"""tests/contract/run.py - the newest published SDKs, unmodified, against a server of our own.

usage: run.py [--out build/release] [--modes domain,plain] [--sdks js,python] [--short] [--table]

Installs the SDKs (npm into build/contract/node, PyPI into build/contract/venv), starts
`sandpit serve --dev`, and runs the test files in each mode with the variables of dev.env (domain
mode, TLS) or dev-plain.env (URL mode) and nothing else that an SDK reads. Then it compares what the
tests called with what the SDKs offer: a method or parameter that no test uses is a failure if
docs/compatibility.md names this version of the SDK, and a warning if the SDK is newer. --table
writes the tables of that page. --short: in URL mode only the main file, as options and git are the
same calls there. Ends with the line "N passed, N failed, N skipped".
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import checking_proxy  # noqa: E402
import lib  # noqa: E402
import surface  # noqa: E402

CACHE = os.path.join(lib.ROOT, "build/contract")
NODE = os.path.join(CACHE, "node")
VENV = os.path.join(CACHE, "venv")
RECORDS = os.path.join(CACHE, "records")
PAGE = os.path.join(lib.ROOT, "docs/compatibility.md")
JS_FILES = ("sdk.test.mjs", "options.test.mjs", "git.test.mjs", "pause.test.mjs",
            "secrets.test.mjs", "volumes.test.mjs", "observe.test.mjs",
            "network.test.mjs", "wake.test.mjs")  # fmt: skip
PYTHON_FILES = ("test_sdk.py", "test_options.py", "test_git.py", "test_ports.py",
                "test_cli.py", "test_pause.py", "test_secrets.py", "test_volumes.py",
                "test_observe.py", "test_network.py", "test_wake.py")  # fmt: skip
CLI = os.path.join(NODE, "node_modules/.bin/e2b")
NODE_MIN = (20, 18, 1)  # what e2b's package.json asks for
INSTALL_S = 600
RUN_S = 900
# An ambient setting of one of these would change what is tested.
FOREIGN = re.compile(r"^(E2B_|HTTPS?_PROXY|ALL_PROXY|NODE_EXTRA_CA_CERTS|SSL_CERT_)", re.I)


def run(command, **options):
    print("+", " ".join(command), flush=True)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=INSTALL_S, **options)


def node_is_new_enough():
    if not shutil.which("node"):
        return False
    text = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    found = tuple(int(part) for part in re.findall(r"\d+", text)[:3])
    return found >= NODE_MIN and found[0] != 21


def install_node():
    os.makedirs(NODE, exist_ok=True)
    packages = ["e2b@latest", "@e2b/code-interpreter@latest", "@e2b/cli@latest", "ws@8"]
    if not node_is_new_enough():
        packages.append("node@22")  # the interpreter itself, for distributions with an older one
    run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *packages], cwd=NODE)


def install_python():
    if not os.path.exists(os.path.join(VENV, "bin/python")):
        run([sys.executable, "-m", "venv", VENV])
    pip = [os.path.join(VENV, "bin/python"), "-m", "pip", "install", "-q", "--upgrade"]
    run([*pip, "e2b", "e2b-code-interpreter"])


def installed(name):
    """Is a usable SDK from an earlier run there?"""
    path = f"{NODE}/node_modules/e2b/package.json" if name == "js" else f"{VENV}/bin/python"
    return os.path.exists(path)


def install(name):
    """Bring the newest SDK; with no network, an earlier run's is used, and that is said."""
    try:
        install_node() if name == "js" else install_python()
    except (subprocess.SubprocessError, OSError) as error:
        if not installed(name):
            raise
        print(f"WARNING: {name}: no newer SDK could be fetched ({error}); using the one of an"
              " earlier run", flush=True)  # fmt: skip
    print(f"{name}: {versions(name)}", flush=True)


def versions(name):
    if name == "js":
        found = []
        for package in ("e2b", "@e2b/code-interpreter", "@e2b/cli"):
            with contextlib.suppress(FileNotFoundError), \
                 open(f"{NODE}/node_modules/{package}/package.json") as file:  # fmt: skip
                found.append(f"{package} {json.load(file)['version']}")
        return ", ".join(found)
    code = ("from importlib.metadata import version as v;"
            "print('e2b', v('e2b') + ', e2b-code-interpreter', v('e2b-code-interpreter'))")  # fmt: skip
    return subprocess.run([f"{VENV}/bin/python", "-c", code], capture_output=True, text=True,
                          check=True).stdout.strip()  # fmt: skip


def environment(server, mode):
    """Ours without what SDKs read, plus the lines of the mode's file."""
    env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    # Sandboxes are on this machine: a proxy of the machine's must not be asked for them.
    env["NO_PROXY"] = env["no_proxy"] = "localhost,127.0.0.1,::1,.localhost"
    env.update(server.dev_env("dev.env" if mode == "domain" else "dev-plain.env"))
    env["CONTRACT_MODE"] = mode
    return env


def short(env, names):
    return names[:1] if env["CONTRACT_MODE"] == "plain" else names


def run_js(env, files):
    for name in (*JS_FILES, "record.mjs", "echo_server.py", "git_server.py"):
        shutil.copy(os.path.join(HERE, name), NODE)
    env = dict(env, PATH=f"{NODE}/node_modules/.bin:" + env["PATH"])
    env["CONTRACT_RECORD"] = f"{RECORDS}/record-js-{env['CONTRACT_MODE']}"
    limit = str(int(120_000 * lib.time_factor()))
    command = ["node", "--test", "--test-reporter=spec", f"--test-timeout={limit}", *files]
    if not node_supports_timeout(env):
        command.remove(f"--test-timeout={limit}")
    output = stream(command, env, NODE)
    counts = {}
    for name in ("pass", "fail", "cancelled", "skipped"):
        found = re.findall(rf"^\S*\s*{name} (\d+)\s*$", output, re.M)
        counts[name] = int(found[-1]) if found else None
    if counts["pass"] is None:
        return 0, 1, 0
    return counts["pass"], counts["fail"] + (counts["cancelled"] or 0), counts["skipped"] or 0


def node_supports_timeout(env):
    out = subprocess.run(["node", "--help"], env=env, capture_output=True, text=True).stdout
    return "--test-timeout" in out


def run_python(env, files):
    total = (0, 0, 0)
    env = dict(env, CONTRACT_CLI=CLI, PATH=f"{NODE}/node_modules/.bin:" + env["PATH"])
    for name in files:
        record = f"{RECORDS}/record-python-{env['CONTRACT_MODE']}.{name}"
        output = stream([f"{VENV}/bin/python", os.path.join(HERE, name)],
                        dict(env, CONTRACT_RECORD=record), HERE)  # fmt: skip
        found = re.findall(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", output, re.M)
        counts = tuple(int(number) for number in found[-1]) if found else (0, 1, 0)
        total = tuple(a + b for a, b in zip(total, counts))
    return total


def coverage(sdk, write):
    """Compare what the tests called with what the SDK offers: (passed, failed, skipped)."""
    rows = surface.load(f"{RECORDS}/record", sdk, f"{NODE}/node_modules/e2b/dist/index.d.ts")
    if write:
        surface.write_table(PAGE, sdk, versions(sdk), rows)
    found = surface.gaps(rows)
    known = surface.is_described(PAGE, sdk, versions(sdk))
    for line in found:
        print(f"{'FAILED' if known else 'WARNING: newer SDK'}: {sdk}: {line}")
    print(f"{sdk}: {len(rows)} methods, {len(found)} not covered")
    return (0, len(found), 0) if found and known else (1, 0, 0)


def check_answers(sdk, mode, proxy, counts):
    """COUNTS, and whether each answer in URL mode was what openapi/platform.yaml says."""
    passed, failed, skipped = counts
    for problem in proxy.problems:
        print(f"FAILED {sdk}: not as openapi/platform.yaml has it: {problem}")
    if mode != "plain":
        return counts
    print(f"{sdk}: {proxy.count} answers compared with openapi/platform.yaml")
    good = not proxy.problems and proxy.count > 0
    return passed + good, failed + (not good), skipped


def stream(command, env, cwd):
    """Run, show and keep the output; what takes longer than RUN_S is ended."""
    limit = RUN_S * lib.time_factor()
    command = ["timeout", "-k", "10", str(int(limit)), *command]
    process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, text=True,
                               errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    lines = []
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        lines.append(line)
    if process.wait() in (124, 137):
        print(f"TIMED OUT after {limit:.0f} s: {' '.join(command)}", flush=True)
        return ""
    return "".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.environ.get("SANDPIT_OUT"))
    parser.add_argument("--modes", default="domain,plain")
    parser.add_argument("--sdks", default="js,python")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    sdks = options.sdks.split(",")
    for sdk in sdks:
        install(sdk)
    shutil.rmtree(RECORDS, ignore_errors=True)
    os.makedirs(RECORDS)
    total = [0, 0, 0]
    rows = []
    for mode in options.modes.split(","):
        for sdk in sdks:
            began = time.monotonic()
            try:
                with lib.Server(out=options.out) as server, \
                     checking_proxy.CheckingProxy(server.api_port) as proxy:  # fmt: skip
                    env = environment(server, mode)
                    if mode == "plain":
                        env["E2B_API_URL"] = env["E2B_VOLUME_API_URL"] = proxy.url
                    files = JS_FILES if sdk == "js" else PYTHON_FILES
                    files = short(env, files) if options.short else files
                    counts = (run_js if sdk == "js" else run_python)(env, files)
                    left = server.all_sandboxes()
                counts = check_answers(sdk, mode, proxy, counts)
                if left:
                    print(f"left running by the {sdk} tests: {left}")
                    counts = (counts[0], counts[1] + 1, counts[2])
            except Exception as error:
                print(f"FAILED {sdk} in {mode} mode: {error}", flush=True)
                counts = (0, 1, 0)
            rows.append((sdk, mode, counts, time.monotonic() - began))
            total = [a + b for a, b in zip(total, counts)]
    print()
    if not total[1]:  # a test that failed has not called everything
        for sdk in sdks:
            total = [a + b for a, b in zip(total, coverage(sdk, options.table))]
    for sdk, mode, (passed, failed, skipped), seconds in rows:
        print(f"{sdk} ({versions(sdk)}) in {mode} mode: {passed} passed, {failed} failed,"
              f" {skipped} skipped, {seconds:.0f} s")  # fmt: skip
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    sys.exit(1 if total[1] else 0)


if __name__ == "__main__":
    main()
