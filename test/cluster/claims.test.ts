import { existsSync } from 'node:fs'
import { readFile, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { request } from '../../src/daemon/client.ts'
import { knownClaimFields, knownClassFields } from '../../src/k8s/model/claim.ts'
import { growthRecovery, needing } from '../kubernetes/version.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { claim, classOn, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, namespace, openElastic } from './elastic.ts'
import { front, isFlex, placeOf } from './front.ts'

const test = suite(`claims by ${front} on a real cluster`)
const diskBytes = 6 * gibibyte
let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let nodes: Map<string, ElasticNode>

const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
const claimPath = (name: string) => `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
const running = (name: string, timeoutMs?: number) =>
  cluster.waitFor(podPath(name), (state) => state?.status?.phase === 'Running', timeoutMs)
const gone = (path: string, timeoutMs?: number) => cluster.waitFor(path, (state) => state === undefined, timeoutMs)
const remove = (kind: string, ...names: string[]) => cluster.kubectl(['delete', kind, ...names, '--wait=false'])

/** The folder of a pod's volume on its node, as a container sees it. */
async function folderOf(podName: string, volumeName?: string): Promise<string> {
  const found = await running(podName)
  const claimName = found.spec.volumes.find((volume: KubeObject) => volume.persistentVolumeClaim)?.persistentVolumeClaim
    .claimName
  const volume = volumeName ?? (await cluster.api.request('GET', claimPath(claimName))).spec.volumeName
  const node = nodes.get(found.spec.nodeName)
  return join(String(node?.kubelet.rootDir), 'pods', found.metadata.uid, placeOf(volume))
}

/** Resolves with the message of an event about an object that matches. */
async function said(name: string, message: RegExp): Promise<string> {
  const matching = (list: KubeObject | undefined) =>
    (list?.items ?? []).find(
      (event: KubeObject) => event.involvedObject.name === name && message.test(String(event.message)),
    )
  const list = await cluster.waitFor('/api/v1/namespaces/default/events', (state) => Boolean(matching(state)))
  return matching(list).message
}

test.before(async () => {
  ;({ cluster, elastic, close } = await openElastic())
  const names = ['node-1', 'node-2', 'node-3']
  const started = await Promise.all(
    names.map((name) => elastic.startNode({ name, diskBytes, hostnameLabel: `host-of-${name}` })),
  )
  nodes = new Map(started.map((node) => [node.name, node]))
  await elastic.startProvisioner()
  await cluster.apply(storageClass('immediate', { volumeBindingMode: 'Immediate' }))
})

test.after(() => close())

test('a pod gets its claim as a filesystem on its node, and a pod that comes after it reads its data', async () => {
  await cluster.apply(claim('data'), pod('first', ['data']))
  const folder = await folderOf('first')
  await writeFile(join(folder, 'file'), 'written by the first')
  await remove('pod', 'first')
  await gone(podPath('first'))
  assert.not.ok(existsSync(folder))
  await cluster.apply(pod('second', ['data']))
  assert.is(await readFile(join(await folderOf('second'), 'file'), 'utf8'), 'written by the first')
})

test('its PV is as designed: label, finalizer, claim, affinity by a label of its node', async () => {
  const bound = await cluster.api.request('GET', claimPath('data'))
  const volume = await cluster.api.request('GET', `/api/v1/persistentvolumes/pvc-${bound.metadata.uid}`)
  const { nodeName } = (await running('second')).spec
  assert.is(volume.metadata.labels?.['volumes.k8s.elastic.co/node-affinity'], nodeName)
  assert.ok(volume.metadata.finalizers?.includes('volumes.k8s.elastic.co/elastic-local'))
  assert.is(volume.spec.claimRef.uid, bound.metadata.uid)
  const [term] = volume.spec.nodeAffinity.required.nodeSelectorTerms
  // The host name is not the node's; where there is CSI the kubelet gives the Node a label that is.
  const [key, value] = isFlex
    ? ['kubernetes.io/hostname', `host-of-${nodeName}`]
    : ['volumes.k8s.elastic.co/node', nodeName]
  assert.equal(term.matchExpressions, [{ key, operator: 'In', values: [value] }])
  const { sizeBytes } = isFlex ? volume.spec.flexVolume.options : volume.spec.csi.volumeAttributes
  assert.is(sizeBytes, String(gibibyte / 2))
})

test('each field of a claim and of a class that this Kubernetes has is one that we look at', async () => {
  const fieldsOf = async (group: string, kind: string): Promise<string[]> => {
    const { components } = await cluster.api.request('GET', `/openapi/v3/${group}`)
    return Object.keys(components.schemas[kind].properties)
  }
  const common = ['apiVersion', 'kind', 'metadata']
  for (const [group, kind, known] of [
    ['api/v1', 'io.k8s.api.core.v1.PersistentVolumeClaimSpec', knownClaimFields],
    ['apis/storage.k8s.io/v1', 'io.k8s.api.storage.v1.StorageClass', [...knownClassFields, ...common]],
  ] as const) {
    const unknown = (await fieldsOf(group, kind)).filter((field) => !known.some((one) => one === field))
    assert.equal(unknown, [], kind)
  }
})

test('a deleted claim takes its PV, its data and its promise with it', async () => {
  const { spec } = await cluster.api.request('GET', claimPath('data'))
  const node = nodes.get((await running('second')).spec.nodeName)
  const image = join(String(node?.volumesDir), '.elastic-local/loop', `${spec.volumeName}.img`)
  assert.ok(existsSync(image))
  await remove('pod', 'second')
  await remove('pvc', 'data')
  await gone(`/api/v1/persistentvolumes/${spec.volumeName}`)
  assert.not.ok(existsSync(image))
  const ledger = await cluster.api.request(
    'GET',
    `/api/v1/namespaces/${namespace}/configmaps/elastic-local.${node?.name}.ledger`,
  )
  assert.not.ok(spec.volumeName in ledger.data)
  // An account of who wrote which key would double each of its versions.
  assert.not('managedFields' in ledger.metadata)
})

test('what no local disk can give, or nobody knows, is refused with one event that says what is wrong', async () => {
  await cluster.apply(
    storageClass('typo', { volumeBindingMode: 'Immediate', parameters: { fstype: 'xfs' } }),
    storageClass('dev', { volumeBindingMode: 'Immediate', mountOptions: ['dev'] }),
    claim('many', { class: 'immediate', spec: { accessModes: ['ReadWriteMany'] } }),
    storageClass('directories', { volumeBindingMode: 'Immediate', parameters: { driverKind: 'BINDMOUNT' } }),
    claim('block', { class: 'directories', spec: { volumeMode: 'Block' } }),
    claim('selector', { class: 'immediate', spec: { selector: { matchLabels: { a: 'b' } } } }),
    claim('typo', { class: 'typo' }),
    claim('dev', { class: 'dev' }),
    claim('huge', { class: 'immediate', size: '100Ti' }),
  )
  assert.match(await said('many', /ReadWriteMany/), /accessModes must be of ReadWriteOnce/)
  await said(
    'block',
    isFlex ? /as FlexVolumes are no block devices/ : /as volumes of driverKind BINDMOUNT are directories/,
  )
  await said('selector', /selector/)
  await said('typo', /parameters must be of fsType,.*"fstype"/)
  await said('dev', /Cannot use StorageClass dev.*"dev"/)
  await said('huge', /Cannot place 100 TiB on node node-\d as its pool \S+ has .+ of .+ free/)
  await remove('pvc', 'many', 'block', 'selector', 'typo', 'dev', 'huge')
})

test('with Immediate, the node with the most room is taken, and a class of the predecessor is served', async () => {
  const names = ['a', 'b', 'c']
  await cluster.apply(
    storageClass('old', { provisioner: 'volumes.k8s.elastic.co/elastic-local', volumeBindingMode: 'Immediate' }),
    ...names.map((name) => claim(name, { class: name === 'b' ? 'old' : 'immediate', size: '1Gi' })),
  )
  const bound = await Promise.all(
    names.map((name) => cluster.waitFor(claimPath(name), (state) => state?.status?.phase === 'Bound')),
  )
  const volumes = await Promise.all(
    bound.map(({ spec }) => cluster.api.request('GET', `/api/v1/persistentvolumes/${spec.volumeName}`)),
  )
  const labels = volumes.map(({ metadata }) => metadata.labels?.['volumes.k8s.elastic.co/node-affinity'])
  assert.is(new Set(labels).size, 3)
  await remove('pvc', ...names)
  for (const { metadata } of volumes) await gone(`/api/v1/persistentvolumes/${metadata.name}`)
})

test('a claim with Retain leaves its PV and its data, also when the PV is deleted', async () => {
  await cluster.apply(
    storageClass('kept', { volumeBindingMode: 'Immediate', reclaimPolicy: 'Retain' }),
    claim('kept', { class: 'kept' }),
    pod('kept', ['kept']),
  )
  await writeFile(join(await folderOf('kept'), 'file'), 'kept')
  const { volumeName } = (await cluster.api.request('GET', claimPath('kept'))).spec
  const node = nodes.get((await running('kept')).spec.nodeName)
  const image = join(String(node?.volumesDir), '.elastic-local/loop', `${volumeName}.img`)
  await remove('pod', 'kept')
  await gone(podPath('kept'))
  await remove('pvc', 'kept')
  const path = `/api/v1/persistentvolumes/${volumeName}`
  await cluster.waitFor(path, (state) => state?.status?.phase === 'Released')
  await remove('pv', volumeName)
  await gone(path)
  assert.ok(existsSync(image))
  const ledger = await cluster.api.request(
    'GET',
    `/api/v1/namespaces/${namespace}/configmaps/elastic-local.${node?.name}.ledger`,
  )
  assert.ok(volumeName in ledger.data)
  const { body } = await request({
    socketPath: String(node?.socket),
    method: 'DELETE',
    path: `/v1/volumes/${volumeName}`,
  })
  assert.equal(body, { action: 'removed' })
  assert.not.ok(existsSync(image))
})

/** Asks for more, or less, for the claim `grows`. */
const ask = (storage: string) =>
  cluster.kubectl([
    ...['patch', 'pvc', 'grows', '--patch'],
    JSON.stringify({ spec: { resources: { requests: { storage } } } }),
  ])
const granted = (storage: string) =>
  cluster.waitFor(claimPath('grows'), (state) => state?.status?.capacity?.storage === storage, 150_000)

async function sizeSeenBy(podName: string): Promise<number> {
  const { blocks, bsize } = await statfs(await folderOf(podName))
  return blocks * bsize
}

test('a volume grows while its pod runs', async () => {
  await cluster.apply(
    storageClass('xfs', { parameters: { 'csi.storage.k8s.io/fstype': 'xfs' }, mountOptions: ['noatime'] }),
    claim('grows', { class: 'xfs' }),
    pod('grows', ['grows']),
  )
  assert.ok((await sizeSeenBy('grows')) < 0.5 * gibibyte)
  await ask('1Gi')
  await granted('1Gi')
  assert.ok((await sizeSeenBy('grows')) > 0.9 * gibibyte)
})

const tellsOfRefusal =
  /Cannot grow \S+ from .+ to 100 TiB \(\d+ bytes\) as pool \S+ of node node-\d has .+ free.*Lower the request/

needing(test, growthRecovery)(
  'growth beyond the pool is refused on the claim, and lowering it takes it back',
  async () => {
    await ask('100Ti')
    await said('grows', tellsOfRefusal)
    // It costs nobody his room.
    await cluster.apply(claim('beside', { class: 'immediate', size: '1Gi' }))
    await cluster.waitFor(claimPath('beside'), (state) => state?.status?.phase === 'Bound')
    await ask('1536Mi')
    await granted('1536Mi')
    assert.ok((await sizeSeenBy('grows')) > 1.4 * gibibyte)
    await remove('pvc', 'beside')
  },
)

test('a volume that grew goes with its claim', async () => {
  await remove('pod', 'grows')
  await gone(podPath('grows'))
  const { spec } = await cluster.api.request('GET', claimPath('grows'))
  await remove('pvc', 'grows')
  await gone(`/api/v1/persistentvolumes/${spec.volumeName}`)
})

test('what is promised to a growth stays promised while it is under way, though its PV changes all the time', async () => {
  await cluster.apply(claim('swells', { class: 'xfs' }), pod('swells', ['swells']))
  const { nodeName } = (await running('swells')).spec
  const { volumeName } = (await cluster.api.request('GET', claimPath('swells'))).spec
  const promised: number[] = []
  const note = (ledger: KubeObject | undefined) => {
    const entry = ledger?.data[volumeName]
    if (entry) promised.push(Number(JSON.parse(entry).promisedBytes))
    return promised.at(-1) === gibibyte
  }
  const ledgerPath = `/api/v1/namespaces/${namespace}/configmaps/elastic-local.${nodeName}.ledger`
  const grown = cluster.waitFor(ledgerPath, note, 150_000)
  const isGrown = cluster
    .waitFor(claimPath('swells'), (state) => state?.status?.capacity?.storage === '1Gi', 150_000)
    .then(() => true)
  await cluster.kubectl(['patch', 'pvc', 'swells', '--patch', '{"spec":{"resources":{"requests":{"storage":"1Gi"}}}}'])
  const path = `/api/v1/persistentvolumes/${volumeName}`
  for (let round = 0; !(await Promise.race([isGrown, Promise.resolve(false)])); round += 1) {
    const isKept = round % 2 === 0
    const persistentVolumeReclaimPolicy = isKept ? 'Retain' : 'Delete'
    await cluster.api.request('PATCH', path, { spec: { persistentVolumeReclaimPolicy } })
    // The daemon has seen it.
    const isTold = (ledger: KubeObject | undefined) =>
      (JSON.parse(ledger?.data[volumeName]).madeFor === undefined) === isKept
    await cluster.waitFor(ledgerPath, isTold)
  }
  await grown
  assert.equal(
    promised,
    promised.toSorted((a, b) => a - b),
  )
  await cluster.api.request('PATCH', path, { spec: { persistentVolumeReclaimPolicy: 'Delete' } })
  await remove('pod', 'swells')
  await gone(podPath('swells'))
  await remove('pvc', 'swells')
  await gone(path)
})

test('two claims of one pod, for which only one node has room, get it there together, wherever each alone would fit', async () => {
  const hosts = ['host-of-node-1', 'host-of-node-2']
  await cluster.apply(
    ...hosts.flatMap((host) => [classOn(host), claim(`fills-${host}`, { class: `on-${host}`, size: '3Gi' })]),
  )
  for (const host of hosts)
    await cluster.waitFor(claimPath(`fills-${host}`), (state) => state?.status?.phase === 'Bound')
  const both = ['left', 'right']
  await cluster.apply(...both.map((name) => claim(name, { size: '2Gi' })), pod('both', both))
  assert.is((await running('both', 240_000)).spec.nodeName, 'node-3')
  await remove('pod', 'both')
  await gone(podPath('both'))
  await remove('pvc', ...both, ...hosts.map((host) => `fills-${host}`))
  await cluster.waitFor('/api/v1/persistentvolumes', (state) =>
    state?.items.every(({ spec }: KubeObject) => !/^(fills|left|right)/.test(spec.claimRef.name)),
  )
})

test('a claim for one pod is not mounted for a second one that names its node itself, until the first has gone', async () => {
  await cluster.apply(claim('lonely', { spec: { accessModes: ['ReadWriteOncePod'] } }), pod('one', ['lonely']))
  const { nodeName } = (await running('one')).spec
  await cluster.apply(pod('two', ['lonely'], { spec: { nodeName } }))
  await said('two', /uses the ReadWriteOncePod access mode and is already in use by another pod/)
  assert.is.not((await cluster.api.request('GET', podPath('two'))).status.phase, 'Running')
  await remove('pod', 'one')
  await running('two', 180_000)
  await remove('pod', 'two')
  await gone(podPath('two'))
  await remove('pvc', 'lonely')
})

test('a claim in whose way a PV of another driver is gets its own when that is deleted, as its event advises', async () => {
  await cluster.apply(claim('barred'))
  const { uid } = (await cluster.api.request('GET', claimPath('barred'))).metadata
  await cluster.apply({
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: `pvc-${uid}` },
    spec: { capacity: { storage: '1Mi' }, accessModes: ['ReadOnlyMany'], hostPath: { path: '/nowhere' } },
  })
  await cluster.apply(pod('barred', ['barred']))
  await said('barred', /one of that name exists that is not for this claim; delete it/)
  await remove('pv', `pvc-${uid}`)
  await running('barred')
  await remove('pod', 'barred')
  await gone(podPath('barred'))
  await remove('pvc', 'barred')
})

test('a pod that names the volume of another in a flexVolume of its own does not get it, whatever options it writes', async () => {
  await cluster.apply(claim('victim', { class: 'immediate' }), pod('victim', ['victim']))
  const victim = await running('victim')
  const { volumeName } = (await cluster.api.request('GET', claimPath('victim'))).spec
  const options = {
    sizeBytes: String(gibibyte),
    key: '00000000000000000000000000000000',
  }
  const flexVolume = { driver: 'volumes.k8s.elastic.co/elastic-local', options }
  const { nodeName } = victim.spec
  await cluster.apply(pod('thief', [], { volumes: [{ name: volumeName, flexVolume }], spec: { nodeName } }))
  await said(
    'thief',
    isFlex ? /only a pod whose claim is bound to it may use it/ : /by flex as its PersistentVolume is one of csi/,
  )
  const thief = await cluster.api.request('GET', podPath('thief'))
  const folder = join(String(nodes.get(nodeName)?.kubelet.rootDir), 'pods', thief.metadata.uid, 'volumes')
  const table = await readFile('/proc/self/mountinfo', 'utf8')
  assert.not.ok(table.includes(`${folder}/volumes.k8s.elastic.co~elastic-local`))
  await remove('pod', 'thief', 'victim')
  await gone(podPath('victim'))
  await remove('pvc', 'victim')
})

test('claims for more than the cluster holds: those that fit run, the others say why, and none is promised too much', async () => {
  const noVolumes = (state: KubeObject | undefined) => state?.items.length === 0
  await cluster.waitFor('/api/v1/persistentvolumes', noVolumes)
  const names = Array.from({ length: 24 }, (_, i) => `crowd-${i}`)
  const ledgersPath = `/api/v1/namespaces/${namespace}/configmaps?labelSelector=volumes.k8s.elastic.co/ledger`
  const ledgers = async () => {
    const { items } = await cluster.api.request('GET', ledgersPath)
    return items.map(({ data }: KubeObject) => {
      const { '_pool.default': pool, ...entries } = data
      const capacity = Number(JSON.parse(pool).capacityBytes)
      const sizes = Object.values(entries).map((entry) => Number(JSON.parse(String(entry)).promisedBytes))
      return { capacity, promised: sizes.reduce((sum, size) => sum + size, 0), fits: Math.floor(capacity / gibibyte) }
    })
  }
  const fits = (await ledgers()).reduce((sum: number, ledger: { fits: number }) => sum + ledger.fits, 0)
  assert.ok(fits >= 12 && fits < names.length, `${fits} fit`)
  await cluster.apply(...names.flatMap((name) => [claim(name, { size: '1Gi' }), pod(name, [name])]))
  const runs = (state: KubeObject | undefined) =>
    state?.items.filter(({ status }: KubeObject) => status.phase === 'Running').length ?? 0
  await cluster.waitFor('/api/v1/namespaces/default/pods', (state) => runs(state) >= fits, 150_000)
  const pods = (await cluster.api.request('GET', '/api/v1/namespaces/default/pods')).items
  const left = pods.filter(({ status }: KubeObject) => status.phase !== 'Running')
  assert.is(left.length, names.length - fits)
  for (const { metadata } of left) await said(metadata.name, /did not have enough free storage|Cannot place/)
  for (const { capacity, promised } of await ledgers()) assert.ok(promised <= capacity)
  const [lucky] = pods.filter(({ status }: KubeObject) => status.phase === 'Running')
  const { name } = lucky.metadata
  await remove('pod', name)
  await gone(podPath(name))
  await remove('pvc', name)
  await cluster.waitFor('/api/v1/namespaces/default/pods', (state) => runs(state) >= fits, 150_000)
  const others = names.filter((other) => other !== name)
  await remove('pod', ...others)
  await remove('pvc', ...others)
  await cluster.waitFor('/api/v1/persistentvolumes', noVolumes, 120_000)
})

test.run()
