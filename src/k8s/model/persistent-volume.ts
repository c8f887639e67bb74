import type { V1PersistentVolume, V1VolumeNodeAffinity } from '@kubernetes/client-node'
import { topologyKey } from '../../csi/driver.ts'
import type { LogFields } from '../../log.ts'
import { formatQuantity, parseQuantity } from '../client/quantity.ts'
import { hasKey } from '../fronts/flex.ts'
import type { FrontName } from '../fronts/front.ts'
import { findSource, fronts } from '../fronts/fronts.ts'
import { adoptedAnnotation, finalizer, hostnameLabel, makeAnewAnnotation, nodeLabel } from './names.ts'
import type { Topology } from './node.ts'

export const provisionedBy = 'pv.kubernetes.io/provisioned-by'
/** Kept by the controller manager for as long as the PV is bound. */
export const inUseFinalizer = 'kubernetes.io/pv-protection'
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
  /** The label of a node that they are held to; missing for any affinity that we do not write. */
  heldTo?: Topology
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
  /** Whether the operator allows that it is recreated, empty, where its data is lost. */
  mayBeMadeAnew: boolean
  /** What another project made of it, where it was adopted; as the annotation has it. */
  adoptedFrom?: string
  finalizers: readonly string[]
  front: FrontName
  fsType: string
  options: Readonly<Record<string, string>>
  /** Its capacity. What that of a flex PV shall be: the controller manager raises it, and asks nobody. */
  capacityBytes: bigint
  /** Whether its source is as we build it: those of the predecessor's PVs hold no key. */
  isOfOurMaking: boolean
}

/** What is needed of a PV; nothing when its driver is not ours. */
export function pickVolume({ metadata, spec, status }: V1PersistentVolume): VolumeFacts | undefined {
  const name = metadata?.name ?? ''
  const source = spec && findSource(name, spec)
  if (!source) return undefined
  const { claimRef } = spec
  const finalizers = metadata?.finalizers ?? []
  const heldTo = readTopology(spec.nodeAffinity)
  const adoptedFrom = metadata?.annotations?.[adoptedAnnotation]
  return {
    name,
    uid: metadata?.uid ?? '',
    resourceVersion: metadata?.resourceVersion ?? '',
    node: metadata?.labels?.[nodeLabel] ?? '',
    hasNode: spec.nodeAffinity?.required !== undefined,
    ...(heldTo ? { heldTo } : {}),
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
    ...(adoptedFrom === undefined ? {} : { adoptedFrom }),
    finalizers,
    ...source,
    capacityBytes: readCapacity(spec.capacity),
    isOfOurMaking: source.front !== 'flex' || hasKey(source),
  }
}

/** Nothing where a person has written what nobody can read. */
function readCapacity(capacity: Readonly<Record<string, string>> | undefined): bigint {
  try {
    return parseQuantity(capacity?.storage, 'the capacity')
  } catch {
    return 0n
  }
}

/** What an entry of a ledger says of the PV whose data goes with it. */
export const madeForOf = ({ deletesData, uid }: VolumeFacts) => (deletesData ? uid : undefined)

/** A volume, for the log. */
export function aboutVolume({ name, claim, node }: VolumeFacts): LogFields {
  return { volume: name, claim: claim && `${claim.namespace}/${claim.name}`, node }
}

/** The PV of a claim. */
export const volumeNameOf = (claimUid: string) => `pvc-${claimUid}`

export interface VolumeRequest {
  /** That of its claim's PV where nothing is said. */
  name?: string
  claim: ClaimRef & { accessModes: readonly string[] }
  storageClass: { name: string; provisioner: string; reclaimPolicy: string }
  sizeBytes: bigint
  fsType: string
  /** What the StorageClass adds to the options. */
  options: Readonly<Record<string, string>>
  front: FrontName
  node: string
  topology: Topology
  key: string
}

/** The PV for a claim: but for `key`, always the same for the same request. */
export function buildVolume(request: VolumeRequest): V1PersistentVolume {
  const { claim, storageClass, sizeBytes, fsType, options, front, node, topology, key } = request
  const { name = volumeNameOf(claim.uid) } = request
  const { accessModes, ...claimRef } = claim
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: {
      name,
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
      ...fronts[front].buildSource({ name, fsType, options, sizeBytes, key }),
      nodeAffinity: buildNodeAffinity(topology),
    },
  }
}

/** Holds pods to nodes with that label. */
export function buildNodeAffinity({ key, value }: Topology): V1VolumeNodeAffinity {
  const matchExpressions = [{ key, operator: 'In', values: [value] }]
  return { required: { nodeSelectorTerms: [{ matchExpressions }] } }
}

/** What an affinity as ours holds pods to. */
function readTopology(affinity: V1VolumeNodeAffinity | undefined): Topology | undefined {
  const expressions =
    affinity?.required?.nodeSelectorTerms.flatMap(({ matchExpressions = [] }) => matchExpressions) ?? []
  const [only, ...others] = expressions
  const [value] = only?.values ?? []
  if (!only || !value || others.length > 0 || ![hostnameLabel, topologyKey].includes(only.key)) return undefined
  return { key: only.key, value }
}
