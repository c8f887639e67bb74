/** The links that are made on the node: from the volume to the pod. */
import { poolOf, takenBytes } from '../../k8s/model/ledger.ts'
import { makeAnewAnnotation } from '../../k8s/model/names.ts'
import { formatBytes, formatCount } from '../../text/quantity.ts'
import { commandOn, daemonProblem } from '../components.ts'
import { because, findFreshWarning, findWarning } from '../events.ts'
import type { ClusterFacts, EventFacts, PodFacts, VolumeState } from '../facts.ts'
import { mountProblem } from '../mounts.ts'
import { absence, ledgerProblems, poolProblems } from '../nodes.ts'
import type { Link } from '../records.ts'
import type { Subject } from '../subject.ts'
import { link, ofProblem, unread } from './link.ts'

/** Whether the node is there, and a daemon of ours on it. */
export function nodeLink(facts: ClusterFacts, { volume, promise, pods }: Subject): Link {
  const name = volume?.node || promise?.ledger.node
  if (!name)
    return link('node', 'fail', 'the PersistentVolume names no node', {
      advice: 'If it is one of the predecessor, start the daemon of its node with --takeover (docs/takeover.md).',
    })
  const left = unread(facts, 'node', 'nodes')
  if (left) return left
  const [away] = absence(facts, name)
  if (away) return ofProblem('node', away)
  const daemon = daemonProblem(facts, name)
  const [problem] = [
    ...(daemon ? [{ status: 'fail' as const, ...daemon }] : []),
    ...ledgerProblems(facts, name, daemon !== undefined),
    ...poolProblems(facts, name),
  ]
  // What is mounted goes on all the same.
  const isServed = pods.length > 0 && pods.every(({ phase }) => phase === 'Running')
  if (problem) return ofProblem('node', isServed ? { ...problem, status: 'warn' } : problem)
  return link('node', 'ok', `node ${name} is ready`)
}

/** Whether the daemon has made the volume. */
export function volumeLink(facts: ClusterFacts, { name, volume, promise }: Subject): Link {
  const isMade = promise !== undefined && !promise.entry.pendingFor
  const [lost, stuck] = [volume && findLoss(facts, volume), volume && findStuck(facts, volume)]
  if (volume && lost) return link('volume', 'fail', lost.message, { advice: adviseOnLoss(facts, volume, lost.message) })
  // What kept it from being made is over.
  const failed = isMade ? undefined : volume && volumeProblem(facts, volume)
  if (failed) return failed
  const left = unread(facts, 'volume', 'ledgers')
  if (left) return left
  if (!isMade) return link('volume', 'wait', 'the daemon has not created it yet')
  if (stuck)
    return link('volume', 'warn', stuck.message, {
      advice: `The kubelet retries automatically; ${commandOn(facts, promise.ledger.node, `volumes show ${name}`)} says what uses it.`,
    })
  return link(
    'volume',
    'ok',
    `created, ${formatBytes(takenBytes(promise.entry))} in pool ${poolOf(promise.ledger).name}`,
  )
}

/** What the daemon said last of making a volume, if it still says so. */
function volumeProblem(facts: ClusterFacts, { name, uid, node }: VolumeState): Link | undefined {
  const whose = { kind: 'PersistentVolume', name, uid }
  const failed = findFreshWarning(facts, whose, because('VolumeNotMade'))
  return (
    failed &&
    link('volume', 'fail', failed.message, {
      advice: `The daemon of node ${node} retries automatically; ${commandOn(facts, node, 'doctor')} checks what it needs.`,
    })
  )
}

/** A daemon says of all that is lost when it looks around, every ten minutes. */
const lookMs = 15 * 60_000

/** What the daemon says of a volume whose data or filesystem was there and is not, unless it was recreated since. */
export function findLoss(
  facts: ClusterFacts,
  { name, uid }: Pick<VolumeState, 'name' | 'uid'>,
): EventFacts | undefined {
  const whose = { kind: 'PersistentVolume', name, uid }
  const lost =
    findFreshWarning(facts, whose, because('VolumeLost'), lookMs) ??
    findFreshWarning(facts, whose, ({ reason, message }) => reason === 'VolumeNotMade' && isLost(message))
  const anew = findWarning(facts, whose, because('VolumeMadeAnew'))
  return lost && anew && anew.at >= lost.at ? undefined : lost
}

/** Whether the daemon's words are those of data that was there and is not. */
const isLost = (message: string) => /its data is lost/.test(message)

function adviseOnLoss(facts: ClusterFacts, { name, node }: VolumeState, message: string): string {
  if (isLost(message)) return `To start empty: "kubectl annotate pv ${name} ${makeAnewAnnotation}=true".`
  return `Restore it from a backup, or delete its claim; ${commandOn(facts, node, `volumes show ${name}`)} says what is there.`
}

/** What the daemon says, and says again, of a volume that cannot be unmounted or not removed. */
export function findStuck(
  facts: ClusterFacts,
  { name, uid }: Pick<VolumeState, 'name' | 'uid'>,
): EventFacts | undefined {
  const whose = { kind: 'PersistentVolume', name, uid }
  return findFreshWarning(facts, whose, because('VolumeNotUnmounted', 'VolumeNotRemoved'))
}

/** What is known of the filesystem without asking the node. */
export function filesystemLink(facts: ClusterFacts, { name, volume, promise }: Subject): Link | undefined {
  const { ledger } = promise ?? {}
  if (!ledger) return undefined
  if (volume?.fsType === 'block')
    return link('filesystem', 'ok', 'none: it is a block device, and what is on it only its user knows')
  const kind = poolOf(ledger).driverKind === 'BINDMOUNT' ? 'that of the underlying disk' : volume?.fsType || 'ext4'
  const advice = `Only its node knows how much is used: ${commandOn(facts, ledger.node, `volumes show ${name}`)}.`
  return link('filesystem', 'ok', kind, { advice })
}

/** Whether the pods have it. */
export function mountLink(facts: ClusterFacts, { name, volume, promise, pods, claim }: Subject): Link | undefined {
  const left = unread(facts, 'mount', 'pods')
  if (left || !claim) return left
  if (pods.length === 0) return link('mount', 'ok', 'no pod uses it now')
  const node = volume?.node || promise?.ledger.node || ''
  const found = pods.map((pod) => ({ pod, ...judgeMount(facts, pod, name, node, claim.name) }))
  const worst = (['fail', 'wait', 'warn'] as const)
    .map((status) => found.find((one) => one.status === status))
    .find(Boolean)
  if (!worst) return link('mount', 'ok', `in ${describePods(pods)}`)
  const { pod, status, message, advice } = worst
  return link('mount', status, `pod ${pod.name}: ${message}`, advice ? { advice } : {})
}

function judgeMount(
  facts: ClusterFacts,
  pod: PodFacts,
  volume: string,
  node: string,
  claim: string,
): { status: Link['status']; message: string; advice?: string } {
  if (pod.unmounted.includes(claim) && pod.node !== '')
    return {
      status: 'warn',
      message: 'it names the claim, but no container mounts it, so nothing is mounted',
      advice: 'Give a container of the pod a volumeMount of that name, or remove the volume from the pod.',
    }
  if (pod.phase === 'Running' || (pod.waiting && !/^(ContainerCreating|PodInitializing)/.test(pod.waiting)))
    return { status: 'ok', message: 'mounted' }
  if (pod.node === '') {
    if (pod.unschedulable === undefined) return { status: 'wait', message: 'the scheduler has not placed it yet' }
    const advice = `It can run only where its volume is, on node ${node}: that must be schedulable, and must fit all else that the pod needs.`
    return { status: 'fail', message: `it is not scheduled: ${pod.unschedulable}`, advice }
  }
  const problem = mountProblem(facts, pod, volume)
  if (problem) return { status: 'fail', ...problem }
  return { status: 'wait', message: `the kubelet of node ${pod.node} is about to mount it` }
}

export function podLink(facts: ClusterFacts, { claim, pods }: Subject): Link | undefined {
  if (!claim || pods.length === 0) return undefined
  const left = unread(facts, 'pod', 'pods')
  if (left) return left
  const ailing = pods.find(({ isReady, waiting }) => !isReady && waiting !== undefined)
  if (ailing)
    return link('pod', 'warn', `${ailing.name} runs, but is not healthy: ${ailing.waiting}`, {
      advice: `That is not about its volume. See "kubectl --namespace ${ailing.namespace} logs ${ailing.name}".`,
    })
  return link('pod', 'ok', `${describePods(pods)} ${pods.length === 1 ? 'runs' : 'run'}`)
}

/** How many pods are named. */
const mostNamed = 3

export function describePods(pods: readonly PodFacts[]): string {
  const names = pods.slice(0, mostNamed).map(({ name }) => name)
  return pods.length > mostNamed
    ? `${names.join(', ')} and ${formatCount(pods.length - mostNamed, 'more pod')}`
    : names.join(', ')
}
