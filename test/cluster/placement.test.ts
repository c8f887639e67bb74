import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { parseMountInfo, readMountTable } from '../../src/mount/table.ts'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import { promisedEntry } from './agreement.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, namespace, openElastic } from './elastic.ts'
import { isFlex, placeOf } from './front.ts'
import type { Program } from './program.ts'

const test = suite('where claims are placed, and which never are')
const oldName = 'volumes.k8s.elastic.co/elastic-local'
const label = 'volumes.k8s.elastic.co/node-affinity'
const zoneLabel = 'topology.kubernetes.io/zone'
let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let provisioner: Program
const nodes = new Map<string, ElasticNode>()

const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
const claimsPath = '/api/v1/namespaces/default/persistentvolumeclaims'
const claimPath = (name: string) => `${claimsPath}/${name}`
const volumesPath = '/api/v1/persistentvolumes'
const ledgersPath = `/api/v1/namespaces/${namespace}/configmaps?labelSelector=volumes.k8s.elastic.co/ledger`
const eventsPath = '/api/v1/namespaces/default/events'
const remove = (kind: string, ...names: string[]) => cluster.kubectl(['delete', kind, ...names, '--wait=false'])
const running = (name: string) => cluster.waitFor(podPath(name), (state) => state?.status?.phase === 'Running', 120_000)
const isEmpty = (list: KubeObject | undefined) => list?.items.length === 0
const gone = (volume: string) => cluster.waitFor(`${volumesPath}/${volume}`, (state) => state === undefined, 120_000)
const noVolumes = () => cluster.waitFor(volumesPath, isEmpty, 120_000)

/** A class for nodes with one of the values of a label, which makes volumes at once unless `more` says otherwise. */
function classFor(name: string, key: string, values: readonly string[], more: object = {}) {
  const allowedTopologies = [{ matchLabelExpressions: [{ key, values }] }]
  return storageClass(name, { volumeBindingMode: 'Immediate', allowedTopologies, ...more })
}

/** The node of a claim, once it is bound. */
async function nodeOf(claimName: string): Promise<string | undefined> {
  const { spec } = await cluster.waitFor(claimPath(claimName), (state) => state?.status?.phase === 'Bound', 120_000)
  return (await cluster.api.request('GET', `${volumesPath}/${spec.volumeName}`)).metadata.labels?.[label]
}

/** The folder of a claim in a pod, on its node. */
async function folderOf(podName: string, claimName: string): Promise<string> {
  const { metadata, spec } = await running(podName)
  const { volumeName } = (await cluster.api.request('GET', claimPath(claimName))).spec
  const rootDir = String(nodes.get(spec.nodeName)?.kubelet.rootDir)
  return join(rootDir, 'pods', metadata.uid, placeOf(volumeName))
}

/** Events about an object by a component, or by any. */
const about = (list: KubeObject | undefined, name: string, component?: string): KubeObject[] =>
  (list?.items ?? []).filter(
    ({ involvedObject, source }: KubeObject) =>
      involvedObject.name === name && (!component || source?.component === component),
  )

/** Resolves when an event about an object matches. */
async function said(name: string, message: RegExp): Promise<void> {
  await cluster.waitFor(
    eventsPath,
    (list) => about(list, name).some((event) => message.test(String(event.message))),
    120_000,
  )
}

/** The images in the folders of all nodes. */
async function images(): Promise<string[]> {
  const folders = [...nodes.values()].map(({ volumesDir }) => join(volumesDir, '.elastic-local/loop'))
  return (await Promise.all(folders.map((folder) => readdir(folder)))).flat()
}

/** Entries of all ledgers. */
const entriesOf = (list: KubeObject | undefined): string[] =>
  (list?.items ?? []).flatMap(({ data }: KubeObject) => Object.keys(data).filter((key) => key !== '_pool.default'))

/** A claim that comes and goes, through all the queues that others go through. */
async function passBy(): Promise<void> {
  await cluster.apply(claim('passer', { class: 'immediate', size: '64Mi' }))
  await nodeOf('passer')
  const { volumeName } = (await cluster.api.request('GET', claimPath('passer'))).spec
  await remove('pvc', 'passer')
  await gone(volumeName)
}

test.before(async () => {
  ;({ cluster, elastic, close } = await openElastic())
  const settings = [
    { name: 'node-1', diskBytes: 2 * gibibyte, labels: { [zoneLabel]: 'a' } },
    { name: 'node-2', diskBytes: 3 * gibibyte, labels: { [zoneLabel]: 'a' } },
    { name: 'node-3', diskBytes: 4 * gibibyte, labels: { [zoneLabel]: 'b' } },
  ]
  for (const node of await Promise.all(settings.map((setting) => elastic.startNode(setting))))
    nodes.set(node.name, node)
  provisioner = await elastic.startProvisioner()
  await cluster.apply(storageClass('immediate', { volumeBindingMode: 'Immediate' }))
})

test.after(() => close())

test('allowedTopologies are kept to, in both binding modes; Immediate takes the node with the most room among them', async () => {
  const waits = { volumeBindingMode: 'WaitForFirstConsumer' }
  await cluster.apply(
    classFor('in-a', zoneLabel, ['a']),
    classFor('on-1', 'kubernetes.io/hostname', ['node-1']),
    classFor('in-b-later', zoneLabel, ['b'], waits),
    classFor('on-1-later', 'kubernetes.io/hostname', ['node-1'], waits),
    claim('in-a', { class: 'in-a' }),
    claim('on-1', { class: 'on-1' }),
    claim('in-b-later', { class: 'in-b-later' }),
    claim('on-1-later', { class: 'on-1-later' }),
    ...['in-b-later', 'on-1-later'].map((name) => pod(name, [name])),
  )
  const names = ['in-a', 'on-1', 'in-b-later', 'on-1-later']
  assert.equal(await Promise.all(names.map(nodeOf)), ['node-2', 'node-1', 'node-3', 'node-1'])
  for (const name of ['in-b-later', 'on-1-later']) assert.is((await running(name)).spec.nodeName, await nodeOf(name))
  await remove('pod', 'in-b-later', 'on-1-later')
  await remove('pvc', ...names)
  await noVolumes()
})

test('driverKind and pool of a class choose the nodes, in both binding modes', async () => {
  const pool = nodes.get('node-1')?.volumesDir
  await cluster.apply(
    storageClass('loop', { volumeBindingMode: 'Immediate', parameters: { driverKind: 'LOOP' } }),
    storageClass('pool', { volumeBindingMode: 'Immediate', parameters: { driverKind: 'LOOP', pool } }),
    storageClass('pool-later', { parameters: { pool } }),
    storageClass('lvm-later', { parameters: { driverKind: 'LVM' } }),
    claim('loop', { class: 'loop' }),
    claim('pool', { class: 'pool' }),
    claim('pool-later', { class: 'pool-later' }),
    claim('lvm-later', { class: 'lvm-later' }),
    ...['pool-later', 'lvm-later'].map((name) => pod(name, [name])),
  )
  assert.equal(await Promise.all(['loop', 'pool', 'pool-later'].map(nodeOf)), ['node-3', 'node-1', 'node-1'])
  await said('lvm-later', /did not have enough free storage/)
  assert.equal(about(await cluster.api.request('GET', eventsPath), 'lvm-later', 'elastic-local-provisioner'), [])
  await remove('pod', 'pool-later', 'lvm-later')
  await remove('pvc', 'loop', 'pool', 'pool-later', 'lvm-later')
  await noVolumes()
})

test('mkfsOptions and mountOptions of a class are those of its filesystems', async () => {
  const parameters = { mkfsOptions: '-b 1024 -m 0' }
  await cluster.apply(
    storageClass('shaped', { parameters, mountOptions: ['noatime', 'commit=30'] }),
    claim('shaped', { class: 'shaped', size: '64Mi' }),
    pod('shaped', ['shaped']),
  )
  const folder = await folderOf('shaped', 'shaped')
  const mounted = parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8')).find(({ target }) => target === folder)
  assert.ok(mounted?.options.includes('noatime'))
  assert.ok(mounted?.superOptions.includes('commit=30'))
  const { stdout } = await run('dumpe2fs', ['-h', String(mounted?.source)])
  assert.match(stdout, /^Block size: +1024$/m)
  assert.match(stdout, /^Reserved block count: +0$/m)
  await remove('pod', 'shaped')
  await remove('pvc', 'shaped')
  await noVolumes()
})

if (isFlex)
  test('a PV of the predecessor, which has no key, is mounted for a pod with its claim and for no other, and removed', async () => {
    const name = 'pvc-0f0e0d0c-1111-2222-3333-444455556666'
    const hostname = { key: 'kubernetes.io/hostname', operator: 'In', values: ['node-2'] }
    const flexVolume = { driver: oldName, fsType: 'ext4', options: { sizeBytes: String(64 << 20) } }
    await cluster.apply(
      storageClass('old', { provisioner: oldName }),
      {
        apiVersion: 'v1',
        kind: 'PersistentVolume',
        metadata: { name, labels: { [label]: 'node-2' }, annotations: { 'pv.kubernetes.io/provisioned-by': oldName } },
        spec: {
          capacity: { storage: '64Mi' },
          accessModes: ['ReadWriteOnce'],
          persistentVolumeReclaimPolicy: 'Delete',
          storageClassName: 'old',
          claimRef: { namespace: 'default', name: 'old' },
          flexVolume,
          nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [hostname] }] } },
        },
      },
      claim('old', { class: 'old', size: '64Mi', spec: { volumeName: name } }),
      pod('old', ['old']),
    )
    await writeFile(join(await folderOf('old', 'old'), 'file'), '')
    await cluster.apply(pod('thief', [], { volumes: [{ name, flexVolume }], spec: { nodeName: 'node-2' } }))
    await said('thief', /only a pod with claim default\/old may use it/)
    const { metadata } = await cluster.api.request('GET', podPath('thief'))
    const folder = join(String(nodes.get('node-2')?.kubelet.rootDir), 'pods', metadata.uid, 'volumes')
    const mounts = (await readMountTable()).under(folder).map(({ target }) => target)
    assert.equal(
      mounts.filter((target) => target.endsWith(name)),
      [],
    )
    const image = join(String(nodes.get('node-2')?.volumesDir), '.elastic-local/loop', `${name}.img`)
    assert.ok(existsSync(image))
    await remove('pod', 'old', 'thief')
    await remove('pvc', 'old')
    await noVolumes()
    assert.not.ok(existsSync(image))
  })

test('of claims that are deleted before or while their PVs are made, nothing stays', async () => {
  await cluster.apply(claim('too-much', { class: 'immediate', size: '100Ti' }))
  await said('too-much', /Cannot place/)
  await remove('pvc', 'too-much')
  const names = Array.from({ length: 40 }, (_, i) => `short-${i}`)
  const shortLife = async (name: string) => {
    await cluster.api.request('POST', claimsPath, claim(name, { class: 'immediate', size: '32Mi' }))
    await cluster.api.request('DELETE', claimPath(name))
  }
  await Promise.all(names.map(shortLife))
  await cluster.waitFor(claimsPath, isEmpty, 120_000)
  await passBy()
  await cluster.waitFor(ledgersPath, (list) => entriesOf(list).length === 0, 120_000)
  await passBy()
  assert.equal(entriesOf(await cluster.api.request('GET', ledgersPath)), [])
  assert.equal(await images(), [])
})

test('a promise to a claim that was deleted before its PV was made, while no provisioner ran, is taken back', async () => {
  await provisioner.kill('SIGTERM')
  const volume = 'pvc-0f0e0d0c-7777-8888-9999-000011112222'
  const entry = promisedEntry('default/deleted')
  const ledgerPath = `/api/v1/namespaces/${namespace}/configmaps/elastic-local.node-1.ledger`
  await cluster.api.request('PATCH', ledgerPath, { data: { [volume]: entry } })
  provisioner = await elastic.startProvisioner()
  await cluster.waitFor(ledgerPath, (state) => state !== undefined && !(volume in state.data), 120_000)
})

test('a claim waits for a node that is cordoned, tainted or has not the label, whoever selected it, and goes on by itself', async () => {
  const names = [...nodes.keys()]
  const taint = ['for=others:NoSchedule']
  await cluster.kubectl(['cordon', 'node-1'])
  await cluster.kubectl(['taint', 'node', 'node-2', 'node-3', ...taint])
  const isKept = (state: KubeObject | undefined) =>
    state?.items.every(({ spec }: KubeObject) => spec.taints?.length > 0)
  await cluster.waitFor('/api/v1/nodes', isKept)
  await cluster.apply(
    classFor('labelled', 'late', ['yes']),
    claim('uncordoned', { class: 'immediate', size: '64Mi' }),
    claim('labelled', { class: 'labelled', size: '64Mi' }),
    claim('selected', { size: '64Mi' }),
    pod('selected', ['selected'], { spec: { nodeSelector: { 'kubernetes.io/hostname': 'node-1' } } }),
  )
  await said('uncordoned', /as no node that StorageClass immediate allows is ready/)
  await said('labelled', /as no node that StorageClass labelled allows is ready/)
  // As its author may write it; the scheduler has placed nothing.
  await cluster.kubectl(['annotate', 'pvc', 'selected', 'volume.kubernetes.io/selected-node=node-1'])
  await said(
    'selected',
    /no pod that waits for claim default\/selected tolerates its taint node\.kubernetes\.io\/unschedulable/,
  )
  await cluster.kubectl(['uncordon', 'node-1'])
  assert.equal([await nodeOf('uncordoned'), await nodeOf('selected')], ['node-1', 'node-1'])
  await cluster.kubectl(['taint', 'node', 'node-2', 'node-3', ...taint.map((one) => `${one}-`)])
  await cluster.kubectl(['label', 'node', 'node-3', 'late=yes'])
  assert.is(await nodeOf('labelled'), 'node-3')
  await cluster.kubectl(['label', 'node', ...names, 'late-'])
  await cluster.kubectl(['delete', 'pod', 'selected'])
  await remove('pvc', 'uncordoned', 'labelled', 'selected')
  await noVolumes()
})

test('a claim that cannot be served has one event, whatever changes around it, and is not tried without end', async () => {
  const immediate = { volumeBindingMode: 'Immediate' }
  const refusals = {
    many: /accessModes/,
    block: /volumeMode must be Filesystem/,
    selector: /selector/,
    typo: /parameters must be of/,
    dev: /Cannot use StorageClass dev/,
    lvm: /as no node that StorageClass lvm allows is ready and has a pool of driverKind LVM/,
    nowhere: /as no node that StorageClass nowhere allows is ready/,
    huge: /Cannot place 100 TiB/,
  }
  const names = Object.keys(refusals)
  const classes = ['typo', 'dev', 'lvm', 'nowhere']
  await cluster.apply(
    storageClass('typo', { ...immediate, parameters: { fstype: 'xfs' } }),
    storageClass('dev', { ...immediate, mountOptions: ['dev'] }),
    storageClass('lvm', { ...immediate, parameters: { driverKind: 'LVM' } }),
    classFor('nowhere', zoneLabel, ['c']),
    claim('many', { class: 'immediate', spec: { accessModes: ['ReadWriteMany'] } }),
    claim('block', { class: 'immediate', spec: { volumeMode: 'Block' } }),
    claim('selector', { class: 'immediate', spec: { selector: { matchLabels: { a: 'b' } } } }),
    ...classes.map((name) => claim(name, { class: name })),
    claim('huge', { class: 'immediate', size: '100Ti' }),
  )
  for (const [name, message] of Object.entries(refusals)) await said(name, message)
  const rounds = ['1', '2', '3']
  const others = rounds.map((round) => `other-${round}`)
  await cluster.apply(...others.map((name) => claim(name, { class: 'immediate', size: '64Mi' })))
  await Promise.all(others.map(nodeOf))
  for (const round of rounds) {
    await cluster.kubectl(['annotate', '--overwrite', 'pvc', ...names, `round=${round}`])
    await cluster.kubectl(['label', '--overwrite', 'storageclass', ...classes, `round=${round}`])
    await cluster.kubectl(['label', '--overwrite', 'node', 'node-1', `round=${round}`])
    // There is more room each time.
    const { volumeName } = (await cluster.api.request('GET', claimPath(`other-${round}`))).spec
    await remove('pvc', `other-${round}`)
    await gone(volumeName)
    await passBy()
  }
  const list = await cluster.api.request('GET', eventsPath)
  const events = names.map((name) => about(list, name, 'elastic-local-provisioner'))
  assert.equal(
    events.map((found) => found.map(({ count }) => count)),
    names.map(() => [1]),
  )
  const log = await readFile(provisioner.log, 'utf8')
  for (const message of Object.values(refusals)) assert.not.match(log, message)
  await remove('pvc', ...names)
})

test.run()
