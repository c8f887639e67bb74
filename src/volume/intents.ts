import type { Intent, Journal, UnreadableIntent } from './journal.ts'
import type { StoredVolume } from './pool.ts'

/**
 * The journal as its only writer knows it, without reading. A volume that is known as made has no intent to make it, whatever the
 * journal says: that may come from an old backup.
 */
export class Intents {
  readonly #journal: Journal
  #known = new Map<string, Intent | UnreadableIntent>()
  #made = new Map<string, string>()

  constructor(journal: Journal) {
    this.#journal = journal
  }

  async read(): Promise<void> {
    this.#known = await this.#journal.read()
    this.#made = await this.#journal.readMade()
  }

  names(): string[] {
    return [...this.#known.keys()]
  }

  /** What was begun on that very volume. */
  of({ name, id }: StoredVolume): Intent | UnreadableIntent | undefined {
    const intent = this.#known.get(name)
    if (!intent) return undefined
    const isMade = id !== undefined && this.#made.get(name) === id
    if (intent.phase === 'unreadable') return isMade ? undefined : intent
    if (intent.id !== id || (isMade && 'sizeBytes' in intent)) return undefined
    return intent
  }

  async set(name: string, intent: Intent): Promise<void> {
    await this.#journal.write(name, intent)
    this.#known.set(name, intent)
  }

  async clear(name: string): Promise<void> {
    if (!this.#known.has(name)) return
    await this.#journal.clear(name)
    this.#known.delete(name)
  }

  /** The volume is made, and may hold data from now on. */
  async finish(name: string): Promise<void> {
    const id = this.#known.get(name)?.id
    await this.#journal.finish(name)
    this.#known.delete(name)
    if (id !== undefined) this.#made.set(name, id)
  }

  /** The volume is gone, with all that was known of it. */
  async forget(name: string): Promise<void> {
    if (this.#made.has(name)) await this.#journal.forget(name)
    this.#made.delete(name)
    await this.clear(name)
  }
}
