import { once } from 'node:events'
import { mkdir, readdir, rename, stat, symlink, writeFile } from 'node:fs/promises'
import { request as requestHttp, type Server } from 'node:http'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { Hono } from 'hono'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { thrownBy } from '../../test/thrown.ts'
import { ClientError, type ClientRequest, request } from './client.ts'
import { close, formatAddress, listen, listenOn } from './server.ts'

const test = suite('daemon server')

/** Answers `GET /` at once, and `GET /slow` when it is let go. */
function openApp() {
  const begun = Promise.withResolvers<void>()
  const go = Promise.withResolvers<void>()
  const app = new Hono()
  app.get('/', (c) => c.json({ here: true }))
  app.get('/slow', async (c) => {
    begun.resolve()
    await go.promise
    return c.json({ slow: true })
  })
  return { app, begun: begun.promise, letGo: () => go.resolve() }
}

const get = (socketPath: string, path = '/', more: Partial<ClientRequest> = {}) =>
  request({ socketPath, method: 'GET', path, ...more })

/** Runs `work` with a path for a socket and a function that serves there; servers are closed afterwards. */
const withServers = (work: (socketPath: string, serve: (app?: Hono) => Promise<Server>) => Promise<void>) => () =>
  withScratch(async (folder) => {
    const servers: Server[] = []
    const socketPath = join(folder, 'run/socket')
    try {
      await work(socketPath, async (app = openApp().app) => {
        const server = await listen(app, socketPath)
        servers.push(server)
        return server
      })
    } finally {
      for (const server of servers) await close(server)
    }
  })

test(
  'listen() makes a socket that only root can use, in a folder that it makes, and leaves the umask as it was',
  withServers(async (socketPath, serve) => {
    const umask = process.umask()
    await serve()
    const node = await stat(socketPath)
    assert.ok(node.isSocket())
    assert.is(node.mode & 0o777, 0o600)
    assert.is(process.umask(), umask)
    assert.equal((await get(socketPath)).body, { here: true })
  }),
)

test(
  'listen() replaces the socket that a killed daemon left, and whatever else lies there',
  withServers(async (socketPath, serve) => {
    const leave: (() => Promise<unknown>)[] = [
      () => writeFile(socketPath, ''),
      () => symlink('/nowhere', socketPath),
      async () => {
        // A server that is closed takes its socket away, so the file gets a second name first.
        const dead = createServer().listen(`${socketPath}.dead`)
        await new Promise((resolve) => dead.once('listening', resolve))
        await rename(`${socketPath}.dead`, socketPath)
        await new Promise((resolve) => dead.close(resolve))
      },
    ]
    await mkdir(join(socketPath, '..'))
    for (const leaveOne of leave) {
      await leaveOne()
      assert.equal(await readdir(join(socketPath, '..')), ['socket'])
      const server = await serve()
      assert.equal((await get(socketPath)).body, { here: true })
      await close(server)
    }
  }),
)

test(
  'listen() that fails says where, and leaves the umask as it was',
  withServers(async (socketPath, serve) => {
    await mkdir(join(socketPath, 'inside'), { recursive: true })
    const umask = process.umask()
    await rejects('failed', new RegExp(`^Cannot listen on ${RegExp.escape(socketPath)}: `), () => serve())
    assert.is(process.umask(), umask)
    assert.equal(await readdir(socketPath), ['inside'])
  }),
)

test(
  'close() lets a running answer end, and takes the socket away',
  withServers(async (socketPath, serve) => {
    const { app, begun, letGo } = openApp()
    const server = await serve(app)
    const slow = get(socketPath, '/slow')
    await begun
    const closed = close(server)
    letGo()
    assert.equal((await slow).body, { slow: true })
    await closed
    assert.equal(await readdir(join(socketPath, '..')), [])
    assert.is((await thrownBy(ClientError, () => get(socketPath))).code, 'missing')
  }),
)

test(
  'a client that goes away in the middle harms nobody',
  withServers(async (socketPath, serve) => {
    const { app, begun, letGo } = openApp()
    await serve(app)
    const patience = new AbortController()
    const slow = get(socketPath, '/slow', { signal: patience.signal })
    await begun
    patience.abort()
    assert.is((await thrownBy(ClientError, () => slow)).code, 'aborted')
    letGo()
    assert.equal((await get(socketPath)).body, { here: true })
  }),
)

test('listenOn() serves on an address, and says which when it cannot', async () => {
  const { app } = openApp()
  const server = await listenOn(app, { host: '127.0.0.1', port: 0 })
  try {
    const { port } = server.address() as AddressInfo
    const answer = await fetch(`http://127.0.0.1:${port}/`)
    assert.equal(await answer.json(), { here: true })
    await rejects('failed', /^Cannot listen on 127\.0\.0\.1:[0-9]+: .*EADDRINUSE/, () =>
      listenOn(app, { host: '127.0.0.1', port }),
    )
  } finally {
    await close(server)
  }
})

/** Asks as a kubelet does, on a connection of its own. */
async function probe(port: number): Promise<number | undefined> {
  const [answer] = await once(requestHttp({ host: '127.0.0.1', port, agent: false }).end(), 'response')
  answer.resume()
  return answer.statusCode
}

test('a probe is answered however many connections others hold, silent, half asked or unread', async () => {
  const server = await listenOn(openApp().app, { host: '127.0.0.1', port: 0 })
  const { port } = server.address() as AddressInfo
  const held: Socket[] = []
  try {
    for (let i = 0; i < 600; i++) {
      const socket = connect(port, '127.0.0.1').on('error', () => {})
      held.push(socket)
      await once(socket, 'connect')
      const asks = ['', 'GET / HTTP/1.1\r\nHost:', 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'][i % 3] ?? ''
      socket.pause().write(asks)
      if (i % 100 === 99) assert.is(await probe(port), 200)
    }
  } finally {
    for (const socket of held) socket.destroy()
    await close(server)
  }
})

test('formatAddress() writes addresses as --http-address takes them', () => {
  assert.is(formatAddress({ port: 9810 }), ':9810')
  assert.is(formatAddress({ host: '127.0.0.1', port: 1 }), '127.0.0.1:1')
  assert.is(formatAddress({ host: '::1', port: 1 }), '[::1]:1')
})

test.run()
