/** `kubectl elastic_local` under real kubectl, for a user who may only read, while one thing after another is broken. */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import type { Chain, LinkName, Overview } from '../../src/overview/records.ts'
import { type Output, run } from '../../src/run.ts'
import { growthRecovery, needing } from '../kubernetes/version.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { claim, classOn, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, executable, namespace, openElastic } from './elastic.ts'
import { isFlex } from './front.ts'
import type { Program } from './program.ts'
import { openViewer, removeStandIn, startStandIn } from './viewer.ts'

const test = suite('kubectl elastic_local')
const driver = 'volumes.k8s.elastic.co/elastic-local'
const hostnameLabel = 'kubernetes.io/hostname'
let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let provisioner: Program
let kubectl: (...args: string[]) => Promise<Output>
const nodes = new Map<string, ElasticNode>()
const nodeOf = (name: string) => nodes.get(name) as ElasticNode

const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
const claimPath = (name: string) => `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
const volumePath = (name: string) => `/api/v1/persistentvolumes/${name}`

const plugin = (...args: string[]) => kubectl('elastic_local', ...args)
const isOk = ({ status }: { status: string }) => status === 'ok'

/** Asserts that the chain of something stops at a link, with these words and this advice. */
async function explained(what: string, at: LinkName, message: RegExp, advice: RegExp, status = 'fail'): Promise<void> {
  const { exitCode, stdout } = await plugin('explain', what, '--output=json')
  const { chains, notRead } = JSON.parse(stdout) as { chains: Chain[]; notRead: Overview['notRead'] }
  const link = chains[0]?.links.find(({ link }) => link === at)
  assert.match([link?.message, ...(link?.details ?? [])].join('\n'), message, stdout)
  assert.is(link?.status, status, stdout)
  assert.match(link?.advice ?? '', advice)
  assert.is(exitCode, status === 'fail' ? 1 : 0)
  assert.equal(notRead, [])
  // For a person, the same.
  const shown = await plugin('explain', what)
  assert.match(shown.stdout, new RegExp(`^${status.toUpperCase()} +${at} `, 'm'))
  assert.is(shown.stderr, '')
}

const said = (name: string, message: RegExp) => cluster.said(name, message)
const running = (name: string) => cluster.waitFor(podPath(name), (state) => state?.status?.phase === 'Running', 120_000)
const bound = (name: string) => cluster.waitFor(claimPath(name), (state) => state?.status?.phase === 'Bound', 120_000)

const place = (name: string, node: string) => elastic.place(name, node)

test.before(async () => {
  let scratch: string
  ;({ scratch, cluster, elastic, close } = await openElastic())
  const names = ['node-1', 'node-2', 'node-3', 'node-4']
  for (const node of await Promise.all(names.map((name) => elastic.startNode({ name, diskBytes: 2 * gibibyte }))))
    nodes.set(node.name, node)
  provisioner = await elastic.startProvisioner()
  await cluster.apply(...names.map(classOn))
  // Nobody serves it here, of which the doctor would warn.
  if (isFlex) await cluster.kubectl(['delete', 'storageclass', 'elastic-local-csi', '--ignore-not-found'])
  // The others' daemons run in no pod at all, and are known by their Leases.
  await startStandIn(cluster, 'daemon', 'node-2')
  kubectl = await openViewer(cluster, scratch)
})

test.after(() => close())

test('a claim that a pod uses has a tick at every link, and the lists and the doctor find nothing wrong', async () => {
  await cluster.apply(
    claim('data', { size: '64Mi' }),
    pod('web', ['data'], { spec: { nodeSelector: { [hostnameLabel]: 'node-1' } } }),
  )
  await running('web')
  for (const what of ['data', 'pvc/data', 'pod/web', `pv/${(await bound('data')).spec.volumeName}`]) {
    const { exitCode, stdout } = await plugin('explain', what, '-o', 'json')
    const links = JSON.parse(stdout).chains[0].links as Chain['links']
    assert.is(links.length, 10)
    assert.ok(links.every(isOk), stdout)
    assert.is(exitCode, 0)
  }
  assert.match((await plugin('volumes')).stdout, /^CLAIM +STATE.*\ndata +ready +64 MiB +node-1 +web /)
  assert.match((await plugin('volumes', '-A')).stdout, /^NAMESPACE +CLAIM.*\ndefault +data +ready/)
  assert.match((await plugin('volumes', '-n', 'other')).stderr, /There are no volumes in namespace other; -A shows all/)
  assert.match((await plugin('nodes')).stdout, /^node-1 +ready +ready +\/\S+ +1$/m)
  assert.match((await plugin('pools', '-o', 'wide')).stdout, /^node-1 +\/\S+ +LOOP +[\d.]+ GiB +64 MiB +[\d.]+ GiB/m)
  const { exitCode, stdout } = await plugin('doctor')
  assert.is(exitCode, 0, stdout)
  assert.match(stdout, /\nNo problems found\.\n$/)
})

test('kubectl completes the plugin by its link', async () => {
  // The name as kubectl has it in completion; both run.
  const { stdout } = await kubectl('__complete', 'elastic-local', 'vol')
  assert.match(stdout, /^volumes\b.*\n:4\n/)
})

test('what is refused by claim or class says so', async () => {
  const immediate = { volumeBindingMode: 'Immediate' }
  await cluster.apply(
    storageClass('typo', { ...immediate, parameters: { fstype: 'xfs' } }),
    claim('typo', { class: 'typo' }),
    claim('nowhere', { class: 'not-there' }),
    storageClass('flex', { parameters: { front: 'flex' } }),
    claim('block', { class: 'flex', spec: { volumeMode: 'Block' } }),
    claim('many', { spec: { accessModes: ['ReadWriteMany'] } }),
    claim('selector', { spec: { selector: { matchLabels: { a: 'b' } } } }),
    claim('idle'),
  )
  await explained('typo', 'class', /parameters must be of fsType.*"fstype"/, /delete it, and recreate it/)
  await explained('nowhere', 'class', /there is no StorageClass not-there/, /Name a class of ours: .*elastic-local/)
  await explained('block', 'claim', /volumeMode must be Filesystem, as FlexVolumes are no block devices/, /delete it/)
  await explained('many', 'claim', /ReadWriteMany/, /delete it/)
  await explained('selector', 'claim', /it has a selector/, /delete it/)
  await explained('idle', 'scheduling', /no pod uses the claim yet/, /start a pod/, 'wait')
  await cluster.kubectl(['delete', 'pvc', 'typo', 'nowhere', 'block', 'many', 'selector', 'idle'])
})

test('what no node has room for, or a pool for, says what each node has', async () => {
  const immediate = { volumeBindingMode: 'Immediate' }
  await cluster.apply(
    storageClass('lvm', { parameters: { driverKind: 'LVM' } }),
    storageClass('lvm-now', { ...immediate, parameters: { driverKind: 'LVM' } }),
    claim('huge', { size: '100Ti' }),
    claim('kind', { class: 'lvm' }),
    claim('huge-now', { class: 'on-node-1', size: '100Ti' }),
    claim('kind-now', { class: 'lvm-now' }),
    pod('huge', ['huge']),
    pod('kind', ['kind']),
  )
  for (const name of ['huge', 'kind']) await said(name, /did not have enough free storage/)
  for (const name of ['huge-now', 'kind-now']) await said(name, /Cannot place/)
  await explained(
    'pvc/huge',
    'scheduling',
    /node-1.*GiB free, and 100 TiB is needed\n.*the scheduler, of pod huge/s,
    /Make room/,
  )
  await explained(
    'pod/kind',
    'scheduling',
    /node-1.*\(LOOP\), and the class wants a pool of driverKind LVM/,
    /^Give a node a pool of driverKind LVM, or recreate the claim with a class whose pool exists/,
  )
  await explained('huge-now', 'reservation', /Cannot place 100 TiB on node node-1/, /Make room/)
  await explained('kind-now', 'reservation', /no node that StorageClass lvm-now allows is ready/, /^Give a node a pool/)
  const { exitCode, stdout } = await plugin('doctor')
  assert.is(exitCode, 1)
  assert.match(stdout, /^FAIL +claim default\/huge /m)
  assert.match(stdout, /^WARN +class lvm +no node has what it needs, a pool of driverKind LVM/m)
  await cluster.kubectl(['delete', 'pod', 'huge', 'kind', '--force'])
  await cluster.kubectl(['delete', 'pvc', 'huge', 'kind', 'huge-now', 'kind-now'])
})

test('without a provisioner, and with a pod of it that is not there, a claim says so', async () => {
  await provisioner.kill('SIGTERM')
  await cluster.apply(claim('unled', { class: 'on-node-1', size: '64Mi' }))
  await explained(
    'unled',
    'reservation',
    /no provisioner is running: none leads/,
    /describe deployment elastic-local-provisioner/,
  )
  provisioner = await elastic.startProvisioner()
  await bound('unled')
  await cluster.kubectl(['delete', 'pvc', 'unled', '--wait=false'])
})

test('a pod whose kubelet does not find the driver says that the plugin folder is wrong', async () => {
  await place('unplugged', 'node-2')
  const { pluginDir } = nodeOf('node-2').kubelet
  await rm(join(pluginDir, driver.replace('/', '~')), { recursive: true })
  await cluster.apply(pod('unplugged', ['unplugged']))
  await said('unplugged', /no volume plugin matched|FailedMount|MountVolume/)
  await explained('pod/unplugged', 'mount', /no volume plugin matched/, /--volume-plugin-dir is not the folder/)
  await run(executable, ['install', `--plugin-dir=${pluginDir}`, `--socket=${nodeOf('node-2').socket}`])
  await cluster.kubectl(['delete', 'pod', 'unplugged', '--force'])
})

test('a pod that takes a volume without a claim, and one whose node has no daemon, say why they wait', async () => {
  const flexVolume = { driver, options: { sizeBytes: '1024' } }
  const volume = await place('guarded', 'node-2')
  await cluster.apply(pod('thief', [], { volumes: [{ name: volume, flexVolume }], spec: { nodeName: 'node-2' } }))
  await said('thief', /only a pod whose claim is bound to it may use it/)
  await explained(
    'thief',
    'mount',
    /only a pod whose claim is bound to it may use it/,
    /Use a persistentVolumeClaim in the pod/,
  )
  await cluster.kubectl(['delete', 'pod', 'thief', '--force'])

  await nodeOf('node-2').daemon.kill()
  await cluster.apply(pod('unserved', ['guarded']))
  await said('unserved', /The elastic-local daemon of this node is not running/)
  await explained(
    'pod/unserved',
    'mount',
    /The elastic-local daemon of this node is not running/,
    /Start the daemon of node node-2/,
  )
  await removeStandIn(cluster, 'daemon', 'node-2')
  await cluster.apply(claim('unmade', { class: 'on-node-2', size: '64Mi' }))
  await bound('unmade')
  // As it is some minutes later.
  const renewTime = new Date(Date.now() - 300_000).toISOString().replace('Z', '000Z')
  const lease = ['patch', 'lease', 'elastic-local.node-2.alive', `--namespace=${namespace}`]
  await cluster.kubectl([...lease, '--type=merge', '--patch', JSON.stringify({ spec: { renewTime } })])
  await explained(
    'unmade',
    'node',
    /the daemon of node node-2 last reported 5m(\d+s)? ago/,
    /Start it.*describe daemonset/,
  )
  const [, late] = [await plugin('nodes'), await plugin('volumes')]
  assert.match(late.stdout, /^unmade +making/m)
  await elastic.restartDaemon(nodeOf('node-2'))
  await startStandIn(cluster, 'daemon', 'node-2')
  await running('unserved')
})

needing(test, growthRecovery)('growth that is refused says so, and what takes it back', async () => {
  const requests = (storage: string) => JSON.stringify({ spec: { resources: { requests: { storage } } } })
  await cluster.kubectl(['patch', 'pvc', 'data', '--patch', requests('100Ti')])
  const isRefused = (state: KubeObject | undefined) =>
    state?.status?.allocatedResourceStatuses?.storage === 'NodeResizeInfeasible'
  await cluster.waitFor(claimPath('data'), isRefused, 120_000)
  await explained(
    'pvc/data',
    'growth',
    /it does not grow from 64 MiB to 100 TiB: Cannot grow pvc-/,
    /Lower the request/,
  )
})

test('data that is lost, and a pool that is another, say so', async () => {
  const volume = await place('lost', 'node-3')
  await elastic.loseVolume(nodeOf('node-3'), volume)
  await said(volume, /its data is lost/)
  await explained(
    'lost',
    'volume',
    /its data is lost, or its disk is missing/,
    /kubectl annotate pv .*make-lost-anew=true/,
  )
  assert.match((await plugin('volumes')).stdout, /^lost +lost/m)

  await nodeOf('node-3').daemon.kill()
  await writeFile(
    join(nodeOf('node-3').volumesDir, '.elastic-local/pool/pool.json'),
    '{"id":"0f0e0d0c-1111-2222-3333-444455556666"}',
  )
  await elastic.restartDaemon(nodeOf('node-3'))
  await said('node-3', /is not the one that its volumes were created in/)
  await explained('lost', 'node', /is not the one that its volumes were created in/, /Nothing is created there/)
})

test('a filesystem that is gone, and a pod that keeps its volume, say so in the list of the cluster and of the node', async () => {
  const volume = await place('wiped', 'node-1')
  const node = nodeOf('node-1')
  await run('dd', [
    'if=/dev/zero',
    `of=${join(node.volumesDir, '.elastic-local/loop', `${volume}.img`)}`,
    'bs=1M',
    'count=8',
    'conv=notrunc',
  ])
  await elastic.restartDaemon(node)
  await cluster.apply(pod('wiped', ['wiped']))
  await said(volume, /its filesystem is lost/)
  await explained(
    'pvc/wiped',
    'volume',
    /it is blank, and its filesystem is lost/,
    /Restore it from a backup, or delete its claim/,
  )
  assert.match((await plugin('volumes')).stdout, /^wiped +lost/m)
  const [view] = ((await elastic.ask(node.socket, '/v1/volumes')).volumes as KubeObject[]).filter(
    ({ name }) => name === volume,
  )
  assert.equal([view?.state, view?.failure.operation, view?.front], ['lost', 'mount', 'flex'])
  await cluster.kubectl(['delete', 'pod', 'wiped', '--force'])
})

test('a PersistentVolume that somebody took away leaves a lost claim, and an orphan on its node', async () => {
  const volume = await place('taken', 'node-2')
  const isKnown = async () => (await plugin('volumes', '-A')).stdout
  await cluster.kubectl(['delete', 'pv', volume, '--wait=false'])
  await cluster.kubectl(['patch', 'pv', volume, '--type=merge', '--patch', '{"metadata":{"finalizers":null}}'])
  await cluster.waitFor(claimPath('taken'), (state) => state?.status?.phase === 'Lost', 120_000)
  await explained(
    'taken',
    'claim',
    /it is Lost/,
    new RegExp(`is still on node node-2: "kubectl exec .*volumes adopt ${volume}`),
  )
  await cluster.kubectl(['delete', 'pvc', 'taken'])
  await explained(volume, 'persistent volume', /the volume is orphaned/, /volumes remove/)
  assert.match(await isKnown(), new RegExp(`orphaned +64 MiB +node-2 .* ${volume}`))
})

test('a deletion says whom it waits for: pods, and a node that is away; and a node that is gone is one', async () => {
  await cluster.kubectl(['delete', 'pvc', 'guarded', '--wait=false'])
  await explained(
    'guarded',
    'removal',
    /the claim is deleted when its pods are gone: unserved/,
    /Delete those pods/,
    'wait',
  )
  const [away, gone] = [await place('away', 'node-4'), await place('gone', 'node-4')]
  await Promise.all([nodeOf('node-4').kubelet.kill(), nodeOf('node-4').daemon.kill()])
  // As the controller manager says after 50 s.
  const status = {
    conditions: [
      {
        type: 'Ready',
        status: 'Unknown',
        reason: 'NodeStatusUnknown',
        message: 'Kubelet stopped posting node status.',
      },
    ],
  }
  await cluster.kubectl(['patch', 'node', 'node-4', '--subresource=status', '--patch', JSON.stringify({ status })])
  await explained('gone', 'node', /node node-4 is away/, /Bring it back/)
  await cluster.kubectl(['delete', 'pvc', 'away', '--wait=false'])
  await cluster.waitFor(volumePath(away), (state) => state?.metadata.deletionTimestamp !== undefined, 120_000)
  await explained(`pv/${away}`, 'removal', /it waits for its node: node node-4 is away/, /Bring it back/)
  await cluster.kubectl(['delete', 'node', 'node-4'])
  await explained(`pv/${gone}`, 'node', /node node-4 is gone/, /delete their claims/)
  assert.match((await plugin('nodes')).stdout, /^node-4 +gone/m)
})

test('what is wrong on the command line, or with the cluster, is one line', async () => {
  for (const [args, code, message] of [
    [['explain', 'none'], 1, /Cannot find a claim or pod none in namespace default/],
    [['explain'], 2, /must be: kubectl elastic_local explain/],
    [['explain', 'node/x'], 2, /it must be pvc, pod, pv, .*"kubectl elastic_local nodes" shows it/],
    [['pool'], 2, /Did you mean pools\?/],
    [['mount'], 2, /There is no command mount/],
    [['nodes', '--context=none'], 1, /Cannot use context none/],
    [['nodes', '--kubeconfig=./none'], 1, /Cannot read \/.*\/none/],
  ] as const) {
    const { exitCode, stdout, stderr } = await plugin(...args)
    assert.is(exitCode, code, stderr)
    assert.is(stdout, '')
    assert.match(stderr, message)
  }
})

test.run()
