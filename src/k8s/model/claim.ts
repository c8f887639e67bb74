import type {
  V1PersistentVolumeClaim,
  V1PersistentVolumeClaimSpec,
  V1StorageClass,
  V1TopologySelectorTerm,
} from '@kubernetes/client-node'
import { formatSize } from '../../text/quantity.ts'
import { messageOf } from '../../volume/errors.ts'
import { minimumBytes } from '../../volume/host.ts'
import { parseMkfsOptions, parseMountOptions } from '../../volume/options.ts'
import { type Content, type DriverKind, driverKinds, type FsType, fsTypes } from '../../volume/pool.ts'
import { parseQuantity } from '../client/quantity.ts'
import { type FrontName, frontNames } from '../fronts/front.ts'
import { type GrowthPhase, readGrowthDelay, readGrowthPhase } from './granted-growth.ts'
import { isGrowing } from './growth.ts'
import { provisionerNames } from './names.ts'
import type { ClaimRef } from './persistent-volume.ts'

export const selectedNodeAnnotation = 'volume.kubernetes.io/selected-node'
/** Set by the controller manager when it has found no PV for the claim and wants one made; the second is its old name. */
const provisionerAnnotations = [
  'volume.kubernetes.io/storage-provisioner',
  'volume.beta.kubernetes.io/storage-provisioner',
]
/** The class, as it was named before claims had a field for it; it goes before the field (GetPersistentVolumeClaimClass). */
const classAnnotation = 'volume.beta.kubernetes.io/storage-class'

/** Every field of a claim's spec, as the API has it, that is looked at here. */
export const knownClaimFields: readonly (keyof V1PersistentVolumeClaimSpec)[] = [
  'accessModes',
  'dataSource',
  'dataSourceRef',
  'resources',
  'selector',
  'storageClassName',
  'volumeAttributesClassName',
  'volumeMode',
  'volumeName',
]

/** What is needed of a claim. */
export interface ClaimFacts extends ClaimRef {
  resourceVersion: string
  className: string
  /** Set by the scheduler. */
  selectedNode: string
  /** Whom the controller manager wants to make a PV for it; empty while it looks for one, or for what is not to be made. */
  provisioner: string
  /** Set once it is bound, or by its author. */
  volumeName: string
  request: string
  /** What it has, once it is bound, as its status says. */
  capacity: string
  /** The most that it may become; empty for any size. */
  limit: string
  accessModes: readonly string[]
  volumeMode: string
  hasSelector: boolean
  /** Kind of what the volume is to begin with; empty for nothing. */
  dataSource: string
  /** Whether somebody else fills volumes of that kind, and has one made for that by a claim of his own. */
  isPopulated: boolean
  attributesClass: string
  /** The last of those that it was told it cannot have. */
  refusedAttributesClass: string
  isDeleting: boolean
  /** Whether its growth is not settled. */
  isGrowing: boolean
  /** How far it is, where its volume is one of CSI. */
  growthPhase: GrowthPhase
  /** Why it was not made by now, as it says itself. */
  growthDelay: string
  /** In seconds since 1970. */
  created: number
}

/** What provisioners themselves begin volumes with; any other kind has a populator (KEP-1495). */
const ownSources = ['/PersistentVolumeClaim', 'snapshot.storage.k8s.io/VolumeSnapshot']

export function pickClaim(claim: V1PersistentVolumeClaim): ClaimFacts {
  const { metadata, spec } = claim
  const annotations = metadata?.annotations ?? {}
  const source = spec?.dataSource ?? spec?.dataSourceRef
  const modification = claim.status?.modifyVolumeStatus
  return {
    namespace: metadata?.namespace ?? '',
    name: metadata?.name ?? '',
    uid: metadata?.uid ?? '',
    resourceVersion: metadata?.resourceVersion ?? '',
    className: annotations[classAnnotation] ?? spec?.storageClassName ?? '',
    selectedNode: annotations[selectedNodeAnnotation] ?? '',
    provisioner: provisionerAnnotations.map((key) => annotations[key]).find(Boolean) ?? '',
    volumeName: spec?.volumeName ?? '',
    request: spec?.resources?.requests?.storage ?? '',
    capacity: claim.status?.capacity?.storage ?? '',
    limit: spec?.resources?.limits?.storage ?? '',
    accessModes: spec?.accessModes ?? [],
    volumeMode: spec?.volumeMode ?? 'Filesystem',
    hasSelector: spec?.selector !== undefined,
    dataSource: source?.kind ?? '',
    isPopulated: source !== undefined && !ownSources.includes(`${source.apiGroup ?? ''}/${source.kind}`),
    attributesClass: spec?.volumeAttributesClassName ?? '',
    refusedAttributesClass:
      modification?.status === 'Infeasible' ? (modification.targetVolumeAttributesClassName ?? '') : '',
    isDeleting: metadata?.deletionTimestamp !== undefined,
    isGrowing: isGrowing(claim),
    growthPhase: readGrowthPhase(claim),
    growthDelay: readGrowthDelay(claim),
    created: Math.floor(new Date(metadata?.creationTimestamp ?? 0).getTime() / 1000),
  }
}

/** Every field of a StorageClass; `allowVolumeExpansion` is the API server's to hold. */
export const knownClassFields: readonly (keyof V1StorageClass)[] = [
  'allowVolumeExpansion',
  'allowedTopologies',
  'mountOptions',
  'parameters',
  'provisioner',
  'reclaimPolicy',
  'volumeBindingMode',
]

/** What is needed of a StorageClass of ours. */
export interface ClassFacts {
  name: string
  provisioner: string
  parameters: Readonly<Record<string, string>>
  mountOptions: readonly string[]
  reclaimPolicy: string
  waitsForPod: boolean
  topologies: readonly V1TopologySelectorTerm[]
}

/** What is needed of a StorageClass; nothing when it is not ours to serve. */
export function pickClass(storageClass: V1StorageClass): ClassFacts | undefined {
  if (!provisionerNames.includes(storageClass.provisioner)) return undefined
  return {
    name: storageClass.metadata?.name ?? '',
    provisioner: storageClass.provisioner,
    parameters: storageClass.parameters ?? {},
    mountOptions: storageClass.mountOptions ?? [],
    reclaimPolicy: storageClass.reclaimPolicy ?? 'Delete',
    waitsForPod: storageClass.volumeBindingMode === 'WaitForFirstConsumer',
    topologies: storageClass.allowedTopologies ?? [],
  }
}

/** Which pools a StorageClass wants. */
export interface PoolWish {
  driverKind?: DriverKind
  pool?: string
  front?: FrontName
  /** Whether it must give block devices. */
  isBlock?: boolean
}

/** What a claim of a class is to become. */
export interface Provision extends PoolWish {
  sizeBytes: bigint
  fsType: Content
  options: Record<string, string>
  /** Missing when the node is ours to choose. */
  node?: string
}

export type Decision =
  /** Nothing to do: bound, being deleted, not ours, or no pod wants it yet. */
  | { kind: 'none' }
  /** It can never become a volume as it is. */
  | { kind: 'refuse'; message: string }
  | { kind: 'provision'; provision: Provision }

/** What is to be done about a claim. */
export function decideClaim(claim: ClaimFacts, storageClass: ClassFacts | undefined): Decision {
  if (!storageClass || claim.volumeName || claim.isDeleting || claim.isPopulated) return { kind: 'none' }
  try {
    // Of a class that is wrong, daemons publish no room: the scheduler would never get as far as to select a node.
    const wish = wishOf(claim, readClass(storageClass))
    if (storageClass.waitsForPod && !claim.selectedNode) return { kind: 'none' }
    checkClaim(claim, { front: 'flex', ...wish })
    // The controller manager may still find one that is there.
    if (!storageClass.waitsForPod && claim.provisioner !== storageClass.provisioner) return { kind: 'none' }
    const requested = parseQuantity(claim.request, 'the size that the claim requests')
    const least = minimumBytes[wish.fsType]
    if (claim.limit && least > parseQuantity(claim.limit, 'the limit of the claim'))
      throw new Error(
        `Cannot create a volume for this claim as one with ${wish.fsType} needs at least ${formatSize(least)}: its limit is ${claim.limit}.`,
      )
    return {
      kind: 'provision',
      provision: {
        ...wish,
        sizeBytes: requested > least ? requested : least,
        ...(storageClass.waitsForPod ? { node: claim.selectedNode } : {}),
      },
    }
  } catch (error) {
    return { kind: 'refuse', message: messageOf(error) }
  }
}

const accessModes = ['ReadWriteOnce', 'ReadWriteOncePod']

/** What a class gives to a claim: what it says of filesystems is for those that want one. */
export function wishOf<T extends PoolWish>(
  { volumeMode }: Pick<ClaimFacts, 'volumeMode'>,
  wish: T & { fsType: FsType; options: Record<string, string> },
): Omit<T, 'fsType'> & { fsType: Content; options: Record<string, string>; isBlock?: boolean } {
  return volumeMode === 'Block' ? { ...wish, fsType: 'block', options: {}, isBlock: true } : wish
}

/** Throws with what no volume of ours can give; `front` is that of its class. */
export function checkClaim(claim: ClaimFacts, { front, driverKind }: PoolWish): void {
  const refuse = (what: string) => {
    throw new Error(`Cannot create a volume for this claim as ${what}.`)
  }
  const { volumeMode } = claim
  if (volumeMode === 'Block' && front === 'flex')
    refuse('volumeMode must be Filesystem, as FlexVolumes are no block devices: use a StorageClass with front csi')
  if (volumeMode === 'Block' && driverKind === 'BINDMOUNT')
    refuse('volumeMode must be Filesystem, as volumes of driverKind BINDMOUNT are directories')
  if (!['Filesystem', 'Block'].includes(volumeMode))
    refuse(`volumeMode must be Filesystem or Block: it is ${volumeMode}`)
  const mode = claim.accessModes.find((mode) => !accessModes.includes(mode))
  if (mode)
    refuse(`its accessModes must be of ${accessModes.join(', ')}, which a disk of one node can serve: one is ${mode}`)
  if (claim.hasSelector) refuse('it has a selector, which no new volume can match')
  if (claim.dataSource) refuse(`it has a data source (${claim.dataSource}), and volumes are created empty`)
  if (claim.attributesClass)
    refuse(
      `volumeAttributesClassName must not be set, as volumes have no attributes to set: it is ${claim.attributesClass}`,
    )
}

/** Parameters of a StorageClass. */
export const parameterNames = [
  'fsType',
  'csi.storage.k8s.io/fstype',
  'mkfsOptions',
  'driverKind',
  'pool',
  'front',
] as const

/** What a StorageClass says of its volumes. Throws with the parameter that is wrong. */
export function readClass({ name, parameters, mountOptions }: ClassFacts) {
  const wrong = (what: string) => new Error(`Cannot use StorageClass ${name} as ${what}.`)
  const unknown = Object.keys(parameters).find((key) => !parameterNames.some((name) => name === key))
  if (unknown !== undefined)
    throw wrong(`its parameters must be of ${parameterNames.join(', ')}: one is ${JSON.stringify(unknown)}`)
  const { fsType: own = '', 'csi.storage.k8s.io/fstype': common = '', mkfsOptions = '', driverKind, pool } = parameters
  const front = frontNames.find((front) => front === parameters.front)
  if (parameters.front !== undefined && !front)
    throw wrong(`front must be one of ${frontNames.join(', ')}: it is ${JSON.stringify(parameters.front)}`)
  if (own && common && own !== common)
    throw wrong(`fsType and csi.storage.k8s.io/fstype must be the same: they are ${own} and ${common}`)
  const fsType = fsTypes.find((type) => type === (own || common || 'ext4'))
  if (!fsType) throw wrong(`fsType must be one of ${fsTypes.join(', ')}: it is ${JSON.stringify(own || common)}`)
  const kind = driverKinds.find((kind) => kind === driverKind)
  if (driverKind !== undefined && !kind)
    throw wrong(`driverKind must be one of ${driverKinds.join(', ')}: it is ${JSON.stringify(driverKind)}`)
  const options = {
    ...(mkfsOptions ? { mkfsOptions } : {}),
    ...(mountOptions.length > 0 ? { mountOptions: mountOptions.join(',') } : {}),
  }
  try {
    parseMkfsOptions(fsType, mkfsOptions)
    parseMountOptions(fsType, mountOptions.join(','))
  } catch (error) {
    throw wrong(`a volume cannot be created with it: ${messageOf(error).replace(/\.$/, '')}`)
  }
  return {
    fsType,
    options,
    ...(kind ? { driverKind: kind } : {}),
    ...(pool ? { pool } : {}),
    ...(front ? { front } : {}),
  }
}

/** Whether a pool is one that the class wants. */
export function isWanted(
  wish: PoolWish,
  pool: { name: string; driverKind: string; fronts: readonly string[] },
): boolean {
  return (
    (!wish.driverKind || wish.driverKind === pool.driverKind) &&
    (!wish.pool || wish.pool === pool.name) &&
    (!wish.front || pool.fronts.includes(wish.front)) &&
    (!wish.isBlock || pool.driverKind !== 'BINDMOUNT')
  )
}

/** How a wish reads in a message: `a pool of driverKind LVM`; that of flex, which every daemon had, goes without saying. */
export function describeWish({ driverKind, pool, front, isBlock }: PoolWish): string {
  const [kind, name] = [driverKind ? ` of driverKind ${driverKind}` : '', pool ? ` named ${pool}` : '']
  const served = front === 'csi' ? ' served by CSI' : ''
  return `a pool${kind}${name}${served}${isBlock ? ', for block devices' : ''}`
}

/** How a pool reads beside such a wish: `vg (LVM)`. */
export function describePool(pool: { name: string; driverKind: string; fronts: readonly string[] }, wish: PoolWish) {
  const isServed = !wish.front || pool.fronts.includes(wish.front)
  return `${pool.name} (${pool.driverKind}${isServed ? '' : `, not served by ${wish.front}`})`
}
