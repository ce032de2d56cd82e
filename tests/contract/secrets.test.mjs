// Secret of the JavaScript SDK: every method, and what it says of what goes wrong.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe } from 'node:test'
import { Secret, SecretError, SecretNotFoundError } from 'e2b'
import { test } from './record.mjs'

describe('secrets', () => {
  let name, made
  beforeEach(() => { name = `test-${randomBytes(6).toString('hex')}`; made = [] })
  afterEach(async () => { for (const id of made) await Secret.destroy(id) })

  async function make(as = name, value = 'v', options = undefined) {
    const info = await Secret.create(as, value, options)
    made.push(info.secretId)
    return info
  }

  test('create tells all but the value', async () => {
    const info = await make(` ${name.toUpperCase()} `, 'hidden-value', { metadata: { team: 'é' } })
    assert.deepEqual([info.name, info.version, info.metadata], [name, 1, { team: 'é' }])
    assert.match(info.secretId, /^sec_[0-7][0-9a-hjkmnp-tv-z]{25}$/)
    assert.ok(!JSON.stringify(info).includes('hidden-value'))
  })

  test('it is found by id and by name', async () => {
    const info = await make()
    for (const key of [info.secretId, name, name.toUpperCase()]) {
      assert.deepEqual(await Secret.getInfo(key), info)
      assert.equal(await Secret.exists(key), true)
    }
  })

  test('an update is a version and keeps metadata unless given', async () => {
    const info = await make(name, 'v', { metadata: { a: '1' } })
    const second = await Secret.update(name, 'v2')
    assert.deepEqual([second.version, second.metadata], [2, { a: '1' }])
    const third = await Secret.update(info.secretId, 'v3', { metadata: {} })
    assert.deepEqual([third.version, third.metadata], [3, {}])
  })

  test('pages hold each secret once', async () => {
    const wanted = []
    for (let i = 0; i < 5; i++) wanted.push((await make(`${name}-${i}`)).secretId)
    const pages = Secret.list({ limit: 2 })
    const found = []
    while (pages.hasNext) found.push(...(await pages.nextItems()).map((info) => info.secretId))
    assert.equal(new Set(found).size, found.length)
    for (const id of wanted) assert.ok(found.includes(id))
  })

  test('what is destroyed is gone', async () => {
    const info = await make()
    assert.equal(await Secret.destroy(name), true)
    assert.equal(await Secret.destroy(name), false)
    assert.equal(await Secret.exists(info.secretId), false)
    await assert.rejects(Secret.getInfo(name), SecretNotFoundError)
    await assert.rejects(Secret.update(name, 'x'), SecretNotFoundError)
  })

  test('refusals have fixed words', async () => {
    await make()
    const refused = (call, text) => assert.rejects(call, (error) => {
      assert.ok(error instanceof SecretError, `${error}`)
      assert.ok(error.message.includes(text), error.message)
      return true
    })
    await refused(Secret.create(name, 'v'), '409: Secret cannot be modified in its current state')
    await refused(Secret.create('no spaces', 'v'), '400: Invalid secrets request')
    await refused(Secret.create('sec_x', 'v'), '400: Invalid secrets request')
  })
})
