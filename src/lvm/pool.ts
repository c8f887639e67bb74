import AsyncLock from 'async-lock'
import type { Log } from '../log.ts'
import { formatSize } from '../text/quantity.ts'
import { codeOf, messageOf, VolumeError } from '../volume/errors.ts'
import { isVolumeName } from '../volume/name.ts'
import { mustBeClosed } from '../volume/openers.ts'
import {
  type CreateRequest,
  contents,
  type ForeignVolume,
  type Grown,
  type Pool,
  type PoolReport,
  type Source,
  type StoredVolume,
  type UnmarkedVolume,
} from '../volume/pool.ts'
import { roundUp } from '../volume/size.ts'
import { readMapperDevice, uuidOfNew } from './device.ts'
import { classify } from './failure.ts'
import { Group, type GroupParts, metadataAreaPercent, metadataAreaUsed } from './group.ts'
import type { LogicalVolume, VolumeGroup } from './report.ts'
import type { LvmShell } from './shell.ts'
import { measureThinPool, planThinPool, type ThinOptions } from './thin.ts'

/** The tag that makes a logical volume ours. */
export const ownTag = 'elastic-local'
const fsTagPrefix = `${ownTag}.fs=`
const idTagPrefix = `${ownTag}.id=`
/** The tag of room that is being zeroed for a block device to grow into. */
const roomTag = `${ownTag}.room`
/** Of which volume it is, which has no underscore in its name. */
const roomOf = (name: string) => `${name}_room`
/** What is over by itself is told of for so long: for two looks of whoever tells. */
const suspensionToldMs = 60_000
/** How many ranges of extents one command names, of the words that it may have. */
const mostRanges = 50

export interface LvmPoolParts extends GroupParts {
  shell: Pick<LvmShell, 'run' | 'pending' | 'close'>
  /** Set for thin volumes; they share a pool that is made at the first one. */
  thin: ThinOptions | undefined
  /** Makes a new device read as zeros. */
  zero: (device: string) => Promise<void>
  now: () => Date
  log: Pick<Log, 'warn'>
}

/**
 * Logical volumes of one volume group, linear or thin (lvm(8), lvmthin(7)). Ours carry the tag `elastic-local`, given
 * by the lvcreate that makes them. What LVM reported is kept, and believed only while the kernel's device of a volume
 * bears the UUID of the report, so that mounting needs no LVM command.
 */
export class LvmPool implements Pool {
  readonly driverKind = 'LVM'
  readonly sourceKind = 'device'
  readonly #parts: LvmPoolParts
  readonly #group: Group
  #isStarting = false
  #isStarted = false
  /** Held from looking at the room until a volume has taken its share. */
  readonly #space = new AsyncLock({ maxPending: Number.POSITIVE_INFINITY })
  /** When a device of ours was last found suspended, by the machine's uptime. */
  readonly #suspendedMs = new Map<string, number>()

  constructor(parts: LvmPoolParts) {
    this.#parts = parts
    this.#group = new Group(parts)
  }

  async start(): Promise<void> {
    this.#isStarting = true
    try {
      await this.#start()
      this.#isStarted = true
    } finally {
      this.#isStarting = false
    }
  }

  async #start(): Promise<void> {
    const { volumeGroup, thin, log } = this.#parts
    await this.#group.refresh()
    // LVM changes nothing of a group that misses a disk, for nobody.
    if ((await this.#group.facts()).missingDisks > 0)
      log.warn(`Volume group ${volumeGroup} lacks a disk; see "pvs" and "vgs".`)
    else await this.#group.claim()
    const pool = thin && this.#group.volumes.get(thin.poolName)
    // How full it is, it tells only while it is active.
    if (pool && !pool.active) await this.#activateAll([`${volumeGroup}/${pool.name}`])
    if (this.#ours().some((volume) => !volume.active))
      await this.#activateAll(['--select', `lv_tags=${ownTag}`, volumeGroup])
    for (const { name, tags } of this.#group.volumes.values())
      if (tags.includes(roomTag)) await this.#removeRoom(name).catch((error) => log.warn(messageOf(error)))
    for (const volume of this.#ours()) {
      await this.#heal(volume).catch((error) => log.warn(messageOf(error), { volume: volume.name }))
    }
  }

  async #activateAll(which: string[]): Promise<void> {
    const { volumeGroup, log } = this.#parts
    await this.#group.change(['lvchange', '--activate', 'y', ...which], (error) => {
      log.warn(`Not all of our volumes in volume group ${volumeGroup} could be activated: ${messageOf(error)}`)
      return undefined
    })
    await this.#group.refresh()
  }

  /** Nothing waits behind a start that hangs. */
  async mustBeThere(): Promise<void> {
    if (!this.#isStarting) return
    const running = this.#group.running()
    throw new VolumeError(
      'unavailable',
      `Cannot use volumes on this node yet as LVM has not reported what is in volume group ${this.#parts.volumeGroup} since the daemon started${running ? `: ${running}` : ''}. Check the kernel log (dmesg) for the disk that hangs; it continues automatically when LVM answers.`,
    )
  }

  /**
   * Looks at all that is there. What LVM reports as suspended, while it lets nobody change the group, was left so: it is
   * resumed. Nobody waits for that.
   */
  async #look({ impatient = false } = {}): Promise<void> {
    const hasLooked = impatient ? await this.#group.refreshUnlessHung() : await this.#group.refresh().then(() => true)
    if (hasLooked && this.#isStarted)
      for (const volume of this.#group.volumes.values())
        if (volume.suspended && (isOurs(volume) || volume.name === this.#parts.thin?.poolName)) this.#resume(volume)
  }

  /** What was left suspended lately: that is over before anybody has heard of it. */
  #suspensions(): string[] {
    const since = this.#parts.uptimeMs() - suspensionToldMs
    return [...this.#suspendedMs]
      .filter(([, at]) => at > since)
      .map(([name]) => `${name} was left suspended, which blocked all its users, and was resumed`)
  }

  async #resume(volume: LogicalVolume): Promise<void> {
    const { log, uptimeMs } = this.#parts
    const about = { volume: volume.name }
    this.#suspendedMs.set(volume.name, uptimeMs())
    await this.#refreshDevice(volume).then(
      () => log.warn(`${volume.name} was left suspended, which blocked all its users: it is resumed.`, about),
      (error) => log.warn(messageOf(error), about),
    )
  }

  /**
   * Makes the kernel's device what LVM says it is: an lvextend that was killed leaves it suspended, which hangs all I/O,
   * at its old size, and LVM finds nothing to extend any more.
   */
  async #heal(volume: LogicalVolume): Promise<void> {
    if (volume.active && !(await this.#group.isCurrent(volume))) await this.#refreshDevice(volume)
  }

  async #refreshDevice(volume: LogicalVolume): Promise<void> {
    const { volumeGroup } = this.#parts
    await this.#group.change(['lvchange', '--refresh', `${volumeGroup}/${volume.name}`], async (error) => {
      throw await this.#group.failure(`Cannot refresh ${volume.name} in volume group ${volumeGroup}`, error)
    })
  }

  async stop(): Promise<void> {
    await this.#parts.shell.close()
  }

  async create(
    name: string,
    request: CreateRequest,
  ): Promise<{ action: 'created' | 'unchanged'; volume: StoredVolume }> {
    const { volumeGroup, thin } = this.#parts
    // Before it waits for its turn, so that all who wait share a look; what has changed since, LVM says itself.
    await this.#group.refreshFacts()
    return await this.#space.acquire(volumeGroup, () => this.#create(name, request, thin))
  }

  async #create(
    name: string,
    request: CreateRequest,
    thin: ThinOptions | undefined,
  ): Promise<{ action: 'created' | 'unchanged'; volume: StoredVolume }> {
    const { volumeGroup } = this.#parts
    if (/^(snapshot|pvmove)/.test(name) || name === thin?.poolName)
      throw new VolumeError(
        'invalid',
        `Cannot create ${name} as that name is reserved; LVM keeps "snapshot…" and "pvmove…" for itself.`,
      )
    const group = await this.#group.facts()
    const sizeBytes = roundUp(request.sizeBytes, this.#unitBytes(group))
    this.#mustHaveMetadataRoom(name, group)
    if (thin) await this.#mustFitThin(thin, name, sizeBytes)
    const place = thin
      ? ['--type', 'thin', '--thinpool', thin.poolName, '--virtualsize', `${sizeBytes}b`]
      : ['--type', 'linear', '--size', `${sizeBytes}b`, '--wipesignatures', 'y', '--zero', 'y']
    const tags = [ownTag, `${idTagPrefix}${request.id}`, `${fsTagPrefix}${request.fsType}`]
    const tagArgs = tags.flatMap((tag) => ['--addtag', tag])
    const made = await this.#group.change(
      ['lvcreate', '--yes', '--name', name, ...place, ...tagArgs, volumeGroup],
      async (error) => {
        if (classify(error) === 'exists') return undefined
        throw await this.#group.failure(
          `Cannot create ${name} of ${formatSize(sizeBytes)} in volume group ${volumeGroup}`,
          error,
        )
      },
    )
    if (!made) return { action: 'unchanged', volume: await this.#mustBeOurs(name) }
    const uuid = uuidOfNew(await readMapperDevice(this.#group.deviceOf(name)), group, name)
    const volume: LogicalVolume = {
      name,
      uuid: uuid ?? '',
      sizeBytes,
      tags,
      createdAt: this.#parts.now(),
      active: true,
      segmentType: thin ? 'thin' : 'linear',
      thinPool: thin?.poolName ?? '',
      dataPercent: undefined,
      metadataPercent: undefined,
      metadataBytes: undefined,
      health: '',
      suspended: false,
      open: false,
      origin: '',
      zeroes: false,
      whenFull: '',
      chunkBytes: 0n,
    }
    this.#group.volumes.set(name, volume)
    return { action: 'created', volume: this.#toStored(volume) }
  }

  /** Something has that name already: ours is what was asked for, anything else is in the way. */
  async #mustBeOurs(name: string): Promise<StoredVolume> {
    await this.#group.refresh()
    const volume = this.#findOurs(name)
    if (volume) return this.#toStored(volume)
    throw new VolumeError(
      'exists',
      `Cannot create ${name} as ${this.#group.deviceOf(name)} exists without our tag "${ownTag}". If it is a volume of the predecessor, see docs/takeover.md; if nobody needs it, rename it.`,
    )
  }

  async find(name: string): Promise<StoredVolume | undefined> {
    const known = this.#findOurs(name)
    if (known && !(await this.#group.isCurrent(known))) await this.#group.refresh()
    const volume = this.#findOurs(name)
    return volume && this.#toStored(volume)
  }

  async list({ impatient = false } = {}): Promise<StoredVolume[]> {
    await this.#look({ impatient })
    return this.#ours().map((volume) => this.#toStored(volume))
  }

  async unmarked(): Promise<UnmarkedVolume[]> {
    await this.#group.refresh()
    return this.#unmarked().map(({ name, sizeBytes }) => ({ name, path: this.#group.deviceOf(name), sizeBytes }))
  }

  async foreign(origin: string, name: string): Promise<ForeignVolume> {
    const { volumeGroup } = this.#parts
    await this.#group.refresh()
    const volume = this.#group.volumes.get(origin) ?? this.#group.volumes.get(name)
    const refuse = (code: 'not-found' | 'exists' | 'failed', why: string) =>
      new VolumeError(code, `Cannot adopt logical volume ${volumeGroup}/${volume?.name ?? origin} as ${why}.`)
    if (!volume) throw refuse('not-found', 'the group of this node has none of that name')
    if (origin !== name && this.#group.volumes.has(origin) && this.#group.volumes.has(name))
      throw refuse('exists', `${volumeGroup}/${name} exists already, and is what it would be renamed to; check both`)
    const wrong = this.#findWrong(volume)
    if (wrong) throw refuse('failed', wrong)
    const path = this.#group.deviceOf(volume.name)
    return {
      ...{ path, sizeBytes: volume.sizeBytes, source: { kind: 'device', path } },
      mustBeClosed: async () => {
        await mustBeClosed(
          volume.name,
          path,
          async () => {
            await this.#group.refreshOne(volume.name)
            return this.#group.volumes.get(volume.name)?.open ?? false
          },
          'adopt',
        )
      },
    }
  }

  /** Why a logical volume of others cannot be one of this pool as it is. */
  #findWrong(volume: LogicalVolume): string | undefined {
    const { volumeGroup, thin } = this.#parts
    const { segmentType, thinPool, tags, active, suspended, health } = volume
    if (tags.some((tag) => tag === ownTag || tag.startsWith(`${ownTag}.`))) return 'it has a tag of ours already'
    const wanted = thin ? `thin, of thin pool ${thin.poolName}` : 'linear'
    const isWanted = thin ? segmentType === 'thin' && thinPool === thin.poolName : segmentType === 'linear'
    if (!isWanted)
      return `volumes of this daemon are ${wanted}, and it is ${segmentType}${thinPool ? `, of thin pool ${thinPool}` : ''}`
    if (health !== '') return `LVM finds it ${health}`
    if (suspended) return 'its device is suspended'
    if (!active)
      return `it is not active; "lvchange --activate y --ignoreactivationskip ${volumeGroup}/${volume.name}" activates it`
    const dependents = [...this.#group.volumes.values()].filter((other) => dependsOn(other, volume))
    if (dependents.length > 0)
      return `${dependents.map((other) => `${volumeGroup}/${other.name}`).join(', ')} depends on it, such as a snapshot; remove that first`
    return undefined
  }

  async #rename(origin: string, name: string): Promise<void> {
    const { volumeGroup } = this.#parts
    await this.foreign(origin, name)
    if (origin === name || !this.#group.volumes.has(origin)) return
    await this.#group.change(['lvrename', volumeGroup, origin, name], async (error) => {
      throw await this.#group.failure(`Cannot rename ${origin} in volume group ${volumeGroup} to ${name}`, error)
    })
  }

  async adopt(name: string, { id, fsType }: CreateRequest, origin?: string): Promise<StoredVolume> {
    const { volumeGroup } = this.#parts
    if (origin !== undefined) await this.#rename(origin, name)
    await this.#group.refresh()
    if (!this.#unmarked().some((volume) => volume.name === name))
      throw new VolumeError(
        'not-found',
        `Cannot take over ${name} as volume group ${volumeGroup} has no plain or thin logical volume of that name without our tag "${ownTag}".`,
      )
    // What is on one of the predecessor, nobody said.
    const content = origin === undefined ? [] : [`${fsTagPrefix}${fsType}`]
    const tags = [ownTag, `${idTagPrefix}${id}`, ...content].flatMap((tag) => ['--addtag', tag])
    await this.#group.change(['lvchange', ...tags, `${volumeGroup}/${name}`], async (error) => {
      throw await this.#group.failure(`Cannot mark ${name} in volume group ${volumeGroup} as ours`, error)
    })
    return await this.#mustBeOurs(name)
  }

  async grow(name: string, sizeBytes: bigint): Promise<Grown> {
    const { volumeGroup, zero } = this.#parts
    const room = await this.#space.acquire(volumeGroup, () => this.#makeRoom(name, sizeBytes))
    try {
      // Others need not wait for that.
      if (room) await zero(this.#group.deviceOf(room))
      return await this.#space.acquire(volumeGroup, () => this.#grow(name, sizeBytes, room))
    } catch (error) {
      if (room && this.#group.volumes.has(room)) await this.#removeRoom(room).catch(() => {})
      throw error
    }
  }

  /**
   * What a block device is to grow by, as a volume by itself: whoever has the device open sees its new end at once, and must find
   * there nothing of others; nor may zeros be written where he has written by then. Nothing where new blocks are zeros.
   */
  async #makeRoom(name: string, sizeBytes: bigint): Promise<string | undefined> {
    const { volumeGroup } = this.#parts
    if (!this.#findOurs(name)) await this.#group.refresh()
    const known = this.#findOurs(name)
    if (!known || known.thinPool || this.#toStored(known).fsType !== 'block') return undefined
    await this.#group.refresh()
    const volume = this.#findOurs(name)
    if (!volume) return undefined
    const missingBytes = roundUp(sizeBytes, (await this.#group.facts()).extentBytes) - volume.sizeBytes
    if (missingBytes <= 0n) return undefined
    const room = roomOf(name)
    const there = this.#group.volumes.get(room)
    if (there && !there.tags.includes(roomTag))
      throw new VolumeError(
        'exists',
        `Cannot grow ${name} as ${this.#group.deviceOf(room)} is there without our tag "${roomTag}"; rename it.`,
      )
    if (there) await this.#removeRoom(room)
    const place = ['--type', 'linear', '--size', `${missingBytes}b`, '--wipesignatures', 'y', '--zero', 'y']
    await this.#group.change(
      ['lvcreate', '--yes', '--name', room, ...place, '--addtag', roomTag, volumeGroup],
      async (error) => {
        throw await this.#failureToGrow(name, sizeBytes, error)
      },
    )
    await this.#group.refresh()
    return room
  }

  async #removeRoom(room: string): Promise<void> {
    const { volumeGroup } = this.#parts
    await this.#group.change(['lvremove', '--yes', `${volumeGroup}/${room}`], async (error) => {
      throw await this.#group.failure(`Cannot remove ${room} from volume group ${volumeGroup}`, error)
    })
    this.#group.volumes.delete(room)
  }

  async #failureToGrow(name: string, sizeBytes: bigint, error: unknown): Promise<VolumeError> {
    const { volumeGroup } = this.#parts
    return await this.#group.failure(
      `Cannot grow ${name} to ${formatSize(sizeBytes)} in volume group ${volumeGroup}`,
      error,
    )
  }

  async #grow(name: string, sizeBytes: bigint, room: string | undefined): Promise<Grown> {
    const { volumeGroup, thin } = this.#parts
    await this.#group.refresh()
    const volume = this.#findOurs(name)
    if (!volume) throw new VolumeError('not-found', `Cannot find volume ${name} in volume group ${volumeGroup}.`)
    const grownBytes = roundUp(sizeBytes, this.#unitBytes(await this.#group.facts()))
    await this.#heal(volume)
    if (grownBytes <= volume.sizeBytes) return { action: 'unchanged', volume: this.#toStored(volume) }
    if (thin && volume.thinPool) await this.#mustFitThin(thin, name, grownBytes - volume.sizeBytes)
    if (room) await this.#extendInto(name, room, grownBytes)
    else
      await this.#group.change(['lvextend', '--size', `${grownBytes}b`, `${volumeGroup}/${name}`], async (error) => {
        throw await this.#failureToGrow(name, grownBytes, error)
      })
    const grown = { ...volume, sizeBytes: grownBytes }
    this.#group.volumes.set(name, grown)
    return { action: 'grown', volume: this.#toStored(grown) }
  }

  /** Gives the volume the very extents of that room. */
  async #extendInto(name: string, room: string, grownBytes: bigint): Promise<void> {
    const { volumeGroup } = this.#parts
    const ranges = await this.#group.rangesOf(room)
    await this.#removeRoom(room)
    for (let from = 0; from < ranges.length; from += mostRanges) {
      const some = ranges.slice(from, from + mostRanges)
      const extents = some.reduce((sum, range) => sum + range.extents, 0)
      const places = some.map(({ place }) => place)
      const command = ['lvextend', '--extents', `+${extents}`, `${volumeGroup}/${name}`, ...places]
      await this.#group.change(command, async (error) => {
        throw await this.#failureToGrow(name, grownBytes, error)
      })
    }
  }

  async remove(name: string): Promise<{ action: 'removed' | 'unchanged' }> {
    const { volumeGroup } = this.#parts
    await this.mustBeFree(name)
    if (!this.#findOurs(name)) return { action: 'unchanged' }
    await this.#group.change(['lvremove', '--yes', `${volumeGroup}/${name}`], async (error) => {
      throw await this.#group.failure(`Cannot remove ${name} from volume group ${volumeGroup}`, error)
    })
    this.#group.volumes.delete(name)
    return { action: 'removed' }
  }

  async mustBeFree(name: string): Promise<void> {
    await this.#group.refresh()
    const volume = this.#findOurs(name)
    if (!volume) return
    const dependents = [...this.#group.volumes.values()].filter((other) => dependsOn(other, volume))
    const { volumeGroup } = this.#parts
    if (dependents.length > 0)
      throw new VolumeError(
        'busy',
        `Cannot remove ${name} as LVM would remove with it what depends on it: ${dependents.map((other) => `${volumeGroup}/${other.name}`).join(', ')}; remove that first.`,
      )
    await mustBeClosed(name, this.#group.deviceOf(name), async () => {
      if (this.#findOurs(name)?.open) await this.#group.refreshOne(name)
      return this.#findOurs(name)?.open ?? false
    })
  }

  async activate(name: string): Promise<Source> {
    const { volumeGroup } = this.#parts
    const known = this.#findOurs(name)
    if (known && (await this.#group.isCurrent(known))) return { kind: 'device', path: this.#group.deviceOf(name) }
    await this.#group.refresh()
    const volume = this.#findOurs(name)
    if (!volume) throw new VolumeError('not-found', `Cannot find volume ${name} in volume group ${volumeGroup}.`)
    if (volume.active) await this.#heal(volume)
    else
      await this.#group.change(['lvchange', '--activate', 'y', `${volumeGroup}/${name}`], async (error) => {
        throw await this.#group.failure(`Cannot activate ${name} in volume group ${volumeGroup}`, error)
      })
    await this.#group.refresh()
    return { kind: 'device', path: this.#group.deviceOf(name) }
  }

  /** A logical volume stays active: that takes nothing from the node. */
  async deactivate(): Promise<void> {}

  async report(): Promise<PoolReport> {
    await this.mustBeThere()
    const away = await this.#look({ impatient: true }).then(
      () => [],
      (error) => {
        if (!this.#group.isKnown || codeOf(error) !== 'unavailable') throw error
        return [messageOf(error)]
      },
    )
    const { volumeGroup, thin } = this.#parts
    const group = await this.#group.facts()
    const refusals = [...away, ...this.#group.refusals(group)]
    const allocatedBytes = sum(this.#ours().map((volume) => volume.sizeBytes))
    const common = {
      id: group.uuid,
      driverKind: 'LVM',
      allocatedBytes,
      volumes: this.#ours().length,
      unitBytes: group.extentBytes,
      enforcesSize: true,
    } as const
    if (!thin) {
      const freeBytes = refusals.length > 0 ? 0n : group.freeBytes
      const sizeBytes = allocatedBytes + (away.length > 0 ? 0n : group.freeBytes)
      return {
        ...common,
        name: volumeGroup,
        sizeBytes,
        freeBytes,
        problems: [...refusals, ...this.#suspensions(), ...this.#group.queueProblems()],
      }
    }
    const room = measureThinPool(thin, this.#group.volumes, group)
    const problems = [...refusals, ...(room.refusal ? [room.refusal] : [])]
    return {
      ...common,
      name: `${volumeGroup}/${thin.poolName}`,
      unitBytes: room.unitBytes,
      sizeBytes: room.promisableBytes,
      freeBytes: problems.length > 0 ? 0n : room.freeBytes,
      thin: {
        dataPercent: room.pool?.dataPercent ?? 0,
        metadataPercent: room.pool?.metadataPercent ?? 0,
        overcommitRatio: thin.overcommitRatio,
      },
      problems: [...problems, ...this.#suspensions(), ...this.#group.queueProblems()],
    }
  }

  /** Volumes are made of whole ones. */
  #unitBytes(group: VolumeGroup): bigint {
    const { thin } = this.#parts
    return thin ? measureThinPool(thin, this.#group.volumes, group).unitBytes : group.extentBytes
  }

  /** Refuses before LVM would fail in the middle: a group whose description no longer fits cannot be changed at all. */
  #mustHaveMetadataRoom(name: string, group: VolumeGroup): void {
    if (metadataAreaUsed(group) < metadataAreaPercent) return
    throw new VolumeError(
      'no-space',
      `Cannot create ${name} as the metadata area of volume group ${this.#parts.volumeGroup} is nearly full (${formatSize(group.metadataFreeBytes)} of ${formatSize(group.metadataAreaBytes / 2n)} free) with ${this.#group.volumes.size} volumes; remove some, or use a group whose disks were created with a larger "pvcreate --metadatasize".`,
    )
  }

  /** Makes the thin pool if it is not there. Throws `no-space` when it may not promise that much more. */
  async #mustFitThin(thin: ThinOptions, name: string, sizeBytes: bigint): Promise<void> {
    await this.#group.refreshOne(thin.poolName)
    await this.#mustHaveThinRoom(thin, name, sizeBytes)
    if (this.#group.volumes.has(thin.poolName)) return
    await this.#makeThinPool(thin)
    // Its metadata has taken a share that nobody could tell before.
    await this.#mustHaveThinRoom(thin, name, sizeBytes)
  }

  async #mustHaveThinRoom(thin: ThinOptions, name: string, sizeBytes: bigint): Promise<void> {
    const room = measureThinPool(thin, this.#group.volumes, await this.#group.facts())
    if (room.refusal)
      throw new VolumeError('no-space', `Cannot give ${name} ${formatSize(sizeBytes)} as ${room.refusal}.`)
    if (sizeBytes > room.freeBytes)
      throw new VolumeError(
        'no-space',
        `Cannot give ${name} ${formatSize(sizeBytes)} as thin pool ${thin.poolName} may promise ${formatSize(room.freeBytes)} more (overcommit ratio ${thin.overcommitRatio}).`,
      )
  }

  async #makeThinPool(thin: ThinOptions): Promise<void> {
    const { volumeGroup } = this.#parts
    await this.#group.refresh()
    const { freeBytes, extentBytes } = await this.#group.facts()
    const { data, metadata } = planThinPool(freeBytes, extentBytes)
    const size = [
      '--extents',
      `${data}`,
      '--poolmetadatasize',
      `${metadata * extentBytes}b`,
      '--poolmetadataspare',
      'y',
    ]
    const safety = ['--errorwhenfull', 'y', '--zero', 'y', '--wipesignatures', 'y']
    // With "--type thin-pool --name" in place of "--thin", LVM 2.03.16 refuses --errorwhenfull.
    const command = ['lvcreate', '--yes', '--thin', ...size, ...safety, `${volumeGroup}/${thin.poolName}`]
    await this.#group.change(command, async (error) => {
      throw await this.#group.failure(`Cannot create thin pool ${thin.poolName} in volume group ${volumeGroup}`, error)
    })
    await this.#group.refresh()
  }

  #ours(): LogicalVolume[] {
    return [...this.#group.volumes.values()].filter(isOurs)
  }

  #unmarked(): LogicalVolume[] {
    const isPlain = ({ segmentType }: LogicalVolume) => segmentType === 'linear' || segmentType === 'thin'
    return [...this.#group.volumes.values()].filter(
      (volume) => isPlain(volume) && !volume.tags.includes(ownTag) && isVolumeName(volume.name),
    )
  }

  #findOurs(name: string): LogicalVolume | undefined {
    const volume = this.#group.volumes.get(name)
    return volume && isOurs(volume) ? volume : undefined
  }

  #toStored(volume: LogicalVolume): StoredVolume {
    const path = this.#group.deviceOf(volume.name)
    const tagValue = (prefix: string) => volume.tags.find((tag) => tag.startsWith(prefix))?.slice(prefix.length)
    const fsType = contents.find((type) => type === tagValue(fsTagPrefix))
    const id = tagValue(idTagPrefix)
    return {
      name: volume.name,
      path,
      sizeBytes: volume.sizeBytes,
      createdAt: volume.createdAt,
      // A thin pool zeroes the blocks that it gives.
      leavesBlocks: volume.segmentType !== 'thin',
      ...(id ? { id } : {}),
      ...(fsType ? { fsType } : {}),
      ...(volume.active ? { source: { kind: 'device', path } } : {}),
      ...(volume.health === 'partial' ? { problem: 'part of it is on a missing disk', trouble: 'lost' as const } : {}),
      ...(volume.suspended
        ? { problem: 'its device is suspended, which blocks all its users', trouble: 'stuck' as const }
        : {}),
    }
  }
}

/** A thin pool is never a volume, whatever its tags: with it, all volumes in it would go. */
const isOurs = ({ tags, segmentType }: LogicalVolume) => tags.includes(ownTag) && segmentType !== 'thin-pool'

/** Whether LVM removes the other volume along: all that shows blocks of this one, but thin snapshots, which share them. */
const dependsOn = (other: LogicalVolume, { name, thinPool }: LogicalVolume) =>
  other.origin === name && (thinPool === '' || other.thinPool !== thinPool)

const sum = (numbers: bigint[]) => numbers.reduce((total, each) => total + each, 0n)
