import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { suite } from '../../test/suite.ts'
import { parseVolumeName } from './name.ts'

const test = suite('volume names')

test('parseVolumeName() takes DNS labels', () => {
  for (const name of ['a', '0', 'a-b', 'constructor', 'pvc-0b5d3c1e-7a52-4f8e-9c1d-2f6f0a1b2c3d', 'a'.repeat(63)])
    assert.is(parseVolumeName(name), name)
})

test('parseVolumeName() refuses all else, and shows it', async () => {
  const traps = ['__proto__', 'a\0', 'a\n', '\na', 'a\r', '%2e%2e', '$(id)', 'a;b', 'a|b', "a'b", 'a\\b']
  const paths = ['', '.', '..', '/', 'a/b', '../a', '/etc/passwd', '.hidden', 'a.b']
  const letters = [
    ' ',
    'a b',
    ' a',
    'a ',
    'A',
    'Pvc-1',
    'a_b',
    'a@b',
    'ä',
    'а',
    'ａ',
    '１',
    '卷',
    '💾',
    'a\u200b',
    'e\u0301',
  ]
  const dashes = ['-', '-a', '--help', 'a-', '–a']
  for (const name of [...traps, ...paths, ...letters, ...dashes])
    await rejects('invalid', new RegExp(`^Cannot use ${RegExp.escape(JSON.stringify(name))} as a volume name`), () =>
      parseVolumeName(name),
    )
})

test('parseVolumeName() refuses 64 characters and more, and shows of 300 only the start', async () => {
  await rejects('invalid', /a{64}"/, () => parseVolumeName('a'.repeat(64)))
  await rejects('invalid', /"a{80}… \(300 characters\)"/, () => parseVolumeName('a'.repeat(300)))
})

test('a name that parseVolumeName() takes is one path component that no tool takes for a flag', () => {
  const nearly = fc.string({ unit: fc.constantFrom('a', '0', '-', '.', '/', ' ', 'ä', '\n'), maxLength: 5 })
  fc.assert(
    fc.property(fc.oneof(nearly, fc.string({ unit: 'binary' })), (name) => {
      try {
        parseVolumeName(name)
      } catch {
        return
      }
      assert.match(name, /^[a-z0-9][a-z0-9-]*$/)
      assert.not.match(name, /[^a-z0-9-]|-$/)
    }),
  )
})

test.run()
