"""The Python SDK, sync and async, unmodified, configured by environment variables only.

CONTRACT_MODE=domain: TLS, sandboxes by host name. CONTRACT_MODE=plain: URL mode without TLS, where
signed file URLs cannot work. Run by run.py with the SDK's virtual environment.
"""

import asyncio
import hashlib
import os
import re
import secrets
import sys
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402
import record  # noqa: E402, F401  (it wraps the SDK's classes)
from e2b import (  # noqa: E402
    AsyncSandbox,
    AuthenticationException,
    CommandExitException,
    FileNotFoundException,
    FilesystemEventType,
    FileType,
    InvalidArgumentException,
    NotFoundException,
    PtySize,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxQuery,
    SandboxState,
    TimeoutException,
)

DOMAIN = os.environ.get("CONTRACT_MODE") == "domain"
HERE = os.path.dirname(os.path.abspath(__file__))
FACTOR = lib.time_factor()
ECHO_PORT = 8123


def until(what, seconds, predicate):
    return lib.wait_until(what, seconds * FACTOR, predicate)


def fetch(url, data=None, headers=None, method=None):
    """(status, body) of a request that follows the environment's certificates."""
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    context = lib.tls_context() if url.startswith("https") else None
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Shared(unittest.TestCase):
    """One sandbox for all tests of a class."""

    @classmethod
    def setUpClass(cls):
        cls.sbx = Sandbox.create(timeout=1800, envs={"SHARED": "yes"})

    @classmethod
    def tearDownClass(cls):
        cls.sbx.kill()


class Commands(Shared):
    def test_output_and_exit_code(self):
        result = self.sbx.commands.run("echo out; echo err >&2")
        self.assertEqual((result.stdout, result.stderr, result.exit_code), ("out\n", "err\n", 0))

    def test_failure_raises_with_output(self):
        with self.assertRaises(CommandExitException) as caught:
            self.sbx.commands.run("echo before; echo why >&2; exit 3")
        self.assertEqual(caught.exception.exit_code, 3)
        self.assertEqual(caught.exception.stdout, "before\n")
        self.assertEqual(caught.exception.stderr, "why\n")

    def test_variables_of_sandbox_and_call(self):
        result = self.sbx.commands.run('echo "$SHARED-$MINE"', envs={"MINE": 'a b"c'})
        self.assertEqual(result.stdout, 'yes-a b"c\n')
        result = self.sbx.commands.run('echo "$SHARED"', envs={"SHARED": "no"})
        self.assertEqual(result.stdout, "no\n")

    def test_folder(self):
        self.assertEqual(self.sbx.commands.run("pwd", cwd="/tmp").stdout, "/tmp\n")
        self.assertEqual(self.sbx.commands.run("pwd").stdout, "/home/user\n")
        with self.assertRaises(InvalidArgumentException):
            self.sbx.commands.run("pwd", cwd="/no/such/folder")

    def test_user(self):
        self.assertEqual(self.sbx.commands.run("id -un; id -u").stdout, "user\n1000\n")
        self.assertEqual(self.sbx.commands.run("id -un; id -u", user="root").stdout, "root\n0\n")
        with self.assertRaises(AuthenticationException):
            self.sbx.commands.run("true", user="nobody-here")

    def test_output_streams_while_it_runs(self):
        seen = []
        self.sbx.commands.run(
            "for i in 1 2 3; do echo $i; echo e$i >&2; sleep 0.4; done",
            on_stdout=lambda text: seen.append((time.monotonic(), text)),
            on_stderr=lambda text: seen.append((time.monotonic(), text)),
        )
        self.assertEqual("".join(t for _, t in seen if not t.startswith("e")), "1\n2\n3\n")
        self.assertGreater(seen[-1][0] - seen[0][0], 0.5, "all came at once")

    @lib.limit(180)
    def test_large_output_is_complete(self):
        result = self.sbx.commands.run("seq 1 300000")
        expected = "".join(f"{i}\n" for i in range(1, 300001))
        self.assertEqual(len(result.stdout), len(expected))
        self.assertTrue(result.stdout == expected, "bytes differ")

    def test_multi_byte_text_is_whole(self):
        result = self.sbx.commands.run('for i in $(seq 1 20000); do printf "é😀"; done')
        self.assertTrue(result.stdout == "é😀" * 20000, "text differs")

    def test_timeout_ends_the_process(self):
        began = time.monotonic()
        with self.assertRaises(TimeoutException):
            self.sbx.commands.run("sleep 60", timeout=1)
        self.assertLess(time.monotonic() - began, 10 * FACTOR)
        until(
            "its end", 5,
            lambda: not any("sleep 60" in p.args for p in self.sbx.commands.list()),
        )  # fmt: skip

    def test_background_wait(self):
        handle = self.sbx.commands.run("sleep 0.3; echo done", background=True)
        self.assertGreater(handle.pid, 0)
        self.assertEqual(handle.wait().stdout, "done\n")

    def test_background_list_and_kill(self):
        handle = self.sbx.commands.run("sleep 321", background=True)
        found = [p for p in self.sbx.commands.list() if p.pid == handle.pid]
        self.assertEqual(len(found), 1)
        self.assertIn("sleep 321", found[0].args)
        self.assertIs(self.sbx.commands.kill(handle.pid), True)
        with self.assertRaises(CommandExitException):
            handle.wait()
        self.assertIs(self.sbx.commands.kill(handle.pid), False)

    def test_background_survives_disconnect_and_is_connected_again(self):
        handle = self.sbx.commands.run("sleep 1.5; echo late", background=True)
        handle.disconnect()
        again = self.sbx.commands.connect(handle.pid)
        self.assertEqual(again.wait().stdout, "late\n")

    def test_connect_to_nothing(self):
        with self.assertRaises(NotFoundException):
            self.sbx.commands.connect(999999)

    def test_stdin_sent_and_closed(self):
        handle = self.sbx.commands.run("cat; echo end", background=True, stdin=True)
        self.sbx.commands.send_stdin(handle.pid, "one\n")
        self.sbx.commands.send_stdin(handle.pid, b"two\n")
        self.sbx.commands.close_stdin(handle.pid)
        self.assertEqual(handle.wait().stdout, "one\ntwo\nend\n")

    def test_stdin_streamed(self):
        handle = self.sbx.commands.run("wc -c", background=True, stdin=True)

        def parts():
            for _ in range(50):
                yield b"x" * 1000
                time.sleep(0.005)

        self.sbx.commands.stream_input(handle.pid, parts())
        self.sbx.commands.close_stdin(handle.pid)
        self.assertEqual(handle.wait().stdout.strip(), "50000")

    @lib.limit(180)
    def test_many_threads_do_not_mix(self):
        with ThreadPoolExecutor(10) as pool:
            runs = pool.map(lambda i: self.sbx.commands.run(f"sleep 0.1; echo number {i}"), range(30))
            for i, result in enumerate(runs):
                self.assertEqual(result.stdout, f"number {i}\n")


class Pty(Shared):
    def test_shell_resize_and_kill(self):
        term = self.sbx.pty.create(PtySize(rows=24, cols=80), envs={"MARK": "m4rk"}, timeout=60)
        seen = []

        def read():
            try:
                for _, _, data in term:
                    seen.append(bytes(data or b""))
            except Exception as error:  # the kill below ends the stream
                seen.append(repr(error).encode())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        self.sbx.pty.send_stdin(term.pid, b'tty; stty size; echo "$MARK-$TERM"\n')
        until("the answer", 8, lambda: b"m4rk-xterm-256color" in b"".join(seen))
        self.assertRegex(b"".join(seen), rb"/dev/pts/\d+")
        self.assertIn(b"24 80", b"".join(seen))
        self.sbx.pty.resize(term.pid, PtySize(rows=50, cols=132))
        self.sbx.pty.send_stdin(term.pid, b"stty size\n")
        until("the new size", 8, lambda: b"50 132" in b"".join(seen))
        self.assertIs(self.sbx.pty.kill(term.pid), True)
        reader.join(10 * FACTOR)
        self.assertFalse(reader.is_alive())
        self.assertIs(self.sbx.pty.kill(term.pid), False)


class Files(Shared):
    def test_text(self):
        info = self.sbx.files.write("notes/a.txt", "hällo\n")
        self.assertEqual(info.path, "/home/user/notes/a.txt")
        self.assertEqual(self.sbx.files.read("/home/user/notes/a.txt"), "hällo\n")

    def test_bytes_and_streams(self):
        data = secrets.token_bytes(3_000_001)
        self.sbx.files.write("/tmp/bytes", data)
        self.assertTrue(bytes(self.sbx.files.read("/tmp/bytes", format="bytes")) == data)
        digest = hashlib.sha256()
        for chunk in self.sbx.files.read("/tmp/bytes", format="stream"):
            digest.update(chunk)
        self.assertEqual(digest.hexdigest(), hashlib.sha256(data).hexdigest())

    def test_multipart_and_octet_stream(self):
        for octet in (False, True):
            self.sbx.files.write("/tmp/form", b"\x00\r\n--x", use_octet_stream=octet)
            self.assertEqual(bytes(self.sbx.files.read("/tmp/form", format="bytes")), b"\x00\r\n--x")

    def test_several_at_once(self):
        infos = self.sbx.files.write_files(
            [{"path": "/tmp/many/1", "data": "one"}, {"path": "/tmp/many/s/2", "data": b"two"}]
        )
        self.assertEqual([info.path for info in infos], ["/tmp/many/1", "/tmp/many/s/2"])
        self.assertEqual(self.sbx.files.read("/tmp/many/s/2"), "two")

    def test_names_of_any_script(self):
        for name in ("naïve 文件 😀.txt", "a+b&c=d?e#f%41.txt", "quo'te.txt", "-dash"):
            self.sbx.files.write(f"/tmp/names/{name}", name)
            self.assertEqual(self.sbx.files.read(f"/tmp/names/{name}"), name)
        names = [entry.name for entry in self.sbx.files.list("/tmp/names")]
        self.assertEqual(len(names), 4)
        self.assertIn("naïve 文件 😀.txt", names)

    def test_list_depth(self):
        self.sbx.files.write("/tmp/tree/a/b/deep", "x")
        self.sbx.files.write("/tmp/tree/top", "x")
        paths = [entry.path for entry in self.sbx.files.list("/tmp/tree", depth=1)]
        self.assertEqual(paths, ["/tmp/tree/a", "/tmp/tree/top"])
        paths = [entry.path for entry in self.sbx.files.list("/tmp/tree", depth=3)]
        self.assertEqual(
            paths, ["/tmp/tree/a", "/tmp/tree/a/b", "/tmp/tree/a/b/deep", "/tmp/tree/top"]
        )
        types = [entry.type for entry in self.sbx.files.list("/tmp/tree")]
        self.assertEqual(types, [FileType.DIR, FileType.FILE])

    def test_exists_info_rename_remove(self):
        self.sbx.files.write("/tmp/moves/from", "12345")
        info = self.sbx.files.get_info("/tmp/moves/from")
        self.assertEqual((info.size, info.owner, info.type), (5, "user", FileType.FILE))
        self.assertEqual(info.permissions, "-rw-r--r--")
        moved = self.sbx.files.rename("/tmp/moves/from", "/tmp/moves/to")
        self.assertEqual(moved.path, "/tmp/moves/to")
        self.assertIs(self.sbx.files.exists("/tmp/moves/from"), False)
        self.assertIs(self.sbx.files.exists("/tmp/moves/to"), True)
        self.sbx.files.remove("/tmp/moves")
        self.assertIs(self.sbx.files.exists("/tmp/moves"), False)

    def test_make_dir(self):
        self.assertIs(self.sbx.files.make_dir("/tmp/made/a/b"), True)
        self.assertIs(self.sbx.files.make_dir("/tmp/made/a/b"), False)

    def test_symlink(self):
        self.sbx.commands.run("mkdir -p /tmp/ln && cd /tmp/ln && echo t > target && ln -s target l")
        info = self.sbx.files.get_info("/tmp/ln/l")
        self.assertEqual(info.symlink_target, "/tmp/ln/target")
        self.assertEqual(info.type, FileType.SYMLINK)

    def test_what_is_missing(self):
        with self.assertRaises(FileNotFoundException):
            self.sbx.files.read("/tmp/not-here")
        with self.assertRaises(FileNotFoundException):
            self.sbx.files.get_info("/tmp/not-here")
        with self.assertRaises(NotFoundException):
            self.sbx.files.list("/tmp/not-here")
        with self.assertRaises(InvalidArgumentException):
            self.sbx.files.read("/tmp")

    def test_user(self):
        self.sbx.files.write("roots.txt", "mine", user="root")
        self.assertEqual(self.sbx.files.get_info("/root/roots.txt").owner, "root")

    def test_metadata(self):
        self.sbx.files.write("/tmp/meta", "x", metadata={"author": "ann"})
        self.assertEqual(self.sbx.files.get_info("/tmp/meta").metadata, {"author": "ann"})

    def test_gzip(self):
        text = "again and " * 50_000
        self.sbx.files.write("/tmp/zipped", text, gzip=True)
        self.assertEqual(self.sbx.files.get_info("/tmp/zipped").size, len(text))
        self.assertTrue(self.sbx.files.read("/tmp/zipped", gzip=True) == text)

    @lib.limit(300)
    def test_200_mb_up_and_down(self):
        block = secrets.token_bytes(1 << 20)
        data = b"".join(i.to_bytes(4, "big") + block[4:] for i in range(200))
        expected = hashlib.sha256(data).hexdigest()
        self.sbx.files.write("/home/user/big", data, request_timeout=240 * FACTOR)
        del data
        inside = self.sbx.commands.run("sha256sum < big", timeout=120 * FACTOR)
        self.assertEqual(inside.stdout[:64], expected)
        digest, size = hashlib.sha256(), 0
        stream = self.sbx.files.read("big", format="stream", request_timeout=240 * FACTOR)
        for chunk in stream:
            digest.update(chunk)
            size += len(chunk)
        self.assertEqual((size, digest.hexdigest()), (200 << 20, expected))
        self.sbx.files.remove("big")

    def test_watch(self):
        self.sbx.files.make_dir("/tmp/watched/sub")
        watch = self.sbx.files.watch_dir("/tmp/watched", recursive=True)
        self.sbx.files.write("/tmp/watched/new", "x")
        self.sbx.files.write("/tmp/watched/sub/inner", "y")
        self.sbx.files.remove("/tmp/watched/new")
        wanted = {
            ("new", FilesystemEventType.CREATE), ("new", FilesystemEventType.WRITE),
            ("new", FilesystemEventType.REMOVE), ("sub/inner", FilesystemEventType.WRITE),
        }  # fmt: skip
        seen = set()

        def all_there():
            seen.update((event.name, event.type) for event in watch.get_new_events())
            return wanted <= seen

        until("the events", 8, all_there)
        watch.stop()

    def test_signed_urls(self):
        if not DOMAIN:  # they name no sandbox, and are refused
            url = self.sbx.download_url("/etc/hostname")
            self.assertEqual(fetch(url), (400, b"Invalid host\n"))
            return
        up = self.sbx.upload_url("/tmp/by-url", use_signature_expiration=60)
        self.assertTrue(up.startswith("https://"), up)
        body = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="by-url"\r\n\r\n'
            b"through a link\r\n--b--\r\n"
        )
        status, text = fetch(up, body, {"Content-Type": "multipart/form-data; boundary=b"})
        self.assertEqual(status, 200, text)
        down = self.sbx.download_url("/tmp/by-url")
        self.assertEqual(fetch(down), (200, b"through a link"))
        forged = down.replace("by-url", "by-uri")
        self.assertEqual(fetch(forged)[0], 401)
        bare = re.sub(r"[?&]signature=[^&]*", "", down)
        self.assertEqual(fetch(bare)[0], 401)


class Life(unittest.TestCase):
    def make(self, **options):
        options.setdefault("timeout", 60)
        sbx = Sandbox.create(**options)
        self.addCleanup(sbx.kill)
        return sbx

    def test_metadata_list_and_info(self):
        metadata = {"mark": secrets.token_hex(8), "odd key": "a&b=c é/?%"}
        sbx = self.make(metadata=metadata)
        info = sbx.get_info()
        self.assertEqual(info.sandbox_id, sbx.sandbox_id)
        self.assertEqual(info.metadata, metadata)
        self.assertEqual(info.state, SandboxState.RUNNING)
        self.assertAlmostEqual((info.end_at - info.started_at).total_seconds(), 60, delta=5)
        query = SandboxQuery(metadata=metadata, state=[SandboxState.RUNNING])
        rows = Sandbox.list(query=query).next_items()
        self.assertEqual([row.sandbox_id for row in rows], [sbx.sandbox_id])
        query = SandboxQuery(metadata=metadata, state=[SandboxState.PAUSED])
        self.assertEqual(Sandbox.list(query=query).next_items(), [])

    @lib.limit(180)
    def test_list_pages(self):
        mark = {"mark": secrets.token_hex(8)}
        made = [self.make(metadata=mark).sandbox_id for _ in range(5)]
        pages = Sandbox.list(query=SandboxQuery(metadata=mark), limit=2)
        seen, sizes = [], []
        while pages.has_next:
            page = pages.next_items()
            sizes.append(len(page))
            seen += [row.sandbox_id for row in page]
        self.assertEqual((sizes, seen), ([2, 2, 1], made[::-1]))

    def test_kill_twice(self):
        sbx = self.make()
        self.assertIs(sbx.is_running(), True)
        self.assertIs(sbx.kill(), True)
        self.assertIs(sbx.kill(), False)
        self.assertIs(sbx.is_running(), False)
        with self.assertRaises(SandboxNotFoundException):
            Sandbox.connect(sbx.sandbox_id)
        with self.assertRaises((TimeoutException, SandboxNotFoundException)):
            sbx.commands.run("true")
        with self.assertRaises((TimeoutException, SandboxNotFoundException)):
            sbx.files.read("/etc/hostname")

    def test_connect_by_id(self):
        sbx = self.make()
        sbx.files.write("/tmp/token", "mine")
        again = Sandbox.connect(sbx.sandbox_id, timeout=120)
        self.assertEqual(again.files.read("/tmp/token"), "mine")
        left = again.get_info().end_at.timestamp() - time.time()
        self.assertGreater(left, 100)

    def test_set_timeout_ends_it(self):
        sbx = self.make(timeout=300)
        sbx.set_timeout(2)
        self.assertIs(sbx.is_running(), True)
        time.sleep(2)
        until("its end", 4, lambda: not sbx.is_running())
        with self.assertRaises(SandboxNotFoundException):
            sbx.get_info()

    def test_kill_ends_a_running_command(self):
        sbx = self.make()
        handle = sbx.commands.run("sleep 100", background=True)
        sbx.kill()
        began = time.monotonic()
        with self.assertRaises(SandboxException):
            handle.wait()
        self.assertLess(time.monotonic() - began, 10 * FACTOR)

    def test_context_manager(self):
        with Sandbox.create(timeout=60) as sbx:
            self.assertEqual(sbx.commands.run("echo in").stdout, "in\n")
        self.assertIs(sbx.is_running(), False)

    def test_unknown_template(self):
        with self.assertRaises(SandboxException) as caught:
            Sandbox.create("no-such-template")
        self.assertIn("404", str(caught.exception))

    def test_wrong_key(self):
        key = "e2b_" + "0" * 40
        with self.assertRaises(AuthenticationException):
            Sandbox.create(api_key=key)
        with self.assertRaises(AuthenticationException):
            Sandbox.list(api_key=key).next_items()

    def test_no_internet(self):
        sbx = self.make(allow_internet_access=False)
        self.assertIs(sbx.get_info().allow_internet_access, False)
        with self.assertRaises(CommandExitException):
            sbx.commands.run('timeout 5 bash -c "exec 3<>/dev/tcp/192.0.2.1/80"', timeout=20)
        self.assertEqual(sbx.commands.run("echo still works").stdout, "still works\n")

    def test_secured_whatever_was_asked(self):
        for secure in (True, False):
            sbx = self.make(secure=secure)
            base = f"https://{sbx.get_host(49983)}" if DOMAIN else os.environ["E2B_SANDBOX_URL"]
            headers = {"E2b-Sandbox-Id": sbx.sandbox_id, "E2b-Sandbox-Port": "49983",
                       "Content-Type": "application/json"}  # fmt: skip
            status, _ = fetch(f"{base}/process.Process/List", b"{}", headers)
            self.assertEqual(status, 401)
            self.assertEqual(sbx.commands.run("echo ok").stdout, "ok\n")

    def test_metrics_are_measured(self):
        sbx = self.make()
        for row in lib.wait_until("figures", 30, sbx.get_metrics):
            self.assertGreater(row.mem_total, 0)


class Ports(Shared):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open(os.path.join(HERE, "echo_server.py")) as file:
            cls.sbx.files.write("/tmp/echo_server.py", file.read())
        cls.sbx.commands.run(
            f"python3 /tmp/echo_server.py {ECHO_PORT}", background=True, timeout=0
        )
        cls.host = cls.sbx.get_host(ECHO_PORT)
        cls.scheme = "https" if DOMAIN else "http"
        until("the server inside", 15, lambda: fetch(f"{cls.scheme}://{cls.host}/")[0] == 200)

    def test_host_names_port_and_sandbox(self):
        self.assertTrue(self.host.startswith(f"{ECHO_PORT}-{self.sbx.sandbox_id}."), self.host)

    def test_web_server_sees_its_own_name(self):
        status, body = fetch(f"{self.scheme}://{self.host}/")
        self.assertEqual((status, body.decode()), (200, f"hello from {self.host}"))

    def test_python_http_server(self):
        self.sbx.files.write("/tmp/www/index.html", "<p>page</p>")
        server = self.sbx.commands.run(
            "python3 -m http.server 8124 -d /tmp/www", background=True
        )
        url = f"{self.scheme}://{self.sbx.get_host(8124)}/index.html"
        until("the page", 15, lambda: fetch(url)[0] == 200)
        self.assertEqual(fetch(url)[1], b"<p>page</p>")
        server.kill()

    def test_websocket(self):
        port = int(self.host.rsplit(":", 1)[1])
        context = lib.tls_context() if DOMAIN else None
        socket = lib.WebSocket("127.0.0.1", port, self.host, "/chat", context)
        self.addCleanup(socket.close)
        socket.send("hello")
        self.assertEqual(socket.recv(), (1, b"hello"))
        data = secrets.token_bytes(700_000)
        socket.send(data)
        self.assertTrue(socket.recv() == (2, data), "bytes differ")

    def test_closed_port(self):
        status, body = fetch(f"{self.scheme}://{self.sbx.get_host(8999)}/")
        self.assertEqual(status, 502)
        self.assertIn(b'"message":"The sandbox is running but port is not open","port":8999', body)


class Async(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.sbx = await AsyncSandbox.create(timeout=120, envs={"SHARED": "yes"})

    async def asyncTearDown(self):
        await self.sbx.kill()

    async def test_commands(self):
        seen = []
        result = await self.sbx.commands.run(
            "echo out-$SHARED; echo err >&2", on_stdout=seen.append, user="root", cwd="/tmp"
        )
        self.assertEqual((result.stdout, result.stderr), ("out-yes\n", "err\n"))
        self.assertEqual("".join(seen), "out-yes\n")
        with self.assertRaises(CommandExitException) as caught:
            await self.sbx.commands.run("exit 7")
        self.assertEqual(caught.exception.exit_code, 7)
        with self.assertRaises(TimeoutException):
            await self.sbx.commands.run("sleep 60", timeout=1)
        with self.assertRaises(AuthenticationException):
            await self.sbx.commands.run("true", user="nobody-here")

    async def test_background(self):
        handle = await self.sbx.commands.run("cat; echo end", background=True, stdin=True)
        self.assertIn(handle.pid, [p.pid for p in await self.sbx.commands.list()])
        await self.sbx.commands.send_stdin(handle.pid, "in\n")
        await self.sbx.commands.close_stdin(handle.pid)
        self.assertEqual((await handle.wait()).stdout, "in\nend\n")
        handle = await self.sbx.commands.run("sleep 1.5; echo late", background=True)
        await handle.disconnect()
        again = await self.sbx.commands.connect(handle.pid)
        self.assertEqual((await again.wait()).stdout, "late\n")
        handle = await self.sbx.commands.run("sleep 300", background=True)
        self.assertIs(await handle.kill(), True)
        with self.assertRaises(CommandExitException):
            await handle.wait()

    async def test_many_at_once(self):
        runs = [self.sbx.commands.run(f"sleep 0.2; echo number {i}") for i in range(25)]
        for i, result in enumerate(await asyncio.gather(*runs)):
            self.assertEqual(result.stdout, f"number {i}\n")

    async def test_pty(self):
        seen = []
        term = await self.sbx.pty.create(
            PtySize(rows=24, cols=80), on_data=lambda data: seen.append(bytes(data))
        )
        await self.sbx.pty.resize(term.pid, PtySize(rows=50, cols=132))
        await self.sbx.pty.send_stdin(term.pid, b"stty size; exit 5\n")
        with self.assertRaises(CommandExitException) as caught:
            await term.wait()
        self.assertEqual(caught.exception.exit_code, 5)
        self.assertIn(b"50 132", b"".join(seen))

    async def test_files(self):
        data = secrets.token_bytes(2_000_000)
        await self.sbx.files.write("/tmp/x/bytes", data)
        self.assertTrue(bytes(await self.sbx.files.read("/tmp/x/bytes", format="bytes")) == data)
        digest = hashlib.sha256()
        async for chunk in await self.sbx.files.read("/tmp/x/bytes", format="stream"):
            digest.update(chunk)
        self.assertEqual(digest.hexdigest(), hashlib.sha256(data).hexdigest())
        await self.sbx.files.rename("/tmp/x/bytes", "/tmp/x/moved")
        self.assertEqual([e.name for e in await self.sbx.files.list("/tmp/x")], ["moved"])
        self.assertEqual((await self.sbx.files.get_info("/tmp/x/moved")).size, len(data))
        await self.sbx.files.remove("/tmp/x")
        self.assertIs(await self.sbx.files.exists("/tmp/x"), False)
        self.assertIs(await self.sbx.files.make_dir("/tmp/x/y"), True)
        with self.assertRaises(FileNotFoundException):
            await self.sbx.files.read("/tmp/x/none")

    async def test_watch(self):
        await self.sbx.files.make_dir("/tmp/watched")
        events = []
        watch = await self.sbx.files.watch_dir("/tmp/watched", on_event=events.append)
        await self.sbx.files.write("/tmp/watched/new", "x")
        for _ in range(int(160 * FACTOR)):
            if any(e.name == "new" and e.type == FilesystemEventType.WRITE for e in events):
                break
            await asyncio.sleep(0.05)
        else:
            self.fail(f"events: {events}")
        await watch.stop()

    async def test_life(self):
        info = await self.sbx.get_info()
        self.assertEqual(info.sandbox_id, self.sbx.sandbox_id)
        again = await AsyncSandbox.connect(self.sbx.sandbox_id)
        self.assertIs(await again.is_running(), True)
        await self.sbx.set_timeout(60)
        self.assertIs(await self.sbx.kill(), True)
        self.assertIs(await self.sbx.kill(), False)
        self.assertIs(await self.sbx.is_running(), False)
        with self.assertRaises(SandboxNotFoundException):
            await AsyncSandbox.connect(self.sbx.sandbox_id)

    async def test_wrong_key(self):
        with self.assertRaises(AuthenticationException):
            await AsyncSandbox.create(api_key="e2b_" + "0" * 40)


class CodeInterpreter(unittest.TestCase):
    def test_its_sandboxes_are_e2b_sandboxes(self):
        from e2b_code_interpreter import Sandbox as Interpreter

        self.assertTrue(issubclass(Interpreter, Sandbox))
        sbx = Interpreter.create("base", timeout=60)
        self.addCleanup(sbx.kill)
        self.assertEqual(sbx.commands.run("echo interpreter").stdout, "interpreter\n")


if __name__ == "__main__":
    lib.main()
