/** Volumes of local-path-provisioner that are adopted on a real cluster, and killed at each change; then without that project. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { csiDriverName } from '../../src/csi/driver.ts'
import { buildForeign, foreignClass, foreignClasses } from '../foreign.ts'
import { suite } from '../suite.ts'
import { buildRandom, pickSeed } from '../torture/random.ts'
import { agreement } from './agreement.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, namespace, openElastic } from './elastic.ts'
import { placeOf } from './front.ts'
import { findLossesTold, openMover, type PersonWhoMoves } from './moving.ts'
import { poll } from './program.ts'

const test = suite('volumes of local-path-provisioner')
const claimPath = (name: string) => `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
const volumePath = (name: string) => `/api/v1/persistentvolumes/${name}`
const className = foreignClasses['local-path']

let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let node: ElasticNode
let mover: PersonWhoMoves

test.before(async () => {
  const opened = await openElastic()
  ;({ cluster, elastic, close } = opened)
  await elastic.startProvisioner({}, { again: true })
  node = await elastic.startNode({
    name: 'node-1',
    diskBytes: 8 * gibibyte,
    driverKind: 'BINDMOUNT',
    daemonFlags: { csi: 'true' },
  })
  mover = await openMover(cluster, opened.scratch)
  const isRegistered = ({ spec }: KubeObject) => spec.drivers?.some(({ name }: KubeObject) => name === csiDriverName)
  await cluster.waitFor('/apis/storage.k8s.io/v1/csinodes/node-1', (found) => Boolean(found && isRegistered(found)))
  await cluster.apply(foreignClass('local-path'))
})

test.after(async () => {
  mover?.close()
  await close?.()
})

const claimOf = (name: string) => cluster.waitFor<KubeObject>(claimPath(name), Boolean)

/** A claim with a directory and a PersistentVolume as local-path-provisioner makes them; gives the volume's name. */
async function make(name: string): Promise<string> {
  await cluster.apply(claim(name, { size: '64Mi', class: className }))
  const { metadata } = await claimOf(name)
  const { items } = await cluster.api.request('GET', '/api/v1/nodes')
  const foreign = buildForeign('local-path', {
    claim: { namespace: 'default', name, uid: metadata.uid },
    ...{ node: 'node-1', hostname: items[0].metadata.labels['kubernetes.io/hostname'], size: '64Mi' },
    place: node.volumesDir,
  })
  const folder = join(node.volumesDir, foreign.name)
  await mkdir(folder, { mode: 0o777 })
  await writeFile(join(folder, 'file'), 'precious')
  await cluster.apply(foreign.volume as KubeObject)
  await cluster.waitFor<KubeObject>(claimPath(name), (state) => state?.status?.phase === 'Bound', 60_000)
  return foreign.volume.metadata.name
}

/** Where a pod's volume is on its node, once it runs. */
async function folderOf(name: string): Promise<string> {
  const isRunning = (state: KubeObject | undefined) => state?.status?.phase === 'Running'
  const { metadata } = await cluster.waitFor<KubeObject>(podPath(name), isRunning, 120_000)
  const { spec } = await claimOf(name)
  return join(node.kubelet.rootDir, 'pods', metadata.uid, placeOf(spec.volumeName, 'csi'))
}

/** A volume as it is when it is ours, and everybody knows. */
async function mustBeOurs(name: string, volume: string): Promise<void> {
  const { spec, metadata, status } = await cluster.waitFor<KubeObject>(volumePath(volume), Boolean)
  assert.equal(
    [spec.csi?.driver, spec.persistentVolumeReclaimPolicy, status.phase, metadata.deletionTimestamp],
    [csiDriverName, 'Delete', 'Bound', undefined],
  )
  const state = await claimOf(name)
  assert.equal([state.status.phase, state.status.capacity.storage], ['Bound', '64Mi'])
  const records = `/api/v1/namespaces/${namespace}/configmaps`
  await cluster.waitFor(`${records}/elastic-local-move.${volume}`, (record) => record === undefined)
  const isTold = (ledger: KubeObject | undefined) => ledger?.data[volume]?.includes(metadata.uid)
  await cluster.waitFor(`${records}/elastic-local.node-1.ledger`, isTold)
  assert.is(await readFile(join(node.volumesDir, volume, 'file'), 'utf8'), 'precious')
}

test('what a pod uses is left as it is, and what would be done can be seen first', async () => {
  const volumes = [await make('used'), await make('data')]
  await cluster.apply(pod('used', ['used']))
  await cluster.waitFor<KubeObject>(podPath('used'), (state) => state?.status?.phase === 'Running', 120_000)
  const looked = await mover.run(['adopt', '--from', 'local-path', '--all', '--dry-run'])
  assert.match(looked.said, /^Would adopt default\/data \(pvc-/m)
  assert.match(looked.said, /^Would not adopt default\/used, as pod used uses it: stop it first\./m)
  assert.equal([looked.exitCode, looked.changes], [1, []])
  const { exitCode, said } = await mover.run(['adopt', '--from', 'local-path', '-A'])
  assert.match(said, /^Adopted default\/data\.$/m)
  assert.match(said, /^Did not adopt default\/used, as pod used uses it/m)
  assert.is(exitCode, 1)
  await mustBeOurs('data', volumes[1] ?? '')
  assert.ok((await readdir(node.volumesDir)).includes(`${volumes[0]}_default_used`))
  await cluster.kubectl(['delete', 'pod', 'used'])
  await poll(async () => (await mover.run(['adopt', '--from', 'local-path', 'used'])).exitCode === 0, 60_000)
  await mustBeOurs('used', volumes[0] ?? '')
})

const seed = pickSeed()
test(`killed at each change that it makes, before it is done or after, it goes on (SEED=${seed})`, async () => {
  const random = buildRandom(seed)
  for (let at = 1, isOver = false; !isOver; at += 1) {
    const name = `killed-${at}`
    const volume = await make(name)
    const killed = await mover.run(['adopt', '--from', 'local-path', name], {
      kill: { at, isDone: random.chance(0.5) },
    })
    isOver = killed.exitCode === 0
    const ended = await mover.run(['adopt', '--from', 'local-path', name])
    assert.is(ended.exitCode, 0, `at ${killed.changes.at(-1)}: ${ended.said}`)
    await mustBeOurs(name, volume)
  }
})

test('pods have it, it grows, and it goes with its claim, when nothing of the other project is left', async () => {
  await cluster.kubectl(['delete', 'storageclass', className])
  await cluster.apply(pod('data', ['data']))
  const folder = await folderOf('data')
  assert.is(await readFile(join(folder, 'file'), 'utf8'), 'precious')
  // As docs/from-others.md says.
  await cluster.apply(storageClass(className, { parameters: { front: 'csi', driverKind: 'BINDMOUNT' } }))
  const change = { spec: { resources: { requests: { storage: '128Mi' } } } }
  await cluster.kubectl(['patch', 'pvc', 'data', '--patch', JSON.stringify(change)])
  await cluster.waitFor<KubeObject>(claimPath('data'), (state) => state?.status.capacity?.storage === '128Mi', 120_000)
  const { spec } = await claimOf('data')
  await cluster.kubectl(['delete', 'storageclass', className])
  await cluster.kubectl(['delete', 'pod', 'data'])
  await cluster.kubectl(['delete', 'pvc', 'data'])
  await cluster.waitFor(volumePath(spec.volumeName), (state) => state === undefined, 120_000)
  assert.not((await readdir(node.volumesDir)).includes(spec.volumeName))
  assert.is((await agreement(elastic, [node])).length > 0, true)
})

test('nobody was told of a loss but that the claims were Lost, which is said beforehand', async () => {
  assert.equal(await findLossesTold(cluster), ['ClaimLost'])
})

test.run()
