import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { claimsPath, ledgerPath, volumesPath } from '../../test/memory-cluster.ts'
import { ago, csiDriverPath, halfGibibyte, nodePath, now, World } from '../../test/overview-world.ts'
import { suite } from '../../test/suite.ts'
import { toJson } from '../json.ts'
import { made } from '../k8s/model/ledger.ts'
import { examineCluster } from './examine.ts'
import { buildOverview } from './overview.ts'
import type { VolumeRecord } from './records.ts'

const test = suite('overview')
const gibibyte = 1n << 30n

test('buildOverview() gives nodes, pools and volumes of a cluster in which all is well', async () => {
  const world = new World()
  const volume = world.addBound('data', 'node-1')
  world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running' })
  const { at, provisioner, nodes, pools, volumes, notRead } = buildOverview(await world.read())
  assert.equal([at, notRead], [now, []])
  assert.equal(provisioner, { leader: 'provisioner', renewedAt: now, pods: 1, readyPods: 1, problems: [] })
  assert.equal(
    nodes.map(({ name, hostname, state, schedulable, daemon, daemonPod, fronts, pool, volumes, problems }) => [
      ...[name, hostname, state, schedulable, daemon, daemonPod, fronts?.join(), pool, volumes, problems],
    ]),
    [
      ['node-1', 'host-node-1', 'ready', true, 'ready', 'daemon-node-1', 'flex,csi', 'vg', 1, []],
      ['node-2', 'host-node-2', 'ready', true, 'ready', 'daemon-node-2', 'flex,csi', 'vg', 0, []],
    ],
  )
  const pool = {
    name: 'vg',
    driverKind: 'LVM',
    sizeBytes: 10n * gibibyte,
    unitBytes: 4n << 20n,
    fronts: ['flex', 'csi'],
  }
  assert.equal(pools, [
    {
      node: 'node-1',
      ...pool,
      allocatedBytes: halfGibibyte,
      freeBytes: 10n * gibibyte - halfGibibyte,
      volumes: 1,
      problems: [],
    },
    { node: 'node-2', ...pool, allocatedBytes: 0n, freeBytes: 10n * gibibyte, volumes: 0, problems: [] },
  ])
  const [{ createdAt, ...record } = {} as VolumeRecord] = volumes
  assert.instance(createdAt, Date)
  assert.equal(record, {
    name: volume,
    state: 'ready',
    front: 'flex',
    claim: { namespace: 'default', name: 'data' },
    storageClass: 'elastic-local',
    node: 'node-1',
    fsType: 'ext4',
    sizeBytes: halfGibibyte,
    requestedBytes: halfGibibyte,
    reclaimPolicy: 'Delete',
    pods: [{ name: 'web', node: 'node-1', phase: 'Running' }],
    problems: [],
  })
})

test('buildOverview() tells each state of a volume', async () => {
  const world = new World()
  const claimPath = (name: string) => `${claimsPath}/${name}`
  const change = (volume: string, patch: object) => world.server.change(`${volumesPath}/${volume}`, patch)
  const drop = (volume: string) => {
    change(volume, { metadata: { finalizers: [] } })
    world.server.delete(`${volumesPath}/${volume}`)
  }
  world.addClaim('pending')
  world.promise('node-1', world.addBound('making', 'node-1'), { pendingFor: 'default/making' })
  world.addBound('ready', 'node-1')
  world.addBound('growing', 'node-1')
  world.server.change(claimPath('growing'), { spec: { resources: { requests: { storage: '1Gi' } } } })
  const removing = world.addBound('removing', 'node-1')
  world.server.delete(claimPath('removing'))
  world.server.delete(`${volumesPath}/${removing}`)
  const released = world.addBound('released', 'node-1')
  change(released, { spec: { persistentVolumeReclaimPolicy: 'Retain' }, status: { phase: 'Released' } })
  world.server.delete(claimPath('released'))
  drop(world.addBound('lost', 'node-1'))
  world.server.change(claimPath('lost'), { status: { phase: 'Lost' } })
  const gone = world.addBound('gone', 'node-1')
  world.say(`${volumesPath}/${gone}`, 'VolumeNotMade', 'Cannot find it: its data is lost, or its disk is missing.')
  // Also where something else, before it in the chain, keeps the node from its work.
  const away = world.addBound('away', 'node-2')
  world.say(`${volumesPath}/${away}`, 'VolumeLost', 'Cannot mount it: its filesystem is lost.')
  world.removeDaemon('node-2')
  world.addBound('failing', 'node-2')
  const stuck = world.addBound('stuck', 'node-1')
  world.say(`${volumesPath}/${stuck}`, 'VolumeNotUnmounted', 'Cannot unmount it: target is busy.')
  const held = world.addBound('held', 'node-1')
  world.server.delete(claimPath('held'))
  world.server.delete(`${volumesPath}/${held}`)
  world.say(`${volumesPath}/${held}`, 'VolumeNotRemoved', 'Cannot remove it as process 1 has it open.')
  const orphan = world.addBound('orphan', 'node-1')
  world.server.delete(claimPath('orphan'))
  drop(orphan)
  const { volumes } = buildOverview(await world.read())
  assert.equal(Object.fromEntries(volumes.map(({ claim, state }) => [claim?.name ?? '', state])), {
    pending: 'pending',
    making: 'making',
    ready: 'ready',
    growing: 'growing',
    removing: 'removing',
    released: 'released',
    lost: 'lost',
    gone: 'lost',
    away: 'lost',
    failing: 'failing',
    stuck: 'stuck',
    held: 'stuck',
    '': 'orphaned',
  })
})

test('buildOverview() counts a volume once, and leaves out those of other drivers', async () => {
  const world = new World()
  world.addBound('data', 'node-1')
  world.server.create(volumesPath, { metadata: { name: 'nfs-1' }, spec: { nfs: {}, capacity: { storage: '1Gi' } } })
  world.server.create(claimsPath, {
    metadata: { name: 'theirs' },
    spec: { volumeName: 'nfs-1', storageClassName: 'nfs' },
  })
  assert.equal(
    buildOverview(await world.read()).volumes.map(({ claim }) => claim?.name),
    ['data'],
  )
})

test('buildOverview() knows a node that is gone by what is left of it', async () => {
  const world = new World()
  world.addBound('data', 'node-1')
  world.server.delete(nodePath('node-1'))
  const [node] = buildOverview(await world.read()).nodes
  assert.equal([node?.name, node?.state, node?.volumes], ['node-1', 'gone', 1])
  assert.match(node?.problems[0]?.message ?? '', /node node-1 is gone/)
})

/** What the doctor says that is not well. */
async function complaints(world: World): Promise<string[]> {
  const facts = await world.read()
  return examineCluster(facts, buildOverview(facts))
    .filter(({ status }) => status !== 'ok')
    .map(({ status, check, message, advice }) => `${status} ${check}: ${message} → ${advice}`)
}

test('examineCluster() has nothing to say of a cluster in which all is well', async () => {
  const world = new World()
  // Over, as its daemon is well.
  world.say(nodePath('node-1'), 'PoolNotUsable', 'Cannot read volume group vg; make it')
  world.addBound('data', 'node-1')
  world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running' })
  assert.equal(await complaints(world), [])
  // Daemons that run in no pods, and a provisioner beside the cluster.
  for (const name of ['daemon-node-1', 'daemon-node-2', 'provisioner']) world.breakComponent(name)
  assert.equal(await complaints(world), [])
})

const troubles: [title: string, set: (world: World) => void, expected: RegExp][] = [
  [
    'no provisioner',
    (world) => world.lead(ago(3600)),
    /^fail provisioner: no provisioner is running: the last leader reported 1h ago/,
  ],
  [
    'no CSIDriver object',
    (world) => world.server.delete(csiDriverPath),
    /^warn scheduling: the scheduler does not know the room/,
  ],
  [
    'no CSIDriver object, where there are volumes of CSI',
    (world) => {
      world.addBound('data', 'node-1', 'csi')
      world.server.delete(csiDriverPath)
    },
    /^fail CSI driver: there is no CSIDriver object .* wait for an attachment that never comes → Apply deploy\.yaml/,
  ],
  [
    'a CSIDriver object that has volumes attached',
    (world) => world.server.change(csiDriverPath, { spec: { attachRequired: null } }),
    /^fail CSI driver: .* must have attachRequired: false.* → Delete it and apply deploy\.yaml again/,
  ],
  [
    'a CSIDriver object that lets pods name volumes themselves',
    (world) => world.server.change(csiDriverPath, { spec: { volumeLifecycleModes: ['Persistent', 'Ephemeral'] } }),
    /^fail CSI driver: .* must have volumeLifecycleModes: \[Persistent\]/,
  ],
  [
    'a CSIDriver object with another fsGroupPolicy, and without the pods that volumes are for',
    (world) => world.server.change(csiDriverPath, { spec: { fsGroupPolicy: 'None', podInfoOnMount: false } }),
    /^warn CSI driver: .* must have fsGroupPolicy: File: .* it is None/,
  ],
  [
    'a kubelet that does not know the CSI driver',
    (world) => world.unregister('node-2'),
    /^fail node node-2: the kubelet of node node-2 does not know our CSI driver/,
  ],
  [
    'a class that wants a pool that no node has',
    (world) => world.addClass('loop', { parameters: { driverKind: 'LOOP' } }),
    /^warn class loop: no node has what it needs, a pool of driverKind LOOP: there is vg \(LVM\) → Its claims/,
  ],
  [
    'a class with a typo',
    (world) => world.addClass('typo', { parameters: { size: '1' } }),
    /^fail class typo: Cannot use StorageClass typo as its parameters must be of/,
  ],
  [
    'no class of ours',
    (world) => world.server.delete('/apis/storage.k8s.io/v1/storageclasses/elastic-local'),
    /^fail classes: there is no StorageClass of ours/,
  ],
  [
    'a node without a daemon',
    (world) => world.removeDaemon('node-2'),
    /^fail node node-2: there is no elastic-local daemon/,
  ],
  [
    'a node that is none of ours',
    (world) =>
      world.server.create('/api/v1/nodes', {
        metadata: { name: 'bare', labels: { 'kubernetes.io/hostname': 'bare' } },
        status: { conditions: [{ type: 'Ready', status: 'True' }] },
      }),
    /^warn node bare: there is no elastic-local daemon/,
  ],
  [
    'a node without the label that volumes are placed by',
    (world) => world.server.change(nodePath('node-1'), { metadata: { labels: null } }),
    /^fail node node-1: it has no label kubernetes\.io\/hostname/,
  ],
  [
    'a daemon that has not said what it has',
    (world) => world.server.delete('/api/v1/namespaces/elastic-local/configmaps/elastic-local.node-1.ledger'),
    /^fail node node-1: its daemon has not reported its pool/,
  ],
  [
    'room that the scheduler is not told of',
    (world) => world.untell(),
    /^warn node node-1: the scheduler does not know its room for elastic-local/,
  ],
  [
    'what a daemon says of its pool',
    (world) => world.say(nodePath('node-1'), 'PoolProblem', 'Pool vg (LVM): its metadata area is nearly full.'),
    /^warn node node-1: Pool vg \(LVM\): its metadata area is nearly full/,
  ],
  [
    'a mount that nobody took away',
    (world) =>
      world.say(nodePath('node-1'), 'MountOrphaned', 'Volume pvc-1 is mounted for a pod that is gone.', {
        secondsAgo: 600,
      }),
    /^warn node node-1: Volume pvc-1 is mounted for a pod that is gone/,
  ],
  [
    'an orphan',
    (world) => world.promise('node-1', 'pvc-0f0e0d0c-1111-2222-3333-444455556666', { madeFor: 'uid' }),
    /^warn node node-1: 1 volume without a PersistentVolume: pvc-0f0e0d0c/,
  ],
  [
    'a pool that is nearly full',
    (world) => {
      world.server.change(ledgerPath('node-1'), {
        data: { a: toJson(made(undefined, (10n * gibibyte * 95n) / 100n, undefined)) },
      })
    },
    /^warn pool of node-1: vg is nearly full: 512 MiB of 10 GiB are free/,
  ],
  [
    'a pool that cannot be used',
    (world) => {
      world.server.delete(ledgerPath('node-1'))
      world.breakComponent('daemon-node-1', 'CrashLoopBackOff')
      world.say(nodePath('node-1'), 'PoolNotUsable', 'Cannot read volume group vg; make it', { secondsAgo: 400 })
    },
    /^fail node node-1: the daemon of node node-1 cannot use its pool: Cannot read volume group vg.*delete pod daemon-node-1/,
  ],
  [
    'a pod that names our driver itself',
    (world) =>
      world.addPod('thief', {
        spec: { volumes: [{ name: 'v', flexVolume: { driver: 'volumes.k8s.elastic.co/elastic-local' } }] },
      }),
    /^fail pod default\/thief: volume v of pod thief is a flexVolume of our driver/,
  ],
  [
    'a claim that cannot be served',
    (world) => {
      world.addClass('directories', { parameters: { front: 'csi', driverKind: 'BINDMOUNT' } })
      return world.addClaim('block', { class: 'directories', spec: { volumeMode: 'Block' } })
    },
    /^fail claim default\/block: .*volumeMode must be Filesystem, as volumes of driverKind BINDMOUNT are directories/,
  ],
  [
    'rights that are missing',
    (world) => {
      world.server.policy = ({ path }) => (path === '/api/v1/pods' ? 403 : undefined)
    },
    /^warn rights: pods are not checked: .*403.* → config\/viewer\.yaml/,
  ],
]
for (const [title, set, expected] of troubles)
  test(`examineCluster() tells of ${title}, with what to do`, async () => {
    const world = new World()
    set(world)
    const found = await complaints(world)
    assert.ok(
      found.some((line) => expected.test(line)),
      found.join('\n'),
    )
    assert.ok(
      found.every((line) => !line.endsWith('→ undefined')),
      found.join('\n'),
    )
  })

test('the shape of the JSON is in the docs, word for word', async () => {
  const root = join(import.meta.dirname, '../..')
  const [source, page] = await Promise.all(
    ['src/overview/records.ts', 'docs/kubectl.md'].map((path) => readFile(join(root, path), 'utf8')),
  )
  const shown = /```ts\n(.*?)```/s.exec(page ?? '')?.[1]
  assert.is(shown, source)
})

test('the JSON holds sizes as texts and times in ISO 8601', async () => {
  const world = new World()
  world.addBound('data', 'node-1')
  const { at, pools, volumes } = JSON.parse(toJson(buildOverview(await world.read())))
  assert.is(at, now.toISOString())
  assert.is(pools[1].freeBytes, String(10n * gibibyte))
  assert.is(volumes[0].sizeBytes, String(halfGibibyte))
  assert.match(volumes[0].createdAt, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
})

test.run()
