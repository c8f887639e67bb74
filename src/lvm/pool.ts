import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
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
import { readDeviceFile, readDeviceUuid } from './device.ts'
import { classify, isGroupMissing, lvmError } from './failure.ts'
import {
  type LogicalVolume,
  type LvmAnswer,
  lvColumns,
  parseLogicalVolume,
  parseVolumeGroup,
  type VolumeGroup,
  vgColumns,
} from './report.ts'
import type { LvmShell } from './shell.ts'

/** The tag that makes a logical volume ours. */
export const ownTag = 'elastic-local'
const fsTagPrefix = `${ownTag}.fs=`
const idTagPrefix = `${ownTag}.id=`

export interface ThinOptions {
  poolName: string
  /** How many times its data area the pool may promise. */
  overcommitRatio: number
  /** Percent in use from which on nothing new is made. */
  dataWatermark: number
  metadataWatermark: number
}

export interface LvmPoolParts {
  shell: Pick<LvmShell, 'run' | 'pending' | 'close'>
  volumeGroup: string
  /** Set for thin volumes; they share a pool that is made at the first one. */
  thin: ThinOptions | undefined
  now: () => Date
  /** The clock that `shell` reads. */
  uptimeMs: () => number
  /** A command that works for longer is shown as a problem, and looking does not wait behind it. */
  slowCommandMs?: number
  /** Where LVM keeps a copy of the group's description (vgcfgbackup(8)). */
  backupFile?: string
  log: Pick<Log, 'warn'>
}

/** Share of a volume group that a new thin pool leaves free, so that its metadata can grow. */
const thinPoolPercent = 95
/** Percent in use of the metadata area from which on nothing new is made. */
const metadataAreaPercent = 90n
/** What the description of one more volume takes at the most; some 450 bytes with our tags. */
const metadataVolumeBytes = 1024n
const defaultSlowCommandMs = 60_000
const sectorBytes = 512n

/**
 * Logical volumes of one volume group, linear or thin (lvm(8), lvmthin(7)). Ours carry the tag `elastic-local`, given
 * by the lvcreate that makes them. What LVM reported is kept, and believed only while the kernel's device of a volume
 * bears the UUID of the report, so that mounting needs no LVM command.
 */
export class LvmPool implements Pool {
  readonly driverKind = 'LVM'
  readonly sourceKind = 'device'
  readonly #parts: LvmPoolParts
  #group: VolumeGroup | undefined
  #known = new Map<string, LogicalVolume>()
  #createdSinceCheck = 0
  /** Held from looking at the room until a volume has taken its share. */
  readonly #space = new AsyncLock({ maxPending: Number.POSITIVE_INFINITY })

  constructor(parts: LvmPoolParts) {
    this.#parts = parts
  }

  async start(): Promise<void> {
    const { volumeGroup, log } = this.#parts
    await this.#refresh()
    if ((this.#group?.missingDisks ?? 0) > 0)
      log.warn(`Volume group ${volumeGroup} misses a disk; see "pvs" and "vgs".`)
    await this.#lvm(['vgchange', '--activate', 'y', volumeGroup], (error) => {
      log.warn(`Not all of volume group ${volumeGroup} could be activated: ${messageOf(error)}`)
      return undefined
    })
    await this.#refresh()
    for (const volume of this.#ours()) {
      await this.#heal(volume).catch((error) => log.warn(messageOf(error), { volume: volume.name }))
    }
  }

  /**
   * Makes the kernel's device what LVM says it is: an lvextend that was killed leaves it suspended, which hangs all I/O,
   * at its old size, and LVM finds nothing to extend any more.
   */
  async #heal(volume: LogicalVolume): Promise<void> {
    if (!volume.active || (await this.#isCurrent(volume))) return
    const { volumeGroup } = this.#parts
    await this.#lvm(['lvchange', '--refresh', `${volumeGroup}/${volume.name}`], (error) => {
      throw this.#failure(`Cannot refresh ${volume.name} in volume group ${volumeGroup}`, error)
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
    const sizeBytes = roundUp(request.sizeBytes, (await this.#volumeGroup()).extentBytes)
    await this.#mustHaveMetadataRoom(name)
    if (thin) await this.#mustFitThin(thin, name, sizeBytes)
    const place = thin
      ? ['--type', 'thin', '--thinpool', thin.poolName, '--virtualsize', `${sizeBytes}b`]
      : ['--type', 'linear', '--size', `${sizeBytes}b`, '--wipesignatures', 'y', '--zero', 'y']
    const tags = [ownTag, `${idTagPrefix}${request.id}`, `${fsTagPrefix}${request.fsType}`]
    const tagArgs = tags.flatMap((tag) => ['--addtag', tag])
    const made = await this.#lvm(['lvcreate', '--yes', '--name', name, ...place, ...tagArgs, volumeGroup], (error) => {
      if (classify(error) === 'exists') return undefined
      throw this.#failure(`Cannot make ${name} of ${sizeBytes} bytes in volume group ${volumeGroup}`, error)
    })
    if (!made) return { action: 'unchanged', volume: await this.#mustBeOurs(name) }
    this.#createdSinceCheck += 1
    const uuid = await readDeviceUuid(this.#deviceOf(name))
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
    this.#known.set(name, volume)
    return { action: 'created', volume: this.#toStored(volume) }
  }

  /** Something has that name already: ours is what was asked for, anything else is in the way. */
  async #mustBeOurs(name: string): Promise<StoredVolume> {
    await this.#refresh()
    const volume = this.#findOurs(name)
    if (volume) return this.#toStored(volume)
    throw new VolumeError(
      'exists',
      `Cannot make ${name} as ${this.#deviceOf(name)} is there without our tag "${ownTag}". If it is a volume of the predecessor, see docs/takeover.md; if nobody needs it, rename it.`,
    )
  }

  async find(name: string): Promise<StoredVolume | undefined> {
    const known = this.#findOurs(name)
    if (known && !(await this.#isCurrent(known))) await this.#refresh()
    const volume = this.#findOurs(name)
    return volume && this.#toStored(volume)
  }

  async list({ impatient = false } = {}): Promise<StoredVolume[]> {
    await (impatient ? this.#refreshUnlessHung() : this.#refresh())
    return this.#ours().map((volume) => this.#toStored(volume))
  }

  async unmarked(): Promise<UnmarkedVolume[]> {
    await this.#refresh()
    return this.#unmarked().map(({ name, sizeBytes }) => ({ name, path: this.#deviceOf(name), sizeBytes }))
  }

  async adopt(name: string, { id }: CreateRequest): Promise<StoredVolume> {
    const { volumeGroup } = this.#parts
    await this.#refresh()
    if (!this.#unmarked().some((volume) => volume.name === name))
      throw new VolumeError(
        'not-found',
        `Cannot take over ${name} as volume group ${volumeGroup} has no plain or thin logical volume of that name without our tag "${ownTag}".`,
      )
    const tags = [ownTag, `${idTagPrefix}${id}`].flatMap((tag) => ['--addtag', tag])
    await this.#lvm(['lvchange', ...tags, `${volumeGroup}/${name}`], (error) => {
      throw this.#failure(`Cannot mark ${name} in volume group ${volumeGroup} as ours`, error)
    })
    return await this.#mustBeOurs(name)
  }

  async grow(name: string, sizeBytes: bigint): Promise<{ action: 'grown' | 'unchanged'; volume: StoredVolume }> {
    return await this.#space.acquire(this.#parts.volumeGroup, () => this.#grow(name, sizeBytes))
  }

  async #grow(name: string, sizeBytes: bigint): Promise<{ action: 'grown' | 'unchanged'; volume: StoredVolume }> {
    const { volumeGroup, thin } = this.#parts
    await this.#refresh()
    const volume = this.#findOurs(name)
    if (!volume) throw new VolumeError('not-found', `Cannot find volume ${name} in volume group ${volumeGroup}.`)
    const grownBytes = roundUp(sizeBytes, (await this.#volumeGroup()).extentBytes)
    await this.#heal(volume)
    if (grownBytes <= volume.sizeBytes) return { action: 'unchanged', volume: this.#toStored(volume) }
    if (thin && volume.thinPool) await this.#mustFitThin(thin, name, grownBytes - volume.sizeBytes)
    await this.#lvm(['lvextend', '--size', `${grownBytes}b`, `${volumeGroup}/${name}`], (error) => {
      throw this.#failure(`Cannot grow ${name} to ${grownBytes} bytes in volume group ${volumeGroup}`, error)
    })
    const grown = { ...volume, sizeBytes: grownBytes }
    this.#known.set(name, grown)
    return { action: 'grown', volume: this.#toStored(grown) }
  }

  async remove(name: string): Promise<{ action: 'removed' | 'unchanged' }> {
    const { volumeGroup } = this.#parts
    await this.#refresh()
    if (!this.#findOurs(name)) return { action: 'unchanged' }
    await this.#lvm(['lvremove', '--yes', `${volumeGroup}/${name}`], (error) => {
      throw this.#failure(`Cannot remove ${name} from volume group ${volumeGroup}`, error)
    })
    this.#known.delete(name)
    return { action: 'removed' }
  }

  async activate(name: string): Promise<Source> {
    const { volumeGroup } = this.#parts
    const known = this.#findOurs(name)
    if (known && (await this.#isCurrent(known))) return { kind: 'device', path: this.#deviceOf(name) }
    await this.#refresh()
    const volume = this.#findOurs(name)
    if (!volume) throw new VolumeError('not-found', `Cannot find volume ${name} in volume group ${volumeGroup}.`)
    if (volume.active) await this.#heal(volume)
    else
      await this.#lvm(['lvchange', '--activate', 'y', `${volumeGroup}/${name}`], (error) => {
        throw this.#failure(`Cannot activate ${name} in volume group ${volumeGroup}`, error)
      })
    await this.#refresh()
    return { kind: 'device', path: this.#deviceOf(name) }
  }

  /** A logical volume stays active: that takes nothing from the node, and its group is activated as a whole. */
  async deactivate(): Promise<void> {}

  async report(): Promise<PoolReport> {
    const { volumeGroup, thin } = this.#parts
    await this.#refreshUnlessHung()
    const group = await this.#volumeGroup()
    const reservedBytes = sum(this.#ours().map((volume) => volume.sizeBytes))
    const common = {
      id: group.uuid,
      driverKind: 'LVM',
      reservedBytes,
      volumes: this.#ours().length,
      unitBytes: group.extentBytes,
      enforcesSize: true,
    } as const
    const problems = [...this.#groupProblems(group), ...this.#queueProblems()]
    if (!thin) {
      const totalBytes = reservedBytes + group.freeBytes
      const freeBytes = group.missingDisks > 0 ? 0n : group.freeBytes
      return { ...common, name: volumeGroup, totalBytes, freeBytes, problems }
    }
    const room = this.#thinRoom(thin, group)
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

  #groupProblems(group: VolumeGroup): string[] {
    const problems = []
    if (group.missingDisks > 0)
      problems.push(`${group.missingDisks} of its disks are missing, so LVM makes and grows no volume in it`)
    if (metadataAreaUsed(group) >= metadataAreaPercent) problems.push('its metadata area is nearly full')
    return problems
  }

  #queueProblems(): string[] {
    const { running, waiting } = this.#parts.shell.pending
    const workedMs = running ? this.#parts.uptimeMs() - running.sinceMs : 0
    if (!running || workedMs < this.#slowCommandMs) return []
    return [
      `"${running.command.join(' ')}" has been running for ${Math.round(workedMs / 1000)} s and ${waiting} commands wait behind it`,
    ]
  }

  /** Refuses before LVM would fail in the middle: a group whose description no longer fits cannot be changed at all. */
  async #mustHaveMetadataRoom(name: string): Promise<void> {
    const known = await this.#volumeGroup()
    const guessedFreeBytes = known.metadataFreeBytes - BigInt(this.#createdSinceCheck + 1) * metadataVolumeBytes
    if (metadataAreaUsed({ ...known, metadataFreeBytes: guessedFreeBytes }) < metadataAreaPercent) return
    await this.#refresh()
    const group = await this.#volumeGroup()
    if (metadataAreaUsed(group) < metadataAreaPercent) return
    throw new VolumeError(
      'no-space',
      `Cannot make ${name} as the metadata area of volume group ${this.#parts.volumeGroup} is nearly full (${group.metadataFreeBytes} of ${group.metadataAreaBytes / 2n} bytes free) with ${this.#known.size} volumes; remove some, or use a group whose disks were made with a larger "pvcreate --metadatasize".`,
    )
  }

  /** Makes the thin pool if it is not there. Throws `no-space` when it may not promise that much more. */
  async #mustFitThin(thin: ThinOptions, name: string, sizeBytes: bigint): Promise<void> {
    await this.#refreshThinPool(thin)
    await this.#mustHaveThinRoom(thin, name, sizeBytes)
    if (this.#known.has(thin.poolName)) return
    await this.#makeThinPool(thin)
    // Its metadata has taken a share that nobody could tell before.
    await this.#mustHaveThinRoom(thin, name, sizeBytes)
  }

  async #mustHaveThinRoom(thin: ThinOptions, name: string, sizeBytes: bigint): Promise<void> {
    const room = this.#thinRoom(thin, await this.#volumeGroup())
    if (room.refusal) throw new VolumeError('no-space', `Cannot give ${name} ${sizeBytes} bytes as ${room.refusal}.`)
    if (sizeBytes > room.freeBytes)
      throw new VolumeError(
        'no-space',
        `Cannot give ${name} ${sizeBytes} bytes as thin pool ${thin.poolName} may promise ${room.freeBytes} more (overcommit ratio ${thin.overcommitRatio}).`,
      )
  }

  /** What the thin pool, or the one that would be made, can still promise, and why it takes nothing new if so. */
  #thinRoom(thin: ThinOptions, group: VolumeGroup) {
    const pool = this.#known.get(thin.poolName)
    const dataBytes = pool ? pool.sizeBytes : (group.freeBytes * BigInt(thinPoolPercent)) / 100n
    const promisableBytes = BigInt(Math.floor(Number(dataBytes) * thin.overcommitRatio))
    const promised = [...this.#known.values()].filter((volume) => volume.thinPool === thin.poolName)
    const leftBytes = promisableBytes - sum(promised.map((volume) => volume.sizeBytes))
    return {
      pool,
      promisableBytes,
      freeBytes: leftBytes > 0n ? leftBytes : 0n,
      refusal: pool && thinRefusal(thin, pool),
    }
  }

  async #makeThinPool(thin: ThinOptions): Promise<void> {
    const { volumeGroup } = this.#parts
    const size = ['--extents', `${thinPoolPercent}%FREE`, '--poolmetadataspare', 'y']
    const safety = ['--errorwhenfull', 'y', '--zero', 'y', '--wipesignatures', 'y']
    // With "--type thin-pool --name" in place of "--thin", LVM 2.03.16 refuses --errorwhenfull.
    const command = ['lvcreate', '--yes', '--thin', ...size, ...safety, `${volumeGroup}/${thin.poolName}`]
    await this.#lvm(command, (error) => {
      throw this.#failure(`Cannot make thin pool ${thin.poolName} in volume group ${volumeGroup}`, error)
    })
    await this.#refresh()
  }

  /** Looks at all volumes and at the group. Throws `not-found` when there is no such group. */
  async #refresh(): Promise<void> {
    const { volumeGroup } = this.#parts
    const [groups, volumes] = await Promise.all([
      this.#read('vgs', vgColumns, volumeGroup),
      this.#read('lvs', lvColumns, volumeGroup),
    ])
    const [row] = groups.vg
    if (!row) throw new VolumeError('failed', `Cannot read volume group ${volumeGroup}: LVM answered without it.`)
    this.#group = parseVolumeGroup(row)
    // Once asked for one volume, a shell of 2.03.16 lists the hidden parts of thin pools too, in brackets.
    const visible = volumes.lv.map(parseLogicalVolume).filter((volume) => !volume.name.startsWith('['))
    this.#known = new Map(visible.map((volume) => [volume.name, volume]))
    this.#createdSinceCheck = 0
  }

  /** Looks, unless that waits behind a command that hangs: then what is known is a better answer than none. */
  async #refreshUnlessHung(): Promise<void> {
    if (!this.#group) return await this.#refresh()
    if (this.#queueProblems().length > 0) return
    const refreshed = this.#refresh().then(() => true)
    for (;;) {
      const patience = new AbortController()
      const waited = sleep(this.#slowCommandMs, false, { signal: patience.signal }).catch(() => false)
      try {
        if ((await Promise.race([refreshed, waited])) || this.#queueProblems().length > 0) return
      } finally {
        patience.abort()
      }
    }
  }

  get #slowCommandMs(): number {
    return this.#parts.slowCommandMs ?? defaultSlowCommandMs
  }

  /** Looks at how full the thin pool is, which changes with every write to a volume. */
  async #refreshThinPool(thin: ThinOptions): Promise<void> {
    if (!this.#known.has(thin.poolName)) return await this.#refresh()
    const { lv } = await this.#read('lvs', lvColumns, `${this.#parts.volumeGroup}/${thin.poolName}`)
    for (const volume of lv.map(parseLogicalVolume)) this.#known.set(volume.name, volume)
  }

  async #read(command: 'vgs' | 'lvs', columns: string, what: string): Promise<LvmAnswer> {
    const { shell, volumeGroup } = this.#parts
    try {
      return await shell.run([command, '--units', 'b', '--nosuffix', '-o', columns, what])
    } catch (error) {
      throw this.#failure(`Cannot read volume group ${volumeGroup}`, error)
    }
  }

  #failure(what: string, error: unknown): VolumeError {
    return lvmError(isGroupMissing(error) ? `${what}${this.#adviseOnMissingGroup()}` : what, error)
  }

  #adviseOnMissingGroup(): string {
    const { volumeGroup, backupFile } = this.#parts
    const hasBackup = backupFile !== undefined && existsSync(backupFile)
    if (!hasBackup && !this.#group)
      return `; make it with "vgcreate ${volumeGroup} <disk>…", or name another with --lvm-volume-group`
    const restore = hasBackup
      ? `"vgcfgrestore --file ${backupFile} ${volumeGroup}" brings back its description, after "pvcreate --restorefile ${backupFile} --uuid <uuid> <disk>" for disks that have lost theirs`
      : 'see vgcfgrestore(8)'
    return `, which was there before; do not make it anew: look with "pvs" whether its disks are there, and if they are, ${restore}`
  }

  async #volumeGroup(): Promise<VolumeGroup> {
    if (!this.#group) await this.#refresh()
    if (this.#group) return this.#group
    throw new VolumeError('failed', `Cannot read volume group ${this.#parts.volumeGroup}.`)
  }

  async #lvm<T>(command: string[], onError: (error: unknown) => T): Promise<true | T> {
    return await this.#parts.shell.run(command).then(() => true as const, onError)
  }

  #ours(): LogicalVolume[] {
    return [...this.#known.values()].filter(isOurs)
  }

  #unmarked(): LogicalVolume[] {
    const isPlain = ({ segmentType }: LogicalVolume) => segmentType === 'linear' || segmentType === 'thin'
    return [...this.#known.values()].filter(
      (volume) => isPlain(volume) && !volume.tags.includes(ownTag) && isVolumeName(volume.name),
    )
  }

  #findOurs(name: string): LogicalVolume | undefined {
    const volume = this.#known.get(name)
    return volume && isOurs(volume) ? volume : undefined
  }

  /** Whether the kernel's device is that very logical volume, at work, and as large as it was reported. */
  async #isCurrent(volume: LogicalVolume): Promise<boolean> {
    const device = this.#deviceOf(volume.name)
    if ((await readDeviceUuid(device)) !== volume.uuid || volume.uuid === '') return false
    if ((await readDeviceFile(device, 'dm/suspended')) !== '0') return false
    const sectors = (await readDeviceFile(device, 'size')) ?? '0'
    return BigInt(sectors) * sectorBytes === volume.sizeBytes
  }

  #deviceOf(name: string): string {
    return `/dev/${this.#parts.volumeGroup}/${name}`
  }

  #toStored(volume: LogicalVolume): StoredVolume {
    const path = this.#deviceOf(volume.name)
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

/** Percent in use of what the text may fill: half of the area, as `vg_mda_free` counts it too. */
function metadataAreaUsed({ metadataAreaBytes, metadataFreeBytes }: VolumeGroup): bigint {
  const usableBytes = metadataAreaBytes / 2n
  return usableBytes === 0n ? 0n : ((usableBytes - metadataFreeBytes) * 100n) / usableBytes
}

function thinRefusal(thin: ThinOptions, pool: LogicalVolume): string | undefined {
  if (pool.segmentType !== 'thin-pool') return `${pool.name} is there and no thin pool but ${pool.segmentType}`
  const { dataPercent = 0, metadataPercent = 0 } = pool
  if (dataPercent >= thin.dataWatermark)
    return `thin pool ${pool.name} has ${dataPercent} % of its data area in use, and nothing new is made from ${thin.dataWatermark} % on`
  const metadataLimit = Math.min(thin.metadataWatermark, lvmMetadataLimit(pool))
  if (metadataPercent >= metadataLimit)
    return `thin pool ${pool.name} has ${metadataPercent} % of its metadata area in use, and nothing new is made from ${metadataLimit} % on`
  // LVM tells no percentages of a pool that has failed, and calls one that is full not well, too.
  if (pool.health !== '')
    return `thin pool ${pool.name} is not well (LVM calls it ${pool.health}), and nothing new is made until it is repaired, see lvmthin(7)`
  return undefined
}

/** Percent from which on LVM itself makes nothing new: it leaves a quarter, or 4 MiB of a large area (thin_manip.c). */
function lvmMetadataLimit({ metadataBytes = 0n }: LogicalVolume): number {
  const areaBytes = Number(metadataBytes)
  return 100 - Math.min(25, ((4 << 20) * 100) / Math.max(areaBytes, 1))
}
