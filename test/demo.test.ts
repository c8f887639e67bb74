/** What `make run` plays, as a person and a pipe see it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { build } from '../build.mjs'
import { readMountTable } from '../src/mount/table.ts'
import { run } from '../src/run.ts'
import { withScratch } from './scratch.ts'
import { suite } from './suite.ts'

const test = suite('demo')
const demo = [process.execPath, join(import.meta.dirname, 'demo.ts')]

test.before(async () => {
  await build({ log: () => {} })
})

/** Starts a command with a scratch folder in `folder`; `until` resolves when it has said that, throws when it ends without. */
function start([file = '', ...args]: readonly string[], folder: string, env: NodeJS.ProcessEnv = {}) {
  const child = spawn(file, args, {
    env: { ...process.env, TMPDIR: folder, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: 120_000,
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => {
      output += text
    })
  const ended = once(child, 'close').then(([exitCode]) => exitCode)
  return {
    child,
    ended,
    output: () => output,
    until: async (words: string) => {
      while (!output.includes(words)) {
        const end = await Promise.race([once(child.stdout, 'data').then(() => false), ended.then(() => true)])
        assert.ok(!end || output.includes(words), `It ended without "${words}":\n${output}`)
      }
    },
  }
}

/** The demo's own folder is gone, and nothing that lay in it is mounted, on a loop device, or named by a process. */
async function assertNothingLeft(output: string): Promise<void> {
  const folder = /^\S*\$dir:\S* +(\S+),/m.exec(output)?.[1] ?? ''
  assert.ok(folder, output)
  assert.not(existsSync(folder), output)
  assert.equal((await readMountTable()).under(folder), [], output)
  const { stdout: devices } = await run('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE'])
  assert.not.match(devices, folder)
  const { stdout: processes } = await run('ps', ['-A', '-o', 'pid,args'])
  assert.not.match(processes, folder)
}

test('once, it is a story of lines that fit, without the log, which it names, and nothing is left', async () => {
  const { ended, output } = start([...demo, '--once'], '/tmp')
  assert.is(await ended, 0, output())
  const lines = output().split('\n')
  assert.equal(
    lines.filter((line) => line.length > 100),
    [],
  )
  assert.equal(
    lines.filter((line) => /"level":|^\[?(info|warn|error)\b/.test(line)),
    [],
  )
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a pipe gets no colours.
  assert.not.match(output(), /\u001b/)
  assert.match(output(), /^\$log: +\/tmp\/elastic-local-\w+\/daemon\.log,/m)
  assert.equal(
    lines.flatMap((line) => /^(\d)\. /.exec(line)?.[1] ?? []),
    ['1', '2', '3', '4', '5', '6'],
  )
  assert.is(lines.filter((line) => line === 'hello from the first pod').length, 2)
  assert.match(output(), /Nothing is left: no mount, no loop device, no file\.\n$/)
  await assertNothingLeft(output())
})

test('on a terminal it has colours, stays until Ctrl-C, and what it invites to works meanwhile', () =>
  withScratch(async (folder) => {
    // script(1) gives it a terminal, and a shell. One that stays, as dash does, ends by Ctrl-C itself, whatever the demo says.
    const shown = start(['script', '--quiet', '--return', '--command', `exec ${demo.join(' ')}`, '/dev/null'], folder, {
      TERM: 'xterm',
      SHELL: '/bin/sh',
      NO_COLOR: '',
    })
    try {
      await shown.until('tail -f $log')
      assert.match(shown.output(), '\u001b[1m1. The daemon of the node starts')
      const [, invitation = ''] = shown.output().split('as root:')
      // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal gets.
      const commands = invitation.replace(/\u001b\[\d+m|\r/g, '').trim()
      assert.match(commands, /^\. \S+\n/)
      const { stdout } = await run('sh', ['-e', '-c', commands.replace('tail -f', 'cat')])
      assert.match(stdout, /^State: +ready$/m)
      assert.match(stdout, /2 GiB/)
      assert.match(stdout, /^OK +flex driver +\S+ answers/m)
      assert.match(stdout, /^\[info\] Serving on /m)
    } finally {
      shown.child.stdin.write('\u0003')
      await shown.ended
    }
    assert.is(await shown.ended, 0, shown.output())
    await assertNothingLeft(shown.output())
  }))

for (const words of ['$ elastic-local daemon', '3. The first pod'])
  test(`interrupted at ${words}, it says so, and nothing is left`, () =>
    withScratch(async (folder) => {
      const { child, until, ended, output } = start([...demo, '--once'], folder)
      await until(words)
      child.kill('SIGINT')
      assert.is(await ended, 1, output())
      assert.match(output(), /It was interrupted\./)
      await assertNothingLeft(output())
    }))

test('it says what the daemon said at its end when it cannot go on', () =>
  withScratch(async (folder) => {
    const { ended, output } = start([...demo, '--once'], folder, { ELASTIC_LOCAL_LOG_LEVEL: 'loud' })
    assert.is(await ended, 1, output())
    assert.match(output(), /loud/)
  }))

test.run()
