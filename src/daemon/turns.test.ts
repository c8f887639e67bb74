import { setImmediate as turn } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { thrownBy } from '../../test/thrown.ts'
import { Turns } from './turns.ts'

const test = suite('turns')

test('take() runs so many works at a time and no more, in the order in which they came', async () => {
  const turns = new Turns(2)
  const works = [0, 1, 2, 3].map(() => Promise.withResolvers<void>())
  const begun: number[] = []
  const done = works.map(({ promise }, i) =>
    turns.take(async () => {
      begun.push(i)
      await promise
      return i
    }),
  )
  await turn()
  assert.equal(begun, [0, 1])
  works[1]?.resolve()
  assert.is(await done[1], 1)
  await turn()
  assert.equal(begun, [0, 1, 2])
  for (const { resolve } of works) resolve()
  assert.equal(await Promise.all(done), [0, 1, 2, 3])
})

test('take() throws what the work throws, and lets the next one run', async () => {
  const turns = new Turns(1)
  const failing = thrownBy(Error, () =>
    turns.take(async () => {
      throw new Error('it failed')
    }),
  )
  const next = turns.take(async () => 5)
  assert.is((await failing).message, 'it failed')
  assert.is(await next, 5)
})

test.run()
