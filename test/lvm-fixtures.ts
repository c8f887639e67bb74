import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const folder = join(import.meta.dirname, '../src/lvm/fixtures')

/** One command that the `lvm` shell of 2.03.16 was fed on a real volume group, and the document it answered. */
export interface LvmFixture {
  command: string[]
  text: string
}

/** The answer recorded under that name. */
export function readFixture(name: string): LvmFixture {
  const { command, args, stdout } = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'))
  return { command: args ?? command.split(' '), text: stdout }
}

/** The names of all answers of the shell. */
export function fixtureNames(): string[] {
  const names = readdirSync(folder).map((file) => file.replace(/\.json$/, ''))
  return names.filter((name) => name.startsWith('shell-'))
}

/** A document of rows and errors as the `lvm` shell writes it: `1` is success, `5` failure (lvmreport(7)). */
export function formatLvmAnswer(
  report: object,
  errors: readonly string[] = [],
  exitCode = errors.length > 0 ? '5' : '1',
  command = '',
) {
  const row = (log_type: string, log_message: string, log_ret_code: string) => ({
    log_type,
    log_object_name: command,
    log_message,
    log_ret_code,
  })
  const log = [...errors.map((message) => row('error', message, '0')), row('status', '', exitCode)]
  const text = JSON.stringify({ report: [report], log }, undefined, 4)
  return `${text.replaceAll(/^/gm, '  ')}\n`
}
