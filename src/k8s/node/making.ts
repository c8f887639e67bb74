import { isDeepStrictEqual } from 'node:util'
import { formatSize } from '../../text/quantity.ts'
import { VolumeError } from '../../volume/errors.ts'
import type { PoolReport, StoredVolume } from '../../volume/pool.ts'
import { unlessOvertaken } from '../client/api.ts'
import { type Entry, found, type Ledger, mustBeItsPool, promise, settled } from '../model/ledger.ts'
import { volumePath } from '../model/lookups.ts'
import { makeAnewAnnotation, nodeLabel } from '../model/names.ts'
import { parseOrigin } from '../model/origin.ts'
import { aboutVolume, madeForOf, type VolumeFacts } from '../model/persistent-volume.ts'
import type { NodeContext } from './context.ts'
import type { HeldVolume } from './held-volumes.ts'
import { noteOf, specOf } from './note.ts'

/**
 * Makes the volumes of PVs.
 *
 * Invariant: a volume is made only for an entry of the node's ledger that says it never was, and of which no note says
 * that it was; once made, that is noted here and then there, and it is never made again, but where an operator allows it
 * once.
 */
export class Making {
  readonly #context: NodeContext
  readonly #takeover: boolean
  /** The pool, as it was seen first. */
  #pool: PoolReport | undefined
  /** Volumes that were made here and are not there any more, as they were looked for last. */
  readonly #lost = new Map<string, string>()

  constructor(context: NodeContext, { takeover }: { takeover: boolean }) {
    this.#context = context
    this.#takeover = takeover
  }

  /** Volumes that were made here and are not there any more, with what is said of them. */
  get lost(): ReadonlyMap<string, string> {
    return this.#lost
  }

  /** Nobody wants that volume any more. */
  forget(name: string): void {
    this.#lost.delete(name)
  }

  /** The volume of a PV, made if it never was. Throws `not-found` when it was made and is gone, `no-space`. */
  async ensure(held: HeldVolume, volume: VolumeFacts): Promise<void> {
    const { name } = volume
    this.#lost.delete(name)
    const note = await held.note()
    const stored = (await held.stored()) ?? (await this.takeOver(held, volume))
    if (note && stored) {
      // The PV was recreated, with another key.
      if (!isDeepStrictEqual(note, noteOf(volume))) await held.writeNote(noteOf(volume))
      if (this.#context.parts.ledger.latest) await this.markMade(held, volume)
      return await this.#useUpPermission(volume)
    }
    this.#pool ??= await this.#context.parts.engine.report()
    if (!stored && (await this.#isLost(held, volume, note !== undefined))) await this.#allowAnew(held, volume)
    const entry = await this.#ensurePromised(held, volume, stored)
    if (stored && !entry?.pendingFor) return await held.writeNote(noteOf(volume))
    await this.#useUpPermission(volume)
    const { sizeBytes } = await held.create(specOf(volume))
    await held.writeNote(noteOf(volume))
    this.#context.parts.log.info(`Created volume ${name} of ${formatSize(sizeBytes)}.`, {
      ...aboutVolume(volume),
      sizeBytes,
    })
    await this.markMade(held, volume)
  }

  /** Whether a volume that is not there was made, by all that is known. */
  async #isLost(held: HeldVolume, volume: VolumeFacts, isNoted: boolean): Promise<boolean> {
    let isLost = false
    await held.changeEntry((entry, ledger) => {
      mustBeItsPool(ledger, this.#pool as PoolReport)
      isLost = isNoted || (entry !== undefined && !entry.pendingFor)
      // So that it is still known where the note goes, too.
      return isLost && !entry ? ifRoom(() => promise(ledger, volume.name, specOf(volume).sizeBytes)) : entry
    })
    return isLost
  }

  /** Throws `not-found`, unless the operator allows that a lost volume is recreated; then nothing says that it was. */
  async #allowAnew(held: HeldVolume, volume: VolumeFacts): Promise<void> {
    const { name } = volume
    if (!volume.mayBeMadeAnew) {
      const error = lost(name, this.#context.parts.node)
      this.#lost.set(name, error.message)
      throw error
    }
    const message = `Recreated empty, as ${makeAnewAnnotation} allows: its data was lost.`
    await this.#context.say(volume, 'VolumeMadeAnew', message)
    await held.changeEntry((_, ledger) => promise(ledger, name, specOf(volume).sizeBytes, claimOf(volume)))
    await held.writeNote(undefined)
  }

  /** The entry by which the volume may be made, or which says that it was. */
  async #ensurePromised(
    held: HeldVolume,
    volume: VolumeFacts,
    stored: StoredVolume | undefined,
  ): Promise<Entry | undefined> {
    return await held.changeEntry((entry, ledger: Ledger) => {
      mustBeItsPool(ledger, this.#pool as PoolReport)
      if (entry && !(stored && entry.question)) return entry
      // Nobody promised anything: a PV of the predecessor, of a person, or one whose ledger was lost.
      if (stored) return found(stored.sizeBytes, volume, madeForOf(volume))
      return promise(ledger, volume.name, specOf(volume).sizeBytes, claimOf(volume))
    })
  }

  /** What an operator allowed is allowed once: the next loss is told again. */
  async #useUpPermission({ name, resourceVersion, mayBeMadeAnew }: VolumeFacts): Promise<void> {
    if (!mayBeMadeAnew) return
    const body = { metadata: { resourceVersion, annotations: { [makeAnewAnnotation]: null } } }
    await this.#context.parts.api.send({ method: 'PATCH', path: volumePath(name), body }).catch(unlessOvertaken)
  }

  /**
   * What the predecessor made for a PV, which has no key; it is marked as ours where the operator wants that. And what another
   * project made, where the PV says so.
   */
  async takeOver(held: HeldVolume, volume: VolumeFacts): Promise<StoredVolume | undefined> {
    const { engine, log } = this.#context.parts
    const { name } = volume
    if (volume.adoptedFrom !== undefined) return await this.#adopt(held, volume, volume.adoptedFrom)
    if (volume.isOfOurMaking) return undefined
    const there = (await engine.unmarked()).find((unmarked) => unmarked.name === name)
    if (!there) return undefined
    if (!this.#takeover)
      throw new VolumeError(
        'exists',
        `Cannot use ${name} as ${there.path} exists without our mark. If it is the predecessor's, start the daemon with --takeover (docs/takeover.md).`,
      )
    const adopted = await held.adopt(specOf(volume))
    log.info(`Took over volume ${name} at ${adopted.path}.`, aboutVolume(volume))
    return adopted
  }

  /** Throws what the engine throws where it cannot be ours now: nothing is made in its place. */
  async #adopt(held: HeldVolume, volume: VolumeFacts, text: string): Promise<StoredVolume | undefined> {
    // It was ours, and is gone.
    if (held.entry?.madeBytes !== undefined || (await held.note())) return undefined
    const { name } = parseOrigin(text, volume.name)
    const adopted = await held.adopt(specOf(volume), name)
    this.#context.parts.log.info(`Adopted ${text} as volume ${volume.name} at ${adopted.path}.`, aboutVolume(volume))
    return adopted
  }

  /** Gives PVs of the predecessor that name no node the label of this one, where their volumes are here. */
  async labelTakenOver(): Promise<void> {
    const { api, engine, node } = this.#context.parts
    if (!this.#takeover) return
    for (const { name } of await engine.unmarked()) {
      const volume = await this.#context.readVolume(name)
      if (!volume || volume.node || volume.isDeleting || volume.isOfOurMaking) continue
      const { resourceVersion } = volume
      const body = { metadata: { resourceVersion, labels: { [nodeLabel]: node } } }
      await api.send({ method: 'PATCH', path: volumePath(name), body })
    }
  }

  /**
   * Has the ledger say what is there, and for which PV. While it is held nobody grows a flex volume: nothing is promised
   * beyond. One of CSI that was granted more, perhaps before it was made, is what it was until it has grown.
   */
  async markMade(held: HeldVolume, volume: VolumeFacts): Promise<void> {
    const stored = await held.stored()
    if (!stored) return
    const byAnother = volume.front === 'csi'
    await held.changeEntry((entry) =>
      settled(entry ?? found(stored.sizeBytes, volume, undefined), stored.sizeBytes, {
        madeFor: madeForOf(volume),
        byAnother,
      }),
    )
  }
}

const claimOf = ({ claim, name }: VolumeFacts) => (claim ? `${claim.namespace}/${claim.name}` : name)

function ifRoom(work: () => Entry): Entry | undefined {
  try {
    return work()
  } catch (error) {
    if (error instanceof VolumeError && error.code === 'no-space') return undefined
    throw error
  }
}

function lost(name: string, node: string): VolumeError {
  return new VolumeError(
    'not-found',
    `Cannot find volume ${name} on node ${node}, where it was created: its data is lost, or its disk is missing. It is not recreated. Bring the disk back, or delete the claim; or, to start empty, set annotation ${makeAnewAnnotation}=true on the PersistentVolume.`,
  )
}
