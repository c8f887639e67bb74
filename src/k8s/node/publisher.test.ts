import { isDeepStrictEqual } from 'node:util'
import * as assert from 'uvu/assert'
import { MemoryApi } from '../../../test/memory-api.ts'
import { addLedger, addNode, eventsPath, ledgerPath, namespace } from '../../../test/memory-cluster.ts'
import { suite } from '../../../test/suite.ts'
import { VolumeError } from '../../volume/errors.ts'
import type { PoolReport } from '../../volume/pool.ts'
import { machineClock } from '../client/clock.ts'
import { Recorder } from '../client/events.ts'
import { parseLedger, poolOf } from '../model/ledger.ts'
import { LedgerKeeper } from '../model/ledger-keeper.ts'
import { Publisher, type PublisherParts, poolFacts } from './publisher.ts'

const test = suite('publisher')
const mebibyte = 1n << 20n
const report: PoolReport = {
  name: '/volumes',
  id: 'id',
  driverKind: 'LOOP',
  sizeBytes: 10_240n * mebibyte,
  allocatedBytes: 0n,
  freeBytes: 0n,
  volumes: 0,
  unitBytes: mebibyte,
  enforcesSize: true,
  problems: [],
}
/** What is said one after the other of a disk with so many MiB free. */
function said(...frees: number[]): number[] {
  let known: ReturnType<typeof poolFacts> | undefined
  return frees.map((free) => {
    known = poolFacts({ ...report, freeBytes: BigInt(free) * mebibyte }, known)
    return Number(known.capacityBytes / mebibyte)
  })
}

test('a disk that others write to is told of in steps, and not anew for what goes to and fro', () => {
  assert.equal(said(1000, 990, 1010, 961, 1087), [960, 960, 960, 960, 960])
})

test('no more is said than there is, and much more room is said at once', () => {
  assert.equal(said(1000, 959, 961, 970, 2000, 0), [960, 896, 896, 896, 1984, 0])
})

test('of a volume group each extent is said', () => {
  assert.is(poolFacts({ ...report, driverKind: 'LVM', freeBytes: 5n }, undefined).capacityBytes, 5n)
})

/** Has a publisher publish what `report` says until `isDone`, or `work` has ended. */
async function publish(
  server: MemoryApi,
  isDone: () => boolean,
  more: Partial<PublisherParts> = {},
  work: () => Promise<void> = async () => {},
): Promise<void> {
  const api = server.client()
  const [clock, now] = [machineClock, () => new Date()]
  const log = { debug: () => {}, info: () => {}, warn: () => {} }
  const publisher = new Publisher({
    ...{ api, namespace, node: 'a', clock, log, now },
    keeper: new LedgerKeeper({ api, namespace, node: 'a' }),
    recorder: new Recorder({ api, component: 'elastic-local-daemon', host: 'a', clock, now, log }),
    report: async () => report,
    fronts: ['flex'],
    initial: async () => new Map(),
    ...more,
  })
  const abort = new AbortController()
  const ended = publisher.run(abort.signal)
  await server.until('it is published', isDone)
  await work()
  abort.abort()
  await ended
}

test('a ledger gets its labels back that a person took away or changed, by which the provisioner finds it', async () => {
  const server = new MemoryApi()
  addNode(server, 'a')
  await publish(server, () => server.find(ledgerPath('a')) !== undefined)
  const { labels } = server.find(ledgerPath('a'))?.metadata ?? {}
  assert.is(Object.keys(labels ?? {}).length, 2)
  for (const label of Object.keys(labels ?? {}))
    for (const value of [null, 'another']) {
      server.change(ledgerPath('a'), { metadata: { labels: { [label]: value } } })
      const isRight = () => isDeepStrictEqual(server.find(ledgerPath('a'))?.metadata.labels, labels)
      assert.not.ok(isRight())
      await publish(server, isRight)
    }
})

test('a pool that fails, or takes nothing new, while nobody asks is told of by itself, and offers nothing', async () => {
  const server = new MemoryApi()
  addNode(server, 'a')
  let look = async (): Promise<PoolReport> => ({ ...report, driverKind: 'LVM', freeBytes: 64n * mebibyte })
  const room = () => poolOf(parseLedger(server.find(ledgerPath('a')) as never)).capacityBytes
  const isTold = (words: string) =>
    server.list(eventsPath).some(({ reason, message }) => reason === 'PoolProblem' && message.includes(words))
  const more = { report: async () => await look(), lookMs: 50 }
  await publish(
    server,
    () => server.find(ledgerPath('a')) !== undefined && room() > 0n,
    more,
    async () => {
      const why = 'thin pool p lets writers wait when it is full, and nothing new is made until that is mended'
      look = async () => ({ ...report, driverKind: 'LVM', problems: [why] })
      await server.until('what it is like is told', () => room() === 0n && isTold(why))
      look = async () => ({ ...report, driverKind: 'LVM', freeBytes: 64n * mebibyte })
      await server.until('it is well again', () => room() > 0n)
      look = async () => {
        throw new VolumeError('failed', 'the volume group is gone')
      }
      await server.until('that it is gone is told', () => room() === 0n && isTold('the volume group is gone'))
    },
  )
})

test('a pool is not taken for that of the ledger where the watch has not brought the ledger yet', async () => {
  const server = new MemoryApi()
  addNode(server, 'a')
  addLedger(server, 'a')
  const path = ledgerPath('a')
  const theirs = { ...JSON.parse(server.find(path)?.data['_pool.default']), driverKind: 'LOOP', id: 'theirs' }
  server.change(path, { data: { '_pool.default': JSON.stringify(theirs) } })
  await publish(server, () => server.list(eventsPath).some(({ reason }) => reason === 'WrongPool'))
  assert.is(JSON.parse(server.find(path)?.data['_pool.default']).id, 'theirs')
})

test.run()
