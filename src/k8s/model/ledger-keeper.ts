import type { V1ConfigMap } from '@kubernetes/client-node'
import { VolumeError } from '../../volume/errors.ts'
import { type Api, hasStatus, isLater, orMissing } from '../client/api.ts'
import {
  applyChanges,
  buildData,
  buildLedger,
  type Changes,
  type Entry,
  fullLedger,
  type Ledger,
  labelsOf,
  type PoolFacts,
  parseLedger,
} from './ledger.ts'
import { ledgerName } from './names.ts'

/** One wish: looks at the ledger and says what is to change in it, or throws. It may be asked again on a newer one. */
export type Change = (ledger: Ledger) => Iterable<readonly [volume: string, entry: Entry | undefined]>

interface Wish {
  change: Change
  resolve: (ledger: Ledger) => void
  reject: (error: unknown) => void
}

/**
 * The one way to change the ledger of a node. Wishes that come together are written together, over the version that
 * they were decided on; when somebody else has changed it, all are decided again on what the API server has then.
 */
export class LedgerKeeper {
  readonly #api: Api
  readonly #path: string
  readonly #namespace: string
  readonly #node: string
  #latest: Ledger | undefined
  /** The version that a watch told of last. */
  #told = '0'
  #wishes: Wish[] = []
  #writing = false

  constructor({ api, namespace, node }: { api: Api; namespace: string; node: string }) {
    this.#api = api
    this.#namespace = namespace
    this.#node = node
    this.#path = `/api/v1/namespaces/${namespace}/configmaps`
  }

  /** The newest that was seen. */
  get latest(): Ledger | undefined {
    return this.#latest
  }

  /**
   * Takes what a watch tells, which may be behind an answer. Where it tells of an older version than before, the API server was
   * restored from a backup, and that is what there is.
   */
  see(ledger: Ledger | undefined): void {
    const isRestored = ledger && isLater(this.#told, ledger.resourceVersion)
    this.#told = ledger?.resourceVersion ?? '0'
    if (isRestored) this.#latest = ledger
    else this.#note(ledger)
  }

  /** What is older than what is known says nothing. */
  #note(ledger: Ledger | undefined): void {
    if (!ledger || !this.#latest || isLater(ledger.resourceVersion, this.#latest.resourceVersion)) this.#latest = ledger
  }

  /**
   * Writes what `change` says of the ledger and gives the ledger after it. Throws what `change` throws on a ledger that
   * the API server confirmed, `not-found` where there is no ledger, and `ApiError`: then nobody knows whether it is written.
   */
  async update(change: Change): Promise<Ledger> {
    return await new Promise((resolve, reject) => {
      this.#wishes.push({ change, resolve, reject })
      if (!this.#writing) this.#write()
    })
  }

  /** Makes the ledger, or brings what it says of the pool, and its labels, up to date. */
  async publish(pool: PoolFacts, initial: () => Promise<Changes>): Promise<Ledger> {
    if (!(await this.find())) {
      const body = buildLedger(this.#namespace, this.#node, pool, await initial())
      try {
        const made = parseLedger(await this.#api.send<V1ConfigMap>({ method: 'POST', path: this.#path, body }))
        this.#note(made)
        return made
      } catch (error) {
        // Made in the meantime, or by a request whose answer was lost.
        if (!hasStatus(error, 409) || !(await this.find())) throw error
      }
    }
    const metadata = { labels: labelsOf(this.#node) }
    const written = parseLedger(await this.#patch({ metadata, data: buildData(pool, new Map()) }))
    this.#note(written)
    return written
  }

  async #write(): Promise<void> {
    this.#writing = true
    try {
      // Everything that is asked for in this turn goes into one request.
      await Promise.resolve()
      while (this.#wishes.length > 0) await this.#writeOnce(this.#wishes.splice(0))
    } finally {
      this.#writing = false
    }
  }

  async #writeOnce(wishes: Wish[]): Promise<void> {
    try {
      let confirmed = false
      for (;;) {
        const base = this.#latest ?? (await this.#mustRead())
        const { changes, granted, refused } = decide(base, wishes)
        if (refused.length > 0 && !confirmed) {
          // Perhaps there is room by now: a refusal is only said after looking.
          await this.#mustRead()
          confirmed = true
          continue
        }
        try {
          const after = changes.size > 0 ? await this.#change(base, changes) : base
          for (const { wish, error } of refused) wish.reject(error)
          for (const wish of granted) wish.resolve(after)
          return
        } catch (error) {
          if (!hasStatus(error, 409)) throw error
          await this.#mustRead()
          confirmed = true
        }
      }
    } catch (error) {
      const isTooLong = hasStatus(error, 413, 422)
      // What one of them adds keeps no other from being written.
      if (isTooLong && wishes.length > 1) for (const wish of wishes) await this.#writeOnce([wish])
      else for (const wish of wishes) wish.reject(isTooLong ? fullLedger(this.#node) : error)
    }
  }

  /** Writes the changes over that version; throws when there is another by now. */
  async #change(base: Ledger, changes: Changes): Promise<Ledger> {
    const { resourceVersion } = base
    const written = await this.#patch({ metadata: { resourceVersion }, data: buildData(undefined, changes) })
    const after = { ...applyChanges(base, changes), resourceVersion: written.metadata?.resourceVersion ?? '' }
    // The watch may be ahead of the answer.
    this.#note(after)
    return after
  }

  async #patch({ metadata, data }: { metadata: object; data: unknown }): Promise<V1ConfigMap> {
    return await this.#api.send<V1ConfigMap>({
      method: 'PATCH',
      path: `${this.#path}/${ledgerName(this.#node)}`,
      // Who wrote which key would be as long as the ledger, and nobody asks: the API server then keeps no account of it.
      body: { metadata: { ...metadata, managedFields: [{}] }, data },
    })
  }

  /** The ledger as the API server has it now; nothing where there is none. */
  async find(): Promise<Ledger | undefined> {
    const path = `${this.#path}/${ledgerName(this.#node)}`
    const known = this.#latest
    const found = await orMissing(this.#api.send<V1ConfigMap>({ method: 'GET', path }))
    const ledger = found && parseLedger(found)
    // Of an API server that was restored from a backup, the answer is older than what was known before it was asked.
    if (this.#latest === known) this.#latest = ledger
    else this.#note(ledger)
    return this.#latest
  }

  async #mustRead(): Promise<Ledger> {
    const ledger = await this.find()
    if (ledger) return ledger
    throw new VolumeError(
      'not-found',
      `Cannot place anything on node ${this.#node} as its daemon has not reported a pool; check the elastic-local daemon of that node.`,
    )
  }
}

/** The ledgers of all nodes. */
export class LedgerKeepers {
  readonly #parts: { api: Api; namespace: string }
  readonly #keepers = new Map<string, LedgerKeeper>()

  constructor(parts: { api: Api; namespace: string }) {
    this.#parts = parts
  }

  /** The ledger of that node, whether there is one or not. */
  of(node: string): LedgerKeeper {
    const keeper = this.#keepers.get(node) ?? new LedgerKeeper({ ...this.#parts, node })
    this.#keepers.set(node, keeper)
    return keeper
  }

  /** All that were seen. */
  known(): Ledger[] {
    return [...this.#keepers.values()].map((keeper) => keeper.latest).filter((ledger) => ledger !== undefined)
  }

  /** Those in which something is promised to that volume. */
  holding(volume: string): Ledger[] {
    return this.known().filter(({ entries }) => entries.has(volume))
  }

  /** Takes a promise back, unless the daemon has kept it. */
  async release(node: string, volume: string): Promise<void> {
    await this.of(node).update(({ entries }) => (entries.get(volume)?.pendingFor ? [[volume, undefined]] : []))
  }
}

/** Decides the wishes one after the other, each on what those before it leave. */
function decide(base: Ledger, wishes: readonly Wish[]) {
  let ledger = base
  const changes = new Map<string, Entry | undefined>()
  const granted: Wish[] = []
  const refused: { wish: Wish; error: unknown }[] = []
  for (const wish of wishes) {
    try {
      const wanted = new Map(wish.change(ledger))
      for (const [volume, entry] of wanted) changes.set(volume, entry)
      ledger = applyChanges(ledger, wanted)
      granted.push(wish)
    } catch (error) {
      refused.push({ wish, error })
    }
  }
  return { changes, granted, refused }
}
