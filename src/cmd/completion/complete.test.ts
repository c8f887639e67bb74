import * as assert from 'uvu/assert'
import { suite } from '../../../test/suite.ts'
import { defineCommand, namesOf } from '../command.ts'
import { flag, oneOf } from '../flags.ts'
import { elasticLocal, kubectlPlugin } from '../programs.ts'
import { complete } from './complete.ts'

const test = suite('completion')

/** What is offered for a line, `|` standing where the cursor is, and whether files may follow. */
async function offered(
  line: string,
  program = elasticLocal,
): Promise<{ words: string[]; files: boolean; goesOn: boolean }> {
  const lines = (await complete(program, line.replace('|', '').split(' '))).split('\n')
  const directive = lines.pop() ?? ''
  assert.ok([':0', ':4', ':6'].includes(directive))
  return {
    words: lines.map((text) => text.split('\t')[0] ?? ''),
    files: directive === ':0',
    goesOn: directive === ':6',
  }
}

test('complete() offers every command of both programs, each with its help', async () => {
  for (const program of [elasticLocal, kubectlPlugin]) {
    const first = (await offered('|', program)).words
    for (const command of program.commands)
      for (const name of namesOf(command)) {
        const [word = '', second] = name.split(' ')
        assert.ok(first.includes(word), name)
        if (second) assert.ok((await offered(`${word} |`, program)).words.includes(second), name)
      }
    assert.ok(
      (await complete(program, ['']))
        .split('\n')
        .slice(0, -1)
        .every((line) => line.includes('\t')),
    )
  }
})

test('complete() offers every flag of a command, and every value that can be named', async () => {
  for (const program of [elasticLocal, kubectlPlugin])
    for (const { name, flags } of program.commands)
      for (const { name: flag, values, short } of Object.values(flags)) {
        assert.ok((await offered(`${name} --|`, program)).words.includes(`--${flag}`), `${name} --${flag}`)
        if (!values) continue
        assert.equal((await offered(`${name} --${flag} |`, program)).words, values)
        assert.equal(
          (await offered(`${name} --${flag}=|`, program)).words,
          values.map((value) => `--${flag}=${value}`),
        )
        if (short) assert.equal((await offered(`${name} -${short} |`, program)).words, values)
      }
})

test('complete() goes by what is on the line already', async () => {
  assert.equal((await offered('vol|')).words, ['volumes'])
  assert.equal((await offered('volumes sh|')).words, ['show'])
  assert.equal((await offered('--log-level debug vol|')).words, ['volumes'])
  assert.equal((await offered('volumes list -o json --out|')).words, [])
  assert.equal((await offered('volumes -o json li|')).words, ['list'])
  assert.equal((await offered('help volumes |')).words, ['list', 'show', 'grow', 'adopt', 'remove'])
  assert.equal((await offered('help pools |')).words, [])
  assert.equal((await offered('completion |')).words, ['bash', 'zsh', 'fish'])
  assert.equal((await offered('volumes show |')).words, [])
  assert.equal((await offered('nonsense |')).words, [])
})

test('complete() takes apart what bash takes apart at "="', async () => {
  assert.equal((await offered('volumes --output = |')).words, ['list', 'show', 'grow', 'adopt', 'remove'])
  assert.equal((await offered('volumes --output =|')).words, [
    '--output=table',
    '--output=wide',
    '--output=name',
    '--output=json',
    '--output=yaml',
    '--output=jsonpath=',
  ])
  assert.equal((await offered('volumes --output = ja|')).words, [])
  assert.equal((await offered('volumes --output = y|')).words, ['--output=yaml'])
  assert.equal((await offered('volumes --output = json sh|')).words, ['show'])
})

test('complete() asks whoever knows the names, with what the line says already', async () => {
  const asked: unknown[] = []
  const program = {
    ...elasticLocal,
    commands: [
      defineCommand({
        name: 'look',
        group: 'About',
        args: '<...names>',
        summary: 'Look',
        examples: [],
        completeArgs: async (line) => {
          asked.push(line)
          if (line.begun === 'x') throw new Error('nobody there')
          return ['web', 'kind/']
        },
        flags: {
          where: flag(oneOf('here'), { name: 'where', value: '<where>', help: '' }),
          context: flag(oneOf('here'), {
            name: 'context',
            short: 'c',
            value: '<name>',
            help: '',
            complete: async () => ['there'],
          }),
        },
        run: async () => {},
      }),
    ],
  }
  assert.equal(await offered('look --where here one |', program), {
    words: ['web', 'kind/'],
    files: false,
    goesOn: false,
  })
  assert.equal(asked, [{ begun: '', args: ['one'], flags: { where: 'here', context: undefined } }])
  assert.ok((await offered('look k|', program)).goesOn)
  assert.equal((await offered('look x|', program)).words, [])
  assert.equal((await offered('look -c |', program)).words, ['here', 'there'])
  assert.equal((await offered('look --context=t|', program)).words, ['--context=there'])
})

test('complete() lets the shell offer files for paths only', async () => {
  assert.ok((await offered('daemon --volumes-dir |')).files)
  assert.ok((await offered('daemon --volumes-dir=/e|')).files)
  assert.not.ok((await offered('daemon --node-name |')).files)
  assert.not.ok((await offered('daemon --driver-kind |')).files)
  assert.not.ok((await offered('|')).files)
})

test.run()
