import { AssertionError } from 'node:assert'
import { isDeepStrictEqual } from 'node:util'
import { CommandError, type Output, type Runner } from '../src/run.ts'

/** One command that must be run, and how it ends: by default with status 0, without a word. */
export interface Step extends Partial<Output> {
  file: string
  args: readonly string[]
}

/**
 * Gives `work` a runner that knows only these commands, in this order, and treats their statuses as the real one does.
 * Fails on a command that is not the next one, and on one that was never run, whatever `work` makes of it.
 */
export async function scripted<T>(steps: readonly Step[], work: (run: Runner) => Promise<T>): Promise<T> {
  const left = [...steps]
  let wrong: string | undefined
  const run: Runner = async (file, args, { accept = [] } = {}) => {
    const step = left.shift()
    if (!step || !isDeepStrictEqual([file, args], [step.file, step.args])) {
      const expected = step ? [step.file, ...step.args].join(' ') : 'nothing more'
      wrong ??= `"${[file, ...args].join(' ')}" was run where the script has ${expected}`
      throw new Error(wrong)
    }
    const output = { exitCode: 0, stdout: '', stderr: '', ...step }
    if (output.exitCode !== 0 && !accept.includes(output.exitCode)) throw new CommandError({ file, args }, output)
    return output
  }
  try {
    return await work(run)
  } finally {
    const unused = left.map(({ file, args }) => [file, ...args].join(' ')).join('; ')
    // biome-ignore lint/correctness/noUnsafeFinally: a wrong script outweighs what came of it.
    if (wrong || unused) throw new AssertionError({ message: wrong ?? `never run: ${unused}` })
  }
}
