import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2'
import { createServer as createTlsServer } from 'node:https'
import {
  type AddressInfo,
  createServer as createNetwork,
  connect as dial,
  type Server as NetServer,
  type Socket,
} from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { KubeConfig } from '@kubernetes/client-node'
import * as assert from 'uvu/assert'
import { withScratch } from '../../../test/scratch.ts'
import { suite } from '../../../test/suite.ts'
import { thrownBy } from '../../../test/thrown.ts'
import { ApiClient, ApiError, findKubeConfig, hasStatus, observeApi, orMissing } from './api.ts'

const test = suite('api client')
const patientMs = { requestMs: 60_000, watchIdleMs: 60_000, pingMs: 60_000 }
const fixtures = join(import.meta.dirname, 'fixtures')
const path = '/api/v1/nodes'

type Http2Listener = (request: Http2ServerRequest, response: Http2ServerResponse) => void

const servers: NetServer[] = []
const sockets = new Set<Socket>()
const cutAll = () => {
  for (const socket of sockets) socket.destroy()
}
test.after.each(async () => {
  cutAll()
  sockets.clear()
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))))
})

async function listen(server: NetServer): Promise<number> {
  servers.push(server)
  server.on('connection', (socket: Socket) => sockets.add(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

function connect(server: string, more: { caData?: string; proxyUrl?: string } = {}, times = patientMs): ApiClient {
  const config = new KubeConfig()
  const skipTLSVerify = server.startsWith('http:')
  config.loadFromClusterAndUser({ name: 'c', server, skipTLSVerify, ...more }, { name: 'u', token: 'secret' })
  return new ApiClient(config, times)
}

const [key, cert] = await Promise.all(['localhost.key', 'localhost.crt'].map((file) => readFile(join(fixtures, file))))
const trust = { caData: (cert as Buffer).toString('base64') }

/** A client of an API server that answers as `listener` says. */
type Serve = (listener: RequestListener, times?: typeof patientMs, base?: string) => Promise<ApiClient>
const protocols: Record<string, Serve> = {
  'HTTP/1.1': async (listener, times, base = '') =>
    connect(`http://127.0.0.1:${await listen(createServer(listener))}${base}`, {}, times),
  'HTTP/2': async (listener, times, base = '') => {
    const server = createSecureServer({ key, cert }, listener as unknown as Http2Listener)
    return connect(`https://127.0.0.1:${await listen(server)}${base}`, trust, times)
  },
}

function testBoth(title: string, work: (serve: Serve) => Promise<void>): void {
  for (const [protocol, serve] of Object.entries(protocols)) test(`${title} (${protocol})`, () => work(serve))
}

const fails = (work: () => unknown) => thrownBy(ApiError, work)

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

testBoth('send() sends what is asked with the credentials, and gives the answer', async (serve) => {
  const seen: unknown[] = []
  const client = await serve(
    async (request: IncomingMessage, response) => {
      const { method, url, headers } = request
      seen.push([method, url, headers['content-type'], headers.authorization, await text(request)])
      answer(response, 201, { ok: 'ä' })
    },
    patientMs,
    '/behind/a/proxy/',
  )
  assert.equal(await client.send({ method: 'GET', path, query: { labelSelector: 'a=b,c' } }), { ok: 'ä' })
  await client.send({ method: 'POST', path, body: { name: 'ö' } })
  await client.send({ method: 'PATCH', path: `${path}/n`, body: { a: null } })
  const token = 'Bearer secret'
  assert.equal(seen, [
    ['GET', '/behind/a/proxy/api/v1/nodes?labelSelector=a%3Db%2Cc', undefined, token, ''],
    ['POST', '/behind/a/proxy/api/v1/nodes', 'application/json', token, '{"name":"ö"}'],
    ['PATCH', '/behind/a/proxy/api/v1/nodes/n', 'application/merge-patch+json', token, '{"a":null}'],
  ])
})

test('a token of a file that is replaced is read anew, also after the clock was set back', () =>
  withScratch(async (folder) => {
    const tokenFile = join(folder, 'token')
    await writeFile(tokenFile, 'old\n')
    let valid = 'Bearer old'
    const listener: RequestListener = ({ headers }, response) =>
      answer(response, headers.authorization === valid ? 200 : 401, {})
    const config = new KubeConfig()
    const server = `http://127.0.0.1:${await listen(createServer(listener))}`
    const authProvider = { name: 'tokenFile', config: { tokenFile } }
    config.loadFromClusterAndUser({ name: 'c', server, skipTLSVerify: true }, { name: 'u', authProvider })
    const client = new ApiClient(config, patientMs)
    await client.send({ method: 'GET', path })
    await writeFile(tokenFile, 'new\n')
    valid = 'Bearer new'
    const { now } = Date
    const RealDate = Date
    globalThis.Date = class extends RealDate {
      constructor() {
        super(now() - 3_600_000)
      }
    } as DateConstructor
    try {
      await fails(() => client.send({ method: 'GET', path }))
      await client.send({ method: 'GET', path })
    } finally {
      globalThis.Date = RealDate
    }
  }))

test('a context of a cluster that the kubeconfig does not have is told of', () =>
  withScratch(async (folder) => {
    const file = join(folder, 'config')
    const contexts = [{ name: 'x', context: { cluster: 'gone', user: 'u' } }]
    await writeFile(file, JSON.stringify({ clusters: [], users: [{ name: 'u', user: {} }], contexts }))
    assert.throws(
      () => findKubeConfig(file, { context: 'x' }),
      /^Cannot find the API server as context x of the kubeconfig is of cluster gone, which is not in it\.$/,
    )
  }))

test('in a pod, the kubectl plugin goes by the kubeconfig that its user has, and the components by their account', () =>
  withScratch(async (folder) => {
    const before = { ...process.env }
    const file = join(folder, 'config')
    const cluster = { name: 'c', cluster: { server: 'https://chosen' } }
    const context = { name: 'x', context: { cluster: 'c', user: 'u' } }
    const users = [{ name: 'u', user: {} }]
    const config = { clusters: [cluster], users, contexts: [context], 'current-context': 'x' }
    await writeFile(file, JSON.stringify(config))
    try {
      Object.assign(process.env, {
        KUBECONFIG: file,
        KUBERNETES_SERVICE_HOST: '10.0.0.1',
        KUBERNETES_SERVICE_PORT: '443',
      })
      assert.is(findKubeConfig(undefined, { asKubectl: true }).getCurrentCluster()?.server, 'https://chosen')
      assert.is(findKubeConfig(undefined).getCurrentCluster()?.server, 'https://10.0.0.1:443')
      Object.assign(process.env, { KUBECONFIG: '', HOME: folder })
      assert.is(findKubeConfig(undefined, { asKubectl: true }).getCurrentCluster()?.server, 'https://10.0.0.1:443')
    } finally {
      process.env = before
    }
  }))

testBoth('a refusal has its status, its reason, and the words of the API server', async (serve) => {
  const client = await serve((_, response) =>
    answer(response, 409, { kind: 'Status', reason: 'AlreadyExists', message: 'nodes "n" already exists' }),
  )
  const error = await fails(() => client.send({ method: 'POST', path, body: {} }))
  assert.is(error.message, 'POST /api/v1/nodes was refused (409): nodes "n" already exists')
  assert.equal([error.status, error.reason], [409, 'AlreadyExists'])
  assert.ok(hasStatus(error, 404, 409))
  assert.not(hasStatus(error, 404))
})

testBoth(
  'a refusal says how long the API server wants to be left alone, in whole seconds and nothing else',
  async (serve) => {
    for (const [said, ms] of [
      ['3', 3000],
      ['Wed, 21 Oct 2026 07:28:00 GMT', 0],
      [undefined, 0],
    ] as const) {
      const client = await serve((_, response) => response.writeHead(429, said ? { 'retry-after': said } : {}).end())
      assert.is((await fails(() => client.send({ method: 'GET', path }))).retryAfterMs, ms)
    }
  },
)

testBoth('a refusal by something in between is told in its words, cut short', async (serve) => {
  const client = await serve((_, response) => response.writeHead(502).end(`<html>${'x'.repeat(5000)}`))
  const error = await fails(() => client.send({ method: 'GET', path }))
  assert.match(error.message, /^GET \/api\/v1\/nodes was refused \(502\): <html>x+$/)
  assert.ok(error.message.length < 300)
  assert.equal([error.status, error.reason], [502, ''])
})

testBoth('orMissing() takes only 404 for nothing', async (serve) => {
  const client = await serve((request, response) => answer(response, request.url?.endsWith('gone') ? 404 : 403, {}))
  assert.is(await orMissing(client.send({ method: 'GET', path: `${path}/gone` })), undefined)
  assert.is((await fails(() => orMissing(client.send({ method: 'GET', path })))).status, 403)
})

for (const [title, listener] of [
  ['is closed', (request: IncomingMessage) => request.socket.destroy()],
  [
    'is closed in the middle of the answer',
    (_: unknown, response: ServerResponse) => {
      response.writeHead(200, { 'content-length': 100 }).write('{"kind":', () => response.destroy())
    },
  ],
  ['brings half a document', (_: unknown, response: ServerResponse) => response.writeHead(200).end('{"kind":')],
  ['brings garbage', (_: unknown, response: ServerResponse) => response.writeHead(200).end('<html>')],
] as [string, RequestListener][])
  testBoth(`nobody knows whether a request was carried out when the connection ${title}`, async (serve) => {
    const client = await serve(listener)
    const error = await fails(() => client.send({ method: 'POST', path, body: {} }))
    assert.match(error.message, /^Cannot reach the API server for POST \/api\/v1\/nodes: ./)
    assert.is(error.status, 0)
  })

testBoth('a request whose answer does not come, or not to an end, fails after its time', async (serve) => {
  const client = await serve(
    (request, response) => {
      if (request.url?.endsWith('half')) response.writeHead(200).write('{"kind":')
    },
    { ...patientMs, requestMs: 100 },
  )
  for (const end of ['', '/half']) {
    const error = await fails(() => client.send({ method: 'GET', path: `${path}${end}` }))
    assert.match(error.message, /^Cannot reach the API server for GET .*(timeout|abort)/)
    assert.is(error.status, 0)
  }
})

test('an API server that is not there is not reached', async () => {
  const port = await listen(createServer())
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))))
  const client = connect(`http://127.0.0.1:${port}`)
  assert.match((await fails(() => client.send({ method: 'GET', path }))).message, /ECONNREFUSED/)
  const watch = client.watch(path, {}, new AbortController().signal)
  assert.is((await fails(() => watch[Symbol.asyncIterator]().next())).status, 0)
})

async function collect(client: ApiClient, signal = new AbortController().signal): Promise<string[]> {
  const names: string[] = []
  for await (const { type, object } of client.watch(path, { resourceVersion: '5' }, signal))
    names.push(`${type} ${'metadata' in object ? object.metadata?.name : ''}`)
  return names
}

const line = (type: string, name: string) => `${JSON.stringify({ type, object: { metadata: { name } } })}\n`

testBoth('watch() gives each line, however the bytes come', async (serve) => {
  const bytes = Buffer.from(`${line('ADDED', 'ä€😀')}\n${line('MODIFIED', 'b')}${line('DELETED', 'c')}`)
  let url = ''
  const client = await serve(async (request, response) => {
    url = request.url ?? ''
    response.writeHead(200)
    for (const byte of bytes) await new Promise((resolve) => response.write(Uint8Array.of(byte), resolve))
    response.end()
  })
  assert.equal(await collect(client), ['ADDED ä€😀', 'MODIFIED b', 'DELETED c'])
  assert.is(url, '/api/v1/nodes?resourceVersion=5&watch=true')
})

testBoth('watch() throws what the API server refuses it with', async (serve) => {
  const client = await serve((_, response) => answer(response, 410, { reason: 'Expired', message: 'too old' }))
  const error = await fails(() => collect(client))
  assert.equal([error.status, error.reason], [410, 'Expired'])
})

testBoth(
  'watch() gives what came, and then throws, when the connection breaks, is silent, or brings garbage',
  async (serve) => {
    for (const end of ['break', 'silent', 'garbage', 'half']) {
      const client = await serve(
        (_, response) => {
          response.writeHead(200).write(line('ADDED', 'a'), () => {
            if (end === 'break') cutAll()
            if (end === 'garbage') response.end('<html>\n')
            if (end === 'half') response.end('{"type":"ADD')
          })
        },
        { ...patientMs, watchIdleMs: 100 },
      )
      const seen: string[] = []
      const error = await fails(async () => {
        for await (const { type } of client.watch(path, {}, new AbortController().signal)) seen.push(type)
      })
      assert.equal(seen, ['ADDED'], end)
      assert.is(error.status, 0)
      if (end === 'silent') assert.match(error.message, /nothing was received for 100 ms/)
      assert.is(error.reason, end === 'silent' ? 'Silent' : '')
    }
  },
)

testBoth('watch() throws when nobody answers it', async (serve) => {
  const client = await serve(() => {}, { ...patientMs, requestMs: 100 })
  const error = await fails(() => collect(client))
  assert.match(error.message, /^Cannot reach the API server for GET .*no answer within 100 ms/)
  assert.is(error.status, 0)
})

testBoth('watch() that was answered goes on for longer than a request may take', async (serve) => {
  const client = await serve(
    async (_, response) => {
      response.writeHead(200).write(line('ADDED', 'a'))
      setTimeout(() => response.end(line('ADDED', 'b')), 300)
    },
    { ...patientMs, requestMs: 100 },
  )
  assert.equal(await collect(client), ['ADDED a', 'ADDED b'])
})

testBoth('watch() ends when it is told to, also before anything came, and lets the connection go', async (serve) => {
  for (const begins of [true, false]) {
    const [asked, closed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const client = await serve((request, response) => {
      request.socket.once('close', () => closed.resolve())
      if (begins) response.writeHead(200).write('\n')
      asked.resolve()
    })
    const abort = new AbortController()
    const watching = fails(() => collect(client, abort.signal))
    await asked.promise
    abort.abort()
    assert.is((await watching).status, 0)
    await closed.promise
  }
})

testBoth('watch() lets the connection go when its reader stops', async (serve) => {
  const closed = Promise.withResolvers<void>()
  const client = await serve((request, response) => {
    request.socket.once('close', () => closed.resolve())
    response.writeHead(200).write(line('ADDED', 'a'))
  })
  for await (const _ of client.watch(path, {}, new AbortController().signal)) break
  await closed.promise
})

test('over TLS the certificate must be of the given authority', async () => {
  const port = await listen(createSecureServer({ key, cert }))
  const error = await fails(() => connect(`https://127.0.0.1:${port}`).send({ method: 'POST', path, body: {} }))
  assert.match(error.message, /self-signed certificate/)
  assert.is(error.status, 0)
})

test('watches and requests share one connection', async () => {
  const client = await protocols['HTTP/2']?.((request, response) => {
    if (request.url?.includes('watch')) response.writeHead(200).write(line('ADDED', 'a'))
    else answer(response, 200, { ok: true })
  })
  assert.ok(client)
  const watch = client.watch(path, {}, new AbortController().signal)
  await watch.next()
  const asked = Array.from({ length: 50 }, () => client.send({ method: 'GET', path }))
  for (const found of await Promise.all(asked)) assert.equal(found, { ok: true })
  assert.is(sockets.size, 1)
  await watch.return(undefined)
})

test('where HTTP/2 is not spoken, requests over TLS do not wait for a watch', async () => {
  const server = createTlsServer({ key, cert }, (request, response) => {
    if (request.url?.includes('watch')) response.writeHead(200).write(line('ADDED', 'a'))
    else answer(response, 200, { ok: true })
  })
  const client = connect(`https://127.0.0.1:${await listen(server)}`, trust)
  const watch = client.watch(path, {}, new AbortController().signal)
  await watch.next()
  for (let times = 0; times < 10; times += 1) assert.equal(await client.send({ method: 'GET', path }), { ok: true })
  // They are kept: the watch has one, and the requests, one after the other, have not one each.
  assert.ok(sockets.size <= 3, `${sockets.size} connections`)
  await watch.return(undefined)
})

test('a connection that the API server is about to close brings what was asked; the next request opens another', async () => {
  const heard = Promise.withResolvers<() => void>()
  const server = createSecureServer({ key, cert }, (request, response) => {
    const end = () => response.end('{"ok":true}')
    if (request.method === 'GET') return void end()
    // As Go's server does: whatever is under way may end.
    response.stream.session?.goaway(0, 2 ** 31 - 1)
    response.stream.session?.once('goaway', () => heard.resolve(end))
  })
  const client = connect(`https://127.0.0.1:${await listen(server)}`, trust)
  const get = () => client.send({ method: 'GET', path })
  await get()
  const posted = client.send({ method: 'POST', path, body: {} })
  const release = await heard.promise
  await get()
  assert.is(sockets.size, 2)
  release()
  assert.equal(await posted, { ok: true })
})

test('a connection on which nothing comes any more is given up, with all that was asked on it', async () => {
  const port = await listen(
    createSecureServer({ key, cert }, (_, response) => response.writeHead(200).write(line('ADDED', 'a'))),
  )
  let isCut = false
  const network = createNetwork((near) => {
    const far = dial(port, '127.0.0.1')
    sockets.add(far)
    near.on('data', (bytes) => isCut || far.write(bytes))
    far.on('data', (bytes) => isCut || near.write(bytes))
  })
  const times = { ...patientMs, pingMs: 100 }
  const client = connect(`https://127.0.0.1:${await listen(network)}`, trust, times)
  const watch = client.watch(path, {}, new AbortController().signal)
  await watch.next()
  isCut = true
  const lost = [fails(() => watch.next()), fails(() => client.send({ method: 'GET', path }))]
  for (const error of await Promise.all(lost)) {
    assert.match(error.message, /unresponsive/)
    assert.is(error.status, 0)
  }
  isCut = false
  await client.watch(path, {}, new AbortController().signal).next()
})

test('requests and watches go through the proxy that the kubeconfig names', async () => {
  const server = createSecureServer({ key, cert, allowHTTP1: true }, (request, response) => {
    if (request.url?.includes('watch')) response.writeHead(200).write(line('ADDED', 'a'))
    else response.end('{"ok":true}')
  })
  const port = await listen(server)
  const asked: string[] = []
  const proxy = createServer().on('connect', ({ url = '' }, near) => {
    asked.push(url)
    const far = dial(port, '127.0.0.1', () => near.write('HTTP/1.1 200 OK\r\n\r\n'))
    sockets.add(far)
    near
      .on('error', () => far.destroy())
      .pipe(far)
      .pipe(near)
  })
  const proxyUrl = `http://127.0.0.1:${await listen(proxy)}`
  const client = connect(`https://127.0.0.1:${port}`, { ...trust, proxyUrl })
  const watch = client.watch(path, {}, new AbortController().signal)
  await watch.next()
  assert.equal(await client.send({ method: 'POST', path, body: {} }), { ok: true })
  assert.equal([...new Set(asked)], [`127.0.0.1:${port}`])
  await watch.return(undefined)
})

test('credentials that cannot be had are an error of the same kind', async () => {
  const config = new KubeConfig()
  const server = `http://127.0.0.1:${await listen(createServer())}`
  config.loadFromClusterAndUser(
    { name: 'c', server, skipTLSVerify: true },
    { name: 'u', authProvider: { name: 'none-of-these', config: {} }, certFile: '/no/such/file' },
  )
  assert.is((await fails(() => new ApiClient(config, patientMs).send({ method: 'GET', path }))).status, 0)
})

test('observeApi() tells of each request, with the status of what was refused', async () => {
  const told: string[] = []
  const answers = [async () => 1, async () => Promise.reject(new ApiError('', { status: 409 }))]
  const away = async () => Promise.reject(new ApiError('', { status: 0 }))
  const send = async () => (await (answers.shift() ?? away)()) as never
  const watch = async function* () {}
  const api = observeApi({ send, watch }, ({ what, about, result }) => told.push(`${what} ${about}: ${result}`))
  assert.is(await api.send({ method: 'GET', path }), 1)
  assert.is((await fails(() => api.send({ method: 'PATCH', path }))).status, 409)
  assert.is((await fails(() => api.send({ method: 'GET', path }))).status, 0)
  for await (const _ of api.watch(path, {}, new AbortController().signal)) assert.unreachable()
  assert.equal(told, [`GET ${path}: success`, `PATCH ${path}: 409`, `GET ${path}: unanswered`])
})

test.run()
