// What a sandbox uses, as the JavaScript SDK reads it.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, describe } from 'node:test'
import { Sandbox } from 'e2b'
import { record, test } from './record.mjs'

const FACTOR = Number(process.env.SANDPIT_TIME_FACTOR ?? 1)

async function until(what, ms, predicate) {
  const end = Date.now() + ms * FACTOR
  for (;;) {
    const value = await predicate()
    if (value) return value
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`)
    await sleep(200)
  }
}

let sbx
before(async () => {
  sbx = await Sandbox.create({ timeoutMs: 300_000 })
  await record(sbx)
}, { timeout: 60_000 * FACTOR })
after(async () => { await sbx?.kill() })

describe('getMetrics', () => {
  test('shows a busy CPU, in total and between two moments', async () => {
    const from = new Date()
    const busy = await sbx.commands.run('while :; do :; done', { background: true })
    const rows = await until('a busy CPU', 40_000, async () => {
      const found = await sbx.getMetrics()
      return found.some((row) => row.cpuUsedPct > 3) && found
    })
    await busy.kill()
    for (const row of rows) {
      assert.ok(row.timestamp instanceof Date)
      assert.ok(row.cpuCount > 0 && row.cpuUsedPct <= 100)
      assert.ok(row.memUsed > 0 && row.memTotal >= row.memUsed && row.memCache >= 0)
      assert.ok(row.diskTotal > 0 && row.diskUsed >= 0)
    }
    const stamps = rows.map((row) => row.timestamp.getTime())
    assert.deepEqual(stamps, [...stamps].sort((a, b) => a - b))
    const some = await Sandbox.getMetrics(sbx.sandboxId, { start: from, end: new Date() })
    assert.ok(some.length > 0 && some.length <= rows.length + 1)
    assert.deepEqual(await sbx.getMetrics({ end: new Date(1000) }), [])
  }, { timeout: 60_000 * FACTOR })

  test('of a sandbox that never was is refused', async () => {
    await assert.rejects(Sandbox.getMetrics('i' + 'z'.repeat(20)))
  })
})
