import * as assert from 'uvu/assert'
import { type Fate, type Hook, MemoryApi } from '../../../test/memory-api.ts'
import { MemoryClock } from '../../../test/memory-clock.ts'
import { silent } from '../../../test/memory-cluster.ts'
import { suite } from '../../../test/suite.ts'
import { thrownBy } from '../../../test/thrown.ts'
import { type Api, ApiError } from './api.ts'
import { lead } from './lease.ts'

const test = suite('lease')
const path = '/apis/coordination.k8s.io/v1/namespaces/ns/leases'
const leasePath = `${path}/one`

/** Candidates for one Lease, each of which does nothing but lead until it is told to stop. */
class Election {
  readonly server = new MemoryApi()
  readonly clock = new MemoryClock()
  readonly leading = new Map<string, { api: Api; signal: AbortSignal }>()

  /** Runs a candidate; `hook` decides what becomes of its requests. */
  run(identity: string, hook?: Hook) {
    const abort = new AbortController()
    const client = this.server.client(hook)
    const { clock } = this
    const now = () => new Date(clock.now())
    const parts = { api: client, namespace: 'ns', name: 'one', identity, clock, now, log: silent }
    const ended = lead(parts, abort.signal, async (api, signal) => {
      this.leading.set(identity, { api, signal })
      await new Promise<void>((resolve) => {
        if (signal.aborted) resolve()
        else signal.addEventListener('abort', () => resolve())
      })
      this.leading.delete(identity)
    })
    ended.catch(() => {})
    return { client, ended, abort }
  }

  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms, () => this.server.idle())
  }

  get holder(): string {
    return this.server.find(leasePath)?.spec.holderIdentity ?? ''
  }

  leaders(): string[] {
    return [...this.leading.keys()]
  }

  /** Those whose requests go out at this moment. */
  async actors(): Promise<string[]> {
    const asked = [...this.leading].map(async ([identity, { api }]) => {
      const isSent = await api.send({ method: 'GET', path: '/api/v1/nodes' }).then(
        () => true,
        () => false,
      )
      return isSent ? identity : ''
    })
    return (await Promise.all(asked)).filter(Boolean)
  }
}

test('the first leads for as long as it renews, and nobody else does', async () => {
  const election = new Election()
  const first = election.run('first')
  await election.pass(0)
  const second = election.run('second')
  for (let seconds = 0; seconds < 60; seconds += 1) {
    await election.pass(1000)
    assert.equal(await election.actors(), ['first'])
  }
  assert.equal(election.leaders(), ['first'])
  for (const { abort, ended } of [first, second]) {
    abort.abort()
    await ended
  }
})

test('of candidates that begin at the same moment one leads', async () => {
  const election = new Election()
  const candidates = ['a', 'b', 'c', 'd'].map((identity) => election.run(identity))
  await election.pass(5000)
  assert.equal(election.leaders(), [election.holder])
  assert.is(election.server.find(leasePath)?.spec.leaseTransitions, 1)
  for (const { abort } of candidates) abort.abort()
  await election.pass(0)
  await Promise.all(candidates.map(({ ended }) => ended))
})

test('a holder that ends lets the next one have the Lease at once', async () => {
  const election = new Election()
  const first = election.run('first')
  await election.pass(0)
  const second = election.run('second')
  await election.pass(3000)
  first.abort.abort()
  await first.ended
  assert.is(election.holder, '')
  await election.pass(1000)
  assert.equal(election.leaders(), ['second'])
  second.abort.abort()
  await second.ended
})

test('a holder that falls silent is replaced, but only after it has stopped acting', async () => {
  const election = new Election()
  const first = election.run('first')
  await election.pass(0)
  const second = election.run('second')
  await election.pass(5000)
  first.client.kill()
  let isStopped = false
  for (let tenths = 0; !election.leaders().includes('second'); tenths += 1) {
    assert.ok(tenths < 300, 'nobody took over')
    isStopped = !election.leaders().includes('first')
    await election.pass(100)
  }
  assert.ok(isStopped)
  assert.equal(await election.actors(), ['second'])
  assert.match((await thrownBy(Error, () => first.ended)).message, /^Lost Lease one: .*could not be renewed/)
  second.abort.abort()
  await second.ended
})

test('a holder whose renewals hang refuses its own requests before anybody else can lead', async () => {
  const election = new Election()
  let hangs = false
  const never = new Promise<Fate>(() => {})
  const first = election.run('first', ({ path }) => (hangs && path === leasePath ? never : 'done'))
  await election.pass(0)
  const { api } = election.leading.get('first') as { api: Api }
  await api.send({ method: 'GET', path: '/api/v1/nodes' })
  hangs = true
  const second = election.run('second')
  await election.pass(8000)
  const error = await thrownBy(ApiError, () => api.send({ method: 'POST', path: '/api/v1/nodes', body: {} }))
  assert.match(error.message, /^Cannot send POST \/api\/v1\/nodes as we may no longer lead\.$/)
  assert.is(error.status, 0)
  await election.pass(1500)
  assert.equal(election.leaders(), [])
  await thrownBy(Error, () => first.ended)
  await election.pass(5000)
  assert.equal(election.leaders(), ['second'])
  second.abort.abort()
  await second.ended
})

test('a holder whose Lease was given to another stops with its next look at it', async () => {
  const election = new Election()
  const first = election.run('first')
  await election.pass(0)
  const second = election.run('second')
  await election.pass(2500)
  // As when somebody had deleted it, and the second was the first to see that.
  election.server.change(leasePath, { spec: { holderIdentity: 'second' } })
  await election.pass(2000)
  assert.equal(election.leaders(), ['second'])
  for (const { abort } of [first, second]) abort.abort()
  await election.pass(0)
  await Promise.allSettled([first.ended, second.ended])
})

test('a holder that is the same one after a restart of the API server goes on', async () => {
  const election = new Election()
  let isAway = false
  const first = election.run('first', () => (isAway ? { refused: 0 } : 'done'))
  await election.pass(0)
  const { signal } = election.leading.get('first') as { signal: AbortSignal }
  for (let round = 0; round < 5; round += 1) {
    isAway = true
    await election.pass(4000)
    isAway = false
    await election.pass(4000)
  }
  assert.not(signal.aborted)
  assert.equal(await election.actors(), ['first'])
  first.abort.abort()
  await first.ended
})

test('a candidate that is stopped while it waits never leads, and leaves the Lease alone', async () => {
  const election = new Election()
  const first = election.run('first')
  await election.pass(0)
  const second = election.run('second')
  await election.pass(500)
  second.abort.abort()
  await second.ended
  assert.is(election.holder, 'first')
  first.abort.abort()
  await first.ended
})

test('whatever becomes of their requests, no two candidates ever act at the same time', async () => {
  for (let seed = 1; seed <= 8; seed += 1) {
    const election = new Election()
    let state = seed
    const random = () => {
      state = (state * 48_271) % 2_147_483_647
      return state / 2_147_483_647
    }
    // Each is cut off for a while now and then, and loses single answers all the time.
    const cutOff = new Set<string>()
    const hookOf =
      (identity: string): Hook =>
      ({ path }) =>
        path === '/api/v1/nodes' || (!cutOff.has(identity) && random() < 0.8)
          ? 'done'
          : random() < 0.5
            ? 'answer-lost'
            : { refused: 0 }
    const identities = ['a', 'b', 'c']
    const candidates = new Map<string, ReturnType<Election['run']>>()
    const start = (identity: string) => {
      const candidate = election.run(identity, hookOf(identity))
      candidates.set(identity, candidate)
      candidate.ended.catch(() => start(identity))
    }
    for (const identity of identities) start(identity)
    const leaders = new Set<string>()
    for (let round = 0; round < 400; round += 1) {
      const one = identities[Math.floor(random() * 3)] ?? 'a'
      if (random() < 0.05) cutOff.add(one)
      if (random() < 0.03) cutOff.clear()
      await election.pass(Math.round(random() * 900))
      const actors = await election.actors()
      assert.ok(actors.length <= 1, `seed ${seed}: ${actors.join(' and ')} act`)
      for (const actor of actors) leaders.add(actor)
    }
    assert.ok(leaders.size > 1, `seed ${seed}: the Lease never changed hands`)
    for (const { abort } of candidates.values()) abort.abort()
    await election.pass(0)
  }
})

test.run()
