/** A node of a cluster that can lose power: a guest with LVM, a kubelet and a program of the caller's. */
import { once } from 'node:events'
import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { dirname, join } from 'node:path'
import { json } from 'node:stream/consumers'
import { CommandError, type Output, type RunOptions, run } from '../../src/run.ts'
import { bootGuest, type Guest, type GuestOptions } from '../guest/guest.ts'
import { keepLog } from '../runner/logs.ts'
import type { Cluster, KubeletOptions } from './cluster.ts'
import { type AgentRequest, type AgentSettings, agentSettingsFile } from './guest-settings.ts'
import { buildKubeletCommand } from './kubelet.ts'

const agentPort = 10_000
const kubeletPort = 10_250
const bootTimeoutMs = 120_000
const guestTimeoutMs = 60 * 60_000

/** The folders of a guest node; what is in them is there after a reboot. The socket of a daemon is not. */
export const guestPaths = {
  kubeletDir: '/var/lib/kubelet',
  volumesDir: '/mnt/elastic-local-volumes',
  pluginDir: '/mnt/flex-drivers',
  socket: '/var/run/elastic-local/socket',
} as const

export interface GuestNodeOptions
  extends Omit<KubeletOptions, 'pluginDir'>,
    Pick<GuestOptions, 'memoryMiB' | 'modules'> {
  /** An address of the bridge's network; see `makeBridge()`. */
  address: string
  /** The image that becomes `/dev/vda`; see `createDisk()`. */
  disk: string
  /** The image with the folders of `guestPaths`; it is formatted if it is blank. */
  stateDisk: string
  /** A shell script that is run in the guest at each boot, before the kubelet; it ends at the first failed command. */
  setup?: string
  /**
   * A program to keep running in the guest. One that needs the Node object to be there, for a token that is bound to
   * it, is told by a function, which is called once, when the node is ready for the first time.
   */
  daemon?: readonly string[] | (() => Promise<readonly string[]>)
}

/**
 * Makes a bridge for guests in this process's network namespace, which must be one of the test's own, and gives its
 * address; guests have those after it, up to 198.51.100.254 (RFC 5737).
 */
export async function makeBridge(): Promise<string> {
  const address = '198.51.100.1'
  await run('ip', ['link', 'set', 'lo', 'up'])
  await run('ip', ['link', 'add', 'guests', 'type', 'bridge'])
  await run('ip', ['address', 'add', `${address}/24`, 'dev', 'guests'])
  await run('ip', ['link', 'set', 'guests', 'up'])
  return address
}

/** Boots a guest that is a node of the cluster, which must listen on the bridge's address; resolves when it is ready. */
export async function startGuestNode(cluster: Cluster, options: GuestNodeOptions): Promise<GuestNode> {
  const folder = join(cluster.folder, 'guests', options.name)
  await mkdir(folder, { recursive: true })
  const blank = await run('blkid', ['--probe', options.stateDisk], { accept: [2] })
  if (blank.exitCode === 2) await run('mkfs.ext4', ['-q', '-F', options.stateDisk])
  const tap = `guest${options.address.split('.').at(-1)}`
  await run('ip', ['tuntap', 'add', 'mode', 'tap', 'name', tap])
  await run('ip', ['link', 'set', tap, 'master', 'guests', 'up'])
  const node = new GuestNode(cluster, {
    ...options,
    folder,
    tap,
    kubeconfig: await cluster.nodeKubeconfig(options.name),
  })
  cluster.adopt({ kill: () => node.powerCut() })
  await node.boot()
  return node
}

/** A node that is a guest. */
export class GuestNode {
  readonly name: string
  /** The guest's scratch folder, which both sides see; here are the logs. */
  readonly folder: string
  /** The kubelet's. */
  readonly log: string
  readonly daemonLog: string
  readonly #cluster: Cluster
  readonly #options: GuestNodeOptions & { tap: string; kubeconfig: string }
  #daemon: readonly string[] | undefined
  #guest: Guest | undefined
  #power: AbortController | undefined

  constructor(cluster: Cluster, options: GuestNodeOptions & { folder: string; tap: string; kubeconfig: string }) {
    this.name = options.name
    this.folder = options.folder
    this.log = join(this.folder, 'kubelet.log')
    this.daemonLog = join(this.folder, 'daemon.log')
    this.#cluster = cluster
    this.#options = options
    if (typeof options.daemon !== 'function') this.#daemon = options.daemon ?? []
  }

  /** Boots it, from the same disks as before; resolves when the node is ready. */
  async boot(): Promise<void> {
    if (this.#guest) throw new Error(`Cannot boot ${this.name} as it runs already`)
    const { disk, stateDisk, tap, address, memoryMiB, modules, daemon } = this.#options
    await writeFile(join(this.folder, agentSettingsFile), JSON.stringify(this.#agentSettings()))
    for (const log of [this.log, this.daemonLog]) {
      await appendFile(log, '')
      keepLog(log)
    }
    const bootedAt = Date.now()
    const guest = await bootGuest({
      disk,
      stateDisk,
      network: { tap, address },
      scratchDir: this.folder,
      program: join(import.meta.dirname, 'guest-agent.ts'),
      timeoutMs: guestTimeoutMs,
      ...(memoryMiB ? { memoryMiB } : {}),
      ...(modules ? { modules } : {}),
    })
    this.#guest = guest
    this.#power = new AbortController()
    const end = guest.result.then(({ exitCode, stderr }) => {
      throw new Error(`it halted with exit status ${exitCode}:\n${stderr}`)
    })
    const work = async () => {
      await guest.printed('serving')
      if (this.#daemon) await this.#keepDaemon(this.#daemon)
      await this.#cluster.nodeReady(this.name, bootedAt, bootTimeoutMs)
      if (this.#daemon || typeof daemon !== 'function') return
      this.#daemon = await daemon()
      await this.#keepDaemon(this.#daemon)
    }
    try {
      await Promise.race([work(), end])
    } catch (error) {
      await this.powerCut()
      const log = await readFile(this.log, 'utf8').catch(() => '')
      const reason = error instanceof Error ? error.message : error
      throw new Error(`Cannot boot ${this.name}: ${reason}\n--- end of ${this.log}\n${log.slice(-3000)}`)
    }
  }

  /** Cuts its power, if it has any. */
  async powerCut(): Promise<void> {
    await this.#guest?.powerCut()
    this.#guest = undefined
    this.#power?.abort()
    this.#power = undefined
  }

  /** Runs a program in the guest. Throws `CommandError`. */
  async run(file: string, args: readonly string[], { accept = [] }: Pick<RunOptions, 'accept'> = {}): Promise<Output> {
    const answer = await this.#ask<Partial<Output> & { signal?: string }>({ run: { file, args } })
    const { exitCode, stdout = '', stderr = '' } = answer
    if (exitCode === 0 || (exitCode && accept.includes(exitCode))) return { exitCode, stdout, stderr }
    const hasEnded = exitCode !== undefined || answer.signal
    throw new CommandError({ file, args }, hasEnded ? answer : { reason: 'cannot be run in the guest' })
  }

  async #keepDaemon(command: readonly string[]): Promise<void> {
    if (command.length > 0) await this.#ask({ keep: { name: 'daemon', command } })
  }

  async #ask<T>(request: AgentRequest): Promise<T> {
    if (!this.#power) throw new Error(`Cannot ask ${this.name} as it has no power`)
    // A connection for each request: none is left from before a power cut.
    const place = { host: this.#options.address, port: agentPort, agent: false, signal: this.#power.signal }
    const call = httpRequest({ ...place, method: 'POST' }).end(JSON.stringify(request))
    const [response] = (await once(call, 'response')) as [IncomingMessage]
    return (await json(response)) as T
  }

  #agentSettings(): AgentSettings {
    const { name, address, kubeconfig, labels = {}, hostnameLabel, controllerAttachDetach = true } = this.#options
    const { kubeletDir, volumesDir, pluginDir } = guestPaths
    return {
      address,
      port: agentPort,
      hostFolders: [dirname(kubeconfig), dirname(this.#cluster.program)],
      keptFolders: { [kubeletDir]: 'kubelet', [volumesDir]: 'volumes', [pluginDir]: 'flex-drivers' },
      setup: this.#options.setup ?? '',
      kubelet: buildKubeletCommand(this.#cluster.program, {
        name,
        kubeconfig,
        address,
        port: kubeletPort,
        rootDir: kubeletDir,
        pluginDir,
        labels: { ...labels, ...(hostnameLabel ? { 'kubernetes.io/hostname': hostnameLabel } : {}) },
        controllerAttachDetach,
      }),
    }
  }
}
