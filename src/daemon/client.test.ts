import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { ClientError, type ClientErrorCode, type ClientRequest, request } from './client.ts'

const test = suite('daemon client')
let folder: string
let socketPath: string
let server: Server | undefined
const sockets = new Set<Socket>()

test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'elastic-local-client-'))
  socketPath = join(folder, 'socket')
})

test.after.each(async () => {
  for (const socket of sockets) socket.destroy()
  sockets.clear()
  if (server) await new Promise((resolve) => server?.close(resolve))
  server = undefined
  rmSync(folder, { recursive: true })
})

/** A daemon that does `serve` with each connection, once something has been asked. */
async function serveBytes(serve: (socket: Socket) => unknown): Promise<void> {
  server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('data', () => serve(socket))
  })
  server.listen(socketPath)
  await once(server, 'listening')
}

async function serveHttp(listener: RequestListener): Promise<void> {
  server = createHttpServer(listener)
  server.on('connection', (socket) => sockets.add(socket))
  server.listen(socketPath)
  await once(server, 'listening')
}

function ask(more: Partial<ClientRequest> = {}) {
  return request({
    socketPath,
    method: 'POST',
    path: '/mount',
    body: { targetDir: '/t' },
    idleTimeoutMs: 5000,
    ...more,
  })
}

async function fails(asking: Promise<unknown>, code: ClientErrorCode, ...says: RegExp[]): Promise<void> {
  const error = await asking.then(
    () => undefined,
    (error: unknown) => error,
  )
  assert.instance(error, ClientError)
  const { message } = error as ClientError
  assert.is((error as ClientError).code, code, message)
  assert.match(message, socketPath)
  assert.not.match(message, '\n')
  for (const said of says) assert.match(message, said)
}

const head = 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n'

test("request() sends JSON and resolves with the answer's status and JSON", async () => {
  let seen: unknown
  await serveHttp(async (incoming, outgoing) => {
    let text = ''
    for await (const chunk of incoming) text += chunk
    seen = [incoming.method, incoming.url, incoming.headers['content-type'], JSON.parse(text)]
    outgoing.writeHead(422, { 'content-type': 'application/json' }).end('{"status":"Failure","message":"nö"}')
  })
  const body = { targetDir: '/täglich "x"\n', options: { a: 'b' } }
  assert.equal(await ask({ body }), { statusCode: 422, body: { status: 'Failure', message: 'nö' } })
  assert.equal(seen, ['POST', '/mount', 'application/json', body])
})

test('request() works without a body, and with an answer that says its length', async () => {
  await serveHttp((incoming, outgoing) => {
    const text = JSON.stringify([incoming.method, incoming.url])
    outgoing.writeHead(200, { 'content-length': Buffer.byteLength(text) }).end(text)
  })
  const answer = await request({ socketPath, method: 'GET', path: '/v1/volumes?wide=1' })
  assert.equal(answer, { statusCode: 200, body: ['GET', '/v1/volumes?wide=1'] })
})

test('request() takes answers of 3 MB', async () => {
  const long = 'x'.repeat(3 << 20)
  await serveHttp((_, outgoing) => outgoing.end(JSON.stringify({ long })))
  assert.equal((await ask()).body, { long })
})

test('request() puts an answer of single bytes together', async () => {
  await serveBytes(async (socket) => {
    for (const byte of Buffer.from(`${head}\n\n{"status":"Success"}\n`)) {
      socket.write(Uint8Array.of(byte))
      await sleep(1)
    }
    socket.end()
  })
  assert.equal(await ask(), { statusCode: 200, body: { status: 'Success' } })
})

test('request() waits for as long as white space comes', async () => {
  await serveHttp(async (_, outgoing) => {
    outgoing.writeHead(200)
    outgoing.flushHeaders()
    for (let i = 0; i < 15; i++) {
      outgoing.write('\n')
      await sleep(40)
    }
    outgoing.end('{"status":"Success"}')
  })
  let alive = 0
  const start = Date.now()
  const answer = await ask({ idleTimeoutMs: 200, onAlive: () => alive++ })
  assert.equal(answer.body, { status: 'Success' })
  assert.ok(Date.now() - start > 400)
  assert.ok(alive > 10)
})

test('request() keeps no white space, so that it does not count against the longest answer', async () => {
  await serveBytes((socket) => {
    socket.write(head)
    socket.write('\n'.repeat(200_000))
    setTimeout(() => socket.end('{}'), 50)
  })
  assert.equal((await ask({ maxBytes: 1000 })).body, {})
})

test('request() says that there is no socket', () =>
  fails(ask(), 'missing', /POST \/mount/, /is not running: there is no socket \//))

test('request() says that there is no socket when a folder of its path is a file', async () => {
  writeFileSync(join(folder, 'file'), '')
  socketPath = join(folder, 'file', 'socket')
  await fails(ask(), 'missing')
})

test('request() says that nothing listens on a socket left behind', async () => {
  // A server that is killed leaves its socket.
  const program = `require('node:net').createServer().listen(${JSON.stringify(socketPath)}, () => process.kill(process.pid, 'SIGKILL'))`
  assert.throws(() => execFileSync(process.execPath, ['-e', program]))
  await fails(ask(), 'refused', /nothing listens/, /Start it/)
})

test('request() says that nothing listens on a file', async () => {
  writeFileSync(socketPath, '')
  await fails(ask(), 'refused')
})

test('request() says that it cannot use a path that is too long for a socket', async () => {
  socketPath = join(folder, 'x'.repeat(200))
  await fails(ask(), 'failed')
})

test('request() gives up on a daemon that says nothing', async () => {
  await serveBytes(() => {})
  const start = Date.now()
  await fails(ask({ idleTimeoutMs: 150 }), 'silent', /sent nothing for 0\.15 s/, /restart/)
  assert.ok(Date.now() - start < 2000)
})

test('request() gives up on a daemon that falls silent in the middle', async () => {
  await serveBytes((socket) => socket.write(`${head}\n{"sta`))
  await fails(ask({ idleTimeoutMs: 150 }), 'silent')
})

test('request() gives up on a daemon that is stopped, with room in its queue or without', async () => {
  const listening = `require('node:net').createServer().listen({ path: ${JSON.stringify(socketPath)}, backlog: 1 }, () => {
    console.log('listening')
    setTimeout(() => process.kill(process.pid, 'SIGSTOP'), 20)
  })`
  const child = spawn(process.execPath, ['-e', listening], { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    await once(child.stdout, 'data')
    await sleep(200)
    const many = Array.from({ length: 5 }, () => ask({ idleTimeoutMs: 150 }))
    await Promise.all(many.map((asking) => fails(asking, 'silent')))
  } finally {
    child.kill('SIGKILL')
  }
})

for (const [when, answer] of Object.entries({
  'before its answer': '',
  'in the middle of the head': 'HTTP/1.1 200 O',
  'after the head': head,
  'after signs of life': `${head}\n\n\n`,
  'in the middle of the document': `${head}\n{"status":"Suc`,
  'before the length it said': 'HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{"status":"Success"}',
}))
  test(`request() says that the daemon ended ${when}`, async () => {
    await serveBytes((socket) => socket.end(answer))
    await fails(ask(), 'closed', /stopped before its answer was complete/)
  })

test('request() says that the daemon ended when the connection is reset', async () => {
  // Which a unix socket is when it is closed with something unread.
  server = createServer({ pauseOnConnect: true }, (socket) => setTimeout(() => socket.destroy(), 50))
  server.listen(socketPath)
  await once(server, 'listening')
  await fails(ask(), 'closed')
})

for (const [what, answer] of Object.entries({
  'no HTTP': 'hello\n',
  'no HTTP and goes on for ever': '\0'.repeat(200_000),
  'HTTP with a strange status': 'HTTP/1.1 ok\r\n\r\n{}',
  'HTTP with a head without end': `HTTP/1.1 200 OK\r\n${'a: b\r\n'.repeat(20_000)}`,
  'no JSON': `${head}<html>oh dear</html>`,
  'two documents': `${head}{}{}`,
  'chunked, which HTTP/1.0 is not': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n',
}))
  test(`request() says that the answer is ${what}`, async () => {
    await serveBytes((socket) => socket.end(answer))
    await fails(ask(), 'garbage', /Is this our daemon/)
  })

test('request() stops reading an answer that is too long', async () => {
  await serveHttp((_, outgoing) => {
    outgoing.write('{"a":"')
    const more = setInterval(() => outgoing.write('x'.repeat(1 << 20)), 1)
    outgoing.on('close', () => clearInterval(more))
  })
  await fails(ask({ maxBytes: 4 << 20 }), 'garbage', /longer than 4194304 bytes/)
})

test('request() ends when the caller gives up, before and meanwhile', async () => {
  await serveBytes(() => {})
  await fails(ask({ signal: AbortSignal.abort() }), 'aborted')
  await fails(ask({ signal: AbortSignal.timeout(50) }), 'aborted')
})

test('request() refuses a path that would change the request', () => {
  for (const path of ['x', '/a b', '/a\r\nx: y', '/ä']) assert.throws(() => ask({ path }), /it is not a path/)
})

test.run()
