import type { V1PersistentVolumeClaim } from '@kubernetes/client-node'
import { formatExactly, formatSize } from '../../text/quantity.ts'
import { parseQuantity } from '../client/quantity.ts'

/** What the daemon says of growth that there is no room for. It comes back in the condition that the kubelet makes of it. */
export function describeNoRoom(
  volume: string,
  { fromBytes, toBytes, freeBytes }: Record<'fromBytes' | 'toBytes' | 'freeBytes', bigint>,
  place: { pool: string; node: string },
): string {
  const [from, to] = [formatExactly(fromBytes), formatExactly(toBytes)]
  return `Cannot grow ${volume} from ${from} to ${to} as pool ${place.pool} of node ${place.node} has ${formatSize(freeBytes)} free.`
}
const noRoom = /Cannot grow \S+ from [^()]+ \(([0-9]+) bytes\) to [^()]+ \(([0-9]+) bytes\) as pool .* has .* free/
const errorCondition = 'NodeResizeError'

/** What the owner of a claim can do whose growth there is no room for. */
export const adviceOnRefusal =
  'Lower the request of the claim to cancel it, to more than the claim has: Kubernetes allows no less.'

/** Whether a claim's growth may have to be settled. */
export function isGrowing({ status }: V1PersistentVolumeClaim): boolean {
  return status?.allocatedResourceStatuses?.storage !== undefined
}

/**
 * The patch of a claim's status that settles a growth which the node refused, or nothing. The controller manager and the
 * kubelet (v1.37.2) leave three things open: a pod cannot start again while its claim wants more than there is; a lowered
 * request is never offered to the node; and room that appears later is not noticed.
 */
export function settleGrowth(claim: V1PersistentVolumeClaim, freeBytes: bigint): object | undefined {
  const { metadata, spec, status } = claim
  const phase = status?.allocatedResourceStatuses?.storage
  const allocated = status?.allocatedResources?.storage
  const requested = spec?.resources?.requests?.storage
  if (!phase?.startsWith('NodeResize') || !allocated || !requested) return undefined
  const conditions = status?.conditions ?? []
  const message = conditions.find(({ type, status }) => type === errorCondition && status === 'True')?.message ?? ''
  const refused = noRoom.exec(message)
  if (!refused) return undefined
  const patch = (storage: string, next: string, kept = conditions) => ({
    metadata: { resourceVersion: metadata?.resourceVersion },
    status: { allocatedResources: { storage }, allocatedResourceStatuses: { storage: next }, conditions: kept },
  })
  const again = (storage: string) =>
    patch(
      storage,
      'NodeResizePending',
      conditions.filter(({ type }) => type !== errorCondition),
    )
  const isLowered = parseQuantity(requested, 'the request') < parseQuantity(allocated, 'what was wanted')
  if (isLowered) return again(requested)
  const [, from = '0', to = '0'] = refused
  if (BigInt(to) - BigInt(from) <= freeBytes) return again(allocated)
  // Nobody tries again for now, so that the pod can start.
  return phase === 'NodeResizeInfeasible' ? undefined : patch(allocated, 'NodeResizeInfeasible')
}
