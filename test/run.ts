/** Runs suites of tests, each file in a process of its own, and ends with one line that counts them all. */
import { spawn } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { ensureControlPlane, ensureHelm } from './cluster/build.ts'
import { bootGuest, createDisk } from './guest/guest.ts'

const root = join(import.meta.dirname, '..')
const gibibyte = 2 ** 30
const guestTimeoutMs = 20 * 60_000
/** A torture takes as long as it is told to. */
const tortureTimeoutMs = 2 ** 31 - 1
const fileTimeoutMs = 3 * 60_000
/** A crash matrix has hundreds of cases, and fuzzing hundreds of thousands. */
const longFileTimeoutMs = 8 * 60_000
const clusterFileTimeoutMs = 12 * 60_000
/** How many jobs of a suite run side by side. Those on this kernel share its loop devices, which others would hold. */
const atOnce: Record<string, number> = { unit: 2, guest: 2, kernel: 1, executable: 1, cluster: 1, torture: 1 }

interface Job {
  title: string
  /** Is cut off when `signal` aborts. */
  run(onOutput: (text: string) => void, signal: AbortSignal): Promise<number>
}

/** Runs a test file on this machine, in a mount namespace of its own if it mounts. */
function fileJob(file: string, isolate: boolean, timeout = fileTimeoutMs): Job {
  const node = [process.execPath, file]
  const [command = '', ...args] = isolate ? ['unshare', '--mount', '--propagation', 'private', '--', ...node] : node
  return {
    title: relative(root, file),
    run: (onOutput, signal) =>
      new Promise((resolve, reject) => {
        const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], timeout })
        signal.addEventListener('abort', () => child.kill())
        for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', onOutput)
        child.once('error', reject)
        child.once('close', (exitCode) => resolve(exitCode ?? 1))
      }),
  }
}

/** What says how long and random tests go on, for guests, which get nothing else of this environment. */
function tortureEnv(): Record<string, string> {
  const names = ['TORTURE', 'SEED']
  return Object.fromEntries(names.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])))
}

/** One start of a guest: what its program is told, and the text at which its power is cut. */
interface Boot {
  args: string[]
  cutAt?: string
}

/** Runs a program of `test/guest` in a guest with a new disk, rebooting between the boots. */
function guestJob(program: string, ...boots: Boot[]): Job {
  return {
    title: `test/guest/${program} ${boots.map(({ args, cutAt }) => `${args.join(' ')}${cutAt ? ' (power cut)' : ''}`).join(', ')}`,
    run: async (onOutput, signal) => {
      const scratchDir = await mkdtemp(join(tmpdir(), 'elastic-local-guest-job-'))
      try {
        const disk = join(scratchDir, 'disk.img')
        await createDisk(disk, 8 * gibibyte)
        const common = {
          disk,
          scratchDir,
          program: join(root, 'test/guest', program),
          timeoutMs: process.env.TORTURE ? tortureTimeoutMs : guestTimeoutMs,
          env: tortureEnv(),
          onOutput,
        }
        for (const { args, cutAt } of boots) {
          const guest = await bootGuest({ ...common, args })
          signal.addEventListener('abort', () => guest.powerCut())
          if (cutAt) {
            await guest.printed(cutAt)
            await guest.powerCut()
          } else {
            const { exitCode } = await guest.result
            if (exitCode !== 0) return exitCode
          }
        }
        return 0
      } catch (error) {
        onOutput(`${error}\n`)
        return 1
      } finally {
        await rm(scratchDir, { recursive: true, force: true })
      }
    },
  }
}

async function testFiles(folder: string): Promise<string[]> {
  const files = await readdir(join(root, folder), { recursive: true })
  return files
    .filter((file) => file.endsWith('.test.ts'))
    .sort()
    .map((file) => join(root, folder, file))
}

const suites: Record<string, () => Promise<Job[]>> = {
  unit: async () =>
    (await Promise.all(['src', 'image', 'test/config', 'test/docs'].map(testFiles)))
      .flat()
      .map((file) => fileJob(file, false)),
  kernel: async () => (await testFiles('test/kernel')).map((file) => fileJob(file, true, longFileTimeoutMs)),
  executable: async () =>
    ['executable', 'demo', 'modes', 'fuzz', 'image', 'completion'].map((name) =>
      fileJob(join(root, `test/${name}.test.ts`), true, longFileTimeoutMs),
    ),
  cluster: async () => {
    // Not in the time of the first test.
    await ensureControlPlane()
    await ensureHelm()
    const { ensureBusyboxImage, ensureImage } = await import('./cluster/image.ts')
    await Promise.all([ensureImage(), ensureBusyboxImage()])
    return (await testFiles('test/cluster')).map((file) => fileJob(file, true, clusterFileTimeoutMs))
  },
  torture: async () => [
    ...['crash', 'histories'].map((name) => fileJob(join(root, `src/volume/${name}.test.ts`), false, tortureTimeoutMs)),
    ...['crash', 'histories', 'killed'].map((name) =>
      fileJob(join(root, `test/kernel/${name}.test.ts`), true, tortureTimeoutMs),
    ),
    ...['linear', 'thin'].map((kind) => guestJob('crash.ts', { args: [kind] })),
  ],
  guest: async () => [
    ...['linear', 'thin', 'loop', 'host'].map((part) => guestJob('pools.ts', { args: [part] })),
    ...['linear', 'thin'].map((kind) => guestJob('crash.ts', { args: [kind] })),
    guestJob('group.ts', { args: [] }),
    guestJob('full.ts', { args: [] }),
    guestJob('faults.ts', { args: [] }),
    guestJob('thin-metadata.ts', { args: [] }),
    ...['linear', 'thin'].map((kind) =>
      guestJob(
        'reboot.ts',
        { args: [kind, 'make'] },
        { args: [kind, 'interrupt'], cutAt: 'CUT' },
        { args: [kind, 'check'] },
      ),
    ),
  ],
}

/** What uvu says last. */
const lastWords = /\n\s+Duration: .*\s*$/
/** A file ends so soon after that, or something of a failed test keeps it alive. */
const endingMs = 30_000

/** Runs a job and counts what uvu said; a file that fails without a failed test, or runs none, is one failure. */
async function runJob(job: Job): Promise<{ passed: number; failed: number }> {
  let output = ''
  const startedAt = Date.now()
  const end = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const exitCode = await job.run((text) => {
    output += text
    clearTimeout(timer)
    if (!lastWords.test(output.slice(-100))) return
    timer = setTimeout(() => {
      output += 'It did not end by itself.\n'
      end.abort()
    }, endingMs)
  }, end.signal)
  clearTimeout(timer)
  const sum = (label: string) =>
    [...output.matchAll(new RegExp(`^\\s+${label}:\\s+(\\d+)`, 'gm'))].reduce(
      (total, match) => total + Number(match[1]),
      0,
    )
  const passed = sum('Passed')
  const failed = Math.max(sum('Total') - sum('Skipped') - passed, exitCode === 0 && passed > 0 ? 0 : 1)
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1)
  if (failed > 0) process.stdout.write(output)
  process.stdout.write(
    `${failed > 0 ? 'FAIL' : 'ok  '} ${job.title}: ${passed} passed, ${failed} failed (${seconds} s)\n`,
  )
  return { passed, failed }
}

const names = process.argv.slice(2)
const unknown = names.find((name) => !Object.hasOwn(suites, name))
if (unknown !== undefined || names.length === 0)
  throw new Error(`Cannot run ${unknown ?? 'nothing'} as suites must be of ${Object.keys(suites).join(', ')}.`)
const total = { passed: 0, failed: 0 }
for (const name of names) {
  const jobs = (await suites[name]?.()) ?? []
  const work = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      const { passed, failed } = await runJob(job)
      total.passed += passed
      total.failed += failed
    }
  }
  await Promise.all(Array.from({ length: atOnce[name] ?? 1 }, work))
}
process.stdout.write(`${total.passed} passed, ${total.failed} failed\n`)
process.exitCode = total.failed > 0 ? 1 : 0
