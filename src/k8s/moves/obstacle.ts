import { isDeepStrictEqual } from 'node:util'
import type {
  V1CSIDriver,
  V1CSINode,
  V1Node,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1Pod,
} from '@kubernetes/client-node'
import { csiDriverName } from '../../csi/driver.ts'
import { messageOf } from '../../volume/errors.ts'
import { parseQuantity } from '../client/quantity.ts'
import type { FrontName } from '../fronts/front.ts'
import { pickClaim } from '../model/claim.ts'
import { type Ledger, poolOf } from '../model/ledger.ts'
import { finalizer, makeAnewAnnotation } from '../model/names.ts'
import { buildNodeAffinity, inUseFinalizer, pickVolume, volumeNameOf } from '../model/persistent-volume.ts'
import { pickPod } from '../model/pod.ts'
import { buildMoved, findUnknownFields } from './record.ts'

/** What the API server has of a volume that is to be moved, or adopted. */
export interface Scene {
  volume: V1PersistentVolume
  claim: V1PersistentVolumeClaim | undefined
  node: V1Node | undefined
  ledger: Ledger | undefined
  csiNode: V1CSINode | undefined
  csiDriver: V1CSIDriver | undefined
  /** Of the claim's namespace. */
  pods: readonly V1Pod[]
}

/** The finalizers that a move takes off. */
export const ownFinalizers: readonly string[] = [finalizer, inUseFinalizer]

/** Why a volume cannot be moved to that front now; nothing where it can. Part of a sentence. `inUse`: also while pods use it. */
export function findObstacle(scene: Scene, to: FrontName, inUse: boolean): string | undefined {
  return findByVolume(scene, to) ?? findByNode(scene, to) ?? (inUse ? undefined : findUser(scene, inUseAdvice))
}

const inUseAdvice = 'stop it first, or use --in-use to move the volume while it runs'

function findByVolume(scene: Scene, to: FrontName): string | undefined {
  const { volume, claim } = scene
  const facts = pickVolume(volume)
  if (!facts?.claim) return 'its PersistentVolume is not one of ours with a claim'
  const { node, heldTo, mayBeMadeAnew } = facts
  const unbound = findByBinding(scene)
  if (unbound) return unbound
  if (!node || !heldTo || !isDeepStrictEqual(volume.spec?.nodeAffinity, buildNodeAffinity(heldTo)))
    return 'its PersistentVolume is not tied to one node'
  if (mayBeMadeAnew) return `its PersistentVolume has annotation ${makeAnewAnnotation}`
  const lossy = findByFields(volume, ownFinalizers)
  if (lossy) return lossy
  if (to === 'flex' && (volume.spec?.volumeMode ?? 'Filesystem') !== 'Filesystem')
    return 'it is a raw block volume, which FlexVolume does not support'
  return findByGrowth(scene, () => buildMoved(volume, to, { key: '', claimCapacity: claim?.status?.capacity?.storage }))
}

/** Whether PV and claim are each other's, and to stay. */
export function findByBinding({ volume: { metadata, spec, status }, claim: object }: Scene): string | undefined {
  const name = metadata?.name ?? ''
  const claim = object && pickClaim(object)
  if (metadata?.deletionTimestamp || claim?.isDeleting) return 'it is being deleted'
  if (
    !claim ||
    claim.uid !== spec?.claimRef?.uid ||
    claim.volumeName !== name ||
    [status?.phase, object.status?.phase].join() !== 'Bound,Bound'
  )
    return 'it is not bound to its claim'
  return name === volumeNameOf(claim.uid)
    ? undefined
    : 'it is bound to another claim than the one that it was created for'
}

/** What would be lost of a PV that is made anew. */
export function findByFields(volume: V1PersistentVolume, finalizers: readonly string[]): string | undefined {
  const other = volume.metadata?.finalizers?.find((one) => !finalizers.includes(one))
  if (other) return `finalizer ${other} holds its PersistentVolume`
  const [field] = findUnknownFields(volume)
  return field && `its PersistentVolume has ${field}, which a move would lose`
}

/** Whether it has the size that its claim wants; `build`: makes the PV that comes of it, or throws why that cannot be. */
export function findByGrowth({ volume, claim }: Scene, build: () => unknown): string | undefined {
  try {
    const { request, capacity, growthPhase } = pickClaim(claim as V1PersistentVolumeClaim)
    const [wanted, has] = [parseQuantity(request, 'the request'), parseQuantity(capacity, 'the capacity')]
    const capacityBytes = parseQuantity(volume.spec?.capacity?.storage, 'the capacity of the PersistentVolume')
    if (wanted > has || capacityBytes > has || growthPhase !== '')
      return 'its claim is growing, or its growth was refused: resolve that first'
    build()
  } catch (error) {
    return `its objects cannot be read: ${messageOf(error)}`
  }
  return undefined
}

function findByNode(scene: Scene, to: FrontName): string | undefined {
  const { volume, node: object, ledger } = scene
  const { name, node, heldTo } = pickVolume(volume) ?? { name: '', node: '' }
  if (!isReady(object)) return `node ${node} is not ready`
  if (heldTo && object?.metadata?.labels?.[heldTo.key] !== heldTo.value)
    return `its PersistentVolume is tied to ${heldTo.key}=${heldTo.value}, and node ${node} is not that`
  const entry = ledger?.entries.get(name)
  if (!ledger || entry?.madeBytes === undefined) return `the daemon of node ${node} has not reported that it created it`
  return findByService(scene, node, to)
}

export const isReady = (node: V1Node | undefined): boolean =>
  node?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false

/** Whether pods of that node can have volumes by that front. */
export function findByService({ ledger, csiNode, csiDriver }: Scene, node: string, to: FrontName): string | undefined {
  if (!ledger || !poolOf(ledger).fronts.includes(to))
    return to === 'csi'
      ? `the daemon of node ${node} does not serve CSI: start it with --csi`
      : `the daemon of node ${node} does not serve FlexVolumes: start it with --flex`
  if (to === 'flex') return undefined
  if (!csiDriver) return `there is no CSIDriver object ${csiDriverName}: apply deploy.yaml again`
  if (!csiNode?.spec.drivers?.some((driver) => driver.name === csiDriverName))
    return `the kubelet of node ${node} does not know our CSI driver: check the daemon there`
  return undefined
}

/** The pod that has the claim, and what to do about it. */
export function findUser({ claim, pods }: Scene, advice: string): string | undefined {
  const uses = (pod: V1Pod) => pickPod(pod).claims.includes(claim?.metadata?.name ?? '')
  const user = pods.find((pod) => !['Succeeded', 'Failed'].includes(pod.status?.phase ?? '') && uses(pod))
  return user && `pod ${user.metadata?.name} uses it: ${advice}`
}
