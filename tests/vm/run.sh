#!/bin/bash
# tests/vm/run.sh - `make check-vm`: the engine and the whole server on cgroup v2, in a virtual
# machine with systemd and the distribution's own kernel.
#
# usage: tests/vm/run.sh [--rebuild] [WORD]     as root; WORD: only steps whose name it matches,
#   like "server|systemd"; --rebuild makes the root file system again
#
# build/vm/ holds the root file system (about 1 GB, made once with mmdebstrap from this machine's
# package sources), the disk image and the console's log. The machine has no network. The last line
# is "N passed, N failed, N skipped"; the exit code is 77 when something that this needs is missing.
#
#   SANDPIT_OUT=build/release  the build to test (built when unset)
#   VM_CGROUP=v1               boot with version 1 instead; for the step "systemd"
#   VM_NO_KVM=1                emulate the processor
#   VM_CPUS=2 VM_MEMORY_MB=4096 VM_LIMIT_S=900 (five times as long when emulated)
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

DIR=$PWD/build/vm
IMAGE=$DIR/disk.img
LOG=$DIR/console.log
OUT=${SANDPIT_OUT:-build/release}
LIMIT_S=${VM_LIMIT_S:-900}
TESTS="engine_test" # programs of tests/integration that the machine runs

skip() {
    echo "SKIPPED: $*" >&2
    exit 77
}

need() { # program package
    command -v "$1" >/dev/null || skip "$1 is missing: apt-get install $2"
}

# The files that name this machine's own distribution, not third parties' packages.
sources() {
    local file
    for file in /etc/apt/sources.list.d/{debian,ubuntu}.sources; do
        [ ! -e "$file" ] || echo "$file"
    done
    ! grep -qs '^deb' /etc/apt/sources.list || echo /etc/apt/sources.list
}

make_root() {
    local kernel=linux-image-cloud-amd64 packages
    . /etc/os-release
    [ "$ID" != ubuntu ] || kernel=linux-image-virtual
    apt-cache show "$kernel" >/dev/null 2>&1 || skip "no package $kernel: run apt-get update"
    packages="$(deploy/deps.sh list run | tr '\n' ',')$kernel,systemd-sysv,kmod,libcmocka0"
    rm -f "$DIR/root.tar.part"
    mmdebstrap --variant=minbase --include="$packages" "$VERSION_CODENAME" "$DIR/root.tar.part" \
        $(sources)
    mv "$DIR/root.tar.part" "$DIR/root.tar"
}

# Everything a test uses, installed as a user would: `make install`, and the tests in /sandpit.
make_image() {
    local root=$DIR/root name
    rm -rf "$root" "$IMAGE"
    mkdir -p "$root"
    tar -C "$root" -xf "$DIR/root.tar"
    make -s install OUT="$OUT" DESTDIR="$root"
    mkdir -p "$root/sandpit/out/tests/integration"
    cp -a tests "$root/sandpit/tests"
    cp "$OUT/sandpit" "$OUT/envd" "$root/sandpit/out"
    for name in $TESTS engine_init; do
        cp "$OUT/tests/integration/$name" "$root/sandpit/out/tests/integration"
    done
    cp -a "$OUT/tests/unit" "$root/sandpit/out/tests/unit"
    cp tests/vm/sandpit-tests.service "$root/etc/systemd/system"
    ln -sf /etc/systemd/system/sandpit-tests.service \
        "$root/etc/systemd/system/multi-user.target.wants/sandpit-tests.service"
    ln -sf /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service" # the tests' console
    echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
    cp "$(ls "$root"/boot/vmlinuz-* | tail -1)" "$DIR/vmlinuz"
    cp "$(ls "$root"/boot/initrd.img-* | tail -1)" "$DIR/initrd"
    truncate -s 6G "$IMAGE"
    mke2fs -q -t ext4 -d "$root" "$IMAGE"
    rm -rf "$root"
}

# One run of the machine. FACTOR: how much longer everything may take in it.
machine() { # factor qemu-options...
    local factor=$1
    shift
    timeout -k 5 $((LIMIT_S * factor)) qemu-system-x86_64 "$@" -m "${VM_MEMORY_MB:-4096}" \
        -smp "${VM_CPUS:-2}" -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$DIR/vmlinuz" -initrd "$DIR/initrd" \
        -append "root=/dev/vda rw console=ttyS0 panic=-1 systemd.show_status=0 sandpit.factor=$factor sandpit.only=$ONLY $V1" \
        -drive "file=$IMAGE,format=raw,if=none,id=disk,cache=unsafe" \
        -device virtio-blk-pci,drive=disk -device virtio-rng-pci \
        -serial "file:$LOG" -monitor none </dev/null &
    qemu=$!
}

# Show what the tests print while the machine runs.
follow() {
    tail -n +1 -F --pid="$qemu" "$LOG" 2>/dev/null | tr -d '\r' | grep -a --line-buffered -v '^\[ *[0-9]'
    wait "$qemu" || echo "qemu ended with $?"
}

# With KVM, where a kernel starts with it: some clouds' nested virtualization stops early.
boot() {
    : >"$LOG"
    if [ -w /dev/kvm ] && [ -z "${VM_NO_KVM:-}" ]; then
        machine 1 -accel kvm -cpu host,arch-capabilities=off
        for _ in $(seq 20); do
            sleep 1
            ! grep -aq 'Linux version' "$LOG" || { follow; return; }
            kill -0 "$qemu" 2>/dev/null || break
        done
        kill "$qemu" 2>/dev/null || true
        wait "$qemu" || true
        echo "no kernel starts with KVM on this machine"
    fi
    echo "emulated, which is slow"
    : >"$LOG"
    machine 5 -accel tcg,thread=multi -cpu max
    follow
}

[ "$(uname -m)" = x86_64 ] || skip "only for x86-64 machines"
[ "$(id -u)" = 0 ] || skip "needs root, to make a root file system"
need qemu-system-x86_64 "qemu-system-x86"
need mmdebstrap mmdebstrap
need mke2fs e2fsprogs
mkdir -p "$DIR"
if [ "${1:-}" = --rebuild ]; then
    rm -f "$DIR/root.tar"
    shift
fi
ONLY=${1:-}
V1=
[ "${VM_CGROUP:-v2}" = v2 ] || V1="systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1"
[ -e "$DIR/root.tar" ] || make_root
[ -n "${SANDPIT_OUT:-}" ] || make -s BUILD=release build integration unit
make_image
boot
line=$(tr -d '\r' <"$LOG" | grep -aE '^TOTAL [0-9]+ passed' | tail -1) || {
    echo "the machine did not get to the end: $LOG"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
}
echo "${line#TOTAL }"
[[ $line == *" 0 failed"* ]]
