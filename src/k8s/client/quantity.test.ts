import * as assert from 'uvu/assert'
import { rejects } from '../../../test/contract.ts'
import { suite } from '../../../test/suite.ts'
import { formatQuantity, parseQuantity } from './quantity.ts'

const test = suite('quantity')

test('parseQuantity() reads every form that the API server keeps, rounded up to bytes', () => {
  const expected: [string, bigint][] = [
    ['1073741824', 1n << 30n],
    ['1Gi', 1n << 30n],
    ['1536Mi', 3n << 29n],
    ['0.5Gi', 1n << 29n],
    ['.5Gi', 1n << 29n],
    ['1e9', 1_000_000_000n],
    ['1E9', 1_000_000_000n],
    ['15E', 15n * 10n ** 18n],
    ['107374182400m', 107_374_183n],
    ['1n', 1n],
    ['0', 0n],
  ]
  for (const [text, bytes] of expected) assert.is(parseQuantity(text, 'size'), bytes, text)
})

test('parseQuantity() refuses what is none, and names the field', async () => {
  for (const text of ['', '.', '-1', '1 Gi', '1GiB', 'Gi', '1e', '1.2.3', undefined, 7])
    await rejects('invalid', /Cannot read the size as it must be a quantity/, async () =>
      parseQuantity(text, 'the size'),
    )
})

test('formatQuantity() loses nothing, and takes the largest unit', () => {
  const expected: [bigint, string][] = [
    [1n << 30n, '1Gi'],
    [3n << 29n, '1536Mi'],
    [1n << 50n, '1Pi'],
    [1000n, '1000'],
    [1024n, '1Ki'],
    [(1n << 30n) + 1n, '1073741825'],
    [0n, '0'],
  ]
  for (const [bytes, text] of expected) {
    assert.is(formatQuantity(bytes), text)
    assert.is(parseQuantity(text, 'size'), bytes)
  }
})

test.run()
