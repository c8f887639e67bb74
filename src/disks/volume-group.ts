import { glob, realpath } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { isGroupMissing } from '../lvm/failure.ts'
import type { Runner } from '../run.ts'
import { VolumeError } from '../volume/errors.ts'
import type { Filesystems } from '../volume/host.ts'
import { type Disk, examineDisk } from './disk.ts'

/** What to make a volume group of. */
export interface GroupRequest {
  name: string
  /** Absolute paths, or patterns of such (glob(7)). */
  disks: readonly string[]
  sizeBytes?: bigint | undefined
}

export interface GroupParts {
  run: Runner
  filesystems: Pick<Filesystems, 'signatures'>
}

/**
 * Makes the volume group, or gives the one that is there more disks (vgcreate(8), vgextend(8)). Disks that are in it
 * stay as they are. Throws before anything is changed when any of the others is in use or not blank.
 */
export async function ensureVolumeGroup(
  { name, disks: named, sizeBytes }: GroupRequest,
  { run, filesystems }: GroupParts,
): Promise<{ action: 'created' | 'extended' | 'unchanged'; disks: Disk[] }> {
  const paths = (await Promise.all(named.map(expand))).flat()
  const groups = await Promise.all(paths.map((path) => findGroup(path, run)))
  for (const [index, path] of paths.entries()) {
    const other = groups[index]
    if (other !== undefined && other !== name)
      throw new VolumeError(
        'invalid',
        `Cannot use ${path} as it is part of volume group ${other}. If that is the group you mean, name it: --lvm-volume-group ${other}. If nobody needs what is in it, "vgs ${other}" and "lvs ${other}" show what that is, and "vgreduce" or "vgremove" of LVM takes the disk out.`,
      )
  }
  const left = paths.filter((_, index) => groups[index] !== name)
  const disks: Disk[] = []
  for (const path of left) {
    const disk = await examineDisk(path, { filesystems, sizeBytes })
    const same = disks.find(({ number }) => number === disk.number)
    if (same) throw new VolumeError('invalid', `Cannot use ${path} as it is the same disk as ${same.path}.`)
    disks.push(disk)
  }
  if (left.length === 0) return { action: 'unchanged', disks }
  const exists = await isThere(name, run)
  // Without a terminal LVM answers its own questions with no: it does not overwrite what it finds, either.
  const devices = await Promise.all(left.map((path) => realpath(path)))
  await run('lvm', [exists ? 'vgextend' : 'vgcreate', '--quiet', name, ...devices])
  return { action: exists ? 'extended' : 'created', disks }
}

/** The paths that a pattern stands for, or the one path. */
async function expand(disk: string): Promise<string[]> {
  if (!isAbsolute(disk))
    throw new VolumeError('invalid', `Cannot use ${disk} as a disk must be an absolute path, such as /dev/sdb.`)
  if (!/[*?[]/.test(disk)) return [disk]
  const found = (await Array.fromAsync(glob(disk))).sort()
  if (found.length === 0)
    throw new VolumeError('invalid', `Cannot use ${disk} as there is no such device; see "lsblk".`)
  return found
}

/** The volume group that a disk is in; nothing when it is no physical volume, and when it is none of any group. */
async function findGroup(path: string, run: Runner): Promise<string | undefined> {
  // LVM does not follow links that are outside of /dev.
  const device = await realpath(path).catch(() => path)
  // 5: it is no physical volume, or not there at all.
  const { stdout } = await run('lvm', ['pvs', '--noheadings', '--options', 'vg_name', device], { accept: [5] })
  return stdout.trim() || undefined
}

async function isThere(name: string, run: Runner): Promise<boolean> {
  try {
    await run('lvm', ['vgs', '--noheadings', '--options', 'vg_name', name])
    return true
  } catch (error) {
    if (isGroupMissing(error)) return false
    throw error
  }
}
