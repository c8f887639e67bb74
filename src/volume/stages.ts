import { join } from 'node:path'
import { messageOf, VolumeError } from './errors.ts'
import type { Filesystems, MountPoint, Mounts, MountTable } from './host.ts'
import { type Content, type FsType, fsTypes, type Pool, type Source, type StoredVolume } from './pool.ts'

/** How a volume's filesystem is to be mounted. */
export interface StageRequest {
  name: string
  target?: string
  stage?: string
  mountOptions: readonly string[]
  fsType?: Content
}

export interface StagesParts {
  pool: Pick<Pool, 'find' | 'deactivate' | 'sourceKind'>
  mounts: Mounts
  filesystems: Filesystems
  volumesDir: string
}

/**
 * The one mount of each volume's device, on `<volumesDir>/<name>` or on a folder of the caller's, from which all others are
 * bound; and which filesystems need not be checked before it. The caller holds the volume's lock.
 */
export class Stages {
  readonly #parts: StagesParts
  /** Volumes whose filesystem was seen whole since this process started, and which it is, so that mounting need not look again. */
  readonly #checked = new Map<string, FsType>()
  /** Ways of making a filesystem, its type and options, of which this kernel has mounted one since this process started. */
  readonly #mountable = new Set<string>()

  constructor(parts: StagesParts) {
    this.#parts = parts
  }

  /** The folder that shows the whole volume, mounted first if need be. */
  async ensure(name: string, source: Source, table: MountTable, request: StageRequest): Promise<string> {
    const { mounts, filesystems } = this.#parts
    if (source.kind === 'directory') return source.path
    const own = this.#pathOf(name)
    const isThere = (folder: string | undefined) => table.of(source).some(({ target }) => target === folder)
    const isFirst = request.stage !== undefined && request.target === request.stage
    const folder =
      request.stage !== undefined && !isThere(own) && (isFirst || isThere(request.stage)) ? request.stage : own
    const there = table.at(folder)
    if (there && !isThere(folder))
      throw new VolumeError(
        'busy',
        `Cannot mount ${name} as ${there.source} is mounted on ${folder}; unmount that first.`,
      )
    const fsType = await this.fsTypeOf(name, source, table, folder)
    if (request.fsType && request.fsType !== fsType)
      throw new VolumeError('invalid', `Cannot mount ${name} as ${request.fsType}: it holds ${fsType}.`)
    if (there) return folder
    // What the kernel has mounted somewhere is whole, and nothing but the kernel may touch it.
    const isAtWork = !this.#checked.has(name) && (await mounts.isHeld(source.path))
    if (!this.#checked.has(name) && !isAtWork) await filesystems.check(source.path, fsType)
    // What cannot be mounted is looked at before it is tried again.
    this.#checked.delete(name)
    await mounts.mountDevice(source.path, folder, fsType, request.mountOptions)
    if (!isAtWork) this.#checked.set(name, fsType)
    return folder
  }

  /** What is on the device. Throws `lost` when that is none of our filesystems, `failed` when there is more than one. */
  async fsTypeOf(name: string, source: Source, table: MountTable, folder: string | undefined): Promise<FsType> {
    const mounted = folder === undefined ? undefined : table.at(folder)?.fsType
    const known = mounted ?? this.#checked.get(name)
    const found = known ? [known] : await this.#parts.filesystems.signatures(source.path)
    const fsType = fsTypes.find((type) => type === found[0])
    if (fsType && found.length === 1) return fsType
    const held = found.length > 0 ? `holds ${found.join(', ')}` : 'is blank'
    const [code, loss] = fsType ? (['failed', ''] as const) : (['lost', ', and its filesystem is lost'] as const)
    throw new VolumeError(
      code,
      `Cannot mount ${name} as ${source.path} must hold one of ${fsTypes.join(', ')}: it ${held}${loss}. Nothing was changed; restore it from a backup, or give the volume up.`,
    )
  }

  /**
   * Takes the engine's own mount away, and what activation took, when no other mount shows the volume any more. `seen` is a look at
   * the mounts since the last change of this volume's.
   */
  async releaseUnused(name: string, seen?: MountTable): Promise<void> {
    const { mounts, pool } = this.#parts
    const [table, volume] = await Promise.all([seen ?? mounts.read(), pool.find(name)])
    if (!volume) return
    if (this.targets(table, volume).length > 0) return
    if (pool.sourceKind === 'device') {
      const folder = this.#pathOf(volume.name)
      const staged = shownBy(table, volume)
      for (const mount of staged) await this.noteDamage(name, mount, volume)
      if (staged.length > 0) await mounts.unmount(folder)
      await mounts.removeFolder(folder)
    }
    await pool.deactivate(volume.name)
  }

  /**
   * Its filesystem was made just now: a mkfs may be newer than the kernel, so the first that was made in a way is mounted once.
   * Throws `failed` when that cannot be.
   */
  async noteMade(
    name: string,
    device: string,
    { fsType, mkfsOptions }: { fsType: FsType; mkfsOptions: readonly string[] },
  ): Promise<void> {
    const way = [fsType, ...mkfsOptions].join(' ')
    if (!this.#mountable.has(way)) {
      const { mounts } = this.#parts
      const folder = this.#pathOf(name)
      await mounts.mountDevice(device, folder, fsType, []).catch((error) => {
        throw new VolumeError(
          'failed',
          `Cannot create ${name} with ${fsType} as this kernel cannot mount what mkfs made: ${messageOf(error)}. If it does not know a feature of it, leave that out with the parameter mkfsOptions, or choose another filesystem.`,
          { cause: error },
        )
      })
      await mounts.unmount(folder)
      await mounts.removeFolder(folder)
      this.#mountable.add(way)
    }
    this.#checked.set(name, fsType)
  }

  /**
   * Whether there are files on the volume, or somebody has it mounted. What cannot be mounted was never finished, or is for a
   * person to look at before anything is made of it.
   */
  async holdsFiles(name: string, source: Source): Promise<boolean> {
    const { mounts, filesystems } = this.#parts
    if (source.kind === 'directory') return await mounts.holdsFiles(source.path)
    const folder = this.#pathOf(name)
    const shown = (await mounts.read()).of(source)
    if (shown.some(({ target }) => target !== folder)) return true
    if (shown.length > 0) return await mounts.holdsFiles(folder)
    const [found, ...others] = await filesystems.signatures(source.path)
    const fsType = fsTypes.find((type) => type === found)
    if (!fsType || others.length > 0 || (await mounts.isHeld(source.path))) return false
    const isMounted = await mounts.mountDevice(source.path, folder, fsType, ['ro']).then(
      () => true,
      () => false,
    )
    return isMounted && (await mounts.holdsFiles(folder))
  }

  /** The volume is gone. */
  forget(name: string): void {
    this.#checked.delete(name)
  }

  /** Where the kernel has found an error, which often makes the filesystem read-only, the next check is to repair it. */
  async noteDamage(name: string, mount: MountPoint, volume: StoredVolume | undefined): Promise<void> {
    if (mount.readOnlyFilesystem || (volume && (await this.hasErrors(volume)))) this.#checked.delete(name)
  }

  async hasErrors({ source }: StoredVolume): Promise<boolean> {
    return source?.kind === 'device' && (await this.#parts.filesystems.hasErrors(source.path))
  }

  /** Mounts of the volume other than the engine's own. */
  targets(table: MountTable, volume: StoredVolume): MountPoint[] {
    const shown = shownBy(table, volume).filter((mount) => mount.target !== this.#pathOf(volume.name))
    return volume.source ? [...shown, ...table.ofNode(volume.source)] : shown
  }

  #pathOf(name: string): string {
    return join(this.#parts.volumesDir, name)
  }
}

/** Mounts that show the volume; a volume that is not active has none. */
export function shownBy(table: MountTable, volume: StoredVolume): MountPoint[] {
  return volume.source ? table.of(volume.source) : []
}
