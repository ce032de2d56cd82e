#!/bin/sh
# tests/integration/storage_test.sh - files of sandboxes: limits, snapshots, stop and start; needs root.
#
# usage: storage_test.sh OUT      OUT: the build's output folder, with storage_test and engine_init
#
# In a pid namespace of its own, as engine_test.sh; mounts are shared within, as systemd makes them.
set -eu
bin=$1/tests/integration
if [ "$(id -u)" != 0 ]; then
    echo "SKIPPED: namespaces need root"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
exec unshare --pid --fork --kill-child --mount-proc \
    sh -c 'mount --make-rshared /; status=0; "$@" || status=$?; exit $status' sh "$bin/storage_test" "$bin/engine_init"
