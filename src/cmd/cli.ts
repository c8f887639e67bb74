import { parseArgs } from 'node:util'
import { cac } from 'cac'
import { distance } from 'fastest-levenshtein'
import { buildScreen } from '../text/screen.ts'
import { VolumeError } from '../volume/errors.ts'
import { type Command, namesOf, type Program } from './command.ts'
import { complete } from './completion/complete.ts'
import { commonFlags, type Flag, type Flags, resolveFlags } from './flags.ts'
import { formatCommandHelp, formatGroupHelp, formatHelp, usage } from './help.ts'
import { openLog } from './log.ts'
import { completeWord, findProgram, isCompletion } from './programs.ts'
import { UsageError } from './usage-error.ts'

/** Where the command line comes from and goes to. */
export interface CliParts {
  /** The name that this was started under. */
  called?: string
  program?: Program
  env?: NodeJS.ProcessEnv
  stdin?: NodeJS.ReadStream
  stdout?: NodeJS.WriteStream
  stderr?: NodeJS.WriteStream
}

/** Runs one command line and resolves with the exit code: 0 done, 1 failed, 2 the command line is wrong. */
export async function runCli(args: readonly string[], parts: CliParts = {}): Promise<number> {
  const { called = '', env = process.env } = parts
  const { stdin = process.stdin, stdout = process.stdout, stderr = process.stderr } = parts
  const { program = findProgram(called) } = parts
  const say = (line: string) => void stdout.write(`${line}\n`)
  let mustEnd = false
  for (const stream of [stdout, stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // Somebody reads no further: `elastic-local help | head`.
      if (!mustEnd) process.exit(error.code === 'EPIPE' ? 0 : 1)
    })
  if (isCompletion(called, args)) {
    say(await complete(program, args[0] === completeWord ? args.slice(1) : args, env))
    return 0
  }
  let debug = env.ELASTIC_LOCAL_LOG_LEVEL === 'debug'
  let complain: (message: string) => void = (message) => stderr.write(`${program.name}: ${message}\n`)
  try {
    const line = readLine(args, program, widthOf(stdout))
    if ('help' in line) {
      say(line.help)
      return 0
    }
    debug = line.given.get('log-level') === 'debug' || (debug && !line.given.has('log-level'))
    const { logLevel } = resolveFlags(commonFlags, line.given, env)
    const flags = resolveFlags(line.command.flags, line.given, env)
    checkUsed(line.command.flags, line.given, flags)
    const format = logFormatOf(flags, stderr)
    const log = openLog({ level: logLevel, format, stderr })
    if (format === 'json') complain = (message) => log.error(message)
    const screen = buildScreen({ stdin, stdout, stderr, env })
    mustEnd = line.command.changes === true
    return (await line.command.run({ args: line.args, flags, say, screen, log })) ?? 0
  } catch (error) {
    const message = error instanceof Error ? (debug && error.stack) || error.message : String(error)
    complain(message)
    const isUsage = error instanceof UsageError || (error instanceof VolumeError && error.code === 'invalid')
    return isUsage ? 2 : 1
  }
}

/** What runs for long writes for programs where no person looks on; what a person runs, for that person. */
function logFormatOf(flags: Readonly<Record<string, unknown>>, stderr: NodeJS.WriteStream): 'json' | 'text' {
  if (!Object.hasOwn(flags, 'logFormat')) return 'text'
  return flags.logFormat === 'json' || (flags.logFormat === undefined && !stderr.isTTY) ? 'json' : 'text'
}

type Line = { help: string } | { command: Command; args: readonly string[]; given: ReadonlyMap<string, string> }

/** More is hard to read. */
const helpWidth = 100

function widthOf({ isTTY, columns }: NodeJS.WriteStream): number {
  return isTTY && columns ? Math.min(columns, helpWidth) : helpWidth
}

function readLine(args: readonly string[], program: Program, width: number): Line {
  const { commands } = program
  const { words, given, stray: unknownFlag } = splitLine(args, commands)
  if (given.delete('version')) return readLine(['version'], program, width)
  const wantsHelp = given.delete('help')
  const [stray] = given.keys()
  if (words.length === 0 && stray !== undefined)
    throw unknown(program, 'command before the flag', stray.length > 1 ? `--${stray}` : `-${stray}`, [])
  if (words.length === 0) words.unshift('help')
  if (words[0] === 'help') return { help: findHelp(words.slice(1), program, width) }
  if (wantsHelp) return { help: findHelp(words, program, width) }
  // What follows an unknown flag may be its value, and is then no word of the command.
  if (unknownFlag && (unknownFlag.wordsBefore === 0 || isBegin(words[0] ?? '', commands)))
    throw unknownFlagOf(findCommand(words.slice(0, unknownFlag.wordsBefore), commands), unknownFlag.rawName, program)

  const [name, ...rest] = joinName(words, program)
  const command = commands.find((command) => namesOf(command).includes(name))
  if (!command) return { help: findHelp([name], program, width) }
  checkKnown(command, given, program)
  return { ...matchCommand(program, name, rest), given }
}

/** The words and the flags of the line, all as the raw texts they are. */
function splitLine(
  args: readonly string[],
  commands: readonly Command[],
): { words: string[]; given: Map<string, string>; stray: { rawName: string; wordsBefore: number } | undefined } {
  const flags = [...Object.values(commonFlags), ...commands.flatMap((command) => Object.values(command.flags))]
  const options: NonNullable<Parameters<typeof parseArgs>[0]>['options'] = {
    help: { type: 'boolean', short: 'h' },
    version: { type: 'boolean' },
  }
  for (const { name, short, value } of flags)
    options[name] = { type: value ? 'string' : 'boolean', ...(short ? { short } : {}) }
  const { tokens } = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true })

  const words: string[] = []
  const given = new Map<string, string>()
  let stray: { rawName: string; wordsBefore: number } | undefined
  for (const token of tokens) {
    if (token.kind === 'positional') words.push(token.value)
    if (token.kind !== 'option') continue
    const negated: boolean = token.name.startsWith('no-') && options[token.name.slice(3)]?.type === 'boolean'
    const name = negated ? token.name.slice(3) : token.name
    if (!Object.hasOwn(options, name)) stray ??= { rawName: token.rawName, wordsBefore: words.length }
    if (given.has(name)) throw new UsageError(`Cannot use --${name} as it must be given once: it is given twice.`)
    const needsValue = options[name]?.type === 'string'
    if (needsValue && (token.value === undefined || (!token.inlineValue && token.value.startsWith('-'))))
      throw new UsageError(`Cannot use ${token.rawName} as it must have a value: give it as --${name}=…`)
    given.set(name, token.value ?? String(!negated))
  }
  return { words, given, stray }
}

/** The words, with a command's two made one. Throws `UsageError` for what is no command. */
function joinName(words: readonly string[], program: Program): [name: string, ...rest: string[]] {
  const { commands } = program
  const [first = '', second, ...rest] = words
  const names = commands.flatMap(namesOf)
  const isGroup = names.some((name) => name.startsWith(`${first} `))
  if (isGroup && second !== undefined) {
    const name = `${first} ${second}`
    if (names.includes(name)) return [name, ...rest]
    throw unknown(program, 'command', name, names)
  }
  if (isGroup || names.includes(first)) return [first, ...words.slice(1)]
  throw unknown(program, 'command', first, [...names, 'help'])
}

/** Whether a command begins with that word. */
function isBegin(word: string, commands: readonly Command[]): boolean {
  return commands.flatMap(namesOf).some((name) => name.split(' ')[0] === word)
}

function findCommand([first = '', second = '']: readonly string[], commands: readonly Command[]): Command | undefined {
  const find = (name: string) => commands.find((command) => namesOf(command).includes(name))
  return find(`${first} ${second}`) ?? find(first)
}

function findHelp(words: readonly string[], program: Program, width: number): string {
  const { commands } = program
  if (words.length === 0) return formatHelp(program, width)
  const [name] = joinName(words, program)
  const group = commands.filter((command) => command.name.startsWith(`${name} `))
  if (group.length > 0) return formatGroupHelp(name, group, program, width)
  const command = commands.find((command) => namesOf(command).includes(name))
  return command ? formatCommandHelp(command, program, width) : formatHelp(program, width)
}

/**
 * The command of that name, with its arguments as it declares them. cac makes numbers of texts that look like one, so it
 * is given each text behind a NUL, which no argument of a process can hold.
 */
function matchCommand(
  { name: programName, commands }: Program,
  name: string,
  words: readonly string[],
): { command: Command; args: string[] } {
  const cli = cac('elastic-local')
  for (const command of commands) {
    const registered = cli.command(usage(command), command.summary).action((...found: unknown[]) => ({
      command,
      args: found
        .slice(0, -1)
        .flatMap((arg) => (arg === undefined ? [] : [arg].flat()))
        .map((arg) => String(arg).slice(1)),
    }))
    for (const alias of command.aliases ?? []) registered.alias(alias)
  }
  cli.parse(['', '', name, ...words.map((word) => `\0${word}`)], { run: false })
  try {
    return cli.runMatchedCommand()
  } catch (error) {
    const given =
      words.length === 0 ? 'no arguments' : `the arguments ${words.map((word) => JSON.stringify(word)).join(', ')}`
    const right = usage(commands.find((command) => namesOf(command).includes(name)) as Command)
    throw new UsageError(`Cannot run ${name} with ${given} as it must be: ${programName} ${right}.`, { cause: error })
  }
}

function checkKnown(command: Command, given: ReadonlyMap<string, string>, program: Program): void {
  const names = flagNames([command])
  for (const name of given.keys()) if (!names.includes(name)) throw unknownFlagOf(command, `--${name}`, program)
}

function flagNames(commands: readonly Command[]): string[] {
  const flags: Flag[] = [...Object.values(commonFlags), ...commands.flatMap((command) => Object.values(command.flags))]
  return flags.map(({ name }) => name)
}

function unknownFlagOf(command: Command | undefined, rawName: string, program: Program): UsageError {
  const known = flagNames(command ? [command] : program.commands).map((name) => `--${name}`)
  return unknown(program, 'flag', rawName, known, command?.name)
}

/** A flag that changes nothing is a mistake of whoever gives it. What the environment says is for all commands. */
function checkUsed(flags: Flags, given: ReadonlyMap<string, string>, values: Readonly<Record<string, unknown>>): void {
  const isOn = (wanted: string) =>
    Object.entries(flags).some(([key, { name }]) => name === wanted && values[key] === true)
  for (const { name, onlyWith, notWith } of Object.values(flags)) {
    if (!given.has(name)) continue
    if (onlyWith !== undefined && !isOn(onlyWith))
      throw new UsageError(`Cannot use --${name} as it needs --${onlyWith}: without that it has no effect.`)
    if (notWith !== undefined && isOn(notWith))
      throw new UsageError(
        `Cannot use --${name} with --${notWith} as it has no effect there: leave out one of the two.`,
      )
  }
}

function unknown(program: Program, what: string, given: string, known: readonly string[], command = ''): UsageError {
  // What is only begun is near.
  const isBegun = (name: string) => given.length > '--'.length && name.startsWith(given)
  const [best] = known
    .map((name) => ({ name, far: isBegun(name) ? 0 : distance(given, name) }))
    .sort((a, b) => a.far - b.far || a.name.length - b.name.length)
  // More than a third of it wrong is another word, not a slip.
  const near = best && best.far <= Math.max(2, given.length / 3)
  const advice = near ? `Did you mean ${best.name}?` : `See ${program.name} help${command && ` ${command}`}.`
  return new UsageError(`There is no ${what} ${given.length > 80 ? `${given.slice(0, 80)}…` : given}. ${advice}`)
}
