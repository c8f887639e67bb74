import { readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { parse } from 'yaml'
import { run } from '../../src/run.ts'
import { withScratch } from '../scratch.ts'
import { suite } from '../suite.ts'
import { thrownBy } from '../thrown.ts'
import type { KubeObject } from './api.ts'
import { ensureControlPlane, ensureHelm } from './build.ts'
import { overlayManifest } from './deploy-overlay.ts'

const root = join(import.meta.dirname, '../..')
const chart = join(root, 'charts/elastic-local')
const test = suite('kustomization and chart')

const [program, helm] = [await ensureControlPlane(), await ensureHelm()]
const inDeploy = read(await readFile(join(root, 'deploy.yaml'), 'utf8'))

/** The objects of a manifest by kind and name. */
function read(text: string): Map<string, KubeObject> {
  const objects = overlayManifest(text, {}) as KubeObject[]
  const byName = objects.map((object): [string, KubeObject] => [`${object.kind} ${object.metadata.name}`, object])
  assert.is(new Map(byName).size, objects.length)
  return new Map(byName.sort(([a], [b]) => (a < b ? -1 : 1)))
}

async function kustomize(folder: string): Promise<Map<string, KubeObject>> {
  return read((await run(program, ['kubectl', 'kustomize', folder])).stdout)
}

async function render(values: Readonly<Record<string, unknown>> = {}, namespace = 'elastic-local') {
  const given = Object.entries(values).flatMap(([name, value]) => ['--set-json', `${name}=${JSON.stringify(value)}`])
  return read((await run(helm, ['template', 'elastic-local', chart, '--namespace', namespace, ...given])).stdout)
}

function expected(change: (object: KubeObject) => void): Map<string, KubeObject> {
  const objects = structuredClone([...inDeploy]).filter(([, { kind }]) => kind !== 'Namespace')
  for (const [, object] of objects) change(object)
  return new Map(objects)
}

/** A field of the daemon's container that is a list of things with names. */
const named = (list: readonly { name: string }[]) => Object.fromEntries(list.map((entry) => [entry.name, entry]))

test('the kustomization gives the objects of deploy.yaml', async () => {
  assert.equal(await kustomize(root), inDeploy)
})

test('the components change what they say, and nothing else', () =>
  withScratch(async (folder) => {
    await symlink(root, join(folder, 'elastic-local'))
    const withComponents = async (names: readonly string[]) => {
      const components = names.map((name) => `elastic-local/config/kustomize/${name}`)
      await writeFile(join(folder, 'kustomization.yaml'), JSON.stringify({ resources: ['elastic-local'], components }))
      return await kustomize(folder)
    }
    const changed = async (names: readonly string[], change: (pod: KubeObject) => void) => {
      const objects = new Map(structuredClone([...inDeploy]))
      change(objects.get('DaemonSet elastic-local-daemon')?.spec.template.spec)
      assert.equal(await withComponents(names), objects)
    }
    await changed(['loop'], ({ containers: [daemon] }) =>
      daemon.env.push({ name: 'ELASTIC_LOCAL_DRIVER_KIND', value: 'LOOP' }),
    )
    const rights = read(await readFile(join(root, 'config/kustomize/page/rights.yaml'), 'utf8'))
    const deployed = new Map(structuredClone([...inDeploy, ...rights]))
    const { containers } = deployed.get('Deployment elastic-local-provisioner')?.spec.template.spec ?? {}
    containers[0].env.push({ name: 'ELASTIC_LOCAL_PAGE', value: 'true' })
    assert.equal(await withComponents(['page']), deployed)
    await changed(['thin', 'gke'], ({ containers: [daemon], volumes }) => {
      daemon.env.push({ name: 'ELASTIC_LOCAL_LVM_USE_THIN_VOLUMES', value: 'true' })
      for (const { name, hostPath } of volumes) if (name === 'plugins') hostPath.path = '/home/kubernetes/flexvolume'
    })
  }))

test('the chart gives the objects of deploy.yaml, without the namespace, which is the one of the release', async () => {
  assert.equal(
    await render(),
    expected(() => {}),
  )
})

test('the chart gives the same objects in another namespace, whose accounts the admission policies name', async () => {
  const move = (object: KubeObject) => {
    if (object.metadata.namespace) object.metadata.namespace = 'other'
    for (const subject of object.subjects ?? []) subject.namespace = 'other'
    for (const condition of object.spec?.matchConditions ?? [])
      condition.expression = condition.expression.replace(':elastic-local:', ':other:')
  }
  const moved = expected(move)
  assert.equal(await render({}, 'other'), moved)
  assert.match(JSON.stringify([...moved]), 'system:serviceaccount:other:elastic-local-daemon')
})

test('values of the chart reach the daemon, the folders of its node and the StorageClass', async () => {
  const tolerations = [{ key: 'disks', operator: 'Exists' }]
  const resources = { limits: { memory: '1Gi' } }
  const objects = await render({
    image: 'registry.example.com/elastic-local:1',
    imagePullSecrets: [{ name: 'registry' }],
    driverKind: 'LOOP',
    volumeGroup: 'fast',
    thin: true,
    volumesDir: '/srv/volumes',
    pluginDir: '/plugins-of-the-node',
    kubeletDir: '/srv/kubelet',
    hostIPC: false,
    defaultClass: true,
    daemon: { nodeSelector: { disks: 'local' }, tolerations, resources },
    provisioner: { nodeSelector: { role: 'control' }, tolerations, resources },
  })
  const daemon = objects.get('DaemonSet elastic-local-daemon')?.spec.template.spec
  const provisioner = objects.get('Deployment elastic-local-provisioner')?.spec.template.spec
  for (const [pod, nodeSelector] of [
    [daemon, { disks: 'local' }],
    [provisioner, { role: 'control' }],
  ] as const) {
    assert.is(pod.containers[0].image, 'registry.example.com/elastic-local:1')
    assert.equal(pod.imagePullSecrets, [{ name: 'registry' }])
    assert.equal(pod.nodeSelector, nodeSelector)
    assert.equal(pod.tolerations, tolerations)
    assert.equal(pod.containers[0].resources.limits, resources.limits)
  }
  assert.is(daemon.hostIPC, undefined)
  const { env, volumeMounts } = daemon.containers[0]
  const values = Object.entries(named(env)).map(([name, entry]) => [name, (entry as { value?: string }).value])
  assert.equal(Object.fromEntries(values.filter(([, value]) => value !== undefined)), {
    ELASTIC_LOCAL_DRIVER_KIND: 'LOOP',
    ELASTIC_LOCAL_HTTP_ADDRESS: ':9810',
    ELASTIC_LOCAL_KUBELET_DIR: '/srv/kubelet',
    ELASTIC_LOCAL_LVM_USE_THIN_VOLUMES: 'true',
    ELASTIC_LOCAL_LVM_VOLUME_GROUP: 'fast',
    ELASTIC_LOCAL_PLUGIN_DIR: '/plugins',
    ELASTIC_LOCAL_VOLUMES_DIR: '/srv/volumes',
  })
  const paths = (name: string) => [
    daemon.volumes.find((volume: KubeObject) => volume.name === name).hostPath.path,
    volumeMounts.find((mount: KubeObject) => mount.name === name).mountPath,
  ]
  assert.equal(paths('volumes'), ['/srv/volumes', '/srv/volumes'])
  assert.equal(paths('kubelet'), ['/srv/kubelet', '/srv/kubelet'])
  assert.equal(paths('plugins'), ['/plugins-of-the-node', '/plugins'])
  assert.equal(objects.get('StorageClass elastic-local')?.metadata.annotations, {
    'storageclass.kubernetes.io/is-default-class': 'true',
  })
})

test('the chart refuses a wrong value, and says which', async () => {
  for (const [name, value, message] of [
    ['driverKind', 'lvm', /driverKind.*'LVM', 'LOOP', 'BINDMOUNT'/],
    ['volumeGroup', '-a', /volumeGroup/],
    ['thin', 'yes', /thin.*boolean/],
    ['hostIPC', 'no', /hostIPC.*boolean/],
    ['volumesDir', 'volumes', /volumesDir/],
    ['pluginDir', '', /pluginDir/],
    ['image', '', /image/],
    ['daemon.nodeselector', {}, /daemon.*'nodeselector' not allowed/],
    ['volumegroup', 'a', /'volumegroup' not allowed/],
  ] as const)
    assert.match(String(await thrownBy(Error, () => render({ [name]: value }))), message)
})

test('helm finds nothing wrong with the chart, whose version is that of the program', async () => {
  await run(helm, ['lint', '--strict', chart])
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  const { version: own, appVersion } = parse(await readFile(join(chart, 'Chart.yaml'), 'utf8'))
  assert.equal([own, appVersion], [version, version])
})

test('a packaged chart holds all it needs', () =>
  withScratch(async (folder) => {
    await run(helm, ['package', chart, '--destination', folder])
    const [archive = ''] = await readdir(folder)
    const { stdout } = await run(helm, ['template', 'elastic-local', join(folder, archive)])
    assert.is(read(stdout).size, expected(() => {}).size)
  }))

test.run()
