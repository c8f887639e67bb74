import type { V1CSIStorageCapacity } from '@kubernetes/client-node'
import { minimumBytes } from '../../volume/host.ts'
import { type ClassFacts, isWanted, readClass } from './claim.ts'
import { freeBytes, type Ledger, poolOf } from './ledger.ts'
import { capacityName, nodeLabel } from './names.ts'
import { formatTopology, type Topology } from './node.ts'

/** What is needed of a CSIStorageCapacity object of our namespace. */
export interface CapacityObject {
  name: string
  /** Empty where somebody took the label away. */
  node: string
  className: string
  /** The label of nodes that it is about, as `<key>=<value>`. */
  topology: string
  capacity: string
  /** UID of the Node object that it goes with. */
  owner: string
}

export function pickCapacity({
  metadata,
  storageClassName,
  nodeTopology,
  capacity,
}: V1CSIStorageCapacity): CapacityObject {
  return {
    name: metadata?.name ?? '',
    node: metadata?.labels?.[nodeLabel] ?? '',
    className: storageClassName,
    topology: readTopology(nodeTopology),
    capacity: capacity ?? '',
    owner: metadata?.ownerReferences?.[0]?.uid ?? '',
  }
}

/** The label of a selector as ours; empty for any other. */
export function readTopology(selector: V1CSIStorageCapacity['nodeTopology']): string {
  const [label, ...others] = Object.entries(selector?.matchLabels ?? {}).map(([key, value]) => ({ key, value }))
  return label && others.length === 0 ? formatTopology(label) : ''
}

/**
 * What a class can still have of a node, as the scheduler wants to be told (storage.k8s.io/v1, CSIStorageCapacity); nothing
 * where it wants another pool, or is wrong, so that every claim of it is refused with the reason.
 */
export function buildCapacity(
  namespace: string,
  node: { name: string; uid: string; topology: Topology },
  storageClass: ClassFacts,
  ledger: Ledger,
): V1CSIStorageCapacity | undefined {
  const wish = findWish(storageClass)
  if (!wish || !isWanted(wish, poolOf(ledger))) return undefined
  return {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'CSIStorageCapacity',
    metadata: {
      name: capacityName(node.name, storageClass.name),
      namespace,
      labels: { [nodeLabel]: node.name },
      // Goes with its node.
      ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: node.name, uid: node.uid }],
    },
    storageClassName: storageClass.name,
    nodeTopology: { matchLabels: { [node.topology.key]: node.topology.value } },
    capacity: String(offer(ledger, minimumBytes[wish.fsType])),
  }
}

/** The largest volume that can be had: whole units, and no less than a volume of that class has. */
function offer(ledger: Ledger, leastBytes: bigint): bigint {
  const free = freeBytes(ledger)
  const whole = free - (free % poolOf(ledger).unitBytes)
  return whole >= leastBytes ? whole : 0n
}

function findWish(storageClass: ClassFacts) {
  try {
    return readClass(storageClass)
  } catch {
    return undefined
  }
}
