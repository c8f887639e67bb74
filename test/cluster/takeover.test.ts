/** From the predecessor to us: its PVs, and its volumes, which carry no mark, go on with their data. */
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { readMountTable } from '../../src/mount/table.ts'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, executable, namespace, openElastic } from './elastic.ts'

const test = suite('takeover')
const driver = 'volumes.k8s.elastic.co~elastic-local'
const driverName = 'volumes.k8s.elastic.co/elastic-local'
const nodeLabel = 'volumes.k8s.elastic.co/node-affinity'
const volumesPath = '/api/v1/persistentvolumes'
const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
const running = (name: string) => cluster.waitFor(podPath(name), (state) => state?.status?.phase === 'Running', 60_000)
/** Claims of the predecessor: with a pod; without one; whose PV names no node; and one to be deleted. */
const claims = ['used', 'idle', 'nowhere', 'unwanted']
let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let node: ElasticNode
let kubeconfig = ''

/** The predecessor's flex driver, as far as the kubelet sees it: a directory, mounted into the pod's folder. */
const oldDriver = (volumesDir: string) => `#!/bin/sh
case $1 in
  init) echo '{"status": "Success", "capabilities": {"attach": false}}' ;;
  mount) mkdir -p "$2" '${volumesDir}'/"$(basename "$2")" && mount --bind '${volumesDir}'/"$(basename "$2")" "$2" && echo '{"status": "Success"}' ;;
  unmount) umount "$2" && echo '{"status": "Success"}' ;;
  *) echo '{"status": "Not supported"}' ;;
esac
`

/** The PV of the predecessor for a claim. */
function oldVolume(uid: string, name: string, node: string | undefined) {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: {
      name: `pvc-${uid}`,
      annotations: { 'pv.kubernetes.io/provisioned-by': driverName },
      ...(node ? { labels: { [nodeLabel]: node } } : {}),
    },
    spec: {
      capacity: { storage: '512Mi' },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Delete',
      storageClassName: 'predecessor',
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace: 'default', name, uid },
      flexVolume: { driver: driverName, options: { sizeBytes: String(512 << 20) } },
    },
  }
}

/** What the predecessor left: claims and PVs, directories with data, and a pod that runs on one of them. */
async function leave(kubelet: ElasticNode['kubelet'], volumesDir: string): Promise<void> {
  const folder = join(kubelet.pluginDir, driver)
  await mkdir(folder)
  await writeFile(join(folder, 'elastic-local'), oldDriver(volumesDir))
  await chmod(join(folder, 'elastic-local'), 0o755)
  await cluster.apply(
    storageClass('predecessor', { provisioner: driverName, volumeBindingMode: 'Immediate' }),
    ...claims.map((name) => claim(name, { class: 'predecessor' })),
  )
  for (const name of claims) {
    const { metadata } = await cluster.api.request('GET', `/api/v1/namespaces/default/persistentvolumeclaims/${name}`)
    await cluster.apply(oldVolume(metadata.uid, name, name === 'nowhere' ? undefined : 'node-1'))
    await mkdir(join(volumesDir, `pvc-${metadata.uid}`))
    await writeFile(join(volumesDir, `pvc-${metadata.uid}`, 'file'), name)
  }
  await mkdir(join(volumesDir, 'home'))
  await cluster.apply(pod('old', ['used']))
  await running('old')
}

async function volumeOf(claimName: string): Promise<string> {
  const path = `/api/v1/namespaces/default/persistentvolumeclaims/${claimName}`
  const { spec } = await cluster.waitFor(path, (state) => state?.status?.phase === 'Bound', 60_000)
  return spec.volumeName
}
async function folderOf(podName: string, claimName: string): Promise<string> {
  const { metadata } = await running(podName)
  return join(node.kubelet.rootDir, 'pods', metadata.uid, 'volumes', driver, await volumeOf(claimName))
}

/** Deletes a PV as somebody does who takes its finalizers away. */
async function forceAway(name: string): Promise<void> {
  const patch = JSON.stringify({ metadata: { finalizers: null } })
  await cluster.kubectl(['delete', 'pv', name, '--wait=false'])
  await cluster.kubectl(['patch', 'pv', name, '--type=merge', '--patch', patch])
  await cluster.waitFor(`${volumesPath}/${name}`, (state) => state === undefined, 60_000)
}
async function adopt(name: string, ...more: string[]) {
  const flags = [`--kubeconfig=${kubeconfig}`, '--node-name=node-1', `--socket=${node.socket}`]
  return await run(executable, ['volumes', 'adopt', name, ...flags, ...more], { accept: [1, 2] })
}

test.before(async () => {
  ;({ cluster, elastic, close } = await openElastic())
  const options = { name: 'node-1', diskBytes: gibibyte, driverKind: 'BINDMOUNT' } as const
  node = await elastic.startNode({ ...options, before: leave })
  kubeconfig = await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon', 'node-1')
  await elastic.startProvisioner()
})

test.after(() => close())

test('without --takeover nothing is touched, and who asks is told of it', async () => {
  const idle = await volumeOf('idle')
  await cluster.apply(pod('early', ['idle']))
  await cluster.waitFor('/api/v1/namespaces/default/events', (list) =>
    list?.items.some(
      ({ involvedObject, message }: { involvedObject: { name: string }; message: string }) =>
        involvedObject.name === 'early' && /exists without our mark.*--takeover/.test(message),
    ),
  )
  await cluster.kubectl(['delete', 'pod', 'early'])
  assert.is(await readFile(join(node.volumesDir, idle, 'file'), 'utf8'), 'idle')
  assert.equal((await elastic.ask(node.socket, '/v1/volumes')).volumes, [])
})

test('doctor --takeover says what would be done, and does nothing', async () => {
  const flags = [
    `--kubeconfig=${kubeconfig}`,
    '--node-name=node-1',
    `--socket=${node.socket}`,
    '--driver-kind=BINDMOUNT',
  ]
  const places = [`--volumes-dir=${node.volumesDir}`, `--kubelet-dir=${node.kubelet.rootDir}`]
  const { stdout } = await run(
    executable,
    ['doctor', '--takeover', ...flags, ...places, `--plugin-dir=${node.kubelet.pluginDir}`],
    { accept: [0, 1] },
  )
  for (const name of ['used', 'idle', 'unwanted'])
    assert.match(stdout, new RegExp(`${await volumeOf(name)} at .* is the predecessor's\n`))
  assert.match(stdout, new RegExp(`${await volumeOf('nowhere')} at .* names no node: it would be given this one`))
  assert.match(stdout, /A daemon with --takeover would mark as ours/)
  assert.not.match(stdout, /home/)
  assert.equal((await elastic.ask(node.socket, '/v1/volumes')).volumes, [])
})

test('with --takeover its volumes are ours: pods go on, new ones see the data, and what is deleted is removed', async () => {
  const before = (await readMountTable()).at(await folderOf('old', 'used'))
  await elastic.restartDaemon(node, { flags: { takeover: 'true' } })
  const names = await Promise.all(claims.map(volumeOf))
  for (const name of names) {
    const { metadata, spec } = await cluster.waitFor(
      `${volumesPath}/${name}`,
      (state) => state?.spec.nodeAffinity && state.metadata.finalizers?.includes(driverName),
      60_000,
    )
    assert.is(metadata.labels?.[nodeLabel], 'node-1')
    assert.equal(spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values, ['node-1'])
  }
  const ledgerPath = `/api/v1/namespaces/${namespace}/configmaps/elastic-local.node-1.ledger`
  await cluster.waitFor(ledgerPath, (ledger) => names.every((name) => ledger?.data[name]), 60_000)

  assert.equal((await readMountTable()).at(await folderOf('old', 'used')), before)
  await cluster.apply(pod('second', ['used']), pod('new', ['idle', 'nowhere']))
  assert.is(await readFile(join(await folderOf('second', 'used'), 'file'), 'utf8'), 'used')
  for (const name of ['idle', 'nowhere'])
    assert.is(await readFile(join(await folderOf('new', name), 'file'), 'utf8'), name)

  await cluster.kubectl(['delete', 'pod', 'old', 'second'])
  await cluster.kubectl(['delete', 'pvc', 'used', 'unwanted'])
  for (const name of [names[0], names[3]])
    await cluster.waitFor(`${volumesPath}/${name}`, (state) => state === undefined, 60_000)
  const left = (await readdir(node.volumesDir)).filter((name) => !['.elastic-local', 'lost+found'].includes(name))
  assert.equal(left.sort(), ['home', names[1], names[2]].sort())
})

test('a volume that the cluster does not know is adopted for a claim, with its data', async () => {
  const name = await volumeOf('idle')
  await cluster.kubectl(['delete', 'pod', 'new'])
  await node.daemon.kill()
  await cluster.kubectl(['delete', 'pvc', 'idle', '--wait=false'])
  await forceAway(name)
  await elastic.restartDaemon(node)
  assert.match((await adopt(name)).stderr, /its claim is unknown: name one with --claim/)
  const { stdout } = await adopt(name, '--claim=default/again', '--storage-class=predecessor')
  await cluster.kubectl(['apply', '--filename=-'], { input: stdout })
  await cluster.apply(claim('again', { class: 'predecessor' }), pod('third', ['again']))
  assert.is(await readFile(join(await folderOf('third', 'again'), 'file'), 'utf8'), 'idle')
  assert.is(await volumeOf('again'), name)
  assert.match((await adopt(name)).stderr, /its PersistentVolume is for node node-1 already/)
})

test('a node that has another name than before gets the PersistentVolumes of its volumes, and their claims go on', async () => {
  const name = await volumeOf('again')
  await cluster.kubectl(['delete', 'pod', 'third'])
  await node.daemon.kill()
  const { metadata, spec } = await cluster.api.request('GET', `${volumesPath}/${name}`)
  await forceAway(name)
  const labels = { [nodeLabel]: 'old-name' }
  const matchExpressions = [{ key: 'kubernetes.io/hostname', operator: 'In', values: ['old-name'] }]
  const nodeAffinity = { required: { nodeSelectorTerms: [{ matchExpressions }] } }
  const { finalizers } = metadata
  await cluster.apply({
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name, labels, finalizers },
    spec: { ...spec, nodeAffinity },
  })
  await elastic.restartDaemon(node)
  await volumeOf('again')

  const { stdout } = await adopt(name)
  await forceAway(name)
  await cluster.kubectl(['apply', '--filename=-'], { input: stdout })
  await cluster.apply(pod('fourth', ['again']))
  assert.is(await readFile(join(await folderOf('fourth', 'again'), 'file'), 'utf8'), 'idle')
})

test.run()
