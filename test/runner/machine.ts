/** What suites need of the machine, each found out once, before the first test: a failure is one line. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../../src/run.ts'
import { messageOf } from '../../src/volume/errors.ts'
import { createDisk, runInGuest } from '../guest/guest.ts'

/** Remembers how it ended. */
function once(check: () => Promise<void>): () => Promise<void> {
  let result: Promise<void> | undefined
  return () => {
    result ??= check()
    return result
  }
}

/** The first line of what went wrong. */
const reasonOf = (error: unknown) => messageOf(error).split('\n')[0]

/** Mounts, and networks of a test's own. */
export const canIsolate = once(async () => {
  if (process.getuid?.() !== 0) throw new Error('the user must be root')
  try {
    await run('unshare', ['--mount', '--net', '--pid', '--fork', '--', 'true'])
  } catch (error) {
    throw new Error(`this machine must let root make namespaces: ${reasonOf(error)}`)
  }
})

/** A filesystem of each kind, on a loop device. */
export const canUseLoops = once(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'elastic-local-machine-'))
  try {
    for (const fsType of ['ext4', 'xfs', 'btrfs']) {
      const [disk, target] = [join(folder, fsType), join(folder, 'mount')]
      await createDisk(disk, 512 * 2 ** 20)
      await run(`mkfs.${fsType}`, ['-q', disk])
      const script = 'mkdir -p "$2" && mount -o loop "$1" "$2" && umount "$2"'
      await run('unshare', ['--mount', '--propagation', 'private', '--', 'sh', '-ec', script, 'sh', disk, target])
    }
  } catch (error) {
    throw new Error(`this kernel must mount images of ext4, xfs and btrfs: ${reasonOf(error)}`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})

/** A guest that boots and runs LVM. */
export const canBootGuest = once(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'elastic-local-machine-'))
  try {
    const disk = join(folder, 'disk')
    await createDisk(disk, 64 * 2 ** 20)
    const program = join(import.meta.dirname, '../guest/hello.ts')
    const { exitCode, stderr } = await runInGuest({ disk, program, scratchDir: folder, timeoutMs: 5 * 60_000 })
    if (exitCode !== 0) throw new Error(stderr)
  } catch (error) {
    throw new Error(`a guest must boot on this machine: ${reasonOf(error)}`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
