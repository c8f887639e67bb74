import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { suite } from '../../test/suite.ts'
import { parseSize, roundUp } from './size.ts'

const test = suite('sizes')

test('parseSize() reads bytes and whole Kubernetes quantities', () => {
  const sizes: [string, bigint][] = [
    ['1', 1n],
    ['1073741824', 1n << 30n],
    ['007', 7n],
    ['1k', 1000n],
    ['5G', 5_000_000_000n],
    ['10Gi', 10n << 30n],
    ['1Ki', 1024n],
    ['7Pi', 7n << 50n],
    ['9223372036854775807', 2n ** 63n - 1n],
  ]
  for (const [text, sizeBytes] of sizes) assert.is(parseSize(text, 'it'), sizeBytes)
})

test('parseSize() refuses what is no size, and shows it', async () => {
  const numbers = [
    '0',
    '00',
    '-1',
    '+1',
    '1e3',
    '1E3',
    '0x10',
    '1.5',
    '1.0Gi',
    '1,000',
    '1_000',
    'Infinity',
    'NaN',
    '1n',
  ]
  const tooLarge = ['9223372036854775808', '18446744073709551616', '99999999999999999999', '8192Pi', '1'.repeat(300)]
  const texts = [
    '',
    ' ',
    ' 1',
    '1 ',
    '1 Gi',
    '1\n',
    'Gi',
    '1gi',
    '1GB',
    '1K',
    '1Ei',
    '1b',
    'ten',
    '１',
    '١',
    '1\u200b',
    '__proto__',
  ]
  for (const text of [...numbers, ...tooLarge, ...texts])
    await rejects(
      'invalid',
      new RegExp(`^Cannot read it as a size .*: it is ${RegExp.escape(JSON.stringify(text))}`),
      () => parseSize(text, 'it'),
    )
})

test('parseSize() refuses what is no text, and names the field', async () => {
  const values: [unknown, RegExp][] = [
    [undefined, /missing/],
    [null, /null/],
    [1024, /1024/],
    [true, /true/],
    [['1024'], /\["1024"\]/],
    [{ size: 1 }, /\{"size":1\}/],
  ]
  for (const [value, said] of values) {
    await rejects('invalid', said, () => parseSize(value, 'option sizeBytes'))
    await rejects('invalid', /^Cannot read option sizeBytes /, () => parseSize(value, 'option sizeBytes'))
  }
})

test('parseSize() gives back every number of bytes that fits', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }), (sizeBytes) => {
      assert.is(parseSize(String(sizeBytes), 'it'), sizeBytes)
    }),
  )
})

test('roundUp() gives the smallest whole number of units that is enough', () => {
  assert.is(roundUp(1n, 4096n), 4096n)
  assert.is(roundUp(4096n, 4096n), 4096n)
  assert.is(roundUp(4097n, 4096n), 8192n)
  fc.assert(
    fc.property(fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }), fc.bigInt({ min: 1n, max: 2n ** 32n }), (size, unit) => {
      const rounded = roundUp(size, unit)
      assert.is(rounded % unit, 0n)
      assert.ok(rounded >= size && rounded - size < unit)
    }),
  )
})

test.run()
