// What of the JavaScript SDK the tests call: every public method, with the options given.
//
// Wraps the methods of the running SDK's classes (nothing of the package is changed) and writes, at
// the end, {"Class.method": {"options": [...], "tests": {test: calls}}} to CONTRACT_RECORD plus the
// process id, for the files run at once. `test` is node's, which remembers the name of what runs.

import { writeFileSync } from 'node:fs'
import { test as nodeTest } from 'node:test'

const found = {}
let running = '(no test)'
let wrapped = false

export function test(name, options, body) {
  const [opts, fn] = typeof options === 'function' ? [{}, options] : [options, body]
  return nodeTest(name, opts, async (t) => {
    running = name
    return fn(t)
  })
}

// Whether the SDK itself calls (git calls commands.run): that tests nothing of the callee.
function insideSdk() {
  return /[/\\]e2b[/\\]dist[/\\]/.test(new Error().stack.split('\n')[4] ?? '')
}

function note(key, args) {
  if (insideSdk()) return
  const row = (found[key] ??= { options: [], tests: {} })
  for (const arg of args) {
    if (arg?.constructor !== Object) continue
    for (const name of Object.keys(arg)) if (!row.options.includes(name)) row.options.push(name)
  }
  row.tests[running] = (row.tests[running] ?? 0) + 1
}

function wrap(prefix, prototype) {
  for (const name of Object.getOwnPropertyNames(prototype)) {
    if (name === 'constructor') continue
    const member = Object.getOwnPropertyDescriptor(prototype, name)
    const key = `${prefix}.${name}`
    if (member.get) {
      const { get } = member
      member.get = function () { note(key, []); return get.call(this) }
    } else {
      const method = member.value
      member.value = function (...args) { note(key, args); return method.apply(this, args) }
    }
    Object.defineProperty(prototype, name, member)
  }
}

// SBX gives the modules; the classes of handles are met when the first of each is made.
export async function record(sbx) {
  if (!process.env.CONTRACT_RECORD || wrapped) return
  wrapped = true
  const handle = await sbx.commands.run('true', { background: true })
  await handle.wait()
  const watch = await sbx.files.watchDir('/tmp', () => {})
  await watch.stop()
  const parts = { commands: sbx.commands, handle, pty: sbx.pty, files: sbx.files, watch, git: sbx.git }
  for (const [prefix, part] of Object.entries(parts)) wrap(prefix, Object.getPrototypeOf(part))
  process.on('exit', () => {
    writeFileSync(`${process.env.CONTRACT_RECORD}.${process.pid}`, JSON.stringify(found))
  })
}
