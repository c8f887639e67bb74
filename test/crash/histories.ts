import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { CallError } from '../../src/csi/codes.ts'
import type { FrontName } from '../../src/daemon/front.ts'
import { Engine } from '../../src/volume/engine.ts'
import { messageOf, VolumeError } from '../../src/volume/errors.ts'
import { minimumBytes } from '../../src/volume/host.ts'
import type { Content } from '../../src/volume/pool.ts'
import type { World } from '../contract.ts'
import { suite } from '../suite.ts'
import { type CsiCalls, csiCalls, csiTarget } from './csi-calls.ts'
import { explain } from './explain.ts'
import { type Death, Life, type Moment } from './life.ts'
import {
  anyAction,
  type Call,
  describe,
  key,
  type Pod,
  pods,
  possibleAfter,
  type Request,
  type State,
} from './model.ts'

const mebibyte = 1n << 20n
const names = ['one', 'two', 'three']
/** A daemon that is killed again and again is let live once so many answers are missing. */
const mostUnanswered = 4

/** What happens at once: first pods write into what they have mounted, then clients ask. */
interface Round {
  writing: boolean
  requests: readonly Request[]
  /** Counted from the first request, or from the start of the daemon if there is none. */
  death: Death | undefined
  /** Whether the daemon is stopped afterwards, as it should be. */
  stopping: boolean
}

export interface HistoryOptions {
  /** By which front pods have volumes; flex, which is what the engine is asked, where nothing is said. */
  front?: FrontName
  fsType: Content
  /** How many histories, and of how many rounds at the most; in a torture, times its length. */
  count: number
  rounds: number
  /** Whether steps come in other orders than by themselves. */
  shuffling?: boolean
}

/** Ends the search for failures, and for shorter ones, after so long; in a torture, times its length. */
const limitMs = 90_000

/**
 * Plays random histories on a pool, each on a new world, and compares what is there with a model after each round.
 * `SEED` of the environment says which. Registers a uvu suite.
 */
export function histories(title: string, openWorld: () => Promise<World>, options: HistoryOptions): void {
  const test = suite(`${title}, ${options.fsType}${options.front === 'csi' ? ' by CSI' : ''}`)
  test('random histories, with several clients and a daemon that is killed, go as the model says', async () => {
    const times = Number(process.env.TORTURE || 1)
    const { SEED } = process.env
    const property = fc.asyncProperty(historyArbitrary(options), async ({ rounds, pace }) => {
      await new History(await openWorld(), options, pace).play(rounds)
    })
    const details = await fc.check(property, {
      numRuns: options.count * times,
      interruptAfterTimeLimit: limitMs * times,
      ...(SEED ? { seed: Number(SEED) } : {}),
    })
    if (!details.failed) return
    const [shortest] = details.counterexample ?? []
    throw new Error(
      `${explain(details.errorInstance)}\n\nin this history, found again by "make torture N=${times} SEED=${details.seed}":\n${
        shortest ? shortest.rounds.map((round) => `  ${describeRound(round)}`).join('\n') : '  none'
      }`,
      { cause: details.errorInstance },
    )
  })
  test.run()
}

function describeRound({ writing, requests, death, stopping }: Round): string {
  return [
    ...(writing ? ['pods write;'] : []),
    requests.map(describe).join(' | '),
    ...(death ? [`; killed ${death.moment} step ${death.step}`] : []),
    ...(stopping ? ['; stopped'] : []),
  ].join(' ')
}

function historyArbitrary({
  rounds,
  shuffling,
  front,
}: HistoryOptions): fc.Arbitrary<{ rounds: Round[]; pace: readonly number[] }> {
  const name = fc.constantFrom(...names)
  const pod = fc.constantFrom(...pods)
  const size = fc.integer({ min: 1, max: 4 })
  const request: fc.Arbitrary<Request> = fc.oneof(
    fc.record({ kind: fc.constant('create'), name, size }),
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('mount'),
        name,
        pod,
        readOnly: fc.boolean(),
        // By CSI, nobody makes one by mounting it.
        create: front === 'csi' ? fc.constant(undefined) : fc.option(size, { nil: undefined }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('unmount'), name, pod }) },
    fc.record({ kind: fc.constant('grow'), name, size: fc.oneof(size, fc.constant('huge' as const)) }),
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove'), name }) },
  )
  const moment = fc.constantFrom<Moment>('before', 'after', 'during')
  const death = fc.record({ step: fc.nat(40), moment })
  const round = fc.record({
    writing: fc.boolean(),
    requests: fc.array(request, { minLength: 1, maxLength: 3 }),
    death: fc.option(death, { nil: undefined, freq: 2 }),
    stopping: fc.boolean(),
  })
  return fc.record({
    rounds: fc.array(round, { minLength: 1, maxLength: rounds }),
    pace: shuffling ? fc.array(fc.nat(5), { maxLength: 30 }) : fc.constant([]),
  })
}

/** The answer of a call that does not say what there was to do. */
const done = async (call: Promise<unknown>) => {
  await call
  return anyAction
}

/** One history on one world. */
class History {
  readonly #world: World
  readonly #fsType: Content
  readonly #front: FrontName
  readonly #pace: readonly number[]
  /** What each volume can be. */
  readonly #states = new Map<string, State[]>(names.map((name) => [name, [undefined]]))
  /** Calls of daemons that were killed, which nobody knows the end of yet. */
  #unanswered: Call[] = []
  #running: { life: Life; engine: Engine; csi: CsiCalls | undefined } | undefined
  #texts = 0

  constructor(world: World, { fsType, front = 'flex' }: HistoryOptions, pace: readonly number[]) {
    this.#world = world
    this.#fsType = fsType
    this.#front = front
    this.#pace = pace
  }

  async play(rounds: readonly Round[]): Promise<void> {
    try {
      await this.#withEngine(async () => {})
      await this.#world.plantForeign('theirs')
      for (const round of rounds) await this.#playRound(round)
      await this.#playRound({ writing: false, requests: [], death: undefined, stopping: true })
    } finally {
      this.#running?.life.end()
      await this.#running?.life.gone()
      await this.#cleanUp()
    }
  }

  async #playRound({ writing, requests, death, stopping }: Round): Promise<void> {
    if (requests.length > 0 && this.#unanswered.length > mostUnanswered)
      await this.#playRound({ writing: false, requests: [], death: undefined, stopping: false })
    if (writing) await this.#write()
    const calls: Call[] = requests.filter(this.#isPossible).map((request) => ({ request, answer: undefined }))
    const isNew = !this.#running
    const isOver = await this.#ask(calls, death)
    if (isOver) {
      this.#unanswered.push(...calls)
      return
    }
    for (const [name, states] of this.#states) {
      const ofName = [...this.#unanswered, ...calls].filter(({ request }) => request.name === name)
      this.#states.set(name, possibleAfter(states, ofName))
    }
    await this.#compare([...this.#unanswered, ...calls], isNew)
    this.#unanswered = []
    if (stopping) await this.#stop()
  }

  /** Not every kernel lets every filesystem grow. */
  readonly #isPossible = ({ kind }: Request): boolean => kind !== 'grow' || this.#world.canGrow(this.#fsType)

  /** Every pod writes into every volume that it has for writing, for sure. */
  async #write(): Promise<void> {
    if (this.#unanswered.length > 0) return
    for (const [name, states] of this.#states)
      for (const pod of pods) {
        if (!states.every((state) => state?.mounts[pod] === 'rw')) continue
        this.#texts += 1
        const text = `text ${this.#texts}`
        await this.#world.write(this.#target(pod, name), 'file', text)
        for (const state of states) if (state) state.text = text
      }
  }

  /** Asks everything at once, of a new daemon if none runs; true if that was killed before all had an answer. */
  async #ask(calls: Call[], death: Death | undefined): Promise<boolean> {
    const isNew = !this.#running
    const life = this.#running?.life ?? new Life({ pace: this.#step })
    life.arm(death)
    const asking = life.run(async () => {
      const engine = this.#running?.engine ?? new Engine(await this.#world.renew())
      const csi = this.#running?.csi ?? (this.#front === 'csi' ? csiCalls(this.#world, engine) : undefined)
      this.#running = { life, engine, csi }
      if (isNew) await engine.start()
      const asked = calls.map(async (call) => {
        const answer = await this.#answer({ engine, csi }, call.request)
        if (!life.isOver) call.answer = answer
      })
      await Promise.all([...asked, isNew ? engine.recover() : undefined])
    })
    await Promise.race([life.ended, asking]).catch((error) => {
      if (!life.isOver) throw error
    })
    asking.catch(() => {})
    life.arm()
    if (!life.isOver) return false
    await life.gone()
    this.#running = undefined
    return true
  }

  async #answer({ engine, csi }: { engine: Engine; csi: CsiCalls | undefined }, request: Request): Promise<string> {
    const { name } = request
    try {
      switch (request.kind) {
        case 'create':
          return (await engine.create(name, this.#spec(request.size))).action
        case 'mount':
          if (csi) return await done(csi.publish(request.pod, name, request))
          return (
            await engine.mount({
              name,
              target: this.#target(request.pod, name),
              readOnly: request.readOnly,
              mountOptions: [],
              ...(this.#fsType === 'block' ? { fsType: 'block' } : {}),
              ...(request.create === undefined ? {} : { create: this.#spec(request.create) }),
            })
          ).action
        case 'unmount':
          if (csi) return await done(csi.unpublish(request.pod, name))
          return (await engine.unmount(name, this.#target(request.pod, name))).action
        case 'grow':
          return (await engine.grow(name, this.#sizeOf(request.size))).action
        case 'remove':
          return (await engine.remove(name)).action
      }
    } catch (error) {
      // Of what the kubelet is to take for uncertain, the cause is what happened.
      const happened = error instanceof CallError ? error.cause : error
      if (happened instanceof VolumeError && happened.code !== 'failed') return happened.code
      return messageOf(error)
    }
  }

  #target(pod: Pod, name: string): string {
    return this.#front === 'csi' ? csiTarget(this.#world, pod, name) : this.#world.target(pod, name)
  }

  #spec(size: number) {
    return { sizeBytes: this.#sizeOf(size), fsType: this.#fsType, mkfsOptions: [] }
  }

  #sizeOf(size: number | 'huge'): bigint {
    return size === 'huge' ? 1n << 50n : (minimumBytes[this.#fsType] + 8n * mebibyte) * BigInt(size)
  }

  /** Fails unless what is there is what each volume can be, and nothing else; from then on it is what it is. */
  async #compare(calls: readonly Call[], isNew: boolean): Promise<void> {
    const engine = this.#running?.engine
    assert.ok(engine)
    const views = new Map((await engine.list()).map((view) => [view.name, view]))
    const isKnown = (name: string) => names.includes(name)
    assert.equal(
      [...views.keys()].filter((name) => !isKnown(name)),
      [],
      'volumes that nobody made',
    )
    for (const [name, states] of this.#states) {
      const view = views.get(name)
      assert.equal(view?.problems ?? [], [], name)
      const seen = await this.#observe(name, view)
      const fitting = states.filter((state) => key(without(state, seen)) === key(seen))
      if (fitting.length === 0)
        assert.unreachable(
          `${name} is ${key(seen)}; it can be ${states.map(key).join(' or ') || 'nothing'} after\n${calls
            .filter(({ request }) => request.name === name)
            .map((call) => `  ${describe(call.request)}: ${call.answer ?? 'no answer'}`)
            .join('\n')}`,
        )
      this.#states.set(name, fitting)
      if (view?.usage && this.#world.parts.pool.sourceKind === 'device')
        assert.ok(view.usage.sizeBytes > (view.sizeBytes * 7n) / 10n, `the filesystem of ${name} fills it`)
    }
    const isUnused = (name: string) => views.get(name)?.mounts.length === 0
    await this.#mustBeTidy(isUnused)
    // A volume that was made holds its device until it was mounted, or the daemon started anew.
    const isAsked = (name: string) => calls.some(({ request }) => request.name === name)
    if (isNew) await this.#mustBeDetached((name) => isUnused(name) && !isAsked(name))
  }

  async #observe(name: string, view: Awaited<ReturnType<Engine['find']>>): Promise<State> {
    if (!view) return undefined
    const sizes = [1, 2, 3, 4]
    const mounts: Partial<Record<Pod, 'rw' | 'ro'>> = {}
    for (const { target, readOnly } of view.mounts) {
      const pod = pods.find((each) => this.#target(each, name) === target)
      assert.ok(pod && !mounts[pod], `${name} is mounted on ${target}`)
      mounts[pod] = readOnly ? 'ro' : 'rw'
    }
    const [first] = view.mounts
    const text = first && (await this.#world.read(first.target, 'file'))
    return { size: sizes.find((size) => this.#sizeOf(size) === view.sizeBytes) ?? -1, mounts, text }
  }

  async #mustBeTidy(isUnused: (name: string) => boolean): Promise<void> {
    const { journal, mounts, volumesDir } = this.#world.parts
    assert.equal(await journal.read(), new Map())
    const stages = (await mounts.read()).under(volumesDir).map(({ target }) => target)
    assert.equal(
      stages.filter((target) => isUnused(target.split('/').at(-1) ?? '')),
      [],
    )
  }

  async #mustBeDetached(isUnused: (name: string) => boolean): Promise<void> {
    const attached = (await this.#world.leftovers()).map((line) => /\/dev\/loop.*\/([^/]+)\.img/.exec(line)?.[1])
    assert.equal(
      attached.filter((name) => name !== undefined && isUnused(name)),
      [],
    )
  }

  async #stop(): Promise<void> {
    const running = this.#running
    await running?.life.run(() => running.engine.stop())
    running?.life.end()
    await running?.life.gone()
    this.#running = undefined
  }

  /** Lets the others go first, sometimes. */
  readonly #step = async (): Promise<void> => {
    const turns = this.#pace[this.#steps++ % (this.#pace.length || 1)] ?? 0
    for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate)
  }
  #steps = 0

  async #withEngine(work: (engine: Engine) => Promise<void>): Promise<void> {
    const engine = new Engine(await this.#world.renew())
    try {
      await engine.start()
      await engine.recover()
      await work(engine)
    } finally {
      await engine.stop()
    }
  }

  /** Removes all volumes; nothing must stay but what is not ours. */
  async #cleanUp(): Promise<void> {
    try {
      await this.#withEngine(async (engine) => {
        for (const { name, mounts } of await engine.list()) {
          for (const { target } of mounts) await engine.unmount(name, target)
          await engine.remove(name)
        }
      })
      assert.ok(await this.#world.isForeignUntouched('theirs'))
      assert.equal(await this.#world.leftovers(), [])
    } finally {
      await this.#world.parts.pool.stop()
      await this.#world.close()
    }
  }
}

/** The state with only as much known of its text as was seen. */
function without(state: State, seen: State): State {
  if (!state || (seen && Object.keys(seen.mounts).length > 0)) return state
  return { ...state, text: undefined }
}
