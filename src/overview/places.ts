import {
  type ClaimFacts,
  type ClassFacts,
  describePool,
  describeWish,
  isWanted,
  type PoolWish,
  readClass,
  wishOf,
} from '../k8s/model/claim.ts'
import { freeBytes, poolOf } from '../k8s/model/ledger.ts'
import { formatTopology, isAllowed, type Topology } from '../k8s/model/node.ts'
import { formatBytes, formatCount } from '../text/quantity.ts'
import { minimumBytes } from '../volume/host.ts'
import { roundUp } from '../volume/size.ts'
import { findDaemon, unusablePool } from './components.ts'
import type { ClusterFacts, NodeState } from './facts.ts'
import { indexed } from './indexed.ts'

/** What a node is to a volume that is to be placed. */
export interface Place {
  node: string
  fits: boolean
  /** Why it does not fit, or what room it has. */
  reason: string
  /** What would have to be another, where it does not fit. */
  lacks?: 'room' | 'pool' | 'node'
}

/** What each node is to the volume of a claim of that class, in the order of their names. The class must be a right one. */
export function findPlaces(
  facts: ClusterFacts,
  storageClass: ClassFacts,
  claim: Pick<ClaimFacts, 'volumeMode'> & { requestedBytes?: bigint },
): readonly Place[] {
  const wish = wishOf(claim, readClass(storageClass))
  const { requestedBytes = 0n } = claim
  const least = minimumBytes[wish.fsType]
  const wanted = requestedBytes > least ? requestedBytes : least
  const key = `${storageClass.name}/${claim.volumeMode}/${wanted}`
  const found =
    knownPlaces(facts).get(key) ??
    [...facts.nodes.values()]
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map((node) => ({ node: node.name, ...judge(facts, node, storageClass, wish, wanted) }))
  knownPlaces(facts).set(key, found)
  return found
}

/** Whether a node has a pool that the class wants, full or not. */
export function hasPool(facts: ClusterFacts, storageClass: ClassFacts): boolean {
  try {
    const wish = readClass(storageClass)
    return facts.ledgers.values().some((ledger) => isWanted(wish, poolOf(ledger)))
  } catch {
    return false
  }
}

/** By class, mode and size: many claims want the same. */
const knownPlaces = indexed(() => new Map<string, readonly Place[]>())

/** Whether the scheduler knows what room the class has on nodes with that label. */
export function isTold(facts: ClusterFacts, className: string, topology: Topology): boolean {
  return toldRoom(facts).has(`${className}/${formatTopology(topology)}`)
}

const toldRoom = indexed(
  ({ capacities }) => new Set(capacities.map(({ className, topology }) => `${className}/${topology}`)),
)

function judge(
  facts: ClusterFacts,
  node: NodeState,
  storageClass: ClassFacts,
  wish: PoolWish,
  wanted: bigint,
): Omit<Place, 'node'> {
  const no = (reason: string, lacks: Place['lacks'] = 'node') => ({ fits: false, reason, lacks })
  if (!node.isReady) return no('is not ready')
  if (!node.isSchedulable) return no('is cordoned')
  if (!node.topology) return no('has no label kubernetes.io/hostname')
  if (!isAllowed(node.labels, storageClass.topologies)) return no("is not in the class's allowedTopologies")
  const broken = facts.brokenLedgers.get(node.name)
  if (broken) return no(`has a ledger that cannot be read: ${broken}`)
  const ledger = facts.ledgers.get(node.name)
  if (!ledger) return no(missingLedger(facts, node.name))
  const pool = poolOf(ledger)
  if (!isWanted(wish, pool))
    return no(
      `has pool ${describePool(pool, wish)}, and the ${wish.isBlock ? 'claim' : 'class'} wants ${describeWish(wish)}`,
      'pool',
    )
  const free = freeBytes(ledger)
  if (roundUp(wanted, pool.unitBytes) > free)
    return no(
      `has ${formatBytes(free)} of ${formatBytes(pool.capacityBytes)} free, and ${formatBytes(wanted)} is needed`,
      'room',
    )
  const isUntold = !isTold(facts, storageClass.name, node.topology) && !facts.notRead.has('csistoragecapacities')
  if (storageClass.waitsForPod && facts.csiDriver?.countsCapacity && isUntold)
    return no('has room, but the scheduler does not know of it: there is no CSIStorageCapacity object for the class')
  return { fits: true, reason: `has room: ${formatBytes(free)} free` }
}

function missingLedger(facts: ClusterFacts, node: string): string {
  if (facts.notRead.has('ledgers')) return 'may have room: you may not read its ledger'
  const { state } = findDaemon(facts, node)
  const unusable = unusablePool(facts, node)
  if (unusable) return `cannot use its pool: ${unusable}`
  if (state === 'missing') return 'has no elastic-local daemon'
  return `has not reported its pool: its daemon ${state === 'ready' ? 'could not' : 'is unhealthy'}`
}

/** How many nodes with the same reason are named. */
const mostNamed = 5

/** The places, one line for each reason, those that fit last. */
export function describePlaces(places: readonly Place[]): string[] {
  const byReason = Map.groupBy(places, ({ reason }) => reason)
  return [...byReason]
    .sort(([, [a]], [, [b]]) => Number(a?.fits) - Number(b?.fits))
    .map(([reason, same]) => {
      const names = same.slice(0, mostNamed).map(({ node }) => node)
      const more = same.length > mostNamed ? ` and ${formatCount(same.length - mostNamed, 'more node')}` : ''
      return `${names.join(', ')}${more}: ${reason}`
    })
}
