import { randomUUID } from 'node:crypto'
import * as assert from 'uvu/assert'
import { rejects } from '../../../test/contract.ts'
import { MemoryApi, type MemoryClient, nextTurn } from '../../../test/memory-api.ts'
import {
  addNode,
  addPromise,
  addVolume,
  claimsPath,
  eventsPath,
  leasesPath,
  ledgerPath,
  namespace,
  overbookings,
  play,
  playControllerManager,
  promises,
  type Strike,
  silent,
  strikeAt,
  strikeEverywhere,
  usualFaults,
  volumesPath,
} from '../../../test/memory-cluster.ts'
import { type MemoryDaemon, startMemoryDaemon } from '../../../test/memory-daemon.ts'
import { sideBySide } from '../../../test/side-by-side.ts'
import { suite } from '../../../test/suite.ts'
import { parseOptions } from '../../flex/options.ts'
import { Engine } from '../../volume/engine.ts'
import { VolumeError } from '../../volume/errors.ts'
import { MemoryMachine } from '../../volume/memory.ts'
import type { FrontName } from '../fronts/front.ts'
import { parseLedger, poolOf, promise } from '../model/ledger.ts'
import { LedgerKeeper } from '../model/ledger-keeper.ts'
import { makeAnewAnnotation, nodeLabel } from '../model/names.ts'
import { HeldVolumes } from './held-volumes.ts'
import type { NodeAgent } from './node-agent.ts'
import type { Note, Notes } from './note.ts'

const test = suite('node agent')
const journey = sideBySide(test)
const mebibyte = 1n << 20n
const sizeBytes = 64n * mebibyte
const capacityBytes = 256n * mebibyte

/** A step of the machine at which something breaks, counted from 1; it may be the daemon. */
interface Break {
  at: number
  dies: boolean
  before?: (world: World) => void
}

/** A node in a cluster: what is there whether its daemon runs or not. */
class World {
  readonly server = new MemoryApi()
  readonly machine = new MemoryMachine({ capacityBytes })
  readonly noted = new Map<string, Note>()
  readonly steps: string[] = []
  /** What was done and must never be. */
  readonly wrongs: string[] = []
  /** Whether the daemon has died, so that none of its steps happens. */
  isDead = false
  breakAt: Break | undefined
  readonly broken = Promise.withResolvers<void>()

  constructor() {
    addNode(this.server, 'a')
    playControllerManager(this.server)
    this.machine.onStep = (step, name) => this.#step(step, name)
    this.server.onChange(() => this.#watchData())
  }

  readonly notes: Notes = {
    read: async (name) => this.noted.get(name),
    write: async (name, note) => {
      this.#step('note', name)
      this.noted.set(name, note)
    },
    clear: async (name) => {
      this.#step('forget', name)
      this.noted.delete(name)
    },
  }

  #step(step: string, name: string): void {
    if (this.isDead) throw new VolumeError('failed', 'the daemon is dead')
    this.steps.push(step)
    if (this.steps.length === this.breakAt?.at) {
      this.breakAt.before?.(this)
      if (this.breakAt.dies) this.isDead = true
      this.broken.resolve()
      throw new VolumeError('failed', `${step} is broken`)
    }
    const isMade = this.noted.has(name) || this.entryOf(name)?.pendingFor === undefined
    if (['create', 'format'].includes(step) && isMade) this.wrongs.push(`${step} of ${name}, which was made`)
    const volume = this.server.find(`${volumesPath}/${name}`)
    if (step === 'remove' && this.noted.has(name) && !volume?.metadata.deletionTimestamp)
      this.wrongs.push(`${step} of ${name}, which is wanted`)
  }

  /** A PV is let go only when its data is gone. */
  #watchData(): void {
    for (const [name] of this.noted)
      if (!this.server.find(`${volumesPath}/${name}`) && this.machine.volumes.has(name))
        this.wrongs.push(`PV ${name} is gone and its data is not`)
  }

  entryOf(name: string) {
    return promises(this.server).find(({ volume }) => volume === name)
  }

  /** A PV for a new claim, with room promised, as the provisioner makes it. */
  addPlaced(claim: string, front: FrontName = 'flex'): string {
    const name = addVolume(this.server, claim, 'a', sizeBytes, front)
    if (this.server.find(ledgerPath('a'))) addPromise(this.server, 'a', name, sizeBytes, `default/${claim}`)
    return name
  }

  /** What its user and the provisioner do to be rid of a volume. */
  dismiss(claim: string, name: string): void {
    if (this.server.find(`${claimsPath}/${claim}`)) this.server.delete(`${claimsPath}/${claim}`)
    if (this.server.find(`${volumesPath}/${name}`)) this.server.delete(`${volumesPath}/${name}`)
  }

  /** Made, formatted, noted, its promise exactly its size; and the scheduler is told what is left. */
  isReady(name: string): boolean {
    const stored = this.machine.volumes.get(name)
    const entry = this.entryOf(name)
    return (
      stored?.signatures[0] === 'ext4' &&
      this.noted.has(name) &&
      this.machine.intents.size === 0 &&
      entry?.promisedBytes === stored.sizeBytes &&
      entry.madeBytes === stored.sizeBytes &&
      entry.pendingFor === undefined &&
      this.isPublished()
    )
  }

  isEmpty(): boolean {
    const left = [this.machine.volumes, this.noted, this.machine.intents].some(({ size }) => size > 0)
    return !left && this.server.list(volumesPath).length + promises(this.server).length === 0 && this.isPublished()
  }

  isPublished(): boolean {
    const ledger = this.server.find(ledgerPath('a'))
    const isAlive = this.server.find(`${leasesPath}/elastic-local.a.alive`) !== undefined
    return isAlive && ledger !== undefined && poolOf(parseLedger(ledger as never)).capacityBytes === capacityBytes
  }

  mustBeRight(): void {
    assert.equal(this.wrongs, [])
    assert.equal(overbookings(this.server), [])
  }
}

const running = new Set<MemoryDaemon>()
test.after(async () => {
  await Promise.all([...running].map(({ stop }) => stop()))
})

async function start(world: World, client: MemoryClient = world.server.client()): Promise<MemoryDaemon> {
  const { machine, notes } = world
  const started = await startMemoryDaemon({ client, machine, notes })
  const daemon = {
    ...started,
    stop: async () => {
      running.delete(daemon)
      await started.stop()
    },
  }
  running.add(daemon)
  return daemon
}

/** What a daemon has to bring about, whatever happens to it on the way. */
interface Journey {
  /** The world before the daemon starts. */
  open(): Promise<World> | World
  /** What others do while it runs. */
  drive?(world: World): void
  isDone(world: World): boolean
  /** What the kubelet asks of it, again after a failure and after a restart. */
  ask?(world: World, agent: NodeAgent): Promise<void>
}

/** Runs the journey once, with one thing going wrong or none; gives what was asked and done. */
async function travel(plan: Journey, wrong: { strike?: Strike | undefined; breakAt?: Break }) {
  const world = await plan.open()
  world.steps.length = 0
  if (wrong.breakAt) world.breakAt = wrong.breakAt
  const { client, died } = strikeAt(world.server, wrong.strike)
  const isDone = () => plan.isDone(world)
  const end = play(world.server, () => plan.drive?.(world))
  const dies = wrong.strike?.fault.dies ?? wrong.breakAt?.dies ?? false
  let daemon = await start(world, client)
  const asked = plan.ask?.(world, daemon.agent)
  try {
    const death = Promise.race([died, ...(dies ? [world.broken.promise] : [])]).then(() => {
      world.isDead = true
      client.kill()
    })
    await Promise.race([death, Promise.all([asked, world.server.until('the end', isDone)])])
    await world.server.idle()
    if (dies) {
      world.isDead = true
      client.kill()
      await daemon.stop()
      world.isDead = false
      daemon = await start(world)
      await plan.ask?.(world, daemon.agent)
    }
    await world.server.until('the end', isDone)
    await world.server.idle()
  } finally {
    end()
    await daemon.stop()
  }
  assert.ok(isDone())
  world.mustBeRight()
  return { requests: client.requests, steps: world.steps }
}

function survives(title: string, plan: Journey, faults?: typeof usualFaults): void {
  journey(`${title}, whatever becomes of a request`, () =>
    strikeEverywhere(async (strike) => (await travel(plan, { strike })).requests, faults),
  )
}

/** The same with each step on the machine failing, and with the daemon dying there. */
function survivesBreaks(title: string, plan: Journey, before?: Break['before']): void {
  journey(`${title}, whatever becomes of a step`, async () => {
    const { steps } = await travel(plan, {})
    assert.ok(steps.length > 0)
    const breaks = [false, true].flatMap((dies) => steps.map((step, index) => ({ step, at: index + 1, dies })))
    await Promise.all(
      breaks.map(({ step, at, dies }) =>
        travel(plan, { breakAt: { at, dies, ...(before ? { before } : {}) } }).catch((error) => {
          error.message = `With step ${at} (${step}) ${dies ? 'the last' : 'broken'}: ${error.message}`
          throw error
        }),
      ),
    )
  })
}

/** A node with a daemon that has published its pool and is gone again. */
async function openPublished(): Promise<World> {
  const world = new World()
  const daemon = await start(world)
  await world.server.until('the pool is published', () => world.isPublished())
  await daemon.stop()
  return world
}

/** A node with one volume, ready for its pod. */
async function openMade(front: FrontName = 'flex'): Promise<World & { volume: string }> {
  const world = await openPublished()
  const volume = world.addPlaced('data', front)
  const daemon = await start(world)
  await world.server.until('the volume is ready', () => world.isReady(volume))
  await daemon.stop()
  return Object.assign(world, { volume })
}

const nameOf = (world: World) => world.server.list(volumesPath)[0]?.metadata.name ?? ''

const making: Journey = {
  open: async () => {
    const world = await openPublished()
    world.addPlaced('data')
    return world
  },
  isDone: (world) => world.isReady(nameOf(world)),
}
survives('a volume is made once for its PV', making)
survivesBreaks('a volume is made once for its PV', making)

const beginning: Journey = {
  open: () => new World(),
  drive: (world) => {
    if (!nameOf(world) && world.server.find(ledgerPath('a'))) world.addPlaced('data')
  },
  isDone: (world) => world.isReady(nameOf(world)),
}
survives('a new node says what it has, and makes its first volume', beginning)

survives('a node whose ledger was lost makes a new one, and takes no PV for one that never had a volume', {
  open: async () => {
    const world = await openMade()
    world.server.delete(ledgerPath('a'))
    addVolume(world.server, 'other', 'a', sizeBytes)
    return world
  },
  isDone: (world) => {
    const nameFor = (claim: string) =>
      world.server.list(volumesPath).find(({ spec }) => spec.claimRef.name === claim)?.metadata.name ?? ''
    const [made, other] = [nameFor('data'), nameFor('other')]
    const isTold = world.server.list(eventsPath).some(({ message }) => /its data is lost/.test(String(message)))
    return world.isReady(made) && world.entryOf(other) !== undefined && !world.machine.volumes.has(other) && isTold
  },
})

test('a volume whose data is lost is recreated only where its PV says that it may be', async () => {
  const world = await openMade()
  world.machine.volumes.delete(world.volume)
  const daemon = await start(world)
  const isTold = () => world.server.list(eventsPath).some(({ reason }) => reason === 'VolumeNotMade')
  await world.server.until('the loss is told', isTold)
  assert.is(daemon.agent.lost().length, 1)
  assert.not.ok(world.machine.volumes.has(world.volume))
  const options = parseOptions({ sizeBytes: String(sizeBytes), key: 'key' })
  await rejects('not-found', /its data is lost.*make-lost-anew=true/, () =>
    daemon.agent.admit({ front: 'flex', volumeName: world.volume, podUid: 'pod', options }, async () => {}),
  )
  const annotations = { 'volumes.k8s.elastic.co/make-lost-anew': 'true' }
  world.wrongs.length = 0
  world.server.change(`${volumesPath}/${world.volume}`, { metadata: { annotations } })
  const isAllowed = () =>
    world.server.find(`${volumesPath}/${world.volume}`)?.metadata.annotations?.[makeAnewAnnotation]
  await world.server.until('it is recreated, which is allowed once', () => world.isReady(world.volume) && !isAllowed())
  assert.is(daemon.agent.lost().length, 0)
  assert.ok(world.server.list(eventsPath).some(({ reason }) => reason === 'VolumeMadeAnew'))
  world.machine.volumes.delete(world.volume)
  world.server.change(`${volumesPath}/${world.volume}`, { metadata: { annotations: { changed: 'yes' } } })
  await world.server.until('the next loss is noticed', () => daemon.agent.lost().length === 1)
  await daemon.stop()
  assert.not.ok(world.machine.volumes.has(world.volume))
})

test('a permission to make a volume anew that was not needed is taken away', async () => {
  const world = await openMade()
  const annotations = { [makeAnewAnnotation]: 'true' }
  world.server.change(`${volumesPath}/${world.volume}`, { metadata: { annotations } })
  const daemon = await start(world)
  const isAllowed = () =>
    world.server.find(`${volumesPath}/${world.volume}`)?.metadata.annotations?.[makeAnewAnnotation]
  await world.server.until('it is gone', () => !isAllowed())
  await daemon.stop()
})

for (const [title, lose] of [
  ['its entry is gone from the ledger', () => {}],
  [
    'its entry is gone and there is no room for a new one',
    (world: World) => addPromise(world.server, 'a', 'pvc-other', capacityBytes),
  ],
] as const)
  test(`a volume that is lost is not recreated while a note says that it was made, though ${title}`, async () => {
    const world = await openMade()
    world.machine.volumes.delete(world.volume)
    world.server.change(ledgerPath('a'), { data: { [world.volume]: null } })
    lose(world)
    const daemon = await start(world)
    await world.server.until('it is told', () => daemon.agent.lost().length === 1)
    await world.server.idle()
    await daemon.stop()
    assert.not.ok(world.machine.volumes.has(world.volume))
    assert.equal(world.wrongs, [])
  })

test('nothing is made in a pool that is not the one of the ledger, until the operator says that it is', async () => {
  const world = await openPublished()
  world.machine.poolId = 'another'
  const volume = world.addPlaced('data')
  const daemon = await start(world)
  const reasons = () => world.server.list(eventsPath).map(({ reason }) => reason)
  await world.server.until(
    'the wrong pool is told',
    () => reasons().includes('WrongPool') && reasons().includes('VolumeNotMade'),
  )
  assert.is(world.machine.volumes.size, 0)
  world.server.delete(ledgerPath('a'))
  await world.server.until('the new pool is published', () => world.entryOf(volume) !== undefined)
  await daemon.stop()
})

test('while the disk of the pool is away the node says so and offers no room, a PV is neither made nor let go, and then all is as before', async () => {
  const world = await openMade()
  world.server.delete(`${leasesPath}/elastic-local.a.alive`)
  const daemon = await start(world)
  const reasons = () => world.server.list(eventsPath).map(({ reason }) => reason)
  const room = () => poolOf(parseLedger(world.server.find(ledgerPath('a')) as never))
  const { id } = room()
  await world.server.until('the daemon is at work', () => world.isPublished())
  world.machine.isAway = true
  world.dismiss('data', world.volume)
  // Whatever of the ledger changes has the pool looked at again.
  const look = () => world.server.change(ledgerPath('a'), { metadata: { annotations: { look: randomUUID() } } })
  look()
  await world.server.until(
    'no room is offered',
    () => room().capacityBytes === 0n && reasons().includes('VolumeNotRemoved'),
  )
  assert.ok(reasons().includes('PoolProblem'))
  assert.equal([room().capacityBytes, room().id], [0n, id])
  assert.ok(world.machine.volumes.has(world.volume))
  const late = addVolume(world.server, 'late', 'a', sizeBytes)
  await world.server.until('it is said that none is made', () => reasons().includes('VolumeNotMade'))
  world.machine.isAway = false
  look()
  await world.server.until('all is as before', () => room().capacityBytes === capacityBytes && world.isReady(late))
  assert.not.ok(world.machine.volumes.has(world.volume))
  assert.equal(world.wrongs, [])
  await daemon.stop()
})

test('a pool that cannot be read any more offers nothing, is said to be so, and its daemon is soon taken for dead', async () => {
  const world = await openMade()
  world.server.delete(`${leasesPath}/elastic-local.a.alive`)
  const { report } = world.machine.pool
  world.machine.pool.report = async () => {
    throw new VolumeError('failed', 'the volume group is gone')
  }
  const daemon = await start(world)
  const room = () => poolOf(parseLedger(world.server.find(ledgerPath('a')) as never)).capacityBytes
  const said = () => world.server.list(eventsPath).map(({ message }) => message)
  await world.server.until('nothing is offered', () => room() === 0n && said().some((one) => /group is gone/.test(one)))
  assert.is(world.server.find(`${leasesPath}/elastic-local.a.alive`), undefined)
  world.machine.pool.report = report
  await world.server.until('all is as before', () => world.isPublished())
  await daemon.stop()
})

test('a journal of an old backup costs no data where a note or the ledger says that the volume was made', async () => {
  const restore = async (phase: 'creating' | 'formatting', forget: (world: World) => void) => {
    const world = await openMade()
    const { machine, server, volume } = world
    const { id = '', files } = machine.volumes.get(volume) ?? {}
    machine.made.clear()
    machine.intents.set(volume, { phase, id, sizeBytes, fsType: 'ext4', mkfsOptions: [] })
    files?.set('file', 'precious')
    forget(world)
    const daemon = await start(world)
    await server.until('all is as before', () => world.isReady(volume))
    assert.is((await daemon.engine.find(volume))?.state, 'ready')
    assert.is(machine.volumes.get(volume)?.files.get('file'), 'precious')
    await daemon.stop()
  }
  const forgets = [({ noted }: World) => noted.clear(), ({ server }: World) => server.delete(ledgerPath('a'))]
  await Promise.all(
    forgets.flatMap((forget) => (['creating', 'formatting'] as const).map((phase) => restore(phase, forget))),
  )
})

test('a note that cannot be read costs its own volume only', async () => {
  const world = await openMade()
  const { server, volume } = world
  const other = world.addPlaced('other')
  const { read } = world.notes
  world.notes.read = async (name) => {
    if (name === volume) throw new VolumeError('failed', `Cannot read ${name}.json: it is empty`)
    return await read(name)
  }
  // What both have to be brought in line with.
  for (const name of [volume, other]) addPromise(server, 'a', name, sizeBytes * 2n)
  world.machine.volumes.set(other, structuredClone({ ...world.machine.volumes.get(volume) }) as never)
  world.noted.set(other, { front: 'flex', fsType: 'ext4', options: {} })
  const daemon = await start(world)
  await server.until('the other is in line', () => world.entryOf(other)?.promisedBytes === sizeBytes)
  const isTold = () => server.list(eventsPath).some(({ message }) => message.includes('it is empty'))
  await server.until('it is told', isTold)
  assert.is(world.entryOf(volume)?.promisedBytes, sizeBytes * 2n)
  await daemon.stop()
})

const removing: Journey = {
  open: async () => {
    const world = await openMade()
    world.dismiss('data', world.volume)
    return world
  },
  isDone: (world) => world.isEmpty(),
}
survives('a volume is removed before its PV is let go', removing)
survivesBreaks('a volume is removed before its PV is let go', removing)

const dismissed: Journey = {
  ...making,
  isDone: (world) => {
    const name = nameOf(world)
    return name !== '' && !world.server.find(`${volumesPath}/${name}`)?.metadata.deletionTimestamp
      ? world.isReady(name)
      : world.isEmpty()
  },
}
survives(
  'a PV that is deleted while its volume is made leaves nothing behind',
  dismissed,
  usualFaults.map((fault) => ({
    ...fault,
    title: `${fault.title}, after the deletion of the PV`,
    before: (server) => {
      server.delete(`${claimsPath}/data`)
      for (const { metadata } of server.list(volumesPath)) server.delete(`${volumesPath}/${metadata.name}`)
    },
  })),
)
survivesBreaks('a PV that is deleted while its volume is made leaves nothing behind', dismissed, (world) =>
  world.dismiss('data', nameOf(world)),
)

const isTold = (world: World) =>
  world.server.list(eventsPath).some(({ message, involvedObject }) => {
    return involvedObject.name === 'data' && /is not recreated/.test(message)
  })

for (const [lost, lose] of [
  ['with all that was noted of it', (world: World) => world.noted.clear()],
  [
    'with all that was noted of it, and others have come',
    (world: World) => {
      world.noted.clear()
      world.addPlaced('other')
    },
  ],
] as const)
  survives(`a volume that is lost ${lost} is never recreated, and its owner is told`, {
    open: async () => {
      const world = await openMade()
      world.machine.volumes.delete(world.volume)
      lose(world)
      return world
    },
    isDone: (world) => isTold(world) && world.server.find(ledgerPath('a')) !== undefined,
  })

for (const [title, lose] of [
  ['a volume that is lost', () => {}],
  ['a volume that is lost, and the ledger with it,', (world: World) => world.server.delete(ledgerPath('a'))],
] as const)
  survives(`${title} is never recreated while it is noted that it was made`, {
    open: async () => {
      const world = await openMade()
      world.machine.volumes.delete(world.volume)
      lose(world)
      return world
    },
    isDone: (world) =>
      world.isPublished() && world.entryOf(nameOf(world))?.pendingFor === undefined && world.machine.volumes.size === 0,
  })

/** Asks for growth as the kubelet does: until it is granted, or refused for want of room. */
async function askToGrow(
  agent: NodeAgent,
  name: string,
  wantedBytes: bigint,
): Promise<'granted' | 'refused' | 'failed'> {
  try {
    await agent.grow(name, wantedBytes)
    return 'granted'
  } catch (error) {
    if (!(error instanceof VolumeError)) throw error
    return error.code === 'no-space' ? 'refused' : 'failed'
  }
}

const growing = (wantedBytes: bigint, answer: string): Journey => ({
  open: () => openMade(),
  ask: async (world, agent) => {
    const name = nameOf(world)
    for (let given = 'failed'; given === 'failed' && !world.isDead; ) {
      given = await askToGrow(agent, name, wantedBytes)
      if (given !== 'failed') assert.is(given, answer)
    }
  },
  isDone: (world) =>
    world.isReady(nameOf(world)) &&
    world.entryOf(nameOf(world))?.promisedBytes === (answer === 'granted' ? wantedBytes : sizeBytes),
})
survives('growth is granted where there is room', growing(4n * sizeBytes, 'granted'))
survivesBreaks('growth is granted where there is room', growing(4n * sizeBytes, 'granted'))
survives('growth is refused where there is none, and costs nothing', growing(5n * sizeBytes, 'refused'))

test('the last room is given either to growth or to a new volume, whoever comes first', async () => {
  const compete = async () => {
    const world = await openMade()
    const daemon = await start(world)
    const provisioner = new LedgerKeeper({ api: world.server.client(), namespace, node: 'a' })
    const placed = provisioner
      .update((ledger) => [['pvc-new', promise(ledger, 'pvc-new', 3n * sizeBytes, 'default/new')]])
      .then(() => 'granted')
      .catch((error) => error.code)
    const grown = await askToGrow(daemon.agent, world.volume, 2n * sizeBytes)
    assert.equal([grown, await placed], grown === 'granted' ? ['granted', 'no-space'] : ['refused', 'granted'])
    await daemon.stop()
    world.mustBeRight()
  }
  await Promise.all(Array.from({ length: 20 }, compete))
})

/** Holds the growths of a machine until each is let go. */
function holdGrowths({ machine }: World): { begun(): Promise<void>; goOn(): void } {
  const { grow } = machine.pool
  const waiting: (() => void)[] = []
  const arrivals: (() => void)[] = []
  machine.pool.grow = async (...args) => {
    await new Promise<void>((resolve) => {
      waiting.push(resolve)
      arrivals.shift()?.()
    })
    return await grow.apply(machine.pool, args)
  }
  return {
    begun: () => new Promise((resolve) => (waiting.length > 0 ? resolve() : arrivals.push(resolve))),
    goOn: () => waiting.shift()?.(),
  }
}

/** What becomes of a wish for so much room on node `a`, as the provisioner asks for it. */
async function askForRoom(world: World, bytes: bigint): Promise<string> {
  const provisioner = new LedgerKeeper({ api: world.server.client(), namespace, node: 'a' })
  return await provisioner
    .update((ledger) => [['pvc-new', promise(ledger, 'pvc-new', bytes, 'default/new')]])
    .then(() => 'granted')
    .catch((error) => error.code)
}

test('room that is promised to a growth under way stays promised while the reclaim policy is changed', async () => {
  const world = await openMade()
  const daemon = await start(world)
  const growths = holdGrowths(world)
  const grown = daemon.agent.grow(world.volume, 3n * sizeBytes)
  await growths.begun()
  world.server.change(`${volumesPath}/${world.volume}`, { spec: { persistentVolumeReclaimPolicy: 'Retain' } })
  await world.server.idle()
  assert.is(await askForRoom(world, 2n * sizeBytes), 'no-space')
  growths.goOn()
  await grown
  await world.server.until('the growth is written', () => world.isReady(world.volume))
  await daemon.stop()
  world.mustBeRight()
})

test('room that is promised to a growth under way stays promised when an earlier one ends', async () => {
  const world = await openMade()
  const daemon = await start(world)
  const growths = holdGrowths(world)
  const both = [2n, 3n].map((times) => daemon.agent.grow(world.volume, times * sizeBytes))
  await growths.begun()
  growths.goOn()
  await both[0]
  await growths.begun()
  assert.is(await askForRoom(world, 2n * sizeBytes), 'no-space')
  growths.goOn()
  await both[1]
  await world.server.until('the growth is written', () => world.isReady(world.volume))
  await daemon.stop()
  world.mustBeRight()
})

test('room that is promised to a growth under way stays promised while entries are brought in line', async () => {
  const world = await openPublished()
  const [other = '', growing = ''] = ['one', 'two'].map((claim) => world.addPlaced(claim)).sort()
  const first = await start(world)
  await world.server.until('both are ready', () => world.isReady(other) && world.isReady(growing))
  await first.stop()
  const growths = holdGrowths(world)
  const begun = growths.begun()
  const { read } = world.notes
  // So that what is in line before the growth begins is not all that is seen.
  world.notes.read = async (name) => {
    if (name === other) await begun
    return await read(name)
  }
  addPromise(world.server, 'a', other, sizeBytes * 2n)
  const daemon = await start(world)
  const grown = askToGrow(daemon.agent, growing, sizeBytes * 2n)
  await begun
  await world.server.until('another is in line', () => world.entryOf(other)?.promisedBytes === sizeBytes)
  await world.server.idle()
  assert.is(world.entryOf(growing)?.promisedBytes, sizeBytes * 2n)
  assert.is(await askForRoom(world, 2n * sizeBytes), 'no-space')
  growths.goOn()
  assert.is(await grown, 'granted')
  await world.server.until('it is in line', () => world.entryOf(growing)?.madeBytes === sizeBytes * 2n)
  await daemon.stop()
  world.mustBeRight()
})

test('of ConfigMaps, Leases and capacities a daemon asks for those of its own node alone, by name', async () => {
  const world = new World()
  const client = world.server.client()
  const daemon = await start(world, client)
  await world.server.until('the pool is published', () => world.isPublished())
  await daemon.stop()
  const lists = client.requests.filter(
    ({ path, method }) => method === 'GET' && /(configmaps|leases|capacities)$/.test(path),
  )
  assert.ok(lists.length > 0)
  for (const { path, query } of lists)
    assert.equal([path.split('/').at(-1), query?.fieldSelector], ['configmaps', 'metadata.name=elastic-local.a.ledger'])
})

test('a volume that is held by nobody any more changes nothing', async () => {
  const world = await openMade()
  const { pool, mounts, filesystems, journal } = world.machine
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log: silent })
  const keeper = new LedgerKeeper({ api: world.server.client(), namespace, node: 'a' })
  const held = new HeldVolumes({ engine, keeper, notes: world.notes, onWritten: () => {} })
  const kept = await held.hold(world.volume, async (volume) => volume)
  for (const change of [() => kept.remove(), () => kept.grow(1n), () => kept.changeEntry(() => undefined)])
    await change().then(
      () => assert.unreachable(),
      (error) => assert.match(error.message, /is no longer held/),
    )
})

test('a daemon that died between the promise and the growth takes the promise back when nobody asks again', async () => {
  const world = await openMade()
  addPromise(world.server, 'a', world.volume, 4n * sizeBytes)
  const daemon = await start(world)
  await world.server.until('the room is free again', () => world.isReady(world.volume))
  await daemon.stop()
})

test('a volume for one pod is mounted for one at a time, in whatever order they ask', async () => {
  const world = await openMade()
  world.server.change(`${volumesPath}/${world.volume}`, { spec: { accessModes: ['ReadWriteOncePod'] } })
  const daemon = await start(world)
  await world.server.until('it is noted', () => world.noted.get(world.volume)?.isForOnePod === true)
  const options = parseOptions({ sizeBytes: String(sizeBytes), key: 'key' })
  const folder = (pod: string) => `/kubelet/pods/${pod}/volumes/volumes.k8s.elastic.co~elastic-local/${world.volume}`
  const mount = (podUid: string) =>
    daemon.agent.admit({ front: 'flex', volumeName: world.volume, podUid, options }, ({ readOnly, mountOptions }) =>
      daemon.engine.mount({ name: world.volume, target: folder(podUid), readOnly, mountOptions }),
    )
  const results = await Promise.allSettled(['first', 'second'].map(mount))
  assert.equal(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected'],
  )
  await rejects('busy', /uses the ReadWriteOncePod access mode and is already in use by another pod \(first\)/, () =>
    mount('second'),
  )
  assert.equal(await mount('first'), { action: 'unchanged' })
  await daemon.engine.unmount(world.volume, folder('first'))
  await mount('second')
  await daemon.stop()
})

test('a mount that is under way when its PV is let go leaves no volume behind', async () => {
  const world = await openPublished()
  world.machine.onStep = (step) => {
    if (step === 'create') throw new VolumeError('failed', 'not now')
  }
  const daemon = await start(world)
  const name = world.addPlaced('data')
  await world.server.until('its owner is told', () => world.server.list(eventsPath).length > 0)
  world.machine.onStep = () => {}
  const [isLooking, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const { read } = world.notes
  world.notes.read = async (name) => {
    const found = await read(name)
    isLooking.resolve()
    await goOn.promise
    return found
  }
  const options = parseOptions({ sizeBytes: String(sizeBytes), key: 'key' })
  const request = { front: 'flex', volumeName: name, podUid: 'pod', options } as const
  const admitted = daemon.agent.admit(request, async () => {}).catch((error) => error)
  await isLooking.promise
  world.dismiss('data', name)
  await world.server.idle()
  goOn.resolve()
  await admitted
  await world.server.idle()
  await world.server.until('nothing is left', () => world.isEmpty())
  await daemon.stop()
  assert.ok(world.isEmpty())
})

test('growth that the machine cannot give leaves the promise at what the volume has', async () => {
  const world = await openMade()
  const daemon = await start(world)
  world.machine.onStep = () => {
    throw new VolumeError('failed', 'the disk is broken')
  }
  await rejects('failed', /the disk is broken/, () => daemon.agent.grow(world.volume, 2n * sizeBytes))
  await daemon.stop()
  assert.is(
    parseLedger(world.server.find(ledgerPath('a')) as never).entries.get(world.volume)?.promisedBytes,
    sizeBytes,
  )
})

test('a volume that was to grow while nobody had it grows before it is mounted, and is mounted also where that is refused', async () => {
  const world = await openMade()
  world.machine.maySysResource = false
  const daemon = await start(world)
  const options = parseOptions({ sizeBytes: String(sizeBytes), key: 'key' })
  const admit = (podUid: string) =>
    daemon.agent.admit({ front: 'flex', volumeName: world.volume, podUid, options }, async () => {})
  const raise = async (bytes: bigint) => {
    world.server.change(`${volumesPath}/${world.volume}`, { spec: { capacity: { storage: String(bytes) } } })
    await world.server.idle()
  }
  const made = () => world.machine.volumes.get(world.volume)
  await raise(2n * sizeBytes)
  await admit('pod')
  assert.equal([made()?.sizeBytes, made()?.filesystemBytes], [2n * sizeBytes, 2n * sizeBytes])
  assert.is(world.entryOf(world.volume)?.promisedBytes, 2n * sizeBytes)
  await raise(5n * sizeBytes)
  await admit('pod')
  assert.is(made()?.sizeBytes, 2n * sizeBytes)
  assert.ok(world.server.list(eventsPath).some(({ reason }) => reason === 'VolumeNotGrown'))
  await daemon.stop()
})

test('what fails with a volume is told of on its PersistentVolume and its claim; what was lost also where nobody asks for it', async () => {
  const world = await openMade('csi')
  const daemon = await start(world)
  const { engine, name } = { engine: daemon.engine, name: nameOf(world) }
  const said = (reason: string, words: RegExp) =>
    world.server.until(`${reason} is said of both`, () => {
      const found = world.server.list(eventsPath).filter((one) => one.reason === reason && words.test(one.message))
      return new Set(found.map(({ involvedObject }) => involvedObject.kind)).size === 2
    })
  const request = { name, target: '/pods/a', readOnly: false, mountOptions: [] }
  const isKnown = (agent: NodeAgent) => world.server.until('its PV is known', () => agent.claimOf(name) !== undefined)
  await isKnown(daemon.agent)
  await engine.mount(request)
  world.machine.onStep = (step) => {
    if (step === 'unmount') throw new VolumeError('busy', 'Cannot unmount /pods/a: target is busy.')
  }
  await engine.unmount(name, '/pods/a').then(
    () => assert.unreachable(),
    () => {},
  )
  await said('VolumeNotUnmounted', /target is busy/)
  world.machine.onStep = () => {}
  await engine.unmount(name, '/pods/a')
  const volume = world.machine.volumes.get(name)
  if (volume) volume.signatures = []
  await daemon.stop()
  const next = await start(world)
  await isKnown(next.agent)
  await next.engine.mount(request).then(
    () => assert.unreachable(),
    () => {},
  )
  await said('VolumeLost', /it is blank, and its filesystem is lost/)
  assert.equal((await next.engine.find(name))?.state, 'lost')
  await next.stop()
})

test('a volume of CSI that was to grow and could not while it was mounted grows before it is mounted again', async () => {
  const world = await granted.open()
  world.machine.maySysResource = false
  const name = nameOf(world)
  const target = '/pods/a'
  const { mounts } = world.machine
  await mounts.mountDevice(`/dev/memory/${name}`, target, 'ext4', [])
  const daemon = await start(world)
  await world.server.until('its owner is told', () =>
    world.server
      .list(eventsPath)
      .some(({ reason, message }) => reason === 'VolumeNotGrown' && /Nothing was changed/.test(message)),
  )
  const made = () => world.machine.volumes.get(name)
  assert.is(made()?.sizeBytes, sizeBytes)
  await world.server.until('it is in the ledger', () => /Nothing was changed/.test(world.entryOf(name)?.delay ?? ''))
  await daemon.engine.unmount(name, target)
  const options = parseOptions({ sizeBytes: String(sizeBytes), key: 'key' })
  await daemon.agent.admit({ front: 'csi', volumeName: name, podUid: 'pod', options }, async () => {})
  assert.equal([made()?.sizeBytes, made()?.filesystemBytes], [3n * sizeBytes, 3n * sizeBytes])
  assert.is(world.entryOf(name)?.delay, undefined)
  await daemon.stop()
})

test('a volume of CSI that is lost says in the ledger why it does not grow', async () => {
  const world = await granted.open()
  const name = nameOf(world)
  world.machine.volumes.delete(name)
  const daemon = await start(world)
  await world.server.until('it is said', () => /its data is lost/.test(world.entryOf(name)?.delay ?? ''))
  await world.server.idle()
  assert.is(world.entryOf(name)?.promisedBytes, 3n * sizeBytes)
  await daemon.stop()
})

test('a PV of volumeMode Block gets a block device, which is given as one, grows as was granted, and is told of when it is lost', async () => {
  const world = await openPublished()
  const name = world.addPlaced('data', 'csi')
  world.server.change(`${volumesPath}/${name}`, { spec: { volumeMode: 'Block', csi: { fsType: null } } })
  const daemon = await start(world)
  await world.server.until('it is made', () => world.noted.has(name) && world.entryOf(name)?.madeBytes === sizeBytes)
  assert.equal(world.machine.volumes.get(name)?.signatures, [])
  assert.is(world.noted.get(name)?.fsType, 'block')
  const options = parseOptions({})
  const admit = () =>
    daemon.agent.admit({ front: 'csi', volumeName: name, podUid: 'pod', options }, async (admission) => admission)
  assert.equal(await admit(), { readOnly: false, mountOptions: [], fsType: 'block' })
  const entry = JSON.parse(world.server.find(ledgerPath('a'))?.data[name])
  const promised = JSON.stringify({ ...entry, promisedBytes: String(3n * sizeBytes) })
  world.server.change(ledgerPath('a'), { data: { [name]: promised } })
  await world.server.until('it has grown', () => world.entryOf(name)?.madeBytes === 3n * sizeBytes)
  assert.not.ok(world.steps.some((step) => ['format', 'mount-device', 'grow-filesystem'].includes(step)))
  world.machine.volumes.delete(name)
  world.server.change(`${volumesPath}/${name}`, { metadata: { annotations: { changed: 'yes' } } })
  await world.server.until('its loss is told', () => daemon.agent.lost().length === 1)
  await rejects('not-found', /its data is lost/, admit)
  await daemon.stop()
  assert.not.ok(world.machine.volumes.has(name))
})

const granted: Journey = {
  open: async () => {
    const world = await openMade('csi')
    const entry = JSON.parse(world.server.find(ledgerPath('a'))?.data[world.volume])
    const promised = JSON.stringify({ ...entry, promisedBytes: String(3n * sizeBytes) })
    world.server.change(ledgerPath('a'), { data: { [world.volume]: promised } })
    return world
  },
  isDone: (world) => world.isReady(nameOf(world)) && world.entryOf(nameOf(world))?.madeBytes === 3n * sizeBytes,
}
survives('a volume of CSI grows once that is promised', granted)
survivesBreaks('a volume of CSI grows once that is promised', granted)

test('a promise to a volume of CSI is lowered by nobody on the node while it cannot grow, and its owner is told', async () => {
  const world = await granted.open()
  world.machine.onStep = (step) => {
    if (step === 'grow') throw new VolumeError('failed', 'the disk does not want')
  }
  const daemon = await start(world)
  await world.server.until('its owner is told', () =>
    world.server.list(eventsPath).some(({ reason }) => reason === 'VolumeNotGrown'),
  )
  const path = `${volumesPath}/${nameOf(world)}`
  world.server.change(path, { spec: { persistentVolumeReclaimPolicy: 'Retain' } })
  await world.server.until('the policy was seen', () => {
    return JSON.parse(world.server.find(ledgerPath('a'))?.data[nameOf(world)]).madeFor === undefined
  })
  assert.is(world.entryOf(nameOf(world))?.promisedBytes, 3n * sizeBytes)
  await daemon.stop()
})

test('growth of a volume of CSI that the machine has no room for is refused for good, and tried again now and then', async () => {
  const world = await granted.open()
  const name = nameOf(world)
  let tries = 0
  world.machine.onStep = (step) => {
    if (step !== 'grow') return
    tries += 1
    throw new VolumeError('no-space', 'the disk is full of other things')
  }
  const daemon = await start(world)
  const refused = () => world.entryOf(name)?.refusedBytes === 3n * sizeBytes
  await world.server.until('it is refused', refused)
  world.server.change(`${volumesPath}/${name}`, { spec: { persistentVolumeReclaimPolicy: 'Retain' } })
  await world.server.until('the policy was seen', () => world.entryOf(name)?.madeFor === undefined)
  await world.server.idle()
  const { promisedBytes, madeBytes, refusal } = world.entryOf(name) ?? {}
  assert.equal(
    [promisedBytes, madeBytes, refusal, tries],
    [3n * sizeBytes, sizeBytes, 'the disk is full of other things', 1],
  )
  await daemon.stop()
  world.machine.onStep = () => {}
  const next = await start(world)
  await world.server.until('it has grown', () => world.entryOf(name)?.madeBytes === 3n * sizeBytes && !refused())
  await next.stop()
})

for (const [title, lose] of [
  ['whose ledger was lost', (world: World) => world.server.delete(ledgerPath('a'))],
  ['whose entry was lost', (world: World) => world.server.change(ledgerPath('a'), { data: { [nameOf(world)]: null } })],
] as const)
  test(`of a volume of CSI ${title}, nobody is told that it has grown before its filesystem has`, async () => {
    const world = await openMade('csi')
    const name = nameOf(world)
    const volume = world.machine.volumes.get(name)
    assert.ok(volume)
    volume.sizeBytes = 3n * sizeBytes
    lose(world)
    const wrongs: string[] = []
    const end = play(world.server, () => {
      if ((world.entryOf(name)?.madeBytes ?? 0n) > volume.filesystemBytes)
        wrongs.push(JSON.stringify(world.server.find(ledgerPath('a'))?.data))
    })
    const daemon = await start(world)
    await world.server.until('it has grown', () => world.entryOf(name)?.madeBytes === 3n * sizeBytes)
    await daemon.stop()
    end()
    assert.equal([wrongs, volume.filesystemBytes], [[], 3n * sizeBytes])
  })

test('what was granted to a volume of CSI whose PV is gone is given up', async () => {
  const world = await granted.open()
  const name = nameOf(world)
  world.server.change(`${volumesPath}/${name}`, { metadata: { finalizers: [] } })
  world.dismiss('data', name)
  const daemon = await start(world)
  await world.server.until('it is given up', () => world.entryOf(name)?.promisedBytes === sizeBytes)
  assert.is(world.machine.volumes.get(name)?.sizeBytes, sizeBytes)
  await daemon.stop()
})

test('a PV of which nobody can tell what it is to be, as a person may make it, keeps no ledger from being made', async () => {
  const world = new World()
  const name = world.addPlaced('data', 'csi')
  world.server.change(`${volumesPath}/${name}`, { spec: { csi: { volumeAttributes: { sizeBytes: null } } } })
  const daemon = await start(world)
  await world.server.until('its owner is told', () => world.server.list(eventsPath).length > 0)
  await world.server.until('there is a ledger', () => world.server.find(ledgerPath('a')) !== undefined)
  assert.equal(promises(world.server), [
    { node: 'a', volume: name, pool: 'default', kind: 'volume', promisedBytes: sizeBytes },
  ])
  await daemon.stop()
})

test('what was promised to a volume of CSI before it was made is not taken back when it is made', async () => {
  const world = await openPublished()
  const name = world.addPlaced('data', 'csi')
  addPromise(world.server, 'a', name, 3n * sizeBytes, 'default/data')
  const before = world.server.statesOf(ledgerPath('a')).length
  const daemon = await start(world)
  await world.server.until('it has grown', () => world.entryOf(name)?.madeBytes === 3n * sizeBytes)
  await daemon.stop()
  const promised = world.server
    .statesOf(ledgerPath('a'))
    .slice(before)
    .map((object) => parseLedger(object as never).entries.get(name)?.promisedBytes)
  assert.equal([...new Set(promised)], [3n * sizeBytes])
})

test('the kubelet gets no growth of a volume of CSI that was not granted', async () => {
  const world = await openMade('csi')
  const daemon = await start(world)
  const name = nameOf(world)
  await world.server.until('it is known', () => daemon.agent.claimOf(name) !== undefined)
  await rejects('no-space', /that was not granted/, () => daemon.agent.grow(name, 2n * sizeBytes))
  world.steps.length = 0
  assert.is((await daemon.agent.grow(name, sizeBytes)).action, 'unchanged')
  assert.equal(world.steps, [], 'what is done is not done again')
  world.server.change(`${volumesPath}/${name}`, { metadata: { labels: { [nodeLabel]: null } } })
  await world.server.until('its PV is not known', () => daemon.agent.claimOf(name) === undefined)
  await rejects('no-space', /that was not granted/, () => daemon.agent.grow(name, 2n * sizeBytes))
  assert.is(world.entryOf(name)?.promisedBytes, sizeBytes)
  await daemon.stop()
})

test('a volume is mounted only by the front that its PersistentVolume is of; by CSI nobody shows a key', async () => {
  const world = await openMade('csi')
  const daemon = await start(world)
  const options = parseOptions({ sizeBytes: String(sizeBytes), key: 'key' })
  const request = { volumeName: world.volume, podUid: 'pod', options }
  await daemon.agent.admit({ ...request, front: 'csi' }, async () => {})
  const words = /by flex as its PersistentVolume is one of csi/
  await rejects('invalid', words, () => daemon.agent.admit({ ...request, front: 'flex' }, async () => {}))
  await daemon.stop()
})

test('a policy that a PV got while the daemon was away is in the ledger, also where the daemon hears of the PV first', async () => {
  const world = await openMade()
  const { server, volume } = world
  server.change(`${volumesPath}/${volume}`, { spec: { persistentVolumeReclaimPolicy: 'Retain' } })
  assert.ok(world.entryOf(volume)?.madeFor)
  const seen = Promise.withResolvers<void>()
  const client = server.client(async ({ path }) => {
    if (path.endsWith('/configmaps')) await seen.promise
    return 'done' as const
  })
  const daemon = await start(world, client)
  await server.until('it has heard of the PV', () => daemon.agent.claimOf(volume) !== undefined)
  await nextTurns()
  seen.resolve()
  await server.until('the ledger says so', () => world.entryOf(volume)?.madeFor === undefined)
  await daemon.stop()
})

/** Until what was begun has come as far as it comes without an answer. */
async function nextTurns(): Promise<void> {
  for (let i = 0; i < 30; i += 1) await nextTurn()
}

test.run()
