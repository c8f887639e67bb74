import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { createDisk, guestNode } from '../guest/guest.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import { withCluster } from './cluster.ts'
import { Elastic, executable, main, namespace } from './elastic.ts'
import { guestPaths, makeBridge, startGuestNode } from './guest-node.ts'
import { enterOwnNetwork } from './network.ts'

enterOwnNetwork()
const address = await makeBridge()
const test = suite('power')

for (const [kind, thin, name, guestAddress] of [
  ['linear', false, 'guest-1', '198.51.100.2'],
  ['thin', true, 'guest-2', '198.51.100.3'],
] as const)
  test(
    `a node with real LVM (${kind}) loses its power with pods on it: they come back with what they had synced`,
    withCluster({ address }, async (cluster, folder) => {
      const elastic = new Elastic(cluster)
      await elastic.applyObjects()
      const [disk, stateDisk] = [join(folder, 'disk'), join(folder, 'state')]
      await createDisk(disk, 4 * gibibyte)
      await createDisk(stateDisk, 2 * gibibyte)
      const node = await startGuestNode(cluster, {
        name,
        address: guestAddress,
        disk,
        stateDisk,
        setup: 'vgs elastic-local-vg || { pvcreate -q /dev/ubdb && vgcreate -q elastic-local-vg /dev/ubdb; }',
        daemon: async () => [
          ...[guestNode, main, 'daemon', `--node-name=${name}`, `--namespace=${namespace}`],
          `--kubeconfig=${await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon', name)}`,
          ...[`--kubelet-dir=${guestPaths.kubeletDir}`, `--volumes-dir=${guestPaths.volumesDir}`],
          ...[`--socket=${guestPaths.socket}`, `--lvm-use-thin-volumes=${thin}`],
        ],
      })
      await node.run(executable, ['install', `--plugin-dir=${guestPaths.pluginDir}`, '--wait=60'])
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
        join(guestPaths.kubeletDir, 'pods', metadata.uid, 'volumes/volumes.k8s.elastic.co~elastic-local', name),
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
