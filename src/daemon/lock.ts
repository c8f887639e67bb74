import { spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Writable } from 'node:stream'
import { makeFolders } from '../files.ts'
import { commandEnv } from '../run.ts'
import { VolumeError, writeError } from '../volume/errors.ts'

export interface Lock {
  /** The files stay locked while any process has this open. */
  stream: Writable
  release(): Promise<void>
}

const conflictExitCode = 75

/**
 * Takes the locks of the files, all or none (flock(1)), for as long as this process lives, and those that it gave
 * `stream` to: the kernel frees them however they end, also across containers that share the files. Throws `busy` when
 * somebody holds one.
 */
export async function lockFiles(paths: readonly string[]): Promise<Lock> {
  for (const path of paths) await ensureFile(path)
  const args = paths.flatMap((path) => ['flock', '--nonblock', '--conflict-exit-code', String(conflictExitCode), path])
  // The holder ends with its standard input, so with this process; a group of its own keeps Ctrl-C from it.
  const holder = spawn(args[0] ?? '', [...args.slice(1), 'cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
    env: commandEnv(),
  })
  const ended = new Promise<void>((resolve) => holder.once('close', () => resolve()))
  await new Promise<void>((resolve, reject) => {
    holder.once('error', (error) =>
      reject(new VolumeError('failed', `Cannot lock ${paths.join(', ')}: ${error.message}`)),
    )
    holder.once('close', (exitCode) => {
      const busy = exitCode === conflictExitCode
      reject(
        new VolumeError(
          busy ? 'busy' : 'failed',
          `Cannot lock ${paths.join(', ')}: ${busy ? 'another process holds it' : `flock ended with ${exitCode}`}.`,
        ),
      )
    })
    holder.stdin.on('error', () => {})
    holder.stdout.once('data', () => resolve())
    holder.stdin.write('\n')
  })
  return {
    stream: holder.stdin,
    release: async () => {
      holder.stdin.end()
      await ended
    },
  }
}

/** Also where nothing can be written, if the file is there. */
async function ensureFile(path: string): Promise<void> {
  try {
    await makeFolders(dirname(path), 0o700)
    const file = await open(path, constants.O_RDONLY | constants.O_CREAT, 0o600)
    await file.close()
  } catch (error) {
    throw writeError(`Cannot make ${path}`, error)
  }
}

/** The file whose lock says who works on a node's volumes. */
export function volumesLockPath(volumesDir: string): string {
  return join(volumesDir, '.elastic-local', 'lock')
}
