/** The logs of the programs that a test started, kept until the test's end is known. */
import { linkSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

const lines = 12

/** Has the runner show the end of a log, which exists, when a test fails, even if its folder is gone by then. */
export function keepLog(file: string): void {
  const folder = process.env.TEST_LOGS
  if (!folder) return
  const kept = join(folder, basename(file))
  // Of another start of the same program.
  rmSync(kept, { force: true })
  linkSync(file, kept)
}

/** The same for what a program wrote, if no file has it. */
export function keepOutput(name: string, text: string): void {
  if (process.env.TEST_LOGS && text !== '') writeFileSync(join(process.env.TEST_LOGS, name), text, { flag: 'a' })
}

/** The last lines of all logs in a folder. */
export function showLogs(folder: string): string {
  const ends = readdirSync(folder).map((name) => {
    const text = readFileSync(join(folder, name), 'utf8').trimEnd().split('\n').slice(-lines)
    return `--- end of ${name}\n${text.map((line) => line.slice(0, 500)).join('\n')}\n`
  })
  return ends.join('')
}
