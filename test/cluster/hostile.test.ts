/** Objects that mean harm: PVs somebody crafted, pods that name others' volumes, and what is written about all of them. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { csiDriverName } from '../../src/csi/driver.ts'
import { findKubeConfig } from '../../src/k8s/client/api.ts'
import { CommandError } from '../../src/run.ts'
import { suite } from '../suite.ts'
import { thrownBy } from '../thrown.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, openElastic } from './elastic.ts'
import { isFlex } from './front.ts'
import { podPath } from './toy.ts'

const test = suite('hostile objects')
const driver = 'volumes.k8s.elastic.co/elastic-local'
const eventsPath = '/api/v1/namespaces/default/events'
let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let node: ElasticNode

test.before(async () => {
  ;({ cluster, elastic, close } = await openElastic())
  node = await elastic.startNode({ name: 'node-1', diskBytes: 4 * gibibyte })
  await elastic.startProvisioner()
})

test.after(() => close())

const running = (name: string) => cluster.waitFor(podPath(name), (state) => state?.status?.phase === 'Running')
const eventsOf = (list: KubeObject | undefined, kind: string, name: string): KubeObject[] =>
  (list?.items ?? []).filter(
    ({ involvedObject }: KubeObject) => involvedObject.kind === kind && involvedObject.name === name,
  )

/** Resolves when an event about the object says so. */
async function said(kind: string, name: string, message: RegExp): Promise<void> {
  await cluster.waitFor(eventsPath, (list) =>
    eventsOf(list, kind, name).some((event) => message.test(String(event.message))),
  )
}

/** A PV of a person for a claim of the same name. */
function crafted(name: string, options: Record<string, string>) {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name, labels: { 'volumes.k8s.elastic.co/node-affinity': 'node-1' } },
    spec: {
      capacity: { storage: '32Mi' },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Retain',
      storageClassName: 'none',
      claimRef: { namespace: 'default', name },
      ...source(name, { sizeBytes: '33554432', ...options }),
    },
  }
}

/** Options where a PV of this front has them. */
function source(name: string, options: Record<string, string>, more: object = {}): object {
  if (isFlex) return { flexVolume: { driver, fsType: 'ext4', options, ...more } }
  const { mountOptions, ...volumeAttributes } = options
  return {
    ...(mountOptions ? { mountOptions: mountOptions.split(',') } : {}),
    csi: { driver: csiDriverName, volumeHandle: name, fsType: 'ext4', volumeAttributes, ...more },
  }
}
const claimOf = (name: string) => claim(name, { class: 'none', size: '32Mi', spec: { volumeName: name } })

/** What each of these must be refused with. */
const crafts: Record<string, [Record<string, string>, RegExp]> = {
  suid: [{ mountOptions: 'noatime,suid' }, /Cannot mount ext4 with option "suid"/],
  dev: [{ mountOptions: 'dev' }, /Cannot mount ext4 with option "dev"/],
  helper: [{ mountOptions: 'helper=sh' }, /Cannot mount ext4 with option "helper=sh"/],
  elsewhere: [{ mountOptions: 'bind,remount' }, /Cannot mount ext4 with option "bind"/],
  panic: [{ mountOptions: 'errors=panic' }, /Cannot mount ext4 with option "errors=panic"/],
  copied: [{ mkfsOptions: '-d /etc' }, /Cannot format ext4 with "-d"/],
  journal: [{ mkfsOptions: '-J device=/dev/vda' }, /Cannot format ext4 with "device=/],
  second: [{ mkfsOptions: '-b 4096 /dev/vda' }, /Cannot format ext4 with "\/dev\/vda"/],
  sized: [{ sizeBytes: '1e9' }, /Cannot read option sizeBytes/],
  'dotted.name': [{}, /as a volume name/],
}

test('a crafted PV that reaches further than a volume may is refused, which the PV and its claim say, and nothing is made', async () => {
  for (const [name, [options]] of Object.entries(crafts)) await cluster.apply(claimOf(name), crafted(name, options))
  for (const [name, [, message]] of Object.entries(crafts)) {
    await said('PersistentVolume', name, message)
    await said('PersistentVolumeClaim', name, message)
  }
  const made = await readdir(join(node.volumesDir, '.elastic-local/loop'))
  assert.equal(made, [])
  // The same words a second time are the same event.
  const list = await cluster.api.request('GET', eventsPath)
  for (const name of Object.keys(crafts))
    assert.is(eventsOf(list, 'PersistentVolume', name).filter(({ reason }) => reason === 'VolumeNotMade').length, 1)
})

test('a StorageClass that reaches further is refused in one event on the claim, and nothing is made', async () => {
  const classes = {
    'class-suid': { mountOptions: ['suid'] },
    'class-program': { mountOptions: ['helper=sh'] },
    'class-folder': { parameters: { mkfsOptions: '-d /etc' } },
    'class-device': { parameters: { fsType: 'xfs', mkfsOptions: '-l logdev=/dev/vda' } },
  }
  for (const [name, more] of Object.entries(classes))
    await cluster.apply(storageClass(name, { volumeBindingMode: 'Immediate', ...more }), claim(name, { class: name }))
  for (const name of Object.keys(classes))
    await said('PersistentVolumeClaim', name, new RegExp(`Cannot use StorageClass ${name} as a volume cannot be made`))
  assert.equal(await readdir(join(node.volumesDir, '.elastic-local/loop')), [])
})

if (isFlex)
  test("a pod or a PV that sets the kubelet's own options is refused by the API server itself", async () => {
    const options = { 'kubernetes.io/pod.name': 'somebody', 'kubernetes.io/pvOrVolumeName': 'something' }
    const volume = { name: 'any', flexVolume: { driver, options } }
    for (const object of [pod('pretender', [], { volumes: [volume] }), crafted('pretender', options)]) {
      const { message } = await thrownBy(CommandError, () => cluster.apply(object))
      for (const key of Object.keys(options)) assert.match(message, new RegExp(`\\[${key}\\].* reserved`))
    }
  })

/** Pods that name another's volume inline; gives what they are told. */
async function stealByFlex(volume: string, wrongKey: string): Promise<RegExp> {
  const told = /only a pod whose claim is bound to it may use it/
  for (const [name, options] of Object.entries({ keyless: {}, guessing: { key: wrongKey, sizeBytes: '1' } })) {
    const flexVolume = { driver, secretRef: { name: 'secret' }, options }
    await cluster.apply(pod(name, [], { volumes: [{ name: volume, flexVolume }], spec: { nodeName: 'node-1' } }))
    await said('Pod', name, told)
  }
  return told
}

/** A pod that names our driver inline, and one with a PV whose handle is another's; gives what the last is told. */
async function stealByCsi(volume: string): Promise<RegExp> {
  const csi = { driver: csiDriverName, nodePublishSecretRef: { name: 'secret' }, volumeAttributes: { volume } }
  await cluster.apply(pod('inline', [], { volumes: [{ name: volume, csi }], spec: { nodeName: 'node-1' } }))
  await said('Pod', 'inline', /Ephemeral.* not supported/)
  const handle = crafted('handle', {})
  const nodePublishSecretRef = { name: 'secret', namespace: 'default' }
  Object.assign(handle.spec, source(volume, {}, { nodePublishSecretRef }))
  await cluster.apply(claimOf('handle'), handle, pod('handle', ['handle'], { spec: { nodeName: 'node-1' } }))
  const told = /that folder is for handle/
  await said('Pod', 'handle', told)
  return told
}

test("no key, secret or token is in what our programs write, when pods have volumes and when they are refused others'", async () => {
  const secret = 'marker-of-a-secret'
  await cluster.apply(
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'secret', namespace: 'default' },
      type: driver,
      stringData: { password: secret },
    },
    claim('theirs'),
    pod('owner', ['theirs'], {
      spec: {
        containers: [
          {
            name: 'main',
            image: 'none',
            env: [{ name: 'A', value: 'marker-of-a-pod' }],
            volumeMounts: [{ name: 'theirs', mountPath: '/data' }],
          },
        ],
      },
    }),
  )
  await running('owner')
  const { spec } = await cluster.api.request('GET', '/api/v1/namespaces/default/persistentvolumeclaims/theirs')
  const volume = await cluster.api.request('GET', `/api/v1/persistentvolumes/${spec.volumeName}`)
  const wrongKey = 'marker-of-a-wrong-key'
  const refused = isFlex ? await stealByFlex(spec.volumeName, wrongKey) : await stealByCsi(spec.volumeName)
  const key = volume.spec.flexVolume?.options.key
  if (isFlex) assert.match(key, /^.{16,}$/)
  const kubeconfig = join(cluster.folder, 'kubeconfigs/elastic-local-elastic-local-daemon-on-node-1')
  const token = findKubeConfig(kubeconfig).getCurrentUser()?.token ?? ''
  assert.ok(token.length > 100)
  const logs = await Promise.all(
    ['daemon-node-1', 'provisioner-1'].map((name) => readFile(join(cluster.folder, 'logs', `${name}.log`), 'utf8')),
  )
  assert.match(logs.join(''), new RegExp(spec.volumeName))
  const events = JSON.stringify(await cluster.api.request('GET', '/api/v1/events'))
  assert.match(events, refused)
  const hidden = [
    ...(isFlex ? [key] : []),
    secret,
    Buffer.from(secret).toString('base64'),
    wrongKey,
    'marker-of-a-pod',
    token,
  ]
  for (const text of [...logs, events]) for (const word of hidden) assert.not.ok(text.includes(word), word.slice(0, 24))
})

test.run()
