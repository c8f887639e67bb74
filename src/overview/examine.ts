import { csiDriverName } from '../csi/driver.ts'
import { type Finding, fail, ok, warn } from '../doctor/finding.ts'
import type { FrontName } from '../k8s/fronts/front.ts'
import { describePool, describeWish, readClass } from '../k8s/model/claim.ts'
import { poolOf } from '../k8s/model/ledger.ts'
import { formatBytes, formatCount } from '../text/quantity.ts'
import { messageOf } from '../volume/errors.ts'
import { driverProblems } from './chain/registration.ts'
import type { ClusterFacts } from './facts.ts'
import { inlineProblem } from './mounts.ts'
import { adviseOnMove } from './moves.ts'
import { hasPool } from './places.ts'
import type { Overview, PoolRecord, Problem } from './records.ts'
import { isOver } from './subject.ts'

/** The doctor of a whole cluster: what is well, what is not, and what to do. */
export function examineCluster(facts: ClusterFacts, { provisioner, nodes, pools, volumes }: Overview): Finding[] {
  const total = (sizes: readonly bigint[]) => formatBytes(sizes.reduce((sum, size) => sum + size, 0n))
  return [
    ...[...facts.notRead].map(([kind, why]) =>
      warn('rights', `${kind} are not checked: ${why}`, 'config/viewer.yaml grants the rights that this needs.'),
    ),
    ...orOk('provisioner', provisioner.problems, () => `${provisioner.leader ?? 'one'} leads`),
    ...examineDriver(facts),
    ...examineScheduling(facts),
    ...examineClasses(facts),
    ...nodes.flatMap((node) =>
      orOk(`node ${node.name}`, node.problems, () => `it is ${node.state}${node.schedulable ? '' : ', and cordoned'}`),
    ),
    ...(pools.length > 0
      ? [
          ok(
            'pools',
            `${formatCount(pools.length, 'pool')}, ${total(pools.map(({ freeBytes }) => freeBytes))} of ${total(pools.map(({ sizeBytes }) => sizeBytes))} free`,
          ),
        ]
      : []),
    ...pools.filter(isNearlyFull).map(examinePool),
    ...volumes.flatMap(({ claim, name, problems }) =>
      findings(claim ? `claim ${claim.namespace}/${claim.name}` : `volume ${name}`, problems),
    ),
    ...(volumes.every(({ problems }) => problems.length === 0)
      ? [ok('volumes', volumes.length > 0 ? `${formatCount(volumes.length, 'volume')}, all healthy` : 'there are none')]
      : []),
    ...examineFronts(facts),
    ...facts.pods
      .filter((pod) => !isOver(pod))
      .flatMap((pod) =>
        findings(
          `pod ${pod.namespace}/${pod.name}`,
          pod.inline.map((volume) => inlineProblem(facts, pod, volume)),
        ),
      ),
  ]
}

/** As the alert ElasticLocalPoolNearlyFull has it. */
function isNearlyFull({ allocatedBytes, sizeBytes }: PoolRecord): boolean {
  return allocatedBytes * 10n > sizeBytes * 9n
}

function examinePool({ node, name, freeBytes, sizeBytes }: PoolRecord): Finding {
  return warn(
    `pool of ${node}`,
    `${name} is nearly full: ${formatBytes(freeBytes)} of ${formatBytes(sizeBytes)} are free`,
    'New claims and growth will be refused there: delete claims, or add a disk (docs/maintenance.md).',
  )
}

function orOk(check: string, problems: readonly Problem[], well: () => string): Finding[] {
  return problems.length > 0 ? findings(check, problems) : [ok(check, well())]
}

function findings(check: string, problems: readonly Problem[]): Finding[] {
  return problems.map((problem) => ({ check, ...problem }))
}

/** Whether Kubernetes knows how our CSI driver is to be treated. */
function examineDriver(facts: ClusterFacts): Finding[] {
  if (facts.notRead.has('csidrivers')) return []
  return orOk('CSI driver', driverProblems(facts), () => `CSIDriver ${csiDriverName} is correct`)
}

/** Whether the scheduler goes by the room that nodes have. */
function examineScheduling({ csiDriver, notRead }: ClusterFacts): Finding[] {
  if (notRead.has('csidrivers')) return []
  if (csiDriver?.countsCapacity) return [ok('scheduling', 'the scheduler knows the room that nodes have')]
  return [
    warn(
      'scheduling',
      `the scheduler does not know the room that nodes have: there is no CSIDriver object ${csiDriverName} with storageCapacity: true`,
      'Apply deploy.yaml again.',
    ),
  ]
}

/** How many volumes each front has, and moves from one to the other that stand still. */
function examineFronts({ volumes, ledgers, moves }: ClusterFacts): Finding[] {
  const count = (front: FrontName) => volumes.values().reduce((sum, one) => sum + Number(one.front === front), 0)
  const isServed = ledgers.values().some((ledger) => poolOf(ledger).fronts.includes('csi'))
  const left = count('flex')
  const advice = left > 0 && isServed ? '; "kubectl elastic_local volumes move-to-csi" moves those' : ''
  const counted = `${count('csi')} by CSI, ${left} left on FlexVolume${advice}`
  return [
    ...(volumes.size > 0 ? [ok('fronts', counted)] : []),
    ...moves.moves.map((move) =>
      warn(
        `move of ${move.facts.claim.namespace}/${move.facts.claim.name}`,
        `the move of ${move.name} to ${move.to} was started ${move.begunAt.toISOString()} and is not finished`,
        adviseOnMove(move),
      ),
    ),
    ...moves.wrongs.map((wrong) => fail('moves', wrong, 'docs/csi.md explains moves.')),
  ]
}

function examineClasses(facts: ClusterFacts): Finding[] {
  const { classes, ledgers, notRead } = facts
  if (notRead.has('storageclasses')) return []
  const ours = [...classes.values()].map(({ facts }) => facts).filter((one) => one !== undefined)
  if (ours.length === 0)
    return [fail('classes', 'there is no StorageClass of ours: no claim gets a volume', 'Apply deploy.yaml again.')]
  return ours.map((storageClass) => {
    const check = `class ${storageClass.name}`
    try {
      const wish = readClass(storageClass)
      if (ledgers.size > 0 && !hasPool(facts, storageClass)) {
        const there = new Set(ledgers.values().map((ledger) => describePool(poolOf(ledger), wish)))
        return warn(
          check,
          `no node has what it needs, ${describeWish(wish)}: there is ${[...there].join(', ')}`,
          'Its claims get no volume. Give a node such a pool, or delete the class.',
        )
      }
      return ok(
        check,
        storageClass.waitsForPod ? 'creates a volume where its first pod runs' : 'creates a volume at once',
      )
    } catch (error) {
      return fail(
        check,
        messageOf(error),
        'A class cannot be changed: delete it, and recreate it with the right value.',
      )
    }
  })
}
