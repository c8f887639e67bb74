import { VolumeError } from '../volume/errors.ts'
import { buildChain } from './chain/chain.ts'
import { link, ofProblem } from './chain/link.ts'
import type { ClusterFacts, PodFacts } from './facts.ts'
import { inlineProblem } from './mounts.ts'
import type { Chain } from './records.ts'
import { isOurs, subjectOfClaim, subjectOfVolume } from './subject.ts'

/** What has pods. */
export const workloads = ['deployment', 'statefulset', 'daemonset', 'replicaset', 'job'] as const
export type Workload = (typeof workloads)[number]

/** What is to be explained. */
export interface Question {
  /** As kubectl calls it; nothing: whichever has that name. */
  kind?: 'pod' | 'claim' | 'volume' | Workload
  namespace: string
  name: string
}

/**
 * The chains of a claim, of a volume, or of all volumes of a pod, or of the pods of a workload; of a claim and a pod that have
 * one name, those of both. Throws `not-found` where nothing has that name.
 */
export function explain(facts: ClusterFacts, { kind, namespace, name }: Question): Chain[] {
  if (isWorkload(kind)) return explainWorkload(facts, `${kind}/${name}`, namespace)
  const pod = facts.pods.find((one) => one.namespace === namespace && one.name === name)
  const claim = facts.claims.get(`${namespace}/${name}`)
  const subject = subjectOfVolume(facts, name)
  const ofClaim = claim && (!kind || kind === 'claim') ? [buildChain(facts, subjectOfClaim(facts, claim))] : undefined
  const ofPod = pod && (!kind || kind === 'pod') ? explainPod(facts, pod) : undefined
  // A claim that the pod of its name uses is told of once.
  if (ofClaim && ofPod) return [...ofClaim, ...ofPod.filter((chain) => chain.claim?.name !== name)]
  const either = ofClaim ?? ofPod
  if (either) return either
  if (subject && (!kind || kind === 'volume')) return [buildChain(facts, subject)]
  throw new VolumeError(
    'not-found',
    `Cannot find ${describe({ ...(kind ? { kind } : {}), namespace, name })}.${unreadHint(facts)}`,
  )
}

function describe({ kind, namespace, name }: Question): string {
  if (kind === 'volume') return `a volume ${name} of ours`
  return kind
    ? `${kind} ${name} in namespace ${namespace}`
    : `a claim or pod ${name} in namespace ${namespace}, or a volume of that name`
}

function unreadHint({ notRead }: ClusterFacts): string {
  const kinds = ['persistentvolumeclaims', 'pods', 'persistentvolumes'] as const
  const missing = kinds.filter((kind) => notRead.has(kind))
  return missing.length > 0 ? ` You may not read ${missing.join(', ')}.` : ''
}

function isWorkload(kind: Question['kind']): kind is Workload {
  return workloads.some((workload) => workload === kind)
}

/** The chains of all its pods, that of a claim which several of them have once. */
function explainWorkload(facts: ClusterFacts, workload: string, namespace: string): Chain[] {
  const pods = facts.pods.filter((pod) => pod.namespace === namespace && pod.workloads.includes(workload))
  if (pods.length === 0)
    throw new VolumeError(
      'not-found',
      `Cannot find a pod of ${workload} in namespace ${namespace}: see "kubectl describe ${workload} -n ${namespace}" for why it has none, if it is there.${unreadHint(facts)}`,
    )
  const chains = pods.flatMap((pod) => explainPod(facts, pod))
  const keyOf = ({ claim }: Chain) => claim && `${claim.namespace}/${claim.name}`
  return chains.filter((chain, index) => {
    const key = keyOf(chain)
    return key === undefined || chains.findIndex((other) => keyOf(other) === key) === index
  })
}

/** A chain for each volume of ours that the pod wants. */
function explainPod(facts: ClusterFacts, pod: PodFacts): Chain[] {
  const ofClaims = pod.claims.flatMap((name) => {
    const claim = facts.claims.get(`${pod.namespace}/${name}`)
    if (!claim) return [missingClaim(facts, pod, name)]
    return isOurs(facts, claim) ? [buildChain(facts, subjectOfClaim(facts, claim), pod)] : []
  })
  const inline = pod.inline.map((name) => ({ links: [ofProblem('mount', inlineProblem(facts, pod, name))] }))
  return [...ofClaims, ...inline]
}

function missingClaim(facts: ClusterFacts, { name, namespace }: PodFacts, claim: string): Chain {
  const message = facts.notRead.has('persistentvolumeclaims')
    ? link('claim', 'open', `${namespace}/${claim} is not checked: ${facts.notRead.get('persistentvolumeclaims')}`)
    : link('claim', 'fail', `pod ${name} names claim ${namespace}/${claim}, which is not there`, {
        advice: 'Make that claim, or name another one in the pod.',
      })
  return { claim: { namespace, name: claim }, links: [message] }
}
