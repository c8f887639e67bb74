import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { sharing } from '../sharing.ts'
import { VolumeError } from '../volume/errors.ts'
import { describeClaim, otherClaims } from './claim.ts'
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
  /** The tag by which the group is this daemon's; nothing where nobody is kept from it. */
  claim?: string | undefined
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

  constructor(parts: GroupParts) {
    this.#parts = parts
  }

  /**
   * Looks at the group and at all volumes; one look serves all who wait for it. Throws `unavailable` when there is no such group, or another than before. That
   * a group is empty is believed only where its own row says so: on an empty group, PersistentVolumes are let go.
   */
  readonly refresh = sharing(() => this.#refresh())

  async #refresh(): Promise<void> {
    const { volumeGroup } = this.#parts
    for (const isLast of [false, true]) {
      const group = await this.#readGroup()
      const { lv } = await this.#read('lvs', lvColumns, volumeGroup)
      if (lv.length === 0 && group.volumes > 0) {
        // Perhaps the last one was removed between the two looks.
        if (!isLast) continue
        throw new VolumeError(
          'failed',
          `Cannot read volume group ${volumeGroup}: LVM says that it has ${group.volumes} logical volumes, and shows none.`,
        )
      }
      this.#group = group
      // Once asked for one volume, a shell of 2.03.16 lists the hidden parts of thin pools too, in brackets.
      const visible = lv.map(parseLogicalVolume).filter((volume) => !volume.name.startsWith('['))
      this.volumes = new Map(visible.map((volume) => [volume.name, volume]))
      return
    }
  }

  /** Looks, once for all who wait, at the group alone, which must be the one that it was, before something is made in it. */
  readonly refreshFacts = sharing(async () => {
    if (!this.#group) await this.refresh()
    this.#group = await this.#readGroup()
  })

  async #readGroup(): Promise<VolumeGroup> {
    const { volumeGroup } = this.#parts
    const [row, ...more] = (await this.#read('vgs', vgColumns, volumeGroup)).vg
    const group = row && parseVolumeGroup(row, ...more)
    if (!group || group.name !== volumeGroup)
      throw new VolumeError('failed', `Cannot read volume group ${volumeGroup}: LVM answered without it.`)
    const unusable = this.#whyUnusable(group)
    if (unusable) throw new VolumeError('unavailable', `Cannot use volume group ${volumeGroup} as ${unusable}`)
    return group
  }

  /**
   * Keeps other daemons from the group. Of two that claim it at once, each sees the other's claim, and both take theirs back.
   * Throws `unavailable` where it is another's.
   */
  async claim(): Promise<void> {
    const { claim, volumeGroup } = this.#parts
    const { tags } = await this.facts()
    if (claim === undefined || tags.includes(claim)) return
    await this.change(['vgchange', '--addtag', claim, volumeGroup], async (error) => {
      throw await this.failure(`Cannot claim volume group ${volumeGroup} for this daemon`, error)
    })
    await this.refresh().catch(async (error) => {
      await this.change(['vgchange', '--deltag', claim, volumeGroup], () => {})
      throw error
    })
  }

  #whyUnusable({ uuid, exported, tags }: VolumeGroup): string | undefined {
    const { volumeGroup, claim } = this.#parts
    const [other] = claim === undefined ? [] : otherClaims(tags, claim)
    if (claim !== undefined && other !== undefined)
      return `it is claimed by the daemon of ${describeClaim(other, claim)}, and both would give out the same room; if that one is gone for good, "vgchange --deltag ${other} ${volumeGroup}" lets the next have it`
    if (exported)
      return `it is exported; if its disks are to be used on this machine, "vgimport ${volumeGroup}" brings it back`
    if (this.#group && this.#group.uuid !== uuid)
      return `it is another group than the one that its daemon was started with, which had UUID ${this.#group.uuid}: it has ${uuid}. Bring that one back; if it was replaced for good, restart the daemon`
    return undefined
  }

  /**
   * Looks, unless that waits behind a command that hangs: then what is known is a better answer than none. Says whether
   * it has looked.
   */
  async refreshUnlessHung(): Promise<boolean> {
    if (!this.#group) return await this.refresh().then(() => true)
    if (this.queueProblems().length > 0) return false
    const refreshed = this.refresh().then(() => true)
    for (;;) {
      const patience = new AbortController()
      const waited = sleep(this.#slowCommandMs, false, { signal: patience.signal }).catch(() => false)
      try {
        if (await Promise.race([refreshed, waited])) return true
        if (this.queueProblems().length > 0) return false
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

  /** Whether it was ever looked at. */
  get isKnown(): boolean {
    return this.#group !== undefined
  }

  /** Runs a command that changes something; what it fails with becomes what `onError` gives or throws. */
  async change<T>(command: string[], onError: (error: unknown) => T | Promise<T>): Promise<true | T> {
    return await this.#parts.shell.run(command).then(() => true as const, onError)
  }

  /** Where a plain volume lies, as `/dev/sdb:0-99` (lvextend(8)). */
  async rangesOf(name: string): Promise<{ place: string; extents: number }[]> {
    const { shell, volumeGroup } = this.#parts
    const what = `${volumeGroup}/${name}`
    const { seg } = await shell.run(['lvs', '--segments', '-o', 'seg_pe_ranges', what])
    return seg.map(({ seg_pe_ranges: place = '' }) => {
      const [, first, last] = /^\S+:(\d+)-(\d+)$/.exec(place) ?? []
      if (first === undefined || last === undefined)
        throw new VolumeError('failed', `Cannot tell where ${what} lies: LVM says ${JSON.stringify(place)}.`)
      return { place, extents: Number(last) - Number(first) + 1 }
    })
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

  /** Why LVM would make nothing new in it. */
  refusals(group: VolumeGroup): string[] {
    const { missingDisks, volumes, mostVolumes } = group
    const refusals = []
    if (missingDisks > 0)
      refusals.push(`${missingDisks} of its disks are missing, so LVM creates and grows no volume in it`)
    if (metadataAreaUsed(group) >= metadataAreaPercent) refusals.push('its metadata area is nearly full')
    if (mostVolumes > 0 && volumes >= mostVolumes)
      refusals.push(
        `it has the ${mostVolumes} logical volumes that it can have ("vgchange --logicalvolume 0" lifts that)`,
      )
    return refusals
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
  async failure(what: string, error: unknown): Promise<VolumeError> {
    return lvmError(isGroupMissing(error) ? `${what}${await this.#adviseOnMissingGroup()}` : what, error)
  }

  async #adviseOnMissingGroup(): Promise<string> {
    const { volumeGroup, backupFile } = this.#parts
    const backup = backupFile === undefined ? undefined : await readFile(backupFile, 'utf8').catch(() => undefined)
    // The first that a backup names is the group's own.
    const uuid = this.#group?.uuid ?? backup?.match(/^\s*id = "([\w-]+)"/m)?.[1]
    if (backup === undefined && uuid === undefined)
      return `; create it with "elastic-local create-vg --lvm-volume-group ${volumeGroup} <disk>…", or name another with --lvm-volume-group`
    const name = uuid && (await this.#findName(uuid))
    if (name && name !== volumeGroup)
      return `, which is now named ${name}. Rename it back with "vgrename ${name} ${volumeGroup}", or name it with --lvm-volume-group`
    const restore =
      backup === undefined
        ? 'see vgcfgrestore(8)'
        : `"vgcfgrestore --file ${backupFile} ${volumeGroup}" brings back its description, after "pvcreate --restorefile ${backupFile} --uuid <uuid> <disk>" for disks that have lost theirs`
    return `, which existed before; do not recreate it: check with "pvs" whether its disks are there, and if they are, ${restore}`
  }

  /** The name of the group with that UUID, wherever it is now. */
  async #findName(uuid: string): Promise<string | undefined> {
    const command = ['vgs', '--foreign', '-o', 'vg_name,vg_uuid']
    const groups = await this.#parts.shell.run(command).catch(() => undefined)
    return groups?.vg.find((row) => row.vg_uuid === uuid)?.vg_name
  }

  async #read(command: 'vgs' | 'lvs', columns: string, what: string): Promise<LvmAnswer> {
    const { shell, volumeGroup } = this.#parts
    try {
      return await shell.run([command, '--units', 'b', '--nosuffix', '-o', columns, what])
    } catch (error) {
      throw await this.failure(`Cannot read volume group ${volumeGroup}`, error)
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
