/** Option 1 of FlexVolume, with the kubelet attaching on one node and the controller manager on another. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { readMountTable } from '../../src/mount/table.ts'
import { suite } from '../suite.ts'
import { claim, gibibyte, pod } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, openElastic } from './elastic.ts'
import { poll } from './program.ts'

const test = suite('attach')
const driver = 'volumes.k8s.elastic.co~elastic-local'
let scratch = ''
let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
const nodes = new Map<string, ElasticNode>()
const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`

test.before(async () => {
  ;({ scratch, cluster, elastic, close } = await openElastic((folder) => ({
    flexVolumePluginDir: join(folder, 'plugins'),
  })))
  const pluginDir = join(scratch, 'plugins')
  // The controller manager makes it, too.
  await mkdir(pluginDir, { recursive: true })
  const common = { diskBytes: 4 * gibibyte, attach: true }
  nodes.set('kubelet', await elastic.startNode({ ...common, name: 'kubelet', controllerAttachDetach: false }))
  // The controller manager runs the executable in this node's plugin folder.
  nodes.set('manager', await elastic.startNode({ ...common, name: 'manager', pluginDir }))
  await elastic.startProvisioner()
})

test.after(() => close())

for (const [name, who] of [
  ['kubelet', 'the kubelet'],
  ['manager', 'the controller manager'],
] as const)
  test(`${who} attaches: pods share the device's one mount, and the volume is given back and removed`, async () => {
    const { kubelet, volumesDir } = nodes.get(name) as ElasticNode
    const spec = { nodeSelector: { 'kubernetes.io/hostname': name } }
    const start = async (podName: string) => {
      await cluster.apply(pod(podName, [name], { spec }))
      return await cluster.waitFor(podPath(podName), (state) => state?.status?.phase === 'Running', 60_000)
    }
    const end = async (podName: string) => {
      await cluster.kubectl(['delete', 'pod', podName])
      await cluster.waitFor(podPath(podName), (state) => state === undefined)
    }
    await cluster.apply(claim(name))
    const first = await start(`${name}-1`)
    const { volumeName } = (
      await cluster.api.request('GET', `/api/v1/namespaces/default/persistentvolumeclaims/${name}`)
    ).spec
    const shared = join(kubelet.rootDir, 'plugins/kubernetes.io/flexvolume', driver.replace('~', '/'), 'mounts')
    const mountsOfVolume = async () => (await readMountTable()).under(kubelet.rootDir).filter(isOfVolume)
    const isOfVolume = ({ target }: { target: string }) => target.endsWith(volumeName)
    const folderIn = ({ metadata }: { metadata: { uid: string } }) =>
      join(kubelet.rootDir, 'pods', metadata.uid, 'volumes', driver, volumeName)

    await writeFile(join(folderIn(first), 'file'), 'precious')
    const second = await start(`${name}-2`)
    assert.is(await readFile(join(folderIn(second), 'file'), 'utf8'), 'precious')
    const targets = (await mountsOfVolume()).map(({ target }) => target)
    const wanted = [join(shared, volumeName), folderIn(first), folderIn(second)]
    assert.equal(targets.sort(), wanted.sort())
    assert.equal((await readMountTable()).under(join(volumesDir, volumeName)), [])
    assert.is(await isAttached(name, volumeName), name === 'manager')

    await end(`${name}-1`)
    await end(`${name}-2`)
    await cluster.waitFor(`/api/v1/nodes/${name}`, (node) => !node?.status.volumesAttached?.length, 60_000)
    await poll(async () => (await mountsOfVolume()).length === 0, 60_000)
    const third = await start(`${name}-3`)
    assert.is(await readFile(join(folderIn(third), 'file'), 'utf8'), 'precious')
    await end(`${name}-3`)
    await cluster.kubectl(['delete', 'pvc', name])
    await cluster.waitFor(`/api/v1/persistentvolumes/${volumeName}`, (state) => state === undefined, 60_000)
    assert.equal((await elastic.ask(nodes.get(name)?.socket ?? '', '/v1/volumes')).volumes, [])
  })

/** Whether the node's object says that the volume is attached, which the controller manager writes there. */
async function isAttached(node: string, volume: string): Promise<boolean> {
  const { status } = await cluster.api.request('GET', `/api/v1/nodes/${node}`)
  return (status.volumesAttached ?? []).some(({ name }: { name: string }) => name.endsWith(volume))
}

test.run()
