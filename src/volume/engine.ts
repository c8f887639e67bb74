import { randomUUID } from 'node:crypto'
import { dirname } from 'node:path'
import AsyncLock from 'async-lock'
import type { Log } from '../log.ts'
import { formatSize } from '../text/quantity.ts'
import { codeOf, messageOf, VolumeError } from './errors.ts'
import { type Failure, Failures } from './failures.ts'
import { type Filesystems, type MountPoint, type Mounts, type MountTable, minimumBytes } from './host.ts'
import { Intents } from './intents.ts'
import type { Intent, Journal, UnreadableIntent } from './journal.ts'
import { parseVolumeName } from './name.ts'
import {
  type Content,
  type ForeignVolume,
  fsTypes,
  type Grown,
  type Pool,
  type PoolReport,
  type Source,
  type StoredVolume,
  type UnmarkedVolume,
} from './pool.ts'
import { Stages, shownBy } from './stages.ts'
import { buildView, type VolumeView } from './view.ts'

/** What a volume is to be. */
export interface VolumeSpec {
  sizeBytes: bigint
  fsType: Content
  mkfsOptions: readonly string[]
}

export interface MountRequest {
  name: string
  /** The folder in which the volume shall be seen; of a block device, the file. */
  target: string
  /**
   * A folder of the caller's in which the whole volume may be mounted first, in place of the engine's own: by a request
   * whose `target` it is, and not read-only.
   */
  stage?: string
  readOnly: boolean
  mountOptions: readonly string[]
  /** What the asker believes is on the volume; anything else is an error. A block device is had only by whoever says so. */
  fsType?: Content
  /** Makes the volume if it is not there. */
  create?: VolumeSpec
  /** Whether it may be seen in no other target meanwhile. */
  isAlone?: boolean
}

export interface EngineParts {
  pool: Pool
  mounts: Mounts
  filesystems: Filesystems
  journal: Journal
  /** Absolute path, without links, of the folder that volumes are first mounted in. */
  volumesDir: string
  /** Whether pods are in mount namespaces that see only what is mounted on shared mounts, as where this runs in a pod. */
  mustShare?: boolean
  /** Whether somebody beside the journal knows that a volume was made. Throws where that cannot be asked. */
  isMade?: (name: string) => Promise<boolean>
  /** For what people read. */
  now?: () => Date
  log: Pick<Log, 'info' | 'warn'>
}

type FormatIntent = Extract<Intent, { sizeBytes: bigint }>

/**
 * Makes, mounts, grows and removes the volumes of one pool.
 *
 * Every operation observes and then does only what is missing, under the lock of its one volume. Invariants: a volume
 * is formatted only while the journal says that it was never given to anybody; its device is mounted once, on
 * `<volumesDir>/<name>` as long as any target shows it, or on a folder of the caller's, and a pool of directories needs
 * no such mount.
 */
export class Engine {
  /** What went wrong, and is not over. */
  readonly failures = new Failures()
  readonly #parts: EngineParts
  readonly #locks = new AsyncLock({ maxPending: Number.POSITIVE_INFINITY })
  readonly #intents: Intents
  readonly #stages: Stages

  constructor(parts: EngineParts) {
    this.#parts = parts
    this.#intents = new Intents(parts.journal)
    this.#stages = new Stages(parts)
  }

  /** Starts the pool and reads what was left unfinished. Throws when the pool cannot be used. */
  async start(): Promise<void> {
    await this.#parts.pool.start()
    await this.#intents.read()
  }

  async stop(): Promise<void> {
    await this.#parts.pool.stop()
  }

  get driverKind(): Pool['driverKind'] {
    return this.#parts.pool.driverKind
  }

  /** Throws `unavailable` where the pool cannot be used at the moment. */
  async mustBeThere(): Promise<void> {
    await this.#parts.pool.mustBeThere()
  }

  /** Finishes what a crash interrupted. A volume that cannot be finished stays unfinished, and is shown as such. */
  async recover(): Promise<void> {
    const names = this.#intents.names()
    await Promise.all(
      names.map(async (name) => {
        try {
          await this.#locked(name, { operation: 'finish' }, () => this.#recoverOne(name))
        } catch (error) {
          this.#parts.log.warn(`Volume ${name} is still unfinished: ${messageOf(error)}`, { volume: name })
        }
      }),
    )
    const volumes = await this.#parts.pool.list()
    const table = await this.#parts.mounts.read()
    const [mounted, others] = partition(volumes, (volume) => this.#stages.targets(table, volume).length > 0)
    // All at once, which share one look at the mount table.
    await Promise.all(others.map(({ name }) => this.#locks.acquire(name, () => this.#stages.releaseUnused(name))))
    this.#parts.log.info(`Found ${volumes.length} volumes, ${mounted.length} of them mounted.`)
  }

  async #recoverOne(name: string): Promise<void> {
    const volume = await this.#parts.pool.find(name)
    if (!volume) return await this.#intents.forget(name)
    const intent = await this.#begun(volume)
    if (!intent) await this.#intents.clear(name)
    else if (intent.phase === 'unreadable') throw unreadable(name, intent)
    else if (intent.phase === 'formatting') await this.#formatAgain(name, intent)
    else if (intent.phase === 'growing') await this.#fill(name)
    else await this.#removeStored(name)
  }

  /**
   * What was begun on the volume. The journal alone is not believed that it was never made, as it may come from an old backup:
   * who else knows is asked, and the volume itself. Throws `failed` where that holds files.
   */
  async #begun(volume: StoredVolume): Promise<Intent | UnreadableIntent | undefined> {
    const { name } = volume
    const intent = this.#intents.of(volume)
    if (!intent || intent.phase === 'growing' || intent.phase === 'removing') return intent
    if (await this.#parts.isMade?.(name)) {
      this.#parts.log.warn(`Volume ${name} was created, whatever the journal says: the journal is out of date.`, {
        volume: name,
      })
      await this.#intents.clear(name)
      return undefined
    }
    if (intent.phase !== 'unreadable' && (await this.#holdsFiles(volume)))
      throw new VolumeError(
        'failed',
        `Cannot use ${name} as the journal says that its creation never finished, but it holds files: the journal may be from an old backup. Nothing was changed. If the files are wanted, remove .elastic-local/intents/${name}.json from the volumes folder and restart the daemon; if not, remove the volume.`,
      )
    return intent
  }

  /** Whether somebody has used the volume, by what is on it; of a block device nobody can say. */
  async #holdsFiles({ name, fsType, trouble }: StoredVolume): Promise<boolean> {
    if (fsType === 'block' || trouble === 'lost') return false
    try {
      return await this.#stages.holdsFiles(name, await this.#parts.pool.activate(name))
    } finally {
      await this.#stages.releaseUnused(name)
    }
  }

  /** Makes the volume and its filesystem. Throws `invalid`, `no-space`, `exists`. */
  async create(name: string, spec: VolumeSpec): Promise<{ action: 'created' | 'unchanged'; volume: StoredVolume }> {
    return await this.#locked(parseVolumeName(name), { operation: 'create' }, () => this.#ensureCreated(name, spec))
  }

  /** What has a volume's name here and is not ours. */
  async unmarked(): Promise<UnmarkedVolume[]> {
    await this.mustBeThere()
    return await this.#parts.pool.unmarked()
  }

  /**
   * Makes one of those ours, as it is; `origin`: or what another project made under that name, if it holds what is asked for. Throws
   * `not-found`, and what `examine` throws.
   */
  async adopt(name: string, { sizeBytes, fsType }: VolumeSpec, origin?: string): Promise<StoredVolume> {
    return await this.#locked(parseVolumeName(name), { operation: 'create' }, async () => {
      const { pool } = this.#parts
      const known = await this.#lookUp(name)
      if (known) return known
      if (origin !== undefined) await this.#examine(name, fsType, origin)
      return await pool.adopt(name, { id: randomUUID(), sizeBytes, fsType }, origin)
    })
  }

  /**
   * What another project made, if it can become volume `name` as it is, with what it holds; changes nothing. Throws `exists`,
   * `not-found`, `busy` while anything uses it, `failed`.
   */
  async examine(name: string, fsType: Content, origin: string): Promise<ForeignVolume> {
    return await this.#locks.acquire(parseVolumeName(name), async () => {
      await this.mustBeThere()
      if (await this.#lookUp(name))
        throw new VolumeError('exists', `Cannot adopt ${origin} as there is a volume ${name}.`)
      return await this.#examine(name, fsType, origin)
    })
  }

  async #examine(name: string, fsType: Content, origin: string): Promise<ForeignVolume> {
    const { pool, mounts, filesystems } = this.#parts
    const found = await pool.foreign(origin, name)
    const { source } = found
    const refuse = (code: 'busy' | 'failed', why: string) =>
      new VolumeError(code, `Cannot adopt ${found.path} as ${why}.`)
    const [mount] = (await mounts.read()).of(source)
    const holder = mount
      ? `it is mounted on ${mount.target}`
      : ((await mounts.findHolder(source)) ?? (source.kind === 'device' && (await mounts.findNodeHolder(source.path))))
    if (holder) throw refuse('busy', `${holder}; stop what uses it first`)
    await found.mustBeClosed?.()
    if (source.kind === 'directory' && fsType === 'block') throw refuse('failed', 'a directory is no block device')
    if (source.kind === 'directory' || fsType === 'block') return found
    const signatures = await filesystems.signatures(source.path)
    if (signatures.length === 0)
      throw refuse(
        'failed',
        `it must hold ${fsType}, and is blank: it was never mounted. Delete its claim, and create it again`,
      )
    if (signatures.join() !== fsType)
      throw refuse('failed', `it must hold ${fsType}: it holds ${signatures.join(', ')}`)
    return found
  }

  /** Shows the volume in `target`. Throws `not-found` when there is none and the request does not make one. */
  async mount(request: MountRequest): Promise<{ action: 'mounted' | 'unchanged' }> {
    const name = parseVolumeName(request.name)
    return await this.#locked(name, { operation: 'mount', target: request.target }, async () => {
      const volume = await this.#mustBeReady(name, request.create)
      mustBeAsked(request, volume)
      try {
        const source = await this.#activateGrown(volume)
        const table = await this.#parts.mounts.read()
        // What is mounted there already may be anybody's.
        const unseen = this.#findUnseen(table, dirname(request.target))
        if (unseen) throw new VolumeError('unavailable', `Cannot mount ${name} as ${unseen}.`)
        const seen = table.at(request.target)
        if (seen) return this.#alreadyMounted(request, seen.readOnly, table, source)
        if (request.isAlone) this.#mustBeAlone(request, this.#stages.targets(table, { ...volume, source }))
        await this.#show(request, source, table)
        return { action: 'mounted' }
      } catch (error) {
        await this.#stages.releaseUnused(name)
        throw error
      }
    })
  }

  async #show(request: MountRequest, source: Source, table: MountTable): Promise<void> {
    const { mounts } = this.#parts
    const { name, target, readOnly } = request
    if (request.fsType === 'block') return await mounts.bindNode(source.path, target, { readOnly })
    const folder = await this.#stages.ensure(name, source, table, request)
    if (folder !== target) await mounts.bind(folder, target, { readOnly })
  }

  /**
   * The device or the directory, once a growth that was cut short is finished: when it is mounted, that may be forbidden. It may be
   * another device than before, which was let go for that, and which somebody else may have by now.
   */
  async #activateGrown(volume: StoredVolume): Promise<Source> {
    const { pool, mounts, log } = this.#parts
    const { name } = volume
    const source = await pool.activate(name)
    if (this.#intents.of(volume)?.phase !== 'growing' || (await mounts.read()).of(source).length > 0) return source
    await this.#fill(name).catch((error) => {
      log.warn(`Volume ${name} is mounted smaller than it should be: ${messageOf(error)}`, { volume: name })
    })
    return await pool.activate(name)
  }

  #mustBeAlone({ name, target }: MountRequest, [other]: readonly MountPoint[]): void {
    if (other)
      throw new VolumeError(
        'busy',
        `Cannot mount ${name} on ${target} as it may be in one place only and is on ${other.target}; unmount it there first.`,
      )
  }

  #alreadyMounted(
    request: MountRequest,
    readOnly: boolean,
    table: MountTable,
    source: Source,
  ): { action: 'unchanged' } {
    const shown = request.fsType === 'block' ? table.ofNode(source) : table.of(source)
    if (!shown.some((mount) => mount.target === request.target))
      throw new VolumeError(
        'busy',
        `Cannot mount ${request.name} on ${request.target} as ${table.at(request.target)?.source} is mounted there; unmount that first.`,
      )
    if (request.readOnly && !readOnly)
      throw new VolumeError(
        'busy',
        `Cannot mount ${request.name} read-only on ${request.target} as it is mounted there for writing; unmount it first.`,
      )
    return { action: 'unchanged' }
  }

  /** Why pods would not see what is mounted in that folder, and write to the disk under it; nothing where they would. */
  async findUnseen(folder: string): Promise<string | undefined> {
    return this.#findUnseen(await this.#parts.mounts.read(), folder)
  }

  #findUnseen(table: MountTable, folder: string): string | undefined {
    const mount = table.holding(folder)
    if (!this.#parts.mustShare || !mount || mount.isShared) return undefined
    return `pods do not see what this container mounts in ${mount.target}; mount that folder into it with "mountPropagation: Bidirectional"`
  }

  /** The device of an activated volume, or its directory, made first if the request says so. */
  async attach(name: string, create?: VolumeSpec): Promise<Source> {
    return await this.#locked(parseVolumeName(name), { operation: 'attach' }, async () => {
      await this.#mustBeReady(name, create)
      return await this.#parts.pool.activate(name)
    })
  }

  /**
   * Takes the volume away from `target`, and with the last target the mount under it. Nothing to do when nothing is
   * mounted there. The caller vouches that `target` is a place where only volumes of that name are mounted.
   */
  async unmount(name: string, target: string): Promise<{ action: 'unmounted' | 'unchanged' }> {
    const work = async () => {
      const { mounts, pool } = this.#parts
      // A pod goes also while its disk is away.
      const isThere = await pool.mustBeThere().then(
        () => true,
        () => false,
      )
      let action: 'unmounted' | 'unchanged' = 'unchanged'
      let table = await mounts.read()
      for (let seen = table.at(target); seen; seen = table.at(target)) {
        await this.#stages.noteDamage(name, seen, isThere ? await pool.find(name) : undefined)
        await mounts.unmount(target)
        action = 'unmounted'
        table = await mounts.read()
      }
      if (isThere) await this.#stages.releaseUnused(name, table)
      return { action }
    }
    const done = { operation: 'unmount', target } as const
    return await this.#locks.acquire(parseVolumeName(name), () => this.#watched(name, done, work))
  }

  /** Makes the volume and its filesystem at least that large, mounted or not. Throws `not-found`, `no-space`. */
  async grow(name: string, sizeBytes: bigint): Promise<Grown> {
    return await this.#locked(parseVolumeName(name), { operation: 'grow' }, async () => {
      const { pool } = this.#parts
      const before = await this.#mustBeReady(name)
      if (pool.sourceKind === 'directory') return await pool.grow(name, sizeBytes)
      const wasCut = this.#intents.of(before)?.phase === 'growing'
      if (sizeBytes > before.sizeBytes || wasCut) await this.#mustGrowWhole(before)
      await this.#noteIfRoom(name, { phase: 'growing', ...(before.id ? { id: before.id } : {}) })
      const grown = await pool.grow(name, sizeBytes).catch(async (error) => {
        const after = await pool.find(name).catch(() => undefined)
        // What did not begin is not to be finished; what an earlier growth left is.
        if (!wasCut && after?.sizeBytes === before.sizeBytes) await this.#intents.clear(name)
        throw error
      })
      await this.#fill(name)
      return grown
    })
  }

  /** Throws `failed` where the device could grow, and its filesystem, being in use, could not. */
  async #mustGrowWhole({ name, source, fsType }: StoredVolume): Promise<void> {
    const { mounts, filesystems } = this.#parts
    if (source?.kind !== 'device') return
    const [mount] = (await mounts.read()).of(source)
    const held = mount?.fsType ?? fsType
    if (!fsTypes.some((type) => type === held && filesystems.growsUnmounted(type))) return
    if (mount || (await mounts.isHeld(source.path)))
      throw new VolumeError(
        'failed',
        `Cannot grow ${name} while it is mounted, as the kernel lets only a process with CAP_SYS_RESOURCE grow a mounted ${held}, and this daemon has not that right. Nothing was changed. Stop its pods and start them again: it grows in between; or give the daemon that right.`,
      )
  }

  /** Makes the filesystem as large as its device. */
  async #fill(name: string): Promise<void> {
    const { pool, mounts, filesystems } = this.#parts
    const source = await pool.activate(name)
    if ((await pool.find(name))?.fsType === 'block') await this.#stages.releaseUnused(name)
    else if (source.kind === 'device') {
      const table = await mounts.read()
      const mounted = table.of(source)[0]?.target
      try {
        const fsType = await this.#stages.fsTypeOf(name, source, table, mounted)
        const isFree = !mounted && filesystems.growsUnmounted(fsType) && !(await mounts.isHeld(source.path))
        const folder = isFree
          ? undefined
          : (mounted ?? (await this.#stages.ensure(name, source, table, { name, mountOptions: [] })))
        await filesystems.grow(source.path, folder, fsType)
      } finally {
        await this.#stages.releaseUnused(name)
      }
    }
    await this.#intents.clear(name)
  }

  /** Without the intent, what is cut short is not finished by itself, but still by asking again. */
  async #noteIfRoom(name: string, intent: Intent): Promise<void> {
    await this.#intents.set(name, intent).catch((error) => {
      // A full disk must not keep anybody from making room, or from growing what is on another disk.
      if (!(error instanceof VolumeError && error.code === 'no-space')) throw error
    })
  }

  /** Removes the volume and its data. Throws `busy` while it is mounted anywhere. */
  async remove(name: string): Promise<{ action: 'removed' | 'unchanged' }> {
    return await this.#locked(parseVolumeName(name), { operation: 'remove' }, () => this.#removeStored(name))
  }

  async #removeStored(name: string): Promise<{ action: 'removed' | 'unchanged' }> {
    const { pool, mounts } = this.#parts
    const volume = await this.#lookUp(name)
    if (volume) {
      const table = await mounts.read()
      const targets = this.#stages.targets(table, volume)
      if (targets.length > 0)
        throw new VolumeError(
          'busy',
          `Cannot remove ${name} as it is mounted on ${targets.map((mount) => mount.target).join(', ')}; unmount it first.`,
        )
      await this.#stages.releaseUnused(name, table)
      await this.#mustBeFree(name)
      const isToWipe = volume.leavesBlocks === true && (await this.#mayHoldData(volume))
      await this.#noteIfRoom(name, { phase: 'removing', ...(volume.id ? { id: volume.id } : {}) })
      if (isToWipe) await this.#wipe(name)
    }
    const removed = await pool.remove(name)
    await this.#intents.forget(name)
    this.#stages.forget(name)
    this.failures.forget(name)
    return removed
  }

  async #mayHoldData(volume: StoredVolume): Promise<boolean> {
    const begun = this.#intents.of(volume)
    if (!begun || !('sizeBytes' in begun)) return true
    return (await this.#parts.isMade?.(volume.name)) === true || (await this.#holdsFiles(volume))
  }

  /** Throws `busy`. Of one that is not active, nobody can have anything. */
  async #mustBeFree(name: string): Promise<void> {
    const { pool, mounts } = this.#parts
    const { source, fsType } = (await pool.find(name)) ?? {}
    const holder =
      source &&
      ((await mounts.findHolder(source)) ?? (fsType === 'block' && (await mounts.findNodeHolder(source.path))))
    if (holder) throw new VolumeError('busy', `Cannot remove ${name} as ${holder}; stop that first.`)
    await pool.mustBeFree?.(name)
  }

  /** While the volume still holds its space: so nobody gets it before that. */
  async #wipe(name: string): Promise<void> {
    const { pool, filesystems } = this.#parts
    const source = await pool.activate(name)
    if (source.kind === 'device') await filesystems.wipe(source.path)
  }

  /** One volume as its pool has it, which costs less than all that a person should know of it. */
  async stored(name: string): Promise<StoredVolume | undefined> {
    await this.mustBeThere()
    return await this.#parts.pool.find(parseVolumeName(name))
  }

  /** One volume. */
  async find(name: string): Promise<VolumeView | undefined> {
    const volume = await this.stored(name)
    return volume && (await this.#view(volume, await this.#parts.mounts.read()))
  }

  /** All volumes of the pool, by name. */
  async list(): Promise<VolumeView[]> {
    await this.mustBeThere()
    const volumes = await this.#parts.pool.list({ impatient: true })
    const table = await this.#parts.mounts.read()
    const views = await Promise.all(volumes.map((volume) => this.#view(volume, table)))
    return views.sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  async report(): Promise<PoolReport> {
    return await this.#parts.pool.report()
  }

  async #locked<T>(name: string, done: Pick<Failure, 'operation' | 'target'>, work: () => Promise<T>): Promise<T> {
    return await this.#locks.acquire(name, async () => {
      await this.mustBeThere()
      return await this.#watched(name, done, work)
    })
  }

  /** Keeps the failure of `work` until it is over; of a volume that is not there nobody asks. */
  async #watched<T>(name: string, done: Pick<Failure, 'operation' | 'target'>, work: () => Promise<T>): Promise<T> {
    const { pool, now = () => new Date() } = this.#parts
    try {
      const result = await work()
      this.failures.end(name, done)
      return result
    } catch (error) {
      if (await pool.find(name).catch(() => undefined))
        this.failures.note(name, { ...done, code: codeOf(error), message: messageOf(error), at: now() })
      throw error
    }
  }

  /** The volume of that name, also when it came there without this process knowing. */
  async #lookUp(name: string): Promise<StoredVolume | undefined> {
    const { pool } = this.#parts
    return (await pool.find(name)) ?? (await pool.list()).find((volume) => volume.name === name)
  }

  async #mustFind(name: string): Promise<StoredVolume> {
    const volume = await this.#lookUp(name)
    if (volume) return volume
    throw new VolumeError(
      'not-found',
      `Cannot find volume ${name} in the ${this.#parts.pool.driverKind} pool of this node.`,
    )
  }

  /** The volume, finished: made if the request says so, and with its filesystem. */
  async #mustBeReady(name: string, create?: VolumeSpec): Promise<StoredVolume> {
    if (create) return (await this.#ensureCreated(name, create)).volume
    const volume = await this.#mustFind(name)
    const intent = await this.#begun(volume)
    if (!intent) return volume
    if (intent.phase === 'unreadable') throw unreadable(name, intent)
    if (intent.phase === 'removing')
      throw new VolumeError('not-found', `Cannot use ${name} as it is being removed; remove it again to finish that.`)
    return 'sizeBytes' in intent ? (await this.#ensureCreated(name, intent)).volume : volume
  }

  async #ensureCreated(
    name: string,
    spec: VolumeSpec,
  ): Promise<{ action: 'created' | 'unchanged'; volume: StoredVolume }> {
    const { pool } = this.#parts
    const { sizeBytes, fsType, mkfsOptions } = spec
    const existing = await pool.find(name)
    const begun = existing && (await this.#begun(existing))
    if (existing && begun?.phase === 'unreadable') throw unreadable(name, begun)
    if (existing && !begun) await this.#intents.clear(name)
    if (existing && (!begun || begun.phase === 'growing')) return { action: 'unchanged', volume: existing }
    if (pool.sourceKind === 'device' && sizeBytes < minimumBytes[fsType])
      throw new VolumeError(
        'invalid',
        `Cannot create ${name} with ${fsType} as its size must be at least ${formatSize(minimumBytes[fsType])}: it is ${formatSize(sizeBytes)}.`,
      )
    if (fsType === 'block' && pool.sourceKind === 'directory')
      throw new VolumeError(
        'invalid',
        `Cannot create ${name} as a block device as the volumes of this ${pool.driverKind} pool are directories.`,
      )
    if (existing && begun?.phase === 'formatting' && begun.fsType !== fsType && begun.fsType !== 'block') {
      // What it would be removed with, but for the filesystem that it was to have, is somebody's.
      const source = await pool.activate(name)
      if (source.kind === 'device') await this.#mustBeBlank(name, source.path, begun.fsType)
    } else if (existing && begun?.phase === 'formatting' && begun.fsType === fsType) {
      const { volume } = await pool.grow(name, sizeBytes)
      await this.#formatAgain(name, { ...begun, sizeBytes, fsType, mkfsOptions })
      return { action: 'created', volume }
    }
    if (existing) await this.#removeStored(name)
    return await this.#createNew(name, { phase: 'creating', id: randomUUID(), sizeBytes, fsType, mkfsOptions })
  }

  async #createNew(
    name: string,
    intent: FormatIntent,
  ): Promise<{ action: 'created' | 'unchanged'; volume: StoredVolume }> {
    await this.#intents.set(name, intent)
    try {
      const created = await this.#parts.pool.create(name, intent)
      if (created.action === 'created') await this.#format(name, intent)
      else await this.#intents.clear(name)
      return created
    } catch (error) {
      await this.#undoCreation(name, intent.id)
      throw error
    }
  }

  /** Takes back a creation that failed, so that nothing of it stays; if that fails too, it stays known as unfinished. */
  async #undoCreation(name: string, id: string): Promise<void> {
    try {
      const volume = await this.#lookUp(name)
      if (volume?.id === id) await this.#removeStored(name)
      else await this.#intents.clear(name)
    } catch (error) {
      this.#parts.log.warn(`Volume ${name} is left unfinished: ${messageOf(error)}`, { volume: name })
    }
  }

  /** What was cut short may have it mounted, to see whether that can be. */
  async #formatAgain(name: string, intent: FormatIntent): Promise<void> {
    await this.#stages.releaseUnused(name)
    await this.#format(name, intent)
  }

  /** Gives a new volume its filesystem; from then on it is one that may hold data. */
  async #format(name: string, intent: FormatIntent): Promise<void> {
    const { pool, filesystems } = this.#parts
    await this.#intents.set(name, { ...intent, phase: 'formatting' })
    const source = await pool.activate(name)
    const { fsType, mkfsOptions, sizeBytes } = intent
    if (source.kind === 'device') {
      if (fsType !== 'block') await this.#mustBeBlank(name, source.path, fsType)
      if (await this.#parts.mounts.isHeld(source.path))
        throw new VolumeError('busy', `Cannot format ${name} as the kernel has ${source.path} in use.`)
      if (fsType !== 'block') {
        await filesystems.make(source.path, fsType, mkfsOptions, sizeBytes)
        await this.#stages.noteMade(name, source.path, { fsType, mkfsOptions })
      } else if ((await pool.find(name))?.leavesBlocks) await filesystems.zero(source.path)
    }
    await this.#intents.finish(name)
  }

  /** Throws `exists` where there is more than an earlier attempt may have left. */
  async #mustBeBlank(name: string, device: string, fsType: Content): Promise<void> {
    const found = await this.#parts.filesystems.signatures(device)
    if (found.some((type) => type !== fsType))
      throw new VolumeError(
        'exists',
        `Cannot format ${name} as ${device} must be blank: it holds ${found.join(', ')}. If nobody needs that, give the volume up; if somebody does, copy it away first.`,
      )
  }

  async #view(volume: StoredVolume, table: MountTable): Promise<VolumeView> {
    const { pool, mounts } = this.#parts
    const shown = shownBy(table, volume)
    const readable = pool.sourceKind === 'directory' ? volume.path : shown[0]?.target
    return buildView({
      volume,
      pool,
      intent: this.#intents.of(volume),
      isBusy: this.#locks.isBusy(volume.name),
      failures: this.failures.of(volume.name),
      shown,
      targets: this.#stages.targets(table, volume),
      hasErrors: shown.length > 0 && (await this.#stages.hasErrors(volume)),
      usage: readable && !volume.problem ? await mounts.usage(readable).catch(messageOf) : undefined,
    })
  }
}

/** Throws `invalid`: what is a block device is never taken for a filesystem, nor the other way round. */
function mustBeAsked({ name, fsType }: MountRequest, volume: StoredVolume): void {
  if ((fsType === 'block') === (volume.fsType === 'block')) return
  throw new VolumeError(
    'invalid',
    fsType === 'block'
      ? `Cannot serve ${name} as a block device as it was created with a filesystem${volume.fsType ? `, ${volume.fsType}` : ''}.`
      : `Cannot mount ${name} as it is a block device, whose content is its user's.`,
  )
}

function unreadable(name: string, { problem }: UnreadableIntent): VolumeError {
  return new VolumeError(
    'failed',
    `Cannot use ${name} as it is unknown whether it was ever finished: ${problem}. If it was in use, remove that file and restart the daemon; else give the volume up.`,
  )
}

function partition<T>(all: readonly T[], isFirst: (each: T) => boolean): [T[], T[]] {
  return [all.filter(isFirst), all.filter((each) => !isFirst(each))]
}
