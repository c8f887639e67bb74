import { isHealthy } from './control-plane.ts'
import { type Component, Program, poll } from './program.ts'

/** A node of the cluster as its kubelet is told. */
export interface KubeletSettings {
  name: string
  kubeconfig: string
  address: string
  port: number
  rootDir: string
  pluginDir: string
  labels: Readonly<Record<string, string>>
  controllerAttachDetach: boolean
}

/** A kubelet with real volumes and mounts, and containers that are only said to run. */
export interface HollowKubelet extends Component {
  readonly rootDir: string
  readonly pluginDir: string
  readonly port: number
  /** The answer to `GET /stats/summary`. Throws when it does not serve. */
  stats(): Promise<KubeletStats>
}

/** What is in `/stats/summary`, as far as volumes go. */
export interface KubeletStats {
  node: { nodeName: string }
  pods: {
    podRef: { name: string; namespace: string; uid: string }
    volume?: {
      name: string
      pvcRef?: { name: string; namespace: string }
      capacityBytes?: number
      usedBytes?: number
      availableBytes?: number
      inodes?: number
    }[]
  }[]
}

/** The command line of a hollow kubelet; its folders must be on a shared mount. */
export function buildKubeletCommand(program: string, settings: KubeletSettings): string[] {
  const labels = Object.entries(settings.labels).map(([name, value]) => `${name}=${value}`)
  return [
    ...[program, 'hollow-kubelet', `--kubeconfig=${settings.kubeconfig}`, `--node-name=${settings.name}`],
    ...[`--address=${settings.address}`, `--port=${settings.port}`, `--root-dir=${settings.rootDir}`],
    ...[`--volume-plugin-dir=${settings.pluginDir}`, `--controller-attach-detach=${settings.controllerAttachDetach}`],
    ...(labels.length > 0 ? [`--node-labels=${labels.join(',')}`] : []),
  ]
}

/** Makes a hollow kubelet of this machine; its start takes until `isReady` resolves, which is told the time of it. */
export class LocalKubelet extends Program implements HollowKubelet {
  readonly rootDir: string
  readonly pluginDir: string
  readonly port: number
  readonly #url: string

  constructor(
    program: string,
    settings: KubeletSettings,
    options: { log: string; tmp: string; isReady: (startedAt: number) => Promise<unknown> },
  ) {
    const url = `http://${settings.address}:${settings.port}`
    super({
      name: settings.name,
      command: buildKubeletCommand(program, settings),
      env: { TMPDIR: options.tmp },
      log: options.log,
      ready: async (signal) => {
        const startedAt = Date.now()
        await poll(() => isHealthy(`${url}/healthz`), 60_000, signal)
        await options.isReady(startedAt)
      },
    })
    this.rootDir = settings.rootDir
    this.pluginDir = settings.pluginDir
    this.port = settings.port
    this.#url = url
  }

  async stats(): Promise<KubeletStats> {
    const response = await fetch(`${this.#url}/stats/summary`)
    if (!response.ok) throw new Error(`Cannot read the stats of ${this.name}: ${await response.text()}`)
    return (await response.json()) as KubeletStats
  }
}
