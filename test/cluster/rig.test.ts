import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, realpath, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { readMountTable } from '../../src/mount/table.ts'
import { CommandError } from '../../src/run.ts'
import { patience } from '../patience.ts'
import { suite } from '../suite.ts'
import { thrownBy } from '../thrown.ts'
import { buildWatchUrl, type KubeObject } from './api.ts'
import { type Cluster, startCluster, withCluster } from './cluster.ts'
import type { HollowKubelet } from './kubelet.ts'
import { buildPod, installToyDriver, podPath, toyDriver } from './toy.ts'

interface World {
  folder: string
  cluster: Cluster
  kubelet: HollowKubelet
}

const test = suite<World>('cluster rig')

const isRunning = (pod: KubeObject | undefined) => pod?.status.phase === 'Running'
const isGone = (object: unknown) => object === undefined
/** The mount that the toy driver makes for a pod's volume. */
const toyMount = (kubelet: HollowKubelet, pod: KubeObject) =>
  join(kubelet.rootDir, 'pods', pod.metadata.uid, 'volumes/test~toy/toy')
const flexVolume = { name: 'toy', flexVolume: { driver: toyDriver } }

/** The processes whose command line names that folder. */
async function processesOf(folder: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  return lines.filter((line) => line.includes(folder))
}

const mountsOf = async (folder: string) => (await readMountTable()).under(folder).map(({ target }) => target)

/** Runs a command that shall be refused, and gives what it said. */
const refusal = async (work: () => Promise<unknown>) => (await thrownBy(CommandError, work)).stderr

test.before(async (world) => {
  world.folder = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-rig-')))
  world.cluster = await startCluster({ folder: world.folder })
  world.kubelet = await world.cluster.startKubelet({
    name: 'node-1',
    hostnameLabel: 'host-of-node-1',
    labels: { zone: 'a' },
  })
  await installToyDriver(world.kubelet.pluginDir)
})

test.after(async ({ cluster, folder }) => {
  await cluster?.close()
  await rm(folder, { recursive: true, force: true })
})

test('a path of the API is watched as a list, or as one object of it', () => {
  const watched = (path: string) => {
    const { url, isList } = buildWatchUrl(path)
    const { pathname, searchParams } = new URL(url, 'http://server')
    return [pathname, searchParams.get('fieldSelector') ?? searchParams.get('labelSelector'), isList]
  }
  assert.equal(watched('/api/v1/nodes'), ['/api/v1/nodes', null, true])
  assert.equal(watched('/api/v1/nodes/a'), ['/api/v1/nodes', 'metadata.name=a', false])
  assert.equal(watched('/api/v1/namespaces/a'), ['/api/v1/namespaces', 'metadata.name=a', false])
  assert.equal(watched(podPath('a')), ['/api/v1/namespaces/default/pods', 'metadata.name=a', false])
  assert.equal(watched('/apis/storage.k8s.io/v1/storageclasses?labelSelector=a=b'), [
    '/apis/storage.k8s.io/v1/storageclasses',
    'a=b',
    true,
  ])
})

test('a node has the labels it was started with, and a host name that is not its own name', async ({ cluster }) => {
  const node = await cluster.get('node/node-1')
  assert.is(node?.metadata.labels?.['kubernetes.io/hostname'], 'host-of-node-1')
  assert.is(node?.metadata.labels?.zone, 'a')
})

test('a pod with an emptyDir runs, and the kubelet counts what the volume holds', async ({ cluster, kubelet }) => {
  await cluster.apply(buildPod('plain', [{ name: 'scratch', emptyDir: {} }]))
  const pod = await cluster.waitFor(podPath('plain'), isRunning)
  await stat(join(kubelet.rootDir, 'pods', pod.metadata.uid, 'volumes/kubernetes.io~empty-dir/scratch'))
  const { pods } = await kubelet.stats()
  assert.equal(
    pods.map(({ podRef }) => podRef.name),
    ['plain'],
  )
  const events = await cluster.kubectl(['get', 'events', '--output=name'])
  assert.match(events.stdout, 'event/plain.')
})

test('waitFor() says what it saw last when time is up', async ({ cluster }) => {
  const error = await thrownBy(Error, () => cluster.waitFor(podPath('plain'), isGone, 200))
  assert.match(error.message, `has not become as awaited in ${200 * patience} ms`)
  assert.match(error.message, '"phase": "Running"')
})

test('the real volume manager has a flex driver mount, and unmount', async ({ cluster, kubelet }) => {
  await cluster.apply(buildPod('flex', [flexVolume]))
  const pod = await cluster.waitFor(podPath('flex'), isRunning)
  const target = toyMount(kubelet, pod)
  assert.is((await readMountTable()).at(target)?.fsType, 'tmpfs')
  await cluster.kubectl(['delete', 'pod', 'flex'])
  assert.equal(await mountsOf(target), [])
})

test('a kubelet that was killed finds what is to be unmounted', async ({ cluster, kubelet }) => {
  await cluster.apply(buildPod('orphan', [flexVolume]))
  const target = toyMount(kubelet, await cluster.waitFor(podPath('orphan'), isRunning))
  await kubelet.kill()
  await thrownBy(TypeError, () => kubelet.stats())
  await cluster.kubectl(['delete', 'pod', 'orphan', '--wait=false'])
  assert.equal(await mountsOf(target), [target])
  await kubelet.start()
  await cluster.waitFor(podPath('orphan'), isGone)
  assert.equal(await mountsOf(target), [])
})

test('objects outlive the API server and etcd, and a watch goes on', async ({ cluster }) => {
  const seen = cluster.waitFor('/api/v1/namespaces/default/configmaps/late', Boolean)
  await cluster.apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'early', namespace: 'default' } })
  const components = [cluster.component('etcd'), cluster.component('kube-apiserver')]
  for (const component of components) await component.kill('SIGKILL')
  for (const component of components) await component.start()
  assert.is((await cluster.get('configmap/early'))?.metadata.name, 'early')
  await cluster.apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'late', namespace: 'default' } })
  await seen
})

test('a component that is paused does nothing until it goes on', async ({ cluster }) => {
  const manager = cluster.component('kube-controller-manager')
  manager.pause()
  await cluster.kubectl(['create', 'namespace', 'paused'])
  const account = '/api/v1/namespaces/paused/serviceaccounts/default'
  await thrownBy(Error, () => cluster.waitFor(account, Boolean, 500))
  manager.resume()
  await cluster.waitFor(account, Boolean)
})

test('a service account has no rights but those it was given', async ({ cluster }) => {
  const account = ['--kubeconfig', await cluster.serviceAccountKubeconfig('default', 'default')]
  const list = () => cluster.kubectl([...account, 'get', 'persistentvolumes'])
  assert.match(await refusal(list), 'system:serviceaccount:default:default" cannot list resource "persistentvolumes"')
  const rbac = { apiVersion: 'rbac.authorization.k8s.io/v1', metadata: { name: 'reader' } }
  await cluster.apply(
    { ...rbac, kind: 'ClusterRole', rules: [{ apiGroups: [''], resources: ['persistentvolumes'], verbs: ['list'] }] },
    {
      ...rbac,
      kind: 'ClusterRoleBinding',
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'reader' },
      subjects: [{ kind: 'ServiceAccount', name: 'default', namespace: 'default' }],
    },
  )
  await list()
})

test("a token that is bound to a node carries the node's name", async ({ cluster }) => {
  const whoAmI = async (kubeconfig: string) => {
    const { stdout } = await cluster.kubectl(['--kubeconfig', kubeconfig, 'auth', 'whoami', '--output=json'])
    return JSON.parse(stdout).status.userInfo
  }
  const bound = await whoAmI(await cluster.serviceAccountKubeconfig('default', 'default', 'node-1'))
  assert.equal(bound.extra['authentication.kubernetes.io/node-name'], ['node-1'])
  const unbound = await whoAmI(await cluster.serviceAccountKubeconfig('default', 'default'))
  assert.is(unbound.extra['authentication.kubernetes.io/node-name'], undefined)
})

test('a node may change itself, and no other node', async ({ cluster }) => {
  await cluster.apply({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-2' } })
  const node = ['--kubeconfig', await cluster.nodeKubeconfig('node-1'), 'annotate', 'node']
  await cluster.kubectl([...node, 'node-1', 'a=b'])
  assert.match(
    await refusal(() => cluster.kubectl([...node, 'node-2', 'a=b'])),
    "node 'node-1' cannot read 'node-2', only its own Node object",
  )
})

test('close() ends every process and takes away every mount', async ({ cluster, kubelet, folder }) => {
  await cluster.apply(buildPod('last', [flexVolume]))
  await cluster.waitFor(podPath('last'), isRunning)
  assert.ok((await processesOf(folder)).length >= 5)
  assert.ok((await mountsOf(folder)).includes(kubelet.rootDir))
  await cluster.close()
  assert.equal(await processesOf(folder), [])
  assert.equal(await mountsOf(folder), [])
})

for (const signal of ['SIGKILL', 'SIGTERM'] as const)
  test(`nothing of a cluster outlives its test, which ${signal} ends`, async ({ folder }) => {
    const place = join(folder, signal)
    const script = `
      import { startCluster } from ${JSON.stringify(join(import.meta.dirname, 'cluster.ts'))}
      const cluster = await startCluster({ folder: ${JSON.stringify(place)} })
      await cluster.startKubelet({ name: 'node-1' })
      console.log('started')`
    const args = ['--propagation', 'private', '--mount', process.execPath, '--input-type=module', '--eval', script]
    const child = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(child.stdout, 'data')
    assert.ok((await processesOf(place)).length > 5)
    child.kill(signal)
    await once(child, 'close')
    // The kernel is about to end those of a test that could not do it itself.
    for (let i = 0; i < 100 && (await processesOf(place)).length > 0; i++) await new Promise(setImmediate)
    assert.equal(await processesOf(place), [])
  })

test('withCluster() leaves no folder behind, also of work that fails', async () => {
  let place = ''
  const work = withCluster({}, async (_, folder) => {
    place = folder
    throw new RangeError('on purpose')
  })
  await thrownBy(RangeError, work)
  await thrownBy(Error, () => stat(place))
})

test.run()
