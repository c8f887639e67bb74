import * as assert from 'uvu/assert'
import { MemoryApi, type MemoryClient, type StoredObject } from '../../../test/memory-api.ts'
import {
  addClass,
  addNode,
  addPromise,
  addVolume,
  claimsPath,
  configMapsPath,
  type Fault,
  ledgerPath,
  namespace,
  play,
  playControllerManager,
  promises,
  type Strike,
  silent,
  strikeAt,
  usualFaults,
  volumesPath,
} from '../../../test/memory-cluster.ts'
import { type MemoryDaemon, startMemoryDaemon } from '../../../test/memory-daemon.ts'
import { sideBySide } from '../../../test/side-by-side.ts'
import { suite } from '../../../test/suite.ts'
import { csiDriverName } from '../../csi/driver.ts'
import { MemoryMachine } from '../../volume/memory.ts'
import { machineClock } from '../client/clock.ts'
import type { FrontName } from '../fronts/front.ts'
import { finalizer, movedAnnotation, moveName } from '../model/names.ts'
import type { Note, Notes } from '../node/note.ts'
import { Provisioner } from '../provisioner/provisioner.ts'
import { Mover, type MoverParts } from './mover.ts'
import { readMoves } from './record.ts'

const test = suite('mover')
const journey = sideBySide(test)
const mebibyte = 1n << 20n
const sizeBytes = 64n * mebibyte
const claimPath = `${claimsPath}/data`

/** A cluster of one node, in which claim `data` has a volume; provisioner and daemon run all the time. */
class World {
  readonly server = new MemoryApi()
  readonly machine = new MemoryMachine({ capacityBytes: 256n * mebibyte })
  /** What was done and must never be. */
  readonly wrongs: string[] = []
  readonly #ends: (() => Promise<void> | void)[] = []
  readonly #noted = new Map<string, Note>()
  daemon: MemoryDaemon | undefined
  name = ''

  readonly notes: Notes = {
    read: async (name) => this.#noted.get(name),
    write: async (name, note) => void this.#noted.set(name, note),
    clear: async (name) => void this.#noted.delete(name),
  }

  static async open(from: FrontName): Promise<World> {
    const world = new World()
    const { server, machine } = world
    addClass(server)
    addNode(server, 'a')
    server.create('/apis/storage.k8s.io/v1/csidrivers', { metadata: { name: csiDriverName } })
    const drivers = [{ name: csiDriverName, nodeID: 'a' }]
    server.create('/apis/storage.k8s.io/v1/csinodes', { metadata: { name: 'a' }, spec: { drivers } })
    world.#ends.push(
      playControllerManager(server),
      play(server, () => bindClaims(server)),
    )
    await world.startDaemon()
    await server.until('there is a ledger', () => server.find(ledgerPath('a')) !== undefined)
    world.name = addVolume(server, 'data', 'a', sizeBytes, from)
    server.change(claimPath, { spec: { volumeName: world.name } })
    addPromise(server, 'a', world.name, sizeBytes, 'default/data')
    await server.until('it is made', () => world.isSettled(from))
    machine.onStep = (step, name) => {
      if (['create', 'format', 'remove'].includes(step)) world.wrongs.push(`${step} of ${name}`)
    }
    server.onChange(() => world.#watch())
    return world
  }

  async startDaemon(client = this.server.client()): Promise<void> {
    const { machine, notes } = this
    this.daemon = await startMemoryDaemon({ client, machine, notes })
  }

  startProvisioner(client = this.server.client()): () => Promise<void> {
    const abort = new AbortController()
    const provisioner = new Provisioner({
      ...{ api: client, namespace, clock: machineClock, now: () => new Date(), log: silent },
      nodeGoneGraceMs: 0,
      defaultFront: 'flex',
      deleteClaimsOfGoneNodes: false,
      tidyMs: 50,
    })
    const ended = Promise.all([provisioner.follow(abort.signal), provisioner.act(client, abort.signal)])
    return async () => {
      abort.abort()
      await ended
    }
  }

  mover(to: FrontName, client: MemoryClient, more: Partial<MoverParts> = {}): Mover {
    const times = { lookMs: 20, patienceMs: 120_000 }
    return new Mover({ api: client, namespace, to, inUse: false, clock: machineClock, ...times, ...more })
  }

  get volume(): StoredObject | undefined {
    return this.server.find(`${volumesPath}/${this.name}`)
  }

  get record(): StoredObject | undefined {
    return this.server.find(`${configMapsPath}/${moveName(this.name)}`)
  }

  get claim(): StoredObject | undefined {
    return this.server.find(claimPath)
  }

  get entry() {
    return promises(this.server).find(({ volume }) => volume === this.name)
  }

  /** A volume as it is when nobody moves it, and everybody knows. */
  isSettled(front: FrontName, policy = 'Delete'): boolean {
    const { volume, claim, entry } = this
    const note = this.#noted.get(this.name)
    return (
      volume?.spec[front === 'flex' ? 'flexVolume' : 'csi'] !== undefined &&
      volume.spec.persistentVolumeReclaimPolicy === policy &&
      volume.status?.phase === 'Bound' &&
      !volume.metadata.deletionTimestamp &&
      volume.metadata.finalizers?.includes(finalizer) === true &&
      claim?.status?.phase === 'Bound' &&
      claim.status.capacity.storage === '64Mi' &&
      entry?.madeFor === (policy === 'Delete' ? volume.metadata.uid : undefined) &&
      entry?.madeBytes === sizeBytes &&
      entry?.promisedBytes === sizeBytes &&
      note?.front === front &&
      note.options.key === volume.spec.flexVolume?.options.key &&
      this.record === undefined &&
      this.machine.volumes.has(this.name)
    )
  }

  /** At no moment a volume may go: without a PV, a record has it, and its data belongs to none. */
  #watch(): void {
    const { volume, record, entry, claim } = this
    if (!volume && !record && claim) this.wrongs.push('there is neither a PV nor a record')
    if (!volume && entry?.madeFor) this.wrongs.push('it would count as orphaned')
  }

  async close(): Promise<void> {
    await this.daemon?.stop()
    for (const end of this.#ends) await end()
  }
}

/** What the controller manager does about claims: one whose PV is gone is Lost, and comes back when it is looked at. */
function bindClaims(server: MemoryApi): void {
  for (const { metadata, spec, status } of server.list(claimsPath)) {
    const volume = spec.volumeName && server.find(`${volumesPath}/${spec.volumeName}`)
    const path = `${claimsPath}/${metadata.name}`
    const phase = status?.phase
    if (!spec.volumeName) continue
    if (!volume && phase !== 'Lost') server.change(path, { status: { phase: 'Lost', capacity: null } })
    const isLooked = phase !== 'Lost' || metadata.annotations?.[movedAnnotation] !== undefined
    if (volume?.status?.phase === 'Bound' && phase !== 'Bound' && isLooked)
      server.change(path, { status: { phase: 'Bound', capacity: volume.spec.capacity } })
  }
}

type Who = 'person' | 'daemon' | 'provisioner'

/** Moves the volume while a request of one of the programs fails, or the program dies of it; gives what that asked. */
async function travel(from: FrontName, to: FrontName, who: Who, strike?: Strike): Promise<MemoryClient['requests']> {
  const world = await World.open(from)
  const { server } = world
  const { client, died } = strikeAt(server, strike)
  const clientOf = (one: Who) => (one === who ? client : server.client())
  let stopProvisioner = world.startProvisioner(clientOf('provisioner'))
  if (who === 'daemon') {
    await world.daemon?.stop()
    await world.startDaemon(client)
  }
  let isDead = false
  const revived = died.then(async () => {
    isDead = true
    if (who === 'daemon') {
      await world.daemon?.stop()
      await world.startDaemon()
    }
    if (who === 'provisioner') {
      await stopProvisioner()
      stopProvisioner = world.startProvisioner()
    }
  })
  try {
    // The dead has no patience.
    const clock = { ...machineClock, now: () => (isDead && who === 'person' ? Infinity : machineClock.now()) }
    const result = await world
      .mover(to, clientOf('person'), { clock })
      .move(world.name)
      .catch(async (error) => {
        if (!isDead) throw error
        return await world.mover(to, server.client()).move(world.name)
      })
    assert.ok(['moved', 'unchanged'].includes(result.outcome), JSON.stringify(result))
    await server.until('all know of it', () => world.isSettled(to))
    await server.idle()
    if (isDead) await revived
    assert.ok(world.isSettled(to))
    assert.equal(world.wrongs, [])
  } finally {
    await stopProvisioner()
    await world.close()
  }
  return client.requests
}

/**
 * Plays once undisturbed, then with each fault at each request that changes something, and with one at each that does not.
 * What becomes of others' single requests their own tests show: they die.
 */
async function disturb(from: FrontName, to: FrontName, who: Who): Promise<void> {
  const requests = await travel(from, to, who)
  const faults = who === 'person' ? usualFaults : usualFaults.filter(({ dies }) => dies)
  const strikes = requests.flatMap(({ method, path }, index) => {
    const its = method === 'GET' ? [faults[index % faults.length] as Fault] : faults
    return its.map((fault) => ({ at: index + 1, fault, what: `${method} ${path}` }))
  })
  await Promise.all(
    strikes.map(async ({ what, ...strike }) => {
      await travel(from, to, who, strike).catch((error) => {
        error.message = `With ${what} (request ${strike.at}) ${strike.fault.title}: ${error.message}`
        throw error
      })
    }),
  )
}

for (const [from, to] of [
  ['flex', 'csi'],
  ['csi', 'flex'],
] as const)
  for (const who of ['person', 'daemon', 'provisioner'] as const)
    journey(`a volume is moved from ${from} to ${to}, whatever becomes of a request of the ${who}`, () =>
      disturb(from, to, who),
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

/** Has whoever moves it die when he is about to send that. */
async function dieAt(world: World, to: FrontName, method: string, path: RegExp, more: Partial<MoverParts> = {}) {
  const client: MemoryClient = world.server.client((request) => {
    if (request.method !== method || !path.test(request.path)) return 'done'
    client.kill()
    return { refused: 0 }
  })
  let isDead = false
  const clock = { ...machineClock, now: () => (isDead ? Infinity : machineClock.now()) }
  const moving = world.mover(to, client, { clock, ...more }).move(world.name)
  await world.server.until('he is dead', () => {
    const { method: last, path: at } = client.requests.at(-1) ?? { method: '', path: '' }
    isDead = last === method && path.test(at)
    return isDead
  })
  await moving.then(
    () => assert.unreachable(),
    (error: Error) => assert.match(error.message, /Its record is kept: run the command again/),
  )
}

const usedBy = (world: World, name = 'web') =>
  world.server.create('/api/v1/namespaces/default/pods', {
    metadata: { name },
    spec: { volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }] },
    status: { phase: 'Running' },
  })

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

test.run()
