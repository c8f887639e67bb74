import type { LeveledLog } from '../log.ts'
import type { Screen } from '../text/screen.ts'
import type { Completer, Flags, FlagValues } from './flags.ts'

/** A command line: what it is called, and what it can do. */
export interface Program {
  name: string
  /** One line. */
  about: string
  /** More paragraphs of the help. */
  notes: readonly string[]
  commands: readonly Command[]
}

/** Sections of the help, in order. */
export const commandGroups = ['Run', 'Inspect volumes', 'About'] as const

/** One command of the command line. To add one, write it in a file of its own and name it in `commands.ts`. */
export interface Command<F extends Flags = Flags> {
  /** One word, or two: `volumes list`. */
  name: string
  /** Other names; one word may stand for two: `volumes`. */
  aliases?: readonly string[]
  group: (typeof commandGroups)[number]
  /** Arguments: `<needed>`, `[optional]`, `[...many]`. */
  args?: string
  /** What completion offers for the arguments. */
  argValues?: readonly string[]
  /** Finds what completion offers for them, where somebody else knows it. */
  completeArgs?: Completer
  /** One line, without a full stop. */
  summary: string
  /** Paragraphs for the command's own help, an empty line between them. */
  description?: string
  /** Each a line `elastic-local …`, or `kubectl elastic_local …`. */
  examples: readonly string[]
  flags: F
  /** It changes something, and so goes on to its end, also where nobody reads what it prints. */
  changes?: true
  /** Resolves with the exit code; nothing is 0. */
  run(call: Call<F>): Promise<number | undefined> | Promise<void>
}

/** What a command is run with. */
export interface Call<F extends Flags = Flags> {
  /** The raw texts, never numbers. */
  args: readonly string[]
  flags: FlagValues<F>
  /** Prints a line to standard output. */
  say(line: string): void
  screen: Screen
  log: LeveledLog
}

/** Gives `run` the types of `flags`. */
export function defineCommand<F extends Flags>(command: Command<F>): Command<F> {
  return command
}

/** All names of a command. */
export function namesOf({ name, aliases = [] }: Command): string[] {
  return [name, ...aliases]
}
