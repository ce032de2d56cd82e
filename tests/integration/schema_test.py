#!/usr/bin/env python3
"""Schemathesis against a server of its own: calls made from the /openapi.json it serves.

usage: schema_test.py [SEED]

Whatever the description allows must be taken, what it does not must be refused, no answer may be
one that it does not declare, and none may be a fault of the server. Twice: as a key of a team, and
as an operator on the routes that want X-Admin-Token. The seed is fixed, so that a run can be
repeated; another one finds other things. Installs schemathesis from PyPI into build/contract.
"""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

VENV = os.path.join(lib.ROOT, "build/contract/schema-venv")
PROGRAM = os.path.join(VENV, "bin/schemathesis")
INSTALL_S = 600
SEED = "20261121"
EXAMPLES = 25  # an operation
# /sandboxes/metrics and /templates/tags are a word with one method and a name with another, so that
# Allow there names methods of both.
NOT_CHECKED = "allow_header_conformance"
ADMIN_PATHS = r"^/(admin/|nodes)"
HERE = os.path.dirname(os.path.abspath(__file__))


def install():
    if not os.path.exists(os.path.join(VENV, "bin/python")):
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True, timeout=INSTALL_S)
    pip = [os.path.join(VENV, "bin/python"), "-m", "pip", "install", "-q", "--upgrade"]
    try:
        subprocess.run([*pip, "schemathesis"], check=True, timeout=INSTALL_S)
    except (subprocess.SubprocessError, OSError) as error:
        if not os.path.exists(PROGRAM):
            raise
        print(f"WARNING: schemathesis: no newer one could be fetched ({error})", flush=True)


def run(server, name, headers, words):
    """One run of schemathesis; whether it found nothing."""
    command = [PROGRAM, "--config-file", os.path.join(HERE, "schemathesis.toml"), "run", f"http://127.0.0.1:{server.api_port}/openapi.json",
               "--checks", "all", "--exclude-checks", NOT_CHECKED, "--mode", "all", "--workers", "2", "--seed", SEED,
               "--max-examples", str(EXAMPLES), "--continue-on-failure",
               "--warnings", "off", "--no-color", "--request-timeout", "60",
               "--generation-database", "none", *words]  # fmt: skip
    for header in headers.items():
        command += ["-H", "%s: %s" % header]
    env = dict(os.environ, NO_PROXY="127.0.0.1", PYTHONPATH=HERE, SCHEMATHESIS_HOOKS="schema_hooks")
    with tempfile.TemporaryDirectory() as folder:  # it writes where it is
        done = subprocess.run(command, env=env, cwd=folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    for secret in headers.values():
        done.stdout = done.stdout.replace(secret, "…")
    print(f"=== as {name}\n{done.stdout}", flush=True)
    return done.returncode == 0


def admin_key(server):
    done = subprocess.run([os.path.join(server.out, "sandpit"), "key", "create", "--namespace", "ops",
                           "--client", "test", "--scope", "admin", "--state-dir", server.state],
                          check=True, capture_output=True, text=True)  # fmt: skip
    return done.stdout.strip()


def main():
    install()
    with lib.Server() as server:
        results = [
            run(server, "a team's key", {"X-API-Key": server.key},
                ["--exclude-path-regex", ADMIN_PATHS]),
            run(server, "an operator", {"X-Admin-Token": admin_key(server)},
                ["--include-path-regex", ADMIN_PATHS]),
        ]  # fmt: skip
        if server.process.poll() is not None:
            print("the server ended")
            results.append(False)
        results.append(not lib.SANITIZER.search(server.log_tail(100000)))
    print(f"{results.count(True)} passed, {results.count(False)} failed, 0 skipped")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        SEED = sys.argv[1]
    main()
