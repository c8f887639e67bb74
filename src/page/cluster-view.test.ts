import * as assert from 'uvu/assert'
import { World } from '../../test/overview-world.ts'
import { suite } from '../../test/suite.ts'
import { thrownBy } from '../../test/thrown.ts'
import { ClusterView } from './cluster-view.ts'

const test = suite('cluster view')

/** A view of a cluster whose readings are counted, and fail as told. */
function open(keptMs = 3_600_000) {
  const world = new World()
  const state = { readings: 0, failure: undefined as string | undefined, ms: 0, takesMs: 0 }
  const read = async () => {
    state.readings += 1
    state.ms += state.takesMs
    if (state.failure !== undefined) throw new Error(state.failure)
    return await world.read()
  }
  return { state, view: new ClusterView({ read, now: () => state.ms, freshMs: 5000, keptMs }) }
}

test('however many look, the cluster is read once, and not again for some seconds', async () => {
  const { state, view } = open()
  assert.is(state.readings, 0)
  const seen = await Promise.all(Array.from({ length: 100 }, () => view.take()))
  state.ms = 4999
  await view.take()
  assert.is(state.readings, 1)
  state.ms = 5000
  await view.take()
  assert.is(state.readings, 2)
  assert.is(seen[99]?.overview.nodes.length, 2)
})

test('while it cannot be read, what was read before is shown, with the reason', async () => {
  const { state, view } = open()
  state.failure = 'the API server is away'
  assert.match((await thrownBy(Error, () => view.take())).message, 'the API server is away')
  state.failure = undefined
  state.ms += 5000
  assert.is((await view.take()).failure, undefined)
  state.ms += 5000
  state.failure = 'the API server is away again'
  const { overview, failure } = await view.take()
  assert.equal([overview.nodes.length, failure], [2, 'the API server is away again'])
})

test('a cluster that cannot be read is not asked more often than one that can', async () => {
  const { state, view } = open()
  state.failure = 'refused'
  await thrownBy(Error, () => view.take())
  await thrownBy(Error, () => view.take())
  assert.is(state.readings, 1)
})

test('a reading that takes long is made the more seldom', async () => {
  const { state, view } = open()
  state.takesMs = 2000
  await view.take()
  state.ms = 2000 + 9999
  await view.take()
  assert.is(state.readings, 1)
  state.ms += 1
  await view.take()
  assert.is(state.readings, 2)
})

test('what nobody looks at is forgotten', async () => {
  const { state, view } = open(0)
  await view.take()
  // Timers of Node go in the order of their times.
  await new Promise((resolve) => setTimeout(resolve, 2))
  await view.take()
  assert.is(state.readings, 2)
})

test.run()
