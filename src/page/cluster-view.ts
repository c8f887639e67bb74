import type { ClusterFacts } from '../overview/facts.ts'
import { buildOverview } from '../overview/overview.ts'
import type { Overview } from '../overview/records.ts'
import { messageOf } from '../volume/errors.ts'

/** The cluster as it was read. */
export interface Seen {
  facts: ClusterFacts
  overview: Overview
  /** Why it could not be read since then, if so. */
  failure?: string
}

export interface ClusterViewParts {
  read: () => Promise<ClusterFacts>
  /** Milliseconds, of a clock that nobody sets. */
  now: () => number
  /** What is younger is shown as it is. */
  freshMs?: number
  /** What nobody looked at for so long is forgotten, and its memory given back. */
  keptMs?: number
}

/** A reading that takes long is made the more seldom: at most so much of the time is spent on it. */
const mostOfTheTime = 1 / 5

/** The cluster for those who look: it is read when somebody does, once for all of them, and not again for some seconds. */
export class ClusterView {
  readonly #parts: ClusterViewParts
  #latest: { facts: ClusterFacts; overview: Overview } | undefined
  #failure: string | undefined
  #reading: Promise<void> | undefined
  #freshUntil = Number.NEGATIVE_INFINITY
  #forgetting: NodeJS.Timeout | undefined

  constructor(parts: ClusterViewParts) {
    this.#parts = parts
  }

  /** What was read last, after a new reading if that was long ago. Throws an `Error` while nothing could be read. */
  async take(): Promise<Seen> {
    if (this.#parts.now() >= this.#freshUntil)
      this.#reading ??= this.#read().finally(() => {
        this.#reading = undefined
      })
    await this.#reading
    this.#forgetLater()
    const failure = this.#failure
    if (!this.#latest) throw new Error(failure)
    return { ...this.#latest, ...(failure === undefined ? {} : { failure }) }
  }

  async #read(): Promise<void> {
    const { read, now, freshMs = 5000 } = this.#parts
    const begunAt = now()
    try {
      const facts = await read()
      this.#latest = { facts, overview: buildOverview(facts) }
      this.#failure = undefined
    } catch (error) {
      this.#failure = messageOf(error)
    }
    const endedAt = now()
    this.#freshUntil = endedAt + Math.max(freshMs, (endedAt - begunAt) / mostOfTheTime)
  }

  #forgetLater(): void {
    clearTimeout(this.#forgetting)
    this.#forgetting = setTimeout(() => {
      this.#latest = undefined
      this.#freshUntil = Number.NEGATIVE_INFINITY
    }, this.#parts.keptMs ?? 60_000).unref()
  }
}
