// Sandboxes that traffic wakes, by the JavaScript SDK.

import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { Sandbox } from 'e2b'
import { test } from './record.mjs'

const state = async (of) => (await of.getInfo()).state

async function paused(lifecycle = { onTimeout: 'pause', autoResume: true }) {
  const made = await Sandbox.create({ lifecycle, timeoutMs: 60_000 })
  await made.files.write('/home/user/file', 'one')
  await made.setTimeout(0)
  assert.equal(await state(made), 'paused')
  return made
}

describe('traffic', () => {
  test('a call to a paused sandbox wakes it', async () => {
    const made = await paused()
    assert.deepEqual((await made.getInfo()).lifecycle, { onTimeout: 'pause', autoResume: true })
    assert.equal(await made.files.read('/home/user/file'), 'one')
    assert.equal(await state(made), 'running')
    await made.setTimeout(0)
    assert.equal((await made.commands.run('cat ~/file')).stdout, 'one')
    await made.setTimeout(0)
    assert.equal(await made.isRunning(), true)
    assert.equal(await made.kill(), true)
  })

  test('many calls at once are one start', async () => {
    const made = await paused()
    const texts = await Promise.all(Array.from({ length: 30 }, () => made.files.read('/home/user/file')))
    assert.deepEqual(new Set(texts), new Set(['one']))
    const info = await made.getInfo()
    assert.ok(info.endAt - info.startedAt >= 299_000, 'it lives for five minutes at least')
    assert.equal(await made.kill(), true)
  })

  test('without autoResume it stays paused', async () => {
    const made = await paused({ onTimeout: 'pause', autoResume: false })
    assert.equal(await made.isRunning(), false)
    await assert.rejects(made.files.read('/home/user/file'))
    assert.equal(await state(made), 'paused')
    assert.equal(await made.kill(), true)
  })
})
