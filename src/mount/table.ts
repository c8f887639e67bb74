import { realpathSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { release } from 'node:os'
import { dirname, isAbsolute, join, relative } from 'node:path'
import { formatDeviceNumber } from '../device-number.ts'
import { VolumeError } from '../volume/errors.ts'
import type { MountPoint, MountTable } from '../volume/host.ts'

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
  /** Whether what is mounted below it is seen in other mount namespaces, too (mount_namespaces(7)). */
  isShared: boolean
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
      const [id, parentId, device, root, target, options, ...tags] = before.split(' ')
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
        isShared: tags.some((tag) => tag.startsWith('shared:')),
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

/**
 * Reads a mount table; `path` is `/proc/1/mountinfo` where the host's is meant. `numbers` is what was found out about mounts that may
 * still be there, so that it need not be asked again.
 */
export async function readMountTable(path = '/proc/self/mountinfo', numbers?: DeviceNumbers): Promise<MountTable> {
  return buildMountTable(parseMountInfo(await readSteadily(() => readFile(path, 'utf8'))), numbers)
}

/** How often a table may change under our eyes before that is an error. */
const mostLooks = 20

/**
 * A mount table, which is read in pieces: before Linux 5.8, what is unmounted between two of them makes the kernel leave another mount
 * out. There, it is read until nothing has changed.
 */
export async function readSteadily(read: () => Promise<string>, kernel = release()): Promise<string> {
  const [major = 0, minor = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10))
  let text = await read()
  if (major > 5 || (major === 5 && minor >= 8)) return text
  for (let looks = 1; looks < mostLooks; looks += 1) {
    const again = await read()
    if (again === text) return text
    text = again
  }
  throw new VolumeError('failed', `Cannot read the mount table as it changed in each of ${mostLooks} reads; try again.`)
}

/** The numbers of the devices that btrfs mounts name, by the mount's id and that name: they stay as long as the mount. */
export type DeviceNumbers = Map<string, string | undefined>

/**
 * Answers questions about a mount table, each from an index that is made once; the entries are in the kernel's order, so a
 * later one hides an earlier.
 */
export function buildMountTable(entries: readonly MountEntry[], numbers: DeviceNumbers = new Map()): MountTable {
  const byTarget = new Map(entries.map((entry) => [entry.target, entry]))
  const bySource = once(() => Map.groupBy(entries, ({ source }) => source))
  const byDevice = once(() => Map.groupBy(entries, ({ device }) => device))
  const byBtrfsDevice = once(() => {
    const btrfs = entries.filter(({ fsType }) => fsType === 'btrfs')
    const keys = new Set(btrfs.map(keyOf))
    for (const key of numbers.keys()) if (!keys.has(key)) numbers.delete(key)
    return Map.groupBy(btrfs, (entry) => {
      const key = keyOf(entry)
      if (!numbers.has(key)) numbers.set(key, deviceNumber(entry.source))
      return numbers.get(key)
    })
  })
  const byPlace = once(() => {
    const places = new Map<string, MountEntry[]>()
    for (const entry of entries)
      for (const folder of upFrom(entry.root)) {
        const key = `${entry.device} ${folder}`
        const there = places.get(key)
        if (there) there.push(entry)
        else places.set(key, [entry])
      }
    return places
  })
  const byNode = once(() => Map.groupBy(entries.filter(isOfNodes), (entry) => deviceNumber(entry.target)))
  const order = once(() => new Map(entries.map((entry, index) => [entry, index])))
  const ofDevice = (path: string): MountEntry[] => {
    const named = bySource().get(path) ?? []
    const device = deviceNumber(path)
    if (device === undefined) return named
    // btrfs mounts carry a device number of their own, so there the device they name is asked.
    const all = new Set([...named, ...(byDevice().get(device) ?? []), ...(byBtrfsDevice().get(device) ?? [])])
    return [...all].sort((a, b) => (order().get(a) ?? 0) - (order().get(b) ?? 0))
  }
  const ofPlace = (path: string): MountEntry[] => {
    const holder = findHolding(byTarget, dirname(path))
    if (!holder) return []
    return byPlace().get(`${holder.device} ${join(holder.root, relative(holder.target, path))}`) ?? []
  }
  /** One that another mount hides is known by the node's own place. */
  const ofNode = (path: string): MountEntry[] => {
    const device = deviceNumber(path)
    if (device === undefined) return []
    return [...new Set([...(byNode().get(device) ?? []), ...ofPlace(realpathSync(path))])]
  }
  return {
    at: (target) => toMountPoint(byTarget.get(target)),
    holding: (path) => toMountPoint(findHolding(byTarget, path)),
    of: ({ kind, path }) => (kind === 'device' ? ofDevice(path) : ofPlace(path)).map((entry) => toMountPoint(entry)),
    ofNode: ({ kind, path }) => (kind === 'device' ? ofNode(path) : []).map((entry) => toMountPoint(entry)),
    under: (folder) =>
      entries
        .filter((entry) => entry.target === folder || entry.target.startsWith(`${folder}/`))
        .map((entry) => toMountPoint(entry)),
  }
}

/** Whether it may be the mount of a device's node: a single file of what /dev is. */
export const isOfNodes = ({ fsType, root }: Pick<MountEntry, 'fsType' | 'root'>) =>
  root !== '/' && (fsType === 'devtmpfs' || fsType === 'tmpfs')

/** The mount that a path is seen in. */
const findHolding = (byTarget: ReadonlyMap<string, MountEntry>, path: string) =>
  upFrom(path)
    .map((folder) => byTarget.get(folder))
    .find((entry) => entry !== undefined)

const keyOf = ({ id, source }: MountEntry) => `${id} ${source}`

function once<T>(build: () => T): () => T {
  let built: { value: T } | undefined
  return () => {
    built ??= { value: build() }
    return built.value
  }
}

/** A path and all that lie above it. */
function upFrom(path: string): string[] {
  const folders = [path]
  for (let folder = path; folder !== dirname(folder); folders.push(folder)) folder = dirname(folder)
  return folders
}

/** What the kernel shows of a filesystem that takes no writes; the last two of ext4 after an error, since Linux 6.15. */
const readOnlyOptions = ['ro', 'emergency_ro', 'shutdown']

function toMountPoint(entry: MountEntry): MountPoint
function toMountPoint(entry: MountEntry | undefined): MountPoint | undefined
function toMountPoint(entry: MountEntry | undefined): MountPoint | undefined {
  if (!entry) return undefined
  const { target, fsType, options, superOptions, isShared } = entry
  const readOnlyFilesystem = superOptions.some((option) => readOnlyOptions.includes(option))
  const source = entry.root === '/' ? entry.source : `${entry.source}[${entry.root}]`
  const readOnly = readOnlyFilesystem || options.includes('ro')
  return { target, fsType, source, readOnlyFilesystem, readOnly, isShared }
}

/** Whether `path` is `folder` or lies below it. */
export function isWithin(folder: string, path: string): boolean {
  const way = relative(folder, path)
  return way === '' || !(way === '..' || way.startsWith('../') || isAbsolute(way))
}

/** `major:minor` of a block device's node, or nothing when it is none. */
export function deviceNumber(path: string): string | undefined {
  if (!path.startsWith('/')) return undefined
  try {
    const node = statSync(path, { throwIfNoEntry: false })
    return node?.isBlockDevice() ? formatDeviceNumber(node.rdev) : undefined
  } catch {
    // What a table names may be any text, such as one that is too long for a path.
    return undefined
  }
}
