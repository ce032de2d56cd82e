#!/bin/sh
# tests/vm/container.sh - the first process of inside.sh's "container": its group is the root of what
# it sees, and everything in the container is in that group.
set -e
umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
status=0
"$@" || status=$? # not exec: orphans are reaped here
exit $status
