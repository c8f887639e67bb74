import { type Command, namesOf, type Program } from './command.ts'
import { commonFlags, type Flag } from './flags.ts'

interface Candidate {
  text: string
  help: string
}

/** What tells a shell whether file names may follow: the numbers of cobra, which kubectl reads as well. */
const filesToo = ':0'
const noFiles = ':4'

/**
 * What could come next on a command line, of which `words` are those before it and the one that is begun: a line each,
 * with its help behind a tab, and a last one that says whether file names may follow (cobra's `__complete`).
 */
export function complete(program: Program, words: readonly string[]): string {
  const { before, begun } = joinValues(words)
  const flags = flagsFor(program, before)
  const [, name, start] = /^--([^=]+)=(.*)$/s.exec(begun) ?? []
  const last = flags.find((flag) => isWaiting(flag, before.at(-1)))
  if (last) return offer(valuesOf(last), begun, takesFiles(last))
  const named = flags.find((flag) => flag.name === name)
  if (named && start !== undefined)
    return offer(
      valuesOf(named).map(({ text, help }) => ({ text: `--${named.name}=${text}`, help })),
      begun,
      takesFiles(named),
    )
  if (begun.startsWith('-')) return offer(flags.filter((flag) => !isGiven(flag, before)).map(candidateOf), begun, false)
  return offer(nextWords(program, positionals(flags, before)), begun, false)
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
    return [...firstWords(commands), ...(isHelp ? [] : [{ text: 'help', help: 'Show all about a command' }])]
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
  return [...lines, files ? filesToo : noFiles].join('\n')
}
