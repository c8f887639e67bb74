import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { VolumeError } from '../volume/errors.ts'
import { readDeviceFile, readDeviceUuid } from './device.ts'
import { isGroupMissing, lvmError } from './failure.ts'
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

export interface GroupParts {
  shell: Pick<LvmShell, 'run' | 'pending'>
  volumeGroup: string
  /** The clock that `shell` reads. */
  uptimeMs: () => number
  /** A command that works for longer is shown as a problem, and looking does not wait behind it. */
  slowCommandMs?: number
  /** Where LVM keeps a copy of the group's description (vgcfgbackup(8)). */
  backupFile?: string
}

/** Percent in use of the metadata area from which on nothing new is made. */
export const metadataAreaPercent = 90n
const defaultSlowCommandMs = 60_000
const sectorBytes = 512n

/**
 * One volume group as LVM reported it last, and the way to ask again. A report of a volume is believed only while the
 * kernel's device bears its UUID.
 */
export class Group {
  readonly #parts: GroupParts
  #group: VolumeGroup | undefined
  /** All logical volumes, ours and others'. */
  volumes = new Map<string, LogicalVolume>()
  /** How many were made since the group was looked at. */
  createdSince = 0

  constructor(parts: GroupParts) {
    this.#parts = parts
  }

  /** Looks at all volumes and at the group. Throws `not-found` when there is no such group. */
  async refresh(): Promise<void> {
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
    this.volumes = new Map(visible.map((volume) => [volume.name, volume]))
    this.createdSince = 0
  }

  /** Looks, unless that waits behind a command that hangs: then what is known is a better answer than none. */
  async refreshUnlessHung(): Promise<void> {
    if (!this.#group) return await this.refresh()
    if (this.queueProblems().length > 0) return
    const refreshed = this.refresh().then(() => true)
    for (;;) {
      const patience = new AbortController()
      const waited = sleep(this.#slowCommandMs, false, { signal: patience.signal }).catch(() => false)
      try {
        if ((await Promise.race([refreshed, waited])) || this.queueProblems().length > 0) return
      } finally {
        patience.abort()
      }
    }
  }

  /** Looks at one volume that changes by itself, as a thin pool does with every write; at all if it is not known. */
  async refreshOne(name: string): Promise<void> {
    if (!this.volumes.has(name)) return await this.refresh()
    const { lv } = await this.#read('lvs', lvColumns, `${this.#parts.volumeGroup}/${name}`)
    for (const volume of lv.map(parseLogicalVolume)) this.volumes.set(volume.name, volume)
  }

  /** The group, looked at if it never was. */
  async facts(): Promise<VolumeGroup> {
    if (!this.#group) await this.refresh()
    if (this.#group) return this.#group
    throw new VolumeError('failed', `Cannot read volume group ${this.#parts.volumeGroup}.`)
  }

  /** Runs a command that changes something; what it fails with becomes what `onError` gives or throws. */
  async change<T>(command: string[], onError: (error: unknown) => T): Promise<true | T> {
    return await this.#parts.shell.run(command).then(() => true as const, onError)
  }

  /** Whether the kernel's device is that very logical volume, at work, and as large as it was reported. */
  async isCurrent(volume: LogicalVolume): Promise<boolean> {
    const device = this.deviceOf(volume.name)
    if ((await readDeviceUuid(device)) !== volume.uuid || volume.uuid === '') return false
    if ((await readDeviceFile(device, 'dm/suspended')) !== '0') return false
    const sectors = (await readDeviceFile(device, 'size')) ?? '0'
    return BigInt(sectors) * sectorBytes === volume.sizeBytes
  }

  deviceOf(name: string): string {
    return `/dev/${this.#parts.volumeGroup}/${name}`
  }

  problems(group: VolumeGroup): string[] {
    const problems = []
    if (group.missingDisks > 0)
      problems.push(`${group.missingDisks} of its disks are missing, so LVM makes and grows no volume in it`)
    if (metadataAreaUsed(group) >= metadataAreaPercent) problems.push('its metadata area is nearly full')
    return [...problems, ...this.queueProblems()]
  }

  /** The command that has been running for too long, if one has. */
  queueProblems(): string[] {
    const { running, waiting } = this.#parts.shell.pending
    if (!running || this.#parts.uptimeMs() - running.sinceMs < this.#slowCommandMs) return []
    return [`${this.running()} and ${waiting} commands wait behind it`]
  }

  /** The command that runs, and for how long; nothing when none does. */
  running(): string | undefined {
    const { running } = this.#parts.shell.pending
    if (!running) return undefined
    const seconds = Math.round((this.#parts.uptimeMs() - running.sinceMs) / 1000)
    return `"${running.command.join(' ')}" has been running for ${seconds} s`
  }

  /** LVM's failure in what was to be done, with advice where the group is missing. */
  failure(what: string, error: unknown): VolumeError {
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

  async #read(command: 'vgs' | 'lvs', columns: string, what: string): Promise<LvmAnswer> {
    const { shell, volumeGroup } = this.#parts
    try {
      return await shell.run([command, '--units', 'b', '--nosuffix', '-o', columns, what])
    } catch (error) {
      throw this.failure(`Cannot read volume group ${volumeGroup}`, error)
    }
  }

  get #slowCommandMs(): number {
    return this.#parts.slowCommandMs ?? defaultSlowCommandMs
  }
}

/** Percent in use of what the text may fill: half of the area, as `vg_mda_free` counts it too. */
export function metadataAreaUsed({ metadataAreaBytes, metadataFreeBytes }: VolumeGroup): bigint {
  const usableBytes = metadataAreaBytes / 2n
  return usableBytes === 0n ? 0n : ((usableBytes - metadataFreeBytes) * 100n) / usableBytes
}
