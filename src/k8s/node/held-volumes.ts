import { isDeepStrictEqual } from 'node:util'
import AsyncLock from 'async-lock'
import type { Engine, VolumeSpec } from '../../volume/engine.ts'
import type { Grown, StoredVolume } from '../../volume/pool.ts'
import type { Entry, Ledger } from '../model/ledger.ts'
import type { LedgerKeeper } from '../model/ledger-keeper.ts'
import type { Note, Notes } from './note.ts'

export interface HeldVolumesParts {
  engine: Engine
  keeper: LedgerKeeper
  notes: Notes
  /** Told when an entry was written. */
  onWritten: () => void
}

/** What is to become of an entry; it may be asked again on a newer ledger. What it throws is thrown. */
export type EntryChange = (entry: Entry | undefined, ledger: Ledger) => Entry | undefined

/**
 * A volume that is held: there is no other way to change it, its note or its entry of the ledger, so that of all who
 * would there is one at a time.
 */
export class HeldVolume {
  readonly name: string
  readonly #parts: HeldVolumesParts
  #isHeld = true

  constructor(name: string, parts: HeldVolumesParts) {
    this.name = name
    this.#parts = parts
  }

  async stored(): Promise<StoredVolume | undefined> {
    return await this.#held.engine.stored(this.name)
  }

  async create(spec: VolumeSpec): Promise<StoredVolume> {
    return (await this.#held.engine.create(this.name, spec)).volume
  }

  async adopt(spec: VolumeSpec, origin?: string): Promise<StoredVolume> {
    return await this.#held.engine.adopt(this.name, spec, origin)
  }

  async grow(sizeBytes: bigint): Promise<Grown> {
    return await this.#held.engine.grow(this.name, sizeBytes)
  }

  async remove(): Promise<{ action: 'removed' | 'unchanged' }> {
    return await this.#held.engine.remove(this.name)
  }

  async note(): Promise<Note | undefined> {
    return await this.#held.notes.read(this.name)
  }

  /** Nothing stands for its removal. */
  async writeNote(note: Note | undefined): Promise<void> {
    if (note) await this.#held.notes.write(this.name, note)
    else await this.#held.notes.clear(this.name)
  }

  /** What the ledger says of it, as it was seen last. */
  get entry(): Entry | undefined {
    return this.#held.keeper.latest?.entries.get(this.name)
  }

  /** Writes what `change` makes of the entry, if that is another, and gives it. Throws as the ledger's keeper does. */
  async changeEntry(change: EntryChange): Promise<Entry | undefined> {
    const { name } = this
    let isWritten = false
    const after = await this.#held.keeper.update((ledger) => {
      const before = ledger.entries.get(name)
      const wanted = change(before, ledger)
      isWritten = !isDeepStrictEqual(wanted, before)
      return isWritten ? [[name, wanted]] : []
    })
    if (isWritten) this.#parts.onWritten()
    return after.entries.get(name)
  }

  /** From now on it changes nothing. */
  release(): void {
    this.#isHeld = false
  }

  get #held(): HeldVolumesParts {
    if (!this.#isHeld) throw new Error(`Cannot use ${this.name} as it is no longer held.`)
    return this.#parts
  }
}

/** The only lock of a node's cluster side: one a volume. */
export class HeldVolumes {
  readonly #parts: HeldVolumesParts
  readonly #locks = new AsyncLock({ maxPending: Number.POSITIVE_INFINITY })

  constructor(parts: HeldVolumesParts) {
    this.#parts = parts
  }

  /** Runs `work` while nobody else has the volume. */
  async hold<T>(name: string, work: (held: HeldVolume) => Promise<T>): Promise<T> {
    return await this.#locks.acquire(name, async () => {
      const held = new HeldVolume(name, this.#parts)
      try {
        return await work(held)
      } finally {
        held.release()
      }
    })
  }
}
