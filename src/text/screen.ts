import { createInterface } from 'node:readline/promises'
import type { Readable, Writable } from 'node:stream'
import { buildPaint, type Paint } from './paint.ts'
import { formatDuration } from './quantity.ts'

/** Where a person, or a script, sees what a command has to say. */
export interface Screen {
  /** The answer: standard output. */
  print(text: string): void
  /** A line beside the answer: standard error. */
  tell(text: string): void
  /** Colours for what is printed. */
  paint: Paint
  /** Whether the answer is printed to a person. */
  terminal: boolean
  /** How many characters fit on a line of that terminal. */
  width?: number
  /** Shows on a terminal that something goes on, and for how long already. */
  progress<T>(text: string | (() => string), work: () => Promise<T>): Promise<T>
  /** A yes or no; nothing when there is nobody to ask. */
  confirm(question: string): Promise<boolean | undefined>
}

export interface Streams {
  stdin: Readable & { isTTY?: boolean }
  stdout: Writable & { isTTY?: boolean; columns?: number }
  stderr: Writable & { isTTY?: boolean }
  env: NodeJS.ProcessEnv
}

const frames = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const frameMs = 100
/** What is quicker needs no sign of life. */
const quickMs = 300
const clearLine = '\r\u001b[2K'

export function buildScreen({ stdin, stdout, stderr, env }: Streams): Screen {
  const tell = (text: string) => void stderr.write(`${text}\n`)
  return {
    print: (text) => void stdout.write(text),
    tell,
    paint: buildPaint(stdout, env),
    terminal: stdout.isTTY === true,
    // A terminal that has no size says 0.
    ...(stdout.isTTY && stdout.columns ? { width: stdout.columns } : {}),

    progress: async (text, work) => {
      if (!stderr.isTTY || env.TERM === 'dumb') return await work()
      const paint = buildPaint(stderr, env)
      const begun = performance.now()
      let shown = false
      const timer = setInterval(() => {
        const workedMs = performance.now() - begun
        if (workedMs < quickMs) return
        shown = true
        const frame = frames[Math.floor(workedMs / frameMs) % frames.length] ?? ''
        const elapsed = workedMs >= 1000 ? paint('dim', ` ${formatDuration(workedMs)}`) : ''
        stderr.write(`${clearLine}${paint('green', frame)} ${typeof text === 'string' ? text : text()}${elapsed}`)
      }, frameMs)
      try {
        return await work()
      } finally {
        clearInterval(timer)
        if (shown) stderr.write(clearLine)
      }
    },

    confirm: async (question) => {
      if (!stdin.isTTY || !stderr.isTTY) return undefined
      const lines = createInterface({ input: stdin, output: stderr })
      try {
        // Ctrl-C and Ctrl-D are a no.
        const left = new Promise<undefined>((resolve) => {
          lines.once('SIGINT', () => resolve(undefined)).once('close', () => resolve(undefined))
        })
        const answer = await Promise.race([lines.question(`${question} [y/N] `), left])
        if (answer === undefined) stderr.write('\n')
        return /^y(es)?$/i.test(answer?.trim() ?? '')
      } finally {
        lines.close()
      }
    },
  }
}
