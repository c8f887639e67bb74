import { join } from 'node:path'
import * as assert from 'uvu/assert'
import type { FrontName } from '../../src/daemon/front.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import { withCluster } from './cluster.ts'
import { Elastic } from './elastic.ts'
import { placeOf } from './front.ts'
import { guestPaths, makeBridge } from './guest-node.ts'
import { enterOwnNetwork } from './network.ts'

enterOwnNetwork()
const address = await makeBridge()
const test = suite('power')

const container = {
  name: 'main',
  image: 'none',
  volumeMounts: ['flex', 'csi'].map((name) => ({ name, mountPath: `/mnt/${name}` })),
  volumeDevices: [{ name: 'device', devicePath: '/dev/data' }],
}
const nodes = [
  ['thin', true, 'guest-1', '198.51.100.2'],
  ['linear', false, 'guest-2', '198.51.100.3'],
] as const
for (const [kind, thin, name, guestAddress] of process.env.LONG ? nodes : nodes.slice(0, 1))
  test(
    `a node with real LVM (${kind}) loses its power with pods on it: volumes of both fronts, and a device, come back with what was synced`,
    withCluster({ address }, async (cluster, folder) => {
      const elastic = new Elastic(cluster)
      await elastic.applyObjects()
      const node = await elastic.startLvmNode({
        ...{ name, folder, address: guestAddress, diskBytes: 4 * gibibyte, thin },
        daemonFlags: { csi: 'true' },
      })
      await elastic.startProvisioner()
      await cluster.apply(
        storageClass('xfs', { parameters: { front: 'flex', fsType: 'xfs' } }),
        claim('flex', { class: 'xfs' }),
        claim('csi', { class: 'elastic-local-csi' }),
        claim('device', { class: 'elastic-local-csi', size: '64Mi', spec: { volumeMode: 'Block' } }),
        pod('all', ['flex', 'csi', 'device'], { spec: { containers: [container] } }),
      )
      const path = '/api/v1/namespaces/default/pods/all'
      const isRunning = (state: KubeObject | undefined) => state?.status?.phase === 'Running'
      const { metadata } = await cluster.waitFor(path, isRunning, 120_000)
      const { items } = await cluster.api.request('GET', '/api/v1/persistentvolumes')
      const pathOf = (claimName: string) => {
        const { metadata: volume, spec } = items.find(({ spec }: KubeObject) => spec.claimRef.name === claimName)
        const isBlock = spec.volumeMode === 'Block'
        const place = isBlock
          ? `volumeDevices/kubernetes.io~csi/${volume.name}`
          : placeOf(volume.name, claimName as FrontName)
        return join(guestPaths.kubeletDir, 'pods', metadata.uid, place)
      }
      const device = pathOf('device')
      const files = [...(['flex', 'csi'] as const).map((front) => `${pathOf(front)}/file`), device]
      const shell = (script: string, accept: readonly number[] = []) => node.run('sh', ['-c', script], { accept })
      for (const file of files) await shell(`printf %s ${file} | dd of=${file} conv=notrunc,fsync status=none`)

      await node.powerCut()
      await node.boot()
      const isThere = async () => {
        const mounts = (['flex', 'csi'] as const).map((front) => `mountpoint -q ${pathOf(front)}`)
        return (await shell([...mounts, `test -b ${device}`].join(' && '), [1, 32])).exitCode === 0
      }
      await cluster.waitFor(path, async (state) => isRunning(state) && (await isThere()), 120_000)
      for (const file of files) assert.is((await shell(`head -c ${file.length} ${file}`)).stdout, file)
    }),
  )

test.run()
