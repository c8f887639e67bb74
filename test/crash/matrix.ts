import { existsSync } from 'node:fs'
import * as assert from 'uvu/assert'
import type { FrontName } from '../../src/daemon/front.ts'
import { Engine, type EngineParts, type MountRequest, type VolumeSpec } from '../../src/volume/engine.ts'
import { minimumBytes } from '../../src/volume/host.ts'
import type { Content } from '../../src/volume/pool.ts'
import type { World } from '../contract.ts'
import { suite } from '../suite.ts'
import { type CsiCalls, csiCalls, csiTarget } from './csi-calls.ts'
import { explain } from './explain.ts'
import { type Death, Life, type Moment, type Step } from './life.ts'

const mebibyte = 1n << 20n

/** What is done to the volume `one` until the daemon is killed, asked again, and true after that. */
interface Scenario {
  title: string
  before?(site: Site): Promise<unknown>
  ask(site: Site): Promise<unknown>
  after(site: Site): Promise<void>
  /** Whether the daemon is killed while it starts, and nothing is asked of it. */
  starting?: boolean
  needs?: readonly ('growth' | 'device' | 'filesystem')[]
  /** Whether what is done differs where a kubelet asks for it by CSI. */
  byCsi?: true
}

/** A world with an engine at work on it. */
class Site {
  readonly world: World
  readonly engine: Engine
  readonly spec: VolumeSpec
  /** Where pods have the volume by CSI. */
  readonly #csi: CsiCalls | undefined

  constructor(world: World, parts: EngineParts, { fsType, front }: Variant) {
    this.world = world
    this.engine = new Engine(parts)
    this.#csi = front === 'csi' ? csiCalls(world, this.engine) : undefined
    this.spec = { sizeBytes: minimumBytes[fsType] + 8n * mebibyte, fsType, mkfsOptions: [] }
  }

  get isBlock(): boolean {
    return this.spec.fsType === 'block'
  }

  async start(): Promise<void> {
    await this.engine.start()
    await this.engine.recover()
  }

  target(pod: string, name = 'one'): string {
    return this.#csi ? csiTarget(this.world, pod, name) : this.world.target(pod, name)
  }

  make(): Promise<unknown> {
    return this.engine.create('one', this.spec)
  }

  mount(pod: string, changes: Partial<MountRequest> = {}): Promise<unknown> {
    if (this.#csi) return this.#csi.publish(pod, 'one', changes)
    return this.engine.mount({
      name: 'one',
      target: this.target(pod),
      readOnly: false,
      mountOptions: [],
      ...(this.isBlock ? { fsType: 'block' } : {}),
      ...changes,
    })
  }

  stage(pod: string): Promise<unknown> {
    return this.mount(pod, { stage: this.target('stage') })
  }

  unmount(pod: string): Promise<unknown> {
    if (this.#csi) return this.#csi.unpublish(pod, 'one')
    return this.engine.unmount('one', this.target(pod))
  }

  grow(): Promise<unknown> {
    return this.engine.grow('one', this.spec.sizeBytes * 2n)
  }

  /** As a kubelet has a volume grow that a pod has. */
  growFor(pod: string): Promise<unknown> {
    return this.#csi ? this.#csi.expand(pod, 'one', this.spec.sizeBytes * 2n) : this.grow()
  }

  async write(pod: string): Promise<void> {
    await this.world.write(this.target(pod), 'file', 'precious')
  }

  /** The volume with a file in it. */
  async makeWithData(): Promise<void> {
    await this.make()
    await this.mount('a')
    await this.write('a')
    await this.unmount('a')
  }

  async mustBeMounted(expected: Record<string, 'rw' | 'ro'>): Promise<void> {
    const view = await this.engine.find('one')
    // A bind mount that outlived its daemon may lie on that of the next; both go at once.
    const seen = new Map(view?.mounts.map(({ target, readOnly }) => [target, readOnly ? 'ro' : 'rw']))
    const wanted = Object.entries(expected).map(([pod, mode]) => [this.target(pod), mode] as const)
    assert.equal(seen, new Map(wanted))
    // What the kubelet finds in the folder of a pod that is gone, it takes for a volume that is still to be unmounted.
    if (this.#csi)
      assert.equal(
        ['a', 'b'].filter((pod) => !(pod in expected) && existsSync(this.target(pod))),
        [],
      )
    for (const pod of Object.keys(expected)) await this.mustHoldData(pod)
  }

  async mustHoldData(pod: string): Promise<void> {
    assert.is(await this.world.read(this.target(pod), 'file'), 'precious')
  }

  /** Whether the volume can be used, and is empty. */
  async mustBeNew(): Promise<void> {
    await this.mount('new')
    assert.is(await this.world.read(this.target('new'), 'file'), undefined)
    await this.world.write(this.target('new'), 'file', 'text')
    await this.unmount('new')
  }

  async mustBeGrown(pod: string): Promise<void> {
    await this.mount(pod)
    await this.mustHoldData(pod)
    const view = await this.engine.find('one')
    assert.is(view?.sizeBytes, this.spec.sizeBytes * 2n)
    if (this.isBlock) assert.is(await this.world.sizeAt(this.target(pod)), this.spec.sizeBytes * 2n)
    else if (this.world.parts.pool.sourceKind === 'device')
      assert.ok((view?.usage?.sizeBytes ?? 0n) > (this.spec.sizeBytes * 3n) / 2n, 'the filesystem grew too')
  }
}

async function mustBeGone(site: Site): Promise<void> {
  assert.is(await site.engine.find('one'), undefined)
}

/** Runs `work` with other parts in a life that ends when it comes to `hang`. */
async function dieIn(
  site: Site,
  change: (parts: EngineParts, hang: () => Promise<never>) => EngineParts,
  work: (engine: Engine) => Promise<unknown>,
): Promise<void> {
  const life = new Life()
  const hang = () => {
    life.end()
    return new Promise<never>(() => {})
  }
  const living = life.run(async () => {
    const engine = new Engine(change(await site.world.renew(), hang))
    await engine.start()
    await work(engine)
  })
  await Promise.race([life.ended, living.then(() => assert.unreachable('expected to die'))])
  await life.gone()
}

/** The volume made, and killed before it was formatted, or before that was known where there is no format. */
const leaveHalfMade = (site: Site) =>
  dieIn(
    site,
    (parts, hang) =>
      parts.pool.sourceKind === 'device' && !site.isBlock
        ? { ...parts, filesystems: { ...parts.filesystems, make: hang } }
        : { ...parts, journal: { ...parts.journal, finish: hang } },
    (engine) => engine.create('one', site.spec),
  )

/** The volume made, and killed before that was known. */
const leaveHardlyBegun = (site: Site) =>
  dieIn(
    site,
    (parts, hang) => {
      const write: typeof parts.journal.write = (name, intent) =>
        intent.phase === 'formatting' ? hang() : parts.journal.write(name, intent)
      return { ...parts, journal: { ...parts.journal, write } }
    },
    (engine) => engine.create('one', site.spec),
  )

/** The volume with a larger device, and killed before its filesystem grew. */
async function leaveHalfGrown(site: Site): Promise<void> {
  await site.makeWithData()
  await dieIn(
    site,
    (parts, hang) => {
      if (!site.isBlock) return { ...parts, filesystems: { ...parts.filesystems, grow: hang } }
      const grow = parts.pool.grow.bind(parts.pool)
      parts.pool.grow = async (...args) => {
        await grow(...args)
        return await hang()
      }
      return parts
    },
    (engine) => engine.grow('one', site.spec.sizeBytes * 2n),
  )
}

async function leaveHalfRemoved(site: Site): Promise<void> {
  await site.makeWithData()
  await dieIn(
    site,
    (parts, hang) => {
      parts.pool.remove = hang
      return parts
    },
    (engine) => engine.remove('one'),
  )
}

const scenarios: Scenario[] = [
  { title: 'a creation', ask: (site) => site.make(), after: (site) => site.mustBeNew() },
  {
    title: 'a mount that makes its volume',
    ask: (site) => site.mount('a', { create: site.spec }),
    after: async (site) => {
      await site.write('a')
      await site.mustBeMounted({ a: 'rw' })
    },
  },
  {
    title: 'a first mount',
    byCsi: true,
    before: (site) => site.makeWithData(),
    ask: (site) => site.mount('a'),
    after: (site) => site.mustBeMounted({ a: 'rw' }),
  },
  {
    title: 'a second mount',
    byCsi: true,
    before: async (site) => {
      await site.makeWithData()
      await site.mount('a')
    },
    ask: (site) => site.mount('b'),
    after: (site) => site.mustBeMounted({ a: 'rw', b: 'rw' }),
  },
  {
    title: 'a read-only mount',
    byCsi: true,
    before: (site) => site.makeWithData(),
    ask: (site) => site.mount('a', { readOnly: true }),
    after: (site) => site.mustBeMounted({ a: 'ro' }),
  },
  {
    title: "a mount on a stage of the caller's",
    needs: ['filesystem'],
    before: (site) => site.makeWithData(),
    ask: (site) => site.stage('stage'),
    after: (site) => site.mustBeMounted({ stage: 'rw' }),
  },
  {
    title: 'a mount from a stage',
    needs: ['filesystem'],
    before: async (site) => {
      await site.makeWithData()
      await site.stage('stage')
    },
    ask: (site) => site.stage('a'),
    after: (site) => site.mustBeMounted({ stage: 'rw', a: 'rw' }),
  },
  {
    title: 'an unmount that is not the last',
    byCsi: true,
    before: async (site) => {
      await site.makeWithData()
      for (const pod of ['a', 'b']) await site.mount(pod)
    },
    ask: (site) => site.unmount('a'),
    after: (site) => site.mustBeMounted({ b: 'rw' }),
  },
  {
    title: 'the last unmount',
    byCsi: true,
    before: async (site) => {
      await site.makeWithData()
      await site.mount('a')
    },
    ask: (site) => site.unmount('a'),
    after: async (site) => {
      await site.mustBeMounted({})
      await site.mount('b')
      await site.mustHoldData('b')
    },
  },
  {
    title: 'the unmount of a stage',
    needs: ['filesystem'],
    before: async (site) => {
      await site.makeWithData()
      await site.stage('stage')
    },
    ask: (site) => site.unmount('stage'),
    after: (site) => site.mustBeMounted({}),
  },
  {
    title: 'the growth of a mounted volume',
    byCsi: true,
    needs: ['growth'],
    before: async (site) => {
      await site.makeWithData()
      await site.mount('a')
    },
    ask: (site) => site.growFor('a'),
    after: async (site) => {
      await site.mustBeMounted({ a: 'rw' })
      await site.mustBeGrown('a')
    },
  },
  {
    title: 'the growth of an unmounted volume',
    needs: ['growth'],
    before: (site) => site.makeWithData(),
    ask: (site) => site.grow(),
    after: async (site) => {
      await site.mustBeMounted({})
      await site.mustBeGrown('a')
    },
  },
  {
    title: 'a removal',
    before: (site) => site.makeWithData(),
    ask: (site) => site.engine.remove('one'),
    after: mustBeGone,
  },
  {
    title: 'the removal of a half-made volume',
    before: leaveHalfMade,
    starting: true,
    ask: (site) => site.engine.remove('one'),
    after: mustBeGone,
  },
  {
    title: 'a start that finishes a volume',
    before: leaveHalfMade,
    starting: true,
    ask: async () => {},
    after: (site) => site.mustBeNew(),
  },
  {
    title: 'a start that takes back what was hardly begun',
    needs: ['device'],
    before: leaveHardlyBegun,
    starting: true,
    ask: async () => {},
    after: mustBeGone,
  },
  {
    title: 'a start that finishes a growth',
    needs: ['growth', 'device'],
    before: leaveHalfGrown,
    starting: true,
    ask: async () => {},
    after: (site) => site.mustBeGrown('a'),
  },
  {
    title: 'a start that finishes a removal',
    before: leaveHalfRemoved,
    starting: true,
    ask: async () => {},
    after: mustBeGone,
  },
  {
    title: 'a start while a volume is mounted',
    byCsi: true,
    before: async (site) => {
      await site.makeWithData()
      for (const pod of ['a', 'b']) await site.mount(pod)
    },
    starting: true,
    ask: async () => {},
    after: (site) => site.mustBeMounted({ a: 'rw', b: 'rw' }),
  },
]

/** What a matrix is played with. */
interface Variant {
  fsType: Content
  front: FrontName
}

export interface MatrixOptions {
  /** By which front pods have the volume; flex, which is what the engine is asked, where nothing is said. */
  front?: FrontName
  /** Named only where growth is possible with it. */
  fsTypes: readonly Content[]
  moments: readonly Moment[]
  /** Which of the scenarios; all if left out. */
  only?: RegExp
  /** At which of the steps; all if left out. */
  steps?: RegExp
  /** Kills the next daemon, too: at every so many of the steps in which it starts and is asked again. */
  again?: number
}

/**
 * The crash matrix of a pool: a daemon killed at each step of each thing it does, started again, and asked again.
 * Another volume is mounted and something foreign is in the pool all the time. Registers a uvu suite.
 */
export function crashMatrix(title: string, openWorld: () => Promise<World>, options: MatrixOptions): void {
  const { front = 'flex' } = options
  const by = front === 'csi' ? ' by CSI' : ''
  for (const fsType of options.fsTypes)
    matrixFor(`${title}, ${fsType}${by}, killed`, openWorld, { fsType, front }, options)
}

function matrixFor(
  title: string,
  openWorld: () => Promise<World>,
  variant: Variant,
  { moments, only = /^/, steps: wanted = /^/, again }: MatrixOptions,
): void {
  const test = suite(title)
  let world: World

  async function withSite<T>(work: (site: Site) => Promise<T>): Promise<T> {
    const site = new Site(world, await world.renew(), variant)
    try {
      await site.start()
      return await work(site)
    } finally {
      await site.engine.stop()
    }
  }

  const request = (name: string, pod: string) => ({
    name,
    target: world.target(pod, name),
    readOnly: false,
    mountOptions: [],
    ...(variant.fsType === 'block' ? { fsType: variant.fsType } : {}),
  })

  test.before(async () => {
    world = await openWorld()
    await withSite(async ({ engine, spec }) => {
      await engine.create('other', spec)
      await engine.mount(request('other', 'z'))
      await world.write(world.target('z', 'other'), 'file', 'of the other')
    })
    await world.plantForeign('theirs')
  })

  test.after(async () => {
    try {
      await withSite(async ({ engine }) => {
        await engine.unmount('other', world.target('z', 'other'))
        await engine.remove('other')
      })
      assert.ok(await world.isForeignUntouched('theirs'))
      assert.equal(await world.leftovers(), [])
    } finally {
      await world.parts.pool.stop()
      await world.close()
    }
  })

  /** One life of a daemon, to its death or, without one, until it has answered; gives its steps. */
  async function live(scenario: Scenario, death: Death | undefined, starting: boolean): Promise<Step[]> {
    const life = new Life()
    const living = life.run(async () => {
      if (starting) life.arm(death)
      const site = new Site(world, await world.renew(), variant)
      await site.start()
      if (!starting) life.arm(death)
      await scenario.ask(site)
    })
    await Promise.race([life.ended, living]).catch((error) => {
      if (!life.isOver) throw error
    })
    life.end()
    // What still runs may be in the way of whoever is asked now, but harms nothing.
    if (death?.moment === 'outlived') await withSite(scenario.ask).catch(() => {})
    life.letGo()
    await life.gone()
    living.catch(() => {})
    return life.steps
  }

  /** A scenario with those deaths one after the other; gives the steps of the last of the lives. */
  async function play(scenario: Scenario, deaths: readonly (Death | undefined)[]): Promise<Step[]> {
    if (scenario.before) await withSite(scenario.before)
    let steps: Step[] = []
    try {
      for (const [index, death] of deaths.entries()) steps = await live(scenario, death, scenario.starting || index > 0)
      await withSite(async (site) => {
        await mustBeTidy(site)
        await scenario.ask(site)
        await scenario.after(site)
        await mustBeTidy(site)
      })
    } catch (error) {
      const when = deaths
        .map((death) => (death ? `${death.moment} step ${death.step}` : 'after its answer'))
        .join(', then ')
      throw new Error(`Killed ${when} of\n${steps.map(({ label }) => label).join('\n')}\n${explain(error)}`, {
        cause: error,
      })
    } finally {
      await withSite(cleanUp)
    }
    assert.equal((await world.leftovers()).filter(isOfOne), [], 'left behind')
    return steps
  }

  /** Nothing is half done, mounted or attached that nobody asked for, and the other volume is as it was. */
  async function mustBeTidy({ engine }: Site): Promise<void> {
    const views = await engine.list()
    assert.equal(
      views.flatMap(({ name, state, problems }) => [state, ...problems].map((text) => `${name}: ${text}`)),
      views.map(({ name }) => `${name}: ready`),
    )
    assert.equal(await world.parts.journal.read(), new Map())
    const isUnused = (name: string) => views.every((view) => view.name !== name || view.mounts.length === 0)
    const table = await world.parts.mounts.read()
    assert.equal(
      table.under(world.parts.volumesDir).filter(({ target }) => isUnused(target.split('/').at(-1) ?? '')),
      [],
    )
    if (isUnused('one'))
      assert.equal(
        (await world.leftovers()).filter((line) => /\/dev\/loop.*\bone\./.test(line)),
        [],
      )
    if (views.every(({ name }) => name !== 'one')) assert.equal((await world.leftovers()).filter(isOfOne), [])
    const other = views.find(({ name }) => name === 'other')
    assert.equal(other?.mounts, [{ target: world.target('z', 'other'), readOnly: false }])
    assert.is(await world.read(world.target('z', 'other'), 'file'), 'of the other')
  }

  async function cleanUp(site: Site): Promise<void> {
    for (const pod of ['a', 'b', 'new', 'stage']) await site.unmount(pod)
    await site.engine.remove('one')
  }

  const isOfFront = ({ byCsi }: Scenario) => variant.front === 'flex' || byCsi
  for (const scenario of scenarios.filter((each) => isOfFront(each) && only.test(each.title))) {
    test(`in ${scenario.title}`, async () => {
      if (scenario.needs?.includes('growth') && !world.canGrow(variant.fsType)) return
      if (scenario.needs?.includes('device') && world.parts.pool.sourceKind !== 'device') return
      if (scenario.needs?.includes('filesystem') && variant.fsType === 'block') return
      const steps = await play(scenario, [undefined])
      assert.ok(steps.length > 0 || scenario.starting)
      for (const moment of moments)
        for (const [step, { label, kind }] of steps.entries()) {
          if (!wanted.test(label) || !isPossible(moment, label, kind)) continue
          await play(scenario, [{ step, moment }])
          if (!again) continue
          const more = await play(scenario, [{ step, moment }, undefined])
          for (let next = step % again; next < more.length; next += again)
            await play(scenario, [
              { step, moment },
              { step: next, moment },
            ])
        }
    })
  }

  test.run()
}

/** A change at once has no middle; and the lock lets no daemon start while a command runs that must not outlive one. */
function isPossible(moment: Moment, label: string, kind: Step['kind']): boolean {
  if (moment === 'outlived') return kind === 'command' && !/^(mkfs|losetup|fallocate)/.test(label)
  return moment !== 'during' || kind !== 'change'
}

const isOfOne = (line: string) => !/\b(other|theirs)\b/.test(line)
