import type { V1ConfigMap, V1PersistentVolumeList } from '@kubernetes/client-node'
import type { Log } from '../../log.ts'
import type { Meter } from '../../meter.ts'
import { type Api, orMissing, unlessOvertaken } from '../client/api.ts'
import type { Clock } from '../client/clock.ts'
import { WorkQueue } from '../client/queue.ts'
import { readNode, volumesPath } from '../model/lookups.ts'
import { aliveName, ledgerName, nodeLabel } from '../model/names.ts'

export interface GoneNodesParts {
  api: Api
  namespace: string
  /** How long a node's object must be gone before the node is given up. */
  nodeGoneGraceMs: number
  /** Whether the node's object is there, as far as a watch has seen. */
  isKnown: (node: string) => boolean
  clock: Pick<Clock, 'now'>
  log: Pick<Log, 'info' | 'warn'>
  meter?: Pick<Meter, 'work' | 'backlogs'>
}

/** Nodes whose object is gone: since when, as this process has seen, and what is left of them when nobody needs it. */
export class GoneNodes {
  readonly #parts: GoneNodesParts
  readonly #since = new Map<string, number>()
  readonly #queue: WorkQueue

  constructor(parts: GoneNodesParts) {
    this.#parts = parts
    this.#queue = new WorkQueue({
      ...parts,
      name: 'gone-nodes',
      about: (node) => ({ node }),
      work: (node) => this.#removeLedger(node),
      concurrency: 4,
    })
  }

  /** Takes note of what was seen of a node: of its object, a PV or its ledger. */
  see(node: string): void {
    if (this.#parts.isKnown(node)) this.#since.delete(node)
    else if (node) this.#queue.add(node)
  }

  /** How long the object of a node must stay away from now on until the node is given up; 0 when it was long enough. */
  leftMs(node: string): number {
    const now = this.#parts.clock.now()
    const since = this.#since.get(node) ?? now
    this.#since.set(node, since)
    return Math.max(0, since + this.#parts.nodeGoneGraceMs - now)
  }

  async stop(): Promise<void> {
    await this.#queue.stop()
  }

  /** The ledger goes when no PV is left that names the node; should the node come back, its daemon makes a new one. */
  async #removeLedger(node: string): Promise<void> {
    const { api, namespace, isKnown, log } = this.#parts
    if (isKnown(node)) return
    const leftMs = this.leftMs(node)
    if (leftMs > 0) return this.#queue.addAfter(node, leftMs)
    const path = `/api/v1/namespaces/${namespace}/configmaps/${ledgerName(node)}`
    const lease = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/${aliveName(node)}`
    const ledger = await orMissing(api.send<V1ConfigMap>({ method: 'GET', path }))
    if (await this.#isNeeded(node)) return
    if (ledger?.metadata) {
      // What is promised in the meantime changes the version.
      const { uid, resourceVersion } = ledger.metadata
      const body = { preconditions: { uid, resourceVersion } }
      const removed = api.send({ method: 'DELETE', path, body })
      await removed.then(
        () => log.info(`Removed the ledger of node ${node}, which is gone.`, { node }),
        unlessOvertaken,
      )
    }
    await api.send({ method: 'DELETE', path: lease }).catch(unlessOvertaken)
  }

  /** Whether the API server, asked now, knows the node or a PV there. */
  async #isNeeded(node: string): Promise<boolean> {
    const { api } = this.#parts
    if (await readNode(api, node)) return true
    const query = { labelSelector: `${nodeLabel}=${node}`, limit: '1' }
    const { items } = await api.send<V1PersistentVolumeList>({ method: 'GET', path: volumesPath, query })
    return items.length > 0
  }
}
