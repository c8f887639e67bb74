import { isDeepStrictEqual } from 'node:util'
import type { V1CSIStorageCapacity } from '@kubernetes/client-node'
import { hasStatus, unless } from '../client/api.ts'
import { WorkQueue } from '../client/queue.ts'
import { buildCapacity, type CapacityObject, pickCapacity } from '../model/capacity.ts'
import { isCapacityName } from '../model/names.ts'
import { isPlaceable } from '../model/node.ts'
import type { LeaderParts } from './leader.ts'

/** What happens close together is published once. */
const settleMs = 200
const concurrency = 16

/**
 * Tells the scheduler what is left of each node for each StorageClass, in CSIStorageCapacity objects: of nodes that are
 * there, whose daemon is alive. Only what differs is written, and what nobody says any more is taken away.
 */
export class Capacities {
  readonly #parts: LeaderParts
  /** Keys are names of nodes. */
  readonly #queue: WorkQueue
  /** Names of the objects that are about each node. */
  readonly #byNode = new Map<string, Set<string>>()

  constructor(parts: LeaderParts) {
    this.#parts = parts
    this.#queue = new WorkQueue({
      ...parts,
      name: 'capacities',
      about: (node) => ({ node }),
      work: (node) => this.#publish(node),
      concurrency,
    })
  }

  /** Begins, and goes on with what changes until `signal` aborts. */
  start(signal: AbortSignal): void {
    const { liveness, copies } = this.#parts
    const { nodes, classes, ledgers, capacities } = copies
    const soon = (node: string | undefined) => {
      if (node !== undefined) this.#queue.addAfter(node, settleMs)
    }
    const all = () => {
      for (const node of new Set([...nodes.objects.keys(), ...this.#byNode.keys()])) soon(node)
    }
    capacities.onChange((_, now, before) => {
      this.#index(now, before)
      // One that somebody changed, or that was lost with the object of its node.
      if (!isDeepStrictEqual(now, before)) for (const one of [now, before]) soon(one?.node)
    }, signal)
    for (const capacity of capacities.objects.values()) this.#index(capacity, undefined)
    nodes.onChange((name, now, before) => {
      if (now?.uid !== before?.uid || !isDeepStrictEqual(now?.topology, before?.topology)) soon(name)
    }, signal)
    ledgers.onChange((_, now, before) => soon((now ?? before)?.node), signal)
    classes.onChange(all, signal)
    liveness.onChange(soon, signal)
    all()
  }

  /** Resolves when what was begun has ended. */
  async stop(): Promise<void> {
    await this.#queue.stop()
  }

  #index(now: CapacityObject | undefined, before: CapacityObject | undefined): void {
    if (before) {
      const names = this.#byNode.get(before.node)
      names?.delete(before.name)
      if (names?.size === 0) this.#byNode.delete(before.node)
    }
    if (now) this.#byNode.set(now.node, (this.#byNode.get(now.node) ?? new Set()).add(now.name))
  }

  async #publish(node: string): Promise<void> {
    const wanted = this.#wanted(node)
    const stale = [...(this.#byNode.get(node) ?? [])].filter((name) => !wanted.has(name))
    const steps = [
      ...stale.map((name) => () => this.#remove(name)),
      ...[...wanted].map((entry) => () => this.#ensure(...entry)),
    ]
    // What the API server refuses of one class keeps no other from being told.
    const failures: unknown[] = []
    for (const step of steps) await step().catch((error) => failures.push(error))
    if (failures.length > 0) throw failures[0]
  }

  #wanted(name: string): Map<string, V1CSIStorageCapacity> {
    const { liveness, copies, ledgers, namespace } = this.#parts
    const node = copies.nodes.objects.get(name)
    const ledger = ledgers.of(name).latest
    if (!node || !isPlaceable(node) || !ledger || !liveness.isAlive(name)) return new Map()
    const built = [...copies.classes.objects.values()].map((one) => buildCapacity(namespace, node, one, ledger))
    return new Map(built.filter((one) => one !== undefined).map((one) => [one.metadata?.name ?? '', one]))
  }

  async #ensure(name: string, wanted: V1CSIStorageCapacity): Promise<void> {
    const { api, namespace, copies } = this.#parts
    const there = copies.capacities.objects.get(`${namespace}/${name}`)
    const right = pickCapacity(wanted)
    if (isDeepStrictEqual(there, right)) return
    // Which class and which node it is about cannot be changed.
    if (there && (there.className !== right.className || there.topology !== right.topology)) await this.#remove(name)
    else if (there) {
      const { metadata, capacity } = wanted
      const body = { metadata: { labels: metadata?.labels, ownerReferences: metadata?.ownerReferences }, capacity }
      const patched = api.send<V1CSIStorageCapacity>({ method: 'PATCH', path: this.#pathOf(name), body })
      const made = await patched.catch((error) => {
        if (!hasStatus(error, 404)) throw error
      })
      if (made) return copies.capacities.note(made)
    }
    copies.capacities.note(await api.send<V1CSIStorageCapacity>({ method: 'POST', path: this.#pathOf(), body: wanted }))
  }

  async #remove(name: string): Promise<void> {
    if (!isCapacityName(name)) return
    await this.#parts.api.send({ method: 'DELETE', path: this.#pathOf(name) }).catch(unless(404))
  }

  #pathOf(name?: string): string {
    const path = `/apis/storage.k8s.io/v1/namespaces/${this.#parts.namespace}/csistoragecapacities`
    return name === undefined ? path : `${path}/${name}`
  }
}
