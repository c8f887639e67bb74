import type { Entry, Ledger } from '../k8s/model/ledger.ts'
import { volumeNameOf } from '../k8s/model/persistent-volume.ts'
import { isVolumeName } from '../volume/name.ts'
import type { ClaimState, ClassState, ClusterFacts, PodFacts, VolumeState } from './facts.ts'
import { indexed } from './indexed.ts'

/** All that is known of one volume, be it only a claim yet, or only what is left on a node. */
export interface Subject {
  /** Name of the volume, and of its PV. */
  name: string
  claim?: ClaimState
  volume?: VolumeState
  storageClass?: ClassState
  /** What is promised to it, and in which ledger. */
  promise?: { ledger: Ledger; entry: Entry }
  /** The pods that use its claim. */
  pods: readonly PodFacts[]
}

/** The volume of a claim. */
export function subjectOfClaim(facts: ClusterFacts, claim: ClaimState): Subject {
  const name = claim.volumeName || volumeNameOf(claim.uid)
  const volume = facts.volumes.get(name)
  return complete(facts, { name, claim, ...(volume && isFor(volume, claim) ? { volume } : {}) })
}

/** The volume of that name: of a PV, or of a node that has it still; nothing when nobody knows it. */
export function subjectOfVolume(facts: ClusterFacts, name: string): Subject | undefined {
  const volume = facts.volumes.get(name)
  if (!volume) {
    const isPromised = ledgersOfVolumes(facts).has(name)
    return isPromised && isVolumeName(name) ? complete(facts, { name }) : undefined
  }
  const claim = volume.claim && facts.claims.get(`${volume.claim.namespace}/${volume.claim.name}`)
  return complete(facts, { name, volume, ...(claim && isFor(volume, claim) ? { claim } : {}) })
}

/** Everything of ours in the cluster: claims, PVs, and what nodes have without either. */
export function findSubjects(facts: ClusterFacts): Subject[] {
  const claims = [...facts.claims.values()].filter((claim) => isOurs(facts, claim))
  const ofClaims = claims.map((claim) => subjectOfClaim(facts, claim))
  const seen = new Set(ofClaims.map(({ name }) => name))
  const named = [...facts.volumes.keys(), ...facts.ledgers.values().flatMap(({ entries }) => entries.keys())]
  const others = [...new Set(named)].filter((name) => !seen.has(name)).map((name) => subjectOfVolume(facts, name))
  return [...ofClaims, ...others.filter((subject) => subject !== undefined)]
}

/** Whether a claim is for a volume of ours. */
export function isOurs({ classes, volumes }: ClusterFacts, { className, volumeName }: ClaimState): boolean {
  return volumes.has(volumeName) || classes.get(className)?.facts !== undefined
}

function isFor({ claim }: VolumeState, { uid, namespace, name }: ClaimState): boolean {
  // A PV that a person makes for a claim may name it without its UID.
  return (
    claim !== undefined && claim.namespace === namespace && claim.name === name && (!claim.uid || claim.uid === uid)
  )
}

function complete(facts: ClusterFacts, found: Omit<Subject, 'pods'>): Subject {
  const { name, claim, volume } = found
  const className = claim?.className || volume?.className
  const storageClass = className ? facts.classes.get(className) : undefined
  // A claim that moves on may have left a promise on another node.
  const ledgers = ledgersOfVolumes(facts).get(name) ?? []
  const ledger = ledgers.find(({ node }) => node === volume?.node) ?? (volume ? undefined : ledgers[0])
  const entry = ledger?.entries.get(name)
  return {
    ...found,
    ...(storageClass ? { storageClass } : {}),
    ...(ledger && entry ? { promise: { ledger, entry } } : {}),
    pods: (claim && podsOfClaims(facts).get(`${claim.namespace}/${claim.name}`)) ?? [],
  }
}

/** The ledgers that promise something to a volume, by its name. */
const ledgersOfVolumes = indexed(({ ledgers }) => {
  const found = new Map<string, Ledger[]>()
  for (const ledger of ledgers.values()) for (const name of ledger.entries.keys()) add(found, name, ledger)
  return found
})

/** The pods that use a claim, by `namespace/name`. */
const podsOfClaims = indexed(({ pods }) => {
  const found = new Map<string, PodFacts[]>()
  for (const pod of pods)
    if (!isOver(pod)) for (const claim of new Set(pod.claims)) add(found, `${pod.namespace}/${claim}`, pod)
  return found
})

function add<T>(lists: Map<string, T[]>, key: string, value: T): void {
  const list = lists.get(key)
  if (list) list.push(value)
  else lists.set(key, [value])
}

/** Whether a pod has ended: its volumes are unmounted. */
export function isOver({ phase }: PodFacts): boolean {
  return phase === 'Succeeded' || phase === 'Failed'
}
