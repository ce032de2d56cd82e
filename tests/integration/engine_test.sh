#!/bin/sh
# tests/integration/engine_test.sh - the local engine with real namespaces; needs root.
#
# usage: engine_test.sh OUT      OUT: the build's output folder, with engine_test and engine_init
#
# Mounts are shared within, as systemd makes them: what a program unmounts for itself must not go here.
# Runs in a pid namespace of its own, so that nothing survives it, whatever happens.
set -eu
bin=$1/tests/integration
if [ "$(id -u)" != 0 ]; then
    echo "SKIPPED: namespaces need root"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
exec unshare --pid --fork --kill-child --mount-proc \
    sh -c 'mount --make-rshared /; status=0; "$@" || status=$?; exit $status' sh "$bin/engine_test" "$bin/engine_init"
