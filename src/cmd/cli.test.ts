import { PassThrough } from 'node:stream'
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { runCli } from './cli.ts'
import { type Call, type Command, defineCommand, type Program } from './command.ts'
import { commands as realCommands } from './commands.ts'
import { flag, oneOf, onlyWith, outputFlag, socketFlag, toggle } from './flags.ts'
import { elasticLocal, kubectlPlugin } from './programs.ts'
import { UsageError } from './usage-error.ts'

const test = suite('cli')
let call: Call | undefined

const seen = async (found: Call) => {
  call = found
}
const commands: Command[] = [
  defineCommand({
    name: 'volumes list',
    aliases: ['volumes'],
    group: 'Inspect volumes',
    summary: 'List volumes',
    examples: ['elastic-local volumes list -o wide'],
    flags: {
      output: outputFlag('table', 'json'),
      socket: { ...socketFlag, notWith: 'disks' },
      disks: toggle('disks', 'work on the disks'),
      ...onlyWith('disks', { size: flag(oneOf('5'), { name: 'size', value: '<size>', help: 'of each' }) }),
    },
    run: seen,
  }),
  defineCommand({
    name: 'volumes remove',
    args: '<volume> [...more]',
    group: 'Inspect volumes',
    summary: 'Remove volumes',
    description: 'For good.',
    examples: ['elastic-local volumes remove pvc-1'],
    flags: { yes: toggle('yes', 'ask nothing') },
    run: seen,
  }),
  defineCommand({
    name: 'fail',
    group: 'Run',
    args: '[how]',
    summary: 'Fail',
    examples: ['elastic-local fail'],
    flags: { kind: flag(oneOf('a', 'b'), { name: 'kind', help: 'a kind', value: '<kind>' }) },
    async run({ args, say, log }) {
      if (args[0] === 'code') return 7
      if (args[0] === 'usage') throw new UsageError('wrong')
      say('out')
      log.info('hint')
      log.debug('detail')
      throw new Error('It broke.')
    },
  }),
]

async function cli(args: string[], env: NodeJS.ProcessEnv = {}, used: readonly Command[] = commands) {
  call = undefined
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const streams = { stdout, stderr } as unknown as { stdout: NodeJS.WriteStream; stderr: NodeJS.WriteStream }
  const code = await runCli(args, { program: { ...elasticLocal, commands: used }, env, ...streams })
  return {
    code,
    stdout: String(stdout.read() ?? ''),
    stderr: String(stderr.read() ?? ''),
    call: call as Call | undefined,
  }
}

test('runCli() runs commands of two words, with flags before, between and after', async () => {
  for (const line of [
    'volumes list -o json',
    'volumes -o json list',
    '-o json volumes list',
    '--output=json volumes list',
    '-ojson volumes',
  ]) {
    const { code, call, stderr } = await cli(line.split(' '))
    assert.is(code, 0, stderr)
    assert.is(call?.flags.output, 'json')
    assert.equal(call?.args, [])
  }
})

test('runCli() keeps arguments and values as the texts they are', async () => {
  const texts = ['1e3', '007', '0x10', 'true', 'NaN', '', ' ', 'ä', 'a=b', 'no-x', '--', '-x', '--yes', '-'.repeat(300)]
  for (const text of texts) {
    const { code, call, stderr } = await cli(['volumes', 'remove', '--yes', '--', text, text])
    assert.is(code, 0, stderr)
    assert.equal(call?.args, [text, text])
    assert.is(call?.flags.yes, true)
  }
  const { call } = await cli(['volumes', 'list', '--socket', '/1e3'])
  assert.is(call?.flags.socket, '/1e3')
})

test('runCli() understands switches with and without values', async () => {
  for (const [line, yes] of [
    ['--yes', true],
    ['--yes=true', true],
    ['--yes=0', false],
    ['--no-yes', false],
    ['--log-level=info', false],
  ] as const)
    assert.is((await cli(['volumes', 'remove', line, 'v'])).call?.flags.yes, yes, line)
})

test('runCli() exits 2 with one line and a suggestion for what is wrong in the command line', async () => {
  for (const [line, said] of [
    ['volume list', /There is no command volume\. Did you mean volumes\?/],
    ['volumes lst', /There is no command volumes lst\. Did you mean volumes list\?/],
    ['volumes 1e3', /There is no command volumes 1e3\. See elastic-local help\./],
    ['hlep', /Did you mean help\?/],
    ['xyzzyxyzzy', /See elastic-local help\./],
    ['volumes list --ouptut json', /There is no flag --ouptut\. Did you mean --output\?/],
    ['volumes --out json', /There is no flag --out\. Did you mean --output\?/],
    ['--out json volumes', /There is no flag --out\. Did you mean --output\?/],
    ['volumes list --whatever x', /There is no flag --whatever\. See elastic-local help volumes list\./],
    ['volumes --whatever=x list', /There is no flag --whatever\. See elastic-local help volumes list\./],
    ['volumes -q', /There is no flag -q\. See/],
    ['volums --whatever x', /There is no command volums\. Did you mean volumes\?/],
    ['volumes --size 5', /Cannot use --size as it needs --disks: without that it has no effect\./],
    [
      'volumes --disks --socket /s',
      /Cannot use --socket with --disks as it has no effect there: leave out one of the two\./,
    ],
    ['volumes list --yes', /There is no flag --yes\. See elastic-local help volumes list\./],
    [
      'volumes list more',
      /Cannot run volumes list with the arguments "more" as it must be: elastic-local volumes list\./,
    ],
    ['volumes remove', /with no arguments as it must be: elastic-local volumes remove <volume> \[\.\.\.more\]/],
    ['volumes list -o yaml', /Cannot use --output as it must be table or json: it is "yaml"/],
    ['volumes list --socket', /Cannot use --socket as it must have a value/],
    ['volumes list --socket --output json', /Cannot use --socket as it must have a value/],
    ['volumes list -o json -o json', /given twice/],
    ['volumes remove v --yes=maybe', /Cannot use --yes as it must be true, false, 1 or 0: it is "maybe"/],
    ['volumes remove v --yes --no-yes', /given twice/],
    ['--log-level=loud volumes', /Cannot use --log-level/],
    ['-x', /There is no command before the flag -x/],
    ['fail usage', /wrong/],
    ['help nothing', /There is no command nothing/],
    ['__proto__', /There is no command/],
    ['volumes list --__proto__=1', /There is no flag/],
    ['volumes list --a.b=1', /There is no flag --a\.b/],
  ] as const) {
    const { code, stdout, stderr } = await cli(line.split(' '))
    assert.is(code, 2, line)
    assert.is(stdout, '', line)
    assert.match(stderr, /^elastic-local: [^\n]*\n/)
    assert.match(stderr, said)
  }
})

test('runCli() exits 1 with the message of a failure, and shows where it came from only at level debug', async () => {
  const { code, stdout, stderr } = await cli(['fail'])
  assert.is(code, 1)
  assert.is(stdout, 'out\n')
  assert.match(stderr, /hint/)
  assert.match(stderr, /\nelastic-local: It broke\.\n$/)
  assert.not.match(stderr, /detail|cli\.test/)
  for (const [line, env] of [
    [['--log-level=debug'], {}],
    [[], { ELASTIC_LOCAL_LOG_LEVEL: 'debug' }],
  ] as const) {
    const { stderr } = await cli(['fail', ...line], env)
    assert.match(stderr, /detail/)
    assert.match(stderr, /cli\.test\.ts/)
  }
  assert.not.match((await cli(['fail', '--log-level=error'])).stderr, /hint/)
})

test("runCli() exits with the command's own code", async () => {
  assert.is((await cli(['fail', 'code'])).code, 7)
})

test('runCli() shows help for nothing, help, --help and -h, of all, of a group and of one command', async () => {
  for (const line of [[], ['help'], ['--help'], ['-h']]) {
    const { code, stdout, stderr } = await cli(line)
    assert.equal([code, stderr], [0, ''])
    for (const { name, summary } of commands) assert.ok(stdout.includes(name) && stdout.includes(summary), name)
  }
  for (const line of ['help volumes', 'volumes --help', 'volumes -h']) {
    const { code, stdout } = await cli(line.split(' '))
    assert.is(code, 0)
    assert.match(stdout, /volumes list/)
    assert.match(stdout, /volumes remove <volume>/)
    assert.not.match(stdout, /fail/)
  }
  for (const line of ['help volumes list', 'volumes list --help', '-h volumes list', 'volumes list -o nonsense -h']) {
    const { code, stdout } = await cli(line.split(' '))
    assert.is(code, 0, line)
    assert.match(stdout, /-o, --output <format>/)
    assert.match(stdout, /\$ELASTIC_LOCAL_SOCKET/)
    assert.match(stdout, /\$ elastic-local volumes list -o wide/)
  }
})

/** What stands on a terminal so wide. */
async function helpAt(columns: number, program: Program, words: readonly string[]): Promise<string> {
  const stdout = Object.assign(new PassThrough(), { isTTY: true, columns })
  await runCli(['help', ...words], { program, env: {}, stdout: stdout as never, stderr: stdout as never })
  return String(stdout.read())
}

test('help fits the terminal, whatever the command', async () => {
  for (const program of [elasticLocal, kubectlPlugin])
    for (const columns of [80, 100, 200])
      for (const words of [[], ['volumes'], ...program.commands.map(({ name }) => name.split(' '))])
        for (const line of (await helpAt(columns, program, words)).split('\n'))
          assert.ok(line.length <= Math.min(columns, 100), `${columns}: ${line}`)
})

test('the help of every real command names its flags', async () => {
  for (const command of realCommands) {
    const { stdout } = await cli(['help', ...command.name.split(' ')], {}, realCommands)
    for (const { name } of Object.values(command.flags)) assert.ok(stdout.includes(`--${name}`), name)
    assert.ok(command.examples.length > 0)
    for (const example of command.examples) assert.match(example, `elastic-local ${command.name.split(' ')[0]}`)
  }
})

test('who reads no further ends what only looks, and not what changes something', async () => {
  const exit = process.exit
  for (const changes of [true, undefined])
    for (const name of ['stdout', 'stderr'] as const) {
      const streams = { stdout: new PassThrough(), stderr: new PassThrough() }
      const ended: unknown[] = []
      process.exit = ((code: unknown) => void ended.push(code)) as never
      try {
        const run = async () => {
          streams[name].emit('error', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }))
          return 7
        }
        const [first] = commands as [Command]
        const command: Command = { ...first, run, ...(changes ? { changes } : {}) }
        const program = { ...elasticLocal, commands: [command] }
        assert.is(await runCli(['volumes'], { program, env: {}, ...(streams as object) }), 7)
      } finally {
        process.exit = exit
      }
      assert.equal(ended, changes ? [] : [0])
    }
  const changing = [...realCommands, ...kubectlPlugin.commands].filter(({ changes }) => changes)
  assert.equal(changing.map(({ name }) => name).sort(), [
    'create-vg',
    'install',
    'volumes adopt',
    'volumes grow',
    'volumes move-to-csi',
    'volumes move-to-flex',
    'volumes remove',
  ])
})

test('a page without an address to serve it at is refused', async () => {
  const { code, stderr } = await cli(['provisioner', '--page'], {}, realCommands)
  assert.is(code, 2)
  assert.match(stderr, 'Cannot serve --page as it needs an address: set --http-address.')
})

test('flags that commands share mean the same everywhere', () => {
  const kinds = new Map<string, boolean>()
  for (const { flags } of realCommands)
    for (const { name, value } of Object.values(flags)) {
      assert.is(kinds.get(name) ?? Boolean(value), Boolean(value), name)
      kinds.set(name, Boolean(value))
    }
})

test('--version is the command version', async () => {
  const { code, stdout } = await cli(['--version'], {}, realCommands)
  assert.is(code, 0)
  assert.match(stdout, /^elastic-local \d+\.\d+\.\d+, commit /)
})

test('runCli() survives any command line', async () => {
  const word = fc.oneof(
    fc.string({ maxLength: 20 }),
    fc.constantFrom('volumes', 'list', 'remove', '--', '-', '--yes', '-o', '--output', '='),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(word, { maxLength: 6 }), async (words) => {
      const { code, stderr } = await cli(words.map((word) => word.replaceAll('\0', '')))
      assert.ok([0, 1, 2, 7].includes(code))
      assert.not.match(stderr, /\0|undefined|\[object|TypeError|ReferenceError/)
    }),
    { numRuns: 500 },
  )
})

test.run()
