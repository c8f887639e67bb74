import { type Command, commandGroups } from './command.ts'
import { commonFlags, type Flag } from './flags.ts'

const width = 100

/** The help of the whole program. */
export function formatHelp(commands: readonly Command[]): string {
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
    'elastic-local: local volumes for Kubernetes, on the disks of the node where the pod runs.',
    '',
    'Usage: elastic-local <command> [flags]',
    ...sections.filter(([, lines]) => lines.length > 0).flatMap(([title, lines]) => ['', `${title}:`, ...lines]),
    '',
    'The kubelet starts the same executable as its FlexVolume driver: from a folder whose name ends in ~elastic-local,',
    'or with one of its own words first (init, mount, unmount, …), it answers with one line of JSON.',
    '',
    'Examples:',
    ...commands.flatMap((command) => command.examples.slice(0, 1)).map((example) => `  $ ${example}`),
    '',
    'All about one command, its flags and their environment variables: elastic-local help <command>',
  ].join('\n')
}

/** The help of one command. */
export function formatCommandHelp(command: Command): string {
  const own = Object.values(command.flags)
  const aliases = command.aliases?.length ? ['', `Also: ${command.aliases.join(', ')}`] : []
  return [
    `${command.summary}.`,
    '',
    `Usage: elastic-local ${usage(command)} [flags]`,
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
    ...command.examples.map((example) => `  $ ${example}`),
  ].join('\n')
}

/** The help of the commands that share their first word. */
export function formatGroupHelp(word: string, commands: readonly Command[]): string {
  return [
    `Usage: elastic-local ${word} <command> [flags]`,
    '',
    'Commands:',
    ...table(commands.map((command) => [usage(command), command.summary] as const)),
    '',
    `All about one of them: elastic-local help ${word} <command>`,
  ].join('\n')
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
