/**
 * Makes steps of what a daemon does to its machine by `node:child_process` and `node:fs/promises`: every command it
 * starts, every line it feeds to one, every change to a file or folder. Reading is none, nor is fsync(2): a process
 * that is killed leaves the same with or without. Loaded once a process; calls that belong to no life pass as they are.
 */
import childProcess, { type ChildProcess, type SpawnOptions } from 'node:child_process'
import { constants } from 'node:fs'
import fsPromises, { type FileHandle } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { basename, join } from 'node:path'
import type { Writable } from 'node:stream'
import AsyncLock from 'async-lock'
import { Life } from './life.ts'

/** How LVM's shell ends an answer; see `LvmShell`. */
const documentEnd = '\n  }\n'
/** A program that cannot be started, whatever it is asked. */
const nothing = '/dev/null/nothing'

// As they are before anything is put over them.
const real = { ...fsPromises }
const realSpawn = childProcess.spawn as (file: string, args: readonly string[], options: SpawnOptions) => ChildProcess

function spawn(file: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const life = Life.current()
  if (!life) return realSpawn(file, args, options)
  const moment = life.take([file, ...args].join(' '), 'command')
  if (moment === 'before') {
    life.end()
    return realSpawn(nothing, [], options)
  }
  const child = realSpawn(file, args, options)
  life.adopt(child)
  if (moment === 'during') life.end(child)
  if (moment === 'outlived') {
    life.hold(child)
    life.end()
  }
  // Before whoever asked hears of it. One that is fed would not end by itself.
  if (moment === 'after')
    for (const event of [child.stdin ? 'spawn' : 'close', 'error']) child.once(event, () => life.end())
  if (child.stdin && child.stdio[3]) feedInSteps(life, child, child.stdin)
  return child
}

/** Makes a step of each line for LVM's shell; it is done when the answer's end is there. */
function feedInSteps(life: Life, child: ChildProcess, stdin: Writable): void {
  let endsWithAnswer = false
  let end = ''
  child.stdio[3]?.on('data', (chunk) => {
    end = (end + chunk).slice(-documentEnd.length)
    if (endsWithAnswer && end === documentEnd) life.end()
  })
  const write = stdin.write.bind(stdin)
  stdin.write = (line: string) => {
    const moment = life.take(`lvm ${line.trim()}`, 'line')
    if (moment === 'before') life.end()
    else write(line)
    if (moment === 'during') killSoon(life, child)
    endsWithAnswer = moment === 'after'
    return true
  }
}

let killed = 0

/** Ends the life and, a few milliseconds into what it was told, LVM's shell: each time at another point of it. */
function killSoon(life: Life, child: ChildProcess): void {
  life.end()
  const timer = setTimeout(() => child.kill('SIGKILL'), (killed++ * 17) % 120)
  child.once('exit', () => clearTimeout(timer))
}

/** Whether a file is opened only to be read, or named (open(2)). */
const isLook = (flags: string | number) =>
  typeof flags === 'string'
    ? flags === 'r'
    : (flags & (constants.O_WRONLY | constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC)) === 0

async function open(path: string, flags: string | number = 'r', mode?: number): Promise<FileHandle> {
  const life = Life.current()
  const opening = async () => {
    const opened = await real.open(path, flags, mode)
    life?.keep(opened)
    return opened
  }
  const file = await (life && !isLook(flags) ? life.pass(`open ${path} ${flags}`, opening) : opening())
  if (life) {
    const writeFile = file.writeFile.bind(file)
    file.writeFile = (content) =>
      life.pass(
        `write ${path}`,
        () => writeFile(content),
        () => writeFile(String(content).slice(0, String(content).length / 2)),
      )
  }
  return file
}

/** A change of `node:fs/promises` as a step, whose first argument is a path. */
function stepwise<A extends [unknown, ...unknown[]], R>(
  label: string,
  change: (...args: A) => Promise<R>,
  half?: (...args: A) => Promise<unknown>,
): (...args: A) => Promise<R> {
  return (...args) => {
    const doing = () => change(...args)
    return Life.current()?.pass(`${label} ${args[0]}`, doing, half && (() => half(...args))) ?? doing()
  }
}

/** Removes one of the things in a folder, as a removal does that is killed. */
async function removeSome(path: string): Promise<void> {
  const [first] = await real.readdir(path).catch(() => [])
  if (first !== undefined) await real.rm(join(path, basename(first)), { recursive: true })
}

const { acquire } = AsyncLock.prototype as { acquire(key: string, ...more: unknown[]): Promise<unknown> }

/** What a daemon has locked for itself is free when it is killed, so each life has locks of its own. */
function acquireInLife(this: AsyncLock, key: string, ...more: unknown[]): Promise<unknown> {
  return acquire.call(this, `${Life.current()?.number ?? ''} ${key}`, ...more)
}

Object.assign(AsyncLock.prototype, { acquire: acquireInLife })
Object.assign(childProcess, { spawn })
Object.assign(fsPromises, {
  open,
  mkdir: stepwise('mkdir', real.mkdir),
  rename: stepwise('rename', real.rename),
  rm: stepwise('rm', real.rm, (path) => removeSome(String(path))),
  rmdir: stepwise('rmdir', real.rmdir),
  truncate: stepwise('truncate', real.truncate),
  unlink: stepwise('unlink', real.unlink),
  chmod: stepwise('chmod', real.chmod),
  symlink: stepwise('symlink', real.symlink),
  writeFile: stepwise('write', real.writeFile),
})
syncBuiltinESMExports()
