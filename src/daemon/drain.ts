import { VolumeError } from '../volume/errors.ts'

/** Counts work under way, so that a stop can refuse what is new and wait for what runs. */
export class Drain {
  readonly #running = new Set<Promise<unknown>>()
  #stopping = false

  /** Runs `work`, whoever waits for it. Throws `stopping` once a stop has begun. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#stopping)
      throw new VolumeError('stopping', 'Cannot take new work as the daemon is stopping; try again when it is back.')
    const running = work()
    this.#running.add(running)
    try {
      return await running
    } finally {
      this.#running.delete(running)
    }
  }

  get isStopping(): boolean {
    return this.#stopping
  }

  /** Resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.allSettled(this.#running)
  }
}
