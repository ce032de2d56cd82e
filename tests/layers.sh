#!/bin/bash
# Fails on an include that goes the wrong way, with file, line and rule. The rules are layers.tsv;
# `tests/layers.sh --self-test` proves that a wrong include is found.
set -u
cd "$(dirname "$0")/.." || exit 2

check() { # folder root
    awk -v root="$1" '
    BEGIN { FS = "\t" }
    FILENAME ~ /layers\.tsv$/ {
        if ($0 ~ /^#/) next
        may[$1] = $2
        n = split($3, list, " ")
        for (i = 1; i <= n; i++) owners[list[i]] = owners[list[i]] " " $1 " "
        next
    }
    FNR == 1 {
        path = FILENAME
        sub("^" root "/", "", path)
        folder = path
        sub("/[^/]*$", "", folder)
        if (path ~ /^envd\//) folder = "envd"
    }
    /^[ \t]*#[ \t]*include[ \t]*["<]/ {
        name = $0
        quoted = name ~ /include[ \t]*"/
        sub(/^[^"<]*["<]/, "", name)
        sub(/[">].*$/, "", name)
        if (!(folder in may)) { bad("folder is not in tests/layers.tsv"); next }
        if (!quoted) {
            if ((name in owners) && index(owners[name], " " folder " ") == 0)
                bad("<" name "> is for" owners[name] "only")
            next
        }
        if (may[folder] == "*") next
        n = split(may[folder], list, " ")
        ok = 0
        target = name
        sub("/[^/]*$", "", target)
        if (name ~ /^envd\//) target = "envd"
        for (i = 1; i <= n; i++) if (name == list[i] || target == list[i]) ok = 1
        if (!ok) bad(folder " may not include \"" name "\"")
    }
    function bad(why) { printf "%s:%d: %s\n", path, FNR, why; failures++ }
    END { exit failures > 0 }' tests/layers.tsv $(find "$1"/server "$1"/mapper "$1"/envd -name '*.[ch]' 2>/dev/null)
}

if [ "${1:-}" = --self-test ]; then
    dir=$(mktemp -d) || exit 2
    trap 'rm -rf "$dir"' EXIT
    mkdir -p "$dir/server/base" "$dir/mapper" "$dir/envd" "$dir/server/http"
    failed=0
    expect() { # file text wanted-exit
        printf '%s\n' "$2" >"$dir/$1"
        check "$dir" >/dev/null
        got=$?
        [ "$got" -eq "$3" ] || { echo "self-test: $1 with $2 gave $got, not $3"; failed=1; }
        rm "$dir/$1"
    }
    expect server/base/a.c '#include "server/base/err.h"' 0
    expect server/base/a.c '#include "server/model/key.h"' 1
    expect mapper/a.c '#include <jansson.h>' 1
    expect mapper/a.c '  #  include "server/loop/loop.h"' 1
    expect envd/a.c '#include "server/auth/auth.h"' 1
    expect server/http/a.c '#include <h2o.h>' 0
    expect server/http/a.c '#include "server/engine/local/local.h"' 1
    [ "$failed" -eq 0 ] && echo "layers: self-test passed"
    exit "$failed"
fi

if check .; then
    echo "layers: every include goes the right way"
else
    echo "layers: see tests/layers.tsv and docs/architecture.md"
    exit 1
fi
