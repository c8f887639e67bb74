/** What of a cluster concerns local volumes, as typed records, picked from the API server's objects. */
import type {
  CoreV1Event,
  V1CSIDriver,
  V1CSINode,
  V1CSINodeDriver,
  V1CSIStorageCapacity,
  V1Lease,
  V1Node,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1Pod,
  V1StorageClass,
  V1Volume,
} from '@kubernetes/client-node'
import { csiDriverName } from '../csi/driver.ts'
import { driverName } from '../flex/target.ts'
import { parseQuantity } from '../k8s/client/quantity.ts'
import { readTopology } from '../k8s/model/capacity.ts'
import { type ClaimFacts, type ClassFacts, pickClaim, pickClass } from '../k8s/model/claim.ts'
import { pickLease } from '../k8s/model/lease.ts'
import type { Ledger } from '../k8s/model/ledger.ts'
import { type NodeFacts, pickNode } from '../k8s/model/node.ts'
import { pickVolume, type VolumeFacts } from '../k8s/model/persistent-volume.ts'
import type { Moves } from '../k8s/moves/record.ts'

export interface ClusterFacts {
  readAt: Date
  /** The namespace of our own objects. */
  namespace: string
  nodes: ReadonlyMap<string, NodeState>
  /** Also those of others. */
  classes: ReadonlyMap<string, ClassState>
  /** By `namespace/name`; also those of others. */
  claims: ReadonlyMap<string, ClaimState>
  volumes: ReadonlyMap<string, VolumeState>
  /** PersistentVolumes of other drivers. */
  foreignVolumes: ReadonlySet<string>
  /** By node. */
  ledgers: ReadonlyMap<string, Ledger>
  /** Ledgers that cannot be read, by node, and why. */
  brokenLedgers: ReadonlyMap<string, string>
  capacities: readonly CapacityFacts[]
  pods: readonly PodFacts[]
  /** Our own pods, of daemons and provisioners. */
  components: readonly PodFacts[]
  /** Warnings, the newest first. */
  events: readonly EventFacts[]
  /** The provisioner's; nothing when none ever led. */
  lease: LeaseFacts | undefined
  /** Moves from one front to the other that have not come to their end. */
  moves: Moves
  /** When daemons said last that they are alive, by node. */
  heartbeats: ReadonlyMap<string, HeartbeatFacts>
  /** The CSIDriver object of ours. */
  csiDriver: CsiDriverFacts | undefined
  /** Nodes whose kubelet knows our CSI driver: their CSINode says so. */
  registered: ReadonlySet<string>
  /** Kinds that were not read, and why: mostly for want of rights. */
  notRead: ReadonlyMap<Kind, string>
}

export type Kind =
  | 'nodes'
  | 'storageclasses'
  | 'persistentvolumeclaims'
  | 'persistentvolumes'
  | 'ledgers'
  | 'csistoragecapacities'
  | 'pods'
  | 'components'
  | 'events'
  | 'leases'
  | 'csidrivers'
  | 'csinodes'

export interface NodeState extends NodeFacts {
  /** What the node, or who watches it, says of why it is not ready. */
  notReady?: { since?: Date; message: string }
}

export interface ClassState {
  name: string
  provisioner: string
  /** Whether the API server makes it the class of claims that name none. */
  isDefault: boolean
  /** Missing when it is not ours to serve. */
  facts?: ClassFacts
}

export interface ClaimState extends ClaimFacts {
  phase: string
  createdAt: Date
  /** What was granted, once it is bound. */
  grantedBytes?: bigint
  requestedBytes?: bigint
  /** How far its growth is, and what the node says of it. */
  growth?: { phase: string; message?: string; delay?: string }
}

export interface VolumeState extends VolumeFacts {
  createdAt: Date
}

export interface CapacityFacts {
  className: string
  /** As `<key>=<value>`. */
  topology: string
  capacityBytes: bigint
}

export interface PodFacts {
  namespace: string
  name: string
  uid: string
  /** Of one of ours: `daemon`, `provisioner`. */
  component: string
  node: string
  phase: string
  isReady: boolean
  isDeleting: boolean
  createdAt: Date
  /** What it is of, as `deployment/web`: its controller, and the Deployment above that. */
  workloads: readonly string[]
  claims: readonly string[]
  /** Those of its claims that none of its containers mounts: the kubelet leaves them alone. */
  unmounted: readonly string[]
  /** Volumes of our driver that it names itself, without a claim. */
  inline: readonly string[]
  /** Why no node takes it, as the scheduler says. */
  unschedulable?: string
  /** Why a container of it does not run. */
  waiting?: string
  restarts: number
}

export interface EventFacts {
  kind: string
  namespace: string
  name: string
  uid: string
  reason: string
  message: string
  component: string
  at: Date
}

export interface LeaseFacts {
  holder: string
  renewedAt: Date
}

export interface HeartbeatFacts {
  node: string
  renewedAt: Date
  /** For how long after that it counts as alive. */
  durationMs: number
}

export interface CsiDriverFacts {
  /** Whether Kubernetes waits for somebody to attach volumes. */
  attaches: boolean
  /** Whether pods can name volumes without a claim. */
  allowsInline: boolean
  /** Whether the kubelet says for which pod it wants a volume. */
  tellsPod: boolean
  fsGroupPolicy: string
  /** Whether the scheduler looks at capacities. */
  countsCapacity: boolean
}

export function pickNodeState(node: V1Node): NodeState {
  const ready = node.status?.conditions?.find(({ type }) => type === 'Ready')
  const facts = pickNode(node)
  if (facts.isReady) return facts
  const message = ready ? ready.message || ready.reason || `Ready is ${ready.status}` : 'it has never reported Ready'
  return { ...facts, notReady: { message, ...(ready ? { since: toDate(ready.lastTransitionTime) } : {}) } }
}

const defaultClassAnnotation = 'storageclass.kubernetes.io/is-default-class'

export function pickClassState(storageClass: V1StorageClass): ClassState {
  const facts = pickClass(storageClass)
  return {
    name: storageClass.metadata?.name ?? '',
    provisioner: storageClass.provisioner,
    isDefault: storageClass.metadata?.annotations?.[defaultClassAnnotation] === 'true',
    ...(facts ? { facts } : {}),
  }
}

/** Conditions of a growth that was refused: by a node, and by us for CSI. */
const resizeErrors = ['NodeResizeError', 'ControllerResizeError']

export function pickClaimState(claim: V1PersistentVolumeClaim): ClaimState {
  const facts = pickClaim(claim)
  const { status } = claim
  const grantedBytes = readBytes(status?.capacity?.storage)
  const requestedBytes = readBytes(facts.request)
  const growing = status?.allocatedResourceStatuses?.storage
  const failed = status?.conditions?.find(({ type, status }) => resizeErrors.includes(type) && status === 'True')
  return {
    ...facts,
    phase: status?.phase ?? '',
    createdAt: toDate(claim.metadata?.creationTimestamp),
    ...(grantedBytes === undefined ? {} : { grantedBytes }),
    ...(requestedBytes === undefined ? {} : { requestedBytes }),
    ...(growing
      ? {
          growth: {
            phase: growing,
            ...(failed?.message ? { message: failed.message } : {}),
            ...(facts.growthDelay ? { delay: facts.growthDelay } : {}),
          },
        }
      : {}),
  }
}

/** Nothing for a PV of another driver. */
export function pickVolumeState(volume: V1PersistentVolume): VolumeState | undefined {
  const facts = pickVolume(volume)
  if (!facts) return undefined
  return { ...facts, createdAt: toDate(volume.metadata?.creationTimestamp) }
}

export function pickCapacity({ storageClassName, nodeTopology, capacity }: V1CSIStorageCapacity): CapacityFacts {
  const topology = readTopology(nodeTopology)
  return { className: storageClassName, topology, capacityBytes: readBytes(capacity) ?? 0n }
}

const nameLabel = 'app.kubernetes.io/name'
const componentLabel = 'app.kubernetes.io/component'
/** Selects our own pods. */
export const componentSelector = `${nameLabel}=elastic-local`

export function pickPod({ metadata, spec, status }: V1Pod): PodFacts {
  const name = metadata?.name ?? ''
  const volumes = spec?.volumes ?? []
  const conditions = status?.conditions ?? []
  const placed = conditions.find(({ type }) => type === 'PodScheduled')
  const containers = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])]
  const failed = containers.map(({ state }) => state?.terminated).find((ended) => ended && ended.exitCode !== 0)
  const waiting = containers.map(({ state }) => state?.waiting).find((state) => state?.reason) ?? failed
  const wanting = [...(spec?.initContainers ?? []), ...(spec?.containers ?? []), ...(spec?.ephemeralContainers ?? [])]
  const wanted = new Set(
    wanting.flatMap(({ volumeMounts = [], volumeDevices = [] }) =>
      [...volumeMounts, ...volumeDevices].map((one) => one.name),
    ),
  )
  const claimIn = (volume: V1Volume) =>
    volume.ephemeral ? `${name}-${volume.name}` : volume.persistentVolumeClaim?.claimName
  const claimsOf = (some: readonly V1Volume[]) => some.map(claimIn).filter((claim) => claim !== undefined)
  const mounted = new Set(claimsOf(volumes.filter((volume) => wanted.has(volume.name))))
  const claims = claimsOf(volumes)
  return {
    namespace: metadata?.namespace ?? '',
    name,
    uid: metadata?.uid ?? '',
    component: metadata?.labels?.[nameLabel] === 'elastic-local' ? (metadata.labels[componentLabel] ?? '') : '',
    node: spec?.nodeName ?? '',
    phase: status?.phase ?? '',
    isReady: conditions.some(({ type, status }) => type === 'Ready' && status === 'True'),
    isDeleting: metadata?.deletionTimestamp !== undefined,
    createdAt: toDate(metadata?.creationTimestamp),
    workloads: workloadsOf(metadata),
    claims,
    unmounted: claims.filter((claim) => !mounted.has(claim)),
    inline: volumes.filter(({ flexVolume }) => flexVolume?.driver === driverName).map((volume) => volume.name),
    ...(placed?.status === 'False' ? { unschedulable: placed.message ?? placed.reason ?? '' } : {}),
    ...(waiting?.reason ? { waiting: waiting.message ? `${waiting.reason}: ${waiting.message}` : waiting.reason } : {}),
    restarts: containers.reduce((sum, { restartCount }) => sum + restartCount, 0),
  }
}

/** A Deployment names its ReplicaSets by a hash, which their pods have as a label. */
function workloadsOf(metadata: V1Pod['metadata']): string[] {
  const controller = metadata?.ownerReferences?.find(({ controller }) => controller)
  if (!controller) return []
  const { kind, name } = controller
  const hash = metadata?.labels?.['pod-template-hash']
  const isDeployed = kind === 'ReplicaSet' && hash !== undefined && name.endsWith(`-${hash}`)
  const above = isDeployed ? [`deployment/${name.slice(0, -hash.length - 1)}`] : []
  return [`${kind.toLowerCase()}/${name}`, ...above]
}

/** Nothing for one that is no warning. */
export function pickEvent(event: CoreV1Event): EventFacts | undefined {
  if (event.type !== 'Warning') return undefined
  const { involvedObject, series, source, reportingComponent } = event
  const at = series?.lastObservedTime ?? event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp
  return {
    kind: involvedObject.kind ?? '',
    namespace: involvedObject.namespace ?? '',
    name: involvedObject.name ?? '',
    uid: involvedObject.uid ?? '',
    reason: event.reason ?? '',
    message: event.message ?? '',
    component: source?.component || reportingComponent || '',
    at: toDate(at),
  }
}

/** Nothing when nobody holds it. */
export function pickLeaderLease({ spec }: V1Lease): LeaseFacts | undefined {
  if (!spec?.holderIdentity) return undefined
  return { holder: spec.holderIdentity, renewedAt: toDate(spec.renewTime) }
}

export function pickHeartbeat(lease: V1Lease): HeartbeatFacts {
  const { node, renewTime, durationMs } = pickLease(lease)
  return { node, renewedAt: toDate(renewTime), durationMs }
}

export function pickCsiDriver({ spec }: V1CSIDriver): CsiDriverFacts {
  return {
    // As Kubernetes takes it where nothing is said.
    attaches: spec.attachRequired !== false,
    allowsInline: spec.volumeLifecycleModes?.includes('Ephemeral') ?? false,
    tellsPod: spec.podInfoOnMount === true,
    fsGroupPolicy: spec.fsGroupPolicy ?? 'ReadWriteOnceWithFSType',
    countsCapacity: spec.storageCapacity === true,
  }
}

/** The node, where its kubelet knows our driver. */
export function pickRegistered({ metadata, spec }: V1CSINode): string[] {
  // Of a kubelet without any driver they are null.
  const drivers: V1CSINodeDriver[] | null = spec.drivers
  return drivers?.some(({ name }) => name === csiDriverName) ? [metadata?.name ?? ''] : []
}

/** Times are texts in what our requests give. */
function toDate(time: Date | string | undefined): Date {
  return new Date(time ?? 0)
}

function readBytes(quantity: string | undefined): bigint | undefined {
  try {
    return quantity === undefined ? undefined : parseQuantity(quantity, 'a size')
  } catch {
    return undefined
  }
}
