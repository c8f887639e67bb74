import { lstat, open, readdir, realpath, rmdir, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { makeFolders } from '../files.ts'
import { CommandError, type Runner } from '../run.ts'
import { sharing } from '../sharing.ts'
import { adviseOnDisk, hasErrno, messageOf, VolumeError, writeError } from '../volume/errors.ts'
import type { Mounts } from '../volume/host.ts'
import type { FsType } from '../volume/pool.ts'
import { findHolder, findNodeHolder, findUser, isHeld } from './holders.ts'
import { type DeviceNumbers, readMountTable } from './table.ts'

/** What each filesystem always gets: a copy of an xfs volume has the same UUID as its original (xfs(5)). */
const alwaysOptions: Record<FsType, string[]> = { ext4: [], xfs: ['nouuid'], btrfs: [] }

/** Mounts by mount(8) and umount(8); `mountInfo` is the table to look at (proc_pid_mountinfo(5)). */
export function buildMounts({ run, mountInfo }: { run: Runner; mountInfo: string }): Mounts {
  const numbers: DeviceNumbers = new Map()
  const read = sharing(() => readMountTable(mountInfo, numbers))
  /** A link that came into the way after it was looked at has led the mount elsewhere: it is taken back. */
  const mustBeOn = async (target: string) => {
    if ((await read()).at(target)) return
    const landed = await realpath(target)
    if ((await read()).at(landed)) await run('umount', ['--', landed])
    throw new Error('a symbolic link appeared in the path; check who changes that folder, as only the kubelet should')
  }
  /**
   * The kernel takes a btrfs by what its devices say of themselves, of all that anybody has told it of, as udev does of what
   * appears: a tenant can write on a block device that it is another's, and before Linux 6.7 had it mounted in its place.
   */
  const mustBeOf = async (device: string, folder: string) => {
    const table = await read()
    if (table.of({ kind: 'device', path: device }).some(({ target }) => target === folder)) return
    const other = table.at(folder)?.source
    await run('umount', ['--', folder])
    throw new Error(
      `the kernel has mounted ${other} in its place, which says that it is the same filesystem. Look who has written that, and have the kernel forget it: btrfs device scan --forget ${other}`,
    )
  }
  return {
    read,

    mountDevice: async (device, folder, fsType, options) => {
      await ensureFolder(folder)
      const all = [...alwaysOptions[fsType], ...options]
      try {
        await run('mount', ['-t', fsType, ...(all.length > 0 ? ['-o', all.join(',')] : []), '--', device, folder])
        await mustBeOn(folder)
        if (fsType === 'btrfs') await mustBeOf(device, folder)
      } catch (error) {
        await removeFolder(folder)
        throw new VolumeError(
          'failed',
          `Cannot mount ${device} on ${folder}: ${messageOf(error)}${adviseOnDisk(error)}`,
          { cause: error },
        )
      }
    },

    bind: async (from, target, { readOnly }) => {
      await ensureFolder(target)
      try {
        await run('mount', ['-o', readOnly ? 'bind,ro' : 'bind', '--', from, target])
        await mustBeOn(target)
      } catch (error) {
        throw new VolumeError('failed', `Cannot mount ${from} on ${target}: ${messageOf(error)}`, { cause: error })
      }
    },

    bindNode: async (device, target, { readOnly }) => {
      await ensureFile(target)
      try {
        await run('mount', ['-o', readOnly ? 'bind,ro' : 'bind', '--', device, target])
        await mustBeOn(target)
      } catch (error) {
        throw new VolumeError('failed', `Cannot show ${device} at ${target}: ${messageOf(error)}`, { cause: error })
      }
    },

    unmount: async (target) => {
      try {
        await run('umount', ['--', target])
      } catch (error) {
        const busy = error instanceof CommandError && /target is busy/.test(error.stderr)
        const user = busy ? await findUser(target).catch(() => undefined) : undefined
        const seen = user
          ? `; ${user}: stop that`
          : '; no process visible from here uses it: check on the machine itself, with lsof(8) or fuser(1)'
        const advice = busy ? seen : ''
        throw new VolumeError(busy ? 'busy' : 'failed', `Cannot unmount ${target}: ${messageOf(error)}${advice}`, {
          cause: error,
        })
      }
    },

    removeFolder,

    findHolder: (source) => findHolder(source),

    isHeld,

    findNodeHolder,

    // e2fsck keeps what it finds in a folder that mkfs makes.
    holdsFiles: async (folder) => (await readdir(folder)).some((name) => name !== 'lost+found'),

    usage: async (folder) => {
      const { bsize, blocks, bfree, bavail, files, ffree } = await statfs(folder, { bigint: true })
      return {
        sizeBytes: blocks * bsize,
        usedBytes: (blocks - bfree) * bsize,
        freeBytes: bavail * bsize,
        inodes: files,
        inodesUsed: files - ffree,
      }
    },
  }
}

/** Makes the folder, which nothing but a real folder may stand in for. */
async function ensureFolder(folder: string): Promise<void> {
  await makeFolders(folder, 0o750).catch((error) => {
    if (hasErrno(error, 'EEXIST')) return
    throw writeError(`Cannot create the folder ${folder}`, error)
  })
  const node = await lstat(folder)
  if (!node.isDirectory())
    throw new VolumeError('invalid', `Cannot mount on ${folder} as it must be a folder: it is a ${kindOf(node)}.`)
}

/** Makes the empty file, which nothing but an empty, real file may stand in for. */
async function ensureFile(path: string): Promise<void> {
  try {
    await makeFolders(dirname(path), 0o750)
    await (await open(path, 'wx', 0o600)).close()
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw writeError(`Cannot create the file ${path}`, error)
  }
  const node = await lstat(path)
  if (!node.isFile() || node.size > 0)
    throw new VolumeError(
      'invalid',
      `Cannot show a device at ${path} as it must be an empty file: it is ${node.isFile() ? 'not empty' : `a ${kindOf(node)}`}.`,
    )
}

function kindOf(node: { isSymbolicLink(): boolean; isFile(): boolean; isDirectory(): boolean }): string {
  if (node.isSymbolicLink()) return 'symbolic link'
  if (node.isDirectory()) return 'folder'
  return node.isFile() ? 'file' : 'special file'
}

/** Removes an empty folder; leaves one that is in use or on a read-only filesystem, and never what is in it. */
async function removeFolder(folder: string): Promise<void> {
  await rmdir(folder).catch((error) => {
    if (!hasErrno(error, 'ENOENT', 'ENOTEMPTY', 'EBUSY', 'ENOTDIR', 'EROFS')) throw error
  })
}
