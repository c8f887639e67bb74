/** A node of a test's cluster with the real kubelet, containerd and real containers. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Output, run } from '../../src/run.ts'
import { createCgroups, nameCgroups, removeCgroups } from './cgroups.ts'
import type { Cluster } from './cluster.ts'
import { findFreePorts } from './control-plane.ts'
import type { Overlay } from './deploy-overlay.ts'
import { ensureBusyboxImage, type Image } from './image.ts'
import { type Component, Program, poll } from './program.ts'
import { atTermination } from './termination.ts'

/** Where a node's flex drivers are; the kubelet's default. */
export const flexPluginDir = '/usr/libexec/kubernetes/kubelet-plugins/volume/exec'

const initScript = join(import.meta.dirname, 'node-init.sh')

export interface ContainerNodeOptions {
  name: string
  /** The node keeps everything below this folder; one in the cluster's folder by default. */
  folder?: string
  /** What its pods may use besides `busybox:test`. */
  images?: readonly Image[]
  labels?: Readonly<Record<string, string>>
}

/** A program on a node that can be ended and started again; what it had started goes on. */
export type NodeComponent = Pick<Component, 'name' | 'log' | 'kill' | 'start'>

let nodes = 0

/**
 * Starts a node; resolves when it takes pods. It goes when this process does. Root only, in a network namespace of the
 * test's own (`enterOwnNetwork()`), with a cluster that listens on an address that is not a loopback one.
 */
export async function startContainerNode(cluster: Cluster, options: ContainerNodeOptions): Promise<ContainerNode> {
  if (cluster.address.startsWith('127.'))
    throw new Error(`Cannot start a node as the cluster's address must not be a loopback one: it is ${cluster.address}`)
  const folder = options.folder ?? join(cluster.folder, 'nodes', options.name)
  const node = new ContainerNode(cluster, { name: options.name, folder, number: nodes++ })
  try {
    await node.start(options)
  } catch (error) {
    await node.close()
    throw error
  }
  return node
}

/** Runs `work` on a new node, of which nothing stays. */
export async function withContainerNode(
  cluster: Cluster,
  options: ContainerNodeOptions,
  work: (node: ContainerNode) => Promise<void>,
): Promise<void> {
  const node = await startContainerNode(cluster, options)
  try {
    await work(node)
  } finally {
    await node.close()
  }
}

/**
 * A node that runs: a mount namespace and a process namespace, where the folders of a node are at the usual places
 * (`/var/lib/kubelet`, `/var/log/pods`, the kubelet's plugin folder, `/run`, `/mnt`). `/dev` is the machine's.
 */
export class ContainerNode {
  readonly name: string
  readonly folder: string
  /** The group, at the top of each hierarchy, that holds its containers' groups. */
  readonly cgroup: string
  readonly #cluster: Cluster
  readonly #number: number
  readonly #machine: Program
  readonly #forget: () => void
  #components: Record<'containerd' | 'kubelet', Program> | undefined
  #closed: Promise<void> | undefined

  constructor(cluster: Cluster, { name, folder, number }: { name: string; folder: string; number: number }) {
    this.name = name
    this.folder = folder
    this.#cluster = cluster
    this.#number = number
    this.cgroup = nameCgroups()
    const namespaces = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc']
    this.#machine = new Program({
      name,
      command: ['unshare', ...namespaces, '--', 'sh', initScript, folder, this.cgroup],
      log: join(folder, 'logs/init.log'),
      ready: (signal) => poll(async () => existsSync(join(folder, 'up')), 10_000, signal),
    })
    this.#forget = atTermination(() => this.close())
  }

  /** Starts the node, once. */
  async start(options: ContainerNodeOptions): Promise<void> {
    const { folder, name } = this
    for (const part of ['logs', 'tmp', 'config/cni']) await mkdir(join(folder, part), { recursive: true })
    const images = [await ensureBusyboxImage(), ...(options.images ?? [])]
    const [sandbox] = images
    const [port = 0] = await findFreePorts(1, this.#cluster.address)
    const config = (file: string) => join(folder, 'config', file)
    const network = buildCniConfig(this.#bridge, this.#number)
    await writeFile(config('containerd.toml'), buildContainerdConfig(sandbox?.name ?? '', config('cni')))
    await writeFile(config('cni/pods.conflist'), JSON.stringify(network))
    await writeFile(config('kubelet.json'), JSON.stringify(buildKubeletConfig(this.#cluster.address, port)))
    const kubeletFlags = {
      config: config('kubelet.json'),
      kubeconfig: await this.#cluster.nodeKubeconfig(name),
      'hostname-override': name,
      'node-ip': this.#cluster.address,
      'node-labels': Object.entries(options.labels ?? {}).map((label) => label.join('=')),
    }
    const flags = Object.entries(kubeletFlags).map(([flag, value]) => `--${flag}=${value}`)
    await createCgroups(this.cgroup)
    await this.#machine.start()

    const component = (file: string, command: string[], ready: (signal: AbortSignal) => Promise<unknown>) =>
      new Program({
        name: `${file} of ${name}`,
        command: this.#onNode(command),
        env: { TMPDIR: join(folder, 'tmp') },
        log: join(folder, 'logs', `${file}.log`),
        ready,
      })
    this.#components = {
      containerd: component('containerd', ['containerd', '--config', config('containerd.toml')], (signal) =>
        poll(() => this.#runtimeServes(), 60_000, signal),
      ),
      kubelet: component('kubelet', [this.#cluster.program, 'kubelet', ...flags], () =>
        this.#cluster.nodeReady(name, Date.now()),
      ),
    }
    await this.containerd.start()
    await Promise.all([this.kubelet.start(), ...images.map(({ archive }) => this.#import(archive))])
  }

  get kubelet(): NodeComponent {
    return this.#running.kubelet
  }

  get containerd(): NodeComponent {
    return this.#running.containerd
  }

  get #running() {
    if (!this.#components) throw new Error(`Cannot use ${this.name} as it was never started`)
    return this.#components
  }

  /** The process, on the machine, that all of the node's descend from. */
  get pid(): number {
    return this.#machine.pid
  }

  get #bridge(): string {
    return `pods${this.#number}`
  }

  /** Where a path of the node is for this process, with what is mounted there. */
  path(path: string): string {
    return join(`/proc/${this.#machine.pid}/root`, path)
  }

  /** Runs a program on the node. Throws `CommandError`. */
  run(file: string, ...args: string[]): Promise<Output> {
    const [command = '', ...words] = this.#onNode([file, ...args])
    return run(command, words)
  }

  /** Where something is mounted on the node, in the order of the mount table. */
  async mounts(): Promise<string[]> {
    const table = await readFile(`/proc/${this.#machine.pid}/mountinfo`, 'utf8')
    return table.split('\n').flatMap((line) => line.split(' ')[4] ?? [])
  }

  /** What the containers of a pod wrote, those that ended among them, as the kubelet keeps it. */
  async logs(pod: { namespace?: string; name: string }, container?: string): Promise<string> {
    const root = join(this.folder, 'var/log/pods')
    const [folder] = (await readdir(root)).filter((entry) =>
      entry.startsWith(`${pod.namespace ?? 'default'}_${pod.name}_`),
    )
    if (!folder) throw new Error(`Cannot read the logs of ${pod.name} as it never ran on ${this.name}`)
    const containers = container === undefined ? await readdir(join(root, folder)) : [container]
    const texts = await Promise.all(containers.sort().map((entry) => readContainerLog(join(root, folder, entry))))
    return texts.join('')
  }

  /** What lets a manifest's pods run here with an image of the test and reach the API server, without kube-proxy. */
  overlay(image: Image): Overlay {
    const { hostname, port } = new URL(this.#cluster.server)
    return {
      container: { image: image.name, imagePullPolicy: 'Never' },
      env: { KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port },
    }
  }

  /** Ends all that runs on the node at once, as a power cut does, and takes away what the machine would keep. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    try {
      await this.#powerOff()
      for (const program of Object.values(this.#components ?? {})) await program.kill()
      for (const device of await findLoopDevices(join(this.folder, 'mnt'))) await run('losetup', ['--detach', device])
      await run('ip', ['link', 'delete', this.#bridge], { accept: [1] })
      await removeCgroups(this.cgroup)
    } finally {
      this.#forget()
    }
  }

  /** Ends its first process, which the kernel has end after all others. */
  async #powerOff(): Promise<void> {
    try {
      await run('pkill', ['--signal', 'KILL', '--parent', String(this.#machine.pid)])
      // Only waits.
      await this.#machine.kill('SIGCONT')
    } catch {
      await this.#machine.kill()
    }
  }

  /** The command line that runs a command on the node. */
  #onNode(command: readonly string[]): string[] {
    const namespaces = `/proc/${this.#machine.pid}/ns`
    return ['nsenter', `--mount=${namespaces}/mnt`, `--pid=${namespaces}/pid_for_children`, '--', ...command]
  }

  async #runtimeServes(): Promise<boolean> {
    return await this.run('ctr', 'version').then(
      () => true,
      () => false,
    )
  }

  async #import(archive: string): Promise<void> {
    await this.run('ctr', '--namespace', 'k8s.io', 'images', 'import', archive)
  }
}

/** The lines of a container's log without what the runtime adds to them (the CRI logging format). */
async function readContainerLog(folder: string): Promise<string> {
  const files = (await readdir(folder)).sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')))
  return texts
    .join('')
    .split('\n')
    .flatMap((line) => {
      const [, tag, text] = /^\S+ \S+ (\S+) (.*)$/.exec(line) ?? []
      return tag === undefined ? [] : [tag.startsWith('P') ? (text ?? '') : `${text}\n`]
    })
    .join('')
}

/** The loop devices on files below a folder; by their inodes, as paths in another namespace say nothing. */
async function findLoopDevices(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  const inodes = new Set(await Promise.all(files.map(async (file) => `${(await stat(file)).ino}`)))
  const { stdout } = await run('losetup', ['--list', '--noheadings', '--raw', '--output', 'NAME,BACK-INO'])
  const devices = stdout.split('\n').map((line) => line.split(' '))
  return devices.flatMap(([device = '', inode = '']) => (inodes.has(inode) ? [device] : []))
}

/** All but the image and the network is at the places that containerd has by itself, which are the node's own. */
function buildContainerdConfig(sandboxImage: string, cniFolder: string): string {
  return `version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${sandboxImage}"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "${cniFolder}"
`
}

/** A bridge of the node's own, on which pods reach one another and the machine's addresses. */
function buildCniConfig(bridge: string, number: number): object {
  return {
    cniVersion: '1.0.0',
    name: 'pods',
    plugins: [
      {
        type: 'bridge',
        bridge,
        isGateway: true,
        ipam: {
          type: 'host-local',
          ranges: [[{ subnet: `10.88.${number}.0/24` }]],
          routes: [{ dst: '0.0.0.0/0' }],
        },
      },
    ],
  }
}

function buildKubeletConfig(address: string, port: number): object {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    address,
    port,
    healthzPort: 0,
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    cgroupDriver: 'cgroupfs',
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    failCgroupV1: false,
    failSwapOn: false,
    // A minute by default: how soon a pod's volume grows.
    syncFrequency: '5s',
    makeIPTablesUtilChains: false,
    // See node-init.sh: it looks at the settings, and changes none.
    protectKernelDefaults: true,
    resolvConf: '',
    // A machine that is nearly full, or busy, is no reason to send pods away.
    evictionHard: { 'memory.available': '1Mi', 'nodefs.available': '0%', 'imagefs.available': '0%' },
    imageGCHighThresholdPercent: 100,
  }
}
