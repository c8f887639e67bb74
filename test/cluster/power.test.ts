import { join } from 'node:path'
import * as assert from 'uvu/assert'
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

const nodes = [
  ['thin', true, 'guest-1', '198.51.100.2'],
  ['linear', false, 'guest-2', '198.51.100.3'],
] as const
for (const [kind, thin, name, guestAddress] of process.env.LONG ? nodes : nodes.slice(0, 1))
  test(
    `a node with real LVM (${kind}) loses its power with pods on it: they come back with what they had synced`,
    withCluster({ address }, async (cluster, folder) => {
      const elastic = new Elastic(cluster)
      await elastic.applyObjects()
      const node = await elastic.startLvmNode({ name, folder, address: guestAddress, diskBytes: 4 * gibibyte, thin })
      await elastic.startProvisioner()
      await cluster.apply(
        storageClass('xfs', { parameters: { fsType: 'xfs' } }),
        ...[claim('a'), claim('b', { class: 'xfs' }), pod('both', ['a', 'b'])],
      )
      const path = '/api/v1/namespaces/default/pods/both'
      const isRunning = (state: KubeObject | undefined) => state?.status?.phase === 'Running'
      const { metadata } = await cluster.waitFor(path, isRunning, 120_000)
      const { items } = await cluster.api.request('GET', '/api/v1/persistentvolumes')
      const folders = items.map(({ metadata: { name } }: KubeObject) =>
        join(guestPaths.kubeletDir, 'pods', metadata.uid, placeOf(name)),
      ) as string[]
      assert.is(folders.length, 2)
      for (const one of folders) await node.run('sh', ['-c', `echo ${one} > ${one}/file && sync ${one}/file`])

      await node.powerCut()
      await node.boot()
      const isMounted = async () => {
        const found = await Promise.all(folders.map((one) => node.run('mountpoint', ['-q', one], { accept: [1, 32] })))
        return found.every(({ exitCode }) => exitCode === 0)
      }
      await cluster.waitFor(path, async (state) => isRunning(state) && (await isMounted()), 120_000)
      for (const one of folders) assert.is((await node.run('cat', [`${one}/file`])).stdout, `${one}\n`)
    }),
  )

test.run()
