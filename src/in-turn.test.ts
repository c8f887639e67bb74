import * as assert from 'uvu/assert'
import { suite } from '../test/suite.ts'
import { inTurn } from './in-turn.ts'

const test = suite('inTurn()')

test('the same is done once for all who ask while it is under way, and anew for whoever asks later', async () => {
  const ask = inTurn<number>()
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let begun = 0
  const work = async () => {
    const mine = begun++
    await gates[mine]?.promise
    return mine
  }
  const [first, second] = [ask('here', 'a', work), ask('here', 'a', work)]
  gates[0]?.resolve()
  assert.equal(await Promise.all([first, second]), [0, 0])
  const third = ask('here', 'a', work)
  gates[1]?.resolve()
  assert.is(await third, 1)
})

test('something else is done after it, and elsewhere beside it; a failure is that of all who waited for it', async () => {
  const ask = inTurn<string>()
  const gate = Promise.withResolvers<string>()
  const waiting = ['a', 'a'].map((key) => ask('here', key, () => gate.promise))
  assert.is(await ask('there', 'b', async () => 'other'), 'other')
  const after = ask('here', 'b', async () => 'after')
  gate.reject(new Error('no'))
  const results = await Promise.allSettled(waiting)
  assert.equal(
    results.map(({ status }) => status),
    ['rejected', 'rejected'],
  )
  assert.is(await after, 'after')
  assert.is(await ask('here', 'a', async () => 'again'), 'again')
})

test('who asks for what is under way, but not the last, has it done anew after that', async () => {
  const ask = inTurn<string>()
  const done: string[] = []
  const work = (text: string) => async () => {
    done.push(text)
    return text
  }
  await Promise.all(['on', 'off', 'on', 'on'].map((text) => ask('here', text, work(text))))
  assert.equal(done, ['on', 'off', 'on'])
})

test.run()
