import type { V1Node, V1TopologySelectorTerm } from '@kubernetes/client-node'
import { topologyKey } from '../../csi/driver.ts'
import { hostnameLabel } from './names.ts'

/** A label by which pods, and figures for the scheduler, are held to a node. */
export interface Topology {
  key: string
  value: string
}

export const formatTopology = ({ key, value }: Topology) => `${key}=${value}`

/** What is needed of a Node. */
export interface NodeFacts {
  name: string
  uid: string
  labels: Readonly<Record<string, string>>
  hostname: string
  /** Ours where the node has it, else its host name; missing where it has neither. */
  topology?: Topology
  isReady: boolean
  isSchedulable: boolean
  /** Whether only pods that tolerate it may come. */
  isTainted: boolean
}

/** One that volumes can be placed on: pods can be held to it. */
export type PlaceableNode = NodeFacts & { topology: Topology }

export const isPlaceable = (node: NodeFacts): node is PlaceableNode => node.topology !== undefined

export function pickNode({ metadata, spec, status }: V1Node): NodeFacts {
  const labels = metadata?.labels ?? {}
  const name = metadata?.name ?? ''
  const topology = findTopology(name, labels)
  return {
    name,
    uid: metadata?.uid ?? '',
    labels,
    hostname: labels[hostnameLabel] ?? '',
    ...(topology ? { topology } : {}),
    isReady: status?.conditions?.find(({ type }) => type === 'Ready')?.status === 'True',
    isSchedulable: spec?.unschedulable !== true,
    isTainted: spec?.taints?.some(({ effect }) => effect !== 'PreferNoSchedule') ?? false,
  }
}

export function findTopology(name: string, labels: Readonly<Record<string, string>>): Topology | undefined {
  if (labels[topologyKey] === name) return { key: topologyKey, value: name }
  const hostname = labels[hostnameLabel]
  return hostname ? { key: hostnameLabel, value: hostname } : undefined
}

/** Whether labels fit one of the terms; all expressions of a term must hold. */
export function isAllowed(labels: Readonly<Record<string, string>>, terms: readonly V1TopologySelectorTerm[]): boolean {
  if (terms.length === 0) return true
  return terms.some(({ matchLabelExpressions = [] }) =>
    matchLabelExpressions.every(({ key, values }) => values.includes(labels[key] ?? '')),
  )
}
