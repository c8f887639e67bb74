import * as assert from 'uvu/assert'
import { suite } from '../test/suite.ts'
import { thrownBy } from '../test/thrown.ts'
import { sharing } from './sharing.ts'

const test = suite('sharing')

test('whoever asks at once shares a look, and whoever asks while it is under way the next', async () => {
  const begun: ((value: number) => void)[] = []
  const look = sharing(() => new Promise<number>((resolve) => begun.push(resolve)))
  const [first, same] = [look(), look()]
  await Promise.resolve()
  assert.is(begun.length, 1)
  const [later, last] = [look(), look()]
  begun[0]?.(1)
  assert.equal(await Promise.all([first, same]), [1, 1])
  await new Promise(setImmediate)
  assert.is(begun.length, 2)
  begun[1]?.(2)
  assert.equal(await Promise.all([later, last]), [2, 2])
})

test('a look that fails is an error to those who shared it, and to no other', async () => {
  let looks = 0
  const look = sharing(async () => {
    looks += 1
    if (looks === 1) throw new Error('no')
    return looks
  })
  for (const asked of [look(), look()]) assert.is((await thrownBy(Error, () => asked)).message, 'no')
  assert.is(await look(), 2)
})

test.run()
