import * as assert from 'uvu/assert'
import { MemoryApi, type StoredObject } from '../../../test/memory-api.ts'
import {
  addClass,
  addNode,
  addVolume,
  configMapsPath,
  namespace,
  playControllerManager,
  volumesPath,
} from '../../../test/memory-cluster.ts'
import { claimPath, dieAt, disturb, sizeBytes, usedBy, World } from '../../../test/memory-moves.ts'
import { sideBySide } from '../../../test/side-by-side.ts'
import { suite } from '../../../test/suite.ts'
import type { FrontName } from '../fronts/front.ts'
import { moveName } from '../model/names.ts'
import { findMovable } from './mover.ts'
import { readMoves } from './record.ts'

const test = suite('mover')
const journey = sideBySide(test)
const mebibyte = 1n << 20n

for (const [from, to] of [
  ['flex', 'csi'],
  ['csi', 'flex'],
] as const)
  for (const who of ['person', 'daemon', 'provisioner'] as const)
    journey(`a volume is moved from ${from} to ${to}, whatever becomes of a request of the ${who}`, () =>
      disturb({ open: () => World.open(from), to }, who),
    )

/** A world for one test, with a provisioner. */
function scene(title: string, from: FrontName, work: (world: World) => Promise<void>): void {
  journey(title, async () => {
    const world = await World.open(from)
    const stop = world.startProvisioner()
    try {
      await work(world)
      assert.equal(world.wrongs, [])
    } finally {
      await stop()
      await world.close()
    }
  })
}

scene(
  'a volume that a pod uses is moved only where that is said, and what would be done can be asked',
  'flex',
  async (world) => {
    const client = world.server.client()
    assert.is(await world.mover('csi', client).look(world.name), undefined)
    usedBy(world)
    const why = 'pod web uses it: stop it first, or use --in-use to move the volume while it runs'
    assert.is(await world.mover('csi', client).look(world.name), why)
    assert.equal(await world.mover('csi', client).move(world.name), { outcome: 'refused', why })
    assert.ok(client.requests.every(({ method }) => method === 'GET'))
    assert.equal(await world.mover('csi', client, { inUse: true }).move(world.name), { outcome: 'moved' })
    assert.equal(await world.mover('csi', client).move(world.name), { outcome: 'unchanged' })
  },
)

scene('a move is taken back when a pod comes before the PersistentVolume goes', 'flex', async (world) => {
  await dieAt(world, 'csi', 'DELETE', /persistentvolumes/)
  assert.is(world.volume?.spec.persistentVolumeReclaimPolicy, 'Retain')
  usedBy(world)
  const result = await world.mover('csi', world.server.client()).move(world.name)
  assert.match(JSON.stringify(result), /"refused".*pod web uses it/)
  await world.server.until('all is as before', () => world.isSettled('flex'))
})

scene('a move is taken back when the daemon is away', 'csi', async (world) => {
  await world.daemon?.stop()
  const result = await world.mover('flex', world.server.client(), { patienceMs: 20 }).move(world.name)
  assert.match(JSON.stringify(result), /"refused".*the daemon of node a, which must see that .* takes too long/)
  assert.ok(world.isSettled('csi'))
  await world.startDaemon()
})

scene('a move that was begun is ended before the volume is moved back', 'flex', async (world) => {
  await dieAt(world, 'csi', 'POST', /persistentvolumes/)
  assert.is(world.claim?.status.phase, 'Lost')
  assert.equal(await world.mover('flex', world.server.client()).move(world.name), { outcome: 'moved' })
  await world.server.until('all is as before', () => world.isSettled('flex'))
  assert.is(world.server.statesOf(`${volumesPath}/${world.name}`).filter(({ spec }) => spec.csi).length > 0, true)
})

scene('of two who move the same volume one goes on, and the other says so', 'flex', async (world) => {
  const results = await Promise.all([1, 2].map(() => world.mover('csi', world.server.client()).move(world.name)))
  assert.ok(results.some(({ outcome }) => outcome === 'moved'))
  const other = results.find(({ outcome }) => outcome !== 'moved')
  if (other) assert.match(JSON.stringify(other), /unchanged|somebody else is continuing it/)
  await world.server.until('all know of it', () => world.isSettled('csi'))
})

scene('growth that was begun in between is granted only afterwards', 'flex', async (world) => {
  await dieAt(world, 'csi', 'DELETE', /persistentvolumes/, { inUse: true })
  // As the controller manager does, after the last look.
  const client = world.server.client(({ method, path, body }) => {
    const { metadata } = (body ?? {}) as { metadata?: { finalizers?: unknown } }
    if (
      method === 'PATCH' &&
      /persistentvolumes/.test(path) &&
      metadata?.finalizers &&
      world.volume?.spec.capacity.storage === '64Mi'
    ) {
      world.server.change(claimPath, { spec: { resources: { requests: { storage: '128Mi' } } } })
      world.server.change(`${volumesPath}/${world.name}`, { spec: { capacity: { storage: '128Mi' } } })
    }
    return 'done'
  })
  assert.equal(await world.mover('csi', client).move(world.name), { outcome: 'moved' })
  const states = world.server.statesOf(`${volumesPath}/${world.name}`).filter(({ spec }) => spec.csi)
  assert.is(states[0]?.spec.capacity.storage, '64Mi')
  await world.server.until('it has grown', () => world.claim?.status.capacity.storage === '128Mi')
  assert.is(world.machine.volumes.get(world.name)?.sizeBytes, 128n * mebibyte)
})

for (const [title, method, path] of [
  ['before the PersistentVolume goes', 'DELETE', /persistentvolumes/],
  ['while the PersistentVolume goes', 'PATCH', /persistentvolumes/],
  ['while there is no PersistentVolume', 'POST', /persistentvolumes/],
  ['before it is bound', 'PATCH', /persistentvolumeclaims/],
] as const)
  scene(`a claim that is deleted ${title} leaves a volume that is kept, and can be removed`, 'flex', async (world) => {
    const { server, name } = world
    if (path.source === 'persistentvolumes' && method === 'PATCH') {
      await dieAt(world, 'csi', 'DELETE', /persistentvolumes/)
      server.delete(`${volumesPath}/${name}`)
    } else await dieAt(world, 'csi', method, path)
    server.delete(claimPath)
    await server.idle()
    const result = await world.mover('csi', server.client()).move(name)
    assert.match(JSON.stringify(result), /its claim was deleted in the meantime, and PersistentVolume .* is kept/)
    await server.idle()
    assert.equal([world.record, world.volume?.status.phase], [undefined, 'Released'])
    assert.ok(world.machine.volumes.has(name))
    world.machine.onStep = () => {}
    server.change(`${volumesPath}/${name}`, { spec: { persistentVolumeReclaimPolicy: 'Delete' } })
    await server.until('it is removed', () => !world.volume && !world.machine.volumes.has(name))
  })

scene('a record that is left changes no policy that somebody has set since', 'flex', async (world) => {
  const { server, name } = world
  for (const [to, policy] of [
    ['csi', 'Retain'],
    ['flex', 'Delete'],
  ] as const) {
    await dieAt(world, to, 'DELETE', /configmaps/)
    server.change(`${volumesPath}/${name}`, { spec: { persistentVolumeReclaimPolicy: policy } })
    assert.equal(await world.mover(to, server.client()).move(name), { outcome: 'moved' })
    await server.until('all know of it', () => world.isSettled(to, policy))
  }
})

scene('a record that is left of a volume which was removed since makes nothing', 'flex', async (world) => {
  const { server, name } = world
  await dieAt(world, 'csi', 'DELETE', /configmaps/)
  world.machine.onStep = () => {}
  server.delete(claimPath)
  await server.until('it is removed', () => !world.volume && !world.machine.volumes.has(name))
  assert.is((await readMoves(server.client(), namespace)).moves[0]?.name, name)
  const result = await world.mover('csi', server.client()).move(name)
  assert.equal(result, { outcome: 'given-up', why: 'it was removed with its claim' })
  assert.equal([world.record, world.volume], [undefined, undefined])
})

scene('a record that would make anything else makes nothing', 'flex', async (world) => {
  await dieAt(world, 'csi', 'POST', /persistentvolumes/)
  const path = `${configMapsPath}/${moveName(world.name)}`
  const { data } = world.record as StoredObject
  const volume = JSON.parse(data.persistentVolume)
  const withSpec = (spec: object) => ({ ...volume, spec: { ...volume.spec, ...spec } })
  const withMetadata = (metadata: object) => ({ ...volume, metadata: { ...volume.metadata, ...metadata } })
  for (const [forged, why] of [
    [withSpec({ csi: undefined, hostPath: { path: '/' } }), /not one that a move to csi creates/],
    [withSpec({ hostPath: { path: '/' } }), /hostPath/],
    [withSpec({ csi: { ...volume.spec.csi, driver: 'other' } }), /it is not one of csi/],
    [withSpec({ csi: { ...volume.spec.csi, volumeHandle: 'pvc-other' } }), /it is not one of csi/],
    [withSpec({ csi: { ...volume.spec.csi, nodePublishSecretRef: { name: 'a' } } }), /nodePublishSecretRef/],
    [withSpec({ csi: { ...volume.spec.csi, volumeAttributes: { mkfsOptions: '-d /etc' } } }), /mkfsOptions|mkfs/],
    [withSpec({ mountOptions: ['bind'] }), /not one that a move/],
    [withSpec({ claimRef: { ...volume.spec.claimRef, uid: 'other' } }), /another claim than the one in its name/],
    [withSpec({ persistentVolumeReclaimPolicy: 'Delete' }), /Retain/],
    [withSpec({ nodeAffinity: undefined }), /nodeAffinity/],
    [withSpec({ nodeAffinity: { required: { nodeSelectorTerms: [] } } }), /not tied to one node/],
    [withMetadata({ name: 'pvc-other' }), /named pvc-other/],
    [withMetadata({ finalizers: [] }), /not one that a move/],
    [withMetadata({ ownerReferences: [] }), /ownerReferences/],
    [withMetadata({ labels: {} }), /not tied to one node/],
    [withMetadata({ annotations: { 'volumes.k8s.elastic.co/make-lost-anew': 'true' } }), /make-lost-anew/],
    ['{', /not one that a move/],
  ] as const) {
    world.server.change(path, {
      data: { persistentVolume: typeof forged === 'string' ? forged : JSON.stringify(forged) },
    })
    const message = await world
      .mover('csi', world.server.client())
      .move(world.name)
      .then(JSON.stringify, (error: Error) => error.message)
    assert.match(message, why, JSON.stringify(forged))
    assert.is(world.volume, undefined)
    assert.match((await readMoves(world.server.client(), namespace)).wrongs.join(), why)
  }
  for (const [change, why] of [
    [{ to: 'nfs' }, /to must be one of flex, csi/],
    [{ reclaimPolicy: 'Recycle' }, /reclaimPolicy must be Delete or Retain/],
  ] as const) {
    world.server.change(path, { data: { ...data, ...change } })
    assert.match((await readMoves(world.server.client(), namespace)).wrongs.join(), why)
  }
  world.server.change(path, { data })
  assert.equal(await world.mover('csi', world.server.client()).move(world.name), { outcome: 'moved' })
})

test('those that may be moved are those that claims have, and those whose move was begun', async () => {
  const server = new MemoryApi()
  addClass(server)
  addNode(server, 'a')
  const end = playControllerManager(server)
  const old = addVolume(server, 'data', 'a', sizeBytes)
  server.change(`${volumesPath}/${old}`, { spec: { persistentVolumeReclaimPolicy: 'Retain' } })
  server.delete(claimPath)
  await server.until('its claim is gone', () => server.find(`${volumesPath}/${old}`)?.status?.phase === 'Released')
  const volume = addVolume(server, 'data', 'a', sizeBytes)
  await server.until('it is bound', () => server.find(`${volumesPath}/${volume}`)?.status?.phase === 'Bound')
  const { volumes } = await findMovable(server.client(), namespace, { within: 'default' })
  assert.equal(
    volumes.map(({ name }) => name),
    [volume],
  )
  await end()
})

test.run()
