import { constants, existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { release } from 'node:os'
import { join, relative } from 'node:path'
import { formatDeviceNumber } from '../device-number.ts'
import { hasErrno, messageOf, VolumeError } from '../volume/errors.ts'
import type { Source } from '../volume/pool.ts'
import { deviceNumber, isOfNodes, isWithin, type MountEntry, parseMountInfo, readSteadily } from './table.ts'

/** O_PATH of open(2), which Node does not name: a file is named by it, and neither read nor asked of its filesystem. */
const openPath = 0o10000000

/**
 * Whether something in the kernel has the block device for itself: a mounted filesystem, whoever may see that mount, swap
 * space, another device (O_EXCL in open(2)).
 */
export async function isHeld(device: string): Promise<boolean> {
  try {
    const file = await open(device, constants.O_RDONLY | constants.O_EXCL)
    await file.close()
    return false
  } catch (error) {
    if (hasErrno(error, 'EBUSY')) return true
    throw new VolumeError('failed', `Cannot check whether ${device} is in use: ${messageOf(error)}`, { cause: error })
  }
}

/** Who keeps that mount from being taken away, in words that complete "as …"; nothing where none is seen. */
export async function findUser(target: string): Promise<string | undefined> {
  return await new Processes('/proc').findOn(target)
}

/** How processes' mount tables are read: by what, and on which kernel. */
export interface TableReading {
  read: (file: string) => string
  kernel: string
}

/** What uses the device or the directory, in words that complete "as …", or nothing when nothing does. */
export async function findHolder(source: Source, reading?: TableReading): Promise<string | undefined> {
  const processes = new Processes('/proc', reading)
  if (source.kind === 'directory') return await processes.findInside(source.path)
  const { path } = source
  const node = await stat(path).catch((error) => {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw new VolumeError('failed', `Cannot check whether ${path} is in use: ${messageOf(error)}`, { cause: error })
  })
  if (!node) return undefined
  if (!(await isHeld(path))) return undefined
  const number = formatDeviceNumber(node.rdev)
  return (await processes.findMount(number)) ?? `the kernel has ${path} in use${describeMadeOf(number)}`
}

/** Which devices are made of one, by the names that device-mapper has for them. */
function describeMadeOf(number: string): string {
  const folder = `/sys/dev/block/${number}/holders`
  const names = list(folder).map((name) => read(join(folder, name, 'dm/name')).trim() || name)
  return names.length > 0 ? `: ${names.join(', ')} built on it; "dmsetup ls --tree" shows that` : ''
}

/** Who has the node of the device mounted, in whatever namespace, in words that complete "as …", or nothing when nobody has. */
export async function findNodeHolder(device: string): Promise<string | undefined> {
  const number = deviceNumber(device)
  return number === undefined ? undefined : await new Processes('/proc').findNode(number)
}

/** The mounts of a namespace by their ids, with targets as paths from its root: a process in a chroot sees a part. */
type View = Map<number, MountEntry>

interface Process {
  pid: string
  view: View
}

/** A directory by its place on its filesystem, which has the same name in all namespaces. */
interface Place {
  path: string
  device: string
  root: string
}

/**
 * All processes that this one may see, and what they see (proc(5)). One that ends meanwhile holds nothing. What is asked is the
 * kernel, not a filesystem, which may hang.
 */
class Processes {
  readonly #proc: string
  readonly #reading: TableReading
  readonly #views = new Map<string, View>()
  readonly #seen = new Set<string>()

  constructor(proc: string, reading: TableReading = { read, kernel: release() }) {
    this.#proc = proc
    this.#reading = reading
  }

  /** Who has mounted the device with that number, where our own table may not show it. */
  async findMount(number: string): Promise<string | undefined> {
    for (const { pid, view } of await this.#all()) {
      const entry = [...view.values()].find(({ device }) => device === number)
      if (entry) return `process ${this.#describe(pid)} has it mounted on ${entry.target}`
    }
    return undefined
  }

  /** Who has the node of the device with that number mounted. */
  async findNode(number: string): Promise<string | undefined> {
    const oneOfEach = new Map((await this.#all()).map((process) => [process.view, process]))
    for (const { pid, view } of oneOfEach.values()) {
      // As the process sees it: another namespace has other mounts on the way there.
      const entry = [...view.values()].find(
        (entry) => isOfNodes(entry) && deviceNumber(join(this.#proc, pid, 'root', entry.target)) === number,
      )
      if (entry) return `process ${this.#describe(pid)} has it on ${entry.target}`
      await afterOthers()
    }
    return undefined
  }

  /** Who has mounted the directory or a part of it, or something on it; or has a file in it open or mapped, or works there. */
  async findInside(path: string): Promise<string | undefined> {
    const place = await this.#locate(path)
    if (!place) return undefined
    // All first: an open file may be of a mount in another namespace.
    const processes = await this.#all()
    const shownIn = new Map<View, string[]>()
    for (const { pid, view } of processes) {
      const mount = shownIn.has(view) ? undefined : findMountOf(view, place)
      const shown = shownIn.get(view) ?? [...view.values()].flatMap((entry) => placeIn(entry, place) ?? [])
      shownIn.set(view, shown)
      const held = mount ?? (await this.#findFile(pid, shown, place))
      if (held) return `process ${this.#describe(pid)} has ${held}`
      await afterOthers()
    }
    return undefined
  }

  /**
   * What lies on the mount that is seen there, or who has a file of it open or works in it, in this namespace or in one that the
   * mount was propagated to: other mounts of the same keep nobody from taking this one away.
   */
  async findOn(target: string): Promise<string | undefined> {
    const own = [...((await this.#viewOf('self'))?.values() ?? [])]
    const mount = own.findLast((entry) => entry.target === target)
    if (!mount) return undefined
    const above = own.find(({ parentId }) => parentId === mount.id)
    if (above) return `${above.source} is mounted on ${above.target}`
    for (const { pid, view } of await this.#all()) {
      const folder = join(this.#proc, pid)
      for (const name of ['cwd', 'root', ...list(join(folder, 'fd'))]) {
        const isFolder = name === 'cwd' || name === 'root'
        const link = readLink(join(folder, isFolder ? name : `fd/${name}`))
        if (link === undefined || !isWithin(target, withoutNote(link))) continue
        const file = isFolder
          ? await readFileInfo(join(folder, name))
          : parseFileInfo(read(join(folder, 'fdinfo', name)))
        const there = file && view.get(file.mountId)
        if (there && there.device === mount.device && there.root === mount.root && there.target === target)
          return `process ${this.#describe(pid)} has ${link} open`
      }
      await afterOthers()
    }
    return undefined
  }

  async #locate(path: string): Promise<Place | undefined> {
    const above = [...((await this.#viewOf('self'))?.values() ?? [])].filter(
      ({ target }) => target !== path && isWithin(target, path),
    )
    const entry = above.reduce<MountEntry | undefined>(
      (best, each) => (best && best.target.length > each.target.length ? best : each),
      undefined,
    )
    return entry && { path, device: entry.device, root: join(entry.root, relative(entry.target, path)) }
  }

  async #findFile(pid: string, shown: readonly string[], place: Place): Promise<string | undefined> {
    const folder = join(this.#proc, pid)
    const isShown = (way: string) => shown.some((target) => way === target || way.startsWith(`${target}/`))
    for (const name of ['cwd', 'root', ...list(join(folder, 'fd'))]) {
      const isFolder = name === 'cwd' || name === 'root'
      const link = readLink(join(folder, isFolder ? name : `fd/${name}`))
      if (!link?.startsWith('/')) continue
      const way = withoutNote(link)
      // A look at a folder may hang, so only at one that could be meant.
      if (isFolder && !isShown(way) && !existsSync(join(place.path, way))) continue
      const file = isFolder ? await readFileInfo(join(folder, name)) : parseFileInfo(read(join(folder, 'fdinfo', name)))
      const entry = file && this.#mountOf(file.mountId)
      if (entry ? isInside(entry, way, place) : isSame(file?.inode, join(place.path, way))) return `${link} open`
    }
    if (shown.length === 0) return undefined
    for (const [, link = ''] of read(join(folder, 'maps')).matchAll(/^\S+ \S+ \S+ \S+ [1-9]\d*\s+(\/.*)$/gm))
      if (isShown(withoutNote(link))) return `${link} mapped`
    return undefined
  }

  async #all(): Promise<Process[]> {
    const processes = []
    for (const pid of list(this.#proc).filter((name) => /^\d+$/.test(name))) {
      const view = await this.#viewOf(pid)
      if (view) processes.push({ pid, view })
    }
    return processes
  }

  #mountOf(id: number): MountEntry | undefined {
    for (const view of this.#views.values()) if (view.has(id)) return view.get(id)
    return undefined
  }

  async #viewOf(pid: string): Promise<View | undefined> {
    const [namespace, root] = ['ns/mnt', 'root'].map((name) => readLink(join(this.#proc, pid, name)))
    if (namespace === undefined || root === undefined) return undefined
    const view = this.#views.get(namespace) ?? new Map<number, MountEntry>()
    this.#views.set(namespace, view)
    if (this.#seen.has(`${namespace} ${root}`)) return view
    this.#seen.add(`${namespace} ${root}`)
    const { read, kernel } = this.#reading
    const table = await readSteadily(async () => read(join(this.#proc, pid, 'mountinfo')), kernel)
    for (const entry of parseMountInfo(table)) view.set(entry.id, { ...entry, target: join(root, entry.target) })
    return view
  }

  #describe(pid: string): string {
    return `${pid} (${read(join(this.#proc, pid, 'comm')).trim()})`
  }
}

/** A mount that shows the directory or a folder in it, or that lies on one. */
function findMountOf(view: View, place: Place): string | undefined {
  const entry = [...view.values()].find((each) => {
    const parent = view.get(each.parentId)
    if (each.device === place.device && isWithin(place.root, each.root)) return true
    return parent !== undefined && isInside(parent, each.target, place)
  })
  return entry && `${entry.source} mounted on ${entry.target}`
}

/** Whether a path that leads into a mount leads into the directory. */
const isInside = (entry: MountEntry, way: string, { device, root }: Place) =>
  entry.device === device && isWithin(root, join(entry.root, relative(entry.target, way)))

/** Where a mount of what is above the directory shows it. */
const placeIn = (entry: MountEntry, { device, root }: Place): string | undefined =>
  entry.device === device && isWithin(entry.root, root) ? join(entry.target, relative(entry.root, root)) : undefined

/** A path of an open file as the kernel shows it, also when it was removed since. */
const withoutNote = (link: string) => link.replace(/ \(deleted\)$/, '')

/** Lets what waits go on: a machine may have thousands of processes. */
const afterOthers = () => new Promise((resolve) => setImmediate(resolve))

/** What `work` gives, or nothing where the process has ended. */
function unlessGone<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch {
    return undefined
  }
}

const list = (folder: string): string[] => unlessGone(() => readdirSync(folder)) ?? []
const read = (file: string): string => unlessGone(() => readFileSync(file, 'utf8')) ?? ''
const readLink = (path: string) => unlessGone(() => readlinkSync(path))

/** What the kernel says of an open file; its inode since Linux 5.14 (proc_pid_fdinfo(5)). */
function parseFileInfo(text: string): { mountId: number; inode: string | undefined } | undefined {
  const mountId = /^mnt_id:\s*(\d+)$/m.exec(text)?.[1]
  return mountId ? { mountId: Number(mountId), inode: /^ino:\s*(\d+)$/m.exec(text)?.[1] } : undefined
}

async function readFileInfo(path: string) {
  const file = await open(path, openPath).catch(() => undefined)
  try {
    return file && parseFileInfo(read(`/proc/self/fdinfo/${file.fd}`))
  } finally {
    await file?.close()
  }
}

/** Of a mount that is in no table any more, the path is one from its own root: it may be the directory's. */
const isSame = (inode: string | undefined, path: string) =>
  inode !== undefined && String(unlessGone(() => statSync(path, { bigint: true }))?.ino) === inode
