import * as assert from 'uvu/assert'
import { type Hook, MemoryApi } from '../../../test/memory-api.ts'
import { MemoryClock } from '../../../test/memory-clock.ts'
import { addNode, eventsPath, silent } from '../../../test/memory-cluster.ts'
import { suite } from '../../../test/suite.ts'
import { Engine } from '../../volume/engine.ts'
import { VolumeError } from '../../volume/errors.ts'
import { MemoryMachine } from '../../volume/memory.ts'
import { ApiError } from '../client/api.ts'
import { Recorder } from '../client/events.ts'
import { OrphanedMounts, type PodName } from './orphaned-mounts.ts'

const test = suite('orphaned mounts')
const spec = { sizeBytes: 64n << 20n, fsType: 'ext4', mkfsOptions: [] } as const
const kubeletDir = '/kubelet'
const podUid = '11111111-1111-1111-1111-111111111111'
const pods = '/api/v1/namespaces/default/pods'
const graceMs = 3_600_000
const folderOf = (uid: string) => `${kubeletDir}/pods/${uid}`
const targetOf = (uid: string, volume = 'pvc-1') =>
  `${folderOf(uid)}/volumes/volumes.k8s.elastic.co~elastic-local/${volume}`

/** A node on which one volume is mounted for a pod that the API server does not have. */
async function openNode({ unmountAfterMs = graceMs, hook }: { unmountAfterMs?: number; hook?: Hook } = {}) {
  const server = new MemoryApi()
  const machine = new MemoryMachine({ capacityBytes: 1n << 30n })
  const { pool, mounts, filesystems, journal } = machine
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log: silent })
  addNode(server, 'a')
  server.change('/api/v1/nodes/a', { status: { nodeInfo: { bootID: 'boot' } } })
  const notes = new Map<string, PodName>()
  const clock = new MemoryClock()
  const client = server.client(hook)
  const parts = {
    api: client,
    node: 'a',
    engine,
    pods: {
      readAll: async () => new Map(notes),
      write: async (uid: string, pod: PodName) => {
        notes.set(uid, pod)
      },
      clear: async (uid: string) => {
        notes.delete(uid)
      },
    },
    kubeletDir,
    bootId: 'boot',
    drain: { run: <T>(work: () => Promise<T>) => work() },
    recorder: new Recorder({ api: client, component: 'test', clock, now: () => new Date(clock.now()), log: silent }),
    unmountAfterMs,
    clock,
    log: silent,
  }
  const orphanedMounts = new OrphanedMounts(parts)
  await engine.create('pvc-1', spec)
  const mount = async (uid = podUid, target = targetOf(uid)) => {
    await orphanedMounts.note(uid, { namespace: 'default', name: 'web' })
    await engine.mount({ name: 'pvc-1', target, readOnly: false, mountOptions: [] })
  }
  const pass = (ms: number) => clock.pass(ms, async () => {})
  /** Looks twice, with the grace time in between. */
  const lookTwice = async () => {
    await orphanedMounts.look()
    await pass(graceMs)
    await orphanedMounts.look()
  }
  const isMounted = (target = targetOf(podUid)) => machine.mounted.some((mount) => mount.target === target)
  const said = () => server.list(eventsPath).map(({ reason, message }) => `${reason} ${message}`)
  return { server, machine, client, parts, notes, orphanedMounts, mount, pass, lookTwice, isMounted, said }
}

test('a mount whose pod is gone is told of first, and unmounted after the grace time', async () => {
  const node = await openNode()
  await node.mount()
  assert.is(await node.orphanedMounts.look(), 600_000)
  await node.pass(graceMs - 1)
  assert.is(await node.orphanedMounts.look(), 1)
  assert.ok(node.isMounted())
  assert.match(
    node.orphanedMounts.problemsOf('pvc-1').join(),
    /^it is mounted on .* for pod default\/web, which is gone$/,
  )
  await node.pass(1)
  await node.orphanedMounts.look()
  assert.equal(node.machine.mounted, [])
  assert.equal(node.orphanedMounts.problemsOf('pvc-1'), [])
  assert.is(node.said().length, 2)
  assert.match(
    node.said().join('\n'),
    /^MountOrphaned Volume pvc-1 is .* If the kubelet does not unmount it, the daemon does after 3600 s.$/m,
  )
  assert.match(node.said().join('\n'), /^MountRemoved Volume pvc-1 was mounted .* and was unmounted.$/m)
})

test('also without a grace time, two looks must say so', async () => {
  const node = await openNode({ unmountAfterMs: 0 })
  await node.mount()
  assert.is(await node.orphanedMounts.look(), 0)
  assert.ok(node.isMounted())
  await node.orphanedMounts.look()
  assert.not.ok(node.isMounted())
})

test('a daemon that was started in between knows by its notes for whom the volume was mounted', async () => {
  const node = await openNode()
  await node.mount()
  const next = new OrphanedMounts(node.parts)
  await next.look()
  await node.pass(graceMs)
  await next.look()
  assert.not.ok(node.isMounted())
})

test('both mounts of a pod whose volume was moved from one front to the other while it ran are taken away', async () => {
  const node = await openNode()
  const byCsi = `${folderOf(podUid)}/volumes/kubernetes.io~csi/pvc-1/mount`
  await node.mount()
  await node.mount(podUid, byCsi)
  await node.lookTwice()
  assert.equal([node.isMounted(), node.isMounted(byCsi)], [false, false])
})

test('the mount of a pod that is there stays, also of one that came with the same name', async () => {
  const node = await openNode()
  const other = '22222222-2222-2222-2222-222222222222'
  node.server.create(pods, { metadata: { name: 'web', namespace: 'default' } })
  const uid = node.server.find(`${pods}/web`)?.metadata.uid ?? ''
  node.notes.set(uid, { namespace: 'default', name: 'web' })
  await node.mount(uid, targetOf(uid))
  await node.mount(other)
  await node.lookTwice()
  assert.ok(node.isMounted(targetOf(uid)))
  assert.not.ok(node.isMounted(targetOf(other)))
})

test('nothing is decided while the API server is away, or does not let the daemon look', async () => {
  for (const status of [0, 403, 500]) {
    const hook: Hook = ({ path }) => (path.startsWith(pods) ? { refused: status } : 'done')
    const node = await openNode({ hook })
    await node.mount()
    for (const _ of [1, 2]) {
      const error = await node.orphanedMounts.look().catch((error) => error)
      if (status !== 403) assert.instance(error, ApiError)
      await node.pass(graceMs)
    }
    assert.ok(node.isMounted())
    assert.equal(node.said(), [])
  }
})

test('while the kubelet is not well, or is not that of this machine, the mount is told of and left, and its time begins anew', async () => {
  const doubts: [object | null, RegExp][] = [
    [{ conditions: [{ type: 'Ready', status: 'Unknown' }] }, /not ready \(Ready is Unknown\)/],
    [{ conditions: [] }, /not ready \(Ready is not known\)/],
    [{ nodeInfo: { bootID: 'another' } }, /not the one that runs on this machine/],
    [{ nodeInfo: null }, /not the one that runs on this machine/],
  ]
  for (const [status, words] of doubts) {
    const node = await openNode()
    await node.mount()
    await node.orphanedMounts.look()
    const well = structuredClone(node.server.find('/api/v1/nodes/a')?.status)
    node.server.change('/api/v1/nodes/a', { status })
    await node.pass(graceMs)
    await node.orphanedMounts.look()
    assert.match(node.said().join('\n'), words)
    node.server.change('/api/v1/nodes/a', { status: well })
    await node.orphanedMounts.look()
    assert.ok(node.isMounted())
    await node.pass(graceMs)
    await node.orphanedMounts.look()
    assert.not.ok(node.isMounted())
  }
})

test('a node that the API server does not have is not looked after', async () => {
  const node = await openNode()
  await node.mount()
  node.server.delete('/api/v1/nodes/a')
  await node.lookTwice()
  assert.ok(node.isMounted())
})

test('a mount of which nobody noted the pod, and that of a static pod, stay', async () => {
  const node = await openNode()
  const hash = '0123456789abcdef0123456789abcdef'
  await node.mount(hash)
  await node.mount()
  node.notes.delete(podUid)
  await node.lookTwice()
  assert.ok(node.isMounted(targetOf(hash)))
  assert.ok(node.isMounted())
  assert.equal(node.said(), [])
})

test('mounts elsewhere stay, and so does one beside which the pod has another: the kubelet is still at it', async () => {
  const node = await openNode()
  await node.mount(podUid, '/elsewhere')
  await node.mount()
  await node.mount(podUid, `${folderOf(podUid)}/volume-subpaths/data/web/0`)
  await node.lookTwice()
  assert.ok(node.isMounted())
  assert.ok(node.isMounted('/elsewhere'))
  assert.match(node.said().join('\n'), /It is left alone as .*volume-subpaths\/data\/web\/0 is still mounted as well/)
})

test("a block device's mount goes likewise, and stays while the kubelet has its own beside it", async () => {
  const node = await openNode()
  const { engine } = node.parts
  const devices = `${kubeletDir}/plugins/kubernetes.io/csi/volumeDevices`
  const [target, besides] = [`${devices}/publish/pvc-2/${podUid}`, `${devices}/pvc-2/dev/${podUid}`]
  await engine.create('pvc-2', { ...spec, fsType: 'block' })
  await node.orphanedMounts.note(podUid, { namespace: 'default', name: 'web' })
  for (const place of [target, besides])
    await engine.mount({ name: 'pvc-2', target: place, readOnly: false, mountOptions: [], fsType: 'block' })
  await node.lookTwice()
  assert.ok(node.isMounted(target))
  assert.match(node.said().join('\n'), /It is left alone as .*pvc-2\/dev\/.* is still mounted as well/)
  await engine.unmount('pvc-2', besides)
  await node.lookTwice()
  assert.not.ok(node.isMounted(target))
})

test('a mount that is in use stays, says so, and is tried again', async () => {
  const node = await openNode()
  await node.mount()
  node.machine.onStep = (step) => {
    if (step === 'unmount') throw new VolumeError('busy', 'Cannot unmount it: target is busy.')
  }
  await node.lookTwice()
  assert.ok(node.isMounted())
  assert.match(node.said().join('\n'), /^MountNotRemoved .* target is busy/m)
  assert.is(node.orphanedMounts.problemsOf('pvc-1').length, 1)
  node.machine.onStep = () => {}
  await node.orphanedMounts.look()
  assert.not.ok(node.isMounted())
})

test('a note goes when its pod has had no mount for ten minutes, and a new mount has one again', async () => {
  const node = await openNode()
  await node.orphanedMounts.note(podUid, { namespace: 'default', name: 'web' })
  await node.orphanedMounts.look()
  await node.pass(599_999)
  await node.orphanedMounts.look()
  assert.is(node.notes.size, 1)
  await node.pass(1)
  await node.orphanedMounts.look()
  assert.is(node.notes.size, 0)
  await node.mount()
  assert.is(node.notes.size, 1)
})

test('a pod that cannot be noted is mounted for all the same', async () => {
  const node = await openNode()
  node.parts.pods.write = async () => {
    throw new Error('the disk is full')
  }
  await node.mount()
  assert.ok(node.isMounted())
})

test('it looks again when a grace time ends, and after ten minutes when it could not look, until it is stopped', async () => {
  const node = await openNode({ unmountAfterMs: 5000 })
  await node.mount()
  const stop = new AbortController()
  const settled = async () => {
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
  }
  node.parts.engine.list = async () => {
    node.parts.engine.list = Engine.prototype.list
    throw new VolumeError('failed', 'a disk hangs')
  }
  const ended = node.orphanedMounts.run(stop.signal)
  await node.parts.clock.pass(600_000, settled)
  assert.ok(node.isMounted())
  await node.parts.clock.pass(5000, settled)
  assert.not.ok(node.isMounted())
  stop.abort()
  await ended
})

test.run()
