import { chmod, mkdir, unlink } from 'node:fs/promises'
import type { Server } from 'node:http'
import { dirname } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import type { Hono } from 'hono'
import { hasErrno, messageOf, VolumeError } from '../volume/errors.ts'

/**
 * Serves `app` on a unix socket that only root can use. The caller holds the lock of that socket, so a file that is
 * there already was left behind and goes. Throws `failed`.
 */
export async function listen(app: Hono, socketPath: string): Promise<Server> {
  const server = createAdaptorServer({ fetch: app.fetch }) as Server
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

/** Ends the server after the answers that are under way; its socket goes with it. */
export async function close(server: Server): Promise<void> {
  await new Promise((resolve) => {
    server.close(resolve)
    server.closeIdleConnections()
  })
}
