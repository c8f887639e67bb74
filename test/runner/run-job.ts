/** Runs one job, counts its tests, and finds out why it failed and what it left. */
import { existsSync, mkdirSync, rmdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../../src/volume/errors.ts'
import { summarise } from './failures.ts'
import type { Job } from './jobs.ts'
import { findLeftovers, type Leftover } from './leftovers.ts'
import { showLogs } from './logs.ts'

/** What uvu says last. */
const lastWords = /\n\s+Duration: .*\s*$/
/** A file ends so soon after that, or something of a failed test keeps it alive. */
const endingMs = 30_000

/** How many tests a job ran, and what is to be said of them. */
export interface JobResult {
  passed: number
  failed: number
  skipped: number
  text: string
  /** What failed, in short; empty when nothing did. */
  failures: string
}

/** What was told to end with its job gets so long to do it. */
const goingMs = 10_000

/** What is left once all that is on its way out is gone. */
async function waitForLeftovers(folders: readonly string[]): Promise<Leftover[]> {
  const deadline = Date.now() + goingMs
  for (;;) {
    const leftovers = findLeftovers(folders)
    if (leftovers.length === 0 || Date.now() > deadline) return leftovers
    await sleep(100)
  }
}

/** Where the kernel keeps files in memory (shm_overview(7)). */
const memory = '/dev/shm'

/**
 * Runs a job in a scratch folder of that name, which is not there yet and goes with all that the job left in it or made
 * of it, and one in memory. A job that fails without a failed test, runs none or leaves something is one failure.
 */
export async function runJob(job: Job, folder: string): Promise<JobResult> {
  const logs = `${folder}.logs`
  const inMemory = join(memory, folder.slice(1).replaceAll('/', '-'))
  const scratch = existsSync(memory) ? [folder, inMemory] : [folder]
  for (const path of [...scratch, logs]) mkdirSync(path)
  const startedAt = Date.now()
  let output = ''
  const end = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const exitCode = await job.run({
    env: { ...process.env, TMPDIR: folder, TEST_MEMORY: inMemory, TEST_LOGS: logs },
    signal: end.signal,
    onOutput: (text) => {
      output += text
      clearTimeout(timer)
      if (!lastWords.test(output.slice(-100))) return
      timer = setTimeout(() => {
        output += 'It did not end by itself.\n'
        end.abort()
      }, endingMs)
    },
  })
  clearTimeout(timer)
  const leftovers = await waitForLeftovers(scratch)
  for (const { words, remove } of leftovers) {
    output += `It left ${words}\n`
    await remove().catch((error) => {
      output += `${messageOf(error)}\n`
    })
  }
  const sum = (label: string) =>
    [...output.matchAll(new RegExp(`^\\s+${label}:\\s+(\\d+)`, 'gm'))].reduce(
      (total, match) => total + Number(match[1]),
      0,
    )
  const [passed, skipped] = [sum('Passed'), sum('Skipped')]
  const hasFailed = exitCode !== 0 || passed + skipped === 0 || leftovers.length > 0
  const failed = Math.max(sum('Total') - passed, hasFailed ? 1 : 0)
  const words = `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
  const last = `${failed > 0 ? 'FAIL' : 'ok  '} ${job.title}: ${words} (${((Date.now() - startedAt) / 1000).toFixed(1)} s)`
  const whySkipped = [...output.matchAll(/^skipped on .*$/gm)].map(([line]) => `${line}\n`).join('')
  const text = failed > 0 ? `${output}${showLogs(logs)}${last}\n` : `${whySkipped}${last}\n`
  rmSync(logs, { recursive: true })
  for (const path of scratch) rmdirSync(path)
  return { passed, failed, skipped, text, failures: failed > 0 ? `${job.title}:\n${summarise(output)}` : '' }
}
