import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { CommandError } from '../../src/run.ts'
import { createDisk } from '../guest/guest.ts'
import { suite } from '../suite.ts'
import { thrownBy } from '../thrown.ts'
import type { KubeObject } from './api.ts'
import { withCluster } from './cluster.ts'
import { guestPaths, makeBridge, startGuestNode } from './guest-node.ts'
import { enterOwnNetwork } from './network.ts'
import { buildPod, buildToyInstallation, podPath, toyDriver } from './toy.ts'

enterOwnNetwork()
const address = await makeBridge()
const test = suite('guest node')
const gibibyte = 2 ** 30

test(
  'a guest is a node, whose pods, LVM and daemon are there again after a power cut',
  withCluster({ address }, async (cluster, folder) => {
    const [disk, stateDisk] = [join(folder, 'disk'), join(folder, 'state')]
    await createDisk(disk, 4 * gibibyte)
    await createDisk(stateDisk, 2 * gibibyte)
    const daemonFile = `${guestPaths.volumesDir}/daemon`
    const node = await startGuestNode(cluster, {
      name: 'guest-1',
      address: '198.51.100.2',
      disk,
      stateDisk,
      hostnameLabel: 'host-of-guest-1',
      setup: `${buildToyInstallation(guestPaths.pluginDir)}
        vgs test-vg || { pvcreate -q /dev/vda && vgcreate -q test-vg /dev/vda; }`,
      daemon: async () => {
        const kubeconfig = await cluster.serviceAccountKubeconfig('default', 'default', 'guest-1')
        return ['sh', '-c', `cat ${kubeconfig} && echo started >> ${daemonFile} && sync && exec sleep 1000`]
      },
    })
    assert.is((await cluster.get('node/guest-1'))?.metadata.labels?.['kubernetes.io/hostname'], 'host-of-guest-1')
    await cluster.apply(buildPod('flex', [{ name: 'toy', flexVolume: { driver: toyDriver } }]))
    const isRunning = (pod: KubeObject | undefined) => pod?.status.phase === 'Running'
    const { metadata } = await cluster.waitFor(podPath('flex'), isRunning)
    const target = join(guestPaths.kubeletDir, 'pods', metadata.uid, 'volumes/test~toy/toy')
    const isMounted = async () => (await node.run('mountpoint', [target], { accept: [1, 32] })).exitCode === 0
    assert.ok(await isMounted())
    await node.run('lvcreate', ['-q', '--name=a', '--size=64m', 'test-vg'])
    await thrownBy(CommandError, () => node.run('lvcreate', ['-q', '--name=a', '--size=64m', 'test-vg']))
    await node.run('sync', [])

    await node.powerCut()
    await thrownBy(Error, () => node.run('true', []))
    await node.boot()
    assert.is((await node.run('lvs', ['--noheadings', '--options=name', 'test-vg'])).stdout.trim(), 'a')
    assert.is((await cluster.get('pod/flex'))?.metadata.uid, metadata.uid)
    await cluster.waitFor(podPath('flex'), async (pod) => isRunning(pod) && (await isMounted()))
    assert.is((await node.run('cat', [daemonFile])).stdout, 'started\nstarted\n')
  }),
)

test.run()
