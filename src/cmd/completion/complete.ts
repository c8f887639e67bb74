import { type Command, namesOf, type Program } from '../command.ts'
import { type Completer, commonFlags, type Flag, resolveFlags } from '../flags.ts'

interface Candidate {
  text: string
  help: string
}

/** What tells a shell whether file names may follow: the numbers of cobra, which kubectl reads as well. */
const filesToo = ':0'
const noFiles = ':4'
/** The same, and no blank either: the word is to go on. */
const goesOn = ':6'

/**
 * What could come next on a command line, of which `words` are those before it and the one that is begun: a line each,
 * with its help behind a tab, and a last one that says whether file names may follow (cobra's `__complete`).
 */
export async function complete(
  program: Program,
  words: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<string> {
  const { before, begun } = joinValues(words)
  const flags = flagsFor(program, before)
  const ask = async (
    completer: Completer | undefined,
    begun: string,
    args: readonly string[],
  ): Promise<Candidate[]> => {
    const given = { begun, args, flags: valuesBefore(program, before, env) }
    // Who cannot be asked has nothing to offer; a word begun is no place for a complaint.
    const found = await completer?.(given).catch(() => [])
    return (found ?? []).map((text) => ({ text, help: '' }))
  }
  const [, name, start] = /^--([^=]+)=(.*)$/s.exec(begun) ?? []
  const last = flags.find((flag) => isWaiting(flag, before.at(-1)))
  if (last) return offer([...valuesOf(last), ...(await ask(last.complete, begun, []))], begun, takesFiles(last))
  const named = flags.find((flag) => flag.name === name)
  if (named && start !== undefined)
    return offer(
      [...valuesOf(named), ...(await ask(named.complete, start, []))].map(({ text, help }) => ({
        text: `--${named.name}=${text}`,
        help,
      })),
      begun,
      takesFiles(named),
    )
  if (begun.startsWith('-')) return offer(flags.filter((flag) => !isGiven(flag, before)).map(candidateOf), begun, false)
  const given = positionals(flags, before)
  const command = given[0] === 'help' ? undefined : findCommand(program.commands, given)
  const args = command ? argsOf(command, given) : []
  return offer([...nextWords(program, given), ...(await ask(command?.completeArgs, begun, args))], begun, false)
}

/** The words behind a command's name. */
function argsOf(command: Command, words: readonly string[]): readonly string[] {
  const isLong = namesOf(command).includes(words.slice(0, 2).join(' '))
  return words.slice(isLong ? 2 : 1)
}

/** What the flags on the line stand at; those that cannot be used are left out. */
function valuesBefore(
  { commands }: Program,
  before: readonly string[],
  env: NodeJS.ProcessEnv,
): Record<string, unknown> {
  const all = [...commands.flatMap(({ flags }) => Object.values(flags)), ...Object.values(commonFlags)]
  const command = findCommand(commands, positionals(all, before))
  const given = new Map<string, string>()
  for (const [index, word] of before.entries())
    for (const flag of Object.values(command?.flags ?? {})) {
      const [, value] = new RegExp(`^--${flag.name}=(.*)$`, 's').exec(word) ?? []
      if (value !== undefined) given.set(flag.name, value)
      else if (isWaiting(flag, before[index - 1])) given.set(flag.name, word)
    }
  const values = Object.entries(command?.flags ?? {}).map(([key, flag]): [string, unknown] => {
    try {
      return [key, resolveFlags({ flag }, given, env).flag]
    } catch {
      return [key, undefined]
    }
  })
  return Object.fromEntries(values)
}

/** bash cuts `--output=json` in three. */
function joinValues(words: readonly string[]): { before: string[]; begun: string } {
  const joined: string[] = []
  for (const word of words) {
    const last = joined.at(-1) ?? ''
    const goesOn = word === '=' ? /^--[^=]+$/.test(last) : word !== '' && /^--[^=]+=$/.test(last)
    if (goesOn) joined[joined.length - 1] = last + word
    else joined.push(word)
  }
  return { before: joined.slice(0, -1), begun: joined.at(-1) ?? '' }
}

/** The flags that may stand on a line that begins so. */
function flagsFor({ commands }: Program, before: readonly string[]): Flag[] {
  const all = commands.flatMap(({ flags }) => Object.values(flags))
  const command = findCommand(commands, positionals([...all, ...Object.values(commonFlags)], before))
  return [...Object.values(command?.flags ?? {}), ...Object.values(commonFlags)]
}

function findCommand(commands: readonly Command[], [first = '', second = '']: readonly string[]): Command | undefined {
  const find = (name: string) => commands.find((command) => namesOf(command).includes(name))
  return find(`${first} ${second}`) ?? find(first)
}

/** The words that are neither flags nor their values. */
function positionals(flags: readonly Flag[], before: readonly string[]): string[] {
  return before.filter((word, index) => {
    const isValue = flags.some((flag) => isWaiting(flag, before[index - 1]))
    return !word.startsWith('-') && !isValue
  })
}

/** Whether that word is the flag, without the value that it must have. */
function isWaiting({ name, short, value }: Flag, word: string | undefined): boolean {
  return value !== undefined && (word === `--${name}` || (short !== undefined && word === `-${short}`))
}

function isGiven({ name, short }: Flag, before: readonly string[]): boolean {
  return before.some((word) => word === `--${name}` || word.startsWith(`--${name}=`) || (short && word === `-${short}`))
}

function candidateOf({ name, help }: Flag): Candidate {
  return { text: `--${name}`, help }
}

function valuesOf({ values = [] }: Flag): Candidate[] {
  return values.map((text) => ({ text, help: '' }))
}

function takesFiles({ values, value = '' }: Flag): boolean {
  return values === undefined && value === '<path>'
}

/** Commands, or what the command that is there takes. */
function nextWords(program: Program, words: readonly string[]): Candidate[] {
  const [first, second] = words[0] === 'help' ? words.slice(1) : words
  const isHelp = words[0] === 'help'
  const { commands } = program
  if (first === undefined)
    return [...firstWords(commands), ...(isHelp ? [] : [{ text: 'help', help: 'Show the help of a command' }])]
  const group = commands.filter(({ name }) => name.startsWith(`${first} `))
  if (group.length > 0 && second === undefined)
    return group.map(({ name, summary }) => ({ text: name.slice(first.length + 1), help: summary }))
  if (isHelp) return []
  return (findCommand(commands, words)?.argValues ?? []).map((text) => ({ text, help: '' }))
}

/** The first words of all commands, each once. */
function firstWords(commands: readonly Command[]): Candidate[] {
  const found = new Map<string, string>()
  for (const { name, summary, aliases = [] } of commands) {
    const [first = ''] = name.split(' ')
    if (!found.has(first) || aliases.includes(first)) found.set(first, summary)
  }
  return [...found].map(([text, help]) => ({ text, help }))
}

function offer(candidates: readonly Candidate[], begun: string, files: boolean): string {
  const fitting = candidates.filter(({ text }) => text.startsWith(begun))
  const lines = fitting.map(({ text, help }) => (help ? `${text}\t${help}` : text))
  const isBegun = fitting.length > 0 && fitting.every(({ text }) => /[/=]$/.test(text))
  return [...lines, files ? filesToo : isBegun ? goesOn : noFiles].join('\n')
}
