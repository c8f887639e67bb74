/** The test runner itself: what it says of tests that fail, leave something or do not run. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { poll } from '../cluster/program.ts'
import type { Job, Surroundings } from '../runner/jobs.ts'
import { runJob } from '../runner/run-job.ts'
import { withScratch } from '../scratch.ts'
import { suite } from '../suite.ts'

const test = suite('runner')
const said = (passed: number, total: number) =>
  `  Total:     ${total}\n  Passed:    ${passed}\n  Skipped:   0\n  Duration:  1.00ms\n\n`

/** Runs a job that does `work`, says that of its tests and ends with that exit status. */
async function play(words: string, exitCode: number, work: (surroundings: Surroundings) => unknown = () => {}) {
  let result: Awaited<ReturnType<typeof runJob>> | undefined
  await withScratch(async (scratch) => {
    const folder = join(scratch, 'job')
    const job: Job = {
      title: 'job',
      lane: 'free',
      run: async (surroundings) => {
        await work(surroundings)
        surroundings.onOutput(words)
        return exitCode
      },
    }
    result = await runJob(job, folder)
    assert.not(existsSync(folder))
  })
  const { passed = 0, failed = 0, text = '', failures = '' } = result ?? {}
  return { counts: [passed, failed], text, failures }
}

test('tests that pass are one line', async () => {
  const { counts, text } = await play(said(3, 3), 0)
  assert.equal(counts, [3, 0])
  assert.match(text, /^ok {3}job: 3 passed, 0 failed \(\d+\.\d s\)\n$/)
})

test('a test that fails is shown with the ends of the logs of what it started', async () => {
  const { counts, text } = await play(`FAIL a test\n${said(2, 3)}`, 1, async ({ env }) => {
    await writeFile(join(env.TEST_LOGS ?? '', 'daemon.log'), `${'old\n'.repeat(100)}it broke\n`)
  })
  assert.equal(counts, [2, 1])
  assert.match(text, /^FAIL a test\n/)
  assert.match(text, /--- end of daemon\.log\n(old\n){11}it broke\n/)
  assert.match(text, /\nFAIL job: 2 passed, 1 failed /)
})

test('what failed is told in short, with the beginning and the end of each reason', async () => {
  const reason = Array.from({ length: 100 }, (_, number) => `    line ${number}\n`).join('')
  const words = `   FAIL  one  "first"\n${reason}    at ${'…'.repeat(400)}\n\n   FAIL  one  "second"\n    no reason\n${said(1, 3)}`
  const { failures } = await play(words, 1)
  const lines = failures.trimEnd().split('\n')
  assert.equal([lines[0], lines[1], lines.at(-1)], ['job:', '     FAIL  one  "first"', '      no reason'])
  assert.match(failures, /line 2\n {2}\[…\]\n {6}line 92\n/)
  assert.match(failures, /line 99\n {5}FAIL {2}one {2}"second"\n/)
  assert.match((await play('it hangs\n', 1)).failures, /^job:\n {2}it hangs\n/)
  assert.is((await play(said(3, 3), 0)).failures, '')
})

test('a hook that fails is told of with its reason, and none of the tests that it is for passes', async () => {
  await withScratch(async (folder) => {
    const file = join(folder, 'hook.test.ts')
    const from = join(import.meta.dirname, '../suite.ts')
    await writeFile(
      file,
      `import { suite } from '${from}'
      const test = suite('it')
      test.before(() => { throw new Error('the guest does not boot') })
      test('one', () => {})
      test.run()`,
    )
    const { stdout } = await run(process.execPath, [file])
    assert.match(stdout, /FAIL {2}it, in a hook\nError: the guest does not boot\n/)
    assert.match(stdout, /Total: +1\n +Passed: +0\n/)
  })
})

test('a job that runs no test, or ends badly though all its tests passed, is a failure', async () => {
  assert.equal((await play('', 0)).counts, [0, 1])
  assert.equal((await play(said(3, 3), 1)).counts, [3, 1])
})

test('an image in memory that stays on a loop device is a failure, and is taken away', async () => {
  const { counts, text } = await play(said(1, 1), 0, async ({ env }) => {
    const image = join(env.TEST_MEMORY ?? '', 'image')
    await run('truncate', ['--size=1M', image])
    await run('losetup', ['--find', image])
  })
  assert.equal(counts, [1, 1])
  assert.match(text, /It left loop device \S+ of \/dev\/shm\/\S+\/image\nIt left scratch \/dev\/shm\//)
})

test('a process, a mount, a loop device and a folder that stay are a failure, and are taken away', async () => {
  let child: ReturnType<typeof spawn> | undefined
  let loop = ''
  const { counts, text } = await play(said(1, 1), 0, async ({ env }) => {
    const [folder, mounted, image] = ['folder', 'mounted', 'other.img'].map((name) => join(env.TMPDIR ?? '', name))
    child = spawn('sleep', ['1000'], { env, stdio: 'ignore', detached: true })
    for (const path of [folder, mounted]) await mkdir(path ?? '')
    await run('mount', ['-t', 'tmpfs', 'tmpfs', mounted ?? ''])
    await run('truncate', ['--size=1M', image ?? ''])
    loop = (await run('losetup', ['--find', '--show', image ?? ''])).stdout.trim()
  })
  assert.equal(counts, [1, 1])
  for (const words of [`process ${child?.pid}: sleep 1000`, 'mount /', `loop device ${loop} of /`, 'scratch /'])
    assert.ok(text.includes(`It left ${words}`), words)
  // The kernel lets go once nobody else looks into the device, as other tests may (losetup(8)).
  const image = () => readFile(`/sys/block/${loop.replace('/dev/', '')}/loop/backing_file`, 'utf8').catch(() => '')
  await poll(async () => !(await image()).includes('/other.img'), 10_000)
})

test.run()
