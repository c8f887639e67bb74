import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { request } from '../../src/daemon/client.ts'
import { readMountTable } from '../../src/mount/table.ts'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import { promisedEntry } from './agreement.ts'
import type { KubeObject } from './api.ts'
import { callOutsFor } from './call-outs.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, namespace, openElastic } from './elastic.ts'
import { front, isFlex, placeOf } from './front.ts'
import type { Program } from './program.ts'

const test = suite('nodes that go and come')
let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let provisioner: Program
const nodes = new Map<string, ElasticNode>()

const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
const claimPath = (name: string) => `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
const volumePath = (name: string) => `/api/v1/persistentvolumes/${name}`
const ledgerPath = (node: string) => `/api/v1/namespaces/${namespace}/configmaps/elastic-local.${node}.ledger`
const eventsPath = '/api/v1/namespaces/default/events'
const isGone = (object: unknown) => object === undefined
const running = (name: string) => cluster.waitFor(podPath(name), (state) => state?.status?.phase === 'Running', 120_000)
const gone = (path: string) => cluster.waitFor(path, isGone, 120_000)
const remove = (kind: string, ...names: string[]) => cluster.kubectl(['delete', kind, ...names, '--wait=false'])
const nodeOf = (name: string) => nodes.get(name) as ElasticNode

/** A class that makes volumes on one node, at once. */
const classOn = (node: string, more: object = {}) => ({
  volumeBindingMode: 'Immediate',
  allowedTopologies: [{ matchLabelExpressions: [{ key: 'kubernetes.io/hostname', values: [node] }] }],
  ...more,
})

/** Makes a claim on a node and gives its volume, which is made there. */
async function place(name: string, className: string): Promise<string> {
  await cluster.apply(claim(name, { class: className, size: '64Mi' }))
  const bound = await cluster.waitFor(claimPath(name), (state) => state?.status?.phase === 'Bound', 120_000)
  const { volumeName } = bound.spec
  await made(volumeName)
  return volumeName
}

/** Resolves with the node of a volume when its daemon has made it. */
async function made(volume: string): Promise<string> {
  const { metadata } = await cluster.api.request('GET', volumePath(volume))
  const node = String(metadata.labels?.['volumes.k8s.elastic.co/node-affinity'])
  await cluster.waitFor(ledgerPath(node), (state) => /^((?!pendingFor).)+$/.test(state?.data[volume] ?? ''), 120_000)
  return node
}

const image = (node: string, volume: string) => join(nodeOf(node).volumesDir, '.elastic-local/loop', `${volume}.img`)

async function eventsOf(reason: string): Promise<KubeObject[]> {
  const { items } = await cluster.api.request('GET', eventsPath)
  return items.filter((event: KubeObject) => event.reason === reason)
}

async function leave(name: string): Promise<void> {
  const { kubelet, daemon } = nodeOf(name)
  await Promise.all([kubelet.kill(), daemon.kill()])
}

/** A provisioner with other flags takes the place of the one that runs. */
async function lead(flags: Readonly<Record<string, string>>): Promise<void> {
  await provisioner?.kill('SIGTERM')
  provisioner = await elastic.startProvisioner(flags)
}

test.before(async () => {
  ;({ cluster, elastic, close } = await openElastic())
  const names = ['node-1', 'node-2', 'node-3']
  for (const node of await Promise.all(names.map((name) => elastic.startNode({ name, diskBytes: 2 * gibibyte }))))
    nodes.set(node.name, node)
  await cluster.apply(
    ...names.map((name) => storageClass(`on-${name}`, classOn(name))),
    storageClass('kept', classOn('node-3', { reclaimPolicy: 'Retain' })),
    storageClass('anywhere', { volumeBindingMode: 'Immediate' }),
  )
  await lead({ 'node-gone-grace': '86400' })
})

test.after(() => close())

test('while a node is away, deletion of its volumes waits and that of others goes on; when it is back, its data is removed', async () => {
  const [away, other] = [await place('away', 'on-node-1'), await place('other', 'on-node-2')]
  await leave('node-1')
  await remove('pvc', 'away', 'other')
  await gone(volumePath(other))
  assert.not.ok(existsSync(image('node-2', other)))
  const waiting = await cluster.waitFor(volumePath(away), (state) => state?.metadata.deletionTimestamp !== undefined)
  assert.ok(waiting.metadata.finalizers?.includes('volumes.k8s.elastic.co/elastic-local'))
  assert.ok(existsSync(image('node-1', away)))
  await elastic.returnNode(nodeOf('node-1'))
  await gone(volumePath(away))
  assert.not.ok(existsSync(image('node-1', away)))
})

test('a node whose object comes back within the grace time loses nothing, and takes new claims', async () => {
  const [kept, deleted] = [await place('stays', 'on-node-1'), await place('goes', 'on-node-1')]
  await leave('node-1')
  await cluster.kubectl(['delete', 'node', 'node-1'])
  await remove('pvc', 'goes')
  await cluster.waitFor(volumePath(deleted), (state) => state?.metadata.deletionTimestamp !== undefined)
  // Other deletions go on, by the same queue.
  const other = await place('other', 'on-node-2')
  await remove('pvc', 'other')
  await gone(volumePath(other))
  assert.ok((await cluster.api.request('GET', volumePath(deleted))).metadata.finalizers?.length)
  await elastic.returnNode(nodeOf('node-1'))
  await gone(volumePath(deleted))
  assert.not.ok(existsSync(image('node-1', deleted)))
  assert.equal(await eventsOf('NodeGone'), [])
  const nodeSelector = { 'kubernetes.io/hostname': 'node-1' }
  await cluster.apply(claim('new', { size: '64Mi' }), pod('both', ['stays', 'new'], { spec: { nodeSelector } }))
  const { metadata } = await running('both')
  await writeFile(join(nodeOf('node-1').kubelet.rootDir, 'pods', metadata.uid, placeOf(kept), 'file'), '')
  await cluster.kubectl(['delete', 'pod', 'both'])
  await cluster.kubectl(['delete', 'pvc', 'stays', 'new'])
  await cluster.waitFor('/api/v1/persistentvolumes', (state) => state?.items.length === 0, 120_000)
})

test('while the API server is away, also a daemon that was started in between mounts and unmounts what it made', async () => {
  await cluster.apply(claim('served', { size: '64Mi' }), pod('first', ['served']))
  const first = await running('first')
  const { kubelet, daemon } = nodeOf(first.spec.nodeName)
  const { volumeName } = (await cluster.api.request('GET', claimPath('served'))).spec
  // The kubelet itself would clear away folders of pods that it does not know.
  const { mount, unmount, targetOf } = await callOutsFor(cluster, kubelet, volumeName, 'second')
  await writeFile(join(targetOf(first.metadata.uid), 'file'), 'written before')
  const apiServer = cluster.component('kube-apiserver')
  kubelet.pause()
  await apiServer.kill()
  try {
    await daemon.kill()
    await daemon.start()
    const second = '11111111-1111-1111-1111-111111111111'
    const target = targetOf(second)
    assert.is(await mount(second), 'Success')
    assert.is(await readFile(join(target, 'file'), 'utf8'), 'written before')
    assert.is(await unmount(second), 'Success')
    assert.is((await readMountTable()).at(target), undefined)
    // By CSI, nobody but the kubelet can name a volume.
    if (isFlex)
      assert.match(await mount(second, { key: '0'.repeat(32) }), /only a pod whose claim is bound to it may use it/)
    assert.is((await readMountTable()).at(target), undefined)
    assert.is(await unmount(first.metadata.uid), 'Success')
    assert.is((await readMountTable()).at(targetOf(first.metadata.uid)), undefined)
    assert.is(await mount(first.metadata.uid), 'Success')
  } finally {
    await apiServer.start()
    kubelet.resume()
  }
  // The one that ran has ended if it could not renew its Lease for long.
  await lead({ 'node-gone-grace': '86400' })
  await cluster.kubectl(['delete', 'pod', 'first'])
  await cluster.kubectl(['delete', 'pvc', 'served'])
  await gone(volumePath(volumeName))
  assert.not.ok(existsSync(image(nodeOf(first.spec.nodeName).name, volumeName)))
})

test('a node that is gone for the grace time holds up no deletion; what has a claim or is to be retained stays', async () => {
  const doomed = [await place('doomed-1', 'on-node-3'), await place('doomed-2', 'on-node-3')]
  const [claimed, retained] = [await place('claimed', 'on-node-3'), await place('retained', 'kept')]
  await leave('node-3')
  await cluster.kubectl(['delete', 'node', 'node-3'])
  await lead({ 'node-gone-grace': '1' })
  await remove('pvc', 'retained')
  await cluster.waitFor(volumePath(retained), (state) => state?.status?.phase === 'Released')
  // The second when the grace time is over for all.
  for (const [index, volume] of doomed.entries()) {
    await remove('pvc', `doomed-${index + 1}`)
    await gone(volumePath(volume))
  }
  const events = await eventsOf('NodeGone')
  assert.equal(
    events.map(({ involvedObject, count }) => [involvedObject.name, count]).sort(),
    doomed.map((name) => [name, 1]).sort(),
  )
  assert.match(events[0]?.message, /^Released without removing its data, as node node-3 is gone/)
  const states = await Promise.all([claimed, retained].map((name) => cluster.api.request('GET', volumePath(name))))
  assert.equal(
    states.map(({ metadata, status }) => [status.phase, metadata.deletionTimestamp, metadata.finalizers?.length]),
    [
      ['Bound', undefined, 2],
      ['Released', undefined, 2],
    ],
  )
  assert.is((await cluster.api.request('GET', claimPath('claimed'))).metadata.deletionTimestamp, undefined)
  assert.ok(await cluster.api.request('GET', ledgerPath('node-3')))
})

test('the ledger of a node that is gone goes with the last PV there, and the node that comes back makes it anew', async () => {
  const { items } = await cluster.api.request('GET', '/api/v1/persistentvolumes')
  const ledger = await cluster.api.request('GET', ledgerPath('node-3'))
  const entries = Object.keys(ledger.data).sort()
  assert.is(entries.length, 5)
  const bound = items.find(({ status }: KubeObject) => status.phase === 'Bound')
  for (const { metadata } of items.filter((volume: KubeObject) => volume !== bound)) {
    await remove('pv', metadata.name)
    await gone(volumePath(metadata.name))
  }
  assert.is((await cluster.api.request('GET', ledgerPath('node-3'))).metadata.uid, ledger.metadata.uid)
  await remove('pvc', 'claimed')
  await gone(ledgerPath('node-3'))
  assert.equal((await cluster.api.request('GET', '/api/v1/persistentvolumes')).items, [])
  await elastic.returnNode(nodeOf('node-3'))
  const anew = await cluster.waitFor<KubeObject>(ledgerPath('node-3'), Boolean, 120_000)
  // It has the same volumes and sizes, and does not vouch for whose they are: so nothing removes them by itself.
  const asFound = Object.entries(ledger.data as Record<string, string>).map(([name, text]) => {
    const { madeFor: _, ...entry } = JSON.parse(text)
    return [name, JSON.stringify(entry)]
  })
  assert.equal(anew.data, Object.fromEntries(asFound))
  const volumes = entries.filter((name) => name !== '_pool.default')
  for (const name of volumes) {
    assert.ok(existsSync(image('node-3', name)))
    await request({ socketPath: nodeOf('node-3').socket, method: 'DELETE', path: `/v1/volumes/${name}` })
  }
  await cluster.waitFor(ledgerPath('node-3'), (state) => Object.keys(state?.data ?? {}).length === 1)
})

test('the grace time of a node that came back and went again counts from the second time', async () => {
  const graceMs = 5000
  await lead({ 'node-gone-grace': String(graceMs / 1000) })
  const volume = await place('twice', 'on-node-3')
  await leave('node-3')
  await remove('pvc', 'twice')
  await cluster.waitFor(volumePath(volume), (state) => state?.metadata.deletionTimestamp !== undefined)
  await cluster.kubectl(['delete', 'node', 'node-3'])
  // Away for a while of the grace time.
  const other = await place('other', 'on-node-2')
  await remove('pvc', 'other')
  await gone(volumePath(other))
  await cluster.apply({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-3' } })
  const goneAt = Date.now()
  await cluster.kubectl(['delete', 'node', 'node-3'])
  await gone(volumePath(volume))
  assert.ok(Date.now() >= goneAt + graceMs)
  await gone(ledgerPath('node-3'))
})

test('a claim that was promised room on a node which went before its PV was made gets it elsewhere', async () => {
  await provisioner.kill('SIGTERM')
  await cluster.apply(claim('promised', { class: 'anywhere', size: '64Mi' }))
  const { uid } = (await cluster.api.request('GET', claimPath('promised'))).metadata
  const entry = promisedEntry('default/promised')
  await leave('node-2')
  await cluster.kubectl(['delete', 'node', 'node-2'])
  await cluster.api.request('PATCH', ledgerPath('node-2'), { data: { [`pvc-${uid}`]: entry } })
  await lead({ 'node-gone-grace': '86400' })
  await cluster.waitFor(claimPath('promised'), (state) => state?.status?.phase === 'Bound', 120_000)
  assert.is(await made(`pvc-${uid}`), 'node-1')
  assert.not.ok(`pvc-${uid}` in (await cluster.api.request('GET', ledgerPath('node-2'))).data)
  await cluster.kubectl(['delete', 'pvc', 'promised'])
  for (const name of ['node-2', 'node-3']) await elastic.returnNode(nodeOf(name))
})

test('a daemon that outlives the object of its node makes no ledger without it, and publishes its room for the new one', async () => {
  const { name, kubelet } = nodeOf('node-1')
  const spec = { ...pod('daemon', []).spec, nodeName: name, serviceAccountName: 'elastic-local-daemon' }
  await cluster.apply({ ...pod('daemon', []), metadata: { name: 'daemon', namespace }, spec })
  const path = `/api/v1/namespaces/${namespace}/pods/daemon`
  // A token such as that of a DaemonSet's pod is good for as long as the pod is there.
  const there = await cluster.waitFor(path, (state) => state?.status?.phase === 'Running')
  await elastic.restartDaemon(nodeOf(name), { pod: there })
  await lead({ 'node-gone-grace': '1' })
  await kubelet.kill()
  await cluster.kubectl(['delete', 'node', name])
  await gone(ledgerPath(name))
  const label = 'volumes.k8s.elastic.co/node-affinity'
  const capacities = `/apis/storage.k8s.io/v1/namespaces/${namespace}/csistoragecapacities?labelSelector=${label}=${name}`
  await cluster.waitFor(capacities, (state) => state?.items.length === 0, 120_000)
  await kubelet.start()
  const node = await cluster.api.request('GET', `/api/v1/nodes/${name}`)
  const ownerOf = (capacity: { metadata: { ownerReferences: { uid: string }[] } }) =>
    capacity.metadata.ownerReferences[0]?.uid
  const { items: classes } = await cluster.api.request('GET', '/apis/storage.k8s.io/v1/storageclasses')
  // Without being told to, a daemon serves no CSI.
  const served = classes.filter(({ parameters }: KubeObject) => front === 'csi' || parameters?.front !== 'csi')
  const published = await cluster.waitFor(capacities, (state) => state?.items.length === served.length, 120_000)
  assert.equal(new Set(published.items.map(ownerOf)), new Set([node.metadata.uid]))
  const nodeSelector = { 'kubernetes.io/hostname': name }
  await cluster.apply(claim('again', { size: '64Mi' }), pod('again', ['again'], { spec: { nodeSelector } }))
  await running('again')
  const removals = (await readFile(provisioner.log, 'utf8')).match(/Removed the ledger of node node-1/g)
  assert.is(removals?.length, 1)
  await cluster.kubectl(['delete', 'pod', 'again'])
  await cluster.kubectl(['delete', 'pvc', 'again'])
  await elastic.restartDaemon(nodeOf('node-1'))
})

test('a node whose daemon is dead offers nothing, however empty it is, until the daemon is back', async () => {
  const label = 'volumes.k8s.elastic.co/node-affinity'
  const capacities = `/apis/storage.k8s.io/v1/namespaces/${namespace}/csistoragecapacities?labelSelector=${label}=node-3`
  const lease = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/elastic-local.node-3.alive`
  const isOffered = (state: KubeObject | undefined) => (state?.items.length ?? 0) > 0
  await cluster.waitFor(capacities, isOffered, 120_000)
  await nodeOf('node-3').daemon.kill()
  // As if two minutes had gone.
  const renewTime = new Date().toISOString().replace('Z', '000Z')
  await cluster.api.request('PATCH', lease, { spec: { renewTime, leaseDurationSeconds: 1 } })
  await cluster.waitFor(capacities, (state) => !isOffered(state), 120_000)
  await cluster.apply(claim('not-there', { class: 'anywhere', size: '64Mi' }))
  const { spec } = await cluster.waitFor(claimPath('not-there'), (state) => state?.status?.phase === 'Bound', 120_000)
  assert.is.not(await made(spec.volumeName), 'node-3')
  await elastic.restartDaemon(nodeOf('node-3'))
  await cluster.waitFor(capacities, isOffered, 120_000)
  await cluster.kubectl(['delete', 'pvc', 'not-there'])
})

test('a node whose disk is unmounted offers nothing, says so by itself, and offers its room when the disk is back', async () => {
  const { volumesDir } = nodeOf('node-3')
  const room = (state: KubeObject | undefined) => JSON.parse(state?.data['_pool.default'] ?? '{}').capacityBytes
  const before = room(await cluster.waitFor(ledgerPath('node-3'), (state) => room(state) !== '0'))
  const device = (await readMountTable()).at(volumesDir)?.source ?? ''
  // The daemon has its lock there, so only this goes.
  await run('umount', ['--lazy', volumesDir])
  try {
    // Nobody asks that daemon anything: within half a minute it looks.
    await cluster.waitFor(ledgerPath('node-3'), (state) => room(state) === '0', 120_000)
    const isTold = ({ involvedObject, reason, message }: KubeObject) =>
      involvedObject.name === 'node-3' && reason === 'PoolProblem' && /no longer mounted there/.test(message)
    await cluster.waitFor(eventsPath, (list) => list?.items.some(isTold), 120_000)
  } finally {
    await run('mount', [device, volumesDir])
  }
  await cluster.waitFor(ledgerPath('node-3'), (state) => room(state) === before, 120_000)
})

test('with --delete-claims-of-gone-nodes, a StatefulSet and a person have their claims elsewhere', async () => {
  const { spec } = pod('set', [])
  const labels = { app: 'set' }
  await cluster.apply({
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: 'set', namespace: 'default' },
    spec: {
      serviceName: 'set',
      selector: { matchLabels: labels },
      template: { spec, metadata: { labels } },
      volumeClaimTemplates: [{ metadata: { name: 'data' }, spec: claim('data', { size: '64Mi' }).spec }],
    },
  })
  const { nodeName } = (await running('set-0')).spec
  const before = (await cluster.api.request('GET', claimPath('data-set-0'))).spec.volumeName
  const hand = [claim('hand', { size: '64Mi' }), pod('hand', ['hand'])]
  await cluster.apply(
    claim('hand', { size: '64Mi' }),
    pod('hand', ['hand'], { spec: { nodeSelector: { 'kubernetes.io/hostname': nodeName } } }),
  )
  await running('hand')
  await cluster.kubectl(['delete', 'pod', 'hand'])
  await leave(nodeName)
  await cluster.kubectl(['delete', 'node', nodeName])
  await lead({ 'node-gone-grace': '1', 'delete-claims-of-gone-nodes': 'true' })
  await gone(claimPath('hand'))
  await cluster.kubectl(['delete', 'pod', 'set-0', '--force', '--grace-period=0'])
  const moved = await cluster.waitFor(
    claimPath('data-set-0'),
    (state) => state?.status?.phase === 'Bound' && state.spec.volumeName !== before,
    180_000,
  )
  await cluster.apply(...hand)
  const places = [(await running('set-0')).spec.nodeName, (await running('hand')).spec.nodeName]
  assert.not.ok(places.includes(nodeName))
  assert.is(await made(moved.spec.volumeName), places[0])
  const said = (await eventsOf('NodeGone')).filter(
    ({ involvedObject }) => involvedObject.kind === 'PersistentVolumeClaim',
  )
  assert.equal(said.map(({ involvedObject }) => involvedObject.name).sort(), ['data-set-0', 'hand'])
  await gone(volumePath(before))
  await gone(ledgerPath(nodeName))
})

test.run()
