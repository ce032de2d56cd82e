"""commands, pty, files and watches of the Python SDK, sync and async: every method and parameter.

What a user does all day is in test_sdk.py; here are the remaining parameters, each with its effect.
"""

import asyncio
import hashlib
import io
import secrets
import threading

from both import FACTOR, Both, both, lib
from e2b import (
    AuthenticationException,
    CommandExitException,
    FileNotFoundException,
    FilesystemEventType,
    FileType,
    InvalidArgumentException,
    NotFoundException,
    PtySize,
    SandboxException,
    TimeoutException,
)

SOON = {"request_timeout": 30 * FACTOR}
SIZE = PtySize(rows=24, cols=80)


@both
class CommandOptions(Both):
    async def test_run_with_all_its_parameters(self):
        out, err = [], []
        result = await self.do(self.sbx.commands.run(
            "pwd; id -un; echo $A; cat; echo e >&2", background=False, envs={"A": "1"},
            user="root", cwd="/tmp", on_stdout=out.append, on_stderr=err.append, stdin=False,
            timeout=30 * FACTOR, **SOON,
        ))  # fmt: skip
        self.assertEqual((result.stdout, result.stderr), ("/tmp\nroot\n1\n", "e\n"))
        self.assertEqual(("".join(out), "".join(err)), ("/tmp\nroot\n1\n", "e\n"))

    async def test_output_that_is_not_retained(self):
        out = []
        result = await self.do(self.sbx.commands.run(
            "echo x", on_stdout=out.append, retain_output=False
        ))  # fmt: skip
        self.assertEqual((out, result.stdout, result.stderr), (["x\n"], None, None))
        handle = await self.do(self.sbx.commands.run("sleep 0.5; echo y", background=True))
        again = await self.do(self.sbx.commands.connect(handle.pid, retain_output=False))
        self.assertIsNone((await self.output(again)).stdout)
        await self.do(handle.disconnect())

    async def test_no_time_limit(self):
        self.assertEqual(await self.sh("sleep 1.2; echo slept", timeout=0, **SOON), "slept\n")

    async def test_cwd_of_the_home_and_relative(self):
        await self.do(self.sbx.files.make_dir("/home/user/below"))
        self.assertEqual(await self.sh("pwd", cwd="~"), "/home/user\n")
        self.assertEqual(await self.sh("pwd", cwd="below"), "/home/user/below\n")
        self.assertEqual(await self.sh("pwd", cwd="~", user="root"), "/root\n")

    async def test_list_tells_what_was_asked_for(self):
        handle = await self.do(self.sbx.commands.run(
            "sleep 77", background=True, envs={"MARK": "é"}, cwd="/tmp"
        ))  # fmt: skip
        rows = [p for p in await self.do(self.sbx.commands.list(**SOON)) if p.pid == handle.pid]
        self.assertEqual(len(rows), 1)
        self.assertEqual((rows[0].cmd, rows[0].args), ("/bin/bash", ["-l", "-c", "sleep 77"]))
        self.assertEqual((rows[0].envs, rows[0].cwd), ({"MARK": "é"}, "/tmp"))
        self.assertIsNone(rows[0].tag)
        self.assertIs(await self.do(self.sbx.commands.kill(handle.pid, **SOON)), True)
        error = await self.refused(CommandExitException, handle.wait)
        self.assertEqual((error.exit_code, error.error), (-1, "signal: killed"))

    async def test_stdin_of_a_handle_and_of_a_pid(self):
        handle = await self.do(self.sbx.commands.run("cat; sleep 1", background=True, stdin=True))
        await self.do(handle.send_stdin("a\n", **SOON))
        await self.do(handle.send_stdin(b"\xc3\xa9\n"))
        await self.do(self.sbx.commands.send_stdin(handle.pid, "b\n", **SOON))
        await self.do(handle.close_stdin(**SOON))
        await self.do(self.sbx.commands.close_stdin(handle.pid, **SOON))  # a second time: fine
        self.assertEqual((await self.output(handle)).stdout, "a\né\nb\n")

    async def test_stdin_that_is_not_there(self):
        handle = await self.do(self.sbx.commands.run("sleep 50", background=True, stdin=False))
        error = await self.refused(SandboxException, self.sbx.commands.send_stdin, handle.pid, "x")
        self.assertIn("stdin not enabled or closed", str(error))
        await self.do(handle.kill())
        await self.refused(CommandExitException, handle.wait)

    async def test_nobody_there(self):
        for call in (
            lambda: self.sbx.commands.send_stdin(999999, "x"),
            lambda: self.sbx.commands.close_stdin(999999),
            lambda: self.sbx.commands.connect(999999, timeout=5, **SOON),
        ):
            error = await self.refused(NotFoundException, call)
            self.assertIn("process with pid 999999 not found", str(error))
        self.assertIs(await self.do(self.sbx.commands.kill(999999)), False)

    async def test_connect_has_a_limit_of_its_own(self):
        handle = await self.do(self.sbx.commands.run("sleep 40", background=True, timeout=0))
        again = await self.do(self.sbx.commands.connect(handle.pid, timeout=1, **SOON))
        await self.refused(TimeoutException, again.wait)
        pids = [p.pid for p in await self.do(self.sbx.commands.list())]
        self.assertIn(handle.pid, pids)  # the stream ended, not the process
        self.assertIs(await self.do(handle.kill()), True)
        await self.refused(CommandExitException, handle.wait)

    async def test_connect_after_the_end_gives_the_end(self):
        handle = await self.do(self.sbx.commands.run("exit 9", background=True))
        await self.refused(CommandExitException, handle.wait)
        again = await self.do(self.sbx.commands.connect(handle.pid))
        error = await self.refused(CommandExitException, again.wait)
        self.assertEqual(error.exit_code, 9)

    async def test_signals_are_told_apart(self):
        for name, text in (("TERM", "terminated"), ("SEGV", "segmentation fault")):
            error = await self.refused(CommandExitException, self.sbx.commands.run,
                                       f"ulimit -c 0; kill -{name} $$")  # fmt: skip
            self.assertEqual((error.exit_code, error.error), (-1, f"signal: {text}"))

    async def test_bytes_that_are_no_text(self):
        result = await self.sh(r"printf 'a\xff\xfeb'; printf '\xc3'; sleep 0.2; printf '\xa9'")
        self.assertEqual(result, "a\ufffd\ufffdbé")

    async def test_long_commands_and_variables(self):
        value = "v" * 100_000
        self.assertEqual(await self.sh("echo ${#V}", envs={"V": value}), "100000\n")
        error = await self.refused(SandboxException, self.sbx.commands.run, "echo " + "x" * 140_000)
        self.assertIn("argument list too long", str(error).lower())

    async def test_errors_of_spawning(self):
        await self.refused(InvalidArgumentException, self.sbx.commands.run, "true", cwd="/etc/passwd")
        await self.refused(AuthenticationException, self.sbx.commands.run, "true", user="no body")


@both
class StreamInput(Both):
    async def stream(self, module, pid, parts, **options):
        """Send PARTS on one stream, the way of each kind."""
        if self.is_async:
            handle = await self.do(module.stream_input(pid, **options))
            for part in parts:
                await handle.send(part)
            await handle.close()
        else:
            module.stream_input(pid, parts, **options)

    async def test_command(self):
        handle = await self.do(self.sbx.commands.run("sha256sum", background=True, stdin=True))
        parts = [secrets.token_bytes(70_000) for _ in range(20)] + ["text é"]
        await self.stream(self.sbx.commands, handle.pid, parts, timeout=30 * FACTOR)
        await self.do(handle.close_stdin())
        data = b"".join(p if isinstance(p, bytes) else p.encode() for p in parts)
        result = await self.output(handle)
        self.assertEqual(result.stdout.split()[0], hashlib.sha256(data).hexdigest())

    async def test_terminal(self):
        term = await self.open_terminal()
        await self.stream(self.sbx.pty, term.pid, [b"echo $((6", "*7)); exit 3\n"], timeout=30 * FACTOR)
        error = await self.refused(CommandExitException, term.wait)
        self.assertEqual(error.exit_code, 3)

    async def open_terminal(self):
        if self.is_async:
            return await self.sbx.pty.create(SIZE, on_data=lambda data: None)
        return self.sbx.pty.create(SIZE)

    async def test_nobody_there(self):
        for module in (self.sbx.commands, self.sbx.pty):
            with self.assertRaises(NotFoundException):
                await self.stream(module, 999999, [b"x"])


@both
class PtyOptions(Both):
    async def open(self, seen, call, *args, **options):
        """A terminal whose output comes into SEEN while the test goes on."""
        if self.is_async:
            return await call(*args, on_data=lambda data: seen.append(bytes(data)), **options)
        term = call(*args, **options)

        def read():
            try:
                for _, _, data in term:
                    seen.append(bytes(data or b""))
            except SandboxException as error:
                seen.append(repr(error).encode())

        threading.Thread(target=read, daemon=True).start()
        return term

    async def shown(self, seen, text):
        await self.until(f"{text} on the terminal", 10, lambda: text in b"".join(seen))

    async def test_create_with_all_its_parameters(self):
        seen = []
        term = await self.open(
            seen, self.sbx.pty.create, SIZE, user="root", cwd="/tmp", envs={"A": "b", "TERM": "vt100"},
            timeout=60 * FACTOR, **SOON,
        )  # fmt: skip
        send = self.sbx.pty.send_stdin
        await self.do(send(term.pid, b'echo "<$(id -un)-$PWD-$A-$TERM-$LANG>"\n', **SOON))
        await self.shown(seen, b"<root-/tmp-b-vt100-C.UTF-8>")
        await self.do(self.sbx.pty.resize(term.pid, PtySize(rows=11, cols=222), **SOON))
        await self.do(send(term.pid, b"stty size\n"))
        await self.shown(seen, b"11 222")
        self.assertIs(await self.do(self.sbx.pty.kill(term.pid, **SOON)), True)
        await self.until("nobody to kill", 5, lambda: self.is_gone(term.pid))

    async def is_gone(self, pid):
        return await self.do(self.sbx.pty.kill(pid)) is False

    async def test_connect_takes_over(self):
        first, second = [], []
        term = await self.open(first, self.sbx.pty.create, SIZE)
        if self.is_async:
            await term.disconnect()
        again = await self.open(second, self.sbx.pty.connect, term.pid, timeout=60 * FACTOR, **SOON)
        self.assertEqual(again.pid, term.pid)
        await self.do(self.sbx.pty.send_stdin(again.pid, b"echo o''ne; exit 4\n"))
        await self.shown(second, b"one")
        if self.is_async:
            error = await self.refused(CommandExitException, again.wait)
            self.assertEqual(error.exit_code, 4)

    async def test_wait_hands_on_output(self):
        if self.is_async:
            return  # its on_data is the parameter of create
        term = self.sbx.pty.create(SIZE)
        self.sbx.pty.send_stdin(term.pid, b"echo pt''y; exit 0\n")
        seen = []
        self.assertEqual(term.wait(on_pty=seen.append).exit_code, 0)
        self.assertIn(b"pty", b"".join(bytes(part) for part in seen))
        handle = self.sbx.commands.run("echo out; echo err >&2", background=True)
        out, err = [], []
        handle.wait(on_stdout=out.append, on_stderr=err.append)
        self.assertEqual((out, err), (["out\n"], ["err\n"]))

    async def test_handle_shows_what_came(self):
        if not self.is_async:
            return  # the synchronous handle has only the result of wait
        handle = await self.sbx.commands.run("echo out; echo err >&2; exit 6", background=True)
        await self.refused(CommandExitException, handle.wait)
        self.assertEqual((handle.stdout, handle.stderr), ("out\n", "err\n"))
        self.assertEqual((handle.exit_code, handle.error), (6, "exit status 6"))
        seen = []
        handle = await self.sbx.commands.run("sleep 0.5; echo o; echo e >&2", background=True)
        again = await self.sbx.commands.connect(
            handle.pid, on_stdout=seen.append, on_stderr=seen.append
        )
        await again.wait()
        self.assertEqual(sorted(seen), ["e\n", "o\n"])

    async def test_wrong_kind_of_process(self):
        handle = await self.do(self.sbx.commands.run("sleep 30", background=True))
        for call in (
            lambda: self.sbx.pty.resize(handle.pid, SIZE),
            lambda: self.sbx.pty.send_stdin(handle.pid, b"x"),
        ):
            self.assertIn("tty not assigned", str(await self.refused(SandboxException, call)))
        await self.do(handle.kill())
        await self.refused(CommandExitException, handle.wait)
        seen = []
        term = await self.open(seen, self.sbx.pty.create, SIZE)
        error = await self.refused(SandboxException, self.sbx.commands.send_stdin, term.pid, "x")
        self.assertIn("tty assigned to process", str(error))
        error = await self.refused(SandboxException, self.sbx.commands.close_stdin, term.pid)
        self.assertIn("cannot close stdin for PTY", str(error))
        await self.do(term.kill())

    async def test_nobody_there(self):
        seen = []
        for call in (
            lambda: self.sbx.pty.resize(999999, SIZE),
            lambda: self.sbx.pty.send_stdin(999999, b"x"),
            lambda: self.open(seen, self.sbx.pty.connect, 999999),
        ):
            await self.refused(NotFoundException, call)


@both
class FileOptions(Both):
    async def test_data_of_every_kind(self):
        data = secrets.token_bytes(100_003)
        for octet in (False, None, True):
            for value in (data, io.BytesIO(data), self.parts(data), data.hex()):
                if octet is False and not isinstance(value, (bytes, str)):
                    continue  # the SDK has no form for these
                await self.do(self.sbx.files.write("/tmp/kinds", value, use_octet_stream=octet, **SOON))
                back = await self.do(self.sbx.files.read("/tmp/kinds", format="bytes", **SOON))
                wanted = value.encode() if isinstance(value, str) else data
                self.assertTrue(bytes(back) == wanted, f"{type(value)} octet={octet}")

    def parts(self, data):
        parts = [data[i : i + 9999] for i in range(0, len(data), 9999)]
        if not self.is_async:
            return iter(parts)

        async def each():
            for part in parts:
                await asyncio.sleep(0)
                yield part

        return each()

    async def test_gzip_of_every_form(self):
        text = "line é\n" * 30_000
        for octet in (None, True):
            await self.do(self.sbx.files.write("/tmp/z", text, gzip=True, use_octet_stream=octet))
            self.assertEqual((await self.do(self.sbx.files.get_info("/tmp/z"))).size, 240_000)
        read = self.sbx.files.read
        self.assertTrue(await self.do(read("/tmp/z", gzip=True)) == text)
        self.assertTrue(bytes(await self.do(read("/tmp/z", format="bytes", gzip=True))) == text.encode())
        whole = await self.whole(read("/tmp/z", format="stream", gzip=True, stream_idle_timeout=30))
        self.assertTrue(whole == text.encode())

    async def whole(self, call):
        stream, data = await self.do(call), b""
        if self.is_async:
            async for chunk in stream:
                data += chunk
        else:
            for chunk in stream:
                data += chunk
        return data

    async def test_empty_files(self):
        for octet in (False, True):
            await self.do(self.sbx.files.write("/tmp/empty", b"", use_octet_stream=octet))
            self.assertEqual(await self.do(self.sbx.files.read("/tmp/empty")), "")
            self.assertEqual(bytes(await self.do(self.sbx.files.read("/tmp/empty", format="bytes"))), b"")
            self.assertEqual(await self.whole(self.sbx.files.read("/tmp/empty", format="stream")), b"")

    async def test_several_files_with_all_parameters(self):
        for octet, zipped in ((None, False), (True, False), (True, True)):
            infos = await self.do(self.sbx.files.write_files(
                [{"path": "several/1", "data": "one"}, {"path": "/tmp/several/2", "data": b"\x00\r\n--"},
                 {"path": "several/ü", "data": io.BytesIO(b"three")}],
                user="root", gzip=zipped, use_octet_stream=octet, metadata={"round": f"{octet}"}, **SOON,
            ))  # fmt: skip
            self.assertEqual([i.path for i in infos],
                             ["/root/several/1", "/tmp/several/2", "/root/several/ü"])  # fmt: skip
            self.assertEqual([i.metadata for i in infos], [{"round": f"{octet}"}] * 3)
            info = await self.do(self.sbx.files.get_info("/tmp/several/2"))
            self.assertEqual((info.owner, info.size, info.metadata), ("root", 5, {"round": f"{octet}"}))
            data = await self.do(self.sbx.files.read("/tmp/several/2", format="bytes"))
            self.assertEqual(bytes(data), b"\x00\r\n--")
        self.assertEqual(await self.do(self.sbx.files.write_files([])), [])

    async def test_metadata(self):
        info = await self.do(self.sbx.files.write("/tmp/m", "1", metadata={"Author": "ann", "b": "2"}))
        self.assertEqual(info.metadata, {"author": "ann", "b": "2"})
        listed = await self.do(self.sbx.files.list("/tmp"))
        self.assertIn({"author": "ann", "b": "2"}, [e.metadata for e in listed if e.name == "m"])
        moved = await self.do(self.sbx.files.rename("/tmp/m", "/tmp/m2", **SOON))
        self.assertEqual(moved.metadata, {"author": "ann", "b": "2"})
        await self.do(self.sbx.files.write("/tmp/m2", "2", use_octet_stream=True))
        self.assertFalse((await self.do(self.sbx.files.get_info("/tmp/m2"))).metadata)

    async def test_user_of_every_call(self):
        files = self.sbx.files
        as_root = {"user": "root", **SOON}
        self.assertIs(await self.do(files.make_dir("mine/deep", **as_root)), True)
        await self.do(files.write("mine/f", "x", **as_root))
        self.assertEqual(await self.do(files.read("mine/f", **as_root)), "x")
        self.assertIs(await self.do(files.exists("mine/f", **as_root)), True)
        self.assertIs(await self.do(files.exists("mine/f")), False)
        info = await self.do(files.get_info("mine/f", **as_root))
        self.assertEqual((info.path, info.owner, info.group), ("/root/mine/f", "root", "root"))
        moved = await self.do(files.rename("mine/f", "mine/g", **as_root))
        self.assertEqual(moved.path, "/root/mine/g")
        names = [e.path for e in await self.do(files.list("mine", depth=2, **as_root))]
        self.assertEqual(names, ["/root/mine/deep", "/root/mine/g"])
        await self.do(files.remove("mine", **as_root))
        self.assertIs(await self.do(files.exists("/root/mine")), False)
        await self.refused(AuthenticationException, files.read, "x", user="nobody-here")
        await self.refused(AuthenticationException, files.list, "/", user="nobody-here")

    async def test_entries_are_complete(self):
        await self.sh("mkdir -p /tmp/e && cd /tmp/e && echo abc > f && chmod 640 f && mkdir d && "
                      "ln -s f l && ln -s none broken && mkfifo p && touch -d @1234567890.5 f && "
                      "sudo chown root:daemon f")  # fmt: skip
        rows = {e.name: e for e in await self.do(self.sbx.files.list("/tmp/e"))}
        file, link = rows["f"], rows["l"]
        self.assertEqual((file.type, file.size, file.mode & 0o777, file.permissions),
                         (FileType.FILE, 4, 0o640, "-rw-r-----"))  # fmt: skip
        self.assertEqual((file.owner, file.group, file.path), ("root", "daemon", "/tmp/e/f"))
        self.assertEqual(file.modified_time.timestamp(), 1234567890.5)
        self.assertEqual((link.type, link.symlink_target), (FileType.SYMLINK, "/tmp/e/f"))
        self.assertEqual(rows["d"].type, FileType.DIR)
        self.assertNotIn("p", rows)  # neither file nor folder: the SDK leaves it out

    async def test_errors(self):
        files = self.sbx.files
        await self.do(files.write("/tmp/err/file", "x"))
        for error, call in (
            (FileNotFoundException, lambda: files.rename("/tmp/none", "/tmp/other")),
            (FileNotFoundException, lambda: files.read("/tmp/none", format="stream")),
            (InvalidArgumentException, lambda: files.write("/tmp/err", "over a folder")),
            (InvalidArgumentException, lambda: files.make_dir("/tmp/err/file")),
            (InvalidArgumentException, lambda: files.list("/tmp/err", depth=0)),
            (SandboxException, lambda: files.write("/tmp/err/file/below", "x")),
            (NotFoundException, lambda: self.watch([], "/tmp/none")),
            (InvalidArgumentException, lambda: self.watch([], "/tmp/err/file")),
        ):
            await self.refused(error, call)
        self.assertIsNone(await self.do(files.remove("/tmp/none-at-all")))

    async def watch(self, events, path, **options):
        """(handle, a call that brings new events) of both kinds."""
        if self.is_async:
            watch = await self.sbx.files.watch_dir(path, events.append, **options)
            return watch, lambda: None
        watch = self.sbx.files.watch_dir(path, **options)
        return watch, lambda: events.extend(watch.get_new_events(**SOON))

    async def events_until(self, events, fetch, wanted):
        def there():
            fetch()
            return wanted <= {(event.name, event.type) for event in events}

        try:
            await self.until("the events", 10, there)
        except TimeoutError:
            self.fail(f"wanted {wanted}, got {events}")

    async def test_watch_with_all_its_parameters(self):
        await self.do(self.sbx.files.make_dir("watched/sub", user="root"))
        events, ended = [], []
        options = {"on_exit": ended.append, "timeout": 60 * FACTOR} if self.is_async else {}
        watch, fetch = await self.watch(
            events, "watched", user="root", recursive=True, include_entry=True,
            allow_network_mounts=True, **SOON, **options,
        )  # fmt: skip
        await self.do(self.sbx.files.write("/root/watched/sub/new", "12345"))
        await self.do(self.sbx.files.make_dir("/root/watched/later/deep"))
        await self.do(self.sbx.files.write("/root/watched/later/deep/x", "1"))
        await self.do(self.sbx.files.rename("/root/watched/sub/new", "/root/watched/moved"))
        kind = FilesystemEventType
        await self.events_until(events, fetch, {
            ("sub/new", kind.CREATE), ("sub/new", kind.WRITE), ("later", kind.CREATE),
            ("later/deep", kind.CREATE), ("later/deep/x", kind.CREATE), ("sub/new", kind.RENAME),
            ("moved", kind.CREATE),
        })  # fmt: skip
        entries = [e.entry for e in events if (e.name, e.type) == ("moved", kind.CREATE)]
        self.assertEqual((entries[0].size, entries[0].path), (5, "/root/watched/moved"))
        self.assertIsNone([e.entry for e in events if e.type == kind.RENAME][0])
        await self.do(watch.stop() if self.is_async else watch.stop(**SOON))
        if self.is_async:
            await self.until("on_exit", 5, lambda: ended)
            self.assertEqual(ended, [None])
            return
        await self.refused(SandboxException, watch.get_new_events)

    async def test_watch_of_one_folder_only(self):
        await self.do(self.sbx.files.make_dir("/tmp/flat/sub"))
        events = []
        watch, fetch = await self.watch(events, "/tmp/flat", recursive=False)
        await self.do(self.sbx.files.write("/tmp/flat/sub/unseen", "x"))
        await self.sh("cd /tmp/flat && touch f && chmod 600 f && rm f")
        kind = FilesystemEventType
        await self.events_until(
            events, fetch, {("f", kind.CREATE), ("f", kind.CHMOD), ("f", kind.REMOVE)}
        )
        self.assertNotIn("sub/unseen", [event.name for event in events])
        self.assertEqual({event.entry for event in events}, {None})
        await self.do(watch.stop())

    async def test_watch_ends_by_its_timeout(self):
        if not self.is_async:
            return  # a polled watcher has none
        ended = []
        await self.do(self.sbx.files.make_dir("/tmp/short"))
        await self.sbx.files.watch_dir("/tmp/short", lambda e: None, on_exit=ended.append, timeout=1)
        await self.until("its end", 10, lambda: ended)
        self.assertIsInstance(ended[0], TimeoutException)


if __name__ == "__main__":
    lib.main()
