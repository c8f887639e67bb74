import type { V1Toleration } from '@kubernetes/client-node'
import * as assert from 'uvu/assert'
import { claim } from '../../../test/cluster/claim-objects.ts'
import { MemoryApi, type MemoryClient, nextTurn, type StoredObject } from '../../../test/memory-api.ts'
import {
  addClass,
  addLedger,
  addNode,
  addPromise,
  addVolume,
  claimsPath,
  eventsPath,
  type Fault,
  ledgerPath,
  namespace,
  overbookings,
  play,
  playControllerManager,
  playDaemons,
  playGrowth,
  playLateDaemons,
  promises,
  renewLease,
  type Strike,
  selectedNode,
  silent,
  strikeAt,
  strikeEverywhere,
  usualFaults,
  volumesPath,
} from '../../../test/memory-cluster.ts'
import { sideBySide } from '../../../test/side-by-side.ts'
import { suite } from '../../../test/suite.ts'
import { toJson } from '../../json.ts'
import { machineClock } from '../client/clock.ts'
import { parseQuantity } from '../client/quantity.ts'
import { fullLength } from '../model/ledger.ts'
import { finalizer, nodeLabel, provisionerNames } from '../model/names.ts'
import type { ProvisionerParts } from './leader.ts'
import { Provisioner } from './provisioner.ts'

const test = suite('provisioner')
const journey = sideBySide(test)
const mebibyte = 1n << 20n

const started: { stop(): Promise<void> }[] = []
test.after(async () => {
  await Promise.all(started.splice(0).map(({ stop }) => stop()))
})

/** Runs a provisioner that leads, until it is stopped. */
function start(client: MemoryClient, more: Partial<ProvisionerParts> = {}): { stop(): Promise<void> } {
  const abort = new AbortController()
  const provisioner = new Provisioner({
    api: client,
    namespace,
    nodeGoneGraceMs: 0,
    defaultFront: 'flex',
    deleteClaimsOfGoneNodes: false,
    tidyMs: 50,
    clock: machineClock,
    now: () => new Date(),
    log: silent,
    ...more,
  })
  const ended = Promise.all([provisioner.follow(abort.signal), provisioner.act(client, abort.signal)])
  const running = {
    stop: async () => {
      abort.abort()
      await ended
    },
  }
  started.push(running)
  return running
}

function openCluster(nodes: Record<string, bigint> = { a: 10_240n * mebibyte }, isBinding = true): MemoryApi {
  const server = new MemoryApi()
  addClass(server)
  addClass(server, 'immediate', { volumeBindingMode: 'Immediate' })
  for (const [node, capacityBytes] of Object.entries(nodes)) {
    addNode(server, node)
    addLedger(server, node, capacityBytes)
  }
  if (isBinding) playControllerManager(server)
  return server
}

const wantedOf = 'volume.kubernetes.io/storage-provisioner'

/** A claim that the scheduler has chosen a node for, or one that is placed at once. */
function addClaim(server: MemoryApi, name: string, more: { node?: string; size?: string; spec?: object } = {}) {
  const { node, ...rest } = more
  const object = claim(name, { class: node ? 'elastic-local' : 'immediate', ...rest })
  const annotations: Record<string, string> = node
    ? { [selectedNode]: node }
    : { [wantedOf]: provisionerNames[0] ?? '' }
  return server.create(claimsPath, { ...object, metadata: { ...object.metadata, annotations } })
}

const volumesOf = (server: MemoryApi, { metadata }: StoredObject) =>
  server.list(volumesPath).filter(({ spec }) => spec.claimRef.uid === metadata.uid)
const eventsOf = (server: MemoryApi, name: string) =>
  server.list(eventsPath).filter(({ involvedObject }) => involvedObject.name === name)
const isBound = (server: MemoryApi, name: string) => Boolean(server.find(`${claimsPath}/${name}`)?.spec.volumeName)

/** One PV for each claim that has any, one promise for each PV, on its node, and never more than there is. */
function mustBeConsistent(server: MemoryApi): void {
  for (const object of server.list(claimsPath)) {
    const volumes = volumesOf(server, object)
    assert.ok(volumes.length <= 1, `${object.metadata.name} has ${volumes.length} PVs`)
  }
  const placed = server.list(volumesPath).map(({ metadata, spec }) => {
    const sizeBytes = spec.flexVolume?.options.sizeBytes ?? String(parseQuantity(spec.capacity.storage, 'capacity'))
    return [metadata.name, metadata.labels?.[nodeLabel], sizeBytes]
  })
  const promised = promises(server).map(({ volume, node, promisedBytes }) => [volume, node, String(promisedBytes)])
  assert.equal(promised.sort(), placed.sort(), 'promises, and the PVs that they are for')
  assert.equal(overbookings(server), [])
}

/** What a provisioner has to bring about, whatever happens to it on the way. */
interface Journey {
  open(): MemoryApi
  /** What others do while it runs. */
  drive?(server: MemoryApi): void
  isDone(server: MemoryApi): boolean
  parts?: Partial<ProvisionerParts>
}

/** Runs the journey with each fault at each request, and looks at what is there in the end. */
function survives(title: string, plan: Journey, faults?: readonly Fault[]): void {
  journey(title, async () => {
    await strikeEverywhere(async (strike?: Strike) => {
      const server = plan.open()
      const { client, died } = strikeAt(server, strike)
      const done = server.until('the end', () => plan.isDone(server))
      const stop = play(server, () => plan.drive?.(server))
      let running = start(client, plan.parts)
      try {
        await Promise.race([died, done])
        await server.idle()
        if (strike?.fault.dies) {
          await running.stop()
          running = start(server.client(), plan.parts)
        }
        await done
        await server.idle()
        await server.until('the end to stay', () => plan.isDone(server))
      } finally {
        stop()
        await running.stop()
      }
      assert.ok(plan.isDone(server))
      mustBeConsistent(server)
      return client.requests
    }, faults)
  })
}

const isPlaced = (server: MemoryApi) => {
  const [volume] = server.list(volumesPath)
  const [entry, ...others] = promises(server)
  return isBound(server, 'data') && volume?.metadata.labels?.[nodeLabel] === entry?.node && others.length === 0
}
const isEmpty = (server: MemoryApi) => server.list(volumesPath).length + promises(server).length === 0

survives('the making of a PV survives conflicts, faults, lost answers and a crash at every request', {
  open: () => {
    const server = openCluster()
    addClaim(server, 'data', { node: 'a' })
    return server
  },
  isDone: isPlaced,
})

survives('the placing of a claim for no node survives the same', {
  open: () => {
    const server = openCluster({ a: 256n * mebibyte, b: 1024n * mebibyte, c: 1024n * mebibyte })
    addClaim(server, 'data')
    return server
  },
  isDone: isPlaced,
})

/** What the scheduler does with a claim whose selected node was taken away. */
function scheduleOn(server: MemoryApi, node: string): void {
  const path = `${claimsPath}/data`
  if (server.find(path)?.metadata.annotations?.[selectedNode] === undefined)
    server.change(path, { metadata: { annotations: { [selectedNode]: node } } })
}

survives('the way from a full node to another survives the same', {
  open: () => {
    const server = openCluster({ a: 256n * mebibyte, b: 1024n * mebibyte })
    addClaim(server, 'data', { node: 'a' })
    return server
  },
  drive: (server) => scheduleOn(server, 'b'),
  isDone: isPlaced,
})

survives(
  'a claim that the scheduler moves to another node at any moment has one PV and one promise',
  {
    open: () => {
      const server = openCluster({ a: 1024n * mebibyte, b: 1024n * mebibyte })
      playLateDaemons(server)
      addClaim(server, 'data', { node: 'a' })
      return server
    },
    isDone: isPlaced,
  },
  usualFaults.map((fault) => ({
    ...fault,
    title: `${fault.title}, after a change of the selected node`,
    before: (server) => server.change(`${claimsPath}/data`, { metadata: { annotations: { [selectedNode]: 'b' } } }),
  })),
)

survives(
  'a claim that is deleted at any moment leaves neither a PV nor a promise',
  {
    open: () => {
      const server = openCluster()
      playDaemons(server)
      addClaim(server, 'data', { node: 'a' })
      return server
    },
    isDone: (server) => (server.find(`${claimsPath}/data`) ? isPlaced(server) : isEmpty(server)),
  },
  usualFaults.map((fault) => ({
    ...fault,
    title: `${fault.title}, after the deletion of the claim`,
    before: (server) => server.delete(`${claimsPath}/data`),
  })),
)

survives('a promise whose claim is deleted before the PV is made is taken back, whatever goes wrong', {
  open: () => {
    const server = openCluster()
    playDaemons(server)
    addClaim(server, 'data', { node: 'a' })
    return server
  },
  drive: (server) => {
    if (promises(server).length > 0 && server.find(`${claimsPath}/data`)) server.delete(`${claimsPath}/data`)
  },
  isDone: (server) => server.find(`${claimsPath}/data`) === undefined && isEmpty(server),
})

survives('the promise for a PV that the API server refuses is taken back, whatever goes wrong', {
  open: () => {
    const server = openCluster()
    server.policy = ({ method, path }) => (method === 'POST' && path === volumesPath ? 422 : undefined)
    addClaim(server, 'data', { node: 'a' })
    return server
  },
  isDone: (server) => server.statesOf(ledgerPath('a')).length > 2 && isEmpty(server),
})

/** A cluster with a PV on node `a` whose claim is bound to it, as the provisioner and the daemon left it. */
function openBound(): MemoryApi {
  const server = openCluster()
  addPromise(server, 'a', addVolume(server, 'data', 'a', 512n * mebibyte), 512n * mebibyte)
  return server
}

survives('the deletion of a claim ends with its PV and its promise gone, whatever goes wrong', {
  open: () => {
    const server = openBound()
    playDaemons(server)
    server.delete(`${claimsPath}/data`)
    return server
  },
  isDone: isEmpty,
})

survives('a PV on its way out is let go when its node is gone, whatever goes wrong', {
  open: () => {
    const server = openBound()
    server.delete(`${claimsPath}/data`)
    server.delete('/api/v1/nodes/a')
    server.delete(ledgerPath('a'))
    return server
  },
  isDone: isEmpty,
})

survives('where the operator wants it, a claim is deleted when its node is gone, whatever goes wrong', {
  open: () => {
    const server = openBound()
    server.delete('/api/v1/nodes/a')
    server.delete(ledgerPath('a'))
    return server
  },
  parts: { deleteClaimsOfGoneNodes: true },
  isDone: (server) => server.find(`${claimsPath}/data`) === undefined && isEmpty(server),
})

test('two provisioners that both believe they lead never give out more than there is, and no claim two PVs', async () => {
  const count = 60
  const server = openCluster({ a: 4096n * mebibyte, b: 2048n * mebibyte, c: 1024n * mebibyte })
  for (let index = 0; index < count; index += 1) addClaim(server, `data-${index}`)
  const clients = [1, 2].map((seed) => {
    const random = randomFrom(seed)
    return server.client(async () => {
      for (let turns = random() * 20; turns > 0; turns -= 1) await nextTurn()
      return random() < 0.1 ? 'answer-lost' : random() < 0.1 ? { refused: 0 } : 'done'
    })
  })
  const running = clients.map((client) => start(client))
  // 7 GiB hold 14 claims of 512 MiB.
  const isFull = () => server.list(claimsPath).filter(({ spec }) => spec.volumeName).length === 14
  await server.until('all room is given out', () => isFull() && promises(server).length === 14)
  await server.idle()
  await Promise.all(running.map(({ stop }) => stop()))
  assert.ok(isFull())
  mustBeConsistent(server)
})

test('a provisioner with knowledge of long ago promises nothing twice', async () => {
  const server = openCluster({ a: 1024n * mebibyte })
  const client = server.client()
  const running = start(client)
  addClaim(server, 'first')
  await server.until('the first is placed', () => isBound(server, 'first'))
  const release = client.holdWatches()
  const other = start(server.client())
  addClaim(server, 'second')
  await server.until('the second is placed', () => isBound(server, 'second'))
  await other.stop()
  addClaim(server, 'third')
  release()
  await server.until('the third is refused', () => eventsOf(server, 'third').length > 0)
  await running.stop()
  mustBeConsistent(server)
})

test('a claim that changes before the watch has told of its PV is not placed again', async () => {
  const server = openCluster(undefined, false)
  const client = server.client()
  const { stop } = start(client)
  addClaim(server, 'first')
  await server.until('the first PV is made', () => server.list(volumesPath).length === 1)
  client.holdWatches(volumesPath)
  const object = addClaim(server, 'second')
  await server.until('the second PV is made', () => server.list(volumesPath).length === 2)
  const asked = client.requests.length
  server.change(`${claimsPath}/second`, { metadata: { annotations: { changed: 'yes' } } })
  addClaim(server, 'third')
  await server.until('the third PV is made', () => server.list(volumesPath).length === 3)
  const again = client.requests.slice(asked).filter(({ body }) => JSON.stringify(body)?.includes(object.metadata.uid))
  assert.equal(again, [])
  await stop()
})

test('a claim that can never be served gets one event and costs nothing more, however often it changes', async () => {
  const server = openCluster()
  addClaim(server, 'shared', { node: 'a', spec: { accessModes: ['ReadWriteMany'] } })
  const client = server.client()
  const running = start(client)
  await server.until('it is said', () => eventsOf(server, 'shared').length > 0)
  await server.idle()
  const sent = client.requests.length
  for (let round = 0; round < 20; round += 1) {
    server.change(`${claimsPath}/shared`, { metadata: { annotations: { round: String(round) } } })
    await server.idle()
  }
  await running.stop()
  assert.is(client.requests.length, sent)
  const [event, ...others] = eventsOf(server, 'shared')
  assert.equal(others, [])
  assert.is(event?.count, 1)
  assert.match(event?.message, /accessModes must be of ReadWriteOnce, ReadWriteOncePod/)
})

test('a claim that finds no room is said so once, asks again only when there is room, and then gets it', async () => {
  const server = openCluster({ a: 512n * mebibyte })
  addClaim(server, 'first')
  const client = server.client()
  const running = start(client)
  await server.until('the first is placed', () => isBound(server, 'first'))
  addClaim(server, 'second')
  await server.until('it is said', () => eventsOf(server, 'second').length > 0)
  await server.idle()
  const sent = client.requests.length
  for (let round = 0; round < 20; round += 1) {
    server.change(ledgerPath('a'), { metadata: { annotations: { round: String(round) } } })
    await server.idle()
  }
  assert.is(client.requests.length, sent)
  assert.is(eventsOf(server, 'second').length, 1)
  playDaemons(server)
  server.delete(`${claimsPath}/first`)
  await server.until('the second is placed', () => isBound(server, 'second'))
  await running.stop()
  mustBeConsistent(server)
})

test('a PV of that name which is for another claim is left alone, and the claim is told', async () => {
  const server = openCluster()
  const { metadata } = addClaim(server, 'data', { node: 'a' })
  const path = `${volumesPath}/pvc-${metadata.uid}`
  server.create(volumesPath, {
    metadata: { name: `pvc-${metadata.uid}` },
    spec: { hostPath: { path: '/precious' }, persistentVolumeReclaimPolicy: 'Retain' },
  })
  const running = start(server.client())
  await server.until('it is said', () => eventsOf(server, 'data').length > 0)
  await running.stop()
  assert.match(eventsOf(server, 'data')[0]?.message, /one of that name exists that is not for this claim/)
  assert.equal(server.find(path)?.spec.hostPath, { path: '/precious' })
})

test('a node that is away for less than the grace time loses nothing', async () => {
  const server = openBound()
  server.delete(`${claimsPath}/data`)
  const node = server.find('/api/v1/nodes/a')
  server.delete('/api/v1/nodes/a')
  const running = start(server.client(), { nodeGoneGraceMs: 600_000 })
  await server.until('its PV is on its way out', () => Boolean(server.list(volumesPath)[0]?.metadata.deletionTimestamp))
  await server.idle()
  assert.equal(server.list(volumesPath)[0]?.metadata.finalizers, [finalizer])
  server.create('/api/v1/nodes', { ...node, metadata: { name: 'a', labels: node?.metadata.labels } })
  await server.idle()
  await running.stop()
  assert.equal(server.list(volumesPath)[0]?.metadata.finalizers, [finalizer])
})

const hourMs = 3_600_000

test('a promise is taken back as soon as its claim is deleted', async () => {
  const server = openCluster()
  server.policy = ({ method, path }) => (method === 'POST' && path === volumesPath ? 500 : undefined)
  addClaim(server, 'data', { node: 'a' })
  const running = start(server.client(), { tidyMs: hourMs })
  await server.until('room is promised', () => promises(server).length === 1)
  await server.idle()
  server.delete(`${claimsPath}/data`)
  await server.until('the promise is taken back', () => isEmpty(server))
  await running.stop()
})

test('a promise is taken back as soon as another provisioner has made the PV on another node', async () => {
  const server = openCluster({ a: 1024n * mebibyte, b: 1024n * mebibyte })
  const { metadata } = addClaim(server, 'data', { node: 'a' })
  const name = `pvc-${metadata.uid}`
  const client = server.client(({ method, path, body }) => {
    if (method !== 'POST' || path !== volumesPath) return 'done'
    addPromise(server, 'b', name, 512n * mebibyte, 'default/data')
    server.create(volumesPath, { ...(body as object), metadata: { name, labels: { [nodeLabel]: 'b' } } })
    return 'done'
  })
  const running = start(client, { tidyMs: hourMs })
  await server.until('one promise is left', () => isBound(server, 'data') && promises(server).length === 1)
  await running.stop()
  mustBeConsistent(server)
})

test('a claim whose PV is deleted before it is bound gets another', async () => {
  const server = openCluster(undefined, false)
  addClaim(server, 'data', { node: 'a' })
  const running = start(server.client())
  await server.until('its PV is made', () => server.list(volumesPath).length === 1)
  const [first] = server.list(volumesPath)
  server.change(`${volumesPath}/${first?.metadata.name}`, { metadata: { finalizers: [] } })
  server.delete(`${volumesPath}/${first?.metadata.name}`)
  await server.until('it is made again', () =>
    server.list(volumesPath).some((one) => one.metadata.uid !== first?.metadata.uid),
  )
  await running.stop()
})

test('a claim in whose way a PV of another driver was is served when that is deleted, as its event advises', async () => {
  const server = openCluster()
  const { metadata } = addClaim(server, 'data', { node: 'a' })
  server.create(volumesPath, { metadata: { name: `pvc-${metadata.uid}` }, spec: { hostPath: { path: '/precious' } } })
  const running = start(server.client())
  await server.until('it is said', () => eventsOf(server, 'data').length > 0)
  await server.idle()
  server.delete(`${volumesPath}/pvc-${metadata.uid}`)
  await server.until('it is placed', () => isBound(server, 'data'))
  await running.stop()
})

test('a claim for which somebody kept a PV by its name is served when that is deleted', async () => {
  const server = openCluster()
  addVolume(server, 'other', 'a', 64n * mebibyte)
  const [kept] = server.list(volumesPath)
  const { claimRef, ...spec } = kept?.spec ?? {}
  server.create(volumesPath, {
    metadata: { name: 'kept' },
    spec: { ...spec, claimRef: { namespace: 'default', name: 'data' } },
  })
  addClaim(server, 'data', { node: 'a' })
  const running = start(server.client())
  await server.idle()
  assert.not.ok(isBound(server, 'data'))
  server.delete(`${volumesPath}/kept`)
  await server.until('it is placed', () => isBound(server, 'data'))
  await running.stop()
})

for (const [title, before, after] of [
  ['uncordoned', { spec: { unschedulable: true } }, { spec: { unschedulable: null } }],
  ['ready', { status: { conditions: [] } }, { status: { conditions: [{ type: 'Ready', status: 'True' }] } }],
  [
    'free of a taint',
    { spec: { taints: [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }] } },
    { spec: { taints: [] } },
  ],
  ['given a label that the class wants', {}, { metadata: { labels: { zone: 'here' } } }],
] as const)
  test(`a claim that no node may have is served when one is ${title}`, async () => {
    const server = openCluster()
    const allowedTopologies = [{ matchLabelExpressions: [{ key: 'zone', values: ['here'] }] }]
    addClass(server, 'somewhere', { volumeBindingMode: 'Immediate', allowedTopologies })
    if (title !== 'given a label that the class wants')
      server.change('/api/v1/nodes/a', { ...before, metadata: { labels: { zone: 'here' } } })
    const object = addClaim(server, 'data', { spec: { storageClassName: 'somewhere' } })
    const running = start(server.client())
    await server.until('it is said', () => eventsOf(server, 'data').length > 0)
    assert.equal(volumesOf(server, object), [])
    server.change('/api/v1/nodes/a', after)
    await server.until('it is placed', () => isBound(server, 'data'))
    await running.stop()
  })

test('a claim whose PV was refused once is retried automatically', async () => {
  const server = openCluster()
  let refused = 0
  server.policy = ({ method, path }) => (method === 'POST' && path === volumesPath && refused++ === 0 ? 422 : undefined)
  addClaim(server, 'data', { node: 'a' })
  const running = start(server.client(), { lookAgainMs: 50 })
  await server.until('it is placed', () => isBound(server, 'data'))
  assert.is(eventsOf(server, 'data').length, 1)
  await running.stop()
})

test('what a claim that waits lacks is said anew as long as it waits', async () => {
  const server = openCluster({ a: 64n * mebibyte })
  renewLease(server, 'a', 3600)
  addClaim(server, 'data')
  // By it, what is said once in a minute is said every 0.6 s.
  const clock = { ...machineClock, now: () => machineClock.now() * 100 }
  const running = start(server.client(), { lookAgainMs: 50, clock })
  await server.until('it is said again', () => eventsOf(server, 'data')[0]?.count > 2)
  assert.is(eventsOf(server, 'data').length, 1)
  await running.stop()
})

test('a node whose ledger is full is one without room, which the claim is told', async () => {
  const server = openCluster()
  const entry = {
    pool: 'default',
    kind: 'volume',
    promisedBytes: '1',
    refusedBytes: '1',
    refusal: 'x'.repeat(fullLength),
  }
  server.change(ledgerPath('a'), { data: { 'pvc-large': JSON.stringify(entry) } })
  const claimed = addClaim(server, 'data', { node: 'a' })
  const running = start(server.client())
  await server.until('it is told', () => eventsOf(server, 'data').length > 0)
  await running.stop()
  const [event] = eventsOf(server, 'data')
  assert.is(event?.reason, 'ProvisioningFailed')
  assert.match(event?.message, /on node a as its ledger is full/)
  assert.equal(volumesOf(server, claimed), [])
})

test('an Immediate claim is left to the controller manager until that wants a PV made', async () => {
  const server = openCluster()
  const { metadata } = server.create(claimsPath, claim('data', { class: 'immediate' }))
  const running = start(server.client())
  await server.idle()
  assert.equal([server.list(volumesPath), promises(server)], [[], []])
  server.change(`${claimsPath}/${metadata.name}`, { metadata: { annotations: { [wantedOf]: provisionerNames[0] } } })
  await server.until('it is placed', () => isBound(server, 'data'))
  await running.stop()
})

for (const [title, change, message] of [
  ['is not ready', { status: { conditions: [] } }, /it is not ready/],
  ['the class does not allow', { metadata: { labels: { zone: 'elsewhere' } } }, /not in the allowedTopologies/],
] as const)
  test(`a node that ${title} is not taken, whoever selected it`, async () => {
    const server = openCluster()
    const allowedTopologies = [{ matchLabelExpressions: [{ key: 'zone', values: ['here'] }] }]
    addClass(server, 'somewhere', { allowedTopologies })
    server.change('/api/v1/nodes/a', { metadata: { labels: { zone: 'here' } } })
    server.change('/api/v1/nodes/a', change)
    addClaim(server, 'data', { node: 'a', spec: { storageClassName: 'somewhere' } })
    const running = start(server.client())
    const selected = () => server.find(`${claimsPath}/data`)?.metadata.annotations?.[selectedNode]
    await server.until(
      'the scheduler is asked again',
      () => selected() === undefined && eventsOf(server, 'data').length > 0,
    )
    await running.stop()
    assert.match(eventsOf(server, 'data')[0]?.message, message)
    assert.equal(promises(server), [])
  })

const cordon = { unschedulable: true }
const taint = { taints: [{ key: 'for', value: 'databases', effect: 'NoSchedule' }] }
const leaving = { taints: [{ key: 'node.kubernetes.io/out-of-service', effect: 'NoExecute' }] }
for (const [title, spec, refused, tolerations] of [
  ['a cordon', cordon, /tolerates its taint node.kubernetes.io\/unschedulable:NoSchedule/, [{ operator: 'Exists' }]],
  [
    'a taint that no pod may come to',
    taint,
    /tolerates its taint for=databases:NoSchedule/,
    [{ key: 'for', value: 'databases', effect: 'NoSchedule' }],
  ],
  [
    'a taint that drives pods away',
    leaving,
    /tolerates its taint node.kubernetes.io\/out-of-service:NoExecute/,
    [{ key: 'node.kubernetes.io/out-of-service', operator: 'Exists', effect: 'NoExecute' }],
  ],
] as const)
  test(`a node that was selected goes past ${title} only for a pod that tolerates it`, async () => {
    const server = openCluster()
    server.change('/api/v1/nodes/a', { spec })
    const running = start(server.client())
    addPod(server, 'pod', ['data'])
    addClaim(server, 'data', { node: 'a' })
    const selected = () => server.find(`${claimsPath}/data`)?.metadata.annotations?.[selectedNode]
    await server.until('the scheduler is asked again', () => !selected() && eventsOf(server, 'data').length > 0)
    assert.match(eventsOf(server, 'data')[0]?.message, refused)
    assert.equal(promises(server), [])
    // As a DaemonSet's pods do.
    addPod(server, 'tolerant', ['data'], tolerations)
    await server.idle()
    select(server, 'data', 'a')
    await server.until('it is placed', () => isBound(server, 'data'))
    await running.stop()
  })

test('growth that its node refused is settled also where the PV has a name of its own', async () => {
  const server = openCluster()
  const [first] = [addVolume(server, 'data', 'a', 64n * mebibyte)]
  const object = server.find(`${volumesPath}/${first}`)
  server.delete(`${volumesPath}/${first}`)
  server.change(`${volumesPath}/${first}`, { metadata: { finalizers: [] } })
  server.create(volumesPath, { ...object, metadata: { name: 'adopted', labels: { [nodeLabel]: 'a' } } })
  const message =
    'Cannot grow adopted from 64 MiB (67108864 bytes) to 1000 MiB (1048576000 bytes) as pool vg of node a has 0 B free.'
  server.change(`${claimsPath}/data`, {
    spec: { volumeName: 'adopted', resources: { requests: { storage: '65Mi' } } },
    status: {
      allocatedResources: { storage: '1000Mi' },
      allocatedResourceStatuses: { storage: 'NodeResizePending' },
      conditions: [{ type: 'NodeResizeError', status: 'True', message }],
    },
  })
  const running = start(server.client())
  const allocated = () => server.find(`${claimsPath}/data`)?.status.allocatedResources.storage
  await server.until('it is settled', () => allocated() === '65Mi')
  await running.stop()
})

for (const [title, change] of [
  ['label', { metadata: { labels: { [nodeLabel]: null } } }],
  ['finalizer', { metadata: { finalizers: ['kubernetes.io/pv-protection'] } }],
  ['annotation', { metadata: { annotations: { 'pv.kubernetes.io/provisioned-by': null } } }],
] as const)
  test(`a PV from which somebody took our ${title} is seen off all the same`, async () => {
    const server = openBound()
    const name = server.list(volumesPath)[0]?.metadata.name
    await server.idle()
    server.change(`${volumesPath}/${name}`, change)
    const running = start(server.client())
    await server.until('it is whole', () => {
      const { labels, finalizers = [] } = server.find(`${volumesPath}/${name}`)?.metadata ?? {}
      return labels?.[nodeLabel] === 'a' && finalizers.includes(finalizer)
    })
    playDaemons(server)
    server.delete(`${claimsPath}/data`)
    await server.until('it is gone', () => isEmpty(server))
    await running.stop()
  })

/** A pod that waits for claims, of which the scheduler has selected a node for those that are named first. */
function addPod(
  server: MemoryApi,
  name: string,
  claims: readonly string[],
  tolerations: readonly V1Toleration[] = [],
): void {
  const volumes = claims.map((claimName) => ({ name: claimName, persistentVolumeClaim: { claimName } }))
  server.create('/api/v1/namespaces/default/pods', { metadata: { name }, spec: { volumes, tolerations } })
}
const select = (server: MemoryApi, name: string, node: string) =>
  server.change(`${claimsPath}/${name}`, { metadata: { annotations: { [selectedNode]: node } } })
const addUnselected = (server: MemoryApi, name: string, size = '512Mi') =>
  server.create(claimsPath, claim(name, { size }))

test('the claims of one pod are promised room together, before the scheduler has written its selection into all', async () => {
  const server = openCluster({ a: 1024n * mebibyte })
  addPod(server, 'pod', ['one', 'two'])
  addUnselected(server, 'one')
  addUnselected(server, 'two')
  const client = server.client()
  const running = start(client)
  select(server, 'one', 'a')
  await server.until('both are promised', () => promises(server).length === 2)
  assert.is(client.requests.filter(({ method, path }) => method === 'PATCH' && path === ledgerPath('a')).length, 1)
  addClaim(server, 'late')
  await server.until('there is no room for another', () => eventsOf(server, 'late').length > 0)
  select(server, 'two', 'a')
  await server.until('both are bound', () => isBound(server, 'one') && isBound(server, 'two'))
  await running.stop()
  mustBeConsistent(server)
})

test('the claims of one pod get room together or none, so that they can go elsewhere', async () => {
  const server = openCluster({ a: 768n * mebibyte, b: 1024n * mebibyte })
  addPod(server, 'pod', ['one', 'two'])
  addUnselected(server, 'one')
  addUnselected(server, 'two')
  const running = start(server.client())
  for (const name of ['one', 'two']) select(server, name, 'a')
  const isAsked = (name: string) => !server.find(`${claimsPath}/${name}`)?.metadata.annotations?.[selectedNode]
  await server.until('the scheduler is asked again for both', () => isAsked('one') && isAsked('two'))
  assert.equal([promises(server), server.list(volumesPath)], [[], []])
  assert.match(eventsOf(server, 'one')[0]?.message, /The claims (one, two|two, one) are needed together/)
  for (const name of ['one', 'two']) select(server, name, 'b')
  await server.until('both are bound', () => isBound(server, 'one') && isBound(server, 'two'))
  await running.stop()
  assert.equal([...new Set(promises(server).map(({ node }) => node))], ['b'])
  mustBeConsistent(server)
})

test('what was promised together for a pod that went is taken back where no node was selected', async () => {
  const server = openCluster()
  addPod(server, 'pod', ['one', 'two'])
  addUnselected(server, 'one')
  addUnselected(server, 'two')
  const running = start(server.client())
  select(server, 'one', 'a')
  await server.until(
    'one is bound, and both are promised',
    () => isBound(server, 'one') && promises(server).length === 2,
  )
  server.delete('/api/v1/namespaces/default/pods/pod')
  await server.until('the other is taken back', () => promises(server).length === 1)
  await running.stop()
})

test('where pods may not be listed each claim is seen alone, and a selection goes past taints', async () => {
  const server = openCluster({ a: 768n * mebibyte })
  server.change('/api/v1/nodes/a', { spec: taint })
  server.policy = ({ path }) => (path === '/api/v1/pods' ? 403 : undefined)
  addPod(server, 'pod', ['one', 'two'])
  addUnselected(server, 'one')
  addUnselected(server, 'two')
  const running = start(server.client())
  select(server, 'one', 'a')
  await server.until('it is bound', () => isBound(server, 'one'))
  await running.stop()
})

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

survives('the making of a PV of CSI survives the same', {
  open: () => {
    const server = openCluster()
    addClass(server, 'csi', { parameters: { front: 'csi' }, mountOptions: ['noatime'] })
    const object = claim('data', { class: 'csi' })
    server.create(claimsPath, { ...object, metadata: { ...object.metadata, annotations: { [selectedNode]: 'a' } } })
    return server
  },
  isDone: (server) => isPlaced(server) && server.list(volumesPath)[0]?.spec.csi.volumeHandle.startsWith('pvc-'),
})

test('a class that names no front has the default, and a volume of CSI goes to no node whose daemon serves none', async () => {
  const server = openCluster({ a: 10_240n * mebibyte, b: 1024n * mebibyte })
  const [pool] = [JSON.parse(server.find(ledgerPath('a'))?.data['_pool.default'])]
  server.change(ledgerPath('a'), { data: { '_pool.default': JSON.stringify({ ...pool, fronts: ['flex'] }) } })
  addClaim(server, 'data')
  const selected = addClaim(server, 'selected', { node: 'a' })
  const running = start(server.client(), { defaultFront: 'csi' })
  await server.until('one is bound, the other refused', () =>
    Boolean(isBound(server, 'data') && eventsOf(server, 'selected').length > 0),
  )
  await running.stop()
  const [volume] = server.list(volumesPath)
  assert.equal([volume?.metadata.labels?.[nodeLabel], volume?.spec.csi.driver], ['b', provisionerNames[0]])
  assert.match(
    eventsOf(server, 'selected')[0]?.message,
    'wants a pool served by CSI, and its pool is vg (LVM, not served by csi).',
  )
  assert.equal(volumesOf(server, selected), [])
})

test('a claim of volumeMode Block gets a PV of that mode, on no node whose volumes are directories', async () => {
  const server = openCluster({ a: 10_240n * mebibyte, b: 1024n * mebibyte })
  addClass(server, 'csi', { volumeBindingMode: 'Immediate', parameters: { front: 'csi' }, mountOptions: ['noatime'] })
  const pool = JSON.parse(server.find(ledgerPath('a'))?.data['_pool.default'])
  server.change(ledgerPath('a'), { data: { '_pool.default': JSON.stringify({ ...pool, driverKind: 'BINDMOUNT' }) } })
  const block = { spec: { volumeMode: 'Block' } }
  const object = claim('block', { class: 'csi', ...block })
  server.create(claimsPath, {
    ...object,
    metadata: { ...object.metadata, annotations: { [wantedOf]: provisionerNames[0] ?? '' } },
  })
  addClaim(server, 'flex', block)
  const waiting = claim('waiting', { class: 'waits', ...block })
  addClass(server, 'waits', { parameters: { front: 'csi' } })
  server.create(claimsPath, { ...waiting, metadata: { ...waiting.metadata, annotations: { [selectedNode]: 'a' } } })
  const running = start(server.client())
  await server.until('one is bound, the others refused', () =>
    Boolean(isBound(server, 'block') && eventsOf(server, 'flex').length > 0 && eventsOf(server, 'waiting').length > 0),
  )
  await running.stop()
  assert.equal(
    server
      .list(volumesPath)
      .map(({ metadata, spec: { volumeMode, csi, mountOptions } }) => [
        metadata.labels?.[nodeLabel],
        volumeMode,
        csi.fsType,
        mountOptions,
      ]),
    [['b', 'Block', undefined, undefined]],
  )
  assert.match(eventsOf(server, 'flex')[0]?.message, 'use a StorageClass with front csi')
  assert.match(
    eventsOf(server, 'waiting')[0]?.message,
    'wants a pool served by CSI, for block devices, and its pool is vg (BINDMOUNT)',
  )
})

/** A claim of CSI whose volume of 64 MiB is made, on a node with 256 MiB, and which is to have that much. */
function openGrowing(wanted: string): MemoryApi {
  const server = openCluster({ a: 256n * mebibyte })
  const volume = addVolume(server, 'data', 'a', 64n * mebibyte, 'csi')
  addPromise(server, 'a', volume, 64n * mebibyte)
  server.change(`${claimsPath}/data`, {
    spec: { volumeName: volume, resources: { requests: { storage: wanted } } },
    status: { capacity: { storage: '64Mi' }, conditions: [{ type: 'Another', status: 'True' }] },
  })
  return server
}
const statusOf = (server: MemoryApi) => server.find(`${claimsPath}/data`)?.status
const capacityOf = (server: MemoryApi) => server.list(volumesPath)[0]?.spec.capacity.storage
const phaseOf = (server: MemoryApi) => statusOf(server)?.allocatedResourceStatuses?.storage
const conditionsOf = (server: MemoryApi): string[] =>
  (statusOf(server)?.conditions ?? []).map(({ type }: { type: string }) => type)

survives('growth of a volume of CSI is granted, and told of once it is made', {
  open: () => {
    const server = openGrowing('192Mi')
    playGrowth(server)
    return server
  },
  isDone: (server) =>
    capacityOf(server) === '192Mi' &&
    statusOf(server).capacity.storage === '192Mi' &&
    phaseOf(server) === undefined &&
    conditionsOf(server).join() === 'Another',
})

survives('growth of a volume of CSI that there is no room for is refused, and changes nothing else', {
  open: () => openGrowing('512Mi'),
  isDone: (server) =>
    phaseOf(server) === 'ControllerResizeInfeasible' &&
    capacityOf(server) === '64Mi' &&
    statusOf(server).capacity.storage === '64Mi' &&
    conditionsOf(server).join() === 'Another,ControllerResizeError',
})

test('growth of a volume of CSI: nothing is larger before it is made, and the kubelet is told to wait', async () => {
  const server = openGrowing('192Mi')
  const running = start(server.client())
  await server.until('it is granted', () => phaseOf(server) === 'ControllerResizeInProgress')
  assert.equal(conditionsOf(server), ['Another', 'Resizing'])
  assert.is(promises(server)[0]?.promisedBytes, 192n * mebibyte)
  assert.equal([capacityOf(server), statusOf(server).capacity.storage], ['64Mi', '64Mi'])
  await running.stop()
})

test('growth of a volume of CSI that its node could not make by now says why in its claim, for as long as that holds', async () => {
  const server = openGrowing('192Mi')
  const running = start(server.client())
  await server.until('it is granted', () => phaseOf(server) === 'ControllerResizeInProgress')
  const [entry] = promises(server)
  assert.ok(entry)
  const { node, volume, ...more } = entry
  const wordsOf = () => statusOf(server).conditions.find(({ type }: { type: string }) => type === 'Resizing')?.message
  for (const words of ['its disk is away', 'its pods have it', undefined]) {
    server.change(ledgerPath(node), { data: { [volume]: toJson({ ...more, ...(words ? { delay: words } : {}) }) } })
    await server.until('it is said', () => wordsOf() === words)
    await server.idle()
  }
  assert.equal([phaseOf(server), conditionsOf(server)], ['ControllerResizeInProgress', ['Another', 'Resizing']])
  await running.stop()
})

for (const [title, help] of [
  ['room appears', (server: MemoryApi) => addLedgerRoom(server)],
  ['the request is lowered', (server: MemoryApi) => request(server, '128Mi')],
] as const)
  test(`growth of a volume of CSI that was refused is tried again when ${title}`, async () => {
    const server = openGrowing('512Mi')
    playGrowth(server)
    const running = start(server.client())
    await server.until('it is refused', () => phaseOf(server) === 'ControllerResizeInfeasible')
    assert.ok(eventsOf(server, 'data').some(({ reason }) => reason === 'VolumeNotGrown'))
    help(server)
    const wanted = () => server.find(`${claimsPath}/data`)?.spec.resources.requests.storage
    await server.until('it has grown', () => statusOf(server).capacity.storage === wanted() && !phaseOf(server))
    assert.equal([capacityOf(server), conditionsOf(server)], [wanted(), ['Another']])
    await running.stop()
  })

test('growth of a volume of CSI that the machine could not give is refused, taken back, and tried again when it is less, or may be had', async () => {
  const server = openGrowing('192Mi')
  const running = start(server.client())
  await server.until('it is granted', () => phaseOf(server) === 'ControllerResizeInProgress')
  const [entry] = promises(server)
  assert.ok(entry)
  const write = ({ node, volume, ...more }: typeof entry) =>
    server.change(ledgerPath(node), { data: { [volume]: toJson(more) } })
  write({ ...entry, refusedBytes: entry.promisedBytes, refusal: 'the disk is full of other things' })
  await server.until('it is refused', () => phaseOf(server) === 'ControllerResizeInfeasible')
  const { message } = statusOf(server).conditions.find(({ type }: { type: string }) => type === 'ControllerResizeError')
  assert.match(message, /full of other things/)
  await server.until('it is taken back', () => promises(server)[0]?.promisedBytes === 64n * mebibyte)
  await server.idle()
  assert.is(phaseOf(server), 'ControllerResizeInfeasible')
  // As the daemon does now and then.
  write({ ...entry, promisedBytes: 64n * mebibyte })
  await server.until('it is granted again', () => promises(server)[0]?.promisedBytes === 192n * mebibyte)
  write({ ...entry, refusedBytes: entry.promisedBytes, refusal: 'the disk is full of other things' })
  await server.until('it is refused again', () => phaseOf(server) === 'ControllerResizeInfeasible')
  request(server, '128Mi')
  await server.until('less is granted', () => promises(server)[0]?.promisedBytes === 128n * mebibyte)
  // Refused while its owner asks for less already.
  await running.stop()
  request(server, '96Mi')
  write({ ...entry, promisedBytes: 128n * mebibyte, refusedBytes: 128n * mebibyte, refusal: 'full' })
  const again = start(server.client())
  await server.until('that is granted', () => promises(server)[0]?.promisedBytes === 96n * mebibyte)
  assert.is(promises(server)[0]?.refusal, undefined)
  await again.stop()
})

test('growth of a volume of CSI that was refused is forgotten when it is taken back', async () => {
  const server = openGrowing('512Mi')
  const running = start(server.client())
  await server.until('it is refused', () => phaseOf(server) === 'ControllerResizeInfeasible')
  request(server, '64Mi')
  await server.until('nothing tells of it', () => !phaseOf(server) && conditionsOf(server).join() === 'Another')
  assert.equal([capacityOf(server), statusOf(server).allocatedResources.storage], ['64Mi', '64Mi'])
  await running.stop()
})

test('a bound claim that names a VolumeAttributesClass is told once that there is nothing to set, until it names none', async () => {
  const server = openGrowing('64Mi')
  const name = (volumeAttributesClassName: string | null) =>
    server.change(`${claimsPath}/data`, { spec: { volumeAttributesClassName } })
  name('fast')
  const running = start(server.client())
  await server.until('it is told', () => eventsOf(server, 'data').length > 0)
  assert.match(eventsOf(server, 'data')[0]?.message, /Cannot change the volume to VolumeAttributesClass fast/)
  assert.equal(statusOf(server).modifyVolumeStatus, { targetVolumeAttributesClassName: 'fast', status: 'Infeasible' })
  await server.idle()
  assert.is(eventsOf(server, 'data')[0]?.count, 1)
  name(null)
  await server.until('nothing tells of it', () => statusOf(server).modifyVolumeStatus === undefined)
  await running.stop()
})

test('growth of a volume of CSI is not refused while its node has no ledger, and is granted again in a new one', async () => {
  const server = openGrowing('192Mi')
  const running = start(server.client())
  await server.until('it is granted', () => phaseOf(server) === 'ControllerResizeInProgress')
  server.delete(ledgerPath('a'))
  await server.until('its owner is told', () => eventsOf(server, 'data').length > 0)
  await server.idle()
  assert.is(phaseOf(server), 'ControllerResizeInProgress')
  assert.not.match(eventsOf(server, 'data')[0]?.message, /Lower the request/)
  const [volume = ''] = server.list(volumesPath).map(({ metadata }) => metadata.name)
  addLedger(server, 'a', 256n * mebibyte)
  addPromise(server, 'a', volume, 64n * mebibyte)
  await server.until('it is granted again', () => promises(server)[0]?.promisedBytes === 192n * mebibyte)
  await running.stop()
})

test('growth of a volume of CSI leaves a claim on its way out as it is', async () => {
  const server = openGrowing('192Mi')
  const running = start(server.client())
  await server.until('it is granted', () => phaseOf(server) === 'ControllerResizeInProgress')
  const [deletionTimestamp, finalizers] = [new Date().toISOString(), ['kubernetes.io/pvc-protection']]
  server.change(`${claimsPath}/data`, { metadata: { deletionTimestamp, finalizers } })
  await server.idle()
  await running.stop()
  assert.equal([statusOf(server).capacity.storage, phaseOf(server)], ['64Mi', 'ControllerResizeInProgress'])
})

test('growth of a volume of CSI is not asked for again while its last unit does not fit', async () => {
  const server = openGrowing('191Mi')
  addLedgerRoom(server, 128n)
  const client = server.client()
  const running = start(client)
  await server.until('it is refused', () => phaseOf(server) === 'ControllerResizeInfeasible')
  await server.idle()
  const sent = client.requests.length
  addLedgerRoom(server, 191n)
  await server.idle()
  await running.stop()
  assert.is(client.requests.length, sent)
})

const request = (server: MemoryApi, storage: string) =>
  server.change(`${claimsPath}/data`, { spec: { resources: { requests: { storage } } } })

function addLedgerRoom(server: MemoryApi, mebibytes = 1024n): void {
  const pool = JSON.parse(server.find(ledgerPath('a'))?.data['_pool.default'])
  const larger = { ...pool, capacityBytes: String(mebibytes * mebibyte) }
  server.change(ledgerPath('a'), { data: { '_pool.default': JSON.stringify(larger) } })
}

test.run()
