import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import type { Hono } from 'hono'
import { messageOf, VolumeError } from '../volume/errors.ts'
import { listenOnSocket } from './socket.ts'

/** A request must be there in full so soon; the answer may take as long as the work does. */
const limits: ServerOptions = { headersTimeout: 10_000, requestTimeout: 30_000, connectionsCheckingInterval: 1000 }
/** A connection that nothing goes through, not even the sign of life of work under way, is closed. */
const stillMs = 30_000
/** Time to read the last answers of a server that ends. */
const readingMs = 2000
/**
 * How many connections there may be, and how many of them on which nobody waits for an answer: of those, more than can
 * come before the first is looked at. A kubelet needs one a call-out; those who watch need a few.
 */
const usualConnections = { most: 5000, unneeded: 1000 }
const watchingConnections = { most: 200, unneeded: 100 }

/** The connections of each server, oldest first, with what is asked there. */
const connections = new WeakMap<
  Server,
  Map<Socket, { request: IncomingMessage; response: ServerResponse } | undefined>
>()

/** Serves `app` on a unix socket that only root can use; the caller holds its lock. Throws `failed`. */
export async function listen(app: Hono, socketPath: string): Promise<Server> {
  const server = createServer(app, usualConnections)
  await listenOnSocket(server, socketPath)
  return server
}

/** Where a server listens: on all addresses of the machine, or the pod, when no host is named. */
export interface Address {
  host?: string
  port: number
}

/** Serves `app` to whoever reaches the address. Throws `failed`. */
export async function listenOn(app: Hono, address: Address): Promise<Server> {
  const server = createServer(app, watchingConnections)
  try {
    await listening(server, address)
  } catch (error) {
    throw new VolumeError('failed', `Cannot listen on ${formatAddress(address)}: ${messageOf(error)}`, { cause: error })
  }
  return server
}

/** `127.0.0.1:9810`, `[::1]:9810`, or `:9810` for all addresses. */
export function formatAddress({ host = '', port }: Address): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

function createServer(app: Hono, connections: typeof usualConnections): Server {
  const server = createAdaptorServer({ fetch: app.fetch, serverOptions: limits }) as Server
  limitConnections(server, connections)
  return server
}

async function listening(server: Server, where: Address): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(where, resolve)
  })
}

/** Makes room for whoever comes where nobody waits for an answer, so that holding connections keeps nobody out. */
function limitConnections(server: Server, { most, unneeded }: typeof usualConnections): void {
  const open: NonNullable<ReturnType<typeof connections.get>> = new Map()
  connections.set(server, open)
  server.timeout = stillMs
  server.maxConnections = most
  server.on('connection', (socket: Socket) => {
    open.set(socket, undefined)
    socket.once('close', () => open.delete(socket))
    if (open.size <= unneeded) return
    const found = [...findUnneeded(server)]
    if (found.length > unneeded) found[0]?.destroy()
  })
  server.on('request', (request, response) => {
    open.set(request.socket, { request, response })
  })
}

/** Connections on which no whole request waits for its answer, oldest first. */
function* findUnneeded(server: Server): Generator<Socket> {
  for (const [socket, asked] of connections.get(server) ?? [])
    if (!asked?.request.complete || asked.response.writableEnded) yield socket
}

/** Ends the server after the answers that are under way, if somebody reads them; its socket goes with it. */
export async function close(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve))
  for (const socket of findUnneeded(server)) if (!socket.writableLength) socket.destroy()
  const timer = setTimeout(() => server.closeAllConnections(), readingMs)
  await closed
  clearTimeout(timer)
}
