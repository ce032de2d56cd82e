#!/usr/bin/env python3
"""Much output, much input, many processes, many lines: every byte of it checked.

The work is process_client's (C, built beside this test); this starts envd, calls it and looks at
envd's memory. Sizes are whole in a release build and smaller under a sanitizer; ENVD_LOAD_PART
divides them. Prints `N passed, N failed` at its end.
"""
import os
import resource
import subprocess
import sys
import time

import envd_test
from envd_test import Envd, check, same

CLIENT = os.path.join(os.path.dirname(envd_test.ENVD), "tests", "integration", "process_client")
SANITIZER = next((name for name in ("asan", "tsan") if f"/{name}/" in f"/{envd_test.ENVD}"), None)
PART = int(os.environ.get("ENVD_LOAD_PART") or {"asan": 25, "tsan": 50}.get(SANITIZER, 1))
GB = 1000000000
MIB = 1 << 20

# What it is called, and process_client's arguments.
CASES = [
    ("stdout of 10 GB", "stdout", "json", 10 * GB // PART),
    ("stdout of 10 GB", "stdout", "proto", 10 * GB // PART),
    ("1 GB of stdin, streamed", "stdin", "stream", "proto", GB // PART),
    ("1 GB of stdin in messages", "stdin", "send", "proto", GB // PART),
    ("1 GB of stdin, streamed", "stdin", "stream", "json", GB // PART),
    ("1 GB of stdin in messages", "stdin", "send", "json", GB // PART),
    ("1,000 processes", "many", "json", 1000 // min(PART, 10), 20000),
    ("1,000 processes", "many", "proto", 1000 // min(PART, 10), 20000),
    ("a million lines", "lines", "json", 1000000 // PART),
    ("a million lines", "lines", "proto", 1000000 // PART),
    ("readers, some slow", "readers", "json", 9, 3000000),
    ("readers, some slow", "readers", "proto", 9, 3000000),
    ("coming back at random offsets", "replay", "json", 300, 60000000 // min(PART, 6)),
    ("coming back at random offsets", "replay", "proto", 300, 60000000 // min(PART, 6)),
]


def private_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Private_"))


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    envd = Envd("--insecure")
    for what, *args in CASES:
        if only not in " ".join(map(str, args)):
            continue
        began = time.monotonic()
        # the client leaves it to its end to free what it has
        done = subprocess.run([CLIENT, str(envd.port), *map(str, args)], capture_output=True,
                              text=True, timeout=600,
                              env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        print(f"{what}, {' '.join(map(str, args))}: {done.stdout.strip()} "
              f"({time.monotonic() - began:.1f} s)", flush=True)
        check(f"{what} ({args[0]})", done.returncode == 0, (done.stdout + done.stderr)[:2000])
    if SANITIZER is None and not only:
        rings = 64 * MIB >> 10
        time.sleep(3)  # what is spare goes back to the system after 2 s
        kib = private_kib(envd.proc.pid)
        check("memory after it all, beyond the rings of ended processes", kib < rings + 8192, kib)
        print(f"private memory after it all: {kib} KiB")
    status, reply = envd.unary("List", {})
    same("no process is left", (status, reply), (200, {}))
    envd.stop()
    print(f"{envd_test.passed} passed, {envd_test.failed} failed")
    return 1 if envd_test.failed or not envd_test.passed else 0


if __name__ == "__main__":
    sys.exit(main())
