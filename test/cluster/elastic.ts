/** elastic-local in a cluster of kubelets without containers: its objects, its provisioner, and a daemon on each node. */
import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { request } from '../../src/daemon/client.ts'
import { readMountTable } from '../../src/mount/table.ts'
import { run } from '../../src/run.ts'
import { createDisk } from '../guest/guest.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte } from './claim-objects.ts'
import { type Cluster, type ClusterOptions, type KubeletOptions, startCluster } from './cluster.ts'
import type { FaultyApi } from './faulty-api.ts'
import { isFlex } from './front.ts'
import { type GuestNode, guestPaths, startGuestNode } from './guest-node.ts'
import type { HollowKubelet } from './kubelet.ts'
import { Program, poll } from './program.ts'

const root = join(import.meta.dirname, '../..')
export const executable = join(root, 'dist/elastic-local')
const workloads = ['DaemonSet', 'Deployment', 'PodDisruptionBudget']
export const namespace = 'elastic-local'

/** A node with a daemon of ours. */
export interface ElasticNode {
  name: string
  kubelet: HollowKubelet
  daemon: Program
  /** What it was started with. */
  flags: Readonly<Record<string, string>>
  volumesDir: string
  socket: string
}

export interface ElasticNodeOptions extends KubeletOptions {
  /** Size of the disk that its volumes are on, as images. */
  diskBytes: number
  /** Installs the driver in attach mode. */
  attach?: boolean
  driverKind?: 'LOOP' | 'BINDMOUNT'
  /** More flags of the daemon. */
  daemonFlags?: Readonly<Record<string, string>>
  /** Where its daemon finds the API server. */
  via?: FaultyApi
  /** Done when the kubelet runs, before there is a daemon. */
  before?: (kubelet: HollowKubelet, volumesDir: string) => Promise<void>
}

/** Objects of deploy.yaml, without what runs in containers. */
export async function readObjects(): Promise<KubeObject[]> {
  const text = await readFile(join(root, 'deploy.yaml'), 'utf8')
  const objects = parseAllDocuments(text, { merge: true }).map((document) => document.toJS() as KubeObject)
  return objects.filter(({ kind }) => !workloads.includes(String(kind)))
}

/** A node that is a guest with real LVM, in a volume group on a disk of its own. */
export interface LvmNodeOptions {
  name: string
  /** Where its disks are. */
  folder: string
  /** An address of the guests' bridge. */
  address: string
  diskBytes: number
  thin: boolean
  /** More flags of the daemon. */
  daemonFlags?: Readonly<Record<string, string>>
}

/** A cluster of its own for a test, with our objects in it; the logs are kept in `KEEP_LOGS`, if that is set. */
export async function openElastic(
  options: (scratch: string) => Omit<ClusterOptions, 'folder'> = () => ({}),
): Promise<{ scratch: string; cluster: Cluster; elastic: Elastic; close(): Promise<void> }> {
  const scratch = await realpath(await mkdtemp(join(tmpdir(), 'el-')))
  const cluster = await startCluster({ ...options(scratch), folder: join(scratch, 'cluster') })
  const elastic = new Elastic(cluster)
  await elastic.applyObjects()
  const close = async () => {
    if (process.env.KEEP_LOGS) await cp(join(scratch, 'cluster/logs'), process.env.KEEP_LOGS, { recursive: true })
    await elastic.close()
    await rm(scratch, { recursive: true, force: true })
  }
  return { scratch, cluster, elastic, close }
}

/** How a program of ours is started. */
export interface StartOptions {
  env?: Readonly<Record<string, string>> | undefined
  /** Where it finds the API server; the API server itself by default. */
  via?: FaultyApi
  /** Starts it again whenever it ends by itself, as a Deployment does. */
  again?: boolean
}

const startAgain = `trap 'kill "$!"; wait "$!"; exit' TERM
while :; do setpriv --pdeathsig KILL -- "$@" & wait "$!"; sleep 1; done`

/** Our programs in a cluster; they end with it. */
export class Elastic {
  readonly cluster: Cluster
  readonly #folder: string
  readonly #nodes: ElasticNode[] = []
  #provisioners = 0

  constructor(cluster: Cluster) {
    this.cluster = cluster
    this.#folder = join(cluster.folder, 'elastic')
  }

  async applyObjects(): Promise<void> {
    await mkdir(this.#folder)
    await this.cluster.apply(...(await readObjects()))
  }

  /** Ends the cluster, and gives back the loop devices of volumes, which the kernel would keep. */
  async close(): Promise<void> {
    const programs = this.#nodes.flatMap(({ daemon, kubelet }) => [daemon, kubelet])
    await Promise.all(programs.map((program) => program.kill()))
    // What lies on the volumes' own disks goes before those disks.
    const disks = this.#nodes.map(({ volumesDir }) => volumesDir)
    const mounts = (await readMountTable()).under(this.cluster.folder)
    const shown = mounts.filter(({ target, source }) => source.startsWith('/dev/loop') && !disks.includes(target))
    // One that was shared with another folder went with that.
    for (const { target } of shown.reverse()) await run('umount', ['--', target], { accept: [32] })
    for (const volumesDir of disks) {
      const images = join(volumesDir, '.elastic-local/loop')
      for (const file of await readdir(images).catch(() => [])) await detachLoops(join(images, file))
    }
    await this.cluster.close()
  }

  /** What a daemon answers. */
  async ask(socketPath: string, path: string): Promise<Record<string, unknown>> {
    return (await request({ socketPath, method: 'GET', path })).body as Record<string, unknown>
  }

  /** Starts a provisioner; it may have to wait until another one ends. */
  async startProvisioner(flags: Readonly<Record<string, string>> = {}, options: StartOptions = {}): Promise<Program> {
    this.#provisioners += 1
    const name = `provisioner-${this.#provisioners}`
    const kubeconfig = await this.cluster.serviceAccountKubeconfig(namespace, 'elastic-local-provisioner')
    await options.via?.redirect(kubeconfig)
    const socket = join(this.#folder, `${name}.socket`)
    return await this.#start(name, 'provisioner', socket, { kubeconfig, namespace, socket, ...flags }, options)
  }

  /** Starts a kubelet and, beside it, a daemon on a disk of its own. */
  async startNode(options: ElasticNodeOptions): Promise<ElasticNode> {
    const { name, diskBytes, attach, driverKind = 'LOOP', daemonFlags, via, before, ...kubeletOptions } = options
    const kubelet = await this.cluster.startKubelet({ name, ...kubeletOptions })
    const home = join(this.#folder, name)
    const volumesDir = join(home, 'volumes')
    const socket = join(home, 'socket')
    await mkdir(volumesDir, { recursive: true })
    await createDisk(join(home, 'disk'), diskBytes)
    await run('mkfs.ext4', ['-q', '-m', '0', join(home, 'disk')])
    await run('mount', ['-o', 'loop', join(home, 'disk'), volumesDir])
    await before?.(kubelet, volumesDir)
    const kubeconfig = await this.cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon', name)
    await via?.redirect(kubeconfig)
    const flags = {
      kubeconfig,
      namespace,
      socket,
      'node-name': name,
      'kubelet-dir': kubelet.rootDir,
      'driver-kind': driverKind,
      'volumes-dir': volumesDir,
      csi: String(!isFlex),
      ...daemonFlags,
    }
    const daemon = await this.#start(`daemon-${name}`, 'daemon', socket, flags)
    const mode = attach ? ['--attach'] : []
    if (daemonFlags?.flex !== 'false')
      await run(executable, ['install', `--plugin-dir=${kubelet.pluginDir}`, `--socket=${socket}`, ...mode])
    // The scheduler looks at what is published.
    await this.cluster.waitFor(`/api/v1/namespaces/${namespace}/configmaps/elastic-local.${name}.ledger`, Boolean)
    const node = { name, kubelet, daemon, flags, volumesDir, socket }
    this.#nodes.push(node)
    return node
  }

  /** Starts a guest with a kubelet and a daemon in it; its power may be cut. */
  async startLvmNode(options: LvmNodeOptions): Promise<GuestNode> {
    const { name, folder, address, diskBytes, thin } = options
    const daemonFlags = { csi: !isFlex, ...options.daemonFlags }
    const { cluster } = this
    const [disk, stateDisk] = [join(folder, 'disk'), join(folder, 'state')]
    await createDisk(disk, diskBytes)
    await createDisk(stateDisk, 2 * gibibyte)
    const node = await startGuestNode(cluster, {
      name,
      address,
      disk,
      stateDisk,
      setup: 'vgs elastic-local-vg || { pvcreate -q /dev/vda && vgcreate -q elastic-local-vg /dev/vda; }',
      daemon: async () => [
        ...[executable, 'daemon', `--node-name=${name}`, `--namespace=${namespace}`],
        `--kubeconfig=${await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon', name)}`,
        ...[`--kubelet-dir=${guestPaths.kubeletDir}`, `--volumes-dir=${guestPaths.volumesDir}`],
        ...[`--socket=${guestPaths.socket}`, `--lvm-use-thin-volumes=${thin}`],
        ...Object.entries(daemonFlags).map(([flag, value]) => `--${flag}=${value}`),
      ],
    })
    await node.run(executable, ['install', `--plugin-dir=${guestPaths.pluginDir}`, '--wait=300'])
    return node
  }

  /** Makes a claim by the class of `classOn()`; gives the name of its volume, which is made. */
  async place(name: string, node: string, size = '64Mi'): Promise<string> {
    const { cluster } = this
    await cluster.apply(claim(name, { class: `on-${node}`, size }))
    const claimPath = `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
    const { spec } = await cluster.waitFor(claimPath, (state) => state?.status?.phase === 'Bound', 120_000)
    const isMade = (ledger: KubeObject | undefined) => /madeFor/.test(ledger?.data[spec.volumeName] ?? '')
    await cluster.waitFor(`/api/v1/namespaces/${namespace}/configmaps/elastic-local.${node}.ledger`, isMade, 120_000)
    return spec.volumeName
  }

  /** Takes away a volume that nobody mounts, as a disk that is lost does, and starts the daemon again. */
  async loseVolume(node: ElasticNode, volume: string): Promise<void> {
    await node.daemon.kill()
    const own = join(node.volumesDir, '.elastic-local')
    await detachLoops(join(own, 'loop', `${volume}.img`))
    for (const file of await readdir(own, { recursive: true }))
      if (file.includes(volume)) await rm(join(own, file), { recursive: true })
    await this.restartDaemon(node)
  }

  /** Starts the kubelet and the daemon of a node that were ended; its object is recreated if it is gone. */
  async returnNode(node: ElasticNode): Promise<void> {
    await node.kubelet.start()
    await this.restartDaemon(node)
  }

  /** Starts a new daemon, which waits for the one that runs to end, as that is then told to. */
  async replaceDaemon(node: ElasticNode, signal: NodeJS.Signals): Promise<void> {
    const old = node.daemon
    node.daemon = await this.#start(`daemon-${node.name}`, 'daemon', node.socket, node.flags, { again: true })
    await old.kill(signal)
  }

  /** Starts a daemon, again if it runs, with a token for the object that its node has now, or for `pod`. */
  async restartDaemon(
    node: ElasticNode,
    {
      flags = {},
      pod,
      env,
    }: { flags?: Readonly<Record<string, string>>; pod?: KubeObject; env?: StartOptions['env'] } = {},
  ): Promise<void> {
    await node.daemon.kill()
    await this.cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon', node.name, pod)
    node.flags = { ...node.flags, ...flags }
    node.daemon = await this.#start(`daemon-${node.name}`, 'daemon', node.socket, node.flags, { env })
  }

  async #start(
    name: string,
    role: string,
    socket: string,
    flags: Readonly<Record<string, string>>,
    { env = {}, again = false }: Omit<StartOptions, 'via'> = {},
  ): Promise<Program> {
    const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`)
    const command = [executable, role, ...args]
    const program = new Program({
      name,
      command: again ? ['sh', '-c', startAgain, 'sh', ...command] : command,
      env,
      log: join(this.cluster.folder, 'logs', `${name}.log`),
      ready: async (signal) => await healthy(socket, signal),
    })
    this.cluster.adopt(program)
    await program.start()
    return program
  }
}

async function detachLoops(image: string): Promise<void> {
  const query = ['--noheadings', '--output', 'NAME', '--associated', image]
  const { stdout } = await run('losetup', ['--list', ...query])
  for (const loop of stdout.split('\n').filter(Boolean)) await run('losetup', ['--detach', loop.trim()])
}

async function healthy(socket: string, signal: AbortSignal): Promise<void> {
  const isHealthy = async () => {
    try {
      return (await request({ socketPath: socket, method: 'GET', path: '/healthz' })).statusCode === 200
    } catch {
      return false
    }
  }
  await poll(isHealthy, 30_000, signal)
}
