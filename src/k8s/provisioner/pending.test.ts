import * as assert from 'uvu/assert'
import { claim } from '../../../test/cluster/claim-objects.ts'
import { MemoryApi } from '../../../test/memory-api.ts'
import {
  addClass,
  addLedger,
  addNode,
  addPromise,
  addVolume,
  claimsPath,
  namespace,
  selectedNode,
  silent,
} from '../../../test/memory-cluster.ts'
import { suite } from '../../../test/suite.ts'
import { Copies } from './copies.ts'
import { countPending, countStranded } from './pending.ts'

const test = suite('pending claims')

test('countPending() tells how far claims are, and the oldest of each stage; what is bound, leaves or is not ours counts nowhere', async () => {
  const server = new MemoryApi()
  addClass(server)
  addNode(server, 'a')
  addLedger(server, 'a')
  const add = (name: string, created: string, more: { annotations?: object; spec?: object; class?: string } = {}) => {
    const { annotations = {}, ...rest } = more
    const object = claim(name, rest)
    server.create(claimsPath, { ...object, metadata: { ...object.metadata, annotations } })
    server.change(`${claimsPath}/${name}`, { metadata: { creationTimestamp: created } })
  }
  add('waits', '1970-01-01T00:01:40Z')
  add('waits-longer', '1970-01-01T00:00:50Z')
  add('chosen', '1970-01-01T00:00:20Z', { annotations: { [selectedNode]: 'a' } })
  add('foreign', '1970-01-01T00:00:01Z', { class: 'other' })
  addVolume(server, 'unbound', 'a', 64n << 20n)
  const volume = addVolume(server, 'bound', 'a', 64n << 20n)
  server.change(`${claimsPath}/bound`, { spec: { volumeName: volume } })
  addPromise(server, 'a', volume, 64n << 20n, 'default/bound')
  const done = addVolume(server, 'done', 'a', 64n << 20n)
  server.change(`${claimsPath}/done`, { spec: { volumeName: done } })
  addPromise(server, 'a', done, 64n << 20n)

  const copies = new Copies({ api: server.client(), namespace, defaultFront: 'flex', log: silent })
  const stop = new AbortController()
  const ended = copies.run(stop.signal)
  await copies.synced()
  const { scheduling, placing, binding, making } = countPending(copies)
  assert.equal(scheduling, { claims: 2, oldest: 50 })
  assert.equal(placing, { claims: 1, oldest: 20 })
  assert.equal([binding.claims, making.claims], [1, 1])
  assert.is(countStranded(copies), 0)
  addVolume(server, 'stranded', 'gone', 64n << 20n)
  await server.until('it is known', () => countStranded(copies) === 1)
  stop.abort()
  await ended
})

test.run()
