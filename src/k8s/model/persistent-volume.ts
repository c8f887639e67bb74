import type { V1PersistentVolume, V1VolumeNodeAffinity } from '@kubernetes/client-node'
import type { LogFields } from '../../log.ts'
import { formatQuantity, parseQuantity } from '../client/quantity.ts'
import { flexFront, hasKey } from '../fronts/flex.ts'
import { finalizer, hostnameLabel, makeAnewAnnotation, nodeLabel } from './names.ts'

const provisionedBy = 'pv.kubernetes.io/provisioned-by'
/** Kept by the controller manager for as long as the PV is bound. */
const inUseFinalizer = 'kubernetes.io/pv-protection'
/** A claim, as a PV names it. */
export interface ClaimRef {
  namespace: string
  name: string
  uid: string
}

/** What is needed of a PV with our driver. */
export interface VolumeFacts {
  name: string
  uid: string
  resourceVersion: string
  /** The node's name, as the label says it. */
  node: string
  /** Whether pods that use it are held to a node. */
  hasNode: boolean
  /** The value of the node's `kubernetes.io/hostname` that they are held to; empty for any other affinity. */
  hostname: string
  /** Whether one pod at a time may have it. */
  isForOnePod: boolean
  className: string
  phase: string
  deletesData: boolean
  /** Whose provisioner made it; empty for one that a person made. */
  provisionedBy: string
  claim?: ClaimRef
  isDeleting: boolean
  isInUse: boolean
  /** Whether the operator allows that it is made anew, empty, where its data is lost. */
  mayBeMadeAnew: boolean
  finalizers: readonly string[]
  fsType: string
  options: Readonly<Record<string, string>>
  /** What its capacity says that it shall have: the controller manager raises that, and asks nobody. */
  wantedBytes: bigint
  /** Whether its options hold a key, as those of the predecessor's PVs do not. */
  hasKey: boolean
}

/** What is needed of a PV; nothing when its driver is not ours. */
export function pickVolume({ metadata, spec, status }: V1PersistentVolume): VolumeFacts | undefined {
  const source = spec && flexFront.readSource(spec)
  if (!source) return undefined
  const { claimRef } = spec
  const finalizers = metadata?.finalizers ?? []
  return {
    name: metadata?.name ?? '',
    uid: metadata?.uid ?? '',
    resourceVersion: metadata?.resourceVersion ?? '',
    node: metadata?.labels?.[nodeLabel] ?? '',
    hasNode: spec.nodeAffinity?.required !== undefined,
    hostname: readHostname(spec.nodeAffinity),
    isForOnePod: spec.accessModes?.join() === 'ReadWriteOncePod',
    className: spec.storageClassName ?? '',
    phase: status?.phase ?? '',
    deletesData: spec.persistentVolumeReclaimPolicy === 'Delete',
    provisionedBy: metadata?.annotations?.[provisionedBy] ?? '',
    ...(claimRef
      ? { claim: { namespace: claimRef.namespace ?? '', name: claimRef.name ?? '', uid: claimRef.uid ?? '' } }
      : {}),
    isDeleting: metadata?.deletionTimestamp !== undefined,
    isInUse: finalizers.includes(inUseFinalizer),
    mayBeMadeAnew: metadata?.annotations?.[makeAnewAnnotation] === 'true',
    finalizers,
    ...source,
    wantedBytes: wantedBytesIn(spec.capacity),
    hasKey: hasKey(source),
  }
}

/** Nothing where a person has written what nobody can read. */
function wantedBytesIn(capacity: Readonly<Record<string, string>> | undefined): bigint {
  try {
    return parseQuantity(capacity?.storage, 'the capacity')
  } catch {
    return 0n
  }
}

/** A volume, for the log. */
export function aboutVolume({ name, claim, node }: VolumeFacts): LogFields {
  return { volume: name, claim: claim && `${claim.namespace}/${claim.name}`, node }
}

/** The PV of a claim. */
export const volumeNameOf = (claimUid: string) => `pvc-${claimUid}`

export interface VolumeRequest {
  claim: ClaimRef & { accessModes: readonly string[] }
  storageClass: { name: string; provisioner: string; reclaimPolicy: string }
  sizeBytes: bigint
  fsType: string
  /** What the StorageClass adds to the options. */
  options: Readonly<Record<string, string>>
  node: string
  /** Value of the node's `kubernetes.io/hostname`. */
  hostname: string
  key: string
}

/** The PV for a claim: but for `key`, always the same for the same request. */
export function buildVolume(request: VolumeRequest): V1PersistentVolume {
  const { claim, storageClass, sizeBytes, fsType, options, node, hostname, key } = request
  const { accessModes, ...claimRef } = claim
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: {
      name: volumeNameOf(claim.uid),
      labels: { [nodeLabel]: node },
      annotations: { [provisionedBy]: storageClass.provisioner },
      finalizers: [finalizer],
    },
    spec: {
      capacity: { storage: formatQuantity(sizeBytes) },
      accessModes: [...accessModes],
      volumeMode: 'Filesystem',
      persistentVolumeReclaimPolicy: storageClass.reclaimPolicy,
      storageClassName: storageClass.name,
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claimRef },
      ...flexFront.buildSource({ fsType, options, sizeBytes, key }),
      nodeAffinity: buildNodeAffinity(hostname),
    },
  }
}

/** Holds pods to the node with that value of the label `kubernetes.io/hostname`. */
export function buildNodeAffinity(hostname: string): V1VolumeNodeAffinity {
  const matchExpressions = [{ key: hostnameLabel, operator: 'In', values: [hostname] }]
  return { required: { nodeSelectorTerms: [{ matchExpressions }] } }
}

/** The host name that an affinity as ours holds pods to. */
function readHostname(affinity: V1VolumeNodeAffinity | undefined): string {
  const expressions =
    affinity?.required?.nodeSelectorTerms.flatMap(({ matchExpressions = [] }) => matchExpressions) ?? []
  const [only, ...others] = expressions
  return only?.key === hostnameLabel && others.length === 0 ? (only.values?.[0] ?? '') : ''
}
