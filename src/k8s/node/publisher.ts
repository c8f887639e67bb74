import type { V1CSIStorageCapacity, V1StorageClass } from '@kubernetes/client-node'
import type { Log } from '../../log.ts'
import type { Meter } from '../../meter.ts'
import { messageOf } from '../../volume/errors.ts'
import type { PoolReport } from '../../volume/pool.ts'
import { type Api, hasStatus, unless } from '../client/api.ts'
import { nodeObject, type Recorder } from '../client/events.ts'
import { WorkQueue } from '../client/queue.ts'
import { type CopyState, Reflector } from '../client/reflector.ts'
import { buildCapacity } from '../model/capacity.ts'
import { type ClassFacts, pickClass } from '../model/claim.ts'
import { type Changes, mustBeItsPool, type PoolFacts, poolOf } from '../model/ledger.ts'
import type { LedgerKeeper } from '../model/ledger-keeper.ts'
import { readNode } from '../model/lookups.ts'
import { hostnameLabel, nodeLabel } from '../model/names.ts'

export interface PublisherParts {
  api: Api
  namespace: string
  node: string
  keeper: LedgerKeeper
  report: () => Promise<PoolReport>
  /** What a new ledger begins with: the volumes that are there. */
  initial: () => Promise<Changes>
  recorder: Recorder
  log: Pick<Log, 'info' | 'warn'>
  meter?: Pick<Meter, 'work' | 'backlogs'> | undefined
}

/** What happens close together is published once. */
const settleMs = 200
/** The pool is looked at again after so long, as others may change it. */
const lookMs = 30_000
/** Room on a disk that others write to is told in steps, or every log line would be news. */
const stepBytes = 64n << 20n

/**
 * Says what this node has: its pool, in its ledger, for the provisioner; and what is left of it for each StorageClass, in
 * CSIStorageCapacity objects, for the scheduler. Only what has changed is written.
 */
export class Publisher {
  readonly #parts: PublisherParts
  readonly #classes: Reflector<V1StorageClass, ClassFacts>
  readonly #capacities: Reflector<V1CSIStorageCapacity, true>
  readonly #queue: WorkQueue
  readonly #published = new Map<string, string>()
  #node: { name: string; uid: string; hostname: string } | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(parts: PublisherParts) {
    this.#parts = parts
    const { api, namespace, node, log } = parts
    this.#classes = new Reflector({ api, log, path: '/apis/storage.k8s.io/v1/storageclasses', pick: pickClass })
    this.#classes.onChange(() => this.soon())
    const query = { labelSelector: `${nodeLabel}=${node}` }
    this.#capacities = new Reflector({ api, log, path: this.#path, query, pick: () => true })
    this.#capacities.onChange((key, now) => {
      if (!now) this.#lose(key.slice(`${namespace}/`.length))
    })
    this.#queue = new WorkQueue({
      name: 'publishing',
      about: () => ({ node }),
      work: () => this.#publish(),
      concurrency: 1,
      backoffMs: { first: 500, most: 10_000 },
      log,
      meter: parts.meter,
    })
  }

  /** What it follows. */
  get copies(): readonly CopyState[] {
    return [this.#classes, this.#capacities]
  }

  /** Publishes until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    this.#timer = setInterval(() => this.soon(), lookMs)
    this.#classes.synced().then(() => this.soon())
    try {
      await Promise.all([this.#classes.run(signal), this.#capacities.run(signal)])
    } finally {
      clearInterval(this.#timer)
      await this.#queue.stop()
    }
  }

  /** Something of the pool or of its promises has changed. */
  soon(): void {
    this.#queue.addAfter('all', settleMs)
  }

  async #publish(): Promise<void> {
    const { keeper, namespace, initial } = this.#parts
    if (!this.#classes.isSynced) return
    const report = await this.#parts.report()
    for (const problem of report.problems) await this.#sayOnNode(report, problem)
    const pool = poolFacts(report)
    try {
      if (keeper.latest) mustBeItsPool(keeper.latest, pool)
    } catch (error) {
      await this.#parts.recorder.say(nodeObject(this.#parts.node), 'Warning', 'WrongPool', messageOf(error))
      throw error
    }
    const known = keeper.latest && poolOf(keeper.latest)
    const begin = async () => {
      // What is said of a node that is gone is removed: nothing is made before it is back.
      this.#node = await this.#findNode()
      return await initial()
    }
    const ledger = known && isSame(known, pool) && keeper.latest ? keeper.latest : await keeper.publish(pool, begin)
    this.#node ??= await this.#findNode()
    if (this.#published.size === 0) await this.#readPublished()
    const wanted = new Map<string, V1CSIStorageCapacity>()
    for (const storageClass of this.#classes.objects.values()) {
      const capacity = buildCapacity(namespace, this.#node, storageClass, ledger)
      if (capacity) wanted.set(capacity.metadata?.name ?? '', capacity)
    }
    for (const [name, capacity] of wanted) {
      if (this.#published.get(name) === capacity.capacity) continue
      this.#published.set(name, capacity.capacity ?? '')
      await this.#write(name, capacity).catch((error) => {
        // Nobody knows what is published.
        this.#published.set(name, '')
        throw error
      })
    }
    for (const name of [...this.#published.keys()].filter((name) => !wanted.has(name))) {
      await this.#parts.api.send({ method: 'DELETE', path: `${this.#path}/${name}` }).catch(unless(404))
      this.#published.delete(name)
    }
  }

  async #sayOnNode({ name, driverKind }: PoolReport, problem: string): Promise<void> {
    const { recorder, node } = this.#parts
    await recorder.say(nodeObject(node), 'Warning', 'PoolProblem', `Pool ${name} (${driverKind}): ${problem}.`)
  }

  /** A capacity that was removed, with the object of the node, or by somebody, is written anew, for the node of now. */
  #lose(name: string): void {
    if (!this.#published.delete(name)) return
    this.#node = undefined
    this.soon()
  }

  get #path(): string {
    return `/apis/storage.k8s.io/v1/namespaces/${this.#parts.namespace}/csistoragecapacities`
  }

  /** The scheduler may lose an object between a reading and a writing: it is made if it is not there. */
  async #write(name: string, capacity: V1CSIStorageCapacity): Promise<void> {
    const { api } = this.#parts
    try {
      await api.send({ method: 'PATCH', path: `${this.#path}/${name}`, body: { capacity: capacity.capacity } })
    } catch (error) {
      if (!hasStatus(error, 404)) throw error
      await api.send({ method: 'POST', path: this.#path, body: capacity })
    }
  }

  async #readPublished(): Promise<void> {
    const { api, node } = this.#parts
    const query = { labelSelector: `${nodeLabel}=${node}` }
    const { items } = await api.send<{ items: V1CSIStorageCapacity[] }>({ method: 'GET', path: this.#path, query })
    for (const { metadata, nodeTopology, capacity } of items) {
      const isOfToday = nodeTopology?.matchLabels?.[hostnameLabel] === this.#node?.hostname
      const isOwned = metadata?.ownerReferences?.some(({ uid }) => uid === this.#node?.uid)
      // Said of a node that had another label or another object: a new one takes its place.
      if (!isOfToday || !isOwned)
        await api.send({ method: 'DELETE', path: `${this.#path}/${metadata?.name}` }).catch(unless(404))
      else this.#published.set(metadata?.name ?? '', capacity ?? '')
    }
  }

  async #findNode() {
    const { api, node } = this.#parts
    const found = await readNode(api, node)
    if (!found) throw new Error(`Cannot publish the room of node ${node} as there is no such node.`)
    const { metadata } = found
    const hostname = metadata?.labels?.[hostnameLabel]
    if (!hostname) throw new Error(`Cannot publish the room of node ${node} as it has no label ${hostnameLabel}.`)
    return { name: node, uid: metadata?.uid ?? '', hostname }
  }
}

/** The report of a pool as the ledger holds it. */
function poolFacts({ name, id, driverKind, totalBytes, reservedBytes, freeBytes, unitBytes }: PoolReport): PoolFacts {
  const promisable = reservedBytes + freeBytes
  const exact = promisable < totalBytes ? promisable : totalBytes
  return {
    name,
    ...(id ? { id } : {}),
    driverKind,
    unitBytes,
    capacityBytes: driverKind === 'LVM' ? exact : exact - (exact % stepBytes),
  }
}

function isSame(a: PoolFacts, b: PoolFacts): boolean {
  return (Object.keys(a) as (keyof PoolFacts)[]).every((key) => a[key] === b[key])
}
