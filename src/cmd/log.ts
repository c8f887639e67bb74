import { type ConsolaReporter, createConsola } from 'consola'
import { toJson } from '../json.ts'
import { type LeveledLog, type LogFields, type LogLevel, logLevels } from '../log.ts'

/** Levels of consola. */
const numbers: Record<LogLevel, number> = { debug: 4, info: 3, warn: 1, error: 0 }

export interface LogParts {
  level: LogLevel
  /** `json`: one object a line, for programs; `text`: for people. */
  format: 'json' | 'text'
  stderr: NodeJS.WriteStream
}

/** Writes lines to standard error. */
export function openLog({ level, format, stderr }: LogParts): LeveledLog {
  const json: ConsolaReporter = {
    log: ({ type, date, args }) => {
      const fields = args.filter((arg) => typeof arg === 'object')
      // consola adds how often the same line was said.
      const message = args.filter((arg) => typeof arg === 'string').join(' ')
      stderr.write(`${toJson(Object.assign({ time: date.toISOString(), level: type, message }, ...fields))}\n`)
    },
  }
  const consola = createConsola({
    level: numbers[level],
    stdout: stderr,
    stderr,
    // consola goes by what standard output is.
    fancy: stderr.isTTY === true,
    ...(format === 'json' ? { reporters: [json] } : {}),
  })
  const say =
    (name: LogLevel) =>
    (message: string, fields: LogFields = {}) =>
      format === 'json' ? consola[name](message, fields) : consola[name](`${message}${formatRest(message, fields)}`)
  return {
    debug: say('debug'),
    info: say('info'),
    warn: say('warn'),
    error: say('error'),
    get level() {
      return logLevels.find((name) => numbers[name] === consola.level) ?? 'info'
    },
    set level(name) {
      consola.level = numbers[name]
    },
  }
}

/** The fields that the message does not name itself; whoever looks at a terminal knows the node. */
function formatRest(message: string, { node: _, ...fields }: LogFields): string {
  const rest = Object.entries(fields).filter(([, value]) => value !== undefined && !message.includes(String(value)))
  return rest.map(([name, value]) => ` ${name}=${value}`).join('')
}
