"""One test for both kinds of the Python SDK: written once, run with Sandbox and with AsyncSandbox.

A test awaits `self.do(call)`: what the asynchronous kind gives is awaited, what the other gives is
there already.
"""

import asyncio
import inspect
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lib  # noqa: E402
import record  # noqa: E402, F401  (it wraps the SDK's classes)
from e2b import AsyncSandbox, Sandbox  # noqa: E402

FACTOR = lib.time_factor()
HERE = os.path.dirname(os.path.abspath(__file__))


class Both:
    """Base of tests; `kind` is Sandbox or AsyncSandbox. One sandbox for all tests of a class."""

    kind = None

    @classmethod
    def setUpClass(cls):
        cls.made = Sandbox.create(timeout=1800)
        cls.prepare()

    @classmethod
    def prepare(cls):
        pass

    @classmethod
    def tearDownClass(cls):
        cls.made.kill()

    async def asyncSetUp(self):
        asyncio.get_running_loop().slow_callback_duration = 3600  # calls that block are meant
        # A client of its own for each test: the asynchronous one belongs to the test's loop.
        self.sbx = await self.do(self.kind.connect(self.made.sandbox_id, timeout=1800))

    @property
    def is_async(self):
        return self.kind is AsyncSandbox

    async def do(self, result):
        return await result if inspect.isawaitable(result) else result

    async def refused(self, error, call, *args, **named):
        """CALL raises ERROR, which is returned."""
        with self.assertRaises(error) as caught:
            await self.do(call(*args, **named))
        return caught.exception

    async def until(self, what, seconds, predicate):
        end = time.monotonic() + seconds * FACTOR
        while not (value := await self.do(predicate())):
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {seconds} s")
            await asyncio.sleep(0.05)
        return value

    async def sh(self, script, **options):
        return (await self.do(self.sbx.commands.run(script, **options))).stdout

    async def output(self, handle):
        """The result of HANDLE, whatever its exit code."""
        return await self.do(handle.wait())


def both(mixin):
    """Classes of tests for both kinds: NAMESync and NAMEAsync in the caller's module."""
    module = sys.modules[mixin.__module__]
    for suffix, kind in (("Sync", Sandbox), ("Async", AsyncSandbox)):
        name = mixin.__name__ + suffix
        made = type(name, (mixin, unittest.IsolatedAsyncioTestCase),
                    {"kind": kind, "__module__": mixin.__module__})  # fmt: skip
        setattr(module, name, made)
    return mixin
