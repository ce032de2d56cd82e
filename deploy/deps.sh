#!/bin/bash
# deploy/deps.sh - install the Debian or Ubuntu packages that a task needs, and only missing ones.
#
# usage: deploy/deps.sh run|test|fuzz|bench|list <set>
#   run    build and run sandpit
#   test   run, and `make check`
#   fuzz   run, and `make fuzz`
#   bench  test, and the programs that `make bench` measures beside
#   list   print the packages of a set, one a line, and install nothing
#
# Nothing is fetched when all of them are there, so that a second run is instant and works offline.
set -euo pipefail

RUN="gcc make libc6-dev pkg-config git ca-certificates curl openssl python3 sudo procps iproute2
 nftables slirp4netns btrfs-progs libnss-myhostname
 libh2o-evloop-dev libjansson-dev libjwt-dev libgit2-dev libarchive-dev libsqlite3-dev
 libcurl4-openssl-dev libssl-dev libseccomp-dev libprotobuf-c-dev protobuf-c-compiler
 libsodium-dev zlib1g-dev"
FUZZ="clang llvm"
TEST="libcmocka-dev python3-venv clang clang-format"
BENCH="bubblewrap crun runc nginx-light wrk openssh-server openssh-client libssh2-1-dev"

fail() {
    echo "deps: $*" >&2
    exit 1
}

# The sanitizers' run-time library of clang is a package of its own, named after the version.
clang_runtime() {
    local major
    major=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -1)
    if [ -n "$major" ] && apt-cache show "libclang-rt-$major-dev" >/dev/null 2>&1; then
        echo "libclang-rt-$major-dev"
    elif [ -n "$major" ]; then
        echo "libclang-common-$major-dev" # before clang 14 it was part of this one
    fi
}

# A node that the SDKs run on needs no package; an old one is replaced later, from npm.
node_packages() {
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
}

packages() {
    case "$1" in
    run) echo $RUN ;;
    fuzz) echo $RUN $FUZZ "$(clang_runtime)" ;;
    test) echo $RUN $TEST $FUZZ "$(clang_runtime)" "$(node_packages)" ;;
    bench) echo $RUN $TEST $BENCH "$(node_packages)" ;;
    *) fail "unknown set '$1': run, test, fuzz or bench" ;;
    esac
}

missing() {
    local name
    for name in "$@"; do
        dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || echo "$name"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "missing packages; run as root: apt-get install $want"
    fi
}

case "${1:-}" in
run | test | fuzz | bench) set_name=$1 ;;
list) set_name=${2:-run} ;;
*) fail "usage: deploy/deps.sh run|test|fuzz|bench" ;;
esac

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    . /etc/os-release 2>/dev/null || true
    fail "${PRETTY_NAME:-this system} is not Debian or Ubuntu. Install what these packages hold" \
        "with its own package manager, then use 'make build': $(echo $RUN)"
fi

# The name of clang's run-time package comes from the package lists: a new container has none.
if [ "$set_name" != run ] && ! apt-cache show clang >/dev/null 2>&1; then
    want=clang
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
fi
names=$(packages "$set_name")
if [ "$1" = list ]; then
    printf '%s\n' $names
    exit 0
fi
want=$(missing $names | sort -u | tr '\n' ' ')
[ -n "$want" ] || exit 0

echo "deps: installing $want"
as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $want
want=$(missing $names | tr '\n' ' ')
[ -z "$want" ] || fail "still missing after apt-get: $want"
