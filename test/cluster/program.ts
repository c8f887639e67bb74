import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { CommandError, commandEnv, type Output } from '../../src/run.ts'
import { patience } from '../patience.ts'
import { keepLog } from '../runner/logs.ts'

/** A program of the rig that can be ended and started again. */
export interface Component {
  readonly name: string
  /** Throws when it does not run. */
  readonly pid: number
  /** The file that holds its output, of all its starts. */
  readonly log: string
  /** Sends a signal and waits for the end, which takes what it had started itself with it. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /** Starts it and waits until it serves; throws with the end of the log. */
  start(): Promise<void>
  /** Stops it on the spot, until `resume()`. */
  pause(): void
  resume(): void
}

/** What to start, and how to see that it serves. */
export interface ProgramOptions {
  name: string
  command: readonly string[]
  env?: Readonly<Record<string, string>>
  log: string
  /** Resolves when it serves. */
  ready(signal: AbortSignal): Promise<unknown>
}

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) killGroup(child)
})

/** A program that never outlives this process. */
export class Program implements Component {
  readonly name: string
  readonly log: string
  readonly #options: ProgramOptions
  #run: { child: ChildProcess; ended: Promise<string> } | undefined

  constructor(options: ProgramOptions) {
    this.name = options.name
    this.log = options.log
    this.#options = options
  }

  get pid(): number {
    const pid = this.#run?.child.pid
    if (pid === undefined) throw new Error(`Cannot tell the process of ${this.name} as it does not run`)
    return pid
  }

  async start(): Promise<void> {
    if (this.#run) throw new Error(`Cannot start ${this.name} as it runs already`)
    const log = openSync(this.log, 'a')
    // A process group of its own, so that all of it goes at once; and should this process be killed, the kernel ends it.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...this.#options.command], {
      env: { ...commandEnv(), ...this.#options.env },
      stdio: ['ignore', log, log],
      detached: true,
    })
    closeSync(log)
    keepLog(this.log)
    running.add(child)
    const ended = Promise.race([
      once(child, 'exit').then(([exitCode, signal]) => `exit status ${exitCode}, signal ${signal}`),
      once(child, 'error').then(([error]) => String(error)),
    ])
    const current = { child, ended }
    this.#run = current
    ended.then(() => {
      killGroup(child)
      running.delete(child)
      if (this.#run === current) this.#run = undefined
    })
    const over = new AbortController()
    try {
      const early = ended.then((how) => Promise.reject(new Error(`it ended (${how})`)))
      await Promise.race([this.#options.ready(over.signal), early])
    } catch (error) {
      await this.kill()
      const reason = error instanceof Error ? error.message : error
      throw new Error(`Cannot start ${this.name}: ${reason}\n--- end of ${this.log}\n${tailOf(this.log)}`)
    } finally {
      over.abort()
    }
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (!this.#run) return
    const { child, ended } = this.#run
    if (signal === 'SIGKILL') killGroup(child)
    else child.kill(signal)
    await ended
  }

  /** Resolves when it has ended, by itself or not. */
  async ended(): Promise<void> {
    await this.#run?.ended
  }

  pause(): void {
    process.kill(this.pid, 'SIGSTOP')
  }

  resume(): void {
    process.kill(this.pid, 'SIGCONT')
  }
}

/** Runs one program to its end, as `run()` does, with text for its standard input. Throws `CommandError`. */
export async function runWithInput(
  file: string,
  args: readonly string[],
  options: { env?: Readonly<Record<string, string>>; input?: string; accept?: readonly number[] },
): Promise<Output> {
  const child = spawn(file, args, { env: { ...commandEnv(), ...options.env }, stdio: 'pipe', detached: true })
  running.add(child)
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
    })
  // It may end without having read all.
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  try {
    const [exitCode, signal]: (number | string | null)[] = await once(child, 'close')
    if (exitCode === 0 || (typeof exitCode === 'number' && options.accept?.includes(exitCode)))
      return { exitCode, ...output }
    throw new CommandError(
      { file, args },
      typeof exitCode === 'number' ? { exitCode, ...output } : { signal: String(signal), ...output },
    )
  } finally {
    running.delete(child)
  }
}

/** Asks again and again until the answer is yes; throws when that takes too long, see `patience`. */
export async function poll(check: () => Promise<boolean>, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const deadline = Date.now() + timeoutMs * patience
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`it does not serve after ${timeoutMs * patience} ms`)
    await sleep(50, undefined, signal ? { signal } : {})
  }
}

/** The last lines of a log. */
export function tailOf(log: string): string {
  return readFileSync(log, 'utf8').slice(-3000).trimEnd()
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // All gone already.
  }
}
