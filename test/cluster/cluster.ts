/** A real Kubernetes control plane and kubelets without containers, as processes in a test's scratch folder. */
import { rmSync } from 'node:fs'
import { mkdir, realpath, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readMountTable } from '../../src/mount/table.ts'
import { type Output, run } from '../../src/run.ts'
import { withScratch } from '../scratch.ts'
import { ApiClient, type KubeObject } from './api.ts'
import { ensureControlPlane } from './build.ts'
import {
  buildKubeconfig,
  type ComponentName,
  type ControlPlane,
  findFreePorts,
  startControlPlane,
} from './control-plane.ts'
import { type HollowKubelet, LocalKubelet } from './kubelet.ts'
import { type Component, runWithInput } from './program.ts'
import { atTermination } from './termination.ts'

export interface ClusterOptions {
  /** The cluster keeps everything below this folder. */
  folder: string
  /** Where its programs listen, 127.0.0.1 by default; guests need the address of their bridge. */
  address?: string
  /** Lets the controller manager and the scheduler make 1000 requests a second. True by default. */
  fastControllerManager?: boolean
  /** Where the controller manager looks for flex drivers. */
  flexVolumePluginDir?: string
}

export interface KubeletOptions {
  name: string
  labels?: Readonly<Record<string, string>>
  /** The label `kubernetes.io/hostname`, if it is not the name. */
  hostnameLabel?: string
  /** Whether volumes are attached by the controller manager. True by default. */
  controllerAttachDetach?: boolean
  /** Where its flex drivers are; a folder of its own by default. */
  pluginDir?: string
}

const readyTimeoutMs = 60_000

/** Starts a cluster; resolves when pods can be created. It goes when this process does. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const program = await ensureControlPlane()
  await mkdir(options.folder, { recursive: true })
  const folder = await realpath(options.folder)
  for (const name of ['data', 'logs', 'tmp', 'k', 'kubeconfigs']) await mkdir(join(folder, name))
  const programs = new Set<Pick<Component, 'kill'>>()
  const cluster = new Cluster({ program, folder, programs, address: options.address ?? '127.0.0.1' })
  try {
    await cluster.start(options)
  } catch (error) {
    await cluster.close()
    throw error
  }
  return cluster
}

/** Runs `work` on a new cluster in a new folder, of which nothing stays. */
export const withCluster =
  (options: Omit<ClusterOptions, 'folder'>, work: (cluster: Cluster, folder: string) => Promise<void>) => () =>
    withScratch(async (folder) => {
      const forget = atTermination(async () => rmSync(folder, { recursive: true, force: true }))
      try {
        const cluster = await startCluster({ ...options, folder: join(folder, 'cluster') })
        try {
          await work(cluster, folder)
        } finally {
          await cluster.close()
        }
      } finally {
        forget()
      }
    })

/** A cluster that runs. */
export class Cluster {
  /** The program that holds Kubernetes, for what the cluster does not start itself: `[program, 'kubelet', …]`. */
  readonly program: string
  readonly folder: string
  readonly address: string
  readonly adminKubeconfig: string
  readonly #programs: Set<Pick<Component, 'kill'>>
  readonly #forget: () => void
  #controlPlane: ControlPlane | undefined
  #api: ApiClient | undefined
  #closed: Promise<void> | undefined

  constructor(parts: { program: string; folder: string; address: string; programs: Set<Pick<Component, 'kill'>> }) {
    this.program = parts.program
    this.folder = parts.folder
    this.address = parts.address
    this.adminKubeconfig = join(this.folder, 'kubeconfigs/admin')
    this.#programs = parts.programs
    this.#forget = atTermination(() => this.close())
  }

  /** Starts the control plane, once. */
  async start(options: ClusterOptions): Promise<void> {
    const { folder, program, address } = this
    const { fastControllerManager = true, flexVolumePluginDir } = options
    const parts = { folder, program, address, fastControllerManager, flexVolumePluginDir }
    this.#controlPlane = await startControlPlane(parts, (component) => this.#programs.add(component))
    const { server, ca, adminToken: token } = this.#controlPlane
    this.#api = new ApiClient({ server, ca, token })
    await this.kubeconfigFor({ token }, 'admin')
    // What each pod of the namespace needs.
    await this.waitFor('/api/v1/namespaces/default/serviceaccounts/default', Boolean)
    await this.waitFor('/api/v1/namespaces/default/configmaps/kube-root-ca.crt', Boolean)
  }

  /** Such as `https://127.0.0.1:20000`. */
  get server(): string {
    return this.#running.server
  }

  /** The API as an administrator sees it, by paths. */
  get api(): ApiClient {
    if (!this.#api) throw new Error('Cannot ask the API server as it was never started')
    return this.#api
  }

  get #running(): ControlPlane {
    if (!this.#controlPlane) throw new Error('Cannot use the cluster as it was never started')
    return this.#controlPlane
  }

  /** Writes a kubeconfig for a user, by the fields that a kubeconfig has for one; gives its path. */
  async kubeconfigFor(user: { token: string; as?: string; 'as-groups'?: string[] }, name: string): Promise<string> {
    const path = join(this.folder, 'kubeconfigs', name)
    await writeFile(path, buildKubeconfig(this.server, this.#running.ca, user), { mode: 0o600 })
    return path
  }

  /** A kubeconfig with which a kubelet of that name has a kubelet's rights. */
  nodeKubeconfig(name: string): Promise<string> {
    const { adminToken: token } = this.#running
    return this.kubeconfigFor({ token, as: `system:node:${name}`, 'as-groups': ['system:nodes'] }, `node-${name}`)
  }

  /**
   * A kubeconfig for a service account. With `node`, the token is bound to that Node object, or to `pod`, which is there:
   * `authentication.kubernetes.io/node-name` is among what the API server knows of the user.
   */
  async serviceAccountKubeconfig(namespace: string, name: string, node?: string, pod?: KubeObject): Promise<string> {
    const object = pod ?? (node && (await this.api.request('GET', `/api/v1/nodes/${node}`)))
    const bound = object ? { boundObjectRef: referTo(object) } : {}
    const { status } = await this.api.request('POST', `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { expirationSeconds: 24 * 3600, ...bound },
    })
    return await this.kubeconfigFor({ token: status.token }, `${namespace}-${name}${node ? `-on-${node}` : ''}`)
  }

  /** Runs the real kubectl, as an administrator unless the arguments say otherwise. Throws `CommandError`. */
  kubectl(args: readonly string[], options: { input?: string; accept?: readonly number[] } = {}): Promise<Output> {
    const env = { KUBECONFIG: this.adminKubeconfig, KUBECACHEDIR: join(this.folder, 'tmp/kubectl') }
    return runWithInput(this.program, ['kubectl', ...args], { env, ...options })
  }

  /** Creates objects, or makes them what is said here. */
  async apply(...objects: readonly object[]): Promise<void> {
    const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects })
    await this.kubectl(['apply', '--server-side', '--force-conflicts', '--filename=-'], { input })
  }

  /** An object such as `pod/a`, or a list such as `pods`. */
  async get<T = KubeObject>(kindAndName: string, namespace?: string): Promise<T | undefined> {
    const place = namespace === undefined ? [] : [`--namespace=${namespace}`]
    const { stdout } = await this.kubectl(['get', kindAndName, '--ignore-not-found', '--output=json', ...place])
    return stdout.trim() === '' ? undefined : (JSON.parse(stdout) as T)
  }

  /**
   * Watches an object, or a list, by its path in the API until it is as awaited; see `ApiClient.waitFor()`.
   * `undefined` is an object that is not there.
   */
  waitFor<T = KubeObject>(
    path: string,
    until: (state: T | undefined) => boolean | Promise<boolean>,
    timeoutMs?: number,
  ): Promise<T> {
    return this.api.waitFor<T>(path, until, timeoutMs)
  }

  /** Resolves with what an event about an object, be it in namespace `default` or in none, says that matches. */
  async said(name: string, message: RegExp): Promise<string> {
    let found: string | undefined
    await this.waitFor(
      '/api/v1/namespaces/default/events',
      (list) => {
        const about = list?.items.filter(({ involvedObject }: KubeObject) => involvedObject.name === name) ?? []
        found = about.map((event: KubeObject) => String(event.message)).find((words: string) => message.test(words))
        return found !== undefined
      },
      120_000,
    )
    return found ?? ''
  }

  component(name: ComponentName): Component {
    return this.#running.components[name]
  }

  /** Ends a program of the caller's with the cluster. */
  adopt(program: Pick<Component, 'kill'>): void {
    this.#programs.add(program)
  }

  /** Starts a kubelet; resolves when its node takes pods. */
  async startKubelet(options: KubeletOptions): Promise<HollowKubelet> {
    const { name, labels = {}, hostnameLabel, controllerAttachDetach = true } = options
    // Short, as a path of a socket has at most 107 bytes.
    const home = join(this.folder, 'k', name)
    const [rootDir, pluginDir] = [join(home, 'root'), options.pluginDir ?? join(home, 'plugins')]
    await mkdir(rootDir, { recursive: true })
    // One that is named is there, or the kubelet is to do without.
    if (!options.pluginDir) await mkdir(pluginDir, { recursive: true })
    await run('mount', ['--bind', rootDir, rootDir])
    await run('mount', ['--make-rshared', rootDir])
    const [port = 0] = await findFreePorts(1, this.address)
    const settings = {
      name,
      kubeconfig: await this.nodeKubeconfig(name),
      address: this.address,
      port,
      rootDir,
      pluginDir,
      labels: { ...labels, ...(hostnameLabel ? { 'kubernetes.io/hostname': hostnameLabel } : {}) },
      controllerAttachDetach,
    }
    const kubelet = new LocalKubelet(this.program, settings, {
      log: join(this.folder, 'logs', `kubelet-${name}.log`),
      tmp: join(this.folder, 'tmp'),
      isReady: (startedAt) => this.nodeReady(name, startedAt),
    })
    this.#programs.add(kubelet)
    await kubelet.start()
    return kubelet
  }

  /** Resolves when a node is ready, as reported after `since` (in ms, as `Date.now()`), and takes pods. */
  async nodeReady(name: string, since = 0, timeoutMs = readyTimeoutMs): Promise<void> {
    const isReady = (node: KubeObject | undefined) => {
      const conditions: { type: string; status: string; lastHeartbeatTime: string }[] = node?.status.conditions ?? []
      const ready = conditions.find(({ type }) => type === 'Ready')
      // The report's time is in whole seconds.
      return ready?.status === 'True' && Date.parse(ready.lastHeartbeatTime) > since - 1000 && !node?.spec.taints
    }
    await this.waitFor(`/api/v1/nodes/${name}`, isReady, timeoutMs)
  }

  /** Ends all it started, and takes away all mounts below its folder. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#api?.close()
    await Promise.all([...this.#programs].map((program) => program.kill()))
    await this.#detachLocks()
    const targets = (await readMountTable()).under(this.folder).map(({ target }) => target)
    for (const target of targets.reverse()) await run('umount', ['--', target])
    this.#forget()
  }

  /** Ends the loop devices that kubelets lay over block devices of pods (`AttachFileDevice`). */
  async #detachLocks(): Promise<void> {
    const { stdout } = await run('losetup', ['--list', '--raw', '--noheadings', '--output', 'NAME,BACK-FILE'])
    const loops = stdout.split('\n').map((line) => line.split(' ', 2))
    for (const [loop = '', file] of loops)
      if (file?.startsWith(`${this.folder}/`) && file.includes('/volumeDevices/'))
        await run('losetup', ['--detach', loop])
  }
}

const referTo = ({ apiVersion, kind, metadata: { name, uid } }: KubeObject) => ({ apiVersion, kind, name, uid })
