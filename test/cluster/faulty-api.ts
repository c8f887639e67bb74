/** A place between our programs and an API server, where requests meet what a bad network and a busy server do to them. */
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from 'node:http2'
import { Agent, request as requestHttps } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Random } from '../torture/random.ts'
import type { Cluster } from './cluster.ts'

/** What becomes of a request that is not a watch. */
export const requestFaults = [
  /** Somebody else changes the object first, or makes it: the API server itself answers 409. */
  'conflict',
  /** Nothing is done, and the answer is 429 with Retry-After, 500 or 503. */
  'busy',
  'broken',
  'away',
  /** The connection is cut when the API server has half of it. */
  'request-cut',
  /** It is done; the answer is lost, cut in half, or 504. */
  'reply-lost',
  'reply-cut',
  'reply-broken',
  /** Nothing is done, and nobody ever answers. */
  'silence',
] as const

/** What becomes of a watch: the latter three when it has gone on for a while. */
export const watchFaults = [
  'busy',
  'broken',
  'silence',
  /** 410, as an answer or as the first line. */
  'expired',
  'expired-later',
  'watch-closed',
  'watch-cut',
] as const

export type Fault = (typeof requestFaults)[number] | (typeof watchFaults)[number]

/** A request that passes. */
export interface Passing {
  method: string
  path: string
  isWatch: boolean
}

/** Decides on a request; while it has not decided, the request waits. */
export type Plan = (passing: Passing) => Fault | undefined | Promise<Fault | undefined>

/** That share of the requests, and most watches, meet a fault, of each kind as often; others come late. */
export function randomFaults(random: Random, share: number): Plan {
  const decks = { requests: buildDeck(random, requestFaults), watches: buildDeck(random, watchFaults) }
  return async ({ isWatch }) => {
    const isFaulty = random.chance(isWatch ? 0.9 : share)
    const lateMs = random.chance(share) ? random.below(1000) : 0
    const fault = isFaulty ? decks[isWatch ? 'watches' : 'requests']() : undefined
    await sleep(lateMs)
    return fault
  }
}

/** Deals each fault once and then as often, in any order; silence more rarely, as it takes a client its patience. */
function buildDeck(random: Random, kinds: readonly Fault[]): () => Fault {
  const others = kinds.filter((kind) => kind !== 'silence')
  const all = ['silence' as const, ...Array.from({ length: 5 }, () => others).flat()]
  let left = [...kinds]
  return () => {
    if (left.length === 0) left = [...all]
    const [fault = 'broken'] = left.splice(random.below(left.length), 1)
    return fault
  }
}

const longestWatchMs = 3000

/** Passes requests on to the API server of a cluster, with its own certificate. */
export class FaultyApi {
  plan: Plan = () => undefined
  /** What watches tell comes so late. */
  lagMs = 0
  /** All that came, and what became of it. */
  readonly passed: (Passing & { fault: Fault | undefined })[] = []
  readonly #target: { server: string; adminKubeconfig: string }
  readonly #agent: Agent
  readonly #listener: Http2SecureServer
  readonly #sockets = new Set<Socket>()
  #bytesOfClosed = 0

  private constructor(target: { server: string; adminKubeconfig: string }, cert: Buffer, key: Buffer) {
    this.#target = target
    this.#agent = new Agent({ ca: cert, keepAlive: true })
    this.#listener = createSecureServer({ cert, key }, (request, response) => {
      this.#serve(request, response).catch(() => response.destroy())
    })
    this.#listener.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => {
        this.#sockets.delete(socket)
        this.#bytesOfClosed += bytesOf(socket)
      })
    })
  }

  static async start(cluster: Pick<Cluster, 'server' | 'folder' | 'adminKubeconfig'>): Promise<FaultyApi> {
    const file = (name: string) => readFile(join(cluster.folder, 'data/certificates', name))
    const api = new FaultyApi(cluster, await file('apiserver.crt'), await file('apiserver.key'))
    // The certificate is for the address.
    api.#listener.listen(0, new URL(cluster.server).hostname)
    await once(api.#listener, 'listening')
    return api
  }

  get server(): string {
    const { address, port } = this.#listener.address() as AddressInfo
    return `https://${address}:${port}`
  }

  /** What went over the wire, in both directions. */
  get bytes(): number {
    return [...this.#sockets].reduce((sum, socket) => sum + bytesOf(socket), this.#bytesOfClosed)
  }

  /** Has a kubeconfig lead here. */
  async redirect(kubeconfig: string): Promise<void> {
    const text = await readFile(kubeconfig, 'utf8')
    await writeFile(kubeconfig, text.replaceAll(this.#target.server, this.server))
  }

  /** Cuts all connections that there are. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  close(): void {
    this.#listener.close()
    this.cutAll()
    this.#agent.destroy()
  }

  async #serve(request: Http2ServerRequest, response: Http2ServerResponse): Promise<void> {
    const { method, url } = request
    const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => !name.startsWith(':')))
    const { pathname: path, searchParams } = new URL(url, this.#target.server)
    const passing = { method, path, isWatch: searchParams.get('watch') === 'true' }
    const body = await buffer(request)
    const fault = await this.plan(passing)
    this.passed.push({ ...passing, fault })
    const pass = () => this.#pass(method, url, headers, body)
    switch (fault) {
      case 'busy':
        return refuse(response, 429, 'TooManyRequests')
      case 'broken':
        return refuse(response, 500, 'InternalError')
      case 'away':
        return refuse(response, 503, 'ServiceUnavailable')
      case 'silence':
        return
      case 'request-cut':
        await this.#passHalf(method, url, headers, body)
        return void response.destroy()
      case 'expired':
        return refuse(response, 410, 'Expired')
      case 'conflict':
        if (method === 'POST') await buffer(await pass())
        else if (method !== 'GET') await this.#touch(path)
        break
    }
    const answer = await pass()
    if (passing.isWatch) return await this.#passWatch(answer, response, fault)
    const bytes = await buffer(answer)
    switch (fault) {
      case 'reply-lost':
        return void response.destroy()
      case 'reply-broken':
        return refuse(response, 504, 'Timeout')
    }
    response.writeHead(answer.statusCode ?? 0, { 'content-type': 'application/json', 'content-length': bytes.length })
    if (fault === 'reply-cut') response.write(bytes.subarray(0, Math.ceil(bytes.length / 2)), () => response.destroy())
    else response.end(bytes)
  }

  async #pass(method: string, url: string, headers: Record<string, unknown>, body: Buffer): Promise<IncomingMessage> {
    const call = this.#call(method, url, headers)
    call.end(body)
    const [response] = (await once(call, 'response')) as [IncomingMessage]
    return response
  }

  async #passHalf(method: string, url: string, headers: Record<string, unknown>, body: Buffer): Promise<void> {
    const call = this.#call(method, url, headers)
    await new Promise((resolve) => call.write(body.subarray(0, body.length / 2), resolve))
    call.destroy()
  }

  #call(method: string, url: string, headers: Record<string, unknown>) {
    const options = { method, agent: this.#agent, headers: headers as Record<string, string> }
    const call = requestHttps(`${this.#target.server}${url}`, options)
    call.on('error', () => {})
    return call
  }

  async #passWatch(answer: IncomingMessage, response: Http2ServerResponse, fault: Fault | undefined): Promise<void> {
    response.once('close', () => answer.destroy())
    response.writeHead(answer.statusCode ?? 0, { 'content-type': 'application/json' })
    const timer = fault && setTimeout(() => endWatch(response, fault), Math.random() * longestWatchMs)
    response.once('close', () => clearTimeout(timer))
    let told = Promise.resolve()
    answer.on('error', () => response.destroy())
    answer.on('data', (chunk: Buffer) => {
      const at = performance.now()
      told = told.then(async () => {
        await sleep(Math.max(0, at + this.lagMs - performance.now()))
        if (!response.writableEnded) response.write(chunk)
      })
    })
    answer.once('end', () => told.then(() => response.end()))
  }

  /** Changes an object as somebody else would. */
  async #touch(path: string): Promise<void> {
    const { users } = JSON.parse(await readFile(this.#target.adminKubeconfig, 'utf8'))
    const headers = {
      authorization: `Bearer ${users[0].user.token}`,
      'content-type': 'application/merge-patch+json',
    }
    const annotations = { 'test/touched': `${this.passed.length}` }
    const body = Buffer.from(JSON.stringify({ metadata: { annotations } }))
    await buffer(await this.#pass('PATCH', path.replace(/\/status$/, ''), headers, body))
  }
}

const bytesOf = ({ bytesRead, bytesWritten }: Socket) => bytesRead + bytesWritten

function buildStatus(code: number, reason: string): string {
  return JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message: 'a fault' })
}

function refuse(response: Http2ServerResponse, code: number, reason: string): void {
  const retry = code === 429 ? { 'retry-after': '1' } : {}
  response.writeHead(code, { 'content-type': 'application/json', ...retry }).end(buildStatus(code, reason))
}

function endWatch(response: Http2ServerResponse, fault: Fault): void {
  if (fault === 'expired-later') response.end(`{"type":"ERROR","object":${buildStatus(410, 'Expired')}}\n`)
  else if (fault === 'watch-cut') response.write('{"type":"MODIF', () => response.destroy())
  else response.end()
}
