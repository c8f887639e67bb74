import { statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { isAbsolute, join, relative } from 'node:path'
import { formatDeviceNumber } from '../device-number.ts'
import { VolumeError } from '../volume/errors.ts'
import type { MountPoint, MountTable } from '../volume/host.ts'
import type { Source } from '../volume/pool.ts'

/** One line of mountinfo (proc_pid_mountinfo(5)). */
export interface MountEntry {
  id: number
  parentId: number
  /** `major:minor` of the filesystem's `st_dev`; for btrfs not that of any device. */
  device: string
  /** The folder of that filesystem which is mounted; `/` for the whole of it. */
  root: string
  target: string
  options: string[]
  fsType: string
  source: string
  superOptions: string[]
}

/** The records of a mountinfo file. Throws `failed` with the line it cannot read. */
export function parseMountInfo(text: string): MountEntry[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [before = '', after] = line.split(' - ', 2)
      const [id, parentId, device, root, target, options] = before.split(' ')
      const [fsType, source, superOptions] = after?.split(' ') ?? []
      if (
        !target ||
        !root ||
        !device ||
        !options ||
        !fsType ||
        source === undefined ||
        !/^\d+ \d+$/.test(`${id} ${parentId}`)
      )
        throw new VolumeError(
          'failed',
          `Cannot read the mount table: this line is not mountinfo: ${line.slice(0, 200)}`,
        )
      return {
        id: Number(id),
        parentId: Number(parentId),
        device,
        root: unescapeOctal(root),
        target: unescapeOctal(target),
        options: options.split(','),
        fsType,
        source: unescapeOctal(source),
        superOptions: superOptions?.split(',') ?? [],
      }
    })
}

/** Turns `\040` and the like back into the characters they stand for, which may be bytes of UTF-8. */
function unescapeOctal(text: string): string {
  if (!text.includes('\\')) return text
  const bytes = Buffer.from(text, 'utf8').toString('latin1')
  const plain = bytes.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
  return Buffer.from(plain, 'latin1').toString('utf8')
}

/** Reads a mount table; `path` is `/proc/1/mountinfo` where the host's is meant. */
export async function readMountTable(path = '/proc/self/mountinfo'): Promise<MountTable> {
  return buildMountTable(parseMountInfo(await readFile(path, 'utf8')))
}

/** Answers questions about a mount table; the entries are in the kernel's order, so a later one hides an earlier. */
export function buildMountTable(entries: readonly MountEntry[]): MountTable {
  return {
    at: (target) => toMountPoint(entries.findLast((entry) => entry.target === target)),
    of: (source) => entries.filter(showsSource(entries, source)).map((entry) => toMountPoint(entry)),
    under: (folder) =>
      entries
        .filter((entry) => entry.target === folder || entry.target.startsWith(`${folder}/`))
        .map((entry) => toMountPoint(entry)),
  }
}

/** What the kernel shows of a filesystem that takes no writes; the last two of ext4 after an error, since Linux 6.15. */
const readOnlyOptions = ['ro', 'emergency_ro', 'shutdown']

function toMountPoint(entry: MountEntry): MountPoint
function toMountPoint(entry: MountEntry | undefined): MountPoint | undefined
function toMountPoint(entry: MountEntry | undefined): MountPoint | undefined {
  if (!entry) return undefined
  const { target, fsType, options, superOptions } = entry
  const readOnlyFilesystem = superOptions.some((option) => readOnlyOptions.includes(option))
  const source = entry.root === '/' ? entry.source : `${entry.source}[${entry.root}]`
  return { target, fsType, source, readOnlyFilesystem, readOnly: readOnlyFilesystem || options.includes('ro') }
}

/** Whether an entry shows that device or directory, or a folder in it. */
function showsSource(entries: readonly MountEntry[], source: Source): (entry: MountEntry) => boolean {
  if (source.kind === 'device') {
    const device = deviceNumber(source.path)
    // btrfs mounts carry a device number of their own, so there the device they name is asked.
    return (entry) =>
      entry.source === source.path ||
      (device !== undefined &&
        (entry.device === device || (entry.fsType === 'btrfs' && deviceNumber(entry.source) === device)))
  }
  const holder = entries
    .filter((entry) => isWithin(entry.target, source.path) && entry.target !== source.path)
    .reduce<MountEntry | undefined>(
      (best, entry) => (best && best.target.length > entry.target.length ? best : entry),
      undefined,
    )
  if (!holder) return () => false
  const root = join(holder.root, relative(holder.target, source.path))
  return (entry) => entry.device === holder.device && isWithin(root, entry.root)
}

/** Whether `path` is `folder` or lies below it. */
export function isWithin(folder: string, path: string): boolean {
  const way = relative(folder, path)
  return way === '' || !(way === '..' || way.startsWith('../') || isAbsolute(way))
}

/** `major:minor` of a block device's node, or nothing when it is none. */
function deviceNumber(path: string): string | undefined {
  if (!path.startsWith('/')) return undefined
  try {
    const node = statSync(path, { throwIfNoEntry: false })
    return node?.isBlockDevice() ? formatDeviceNumber(node.rdev) : undefined
  } catch {
    // What a table names may be any text, such as one that is too long for a path.
    return undefined
  }
}
