/**
 * Growth of CSI volumes, as a claim tells of it. The controller manager leaves all of it to the driver's controller
 * (external-resizer, KEP-1790): it is granted before anything changes, and the kubelet keeps out until it has ended.
 */
import type { V1PersistentVolumeClaim, V1PersistentVolumeClaimCondition } from '@kubernetes/client-node'
import { formatQuantity } from '../client/quantity.ts'

const granted = 'ControllerResizeInProgress'
const refused = 'ControllerResizeInfeasible'
const resizing = 'Resizing'
const refusal = 'ControllerResizeError'
/** Conditions of a growth, all of which end with it; Kubernetes has one of the kubelet's, too. */
const conditionsOfGrowth = [resizing, refusal, 'FileSystemResizePending', 'NodeResizeError']

/** How far a claim's growth has come, as its status says; before Kubernetes 1.32 it has conditions alone. */
export type GrowthPhase = '' | 'granted' | 'refused' | 'other'

export function readGrowthPhase({ status }: V1PersistentVolumeClaim): GrowthPhase {
  const phase = status?.allocatedResourceStatuses?.storage
  const has = (type: string) => status?.conditions?.some((one) => one.type === type && one.status === 'True')
  if (phase === refused || has(refusal)) return 'refused'
  if (phase === granted || has(resizing)) return 'granted'
  return phase || conditionsOfGrowth.some(has) ? 'other' : ''
}

/** Why a growth that was granted has not been made by now, as the claim says. */
export function readGrowthDelay({ status }: V1PersistentVolumeClaim): string {
  return status?.conditions?.find(({ type }) => type === resizing)?.message ?? ''
}

/** The patch of a claim whose growth was granted and is under way; `delay`: why it has not been made by now. */
export function sayGranted(claim: V1PersistentVolumeClaim, sizeBytes: bigint, delay: string, now: Date): object {
  return buildPatch(claim, {
    ...allocated(sizeBytes, granted),
    conditions: [...otherConditions(claim), buildCondition(resizing, delay, now)],
  })
}

/** The patch of a claim whose growth was refused: its request can be lowered again, to more than it has. */
export function sayRefused(claim: V1PersistentVolumeClaim, sizeBytes: bigint, message: string, now: Date): object {
  return buildPatch(claim, {
    ...allocated(sizeBytes, refused),
    conditions: [...otherConditions(claim), buildCondition(refusal, message, now)],
  })
}

/** The patch of a claim whose volume has so many bytes by now, and wants no more. */
export function sayGrown(claim: V1PersistentVolumeClaim, sizeBytes: bigint): object {
  const storage = formatQuantity(sizeBytes)
  return buildPatch(claim, {
    capacity: { storage },
    // Before 1.32 there is no such field, and nothing is to be removed.
    ...(claim.status?.allocatedResources?.storage ? { allocatedResources: { storage } } : {}),
    ...(claim.status?.allocatedResourceStatuses?.storage ? { allocatedResourceStatuses: { storage: null } } : {}),
    conditions: otherConditions(claim),
  })
}

const allocated = (sizeBytes: bigint, phase: string) => ({
  allocatedResources: { storage: formatQuantity(sizeBytes) },
  allocatedResourceStatuses: { storage: phase },
})

/** Over the very version that was looked at, as the list of conditions is replaced as a whole. */
function buildPatch({ metadata }: V1PersistentVolumeClaim, status: object): object {
  return { metadata: { resourceVersion: metadata?.resourceVersion }, status }
}

function otherConditions({ status }: V1PersistentVolumeClaim): V1PersistentVolumeClaimCondition[] {
  return (status?.conditions ?? []).filter(({ type }) => !conditionsOfGrowth.includes(type))
}

function buildCondition(type: string, message: string, now: Date): V1PersistentVolumeClaimCondition {
  return { type, status: 'True', lastTransitionTime: now, ...(message ? { message } : {}) }
}
