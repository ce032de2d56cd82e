#!/usr/bin/env python3
"""Sandboxes built ahead: how many there are, and that nobody can tell one from a cold one."""

import os
import re
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

# What a program inside can see of its sandbox, without what differs between any two sandboxes.
LOOK = r"""
env | sort
echo "--- limits"; ulimit -a
echo "--- mounts"; sed -E 's/^[0-9]+ [0-9]+ [0-9]+:[0-9]+ //; s/master:[0-9]+|shared:[0-9]+//' \
    /proc/self/mountinfo | sed -E 's/(lowerdir|upperdir|workdir)[^ ]*//g'
echo "--- network"; ip -o -4 addr show 2>/dev/null | awk '{print $2}'
cat /etc/resolv.conf; cat /etc/hosts | sed -E "s/$(hostname)/HOST/g"
echo "--- user"; id; cat /proc/self/status | grep -E '^(Cap|NoNewPrivs|Seccomp|Groups)'
echo "--- groups"; sed -E 's/slot-[0-9]+/SLOT/' /proc/self/cgroup
echo "--- processes"; cat /proc/1/comm /proc/2/comm
echo "--- files"; ls -la --time-style=+ / /home/user /tmp /run /dev | awk 'NF > 4 {print $1, $3, $4, $NF}'
nproc; grep -c . /proc/self/uid_map; cat /proc/self/uid_map | awk '{print $1, $3}'
"""
ENV = {"GREETING": "good morning", "EMPTY": ""}
METADATA = {"who": "anybody"}


def setUpModule():
    lib.need_root()


def wait_for_spares(server, count):
    lib.wait_until(f"{count} spares", 30 * lib.time_factor(), lambda: lib.spares(server) == count)


def picture(box, id):
    text = box.sh(LOOK).text
    text = re.sub(r"([ug]id)=\d{7,}", r"\1=N", text)  # the host's ids: each has a range of its own
    return re.sub(r"i[a-z0-9]{20}", "ID", text).replace(id, "ID")


class Pool(unittest.TestCase):
    def server(self, *args):
        server = lib.Server(args=args)
        self.addCleanup(server.stop)
        return server.start()

    def test_a_claimed_sandbox_looks_like_a_cold_one(self):
        pictures = {}
        for kind, count in (("warm", "2"), ("cold", "0")):
            server = self.server("--warm-min", count, "--warm-max", count)
            wait_for_spares(server, int(count))
            for internet in (True, False):
                box = server.create(
                    envVars=ENV, metadata=METADATA, allow_internet_access=internet
                )
                detail = server.api("GET", f"/sandboxes/{box.id}").json
                self.assertEqual(detail["metadata"], METADATA)
                row = {k: v for k, v in detail.items()
                       if k not in ("sandboxID", "startedAt", "endAt", "envdAccessToken")}  # fmt: skip
                pictures[kind, internet] = (picture(box, box.id), row)
        for internet in (True, False):
            self.maxDiff = None
            self.assertIn("GREETING=good morning", pictures["warm", internet][0])
            self.assertEqual(pictures["warm", internet], pictures["cold", internet])

    def test_demand_sizes_it(self):
        server = self.server("--warm-min", "1", "--warm-max", "6", "--warm-idle", "0")
        wait_for_spares(server, 1)
        boxes = []

        def create():
            other = lib.Http(server.api_port)
            reply = other.request(
                "POST", "/v2/sandboxes", '{"templateID": "base"}', {"X-API-Key": server.key}
            )
            boxes.append(reply.status)
            other.close()

        threads = [threading.Thread(target=create) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(boxes, [201] * 20)
        lib.wait_until("a larger pool", 30 * lib.time_factor(), lambda: lib.spares(server) > 3)
        self.assertLessEqual(lib.spares(server), 6)

    def test_it_scales_to_zero_and_wakes(self):
        server = self.server("--warm-min", "3", "--warm-max", "3", "--warm-idle", "4")
        wait_for_spares(server, 0)
        box = server.create()
        self.assertEqual(box.sh("echo awake").text, "awake\n")
        wait_for_spares(server, 3)
        box.kill()
        wait_for_spares(server, 0)


if __name__ == "__main__":
    lib.main()
