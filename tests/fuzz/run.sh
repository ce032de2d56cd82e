#!/bin/bash
# Runs each fuzz target for a number of seconds, starting from its corpus. Findings stay in
# build/fuzz/findings. Usage: tests/fuzz/run.sh SECONDS TARGET...
set -u
seconds=$1
shift
failed=0 passed=0
mkdir -p build/fuzz/findings
for target in "$@"; do
    name=$(basename "$target")
    work=build/fuzz/corpus/$name
    mkdir -p "$work"
    echo "fuzz $name for $seconds s"
    if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/findings/$name-" "$work" "tests/fuzz/corpus/$name" \
        >"build/fuzz/$name.log" 2>&1; then
        grep -E 'stat::number_of_executed_units' "build/fuzz/$name.log"
        passed=$((passed + 1))
    else
        tail -40 "build/fuzz/$name.log"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
