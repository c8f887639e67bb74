import { closeSync, constants, openSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { makeFolders } from '../files.ts'
import { run } from '../run.ts'
import { messageOf, VolumeError, writeError } from '../volume/errors.ts'

export interface Lock {
  /** The files stay locked while any process has these open. */
  descriptors: readonly number[]
  release(): Promise<void>
}

const conflictExitCode = 75

/**
 * Takes the locks of the files, all or none (flock(2)), for as long as this process lives, and those that it gave its
 * `descriptors` to: the kernel frees them however they end, also across containers that share the files. Throws `busy` when
 * somebody holds one.
 */
export async function lockFiles(paths: readonly string[]): Promise<Lock> {
  // Plain descriptors, which no garbage collection closes.
  const descriptors: number[] = []
  const release = async () => {
    for (const descriptor of descriptors.splice(0)) closeSync(descriptor)
  }
  try {
    for (const path of paths) {
      const descriptor = await openFile(path)
      descriptors.push(descriptor)
      await lock(descriptor, paths)
    }
  } catch (error) {
    await release()
    throw error
  }
  return { descriptors, release }
}

/** By flock(1), which locks the open file that it is given: the lock is this process's, and stays when flock has ended. */
async function lock(descriptor: number, paths: readonly string[]): Promise<void> {
  // After standard input, output and error, which a program always has.
  const args = ['--nonblock', '--conflict-exit-code', String(conflictExitCode), '3']
  const { exitCode } = await run('flock', args, { accept: [conflictExitCode], keepOpen: [descriptor] }).catch(
    (error) => {
      throw new VolumeError('failed', `Cannot lock ${paths.join(', ')}: ${messageOf(error)}`, { cause: error })
    },
  )
  if (exitCode === conflictExitCode)
    throw new VolumeError('busy', `Cannot lock ${paths.join(', ')}: another process holds it.`)
}

/** Also where nothing can be written, if the file is there. */
async function openFile(path: string): Promise<number> {
  try {
    await makeFolders(dirname(path), 0o700)
    return openSync(path, constants.O_RDONLY | constants.O_CREAT, 0o600)
  } catch (error) {
    throw writeError(`Cannot make ${path}`, error)
  }
}

/** The file whose lock says who works on a node's volumes. */
export function volumesLockPath(volumesDir: string): string {
  return join(volumesDir, '.elastic-local', 'lock')
}
