import type { V1Node, V1NodeSpec, V1Taint, V1TopologySelectorTerm } from '@kubernetes/client-node'
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
  /** To have a pod there, it must tolerate each of them; a cordon is one. */
  taints: readonly Taint[]
}

export type Taint = Pick<V1Taint, 'key' | 'value' | 'effect'>

/** A cordon, for the scheduler (pkg/scheduler/framework/plugins/nodeunschedulable). */
const cordon: Taint = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }

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
    taints: pickTaints(spec),
  }
}

function pickTaints({ taints = [], unschedulable }: V1NodeSpec = {}): Taint[] {
  const found = taints
    .filter(({ effect }) => effect !== 'PreferNoSchedule')
    .map(({ key, value, effect }) => ({ key, effect, ...(value ? { value } : {}) }))
  // The controller manager writes that taint a while after.
  return unschedulable && !found.some(({ key }) => key === cordon.key) ? [...found, cordon] : found
}

export const formatTaint = ({ key, value, effect }: Taint) => `${key}${value ? `=${value}` : ''}:${effect}`

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
