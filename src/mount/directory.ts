import { lstat, mkdir, readdir, rename, statfs } from 'node:fs/promises'
import { basename, join } from 'node:path'
import AsyncLock from 'async-lock'
import { makeFolders, syncFolder } from '../files.ts'
import type { Runner } from '../run.ts'
import { formatSize } from '../text/quantity.ts'
import { hasErrno, messageOf, VolumeError } from '../volume/errors.ts'
import { isVolumeName } from '../volume/name.ts'
import type {
  CreateRequest,
  ForeignVolume,
  Grown,
  Pool,
  PoolReport,
  Source,
  StoredVolume,
  UnmarkedVolume,
} from '../volume/pool.ts'
import { PoolFolder } from './pool-folder.ts'
import { buildRecords, damageOf, type Marker, markerProblem, markerSchema, ownFolder, type Records } from './records.ts'

/** What a disk that is not mounted offers. */
const nothing = { sizeBytes: 0n, allocatedBytes: 0n, freeBytes: 0n, volumes: 0 }

export interface DirectoryPoolParts {
  run: Runner
  volumesDir: string
  now: () => Date
}

/**
 * Volumes as plain directories `<volumesDir>/<name>`, which hold as much as the disk under them: their size is only
 * counted, never enforced. A marker file comes before its directory and goes after it.
 */
export class DirectoryPool implements Pool {
  readonly driverKind = 'BINDMOUNT'
  readonly sourceKind = 'directory'
  readonly #parts: DirectoryPoolParts
  readonly #markers: Records<Marker>
  readonly #place: PoolFolder
  /** What is being removed is moved here first, so that a half removed directory is never taken for a volume. */
  readonly #trash: string
  /** Held from looking at the free space until a volume is noted that takes its share. */
  readonly #space = new AsyncLock({ maxPending: Number.POSITIVE_INFINITY })

  constructor(parts: DirectoryPoolParts) {
    this.#parts = parts
    this.#place = new PoolFolder(parts.volumesDir)
    this.#markers = buildRecords(join(parts.volumesDir, ownFolder, 'directories'), markerSchema)
    this.#trash = join(parts.volumesDir, ownFolder, 'trash')
  }

  async start(): Promise<void> {
    await this.#place.open()
    await makeFolders(this.#trash, 0o700)
  }

  async stop(): Promise<void> {}

  async mustBeThere(): Promise<void> {
    await this.#place.mustBeThere()
  }

  async create(
    name: string,
    request: CreateRequest,
  ): Promise<{ action: 'created' | 'unchanged'; volume: StoredVolume }> {
    const action = await this.#space.acquire('space', () => this.#make(name, request))
    return { action, volume: await this.#mustFind(name) }
  }

  async #make(name: string, { id, sizeBytes, fsType }: CreateRequest): Promise<'created' | 'unchanged'> {
    const path = this.#pathOf(name)
    const marked = await this.#markers.read(name)
    const there = await exists(path)
    if (there && !marked)
      throw new VolumeError(
        'exists',
        `Cannot create ${name} as ${path} exists without our mark. If it is a volume of the predecessor, see docs/takeover.md; if nobody needs it, move it away.`,
      )
    if (there) return 'unchanged'
    const { freeBytes } = await this.#measure()
    if (sizeBytes > freeBytes)
      throw new VolumeError(
        'no-space',
        `Cannot give ${name} ${formatSize(sizeBytes)} as the disk under ${this.#parts.volumesDir} has ${formatSize(freeBytes)} free that is not allocated to a volume.`,
      )
    const createdAt = this.#parts.now().toISOString()
    await this.#markers.write(name, { id, sizeBytes: String(sizeBytes), fsType, createdAt })
    await mkdir(path, { mode: 0o755 })
    await syncFolder(this.#parts.volumesDir)
    return 'created'
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
    const path = this.#pathOf(name)
    const there = await exists(path)
    if (marker instanceof VolumeError) {
      const source: Pick<StoredVolume, 'source'> = there ? { source: { kind: 'directory', path } } : {}
      return { name, path, sizeBytes: 0n, ...source, problem: markerProblem(marker) }
    }
    return {
      name,
      id: marker.id,
      path,
      sizeBytes: BigInt(marker.sizeBytes),
      createdAt: new Date(marker.createdAt),
      ...(there
        ? { source: { kind: 'directory', path } }
        : { problem: `its directory ${path} is missing: its data is lost`, trouble: 'lost' }),
    }
  }

  async unmarked(): Promise<UnmarkedVolume[]> {
    const { volumesDir } = this.#parts
    const marked = new Set(await this.#markers.names())
    const files = await readdir(volumesDir, { withFileTypes: true })
    return files
      .filter((file) => file.isDirectory() && isVolumeName(file.name) && !marked.has(file.name))
      .map(({ name }) => ({ name, path: this.#pathOf(name) }))
  }

  async foreign(origin: string, name: string): Promise<ForeignVolume> {
    const [path, ours] = [this.#pathOf(origin), this.#pathOf(name)]
    if (basename(origin) !== origin || isHidden(origin))
      throw new VolumeError(
        'invalid',
        `Cannot adopt ${path} as it must be a directory right in ${this.#parts.volumesDir}.`,
      )
    const [isThere, isRenamed] = [await exists(path), origin !== name && (await exists(ours))]
    if (isThere && isRenamed)
      throw new VolumeError(
        'exists',
        `Cannot adopt ${path} as ${ours} exists already, and is what it would be renamed to; check both.`,
      )
    if (!isThere && !isRenamed)
      throw new VolumeError('not-found', `Cannot adopt ${path} as there is no such directory.`)
    const found = isThere ? path : ours
    return { path: found, sizeBytes: 0n, source: { kind: 'directory', path: found } }
  }

  async adopt(name: string, { id, sizeBytes, fsType }: CreateRequest, origin?: string): Promise<StoredVolume> {
    if (origin !== undefined) await this.#rename(origin, name)
    if ((await this.#markers.read(name)) || !(await exists(this.#pathOf(name))))
      throw new VolumeError(
        'not-found',
        `Cannot take over ${name} as ${this.#pathOf(name)} must be a directory without our mark.`,
      )
    const { birthtime } = await lstat(this.#pathOf(name))
    await this.#markers.write(name, { id, sizeBytes: String(sizeBytes), fsType, createdAt: birthtime.toISOString() })
    return await this.#mustFind(name)
  }

  async #rename(origin: string, name: string): Promise<void> {
    const { path } = await this.foreign(origin, name)
    if (path === this.#pathOf(name)) return
    await rename(path, this.#pathOf(name))
    await syncFolder(this.#parts.volumesDir)
  }

  async grow(name: string, sizeBytes: bigint): Promise<Grown> {
    return await this.#space.acquire('space', () => this.#grow(name, sizeBytes))
  }

  async #grow(name: string, sizeBytes: bigint): Promise<Grown> {
    const volume = await this.#mustFind(name)
    if (sizeBytes <= volume.sizeBytes) return { action: 'unchanged', volume }
    const { freeBytes } = await this.#measure()
    if (sizeBytes - volume.sizeBytes > freeBytes)
      throw new VolumeError(
        'no-space',
        `Cannot grow ${name} to ${formatSize(sizeBytes)} as the disk has ${formatSize(freeBytes)} free that is not allocated to a volume.`,
      )
    const marker = await this.#markers.read(name)
    if (marker) await this.#markers.write(name, { ...marker, sizeBytes: String(sizeBytes) })
    return { action: 'grown', volume: { ...volume, sizeBytes } }
  }

  async remove(name: string): Promise<{ action: 'removed' | 'unchanged' }> {
    if (!(await this.find(name))) return { action: 'unchanged' }
    const path = this.#pathOf(name)
    const trash = join(this.#trash, name)
    try {
      await this.#removeTree(trash)
      if (await exists(path)) await rename(path, trash)
      await syncFolder(this.#parts.volumesDir)
      await this.#removeTree(trash)
    } catch (error) {
      const isForbidden = /Operation not permitted/.test(messageOf(error))
      const advice = isForbidden
        ? `; find what is immutable with "lsattr -R ${trash}", and change that with chattr(1)`
        : ''
      throw new VolumeError('failed', `Cannot remove the directory of ${name}: ${messageOf(error)}${advice}`, {
        cause: error,
      })
    }
    await this.#markers.clear(name)
    return { action: 'removed' }
  }

  /**
   * By rm(1), which goes from folder to folder by open ones: whoever still holds a folder in the tree could lead a walk by
   * path elsewhere. It also takes names that are no UTF-8, paths of any length, and its own memory.
   */
  async #removeTree(path: string): Promise<void> {
    if (await exists(path)) await this.#parts.run('rm', ['-rf', '--one-file-system', '--', path])
  }

  async activate(name: string): Promise<Source> {
    const volume = await this.#mustFind(name)
    if (volume.source && !volume.problem) return volume.source
    throw new VolumeError(
      'not-found',
      `Cannot use ${name} as ${volume.problem}. Restore that from a backup, or give the volume up.`,
    )
  }

  async deactivate(): Promise<void> {}

  async report(): Promise<PoolReport> {
    const { volumesDir } = this.#parts
    const problem = await this.#place.findProblem()
    const { sizeBytes, allocatedBytes, freeBytes, volumes } = problem ? nothing : await this.#measure()
    return {
      name: volumesDir,
      ...(this.#place.id ? { id: this.#place.id } : {}),
      driverKind: this.driverKind,
      sizeBytes,
      allocatedBytes,
      freeBytes,
      volumes,
      unitBytes: 1n,
      enforcesSize: false,
      problems: problem ? [problem] : [],
    }
  }

  async #measure() {
    const markers = [...(await this.#markers.readAll()).values()]
    const { blocks, bavail, bsize } = await statfs(this.#parts.volumesDir, { bigint: true })
    const allocatedBytes = markers.reduce((sum, marker) => sum + BigInt(marker.sizeBytes), 0n)
    const sizeBytes = blocks * bsize
    const freeBytes = leastPositive(sizeBytes - allocatedBytes, bavail * bsize)
    return { sizeBytes, allocatedBytes, freeBytes, volumes: (await this.#markers.names()).length }
  }

  async #mustFind(name: string): Promise<StoredVolume> {
    const volume = await this.find(name)
    if (volume) return volume
    throw new VolumeError('not-found', `Cannot find volume ${name} in ${this.#parts.volumesDir}.`)
  }

  #pathOf(name: string): string {
    return join(this.#parts.volumesDir, name)
  }
}

/** Our own folder, and what is no name. */
const isHidden = (name: string) => name === '' || name.startsWith('.')

/** The smaller of the two, or nothing where one is negative. */
function leastPositive(a: bigint, b: bigint): bigint {
  if (a < 0n || b < 0n) return 0n
  return a < b ? a : b
}

/** Whether a real directory is there. Throws `failed` when it is something else. */
async function exists(path: string): Promise<boolean> {
  try {
    if ((await lstat(path)).isDirectory()) return true
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false
    throw error
  }
  throw new VolumeError('failed', `Cannot use ${path} as it must be a directory; move away what is there.`)
}
