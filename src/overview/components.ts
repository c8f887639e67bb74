/** How our own programs do: the provisioner, and the daemon of a node. */
import { formatDuration } from '../text/quantity.ts'
import { because, findFreshWarning } from './events.ts'
import type { ClusterFacts, PodFacts } from './facts.ts'
import { indexed } from './indexed.ts'
import type { NodeRecord, Problem, ProvisionerRecord } from './records.ts'

/** The leader renews its Lease every second; one that is silent for so long does not act, whatever the clocks here say. */
const silentMs = 60_000

export interface DaemonState {
  state: NodeRecord['daemon']
  /** Its pod, where it runs in one. */
  pod?: PodFacts
  /** For how long it has said nothing, where that is too long. */
  silentForMs?: number
}

const daemonsOfNodes = indexed(({ components }) =>
  Map.groupBy(
    components.filter(({ component }) => component === 'daemon'),
    ({ node }) => node,
  ),
)

/** The daemon of a node, by the Lease that it renews, wherever it runs; a pod of it that is not well tells more, and sooner. */
export function findDaemon(facts: ClusterFacts, node: string): DaemonState {
  const { notRead, readAt } = facts
  const here = daemonsOfNodes(facts).get(node) ?? []
  const pod = here.find(({ isDeleting }) => !isDeleting) ?? here[0]
  const heard = facts.heartbeats.get(node)
  const silentForMs = heard ? readAt.getTime() - heard.renewedAt.getTime() : 0
  if (pod && !isWell(pod)) return { state: 'not ready', pod }
  const shown = pod ? { pod } : {}
  if (heard && silentForMs < heard.durationMs) return { state: 'ready', ...shown }
  if (heard) return { state: 'not ready', silentForMs, ...shown }
  if (pod && notRead.has('leases')) return { state: 'ready', pod }
  if (pod) return { state: 'not ready', pod }
  return { state: notRead.has('leases') ? 'unknown' : 'missing' }
}

/** A container that ends again and again is started again after five minutes at most. */
const startedAgainMs = 10 * 60_000

/** Why the pool of a node cannot be used, as its daemon said when it started last, and ended. */
export function unusablePool(facts: ClusterFacts, node: string): string | undefined {
  if (['ready', 'unknown'].includes(findDaemon(facts, node).state)) return undefined
  return findFreshWarning(facts, { kind: 'Node', name: node }, because('PoolNotUsable'), startedAgainMs)?.message
}

/** Why the daemon of a node does nothing; nothing when it is well, or nobody can tell. */
export function daemonProblem(facts: ClusterFacts, node: string): Omit<Problem, 'status'> | undefined {
  const { state, pod, silentForMs } = findDaemon(facts, node)
  if (state === 'ready' || state === 'unknown') return undefined
  const unusable = unusablePool(facts, node)
  if (unusable)
    return {
      message: `the daemon of node ${node} cannot use its pool: ${unusable}`,
      advice: pod
        ? `Once that is fixed, the daemon starts automatically within five minutes; at once after "kubectl --namespace ${facts.namespace} delete pod ${pod.name}".`
        : `Once that is fixed, restart the daemon of node ${node}.`,
    }
  if (silentForMs !== undefined)
    return {
      message: `the daemon of node ${node} last reported ${formatDuration(silentForMs)} ago`,
      advice: pod ? logsOf(pod, facts) : startAdvice(facts),
    }
  if (pod && isWell(pod))
    return {
      message: `the daemon of node ${node} has never reported, although pod ${pod.name} is ready`,
      advice: logsOf(pod, facts),
    }
  if (pod)
    return { message: `the daemon of node ${node} is unhealthy: pod ${describePod(pod)}`, advice: logsOf(pod, facts) }
  return {
    message: `there is no elastic-local daemon on node ${node}: none has ever reported`,
    advice: startAdvice(facts),
  }
}

const startAdvice = ({ namespace }: ClusterFacts) =>
  `Start it. Where a DaemonSet does that: "kubectl --namespace ${namespace} describe daemonset elastic-local-daemon".`

/** A command of `elastic-local` for a person to run where the volume is. */
export function commandOn(facts: ClusterFacts, node: string, command: string): string {
  const { state, pod } = findDaemon(facts, node)
  if (state !== 'ready' || !pod) return `"elastic-local ${command}" on node ${node}`
  return `"kubectl exec --namespace ${facts.namespace} ${pod.name} -- elastic-local ${command}"`
}

/** The provisioner: who leads, and what is wrong with it. */
export const describeProvisioner = indexed((facts): ProvisionerRecord => {
  const { components, lease, notRead, namespace } = facts
  const pods = components.filter(({ component, isDeleting }) => component === 'provisioner' && !isDeleting)
  const record = {
    ...(lease ? { leader: lease.holder.replace(/_[0-9a-f-]{36}$/, ''), renewedAt: lease.renewedAt } : {}),
    pods: pods.length,
    readyPods: pods.filter(isWell).length,
  }
  if (notRead.has('leases')) return { ...record, problems: [] }
  const silentForMs = lease ? facts.readAt.getTime() - lease.renewedAt.getTime() : 0
  if (lease && silentForMs < silentMs) return { ...record, problems: [] }
  const ailing = pods.filter((pod) => !isWell(pod))
  return {
    ...record,
    problems: [
      {
        status: 'fail',
        message: `no provisioner is running: ${lease ? `the last leader reported ${formatDuration(silentForMs)} ago` : 'none leads'}`,
        ...(ailing.length > 0 ? { details: ailing.map((pod) => `pod ${describePod(pod)}`) } : {}),
        advice: ailing[0]
          ? logsOf(ailing[0], facts)
          : `See "kubectl --namespace ${namespace} describe deployment elastic-local-provisioner".`,
      },
    ],
  }
})

function isWell({ isReady, isDeleting }: PodFacts): boolean {
  return isReady && !isDeleting
}

function describePod({ name, phase, waiting, unschedulable, restarts }: PodFacts): string {
  const why = unschedulable ?? waiting ?? (phase === 'Running' ? 'running, but not ready' : phase)
  return `${name} (${why}${restarts > 0 ? `; restarted ${restarts === 1 ? 'once' : `${restarts} times`}` : ''})`
}

function logsOf({ name, phase }: PodFacts, { namespace }: ClusterFacts): string {
  const verb = phase === 'Pending' ? 'describe pod' : 'logs'
  return `See "kubectl --namespace ${namespace} ${verb} ${name}".`
}
