/**
 * What `kubectl elastic_local -o json` and the page of the provisioner give: a contract. Fields are added, never changed
 * or removed. In JSON a `bigint` is a decimal text of bytes, and a `Date` a text in ISO 8601.
 */

export interface Overview {
  at: Date
  provisioner: ProvisionerRecord
  nodes: NodeRecord[]
  pools: PoolRecord[]
  volumes: VolumeRecord[]
  /** What this account may not read, so that what depends on it is missing here. */
  notRead: { kind: string; message: string }[]
}

/** Something that is not as it should be, and what to do. */
export interface Problem {
  /** `fail`: something does not work. `warn`: something is not as it should be. */
  status: 'warn' | 'fail'
  message: string
  /** More of it, one line each. */
  details?: string[]
  advice?: string
}

export interface ProvisionerRecord {
  /** The pod that leads. */
  leader?: string
  renewedAt?: Date
  pods: number
  readyPods: number
  problems: Problem[]
}

export interface NodeRecord {
  name: string
  /** Its label `kubernetes.io/hostname`, which PersistentVolumes go by. */
  hostname?: string
  /** `gone`: there is no Node object, but something of ours is for it. `unknown`: the nodes may not be read. */
  state: 'ready' | 'away' | 'gone' | 'unknown'
  schedulable: boolean
  /**
   * `ready`: it has renewed its Lease in time. `not ready`: it has not, or its pod is not well. `missing`: it was never
   * heard. `unknown`: the Leases may not be read.
   */
  daemon: 'ready' | 'not ready' | 'missing' | 'unknown'
  daemonPod?: string
  /** By which its volumes can be mounted. */
  fronts?: ('flex' | 'csi')[]
  /** Name of its pool. */
  pool?: string
  volumes: number
  problems: Problem[]
}

export interface PoolRecord {
  node: string
  name: string
  driverKind: 'LVM' | 'LOOP' | 'BINDMOUNT'
  /** The most that can be allocated. */
  sizeBytes: bigint
  /** What volumes have, those that are not made yet as well. */
  allocatedBytes: bigint
  freeBytes: bigint
  /** Volumes take whole multiples of it. */
  unitBytes: bigint
  /** By which protocols the node's daemon serves volumes. */
  fronts: string[]
  volumes: number
  problems: Problem[]
}

export interface VolumeRecord {
  /** Name of the PersistentVolume and of the volume on its node, also while there is none yet. */
  name: string
  /**
   * `pending`: a claim without a PersistentVolume. `making`: the node has not made it yet. `ready`. `growing`.
   * `removing`: on its way out. `released`: kept without a claim. `lost`: its PersistentVolume, its data or its
   * filesystem is gone. `stuck`: it cannot be unmounted, or not removed. `failing`: it is there, and something else of
   * it fails. `orphaned`: on its node, with no PersistentVolume.
   */
  state:
    | 'pending'
    | 'making'
    | 'ready'
    | 'growing'
    | 'removing'
    | 'released'
    | 'lost'
    | 'stuck'
    | 'failing'
    | 'orphaned'
  /** By which it is mounted; missing before it has a PersistentVolume. */
  front?: 'flex' | 'csi'
  claim?: { namespace: string; name: string }
  storageClass?: string
  node?: string
  fsType?: string
  /** What was granted: the size that it has. */
  sizeBytes?: bigint
  /** What the claim wants. */
  requestedBytes?: bigint
  reclaimPolicy?: 'Delete' | 'Retain'
  createdAt?: Date
  /** The pods that use its claim. */
  pods: { name: string; node?: string; phase: string }[]
  problems: Problem[]
}

/** The chain from a claim to its pods, as far as it got. */
export interface Chain {
  claim?: { namespace: string; name: string }
  volume?: string
  node?: string
  links: Link[]
}

export interface Link extends Omit<Problem, 'status'> {
  link: LinkName
  /** `ok`: done. `wait`: under way, or waits for somebody. `open`: not reached, or nobody can tell. */
  status: 'ok' | 'wait' | 'warn' | 'fail' | 'open'
}

export const linkNames = [
  'claim',
  'class',
  'scheduling',
  'reservation',
  'persistent volume',
  'node',
  'volume',
  'filesystem',
  'registration',
  'mount',
  'pod',
  'growth',
  'removal',
] as const
export type LinkName = (typeof linkNames)[number]
