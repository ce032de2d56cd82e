// commands, pty, files and watchDir of the JavaScript SDK: every method and option.
//
// What a user does all day is in sdk.test.mjs; here are the remaining options, each with its effect.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, describe } from 'node:test'
import {
  AuthenticationError, CommandExitError, FileNotFoundError, FileType, FilesystemEventType,
  InvalidArgumentError, NotFoundError, Sandbox, SandboxError, TimeoutError,
} from 'e2b'
import { record, test } from './record.mjs'

const FACTOR = Number(process.env.SANDPIT_TIME_FACTOR ?? 1)
const sha256 = (data) => createHash('sha256').update(data).digest('hex')
const bytes = (text) => new TextEncoder().encode(text)
const soon = () => ({ requestTimeoutMs: 30_000 * FACTOR, signal: new AbortController().signal })
const aborted = () => ({ signal: AbortSignal.abort(new Error('changed my mind')) })

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
  sbx = await Sandbox.create({ timeoutMs: 1800_000 })
  await record(sbx)
}, { timeout: 60_000 * FACTOR })
after(async () => { await sbx?.kill() })

// The rejection of a background handle, caught before it can be called unhandled.
const ending = (handle) => handle.wait().then(() => null, (error) => error)

describe('options of commands', () => {
  test('run takes them all at once', async () => {
    let out = '', err = ''
    const result = await sbx.commands.run('pwd; id -un; echo $A; cat; echo e >&2', {
      background: false, envs: { A: '1' }, user: 'root', cwd: '/tmp', stdin: false, timeoutMs: 30_000 * FACTOR,
      onStdout: (text) => { out += text }, onStderr: (text) => { err += text }, ...soon(),
    })
    assert.deepEqual([result.stdout, result.stderr], ['/tmp\nroot\n1\n', 'e\n'])
    assert.deepEqual([out, err], ['/tmp\nroot\n1\n', 'e\n'])
  })

  test('no time limit', async () => {
    assert.equal((await sbx.commands.run('sleep 1.2; echo slept', { timeoutMs: 0 })).stdout, 'slept\n')
  })

  test('a folder of the home, and relative to it', async () => {
    await sbx.files.makeDir('/home/user/below')
    const pwd = async (opts) => (await sbx.commands.run('pwd', opts)).stdout
    assert.equal(await pwd({ cwd: '~' }), '/home/user\n')
    assert.equal(await pwd({ cwd: 'below' }), '/home/user/below\n')
    assert.equal(await pwd({ cwd: '~', user: 'root' }), '/root\n')
  })

  test('list tells what was asked for; kill tells why it ended', async () => {
    const handle = await sbx.commands.run('sleep 77', { background: true, envs: { MARK: 'é' }, cwd: '/tmp' })
    const end = ending(handle)
    const row = (await sbx.commands.list(soon())).find((p) => p.pid === handle.pid)
    assert.deepEqual([row.cmd, row.args, row.envs, row.cwd, row.tag],
      ['/bin/bash', ['-l', '-c', 'sleep 77'], { MARK: 'é' }, '/tmp', undefined])
    assert.equal(await sbx.commands.kill(handle.pid, soon()), true)
    const error = await end
    assert.ok(error instanceof CommandExitError, `${error}`)
    assert.deepEqual([error.exitCode, error.error], [-1, 'signal: killed'])
    assert.deepEqual([handle.exitCode, handle.error], [-1, 'signal: killed'])
  })

  test('a handle shows what came', async () => {
    const handle = await sbx.commands.run('echo out; echo err >&2; exit 6', { background: true })
    await ending(handle)
    assert.deepEqual([handle.stdout, handle.stderr, handle.exitCode, handle.error],
      ['out\n', 'err\n', 6, 'exit status 6'])
  })

  test('stdin of a handle and of a pid', async () => {
    assert.equal(sbx.commands.supportsStdinClose, true)
    const handle = await sbx.commands.run('cat; sleep 1', { background: true, stdin: true })
    await handle.sendStdin('a\n', soon())
    await handle.sendStdin(bytes('é\n'))
    await sbx.commands.sendStdin(handle.pid, 'b\n', soon())
    await handle.closeStdin(soon())
    await sbx.commands.closeStdin(handle.pid, soon()) // a second time: fine
    assert.equal((await handle.wait()).stdout, 'a\né\nb\n')
  })

  test('stdin that is not there', async () => {
    const handle = await sbx.commands.run('sleep 50', { background: true, stdin: false })
    const end = ending(handle)
    await assert.rejects(sbx.commands.sendStdin(handle.pid, 'x'), /stdin not enabled or closed/)
    await handle.kill()
    await end
  })

  test('of nobody: NotFoundError that names the pid', async () => {
    for (const call of [
      () => sbx.commands.sendStdin(999999, 'x'), () => sbx.commands.closeStdin(999999),
      () => sbx.commands.connect(999999, { timeoutMs: 5000, ...soon() }),
      () => sbx.pty.resize(999999, { cols: 80, rows: 24 }), () => sbx.pty.sendInput(999999, bytes('x')),
      () => sbx.pty.connect(999999),
    ]) {
      await assert.rejects(call, (error) => {
        assert.ok(error instanceof NotFoundError, `${error}`)
        assert.match(error.message, /process with pid 999999 not found/)
        return true
      })
    }
    assert.equal(await sbx.commands.kill(999999), false)
    assert.equal(await sbx.pty.kill(999999), false)
  })

  test('connect: its own callbacks, limit and end', async () => {
    const seen = []
    const first = await sbx.commands.run('sleep 0.5; echo o; echo e >&2; sleep 40', { background: true, timeoutMs: 0 })
    const end = ending(first)
    const again = await sbx.commands.connect(first.pid, {
      onStdout: (text) => { seen.push(text) }, onStderr: (text) => { seen.push(text) }, timeoutMs: 1500 * FACTOR,
      ...soon(),
    })
    const error = await ending(again)
    assert.ok(error instanceof TimeoutError, `${error}`)
    assert.deepEqual(seen.sort(), ['e\n', 'o\n'])
    assert.ok((await sbx.commands.list()).some((p) => p.pid === first.pid), 'the process ended with the stream')
    await first.kill()
    await end
    const late = await sbx.commands.connect(first.pid)
    assert.equal((await ending(late)).exitCode, -1)
  })

  test('signals are told apart', async () => {
    for (const [name, text] of [['TERM', 'terminated'], ['SEGV', 'segmentation fault']]) {
      await assert.rejects(sbx.commands.run(`ulimit -c 0; kill -${name} $$`), (error) => {
        assert.deepEqual([error.exitCode, error.error], [-1, `signal: ${text}`])
        return true
      })
    }
  })

  test('bytes that are no text', async () => {
    const { stdout } = await sbx.commands.run("printf 'a\\xff\\xfeb'; printf '\\xc3'; sleep 0.2; printf '\\xa9'")
    assert.equal(stdout, 'a\ufffd\ufffdbé')
  })

  test('an abort ends the call, before and in the middle', async () => {
    await assert.rejects(sbx.commands.run('sleep 5', aborted()), /changed my mind|abort/i)
    await assert.rejects(sbx.commands.list(aborted()), /changed my mind|abort/i)
    const controller = new AbortController()
    const running = sbx.commands.run('sleep 20', { signal: controller.signal })
    setTimeout(() => controller.abort(), 300)
    const began = Date.now()
    await assert.rejects(running)
    assert.ok(Date.now() - began < 10_000 * FACTOR)
  })

  test('errors of spawning', async () => {
    await assert.rejects(sbx.commands.run('true', { cwd: '/etc/passwd' }), InvalidArgumentError)
    await assert.rejects(sbx.commands.run('true', { user: 'no body' }), AuthenticationError)
    await assert.rejects(sbx.commands.run(`echo ${'x'.repeat(140_000)}`), (error) =>
      /argument list too long/i.test(error.message + error.stderr))
  })
})

describe('options of pty', () => {
  const open = async (opts) => {
    const seen = { text: '' }
    const onData = (data) => { seen.text += new TextDecoder().decode(data) }
    const term = await sbx.pty.create({ cols: 80, rows: 24, onData, ...opts })
    return { term, seen, end: ending(term) }
  }

  test('create takes them all; resize and kill too', async () => {
    const { term, seen, end } = await open({
      user: 'root', cwd: '/tmp', envs: { A: 'b', TERM: 'vt100' }, timeoutMs: 60_000 * FACTOR, ...soon(),
    })
    await sbx.pty.sendInput(term.pid, bytes('echo "<$(id -un)-$PWD-$A-$TERM-$LANG>"\n'), soon())
    await until('the answer', 10_000, () => seen.text.includes('<root-/tmp-b-vt100-C.UTF-8>'))
    await sbx.pty.resize(term.pid, { cols: 222, rows: 11 }, soon())
    await sbx.pty.sendInput(term.pid, bytes('stty size\n'))
    await until('the new size', 10_000, () => seen.text.includes('11 222'))
    assert.equal(await sbx.pty.kill(term.pid, soon()), true)
    assert.equal((await end).exitCode, -1)
  })

  test('connect: a second client takes over', async () => {
    const { term, end } = await open({})
    await term.disconnect()
    await end
    let text = ''
    const again = await sbx.pty.connect(term.pid, {
      onData: (data) => { text += new TextDecoder().decode(data) }, timeoutMs: 60_000 * FACTOR, ...soon(),
    })
    assert.equal(again.pid, term.pid)
    const over = ending(again)
    await sbx.pty.sendInput(again.pid, bytes("echo o''ne; exit 4\n"))
    assert.equal((await over).exitCode, 4)
    assert.match(text, /one/)
  })

  test('and what is no pty refuse each other', async () => {
    const handle = await sbx.commands.run('sleep 30', { background: true })
    const end = ending(handle)
    await assert.rejects(sbx.pty.resize(handle.pid, { cols: 1, rows: 1 }), /tty not assigned/)
    await assert.rejects(sbx.pty.sendInput(handle.pid, bytes('x')), /tty not assigned/)
    await handle.kill()
    await end
    const { term, end: over } = await open({})
    await assert.rejects(sbx.commands.sendStdin(term.pid, 'x'), /tty assigned to process/)
    await assert.rejects(sbx.commands.closeStdin(term.pid), /cannot close stdin for PTY/)
    await term.kill()
    await over
  })
})

describe('options of files', () => {
  const whole = async (stream) => {
    const parts = []
    for await (const chunk of stream) parts.push(chunk)
    return Buffer.concat(parts)
  }

  test('data of every kind, in every form', async () => {
    const data = randomBytes(100_003)
    const exact = data.buffer.slice(data.byteOffset, data.byteOffset + data.length)
    for (const opts of [{}, { useOctetStream: true }, { gzip: true }, { useOctetStream: false }]) {
      const values = [exact, new Blob([data]), data.toString('hex')]
      if (opts.useOctetStream !== false) values.push(new Blob([data]).stream())
      for (const value of values) {
        await sbx.files.write('/tmp/kinds', value, { ...opts, ...soon() })
        const back = await sbx.files.read('/tmp/kinds', { format: 'bytes', ...soon() })
        assert.equal(sha256(back), sha256(typeof value === 'string' ? value : data), `${value} ${JSON.stringify(opts)}`)
      }
    }
  })

  test('every format of read, with gzip and without', async () => {
    const text = 'line é\n'.repeat(30_000)
    await sbx.files.write('/tmp/z', text)
    for (const opts of [{}, { gzip: true }]) {
      assert.equal(await sbx.files.read('/tmp/z', { format: 'text', ...opts }), text)
      assert.equal(Buffer.from(await sbx.files.read('/tmp/z', { format: 'bytes', ...opts })).toString(), text)
      assert.equal(await (await sbx.files.read('/tmp/z', { format: 'blob', ...opts })).text(), text)
      const stream = await sbx.files.read('/tmp/z', { format: 'stream', streamIdleTimeoutMs: 30_000 * FACTOR, ...opts })
      assert.equal((await whole(stream)).toString(), text)
    }
    for (const format of ['text', 'bytes', 'blob']) {
      await sbx.files.write('/tmp/empty', '')
      const value = await sbx.files.read('/tmp/empty', { format })
      assert.equal(value.length ?? value.size, 0, format)
    }
    assert.equal((await whole(await sbx.files.read('/tmp/empty', { format: 'stream' }))).length, 0)
  })

  test('several in one call, with all options', async () => {
    for (const form of [{}, { useOctetStream: true }, { gzip: true }]) {
      const round = JSON.stringify(form)
      const opts = { ...form, user: 'root', metadata: { round }, ...soon() }
      const infos = await sbx.files.writeFiles([
        { path: 'several/1', data: 'one' },
        { path: '/tmp/several/2', data: bytes('\0\r\n--').buffer },
        { path: 'several/ü', data: new Blob(['three']) },
      ], opts)
      assert.deepEqual(infos.map((info) => info.path), ['/root/several/1', '/tmp/several/2', '/root/several/ü'])
      assert.deepEqual(infos.map((info) => info.metadata), [{ round }, { round }, { round }])
      const info = await sbx.files.getInfo('/tmp/several/2')
      assert.deepEqual([info.owner, info.size, info.metadata], ['root', 5, { round }])
      assert.equal(await sbx.files.read('/tmp/several/2'), '\0\r\n--')
    }
    assert.deepEqual(await sbx.files.write([]), [])
  })

  test('metadata is listed, moves along, and goes with the next upload', async () => {
    const info = await sbx.files.write('/tmp/m', '1', { metadata: { Author: 'ann', b: '2' } })
    assert.deepEqual(info.metadata, { author: 'ann', b: '2' })
    const entry = (await sbx.files.list('/tmp')).find((one) => one.name === 'm')
    assert.deepEqual(entry.metadata, { author: 'ann', b: '2' })
    assert.deepEqual((await sbx.files.rename('/tmp/m', '/tmp/m2', soon())).metadata, { author: 'ann', b: '2' })
    await sbx.files.write('/tmp/m2', '2', { useOctetStream: true })
    assert.deepEqual((await sbx.files.getInfo('/tmp/m2')).metadata ?? {}, {})
  })

  test('user of every call', async () => {
    const { files } = sbx
    const root = { user: 'root', ...soon() }
    assert.equal(await files.makeDir('mine/deep', root), true)
    await files.write('mine/f', 'x', root)
    assert.equal(await files.read('mine/f', root), 'x')
    assert.equal(await files.exists('mine/f', root), true)
    assert.equal(await files.exists('mine/f'), false)
    const info = await files.getInfo('mine/f', root)
    assert.deepEqual([info.path, info.owner, info.group], ['/root/mine/f', 'root', 'root'])
    assert.equal((await files.rename('mine/f', 'mine/g', root)).path, '/root/mine/g')
    const entries = await files.list('mine', { depth: 2, ...root })
    assert.deepEqual(entries.map((e) => e.path), ['/root/mine/deep', '/root/mine/g'])
    await files.remove('mine', root)
    assert.equal(await files.exists('/root/mine'), false)
    await assert.rejects(files.read('x', { user: 'nobody-here' }), AuthenticationError)
    await assert.rejects(files.list('/', { user: 'nobody-here' }), AuthenticationError)
  })

  test('entries are complete', async () => {
    await sbx.commands.run('mkdir -p /tmp/e && cd /tmp/e && echo abc > f && chmod 640 f && mkdir d && ln -s f l && ' +
      'ln -s none broken && mkfifo p && touch -d @1234567890.5 f && sudo chown root:daemon f')
    const rows = Object.fromEntries((await sbx.files.list('/tmp/e')).map((e) => [e.name, e]))
    assert.deepEqual([rows.f.type, rows.f.size, rows.f.mode & 0o777, rows.f.permissions],
      [FileType.FILE, 4, 0o640, '-rw-r-----'])
    assert.deepEqual([rows.f.owner, rows.f.group, rows.f.path], ['root', 'daemon', '/tmp/e/f'])
    assert.equal(rows.f.modifiedTime.getTime(), 1234567890500)
    assert.equal(rows.l.symlinkTarget, '/tmp/e/f')
    assert.equal(rows.d.type, FileType.DIR)
    assert.equal(rows.p, undefined) // neither file nor folder: the SDK leaves it out
  })

  test('errors', async () => {
    const { files } = sbx
    await files.write('/tmp/err/file', 'x')
    for (const [error, call] of [
      [FileNotFoundError, () => files.rename('/tmp/none', '/tmp/other')],
      [FileNotFoundError, () => files.read('/tmp/none', { format: 'stream' })],
      [InvalidArgumentError, () => files.write('/tmp/err', 'over a folder')],
      [InvalidArgumentError, () => files.makeDir('/tmp/err/file')],
      [InvalidArgumentError, () => files.list('/tmp/err', { depth: 0 })],
      [SandboxError, () => files.write('/tmp/err/file/below', 'x')],
      [NotFoundError, () => files.watchDir('/tmp/none', () => {})],
      [InvalidArgumentError, () => files.watchDir('/tmp/err/file', () => {})],
    ]) await assert.rejects(call, (e) => { assert.ok(e instanceof error, `${call}: ${e}`); return true })
    assert.equal(await files.remove('/tmp/none-at-all'), undefined)
    await assert.rejects(files.read('/etc/hostname', aborted()), /changed my mind|abort/i)
    await assert.rejects(files.getInfo('/etc/hostname', aborted()), /changed my mind|abort/i)
  })

  test('watchDir takes all options, and stop ends it', async () => {
    await sbx.files.makeDir('watched/sub', { user: 'root' })
    const events = [], ended = []
    const watch = await sbx.files.watchDir('watched', (event) => { events.push(event) }, {
      user: 'root', recursive: true, includeEntry: true, allowNetworkMounts: true, timeoutMs: 60_000 * FACTOR,
      onExit: (error) => { ended.push(error) }, ...soon(),
    })
    await sbx.files.write('/root/watched/sub/new', '12345')
    await sbx.files.makeDir('/root/watched/later/deep')
    await sbx.files.write('/root/watched/later/deep/x', '1')
    await sbx.files.rename('/root/watched/sub/new', '/root/watched/moved')
    const find = (name, type) => events.find((event) => event.name === name && event.type === type)
    const { CREATE, RENAME, WRITE } = FilesystemEventType
    await until('the events', 10_000, () => find('sub/new', CREATE) && find('sub/new', WRITE) && find('later', CREATE) &&
      find('later/deep', CREATE) && find('later/deep/x', CREATE) && find('sub/new', RENAME) && find('moved', CREATE))
    assert.deepEqual([find('moved', CREATE).entry.size, find('moved', CREATE).entry.path], [5, '/root/watched/moved'])
    assert.equal(find('sub/new', RENAME).entry, undefined)
    await watch.stop()
    await until('onExit', 5000, () => ended.length)
    assert.equal(ended.length, 1) // with the SDK's own words for its abort
  })

  test('watchDir of one folder only, without entries', async () => {
    await sbx.files.makeDir('/tmp/flat/sub')
    const events = []
    const watch = await sbx.files.watchDir('/tmp/flat', (event) => { events.push(event) }, { recursive: false })
    await sbx.files.write('/tmp/flat/sub/unseen', 'x')
    await sbx.commands.run('cd /tmp/flat && touch f && chmod 600 f && rm f')
    const has = (type) => events.some((event) => event.name === 'f' && event.type === type)
    await until('the events', 10_000, () => has(FilesystemEventType.CREATE) && has(FilesystemEventType.CHMOD) &&
      has(FilesystemEventType.REMOVE))
    assert.ok(!events.some((event) => event.name === 'sub/unseen' || event.entry))
    await watch.stop()
  })

  test('watchDir ends by its timeout, and says so', async () => {
    const ended = []
    await sbx.files.makeDir('/tmp/short')
    await sbx.files.watchDir('/tmp/short', () => {}, { timeoutMs: 1000, onExit: (error) => { ended.push(error) } })
    await until('its end', 10_000, () => ended.length)
    assert.ok(ended[0] instanceof TimeoutError, `${ended[0]}`)
  })
})
