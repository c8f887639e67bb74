import type { Engine } from '../volume/engine.ts'
import { messageOf } from '../volume/errors.ts'
import type { Usage } from '../volume/host.ts'
import type { PoolReport } from '../volume/pool.ts'
import type { VolumeView } from '../volume/view.ts'

/** What is told of a volume. */
export interface VolumeFigures {
  name: string
  sizeBytes: bigint
  state: VolumeView['state']
  /** Empty where that is not settled. */
  front: string
  /** What failed last, and is not over. */
  failure?: Pick<NonNullable<VolumeView['failure']>, 'operation' | 'at'>
  /** Only while it is mounted. */
  usage?: Usage
  problems: number
}

/** What a look at the pool saw. */
export interface PoolFigures {
  seenAt: Date
  report: PoolReport
  volumes: readonly VolumeFigures[]
}

export interface PoolViewParts {
  /** All volumes, also those of which nothing is left. */
  list: () => Promise<VolumeView[]>
  report: Engine['report']
  now: () => Date
  /** Figures that are younger are given as they are. */
  freshMs?: number
  /** For how long whoever asks waits for a look. */
  patienceMs?: number
}

/**
 * The pool as it was seen last. However many ask, there is one look at a time and one in so long, and nobody waits for
 * one that hangs.
 */
export class PoolView {
  readonly #parts: PoolViewParts
  #latest: PoolFigures | undefined
  #failure: string | undefined
  #look: Promise<void> | undefined
  #lookedAt = Number.NEGATIVE_INFINITY

  constructor(parts: PoolViewParts) {
    this.#parts = parts
  }

  /** What was seen last, after a new look if that was long ago. */
  async take(): Promise<PoolFigures | undefined> {
    const { freshMs = 25_000, patienceMs = 1000 } = this.#parts
    if (!this.#look && performance.now() - this.#lookedAt >= freshMs)
      this.#look = this.#lookOnce().finally(() => {
        this.#look = undefined
        this.#lookedAt = performance.now()
      })
    if (this.#look) {
      let timer: NodeJS.Timeout | undefined
      const waited = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, patienceMs)
      })
      await Promise.race([this.#look, waited])
      clearTimeout(timer)
    }
    return this.#latest
  }

  /** Why the pool cannot be used, if so, as the last look had it. */
  async findFailure(): Promise<string | undefined> {
    const seen = await this.take()
    if (this.#failure) return this.#failure
    return seen ? undefined : 'the pool has not been read yet'
  }

  async #lookOnce(): Promise<void> {
    const { list, now } = this.#parts
    try {
      const volumes = await list()
      const report = await this.#parts.report()
      this.#latest = {
        seenAt: now(),
        report,
        volumes: volumes.map(({ name, sizeBytes, state, front = '', usage, failure, problems }) => ({
          ...{ name, sizeBytes, state, front },
          ...(usage ? { usage } : {}),
          ...(failure ? { failure: { operation: failure.operation, at: failure.at } } : {}),
          problems: problems.length,
        })),
      }
      this.#failure = undefined
    } catch (error) {
      this.#failure = messageOf(error)
    }
  }
}
