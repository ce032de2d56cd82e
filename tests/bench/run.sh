#!/bin/bash
# tests/bench/run.sh - `make bench`: installs what peers need, builds a release, prints one table.
#
# usage: tests/bench/run.sh [--rounds N] [--only envd|egress|start|exec|sdk|proxy|platform[:GROUP]] [--write [FILE]]
# --write puts the table into docs/benchmarks.md, between its marks.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

deploy/deps.sh bench >&2
if [ -z "${SANDPIT_OUT:-}" ]; then
    make -s BUILD=release build bench-clients >&2
    export SANDPIT_OUT=$PWD/build/release
fi
export PYTHONDONTWRITEBYTECODE=1 SANDPIT_TEST_DIR=$PWD/build/bench
mkdir -p "$SANDPIT_TEST_DIR"
trap 'python3 tests/lib.py sweep "$SANDPIT_TEST_DIR"' EXIT
python3 tests/bench/bench.py "$@"
