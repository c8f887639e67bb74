import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { suite } from '../test/suite.ts'
import { thrownBy } from '../test/thrown.ts'
import { CommandError, hostCommand, observeRunner, type RunOptions, run, searchPath } from './run.ts'

const test = suite('run')
const node = (script: string, options?: RunOptions) => run(process.execPath, ['-e', script], options)

const fails = (work: () => unknown) => thrownBy(CommandError, work)

test('run() gives what a command wrote and how it ended; words on standard error are no failure', async () => {
  assert.equal(await node('console.log("out"); console.error("err")'), {
    exitCode: 0,
    stdout: 'out\n',
    stderr: 'err\n',
  })
})

test('run() takes a status for an answer only where it is told so', async () => {
  assert.is((await node('process.exit(2)', { accept: [1, 2] })).exitCode, 2)
  const error = await fails(() => node('console.error(" it broke "); process.exit(3)', { accept: [1, 2] }))
  assert.is(error.exitCode, 3)
  assert.is(error.message, `${process.execPath} exited with 3: it broke`)
})

test('run() says that a program is not there, cannot be run, or was ended by a signal', async () => {
  assert.match((await fails(() => run('no-such-program', []))).message, /^no-such-program is not installed$/)
  assert.match((await fails(() => run('/dev/null', []))).message, /^\/dev\/null cannot be run \(EACCES\)$/)
  const killed = await fails(() => node('process.kill(process.pid, "SIGKILL")'))
  assert.match(killed.message, /was killed by SIGKILL$/)
  assert.is(killed.signal, 'SIGKILL')
  assert.is(killed.exitCode, undefined)
})

test('run() ends a command that gives no answer in time, and says so', async () => {
  assert.match(
    (await fails(() => node('setInterval(() => {}, 1000)', { timeoutMs: 50 }))).message,
    /gave no answer within 50 ms$/,
  )
})

test('run() fails, and the process lives on, when no file descriptor is left', async () => {
  const script = `
    import { openSync, writeSync } from 'node:fs'
    import { run } from ${JSON.stringify(join(import.meta.dirname, 'run.ts'))}
    try { for (;;) openSync('/dev/null') } catch {}
    await run('true', []).then(() => {}, (error) => writeSync(1, error.message))
    setImmediate(() => writeSync(1, ', and on'))`
  const command = 'ulimit -n 60 && exec "$0" --input-type=module -e "$1"'
  assert.is((await run('sh', ['-c', command, process.execPath, script])).stdout, 'true cannot be run (EMFILE), and on')
})

test('run() passes each argument as it is, never through a shell', async () => {
  const args = ['a b', '$HOME', '; exit 1', '*', '"', "'", '\\', '', 'ä\n']
  const script = 'process.stdout.write(JSON.stringify(process.argv.slice(1)))'
  assert.equal(JSON.parse((await run(process.execPath, ['-e', script, '--', ...args])).stdout), args)
})

test("commands speak English, LVM's complaint about descriptors is off, and system tools are found", async () => {
  const { stdout } = await node('const e = process.env; console.log(e.LC_ALL, e.LVM_SUPPRESS_FD_WARNINGS, e.PATH)')
  assert.is(stdout, `C 1 ${searchPath()}\n`)
  for (const folder of ['/usr/sbin', '/sbin', '/bin']) assert.ok(searchPath().split(':').includes(folder))
})

test('run() takes 20 MB of output', async () => {
  assert.is((await node('process.stdout.write("x".repeat(20e6))')).stdout.length, 20e6)
})

test("hostCommand() enters the host's mounts and IPC namespace, and keeps the command's flags from nsenter", () => {
  assert.equal(hostCommand('lvs', ['-o', 'x']), [
    'nsenter',
    ['--target', '1', '--mount', '--ipc', '--', 'lvs', '-o', 'x'],
  ])
})

test('observeRunner() tells of each program by its name, and what it was given', async () => {
  const told: string[] = []
  const observed = observeRunner(run, ({ what, about, result }) => told.push(`${what} ${about}: ${result}`))
  assert.is((await observed('/bin/echo', ['one', 'two'])).stdout, 'one two\n')
  await fails(() => observed('false', []))
  assert.equal(told, ['echo one two: success', 'false : failed'])
})

test.run()
