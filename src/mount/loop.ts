import { open, readFile, stat, statfs, truncate, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import AsyncLock from 'async-lock'
import { formatDeviceNumber } from '../device-number.ts'
import { makeFolders, removeFile, syncFolder } from '../files.ts'
import type { Runner } from '../run.ts'
import { formatSize } from '../text/quantity.ts'
import { hasErrno, messageOf, VolumeError, writeError } from '../volume/errors.ts'
import { mustBeClosed } from '../volume/openers.ts'
import type { CreateRequest, Grown, Pool, PoolReport, Source, StoredVolume, UnmarkedVolume } from '../volume/pool.ts'
import { roundUp } from '../volume/size.ts'
import { findNodeHolder } from './holders.ts'
import { PoolFolder } from './pool-folder.ts'
import { buildRecords, damageOf, type Marker, markerProblem, markerSchema, ownFolder, type Records } from './records.ts'

/** Images are whole filesystem blocks long. */
const extentBytes = 4096n
/** The unit of `st_blocks` (stat(2)). */
const statBlockBytes = 512n
/** What a disk that is not mounted offers. */
const nothing = { freeBytes: 0n, allocatedBytes: 0n, volumes: 0, lostBytes: 0n }

export interface LoopPoolParts {
  run: Runner
  volumesDir: string
  /** Takes an image's whole size of the disk at once, so that writing into a volume cannot run out of it. */
  preallocate: boolean
  now: () => Date
}

/**
 * Volumes as image files on loop devices (losetup(8)), in `<volumesDir>/.elastic-local/loop`. A marker file comes
 * before its image and goes after it, so that no image is ever there unmarked. Promises are counted against the disk
 * by whole size, written or not.
 */
export class LoopPool implements Pool {
  readonly driverKind = 'LOOP'
  readonly sourceKind = 'device'
  readonly #parts: LoopPoolParts
  readonly #folder: string
  readonly #markers: Records<Marker>
  readonly #place: PoolFolder
  /** Held from looking at the free space until an image has taken its share. */
  readonly #space = new AsyncLock({ maxPending: Number.POSITIVE_INFINITY })
  /**
   * Loop devices by volume, with the image's path as the kernel shows it. Only this process attaches them; each is
   * verified before it is believed.
   */
  readonly #devices = new Map<string, { device: string; backing: string }>()
  /** Bytes of images that take no more of the disk, although their whole size was asked for, as where it compresses. */
  readonly #tried = new Map<string, bigint>()

  constructor(parts: LoopPoolParts) {
    this.#parts = parts
    this.#place = new PoolFolder(parts.volumesDir)
    this.#folder = join(parts.volumesDir, ownFolder, 'loop')
    this.#markers = buildRecords(this.#folder, markerSchema)
  }

  async start(): Promise<void> {
    await this.#place.open()
    await makeFolders(this.#folder, 0o700)
    await this.#identifyDevices()
  }

  /**
   * Finds the loop devices of our images by inode. The path that the kernel shows is that of whoever attached the
   * image, and changes when the container in which that was is gone.
   */
  async #identifyDevices(): Promise<void> {
    const columns = ['--list', '--raw', '--noheadings', '--output', 'NAME,BACK-INO,BACK-MAJ:MIN']
    const rows = (await this.#losetup(...columns)).matchAll(/^(\S+) (\d+) (?:\\x20)*(\d+:\d+)/gm)
    const deviceByInode = new Map([...rows].map(([, device = '', inode, disk]) => [`${disk} ${inode}`, device]))
    if (deviceByInode.size === 0) return
    for (const name of await this.#markers.names()) {
      const device = deviceByInode.get((await findFile(this.#imageOf(name)))?.inode ?? '')
      if (device) await this.#remember(name, device)
    }
  }

  async #remember(name: string, device: string): Promise<void> {
    const backing = await readBackingFile(device)
    if (backing) this.#devices.set(name, { device, backing })
  }

  async stop(): Promise<void> {}

  async mustBeThere(): Promise<void> {
    await this.#place.mustBeThere()
  }

  async create(
    name: string,
    request: CreateRequest,
  ): Promise<{ action: 'created' | 'unchanged'; volume: StoredVolume }> {
    const sizeBytes = roundUp(request.sizeBytes, extentBytes)
    const action = await this.#space.acquire('space', async () => {
      const marked = await this.#markers.read(name)
      const image = await findFile(this.#imageOf(name))
      if (image && marked) return 'unchanged' as const
      if (image)
        throw new VolumeError(
          'exists',
          `Cannot create ${name} as ${this.#imageOf(name)} exists without our mark; move it away if nobody needs it.`,
        )
      await this.#mustFit(name, sizeBytes)
      const { id, fsType } = request
      const createdAt = this.#parts.now().toISOString()
      await this.#markers.write(name, { id, sizeBytes: String(sizeBytes), fsType, createdAt })
      await this.#makeImage(name, sizeBytes)
      return 'created' as const
    })
    return { action, volume: await this.#mustFind(name) }
  }

  async #makeImage(name: string, sizeBytes: bigint): Promise<void> {
    const path = this.#imageOf(name)
    try {
      const file = await open(path, 'wx', 0o600)
      try {
        await this.#extend(path, sizeBytes)
        await file.sync()
      } finally {
        await file.close()
      }
      await syncFolder(this.#folder)
    } catch (error) {
      await removeFile(path)
      await this.#markers.clear(name)
      throw writeError(`Cannot create ${path}`, error)
    }
  }

  async #extend(path: string, sizeBytes: bigint): Promise<void> {
    if (this.#parts.preallocate) await this.#parts.run('fallocate', ['--length', String(sizeBytes), path])
    else await truncate(path, Number(sizeBytes))
  }

  async find(name: string): Promise<StoredVolume | undefined> {
    const marker = await this.#markers.read(name).catch(damageOf)
    return marker && (await this.#toStored(name, marker))
  }

  async list(): Promise<StoredVolume[]> {
    return await Promise.all(
      [...(await this.#markers.readEach())].map(([name, marker]) => this.#toStored(name, marker)),
    )
  }

  async #toStored(name: string, marker: Marker | VolumeError): Promise<StoredVolume> {
    const path = this.#imageOf(name)
    const image = await findFile(path)
    const device = await this.#findDevice(name)
    const source: Pick<StoredVolume, 'source'> = device ? { source: { kind: 'device', path: device } } : {}
    if (marker instanceof VolumeError)
      return { name, path, sizeBytes: image?.sizeBytes ?? 0n, ...source, problem: markerProblem(marker) }
    return {
      name,
      id: marker.id,
      path,
      sizeBytes: image?.sizeBytes ?? BigInt(marker.sizeBytes),
      fsType: marker.fsType,
      createdAt: new Date(marker.createdAt),
      ...source,
      ...(image ? {} : { problem: `its image ${path} is missing: its data is lost`, trouble: 'lost' }),
    }
  }

  /** The predecessor had no images. */
  async unmarked(): Promise<UnmarkedVolume[]> {
    return []
  }

  async adopt(name: string): Promise<StoredVolume> {
    throw new VolumeError('not-found', `Cannot take over ${name} as the predecessor had no images.`)
  }

  async foreign(origin: string): Promise<never> {
    throw new VolumeError('failed', `Cannot adopt ${origin} as no other project keeps volumes as these images.`)
  }

  async grow(name: string, sizeBytes: bigint): Promise<Grown> {
    const grownBytes = roundUp(sizeBytes, extentBytes)
    const action = await this.#space.acquire('space', async () => {
      const volume = await this.#mustFind(name)
      if (volume.problem) throw new VolumeError('not-found', `Cannot grow ${name} as ${volume.problem}.`)
      if (grownBytes <= volume.sizeBytes) return 'unchanged' as const
      await this.#mustFit(name, grownBytes - volume.sizeBytes)
      await this.#extend(volume.path, grownBytes).catch((error) => {
        throw writeError(`Cannot grow ${volume.path}`, error)
      })
      return 'grown' as const
    })
    const device = await this.#findDevice(name)
    if (device) await this.#losetup('--set-capacity', device)
    return { action, volume: await this.#mustFind(name) }
  }

  async remove(name: string): Promise<{ action: 'removed' | 'unchanged' }> {
    if (!(await this.find(name))) return { action: 'unchanged' }
    await this.deactivate(name)
    await this.mustBeFree(name)
    await removeFile(this.#imageOf(name))
    await this.#markers.clear(name)
    this.#tried.delete(name)
    return { action: 'removed' }
  }

  /** Of a device that was detached while it was open the kernel notes that it is to go with the last who has it. */
  async mustBeFree(name: string): Promise<void> {
    const device = await this.#findDevice(name)
    if (device) await mustBeClosed(name, device, async () => (await this.#findDevice(name)) === device)
  }

  async activate(name: string): Promise<Source> {
    const volume = await this.#mustFind(name)
    if (volume.problem)
      throw new VolumeError(
        'not-found',
        `Cannot use ${name} as ${volume.problem}. Restore that file from a backup, or give the volume up.`,
      )
    await this.#takeRoom(name)
    if (volume.source && !(await isLeaving(volume.source.path))) {
      // A growth that was cut short has made the image larger, and not the device.
      if ((await sizeOfDevice(volume.source.path)) < volume.sizeBytes)
        await this.#losetup('--set-capacity', volume.source.path)
      await this.#refuseDiscards(volume.source.path)
      return volume.source
    }
    const device = (await this.#losetup('--find', '--show', '--nooverlap', volume.path)).trim()
    await this.#remember(name, device)
    if (await isReadOnly(device)) {
      await this.deactivate(name)
      throw new VolumeError(
        'failed',
        `Cannot use ${name} as its image ${volume.path} cannot be written; check the kernel log for why that filesystem is read-only, and fix it.`,
      )
    }
    await this.#refuseDiscards(device)
    return { kind: 'device', path: device }
  }

  /** What a filesystem discards would go back to the disk, and might be gone when it is wanted. */
  async #refuseDiscards(device: string): Promise<void> {
    if (!this.#parts.preallocate) return
    const file = `/sys/block/${basename(device)}/queue/discard_max_bytes`
    // Where that cannot be written, what is lost is taken again.
    if ((await readFile(file, 'utf8').catch(() => '0')).trim() !== '0') await writeFile(file, '0').catch(() => {})
  }

  /** Takes the room again that an image has lost: a kernel may free what a filesystem overwrites with zeros. */
  async #takeRoom(name: string): Promise<void> {
    if (!this.#parts.preallocate) return
    const path = this.#imageOf(name)
    const image = await findFile(path)
    if (!image || image.takenBytes >= image.sizeBytes || this.#tried.get(name) === image.takenBytes) return
    // A disk that is full is told of by the report, and keeps nobody from the volume.
    const isTaken = await this.#extend(path, image.sizeBytes).then(
      () => true,
      () => false,
    )
    const after = isTaken ? await findFile(path) : undefined
    if (after && after.takenBytes < after.sizeBytes) this.#tried.set(name, after.takenBytes)
  }

  async deactivate(name: string): Promise<void> {
    const device = await this.#findDevice(name)
    if (!device) return
    // Another volume would get its number, and be seen by whoever has its node in a namespace of his own.
    const { fsType } = (await this.find(name)) ?? {}
    if (fsType === 'block' && (await findNodeHolder(device))) return
    const isGone = async () => (await readBackingFile(device)) !== this.#devices.get(name)?.backing
    try {
      await this.#losetup('--detach', device)
    } catch (error) {
      // It was leaving already, and whoever held it has let it go just now.
      if (!(await isGone())) throw error
    }
    // Of a device that is in use the kernel only makes a note, so it stays known until it is really gone.
    if (await isGone()) this.#devices.delete(name)
  }

  async report(): Promise<PoolReport> {
    const problem = await this.#place.findProblem()
    const { freeBytes, allocatedBytes, volumes, lostBytes } = problem
      ? nothing
      : await this.#space.acquire('space', async () => {
          for (const name of await this.#markers.names()) await this.#takeRoom(name)
          return await this.#measure()
        })
    const lost =
      lostBytes > 0n
        ? [
            `${formatSize(lostBytes)} of its volumes could not be preallocated, as the disk is too full; make room on it`,
          ]
        : []
    return {
      name: this.#parts.volumesDir,
      ...(this.#place.id ? { id: this.#place.id } : {}),
      driverKind: this.driverKind,
      sizeBytes: allocatedBytes + freeBytes,
      allocatedBytes,
      freeBytes,
      volumes,
      unitBytes: extentBytes,
      enforcesSize: true,
      problems: problem ? [problem] : lost,
    }
  }

  async #measure() {
    const names = await this.#markers.names()
    const found = await Promise.all(names.map(async (name) => ({ name, image: await findFile(this.#imageOf(name)) })))
    const images = found.flatMap(({ name, image }) => (image ? [{ ...image, isTried: this.#tried.has(name) }] : []))
    const { bavail, bsize } = await statfs(this.#folder, { bigint: true })
    const unwritten = (image: { sizeBytes: bigint; takenBytes: bigint }) => positive(image.sizeBytes - image.takenBytes)
    const allocatedBytes = sum(images.map(({ sizeBytes }) => sizeBytes))
    const unwrittenBytes = sum(images.map(unwritten))
    const lostBytes = this.#parts.preallocate ? sum(images.filter(({ isTried }) => !isTried).map(unwritten)) : 0n
    return { freeBytes: positive(bavail * bsize - unwrittenBytes), allocatedBytes, volumes: names.length, lostBytes }
  }

  async #mustFit(name: string, sizeBytes: bigint): Promise<void> {
    const { freeBytes } = await this.#measure()
    if (sizeBytes <= freeBytes) return
    throw new VolumeError(
      'no-space',
      `Cannot give ${name} ${formatSize(sizeBytes)} as the disk under ${this.#folder} has ${formatSize(freeBytes)} free that is not allocated to a volume.`,
    )
  }

  async #mustFind(name: string): Promise<StoredVolume> {
    const volume = await this.find(name)
    if (volume) return volume
    throw new VolumeError('not-found', `Cannot find volume ${name} in ${this.#folder}.`)
  }

  async #findDevice(name: string): Promise<string | undefined> {
    const known = this.#devices.get(name)
    if (!known || (await readBackingFile(known.device)) === known.backing) return known?.device
    this.#devices.delete(name)
    await this.#identifyDevices()
    return this.#devices.get(name)?.device
  }

  async #losetup(...args: string[]): Promise<string> {
    try {
      return (await this.#parts.run('losetup', args)).stdout
    } catch (error) {
      throw new VolumeError('failed', `Cannot use a loop device: ${messageOf(error)}`, { cause: error })
    }
  }

  #imageOf(name: string): string {
    return join(this.#folder, `${name}.img`)
  }
}

const sum = (numbers: bigint[]) => numbers.reduce((total, each) => total + each, 0n)
const positive = (bytes: bigint) => (bytes > 0n ? bytes : 0n)

async function findFile(path: string): Promise<{ sizeBytes: bigint; takenBytes: bigint; inode: string } | undefined> {
  try {
    const { size, blocks, dev, ino } = await stat(path, { bigint: true })
    const inode = `${formatDeviceNumber(Number(dev))} ${ino}`
    return { sizeBytes: size, takenBytes: blocks * statBlockBytes, inode }
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/** The image behind a loop device, also when it has been deleted since, or nothing when the device is free. */
async function readBackingFile(device: string): Promise<string | undefined> {
  return (await readLoopFile(device, 'backing_file'))?.replace(/ \(deleted\)$/, '')
}

/** Whether the kernel lets the device go as soon as nobody has it open; attaching its image again takes that back. */
async function isLeaving(device: string): Promise<boolean> {
  return (await readLoopFile(device, 'autoclear')) !== '0'
}

async function isReadOnly(device: string): Promise<boolean> {
  return (await readFile(`/sys/block/${basename(device)}/ro`, 'utf8')).startsWith('1')
}

/** In whole sectors. */
async function sizeOfDevice(device: string): Promise<bigint> {
  return BigInt((await readFile(`/sys/block/${basename(device)}/size`, 'utf8')).trim()) * statBlockBytes
}

/** What the kernel says of a loop device, or nothing when it is free. */
async function readLoopFile(device: string, file: string): Promise<string | undefined> {
  const text = await readFile(`/sys/block/${basename(device)}/loop/${file}`, 'utf8').catch(() => undefined)
  return text?.replace(/\n$/, '')
}
