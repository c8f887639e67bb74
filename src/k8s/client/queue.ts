import type { Log, LogFields } from '../../log.ts'
import { type Backlog, type Meter, observed } from '../../meter.ts'
import { messageOf } from '../../volume/errors.ts'
import { delayAfter } from './api.ts'

export interface WorkQueueParts {
  /** What the queue is for, for whoever counts: `claims`. */
  name: string
  /** Brings the thing of that key to where it should be. What it throws is logged, and it is called again. */
  work: (key: string) => Promise<void>
  /** What a key stands for, for the log. */
  about: (key: string) => LogFields
  /** How many keys are worked on at once. */
  concurrency: number
  /** The first wait after a failure, and the longest. */
  backoffMs?: { first: number; most: number }
  log: Pick<Log, 'warn'>
  meter?: Pick<Meter, 'work' | 'backlogs'> | undefined
}

/** After so many, whatever else waits in this process has its turn, such as a Lease that is to be renewed. */
const mostInARow = 1000

/**
 * Keys that want work. A key stands in the queue once, is never worked on twice at a time, and comes back when it was
 * added in the meantime. A key whose work failed comes back after a while that doubles each time, for ever.
 */
export class WorkQueue implements Backlog {
  readonly #parts: WorkQueueParts
  readonly #waiting = new Set<string>()
  /** Where the next of them stands: a look from the beginning would first pass by all the places that were left. */
  #order = this.#waiting.values()
  #begun = 0
  #isPausing = false
  readonly #running = new Map<string, { ended: Promise<void>; beganAt: number }>()
  readonly #again = new Set<string>()
  readonly #timers = new Map<string, NodeJS.Timeout>()
  readonly #failures = new Map<string, number>()
  #stopped = false

  constructor(parts: WorkQueueParts) {
    this.#parts = parts
    parts.meter?.backlogs.add(this)
  }

  get name(): string {
    return this.#parts.name
  }

  get waiting(): number {
    return this.#waiting.size
  }

  get running(): number {
    return this.#running.size
  }

  get longestMs(): number {
    const now = performance.now()
    return this.#running.values().reduce((longest, { beganAt }) => Math.max(longest, now - beganAt), 0)
  }

  /** Wants work on that key now. */
  add(key: string): void {
    if (this.#stopped) return
    clearTimeout(this.#timers.get(key))
    this.#timers.delete(key)
    if (this.#running.has(key)) this.#again.add(key)
    else this.#waiting.add(key)
    this.#next()
  }

  /** Wants work on that key in a while, if not before. */
  addAfter(key: string, delayMs: number): void {
    if (this.#stopped || this.#waiting.has(key) || this.#timers.has(key)) return
    this.#timers.set(
      key,
      setTimeout(() => this.add(key), delayMs),
    )
  }

  /** Starts nothing more; resolves when what runs has ended. */
  async stop(): Promise<void> {
    this.#stopped = true
    for (const timer of this.#timers.values()) clearTimeout(timer)
    this.#timers.clear()
    this.#waiting.clear()
    await Promise.allSettled(this.#running.values().map(({ ended }) => ended))
    this.#parts.meter?.backlogs.delete(this)
  }

  #next(): void {
    const { concurrency } = this.#parts
    while (!this.#isPausing && !this.#stopped && this.#waiting.size > 0 && this.#running.size < concurrency) {
      const { value: key, done } = this.#order.next()
      if (done) {
        this.#order = this.#waiting.values()
        continue
      }
      this.#waiting.delete(key)
      this.#running.set(key, { ended: this.#run(key), beganAt: performance.now() })
      this.#begun += 1
      if (this.#begun % mostInARow === 0) this.#pause()
    }
  }

  #pause(): void {
    this.#isPausing = true
    setImmediate(() => {
      this.#isPausing = false
      this.#next()
    })
  }

  async #run(key: string): Promise<void> {
    try {
      const { meter, name, work } = this.#parts
      await observed(meter?.work, { what: name, about: key }, () => work(key))
      this.#failures.delete(key)
    } catch (error) {
      const failures = this.#failures.get(key) ?? 0
      this.#failures.set(key, failures + 1)
      const { first, most } = this.#parts.backoffMs ?? { first: 200, most: 60_000 }
      this.#parts.log.warn(messageOf(error), { queue: this.name, ...this.#parts.about(key) })
      this.addAfter(key, delayAfter(error, first * 2 ** failures, most))
    } finally {
      this.#running.delete(key)
      if (this.#again.delete(key)) this.add(key)
      this.#next()
    }
  }
}
