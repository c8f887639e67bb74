import { csiDriverName } from '../csi/driver.ts'
import { frontNames } from '../k8s/fronts/front.ts'
import { isWanted, readClass } from '../k8s/model/claim.ts'
import { poolOf } from '../k8s/model/ledger.ts'
import { longestNodeName } from '../k8s/model/names.ts'
import { formatAge, formatCount } from '../text/quantity.ts'
import { commandOn, daemonProblem, findDaemon, unusablePool } from './components.ts'
import { because, findFreshWarning, warningsOf } from './events.ts'
import type { ClusterFacts } from './facts.ts'
import { indexed } from './indexed.ts'
import { isTold } from './places.ts'
import type { NodeRecord, Problem } from './records.ts'

/** All nodes, and those that are gone and of which something is left. */
export function describeNodes(facts: ClusterFacts): NodeRecord[] {
  const named = [...facts.volumes.values()].map(({ node }) => node).filter(Boolean)
  const names = new Set([...facts.nodes.keys(), ...facts.ledgers.keys(), ...facts.brokenLedgers.keys(), ...named])
  return [...names].sort().map((name) => describeNode(facts, name))
}

function describeNode(facts: ClusterFacts, name: string): NodeRecord {
  const node = facts.nodes.get(name)
  const { state, pod } = findDaemon(facts, name)
  const ledger = facts.ledgers.get(name)
  const pool = ledger && poolOf(ledger).name
  return {
    name,
    ...(node?.hostname ? { hostname: node.hostname } : {}),
    state: node ? (node.isReady ? 'ready' : 'away') : facts.notRead.has('nodes') ? 'unknown' : 'gone',
    schedulable: node?.isSchedulable ?? false,
    daemon: state,
    ...(ledger ? { fronts: frontNames.filter((front) => poolOf(ledger).fronts.includes(front)) } : {}),
    ...(pod ? { daemonPod: pod.name } : {}),
    ...(pool ? { pool } : {}),
    volumes: countVolumes(facts, name),
    problems: [...absence(facts, name), ...serviceProblems(facts, name)],
  }
}

/** How many volumes are on a node, or are to be. */
export function countVolumes(facts: ClusterFacts, node: string): number {
  return volumesOfNodes(facts).get(node)?.size ?? 0
}

const volumesOfNodes = indexed(({ volumes, ledgers }) => {
  const found = new Map([...ledgers.values()].map(({ node, entries }) => [node, new Set(entries.keys())]))
  for (const { node, name } of volumes.values()) found.set(node, (found.get(node) ?? new Set()).add(name))
  return found
})

/** Why nobody can reach the node at all. */
export function absence(facts: ClusterFacts, name: string): Problem[] {
  if (facts.notRead.has('nodes')) return []
  const node = facts.nodes.get(name)
  if (!node)
    return [
      {
        status: 'fail',
        message: `node ${name} is gone: there is no Node object of that name`,
        advice:
          'If it comes back with its disks, its volumes are as they were. If it never does, delete their claims, so that their owners start over elsewhere.',
      },
    ]
  if (!node.notReady) return []
  const { since, message } = node.notReady
  return [
    {
      status: 'fail',
      message: `node ${name} is away: not ready${since ? ` for ${formatAge(since, facts.readAt)}` : ''} (${message})`,
      advice: `Bring it back: its volumes are on its disks and nowhere else. Check its kubelet, and "kubectl describe node ${name}".`,
    },
  ]
}

/** What keeps the node from serving volumes, if it is there. */
function serviceProblems(facts: ClusterFacts, name: string): Problem[] {
  const node = facts.nodes.get(name)
  if (!node) return []
  // One without a daemon may be none of ours; one whose daemon finds no pool is to be.
  const isOurs = facts.ledgers.has(name) || countVolumes(facts, name) > 0 || unusablePool(facts, name) !== undefined
  const daemon = daemonProblem(facts, name)
  return [
    ...(name.length > longestNodeName
      ? [problem('fail', `its name is longer than ${longestNodeName} characters`, 'Volumes cannot be created there.')]
      : []),
    ...(node.topology
      ? []
      : [problem('fail', 'it has no label kubernetes.io/hostname', 'Give it that label: volumes are placed by it.')]),
    ...(daemon ? [{ status: isOurs ? ('fail' as const) : ('warn' as const), ...daemon }] : []),
    ...ledgerProblems(facts, name, daemon !== undefined),
    ...(daemon ? [] : registrationProblems(facts, name)),
    ...poolProblems(facts, name),
    ...orphanProblems(facts, name),
    ...leftoverProblems(facts, name),
    ...capacityProblems(facts, name),
  ]
}

/** Why a node that is there promises nothing. `isExplained`: its daemon is known not to be well. */
export function ledgerProblems(facts: ClusterFacts, name: string, isExplained: boolean): Problem[] {
  const broken = facts.brokenLedgers.get(name)
  if (broken) return [problem('fail', broken, 'Nothing can be placed there until that is fixed.')]
  if (isExplained || facts.ledgers.has(name) || facts.notRead.has('ledgers')) return []
  return [
    problem(
      'fail',
      'its daemon has not reported its pool',
      `Find out what it lacks with ${commandOn(facts, name, 'doctor')}, and from its log.`,
    ),
  ]
}

/** Why a node whose daemon serves CSI mounts no such volume. */
export function registrationProblems(facts: ClusterFacts, name: string): Problem[] {
  const ledger = facts.ledgers.get(name)
  if (!ledger || facts.notRead.has('csinodes')) return []
  if (!poolOf(ledger).fronts.includes('csi') || facts.registered.has(name)) return []
  return [
    problem(
      'fail',
      `the kubelet of node ${name} does not know our CSI driver: its CSINode has no ${csiDriverName}`,
      `Check the log of its daemon for "registration", and whether its --kubelet-dir is the kubelet's --root-dir: ${commandOn(facts, name, 'doctor')} compares them. It registers automatically once it can.`,
    ),
  ]
}

/** What the daemon of a node says of its pool, and still does. */
export function poolProblems(facts: ClusterFacts, name: string): Problem[] {
  const node = { kind: 'Node', name }
  const wrong = findFreshWarning(facts, node, because('WrongPool'))
  if (wrong)
    return [
      problem('fail', wrong.message, 'Nothing is created there until that is fixed; what is mounted keeps working.'),
    ]
  const ailing = findFreshWarning(facts, node, because('PoolProblem'))
  if (!ailing) return []
  return [problem('warn', ailing.message, `See ${commandOn(facts, name, 'pools')}, and "dmesg" on the node.`)]
}

/** What the node has of volumes without a PersistentVolume. */
function orphanProblems(facts: ClusterFacts, name: string): Problem[] {
  const orphans = findOrphans(facts, name)
  if (orphans.length === 0) return []
  return [
    problem(
      'warn',
      `${formatCount(orphans.length, 'volume')} without a PersistentVolume: ${orphans.join(', ')}`,
      `${commandOn(facts, name, 'volumes remove <name>')} removes the data; ${commandOn(facts, name, 'volumes adopt <name> --claim <namespace>/<name>')} prints a PersistentVolume for it.`,
    ),
  ]
}

/** Reasons of what a daemon finds when it looks around, every ten minutes, and cannot or may not clear away. */
const leftovers = ['MountOrphaned', 'MountNotRemoved', 'VolumeNotRemoved']
const lookMs = 15 * 60_000
const mostNamed = 5

function leftoverProblems(facts: ClusterFacts, name: string): Problem[] {
  const since = facts.readAt.getTime() - lookMs
  return warningsOf(facts, { kind: 'Node', name })
    .filter(({ reason, at }) => leftovers.includes(reason) && at.getTime() > since)
    .slice(0, mostNamed)
    .map(({ message }) => problem('warn', message, `See ${commandOn(facts, name, 'doctor')}.`))
}

/** Volumes on a node that were made for a PersistentVolume which is gone and should have taken them along. */
export function findOrphans({ ledgers, volumes, notRead }: ClusterFacts, node: string): string[] {
  if (notRead.has('persistentvolumes')) return []
  return [...(ledgers.get(node)?.entries ?? [])]
    .filter(([name, { madeFor }]) => madeFor !== undefined && !volumes.has(name))
    .map(([name]) => name)
}

/** The classes whose room on the node the scheduler does not know. */
function capacityProblems(facts: ClusterFacts, name: string): Problem[] {
  const ledger = facts.ledgers.get(name)
  const topology = facts.nodes.get(name)?.topology
  if (!ledger || !topology || facts.notRead.has('csistoragecapacities')) return []
  const untold = [...facts.classes.values()]
    .map(({ facts }) => facts)
    .filter((one) => one?.waitsForPod && isWantedBy(one, poolOf(ledger)))
    .filter((one) => !isTold(facts, one?.name ?? '', topology))
  if (untold.length === 0) return []
  return [
    problem(
      'warn',
      `the scheduler does not know its room for ${untold.map((one) => one?.name).join(', ')}: there is no CSIStorageCapacity object`,
      `The provisioner publishes it while the daemon of node ${name} renews its Lease; check the logs of both.`,
    ),
  ]
}

function isWantedBy(storageClass: Parameters<typeof readClass>[0], pool: Parameters<typeof isWanted>[1]): boolean {
  try {
    return isWanted(readClass(storageClass), pool)
  } catch {
    return false
  }
}

function problem(status: Problem['status'], message: string, advice: string): Problem {
  return { status, message, advice }
}
