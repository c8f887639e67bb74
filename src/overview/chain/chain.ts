/** Chains: from a claim to its pods, link by link, as far as the facts go. Pure. */

import type { ClusterFacts, PodFacts } from '../facts.ts'
import { type Chain, type Link, type LinkName, linkNames } from '../records.ts'
import type { Subject } from '../subject.ts'
import { deletionLink, growthLink } from './changes.ts'
import { claimLink, classLink, objectLink, reservationLink, schedulingLink } from './claim-links.ts'
import { filesystemLink, mountLink, nodeLink, podLink, volumeLink } from './node-links.ts'
import { registrationLink } from './registration.ts'

/** A link, or nothing where the volume has no such thing. */
type BuildLink = (facts: ClusterFacts, subject: Subject) => Link | undefined

/** Those that follow from one another: where one is not there yet, those after it are not reached. */
const way: Partial<Record<LinkName, BuildLink>> = {
  claim: claimLink,
  class: classLink,
  scheduling: schedulingLink,
  reservation: reservationLink,
  'persistent volume': objectLink,
  node: nodeLink,
  volume: volumeLink,
  filesystem: filesystemLink,
  registration: registrationLink,
  mount: mountLink,
  pod: podLink,
}
/** What happens beside. */
const beside: readonly BuildLink[] = [growthLink, deletionLink]

/** The chain of one volume; with `only`, as that pod sees it. */
export function buildChain(facts: ClusterFacts, subject: Subject, only?: PodFacts): Chain {
  const seen = only ? { ...subject, pods: [only] } : subject
  const links: Link[] = []
  let isStopped = false
  const isLeaving = subject.volume?.isDeleting === true && !subject.claim
  for (const name of linkNames) {
    if (isLeaving && name === 'node') break
    if (name === 'registration' && !isByCsi(subject)) continue
    const found: Link | undefined = isStopped && way[name] ? notReached(name) : way[name]?.(facts, seen)
    if (found) links.push(found)
    isStopped ||= found?.status === 'fail' || found?.status === 'wait'
  }
  for (const build of beside) {
    const found = build(facts, seen)
    if (found) links.push(found)
  }
  const { claim, volume, promise, name } = subject
  const node = volume?.node || promise?.ledger.node
  return {
    ...(claim ? { claim: { namespace: claim.namespace, name: claim.name } } : {}),
    ...(volume || promise ? { volume: name } : {}),
    ...(node ? { node } : {}),
    links,
  }
}

/** Whether it is mounted by CSI, or to be, as far as anybody says. */
function isByCsi({ volume, storageClass }: Subject): boolean {
  return (volume?.front ?? storageClass?.facts?.parameters.front) === 'csi'
}

/** What an open link says that waits for those before it. */
export const notReachedMessage = 'not reached'

function notReached(link: LinkName): Link {
  return { link, status: 'open', message: notReachedMessage }
}
