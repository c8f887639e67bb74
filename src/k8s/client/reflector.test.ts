import type { V1ConfigMap } from '@kubernetes/client-node'
import * as assert from 'uvu/assert'
import { type Fate, type Hook, MemoryApi, type MemoryClient, nextTurn } from '../../../test/memory-api.ts'
import { suite } from '../../../test/suite.ts'
import { type Api, ApiError, silentReason, type WatchEvent } from './api.ts'
import { Reflector } from './reflector.ts'

const test = suite('reflector')
const path = '/api/v1/namespaces/ns/configmaps'

const running: { stop(): Promise<void> }[] = []
test.after.each(async () => {
  await Promise.all(running.splice(0).map(({ stop }) => stop()))
})

const add = (server: MemoryApi, name: string, labels = { color: 'red' }) =>
  server.create(path, { metadata: { name, labels }, data: { value: name } })

/** Follows the red ConfigMaps. */
function follow(api: Api) {
  const changes: string[] = []
  const warnings: string[] = []
  const reflector = new Reflector<V1ConfigMap, string>({
    api,
    path,
    query: { labelSelector: 'color=red' },
    pick: ({ data }) => data?.value,
    log: { warn: (message) => warnings.push(message) },
  })
  reflector.onChange((key, now = '-', before = '-') => changes.push(`${key}: ${before} > ${now}`))
  const abort = new AbortController()
  const ended = reflector.run(abort.signal)
  const stop = async () => {
    abort.abort()
    await ended
  }
  running.push({ stop })
  const names = () => [...reflector.objects.keys()].sort()
  return { reflector, changes, warnings, stop, names }
}

const countOf = (client: MemoryClient) => client.requests.length

test('it lists what is there and follows what comes, changes and goes, and tells each change once', async () => {
  const server = new MemoryApi()
  add(server, 'one')
  add(server, 'blue', { color: 'blue' })
  const { reflector, changes } = follow(server.client())
  assert.not(reflector.isSynced)
  await reflector.synced()
  assert.equal([...reflector.objects], [['ns/one', 'one']])
  add(server, 'two')
  server.change(`${path}/two`, { data: { value: '2' } })
  server.change(`${path}/blue`, { metadata: { labels: { color: 'red' } } })
  server.change(`${path}/one`, { metadata: { labels: { color: 'blue' } } })
  server.delete(`${path}/two`)
  await server.until('all is told', () => changes.length === 6)
  assert.equal(changes, [
    'ns/one: - > one',
    'ns/two: - > two',
    'ns/two: two > 2',
    'ns/blue: - > blue',
    'ns/one: one > -',
    'ns/two: 2 > -',
  ])
})

test('note() takes what the watch has not told yet, and nothing that it may know to be gone', async () => {
  const server = new MemoryApi()
  add(server, 'one')
  const client = server.client()
  const { reflector, changes, names } = follow(client)
  await reflector.synced()
  const [one] = (await client.send<{ items: V1ConfigMap[] }>({ method: 'GET', path })).items
  const labels = { color: 'red' }
  const news = { metadata: { namespace: 'ns', name: 'two', labels, resourceVersion: '1000000' }, data: { value: '2' } }
  reflector.note(news)
  assert.equal(names(), ['ns/one', 'ns/two'])
  server.delete(`${path}/one`)
  await server.until('it is told', () => !reflector.objects.has('ns/one'))
  assert.ok(one)
  reflector.note(one)
  assert.equal(names(), ['ns/two'])
  assert.equal(changes, ['ns/one: - > one', 'ns/two: - > 2', 'ns/one: one > -'])
})

test('what the caller wants nothing of is passed over, also when that changes', async () => {
  const server = new MemoryApi()
  server.create(path, { metadata: { name: 'empty', labels: { color: 'red' } } })
  const { reflector, changes, names } = follow(server.client())
  await reflector.synced()
  server.change(`${path}/empty`, { data: { value: 'x' } })
  await server.until('it is wanted', () => names().length === 1)
  server.change(`${path}/empty`, { data: null })
  await server.until('it is not', () => names().length === 0)
  assert.equal(changes, ['ns/empty: - > x', 'ns/empty: x > -'])
})

test('a long list comes in pages, as of one moment, and is begun anew when its rest is too old', async () => {
  const server = new MemoryApi()
  for (let index = 0; index < 1201; index += 1) add(server, `c${index}`)
  const client: MemoryClient = server.client((request, count): Fate => {
    if (count === 2) server.compact()
    // Deleted between the pages: the watch tells it.
    if (count === 5) server.delete(`${path}/c1`)
    return request.query?.limit === '500' ? 'done' : { refused: 400 }
  })
  const { reflector } = follow(client)
  await server.until('all is known', () => reflector.objects.size === 1200)
  assert.is(countOf(client), 5)
  assert.not(reflector.objects.has('ns/c1'))
})

for (const how of ['ended', 'lost'] as const)
  test(`a watch that is ${how} is taken up where it was, with nothing told twice`, async () => {
    const server = new MemoryApi()
    add(server, 'one')
    const client = server.client()
    const { reflector, changes } = follow(client)
    await reflector.synced()
    for (let round = 0; round < 3; round += 1) {
      await server.idle()
      client.breakWatches(how)
      add(server, `new-${round}`)
      await server.until('it is seen', () => reflector.objects.has(`ns/new-${round}`))
    }
    assert.is(changes.length, 4)
    assert.is(countOf(client), 1)
  })

test('after a version that is too old it lists again, and notices what went in the meantime', async () => {
  const server = new MemoryApi()
  for (const name of ['stays', 'goes', 'changes']) add(server, name)
  const client = server.client()
  const { reflector, changes, names } = follow(client)
  await reflector.synced()
  await server.idle()
  client.breakWatches('lost')
  server.delete(`${path}/goes`)
  server.change(`${path}/changes`, { data: { value: 'new' } })
  add(server, 'comes')
  server.compact()
  await server.until('all is seen', () => reflector.objects.get('ns/changes') === 'new')
  assert.equal(names(), ['ns/changes', 'ns/comes', 'ns/stays'])
  assert.equal(changes.slice(3), ['ns/goes: goes > -', 'ns/changes: changes > new', 'ns/comes: - > comes'])
  assert.is(countOf(client), 2)
})

test('it waits for an API server that is away, and says so now and then', async () => {
  const server = new MemoryApi()
  add(server, 'one')
  const away: Hook = (_, count) => (count < 4 ? { refused: count === 2 ? 500 : 0 } : 'done')
  const { reflector, warnings } = follow(server.client(away))
  await reflector.synced()
  assert.is(reflector.objects.size, 1)
  assert.is(warnings.length, 1)
  assert.match(warnings[0] ?? '', /^Cannot follow \/api\/v1\/namespaces\/ns\/configmaps: /)
})

test('its copy stays as it was while it lists again', async () => {
  const server = new MemoryApi()
  add(server, 'one')
  const [isAsked, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const client = server.client(async (_, count): Promise<Fate> => {
    if (count === 1) return 'done'
    isAsked.resolve()
    await goOn.promise
    return 'done'
  })
  const { reflector, names } = follow(client)
  await reflector.synced()
  server.compact()
  add(server, 'two')
  server.compact()
  client.breakWatches('lost')
  await isAsked.promise
  assert.ok(names().includes('ns/one'))
  goOn.resolve()
  await server.until('both are there', () => names().length === 2)
})

/** An API server that lists nothing and watches as the test says. */
function watchingBy(watch: (count: number) => AsyncIterable<WatchEvent<never>>) {
  const counts = { lists: 0, watches: 0 }
  const api: Api = {
    send: async <T>() => {
      counts.lists += 1
      return { items: [], metadata: { resourceVersion: String(counts.lists) } } as T
    },
    watch: () => {
      counts.watches += 1
      return watch(counts.watches) as never
    },
  }
  return { api, counts }
}

test('watches that end at once are not begun again without a pause', async () => {
  // biome-ignore lint/correctness/useYield: it ends without a word.
  const { api, counts } = watchingBy(async function* () {
    await nextTurn()
  })
  follow(api)
  for (let turns = 0; turns < 500; turns += 1) await nextTurn()
  assert.ok(counts.watches < 20, `${counts.watches} watches`)
})

test('it lists again when the API server refuses the watch, and not when it was only away', async () => {
  const ended = Promise.withResolvers<void>()
  const listed: number[] = []
  const { api, counts } = watchingBy(async function* (count) {
    listed.push(counts.lists)
    if (count === 1) throw new ApiError('away', { status: 0 })
    if (count === 2) throw new ApiError('later', { status: 429 })
    // What an API server says that was set back to an older backup.
    if (count === 3) yield { type: 'ERROR', object: { code: 504, message: 'Too large resource version: 9' } }
    // The same, of one that was started on it: what it has done since is older than what was heard.
    if (count === 4) throw new ApiError('nothing came', { status: 0, reason: silentReason })
    ended.resolve()
    await new Promise(() => {})
  })
  const abort = new AbortController()
  const reflector = new Reflector({ api, path, pick: () => undefined, log: { warn: () => {} } })
  reflector.run(abort.signal)
  await ended.promise
  assert.equal(listed, [1, 1, 1, 2, 3])
})

test('stopping ends it while it watches, lists, or waits, without another request', async () => {
  const server = new MemoryApi()
  const client = server.client()
  const { reflector, stop } = follow(client)
  await reflector.synced()
  await stop()
  const isAsked = Promise.withResolvers<void>()
  const failing = server.client(() => {
    isAsked.resolve()
    return { refused: 0 }
  })
  const other = follow(failing)
  await isAsked.promise
  await server.idle()
  await other.stop()
  const asked = countOf(failing)
  add(server, 'late')
  await server.idle()
  assert.is(countOf(client), 1)
  assert.is(countOf(failing), asked)
  assert.is(reflector.objects.size, 0)
})

test.run()
