// Network options of the JavaScript SDK: create, updateNetwork, what is shown, and refusals.
// What they do to traffic is tests/integration/network_test.py's: there is no internet here.

import assert from 'node:assert/strict'
import { after, before, describe } from 'node:test'
import { ALL_TRAFFIC, Sandbox, SandboxError, SandboxNotFoundError } from 'e2b'
import { test } from './record.mjs'

const SERVICE = `
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.headers['Host'].encode()
        self.send_response(200); self.send_header('Content-Length', str(len(body)))
        self.end_headers(); self.wfile.write(body)
http.server.ThreadingHTTPServer(('127.0.0.1', 8000), H).serve_forever()`

describe('network', () => {
  const network = {
    allowOut: ['93.184.216.34', '10.9.0.0/16'],
    denyOut: (context) => [context.allTraffic],
    maskRequestHost: 'localhost:${PORT}',
    httpsPorts: [8443],
    allowPublicTraffic: false,
  }
  let sbx
  before(async () => { sbx = await Sandbox.create({ network, timeoutMs: 120_000 }) })
  after(async () => { await sbx.kill() })

  test('what was asked for is shown', async () => {
    const info = await sbx.getInfo()
    assert.deepEqual(info.network.allowOut, ['93.184.216.34', '10.9.0.0/16'])
    assert.deepEqual(info.network.denyOut, [ALL_TRAFFIC])
    assert.equal(info.network.allowPublicTraffic, false)
    assert.equal(info.network.maskRequestHost, 'localhost:${PORT}')
    assert.equal(info.allowInternetAccess, undefined)
  })

  test('an update replaces egress and keeps ingress', async () => {
    await sbx.updateNetwork({ denyOut: ['1.1.1.1'] })
    let { network: shown } = await sbx.getInfo()
    assert.deepEqual([shown.allowOut, shown.denyOut], [undefined, ['1.1.1.1']])
    assert.equal(shown.maskRequestHost, 'localhost:${PORT}')
    await Sandbox.updateNetwork(sbx.sandboxId, { allowInternetAccess: false })
    const info = await Sandbox.getInfo(sbx.sandboxId)
    assert.equal(info.allowInternetAccess, false)
    assert.equal(info.network.denyOut, undefined)
  })

  test('a service behind a token sees the masked host', async () => {
    await sbx.files.write('/tmp/service.py', SERVICE)
    const service = await sbx.commands.run('python3 /tmp/service.py', { background: true })
    const fetchIt = (headers) => sbx.trafficAccessToken && fetch(url, { headers })
    const domain = process.env.E2B_SANDBOX_URL === undefined
    const url = domain ? `https://${sbx.getHost(8000)}/` : `${process.env.E2B_SANDBOX_URL}/`
    const route = domain ? {} : { 'E2b-Sandbox-Id': sbx.sandboxId, 'E2b-Sandbox-Port': '8000' }
    assert.equal((await fetchIt(route)).status, 403)
    const answer = await fetchIt({ ...route, 'e2b-traffic-access-token': sbx.trafficAccessToken })
    assert.equal(answer.status, 200)
    assert.equal(await answer.text(), 'localhost:8000')
    await service.kill()
  })

  test('without internet there is none', async () => {
    const closed = await Sandbox.create({ allowInternetAccess: false, timeoutMs: 60_000 })
    try {
      const result = await closed.commands.run('timeout 3 getent hosts example.com || echo none')
      assert.equal(result.stdout, 'none\n')
      assert.equal((await closed.getInfo()).allowInternetAccess, false)
    } finally { await closed.kill() }
  })

  test('what is wrong is refused in fixed words', async () => {
    for (const [update, text] of [
      [{ allowOut: ['no name'] }, '400: invalid allowed address no name'],
      [{ denyOut: ['example.com'] }, '400: invalid denied CIDR example.com'],
      [{ allowOut: ['example.com'] }, '400: When specifying allowed domains in allow out, you must ' +
        "include 'ALL_TRAFFIC' in deny out to block all other traffic."],
      [{ egressProxy: { address: '127.0.0.1:1080' } },
        '400: invalid egress proxy address 127.0.0.1:1080: it leads to an internal address'],
      [{ rules: { 'a.test': [{ transform: { headers: { x: '${e2b.nothing}' } } }] } },
        '400: Network transform header contains a malformed E2B placeholder.'],
    ]) {
      const says = (err) => err instanceof SandboxError && err.message === text
      await assert.rejects(sbx.updateNetwork(update), says)
      await assert.rejects(Sandbox.create({ network: update }), says)
    }
    await assert.rejects(Sandbox.updateNetwork('inosuchsandbox0000000', {}), SandboxNotFoundError)
  })

  test('a paused sandbox is not updated', async () => {
    const paused = await Sandbox.create({ timeoutMs: 60_000 })
    try {
      await paused.pause()
      await assert.rejects(paused.updateNetwork({}), /409: .* is not running/)
    } finally { await paused.kill() }
  })
})
