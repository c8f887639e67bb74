import * as assert from 'uvu/assert'
import { MemoryApi } from '../../../test/memory-api.ts'
import { suite } from '../../../test/suite.ts'
import { GoneNodes } from './gone-nodes.ts'

const test = suite('gone nodes')

test('how long a node is away is measured by a clock that nobody sets, from when it was first missed', async () => {
  let now = 5000
  let isKnown = false
  const nodes = new GoneNodes({
    api: new MemoryApi().client(),
    namespace: 'elastic-local',
    nodeGoneGraceMs: 1000,
    isKnown: () => isKnown,
    clock: { now: () => now },
    log: { info: () => {}, warn: () => {} },
  })
  assert.is(nodes.leftMs('a'), 1000)
  now += 400
  assert.is(nodes.leftMs('a'), 600)
  isKnown = true
  nodes.see('a')
  isKnown = false
  assert.is(nodes.leftMs('a'), 1000)
  now += 2000
  assert.is(nodes.leftMs('a'), 0)
  await nodes.stop()
})

test.run()
