// The JavaScript SDK, unmodified, configured by environment variables only.
//
// CONTRACT_MODE=domain: TLS, sandboxes by host name. CONTRACT_MODE=plain: URL mode without TLS,
// where signed file URLs cannot work. Run by run.py, which copies this file beside
// the SDK's node_modules.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, describe } from 'node:test'
import WebSocket from 'ws'
import {
  AuthenticationError,
  CommandExitError,
  FileNotFoundError,
  FileType,
  FilesystemEventType,
  InvalidArgumentError,
  NotFoundError,
  Sandbox,
  SandboxError,
  SandboxNotFoundError,
  TimeoutError,
} from 'e2b'
import { record, test } from './record.mjs'

const domain = process.env.CONTRACT_MODE === 'domain'
const onlyDomain = domain ? test : () => {} // signed URLs need host names
const scheme = domain ? 'https' : 'http'
const FACTOR = Number(process.env.SANDPIT_TIME_FACTOR ?? 1)
const LONG = { timeout: 180_000 * FACTOR }
const sha256 = (data) => createHash('sha256').update(data).digest('hex')

async function until(what, ms, predicate) {
  const end = Date.now() + ms * FACTOR
  for (;;) {
    const value = await predicate()
    if (value) return value
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`)
    await sleep(50)
  }
}

let sbx
before(async () => {
  sbx = await Sandbox.create({ timeoutMs: 1800_000, envs: { SHARED: 'yes' } })
  await record(sbx)
}, { timeout: 60_000 * FACTOR })
after(async () => {
  await sbx?.kill()
})

describe('commands', () => {
  test('give stdout, stderr and exit code 0', async () => {
    const result = await sbx.commands.run('echo out; echo err >&2')
    assert.equal(result.stdout, 'out\n')
    assert.equal(result.stderr, 'err\n')
    assert.equal(result.exitCode, 0)
    assert.equal(result.error, undefined)
  })

  test('a failing one throws CommandExitError with its output', async () => {
    await assert.rejects(sbx.commands.run('echo before; exit 3'), (error) => {
      assert.ok(error instanceof CommandExitError, `${error}`)
      assert.equal(error.exitCode, 3)
      assert.equal(error.stdout, 'before\n')
      return true
    })
  })

  test('a missing program ends with 127', async () => {
    await assert.rejects(sbx.commands.run('no-such-program-here'), (error) => {
      assert.ok(error instanceof CommandExitError, `${error}`)
      assert.equal(error.exitCode, 127)
      return true
    })
  })

  test('see variables of the sandbox and of the call, the call winning', async () => {
    const result = await sbx.commands.run('echo "$SHARED-$MINE"', { envs: { MINE: 'a b"c' } })
    assert.equal(result.stdout, 'yes-a b"c\n')
    const won = await sbx.commands.run('echo "$SHARED"', { envs: { SHARED: 'no' } })
    assert.equal(won.stdout, 'no\n')
  })

  test('run in the folder asked for, else at home', async () => {
    assert.equal((await sbx.commands.run('pwd', { cwd: '/tmp' })).stdout, '/tmp\n')
    assert.equal((await sbx.commands.run('pwd')).stdout, '/home/user\n')
    await assert.rejects(sbx.commands.run('pwd', { cwd: '/no/such/folder' }), InvalidArgumentError)
  })

  test('run as user by default, as root when asked', async () => {
    assert.equal((await sbx.commands.run('whoami; id -u')).stdout, 'user\n1000\n')
    assert.equal((await sbx.commands.run('whoami; id -u', { user: 'root' })).stdout, 'root\n0\n')
  })

  test('have sudo without a password', async () => {
    assert.equal((await sbx.commands.run('sudo whoami')).stdout, 'root\n')
  })

  test('of an unknown user are refused', async () => {
    await assert.rejects(sbx.commands.run('true', { user: 'nobody-here' }), AuthenticationError)
  })

  test('stream their output while they run', async () => {
    const seen = []
    const began = Date.now()
    await sbx.commands.run('for i in 1 2 3; do echo $i; sleep 0.4; done', {
      onStdout: (text) => { seen.push({ text, at: Date.now() - began }) },
    })
    assert.equal(seen.map((part) => part.text).join(''), '1\n2\n3\n')
    assert.ok(seen.length >= 3, `came in ${seen.length} parts`)
    assert.ok(seen.at(-1).at - seen[0].at > 500, 'all came at once')
  })

  test('keep the order and every byte of a large output', LONG, async () => {
    const { stdout } = await sbx.commands.run('seq 1 300000')
    const expected = Array.from({ length: 300000 }, (_, i) => `${i + 1}\n`).join('')
    assert.equal(stdout.length, expected.length)
    assert.equal(sha256(stdout), sha256(expected))
  })

  test('deliver multi-byte text whole', async () => {
    const { stdout } = await sbx.commands.run('for i in $(seq 1 20000); do printf "é😀"; done')
    assert.equal(stdout, 'é😀'.repeat(20000))
  })

  test('are ended by their timeout', async () => {
    const began = Date.now()
    await assert.rejects(sbx.commands.run('sleep 60', { timeoutMs: 1000 }), TimeoutError)
    assert.ok(Date.now() - began < 10_000 * FACTOR)
    await until('the process ends', 5000, async () =>
      !(await sbx.commands.list()).some((p) => p.args.some((arg) => arg === 'sleep 60')))
  })

  test('in the background: wait gives the result', async () => {
    const handle = await sbx.commands.run('sleep 0.3; echo done; exit 0', { background: true })
    assert.ok(handle.pid > 0)
    const result = await handle.wait()
    assert.equal(result.stdout, 'done\n')
  })

  test('in the background: list shows them, kill ends them once', async () => {
    const handle = await sbx.commands.run('sleep 321', { background: true })
    const ended = assert.rejects(handle.wait(), CommandExitError)
    const found = (await sbx.commands.list()).find((p) => p.pid === handle.pid)
    assert.ok(found, 'not listed')
    assert.ok(found.args.includes('sleep 321'), `args are ${found.args}`)
    assert.equal(await sbx.commands.kill(handle.pid), true)
    await ended
    assert.equal(await sbx.commands.kill(handle.pid), false)
    assert.equal((await sbx.commands.list()).some((p) => p.pid === handle.pid), false)
  })

  test('in the background: a second client connects and sees what comes', async () => {
    const handle = await sbx.commands.run('for i in $(seq 1 30); do echo tick $i; sleep 0.2; done', {
      background: true,
    })
    const first = assert.rejects(handle.wait(), CommandExitError)
    let other = ''
    const joined = await sbx.commands.connect(handle.pid, { onStdout: (text) => { other += text } })
    const second = assert.rejects(joined.wait(), CommandExitError)
    assert.equal(joined.pid, handle.pid)
    await until('output at the second client', 5000, () => other.includes('tick'))
    await handle.kill()
    await Promise.all([first, second])
  })

  test('in the background: they outlive a client that disconnects', async () => {
    const handle = await sbx.commands.run('sleep 1.5; echo alive > /tmp/outlived', { background: true })
    await handle.disconnect()
    assert.ok((await sbx.commands.list()).some((p) => p.pid === handle.pid), 'it ended')
    const again = await sbx.commands.connect(handle.pid)
    assert.equal((await again.wait()).exitCode, 0)
    assert.equal(await sbx.files.read('/tmp/outlived'), 'alive\n')
  })

  test('connect to a process that never was: NotFoundError', async () => {
    await assert.rejects(sbx.commands.connect(999999), NotFoundError)
  })

  test('read what is sent to stdin', async () => {
    let seen = ''
    const handle = await sbx.commands.run('read a; echo "got $a"; cat', {
      background: true, stdin: true, onStdout: (text) => { seen += text },
    })
    await handle.sendStdin('first\n')
    await until('the first line', 5000, () => seen.includes('got first'))
    await sbx.commands.sendStdin(handle.pid, new TextEncoder().encode('rest'))
    await handle.closeStdin()
    const result = await handle.wait()
    assert.equal(result.stdout, 'got first\nrest')
  })

  test('have no stdin unless asked for', async () => {
    const { stdout } = await sbx.commands.run('cat; echo end')
    assert.equal(stdout, 'end\n')
  })

  test('many at once do not mix', LONG, async () => {
    const results = await Promise.all(Array.from({ length: 25 }, (_, i) =>
      sbx.commands.run(`sleep 0.2; echo number ${i}`)))
    results.forEach((result, i) => assert.equal(result.stdout, `number ${i}\n`))
  })
})

describe('pty', () => {
  test('runs a shell that echoes, is resized and killed', async () => {
    let seen = ''
    const term = await sbx.pty.create({
      cols: 80, rows: 24, timeoutMs: 60_000, envs: { MARK: 'm4rk' },
      onData: (data) => { seen += new TextDecoder().decode(data) },
    })
    const ended = assert.rejects(term.wait(), CommandExitError)
    const send = (text) => sbx.pty.sendInput(term.pid, new TextEncoder().encode(text))
    await send('tty; stty size; echo "$MARK-$TERM"\n')
    await until('the answer', 8000, () => seen.includes('m4rk-xterm-256color'))
    assert.match(seen, /\/dev\/pts\/\d+/)
    assert.match(seen, /24 80/)
    await sbx.pty.resize(term.pid, { cols: 132, rows: 50 })
    await send('stty size\n')
    await until('the new size', 8000, () => seen.includes('50 132'))
    assert.equal(await sbx.pty.kill(term.pid), true)
    await ended
    assert.equal(await sbx.pty.kill(term.pid), false)
  })

  test('ends with the exit code of its shell', async () => {
    const term = await sbx.pty.create({ cols: 80, rows: 24, onData: () => {} })
    const ended = assert.rejects(term.wait(), (error) => {
      assert.ok(error instanceof CommandExitError, `${error}`)
      assert.equal(error.exitCode, 5)
      return true
    })
    await sbx.pty.sendInput(term.pid, new TextEncoder().encode('exit 5\n'))
    await ended
  })

  test('passes control characters: Ctrl-C interrupts', async () => {
    let seen = ''
    const term = await sbx.pty.create({
      cols: 80, rows: 24, onData: (data) => { seen += new TextDecoder().decode(data) },
    })
    const ended = assert.rejects(term.wait(), CommandExitError)
    const send = (text) => sbx.pty.sendInput(term.pid, new TextEncoder().encode(text))
    await send('echo rea""dy; sleep 100; echo sle""pt\n')
    await until('the shell', 8000, () => seen.includes('ready'))
    await sleep(300)
    await send('\x03')
    await send('echo af""ter\n')
    await until('the prompt comes back', 8000, () => seen.includes('after'))
    assert.ok(!seen.includes('slept'))
    await term.kill()
    await ended
  })
})

describe('files', () => {
  test('text is written and read, with what was written', async () => {
    const info = await sbx.files.write('notes/a.txt', 'hällo\n')
    assert.equal(info.path, '/home/user/notes/a.txt')
    assert.equal(info.name, 'a.txt')
    assert.equal(await sbx.files.read('/home/user/notes/a.txt'), 'hällo\n')
    assert.equal((await sbx.commands.run('stat -c %U:%G notes/a.txt')).stdout, 'user:user\n')
  })

  test('an existing file is replaced, also by a shorter one', async () => {
    await sbx.files.write('/tmp/twice', 'a long first text')
    await sbx.files.write('/tmp/twice', 'short')
    assert.equal(await sbx.files.read('/tmp/twice'), 'short')
    await sbx.files.write('/tmp/twice', '')
    assert.equal(await sbx.files.read('/tmp/twice'), '')
  })

  test('bytes, blobs and streams keep every byte', LONG, async () => {
    const data = randomBytes(3_000_001)
    const buffer = data.buffer.slice(data.byteOffset, data.byteOffset + data.length)
    await sbx.files.write('/tmp/bytes', buffer)
    assert.equal(sha256(await sbx.files.read('/tmp/bytes', { format: 'bytes' })), sha256(data))
    await sbx.files.write('/tmp/blob', new Blob([data]))
    const blob = await sbx.files.read('/tmp/blob', { format: 'blob' })
    assert.equal(sha256(Buffer.from(await blob.arrayBuffer())), sha256(data))
    await sbx.files.write('/tmp/stream', new Blob([data]).stream())
    const hash = createHash('sha256')
    for await (const chunk of await sbx.files.read('/tmp/stream', { format: 'stream' })) hash.update(chunk)
    assert.equal(hash.digest('hex'), sha256(data))
  })

  test('several are written in one call', async () => {
    const infos = await sbx.files.write([
      { path: '/tmp/many/1', data: 'one' },
      { path: '/tmp/many/2', data: 'two' },
      { path: '/tmp/many/sub/3', data: 'three' },
    ])
    assert.deepEqual(infos.map((info) => info.path), ['/tmp/many/1', '/tmp/many/2', '/tmp/many/sub/3'])
    assert.equal(await sbx.files.read('/tmp/many/sub/3'), 'three')
  })

  test('names of any script, with spaces and signs', async () => {
    for (const name of ['naïve 文件 😀.txt', 'a+b&c=d?e#f%41.txt', "quo'te\"s.txt", '-dash', ' space ']) {
      const path = `/tmp/names/${name}`
      await sbx.files.write(path, name)
      assert.equal(await sbx.files.read(path), name)
      assert.equal(await sbx.files.exists(path), true, name)
    }
    const names = (await sbx.files.list('/tmp/names')).map((entry) => entry.name)
    assert.ok(names.includes('naïve 文件 😀.txt'), `${names}`)
    assert.equal(names.length, 5)
  })

  test('list goes as deep as asked', async () => {
    await sbx.files.write('/tmp/tree/a/b/c/deep.txt', 'x')
    await sbx.files.write('/tmp/tree/top.txt', 'x')
    const paths = async (depth) => (await sbx.files.list('/tmp/tree', { depth })).map((e) => e.path)
    assert.deepEqual(await paths(1), ['/tmp/tree/a', '/tmp/tree/top.txt'])
    assert.deepEqual(await paths(2), ['/tmp/tree/a', '/tmp/tree/a/b', '/tmp/tree/top.txt'])
    assert.ok((await paths(10)).includes('/tmp/tree/a/b/c/deep.txt'))
    const [folder, file] = await sbx.files.list('/tmp/tree')
    assert.equal(folder.type, FileType.DIR)
    assert.equal(file.type, FileType.FILE)
    await assert.rejects(sbx.files.list('/tmp/none'), NotFoundError)
    await assert.rejects(sbx.files.list('/tmp/tree/top.txt'), InvalidArgumentError)
  })

  test('exists, getInfo, rename, remove', async () => {
    await sbx.files.write('/tmp/moves/from', '12345')
    const info = await sbx.files.getInfo('/tmp/moves/from')
    assert.equal(info.size, 5)
    assert.equal(info.type, FileType.FILE)
    assert.equal(info.owner, 'user')
    assert.equal(info.permissions, '-rw-r--r--')
    assert.equal(info.mode & 0o777, 0o644)
    assert.ok(Math.abs(info.modifiedTime.getTime() - Date.now()) < 60_000)
    const moved = await sbx.files.rename('/tmp/moves/from', '/tmp/moves/to')
    assert.equal(moved.path, '/tmp/moves/to')
    assert.equal(await sbx.files.exists('/tmp/moves/from'), false)
    assert.equal(await sbx.files.exists('/tmp/moves/to'), true)
    await sbx.files.remove('/tmp/moves')
    assert.equal(await sbx.files.exists('/tmp/moves'), false)
    await assert.rejects(sbx.files.getInfo('/tmp/moves/to'), FileNotFoundError)
    await assert.rejects(sbx.files.rename('/tmp/moves/to', '/tmp/x'), NotFoundError)
  })

  test('makeDir makes parents and says whether it made anything', async () => {
    assert.equal(await sbx.files.makeDir('/tmp/made/a/b'), true)
    assert.equal(await sbx.files.makeDir('/tmp/made/a/b'), false)
    assert.equal((await sbx.files.getInfo('/tmp/made/a')).type, FileType.DIR)
  })

  test('a symlink is shown with its target', async () => {
    await sbx.commands.run('mkdir -p /tmp/ln && cd /tmp/ln && echo t > target && ln -s target link')
    const info = await sbx.files.getInfo('/tmp/ln/link')
    assert.equal(info.symlinkTarget, '/tmp/ln/target')
    assert.equal(await sbx.files.read('/tmp/ln/link'), 't\n')
  })

  test('a missing one throws FileNotFoundError, a folder InvalidArgumentError', async () => {
    await assert.rejects(sbx.files.read('/tmp/not-here'), FileNotFoundError)
    await assert.rejects(sbx.files.read('/tmp'), InvalidArgumentError)
  })

  test('user picks home folder and owner', async () => {
    await sbx.files.write('roots.txt', 'mine', { user: 'root' })
    assert.equal((await sbx.files.getInfo('/root/roots.txt')).owner, 'root')
    assert.equal(await sbx.files.read('roots.txt', { user: 'root' }), 'mine')
  })

  test('metadata of a file comes back', async () => {
    await sbx.files.write('/tmp/meta', 'x', { metadata: { author: 'ann' } })
    assert.deepEqual((await sbx.files.getInfo('/tmp/meta')).metadata, { author: 'ann' })
  })

  test('gzip is accepted both ways', async () => {
    const text = 'again and '.repeat(50_000)
    await sbx.files.write('/tmp/zipped', text, { gzip: true })
    assert.equal((await sbx.commands.run('wc -c < /tmp/zipped')).stdout.trim(), String(text.length))
    assert.equal(await sbx.files.read('/tmp/zipped', { gzip: true }), text)
  })

  test('200 MB go up and come down unchanged', { timeout: 300_000 * FACTOR }, async () => {
    const block = randomBytes(1 << 20)
    const parts = Array.from({ length: 200 }, (_, i) => {
      const copy = Buffer.from(block)
      copy.writeUInt32BE(i, 0)
      return copy
    })
    const hash = createHash('sha256')
    parts.forEach((part) => hash.update(part))
    const expected = hash.digest('hex')
    await sbx.files.write('/home/user/big', new Blob(parts), { requestTimeoutMs: 240_000 * FACTOR })
    const inside = await sbx.commands.run('sha256sum < big', { timeoutMs: 120_000 * FACTOR })
    assert.equal(inside.stdout.slice(0, 64), expected)
    const down = createHash('sha256')
    let bytes = 0
    const stream = await sbx.files.read('big', { format: 'stream', requestTimeoutMs: 240_000 * FACTOR })
    for await (const chunk of stream) {
      down.update(chunk)
      bytes += chunk.length
    }
    assert.equal(bytes, 200 << 20)
    assert.equal(down.digest('hex'), expected)
    await sbx.files.remove('big')
  })

  test('watchDir reports creation, writing and removal', async () => {
    await sbx.files.makeDir('/tmp/watched/sub')
    const events = []
    const watch = await sbx.files.watchDir('/tmp/watched', (event) => { events.push(event) }, { recursive: true })
    try {
      await sbx.files.write('/tmp/watched/new', 'x')
      await sbx.files.write('/tmp/watched/sub/inner', 'y')
      await sbx.files.remove('/tmp/watched/new')
      const has = (name, type) => events.some((event) => event.name === name && event.type === type)
      await until('the events', 8000, () =>
        has('new', FilesystemEventType.CREATE) && has('new', FilesystemEventType.WRITE) &&
        has('new', FilesystemEventType.REMOVE) && has('sub/inner', FilesystemEventType.WRITE))
    } finally {
      await watch.stop()
    }
  })

  onlyDomain('signed URLs upload and download without a key', async () => {
    const up = await sbx.uploadUrl('/tmp/by-url', { useSignatureExpiration: 60 })
    assert.ok(up.startsWith('https://'), up)
    const form = new FormData()
    form.append('file', new Blob(['through a link']), 'by-url')
    const posted = await fetch(up, { method: 'POST', body: form })
    assert.equal(posted.status, 200, await posted.text())
    const down = await sbx.downloadUrl('/tmp/by-url')
    const got = await fetch(down)
    assert.equal(got.status, 200)
    assert.equal(await got.text(), 'through a link')
  })

  onlyDomain('a forged, an absent and an expired signature are refused', async () => {
    await sbx.files.write('/tmp/secret', 's')
    const url = new URL(await sbx.downloadUrl('/tmp/secret', { useSignatureExpiration: 1 }))
    const other = new URL(url)
    other.searchParams.set('path', '/etc/passwd')
    assert.equal((await fetch(other)).status, 401)
    const bare = new URL(url)
    bare.searchParams.delete('signature')
    assert.equal((await fetch(bare)).status, 401)
    await sleep(2500)
    const late = await fetch(url)
    assert.equal(late.status, 401)
    assert.equal((await late.json()).message, 'signature is already expired')
  })
})

if (!domain) {
  test('signed URLs name no sandbox in URL mode, and are refused', async () => {
    const got = await fetch(await sbx.downloadUrl('/etc/hostname'))
    assert.equal(got.status, 400)
    assert.equal((await got.text()).trim(), 'Invalid host')
  })
}

describe('life of a sandbox', () => {
  test('metadata, list and getInfo', async () => {
    const mark = randomBytes(8).toString('hex')
    const metadata = { mark, 'odd key': 'a&b=c é/?%' }
    const made = await Sandbox.create({ timeoutMs: 60_000, metadata })
    try {
      const info = await made.getInfo()
      assert.equal(info.sandboxId, made.sandboxId)
      assert.deepEqual(info.metadata, metadata)
      assert.equal(info.state, 'running')
      assert.ok(info.cpuCount > 0 && info.memoryMB > 0)
      assert.ok(Math.abs(info.endAt - info.startedAt - 60_000) < 5000, `${info.startedAt} ${info.endAt}`)
      assert.ok(Math.abs(info.startedAt - Date.now()) < 60_000)
      const found = await Sandbox.list({ query: { metadata, state: ['running'] } }).nextItems()
      assert.deepEqual(found.map((row) => row.sandboxId), [made.sandboxId])
      const paused = await Sandbox.list({ query: { metadata: { mark }, state: ['paused'] } }).nextItems()
      assert.deepEqual(paused, [])
      const none = await Sandbox.list({ query: { metadata: { mark: 'another' } } }).nextItems()
      assert.deepEqual(none, [])
    } finally {
      await made.kill()
    }
  })

  test('list is read page by page, newest first', LONG, async () => {
    const mark = randomBytes(8).toString('hex')
    const made = []
    try {
      for (let i = 0; i < 5; i++) made.push(await Sandbox.create({ timeoutMs: 60_000, metadata: { mark } }))
      const pages = Sandbox.list({ query: { metadata: { mark } }, limit: 2 })
      const seen = []
      const sizes = []
      while (pages.hasNext) {
        const page = await pages.nextItems()
        sizes.push(page.length)
        seen.push(...page.map((row) => row.sandboxId))
      }
      assert.deepEqual(sizes, [2, 2, 1])
      assert.deepEqual(seen, made.map((one) => one.sandboxId).reverse())
    } finally {
      await Promise.all(made.map((one) => one.kill()))
    }
  })

  test('kill is true once, then false; what is killed is gone', async () => {
    const made = await Sandbox.create({ timeoutMs: 60_000 })
    assert.equal(await made.isRunning(), true)
    assert.equal(await made.kill(), true)
    assert.equal(await made.kill(), false)
    assert.equal(await made.isRunning(), false)
    await assert.rejects(Sandbox.connect(made.sandboxId), SandboxNotFoundError)
    await assert.rejects(made.commands.run('true'), (error) => {
      assert.ok(error instanceof SandboxNotFoundError || error instanceof TimeoutError, `${error}`)
      return true
    })
    await assert.rejects(made.setTimeout(1000), SandboxNotFoundError)
  })

  test('connect by id finds the same sandbox', async () => {
    const made = await Sandbox.create({ timeoutMs: 60_000 })
    try {
      await made.files.write('/tmp/token', 'mine')
      const again = await Sandbox.connect(made.sandboxId, { timeoutMs: 120_000 })
      assert.equal(await again.files.read('/tmp/token'), 'mine')
      const info = await again.getInfo()
      assert.ok(info.endAt - Date.now() > 100_000, 'connect did not extend the end')
    } finally {
      await made.kill()
    }
  })

  test('setTimeout moves the end, and there it ends', async () => {
    const made = await Sandbox.create({ timeoutMs: 300_000 })
    await made.setTimeout(2000)
    const left = (await made.getInfo()).endAt - Date.now()
    assert.ok(left > 0 && left <= 2500, `${left} ms left`)
    assert.equal(await made.isRunning(), true)
    await sleep(2000)
    await until('its end', 4000, async () => !(await made.isRunning()))
    await assert.rejects(made.getInfo(), SandboxNotFoundError)
    assert.equal(await made.kill(), false)
  })

  test('a command under way when the sandbox is killed fails, and does not hang', async () => {
    const made = await Sandbox.create({ timeoutMs: 60_000 })
    const handle = await made.commands.run('sleep 100', { background: true })
    const ended = assert.rejects(handle.wait())
    await made.kill()
    const began = Date.now()
    await ended
    assert.ok(Date.now() - began < 10_000 * FACTOR)
  })

  test('two sandboxes are strangers', async () => {
    const [a, b] = await Promise.all([Sandbox.create({ timeoutMs: 60_000 }), Sandbox.create({ timeoutMs: 60_000 })])
    try {
      assert.notEqual(a.sandboxId, b.sandboxId)
      await a.files.write('/tmp/only-a', '1')
      assert.equal(await b.files.exists('/tmp/only-a'), false)
    } finally {
      await Promise.all([a.kill(), b.kill()])
    }
  })

  test('an unknown template is refused', async () => {
    await assert.rejects(Sandbox.create('no-such-template'), (error) => {
      assert.ok(error instanceof SandboxError, `${error}`)
      assert.match(error.message, /404/)
      return true
    })
  })

  test('a wrong key is an AuthenticationError', async () => {
    const apiKey = 'e2b_' + '0'.repeat(40)
    await assert.rejects(Sandbox.create({ apiKey }), AuthenticationError)
    await assert.rejects(Sandbox.list({ apiKey }).nextItems(), AuthenticationError)
  })

  test('without internet access there is no route out', async () => {
    const made = await Sandbox.create({ timeoutMs: 60_000, allowInternetAccess: false })
    try {
      assert.equal((await made.getInfo()).allowInternetAccess, false)
      await assert.rejects(made.commands.run(
        'timeout 5 bash -c "exec 3<>/dev/tcp/192.0.2.1/80"', { timeoutMs: 20_000 }), CommandExitError)
      const { stdout } = await made.commands.run('echo still works')
      assert.equal(stdout, 'still works\n')
    } finally {
      await made.kill()
    }
  })

  test('every way to create is secured: calls without its token are refused', async () => {
    for (const secure of [true, false]) {
      const made = await Sandbox.create({ timeoutMs: 60_000, secure })
      try {
        const url = domain ? `https://${made.getHost(49983)}` : process.env.E2B_SANDBOX_URL
        const headers = { 'E2b-Sandbox-Id': made.sandboxId, 'E2b-Sandbox-Port': '49983', 'Content-Type': 'application/json' }
        const reply = await fetch(`${url}/process.Process/List`, { method: 'POST', headers, body: '{}' })
        assert.equal(reply.status, 401)
        assert.equal((await made.commands.run('echo ok')).stdout, 'ok\n')
      } finally {
        await made.kill()
      }
    }
  })
})

describe('ports of a sandbox', () => {
  const ECHO_PORT = 8123
  let host
  before(async () => {
    await sbx.files.write('/tmp/echo_server.py', readFileSync(new URL('./echo_server.py', import.meta.url), 'utf8'))
    await sbx.commands.run(`python3 /tmp/echo_server.py ${ECHO_PORT}`, { background: true, timeoutMs: 0 })
    host = sbx.getHost(ECHO_PORT)
    await until('the server inside', 15_000, async () => (await fetch(`${scheme}://${host}/`)).status === 200)
  }, { timeout: 60_000 * FACTOR })

  test('getHost names the port and the sandbox', () => {
    assert.ok(host.startsWith(`${ECHO_PORT}-${sbx.sandboxId}.`), host)
  })

  test('a web server inside answers, and sees its own name', async () => {
    const reply = await fetch(`${scheme}://${host}/`)
    assert.equal(await reply.text(), `hello from ${host}`)
  })

  test('python -m http.server inside serves its files', async () => {
    await sbx.files.write('/tmp/www/index.html', '<p>page</p>')
    const server = await sbx.commands.run('python3 -m http.server 8124 -d /tmp/www', { background: true })
    const ended = assert.rejects(server.wait(), CommandExitError)
    const url = `${scheme}://${sbx.getHost(8124)}/index.html`
    await until('the page', 15_000, async () => (await fetch(url)).status === 200)
    assert.equal(await (await fetch(url)).text(), '<p>page</p>')
    await server.kill()
    await ended
  })

  test('a WebSocket inside echoes text and binary, small and large', async () => {
    const socket = new WebSocket(`${domain ? 'wss' : 'ws'}://${host}/chat`)
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
    const echo = (data) => new Promise((resolve, reject) => {
      socket.once('message', (message, binary) => resolve({ message, binary }))
      socket.once('error', reject)
      socket.send(data)
    })
    assert.equal(String((await echo('hello')).message), 'hello')
    const large = randomBytes(700_000)
    const back = await echo(large)
    assert.ok(back.binary)
    assert.equal(sha256(back.message), sha256(large))
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.close()
    await closed
  })

  test('a server on [::1] alone is reached, by HTTP and by WebSocket', async () => {
    await sbx.commands.run('python3 /tmp/echo_server.py 8125 ::1', { background: true, timeoutMs: 0 })
    const name = sbx.getHost(8125)
    await until('the server inside', 15_000, async () => (await fetch(`${scheme}://${name}/`)).status === 200)
    const socket = new WebSocket(`${domain ? 'wss' : 'ws'}://${name}/`)
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
    const answer = new Promise((resolve) => socket.once('message', resolve))
    socket.send('six')
    assert.equal(String(await answer), 'six')
    socket.close()
  })

  test('a port that nobody listens on: 502 that says so', async () => {
    const reply = await fetch(`${scheme}://${sbx.getHost(8999)}/`)
    assert.equal(reply.status, 502)
    assert.deepEqual(await reply.json(), {
      sandboxId: sbx.sandboxId, message: 'The sandbox is running but port is not open', port: 8999, code: 502,
    })
  })

  test('a sandbox that is not there: 502 that says so', async () => {
    const id = 'i' + 'z'.repeat(20)
    const reply = await fetch(`${scheme}://${host.replace(sbx.sandboxId, id)}/`)
    assert.equal(reply.status, 502)
    assert.deepEqual(await reply.json(), { sandboxId: id, message: 'The sandbox was not found', code: 502 })
  })
})

describe('metrics', () => {
  test('are measured figures', async () => {
    const metrics = await sbx.getMetrics()
    for (const row of metrics) {
      assert.ok(row.memTotal > 0 && row.cpuCount > 0)
    }
  })
})

describe('code interpreter SDK', () => {
  test('loads, and its sandboxes are E2B sandboxes', async () => {
    const { Sandbox: Interpreter } = await import('@e2b/code-interpreter')
    assert.equal(typeof Interpreter.create, 'function')
    const made = await Interpreter.create('base', { timeoutMs: 60_000 })
    try {
      assert.equal((await made.commands.run('echo from the interpreter class')).stdout, 'from the interpreter class\n')
    } finally {
      await made.kill()
    }
  })
})
