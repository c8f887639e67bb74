import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { makeFolders } from '../files.ts'
import { run } from '../run.ts'
import { printable } from '../text/paint.ts'
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
      await lock(descriptor, path)
    }
  } catch (error) {
    await release()
    throw error
  }
  return { descriptors, release }
}

/** By flock(1), which locks the open file that it is given: the lock is this process's, and stays when flock has ended. */
async function lock(descriptor: number, path: string): Promise<void> {
  // After standard input, output and error, which a program always has.
  const args = ['--nonblock', '--conflict-exit-code', String(conflictExitCode), '3']
  const { exitCode } = await run('flock', args, { accept: [conflictExitCode], keepOpen: [descriptor] }).catch(
    (error) => {
      throw new VolumeError('failed', `Cannot lock ${path}: ${messageOf(error)}`, { cause: error })
    },
  )
  if (exitCode === conflictExitCode)
    throw new VolumeError('busy', `Cannot lock ${path}: ${findHolder(descriptor) ?? unseenHolder} holds it.`)
}

const unseenHolder = 'a process that is not visible from here, such as one of another container,'

/** The process that has the file of a descriptor locked: what the kernel tells of its open files (proc_pid_fdinfo(5)). */
function findHolder(descriptor: number): string | undefined {
  const { ino } = fstatSync(descriptor, { bigint: true })
  const isLock = new RegExp(`^lock:.* FLOCK .*:${ino} `, 'm')
  const pid = readFolder('/proc').find(
    (pid) =>
      /^[0-9]+$/.test(pid) &&
      readFolder(`/proc/${pid}/fdinfo`).some((name) => isLock.test(readText(`/proc/${pid}/fdinfo/${name}`))),
  )
  if (pid === undefined) return undefined
  const line = readText(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim()
  return `process ${pid} (${printable(line.length > longestLine ? `${line.slice(0, longestLine)}…` : line)})`
}

const longestLine = 80

/** Nothing of a process that has ended, or that this user may not look at. */
const unlessGone = <T>(work: () => T, otherwise: T): T => {
  try {
    return work()
  } catch {
    return otherwise
  }
}
const readFolder = (path: string) => unlessGone(() => readdirSync(path), [])
const readText = (path: string) => unlessGone(() => readFileSync(path, 'utf8'), '')

/** Also where nothing can be written, if the file is there. */
async function openFile(path: string): Promise<number> {
  try {
    await makeFolders(dirname(path), 0o700)
    return openSync(path, constants.O_RDONLY | constants.O_CREAT, 0o600)
  } catch (error) {
    throw writeError(`Cannot create ${path}`, error)
  }
}

/** The file whose lock says who works on a node's volumes. */
export function volumesLockPath(volumesDir: string): string {
  return join(volumesDir, '.elastic-local', 'lock')
}
