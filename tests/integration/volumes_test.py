#!/usr/bin/env python3
"""Volumes on real sandboxes: sharing, what survives, what a sandbox can do to who reads its files,
limits, and bodies that come slowly, wrong or not at all."""

import contextlib
import http.client
import json
import os
import re
import secrets
import socket
import sys
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402

LIMIT_MB = 64  # of a volume here
SECRET = "secret-of-the-host-" + secrets.token_hex(12)
FACTOR = lib.time_factor()


def setUpModule():
    lib.need_root()


class Volume:
    """A volume of SERVER and calls on its files with its token."""

    def __init__(self, server, name=None, key=None):
        self.server = server
        self.name = name or "v-" + secrets.token_hex(5)
        reply = server.api("POST", "/volumes", {"name": self.name}, key=key)
        assert reply.status == 201, reply.body
        self.id, self.token = reply.json["volumeID"], reply.json["token"]

    def url(self, part, path, **query):
        query["path"] = path
        return f"/volumecontent/{self.id}/{part}?" + urllib.parse.urlencode(query)

    def call(self, method, part, path, body=None, token=None, **query):
        headers = {"Authorization": "Bearer " + (token or self.token)}
        return self.server.api(method, self.url(part, path, **query), body, key="", headers=headers)

    def mount(self, path="/mnt/v"):
        return [{"name": self.name, "path": path}]

    def raw(self, method, part, path, headers, body=b""):
        """A connection with a request of ours on it."""
        sock = socket.create_connection(("127.0.0.1", self.server.api_port), timeout=30 * FACTOR)
        lines = [f"{method} {self.url(part, path)} HTTP/1.1", "Host: x",
                 "Authorization: Bearer " + self.token, *headers]  # fmt: skip
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return sock


def answer(sock):
    """(status, body) of the next answer on SOCK, and not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, head
        head += byte
    size = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
    body = b""
    while len(body) < size:
        piece = sock.recv(size - len(body))
        assert piece, (head, body)
        body += piece
    return int(head.split()[1]), body


def sessions(server):
    """Volume helpers of SERVER: the launcher's children called so."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/comm") as file:
                if file.read() != "sandpit-volume\n":
                    continue
            with open(f"/proc/{pid}/stat") as file:
                parent = file.read().rsplit(")", 1)[1].split()[1]
            with open(f"/proc/{parent}/cmdline") as file:
                if server.state in file.read():
                    found.append(pid)
    return found


class Volumes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = lib.Server(args=["--volume-size", str(LIMIT_MB), "--volumes-max", "40"])
        cls.server.start()
        cls.other, _ = cls.server.new_key("elsewhere")
        cls.reader, _ = cls.server.new_key("default", "reader", "--scope", "read")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def volume(self):
        volume = Volume(self.server)
        self.addCleanup(lambda: self.server.api("DELETE", "/volumes/" + volume.id))
        return volume

    def sandbox(self, mounts, **body):
        sandbox = self.server.create(volumeMounts=mounts, **body)
        self.addCleanup(lambda: self.server.api("DELETE", "/sandboxes/" + sandbox.id))
        return sandbox

    def test_it_is_shared_and_outlives_the_server(self):
        volume = self.volume()
        one, two = self.sandbox(volume.mount()), self.sandbox(volume.mount("/srv/deep/er"))
        out = one.sh("cd /mnt/v; echo 1 > a; stat -c %u:%g a; sudo sh -c 'echo r > r'")
        self.assertEqual(out.text, "1000:1000\n")
        self.assertEqual(two.sh("cat /srv/deep/er/a; stat -c %u:%g /srv/deep/er/r").text, "1\n0:0\n")
        options = one.sh("grep ' /mnt/v ' /proc/self/mounts").text
        self.assertIn("nosuid", options)
        self.assertIn("nodev", options)
        self.assertEqual(self.server.api("POST", f"/sandboxes/{one.id}/pause").status, 204)
        self.server.kill9()
        self.server.start()
        self.assertEqual(two.sh("echo 2 >> /srv/deep/er/a; cat /srv/deep/er/a").text, "1\n2\n")
        self.assertEqual(volume.call("GET", "file", "/a").body, b"1\n2\n")
        self.assertEqual(self.server.api("DELETE", "/volumes/" + volume.id).status, 409)
        reply = self.server.api("POST", f"/sandboxes/{one.id}/connect", {"timeout": 60})
        self.assertEqual(reply.status, 201)
        self.assertEqual(one.sh("tail -1 /mnt/v/a").text, "2\n")
        row = self.server.api("GET", "/sandboxes/" + one.id).json
        self.assertEqual(row["volumeMounts"], volume.mount())

    def test_a_fork_and_a_boot_from_files_have_it(self):
        volume = self.volume()
        sandbox = self.sandbox(volume.mount())
        sandbox.sh("echo hi > /mnt/v/a")
        reply = self.server.api("POST", f"/sandboxes/{sandbox.id}/fork", {"timeout": 60})
        fork = lib.Sandbox(self.server, reply.json[0]["sandbox"])
        self.addCleanup(lambda: self.server.api("DELETE", "/sandboxes/" + fork.id))
        self.assertEqual(fork.sh("cat /mnt/v/a; echo fork >> /mnt/v/a").text, "hi\n")
        path = f"/sandboxes/{sandbox.id}"
        self.assertEqual(self.server.api("POST", path + "/pause", {"memory": False}).status, 204)
        self.assertEqual(self.server.api("DELETE", "/sandboxes/" + fork.id).status, 204)
        self.assertEqual(self.server.api("DELETE", "/volumes/" + volume.id).status, 409)
        self.assertEqual(self.server.api("POST", path + "/connect", {"timeout": 60}).status, 201)
        self.assertEqual(sandbox.sh("cat /mnt/v/a").text, "hi\nfork\n")

    def test_one_in_use_is_not_deleted(self):
        volume = self.volume()
        sandbox = self.sandbox(volume.mount())
        reply = self.server.api("DELETE", "/volumes/" + volume.id)
        self.assertEqual((reply.status, sandbox.id in reply.json["message"]), (409, True))
        self.server.api("DELETE", "/sandboxes/" + sandbox.id)
        self.assertEqual(self.server.api("DELETE", "/volumes/" + volume.id).status, 204)
        self.assertEqual(self.server.api("GET", "/volumes/" + volume.id).status, 404)
        self.assertEqual(volume.call("GET", "path", "/").status, 404)

    def test_a_delete_and_creates_at_once_leave_no_sandbox_without_its_volume(self):
        for _ in range(4):
            volume, results = Volume(self.server), []

            def create():
                conn = lib.Http(self.server.api_port)
                body = {"templateID": "base", "timeout": 60, "volumeMounts": volume.mount()}
                headers = {"X-API-Key": self.server.key, "Content-Type": "application/json"}
                results.append(conn.request("POST", "/v2/sandboxes", json.dumps(body), headers))
                conn.close()

            threads = [threading.Thread(target=create) for _ in range(3)]
            for thread in threads:
                thread.start()
            deleted = self.server.api("DELETE", "/volumes/" + volume.id).status
            for thread in threads:
                thread.join()
            made = [reply.json["sandboxID"] for reply in results if reply.status == 201]
            for reply in results:
                self.assertIn(reply.status, (201, 400), reply.body)
            for sandbox in made:
                self.server.api("DELETE", "/sandboxes/" + sandbox)
            if deleted == 204:
                self.assertEqual(made, [])
            else:
                self.assertEqual(deleted, 409)
                self.assertEqual(self.server.api("DELETE", "/volumes/" + volume.id).status, 204)

    def test_other_namespaces_see_nothing(self):
        volume = self.volume()
        self.assertEqual(self.server.api("GET", "/volumes", key=self.other).json, [])
        for method, path in (("GET", f"/volumes/{volume.id}"), ("DELETE", f"/volumes/{volume.id}"),
                             ("GET", f"/volumecontent/{volume.id}/path?path=/")):  # fmt: skip
            self.assertEqual(self.server.api(method, path, key=self.other).status, 404, path)
        mine = Volume(self.server, volume.name, key=self.other)  # the same name elsewhere is fine
        self.assertEqual(volume.call("GET", "path", "/", token=mine.token).status, 404)
        body = {"templateID": "base", "volumeMounts": [{"name": "v-none", "path": "/m"}]}
        self.assertEqual(self.server.api("POST", "/v2/sandboxes", body, key=self.other).status, 400)
        self.assertEqual(self.server.api("DELETE", "/volumes/" + mine.id, key=self.other).status, 204)

    def test_a_readers_token_does_not_write(self):
        volume = self.volume()
        token = self.server.api("GET", "/volumes/" + volume.id, key=self.reader).json["token"]
        self.assertEqual(volume.call("GET", "dir", "/", token=token).status, 200)
        self.assertEqual(volume.call("PUT", "file", "/a", b"x", token=token).status, 403)
        self.assertEqual(volume.call("GET", "dir", "/").json, [])
        head, claims, mark = token.split(".")
        for bad in (head + "." + claims + ".", "e30." + claims + "." + mark, token[:-2] + "AA",
                    token + "x", "."):  # fmt: skip
            self.assertEqual(volume.call("GET", "dir", "/", token=bad).status, 401, bad)

    def test_links_do_not_lead_out(self):
        volume = self.volume()
        sandbox = self.sandbox(volume.mount())
        path = os.path.join(self.server.folder, "host-file")
        with open(path, "w") as file:
            file.write(SECRET)
        os.chmod(path, 0o666)
        up = "../" * 12
        sandbox.sh(f"""cd /mnt/v && mkdir d && echo in > d/f && ln -s d/f good && ln -s d inner
            ln -s {path} abs; ln -s {up}{path[1:]} rel; ln -s / root; ln -s {up} above
            ln -s /proc/self/root magic; ln -s loop loop; mkfifo fifo; ln -s ../../abs d/far""")
        self.assertEqual(volume.call("GET", "file", "/good").body, b"in\n")
        self.assertEqual(volume.call("GET", "file", "/inner/f").body, b"in\n")
        where = path[1:]
        for name in ("abs", "rel", f"root/{where}", f"above/{where}", f"magic/{where}", "d/far",
                     "loop", "fifo"):  # fmt: skip
            for method, part, body in (("GET", "file", None), ("GET", "dir", None)):
                reply = volume.call(method, part, "/" + name, body)
                self.assertIn(reply.status, (400, 403, 404), (name, method, part, reply.body))
                self.assertNotIn(SECRET.encode(), reply.body)
        for name in (f"root/{where}", f"above/{where}", f"magic/{where}", "root/tmp/x"):
            for method, part, query in (("PUT", "file", {}), ("PUT", "file", {"force": "true"}),
                                        ("POST", "dir", {"force": "true"}), ("DELETE", "path", {}),
                                        ("PATCH", "path", {})):  # fmt: skip
                body = b'{"mode": 511}' if method == "PATCH" else b"x" if method == "PUT" else None
                reply = volume.call(method, part, "/" + name, body, **query)
                self.assertIn(reply.status, (400, 403, 404, 409), (name, method, reply.body))
        self.assertEqual(volume.call("DELETE", "path", "/root").status, 204)  # the link itself
        self.assertEqual(volume.call("PUT", "file", "/abs", b"mine").status, 201)  # in its place
        entry = volume.call("GET", "path", "/rel").json
        self.assertEqual((entry["type"], entry["target"]), ("symlink", up + where))
        with open(path) as file:
            self.assertEqual(file.read(), SECRET)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o666)

    def test_names_that_change_while_they_are_used(self):
        volume = self.volume()
        sandbox = self.sandbox(volume.mount())
        path = os.path.join(self.server.folder, "host-file-2")
        with open(path, "w") as file:
            file.write(SECRET)
        os.chmod(path, 0o666)
        folder = os.path.dirname(path)
        sandbox.background(f"""cd /mnt/v && mkdir real && echo in > real/host-file-2
            ln -s {folder} out; ln -s real here
            while :; do ln -sfn out here; ln -sfn real here; done""")
        there = lambda: volume.call("GET", "path", "/here").status == 200  # noqa: E731
        lib.wait_until("the link", 10 * FACTOR, there)
        seen = {}
        end = time.monotonic() + 3
        while time.monotonic() < end:
            reply = volume.call("GET", "file", "/here/host-file-2")
            self.assertNotIn(SECRET.encode(), reply.body)
            seen[reply.status] = seen.get(reply.status, 0) + 1
            reply = volume.call("PUT", "file", "/here/host-file-2", b"in\n")
            self.assertIn(reply.status, (201, 403, 404, 503), reply.body)
        self.assertLessEqual(set(seen), {200, 403, 404, 503})
        self.assertIn(200, seen)
        with open(path) as file:
            self.assertEqual(file.read(), SECRET)

    def test_a_volume_holds_no_more_than_its_size(self):
        volume = self.volume()
        sandbox = self.sandbox(volume.mount())
        piece = os.urandom(1 << 20) * 16
        for i in range(LIMIT_MB // 16 + 1):
            reply = volume.call("PUT", "file", f"/f{i}", piece)
            if reply.status != 201:
                break
        if reply.status == 201:
            self.skipTest("the storage of this machine has no quotas")
        self.assertEqual((reply.status, reply.json["message"]), (507, "the volume is full"))
        self.assertEqual(volume.call("GET", "path", f"/f{i}").status, 404)
        out = sandbox.sh("dd if=/dev/urandom of=/mnt/v/more bs=1M count=20; rm -f /mnt/v/more")
        self.assertIn("Disk quota exceeded", out.stderr.decode())
        code = """import fcntl, os, struct
fd = os.open("/mnt/v", os.O_RDONLY)
fcntl.ioctl(fd, 0x5000940e, bytearray(struct.pack("q4088s", fd, b"sub")), True)"""
        sandbox.write("/tmp/sub.py", code)  # a subvolume would have a limit of its own: none
        self.assertIn("Operation not permitted", sandbox.sh("python3 /tmp/sub.py").stderr.decode())
        self.assertEqual(volume.call("DELETE", "path", "/f0").status, 204)

    def test_memory_does_not_grow_with_a_file(self):
        volume = self.volume()
        size = (LIMIT_MB - 8) << 20

        def peak():
            with open(f"/proc/{self.server.process.pid}/status") as file:
                return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1))

        with open(f"/proc/{self.server.process.pid}/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
        before = peak()
        conn = http.client.HTTPConnection("127.0.0.1", self.server.api_port)
        headers = {"Authorization": "Bearer " + volume.token}
        zeros = bytes(1 << 20)
        conn.request("PUT", volume.url("file", "/big"), headers=headers, encode_chunked=True,
                     body=(zeros for _ in range(size >> 20)))  # fmt: skip
        reply = conn.getresponse()
        self.assertEqual((reply.status, json.loads(reply.read())["size"]), (201, size))
        conn.request("GET", volume.url("file", "/big"), headers=headers)  # the same connection
        reply, got = conn.getresponse(), 0
        time.sleep(0.3)  # a slow reader must not fill the server either
        while piece := reply.read(1 << 20):
            got += len(piece)
        self.assertEqual(got, size)
        conn.close()
        if FACTOR == 1:  # a sanitizer keeps what was freed
            self.assertLess(peak() - before, 24 << 10, "KiB")

    def test_a_body_that_breaks_off_changes_nothing(self):
        volume = self.volume()
        self.assertEqual(volume.call("PUT", "file", "/f", b"before").status, 201)
        for headers, body in ((["Content-Length: 3000000"], b"x" * 2000000),
                              (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n")):  # fmt: skip
            volume.raw("PUT", "file", "/f", headers, body).close()
        sock = volume.raw("PUT", "file", "/f", ["Transfer-Encoding: chunked"], b"5\r\nhelloXX\r\n")
        self.assertEqual(answer(sock)[0], 400)
        sock = volume.raw("PUT", "file", "/f", ["Content-Length: 99999999999999"])
        self.assertEqual(answer(sock)[0], 413)
        lib.wait_until("the helpers' end", 10 * FACTOR, lambda: not sessions(self.server))
        self.assertEqual(volume.call("GET", "file", "/f").body, b"before")
        self.assertEqual([row["name"] for row in volume.call("GET", "dir", "/").json], ["f"])

    def test_bodies_as_clients_send_them(self):
        volume = self.volume()
        sock = volume.raw("PUT", "file", "/a", ["Content-Length: 5", "Expect: 100-continue"])
        self.assertEqual(sock.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(b"hel")
        time.sleep(0.05)
        sock.sendall(b"lo")
        self.assertEqual(answer(sock)[0], 201)
        sock.sendall(f"GET {volume.url('file', '/a')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                     f"{volume.token}\r\n\r\n".encode())  # fmt: skip
        self.assertEqual(answer(sock), (200, b"hello"))
        head = "\r\nHost: x\r\nAuthorization: Bearer " + volume.token
        put = f"PUT {volume.url('file', '/b')} HTTP/1.1{head}\r\nContent-Length: 3\r\n\r\nabc"
        get = f"GET {volume.url('path', '/')} HTTP/1.1{head}\r\n\r\n"
        for first, second in ((put, put), (get, put), (put, get)):  # two requests in one packet
            sock.sendall((first + second).encode())
            self.assertEqual(answer(sock)[0], 201 if first is put else 200)
            self.assertEqual(answer(sock)[0], 201 if second is put else 200)
        sock.sendall(f"PUT {volume.url('file', '/c')} HTTP/1.1{head}\r\n\r\n".encode())
        self.assertEqual(answer(sock)[0], 201)  # no body: an empty file
        self.assertEqual(volume.call("GET", "file", "/c").body, b"")
        self.assertEqual(volume.call("GET", "file", "/b").body, b"abc")
        bad = put.replace("path=%2Fb", "path=/x/../y")
        self.assertNotEqual(bad, put)
        sock.sendall(bad.encode() + get.encode())
        self.assertEqual(answer(sock)[0], 400)
        self.assertEqual(answer(sock)[0], 200)  # the body was passed over
        sock.close()

    def test_wrong_parameters(self):
        volume = self.volume()
        for part, query in (("path", "path=/a&path=/b"), ("dir", "path=/&depth=0"),
                            ("dir", "path=/&depth=65"), ("dir", "path=/&depth=x"), ("path", ""),
                            ("path", "path=%00"), ("path", "path=%ff"),
                            ("path", "path=" + "x" * 256), ("path", "path=" + "/x" * 2048)):  # fmt: skip
            reply = self.server.api("GET", f"/volumecontent/{volume.id}/{part}?{query}")
            self.assertIn(reply.status, (400, 404), query)
            self.assertEqual(reply.json["code"], str(reply.status))
        for query in ({"uid": -1}, {"uid": 65536}, {"gid": "x"}, {"mode": 4096}, {"force": "yes"}):
            for method, part in (("PUT", "file"), ("POST", "dir")):
                self.assertEqual(volume.call(method, part, "/n", b"", **query).status, 400, query)
        for body in (b"[]", b'{"uid": "1"}', b'{"mode": -1}', b'{"gid": 1.5}', b"{"):
            self.assertEqual(volume.call("PATCH", "path", "/", body).status, 400, body)
        for body in ({}, {"name": 1}, {"name": None}, {"name": "a b"}, {"name": "x" * 129}, []):
            self.assertEqual(self.server.api("POST", "/volumes", body).status, 400, body)
        for mounts in ({}, [1], [{}], [{"name": volume.name}], [{"name": 1, "path": "/x"}],
                       [{"name": volume.name, "path": "/a"}] * 2, volume.mount() * 17,
                       volume.mount("/" + "x" * 1100)):  # fmt: skip
            body = {"templateID": "base", "volumeMounts": mounts}
            self.assertEqual(self.server.api("POST", "/v2/sandboxes", body).status, 400, mounts)
        self.assertEqual(volume.call("GET", "dir", "/").json, [])

    def test_a_namespace_has_so_many(self):
        key, _ = self.server.new_key("many")
        made = [Volume(self.server, key=key) for _ in range(40)]
        reply = self.server.api("POST", "/volumes", {"name": "more"}, key=key)
        self.assertEqual(reply.status, 429)
        self.assertIn("maximum number of volumes (40)", reply.json["message"])
        for volume in made:
            reply = self.server.api("DELETE", "/volumes/" + volume.id, key=key)
            self.assertEqual(reply.status, 204)

    def test_killed_while_volumes_come_and_go(self):
        for _ in range(3):
            stop = threading.Event()

            def churn():
                conn = lib.Http(self.server.api_port)
                headers = {"X-API-Key": self.server.key, "Content-Type": "application/json"}
                with contextlib.suppress(OSError, http.client.HTTPException):
                    while not stop.is_set():
                        body = json.dumps({"name": "c-" + secrets.token_hex(5)})
                        row = conn.request("POST", "/volumes", body, headers).json
                        conn.request("DELETE", "/volumes/" + row["volumeID"], None, headers)

            threads = [threading.Thread(target=churn) for _ in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(0.15 * FACTOR)
            self.server.kill9()
            stop.set()
            for thread in threads:
                thread.join()
            self.server.start()
        rows = self.server.api("GET", "/volumes").json
        # Each that is listed is whole, and none is left beside them.
        for row in (row for row in rows if row["name"].startswith("c-")):
            reply = self.server.api("GET", f"/volumecontent/{row['volumeID']}/path?path=/")
            self.assertEqual(reply.status, 200)
            self.assertEqual(self.server.api("DELETE", "/volumes/" + row["volumeID"]).status, 204)
        with open(self.server.log) as file:
            log = file.read()
        self.assertNotIn("files of an unknown volume", log)
        self.assertNotIn("the files of a volume are missing", log)


class Off(unittest.TestCase):
    def test_volumes_can_be_off(self):
        with lib.Server(args=["--volumes-max", "0"]) as server:
            reply = server.api("POST", "/volumes", {"name": "a"})
            self.assertEqual(reply.status, 403)
            self.assertEqual(reply.json["message"], "use of volumes is not enabled")
            body = {"templateID": "base", "volumeMounts": [{"name": "a", "path": "/a"}]}
            reply = server.api("POST", "/v2/sandboxes", body)
            self.assertEqual(reply.status, 400)
            self.assertEqual(reply.json["message"], "Volume mounts are not enabled.")


if __name__ == "__main__":
    lib.main()
