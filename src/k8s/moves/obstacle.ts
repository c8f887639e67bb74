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

/** What the API server has of a volume that is to be moved. */
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
  return findByVolume(scene, to) ?? findByNode(scene, to) ?? (inUse ? undefined : findUser(scene))
}

function findByVolume({ volume, claim: object }: Scene, to: FrontName): string | undefined {
  const facts = pickVolume(volume)
  if (!facts?.claim) return 'its PersistentVolume is not one of ours with a claim'
  const { name, claim, phase, isDeleting, node, heldTo, mayBeMadeAnew, finalizers } = facts
  const found = object && pickClaim(object)
  if (isDeleting || found?.isDeleting) return 'it is being deleted'
  if (
    !found ||
    found.uid !== claim.uid ||
    found.volumeName !== name ||
    [phase, object.status?.phase].join() !== 'Bound,Bound'
  )
    return 'it is not bound to its claim'
  if (name !== volumeNameOf(claim.uid)) return 'it is bound to another claim than the one that it was created for'
  if (!node || !heldTo || !isDeepStrictEqual(volume.spec?.nodeAffinity, buildNodeAffinity(heldTo)))
    return 'its PersistentVolume is not tied to one node'
  if (mayBeMadeAnew) return `its PersistentVolume has annotation ${makeAnewAnnotation}`
  const other = finalizers.find((one) => !ownFinalizers.includes(one))
  if (other) return `finalizer ${other} holds its PersistentVolume`
  const [field] = findUnknownFields(volume)
  if (field) return `its PersistentVolume has ${field}, which a move would lose`
  if (to === 'flex' && (volume.spec?.volumeMode ?? 'Filesystem') !== 'Filesystem')
    return 'it is a raw block volume, which FlexVolume does not support'
  try {
    const [wanted, has] = [parseQuantity(found.request, 'the request'), parseQuantity(found.capacity, 'the capacity')]
    if (wanted > has || facts.capacityBytes > has || found.growthPhase !== '')
      return 'its claim is growing, or its growth was refused: resolve that first'
    buildMoved(volume, to, { key: '', claimCapacity: found.capacity })
  } catch (error) {
    return `its objects cannot be read: ${messageOf(error)}`
  }
  return undefined
}

function findByNode({ volume, node: object, ledger, csiNode, csiDriver }: Scene, to: FrontName): string | undefined {
  const { name, node, heldTo } = pickVolume(volume) ?? { name: '', node: '' }
  const isReady = object?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True')
  if (!isReady) return `node ${node} is not ready`
  if (heldTo && object?.metadata?.labels?.[heldTo.key] !== heldTo.value)
    return `its PersistentVolume is tied to ${heldTo.key}=${heldTo.value}, and node ${node} is not that`
  const entry = ledger?.entries.get(name)
  if (!ledger || entry?.madeBytes === undefined) return `the daemon of node ${node} has not reported that it created it`
  if (!poolOf(ledger).fronts.includes(to))
    return to === 'csi'
      ? `the daemon of node ${node} does not serve CSI: start it with --csi`
      : `the daemon of node ${node} does not serve FlexVolumes: start it with --flex`
  if (to === 'flex') return undefined
  if (!csiDriver) return `there is no CSIDriver object ${csiDriverName}: apply deploy.yaml again`
  if (!csiNode?.spec.drivers?.some((driver) => driver.name === csiDriverName))
    return `the kubelet of node ${node} does not know our CSI driver: check the daemon there`
  return undefined
}

function findUser({ claim, pods }: Scene): string | undefined {
  const uses = (pod: V1Pod) => pickPod(pod).claims.includes(claim?.metadata?.name ?? '')
  const user = pods.find((pod) => !['Succeeded', 'Failed'].includes(pod.status?.phase ?? '') && uses(pod))
  return user && `pod ${user.metadata?.name} uses it: stop it first, or use --in-use to move the volume while it runs`
}
