/** The CSI driver of a daemon without a cluster, with a real kubelet: what the kubelet does by itself once it is registered. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { csiDriverName, csiSocket, topologyKey } from '../../src/csi/driver.ts'
import { Controller } from '../../src/csi/proto/csi_pb.ts'
import { readMountTable } from '../../src/mount/table.ts'
import { callService } from '../csi-client.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { claim, pod } from './claim-objects.ts'
import { withCluster } from './cluster.ts'
import { executable } from './elastic.ts'
import { Program, poll } from './program.ts'

const test = suite('CSI with a kubelet')
const volumeName = 'pvc-1'
const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`

const driver = {
  apiVersion: 'storage.k8s.io/v1',
  kind: 'CSIDriver',
  metadata: { name: csiDriverName },
  spec: { attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: ['Persistent'], fsGroupPolicy: 'File' },
}

/** The PV of that volume, for claim `data`. */
const volume = {
  apiVersion: 'v1',
  kind: 'PersistentVolume',
  metadata: { name: volumeName },
  spec: {
    accessModes: ['ReadWriteOnce'],
    capacity: { storage: '32Mi' },
    storageClassName: 'none',
    claimRef: { namespace: 'default', name: 'data' },
    csi: { driver: csiDriverName, volumeHandle: volumeName },
    nodeAffinity: {
      required: {
        nodeSelectorTerms: [{ matchExpressions: [{ key: topologyKey, operator: 'In', values: ['node-1'] }] }],
      },
    },
  },
}

test(
  'the kubelet registers it, gives its volume to pods, reads its usage, and forgets it when it stops',
  withCluster({}, async (cluster, folder) => {
    const kubelet = await cluster.startKubelet({ name: 'node-1' })
    const home = join(folder, 'daemon')
    const flags = { 'node-name': 'node-1', 'kubelet-dir': kubelet.rootDir, 'volumes-dir': join(home, 'volumes') }
    const all = { ...flags, 'driver-kind': 'BINDMOUNT', socket: join(home, 'socket') }
    await mkdir(home)
    const daemon = new Program({
      name: 'daemon',
      command: [
        ...[executable, 'daemon', '--standalone', '--csi'],
        ...Object.entries(all).map(([name, value]) => `--${name}=${value}`),
      ],
      log: join(cluster.folder, 'logs/daemon.log'),
      ready: (signal) => poll(async () => existsSync(csiSocket(kubelet.rootDir)), 60_000, signal),
    })
    cluster.adopt(daemon)
    await daemon.start()
    const registered = (is: boolean) =>
      cluster.waitFor(
        '/apis/storage.k8s.io/v1/csinodes/node-1',
        (node) => Boolean(node?.spec.drivers?.some(({ name }: KubeObject) => name === csiDriverName)) === is,
        60_000,
      )
    const [entry] = (await registered(true)).spec.drivers
    assert.equal([entry.nodeID, entry.topologyKeys], ['node-1', [topologyKey]])
    const { metadata } = await cluster.waitFor<KubeObject>('/api/v1/nodes/node-1', Boolean)
    assert.is(metadata.labels?.[topologyKey], 'node-1')

    const { calls, client } = callService(csiSocket(kubelet.rootDir), Controller)
    const volumeCapabilities = [{ accessType: { case: 'mount' as const, value: {} }, accessMode: { mode: 1 as const } }]
    await calls.createVolume({ name: volumeName, volumeCapabilities, capacityRange: { requiredBytes: 32n << 20n } })
    client.close()
    await cluster.apply(
      driver,
      volume,
      claim('data', { class: 'none', size: '32Mi', spec: { volumeName } }),
      pod('one', ['data']),
      pod('two', ['data']),
    )
    const running = (name: string) =>
      cluster.waitFor(podPath(name), (state) => state?.status?.phase === 'Running', 120_000)
    const uids = await Promise.all(['one', 'two'].map(async (name) => (await running(name)).metadata.uid))
    const [first = '', second = ''] = uids.map((uid) =>
      join(kubelet.rootDir, 'pods', uid, 'volumes/kubernetes.io~csi', volumeName, 'mount'),
    )
    await writeFile(join(first, 'file'), 'precious')
    assert.is(await readFile(join(second, 'file'), 'utf8'), 'precious')
    const usage = async () => {
      const { pods } = await kubelet.stats()
      return pods.find(({ podRef }) => podRef.uid === uids[0])?.volume?.find(({ name }) => name === 'data')
    }
    await poll(async () => Boolean((await usage())?.capacityBytes && (await usage())?.inodes), 60_000)

    // An upgrade: the kubelet forgets the driver, pods keep their mounts, and it comes back by itself.
    await daemon.kill('SIGTERM')
    await registered(false)
    assert.is(await readFile(join(second, 'file'), 'utf8'), 'precious')
    await cluster.kubectl(['delete', 'pod', 'one', '--wait=false'])
    await daemon.start()
    await registered(true)
    for (const name of ['one', 'two']) await cluster.kubectl(['delete', 'pod', name, '--ignore-not-found'])
    await poll(async () => !(await readMountTable()).at(first) && !(await readMountTable()).at(second), 60_000)
    const devices = join(kubelet.rootDir, 'plugins/kubernetes.io/csi', csiDriverName)
    assert.equal([first, second].map(existsSync), [false, false])
    assert.equal(await readdir(devices), [])
  }),
)

test.run()
