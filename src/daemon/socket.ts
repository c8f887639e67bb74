import { once } from 'node:events'
import { chmod, stat, unlink } from 'node:fs/promises'
import type { Server } from 'node:net'
import { dirname } from 'node:path'
import { makeFolders } from '../files.ts'
import { hasErrno, VolumeError, writeError } from '../volume/errors.ts'

/** The longest path of a socket, in bytes (unix(7)). */
const longestPath = 107

/** Throws `invalid` for a path at which there can be no socket. */
export function checkSocketPath(socketPath: string): void {
  const bytes = Buffer.byteLength(socketPath)
  if (bytes > longestPath)
    throw new VolumeError(
      'invalid',
      `Cannot listen on ${socketPath} as the path of a socket must have at most ${longestPath} bytes: it has ${bytes}.`,
    )
}

/**
 * Has `server` listen on a unix socket that only root can use. The caller holds the lock of that socket, so a file that is
 * there already was left behind and goes. Throws `failed`.
 */
export async function listenOnSocket(server: Server, socketPath: string): Promise<void> {
  try {
    await makeFolders(dirname(socketPath), 0o755)
    await removeSocket(socketPath)
    const listening = once(server, 'listening')
    // The socket is made before listen() returns; what others make meanwhile is not to be closed to all.
    const umask = process.umask(0o177)
    try {
      server.listen({ path: socketPath })
    } finally {
      process.umask(umask)
    }
    await listening
    await chmod(socketPath, 0o600)
  } catch (error) {
    throw writeError(`Cannot listen on ${socketPath}`, error)
  }
}

/** Takes a socket's name away, so that nobody comes by it any more; nothing to do when it has none. */
export async function removeSocket(socketPath: string): Promise<void> {
  await unlink(socketPath).catch((error) => {
    if (!hasErrno(error, 'ENOENT')) throw error
  })
}

/** Looks whether the socket at that path is still the one that was made there: a new start makes it anew. */
export async function watchSocket(socketPath: string): Promise<() => Promise<string | undefined>> {
  const inode = async () => (await stat(socketPath).catch(() => undefined))?.ino
  const own = await inode()
  return async () => ((await inode()) === own ? undefined : `its socket ${socketPath} was removed or replaced`)
}
