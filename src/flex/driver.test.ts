import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { askDaemon, writeLine } from './driver.ts'

const test = suite('flex driver')
const folder = mkdtempSync(join(tmpdir(), 'elastic-local-driver-'))
const socketPath = join(folder, 'socket')
const mount = { path: '/mount', body: { targetDir: '/t', options: {} } }
let server: Server | undefined

async function serve(listener: Parameters<typeof createServer>[1]): Promise<void> {
  server = createServer({}, listener).listen(socketPath)
  await once(server, 'listening')
}

test.after.each(() => {
  server?.closeAllConnections()
  server?.close()
})
test.after(() => rmSync(folder, { recursive: true }))

test("askDaemon() passes the daemon's answer on", async () => {
  await serve((_, outgoing) => outgoing.end('{"status":"Success","device":"/dev/x"}'))
  assert.equal(await askDaemon(mount, socketPath), { status: 'Success', device: '/dev/x' })
})

test('askDaemon() lets a daemon that shows signs of life work for as long as it takes', async () => {
  await serve(async (_, outgoing) => {
    for (let i = 0; i < 10; i++) {
      outgoing.write('\n')
      await sleep(50)
    }
    outgoing.end('{"status":"Success"}')
  })
  assert.equal(await askDaemon(mount, socketPath, { idleTimeoutMs: 250 }), { status: 'Success' })
})

test('askDaemon() makes failures of a daemon that is missing, hangs, dies, or is something else', async () => {
  const says = async (said: RegExp) => {
    const answer = await askDaemon(mount, socketPath, { idleTimeoutMs: 100 })
    assert.is(answer.status, 'Failure')
    assert.match(answer.message ?? '', said)
    server?.close()
  }
  await says(/there is no socket/)
  await serve(() => {})
  await says(/so it hangs/)
  await serve((_, outgoing) => {
    outgoing.write('\n')
    setTimeout(() => outgoing.destroy(), 20)
  })
  await says(/stopped before its answer/)
  await serve((_, outgoing) => outgoing.end('<html>'))
  await says(/must be JSON/)
  await serve((_, outgoing) => outgoing.writeHead(404).end('{"error":"no route"}'))
  await says(/HTTP 404.*another version/)
})

test('writeLine() writes all in parts, waits for a full pipe, and gives up when nobody reads', () => {
  const errno = (code: string) => Object.assign(new Error(code), { code })
  let written = ''
  let calls = 0
  const slow = (rest: Buffer) => {
    if (calls++ % 2) throw errno('EAGAIN')
    written += rest.toString('latin1', 0, 1)
    return 1
  }
  assert.ok(writeLine('{"a":1}\n', slow))
  assert.is(written, '{"a":1}\n')
  const fail = (code: string) => () => {
    throw errno(code)
  }
  assert.not(writeLine('x', fail('EPIPE')))
  assert.not(writeLine('x', fail('EAGAIN'), 20))
})

test.run()
