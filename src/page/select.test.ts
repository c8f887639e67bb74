import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import type { NodeRecord, Overview, PoolRecord, Problem, VolumeRecord } from '../overview/records.ts'
import { addRooms, listNodes, select, type Wish } from './select.ts'

const test = suite('select')
const gibibyte = 1n << 30n
const everything: Wish = { text: '', troubled: false, nodesPage: 1, volumesPage: 1 }

const node = (name: string, more: Partial<NodeRecord> = {}): NodeRecord => ({
  ...{ name, state: 'ready', schedulable: true, daemon: 'ready', volumes: 0, problems: [] },
  ...more,
})
const volume = (name: string, more: Partial<VolumeRecord> = {}): VolumeRecord => ({
  ...{ name: `pvc-${name}`, state: 'ready', claim: { namespace: 'shop', name }, pods: [], problems: [] },
  ...more,
})
const cluster = (more: Partial<Overview>): Overview => ({
  ...{ at: new Date(0), provisioner: { pods: 1, readyPods: 1, problems: [] } },
  ...{ nodes: [], pools: [], volumes: [], notRead: [] },
  ...more,
})
const warn = (message: string): Problem => ({ status: 'warn', message })
const fail = (message: string): Problem => ({ status: 'fail', message })

test('the most troubled come first: what fails, what warns, what is under way, and then in their order', () => {
  const overview = cluster({
    nodes: [node('a'), node('b', { problems: [warn('w')] }), node('c', { state: 'away', problems: [fail('f')] })],
    volumes: [
      volume('one'),
      volume('two', { state: 'pending' }),
      volume('three', { problems: [warn('w')] }),
      volume('four', { problems: [warn('w'), fail('f')] }),
    ],
  })
  const { nodes, volumes } = select(overview, everything)
  assert.equal(
    nodes.rows.map((row) => row.node.name),
    ['c', 'b', 'a'],
  )
  assert.equal(
    volumes.rows.map(({ claim }) => claim?.name),
    ['four', 'three', 'two', 'one'],
  )
})

test('what is wrong with many in the same way is there once, and is as bad as the worst of them', () => {
  const overview = cluster({
    provisioner: { pods: 0, readyPods: 0, problems: [warn('idle')] },
    nodes: [node('a', { problems: [warn('away')] })],
    volumes: [volume('one', { problems: [fail('away')] }), volume('two', { problems: [warn('full')] })],
  })
  assert.equal(select(overview, everything).troubles, [
    {
      status: 'fail',
      message: 'away',
      subjects: [{ text: 'node a' }, { text: 'shop/one', path: '/volumes/pvc-one' }],
    },
    { status: 'warn', message: 'idle', subjects: [{ text: 'provisioner' }] },
    { status: 'warn', message: 'full', subjects: [{ text: 'shop/two', path: '/volumes/pvc-two' }] },
  ])
})

test('what has the same message and another cause is there twice', () => {
  const stuck = (detail: string) => ({ ...fail('no node can take it'), details: [detail] })
  const overview = cluster({
    volumes: [
      volume('one', { problems: [stuck('node-1: has 1 GiB left')] }),
      volume('two', { problems: [stuck('node-1: has pool vg (LVM)')] }),
      volume('three', { problems: [stuck('node-1: has 1 GiB left')] }),
    ],
  })
  assert.equal(
    select(overview, everything).troubles.map(({ details, subjects }) => [details?.[0], subjects.length]),
    [
      ['node-1: has 1 GiB left', 2],
      ['node-1: has pool vg (LVM)', 1],
    ],
  )
})

test('all words of a text must be in what is shown, in whatever case and order', () => {
  const overview = cluster({
    nodes: [node('db-1'), node('db-2')],
    volumes: [
      volume('one', { node: 'db-1', pods: [{ name: 'Web-0', phase: 'Running' }] }),
      volume('two', { node: 'db-2', problems: [fail('the disk is gone')] }),
    ],
  })
  const found = (text: string, troubled = false) => {
    const { nodes, volumes } = select(overview, { ...everything, text, troubled })
    return [...nodes.rows.map((row) => row.node.name), ...volumes.rows.map(({ claim }) => claim?.name)]
  }
  assert.equal(found('DB-1'), ['db-1', 'one'])
  assert.equal(found(' shop  web'), ['one'])
  assert.equal(found('gone disk'), ['two'])
  assert.equal(found('db', true), ['two'])
  assert.equal(found('nobody'), [])
})

test('many nodes and volumes go over several pages, and a page that is not there is the last one', () => {
  const overview = cluster({ volumes: Array.from({ length: 201 }, (_, index) => volume(String(index))) })
  const page = (volumesPage: number) => {
    const { rows, count, page, pages } = select(overview, { ...everything, volumesPage }).volumes
    return [rows.length, rows[0]?.claim?.name, count, page, pages]
  }
  assert.equal(page(1), [100, '0', 201, 1, 3])
  assert.equal(page(3), [1, '200', 201, 3, 3])
  assert.equal(page(99), page(3))
})

test('room is allocated to volumes that are made, or to be made, or free', () => {
  const pool: Omit<PoolRecord, 'node' | `${'size' | 'allocated' | 'free'}Bytes`> = {
    name: 'vg',
    driverKind: 'LVM',
    volumes: 2,
    unitBytes: 1n,
    fronts: ['flex'],
    problems: [],
  }
  const overview = cluster({
    nodes: [node('a'), node('b'), node('c')],
    pools: [
      { ...pool, node: 'a', sizeBytes: 10n * gibibyte, allocatedBytes: 6n * gibibyte, freeBytes: 4n * gibibyte },
      { ...pool, node: 'b', sizeBytes: 2n * gibibyte, allocatedBytes: 0n, freeBytes: 2n * gibibyte },
    ],
    volumes: [volume('one', { node: 'a', sizeBytes: 4n * gibibyte }), volume('two', { node: 'a', state: 'making' })],
  })
  const rows = listNodes(overview)
  const room = { madeBytes: 4n * gibibyte, pendingBytes: 2n * gibibyte, freeBytes: 4n * gibibyte }
  assert.equal(
    rows.map(({ room }) => room?.madeBytes),
    [4n * gibibyte, 0n, undefined],
  )
  assert.equal(rows[0]?.room, { sizeBytes: 10n * gibibyte, ...room })
  assert.equal(addRooms(rows), { ...room, sizeBytes: 12n * gibibyte, freeBytes: 6n * gibibyte })
})

test.run()
