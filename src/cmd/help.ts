import { wrap, wrapCommand } from '../text/wrap.ts'
import { type Command, commandGroups, type Program } from './command.ts'
import { commonFlags, type Flag } from './flags.ts'

/** The help of the whole program, in lines of that width. */
export function formatHelp({ name, about, notes, commands }: Program, width: number): string {
  const sections = commandGroups.map((group): [string, string[]] => [
    group,
    table(
      [
        ...commands
          .filter((command) => command.group === group)
          .map((command) => [usage(command), command.summary] as const),
        ...(group === 'About' ? [['help [command]', 'Show this help, or that of one command'] as const] : []),
      ],
      width,
    ),
  ])
  return [
    ...wrap(`${name}: ${about}`, width),
    '',
    `Usage: ${name} <command> [flags]`,
    ...sections.filter(([, lines]) => lines.length > 0).flatMap(([title, lines]) => ['', `${title}:`, ...lines]),
    '',
    ...paragraphs(notes, width),
    '',
    'Examples:',
    ...formatExamples(
      commands.flatMap((command) => command.examples.slice(0, 1)),
      name,
      width,
    ),
    '',
    ...wrap(exitCodes, width),
    '',
    ...wrap(`Help for one command, its flags and their environment variables: ${name} help <command>`, width),
  ].join('\n')
}

/** The help of one command. */
export function formatCommandHelp(command: Command, { name }: Program, width: number): string {
  const own = Object.values(command.flags)
  const aliases = command.aliases?.length ? ['', `Also: ${command.aliases.join(', ')}`] : []
  return [
    ...wrap(`${command.summary}.`, width),
    '',
    `Usage: ${name} ${usage(command)} [flags]`,
    ...aliases,
    ...(command.description ? ['', ...paragraphs([command.description], width)] : []),
    ...(own.length ? ['', 'Flags:', ...table(own.map(describe), width)] : []),
    '',
    own.length ? 'Flags of every command:' : 'Flags:',
    ...table([...Object.values(commonFlags).map(describe), ['-h, --help', 'show this help'] as const], width),
    ...(own.some((flag) => flag.env.length) ? ['', ...wrap(precedence, width)] : []),
    '',
    'Examples:',
    ...formatExamples(command.examples, name, width),
  ].join('\n')
}

/** The help of the commands that share their first word. */
export function formatGroupHelp(word: string, commands: readonly Command[], { name }: Program, width: number): string {
  return [
    `Usage: ${name} ${word} <command> [flags]`,
    '',
    'Commands:',
    ...table(
      commands.map((command) => [usage(command), command.summary] as const),
      width,
    ),
    '',
    `Help for one of them: ${name} help ${word} <command>`,
  ].join('\n')
}

/** Exit codes of all commands. */
const exitCodes = 'Exit codes: 0 success; 1 failure, or a check that fails; 2 the command line is wrong.'

const precedence = 'A flag overrides its environment variable ($), which overrides the default.'

function formatExamples(examples: readonly string[], name: string, width: number): string[] {
  const lines = (example: string) => wrapCommand(asCalled(example, name), width - 6)
  return examples.flatMap((example) => lines(example).map((line, index) => `${index === 0 ? '  $ ' : '      '}${line}`))
}

/** Texts with an empty line between their paragraphs; where lines end within one is for the source alone. */
function paragraphs(texts: readonly string[], width: number): string[] {
  return texts
    .flatMap((text) => text.split('\n\n'))
    .flatMap((text, index) => [...(index > 0 ? [''] : []), ...wrap(text.replaceAll('\n', ' '), width)])
}

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
    ...(flag.onlyWith ? [`only with --${flag.onlyWith}`] : []),
    ...(flag.notWith ? [`not with --${flag.notWith}`] : []),
    ...(flag.value && standard !== undefined ? [`default: ${standard}`] : []),
    ...flag.env.map((name) => `$${name}`),
  ]
  return [left, flag.help + (notes.length ? ` [${notes.join(', ')}]` : '')]
}

/** Two columns; the right one wraps. */
function table(rows: readonly (readonly [string, string])[], width: number): string[] {
  const left = Math.min(Math.floor(width / 3), Math.max(0, ...rows.map(([text]) => text.length)) + 2)
  return rows.flatMap(([name, text]) => {
    const lines = wrap(text, width - left - 2)
    const head = name.length < left - 1 ? [] : [`  ${name}`]
    const first = head.length ? '' : name
    return [...head, ...lines.map((line, i) => `  ${(i === 0 ? first : '').padEnd(left)}${line}`)]
  })
}
