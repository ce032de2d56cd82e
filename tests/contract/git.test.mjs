// `git` of the JavaScript SDK: every method and option, on git's own protocols.
//
// The remotes are inside the sandbox: a bare repository by its path, and the same over HTTP behind
// a password (git_server.py).

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, describe } from 'node:test'
import { CommandExitError, GitAuthError, GitUpstreamError, InvalidArgumentError, Sandbox } from 'e2b'
import { record, test } from './record.mjs'

const FACTOR = Number(process.env.SANDPIT_TIME_FACTOR ?? 1)
const PORT = 8140
const URL_ = `http://127.0.0.1:${PORT}/private.git`
const PASSWORD = 's3cret-token'
// Every git method takes these.
const COMMON = {
  envs: { GIT_TRACE2: '0' }, user: 'user', cwd: '/home/user', timeoutMs: 60_000, requestTimeoutMs: 60_000,
}

describe('git', () => {
  let sbx, git, path
  let count = 0

  const sh = async (script, opts) => (await sbx.commands.run(script, opts)).stdout
  const next = () => { path = `/tmp/work-${++count}` }
  // A repository with one commit, at path.
  const fresh = async () => {
    next()
    await git.init(path, { initialBranch: 'main' })
    await sbx.files.write(`${path}/a`, '1\n')
    await git.add(path)
    await git.commit(path, 'first')
  }

  before(async () => {
    sbx = await Sandbox.create({ timeoutMs: 1800_000 })
    await record(sbx)
    git = sbx.git
    await sbx.files.write('/tmp/git_server.py', readFileSync(new URL('./git_server.py', import.meta.url), 'utf8'))
    await sbx.commands.run(
      'git config --global user.name Tester; git config --global user.email t@example.test;' +
      'git config --global init.defaultBranch main; git init -q --bare /tmp/srv/private.git;' +
      'git -C /tmp/srv/private.git config http.receivepack true;' +
      'git init -q /tmp/seed && cd /tmp/seed && echo 1 > a && git add a && git commit -qm one' +
      ' && echo 2 > a && git commit -qam two && git push -q /tmp/srv/private.git main' +
      ' && git push -q /tmp/srv/private.git main:side')
    await sbx.commands.run(`python3 /tmp/git_server.py ${PORT} /tmp/srv ann ${PASSWORD}`, {
      background: true, timeoutMs: 0,
    })
    const end = Date.now() + 15_000 * FACTOR
    while (await sh(`curl -so /dev/null ${URL_}; echo $?`) !== '0\n') {
      assert.ok(Date.now() < end, 'the git server did not start')
      await sleep(100)
    }
  }, { timeout: 60_000 * FACTOR })
  after(async () => { await sbx?.kill() })

  test('init: plain and bare, with the first branch named', async () => {
    next()
    await git.init(path, { initialBranch: 'trunk', ...COMMON })
    assert.equal(await sh(`cat ${path}/.git/HEAD`), 'ref: refs/heads/trunk\n')
    await git.init(`${path}.git`, { bare: true })
    assert.equal(await sh(`git -C ${path}.git config core.bare`), 'true\n')
  })

  test('status tells every kind of change', async () => {
    await fresh()
    await sh('for n in m s d r; do seq 9 > $n; done; git add .; git commit -qm more; echo x >> m;' +
      'echo y >> s; git add s; rm d; git mv r renamed; echo > new; echo > staged; git add staged', { cwd: path })
    const status = await git.status(path, COMMON)
    assert.equal(status.currentBranch, 'main')
    assert.ok(!status.detached && !status.isClean)
    const rows = Object.fromEntries(status.fileStatus.map((row) => [row.name, [row.status, row.staged]]))
    assert.deepEqual(rows, {
      m: ['modified', false], s: ['modified', true], d: ['deleted', false],
      renamed: ['renamed', true], new: ['untracked', false], staged: ['added', true],
    })
    assert.deepEqual([status.totalCount, status.untrackedCount], [6, 1])
  })

  test('add and commit: some files, all, an author, an empty one', async () => {
    next()
    await git.init(path)
    for (const name of ['one', 'two', 'three']) await sbx.files.write(`${path}/${name}`, name)
    await git.add(path, { files: ['one'], ...COMMON })
    assert.equal((await git.status(path)).stagedCount, 1)
    await git.add(path, { all: false })
    assert.equal((await git.status(path)).stagedCount, 3)
    const message = 'it\'s "quoted"\n\nbody'
    await git.commit(path, message, { authorName: 'Ann Ünal', authorEmail: 'ann@example.test', ...COMMON })
    assert.equal((await sh(`git -C ${path} log --format='%an|%ae|%B'`)).trim(), `Ann Ünal|ann@example.test|${message}`)
    await assert.rejects(git.commit(path, 'nothing'), CommandExitError)
    await git.commit(path, 'nothing', { allowEmpty: true })
    assert.ok((await git.status(path)).isClean)
  })

  test('user, cwd and envs take effect', async () => {
    await git.init('from-cwd', { cwd: '/tmp', user: 'root' })
    assert.equal(await sh('stat -c %U /tmp/from-cwd/.git'), 'root\n')
    await fresh()
    await git.commit(path, 'dated', { allowEmpty: true, envs: { GIT_AUTHOR_DATE: '2001-02-03T04:05:06Z' } })
    assert.equal(await sh('git log -1 --format=%as', { cwd: path }), '2001-02-03\n')
  })

  test('branches are made, changed, listed and deleted', async () => {
    await fresh()
    await git.createBranch(path, 'feature/x', COMMON)
    const { branches, currentBranch } = await git.branches(path, COMMON)
    assert.deepEqual([branches.sort(), currentBranch], [['feature/x', 'main'], 'feature/x'])
    await git.commit(path, 'unmerged', { allowEmpty: true })
    await git.checkoutBranch(path, 'main', COMMON)
    await assert.rejects(git.deleteBranch(path, 'feature/x'), CommandExitError)
    await git.deleteBranch(path, 'feature/x', { force: true, ...COMMON })
    assert.deepEqual((await git.branches(path)).branches, ['main'])
    await assert.rejects(git.checkoutBranch(path, 'none'), CommandExitError)
  })

  test('reset: soft, paths, hard', async () => {
    await fresh()
    await sh('echo 2 > a; git commit -qam second', { cwd: path })
    await git.reset(path, { mode: 'soft', target: 'HEAD~1', ...COMMON })
    assert.equal((await git.status(path)).stagedCount, 1)
    await git.reset(path, { paths: ['a'] })
    assert.equal((await git.status(path)).stagedCount, 0)
    await git.reset(path, { mode: 'hard' })
    assert.equal(await sbx.files.read(`${path}/a`), '1\n')
  })

  test('restore: the work tree, the index, from a commit', async () => {
    await fresh()
    await sh('echo 2 > a; git add a; echo 3 > a', { cwd: path })
    await git.restore(path, { paths: ['a'], worktree: true, ...COMMON })
    assert.equal(await sbx.files.read(`${path}/a`), '2\n')
    await git.restore(path, { paths: ['a'], staged: true })
    assert.equal((await git.status(path)).stagedCount, 0)
    await git.restore(path, { paths: ['a'], source: 'HEAD' })
    assert.equal(await sbx.files.read(`${path}/a`), '1\n')
  })

  test('config: global and local, and the user of commits', async () => {
    await fresh()
    await git.setConfig('test.key', 'a b', COMMON)
    assert.equal(await git.getConfig('test.key', COMMON), 'a b')
    const local = { scope: 'local', path }
    assert.equal(await git.getConfig('test.local', local), undefined)
    await git.setConfig('test.local', 'here', local)
    assert.equal(await git.getConfig('test.local', local), 'here')
    await git.configureUser('Bob', 'bob@example.test', { ...local, ...COMMON })
    await git.commit(path, 'by bob', { allowEmpty: true })
    assert.equal(await sh('git log -1 --format=%an%ae', { cwd: path }), 'Bobbob@example.test\n')
  })

  test('remotes: added, replaced, fetched, read', async () => {
    await fresh()
    assert.equal(await git.remoteGet(path, 'origin', COMMON), undefined)
    await git.remoteAdd(path, 'origin', '/tmp/none.git', COMMON)
    await assert.rejects(git.remoteAdd(path, 'origin', '/tmp/x'), CommandExitError)
    await git.remoteAdd(path, 'origin', 'file:///tmp/srv/private.git', { overwrite: true, fetch: true })
    assert.equal(await git.remoteGet(path, 'origin'), 'file:///tmp/srv/private.git')
    assert.match(await sh("git branch -r --format '%(refname:short)'", { cwd: path }), /origin\/side\n/)
  })

  test('clone: a branch, a depth, what is not there', async () => {
    next()
    await git.clone('file:///tmp/srv/private.git', { path, branch: 'side', depth: 1, ...COMMON })
    assert.equal((await git.status(path)).currentBranch, 'side')
    assert.equal(await sh('git rev-list --count HEAD', { cwd: path }), '1\n')
    await assert.rejects(git.clone('file:///tmp/none.git', { path: '/tmp/n' }), CommandExitError)
  })

  test('push and pull, with and without an upstream', async () => {
    next()
    const other = `${path}-other`
    await git.clone('/tmp/srv/private.git', { path })
    await git.clone('/tmp/srv/private.git', { path: other })
    await git.createBranch(path, 'pushed')
    await git.commit(path, 'pushed', { allowEmpty: true })
    await assert.rejects(git.push(path, { setUpstream: false }), GitUpstreamError)
    await assert.rejects(git.pull(path), GitUpstreamError)
    await git.push(path, { remote: 'origin', branch: 'pushed', ...COMMON })
    const status = await git.status(path)
    assert.deepEqual([status.upstream, status.ahead], ['origin/pushed', 0])
    await git.commit(path, 'again', { allowEmpty: true })
    assert.equal((await git.status(path)).ahead, 1)
    await git.push(path)
    await git.pull(other, { remote: 'origin', branch: 'pushed', ...COMMON })
    assert.equal(await sh('git log -1 --format=%s', { cwd: other }), 'again\n')
    await git.pull(path)
  })

  test('a password: wanted, wrong, right, and not kept', async () => {
    next()
    const right = { username: 'ann', password: PASSWORD }
    await assert.rejects(git.clone(URL_, { path }), GitAuthError)
    await assert.rejects(git.clone(URL_, { path, username: 'ann', password: 'wrong' }), GitAuthError)
    await assert.rejects(git.clone(URL_, { password: PASSWORD }), InvalidArgumentError)
    await git.clone(URL_, { path, ...right })
    assert.equal(await git.remoteGet(path, 'origin'), URL_)
    await git.createBranch(path, 'secret')
    await git.commit(path, 'secret push', { allowEmpty: true })
    const push = { remote: 'origin', branch: 'secret' }
    await assert.rejects(git.push(path, push), GitAuthError)
    await git.push(path, { ...push, ...right })
    await assert.rejects(git.pull(path), GitAuthError)
    await git.pull(path, right)
    assert.equal(await git.remoteGet(path, 'origin'), URL_)
    await sh(`! grep -r ${PASSWORD} .git`, { cwd: path })
  })

  test('a password that is stored, in the remote or for a host', async () => {
    next()
    await git.clone(URL_, { path, username: 'ann', password: PASSWORD, dangerouslyStoreCredentials: true })
    await sh(`grep -q ${PASSWORD} .git/config && git fetch -q`, { cwd: path })
    await git.dangerouslyAuthenticate({
      username: 'ann', password: PASSWORD, host: `127.0.0.1:${PORT}`, protocol: 'http', ...COMMON,
    })
    await git.clone(URL_, { path: `${path}-plain` })
  })
})
