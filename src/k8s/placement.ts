import type { V1Node, V1TopologySelectorTerm } from '@kubernetes/client-node'
import { isWanted, type PoolWish } from './claim.ts'
import { freeBytes, type Ledger } from './ledger.ts'
import { hostnameLabel } from './names.ts'

/** What is needed of a Node. */
export interface NodeFacts {
  name: string
  labels: Readonly<Record<string, string>>
  hostname: string
  isReady: boolean
  isSchedulable: boolean
}

export function pickNode({ metadata, spec, status }: V1Node): NodeFacts {
  const labels = metadata?.labels ?? {}
  return {
    name: metadata?.name ?? '',
    labels,
    hostname: labels[hostnameLabel] ?? '',
    isReady: status?.conditions?.find(({ type }) => type === 'Ready')?.status === 'True',
    isSchedulable: spec?.unschedulable !== true,
  }
}

/** The node with the most room among those that can take a volume of that class, or nothing. */
export function chooseNode(
  nodes: Iterable<NodeFacts>,
  ledgerOf: (node: string) => Ledger | undefined,
  /** What is being asked of a node at this moment, and is not in its ledger yet. */
  askedBytesOf: (node: string) => bigint,
  wish: PoolWish & { topologies: readonly V1TopologySelectorTerm[] },
): { node: NodeFacts; freeBytes: bigint } | undefined {
  let best: { node: NodeFacts; freeBytes: bigint } | undefined
  for (const node of nodes) {
    const ledger = ledgerOf(node.name)
    if (!ledger || !node.isReady || !node.isSchedulable || !node.hostname) continue
    if (!isWanted(wish, ledger.pool) || !isAllowed(node.labels, wish.topologies)) continue
    const free = freeBytes(ledger) - askedBytesOf(node.name)
    if (!best || free > best.freeBytes || (free === best.freeBytes && node.name < best.node.name))
      best = { node, freeBytes: free }
  }
  return best
}

/** Whether labels fit one of the terms; all expressions of a term must hold. */
export function isAllowed(labels: Readonly<Record<string, string>>, terms: readonly V1TopologySelectorTerm[]): boolean {
  if (terms.length === 0) return true
  return terms.some(({ matchLabelExpressions = [] }) =>
    matchLabelExpressions.every(({ key, values }) => values.includes(labels[key] ?? '')),
  )
}
