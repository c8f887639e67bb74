import { type Command, commandGroups, type Program } from './command.ts'
import { commonFlags, type Flag } from './flags.ts'

const width = 100

/** The help of the whole program. */
export function formatHelp({ name, about, notes, commands }: Program): string {
  const sections = commandGroups.map((group): [string, string[]] => [
    group,
    table([
      ...commands
        .filter((command) => command.group === group)
        .map((command) => [usage(command), command.summary] as const),
      ...(group === 'About' ? [['help [command]', 'Show this, or all about one command'] as const] : []),
    ]),
  ])
  return [
    `${name}: ${about}`,
    '',
    `Usage: ${name} <command> [flags]`,
    ...sections.filter(([, lines]) => lines.length > 0).flatMap(([title, lines]) => ['', `${title}:`, ...lines]),
    '',
    ...notes,
    '',
    'Examples:',
    ...commands.flatMap((command) => command.examples.slice(0, 1)).map((example) => `  $ ${asCalled(example, name)}`),
    '',
    ...exitCodes,
    '',
    `All about one command, its flags and their environment variables: ${name} help <command>`,
  ].join('\n')
}

/** The help of one command. */
export function formatCommandHelp(command: Command, { name }: Program): string {
  const own = Object.values(command.flags)
  const aliases = command.aliases?.length ? ['', `Also: ${command.aliases.join(', ')}`] : []
  return [
    `${command.summary}.`,
    '',
    `Usage: ${name} ${usage(command)} [flags]`,
    ...aliases,
    ...(command.description ? ['', command.description] : []),
    ...(own.length ? ['', 'Flags:', ...table(own.map(describe))] : []),
    '',
    own.length ? 'Flags of every command:' : 'Flags:',
    ...table([...Object.values(commonFlags).map(describe), ['-h, --help', 'show this'] as const]),
    ...(own.some((flag) => flag.env.length)
      ? ['', 'A flag on the command line goes before its environment variable ($), and that before the default.']
      : []),
    '',
    'Examples:',
    ...command.examples.map((example) => `  $ ${asCalled(example, name)}`),
  ].join('\n')
}

/** The help of the commands that share their first word. */
export function formatGroupHelp(word: string, commands: readonly Command[], { name }: Program): string {
  return [
    `Usage: ${name} ${word} <command> [flags]`,
    '',
    'Commands:',
    ...table(commands.map((command) => [usage(command), command.summary] as const)),
    '',
    `All about one of them: ${name} help ${word} <command>`,
  ].join('\n')
}

/** Exit codes of all commands. */
const exitCodes = [
  'Exit codes: 0 done, or all is well; 1 failed, or something was found that fails; 2 the command line is wrong.',
]

/** A command that two programs have, as this one is called. */
function asCalled(example: string, name: string): string {
  return example.replace(/^elastic-local /, `${name} `)
}

/** The command's name and arguments. */
export function usage(command: Command): string {
  return command.args ? `${command.name} ${command.args}` : command.name
}

function describe(flag: Flag): readonly [string, string] {
  const left = `${flag.short ? `-${flag.short}, ` : ''}--${flag.name}${flag.value ? ` ${flag.value}` : ''}`
  const standard = flag.defaultHelp ?? flag.default
  const notes = [
    ...(flag.value && standard !== undefined ? [`default: ${standard}`] : []),
    ...flag.env.map((name) => `$${name}`),
  ]
  return [left, flag.help + (notes.length ? ` [${notes.join(', ')}]` : '')]
}

/** Two columns; the right one wraps. */
function table(rows: readonly (readonly [string, string])[]): string[] {
  const left = Math.min(34, Math.max(0, ...rows.map(([text]) => text.length)) + 2)
  return rows.flatMap(([name, text]) => {
    const lines = wrap(text, width - left - 2)
    const head = name.length < left - 1 ? [] : [`  ${name}`]
    const first = head.length ? '' : name
    return [...head, ...lines.map((line, i) => `  ${(i === 0 ? first : '').padEnd(left)}${line}`)]
  })
}

function wrap(text: string, columns: number): string[] {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? ''
    if (line && line.length + 1 + word.length > columns) lines.push(word)
    else lines[lines.length - 1] = line ? `${line} ${word}` : word
  }
  return lines
}
