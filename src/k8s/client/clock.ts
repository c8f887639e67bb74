import { setTimeout } from 'node:timers/promises'

/** Time as it passes, wherever hours are set. */
export interface Clock {
  /** Milliseconds since some moment; never goes back. */
  now(): number
  /** Resolves after so long, or when the signal has aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>
}

export const machineClock: Clock = {
  now: () => performance.now(),
  sleep: async (ms, signal) => {
    await setTimeout(ms, undefined, { signal }).catch(() => {})
  },
}
