/**
 * A node that has no place for a flex driver, as its /usr cannot be written and the kubelet's plugin folder is not there; and
 * whose daemon ends in the middle of what the kubelet asks.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { csiSocket, topologyKey } from '../../src/csi/driver.ts'
import { readMountTable } from '../../src/mount/table.ts'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, executable, openElastic } from './elastic.ts'
import { placeOf } from './front.ts'
import { loseAnswer } from './lost-answers.ts'
import { poll } from './program.ts'

const test = suite('a node with CSI only')
const pluginDir = '/usr/libexec/no-flex/kubelet-plugins/volume/exec'
const csi = { class: 'elastic-local-csi', size: '64Mi' }
let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let node: ElasticNode

const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
const claimPath = (name: string) => `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
const volumePath = (name: string) => `/api/v1/persistentvolumes/${name}`
const isGone = (object: unknown) => object === undefined
const remove = (kind: string, ...names: string[]) => cluster.kubectl(['delete', kind, ...names, '--wait=false'])

/** The folder of a claim in the pod of its name, which runs. */
async function folderOf(podName: string, claimName: string): Promise<string> {
  const isRunning = (state: KubeObject | undefined) => state?.status?.phase === 'Running'
  const { metadata } = await cluster.waitFor(podPath(podName), isRunning, 120_000)
  const { volumeName } = (await cluster.api.request('GET', claimPath(claimName))).spec
  return join(node.kubelet.rootDir, 'pods', metadata.uid, placeOf(volumeName, 'csi'))
}

async function grow(name: string, storage: string): Promise<void> {
  const patch = JSON.stringify({ spec: { resources: { requests: { storage } } } })
  await cluster.kubectl(['patch', 'pvc', name, '--patch', patch])
  await cluster.waitFor(claimPath(name), (state) => state?.status.capacity.storage === storage, 120_000)
}

/** How often the daemon says that it has done that with the volume. */
async function said(method: string, volume: string): Promise<number> {
  const lines = (await readFile(node.daemon.log, 'utf8')).split('\n')
  return lines.filter((line) => line.includes(`${method} `) && line.includes(volume) && line.includes(': done')).length
}

test.before(async () => {
  // It goes with this process's mount namespace.
  await run('mount', ['--bind', '/usr', '/usr'])
  await run('mount', ['-o', 'remount,bind,ro', '/usr'])
  ;({ cluster, elastic, close } = await openElastic())
  const daemonFlags = { csi: 'true', flex: 'false' }
  node = await elastic.startNode({ name: 'node-1', diskBytes: 2 * gibibyte, pluginDir, daemonFlags })
  // One that cannot renew its Lease ends.
  await elastic.startProvisioner({}, { again: true })
})

test.after(() => close())

test('nothing can be written where flex drivers are kept', async () => {
  assert.is(await mkdir('/usr/libexec/no-flex').catch(({ code }) => code), 'EROFS')
})

test('claims are made, mounted by pods, grown with a pod and without one, and removed', async () => {
  // A filesystem that this kernel lets grow.
  const parameters = { fsType: 'xfs', front: 'csi' }
  await cluster.apply(storageClass('xfs', { parameters }))
  await cluster.apply(claim('data', { class: 'xfs', size: '320Mi' }), pod('first', ['data']))
  const folder = await folderOf('first', 'data')
  await writeFile(join(folder, 'file'), 'written by the first')
  const before = (await statfs(folder)).blocks
  await grow('data', '512Mi')
  assert.ok((await statfs(folder)).blocks > before * 1.4)
  await remove('pod', 'first')
  await cluster.waitFor(podPath('first'), isGone)
  assert.not.ok(existsSync(folder))
  await grow('data', '640Mi')
  await elastic.restartDaemon(node)
  await cluster.apply(pod('second', ['data']))
  assert.is(await readFile(join(await folderOf('second', 'data'), 'file'), 'utf8'), 'written by the first')
  const { volumeName } = (await cluster.api.request('GET', claimPath('data'))).spec
  await remove('pod', 'second')
  await remove('pvc', 'data')
  await cluster.waitFor(volumePath(volumeName), isGone, 120_000)
  assert.not.ok(existsSync(join(node.volumesDir, '.elastic-local/loop', `${volumeName}.img`)))
  assert.not.ok(existsSync(pluginDir))
})

/** What becomes of the daemon, and of whom it asks, when the kubelet does not get its answer. */
const ends: Record<string, { isAway?: boolean }> = {
  'its daemon is killed': {},
  'its daemon is killed, and the API server is away': { isAway: true },
}
for (const [title, { isAway }] of Object.entries(ends))
  test(`what was done is done once, and found by the next daemon, where ${title} between an answer and its arrival`, async () => {
    const name = isAway ? 'away' : 'killed'
    const apiServer = cluster.component('kube-apiserver')
    const lose = (method: string) =>
      loseAnswer(csiSocket(node.kubelet.rootDir), method, async () => {
        await node.daemon.kill()
        if (isAway) await apiServer.kill()
      })
    /** A new daemon does what the kubelet asks for again. */
    const recover = async (isDone: () => Promise<boolean>) => {
      await node.daemon.start()
      await poll(isDone, 180_000)
      if (isAway) await apiServer.start()
    }
    const publishing = await lose('NodePublishVolume')
    await cluster.apply(claim(name, csi), pod(name, [name]))
    const { spec } = await cluster.waitFor(claimPath(name), (state) => state?.status?.phase === 'Bound', 120_000)
    const mountsOf = async () =>
      (await readMountTable()).under(node.kubelet.rootDir).filter(({ target }) => target.includes(spec.volumeName))
    await publishing.lost
    assert.is((await mountsOf()).length, 1)
    await recover(async () => (await said('NodePublishVolume', spec.volumeName)) > 1)
    const folder = await folderOf(name, name)
    assert.is((await mountsOf()).length, 1)
    await writeFile(join(folder, 'file'), 'precious')
    const unpublishing = await lose('NodeUnpublishVolume')
    await remove('pod', name)
    await unpublishing.lost
    assert.equal(await mountsOf(), [])
    await recover(async () => (await said('NodeUnpublishVolume', spec.volumeName)) > 1)
    await cluster.waitFor(podPath(name), isGone, 120_000)
    assert.equal([await mountsOf(), existsSync(folder)], [[], false])
    await cluster.apply(pod(name, [name]))
    assert.is(await readFile(join(await folderOf(name, name), 'file'), 'utf8'), 'precious')
    await remove('pod', name)
    await remove('pvc', name)
    await cluster.waitFor(volumePath(spec.volumeName), isGone, 120_000)
  })

test('a claim of flex is placed nowhere, which its event says, and the doctor of the node misses no driver', async () => {
  await cluster.apply(claim('flex', { class: 'elastic-local' }), pod('flex', ['flex']))
  const isTold = (list: KubeObject | undefined) =>
    list?.items.some(
      ({ involvedObject, message }: KubeObject) => involvedObject.name === 'flex' && /node/.test(message),
    )
  await cluster.waitFor('/api/v1/namespaces/default/events', isTold, 60_000)
  assert.is((await cluster.api.request('GET', claimPath('flex'))).spec.volumeName, undefined)
  const flags = Object.entries({ ...node.flags, 'plugin-dir': pluginDir })
    .filter(([name]) => !['namespace', 'kubeconfig', 'node-name'].includes(name))
    .map(([name, value]) => `--${name}=${value}`)
  const { stdout } = await run(executable, ['doctor', '--output=json', ...flags], { accept: [1] })
  const { findings } = JSON.parse(stdout) as { findings: { check: string; status: string; message: string }[] }
  assert.equal(
    findings.filter(({ status }) => status === 'fail'),
    [],
  )
})

test('why the kubelet does not register the driver is an event on the node', async () => {
  await cluster.kubectl(['label', '--overwrite', 'node', 'node-1', `${topologyKey}=another`])
  await elastic.restartDaemon(node)
  const isTold = (list: KubeObject | undefined) =>
    list?.items.some(
      ({ involvedObject, reason, message }: KubeObject) =>
        involvedObject.kind === 'Node' && reason === 'CsiNotRegistered' && /topology value collision/.test(message),
    )
  await cluster.waitFor('/api/v1/namespaces/default/events', isTold, 120_000)
})

test.run()
