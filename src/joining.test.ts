import * as assert from 'uvu/assert'
import { suite } from '../test/suite.ts'
import { joining } from './joining.ts'

const test = suite('joining()')

test('the same is done once for all who ask while it is under way, and anew for whoever asks later', async () => {
  const join = joining<number>()
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let begun = 0
  const work = async () => {
    const mine = begun++
    await gates[mine]?.promise
    return mine
  }
  const [first, second] = [join('a', work), join('a', work)]
  gates[0]?.resolve()
  assert.equal(await Promise.all([first, second]), [0, 0])
  const third = join('a', work)
  gates[1]?.resolve()
  assert.is(await third, 1)
})

test('something else is done beside it, and a failure is that of all who waited', async () => {
  const join = joining<string>()
  const gate = Promise.withResolvers<string>()
  const waiting = ['a', 'a'].map((key) => join(key, () => gate.promise))
  assert.is(await join('b', async () => 'other'), 'other')
  gate.reject(new Error('no'))
  const results = await Promise.allSettled(waiting)
  assert.equal(
    results.map(({ status }) => status),
    ['rejected', 'rejected'],
  )
  assert.is(await join('a', async () => 'again'), 'again')
})

test.run()
