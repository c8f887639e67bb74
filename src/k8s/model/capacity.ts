import type { V1CSIStorageCapacity } from '@kubernetes/client-node'
import { type ClassFacts, isWanted, readClass } from './claim.ts'
import { freeBytes, type Ledger, poolOf } from './ledger.ts'
import { capacityName, hostnameLabel, nodeLabel } from './names.ts'

/** What a class can still have of a node, as the scheduler wants to be told (storage.k8s.io/v1, CSIStorageCapacity). */
export function buildCapacity(
  namespace: string,
  node: { name: string; uid: string; hostname: string },
  storageClass: ClassFacts,
  ledger: Ledger,
): V1CSIStorageCapacity {
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
    nodeTopology: { matchLabels: { [hostnameLabel]: node.hostname } },
    capacity: String(isUsable(storageClass, ledger) ? freeBytes(ledger) : 0n),
  }
}

function isUsable(storageClass: ClassFacts, ledger: Ledger): boolean {
  try {
    return isWanted(readClass(storageClass), poolOf(ledger))
  } catch {
    // Every claim of such a class is refused with the reason.
    return false
  }
}
