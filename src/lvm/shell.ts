import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { type Backlog, type Meter, observed } from '../meter.ts'
import { CommandError, commandEnv } from '../run.ts'
import { commandOf, type LvmAnswer, parseAnswer } from './report.ts'

/** Runs one LVM command, such as `['lvremove', '--yes', 'vg/name']`. Throws `CommandError` with LVM's own words. */
export type LvmRunner = (command: readonly string[]) => Promise<LvmAnswer>

/** What the shell takes in one line without quoting; it also answers nothing to more than 63 words. */
const plainWord = /^[A-Za-z0-9_.+\-/=:,@%|!{}&]+$/
const mostWords = 63
/** Answers come on a descriptor of their own (lvmreport(7)), so that no prompt or warning mixes with them. */
const reportFd = 3
/** How LVM ends a document; brackets within are indented deeper. */
const documentEnd = '\n  }\n'

interface Pending {
  command: readonly string[]
  /** When it was begun, in milliseconds of `uptimeMs`. */
  sinceMs: number
}

/**
 * One `lvm` process that is fed commands (lvm(8)), one at a time in the order of the calls: several times faster than
 * a process for each, and a queue for the volume group at once. A process that ends is replaced at the next command;
 * the command it ended in fails, and whoever asked looks again at what is there. After each command comes one that there
 * is not, with a number in its name: where its answer is not the very next, nobody can tell whose answer was read, and the
 * process is ended, as it is when it answers while nothing was asked.
 */
export class LvmShell implements Backlog {
  readonly name = 'lvm'
  readonly #file: string
  readonly #args: readonly string[]
  readonly #configDir: string
  readonly #uptimeMs: () => number
  readonly #meter: Pick<Meter, 'command' | 'backlogs'> | undefined
  #process: ChildProcess | undefined
  /** Takes what the process answers; missing while nothing was asked. */
  #onText: ((text: string) => void) | undefined
  #marks = 0
  #tail: Promise<unknown> = Promise.resolve()
  #running: Pending | undefined
  #waiting = 0

  /** `command` is what starts the shell, such as `['lvm', []]`; `uptimeMs` a clock that nobody sets. */
  constructor(parts: {
    command: [string, readonly string[]]
    configDir: string
    uptimeMs: () => number
    meter?: Pick<Meter, 'command' | 'backlogs'> | undefined
  }) {
    ;[this.#file, this.#args] = parts.command
    this.#configDir = parts.configDir
    this.#uptimeMs = parts.uptimeMs
    this.#meter = parts.meter
    this.#meter?.backlogs.add(this)
  }

  get waiting(): number {
    return this.#waiting
  }

  get running(): number {
    return this.#running ? 1 : 0
  }

  get longestMs(): number {
    return this.#running ? this.#uptimeMs() - this.#running.sinceMs : 0
  }

  /** The command that runs now, since when, and how many wait behind it. */
  get pending(): { running?: Pending; waiting: number } {
    return { ...(this.#running ? { running: this.#running } : {}), waiting: this.#waiting }
  }

  readonly run: LvmRunner = async (command) => {
    const strange = command.find((word) => !plainWord.test(word))
    if (strange !== undefined || command.length > mostWords)
      throw new CommandError(
        { file: 'lvm', args: command },
        {
          reason: `was not run as ${strange === undefined ? 'it has too many words' : `${JSON.stringify(strange)} is not a plain word`}`,
        },
      )
    this.#waiting += 1
    const turn = this.#tail.then(async () => {
      this.#waiting -= 1
      const [what = '', ...rest] = command
      this.#running = { command, sinceMs: this.#uptimeMs() }
      try {
        // Without the time that it waited for its turn.
        return await observed(this.#meter?.command, { what, about: rest.join(' ') }, () => this.#answer(command))
      } finally {
        this.#running = undefined
      }
    })
    this.#tail = turn.catch(() => {})
    return await turn
  }

  /** Ends the process after the commands that were given. */
  async close(): Promise<void> {
    await this.#tail
    this.#meter?.backlogs.delete(this)
    const child = this.#process
    if (!child) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.stdin?.end()
    await ended
  }

  async #answer(command: readonly string[]): Promise<LvmAnswer> {
    const child = this.#process ?? this.#start()
    const text = await this.#ask(child, command, command.join(' '))
    this.#marks += 1
    const mark = `end-of-answer-${this.#marks}`
    const isNext = commandOf(await this.#ask(child, command, mark)) === mark
    if (isNext && text.indexOf(documentEnd) === text.length - documentEnd.length) return parseAnswer(command, text)
    this.#discard(child)
    throw new CommandError({ file: 'lvm', args: command }, { reason: 'gave an unexpected answer' })
  }

  /** Writes a line; gives the document that is answered. */
  async #ask(child: ChildProcess, command: readonly string[], line: string): Promise<string> {
    return await new Promise((resolve, reject) => {
      const chunks: string[] = []
      let end = ''
      let stderr = ''
      this.#onText = (chunk) => {
        chunks.push(chunk)
        end = (end + chunk).slice(-documentEnd.length)
        if (end !== documentEnd) return
        finish()
        resolve(chunks.join(''))
      }
      const onError = (chunk: string) => {
        stderr = (stderr + chunk).slice(-4000)
      }
      const onEnd = (reason: string) => {
        finish()
        if (this.#process === child) this.#process = undefined
        reject(new CommandError({ file: 'lvm', args: command }, { reason, stderr }))
      }
      const onClose = (exitCode: number | null, signal: string | null) =>
        onEnd(`ended while at work (${signal ?? `status ${exitCode}`})`)
      const onStartError = (error: NodeJS.ErrnoException) =>
        onEnd(error.code === 'ENOENT' ? 'is not installed' : `cannot be run (${error.message})`)
      const finish = () => {
        this.#onText = undefined
        child.stderr?.off('data', onError)
        child.off('close', onClose).off('error', onStartError)
      }
      child.stderr?.on('data', onError)
      child.once('close', onClose).once('error', onStartError)
      ;(child.stdin as Writable).write(`${line}\n`)
    })
  }

  #discard(child: ChildProcess): void {
    if (this.#process === child) this.#process = undefined
    child.kill('SIGKILL')
  }

  #start(): ChildProcess {
    // In a process group of its own, so that Ctrl-C on the daemon's terminal does not cut a command short.
    const child = spawn(this.#file, this.#args, {
      stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
      detached: true,
      env: { ...commandEnv(), LVM_SYSTEM_DIR: this.#configDir, LVM_REPORT_FD: String(reportFd) },
    })
    child.stderr?.setEncoding('utf8').resume()
    const report = child.stdio[reportFd] as Readable
    report.setEncoding('utf8').on('data', (text: string) => {
      if (this.#onText && this.#process === child) this.#onText(text)
      else this.#discard(child)
    })
    // A process that ends between two commands is noticed here; in the middle of one, also by who waits for it.
    child.once('exit', () => {
      if (this.#process === child) this.#process = undefined
    })
    for (const stream of [child, child.stdin, child.stderr, child.stdio[reportFd]]) stream?.on('error', () => {})
    this.#process = child
    return child
  }
}
