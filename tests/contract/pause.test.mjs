// pause, connect, snapshots and forks of the JavaScript SDK: every method and option.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, beforeEach, describe } from 'node:test'
import { InvalidArgumentError, Sandbox, SandboxError, SandboxNotFoundError } from 'e2b'
import { record, test } from './record.mjs'

const FACTOR = Number(process.env.SANDPIT_TIME_FACTOR ?? 1)
const NOBODY = 'i' + 'x'.repeat(20)
const soon = () => ({ requestTimeoutMs: 30_000 * FACTOR, signal: new AbortController().signal })

let sbx
before(async () => {
  sbx = await Sandbox.create({ timeoutMs: 1800_000 })
  await record(sbx)
}, { timeout: 60_000 * FACTOR })
after(async () => { await sbx?.kill() })

const sh = async (script, of = sbx) => (await of.commands.run(script)).stdout
const marks = async (of = sbx) => Number(await sh("pgrep -fc '^paused-mar[k]'; true", of))
async function mark(of = sbx) {
  await of.commands.run('exec -a paused-mark sleep 1000', { background: true })
  const end = Date.now() + 10_000 * FACTOR
  while (await marks(of) === 0) {
    assert.ok(Date.now() < end)
    await sleep(50)
  }
}
const unmark = () => sh("pkill -f '^paused-mar[k]'; true")
const state = async (of = sbx) => (await of.getInfo()).state

describe('pauses', () => {
  test('memory is kept by default, and a second pause is told', async () => {
    await mark()
    assert.equal(await sbx.pause(soon()), true)
    assert.equal(await sbx.pause(), false)
    assert.equal(await state(), 'paused')
    await sbx.connect({ timeoutMs: 1800_000, onResume: 'restore', ...soon() })
    assert.equal(await marks(), 1)
    await unmark()
  })

  test('files alone', async () => {
    await mark()
    await sbx.files.write('/home/user/file', 'one')
    assert.equal(await sbx.pause({ keepMemory: false }), true)
    await sbx.connect()
    assert.equal(await marks(), 0)
    assert.equal(await sbx.files.read('/home/user/file'), 'one')
  })

  test('onResume reboot', async () => {
    await mark()
    await Sandbox.pause(sbx.sandboxId, { keepMemory: true, ...soon() })
    const again = await Sandbox.connect(sbx.sandboxId, { timeoutMs: 1800_000, onResume: 'reboot' })
    assert.equal(await marks(again), 0)
    await mark()
    await again.connect({ onResume: 'reboot' }) // it runs: nothing changes
    assert.equal(await marks(), 1)
    await unmark()
    await assert.rejects(again.connect({ onResume: 'never' }), InvalidArgumentError)
  })

  test('the old name, and what is not there', async () => {
    assert.equal(await sbx.betaPause(soon()), true)
    await sbx.connect({ timeoutMs: 1800_000 })
    assert.equal(await Sandbox.betaPause(sbx.sandboxId, soon()), true)
    await sbx.connect({ timeoutMs: 1800_000 })
    await assert.rejects(Sandbox.pause(NOBODY), SandboxNotFoundError)
  })

  test('many connects at once are one start', async () => {
    await sbx.pause({ keepMemory: false })
    const all = await Promise.all([1, 2, 3, 4].map(() => Sandbox.connect(sbx.sandboxId, { timeoutMs: 1800_000 })))
    assert.deepEqual(new Set(all.map((one) => one.sandboxId)), new Set([sbx.sandboxId]))
    assert.equal(await state(), 'running')
  })

  test('what happens at the timeout', async () => {
    const cases = [
      [{ onTimeout: 'pause' }, 'full'],
      [{ onTimeout: { action: 'pause', keepMemory: true }, autoResume: false }, 'full'],
      [{ onTimeout: { action: 'pause', keepMemory: false } }, 'filesystem'],
      [{ onTimeout: { action: 'kill' } }, null],
    ]
    for (const [lifecycle, kept] of cases) {
      const made = await Sandbox.create({ lifecycle, timeoutMs: 60_000 })
      await made.files.write('/home/user/file', 'one')
      await mark(made)
      assert.equal((await made.getInfo()).lifecycle.onTimeout, kept ? 'pause' : 'kill')
      await made.setTimeout(0)
      if (kept === null) {
        await assert.rejects(made.getInfo(), SandboxNotFoundError)
        continue
      }
      assert.equal(await state(made), 'paused')
      await made.connect({ timeoutMs: 60_000 })
      assert.equal(await made.files.read('/home/user/file'), 'one')
      assert.equal(await marks(made), kept === 'full' ? 1 : 0)
      assert.equal(await made.kill(), true)
    }
  })

  test('what cannot be done with a paused one', async () => {
    const made = await Sandbox.create({ timeoutMs: 60_000 })
    await made.pause()
    for (const call of [() => made.setTimeout(30_000), () => made.createSnapshot(), () => made.fork()]) {
      await assert.rejects(call(), (error) => /409|paused/.test(error.message))
    }
    assert.equal(await made.kill(), true)
    assert.equal(await made.kill(), false)
  })
})

describe('snapshots and forks', () => {
  let name
  beforeEach(() => { name = `test-${randomBytes(6).toString('hex')}` })

  test('without a name', async () => {
    await sbx.files.write('/home/user/file', 'kept')
    const info = await sbx.createSnapshot(soon())
    await sbx.files.write('/home/user/file', 'changed')
    assert.match(info.snapshotId, /^[a-z0-9]{20}:default$/)
    assert.deepEqual(info.names, [])
    const made = await Sandbox.create(info.snapshotId, { timeoutMs: 60_000, envs: { A: '1' } })
    assert.equal(await sh('cat ~/file; echo $A', made), 'kept1\n')
    assert.equal(await Sandbox.deleteSnapshot(info.snapshotId, soon()), true)
    assert.equal(await Sandbox.deleteSnapshot(info.snapshotId), false)
    assert.equal(await made.files.read('/home/user/file'), 'kept')
    await made.kill()
    await assert.rejects(Sandbox.create(info.snapshotId), /404/)
  })

  test('names and tags', async () => {
    const first = await sbx.createSnapshot({ name })
    const team = first.snapshotId.split('/')[0]
    assert.deepEqual(first, { snapshotId: `${team}/${name}:default`, names: [`${team}/${name}:default`] })
    const second = await Sandbox.createSnapshot(sbx.sandboxId, { name: `${team}/${name}:v2`, ...soon() })
    assert.deepEqual(second.names, [`${team}/${name}:v2`])
    assert.equal((await sbx.createSnapshot({ name })).snapshotId, first.snapshotId)
    const ids = new Set()
    for (const template of [name, `${team}/${name}`, `${name}:v2`, second.snapshotId]) {
      const made = await Sandbox.create(template, { timeoutMs: 60_000 })
      ids.add((await made.getInfo()).templateId)
      await made.kill()
    }
    assert.equal(ids.size, 1) // builds of one template
    await assert.rejects(Sandbox.create(`${name}:v3`), /404/)
    assert.equal(await Sandbox.deleteSnapshot(`${name}:v2`), true)
    assert.equal(await Sandbox.deleteSnapshot(name), true)
    assert.equal(await Sandbox.deleteSnapshot(name), false)
    for (const bad of ['a b', 'a/b/c', 'no-such-team/x', 'a:', 'x'.repeat(300)]) {
      await assert.rejects(sbx.createSnapshot({ name: bad }), /400/)
    }
    await assert.rejects(Sandbox.createSnapshot(NOBODY), SandboxNotFoundError)
  })

  test('lists and pages', async () => {
    const names = [0, 1, 2, 3, 4].map((i) => `${name}-${i}`)
    for (const one of names) await sbx.createSnapshot({ name: one })
    const pages = sbx.listSnapshots({ limit: 2 })
    const found = []
    while (pages.hasNext) {
      const page = await pages.nextItems(soon())
      assert.ok(page.length <= 2)
      found.push(...page.map((info) => info.names[0]?.split('/')[1]))
    }
    assert.deepEqual(found.filter((one) => one?.startsWith(name)), names.map((one) => `${one}:default`).reverse())
    const named = await Sandbox.listSnapshots({ name: names[1] }).nextItems()
    assert.deepEqual(named.map((info) => info.names[0].split('/')[1]), [`${names[1]}:default`])
    const ofIt = Sandbox.listSnapshots({ sandboxId: sbx.sandboxId, limit: 1 })
    const [first] = await ofIt.nextItems()
    const rest = Sandbox.listSnapshots({
      sandboxId: sbx.sandboxId, limit: 1, nextToken: ofIt.nextToken, requestTimeoutMs: 30_000 * FACTOR,
    })
    assert.notEqual((await rest.nextItems())[0].snapshotId, first.snapshotId)
    assert.deepEqual(await Sandbox.listSnapshots({ sandboxId: NOBODY }).nextItems(), [])
    await assert.rejects(Sandbox.listSnapshots({ limit: 101 }).nextItems(), SandboxError)
    for (const one of names) assert.equal(await Sandbox.deleteSnapshot(one), true)
  })

  test('forks', async () => {
    await sbx.files.write('/home/user/file', 'source')
    const forks = await sbx.fork({ timeoutMs: 60_000, count: 3, ...soon() })
    assert.equal(new Set([...forks.map((one) => one.sandboxId), sbx.sandboxId]).size, 4)
    for (const [i, one] of forks.entries()) await sh(`echo ${i} >> ~/file`, one)
    for (const [i, one] of forks.entries()) {
      assert.equal(await one.files.read('/home/user/file'), `source${i}\n`)
      await one.kill()
    }
    assert.equal(await sbx.files.read('/home/user/file'), 'source')
    const [one] = await Sandbox.fork(sbx.sandboxId)
    assert.equal(await one.isRunning(), true)
    await one.kill()
    for (const count of [0, 101]) await assert.rejects(sbx.fork({ count }))
    await assert.rejects(Sandbox.fork(NOBODY), SandboxNotFoundError)
  })
})
