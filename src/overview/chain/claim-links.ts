/** The links that the cluster makes: from the claim to its PersistentVolume. */
import { type ClassFacts, checkClaim, describeWish, type PoolWish, readClass } from '../../k8s/model/claim.ts'
import { poolOf, takenBytes } from '../../k8s/model/ledger.ts'
import { provisionerNames } from '../../k8s/model/names.ts'
import { formatBytes } from '../../text/quantity.ts'
import { messageOf } from '../../volume/errors.ts'
import { commandOn, describeProvisioner } from '../components.ts'
import { because, findWarning } from '../events.ts'
import type { ClaimState, ClusterFacts, PodFacts } from '../facts.ts'
import { adviseOnMove } from '../moves.ts'
import { describePlaces, findPlaces, hasPool, type Place } from '../places.ts'
import type { Link, LinkName } from '../records.ts'
import type { Subject } from '../subject.ts'
import { link, ofProblem, unread } from './link.ts'

export function claimLink(facts: ClusterFacts, { name, claim, volume, promise, storageClass }: Subject): Link {
  if (claim?.phase === 'Lost') return lostClaim(facts, claim, name)
  if (claim) {
    const size = claim.requestedBytes === undefined ? claim.request : formatBytes(claim.requestedBytes)
    try {
      if (!volume) mustBeServed(facts, claim, storageClass?.facts)
    } catch (error) {
      return link('claim', 'fail', messageOf(error), {
        advice: 'A claim cannot be changed: delete it, and recreate it within what a local volume can do.',
      })
    }
    return link('claim', 'ok', `${claim.namespace}/${claim.name} wants ${size}`)
  }
  const whose = volume?.claim
  if (whose) return link('claim', 'ok', `${whose.namespace}/${whose.name} is gone, or another one of that name`)
  return link(
    'claim',
    'ok',
    promise?.entry.pendingFor ? `promised to ${promise.entry.pendingFor}, which is gone` : 'none',
  )
}

/** Throws with what no volume can give. Of a class that names no front, the provisioner knows which it is, and says so. */
function mustBeServed(facts: ClusterFacts, claim: ClaimState, storageClass: ClassFacts | undefined): void {
  checkClaim(claim, wishOfClass(storageClass))
  const refused = claim.volumeMode === 'Block' ? refusal(facts, claim) : undefined
  if (refused?.includes('volumeMode must be')) throw new Error(refused)
}

function wishOfClass(storageClass: ClassFacts | undefined): PoolWish {
  try {
    return storageClass ? readClass(storageClass) : {}
  } catch {
    return {}
  }
}

function lostClaim(facts: ClusterFacts, { namespace, name, volumeName }: ClaimState, volume: string): Link {
  const move = facts.moves.moves.find(({ name }) => name === volume)
  if (move)
    return link('claim', 'fail', `it is Lost while ${volume} is moved to ${move.to}`, { advice: adviseOnMove(move) })
  const there = facts.ledgers.values().find(({ entries }) => entries.has(volume))?.node
  const advice = there
    ? `Its data is still on node ${there}: ${commandOn(facts, there, `volumes adopt ${volume} --claim ${namespace}/${name}`)} prints a PersistentVolume for "kubectl apply"; delete the claim and recreate it with that.`
    : 'Its data is on no node that we know. Delete the claim, and restore the data into a new one.'
  return link('claim', 'fail', `it is Lost: its PersistentVolume ${volumeName} is gone`, { advice })
}

export function classLink(facts: ClusterFacts, { claim, volume, storageClass }: Subject): Link | undefined {
  const name = claim?.className || volume?.className
  if (!claim || volume) return name ? link('class', 'ok', name) : undefined
  const left = unread(facts, 'class', 'storageclasses')
  if (left) return left
  const ours = [...facts.classes.values()].filter(({ facts }) => facts).map(({ name }) => name)
  const choose = `Name a class of ours: ${ours.join(', ') || 'there is none; apply deploy.yaml'}.`
  if (!name)
    return link('class', 'fail', 'it names no StorageClass, and none is the default', {
      advice: `${choose} Or make one the default, with annotation storageclass.kubernetes.io/is-default-class=true.`,
    })
  if (!storageClass) return link('class', 'fail', `there is no StorageClass ${name}`, { advice: choose })
  if (!storageClass.facts)
    return link('class', 'fail', `StorageClass ${name} is not ours: its provisioner is ${storageClass.provisioner}`, {
      advice: `${choose} "kubectl describe pvc ${claim.name}" may tell what serves that one. Our provisioners are ${provisionerNames.join(' and ')}.`,
    })
  try {
    readClass(storageClass.facts)
  } catch (error) {
    return link('class', 'fail', messageOf(error), {
      advice:
        'A class cannot be changed: delete it, and recreate it with the right value. The claims that wait are then served.',
    })
  }
  return link(
    'class',
    'ok',
    `${name}, ${storageClass.facts.waitsForPod ? 'which waits for a pod' : 'which creates volumes at once'}`,
  )
}

/** Whether a node is chosen, and if not, why each node is none. */
export function schedulingLink(
  facts: ClusterFacts,
  { claim, volume, storageClass, promise, pods }: Subject,
): Link | undefined {
  if (volume || !claim) return volume?.node ? link('scheduling', 'ok', `node ${volume.node}`) : undefined
  if (claim.volumeName) return link('scheduling', 'ok', `not needed: it names PersistentVolume ${claim.volumeName}`)
  if (!storageClass?.facts) return unread(facts, 'scheduling', 'storageclasses')
  if (promise && !storageClass.facts.waitsForPod) return link('scheduling', 'ok', `node ${promise.ledger.node}`)
  if (!storageClass.facts.waitsForPod)
    return link('scheduling', 'ok', 'not waited for: the provisioner chooses the node')
  if (claim.selectedNode) return link('scheduling', 'ok', `the scheduler selected node ${claim.selectedNode}`)
  const left = unread(facts, 'scheduling', 'pods')
  if (left) return left
  if (pods.length === 0)
    return link(
      'scheduling',
      'wait',
      'no pod uses the claim yet, and its class creates a volume where the first one runs',
      { advice: 'Nothing is wrong: start a pod with it.' },
    )
  const forced = pods.find(({ node }) => node !== '')
  if (forced)
    return link(
      'scheduling',
      'fail',
      `pod ${forced.name} names node ${forced.node} itself, which bypasses the scheduler`,
      {
        advice:
          'Remove nodeName from the pod; a nodeSelector kubernetes.io/hostname does the same by way of the scheduler.',
      },
    )
  return unscheduled(facts, claim, storageClass.facts, pods)
}

function unscheduled(
  facts: ClusterFacts,
  claim: ClaimState,
  storageClass: ClassFacts,
  pods: readonly PodFacts[],
): Link {
  const places = findPlaces(facts, storageClass, claim)
  const pod = pods.find(({ unschedulable }) => unschedulable !== undefined)
  const refused = refusal(facts, claim)
  const details = [
    ...describePlaces(places),
    ...(pod ? [`the scheduler, of pod ${pod.name}: ${pod.unschedulable}`] : []),
    ...(refused ? [`the provisioner: ${refused}`] : []),
  ]
  if (!places.some(({ fits }) => fits))
    return link('scheduling', 'fail', 'no node can take it', {
      details,
      advice: adviseOnPlaces(facts, storageClass, places),
    })
  if (!pod) return link('scheduling', 'wait', `the scheduler has not placed pod ${pods[0]?.name} yet`, { details })
  return link('scheduling', 'fail', `there is room, but no node that has it fits pod ${pod.name}`, {
    details,
    advice: 'Check what else the pod needs: CPU, memory, its nodeSelector, its affinity, and the nodes’ taints.',
  })
}

/** What would make one of the places fit: only what can help there. */
function adviseOnPlaces(facts: ClusterFacts, storageClass: ClassFacts, places: readonly Place[]): string {
  const lack = (what: Place['lacks']) => places.some(({ lacks }) => lacks === what)
  const isForRoom = lack('room')
  const others = isForRoom ? [] : [...facts.classes.values()].filter((one) => one.facts && hasPool(facts, one.facts))
  const names = others.map(({ name }) => name).join(', ')
  const ways = [
    ...(isForRoom ? ['make room (delete claims, add a disk to a pool)', 'ask for less'] : []),
    ...(!isForRoom && lack('pool')
      ? [
          `give a node ${describeWish(readClass(storageClass))}`,
          ...(names ? [`recreate the claim with a class whose pool exists: ${names}`] : []),
        ]
      : []),
    ...(lack('node') ? ['fix the nodes above'] : []),
  ]
  const text = ways.length > 0 ? ways.join(', or ') : 'add a node with a pool'
  return `${text.replace(/^./, (first) => first.toUpperCase())}. It is retried automatically.`
}

/** Why the provisioner does not serve a claim, as it said last. */
function refusal(facts: ClusterFacts, { namespace, name, uid }: ClaimState): string | undefined {
  const whose = { kind: 'PersistentVolumeClaim', namespace, name, uid }
  const found = findWarning(facts, whose, (event) => isOurs(event.component) && because('ProvisioningFailed')(event))
  return found?.message
}

const isOurs = (component: string) => component.startsWith('elastic-local')

/** Whether room is promised. */
export function reservationLink(
  facts: ClusterFacts,
  { claim, volume, promise, storageClass }: Subject,
): Link | undefined {
  if (promise) {
    const { ledger, entry } = promise
    const what = `${formatBytes(takenBytes(entry))} of pool ${poolOf(ledger).name}`
    return link('reservation', 'ok', `${what} on node ${ledger.node}`)
  }
  if (volume || claim?.volumeName)
    return link('reservation', 'ok', 'not needed: the provisioner did not create the PersistentVolume')
  const left = unread(facts, 'reservation', 'ledgers')
  if (left || !claim) return left
  const broken = claim.selectedNode && facts.brokenLedgers.get(claim.selectedNode)
  if (broken) return link('reservation', 'fail', broken, { advice: 'Nothing can be placed there until that is fixed.' })
  const idle = idleProvisioner(facts, 'reservation')
  if (idle) return idle
  const refused = refusal(facts, claim)
  if (!refused) return link('reservation', 'wait', 'requested from the provisioner just now')
  if (!storageClass?.facts) return link('reservation', 'fail', refused)
  const places = findPlaces(facts, storageClass.facts, claim)
  const advice = adviseOnPlaces(facts, storageClass.facts, places)
  return link('reservation', 'fail', refused, { details: describePlaces(places), advice })
}

function idleProvisioner(facts: ClusterFacts, name: LinkName): Link | undefined {
  const [problem] = describeProvisioner(facts).problems
  return problem && ofProblem(name, problem)
}

/** Whether the PersistentVolume is there, and bound to the claim. */
export function objectLink(facts: ClusterFacts, { name, claim, volume, promise }: Subject): Link {
  const left = unread(facts, 'persistent volume', 'persistentvolumes')
  if (left) return left
  const fail = (message: string, advice: string) => link('persistent volume', 'fail', message, { advice })
  if (facts.foreignVolumes.has(name)) return fail(`${name} belongs to another driver`, 'Check what serves that one.')
  if (!volume && claim) {
    if (facts.volumes.has(name))
      return fail(`${name} is not for this claim`, `Delete it if nobody needs it: "kubectl delete pv ${name}".`)
    if (claim.volumeName)
      return fail(
        `the claim names ${name}, which does not exist`,
        'Create that PersistentVolume, or recreate the claim without volumeName.',
      )
    return (
      idleProvisioner(facts, 'persistent volume') ?? link('persistent volume', 'wait', 'the provisioner is creating it')
    )
  }
  if (!volume) {
    const node = promise?.ledger.node ?? ''
    if (!promise?.entry.madeFor)
      return link('persistent volume', 'warn', 'there is none: nobody in this cluster uses what is on the node', {
        advice: leftAdvice(facts, node, name),
      })
    return fail('it is gone, but its data is still there: the volume is orphaned', leftAdvice(facts, node, name))
  }
  const kept = volume.deletesData ? '' : '; its data stays when it is deleted (Retain)'
  if (volume.phase === 'Bound' || volume.isDeleting) return link('persistent volume', 'ok', `${name}${kept}`)
  if (volume.phase === 'Released')
    return link('persistent volume', 'ok', `${name}, without its claim${kept || '; it is about to be deleted'}`)
  if (!claim) return link('persistent volume', 'wait', `${name} waits for its claim`)
  return link('persistent volume', 'wait', `${name} is there; the controller manager has not bound it yet`)
}

function leftAdvice(facts: ClusterFacts, node: string, name: string): string {
  return `${commandOn(facts, node, `volumes remove ${name}`)} removes its data; ${commandOn(facts, node, `volumes adopt ${name} --claim <namespace>/<name>`)} prints a PersistentVolume for it.`
}
