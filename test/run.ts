/**
 * Runs suites of tests, each file in a process of its own and several side by side, and ends with how long each suite
 * took and one line that counts them all:
 *
 *   test/run.ts unit kernel            these suites
 *   test/run.ts --only reboot guest    of them, what has that in its title
 *
 * With `LONG` in its environment, it runs all that there is, not only what shows that everything works.
 */
import { chmodSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import prettyMs from 'pretty-ms'
import { messageOf } from '../src/volume/errors.ts'
import type { Job, Lane } from './runner/jobs.ts'
import { runJob } from './runner/run-job.ts'
import { checkComplete, suites } from './runner/suites.ts'

/** How many jobs of a kind run side by side, and how many in all: those on this kernel share its loop devices. */
const lanes: Readonly<Record<Lane, number>> = { free: 2, machine: 1, guest: 2, cluster: 4 }
const atOnce = 4

interface Count {
  passed: number
  failed: number
  skipped: number
  /** From the start of the first job of a suite to the end of its last. */
  startedAt: number
  endedAt: number
}

const { positionals: names, values } = parseArgs({ allowPositionals: true, options: { only: { type: 'string' } } })
const unknown = names.find((name) => !Object.hasOwn(suites, name))
if (unknown !== undefined || names.length === 0)
  throw new Error(`Cannot run ${unknown ?? 'nothing'} as suites must be of ${Object.keys(suites).join(', ')}.`)
await checkComplete()

const startedAt = Date.now()
const runFolder = mkdtempSync(join(tmpdir(), 'el-'))
// Some tests start programs as other users, who must get there.
chmodSync(runFolder, 0o755)
// Compiling the sources takes most programs here longer than what they do, and twenty times as long in a guest.
const compiled = join(runFolder, 'compiled')
process.env.NODE_COMPILE_CACHE = compiled
const counts = new Map<string, Count>()
const failed: string[] = []
const say = (text: string) => process.stdout.write(`${text}\n`)

/** Counts for a suite; gives its sums. */
function count(suite: string, { passed = 0, failed = 0, skipped = 0 }: Partial<Count>): Count {
  const sums = counts.get(suite) ?? { passed: 0, failed: 0, skipped: 0, startedAt: Date.now(), endedAt: Date.now() }
  sums.passed += passed
  sums.failed += failed
  sums.skipped += skipped
  sums.endedAt = Date.now()
  counts.set(suite, sums)
  return sums
}

/** The jobs of all suites, in their order; of one that this machine cannot run, none, which is one failure. */
async function plan(): Promise<{ suite: string; job: Job }[]> {
  const planned = []
  for (const suite of names) {
    const { prepare, jobs } = suites[suite] ?? {}
    const since = Date.now()
    const progress = setInterval(
      () => say(`Making what ${suite} needs: ${prettyMs(Date.now() - since)} by now ...`),
      60_000,
    )
    try {
      await prepare?.()
    } catch (error) {
      const why = `${suite}: it cannot run as ${messageOf(error).split('\n')[0]}`
      say(`FAIL ${why}`)
      failed.push(`${why}\n`)
      count(suite, { failed: 1 })
      continue
    } finally {
      clearInterval(progress)
    }
    const wanted = ((await jobs?.()) ?? []).filter(({ title }) => title.includes(values.only ?? ''))
    planned.push(...wanted.map((job) => ({ suite, job })))
  }
  return planned
}

/** Runs all jobs, each as soon as its lane has room, in their order. */
async function runAll(waiting: { suite: string; job: Job }[]): Promise<void> {
  let number = 0
  const running = new Map<Promise<void>, Lane>()
  const hasRoom = (lane: Lane) => [...running.values()].filter((other) => other === lane).length < lanes[lane]
  while (waiting.length > 0 || running.size > 0) {
    const index = running.size < atOnce ? waiting.findIndex(({ job }) => hasRoom(job.lane)) : -1
    if (index < 0) {
      await Promise.race(running.keys())
      continue
    }
    const [next] = waiting.splice(index, 1)
    if (!next) continue
    count(next.suite, {})
    const { suite, job } = next
    const work: Promise<void> = runJob(job, join(runFolder, String(number++))).then(({ text, failures, ...sums }) => {
      process.stdout.write(text)
      if (failures) failed.push(failures)
      count(suite, sums)
      running.delete(work)
    })
    running.set(work, next.job.lane)
  }
}

const planned = await plan()
const plannedAt = Date.now()
await runAll(planned)
rmSync(compiled, { recursive: true, force: true })
rmdirSync(runFolder)

if (failed.length > 0) say(`\nWhat failed, in short:\n${failed.join('')}`)
say(`\nWhat is made once and what the machine can do: ${prettyMs(plannedAt - startedAt)}.`)
for (const [suite, { passed, failed, skipped, startedAt, endedAt }] of counts)
  say(
    `${suite}: ${passed} passed, ${failed} failed, ${skipped} skipped, from start to end ${prettyMs(endedAt - startedAt)}`,
  )
say(`In all ${prettyMs(Date.now() - startedAt)}.`)
const total = (key: 'passed' | 'failed' | 'skipped') => [...counts.values()].reduce((sum, each) => sum + each[key], 0)
say(`${total('passed')} passed, ${total('failed')} failed${total('skipped') ? `, ${total('skipped')} skipped` : ''}`)
process.exitCode = total('failed') > 0 ? 1 : 0
