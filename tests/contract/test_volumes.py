"""Volume of the Python SDK, both kinds: every method and option, and what it says of errors."""

import datetime
import hashlib
import inspect
import io
import os
import secrets
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402
from e2b import AsyncVolume, Sandbox, Volume  # noqa: E402
from e2b.exceptions import (  # noqa: E402
    AuthenticationException, SandboxException, VolumeException, VolumeNotFoundException,
    VolumePathNotFoundException,
)  # fmt: skip

NO_ID = "00000000-0000-4000-8000-000000000000"


class Volumes:
    kind = None

    async def do(self, result):
        return await result if inspect.isawaitable(result) else result

    async def make(self):
        volume = await self.do(self.kind.create("test-" + secrets.token_hex(6)))
        self.addCleanup(Volume.destroy, volume.volume_id)
        return volume

    async def fails(self, kind, call, words=""):
        with self.assertRaises(kind) as caught:
            await self.do(call())
        self.assertIn(words, str(caught.exception))

    async def test_create_list_get_connect_destroy(self):
        volume = await self.make()
        self.assertEqual(len(volume.token.split(".")), 3)
        rows = {row.volume_id: row.name for row in await self.do(self.kind.list())}
        self.assertEqual(rows[volume.volume_id], volume.name)
        info = await self.do(self.kind.get_info(volume.volume_id))
        self.assertEqual((info.volume_id, info.name, info.domain), (volume.volume_id, volume.name, None))
        again = await self.do(self.kind.connect(volume.volume_id))
        await self.do(again.write_file("/a", "x"))
        self.assertEqual(await self.do(volume.read_file("/a")), "x")
        self.assertIs(await self.do(self.kind.destroy(volume.volume_id)), True)
        self.assertIs(await self.do(self.kind.destroy(volume.volume_id)), False)
        await self.fails(VolumePathNotFoundException, lambda: volume.list("/"))

    async def test_wrong_names_and_ids(self):
        volume = await self.make()
        for name in ("", "a b", "x" * 129, "a/b"):
            await self.fails(VolumeException, lambda: self.kind.create(name), "Invalid volume name")
        await self.fails(VolumeException, lambda: self.kind.create(volume.name),
                         f"Volume with name '{volume.name}' already exists")  # fmt: skip
        await self.fails(VolumeNotFoundException, lambda: self.kind.get_info(NO_ID))
        await self.fails(VolumeNotFoundException, lambda: self.kind.connect(NO_ID))
        await self.fails(VolumeException, lambda: self.kind.get_info("x"), "Invalid volume ID")
        await self.fails(AuthenticationException,
                         lambda: self.kind.list(api_key="e2b_" + "0" * 40))  # fmt: skip

    async def test_files_in_every_format(self):
        volume = await self.make()
        entry = await self.do(volume.write_file("/t", "grüße"))
        self.assertEqual((entry.name, entry.type.value, entry.path, entry.size, entry.mode, entry.uid),
                         ("t", "file", "/t", 7, 0o644, 1000))  # fmt: skip
        age = datetime.datetime.now(datetime.timezone.utc) - entry.mtime
        self.assertLess(abs(age.total_seconds()), 60)
        self.assertEqual(await self.do(volume.read_file("/t")), "grüße")
        self.assertEqual(await self.do(volume.read_file("/t", format="bytes")), "grüße".encode())
        data = secrets.token_bytes(3_000_001)
        for body in (data, io.BytesIO(data)):
            self.assertEqual((await self.do(volume.write_file("/b", body))).size, len(data))
            digest = hashlib.sha256()
            stream = await self.do(volume.read_file("/b", format="stream"))
            if hasattr(stream, "__aiter__"):
                async for chunk in stream:
                    digest.update(chunk)
            else:
                for chunk in stream:
                    digest.update(chunk)
            self.assertEqual(digest.digest(), hashlib.sha256(data).digest())
        await self.do(volume.write_file("/s", io.StringIO("text")))
        self.assertEqual(await self.do(volume.read_file("/s")), "text")

    async def test_folders_owners_and_modes(self):
        volume = await self.make()
        await self.fails(VolumePathNotFoundException, lambda: volume.write_file("/no/f", "x"))
        entry = await self.do(
            volume.write_file("/n/s/f", "x", uid=5, gid=6, mode=0o600, force=True)
        )
        self.assertEqual((entry.uid, entry.gid, entry.mode), (5, 6, 0o600))
        entry = await self.do(volume.update_metadata("/n/s/f", uid=7, gid=8, mode=0o640))
        self.assertEqual((entry.uid, entry.gid, entry.mode), (7, 8, 0o640))
        await self.fails(VolumePathNotFoundException, lambda: volume.update_metadata("/q", mode=1))
        entry = await self.do(volume.make_dir("/d", uid=1, gid=2, mode=0o700))
        self.assertEqual((entry.type.value, entry.uid, entry.gid, entry.mode),
                         ("directory", 1, 2, 0o700))  # fmt: skip
        await self.fails(VolumeException, lambda: volume.make_dir("/d"), "409")
        await self.fails(VolumePathNotFoundException, lambda: volume.make_dir("/x/y"))
        await self.do(volume.make_dir("/x/y", force=True))
        paths = [entry.path for entry in await self.do(volume.list("/", depth=2))]
        self.assertEqual(paths, ["/d", "/n", "/n/s", "/x", "/x/y"])
        self.assertEqual([entry.name for entry in await self.do(volume.list("/n"))], ["s"])
        await self.fails(VolumePathNotFoundException, lambda: volume.list("/none"))

    async def test_info_exists_and_remove(self):
        volume = await self.make()
        await self.do(volume.write_file("/d/f", b"1", force=True))
        self.assertEqual((await self.do(volume.get_info("/d"))).type.value, "directory")
        self.assertTrue(await self.do(volume.exists("/d/f")))
        await self.do(volume.remove("/d"))
        self.assertFalse(await self.do(volume.exists("/d/f")))
        await self.fails(VolumePathNotFoundException, lambda: volume.get_info("/d"))
        await self.fails(VolumePathNotFoundException, lambda: volume.remove("/d"))
        await self.fails(VolumePathNotFoundException, lambda: volume.read_file("/d/f"))
        await self.fails(VolumeException, lambda: volume.remove("/"))
        await self.fails(AuthenticationException, lambda: volume.list("/", token="a.b.c"))

    async def test_in_sandboxes(self):
        volume = await self.make()
        one = Sandbox.create(timeout=60, volume_mounts={"/mnt/data": volume.name})
        self.addCleanup(one.kill)
        two = Sandbox.create(timeout=60, volume_mounts={"/srv/a": volume.name})
        self.addCleanup(two.kill)
        one.files.write("/mnt/data/f", "live")
        self.assertEqual(two.files.read("/srv/a/f"), "live")
        self.assertEqual(await self.do(volume.read_file("/f")), "live")
        self.assertEqual(one.get_info().volume_mounts, [{"name": volume.name, "path": "/mnt/data"}])
        await self.fails(VolumeException, lambda: self.kind.destroy(volume.volume_id), "409")
        with self.assertRaisesRegex(SandboxException, "volume 'none-such' not found"):
            Sandbox.create(timeout=60, volume_mounts={"/mnt": "none-such"})


class SyncVolumes(Volumes, unittest.IsolatedAsyncioTestCase):
    kind = Volume


class AsyncVolumes(Volumes, unittest.IsolatedAsyncioTestCase):
    kind = AsyncVolume


del Volumes

if __name__ == "__main__":
    lib.main()
