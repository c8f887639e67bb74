import { chmod, mkdir, unlink } from 'node:fs/promises'
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { dirname } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import type { Hono } from 'hono'
import { hasErrno, messageOf, VolumeError } from '../volume/errors.ts'

/** A request must be there in full so soon; the answer may take as long as the work does. */
const limits: ServerOptions = { headersTimeout: 10_000, requestTimeout: 30_000, connectionsCheckingInterval: 1000 }
/** A connection that nothing goes through, not even the sign of life of work under way, is closed. */
const stillMs = 30_000
/** Time to read the last answers of a server that ends. */
const readingMs = 2000
/** So many connections are kept on which nobody waits for an answer: more than can come before the first is looked at. */
const mostUnneeded = 1000
/** A kubelet needs one a call-out. */
const mostConnections = 5000

/** The connections of each server, oldest first, with what is asked there. */
const connections = new WeakMap<
  Server,
  Map<Socket, { request: IncomingMessage; response: ServerResponse } | undefined>
>()

/**
 * Serves `app` on a unix socket that only root can use. The caller holds the lock of that socket, so a file that is
 * there already was left behind and goes. Throws `failed`.
 */
export async function listen(app: Hono, socketPath: string): Promise<Server> {
  const server = createAdaptorServer({ fetch: app.fetch, serverOptions: limits }) as Server
  limitConnections(server)
  const umask = process.umask()
  try {
    await mkdir(dirname(socketPath), { recursive: true, mode: 0o755 })
    process.umask(0o177)
    await unlink(socketPath).catch((error) => {
      if (!hasErrno(error, 'ENOENT')) throw error
    })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(socketPath, resolve)
    })
    await chmod(socketPath, 0o600)
  } catch (error) {
    throw new VolumeError('failed', `Cannot listen on ${socketPath}: ${messageOf(error)}`, { cause: error })
  } finally {
    process.umask(umask)
  }
  return server
}

/** Makes room for whoever comes where nobody waits for an answer, so that holding connections keeps nobody out. */
function limitConnections(server: Server): void {
  const open: NonNullable<ReturnType<typeof connections.get>> = new Map()
  connections.set(server, open)
  server.timeout = stillMs
  server.maxConnections = mostConnections
  server.on('connection', (socket: Socket) => {
    open.set(socket, undefined)
    socket.once('close', () => open.delete(socket))
    if (open.size <= mostUnneeded) return
    const unneeded = [...findUnneeded(server)]
    if (unneeded.length > mostUnneeded) unneeded[0]?.destroy()
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
