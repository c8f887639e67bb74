/** Mounts whose pod is gone, beside a real kubelet. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import * as assert from 'uvu/assert'
import { readMountTable } from '../../src/mount/table.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { callOutsFor } from './call-outs.ts'
import { claim, gibibyte, pod } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, openElastic } from './elastic.ts'
import { placeOf } from './front.ts'
import { poll } from './program.ts'

const test = suite('mounts whose pod is gone')
const ghostUid = '11111111-1111-1111-1111-111111111111'
let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let node: ElasticNode
let volume = ''
let web = ''

const targetOf = (uid: string) => join(node.kubelet.rootDir, 'pods', uid, placeOf(volume))
const isMounted = async (target: string) => (await readMountTable()).at(target) !== undefined

/** Resolves with the message of an event on the node about that mount. */
async function told(reason: string, target: string): Promise<string> {
  const isIt = ({ involvedObject, ...event }: KubeObject) =>
    involvedObject.kind === 'Node' && event.reason === reason && event.message.includes(target)
  const { items } = await cluster.waitFor('/api/v1/namespaces/default/events', (list) => list?.items.some(isIt), 60_000)
  return items.find(isIt).message
}

/** Has the driver mount the volume as the kubelet would have it for a pod that nobody knows. */
async function mountForGhost(): Promise<void> {
  const { mount } = await callOutsFor(cluster, node.kubelet, volume, 'ghost')
  // It takes away the folder of a pod that it does not know, as long as nothing is mounted there.
  node.kubelet.pause()
  try {
    assert.is(await mount(ghostUid), 'Success')
    assert.ok(await isMounted(targetOf(ghostUid)))
  } finally {
    node.kubelet.resume()
  }
}

test.before(async () => {
  ;({ cluster, elastic, close } = await openElastic())
  node = await elastic.startNode({
    name: 'node-1',
    diskBytes: gibibyte,
    daemonFlags: { 'unmount-orphans-after': '3' },
  })
  await elastic.startProvisioner()
  await cluster.apply(claim('web', { size: '64Mi' }), pod('web', ['web']))
  const state = await cluster.waitFor(
    '/api/v1/namespaces/default/pods/web',
    (state) => state?.status?.phase === 'Running',
    60_000,
  )
  web = state.metadata.uid
  volume = (await cluster.api.request('GET', '/api/v1/namespaces/default/persistentvolumeclaims/web')).spec.volumeName
  await writeFile(join(targetOf(web), 'file'), 'precious')
})

test.after(() => close())

test('the name of a pod is noted whatever its volumes are that the kubelet has mounted at once', async () => {
  const pods = ['three-1', 'three-2', 'three-3', 'three-4']
  const claimsOf = (name: string) => ['a', 'b', 'c'].map((volume) => `${name}-${volume}`)
  await cluster.apply(...pods.flatMap(claimsOf).map((name) => claim(name, { size: '16Mi' })))
  await cluster.apply(...pods.map((name) => pod(name, claimsOf(name))))
  for (const name of pods) {
    const path = `/api/v1/namespaces/default/pods/${name}`
    const { metadata } = await cluster.waitFor(path, (state) => state?.status?.phase === 'Running', 120_000)
    const note = await readFile(join(dirname(node.socket), 'pods', `${metadata.uid}.json`), 'utf8')
    assert.equal(JSON.parse(note), { namespace: 'default', name })
  }
  await cluster.kubectl(['delete', 'pod', ...pods])
  await cluster.kubectl(['delete', 'pvc', ...pods.flatMap(claimsOf)])
})

test('a mount for a pod that nobody knows is told of and taken away; that of a pod which runs stays', async () => {
  await mountForGhost()
  await elastic.restartDaemon(node)
  assert.match(await told('MountOrphaned', targetOf(ghostUid)), /for pod default\/ghost, which is gone.*after 3 s/)
  await told('MountRemoved', targetOf(ghostUid))
  assert.not.ok(await isMounted(targetOf(ghostUid)))
  assert.is(await readFile(join(targetOf(web), 'file'), 'utf8'), 'precious')
})

test('one that is in use stays, with an event and a problem of the volume, until it is let go', async () => {
  await mountForGhost()
  const user = spawn('sleep', ['600'], { cwd: targetOf(ghostUid) })
  try {
    await elastic.restartDaemon(node)
    assert.match(
      await told('MountNotRemoved', targetOf(ghostUid)),
      /target is busy.*process \d+ \(sleep\) has \S+ open: stop that/s,
    )
    assert.ok(await isMounted(targetOf(ghostUid)))
    const [view] = (await elastic.ask(node.socket, '/v1/volumes')).volumes as { problems: string[] }[]
    assert.match(view?.problems.join() ?? '', /for pod default\/ghost, which is gone/)
  } finally {
    user.kill()
    await once(user, 'exit')
  }
  await elastic.restartDaemon(node)
  await poll(async () => !(await isMounted(targetOf(ghostUid))), 60_000)
  assert.is(await readFile(join(targetOf(web), 'file'), 'utf8'), 'precious')
})

test('while the kubelet is down, the mount of a pod that was removed by force is left to it, and it takes it away when it is back', async () => {
  await node.kubelet.kill()
  const conditions = [{ type: 'Ready', status: 'Unknown', reason: 'Test', message: 'It is down.' }]
  const subresource = ['--subresource=status', '--patch', JSON.stringify({ status: { conditions } })]
  await cluster.kubectl(['patch', 'node', node.name, ...subresource])
  await cluster.kubectl(['delete', 'pod', 'web', '--force', '--grace-period=0'])
  await elastic.restartDaemon(node)
  assert.match(await told('MountOrphaned', targetOf(web)), /It is left alone as the kubelet of this node is not ready/)
  assert.is(await readFile(join(targetOf(web), 'file'), 'utf8'), 'precious')
  await node.kubelet.start()
  await poll(async () => !(await isMounted(targetOf(web))), 60_000)
  const { items } = await cluster.api.request('GET', '/api/v1/namespaces/default/events')
  assert.not.ok(
    items.some(({ reason, message }: KubeObject) => reason === 'MountRemoved' && message.includes(targetOf(web))),
  )
})

test.run()
