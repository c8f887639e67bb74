import { isDeepStrictEqual } from 'node:util'
import type { Log } from '../../log.ts'
import type { Meter } from '../../meter.ts'
import { messageOf } from '../../volume/errors.ts'
import type { PoolReport } from '../../volume/pool.ts'
import type { Api } from '../client/api.ts'
import type { Clock } from '../client/clock.ts'
import { nodeObject, type Recorder } from '../client/events.ts'
import { WorkQueue } from '../client/queue.ts'
import { aborted } from '../client/reflector.ts'
import type { FrontName } from '../fronts/front.ts'
import { type Changes, mustBeItsPool, type PoolFacts, poolOf } from '../model/ledger.ts'
import type { LedgerKeeper } from '../model/ledger-keeper.ts'
import { readNode } from '../model/lookups.ts'
import { Heartbeat } from './heartbeat.ts'

export interface PublisherParts {
  api: Api
  namespace: string
  node: string
  keeper: LedgerKeeper
  report: () => Promise<PoolReport>
  fronts: readonly FrontName[]
  /** How often the pool is looked at while nothing happens; others may change it. */
  lookMs?: number
  /** What a new ledger begins with: the volumes that are there. */
  initial: () => Promise<Changes>
  recorder: Recorder
  clock: Pick<Clock, 'now'>
  now: () => Date
  log: Pick<Log, 'info' | 'warn'>
  meter?: Pick<Meter, 'work' | 'backlogs'> | undefined
}

/** What happens close together is published once. */
const settleMs = 200
const usualLookMs = 30_000
/** Room on a disk that others write to is told in steps, or every log line would be news. */
const stepBytes = 64n << 20n

/**
 * Says in its ledger what this node's pool holds, and by its Lease that it is alive: as long as the pool can be read. What
 * the scheduler is told of it is the provisioner's to say.
 */
export class Publisher {
  readonly #parts: PublisherParts
  readonly #queue: WorkQueue
  readonly #heartbeat: Heartbeat

  constructor(parts: PublisherParts) {
    this.#parts = parts
    const { node, log, meter } = parts
    this.#heartbeat = new Heartbeat(parts)
    this.#queue = new WorkQueue({
      name: 'publishing',
      about: () => ({ node }),
      work: () => this.#publish(),
      concurrency: 1,
      backoffMs: { first: 500, most: 10_000 },
      log,
      meter,
    })
  }

  /** Publishes until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const timer = setInterval(() => this.soon(), this.#parts.lookMs ?? usualLookMs)
    this.soon()
    await aborted(signal)
    clearInterval(timer)
    await this.#queue.stop()
  }

  /** Something of the pool or of its promises has changed. */
  soon(): void {
    this.#queue.addAfter('all', settleMs)
  }

  async #publish(): Promise<void> {
    const { keeper, initial, node, fronts } = this.#parts
    const report = await this.#mustReport()
    for (const problem of report.problems) await this.#say(`Pool ${report.name} (${report.driverKind}): ${problem}.`)
    // A start may be ahead of the watch: what was there before must not be taken for nothing.
    const ledger = keeper.latest ?? (await keeper.find())
    const known = ledger && poolOf(ledger)
    const pool = { ...poolFacts(report, known), fronts }
    try {
      if (ledger) mustBeItsPool(ledger, pool)
    } catch (error) {
      await this.#parts.recorder.say(nodeObject(node), 'Warning', 'WrongPool', messageOf(error))
      throw error
    }
    const begin = async () => {
      // What is said of a node that is gone is removed: nothing is made before it is back.
      if (!(await readNode(this.#parts.api, node)))
        throw new Error(`Cannot publish the capacity of node ${node} as there is no such node.`)
      return await initial()
    }
    // Without its labels, which a person may have taken away, nobody finds it.
    if (!isDeepStrictEqual(known, pool) || !ledger?.isLabelled) await keeper.publish(pool, begin)
    await this.#heartbeat.beat()
  }

  /** What the pool is now. Of one that cannot be read it is said, and nothing of it is offered. */
  async #mustReport(): Promise<PoolReport> {
    const { report, keeper, initial } = this.#parts
    try {
      return await report()
    } catch (error) {
      const known = keeper.latest && poolOf(keeper.latest)
      await this.#say(`The pool cannot be read: ${messageOf(error)}`)
      if (known && known.capacityBytes > 0n) await keeper.publish({ ...known, capacityBytes: 0n }, initial)
      throw error
    }
  }

  async #say(problem: string): Promise<void> {
    const { recorder, node } = this.#parts
    await recorder.say(nodeObject(node), 'Warning', 'PoolProblem', problem)
  }
}

/** The report of a pool as the ledger holds it; `known` is what that says. */
export function poolFacts(
  report: PoolReport,
  known: Pick<PoolFacts, 'id' | 'capacityBytes'> | undefined,
): Omit<PoolFacts, 'fronts'> {
  const { name, id, driverKind, sizeBytes, allocatedBytes, freeBytes, unitBytes } = report
  const promisable = allocatedBytes + freeBytes
  const exact = promisable < sizeBytes ? promisable : sizeBytes
  const facts = { name, ...(id ? { id } : {}), driverKind, unitBytes }
  if (driverKind === 'LVM') return { ...facts, capacityBytes: exact }
  // What is still there and not much more stays as it is said, or what goes to and fro would be written each time.
  const said = known?.id === id ? (known?.capacityBytes ?? 0n) : 0n
  const stays = said > 0n && said <= exact && exact < said + 2n * stepBytes
  return { ...facts, capacityBytes: stays ? said : exact - (exact % stepBytes) }
}
