// Volume of the JavaScript SDK: every method and option, and what it says of what goes wrong.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe } from 'node:test'
import {
  AuthenticationError, Sandbox, SandboxError, Volume, VolumeError, VolumeFileType,
  VolumeNotFoundError, VolumePathNotFoundError,
} from 'e2b'
import { test } from './record.mjs'

const NO_ID = '00000000-0000-4000-8000-000000000000'
const sha256 = (data) => createHash('sha256').update(data).digest('hex')

describe('volumes', () => {
  let volume
  beforeEach(async () => { volume = await Volume.create(`test-${randomBytes(6).toString('hex')}`) })
  afterEach(async () => { await Volume.destroy(volume.volumeId) })

  test('create, list, getInfo, connect', async () => {
    assert.match(volume.volumeId, /^[0-9a-f-]{36}$/)
    assert.equal(volume.token.split('.').length, 3)
    const listed = await Volume.list()
    assert.deepEqual(listed.find((row) => row.volumeId === volume.volumeId),
      { volumeId: volume.volumeId, name: volume.name })
    const info = await Volume.getInfo(volume.volumeId)
    assert.deepEqual([info.volumeId, info.name], [volume.volumeId, volume.name])
    const again = await Volume.connect(volume.volumeId)
    await volume.writeFile('/a', 'from one')
    assert.equal(await again.readFile('/a'), 'from one')
  })

  test('wrong names and ids', async () => {
    for (const name of ['', 'a b', 'ä', '../x', 'x'.repeat(129)]) {
      await assert.rejects(Volume.create(name), (error) => error instanceof VolumeError &&
        /^400: Invalid volume name$/.test(error.message))
    }
    await assert.rejects(Volume.create(volume.name), (error) => error instanceof VolumeError &&
      error.message === `400: Volume with name '${volume.name}' already exists`)
    await assert.rejects(Volume.getInfo(NO_ID), VolumeNotFoundError)
    await assert.rejects(Volume.connect(NO_ID), VolumeNotFoundError)
    await assert.rejects(Volume.getInfo('nonsense'), (error) => error instanceof VolumeError &&
      error.message === '400: Invalid volume ID')
    assert.equal(await Volume.destroy(NO_ID), false)
    await assert.rejects(Volume.list({ apiKey: 'e2b_' + '0'.repeat(40) }), AuthenticationError)
  })

  test('files in every format, both ways', async () => {
    const entry = await volume.writeFile('/text.txt', 'grüße')
    assert.deepEqual([entry.name, entry.type, entry.path, entry.size, entry.uid, entry.gid, entry.mode],
      ['text.txt', VolumeFileType.FILE, '/text.txt', 7, 1000, 1000, 0o644])
    assert.ok(entry.mtime instanceof Date && Math.abs(entry.mtime - Date.now()) < 60_000)
    assert.equal(await volume.readFile('/text.txt'), 'grüße')
    assert.equal(await volume.readFile('/text.txt', { format: 'text' }), 'grüße')
    assert.equal(Buffer.from(await volume.readFile('/text.txt', { format: 'bytes' })).toString(), 'grüße')
    assert.equal(await (await volume.readFile('/text.txt', { format: 'blob' })).text(), 'grüße')
    const data = randomBytes(3_000_001)
    for (const body of [data.buffer.slice(data.byteOffset, data.byteOffset + data.length), new Blob([data]),
      new Blob([data]).stream()]) {
      assert.equal((await volume.writeFile('/big', body)).size, data.length)
      const chunks = []
      const stream = await volume.readFile('/big', { format: 'stream', streamIdleTimeoutMs: 30_000 })
      for await (const chunk of stream) chunks.push(chunk)
      assert.equal(sha256(Buffer.concat(chunks)), sha256(data))
    }
    assert.equal((await volume.writeFile('/empty', '')).size, 0)
    assert.equal(await volume.readFile('/empty'), '')
  })

  test('owner, mode, missing parents and what is there already', async () => {
    await assert.rejects(volume.writeFile('/no/where', 'x'), VolumePathNotFoundError)
    const made = await volume.writeFile('/new/sub/file', 'x', { force: true, uid: 5, gid: 6, mode: 0o600 })
    assert.deepEqual([made.uid, made.gid, made.mode], [5, 6, 0o600])
    const kept = await volume.writeFile('/new/sub/file', 'longer')
    assert.deepEqual([kept.uid, kept.gid, kept.mode, kept.size], [5, 6, 0o600, 6])
    const changed = await volume.updateMetadata('/new/sub/file', { uid: 7, gid: 8, mode: 0o640 })
    assert.deepEqual([changed.uid, changed.gid, changed.mode], [7, 8, 0o640])
    assert.equal((await volume.updateMetadata('/new/sub/file', { mode: 0o644 })).uid, 7)
    await assert.rejects(volume.updateMetadata('/no', { mode: 0o644 }), VolumePathNotFoundError)
    await assert.rejects(volume.updateMetadata('/new', { mode: 0o10000 }), VolumeError)
  })

  test('folders', async () => {
    assert.equal((await volume.makeDir('/d')).type, VolumeFileType.DIRECTORY)
    await assert.rejects(volume.makeDir('/d'), (error) => error instanceof VolumeError &&
      error.message.startsWith('409: '))
    await assert.rejects(volume.makeDir('/x/y'), VolumePathNotFoundError)
    const deep = await volume.makeDir('/d/e/f', { force: true, uid: 1, gid: 2, mode: 0o700 })
    assert.deepEqual([deep.path, deep.uid, deep.gid, deep.mode], ['/d/e/f', 1, 2, 0o700])
    assert.equal((await volume.makeDir('/d/e/f', { force: true })).path, '/d/e/f')
    await volume.writeFile('/d/file', '1')
    const paths = async (...args) => (await volume.list(...args)).map((entry) => entry.path)
    assert.deepEqual(await paths('/'), ['/d'])
    assert.deepEqual(await paths('/d'), ['/d/e', '/d/file'])
    assert.deepEqual(await paths('/', { depth: 3 }), ['/d', '/d/e', '/d/e/f', '/d/file'])
    await assert.rejects(volume.list('/none'), VolumePathNotFoundError)
    await assert.rejects(volume.list('/d/file'), VolumeError)
    await assert.rejects(volume.list('/', { depth: 0 }), VolumeError)
  })

  test('getInfo, exists, remove', async () => {
    await volume.writeFile('/d/file', '1', { force: true })
    assert.equal((await volume.getInfo('/d')).type, VolumeFileType.DIRECTORY)
    assert.equal(await volume.exists('/d/file'), true)
    await volume.remove('/d/file')
    assert.equal(await volume.exists('/d/file'), false)
    await assert.rejects(volume.getInfo('/d/file'), VolumePathNotFoundError)
    await assert.rejects(volume.remove('/d/file'), VolumePathNotFoundError)
    await assert.rejects(volume.readFile('/d/file'), VolumePathNotFoundError)
    await assert.rejects(volume.readFile('/d/file', { format: 'stream' }), VolumePathNotFoundError)
    await assert.rejects(volume.readFile('/d'), VolumeError)
    await volume.writeFile('/d/e/f', '1', { force: true })
    await volume.remove('/d')
    assert.deepEqual(await volume.list('/'), [])
    await assert.rejects(volume.remove('/'), VolumeError)
    await assert.rejects(volume.getInfo('/../x'), VolumeError)
  })

  test('another token, and none that is good', async () => {
    const other = await Volume.create(`test-${randomBytes(6).toString('hex')}`)
    try {
      await assert.rejects(volume.list('/', { token: other.token }), VolumePathNotFoundError)
      await assert.rejects(volume.list('/', { token: 'a.b.c' }), AuthenticationError)
      const bare = new Volume(volume.volumeId, volume.name, volume.token, volume.domain)
      assert.deepEqual(await bare.list('/'), [])
    } finally {
      await Volume.destroy(other.volumeId)
    }
  })

  test('in two sandboxes at once, by object and by name', async () => {
    await volume.writeFile('/hello', 'from outside')
    const one = await Sandbox.create({ timeoutMs: 60_000, volumeMounts: { '/mnt/data': volume } })
    const two = await Sandbox.create({ timeoutMs: 60_000, volumeMounts: { '/home/user/shared': volume.name } })
    try {
      assert.equal(await one.files.read('/mnt/data/hello'), 'from outside')
      await one.files.write('/mnt/data/note', 'from one')
      assert.equal(await two.files.read('/home/user/shared/note'), 'from one')
      assert.equal(await volume.readFile('/note'), 'from one')
      const owner = await two.commands.run('stat -c %u:%g shared/note && echo more >> shared/note')
      assert.equal(owner.stdout, '1000:1000\n')
      assert.equal(await volume.readFile('/note'), 'from onemore\n')
      assert.deepEqual((await one.getInfo()).volumeMounts, [{ name: volume.name, path: '/mnt/data' }])
      await assert.rejects(Volume.destroy(volume.volumeId), (error) => error instanceof VolumeError &&
        error.message.startsWith(`409: Volume '${volume.name}' is mounted in sandbox`))
      await one.pause()
      await two.kill()
      await assert.rejects(Volume.destroy(volume.volumeId), VolumeError)
      const back = await Sandbox.connect(one.sandboxId)
      assert.equal(await back.files.read('/mnt/data/note'), 'from onemore\n')
    } finally {
      await one.kill()
      await two.kill()
    }
    assert.equal(await Volume.destroy(volume.volumeId), true)
    await assert.rejects(volume.list('/'), VolumePathNotFoundError)
  })

  test('mounts that cannot be', async () => {
    const refused = (mounts, words) => assert.rejects(
      Sandbox.create({ timeoutMs: 60_000, volumeMounts: mounts }),
      (error) => error instanceof SandboxError && error.message.includes(words))
    await refused({ '/mnt/x': 'no-such' }, "invalid mounts:\n\t- volume mount #0: volume 'no-such' not found")
    await refused({ 'mnt/x': volume.name }, 'volume mount #0: path must be absolute')
    await refused({ '/mnt/../x': volume.name }, 'volume mount #0: path must be clean')
    for (const path of ['/', '/proc', '/sys/x', '/dev/shm', '/usr', '/etc']) {
      await refused({ [path]: volume.name }, 'cannot be a volume')
    }
  })
})
