import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, rmSync, watch } from 'node:fs'
import { chmod, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { request } from '../src/daemon/client.ts'
import { readMountTable } from '../src/mount/table.ts'
import { run } from '../src/run.ts'
import { keepOutput } from './runner/logs.ts'
import { withScratch } from './scratch.ts'

const main = join(import.meta.dirname, '../src/main.ts')

/** A daemon that was started, as a process. */
export interface Daemon {
  child: ChildProcess
  /** What it wrote, to the moment. */
  output(): string
  /** Resolves when it has written that, throws when it ends without. */
  says(text: RegExp): Promise<void>
  /** Its exit status, when nothing that it started holds its standard error any more. */
  ended: Promise<number | null>
  /** Sends a signal and waits for the end. */
  end(signal: NodeJS.Signals): Promise<number | null>
}

/** How a daemon is started other than by default. */
export interface DaemonOptions {
  /** Values of flags, by their names. */
  flags?: Readonly<Record<string, string>>
  /** Programs in `/usr/sbin` that it does not find; it then mounts where nobody else sees it. */
  without?: readonly string[]
  /** Runs it as a container with the node's folders does: in a mount namespace of its own, from which mounts come out. */
  contained?: boolean
  /** Added to its environment. */
  env?: Readonly<Record<string, string>>
}

/**
 * A machine as a daemon sees it, in a scratch folder: its folders, and the daemons on it, which run from the sources
 * with LOOP volumes.
 */
export class TestNode {
  readonly folder: string
  readonly volumesDir: string
  readonly kubeletDir: string
  readonly socket: string
  readonly #daemons = new Set<Daemon>()
  #closed: Promise<void> | undefined

  constructor(folder: string) {
    this.folder = folder
    this.volumesDir = join(folder, 'volumes')
    this.kubeletDir = join(folder, 'kubelet')
    this.socket = join(folder, 'run/socket')
  }

  /** Starts a daemon; resolves when it serves. */
  async start(options: DaemonOptions = {}): Promise<Daemon> {
    const daemon = await this.launch(options)
    await daemon.says(/Serving/)
    return daemon
  }

  /** Starts a daemon that may end at once. */
  async launch({ flags = {}, without = [], contained = false, env = {} }: DaemonOptions = {}): Promise<Daemon> {
    const folders = { 'kubelet-dir': this.kubeletDir, 'volumes-dir': this.volumesDir, socket: this.socket }
    const all = Object.entries({ standalone: 'true', 'driver-kind': 'LOOP', ...folders, ...flags })
    const command = [process.execPath, main, 'daemon', ...all.map(([name, value]) => `--${name}=${value}`)]
    const container = contained ? ['unshare', '--mount', '--propagation', 'unchanged', '--'] : []
    return this.spawn([...container, ...(await this.#hiding(without)), ...command], env)
  }

  /** Starts any command, with the programs of `wrap` before the machine's. */
  spawn([file = '', ...args]: readonly string[], more: Readonly<Record<string, string>> = {}): Daemon {
    const env = { ...process.env, ...more, PATH: `${join(this.folder, 'bin')}:${process.env.PATH}` }
    // A process group of its own, as a terminal gives each command.
    const child = spawn(file, args, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => {
        output += text
      })
    const ended = once(child, 'close').then(([exitCode]: (number | null)[]) => exitCode ?? null)
    const daemon: Daemon = {
      child,
      ended,
      output: () => output,
      says: async (text) => {
        while (!text.test(output)) {
          const more = Promise.race([once(child.stdout, 'data'), once(child.stderr, 'data')])
          if ((await Promise.race([more, ended.then(() => 'ended')])) === 'ended' && !text.test(output))
            throw new Error(`The daemon ended without saying ${text}:\n${output}`)
        }
      },
      end: async (signal) => {
        child.kill(signal)
        return await ended
      },
    }
    this.#daemons.add(daemon)
    return daemon
  }

  /** What runs a command where those programs of `/usr/sbin` are not. */
  async #hiding(tools: readonly string[]): Promise<string[]> {
    if (tools.length === 0) return []
    const [real, shown] = [join(this.folder, 'sbin-real'), join(this.folder, 'sbin')]
    await mkdir(real)
    await mkdir(shown)
    const others = (await readdir('/usr/sbin')).filter((tool) => !tools.includes(tool))
    await Promise.all(others.map((tool) => symlink(join(real, tool), join(shown, tool))))
    const script = 'mount --bind /usr/sbin "$1" && mount --bind "$2" /usr/sbin && shift 2 && exec "$@"'
    return ['unshare', '--mount', '--propagation', 'private', '--', 'sh', '-c', script, 'sh', real, shown]
  }

  /** Puts a shell script before a program of the machine; `$real` is that program. */
  async wrap(tool: string, script: string): Promise<void> {
    const path = join(this.folder, 'bin', tool)
    await mkdir(dirname(path), { recursive: true })
    const { stdout } = await run('which', [tool])
    await writeFile(path, `#!/bin/sh\nreal=${stdout.trim()}\n${script}\n`)
    await chmod(path, 0o755)
  }

  /**
   * Makes a program wait until it is let go, or its node is gone. `begunBy` resolves when it waits, and throws when
   * what shall run it ends before.
   */
  async hold(tool: string): Promise<{ begunBy(asking: Promise<unknown>): Promise<void>; letGo(): Promise<void> }> {
    const [begun, go] = [join(this.folder, `${tool}.begun`), join(this.folder, `${tool}.go`)]
    const wait = `while [ ! -e '${go}' ]; do [ -d '${this.folder}' ] || exit 1; sleep 0.02; done`
    await this.wrap(tool, `: > '${begun}'\n${wait}\nexec "$real" "$@"`)
    const tooEarly = (answer: unknown) => Promise.reject(new Error(`${tool} was never run: ${answer}`))
    return {
      begunBy: (asking) => Promise.race([appearance(begun), asking.then(tooEarly, tooEarly)]),
      letGo: () => writeFile(go, ''),
    }
  }

  /** Asks a daemon. */
  async ask(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object, socketPath = this.socket) {
    const answer = await request({ socketPath, method, path, ...(body ? { body } : {}) })
    return { status: answer.statusCode, body: answer.body as Record<string, unknown> }
  }

  /** One call-out: `Success`, or the message of the `Failure`. */
  callOut(path: string, body: object): Promise<string> {
    const answer = this.ask('POST', path, body).then(({ body }) =>
      body.status === 'Success' ? 'Success' : String(body.message),
    )
    // It may fail while its test waits for something else, which must not end the process before the clean-up.
    answer.catch(() => {})
    return answer
  }

  mount(pod: string, options: object, name = 'one'): Promise<string> {
    return this.callOut('/mount', { targetDir: this.target(pod, name), options })
  }

  unmount(pod: string, name = 'one'): Promise<string> {
    return this.callOut('/unmount', { targetDir: this.target(pod, name) })
  }

  /** The volume as the daemon shows it to people. */
  async show(name = 'one'): Promise<Record<string, unknown>> {
    return (await this.ask('GET', `/v1/volumes/${name}`)).body.volume as Record<string, unknown>
  }

  target(pod: string, name = 'one'): string {
    return join(this.kubeletDir, 'pods', pod, 'volumes/volumes.k8s.elastic.co~elastic-local', name)
  }

  image(name = 'one'): string {
    return join(this.volumesDir, '.elastic-local/loop', `${name}.img`)
  }

  /** The lines of the mount table about this node, with the numbers that the kernel gave each mount. */
  async mounts(): Promise<string[]> {
    const table = await readFile('/proc/self/mountinfo', 'utf8')
    return table.split('\n').filter((line) => line.split(' ')[4]?.startsWith(`${this.folder}/`))
  }

  /** Makes mounts that a contained daemon makes on this node come out of its container. */
  async share(): Promise<void> {
    await run('mount', ['--bind', this.folder, this.folder])
    await run('mount', ['--make-rshared', this.folder])
  }

  /** The loop devices whose images are, or were, on this node. */
  async loopDevices(): Promise<string[]> {
    const images = dirname(this.image())
    const files = await readdir(images).catch(() => [])
    const queries = files.map((file) => ['--associated', join(images, file)])
    const outputs = await Promise.all(
      [[], ...queries].map((query) =>
        run('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE', ...query]),
      ),
    )
    const [all = '', ...ours] = outputs.map(({ stdout }) => stdout)
    const lines = [
      ...all.split('\n').filter((line) => line.includes(` ${this.folder}/`)),
      ...ours.join('\n').split('\n'),
    ]
    return [...new Set(lines.filter(Boolean).map((line) => line.split(' ')[0] ?? ''))]
  }

  /** What is there of volumes: images and their markers, intents, mounts, loop devices. */
  async traces(): Promise<string[]> {
    const own = join(this.volumesDir, '.elastic-local')
    const files = await Promise.all(['loop', 'intents'].map((folder) => readdir(join(own, folder)).catch(() => [])))
    const mounts = (await this.mounts()).filter((line) => !line.includes(` ${this.volumesDir} `))
    return [...files.flat(), ...mounts, ...(await this.loopDevices())]
  }

  /** Ends all daemons, and takes away what the machine would keep. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    for (const daemon of this.#daemons) {
      await daemon.end('SIGKILL')
      keepOutput('daemon.log', daemon.output())
    }
    // What lies on the volumes' own disk goes before that disk.
    const isDisk = (target: string) => target === this.volumesDir
    const targets = (await readMountTable()).under(this.folder).map(({ target }) => target)
    for (const target of targets.filter((target) => !isDisk(target)).reverse()) await run('umount', ['--', target])
    for (const device of await this.loopDevices()) await run('losetup', ['--detach', device])
    for (const target of targets.filter(isDisk)) await run('umount', ['--', target])
  }
}

/** Runs `work` on a new node, of which nothing stays. */
export const withNode = (work: (node: TestNode) => Promise<void>) => () =>
  withScratch(async (folder) => {
    const node = new TestNode(folder)
    await mkdir(node.volumesDir)
    await mkdir(node.kubeletDir)
    // How the test runner ends a file that takes too long.
    const onTerm = async () => {
      await node.close()
      rmSync(folder, { recursive: true, force: true })
      process.exit(1)
    }
    process.once('SIGTERM', onTerm)
    try {
      await work(node)
    } finally {
      await node.close()
      process.off('SIGTERM', onTerm)
    }
  })

/** Resolves when the file is there. */
async function appearance(file: string): Promise<void> {
  const watcher = watch(dirname(file), { persistent: false })
  try {
    while (!existsSync(file)) await once(watcher, 'change')
  } finally {
    watcher.close()
  }
}
