#!/bin/bash
# tests/vm/inside.sh - what the virtual machine of run.sh runs; its last line begins with TOTAL.
#
# The same tests as on any machine, started in three places of the tree of control groups:
#   root       the machine's first group, as from a login without systemd
#   service    a service's group, with systemd as the owner of the tree (and the unit that we ship)
#   container  a control group namespace whose first group has processes in it
set -u
cd /sandpit
export SANDPIT_OUT=/sandpit/out PYTHONDONTWRITEBYTECODE=1 HOME=/root LC_ALL=C.UTF-8
SANDPIT_TIME_FACTOR=$(sed -n 's/.*sandpit\.factor=\([0-9]*\).*/\1/p' /proc/cmdline)
export SANDPIT_TIME_FACTOR SANDPIT_TEST_DIR=/var/tmp/sandpit-tests
mkdir -p $SANDPIT_TEST_DIR
passed=0 failed=0 skipped=0

ONLY=$(sed -n 's/.*sandpit\.only=\([^ ]*\).*/\1/p' /proc/cmdline)

run() { # name command...
    local name=$1 log line p=0 f=0 s=0 status=0 began=$SECONDS
    shift
    [[ $name =~ ${ONLY:-.} ]] || return 0
    log=/var/tmp/$name.log
    timeout -k 10 $((400 * SANDPIT_TIME_FACTOR)) bash -c '"$@"' bash "$@" >"$log" 2>&1 </dev/null ||
        status=$?
    line=$(grep -aE '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -1)
    if [ -n "$line" ]; then
        read -r p f s < <(sed -E 's/[^0-9]+/ /g' <<<"$line")
    elif [ $status = 0 ]; then
        p=1
    fi
    [ $status = 0 ] || [ "$f" != 0 ] || f=1
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + ${s:-0}))
    echo "$name: $p passed, $f failed, ${s:-0} skipped, $((SECONDS - began)) s"
    grep -a '^FIGURE' "$log" | sed 's/^FIGURE/    /'
    [ "$f" = 0 ] || { echo "--- $log"; grep -avE '^(ok|  ok)|\.\.\. ok$' "$log" | tail -n 60 | cut -c1-300; echo "---"; }
}

in_root() { # command...: in the machine's first control group
    sh -c 'echo $$ >/sys/fs/cgroup/cgroup.procs; exec "$@"' sh "$@"
}

# As in a container: one's own processes only, and /sys/fs/cgroup shows a part of the tree as a whole.
in_container() { # name command...
    local group=/sys/fs/cgroup/container-$1
    shift
    echo '+memory +pids +cpu' >/sys/fs/cgroup/cgroup.subtree_control
    mkdir "$group"
    GROUP=$group unshare --mount --pid --fork --kill-child --mount-proc sh -c '
        echo 0 >"$GROUP/cgroup.procs"
        exec unshare --cgroup /sandpit/tests/vm/container.sh "$@"
    ' sh "$@"
}

doctor() {
    out/sandpit doctor --state-dir /var/lib/sandpit-doctor | tee /dev/stderr |
        awk '/cgroup/ && /v2/ {v2 = 1} /FAIL|WARN|warn|fail/ {bad = 1} END {exit !v2 || bad}'
}

unit() {
    local file
    for file in out/tests/unit/local/*_test; do
        "$file" || return 1
    done
}

export -f in_root in_container doctor unit
uname -r
grep cgroup /proc/mounts
systemd --version | head -1
mounts=$(wc -l </proc/self/mountinfo)
run doctor doctor
run unit-local unit
run systemd python3 tests/vm/systemd_test.py
run engine-root in_root sh tests/integration/engine_test.sh $SANDPIT_OUT
run engine-service sh tests/integration/engine_test.sh $SANDPIT_OUT
run engine-container in_container engine \
    $SANDPIT_OUT/tests/integration/engine_test $SANDPIT_OUT/tests/integration/engine_init
run server-root in_root python3 tests/vm/v2_test.py
run server-service python3 tests/vm/v2_test.py
run server-container in_container server python3 tests/vm/v2_test.py
run init in_root python3 tests/integration/init_test.py
run restart in_root python3 tests/integration/restart_test.py
run escape in_root python3 tests/integration/escape_test.py
[ "$mounts" = "$(wc -l </proc/self/mountinfo)" ] || {
    failed=$((failed + 1))
    echo "mounts: not as before: $(wc -l </proc/self/mountinfo) instead of $mounts"
}
echo "TOTAL $passed passed, $failed failed, $skipped skipped"
