import AsyncLock from 'async-lock'
import type { Log } from '../log.ts'
import { messageOf, VolumeError } from '../volume/errors.ts'
import { isVolumeName } from '../volume/name.ts'
import {
  type CreateRequest,
  fsTypes,
  type Pool,
  type PoolReport,
  type Source,
  type StoredVolume,
  type UnmarkedVolume,
} from '../volume/pool.ts'
import { roundUp } from '../volume/size.ts'
import { readDeviceUuid } from './device.ts'
import { classify } from './failure.ts'
import { Group, type GroupParts, metadataAreaPercent, metadataAreaUsed } from './group.ts'
import type { LogicalVolume } from './report.ts'
import type { LvmShell } from './shell.ts'
import { measureThinPool, type ThinOptions, thinPoolPercent } from './thin.ts'

/** The tag that makes a logical volume ours. */
export const ownTag = 'elastic-local'
const fsTagPrefix = `${ownTag}.fs=`
const idTagPrefix = `${ownTag}.id=`

export interface LvmPoolParts extends GroupParts {
  shell: Pick<LvmShell, 'run' | 'pending' | 'close'>
  /** Set for thin volumes; they share a pool that is made at the first one. */
  thin: ThinOptions | undefined
  now: () => Date
  log: Pick<Log, 'warn'>
}

/** What the description of one more volume takes at the most; some 450 bytes with our tags. */
const metadataVolumeBytes = 1024n

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
  /** Held from looking at the room until a volume has taken its share. */
  readonly #space = new AsyncLock({ maxPending: Number.POSITIVE_INFINITY })

  constructor(parts: LvmPoolParts) {
    this.#parts = parts
    this.#group = new Group(parts)
  }

  async start(): Promise<void> {
    this.#isStarting = true
    try {
      await this.#start()
    } finally {
      this.#isStarting = false
    }
  }

  async #start(): Promise<void> {
    const { volumeGroup, log } = this.#parts
    await this.#group.refresh()
    if ((await this.#group.facts()).missingDisks > 0)
      log.warn(`Volume group ${volumeGroup} misses a disk; see "pvs" and "vgs".`)
    await this.#group.change(['vgchange', '--activate', 'y', volumeGroup], (error) => {
      log.warn(`Not all of volume group ${volumeGroup} could be activated: ${messageOf(error)}`)
      return undefined
    })
    await this.#group.refresh()
    for (const volume of this.#ours()) {
      await this.#heal(volume).catch((error) => log.warn(messageOf(error), { volume: volume.name }))
    }
  }

  /** Nothing waits behind a start that hangs. */
  async mustBeThere(): Promise<void> {
    if (!this.#isStarting) return
    const running = this.#group.running()
    throw new VolumeError(
      'unavailable',
      `Cannot use volumes on this node yet as LVM has not told what is in volume group ${this.#parts.volumeGroup} since the daemon was started${running ? `: ${running}` : ''}. Look in the kernel's log (dmesg) which disk hangs; it goes on by itself when LVM answers.`,
    )
  }

  /**
   * Makes the kernel's device what LVM says it is: an lvextend that was killed leaves it suspended, which hangs all I/O,
   * at its old size, and LVM finds nothing to extend any more.
   */
  async #heal(volume: LogicalVolume): Promise<void> {
    if (!volume.active || (await this.#group.isCurrent(volume))) return
    const { volumeGroup } = this.#parts
    await this.#group.change(['lvchange', '--refresh', `${volumeGroup}/${volume.name}`], (error) => {
      throw this.#group.failure(`Cannot refresh ${volume.name} in volume group ${volumeGroup}`, error)
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
        `Cannot make ${name} as that name is reserved; LVM keeps "snapshot…" and "pvmove…" for itself.`,
      )
    const sizeBytes = roundUp(request.sizeBytes, (await this.#group.facts()).extentBytes)
    await this.#mustHaveMetadataRoom(name)
    if (thin) await this.#mustFitThin(thin, name, sizeBytes)
    const place = thin
      ? ['--type', 'thin', '--thinpool', thin.poolName, '--virtualsize', `${sizeBytes}b`]
      : ['--type', 'linear', '--size', `${sizeBytes}b`, '--wipesignatures', 'y', '--zero', 'y']
    const tags = [ownTag, `${idTagPrefix}${request.id}`, `${fsTagPrefix}${request.fsType}`]
    const tagArgs = tags.flatMap((tag) => ['--addtag', tag])
    const made = await this.#group.change(
      ['lvcreate', '--yes', '--name', name, ...place, ...tagArgs, volumeGroup],
      (error) => {
        if (classify(error) === 'exists') return undefined
        throw this.#group.failure(`Cannot make ${name} of ${sizeBytes} bytes in volume group ${volumeGroup}`, error)
      },
    )
    if (!made) return { action: 'unchanged', volume: await this.#mustBeOurs(name) }
    this.#group.createdSince += 1
    const uuid = await readDeviceUuid(this.#group.deviceOf(name))
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
      `Cannot make ${name} as ${this.#group.deviceOf(name)} is there without our tag "${ownTag}". If it is a volume of the predecessor, see docs/takeover.md; if nobody needs it, rename it.`,
    )
  }

  async find(name: string): Promise<StoredVolume | undefined> {
    const known = this.#findOurs(name)
    if (known && !(await this.#group.isCurrent(known))) await this.#group.refresh()
    const volume = this.#findOurs(name)
    return volume && this.#toStored(volume)
  }

  async list({ impatient = false } = {}): Promise<StoredVolume[]> {
    await (impatient ? this.#group.refreshUnlessHung() : this.#group.refresh())
    return this.#ours().map((volume) => this.#toStored(volume))
  }

  async unmarked(): Promise<UnmarkedVolume[]> {
    await this.#group.refresh()
    return this.#unmarked().map(({ name, sizeBytes }) => ({ name, path: this.#group.deviceOf(name), sizeBytes }))
  }

  async adopt(name: string, { id }: CreateRequest): Promise<StoredVolume> {
    const { volumeGroup } = this.#parts
    await this.#group.refresh()
    if (!this.#unmarked().some((volume) => volume.name === name))
      throw new VolumeError(
        'not-found',
        `Cannot take over ${name} as volume group ${volumeGroup} has no plain or thin logical volume of that name without our tag "${ownTag}".`,
      )
    const tags = [ownTag, `${idTagPrefix}${id}`].flatMap((tag) => ['--addtag', tag])
    await this.#group.change(['lvchange', ...tags, `${volumeGroup}/${name}`], (error) => {
      throw this.#group.failure(`Cannot mark ${name} in volume group ${volumeGroup} as ours`, error)
    })
    return await this.#mustBeOurs(name)
  }

  async grow(name: string, sizeBytes: bigint): Promise<{ action: 'grown' | 'unchanged'; volume: StoredVolume }> {
    return await this.#space.acquire(this.#parts.volumeGroup, () => this.#grow(name, sizeBytes))
  }

  async #grow(name: string, sizeBytes: bigint): Promise<{ action: 'grown' | 'unchanged'; volume: StoredVolume }> {
    const { volumeGroup, thin } = this.#parts
    await this.#group.refresh()
    const volume = this.#findOurs(name)
    if (!volume) throw new VolumeError('not-found', `Cannot find volume ${name} in volume group ${volumeGroup}.`)
    const grownBytes = roundUp(sizeBytes, (await this.#group.facts()).extentBytes)
    await this.#heal(volume)
    if (grownBytes <= volume.sizeBytes) return { action: 'unchanged', volume: this.#toStored(volume) }
    if (thin && volume.thinPool) await this.#mustFitThin(thin, name, grownBytes - volume.sizeBytes)
    await this.#group.change(['lvextend', '--size', `${grownBytes}b`, `${volumeGroup}/${name}`], (error) => {
      throw this.#group.failure(`Cannot grow ${name} to ${grownBytes} bytes in volume group ${volumeGroup}`, error)
    })
    const grown = { ...volume, sizeBytes: grownBytes }
    this.#group.volumes.set(name, grown)
    return { action: 'grown', volume: this.#toStored(grown) }
  }

  async remove(name: string): Promise<{ action: 'removed' | 'unchanged' }> {
    const { volumeGroup } = this.#parts
    await this.#group.refresh()
    if (!this.#findOurs(name)) return { action: 'unchanged' }
    await this.#group.change(['lvremove', '--yes', `${volumeGroup}/${name}`], (error) => {
      throw this.#group.failure(`Cannot remove ${name} from volume group ${volumeGroup}`, error)
    })
    this.#group.volumes.delete(name)
    return { action: 'removed' }
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
      await this.#group.change(['lvchange', '--activate', 'y', `${volumeGroup}/${name}`], (error) => {
        throw this.#group.failure(`Cannot activate ${name} in volume group ${volumeGroup}`, error)
      })
    await this.#group.refresh()
    return { kind: 'device', path: this.#group.deviceOf(name) }
  }

  /** A logical volume stays active: that takes nothing from the node, and its group is activated as a whole. */
  async deactivate(): Promise<void> {}

  async report(): Promise<PoolReport> {
    await this.mustBeThere()
    const { volumeGroup, thin } = this.#parts
    await this.#group.refreshUnlessHung()
    const group = await this.#group.facts()
    const reservedBytes = sum(this.#ours().map((volume) => volume.sizeBytes))
    const common = {
      id: group.uuid,
      driverKind: 'LVM',
      reservedBytes,
      volumes: this.#ours().length,
      unitBytes: group.extentBytes,
      enforcesSize: true,
    } as const
    const problems = this.#group.problems(group)
    if (!thin) {
      const totalBytes = reservedBytes + group.freeBytes
      const freeBytes = group.missingDisks > 0 ? 0n : group.freeBytes
      return { ...common, name: volumeGroup, totalBytes, freeBytes, problems }
    }
    const room = measureThinPool(thin, this.#group.volumes, group.freeBytes)
    return {
      ...common,
      name: `${volumeGroup}/${thin.poolName}`,
      totalBytes: room.promisableBytes,
      freeBytes: room.refusal || group.missingDisks > 0 ? 0n : room.freeBytes,
      thin: {
        dataPercent: room.pool?.dataPercent ?? 0,
        metadataPercent: room.pool?.metadataPercent ?? 0,
        overcommitRatio: thin.overcommitRatio,
      },
      problems: [...problems, ...(room.refusal ? [room.refusal] : [])],
    }
  }

  /** Refuses before LVM would fail in the middle: a group whose description no longer fits cannot be changed at all. */
  async #mustHaveMetadataRoom(name: string): Promise<void> {
    const known = await this.#group.facts()
    const guessedFreeBytes = known.metadataFreeBytes - BigInt(this.#group.createdSince + 1) * metadataVolumeBytes
    if (metadataAreaUsed({ ...known, metadataFreeBytes: guessedFreeBytes }) < metadataAreaPercent) return
    await this.#group.refresh()
    const group = await this.#group.facts()
    if (metadataAreaUsed(group) < metadataAreaPercent) return
    throw new VolumeError(
      'no-space',
      `Cannot make ${name} as the metadata area of volume group ${this.#parts.volumeGroup} is nearly full (${group.metadataFreeBytes} of ${group.metadataAreaBytes / 2n} bytes free) with ${this.#group.volumes.size} volumes; remove some, or use a group whose disks were made with a larger "pvcreate --metadatasize".`,
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
    const room = measureThinPool(thin, this.#group.volumes, (await this.#group.facts()).freeBytes)
    if (room.refusal) throw new VolumeError('no-space', `Cannot give ${name} ${sizeBytes} bytes as ${room.refusal}.`)
    if (sizeBytes > room.freeBytes)
      throw new VolumeError(
        'no-space',
        `Cannot give ${name} ${sizeBytes} bytes as thin pool ${thin.poolName} may promise ${room.freeBytes} more (overcommit ratio ${thin.overcommitRatio}).`,
      )
  }

  async #makeThinPool(thin: ThinOptions): Promise<void> {
    const { volumeGroup } = this.#parts
    const size = ['--extents', `${thinPoolPercent}%FREE`, '--poolmetadataspare', 'y']
    const safety = ['--errorwhenfull', 'y', '--zero', 'y', '--wipesignatures', 'y']
    // With "--type thin-pool --name" in place of "--thin", LVM 2.03.16 refuses --errorwhenfull.
    const command = ['lvcreate', '--yes', '--thin', ...size, ...safety, `${volumeGroup}/${thin.poolName}`]
    await this.#group.change(command, (error) => {
      throw this.#group.failure(`Cannot make thin pool ${thin.poolName} in volume group ${volumeGroup}`, error)
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
    const fsType = fsTypes.find((type) => type === tagValue(fsTagPrefix))
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
      ...(volume.health === 'partial' ? { problem: 'a part of it is on a disk that is missing' } : {}),
    }
  }
}

/** A thin pool is never a volume, whatever its tags: with it, all volumes in it would go. */
const isOurs = ({ tags, segmentType }: LogicalVolume) => tags.includes(ownTag) && segmentType !== 'thin-pool'

const sum = (numbers: bigint[]) => numbers.reduce((total, each) => total + each, 0n)
