import type { V1Node, V1TopologySelectorTerm } from '@kubernetes/client-node'
import { hostnameLabel } from './names.ts'

/** What is needed of a Node. */
export interface NodeFacts {
  name: string
  uid: string
  labels: Readonly<Record<string, string>>
  hostname: string
  isReady: boolean
  isSchedulable: boolean
  /** Whether only pods that tolerate it may come. */
  isTainted: boolean
}

export function pickNode({ metadata, spec, status }: V1Node): NodeFacts {
  const labels = metadata?.labels ?? {}
  return {
    name: metadata?.name ?? '',
    uid: metadata?.uid ?? '',
    labels,
    hostname: labels[hostnameLabel] ?? '',
    isReady: status?.conditions?.find(({ type }) => type === 'Ready')?.status === 'True',
    isSchedulable: spec?.unschedulable !== true,
    isTainted: spec?.taints?.some(({ effect }) => effect !== 'PreferNoSchedule') ?? false,
  }
}

/** Whether labels fit one of the terms; all expressions of a term must hold. */
export function isAllowed(labels: Readonly<Record<string, string>>, terms: readonly V1TopologySelectorTerm[]): boolean {
  if (terms.length === 0) return true
  return terms.some(({ matchLabelExpressions = [] }) =>
    matchLabelExpressions.every(({ key, values }) => values.includes(labels[key] ?? '')),
  )
}
