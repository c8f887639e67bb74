/** What a line is about, for whoever looks for it: never a secret, nor what somebody from outside wrote. */
export interface LogFields {
  volume?: string | undefined
  /** `namespace/name`. */
  claim?: string | undefined
  node?: string | undefined
  [field: string]: string | number | bigint | undefined
}

/** Lines for whoever runs the program. The message says all by itself; the fields are there to search by. */
export interface Log {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

export const logLevels = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof logLevels)[number]

/** A log whose level can be changed at any time. */
export interface LeveledLog extends Log {
  level: LogLevel
}

/** The same log, saying so of every line. */
export function withFields<L extends Log>(log: L, common: LogFields): L {
  const say = (level: LogLevel) => (message: string, fields?: LogFields) =>
    log[level](message, { ...common, ...fields })
  return Object.assign(Object.create(log), Object.fromEntries(logLevels.map((level) => [level, say(level)])))
}
