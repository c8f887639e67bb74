import type { V1TopologySelectorTerm } from '@kubernetes/client-node'
import { isWanted, type PoolWish } from '../model/claim.ts'
import { freeBytes, type Ledger, poolOf } from '../model/ledger.ts'
import { isAllowed, isPlaceable, type NodeFacts, type PlaceableNode } from '../model/node.ts'

/** The node with the most room among those that can take a volume of that class, or nothing. */
export function chooseNode(
  nodes: Iterable<NodeFacts>,
  ledgerOf: (node: string) => Ledger | undefined,
  /** Whether the daemon of a node is at work. */
  isAlive: (node: string) => boolean,
  /** What is being asked of a node at this moment, and is not in its ledger yet. */
  askedBytesOf: (node: string) => bigint,
  wish: PoolWish & { topologies: readonly V1TopologySelectorTerm[] },
): { node: PlaceableNode; freeBytes: bigint } | undefined {
  let best: { node: PlaceableNode; freeBytes: bigint } | undefined
  for (const node of nodes) {
    const ledger = ledgerOf(node.name)
    if (!ledger || !node.isReady || node.taints.length > 0 || !isPlaceable(node)) continue
    if (!isAlive(node.name)) continue
    if (!isWanted(wish, poolOf(ledger)) || !isAllowed(node.labels, wish.topologies)) continue
    const free = freeBytes(ledger) - askedBytesOf(node.name)
    if (!best || free > best.freeBytes || (free === best.freeBytes && node.name < best.node.name))
      best = { node, freeBytes: free }
  }
  return best
}
