/** Volumes that are moved from FlexVolume to CSI and back, while pods use them or not, and while whoever moves them is killed. */
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { csiDriverName } from '../../src/csi/driver.ts'
import { readMountTable } from '../../src/mount/table.ts'
import { suite } from '../suite.ts'
import { buildRandom, pickSeed } from '../torture/random.ts'
import { agreement } from './agreement.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, namespace, openElastic } from './elastic.ts'
import { placeOf } from './front.ts'
import { findLossesTold, openMover, type PersonWhoMoves } from './moving.ts'
import { poll } from './program.ts'

const test = suite('moves between fronts')
const claimPath = (name: string) => `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
const volumePath = (name: string) => `/api/v1/persistentvolumes/${name}`
const recordPath = (volume: string) => `/api/v1/namespaces/${namespace}/configmaps/elastic-local-move.${volume}`

let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let node: ElasticNode
let mover: PersonWhoMoves
/** Names of volumes by their claims. */
const volumes: Record<string, string> = {}

test.before(async () => {
  const opened = await openElastic()
  ;({ cluster, elastic, close } = opened)
  await elastic.startProvisioner({}, { again: true })
  node = await elastic.startNode({ name: 'node-1', diskBytes: 8 * gibibyte, daemonFlags: { csi: 'true' } })
  mover = await openMover(cluster, opened.scratch)
  const isRegistered = ({ spec }: KubeObject) => spec.drivers?.some(({ name }: KubeObject) => name === csiDriverName)
  await cluster.waitFor('/apis/storage.k8s.io/v1/csinodes/node-1', (found) => Boolean(found && isRegistered(found)))
  await cluster.apply(...['used', 'data'].flatMap((name) => [claim(name, { size: '64Mi' }), pod(name, [name])]))
  for (const name of ['used', 'data']) {
    await writeFile(join(await folderOf(name, 'flex'), 'file'), 'precious')
    volumes[name] = (await claimOf(name)).spec.volumeName
  }
  await cluster.kubectl(['delete', 'pod', 'data'])
})

test.after(async () => {
  mover?.close()
  await close?.()
})

const claimOf = (name: string) => cluster.waitFor<KubeObject>(claimPath(name), Boolean)

/** Where a pod's volume is on its node, once it runs. */
async function folderOf(name: string, by: 'flex' | 'csi'): Promise<string> {
  const { metadata } = await cluster.waitFor<KubeObject>(
    podPath(name),
    (state) => state?.status?.phase === 'Running',
    120_000,
  )
  const { spec } = await claimOf(name)
  return join(node.kubelet.rootDir, 'pods', metadata.uid, placeOf(spec.volumeName, by))
}

/** A volume as it is when nobody moves it: of that front, bound, and deleted with its claim. */
async function mustBeOn(name: string, front: 'flex' | 'csi'): Promise<void> {
  const volume = volumes[name] ?? ''
  const { spec, metadata, status } = await cluster.waitFor<KubeObject>(volumePath(volume), Boolean)
  assert.equal(
    [Boolean(spec.csi), spec.persistentVolumeReclaimPolicy, status.phase, metadata.deletionTimestamp],
    [front === 'csi', 'Delete', 'Bound', undefined],
  )
  const state = await claimOf(name)
  assert.equal([state.status.phase, state.status.capacity.storage], ['Bound', '64Mi'])
  await cluster.waitFor(recordPath(volume), (record) => record === undefined)
  const isTold = (ledger: KubeObject | undefined) => ledger?.data[volume]?.includes(metadata.uid)
  await cluster.waitFor(`/api/v1/namespaces/${namespace}/configmaps/elastic-local.node-1.ledger`, isTold)
}

test('what a pod uses is left as it is, and what would be done can be seen first', async () => {
  const looked = await mover.run(['move-to-csi', '--all', '--dry-run'])
  assert.match(looked.said, /^Would move default\/data \(pvc-/m)
  assert.match(looked.said, /^Would not move default\/used, as pod used uses it: stop it first, or use --in-use/m)
  assert.equal([looked.exitCode, looked.changes], [1, []])
  const { exitCode, said } = await mover.run(['move-to-csi', '-A'])
  assert.match(said, /^Moved default\/data to CSI\.$/m)
  assert.match(said, /^Did not move default\/used, as pod used uses it/m)
  assert.is(exitCode, 1)
  await mustBeOn('data', 'csi')
  await mustBeOn('used', 'flex')
})

const seed = pickSeed()
test(`killed at each change that it makes, before it is done or after, it goes on, both ways (SEED=${seed})`, async () => {
  const random = buildRandom(seed)
  let to: 'flex' | 'csi' = 'flex'
  for (let at = 1, isOver = false; !isOver; at += 1) {
    const killed = await mover.run([`move-to-${to}`, 'data'], { kill: { at, isDone: random.chance(0.5) } })
    isOver = killed.exitCode === 0
    const ended = await mover.run([`move-to-${to}`, 'data'])
    assert.is(ended.exitCode, 0, `at ${killed.changes.at(-1)}: ${ended.said}`)
    await mustBeOn('data', to)
    to = to === 'flex' ? 'csi' : 'flex'
  }
  const { exitCode, said } = await mover.run(['move-to-csi', 'data'])
  assert.is(exitCode, 0, said)
})

test('a pod runs on while its volume is moved, with the API server and the daemon away in between', async () => {
  const before = await folderOf('used', 'flex')
  const { exitCode, said, changes } = await mover.run(['move-to-csi', 'used', '--in-use'], {
    atChange: async (count) => {
      const part = count === 5 ? cluster.component('kube-apiserver') : count === 3 ? node.daemon : undefined
      await part?.kill()
      await part?.start()
    },
  })
  assert.is(exitCode, 0, `${said}\n${changes.join('\n')}`)
  assert.is(await readFile(join(before, 'file'), 'utf8'), 'precious')
  await mustBeOn('used', 'csi')
  await writeFile(join(before, 'later'), 'also')
  await cluster.kubectl(['delete', 'pod', 'used'])
  await poll(async () => !(await readMountTable()).at(before), 120_000)
  assert.not(existsSync(before))
  await cluster.apply(pod('used', ['used']))
  const after = await folderOf('used', 'csi')
  assert.equal(await Promise.all(['file', 'later'].map((file) => readFile(join(after, file), 'utf8'))), [
    'precious',
    'also',
  ])
})

test('a moved volume grows as one of its new front, and goes with its claim', async () => {
  // While nobody has it: not every machine lets a mounted ext4 grow.
  const change = { spec: { resources: { requests: { storage: '128Mi' } } } }
  await cluster.kubectl(['patch', 'pvc', 'data', '--patch', JSON.stringify(change)])
  await cluster.waitFor(claimPath('data'), (state) => state?.status.capacity?.storage === '128Mi', 120_000)
  await cluster.kubectl(['delete', 'pvc', 'data'])
  await cluster.waitFor(volumePath(volumes.data ?? ''), (state) => state === undefined, 120_000)
  assert.is((await agreement(elastic, [node])).length, 1)
})

test('nobody was told of a loss but that the claims were Lost, which is said beforehand', async () => {
  assert.equal(await findLossesTold(cluster), ['ClaimLost'])
})

test.run()
