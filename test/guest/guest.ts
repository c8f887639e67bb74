import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readSync, rmSync, watch } from 'node:fs'
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { StringDecoder } from 'node:string_decoder'
import { ensureGuestKernel, type GuestKernel } from './kernel.ts'

const treeDir = dirname(dirname(import.meta.dirname))

/** How setpriv(1) ends when there is no such program. */
const notFound = 127

/** The Node binary that programs in a guest run on, the same as the project's own. */
const guestNode = join(treeDir, `node_modules/node-linux-${process.arch === 'arm64' ? 'arm64' : 'x64'}/bin/node`)

/** What to run in a guest, and how. */
export interface GuestOptions {
  /** The image that becomes `/dev/vda` in the guest; see `createDisk()`. */
  disk: string
  /** Another image, which becomes `/dev/vdb`. */
  stateDisk?: string
  /** Connects the guest's `eth0` to a tap device of this process's network namespace. */
  network?: GuestNetwork
  /** A Node program, as an absolute path; the guest sees the machine's own files, read-only. */
  program: string
  args?: readonly string[]
  /** Added to the guest's own environment, which has PATH, HOME, LC_ALL and LVM_SYSTEM_DIR. */
  env?: Readonly<Record<string, string>>
  /** From the start to the halt; a guest that takes longer is killed. */
  timeoutMs: number
  memoryMiB?: number
  /** Kernel modules besides dm-mod, dm-thin-pool, dm-snapshot, ext4, xfs and loop: `btrfs`, which takes seconds, `dm-delay`. */
  modules?: readonly string[]
  /**
   * The one folder of the machine that the guest can write in, at the same path, and that its program starts in.
   * Made and removed with the guest when left out.
   */
  scratchDir?: string
  /**
   * The environment of the guest's own process on the machine; this process's by default. The folder that it names
   * for what Node compiled is the guest's, too.
   */
  hostEnv?: NodeJS.ProcessEnv
  onOutput?: (text: string, stream: 'stdout' | 'stderr') => void
}

/** How a guest is reached. */
export interface GuestNetwork {
  /** Name of the tap device. */
  tap: string
  /** The guest's IPv4 address; all others with the same first three numbers are its neighbours. */
  address: string
}

/** What a program printed and how it ended. */
export interface GuestResult {
  exitCode: number
  stdout: string
  stderr: string
}

/** A guest that runs, or ran. */
export interface Guest {
  /** Settles when the guest is halted; rejects with `GuestError` when it ended in any other way. */
  readonly result: Promise<GuestResult>
  /** Resolves when the program has printed that text on stdout; rejects when the guest ends without it. */
  printed(text: string): Promise<void>
  /** Kills the guest on the spot, as a power cut would; gives what the program had printed. */
  powerCut(): Promise<{ stdout: string; stderr: string }>
}

/** A guest that did not come to its halt: a panic, a hang, a power cut, a program that could not be started. */
export class GuestError extends Error {
  readonly stdout: string
  readonly stderr: string

  constructor(reason: string, seen: { console: string; stdout: string; stderr: string }) {
    const parts = (['console', 'stderr', 'stdout'] as const)
      .filter((name) => seen[name] !== '')
      .map((name) => `--- end of its ${name}\n${seen[name].slice(-2000).trimEnd()}`)
    super([`Cannot finish in the guest: ${reason}`, ...parts].join('\n'))
    this.name = 'GuestError'
    this.stdout = seen.stdout
    this.stderr = seen.stderr
  }
}

/** Makes a blank disk image that takes no room until it is written. */
export async function createDisk(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'wx')
  try {
    await file.truncate(sizeBytes)
  } finally {
    await file.close()
  }
}

/** Boots a guest, runs a program to its end and halts. Throws `GuestError`. */
export async function runInGuest(options: GuestOptions): Promise<GuestResult> {
  return (await bootGuest(options)).result
}

/**
 * Boots a guest over the machine's own files and starts a Node program in it. Root only. The guest is a QEMU machine
 * with an emulated processor, so that it is the same on every machine. It never outlives this process.
 */
export async function bootGuest(options: GuestOptions): Promise<Guest> {
  if (process.getuid?.() !== 0) throw new Error('Cannot boot a guest as the user must be root')
  const kernel = await ensureGuestKernel()
  const ownDir = options.scratchDir ? undefined : await mkdtemp(join(tmpdir(), 'elastic-local-guest-'))
  const scratchDir = options.scratchDir ?? ownDir ?? ''
  const controlDir = join(scratchDir, '.guest')
  await rm(controlDir, { recursive: true, force: true })
  await mkdir(controlDir)
  const hostEnv = options.hostEnv ?? process.env
  const { NODE_COMPILE_CACHE: compiled } = hostEnv
  if (compiled) await mkdir(compiled, { recursive: true })
  await writeFile(join(controlDir, 'command'), buildCommand(options, compiled))
  const output = {
    stdout: new Tail(join(controlDir, 'stdout')),
    stderr: new Tail(join(controlDir, 'stderr')),
  }
  await writeFile(output.stdout.path, '')
  await writeFile(output.stderr.path, '')

  const child = spawn('setpriv', buildHostArgs(options, { scratchDir, kernel, compiled }), {
    // A process group of its own, so that all of it goes at once.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: hostEnv,
  })
  const removeDirs = () => {
    rmSync(controlDir, { recursive: true, force: true })
    if (ownDir) rmSync(ownDir, { recursive: true, force: true })
  }
  const forget = endWithThisProcess(() => {
    killGroup(child)
    watcher.close()
    removeDirs()
  })

  let kernelConsole = ''
  child.stdout.on('data', (chunk: Buffer) => {
    kernelConsole += chunk
  })
  child.stderr.on('data', (chunk: Buffer) => {
    kernelConsole += chunk
  })

  const waiting = new Set<() => void>()
  const drain = () => {
    for (const stream of ['stdout', 'stderr'] as const) {
      const text = output[stream].read()
      if (text !== '') options.onOutput?.(text, stream)
    }
    for (const check of waiting) check()
  }
  const watcher = watch(controlDir, drain)

  let reason = ''
  const timer = setTimeout(() => {
    reason = `it has not halted after ${options.timeoutMs} ms`
    killGroup(child)
  }, options.timeoutMs)

  async function finish(): Promise<GuestResult> {
    try {
      const [exitCode, signal] = await once(child, 'close')
      killGroup(child)
      drain()
      const seen = { console: kernelConsole, stdout: output.stdout.text, stderr: output.stderr.text }
      const status = await readFile(join(controlDir, 'exit-code'), 'utf8').catch(() => '')
      if (reason !== '') throw new GuestError(reason, seen)
      if (exitCode === notFound) throw new GuestError('QEMU is not installed (test/setup.sh)', seen)
      if (!/^\d+\n$/.test(status))
        throw new GuestError(`it ended before its program did (exit status ${exitCode}, signal ${signal})`, seen)
      return { exitCode: Number(status), stdout: seen.stdout, stderr: seen.stderr }
    } finally {
      clearTimeout(timer)
      watcher.close()
      forget()
      removeDirs()
    }
  }
  const result = finish()
  // A test that cuts the power need not look at the result.
  result.catch(() => {})

  return {
    result,
    printed(text) {
      return new Promise((resolve, reject) => {
        const check = () => {
          if (!output.stdout.text.includes(text)) return
          waiting.delete(check)
          resolve()
        }
        waiting.add(check)
        check()
        const missed = () => {
          if (waiting.delete(check)) reject(new Error(`The guest ended before it printed ${JSON.stringify(text)}`))
        }
        result.then(missed, (error: Error) => {
          if (waiting.delete(check)) reject(error)
        })
      })
    },
    async powerCut() {
      if (reason === '') reason = 'its power was cut'
      killGroup(child)
      await result.catch(() => {})
      return { stdout: output.stdout.text, stderr: output.stderr.text }
    },
  }
}

/** What setpriv(1) runs. */
function buildHostArgs(
  options: GuestOptions,
  { scratchDir, kernel, compiled }: { scratchDir: string; kernel: GuestKernel; compiled: string | undefined },
): string[] {
  const modules = ['dm-mod', 'dm-thin-pool', 'dm-snapshot', 'ext4', 'xfs', 'loop', ...(options.modules ?? [])]
  // The rest becomes init's environment. A space would end a value.
  const settings = {
    guest_tree: treeDir,
    guest_scratch: scratchDir,
    guest_kernel: kernel.folder,
    guest_modules: modules.join(','),
    ...(compiled ? { guest_compiled: compiled } : {}),
    ...(options.network ? { guest_address: `${options.network.address}/24` } : {}),
  }
  const words = Object.entries(settings).map(([name, value]) => `${name}=${value}`)
  return [
    // Should this process be killed, the guest goes as well.
    ...['--pdeathsig', 'KILL', 'qemu-system-x86_64', '-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-machine', 'q35', '-accel', 'tcg', '-cpu', 'max', '-smp', '1', '-m', `${options.memoryMiB ?? 1024}`],
    // So that the reset at the end of init.sh is the end, and a panic too.
    ...['-no-reboot', '-serial', 'stdio', '-kernel', kernel.kernel, '-initrd', kernel.initrd],
    // On a machine that has much else to do its timer looks broken to the kernel, which then gives up.
    ...['-append', `console=ttyS0 quiet panic=-1 mitigations=off no_timer_check net.ifnames=0 ${words.join(' ')}`],
    ...shareFolder('machine', '/', 'readonly=on'),
    ...shareFolder('scratch', scratchDir, 'readonly=off'),
    ...(compiled ? shareFolder('compiled', compiled, 'readonly=off') : []),
    ...[options.disk, options.stateDisk].flatMap((file) => (file ? attachDisk(file) : [])),
    ...(options.network ? connect(options.network) : []),
  ]
}

/** A comma ends a value, unless it is doubled (qemu(1)). */
const doubleCommas = (value: string) => value.replaceAll(',', ',,')

function shareFolder(tag: string, path: string, access: string): string[] {
  const backend = `local,id=${tag},path=${doubleCommas(path)},security_model=none,multidevs=remap,${access}`
  return ['-fsdev', backend, '-device', `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`]
}

/** What the guest wrote is in the machine's page cache, which a killed guest does not take along. */
function attachDisk(file: string): string[] {
  return ['-drive', `file=${doubleCommas(file)},if=virtio,format=raw,cache=unsafe,discard=unmap`]
}

function connect({ tap, address }: GuestNetwork): string[] {
  // Made of the address, so that the neighbours find the guest at the same place after a reboot.
  const mac = ['02', '00', ...address.split('.').map((number) => Number(number).toString(16).padStart(2, '0'))]
  return [
    ...['-netdev', `tap,id=net,ifname=${tap},script=no,downscript=no`],
    ...['-device', `virtio-net-pci,netdev=net,romfile=,mac=${mac.join(':')}`],
  ]
}

/** The shell script that init.sh runs: the program with its environment. */
function buildCommand(options: GuestOptions, compiled: string | undefined): string {
  const env = { ...(compiled ? { NODE_COMPILE_CACHE: compiled } : {}), ...options.env }
  const settings = Object.entries(env).map(([name, value]) => `${name}=${quote(value)}`)
  const words = [guestNode, options.program, ...(options.args ?? [])].map(quote)
  return `exec env ${[...settings, ...words].join(' ')}\n`
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // All gone already.
  }
}

/** Calls `end` when this process exits or is told to by a signal; the result takes that back. */
function endWithThisProcess(end: () => void): () => void {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  const onSignal = (signal: NodeJS.Signals) => {
    end()
    forget()
    // The test's own handlers come first; without any, the signal does what it would have done.
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal)
  }
  const forget = () => {
    process.off('exit', end)
    for (const signal of signals) process.off(signal, onSignal)
  }
  process.on('exit', end)
  for (const signal of signals) process.on(signal, onSignal)
  return forget
}

/** Reads a file as it grows. */
class Tail {
  readonly path: string
  text = ''
  #offset = 0
  #decoder = new StringDecoder('utf8')

  constructor(path: string) {
    this.path = path
  }

  /** What was added since the last call. */
  read(): string {
    let added = ''
    const buffer = Buffer.alloc(65536)
    const file = openSync(this.path, 'r')
    try {
      for (;;) {
        const length = readSync(file, buffer, 0, buffer.length, this.#offset)
        if (length === 0) break
        this.#offset += length
        added += this.#decoder.write(buffer.subarray(0, length))
      }
    } finally {
      closeSync(file)
    }
    this.text += added
    return added
  }
}
