/** What a run says at its end of what failed. */
import { stripVTControlCharacters } from 'node:util'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import { summarise } from './failures.ts'

const test = suite('failures')

test('of a failed comparison with a long message, what was compared is told', async () => {
  const program = `
    import { suite } from 'uvu'
    import * as assert from 'uvu/assert'
    const test = suite('some')
    test('passes', () => {})
    test('fails', () => assert.is(130, 0, Array.from({ length: 50 }, (_, at) => 'line ' + at).join('\\n')))
    test.run()`
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', program], { accept: [1] })
  const lines = summarise(stdout).trimEnd().split('\n')
  assert.ok(lines.length <= 13, lines.join('\n'))
  const told = stripVTControlCharacters(lines.join('\n'))
  assert.match(told, /FAIL {2}some {2}"fails"\n/)
  assert.match(told, /line 49 {2}\(is\)\n.*\+\+0 .*\n.*--130 .*$/)
})

test('of a program that ended without a test, its last lines are told', () => {
  assert.is(summarise('one\ntwo\nthe reason\n'), '  one\n  two\n  the reason\n')
})

test.run()
