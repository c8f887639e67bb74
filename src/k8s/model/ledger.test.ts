import type { V1ConfigMap } from '@kubernetes/client-node'
import * as assert from 'uvu/assert'
import { rejects } from '../../../test/contract.ts'
import { suite } from '../../../test/suite.ts'
import { type Api, ApiError, type ApiRequest } from '../client/api.ts'
import {
  buildLedger,
  freeBytes,
  fullLength,
  made,
  type PoolFacts,
  parseLedger,
  promise,
  promisedBytes,
  settled,
} from './ledger.ts'
import { LedgerKeeper } from './ledger-keeper.ts'

const test = suite('ledger')
const pool: PoolFacts = { name: 'vg', driverKind: 'LVM', capacityBytes: 100n, unitBytes: 10n, fronts: ['flex'] }

/** An API server with one ConfigMap, which may fail, or be changed by others before a write. */
function openApi() {
  let version = 1
  let stored: V1ConfigMap | undefined = buildLedger('ns', 'n', pool, new Map())
  const state = {
    writes: 0,
    before: [] as (() => void)[],
    after: [] as (() => void)[],
    refuse: (_data: object): boolean => false,
  }
  const get = () => ({ ...stored, metadata: { ...stored?.metadata, resourceVersion: String(version) } })
  const write = (data: Record<string, string | null>) => {
    version += 1
    const all = Object.entries({ ...stored?.data, ...data }).filter(([, value]) => value !== null)
    stored = { ...stored, data: Object.fromEntries(all) as Record<string, string> }
  }
  const api: Api = {
    watch: () => {
      throw new Error('no watch')
    },
    send: async <T>({ method, body }: ApiRequest): Promise<T> => {
      if (!stored) throw new ApiError('gone', { status: 404 })
      if (method === 'GET') return get() as T
      state.before.shift()?.()
      const patch = body as { metadata?: { resourceVersion: string }; data: Record<string, string | null> }
      if (patch.metadata && patch.metadata.resourceVersion !== String(version))
        throw new ApiError('conflict', { status: 409 })
      if (state.refuse(patch.data)) throw new ApiError('Too long: may not be more than 1048576 bytes', { status: 422 })
      state.writes += 1
      write(patch.data)
      const answer = get()
      state.after.shift()?.()
      return answer as T
    },
  }
  return {
    state,
    write,
    remove: () => {
      stored = undefined
    },
    restore: () => {
      version = 1
      stored = buildLedger('ns', 'n', pool, new Map())
    },
    ledger: () => parseLedger(get()),
    keeper: new LedgerKeeper({ api, namespace: 'ns', node: 'n' }),
    other: new LedgerKeeper({ api, namespace: 'ns', node: 'n' }),
  }
}
const place = (keeper: LedgerKeeper, name: string, sizeBytes: bigint) =>
  keeper.update((ledger) => [[name, promise(ledger, name, sizeBytes, `default/${name}`)]])

test('what a watch saw before the answer came is not forgotten', async () => {
  const { keeper, ledger, write, state } = openApi()
  await place(keeper, 'a', 10n)
  state.after.push(() => {
    write({ b: JSON.stringify({ pool: 'default', kind: 'volume', promisedBytes: '20' }) })
    keeper.see(ledger())
  })
  const after = await place(keeper, 'c', 10n)
  assert.equal([...after.entries.keys()].sort(), ['a', 'c'])
  assert.equal([...(keeper.latest?.entries.keys() ?? [])].sort(), ['a', 'b', 'c'])
})

test('where the API server was restored from a backup, what it has now counts', async () => {
  const { keeper, ledger, restore, state } = openApi()
  for (const name of ['a', 'b', 'c']) await place(keeper, name, 10n)
  restore()
  keeper.see(ledger())
  // Or it would ask for ever.
  state.before.push(...Array.from({ length: 2 }, () => () => {}), () => {
    throw new Error('it was asked a third time')
  })
  const after = await place(keeper, 'd', 20n)
  assert.equal([...after.entries.keys()], ['d'])
  assert.is(keeper.latest?.resourceVersion, ledger().resourceVersion)
})

test('what a watch tells of an API server that was restored from a backup counts, before anybody asks', async () => {
  const { keeper, ledger, restore } = openApi()
  for (const name of ['a', 'b', 'c']) await place(keeper, name, 10n)
  keeper.see(ledger())
  restore()
  keeper.see(ledger())
  assert.equal([...(keeper.latest?.entries.keys() ?? [])], [])
})

test('wishes that come together are written together, in whole units', async () => {
  const { keeper, ledger, state } = openApi()
  await Promise.all(['a', 'b', 'c'].map((name) => place(keeper, name, 21n)))
  assert.is(state.writes, 1)
  assert.is(promisedBytes(ledger()), 90n)
  assert.equal(ledger().entries.get('a'), {
    pool: 'default',
    kind: 'volume',
    promisedBytes: 30n,
    pendingFor: 'default/a',
  })
})

test('two keepers with old knowledge never promise more than there is, however many ask at once', async () => {
  const { keeper, other, ledger } = openApi()
  const results = await Promise.allSettled(
    Array.from({ length: 20 }, (_, i) => place(i % 2 ? keeper : other, `v${i}`, 10n)),
  )
  const rounds = Array.from({ length: 20 }, (_, i) => place(i % 2 ? other : keeper, `w${i}`, 10n))
  results.push(...(await Promise.allSettled(rounds)))
  assert.is(results.filter(({ status }) => status === 'fulfilled').length, 10)
  assert.is(promisedBytes(ledger()), 100n)
})

test('a refusal is said only after a look at what there is now', async () => {
  const { keeper, write } = openApi()
  await place(keeper, 'a', 100n)
  write({ a: null })
  await place(keeper, 'b', 100n)
  await rejects('no-space', /Cannot place 10 B on node n as its pool vg has 0 B of 100 B free/, () =>
    place(keeper, 'c', 1n),
  )
})

test('a change by somebody else in between is seen, and decided upon again', async () => {
  const { keeper, write, state, ledger } = openApi()
  await place(keeper, 'a', 10n)
  state.before.push(() => write({ other: '{"pool":"default","kind":"volume","promisedBytes":"90"}' }))
  await rejects('no-space', /has 0 B of 100 B free/, () => place(keeper, 'b', 10n))
  assert.is(promisedBytes(ledger()), 100n)
})

test('growth is promised only what is left, and never makes an entry smaller', async () => {
  const { keeper, ledger } = openApi()
  await place(keeper, 'a', 50n)
  const grow = (sizeBytes: bigint) => keeper.update((seen) => [['a', promise(seen, 'a', sizeBytes)]])
  await rejects(
    'no-space',
    /Cannot grow a from 50 B \(50 bytes\) to 110 B \(110 bytes\) as pool vg of node n has 50 B free/,
    () => grow(101n),
  )
  await grow(30n)
  assert.is(ledger().entries.get('a')?.promisedBytes, 50n)
  await grow(100n)
  assert.is(promisedBytes(ledger()), 100n)
})

test('a ledger that is full takes no new volume, offers nothing, and lets those that it has grow', async () => {
  const { keeper, ledger, write } = openApi()
  await place(keeper, 'a', 10n)
  write({
    b: JSON.stringify({ pool: 'default', kind: 'volume', promisedBytes: '10', pendingFor: 'x'.repeat(fullLength) }),
  })
  await rejects('no-space', /node n as its ledger is full \(ConfigMap elastic-local.n.ledger\)/, () =>
    place(keeper, 'c', 10n),
  )
  assert.is(freeBytes(ledger()), 0n)
  await keeper.update((seen) => [['a', promise(seen, 'a', 20n)]])
  assert.is(ledger().entries.get('a')?.promisedBytes, 20n)
  write({ b: null })
  await place(keeper, 'c', 10n)
})

test('how long a ledger is, and what is taken of it, is known after changes as after reading it', async () => {
  const { keeper, ledger } = openApi()
  await Promise.all(['a', 'b'].map((name) => place(keeper, name, 30n)))
  await keeper.update((seen) => [['a', made(seen.entries.get('a'), 50n, 'uid')]])
  await keeper.update(() => [['b', undefined]])
  const { textLength, takenBytes } = ledger()
  assert.equal([keeper.latest?.textLength, keeper.latest?.takenBytes], [textLength, takenBytes])
  assert.is(promisedBytes(ledger()), 50n)
})

test('what the API server finds too long is no room for whom it is about, and keeps no other from being written', async () => {
  const { keeper, ledger, state } = openApi()
  state.refuse = (data) => JSON.stringify(data).includes('too long')
  const long = keeper.update((seen) => [['a', promise(seen, 'a', 10n, 'too long')]])
  const short = place(keeper, 'b', 10n)
  await rejects('no-space', /its ledger is full/, () => long)
  await short
  assert.equal([...ledger().entries.keys()], ['b'])
})

test('without a ledger nothing is placed, and the error says whose daemon to look at', async () => {
  const { keeper, remove } = openApi()
  remove()
  await rejects('not-found', /its daemon has not reported a pool.*of that node/, () => place(keeper, 'a', 1n))
})

test('a ledger that somebody damaged is an error that names the key', async () => {
  const { write, ledger } = openApi()
  write({ a: '{"pool":"default","kind":"volume","promisedBytes":"-1"}' })
  await rejects('failed', /Cannot read a in ConfigMap ns\/elastic-local.n.ledger/, async () => ledger())
})

test('a volume that is there has what it has, and what somebody else has granted beyond stays promised', () => {
  const entry = (promisedBytes: bigint, madeBytes?: bigint) =>
    ({ pool: 'default', kind: 'volume', promisedBytes, ...(madeBytes ? { madeBytes } : {}) }) as const
  for (const [before, byAnother, after] of [
    [undefined, true, entry(2n, 2n)],
    [entry(1n), true, entry(2n, 2n)],
    [entry(3n), true, entry(3n, 2n)],
    [entry(3n), false, entry(2n, 2n)],
    // Its device is larger by now, and its filesystem perhaps not.
    [entry(3n, 1n), true, entry(3n, 1n)],
    [entry(3n, 1n), false, entry(2n, 2n)],
    [entry(1n, 1n), true, entry(2n, 2n)],
  ] as const)
    assert.equal(settled(before, 2n, { madeFor: undefined, byAnother }), after)
})

test.run()
