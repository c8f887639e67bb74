import type { V1Lease } from '@kubernetes/client-node'
import type { Clock } from '../client/clock.ts'
import { aborted, type Reflector } from '../client/reflector.ts'
import type { LeaseFacts } from '../model/lease.ts'

/** Who has not been heard for too long is looked for so often. */
const lookMs = 1000

/**
 * Which nodes' daemons are alive: those whose Lease was seen to be renewed within the time that it says. A clock is only ever
 * compared with itself.
 */
export class Liveness {
  readonly #clock: Pick<Clock, 'now'>
  readonly #until = new Map<string, number>()
  readonly #listeners = new Set<(node: string) => void>()

  constructor(leases: Reflector<V1Lease, LeaseFacts>, clock: Pick<Clock, 'now'>) {
    this.#clock = clock
    leases.onChange((_, now, before) => this.#see(now, before))
  }

  isAlive(node: string): boolean {
    return (this.#until.get(node) ?? Number.NEGATIVE_INFINITY) > this.#clock.now()
  }

  /** Has `listener` told of nodes that died or came back until `signal` aborts. */
  onChange(listener: (node: string) => void, signal: AbortSignal): void {
    this.#listeners.add(listener)
    signal.addEventListener('abort', () => this.#listeners.delete(listener))
  }

  /** Notices who dies, until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const timer = setInterval(() => this.#bury(), lookMs)
    await aborted(signal)
    clearInterval(timer)
  }

  #see(now: LeaseFacts | undefined, before: LeaseFacts | undefined): void {
    if (now && now.renewTime !== before?.renewTime) {
      const wasAlive = this.isAlive(now.node)
      this.#until.set(now.node, this.#clock.now() + now.durationMs)
      if (!wasAlive) this.#tell(now.node)
    } else if (!now && before) {
      this.#until.delete(before.node)
      this.#tell(before.node)
    }
  }

  #bury(): void {
    const now = this.#clock.now()
    for (const [node, until] of this.#until)
      if (until <= now) {
        this.#until.delete(node)
        this.#tell(node)
      }
  }

  #tell(node: string): void {
    for (const listener of this.#listeners) listener(node)
  }
}
