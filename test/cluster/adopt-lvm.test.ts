/** Volumes of TopoLVM and of OpenEBS LocalPV-LVM, as their sources make them, that are adopted on a node with real LVM. */
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { csiDriverName } from '../../src/csi/driver.ts'
import type { ProjectName } from '../../src/k8s/model/origin.ts'
import { buildForeign, type Foreign, foreignClass, foreignClasses, foreignLabels } from '../foreign.ts'
import { suite } from '../suite.ts'
import { buildRandom, pickSeed } from '../torture/random.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import { type Cluster, withCluster } from './cluster.ts'
import { Elastic } from './elastic.ts'
import { placeOf } from './front.ts'
import { type GuestNode, guestPaths, makeBridge } from './guest-node.ts'
import { openMover } from './moving.ts'
import { enterOwnNetwork } from './network.ts'

enterOwnNetwork()
const address = await makeBridge()
const test = suite('volumes of other projects on LVM')
const volumeGroup = 'elastic-local-vg'
const projects = ['topolvm', 'openebs-lvm'] as const
const claimPath = (name: string) => `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
const volumePath = (name: string) => `/api/v1/persistentvolumes/${name}`

/** Definitions that take any object; TopoLVM's has a status of its own, that of OpenEBS has none. */
const definitions = [
  ['topolvm.io', 'v1', 'LogicalVolume', 'logicalvolumes', 'Cluster', { subresources: { status: {} } }],
  ['local.openebs.io', 'v1alpha1', 'LVMVolume', 'lvmvolumes', 'Namespaced', {}],
].map(([group, name, kind, plural, scope, more]) => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: `${plural}.${group}` },
  spec: {
    ...{ group, scope },
    names: { kind, plural, singular: String(kind).toLowerCase() },
    versions: [
      {
        ...{ name, served: true, storage: true, ...(more as object) },
        schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
      },
    ],
  },
}))

/** Makes a claim, and all that the project makes for it, which a pod has written to. */
async function make(cluster: Cluster, node: GuestNode, project: ProjectName, claimName: string): Promise<Foreign> {
  await cluster.apply(claim(claimName, { size: '64Mi', class: foreignClasses[project] }))
  const { metadata } = await cluster.waitFor<KubeObject>(claimPath(claimName), Boolean)
  const { items } = await cluster.api.request('GET', '/api/v1/nodes')
  const request = {
    claim: { namespace: 'default', name: claimName, uid: metadata.uid },
    ...{ node: node.name, hostname: items[0].metadata.labels['kubernetes.io/hostname'], size: '64Mi' },
    place: volumeGroup,
  }
  let foreign = buildForeign(project, request)
  const { resource } = foreign
  if (resource) {
    // The API server gives its UID.
    const { uid: _, ...own } = resource.object.metadata
    const made = await cluster.api.request('POST', resource.path, { ...resource.object, metadata: own })
    foreign = buildForeign(project, { ...request, uid: made.metadata.uid })
    if (project === 'topolvm') {
      const status = foreign.resource?.object.status
      await cluster.api.request('PATCH', `${resource.path}/${made.metadata.name}/status`, { status })
    }
  }
  const { name } = foreign
  const command: Record<string, string[]> = {
    topolvm: ['-n', name, '-L', `${64 * 2 ** 20}b`, '-W', 'y', '-y', volumeGroup],
    'openebs-lvm': ['-L', `${64 * 2 ** 20}b`, '-n', name, volumeGroup, '-y'],
  }
  await node.run('lvcreate', command[project] ?? [])
  const device = `/dev/${volumeGroup}/${name}`
  await node.run('sh', [
    '-c',
    `mkfs.ext4 -q ${device} && mkdir -p /tmp/other && mount ${device} /tmp/other && chmod 2777 /tmp/other && echo precious > /tmp/other/file && umount /tmp/other`,
  ])
  await cluster.apply(foreign.volume)
  await cluster.waitFor<KubeObject>(claimPath(claimName), (state) => state?.status?.phase === 'Bound', 60_000)
  return foreign
}

const seed = pickSeed()
test(
  `logical volumes of others become ours with what is on them, and live without those others (SEED=${seed})`,
  withCluster({ address }, async (cluster, folder) => {
    const random = buildRandom(seed)
    const elastic = new Elastic(cluster)
    await elastic.applyObjects()
    await cluster.apply(...definitions, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'openebs' } })
    const node = await elastic.startLvmNode({
      ...{ name: 'guest-1', folder, address: '198.51.100.2', diskBytes: 4 * gibibyte, thin: false },
      daemonFlags: { csi: 'true' },
    })
    await elastic.startProvisioner()
    const mover = await openMover(cluster, folder)
    await cluster.kubectl([
      'label',
      'node',
      node.name,
      ...Object.entries(foreignLabels(node.name)).map((one) => one.join('=')),
    ])
    const isRegistered = (found: KubeObject | undefined) =>
      found?.spec.drivers?.some(({ name }: KubeObject) => name === csiDriverName)
    await cluster.waitFor<KubeObject>(`/apis/storage.k8s.io/v1/csinodes/${node.name}`, isRegistered, 120_000)
    const lvs = async () =>
      (await node.run('lvs', ['--noheadings', '-o', 'lv_name,lv_tags', volumeGroup])).stdout
        .split('\n')
        .map((line) => line.trim())
    const made: Record<string, Foreign> = {}
    for (const project of projects) {
      await cluster.apply(foreignClass(project))
      const foreign = await make(cluster, node, project, project)
      made[project] = foreign
      const device = `/dev/${volumeGroup}/${foreign.name}`
      await node.run('mount', [device, '/tmp/other'])
      const held = await mover.run(['adopt', '--from', project, project])
      assert.match(held.said, /Did not adopt .* as Cannot adopt .* mounted on .*\/tmp\/other; stop what uses it first/)
      await node.run('umount', ['/tmp/other'])
      assert.ok((await lvs()).includes(foreign.name), 'it is as it was')
      const at = 1 + random.below(11)
      const killed = await mover.run(['adopt', '--from', project, project], {
        kill: { at, isDone: random.chance(0.5) },
      })
      const ended = await mover.run(['adopt', '--from', project, project])
      assert.is(ended.exitCode, 0, `killed at ${at}, ${killed.changes.at(-1)}: ${ended.said}`)
      const { path, object } = foreign.resource ?? { path: '', object: { metadata: {} } }
      await cluster.waitFor(`${path}/${object.metadata.name}`, (found) => found === undefined)
      const { name } = foreign.volume.metadata
      const [ours, ...others] = (await lvs()).filter((line) => line.includes(name) || line.includes(foreign.name))
      assert.match(ours ?? '', new RegExp(`^${name} elastic-local,elastic-local.fs=ext4,elastic-local.id=`))
      assert.equal(others, [])
    }
    // The others go, and with them their classes and the labels of their plugins.
    for (const { metadata } of definitions) await cluster.kubectl(['delete', 'crd', metadata.name])
    for (const project of projects) await cluster.kubectl(['delete', 'storageclass', foreignClasses[project]])
    await cluster.kubectl(['label', 'node', node.name, ...Object.keys(foreignLabels('')).map((key) => `${key}-`)])
    await cluster.apply(pod('both', [...projects]))
    const isRunning = (state: KubeObject | undefined) => state?.status?.phase === 'Running'
    const { metadata } = await cluster.waitFor<KubeObject>('/api/v1/namespaces/default/pods/both', isRunning, 120_000)
    for (const project of projects) {
      const place = placeOf(made[project]?.volume.metadata.name, 'csi')
      const file = join(guestPaths.kubeletDir, 'pods', metadata.uid, place, 'file')
      assert.is((await node.run('cat', [file])).stdout, 'precious\n')
    }
    for (const project of projects)
      await cluster.apply(storageClass(foreignClasses[project], { parameters: { front: 'csi' } }))
    const change = { spec: { resources: { requests: { storage: '128Mi' } } } }
    for (const project of projects) {
      await cluster.kubectl(['patch', 'pvc', project, '--patch', JSON.stringify(change)])
      const hasGrown = (state: KubeObject | undefined) => state?.status.capacity?.storage === '128Mi'
      await cluster.waitFor<KubeObject>(claimPath(project), hasGrown, 120_000)
      await cluster.kubectl(['delete', 'storageclass', foreignClasses[project]])
    }
    await cluster.kubectl(['delete', 'pod', 'both'])
    await cluster.kubectl(['delete', 'pvc', ...projects])
    for (const project of projects)
      await cluster.waitFor(volumePath(made[project]?.volume.metadata.name), (found) => found === undefined, 120_000)
    assert.equal(await lvs(), [''])
    mover.close()
  }),
)

test.run()
