import * as assert from 'uvu/assert'
import { nextTurn } from '../../../test/memory-api.ts'
import { suite } from '../../../test/suite.ts'
import type { Backlog, Done } from '../../meter.ts'
import { ApiError, delayAfter } from './api.ts'
import { WorkQueue, type WorkQueueParts } from './queue.ts'

const test = suite('queue')
const hourMs = 3_600_000

/** A queue whose work ends when the test says so. */
function open(more: Partial<WorkQueueParts> = {}) {
  const begun: string[] = []
  const warnings: string[] = []
  const ends = new Map<string, { resolve(): void; reject(error: Error): void }>()
  const queue = new WorkQueue({
    name: 'test',
    about: (key) => ({ volume: key }),
    work: async (key) => {
      begun.push(key)
      assert.not(ends.has(key), `${key} is worked on twice at a time`)
      const { promise, ...end } = Promise.withResolvers<void>()
      ends.set(key, end)
      await promise.finally(() => ends.delete(key))
    },
    concurrency: 2,
    backoffMs: { first: hourMs, most: hourMs },
    log: { warn: (message) => warnings.push(message) },
    ...more,
  })
  const end = async (key: string, error?: Error) => {
    if (error) ends.get(key)?.reject(error)
    else ends.get(key)?.resolve()
    await nextTurn()
  }
  return { queue, begun, warnings, end }
}

test('a key that is added many times is worked on once', async () => {
  const { queue, begun, end } = open({ concurrency: 1 })
  for (const key of ['a', 'b', 'b', 'b']) queue.add(key)
  await end('a')
  await end('b')
  assert.equal(begun, ['a', 'b'])
  await queue.stop()
})

test('a key that is added while it is worked on comes back once, and not before that has ended', async () => {
  const { queue, begun, end } = open()
  for (let times = 0; times < 3; times += 1) queue.add('a')
  await nextTurn()
  assert.equal(begun, ['a'])
  await end('a')
  assert.equal(begun, ['a', 'a'])
  await end('a')
  assert.equal(begun, ['a', 'a'])
  await queue.stop()
})

test('no more keys are worked on at once than may be, in the order in which they came', async () => {
  const { queue, begun, end } = open()
  for (const key of ['a', 'b', 'c', 'd']) queue.add(key)
  assert.equal(begun, ['a', 'b'])
  await end('b')
  assert.equal(begun, ['a', 'b', 'c'])
  for (const key of ['a', 'c', 'd']) await end(key)
  assert.equal(begun, ['a', 'b', 'c', 'd'])
  await queue.stop()
})

test('however many keys there are whose work is nothing, others have their turn in between', async () => {
  const keys = Array.from({ length: 5000 }, (_, index) => `key-${index}`)
  const worked: string[] = []
  const queue = new WorkQueue({
    name: 'test',
    about: () => ({}),
    work: async (key) => void worked.push(key),
    concurrency: 2,
    log: { warn: () => {} },
  })
  for (const key of keys) queue.add(key)
  await nextTurn()
  const atFirst = worked.length
  assert.ok(atFirst > 0 && atFirst < keys.length, `${atFirst} at the first turn of another`)
  while (worked.length < keys.length) await nextTurn()
  assert.equal(worked, keys)
  await queue.stop()
})

test('work that fails is told, and comes back until it succeeds', async () => {
  const succeeded = Promise.withResolvers<void>()
  const warnings: string[] = []
  let left = 5
  const queue = new WorkQueue({
    name: 'test',
    about: () => ({}),
    work: async () => {
      if (left === 0) return succeeded.resolve()
      left -= 1
      throw new Error(`${left} times more`)
    },
    concurrency: 1,
    backoffMs: { first: 1, most: 4 },
    log: { warn: (message) => warnings.push(message) },
  })
  queue.add('a')
  await succeeded.promise
  assert.equal(
    warnings,
    [4, 3, 2, 1, 0].map((times) => `${times} times more`),
  )
  await queue.stop()
})

test('work that was told when to come back comes back no sooner, and after the longest wait at the latest', async () => {
  const begun: string[] = []
  const left: Record<string, number> = { soon: 3, late: 3 }
  const queue = new WorkQueue({
    name: 'test',
    about: () => ({}),
    work: async (key) => {
      begun.push(key)
      const count = left[key] ?? 0
      left[key] = count - 1
      if (count > 0) throw new ApiError('too many requests', { status: 429, retryAfterMs: key === 'late' ? hourMs : 0 })
    },
    concurrency: 1,
    backoffMs: { first: 1, most: hourMs },
    log: { warn: () => {} },
  })
  queue.add('late')
  queue.add('soon')
  while ((left.soon ?? 0) >= 0) await nextTurn()
  assert.equal(begun, ['late', 'soon', 'soon', 'soon', 'soon'])
  await queue.stop()
  assert.is(delayAfter(new ApiError('', { status: 429, retryAfterMs: hourMs }), 1, 60_000), 60_000)
  assert.is(delayAfter(new Error('another'), 200, 60_000), 200)
})

test('a key that waits after a failure is worked on at once when it is added', async () => {
  const { queue, begun, end } = open()
  queue.add('a')
  await end('a', new Error('it failed'))
  assert.equal(begun, ['a'])
  queue.add('a')
  assert.equal(begun, ['a', 'a'])
  await end('a')
  await queue.stop()
})

test('a key that failed and was added in the meantime comes back at once', async () => {
  const { queue, begun, end } = open()
  queue.add('a')
  queue.add('a')
  await end('a', new Error('it failed'))
  assert.equal(begun, ['a', 'a'])
  await end('a')
  await queue.stop()
})

test('a key for later is worked on later, or when it is added, and then not again', async () => {
  const { queue, begun, end } = open()
  queue.addAfter('a', hourMs)
  queue.addAfter('b', 1)
  while (begun.length === 0) await nextTurn()
  assert.equal(begun, ['b'])
  queue.add('a')
  assert.equal(begun, ['b', 'a'])
  await end('a')
  await end('b')
  await queue.stop()
})

test('stop() waits for what runs and begins nothing more, also of what was to come later', async () => {
  const { queue, begun, end } = open({ concurrency: 1 })
  queue.add('a')
  queue.add('a')
  queue.add('b')
  queue.addAfter('c', 1)
  let isStopped = false
  const stopping = queue.stop().then(() => {
    isStopped = true
  })
  queue.add('d')
  await nextTurn()
  assert.not(isStopped)
  await end('a', new Error('it failed'))
  await stopping
  assert.equal(begun, ['a'])
})

test('a meter sees the queue until it stops, what waits and runs in it, and how each piece of work ended', async () => {
  const told: string[] = []
  const backlogs = new Set<Backlog>()
  const work = ({ what, about, result }: Done) => told.push(`${what} ${about}: ${result}`)
  const { queue, end } = open({ concurrency: 1, meter: { work, backlogs } })
  for (const key of ['a', 'b', 'c']) queue.add(key)
  const [seen] = backlogs
  assert.equal([seen?.name, seen?.waiting, seen?.running], ['test', 2, 1])
  await nextTurn()
  assert.ok(Number(seen?.longestMs) > 0)
  await end('a')
  await end('b', new Error('it failed'))
  await end('c')
  assert.equal(told, ['test a: success', 'test b: failed', 'test c: success'])
  assert.equal([seen?.waiting, seen?.running, seen?.longestMs], [0, 0, 0])
  await queue.stop()
  assert.is(backlogs.size, 0)
})

test.run()
