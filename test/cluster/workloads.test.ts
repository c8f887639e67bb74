import { stat, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { readMountTable } from '../../src/mount/table.ts'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, executable, namespace, openElastic } from './elastic.ts'
import { front, placeOf } from './front.ts'

const test = suite(`workloads by ${front}`)
let scratch = ''
let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
const nodes = new Map<string, ElasticNode>()

const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
const claimPath = (name: string) => `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
const running = (name: string) => cluster.waitFor(podPath(name), (state) => state?.status?.phase === 'Running', 120_000)

/** The folder of a claim in a pod, on its node. */
async function folderOf(podName: string, claimName: string): Promise<string> {
  const { metadata, spec } = await running(podName)
  const { volumeName } = (await cluster.api.request('GET', claimPath(claimName))).spec
  const rootDir = String(nodes.get(spec.nodeName)?.kubelet.rootDir)
  return join(rootDir, 'pods', metadata.uid, placeOf(volumeName))
}
async function remove(names: readonly string[], claims: readonly string[]): Promise<void> {
  await cluster.kubectl(['delete', 'pod', ...names])
  if (claims.length > 0) await cluster.kubectl(['delete', 'pvc', ...claims])
}

test.before(async () => {
  ;({ scratch, cluster, elastic, close } = await openElastic())
  for (const name of ['node-1', 'node-2']) nodes.set(name, await elastic.startNode({ name, diskBytes: 8 * gibibyte }))
  await elastic.startProvisioner()
  await cluster.apply(
    storageClass('xfs', { parameters: { fsType: 'xfs' } }),
    storageClass('btrfs', { parameters: { fsType: 'btrfs' } }),
  )
})

test.after(() => close())

test('xfs and btrfs are what their classes say, and a read-only mount is one', async () => {
  const readOnly = { name: 'ro', persistentVolumeClaim: { claimName: 'btrfs', readOnly: true } }
  await cluster.apply(
    claim('xfs', { class: 'xfs' }),
    claim('btrfs', { class: 'btrfs' }),
    pod('kinds', ['xfs', 'btrfs']),
  )
  const [xfs, btrfs] = [await folderOf('kinds', 'xfs'), await folderOf('kinds', 'btrfs')]
  const table = await readMountTable()
  assert.equal([table.at(xfs)?.fsType, table.at(btrfs)?.fsType], ['xfs', 'btrfs'])
  const { nodeName } = (await running('kinds')).spec
  await cluster.apply(pod('reader', [], { volumes: [readOnly], spec: { nodeName } }))
  const target = await folderOf('reader', 'btrfs')
  assert.is((await readMountTable()).at(target)?.readOnly, true)
  await remove(['kinds', 'reader'], ['xfs', 'btrfs'])
})

test('two pods of a node share a claim, fsGroup is set, subPath shows a part, and the kubelet tells its usage', async () => {
  const spec = { securityContext: { fsGroup: 4711 } }
  await cluster.apply(claim('shared', { class: 'xfs' }), pod('one', ['shared'], { spec }))
  const folder = await folderOf('one', 'shared')
  assert.is((await stat(folder)).gid, 4711)
  await writeFile(join(folder, 'file'), Buffer.alloc(50 << 20))
  const { nodeName } = (await running('one')).spec
  const volumeMounts = [{ name: 'shared', mountPath: '/data', subPath: 'part' }]
  const containers = [{ name: 'main', image: 'none', volumeMounts }]
  await cluster.apply(pod('two', ['shared'], { spec: { nodeName, containers } }))
  assert.ok((await stat(join(await folderOf('two', 'shared'), 'part'))).isDirectory())
  const kubelet = nodes.get(nodeName)?.kubelet
  const figures = async () => {
    const stats = await kubelet?.stats()
    const volumes = stats?.pods.flatMap(({ volume = [] }) => volume) ?? []
    return volumes.find(({ pvcRef, usedBytes = 0 }) => pvcRef?.name === 'shared' && usedBytes > 50 << 20)
  }
  let found = await figures()
  // The kubelet measures every few seconds.
  for (let tries = 0; !found && tries < 300; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 100))
    found = await figures()
  }
  const { blocks, bsize } = await statfs(folder)
  assert.is(found?.capacityBytes, blocks * bsize)
  await remove(['one', 'two'], ['shared'])
})

test('a generic ephemeral volume comes and goes with its pod', async () => {
  const { spec } = claim('template')
  await cluster.apply(
    pod('short', [], { volumes: [{ name: 'scratch', ephemeral: { volumeClaimTemplate: { spec } } }] }),
  )
  await writeFile(join(await folderOf('short', 'short-scratch'), 'file'), '')
  const { volumeName } = (await cluster.api.request('GET', claimPath('short-scratch'))).spec
  await remove(['short'], [])
  await cluster.waitFor(`/api/v1/persistentvolumes/${volumeName}`, (state) => state === undefined)
})

test('a daemon whose pool cannot be used says so on its node', async () => {
  const kubeconfig = await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon', 'node-1')
  const flags = [`--kubeconfig=${kubeconfig}`, '--node-name=node-1', '--lvm-volume-group=elastic-local-none']
  const places = [`--socket=${scratch}/socket`, `--volumes-dir=${scratch}/volumes`, `--kubelet-dir=${scratch}`]
  await run(executable, ['daemon', ...flags, ...places], { accept: [1] })
  const { stdout } = await cluster.kubectl(['describe', 'node', 'node-1'])
  assert.match(stdout, /Warning +PoolNotUsable .* elastic-local-daemon +Cannot /)
})

test('a StatefulSet of 10 runs, and each pod has a volume of its own', async () => {
  const labels = { app: 'set' }
  const { metadata: _, ...template } = pod('set', [])
  const volumeMounts = [{ name: 'data', mountPath: '/data' }]
  await cluster.apply({
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: 'set', namespace: 'default' },
    spec: {
      serviceName: 'set',
      replicas: 10,
      selector: { matchLabels: labels },
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Delete', whenScaled: 'Delete' },
      template: {
        metadata: { labels },
        spec: { ...template.spec, volumes: [], containers: [{ name: 'main', image: 'none', volumeMounts }] },
      },
      volumeClaimTemplates: [{ metadata: { name: 'data' }, spec: claim('data', { size: '64Mi' }).spec }],
    },
  })
  const path = '/apis/apps/v1/namespaces/default/statefulsets/set'
  await cluster.waitFor(path, (state) => state?.status?.readyReplicas === 10, 180_000)
  const { items } = await cluster.api.request('GET', '/api/v1/persistentvolumes')
  const claims = items
    .map(({ spec }: KubeObject) => spec.claimRef.name)
    .filter((name: string) => /^data-set-\d$/.test(name))
  assert.equal([claims.length, new Set(claims).size], [10, 10])
  await cluster.kubectl(['delete', 'statefulset', 'set'])
  await cluster.waitFor('/api/v1/persistentvolumes', (state) => state?.items.length === 0, 120_000)
})

test('a volume grows while no pod has it, when the next one mounts it', async () => {
  await cluster.apply(claim('grown', { class: 'xfs' }), pod('before', ['grown']))
  await running('before')
  await cluster.kubectl(['delete', 'pod', 'before'])
  const patch = JSON.stringify({ spec: { resources: { requests: { storage: '1Gi' } } } })
  await cluster.kubectl(['patch', 'pvc', 'grown', '--patch', patch])
  await cluster.apply(pod('after', ['grown']))
  const folder = await folderOf('after', 'grown')
  await cluster.waitFor(claimPath('grown'), (state) => state?.status?.capacity?.storage === '1Gi', 120_000)
  const { blocks, bsize } = await statfs(folder)
  assert.ok(blocks * bsize > 0.9 * gibibyte)
  await remove(['after'], ['grown'])
})

test.run()
