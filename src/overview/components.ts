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
  pod?: PodFacts
}

const daemonsOfNodes = indexed(({ components }) =>
  Map.groupBy(
    components.filter(({ component }) => component === 'daemon'),
    ({ node }) => node,
  ),
)

/** The daemon of a node, as far as its pod tells. */
export function findDaemon(facts: ClusterFacts, node: string): DaemonState {
  if (facts.notRead.has('components')) return { state: 'unknown' }
  const here = daemonsOfNodes(facts).get(node) ?? []
  const pod = here.find(({ isDeleting }) => !isDeleting) ?? here[0]
  if (!pod) return { state: 'missing' }
  return { state: isWell(pod) ? 'ready' : 'not ready', pod }
}

/** A container that ends again and again is started again after five minutes at most. */
const startedAgainMs = 10 * 60_000

/** Why the pool of a node cannot be used, as its daemon said when it started last, and ended. */
export function unusablePool(facts: ClusterFacts, node: string): string | undefined {
  if (findDaemon(facts, node).state !== 'not ready') return undefined
  return findFreshWarning(facts, { kind: 'Node', name: node }, because('PoolNotUsable'), startedAgainMs)?.message
}

/** Why the daemon of a node does nothing; nothing when it is well, or nobody can tell. */
export function daemonProblem(facts: ClusterFacts, node: string): Omit<Problem, 'status'> | undefined {
  const { state, pod } = findDaemon(facts, node)
  if (state === 'missing')
    return {
      message: `no pod of the elastic-local daemon is on node ${node}`,
      advice: `Look at the DaemonSet: "kubectl --namespace ${facts.namespace} describe daemonset elastic-local-daemon".`,
    }
  const unusable = unusablePool(facts, node)
  if (unusable && pod)
    return {
      message: `the daemon of node ${node} cannot use its pool: ${unusable}`,
      advice: `When that is mended, the daemon begins by itself within five minutes; at once after "kubectl --namespace ${facts.namespace} delete pod ${pod.name}".`,
    }
  if (state === 'not ready' && pod)
    return { message: `the daemon of node ${node} is not well: pod ${describePod(pod)}`, advice: logsOf(pod, facts) }
  return undefined
}

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
        message: `no provisioner is at work: ${lease ? `the last one that led was heard ${formatDuration(silentForMs)} ago` : 'none leads'}`,
        ...(ailing.length > 0 ? { details: ailing.map((pod) => `pod ${describePod(pod)}`) } : {}),
        advice: ailing[0]
          ? logsOf(ailing[0], facts)
          : `Look at "kubectl --namespace ${namespace} describe deployment elastic-local-provisioner".`,
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
  return `Look at "kubectl --namespace ${namespace} ${verb} ${name}".`
}
