"""What of the Python SDK the tests call: every public method, with the parameters given.

Wraps the methods of the running SDK's classes (nothing of the package is changed) and writes, at
the end, {"Class.method": {"parameters": {name: given}, "tests": {test: calls}}} to the file that
CONTRACT_RECORD names. The classes and signatures are read from the package, so a method of a newer
version shows up by itself.
"""

import atexit
import functools
import inspect
import json
import os
import unittest

from e2b.sandbox_async.commands.command import Commands as AsyncCommands
from e2b.sandbox_async.commands.command_handle import AsyncCommandHandle
from e2b.sandbox_async.commands.command_input_handle import AsyncCommandInputHandle
from e2b.sandbox_async.commands.pty import Pty as AsyncPty
from e2b.sandbox_async.filesystem.filesystem import Filesystem as AsyncFilesystem
from e2b.sandbox_async.filesystem.watch_handle import AsyncWatchHandle
from e2b.sandbox_async.git import Git as AsyncGit
from e2b.sandbox_sync.commands.command import Commands
from e2b.sandbox_sync.commands.command_handle import CommandHandle
from e2b.sandbox_sync.commands.pty import Pty
from e2b.sandbox_sync.filesystem.filesystem import Filesystem
from e2b.sandbox_sync.filesystem.watch_handle import WatchHandle
from e2b.sandbox_sync.git import Git

# The name in the table, and the class.
CLASSES = (
    ("commands", Commands), ("handle", CommandHandle), ("pty", Pty), ("files", Filesystem),
    ("watch", WatchHandle), ("git", Git),
    ("async commands", AsyncCommands), ("async handle", AsyncCommandHandle),
    ("async input", AsyncCommandInputHandle), ("async pty", AsyncPty),
    ("async files", AsyncFilesystem), ("async watch", AsyncWatchHandle), ("async git", AsyncGit),
)  # fmt: skip
found = {}
running = "(no test)"


def note(key, given):
    row = found[key]
    for name in given:
        row["parameters"][name] = True
    row["tests"][running] = row["tests"].get(running, 0) + 1


def wrapped(key, method):
    signature = inspect.signature(method)
    found[key] = {
        "parameters": {name: False for name in signature.parameters if name != "self"},
        "tests": {},
    }

    @functools.wraps(method)
    def call(*args, **named):
        if not inside_sdk():
            note(key, [name for name in signature.bind(*args, **named).arguments if name != "self"])
        return method(*args, **named)

    return call


def inside_sdk():
    """Whether the SDK itself calls (git calls commands.run): that tests nothing of the callee."""
    return "/e2b/" in inspect.currentframe().f_back.f_back.f_code.co_filename


def wrap_all():
    for prefix, owner in CLASSES:
        for name, member in list(vars(owner).items()):
            if name.startswith("_"):
                continue
            key = f"{prefix}.{name}"
            if isinstance(member, property):
                setattr(owner, name, property(wrapped(key, member.fget)))
            elif inspect.isfunction(member):
                setattr(owner, name, wrapped(key, member))


def name_tests():
    run = unittest.TestCase.run

    def named(self, result=None):
        global running
        running = f"{type(self).__name__}.{self._testMethodName}"
        return run(self, result)

    unittest.TestCase.run = named


def save(path):
    with open(path, "w") as file:
        json.dump(found, file)


if os.environ.get("CONTRACT_RECORD"):
    wrap_all()
    name_tests()
    atexit.register(save, os.environ["CONTRACT_RECORD"])
