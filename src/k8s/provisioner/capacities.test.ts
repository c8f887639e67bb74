import * as assert from 'uvu/assert'
import { claim } from '../../../test/cluster/claim-objects.ts'
import { MemoryApi } from '../../../test/memory-api.ts'
import {
  addClass,
  addLedger,
  addNode,
  addPromise,
  capacitiesPath,
  claimsPath,
  eventsPath,
  leasesPath,
  ledgerPath,
  namespace,
  promises,
  renewLease,
  selectedNode,
  silent,
} from '../../../test/memory-cluster.ts'
import { suite } from '../../../test/suite.ts'
import type { ApiRequest } from '../client/api.ts'
import { machineClock } from '../client/clock.ts'
import { capacityName, provisionerNames } from '../model/names.ts'
import { Provisioner } from './provisioner.ts'

const test = suite('capacities')
const mebibyte = 1n << 20n
const capacityBytes = 1024n * mebibyte

/** A cluster with nodes whose daemons are at work, and a provisioner that leads until what it gives is called. */
function open(...nodes: string[]) {
  const server = new MemoryApi()
  addClass(server)
  for (const node of nodes) {
    addNode(server, node)
    addLedger(server, node, capacityBytes)
  }
  const state = { refuses: (_: ApiRequest): boolean => false }
  const client = server.client((request) => (state.refuses(request) ? { refused: 403 } : 'done'))
  const abort = new AbortController()
  const provisioner = new Provisioner({
    api: client,
    namespace,
    nodeGoneGraceMs: 0,
    defaultFront: 'flex',
    deleteClaimsOfGoneNodes: false,
    clock: machineClock,
    now: () => new Date(),
    log: silent,
  })
  const ended = Promise.all([provisioner.follow(abort.signal), provisioner.act(client, abort.signal)])
  const offers = () =>
    Object.fromEntries(
      server
        .list(capacitiesPath)
        .map(({ nodeTopology, storageClassName, capacity }) => [
          `${storageClassName} on ${nodeTopology.matchLabels['kubernetes.io/hostname']}`,
          Number(BigInt(capacity) / mebibyte),
        ]),
    )
  return {
    server,
    client,
    state,
    offers,
    isOffered: (what: object) => JSON.stringify(offers()) === JSON.stringify(what),
    stop: async () => {
      abort.abort()
      await ended
    },
  }
}
const usual = { 'elastic-local on host-a': 1024 }
const nameOnA = capacityName('a', 'elastic-local')

test('what is left of a node is told for each class, and follows promises, classes and the node', async () => {
  const { server, isOffered, offers, stop } = open('a')
  await server.until('it is told', () => isOffered(usual))
  addPromise(server, 'a', 'pvc-1', 64n * mebibyte)
  await server.until('a promise is seen', () => isOffered({ 'elastic-local on host-a': 960 }))
  addClass(server, 'loop', { parameters: { driverKind: 'LOOP' } })
  addClass(server, 'xfs', { parameters: { fsType: 'xfs' } })
  await server.until('a class is seen', () => offers()['xfs on host-a'] === 960)
  assert.not.ok('loop on host-a' in offers())
  server.delete('/apis/storage.k8s.io/v1/storageclasses/xfs')
  await server.until('a class that is gone is seen', () => isOffered({ 'elastic-local on host-a': 960 }))
  server.change('/api/v1/nodes/a', { metadata: { labels: { 'kubernetes.io/hostname': 'renamed' } } })
  await server.until('another host name is seen', () => isOffered({ 'elastic-local on renamed': 960 }))
  server.delete('/api/v1/nodes/a')
  await server.until('a node that is gone is seen', () => isOffered({}))
  await stop()
})

for (const [title, disturb] of [
  ['takes one away', (server: MemoryApi) => server.delete(`${capacitiesPath}/${nameOnA}`)],
  ['writes another size', (server: MemoryApi) => server.change(`${capacitiesPath}/${nameOnA}`, { capacity: '9Ti' })],
  [
    'takes its labels and owners',
    (server: MemoryApi) =>
      server.change(`${capacitiesPath}/${nameOnA}`, { metadata: { labels: null, ownerReferences: null } }),
  ],
] as const)
  test(`it is told anew when somebody ${title}`, async () => {
    const { server, isOffered, stop } = open('a')
    await server.until('it is told', () => isOffered(usual))
    const told = () => {
      const { capacity, metadata } = Object(server.find(`${capacitiesPath}/${nameOnA}`))
      return JSON.stringify([capacity, metadata?.labels, metadata?.ownerReferences])
    }
    const before = told()
    disturb(server)
    await server.until('it is as before', () => told() === before)
    await stop()
  })

test('what cannot be told of one class keeps no other from being told, and is tried again', async () => {
  const { server, state, offers, isOffered, stop } = open('a')
  await server.until('it is told', () => isOffered(usual))
  // As a webhook, or a quota, of somebody may have it.
  const bad = capacityName('a', 'bad')
  state.refuses = ({ path, body }) => path.includes(bad) || JSON.stringify(body ?? {}).includes(bad)
  for (const name of ['bad', 'good']) addClass(server, name)
  await server.until('another class is told', () => offers()['good on host-a'] === 1024)
  addPromise(server, 'a', 'pvc-1', 64n * mebibyte)
  await server.until('both that can be told follow', () => {
    const { 'elastic-local on host-a': usual, 'good on host-a': good } = offers()
    return usual === 960 && good === 960
  })
  server.delete('/apis/storage.k8s.io/v1/storageclasses/good')
  await server.until('what is stale goes', () => isOffered({ 'elastic-local on host-a': 960 }))
  state.refuses = () => false
  addPromise(server, 'a', 'pvc-2', 64n * mebibyte)
  await server.until('it is told at last', () => offers()['bad on host-a'] === 896)
  await stop()
})

test('an object that has the name of one of ours and is about something else gives way', async () => {
  const { server, isOffered, stop } = open()
  addNode(server, 'a')
  server.create(capacitiesPath, {
    metadata: { name: nameOnA },
    storageClassName: 'of-others',
    nodeTopology: { matchLabels: { 'kubernetes.io/hostname': 'elsewhere' } },
    capacity: '1',
  })
  addLedger(server, 'a', capacityBytes)
  await server.until('it is told', () => isOffered(usual))
  await stop()
})

test('a node whose daemon is dead offers nothing and gets no claim, however empty it is, until the daemon is back', async () => {
  const { server, isOffered, stop } = open('a', 'b')
  const both = { 'elastic-local on host-a': 1024, 'elastic-local on host-b': 1024 }
  await server.until(
    'both are told',
    () => isOffered(both) || isOffered(Object.fromEntries(Object.entries(both).reverse())),
  )
  addPromise(server, 'b', 'pvc-1', 512n * mebibyte)
  renewLease(server, 'a', 1)
  await server.until('the dead one offers nothing', () => isOffered({ 'elastic-local on host-b': 512 }))
  addClass(server, 'immediate', { volumeBindingMode: 'Immediate' })
  const annotations = { 'volume.kubernetes.io/storage-provisioner': provisionerNames[0] }
  const object = claim('data', { class: 'immediate', size: '256Mi' })
  server.create(claimsPath, { ...object, metadata: { ...object.metadata, annotations } })
  await server.until('it is placed', () => promises(server).length === 2)
  assert.equal([...new Set(promises(server).map(({ node }) => node))], ['b'])
  const chosen = claim('chosen', { size: '256Mi' })
  server.create(claimsPath, { ...chosen, metadata: { ...chosen.metadata, annotations: { [selectedNode]: 'a' } } })
  const selected = () => server.find(`${claimsPath}/chosen`)?.metadata.annotations?.[selectedNode]
  const said = () =>
    server.list(eventsPath).some(({ message }) => /its elastic-local daemon is not running/.test(message))
  await server.until('the scheduler is asked again', () => selected() === undefined && said())
  renewLease(server, 'a')
  await server.until('it offers again', () =>
    server
      .list(capacitiesPath)
      .some(({ nodeTopology }) => nodeTopology.matchLabels['kubernetes.io/hostname'] === 'host-a'),
  )
  await stop()
})

test('a claim that only a dead node could have waits, and is placed when its daemon is back', async () => {
  const { server, isOffered, stop } = open('a')
  await server.until('it is told', () => isOffered(usual))
  renewLease(server, 'a', 1)
  await server.until('it is dead', () => isOffered({}))
  addClass(server, 'immediate', { volumeBindingMode: 'Immediate' })
  const annotations = { 'volume.kubernetes.io/storage-provisioner': provisionerNames[0] }
  const object = claim('data', { class: 'immediate', size: '256Mi' })
  server.create(claimsPath, { ...object, metadata: { ...object.metadata, annotations } })
  await server.until('it is said', () =>
    server.list(eventsPath).some(({ message }) => /whose daemon is running/.test(message)),
  )
  renewLease(server, 'a')
  await server.until('it is placed', () => promises(server).length === 1)
  await stop()
})

test('what is left of a node that is gone goes: its ledger, and the Lease of its daemon', async () => {
  const { server, stop } = open('a')
  server.delete('/api/v1/nodes/a')
  await server.until('both are gone', () => !server.find(ledgerPath('a')) && server.list(leasesPath).length === 0)
  await stop()
})

test('a cluster where nothing changes is asked for nothing, and nothing is written', async () => {
  const { server, client, isOffered, stop } = open('a')
  await server.until('it is told', () => isOffered(usual))
  await server.idle()
  const sent = client.requests.length
  for (let round = 0; round < 5; round += 1) {
    renewLease(server, 'a')
    server.change('/api/v1/nodes/a', { metadata: { annotations: { round: String(round) } } })
    await server.idle()
  }
  assert.is(client.requests.length, sent)
  await stop()
})

test.run()
