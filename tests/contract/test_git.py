"""`git` of the Python SDK, sync and async: every method and option, on git's own protocols.

The remotes are inside the sandbox: a bare repository by its path, and the same over HTTP behind a
password (git_server.py).
"""

import os

from both import HERE, Both, both, lib
from e2b import (
    CommandExitException,
    GitAuthException,
    GitUpstreamException,
    InvalidArgumentException,
)

PORT = 8140
URL = f"http://127.0.0.1:{PORT}/private.git"
PASSWORD = "s3cret-token"
# Every git method takes these.
COMMON = {"envs": {"GIT_TRACE2": "0"}, "user": "user", "cwd": "/home/user", "timeout": 60,
          "request_timeout": 60}  # fmt: skip


@both
class Git(Both):
    @classmethod
    def prepare(cls):
        with open(os.path.join(HERE, "git_server.py")) as file:
            cls.made.files.write("/tmp/git_server.py", file.read())
        cls.made.commands.run(
            "git config --global user.name Tester; git config --global user.email t@example.test;"
            "git config --global init.defaultBranch main; git init -q --bare /tmp/srv/private.git;"
            "git -C /tmp/srv/private.git config http.receivepack true;"
            "git init -q /tmp/seed && cd /tmp/seed && echo 1 > a && git add a && git commit -qm one"
            " && echo 2 > a && git commit -qam two && git push -q /tmp/srv/private.git main"
            " && git push -q /tmp/srv/private.git main:side"
        )
        cls.made.commands.run(
            f"python3 /tmp/git_server.py {PORT} /tmp/srv ann {PASSWORD}", background=True, timeout=0
        )
        lib.wait_until(
            "the git server", 15 * lib.time_factor(),
            lambda: cls.made.commands.run(f"curl -so /dev/null {URL}; echo $?").stdout == "0\n",
        )  # fmt: skip

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.git = self.sbx.git
        self.path = f"/tmp/work-{self._testMethodName}"

    async def fresh(self):
        """A repository with one commit, at self.path."""
        await self.do(self.git.init(self.path, initial_branch="main"))
        await self.do(self.sbx.files.write(f"{self.path}/a", "1\n"))
        await self.do(self.git.add(self.path))
        await self.do(self.git.commit(self.path, "first"))

    async def test_init(self):
        await self.do(self.git.init(self.path, initial_branch="trunk", **COMMON))
        self.assertEqual(await self.sh(f"cat {self.path}/.git/HEAD"), "ref: refs/heads/trunk\n")
        await self.do(self.git.init(self.path + ".git", bare=True))
        self.assertEqual(await self.sh(f"git -C {self.path}.git config core.bare"), "true\n")

    async def test_status_of_every_kind_of_change(self):
        await self.fresh()
        await self.sh("for n in m s d r; do seq 9 > $n; done; git add .; git commit -qm more; "
                      "echo x >> m; echo y >> s; git add s; rm d; git mv r renamed; echo > new; "
                      "echo > staged; git add staged", cwd=self.path)  # fmt: skip
        status = await self.do(self.git.status(self.path, **COMMON))
        self.assertEqual(status.current_branch, "main")
        self.assertFalse(status.detached or status.is_clean)
        rows = {row.name: (row.status, row.staged) for row in status.file_status}
        self.assertEqual(rows, {
            "m": ("modified", False), "s": ("modified", True), "d": ("deleted", False),
            "renamed": ("renamed", True), "new": ("untracked", False), "staged": ("added", True),
        })  # fmt: skip
        self.assertEqual((status.total_count, status.untracked_count), (6, 1))

    async def test_add_and_commit(self):
        await self.do(self.git.init(self.path))
        for name in ("one", "two", "three"):
            await self.do(self.sbx.files.write(f"{self.path}/{name}", name))
        await self.do(self.git.add(self.path, files=["one"], **COMMON))
        self.assertEqual((await self.do(self.git.status(self.path))).staged_count, 1)
        await self.do(self.git.add(self.path, all=False))
        self.assertEqual((await self.do(self.git.status(self.path))).staged_count, 3)
        await self.do(self.git.commit(
            self.path, "it's \"quoted\"\n\nbody", author_name="Ann Ünal",
            author_email="ann@example.test", **COMMON,
        ))  # fmt: skip
        log = await self.sh(f"git -C {self.path} log --format='%an|%ae|%B'")
        self.assertEqual(log.strip(), "Ann Ünal|ann@example.test|it's \"quoted\"\n\nbody")
        await self.refused(CommandExitException, self.git.commit, self.path, "nothing")
        await self.do(self.git.commit(self.path, "nothing", allow_empty=True))
        self.assertTrue((await self.do(self.git.status(self.path))).is_clean)

    async def test_common_options_take_effect(self):
        await self.do(self.git.init("from-cwd", cwd="/tmp", user="root"))
        self.assertEqual(await self.sh("stat -c %U /tmp/from-cwd/.git"), "root\n")
        envs = {"GIT_AUTHOR_DATE": "2001-02-03T04:05:06Z"}
        await self.fresh()
        await self.do(self.git.commit(self.path, "dated", allow_empty=True, envs=envs))
        date = await self.sh("git log -1 --format=%as", cwd=self.path)
        self.assertEqual(date, "2001-02-03\n")
        await self.sh("rm -rf /tmp/from-cwd", user="root")

    async def test_branches(self):
        await self.fresh()
        await self.do(self.git.create_branch(self.path, "feature/x", **COMMON))
        found = await self.do(self.git.branches(self.path, **COMMON))
        self.assertEqual((sorted(found.branches), found.current_branch),
                         (["feature/x", "main"], "feature/x"))  # fmt: skip
        await self.do(self.git.commit(self.path, "unmerged", allow_empty=True))
        await self.do(self.git.checkout_branch(self.path, "main", **COMMON))
        await self.refused(CommandExitException, self.git.delete_branch, self.path, "feature/x")
        await self.do(self.git.delete_branch(self.path, "feature/x", force=True, **COMMON))
        self.assertEqual((await self.do(self.git.branches(self.path))).branches, ["main"])
        await self.refused(CommandExitException, self.git.checkout_branch, self.path, "none")

    async def test_reset(self):
        await self.fresh()
        await self.sh("echo 2 > a; git commit -qam second", cwd=self.path)
        await self.do(self.git.reset(self.path, mode="soft", target="HEAD~1", **COMMON))
        self.assertEqual((await self.do(self.git.status(self.path))).staged_count, 1)
        await self.do(self.git.reset(self.path, paths=["a"]))
        self.assertEqual((await self.do(self.git.status(self.path))).staged_count, 0)
        await self.do(self.git.reset(self.path, mode="hard"))
        self.assertEqual(await self.do(self.sbx.files.read(f"{self.path}/a")), "1\n")

    async def test_restore(self):
        await self.fresh()
        await self.sh("echo 2 > a; git add a; echo 3 > a", cwd=self.path)
        await self.do(self.git.restore(self.path, ["a"], worktree=True, **COMMON))
        self.assertEqual(await self.do(self.sbx.files.read(f"{self.path}/a")), "2\n")
        await self.do(self.git.restore(self.path, ["a"], staged=True))
        self.assertEqual((await self.do(self.git.status(self.path))).staged_count, 0)
        await self.do(self.git.restore(self.path, ["a"], source="HEAD"))
        self.assertEqual(await self.do(self.sbx.files.read(f"{self.path}/a")), "1\n")

    async def test_config(self):
        await self.fresh()
        await self.do(self.git.set_config("test.key", "a b", **COMMON))
        self.assertEqual(await self.do(self.git.get_config("test.key", **COMMON)), "a b")
        local = {"scope": "local", "path": self.path}
        self.assertIsNone(await self.do(self.git.get_config("test.local", **local)))
        await self.do(self.git.set_config("test.local", "here", **local))
        self.assertEqual(await self.do(self.git.get_config("test.local", **local)), "here")
        await self.do(self.git.configure_user("Bob", "bob@example.test", **local, **COMMON))
        await self.do(self.git.commit(self.path, "by bob", allow_empty=True))
        self.assertEqual(await self.sh("git log -1 --format=%an%ae", cwd=self.path),
                         "Bobbob@example.test\n")  # fmt: skip

    async def test_remotes(self):
        await self.fresh()
        self.assertIsNone(await self.do(self.git.remote_get(self.path, "origin", **COMMON)))
        await self.do(self.git.remote_add(self.path, "origin", "/tmp/none.git", **COMMON))
        await self.refused(CommandExitException, self.git.remote_add, self.path, "origin", "/tmp/x")
        await self.do(self.git.remote_add(
            self.path, "origin", "file:///tmp/srv/private.git", overwrite=True, fetch=True
        ))  # fmt: skip
        self.assertEqual(await self.do(self.git.remote_get(self.path, "origin")),
                         "file:///tmp/srv/private.git")  # fmt: skip
        branches = await self.sh("git branch -r --format '%(refname:short)'", cwd=self.path)
        self.assertIn("origin/side\n", branches)

    async def test_clone(self):
        await self.do(self.git.clone("file:///tmp/srv/private.git", self.path, branch="side",
                                     depth=1, **COMMON))  # fmt: skip
        self.assertEqual((await self.do(self.git.status(self.path))).current_branch, "side")
        self.assertEqual(await self.sh("git rev-list --count HEAD", cwd=self.path), "1\n")
        await self.refused(CommandExitException, self.git.clone, "file:///tmp/none.git", "/tmp/n")

    async def test_push_and_pull(self):
        await self.do(self.git.clone("/tmp/srv/private.git", self.path))
        other = self.path + "-other"
        await self.do(self.git.clone("/tmp/srv/private.git", other))
        branch = f"b-{type(self).__name__.lower()}"
        await self.do(self.git.create_branch(self.path, branch))
        await self.do(self.git.commit(self.path, "pushed", allow_empty=True))
        await self.refused(GitUpstreamException, self.git.push, self.path, set_upstream=False)
        await self.refused(GitUpstreamException, self.git.pull, self.path)
        await self.do(self.git.push(self.path, remote="origin", branch=branch, **COMMON))
        status = await self.do(self.git.status(self.path))
        self.assertEqual((status.upstream, status.ahead), (f"origin/{branch}", 0))
        await self.do(self.git.commit(self.path, "again", allow_empty=True))
        self.assertEqual((await self.do(self.git.status(self.path))).ahead, 1)
        await self.do(self.git.push(self.path))
        await self.do(self.git.pull(other, remote="origin", branch=branch, **COMMON))
        self.assertEqual(await self.sh("git log -1 --format=%s", cwd=other), "again\n")
        await self.do(self.git.pull(self.path))

    async def test_password(self):
        wrong = {"username": "ann", "password": "wrong"}
        right = {"username": "ann", "password": PASSWORD}
        await self.refused(GitAuthException, self.git.clone, URL, self.path)
        await self.refused(GitAuthException, self.git.clone, URL, self.path, **wrong)
        await self.refused(InvalidArgumentException, self.git.clone, URL, password=PASSWORD)
        await self.do(self.git.clone(URL, self.path, **right))
        self.assertEqual(await self.do(self.git.remote_get(self.path, "origin")), URL)
        branch = f"p-{type(self).__name__.lower()}"
        await self.do(self.git.create_branch(self.path, branch))
        await self.do(self.git.commit(self.path, "secret push", allow_empty=True))
        push = {"remote": "origin", "branch": branch}
        await self.refused(GitAuthException, self.git.push, self.path, **push)
        await self.do(self.git.push(self.path, **push, **right))
        await self.refused(GitAuthException, self.git.pull, self.path)
        await self.do(self.git.pull(self.path, **right))
        self.assertEqual(await self.do(self.git.remote_get(self.path, "origin")), URL)
        await self.sh(f"! grep -r {PASSWORD} .git", cwd=self.path)

    async def test_password_stored(self):
        await self.do(self.git.clone(
            URL, self.path, username="ann", password=PASSWORD, dangerously_store_credentials=True
        ))  # fmt: skip
        await self.sh(f"grep -q {PASSWORD} .git/config && git fetch -q", cwd=self.path)
        await self.do(self.git.dangerously_authenticate(
            "ann", PASSWORD, host=f"127.0.0.1:{PORT}", protocol="http", **COMMON
        ))  # fmt: skip
        try:
            await self.do(self.git.clone(URL, self.path + "-plain"))
        finally:
            await self.sh("rm ~/.git-credentials; git config --global --unset credential.helper")


if __name__ == "__main__":
    lib.main()
