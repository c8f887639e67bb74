/** Raw block volumes: claims with `volumeMode: Block`, which CSI alone has. */
import { existsSync } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { readMountTable } from '../../src/mount/table.ts'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, openElastic } from './elastic.ts'
import { poll } from './program.ts'
import { podPath } from './toy.ts'

const test = suite('raw block volumes')
const mebibyte = 2 ** 20
let cluster: Cluster
let elastic: Elastic
let node: ElasticNode
let close: () => Promise<void>

const claimPath = (name: string) => `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
const running = (name: string) => cluster.waitFor(podPath(name), (state) => state?.status?.phase === 'Running', 120_000)
const blockClaim = (name: string, more: { class?: string; spec?: object } = {}) =>
  claim(name, { class: 'elastic-local-csi', size: '64Mi', ...more, spec: { volumeMode: 'Block', ...more.spec } })
const volumeDevices = (names: readonly string[]) => names.map((name) => ({ name, devicePath: `/dev/${name}` }))

/** A pod that has claims as block devices. */
const blockPod = (
  name: string,
  claims: readonly string[],
  more: { volumes?: { name: string }[]; spec?: object } = {},
) => {
  const names = [...claims, ...(more.volumes ?? []).map(({ name }) => name)]
  const containers = [{ name: 'main', image: 'none', volumeDevices: volumeDevices(names) }]
  return pod(name, claims, { ...more, spec: { containers, ...more.spec } })
}

/** The device of a claim as the kubelet gives it to the containers of a pod. */
async function deviceOf(podName: string, claimName: string): Promise<string> {
  const { metadata } = await running(podName)
  const { volumeName } = (await cluster.api.request('GET', claimPath(claimName))).spec
  return join(node.kubelet.rootDir, 'pods', metadata.uid, 'volumeDevices/kubernetes.io~csi', volumeName)
}

async function write(device: string, place: number, text: string): Promise<void> {
  const file = await open(device, 'r+')
  await file.write(Buffer.from(text), 0, text.length, place)
  await file.sync()
  await file.close()
}

async function read(device: string, place: number, length: number): Promise<string> {
  const file = await open(device)
  const { buffer } = await file.read(Buffer.alloc(length), 0, length, place)
  await file.close()
  return buffer.toString()
}

const sizeOf = async (device: string) => Number((await run('blockdev', ['--getsize64', device])).stdout)

/** Waits for an event of an object that says so. */
const said = (name: string, pattern: RegExp) =>
  cluster.waitFor('/api/v1/namespaces/default/events', (events) =>
    Boolean(
      events?.items.some(
        ({ involvedObject, message }: KubeObject) => involvedObject.name === name && pattern.test(message),
      ),
    ),
  )
const gone = (path: string) => cluster.waitFor(path, (state) => state === undefined)
const remove = (kind: string, ...names: string[]) => cluster.kubectl(['delete', kind, ...names])

test.before(async () => {
  ;({ cluster, elastic, close } = await openElastic())
  node = await elastic.startNode({ name: 'node-1', diskBytes: 2 * gibibyte, daemonFlags: { csi: 'true' } })
  await elastic.startProvisioner()
})

test.after(() => close())

test('pods of a node write on one device, its size is told, and it grows under them with what they wrote', async () => {
  await cluster.apply(blockClaim('data'), blockPod('one', ['data']), blockPod('two', ['data']))
  const [one, two] = [await deviceOf('one', 'data'), await deviceOf('two', 'data')]
  const { volumeName } = (await cluster.api.request('GET', claimPath('data'))).spec
  const { spec } = await cluster.api.request('GET', `/api/v1/persistentvolumes/${volumeName}`)
  assert.equal([spec.volumeMode, spec.csi.fsType, spec.mountOptions], ['Block', undefined, undefined])
  assert.equal([await sizeOf(one), await sizeOf(two)], [64 * mebibyte, 64 * mebibyte])
  assert.is(await read(one, 0, 4), '\0\0\0\0')
  await write(one, 0, 'first')
  await write(one, 64 * mebibyte - 4, 'last')
  assert.is(await read(two, 0, 5), 'first')
  const told = async () => {
    const volumes = (await node.kubelet.stats()).pods.flatMap(({ volume = [] }) => volume)
    return volumes.find(({ pvcRef }) => pvcRef?.name === 'data')?.capacityBytes
  }
  await poll(async () => (await told()) === 64 * mebibyte, 60_000)

  const patch = JSON.stringify({ spec: { resources: { requests: { storage: '96Mi' } } } })
  await cluster.kubectl(['patch', 'pvc', 'data', '--patch', patch])
  await cluster.waitFor(claimPath('data'), (state) => state?.status?.capacity?.storage === '96Mi', 60_000)
  assert.is(await sizeOf(two), 96 * mebibyte)
  assert.equal([await read(two, 0, 5), await read(two, 64 * mebibyte - 4, 8)], ['first', 'last\0\0\0\0'])
})

test('a daemon that is started anew, and a kubelet, take nothing from a pod, and the last pod gives the device back', async () => {
  const two = await deviceOf('two', 'data')
  await node.daemon.kill('SIGKILL')
  await remove('pod', 'one', '--wait=false')
  await node.daemon.start()
  await gone(podPath('one'))
  await node.kubelet.kill()
  await node.kubelet.start()
  assert.is(await read(two, 0, 5), 'first')
  await remove('pvc', 'data', '--wait=false')
  await remove('pod', 'two')
  await gone('/api/v1/namespaces/default/persistentvolumeclaims/data')
  await cluster.waitFor('/api/v1/persistentvolumes', (state) => state?.items.length === 0, 60_000)
  const kept = join(node.kubelet.rootDir, 'plugins/kubernetes.io/csi/volumeDevices')
  assert.equal((await readMountTable()).under(kept), [])
  assert.equal(await readdir(join(node.volumesDir, '.elastic-local/loop')), [])
  assert.equal(existsSync(two), false)
})

test('read-only, ephemeral and for one pod at a time', async () => {
  const { spec } = blockClaim('template')
  const scratch = { name: 'scratch', ephemeral: { volumeClaimTemplate: { spec } } }
  await cluster.apply(
    blockClaim('alone', { spec: { accessModes: ['ReadWriteOncePod'] } }),
    blockClaim('shared'),
    blockPod('first', ['alone', 'shared'], { volumes: [scratch] }),
  )
  await write(await deviceOf('first', 'first-scratch'), 0, 'short')
  const readOnly = { name: 'ro', persistentVolumeClaim: { claimName: 'shared', readOnly: true } }
  await cluster.apply(
    blockPod('second', ['alone'], { spec: { nodeName: 'node-1' } }),
    blockPod('reader', [], { volumes: [readOnly] }),
  )
  const { metadata } = await running('reader')
  const { volumeName } = (await cluster.api.request('GET', claimPath('shared'))).spec
  const place = join('plugins/kubernetes.io/csi/volumeDevices/publish', volumeName, metadata.uid)
  assert.is((await readMountTable()).at(join(node.kubelet.rootDir, place))?.readOnly, true)
  await said('second', /uses the ReadWriteOncePod access mode and is already in use by another pod/)
  await remove('pod', 'first', 'reader')
  await gone(claimPath('first-scratch'))
  await running('second')
  await remove('pod', 'second')
  await remove('pvc', 'alone', 'shared')
  await cluster.waitFor('/api/v1/persistentvolumes', (state) => state?.items.length === 0, 60_000)
})

test('what is no block device is refused with an event that says what to do', async () => {
  await cluster.apply(
    storageClass('directories', { parameters: { front: 'csi', driverKind: 'BINDMOUNT' } }),
    storageClass('flex', { volumeBindingMode: 'Immediate', parameters: { front: 'flex' } }),
    blockClaim('flex', { class: 'flex' }),
    blockClaim('directory', { class: 'directories' }),
  )
  await said('flex', /FlexVolumes are no block devices: use a StorageClass with front csi/)
  await remove('pvc', 'flex', 'directory')
})

test.run()
