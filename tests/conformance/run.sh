#!/bin/bash
# tests/conformance/run.sh [OUT] - the official Connect conformance suite against envd's code.
#
# Runs connectconformance (Go module connectrpc.com/conformance, Apache-2.0) in server mode with
# tests/conformance/config.yaml; excluded.txt lists single cases that are left out. The module comes
# from the Go proxy or the module cache. Ends with "N passed, N failed"; without Go or the module it
# is skipped, and says so.
set -u
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 2

VERSION=v1.0.5
OUT=${1:-${OUT:-build/release}}
OUT=${OUT#"$PWD"/}
WORK=$PWD/build/conformance
MODULE=connectrpc.com/conformance

skip() {
    echo "SKIPPED the Connect conformance suite: $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

export PATH=$PATH:/usr/local/go/bin GOFLAGS=-mod=mod GOBIN=$WORK/bin
command -v go >/dev/null || skip "there is no Go toolchain"
mkdir -p "$WORK"
dir=$(cd "$WORK" && go mod download -json "$MODULE@$VERSION" 2>"$WORK/download.log" |
    sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -n "$dir" ] || skip "no module: $(tail -1 "$WORK/download.log" | cut -c1-160)"
if [ ! -x "$WORK/bin/connectconformance" ]; then
    (cd "$WORK" && go install "$MODULE/cmd/connectconformance@$VERSION") >"$WORK/install.log" 2>&1 ||
        skip "cannot build it: $(tail -1 "$WORK/install.log" | cut -c1-160)"
fi

# protoc-c 1.4 does not know proto3's "optional"; a oneof of one member is the same on the wire and
# in JSON.
protos=$WORK/proto/connectrpc/conformance/v1
mkdir -p "$protos" "$WORK/proto/google/protobuf"
for name in config service server_compat; do
    sed -E 's/^( *)optional +([A-Za-z0-9_.]+) +([a-z0-9_]+) *= *([0-9]+);/\1oneof optional_\3 { \2 \3 = \4; }/' \
        "$dir/proto/connectrpc/conformance/v1/$name.proto" >"$protos/$name.proto.new" || exit 1
    cmp -s "$protos/$name.proto.new" "$protos/$name.proto" ||
        mv "$protos/$name.proto.new" "$protos/$name.proto"
    rm -f "$protos/$name.proto.new"
done
cp -p tests/conformance/proto/google/protobuf/any.proto "$WORK/proto/google/protobuf/" || exit 1
make CC="${CC:-gcc}" BUILD="$(basename "$OUT")" OUT="$OUT" conformance || exit 1

"$WORK/bin/connectconformance" --mode server --conf tests/conformance/config.yaml \
    --skip @tests/conformance/excluded.txt --parallel 4 -- "$OUT/tests/conformance/server" \
    >"$WORK/result.log" 2>&1
status=$?
tail -60 "$WORK/result.log"
total=$(sed -nE 's/^Total cases: ([0-9]+).*/\1/p' "$WORK/result.log" | tail -1)
line=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed.*/\1 \2/p' "$WORK/result.log" | tail -1)
read -r passed failed <<<"${line:-0 1}"
[ "$status" = 0 ] || [ "$failed" != 0 ] || failed=1
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
