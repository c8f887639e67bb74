import type { Intent, Journal } from './journal.ts'

/** The journal as its only writer knows it, without reading. */
export class Intents {
  readonly #journal: Journal
  #known = new Map<string, Intent>()

  constructor(journal: Journal) {
    this.#journal = journal
  }

  async read(): Promise<void> {
    this.#known = await this.#journal.read()
  }

  names(): string[] {
    return [...this.#known.keys()]
  }

  get(name: string): Intent | undefined {
    return this.#known.get(name)
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
}
