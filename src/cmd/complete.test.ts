import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { namesOf } from './command.ts'
import { complete } from './complete.ts'
import { elasticLocal, kubectlPlugin } from './programs.ts'

const test = suite('completion')

/** What is offered for a line, `|` standing where the cursor is, and whether files may follow. */
function offered(line: string, program = elasticLocal): { words: string[]; files: boolean } {
  const lines = complete(program, line.replace('|', '').split(' ')).split('\n')
  const directive = lines.pop()
  assert.ok(directive === ':0' || directive === ':4')
  return { words: lines.map((text) => text.split('\t')[0] ?? ''), files: directive === ':0' }
}

test('complete() offers every command of both programs, each with its help', () => {
  for (const program of [elasticLocal, kubectlPlugin]) {
    const first = offered('|', program).words
    for (const command of program.commands)
      for (const name of namesOf(command)) {
        const [word = '', second] = name.split(' ')
        assert.ok(first.includes(word), name)
        if (second) assert.ok(offered(`${word} |`, program).words.includes(second), name)
      }
    assert.ok(
      complete(program, [''])
        .split('\n')
        .slice(0, -1)
        .every((line) => line.includes('\t')),
    )
  }
})

test('complete() offers every flag of a command, and every value that can be named', () => {
  for (const program of [elasticLocal, kubectlPlugin])
    for (const { name, flags } of program.commands)
      for (const { name: flag, values, short } of Object.values(flags)) {
        assert.ok(offered(`${name} --|`, program).words.includes(`--${flag}`), `${name} --${flag}`)
        if (!values) continue
        assert.equal(offered(`${name} --${flag} |`, program).words, values)
        assert.equal(
          offered(`${name} --${flag}=|`, program).words,
          values.map((value) => `--${flag}=${value}`),
        )
        if (short) assert.equal(offered(`${name} -${short} |`, program).words, values)
      }
})

test('complete() goes by what is on the line already', () => {
  assert.equal(offered('vol|').words, ['volumes'])
  assert.equal(offered('volumes sh|').words, ['show'])
  assert.equal(offered('--log-level debug vol|').words, ['volumes'])
  assert.equal(offered('volumes list -o json --out|').words, [])
  assert.equal(offered('volumes -o json li|').words, ['list'])
  assert.equal(offered('help volumes |').words, ['list', 'show', 'grow', 'adopt', 'remove'])
  assert.equal(offered('help pools |').words, [])
  assert.equal(offered('completion |').words, ['bash', 'zsh', 'fish'])
  assert.equal(offered('volumes show |').words, [])
  assert.equal(offered('nonsense |').words, [])
})

test('complete() takes apart what bash takes apart at "="', () => {
  assert.equal(offered('volumes --output = |').words, ['list', 'show', 'grow', 'adopt', 'remove'])
  assert.equal(offered('volumes --output =|').words, [
    '--output=table',
    '--output=wide',
    '--output=name',
    '--output=json',
    '--output=yaml',
    '--output=jsonpath=',
  ])
  assert.equal(offered('volumes --output = ja|').words, [])
  assert.equal(offered('volumes --output = js|').words, ['--output=json'])
  assert.equal(offered('volumes --output = json sh|').words, ['show'])
})

test('complete() lets the shell offer files for paths only', () => {
  assert.ok(offered('daemon --volumes-dir |').files)
  assert.ok(offered('daemon --volumes-dir=/e|').files)
  assert.not.ok(offered('daemon --node-name |').files)
  assert.not.ok(offered('daemon --driver-kind |').files)
  assert.not.ok(offered('|').files)
})

test.run()
