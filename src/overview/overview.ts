import { freeBytes, type Ledger, poolOf, promisedBytes, takenBytes } from '../k8s/model/ledger.ts'
import { buildChain } from './chain/chain.ts'
import { findLoss, findStuck } from './chain/node-links.ts'
import { describeProvisioner } from './components.ts'
import type { ClusterFacts } from './facts.ts'
import { countVolumes, describeNodes, poolProblems } from './nodes.ts'
import type { Chain, Overview, PoolRecord, Problem, VolumeRecord } from './records.ts'
import { findSubjects, type Subject } from './subject.ts'

/** The whole cluster, for a person, a page or a script. */
export function buildOverview(facts: ClusterFacts): Overview {
  return {
    at: facts.readAt,
    provisioner: describeProvisioner(facts),
    nodes: describeNodes(facts),
    pools: [...facts.ledgers.values()].map((ledger) => describePool(facts, ledger)).sort(byKey(({ node }) => node)),
    volumes: findSubjects(facts)
      .map((subject) => describeVolume(facts, subject))
      .sort(byKey(({ claim, name }) => (claim ? `${claim.namespace}/${claim.name}` : `~${name}`))),
    notRead: [...facts.notRead].map(([kind, message]) => ({ kind, message })),
  }
}

function byKey<T>(keyOf: (one: T) => string): (a: T, b: T) => number {
  return (a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)
}

function describePool(facts: ClusterFacts, ledger: Ledger): PoolRecord {
  const { node } = ledger
  const pool = poolOf(ledger)
  return {
    node,
    name: pool.name,
    driverKind: pool.driverKind,
    sizeBytes: pool.capacityBytes,
    allocatedBytes: promisedBytes(ledger),
    freeBytes: freeBytes(ledger),
    unitBytes: pool.unitBytes,
    fronts: [...pool.fronts],
    volumes: countVolumes(facts, node),
    problems: poolProblems(facts, node),
  }
}

function describeVolume(facts: ClusterFacts, subject: Subject): VolumeRecord {
  const { name, claim, volume, promise, pods } = subject
  const chain = buildChain(facts, subject)
  const storageClass = claim?.className || volume?.className
  const whose = claim ?? volume?.claim
  const sizeBytes = promise && !promise.entry.pendingFor ? takenBytes(promise.entry) : undefined
  const createdAt = claim?.createdAt ?? volume?.createdAt
  return {
    name,
    state: stateOf(facts, subject, chain),
    ...(volume ? { front: volume.front } : {}),
    ...(whose ? { claim: { namespace: whose.namespace, name: whose.name } } : {}),
    ...(storageClass ? { storageClass } : {}),
    ...(chain.node ? { node: chain.node } : {}),
    ...(volume && (!promise || poolOf(promise.ledger).driverKind !== 'BINDMOUNT')
      ? { fsType: volume.fsType || 'ext4' }
      : {}),
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    ...(claim?.requestedBytes === undefined ? {} : { requestedBytes: claim.requestedBytes }),
    ...(volume ? { reclaimPolicy: volume.deletesData ? ('Delete' as const) : ('Retain' as const) } : {}),
    ...(createdAt ? { createdAt } : {}),
    pods: pods.map(({ name, node, phase }) => ({ name, ...(node ? { node } : {}), phase })),
    problems: problemsOf(chain),
  }
}

function stateOf(facts: ClusterFacts, { claim, volume, promise }: Subject, { links }: Chain): VolumeRecord['state'] {
  if (claim?.phase === 'Lost' || (volume && findLoss(facts, volume))) return 'lost'
  if (volume && findStuck(facts, volume)) return 'stuck'
  if (volume?.isDeleting || claim?.isDeleting) return 'removing'
  if (!volume && !claim) return promise?.entry.madeFor ? 'orphaned' : 'released'
  if (!volume) return 'pending'
  if (!claim) return volume.phase === 'Released' ? (volume.deletesData ? 'removing' : 'released') : 'pending'
  if (!promise || promise.entry.pendingFor) return 'making'
  if (links.some(({ link }) => link === 'growth')) return 'growing'
  return links.some(({ status }) => status === 'fail') ? 'failing' : 'ready'
}

/** What is wrong along a chain. */
function problemsOf({ links }: Chain): Problem[] {
  return links.flatMap(({ link: _, status, ...more }) =>
    status === 'warn' || status === 'fail' ? [{ status, ...more }] : [],
  )
}
