import { formatSize } from '../text/quantity.ts'
import { VolumeError } from './errors.ts'
import type { Filesystems, MountPoint, Mounts } from './host.ts'
import type { Intent, Journal } from './journal.ts'
import type { CreateRequest, Pool, StoredVolume } from './pool.ts'
import { roundUp } from './size.ts'

const extentBytes = 4n << 20n

interface MemoryVolume {
  id: string
  sizeBytes: bigint
  fsType: CreateRequest['fsType']
  marked: boolean
  /** What blkid would see. */
  signatures: string[]
  filesystemBytes: bigint
  files: Map<string, string>
}

/**
 * A machine that exists only in memory: a disk, a mount table and the calls on them, for tests of everything above
 * the real ones. It outlives the engines that run on it, as a machine outlives a daemon. `onStep` is called before
 * each change, with its name, and may throw to play a crash or a fault.
 */
export class MemoryMachine {
  readonly capacityBytes: bigint
  readonly volumes = new Map<string, MemoryVolume>()
  readonly intents = new Map<string, Intent>()
  /** Ids of volumes that were made, as the journal has them. */
  readonly made = new Map<string, string>()
  poolId = 'memory'
  /** Volumes that somebody has, whom no mount table shows. */
  readonly held = new Set<string>()
  /** Whether the kernel lets us grow a mounted ext4. */
  maySysResource = true
  /** Whether its disk is away for the moment. */
  isAway = false
  /** Stacked as the kernel does: the last mount on a target is the one that is seen. */
  mounted: (MountPoint & { name: string })[] = []
  /** The mount that all folders are on. */
  readonly root: MountPoint = {
    target: '/',
    readOnly: false,
    readOnlyFilesystem: false,
    isShared: true,
    fsType: 'ext4',
    source: '/dev/memory',
  }
  onStep: (step: string, name: string) => void | Promise<void> = () => {}

  constructor(options: { capacityBytes: bigint }) {
    this.capacityBytes = options.capacityBytes
  }

  /** Drops what does not survive a restart of the machine. */
  reboot(): void {
    this.mounted = []
  }

  readonly pool: Pool = {
    driverKind: 'LVM',
    sourceKind: 'device',
    start: async () => {},
    stop: async () => {},
    mustBeThere: async () => {
      if (this.isAway) throw new VolumeError('unavailable', 'Cannot use volumes on this node as its disk is away.')
    },
    create: async (name, request) => {
      const existing = this.volumes.get(name)
      if (existing && !existing.marked)
        throw new VolumeError('exists', `Cannot create ${name} as something without our mark has that name.`)
      if (existing) return { action: 'unchanged', volume: stored(name, existing) }
      const sizeBytes = roundUp(request.sizeBytes, extentBytes)
      this.#mustFit(name, sizeBytes)
      await this.onStep('create', name)
      const { id, fsType } = request
      const volume = { id, sizeBytes, fsType, marked: true, signatures: [], filesystemBytes: 0n, files: new Map() }
      this.volumes.set(name, volume)
      return { action: 'created', volume: stored(name, volume) }
    },
    find: async (name) => {
      const volume = this.volumes.get(name)
      return volume?.marked ? stored(name, volume) : undefined
    },
    list: async () => this.#marked().map(([name, volume]) => stored(name, volume)),
    unmarked: async () =>
      [...this.volumes]
        .filter(([, volume]) => !volume.marked)
        .map(([name, { sizeBytes }]) => ({ name, path: devicePath(name), sizeBytes })),
    foreign: async (origin, name) => {
      const found = [origin, name].find((one) => this.volumes.has(one))
      const volume = found === undefined ? undefined : this.volumes.get(found)
      if (found === undefined || !volume || volume.marked)
        throw new VolumeError('not-found', `Cannot adopt ${origin} as it is not there.`)
      const path = devicePath(found)
      return { path, sizeBytes: volume.sizeBytes, source: { kind: 'device', path } }
    },
    adopt: async (name, { id, fsType }, origin = name) => {
      const foreign = this.volumes.get(origin)
      if (foreign && origin !== name) {
        await this.onStep('rename', name)
        this.volumes.delete(origin)
        this.volumes.set(name, Object.assign(foreign, { fsType }))
      }
      const volume = this.volumes.get(name)
      if (!volume || volume.marked) throw new VolumeError('not-found', `Cannot take over ${name} as it is not there.`)
      await this.onStep('adopt', name)
      Object.assign(volume, { marked: true, id })
      return stored(name, volume)
    },
    grow: async (name, sizeBytes) => {
      const volume = this.#mustGet(name)
      const grownBytes = roundUp(sizeBytes, extentBytes)
      if (grownBytes <= volume.sizeBytes) return { action: 'unchanged', volume: stored(name, volume) }
      this.#mustFit(name, grownBytes - volume.sizeBytes)
      await this.onStep('grow', name)
      volume.sizeBytes = grownBytes
      return { action: 'grown', volume: stored(name, volume) }
    },
    remove: async (name) => {
      if (!this.volumes.get(name)?.marked) return { action: 'unchanged' }
      await this.onStep('remove', name)
      this.volumes.delete(name)
      return { action: 'removed' }
    },
    activate: async (name) => {
      this.#mustGet(name)
      return { kind: 'device', path: devicePath(name) }
    },
    deactivate: async () => {},
    report: async () => ({
      name: 'memory',
      id: this.poolId,
      driverKind: 'LVM',
      sizeBytes: this.isAway ? 0n : this.capacityBytes,
      allocatedBytes: this.isAway ? 0n : this.capacityBytes - this.#freeBytes(),
      freeBytes: this.isAway ? 0n : this.#freeBytes(),
      volumes: this.isAway ? 0 : this.#marked().length,
      unitBytes: extentBytes,
      enforcesSize: true,
      problems: this.isAway ? ['its disk is away'] : [],
    }),
  }

  readonly mounts: Mounts = {
    read: async () => {
      const seen = [...this.mounted]
      return {
        at: (target) => seen.findLast((mount) => mount.target === target),
        holding: () => this.root,
        of: (source) => seen.filter((mount) => mount.source === source.path),
        ofNode: (source) => seen.filter((mount) => mount.source === nodeOf(source.path)),
        under: (folder) => seen.filter((mount) => mount.target === folder || mount.target.startsWith(`${folder}/`)),
      }
    },
    mountDevice: async (device, folder, fsType, options) => {
      const name = nameOf(device)
      if (this.#mustGet(name).signatures[0] !== fsType)
        throw new VolumeError('failed', `Cannot mount ${device} on ${folder}: wrong filesystem type.`)
      await this.onStep('mount-device', name)
      const readOnly = options.includes('ro')
      this.mounted.push({
        ...this.root,
        target: folder,
        readOnly,
        readOnlyFilesystem: readOnly,
        fsType,
        source: device,
        name,
      })
    },
    bind: async (from, target, options) => {
      const base = this.mounted.findLast((mount) => mount.target === from)
      if (!base) throw new VolumeError('failed', `Cannot mount ${from} on ${target} as nothing is mounted there.`)
      await this.onStep('bind', base.name)
      this.mounted.push({ ...base, target, readOnly: options.readOnly || base.readOnly })
    },
    bindNode: async (device, target, { readOnly }) => {
      const name = nameOf(device)
      await this.onStep('bind-node', name)
      this.mounted.push({ ...this.root, target, readOnly, fsType: 'devtmpfs', source: nodeOf(device), name })
    },
    unmount: async (target) => {
      const index = this.mounted.findLastIndex((mount) => mount.target === target)
      const mount = this.mounted[index]
      if (!mount) throw new VolumeError('failed', `Cannot unmount ${target} as nothing is mounted there.`)
      await this.onStep('unmount', mount.name)
      this.mounted.splice(this.mounted.indexOf(mount), 1)
    },
    removeFolder: async () => {},
    findHolder: async ({ path }) =>
      this.held.has(nameOf(path)) ? 'process 1 (init) has it mounted on /mnt' : undefined,
    isHeld: async (device) => this.held.has(nameOf(device)) || this.mounted.some(({ source }) => source === device),
    findNodeHolder: async (device) => {
      const mount = this.mounted.find(({ source }) => source === nodeOf(device))
      return mount && `process 1 (init) has it on ${mount.target}`
    },
    holdsFiles: async (folder) => this.filesIn(folder).files.size > 0,
    usage: async (folder) => {
      const volume = this.filesIn(folder)
      const usedBytes = [...volume.files.values()].reduce((sum, text) => sum + BigInt(text.length), 0n)
      const sizeBytes = volume.filesystemBytes
      const inodesUsed = BigInt(volume.files.size)
      return { sizeBytes, usedBytes, freeBytes: sizeBytes - usedBytes, inodes: 100n, inodesUsed }
    },
  }

  readonly filesystems: Filesystems = {
    signatures: async (device) => [...(this.volumes.get(nameOf(device))?.signatures ?? [])],
    make: async (device, fsType, options) => {
      const volume = this.#mustGet(nameOf(device))
      if (options.includes('--fail')) throw new VolumeError('failed', `Cannot format ${device}: unknown option --fail.`)
      await this.onStep('format', nameOf(device))
      const made = options.includes('journal_dev') ? 'jbd' : fsType
      Object.assign(volume, { signatures: [made], filesystemBytes: volume.sizeBytes })
      volume.files.clear()
    },
    check: async () => {},
    wipe: async (device) => {
      await this.onStep('wipe', nameOf(device))
      this.#mustGet(nameOf(device)).files.clear()
    },
    zero: async (device) => {
      await this.onStep('zero', nameOf(device))
      Object.assign(this.#mustGet(nameOf(device)), { signatures: [] })
      this.#mustGet(nameOf(device)).files.clear()
    },
    hasErrors: async () => false,
    growsUnmounted: (fsType) => fsType === 'ext4' && !this.maySysResource,
    grow: async (device, mountPoint, fsType) => {
      const { sizeBytes, filesystemBytes } = this.#mustGet(nameOf(device))
      const grows = filesystemBytes < sizeBytes
      if (grows && fsType === 'ext4' && mountPoint !== undefined && !this.maySysResource)
        throw new VolumeError('failed', `Cannot grow the ext4 on ${device} without CAP_SYS_RESOURCE.`)
      await this.onStep('grow-filesystem', nameOf(device))
      const volume = this.#mustGet(nameOf(device))
      volume.filesystemBytes = volume.sizeBytes
    },
  }

  readonly journal: Journal = {
    read: async () => new Map(this.intents),
    write: async (name, intent) => {
      await this.onStep('journal-write', name)
      this.intents.set(name, intent)
    },
    readMade: async () => new Map(this.made),
    clear: async (name) => {
      await this.onStep('journal-clear', name)
      this.intents.delete(name)
    },
    finish: async (name) => {
      await this.onStep('journal-finish', name)
      const id = this.intents.get(name)?.id
      if (id !== undefined) this.made.set(name, id)
      this.intents.delete(name)
    },
    forget: async (name) => {
      await this.onStep('journal-forget', name)
      this.made.delete(name)
    },
  }

  /** The volume that is seen in that folder. Throws when none is. */
  filesIn(folder: string): MemoryVolume {
    return this.#mustGet(this.mounted.findLast((mount) => mount.target === folder)?.name ?? folder)
  }

  #marked(): [string, MemoryVolume][] {
    return [...this.volumes].filter(([, volume]) => volume.marked)
  }

  #mustGet(name: string): MemoryVolume {
    const volume = this.volumes.get(name)
    if (volume?.marked) return volume
    throw new VolumeError('not-found', `Cannot find volume ${name}.`)
  }

  #freeBytes(): bigint {
    return [...this.volumes.values()].reduce((free, volume) => free - volume.sizeBytes, this.capacityBytes)
  }

  #mustFit(name: string, sizeBytes: bigint): void {
    const freeBytes = this.#freeBytes()
    if (sizeBytes > freeBytes)
      throw new VolumeError(
        'no-space',
        `Cannot give ${name} ${formatSize(sizeBytes)} as the pool has ${formatSize(freeBytes)} free.`,
      )
  }
}

const devicePath = (name: string) => `/dev/memory/${name}`
/** What a mount of the device's node shows. */
const nodeOf = (device: string) => `udev[${device}]`
const nameOf = (device: string) => device.slice(devicePath('').length)

function stored(name: string, volume: MemoryVolume): StoredVolume {
  const path = devicePath(name)
  return {
    name,
    id: volume.id,
    sizeBytes: volume.sizeBytes,
    fsType: volume.fsType,
    leavesBlocks: true,
    path,
    source: { kind: 'device', path },
  }
}
