import { spawn } from 'node:child_process'
import { basename } from 'node:path'
import { type Observe, observed } from './meter.ts'

/** What a finished command left. */
export interface Output {
  exitCode: number
  stdout: string
  stderr: string
}

export interface RunOptions {
  /** Ends the command after so long. For reads only: a write is never killed half way. */
  timeoutMs?: number
  /** Exit statuses other than 0 that are answers, not failures. */
  accept?: readonly number[]
  /** Open files of this process that stay open until the command has ended, too, even if this process is killed before. */
  keepOpen?: readonly number[] | undefined
}

/** Runs one program, without a shell. Throws `CommandError`. */
export type Runner = (file: string, args: readonly string[], options?: RunOptions) => Promise<Output>

/** A command that could not be started, or ended with a status nobody expected. */
export class CommandError extends Error {
  readonly file: string
  readonly args: readonly string[]
  /** Missing when a signal ended it, or it never started. */
  readonly exitCode: number | undefined
  readonly signal: string | undefined
  readonly stdout: string
  readonly stderr: string

  constructor(
    command: { file: string; args: readonly string[] },
    end: { exitCode?: number; signal?: string; stdout?: string; stderr?: string; reason?: string },
  ) {
    const { stdout = '', stderr = '', exitCode, signal } = end
    const how = end.reason ?? (signal ? `was killed by ${signal}` : `exited with ${exitCode}`)
    // e2fsck says what is wrong on the one, and its version on the other.
    const said = [stderr.trim(), stdout.trim()].filter(Boolean).join('\n').slice(0, 2000)
    super(`${command.file} ${how}${said ? `: ${said}` : ''}`)
    this.name = 'CommandError'
    this.file = command.file
    this.args = command.args
    this.exitCode = exitCode
    this.signal = signal
    this.stdout = stdout
    this.stderr = stderr
  }
}

/** The environment of every command: the caller's, with messages in English and LVM's complaint about fds off. */
export function commandEnv(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: searchPath(), LC_ALL: 'C', LVM_SUPPRESS_FD_WARNINGS: '1' }
}

/** `PATH`, with the folders where system tools are, which a service's environment may lack. */
export function searchPath(): string {
  return [process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'].filter(Boolean).join(':')
}

/** Characters of standard error that are kept, and the piece in which they are reached. */
const stderrLimit = 64 * 1024

/** Runs the programs of this machine, or container. */
export const run: Runner = (file, args, options = {}) =>
  new Promise((resolve, reject) => {
    const { timeoutMs, accept = [], keepOpen = [] } = options
    // In a process group of its own, so that Ctrl-C on the daemon's terminal does not cut a command short.
    const child = spawn(file, args, {
      env: commandEnv(),
      stdio: ['ignore', 'pipe', 'pipe', ...keepOpen],
      detached: true,
    })
    const output = { stdout: '', stderr: '' }
    let timer: NodeJS.Timeout | undefined
    const fail = (end: { reason?: string; exitCode?: number; signal?: string }) => {
      clearTimeout(timer)
      reject(new CommandError({ file, args }, { ...output, ...end }))
    }
    child.once('error', (error: NodeJS.ErrnoException) =>
      fail({ reason: error.code === 'ENOENT' ? 'is not installed' : `cannot be run (${error.code})` }),
    )
    child.once('close', (exitCode, signal) => {
      if (exitCode === null) return fail(signal ? { signal } : {})
      if (exitCode !== 0 && !accept.includes(exitCode)) return fail({ exitCode })
      clearTimeout(timer)
      resolve({ exitCode, ...output })
    })
    // Missing when this process has no file descriptor left.
    for (const name of ['stdout', 'stderr'] as const)
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        // Of a command that complains without end, the first words are enough.
        if (name === 'stdout' || output.stderr.length < stderrLimit) output[name] += text
      })
    if (timeoutMs !== undefined)
      timer = setTimeout(() => {
        child.kill('SIGKILL')
        fail({ reason: `gave no answer within ${timeoutMs} ms`, signal: 'SIGKILL' })
      }, timeoutMs)
  })

/**
 * The command line that runs `file` with the host's tools, from a container that shares the host's processes. Of the
 * host's IPC namespace, too, in which LVM waits for udev.
 */
export function hostCommand(file: string, args: readonly string[]): [string, string[]] {
  return ['nsenter', ['--target', '1', '--mount', '--ipc', '--', file, ...args]]
}

/** Runs the host's programs (nsenter(1)). */
export const runOnHost: Runner = (file, args, options) => run(...hostCommand(file, args), options)

/** The runner, telling of each program. */
export const observeRunner = (runner: Runner, observe: Observe): Runner => {
  const observedRunner: Runner = (file, args, options) =>
    observed(observe, { what: basename(file), about: args.join(' ') }, () => runner(file, args, options))
  return observedRunner
}
