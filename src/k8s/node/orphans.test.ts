import * as assert from 'uvu/assert'
import { MemoryApi } from '../../../test/memory-api.ts'
import { addVolume, silent } from '../../../test/memory-cluster.ts'
import { suite } from '../../../test/suite.ts'
import { Engine } from '../../volume/engine.ts'
import { MemoryMachine } from '../../volume/memory.ts'
import { ApiError } from '../client/api.ts'
import { Recorder } from '../client/events.ts'
import { buildLedger, type Entry, made, parseLedger } from '../model/ledger.ts'
import { Orphans } from './orphans.ts'

const test = suite('orphans')
const sizeBytes = 64n << 20n
const hourMs = 3_600_000
const spec = { sizeBytes, fsType: 'ext4', mkfsOptions: [] } as const

/** A node with volumes, what its ledger says of them, and a time that a test sets. */
async function openNode(entries: Record<string, Partial<Entry>>, removeAfterMs?: number) {
  const server = new MemoryApi()
  const machine = new MemoryMachine({ capacityBytes: 1n << 30n })
  const { pool, mounts, filesystems, journal } = machine
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log: silent })
  for (const name of Object.keys(entries)) await engine.create(name, spec)
  const clock = { ms: 0, now: () => clock.ms }
  const hour = { ms: Date.parse('2026-03-05T10:00:00Z') }
  const now = () => new Date(hour.ms)
  const known = new Set<string>()
  const client = server.client()
  const ledger = new Map(
    Object.entries(entries).map(([name, { madeFor }]) => [name, made(undefined, sizeBytes, madeFor)]),
  )
  const facts = {
    name: 'memory',
    driverKind: 'LVM',
    capacityBytes: 1n << 30n,
    unitBytes: 1n,
    fronts: ['flex'],
  } as const
  const empty = parseLedger(buildLedger('elastic-local', 'a', facts, new Map()))
  const parts = {
    api: client,
    node: 'a',
    engine,
    keeper: { latest: { ...empty, entries: ledger } },
    recorder: new Recorder({ api: client, component: 'test', clock, now, log: silent }),
    removeAfterMs,
    isKnown: (name: string) => known.has(name),
    remove: (name: string) => engine.remove(name),
    clock,
    now,
    log: silent,
  }
  const said = () =>
    server.list('/api/v1/namespaces/default/events').map(({ reason, message }) => `${reason} ${message}`)
  return { server, machine, engine, client, ledger, known, clock, hour, orphans: new Orphans(parts), said }
}

test('an orphan is told of and kept, where the operator did not say that it may be removed', async () => {
  const node = await openNode({ 'pvc-1': { madeFor: 'uid' } })
  await node.orphans.look()
  node.clock.ms += 1000 * hourMs
  await node.orphans.look()
  assert.ok(node.machine.volumes.has('pvc-1'))
  assert.is(node.said().length, 1)
  assert.match(node.said()[0] ?? '', /^VolumeOrphaned Volume pvc-1 at \S+ has no PersistentVolume. It is kept/)
})

test('where the operator said so it is told of first, and removed after the grace time', async () => {
  const node = await openNode({ 'pvc-1': { madeFor: 'uid' } }, hourMs)
  await node.orphans.look()
  node.clock.ms += hourMs - 1
  await node.orphans.look()
  assert.ok(node.machine.volumes.has('pvc-1'))
  node.clock.ms += 1
  await node.orphans.look()
  assert.not.ok(node.machine.volumes.has('pvc-1'))
  assert.match(node.said().sort().join('\n'), /It is removed after 2026-03-05T11:00:00.000Z.*\n.*was removed/)
})

test('an hour that is set, forwards or back, does not shorten the grace time, and does not lengthen it', async () => {
  const node = await openNode({ 'pvc-1': { madeFor: 'uid' } }, hourMs)
  await node.orphans.look()
  for (const jumpMs of [5 * hourMs, -10 * hourMs]) {
    node.hour.ms += jumpMs
    await node.orphans.look()
    assert.ok(node.machine.volumes.has('pvc-1'))
  }
  node.clock.ms += hourMs
  await node.orphans.look()
  assert.not.ok(node.machine.volumes.has('pvc-1'))
})

test('the grace time begins anew when the PV was seen in between', async () => {
  const node = await openNode({ 'pvc-1': { madeFor: 'uid' } }, hourMs)
  await node.orphans.look()
  node.known.add('pvc-1')
  await node.orphans.look()
  node.known.clear()
  node.clock.ms += hourMs
  await node.orphans.look()
  assert.ok(node.machine.volumes.has('pvc-1'))
})

test('a volume is no orphan whose PV the API server has, whatever a watch has seen and the label says', async () => {
  const node = await openNode({}, 0)
  const name = addVolume(node.server, 'data', 'elsewhere', sizeBytes)
  await node.engine.create(name, spec)
  node.ledger.set(name, made(undefined, sizeBytes, 'uid'))
  await node.orphans.look()
  assert.ok(node.machine.volumes.has(name))
  assert.equal(node.said(), [])
})

test('volumes of another cluster, retained ones and unfinished ones are none', async () => {
  const node = await openNode({ 'pvc-1': {}, 'pvc-2': { pendingFor: 'default/data' } }, 0)
  await node.orphans.look()
  assert.equal([...node.machine.volumes.keys()], ['pvc-1', 'pvc-2'])
  assert.equal(node.said(), [])
})

test('nothing is decided while the API server is away', async () => {
  const node = await openNode({ 'pvc-1': { madeFor: 'uid' } }, 0)
  node.client.kill()
  const error = await node.orphans.look().catch((error) => error)
  assert.instance(error, ApiError)
  assert.ok(node.machine.volumes.has('pvc-1'))
})

test('one that is mounted, or cannot be removed, stays and says so', async () => {
  const node = await openNode({ 'pvc-1': { madeFor: 'uid' }, 'pvc-2': { madeFor: 'uid' } }, 0)
  await node.engine.mount({ name: 'pvc-1', target: '/pods/a', readOnly: false, mountOptions: [] })
  node.machine.onStep = (step) => {
    if (step === 'remove') throw new Error('the disk is broken')
  }
  await node.orphans.look()
  assert.equal([...node.machine.volumes.keys()], ['pvc-1', 'pvc-2'])
  assert.match(
    node.said().join('\n'),
    /not removed as it is mounted on \/pods\/a.\nVolumeNotRemoved the disk is broken/,
  )
})

test.run()
