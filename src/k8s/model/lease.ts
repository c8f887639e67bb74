import type { V1Lease } from '@kubernetes/client-node'
import { aliveLabel, aliveName, nodeLabel } from './names.ts'

/** What a node's daemon says by its Lease. */
export interface LeaseFacts {
  node: string
  /** It differs each time it says so; clocks are not compared. */
  renewTime: string
  durationMs: number
}

/** A daemon may not say that it lives for longer. */
const longestSeconds = 3600

export function pickLease({ metadata, spec }: V1Lease): LeaseFacts {
  return {
    node: metadata?.labels?.[nodeLabel] ?? '',
    renewTime: String(spec?.renewTime ?? ''),
    durationMs: Math.min(spec?.leaseDurationSeconds ?? 0, longestSeconds) * 1000,
  }
}

/** The Lease of a node whose daemon has just done its work (coordination.k8s.io/v1). */
export function buildLease(namespace: string, node: string, durationSeconds: number, now: Date) {
  return {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name: aliveName(node), namespace, labels: { [aliveLabel]: 'true', [nodeLabel]: node } },
    spec: {
      holderIdentity: node,
      leaseDurationSeconds: durationSeconds,
      // MicroTime has six digits.
      renewTime: now.toISOString().replace('Z', '000Z'),
    },
  }
}
