/** A cluster in memory in which a volume is moved, or adopted, and somebody is disturbed while that is done. */
import * as assert from 'uvu/assert'
import { csiDriverName } from '../src/csi/driver.ts'
import { machineClock } from '../src/k8s/client/clock.ts'
import type { FrontName } from '../src/k8s/fronts/front.ts'
import { finalizer, movedAnnotation, moveName } from '../src/k8s/model/names.ts'
import type { ProjectName } from '../src/k8s/model/origin.ts'
import { Mover, type MoverParts } from '../src/k8s/moves/mover.ts'
import type { Note, Notes } from '../src/k8s/node/note.ts'
import { Provisioner } from '../src/k8s/provisioner/provisioner.ts'
import { MemoryMachine } from '../src/volume/memory.ts'
import { MemoryApi, type MemoryClient, type StoredObject } from './memory-api.ts'
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
} from './memory-cluster.ts'
import { type MemoryDaemon, startMemoryDaemon } from './memory-daemon.ts'

const mebibyte = 1n << 20n
export const sizeBytes = 64n * mebibyte
export const claimPath = `${claimsPath}/data`

/** A cluster of one node, in which claim `data` has a volume; provisioner and daemon run all the time. */
export class World {
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

  /** With a volume of ours, of that front. */
  static async open(from: FrontName): Promise<World> {
    const world = await World.start()
    const { server } = world
    world.name = addVolume(server, 'data', 'a', sizeBytes, from)
    server.change(claimPath, { spec: { volumeName: world.name } })
    addPromise(server, 'a', world.name, sizeBytes, 'default/data')
    await server.until('it is made', () => world.isSettled(from))
    world.watch()
    return world
  }

  /** Without a volume. `before`: what is there when the daemon starts. */
  static async start(before: (world: World) => void = () => {}): Promise<World> {
    const world = new World()
    const { server } = world
    addClass(server)
    addNode(server, 'a')
    server.create('/apis/storage.k8s.io/v1/csidrivers', { metadata: { name: csiDriverName } })
    const drivers = [{ name: csiDriverName, nodeID: 'a' }]
    server.create('/apis/storage.k8s.io/v1/csinodes', { metadata: { name: 'a' }, spec: { drivers } })
    world.#ends.push(
      playControllerManager(server),
      play(server, () => bindClaims(server)),
    )
    before(world)
    await world.startDaemon()
    await server.until('there is a ledger', () => server.find(ledgerPath('a')) !== undefined)
    return world
  }

  /** From now on nothing may be made, or go. */
  watch(): void {
    this.machine.onStep = (step, name) => {
      if (['create', 'format', 'remove'].includes(step)) this.wrongs.push(`${step} of ${name}`)
    }
    this.server.onChange(() => this.#watch())
  }

  /** Somebody else's part in the cluster. */
  play(end: () => void): void {
    this.#ends.push(end)
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
export function bindClaims(server: MemoryApi): void {
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

export type Who = 'person' | 'daemon' | 'provisioner'

/** From where a volume goes where, and what must be so then, besides that it is settled. */
export interface Journey {
  open: () => Promise<World>
  to: FrontName
  from?: ProjectName
  isThere?: (world: World) => boolean
  /** Whether only requests that change something are struck. */
  isBrief?: boolean
}

/** Moves the volume while a request of one of the programs fails, or the program dies of it; gives what that asked. */
async function travel(journey: Journey, who: Who, strike?: Strike): Promise<MemoryClient['requests']> {
  const { open, to, from } = journey
  const world = await open()
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
      .mover(to, clientOf('person'), { clock, from })
      .move(world.name)
      .catch(async (error) => {
        if (!isDead) throw error
        return await world.mover(to, server.client(), { from }).move(world.name)
      })
    assert.ok(['moved', 'unchanged'].includes(result.outcome), JSON.stringify(result))
    const isThere = () => world.isSettled(to) && (journey.isThere?.(world) ?? true)
    await server.until('all know of it', isThere)
    await server.idle()
    if (isDead) await revived
    assert.ok(isThere())
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
export async function disturb(journey: Journey, who: Who): Promise<void> {
  const requests = await travel(journey, who)
  const faults = who === 'person' ? usualFaults : usualFaults.filter(({ dies }) => dies)
  const strikes = requests.flatMap(({ method, path }, index) => {
    const reads = journey.isBrief ? [] : [faults[index % faults.length] as Fault]
    const its = method === 'GET' ? reads : faults
    return its.map((fault) => ({ at: index + 1, fault, what: `${method} ${path}` }))
  })
  await Promise.all(
    strikes.map(async ({ what, ...strike }) => {
      await travel(journey, who, strike).catch((error) => {
        error.message = `With ${what} (request ${strike.at}) ${strike.fault.title}: ${error.message}`
        throw error
      })
    }),
  )
}

/** Has whoever moves it die when he is about to send that. */
export async function dieAt(world: World, to: FrontName, method: string, path: RegExp, more: Partial<MoverParts> = {}) {
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

export const usedBy = (world: World, name = 'web') =>
  world.server.create('/api/v1/namespaces/default/pods', {
    metadata: { name },
    spec: { volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }] },
    status: { phase: 'Running' },
  })
