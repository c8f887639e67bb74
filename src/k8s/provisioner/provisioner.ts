import type { Api } from '../client/api.ts'
import { Recorder } from '../client/events.ts'
import { aborted } from '../client/reflector.ts'
import { LedgerKeepers } from '../model/ledger-keeper.ts'
import { Capacities } from './capacities.ts'
import { Copies } from './copies.ts'
import type { ProvisionerParts } from './leader.ts'
import { Liveness } from './liveness.ts'
import { Placing } from './placing.ts'
import { UnscheduledPods } from './pods.ts'
import { Upkeep } from './upkeep.ts'

/**
 * Makes a PV for each claim that wants one, and sees PVs off whose claim, or node, is gone. It holds no state of its own:
 * whatever was begun and not ended, here or by a predecessor, is seen in the cluster and gone on with.
 */
export class Provisioner {
  readonly #parts: ProvisionerParts
  readonly #copies: Copies
  readonly #liveness: Liveness
  readonly #pods: UnscheduledPods

  constructor(parts: ProvisionerParts) {
    this.#parts = parts
    this.#copies = new Copies(parts)
    this.#liveness = new Liveness(this.#copies.leases, parts.clock)
    this.#pods = new UnscheduledPods(parts)
  }

  /** What it keeps of the cluster. */
  get copies(): Copies {
    return this.#copies
  }

  /** Follows the cluster until `signal` aborts; resolves with that. */
  async follow(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#copies, this.#liveness, this.#pods].map((part) => part.run(signal)))
  }

  /** Acts until `signal` aborts, by `api`, which may refuse. Resolves when what was begun has ended. */
  async act(api: Api, signal: AbortSignal): Promise<void> {
    const copies = this.#copies
    await Promise.race([Promise.all([copies.synced(), this.#pods.attempted()]), aborted(signal)])
    if (signal.aborted) return
    const { namespace, clock, now, log } = this.#parts
    const ledgers = new LedgerKeepers({ api, namespace })
    const recorder = new Recorder({ api, component: 'elastic-local-provisioner', clock, now, log })
    const leaderParts = { ...this.#parts, api, copies, liveness: this.#liveness, pods: this.#pods, ledgers, recorder }
    const work = [new Placing(leaderParts), new Upkeep(leaderParts), new Capacities(leaderParts)]
    // Before anybody acts on it.
    copies.ledgers.onChange((_, ledger, before) => ledgers.of((ledger ?? before)?.node ?? '').see(ledger), signal)
    for (const ledger of copies.ledgers.objects.values()) ledgers.of(ledger.node).see(ledger)
    for (const one of work) one.start(signal)
    await aborted(signal)
    await Promise.all(work.map((one) => one.stop()))
  }
}
