/** What the runner runs: a test file on this machine, or a program of `test/guest` in a guest. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { cacheFolder } from '../../image/cache.ts'
import { bootGuest, createDisk } from '../guest/guest.ts'

const root = join(import.meta.dirname, '../..')
const gibibyte = 2 ** 30
/** A program that hangs must not hold up a run. Nothing that works comes near, on a machine three times slower either. */
const guestTimeoutMs = 60 * 60_000
const fileTimeoutMs = 30 * 60_000

/** What may run beside what; see `lanes`. */
export type Lane = 'free' | 'machine' | 'guest' | 'cluster'

/** One process of tests, or one guest, with a scratch folder that is all its own. */
export interface Job {
  title: string
  lane: Lane
  /** Its exit status; it is cut off when `signal` aborts. */
  run(surroundings: Surroundings): Promise<number>
}

export interface Surroundings {
  /** The environment of this process, with `TMPDIR` and what else is this job's own. */
  env: NodeJS.ProcessEnv
  onOutput(text: string): void
  signal: AbortSignal
}

/** Runs a test file on this machine, in a mount namespace of its own if it mounts; by another front of the cluster, if told. */
export function fileJob(file: string, lane: Lane, front?: 'csi'): Job {
  const node = [process.execPath, join(root, file)]
  const [command = '', ...args] =
    lane === 'free' ? node : ['unshare', '--mount', '--propagation', 'private', '--', ...node]
  return {
    title: front ? `${file} ${front}` : file,
    lane,
    run: ({ env, onOutput, signal }) =>
      new Promise((resolve, reject) => {
        const all = front ? { ...env, FRONT: front } : env
        const options = { cwd: root, env: all, timeout: process.env.TORTURE ? 0 : fileTimeoutMs }
        const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
        signal.addEventListener('abort', () => child.kill())
        for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', onOutput)
        child.once('error', reject)
        child.once('close', (exitCode) => resolve(exitCode ?? 1))
      }),
  }
}

/** One start of a guest: what its program is told, and the text at which its power is cut. */
export interface Boot {
  args: readonly string[]
  cutAt?: string
}

/** What tells tests how far to go, for guests, which get little else of an environment. */
const toldNames = ['LONG', 'TORTURE', 'SEED']

/** Programs that need btrfs in a short run, too; it takes a guest a second or two to load. */
const withBtrfs = ['reboot.ts']

/** Runs a program of `test/guest` in a guest with a new disk, rebooting between the boots. */
export function guestJob(program: string, ...boots: readonly Boot[]): Job {
  const words = boots.map(({ args, cutAt }) => `${args.join(' ')}${cutAt ? ' (power cut)' : ''}`).join(', ')
  return {
    title: `test/guest/${program} ${words}`.trim(),
    lane: 'guest',
    run: async ({ env, onOutput, signal }) => {
      const scratchDir = await mkdtemp(join(env.TMPDIR ?? '/tmp', 'guest-'))
      try {
        const disk = join(scratchDir, 'disk.img')
        await createDisk(disk, 8 * gibibyte)
        const told = toldNames.flatMap((name) => (env[name] ? [[name, env[name]]] : []))
        const common = {
          disk,
          scratchDir,
          program: join(root, 'test/guest', program),
          timeoutMs: env.TORTURE ? 2 ** 31 - 1 : guestTimeoutMs,
          // What is built once is found in the guest, too.
          env: { ...Object.fromEntries(told), XDG_CACHE_HOME: dirname(cacheFolder) },
          hostEnv: env,
          modules: env.LONG || withBtrfs.includes(program) ? ['btrfs'] : [],
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
            // What it said last were not the last words of the job.
            onOutput('The guest ended.\n')
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
