import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { withCluster } from './cluster.ts'
import { startContainerNode } from './containers.ts'
import { overlayManifest } from './deploy-overlay.ts'
import { ensureImage } from './image.ts'
import { enterOwnNetwork, ownAddress } from './network.ts'

await enterOwnNetwork()

const root = join(import.meta.dirname, '../..')
const test = suite('deploy.yaml with real containers')

test(
  'applied as it is, it becomes ready; the sample pod writes, and when it comes again it reads its data; a rollout does not disturb it',
  withCluster({ address: ownAddress }, async (cluster) => {
    const image = await ensureImage()
    const node = await startContainerNode(cluster, { name: 'node-1', images: [image] })
    try {
      const overlay = node.overlay(image)
      const env = { ...overlay.env, ELASTIC_LOCAL_DRIVER_KIND: 'LOOP' }
      const deploy = overlayManifest(await readFile(join(root, 'deploy.yaml'), 'utf8'), { ...overlay, env })
      await cluster.apply(...deploy.slice(0, 1))
      await cluster.apply(...deploy.slice(1))
      const rollout = (what: string) =>
        cluster.kubectl(['--namespace=elastic-local', 'rollout', 'status', what, '--timeout=120s'])
      await rollout('daemonset/elastic-local-daemon')
      await rollout('deployment/elastic-local-provisioner')

      const busybox = { ...overlay, container: { ...overlay.container, image: 'busybox:test' } }
      const sample = async (file: string) =>
        overlayManifest(await readFile(join(root, 'config', file), 'utf8'), { ...busybox, env: {} })
      const path = '/api/v1/namespaces/default/pods/elastic-local-sample'
      const lines = async () => {
        const running = await cluster.waitFor(path, (pod) => pod?.status?.phase === 'Running')
        const { volumeName } = (
          await cluster.api.request('GET', '/api/v1/namespaces/default/persistentvolumeclaims/elastic-local-sample')
        ).spec
        const folder = `/var/lib/kubelet/pods/${running.metadata.uid}/volumes/volumes.k8s.elastic.co~elastic-local`
        const text = async () => readFile(node.path(`${folder}/${volumeName}/starts`), 'utf8').catch(() => '')
        return (await text()).trim().split('\n').length
      }
      await cluster.apply(...(await sample('pvc-sample.yaml')), ...(await sample('pod-sample.yaml')))
      assert.is(await lines(), 1)

      await cluster.kubectl(['--namespace=elastic-local', 'rollout', 'restart', 'daemonset/elastic-local-daemon'])
      await rollout('daemonset/elastic-local-daemon')
      const [status] = (await cluster.api.request('GET', path)).status.containerStatuses
      assert.is(status.restartCount, 0)
      assert.is(await lines(), 1)

      await cluster.kubectl(['delete', 'pod', 'elastic-local-sample', '--grace-period=1'])
      await cluster.apply(...(await sample('pod-sample.yaml')))
      assert.is(await lines(), 2)
      await cluster.kubectl(['delete', 'pod', 'elastic-local-sample', '--grace-period=1'])
      await cluster.kubectl(['delete', 'pvc', 'elastic-local-sample'])
      await cluster.waitFor('/api/v1/persistentvolumes', (list) => list?.items.length === 0)
    } finally {
      await node.close()
    }
  }),
)

test.run()
