import * as assert from 'uvu/assert'
import { MemoryApi } from '../../../test/memory-api.ts'
import { silent } from '../../../test/memory-cluster.ts'
import { suite } from '../../../test/suite.ts'
import { findDead, findUnsynced } from './health.ts'
import { Reflector } from './reflector.ts'

const test = suite('health of what is followed')
const copy = (path: string, isSynced: boolean, silentMs = 0) => ({ path, isSynced, silentMs })

test('findUnsynced() names what was not listed yet', () => {
  assert.is(findUnsynced([copy('/a', true)]), undefined)
  assert.is(findUnsynced([copy('/a', false), copy('/b', true), copy('/c', false)]), 'not listed yet: /a, /c')
})

test('findDead() tells of what has heard nothing for longer than a watch can last', () => {
  assert.is(findDead([copy('/a', true, 590_000)]), undefined)
  assert.is(
    findDead([copy('/a', true, 601_000)]),
    'nothing was received from the watch of /a for 601 s, not even a failure',
  )
})

test('a reflector is silent for no time before it runs and after it ended, and hears failures as well', async () => {
  const again = Promise.withResolvers<void>()
  const silences: number[] = []
  const send = async () => {
    silences.push(reflector.silentMs)
    if (silences.length === 2) again.resolve()
    throw new Error('away')
  }
  const api = { send, watch: new MemoryApi().client().watch }
  const reflector = new Reflector({ api, path: '/api/v1/nodes', pick: () => true, log: silent })
  assert.is(reflector.silentMs, 0)
  const beganAt = performance.now()
  const stop = new AbortController()
  const ended = reflector.run(stop.signal)
  await again.promise
  // The second try, which comes a while after the first failed, begins the silence anew.
  assert.ok(Number(silences[1]) < performance.now() - beganAt)
  stop.abort()
  await ended
  assert.is(reflector.silentMs, 0)
})

test.run()
