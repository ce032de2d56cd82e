#!/bin/bash
# tests/check.sh - `make check`: installs what tests need, builds, runs every test there is.
#
# usage: tests/check.sh [WORD]      WORD: only steps whose name holds it (builds always run)
#
# The last line is "N passed, N failed, N skipped". Logs are in build/check/, one a step; the end of
# a failed one is shown. Nothing hangs: each step has a time limit. What cannot run here is skipped
# and named at the end. Servers live under build/check/run on free ports and are swept up on exit.
#
#   SANDPIT_TIME_FACTOR=3  a slow machine: multiply every limit
#   CHECK_SKIP_DEPS=1      install nothing
set -u
cd "$(dirname "$(readlink -f "$0")")/.." || exit 2

ONLY=${1:-}
ROOT=$PWD
LOGS=$ROOT/build/check
FACTOR=${SANDPIT_TIME_FACTOR:-1}
JOBS=$(nproc)
TSAN_FOLDERS="loop auth store lifecycle observe proxy http api local server"
passed=0 failed=0 skipped=0
failures=() skips=()
job=

export PYTHONDONTWRITEBYTECODE=1 SANDPIT_TEST_DIR=$LOGS/run
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:exitcode=99
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=exitcode=66:second_deadlock_stack=1:history_size=4
unset SANDPIT_OUT
# Settings of whoever calls must not reach the servers that tests start.
for name in $(compgen -e | grep '^SANDPIT_' | grep -v -e '^SANDPIT_TIME_FACTOR$' -e '^SANDPIT_TEST_DIR$'); do
    unset "$name"
done

# End servers and sandboxes of tests that were killed.
sweep() {
    [ ! -d "$SANDPIT_TEST_DIR" ] || timeout -k 5 120 python3 tests/lib.py sweep "$SANDPIT_TEST_DIR"
}

interrupted() {
    trap '' INT TERM HUP
    if [ -n "$job" ]; then
        kill -TERM "$job" 2>/dev/null # timeout passes it on to the whole group
        wait "$job"
    fi
    sweep
    exit 130
}
trap interrupted INT TERM HUP

report() {
    local line
    sweep
    echo
    for line in "${skips[@]}"; do
        echo "SKIPPED $line"
    done
    for line in "${failures[@]}"; do
        echo "FAILED $line"
    done
    echo "$((SECONDS / 60)) minutes $((SECONDS % 60)) seconds; logs in build/check"
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
    exit
}

# Whether the lines of a log say how many tests passed, failed and were skipped; else its status does.
count() { # log status
    local line p=0 f=0 s=0
    line=$(grep -aE '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$1" | tail -1)
    if [ -n "$line" ]; then
        read -r p f s < <(sed -E 's/[^0-9]+/ /g' <<<"$line")
    elif grep -aq '^\[==========\]' "$1"; then
        p=$(sum "$1" '^\[  PASSED  \] ([0-9]+) test')
        f=$(sum "$1" '^\[  FAILED  \] [^0-9]*([0-9]+) test\(s\)')
        s=$(sum "$1" '^\[  SKIPPED \] [^0-9]*([0-9]+) test\(s\)')
    elif [ "$2" = 0 ]; then
        p=1
    fi
    [ "$2" = 0 ] || [ "$f" != 0 ] || f=1
    echo "$p $f ${s:-0}"
}

sum() { # log regular-expression
    sed -nE "s/$2.*/\1/p" "$1" | awk '{n += $1} END {print n + 0}'
}

wanted() {
    [[ -z $ONLY || $1 == *"$ONLY"* ]]
}

run() { # name limit command...
    local name=$1 limit=$2 log began status p f s line
    shift 2
    wanted "$name" || return 0
    log=$LOGS/${name//\//-}.log
    began=$SECONDS
    timeout -k 15 "$((limit * FACTOR))" "$@" >"$log" 2>&1 </dev/null &
    job=$!
    wait "$job"
    status=$?
    job=
    [ "$status" != 124 ] && [ "$status" != 137 ] || echo "TIMED OUT after $((limit * FACTOR)) s" >>"$log"
    read -r p f s < <(count "$log" "$status")
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    if [ "$s" != 0 ]; then
        skips+=("$name: $s skipped: $(grep -aE 'SKIP' "$log" | head -3 | tr '\n' ';' | cut -c1-200)")
    fi
    if [ "$f" = 0 ]; then
        line=$(printf 'ok      %-44s %4d passed' "$name" "$p")
        [ "$s" = 0 ] || line+=", $s skipped"
        echo "$line, $((SECONDS - began)) s"
        sed -n 's/^figure: /        /p' "$log"
        return 0
    fi
    failures+=("$name ($log)")
    printf 'FAILED  %-44s %4d passed, %d failed, %d s\n' "$name" "$p" "$f" $((SECONDS - began))
    echo "------ end of $log"
    tail -n 40 "$log" | cut -c1-400
    echo "------"
    return 1
}

skip() { # name why
    wanted "$1" || return 0
    skipped=$((skipped + 1))
    skips+=("$1: $2")
    printf 'SKIPPED %-44s %s\n' "$1" "$2"
}

build() { # variant
    run "build-$1" 900 make -j"$JOBS" BUILD="$1" build unit fuzz-replay integration
}

unit_tests() { # variant folder...
    local variant=$1 folder file name
    shift
    for folder in "$@"; do
        for file in tests/unit/"$folder"/*_test.c; do
            [ -e "$file" ] || continue
            name=${file%.c}
            run "unit-$variant-$folder-$(basename "$name")" "$(limit_of "$variant" 120)" \
                "${WRAP[@]}" "build/$variant/$name"
        done
    done
}

limit_of() { # variant seconds
    case $1 in
    asan) echo $(($2 * 3)) ;;
    tsan) echo $(($2 * 5)) ;;
    *) echo "$2" ;;
    esac
}

fuzz_replays() { # variant
    local file name
    for file in tests/fuzz/*.c; do
        name=$(basename "${file%.c}")
        [ "$name" != driver ] || continue
        if [ -d "tests/fuzz/corpus/$name" ]; then
            run "fuzz-replay-$1-$name" 120 "build/$1/tests/fuzz/${name}_replay" "tests/fuzz/corpus/$name"
        else
            run "fuzz-replay-$1-$name" 5 sh -c "echo 'no corpus: tests/fuzz/corpus/$name'; exit 1"
        fi
    done
}

# Every integration test but those named, on one build: SANDPIT_OUT and OUT say which.
integration() { # variant except...
    local variant=$1 file name command out=$ROOT/build/$1
    shift
    for file in tests/integration/*_test.{py,sh}; do
        [ -e "$file" ] || continue
        name=$(basename "${file%.*}")
        [[ " $* " != *" $name "* ]] || continue
        case $file in
        *.py) command=(python3 "$file") ;;
        *.sh) command=(sh "$file" "$out") ;;
        esac
        run "integration-$variant-$name" "$(limit_of "$variant" 600)" \
            env SANDPIT_OUT="$out" OUT="$out" ENVD="$out/envd" SANDPIT_TIME_FACTOR="$(factor_of "$variant")" \
            "${WRAP[@]}" "${command[@]}"
    done
}

factor_of() {
    limit_of "$1" "$FACTOR"
}

contract() { # variant [option]
    local out=$ROOT/build/$1
    if [ "$(id -u)" != 0 ]; then
        skip "contract-$1" "sandboxes need root"
        return
    fi
    run "contract-$1" "$(limit_of "$1" 900)" \
        env SANDPIT_OUT="$out" SANDPIT_TIME_FACTOR="$(factor_of "$1")" "${WRAP[@]}" \
        python3 tests/contract/run.py --out "$out" "${@:2}"
}

rm -rf "$LOGS"
mkdir -p "$LOGS/run"
[ "$(id -u)" = 0 ] || echo "WARNING: not root: everything that starts a sandbox is skipped"
WRAP=()
[ -n "${CHECK_SKIP_DEPS:-}" ] || run deps 900 deploy/deps.sh test || report
run layers 120 tests/layers.sh
run lint 300 tests/lint.sh
for variant in release asan tsan; do
    build "$variant" || report
done

unit_tests release $(ls tests/unit)
integration release
contract release

run conformance-release 600 env CC="${CC:-gcc}" tests/conformance/run.sh build/release

unit_tests asan $(ls tests/unit)
fuzz_replays asan
integration asan spec_test disk_test restart_test escape_test envd_cost_test network_test storm_test # what they look at is the same in every build
run conformance-asan 600 env CC="${CC:-gcc}" tests/conformance/run.sh build/asan
contract asan --short

# The thread sanitizer of gcc 12 does not know every kernel's address-space layout.
if setarch -R true 2>/dev/null; then
    WRAP=(setarch -R)
fi
unit_tests tsan $TSAN_FOLDERS
integration tsan spec_test disk_test storage_test schema_test restart_test pause_test escape_test network_test envd_cost_test storm_test once_test console_test gateway_test gateway_sandbox_test # console and gateway have one thread
contract tsan --short
report
