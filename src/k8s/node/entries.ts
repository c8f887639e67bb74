import { messageOf, VolumeError } from '../../volume/errors.ts'
import type { Changes, Entry } from '../model/ledger.ts'
import { found, isToGrow, onlyPool, settled, withoutRefusal } from '../model/ledger.ts'
import { madeForOf, type VolumeFacts } from '../model/persistent-volume.ts'
import type { NodeContext } from './context.ts'
import type { HeldVolume } from './held-volumes.ts'
import { specOf } from './note.ts'

/** The ledger's entries in line with what is there. */
export class Entries {
  readonly #context: NodeContext

  constructor(context: NodeContext) {
    this.#context = context
  }

  /**
   * What a new ledger begins with: volumes that are there, and those of PVs. Whether the latter were made nobody knows, so
   * they are said to be: one that is not there may be lost, and is not recreated.
   */
  async initial(): Promise<Changes> {
    const { engine, volumes } = this.#context.parts
    // Not waited for: a stop would wait as well. The queue comes back.
    if (!volumes.isSynced) throw new Error('Cannot create the ledger before all PersistentVolumes are known.')
    const stored = await engine.list()
    const entries = new Map<string, Entry>(
      stored.map(({ name, sizeBytes }) => [name, found(sizeBytes, volumes.objects.get(name), undefined)]),
    )
    for (const volume of volumes.objects.values())
      if (!entries.has(volume.name))
        entries.set(volume.name, { pool: onlyPool, kind: 'volume', promisedBytes: sizeOf(volume) })
    return entries
  }

  /** Volumes without an entry get one, and entries of volumes that are gone are taken back, one volume at a time. */
  async reconcile(): Promise<void> {
    const { engine, ledger, held } = this.#context.parts
    const stored = await engine.list()
    const names = new Set([...stored.map(({ name }) => name), ...(ledger.latest?.entries.keys() ?? [])])
    for (const name of names)
      if (this.#mayBeWrong(name, stored))
        await held.hold(name, (one) => this.#right(one)).catch((error) => this.#goOn(name, error))
  }

  /** What is wrong with one volume, such as a note that cannot be read, costs no other. */
  #goOn(name: string, error: unknown): void {
    if (!(error instanceof VolumeError)) throw error
    this.#context.parts.log.warn(messageOf(error), this.#context.about(name))
  }

  #mayBeWrong(name: string, stored: readonly { name: string; sizeBytes: bigint }[]): boolean {
    const { ledger, volumes } = this.#context.parts
    const entry = ledger.latest?.entries.get(name)
    const there = stored.find((one) => one.name === name)
    const volume = volumes.objects.get(name)
    // Who asks takes it away.
    if (!there && entry?.question) return false
    if (!there) return entry !== undefined && !entry.pendingFor && !volume
    // Its policy was changed while nobody heard of it, or before the ledger was known.
    if (volume && entry && entry.madeFor !== madeForOf(volume)) return true
    // A CSI volume that was granted more says itself when it has grown.
    if (entry?.refusal !== undefined) return true
    if (entry && isToGrow(entry) && volume?.front === 'csi') return false
    return entry?.madeBytes !== there.sizeBytes || entry.promisedBytes !== there.sizeBytes
  }

  async #right(held: HeldVolume): Promise<void> {
    const volume = this.#context.parts.volumes.objects.get(held.name)
    const [stored, note] = [await held.stored(), await held.note()]
    await held.changeEntry((entry) => {
      if (!stored) return entry?.pendingFor || entry?.question || volume ? entry : undefined
      if (!entry) return volume?.isDeleting ? undefined : found(stored.sizeBytes, volume, undefined)
      // Without a note, its making is not at its end.
      if (!note) return entry
      // What was granted to one that has no PV any more is nobody's.
      const byAnother = volume?.front === 'csi'
      const madeFor = volume ? madeForOf(volume) : entry.madeFor
      const now = settled(entry, stored.sizeBytes, { madeFor, byAnother })
      // What the machine could not give then it may give now.
      return withoutRefusal(now)
    })
  }
}

/** What a PV's volume takes; of one that a person made, and that says nothing to make it by, its capacity. */
function sizeOf(volume: VolumeFacts): bigint {
  try {
    return specOf(volume).sizeBytes
  } catch {
    return volume.capacityBytes
  }
}
