#!/bin/bash
# What the compiler does not refuse: banned functions, descriptors without close-on-exec, line
# length, stray tabs and spaces. Prints every finding with file and line.
set -u
cd "$(dirname "$0")/.." || exit 2
failed=0

complain() { # title; what was found on stdin
    local out
    out=$(cat)
    if [ -n "$out" ]; then
        printf '%s\n%s\n' "lint: $1" "$out"
        failed=1
    fi
}

sources=$(find server mapper envd tests -name '*.[ch]')
product=$(find server mapper envd -name '*.[ch]')

# Lines of the product that match PATTERN outside strings and comments, as "file:line: text".
find_code() { # pattern
    awk -v pattern="$1" '{
        line = $0
        gsub(/"([^"\\]|\\.)*"/, "\"\"", line)
        sub(/\/\/.*/, "", line)
        gsub(/\/\*.*\*\//, "", line)
        if (line ~ /^[ ]*(\*|\/\*)/) next
        if (line ~ pattern) printf "%s:%d: %s\n", FILENAME, FNR, $0
    }' $product
}

word='(^|[^A-Za-z0-9_>.])'
complain "banned function (CONTRIBUTING.md)" < <(find_code \
    "$word(strcpy|strcat|v?sprintf|strncpy|strncat|strtok|ato[ilf]|strtoul?l?|[fs]?scanf|gets|alloca|system|popen)\\\\(")
complain "descriptor without close-on-exec: use the variant that takes flags" < <(find_code \
    "$word(pipe|dup|accept|epoll_create|inotify_init|creat)\\\\(")
complain "trailing space" < <(grep -nE '[[:space:]]+$' $sources Makefile build.mk)
complain "tab in a C file" < <(grep -nP '\t' $sources)
complain "line over 100 columns" < <(LC_ALL=C.UTF-8 grep -nE '.{101,}' $sources)

[ "$failed" -eq 0 ] && echo "lint: clean"
exit "$failed"
