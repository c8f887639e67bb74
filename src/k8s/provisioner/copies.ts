import type {
  V1ConfigMap,
  V1CSIStorageCapacity,
  V1Lease,
  V1Node,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1StorageClass,
} from '@kubernetes/client-node'
import type { Log } from '../../log.ts'
import { messageOf } from '../../volume/errors.ts'
import type { Api } from '../client/api.ts'
import { Reflector } from '../client/reflector.ts'
import type { FrontName } from '../fronts/front.ts'
import { type CapacityObject, pickCapacity } from '../model/capacity.ts'
import { type ClaimFacts, type ClassFacts, pickClaim, pickClass } from '../model/claim.ts'
import { type LeaseFacts, pickLease } from '../model/lease.ts'
import { type Ledger, parseLedger } from '../model/ledger.ts'
import { volumesPath } from '../model/lookups.ts'
import { aliveLabel, ledgerLabel, nodeLabel } from '../model/names.ts'
import { type NodeFacts, pickNode } from '../model/node.ts'
import { pickVolume, type VolumeFacts } from '../model/persistent-volume.ts'

export interface CopiesParts {
  api: Api
  namespace: string
  /** Of classes that name none. */
  defaultFront: FrontName
  log: Pick<Log, 'warn'>
}

/** What the provisioner keeps of a cluster, as old as the API server's last word. */
export class Copies {
  readonly claims: Reflector<V1PersistentVolumeClaim, ClaimFacts>
  readonly classes: Reflector<V1StorageClass, ClassFacts>
  readonly volumes: Reflector<V1PersistentVolume, VolumeFacts>
  readonly nodes: Reflector<V1Node, NodeFacts>
  readonly ledgers: Reflector<V1ConfigMap, Ledger>
  readonly leases: Reflector<V1Lease, LeaseFacts>
  readonly capacities: Reflector<V1CSIStorageCapacity, CapacityObject>

  constructor({ api, namespace, defaultFront, log }: CopiesParts) {
    const common = { api, log }
    this.claims = new Reflector({ ...common, path: '/api/v1/persistentvolumeclaims', pick: pickClaim })
    this.classes = new Reflector({
      ...common,
      path: '/apis/storage.k8s.io/v1/storageclasses',
      pick: (object) => withFront(pickClass(object), defaultFront),
    })
    this.volumes = new Reflector({ ...common, path: volumesPath, pick: pickVolume })
    this.nodes = new Reflector({ ...common, path: '/api/v1/nodes', pick: pickNode })
    this.leases = new Reflector({
      ...common,
      path: `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`,
      query: { labelSelector: aliveLabel },
      pick: pickLease,
    })
    this.capacities = new Reflector({
      ...common,
      path: `/apis/storage.k8s.io/v1/namespaces/${namespace}/csistoragecapacities`,
      pick: pickCapacity,
    })
    this.ledgers = new Reflector({
      ...common,
      path: `/api/v1/namespaces/${namespace}/configmaps`,
      query: { labelSelector: ledgerLabel },
      pick: (object) => {
        try {
          return parseLedger(object)
        } catch (error) {
          log.warn(messageOf(error), { node: object.metadata?.labels?.[nodeLabel] })
          return undefined
        }
      },
    })
  }

  /** Each of them. */
  get all() {
    return [this.claims, this.classes, this.volumes, this.nodes, this.ledgers, this.leases, this.capacities]
  }

  /** Follows the cluster until `signal` aborts; resolves with that. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.all.map((reflector) => reflector.run(signal)))
  }

  /** Resolves when everything was listed once. */
  async synced(): Promise<void> {
    await Promise.all(this.all.map((reflector) => reflector.synced()))
  }
}

function withFront(storageClass: ClassFacts | undefined, front: FrontName): ClassFacts | undefined {
  return storageClass && { ...storageClass, parameters: { front, ...storageClass.parameters } }
}
