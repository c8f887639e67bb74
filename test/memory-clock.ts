import type { Clock } from '../src/k8s/client/clock.ts'

/** Time that passes only when a test lets it. */
export class MemoryClock implements Clock {
  #now = 0
  readonly #sleepers = new Set<{ at: number; wake: () => void }>()

  now(): number {
    return this.#now
  }

  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return
    const { promise, resolve } = Promise.withResolvers<void>()
    const sleeper = { at: this.#now + ms, wake: resolve }
    this.#sleepers.add(sleeper)
    const wake = () => resolve()
    signal.addEventListener('abort', wake)
    await promise
    signal.removeEventListener('abort', wake)
    this.#sleepers.delete(sleeper)
  }

  /** Lets so long pass, waking each sleeper at its time; `act` resolves when all have done what they do then. */
  async pass(ms: number, act: () => Promise<void>): Promise<void> {
    const end = this.#now + ms
    await act()
    for (;;) {
      const next = Math.min(...[...this.#sleepers].map(({ at }) => at))
      if (next > end) break
      this.#now = next
      for (const { at, wake } of [...this.#sleepers]) if (at <= next) wake()
      await act()
    }
    this.#now = end
  }
}
