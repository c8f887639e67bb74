import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { thrownBy } from '../../test/thrown.ts'
import type { Backlog, Done, Meter } from '../meter.ts'
import { CommandError } from '../run.ts'
import { LvmShell } from './shell.ts'

const test = suite('LVM shell')
const fakeLvm = join(import.meta.dirname, '../../test/fake-lvm.ts')
const sinceMs = 12_345

function openShell(
  command: [string, readonly string[]] = [process.execPath, [fakeLvm]],
  meter?: Pick<Meter, 'command' | 'backlogs'>,
): LvmShell {
  return new LvmShell({ command, configDir: '/config', uptimeMs: () => sinceMs, meter })
}

/** Runs `work` with a shell whose process is ended afterwards. */
const withShell = (work: (shell: LvmShell) => Promise<void>) => async () => {
  const shell = openShell()
  try {
    await work(shell)
  } finally {
    await shell.close()
  }
}

/** The one row that the fake answers to `echo` and the like. */
async function ask(shell: LvmShell, ...command: string[]): Promise<Record<string, string>> {
  const { lv } = await shell.run(command)
  assert.is(lv.length, 1)
  return lv[0] ?? {}
}

async function fails(work: () => unknown, message: RegExp): Promise<CommandError> {
  const error = await thrownBy(CommandError, work)
  assert.match(error.message, message)
  return error
}

const isAlive = (pid: string | undefined) => existsSync(`/proc/${pid}`)

test(
  'a command is answered, in the environment that makes LVM answer so',
  withShell(async (shell) => {
    const row = await ask(shell, 'echo', '--size', '4194304b', 'vg/pvc-1', '95%FREE', 'a=b,c|!{x}&+@:_')
    assert.is(row.words, 'echo --size 4194304b vg/pvc-1 95%FREE a=b,c|!{x}&+@:_')
    assert.is(row.env, '/config,C,1')
  }),
)

test('a meter sees what runs and waits, and how each command ended', async () => {
  const told: string[] = []
  const backlogs = new Set<Backlog>()
  const command = ({ what, about, result }: Done) => told.push(`${what} ${about}: ${result}`)
  const shell = openShell(undefined, { command, backlogs })
  const [seen] = backlogs
  const asked = [ask(shell, 'echo', 'one'), ask(shell, 'echo', 'two')]
  await Promise.resolve()
  assert.equal([seen?.name, Number(seen?.waiting) + Number(seen?.running)], ['lvm', 2])
  await Promise.all(asked)
  await fails(() => shell.run(['fail', '5']), /./)
  await shell.close()
  assert.equal(told, ['echo one: success', 'echo two: success', 'fail 5: failed'])
  assert.is(backlogs.size, 0)
})

test(
  'one process is fed all commands, one at a time, in the order of the calls',
  withShell(async (shell) => {
    const rows = await Promise.all(Array.from({ length: 30 }, (_, i) => ask(shell, 'echo', String(i))))
    assert.equal(
      rows.map(({ words, line, overlaps }) => `${words} ${line} ${overlaps}`),
      rows.map((_, i) => `echo ${i} ${2 * i + 1} 0`),
    )
    assert.is(new Set(rows.map((row) => row.pid)).size, 1)
  }),
)

test(
  'an answer that comes byte by byte is put together',
  withShell(async (shell) => {
    assert.is((await ask(shell, 'bytes', '1')).words, 'bytes 1')
    assert.is((await ask(shell, 'bytes', '2')).words, 'bytes 2')
  }),
)

test(
  "a command that fails is an error with LVM's words, and the next one succeeds in the same process",
  withShell(async (shell) => {
    const { pid } = await ask(shell, 'echo')
    const error = await fails(
      () => shell.run(['fail', 'x']),
      /^lvm fail exited with 5: It failed\.\nIt really failed\.$/,
    )
    assert.equal(error.args, ['fail', 'x'])
    assert.is((await ask(shell, 'echo')).pid, pid)
  }),
)

test(
  'an answer that nobody can read is an error, and the next command gets its own answer',
  withShell(async (shell) => {
    await fails(() => shell.run(['garbage']), /gave an unreadable answer/)
    assert.is((await ask(shell, 'echo', 'on')).words, 'echo on')
  }),
)

test(
  'an answer that nobody asked for is taken for that of no command: the process is replaced, and who asked is told',
  withShell(async (shell) => {
    const { pid } = await ask(shell, 'echo')
    await fails(() => shell.run(['twice', 'x']), /gave an unexpected answer/)
    const next = await ask(shell, 'echo', 'on')
    assert.is(next.words, 'echo on')
    assert.is.not(next.pid, pid)
  }),
)

test('a process that answers while nothing is asked is replaced', () =>
  withScratch(async (folder) => {
    const gate = join(folder, 'gate')
    await withShell(async (shell) => {
      const { pid } = await ask(shell, 'later', gate)
      await writeFile(gate, '')
      while (isAlive(pid)) await new Promise(setImmediate)
      const next = await ask(shell, 'echo', 'on')
      assert.is(next.words, 'echo on')
      assert.is.not(next.pid, pid)
    })()
  }))

for (const [command, how] of [
  ['die', 'SIGKILL'],
  ['exit 7', 'status 7'],
  ['exit 0', 'status 0'],
] as const)
  test(
    `a process that ends in the middle (${command}) fails the command it worked on, and the next ones get a new process`,
    withShell(async (shell) => {
      const before = await ask(shell, 'echo')
      const dying = shell.run(command.split(' '))
      const later = ['1', '2'].map((word) => ask(shell, 'echo', word))
      await fails(() => dying, new RegExp(`^lvm ended while at work \\(${how}\\): last words`))
      const rows = await Promise.all(later)
      assert.equal(
        rows.map(({ words, line }) => [words, line]),
        [
          ['echo 1', '1'],
          ['echo 2', '3'],
        ],
      )
      assert.is.not(rows[0]?.pid, before.pid)
    }),
  )

test(
  'a process that ended between two commands is replaced',
  withShell(async (shell) => {
    const { pid } = await ask(shell, 'echo')
    process.kill(Number(pid), 'SIGKILL')
    while (isAlive(pid)) await new Promise(setImmediate)
    assert.is.not((await ask(shell, 'echo')).pid, pid)
  }),
)

test(
  'a word that the shell would take apart is refused before anything is run',
  withShell(async (shell) => {
    const strange = [
      '',
      ' ',
      'a b',
      'a\tb',
      'a\nlvremove',
      'a\r',
      '"a"',
      "'a'",
      'a\\',
      '#a',
      '$a',
      '`a`',
      'a;b',
      'a>b',
      '*',
      '?',
      '~',
      '(a)',
      'ä',
      '\0',
    ]
    for (const word of strange)
      await fails(
        () => shell.run(['echo', word]),
        new RegExp(`was not run as ${RegExp.escape(JSON.stringify(word))} is not a plain word`),
      )
    await fails(
      () => shell.run(['echo', ...Array.from({ length: 63 }, () => 'a')]),
      /was not run as it has too many words/,
    )
    const { line, words } = await ask(shell, 'echo', ...Array.from({ length: 62 }, () => 'a'))
    assert.is(line, '1')
    assert.is(words?.split(' ').length, 63)
  }),
)

test('pending tells what runs since when, and how many wait', () =>
  withScratch(async (folder) => {
    const gate = join(folder, 'gate')
    await withShell(async (shell) => {
      assert.equal(shell.pending, { waiting: 0 })
      await ask(shell, 'echo')
      const held = ask(shell, 'hold', gate)
      const others = [ask(shell, 'echo'), ask(shell, 'echo')]
      try {
        await new Promise(setImmediate)
        assert.equal(shell.pending, { running: { command: ['hold', gate], sinceMs }, waiting: 2 })
      } finally {
        await writeFile(gate, '')
      }
      await Promise.all([held, ...others])
      assert.equal(shell.pending, { waiting: 0 })
    })()
  }))

test('close() lets the given commands end, and then the process', async () => {
  const shell = openShell()
  const rows = ['1', '2'].map((word) => ask(shell, 'echo', word))
  await shell.close()
  for (const { pid } of await Promise.all(rows)) assert.not.ok(isAlive(pid))
})

test('close() of a shell that was never used, or used and closed, has nothing to do', async () => {
  const shell = openShell(['/nowhere/lvm', []])
  await shell.close()
  const used = openShell()
  await ask(used, 'echo')
  await used.close()
  await used.close()
})

test('lvm that is not installed, or no program, is an error that says so, each time', async () => {
  const missing = openShell(['/nowhere/lvm', []])
  for (let i = 0; i < 2; i++) await fails(() => missing.run(['lvs']), /^lvm is not installed$/)
  await fails(() => openShell(['/dev/null', []]).run(['lvs']), /^lvm cannot be run \(.*EACCES/)
})

test.run()
