/** A cluster for the suite: nodes with real containers, and elastic-local of deploy.yaml on loop images. */
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { run } from '../../src/run.ts'
import { type Cluster, startCluster } from '../cluster/cluster.ts'
import { type ContainerNode, flexPluginDir, startContainerNode } from '../cluster/containers.ts'
import { overlayManifest } from '../cluster/deploy-overlay.ts'
import { ensureImage } from '../cluster/image.ts'
import { ownAddress } from '../cluster/network.ts'
import { Program, poll } from '../cluster/program.ts'
import type { Suite } from './build.ts'
import { classes } from './drivers.ts'

const root = join(import.meta.dirname, '../..')
const serviceAddress = '10.0.0.1'

export interface RigOptions {
  folder: string
  suite: Suite
  /** How many nodes it has. With one, the suite may stop its kubelet. */
  nodes: number
}

/** A cluster on which the suite can run, as it is told of it. */
export class Rig {
  readonly folder: string
  readonly #cluster: Cluster
  readonly #nodes: readonly ContainerNode[]
  readonly #servers: readonly Server[]

  constructor(parts: {
    folder: string
    cluster: Cluster
    nodes: readonly ContainerNode[]
    servers: readonly Server[]
  }) {
    this.folder = parts.folder
    this.#cluster = parts.cluster
    this.#nodes = parts.nodes
    this.#servers = parts.servers
  }

  get kubeconfig(): string {
    return this.#cluster.adminKubeconfig
  }

  /** A program. */
  get kubectl(): string {
    return join(this.folder, 'kubectl')
  }

  /** With it, the first node takes commands by SSH at the address of all, as root. */
  get sshKey(): string {
    return join(this.folder, 'ssh-key')
  }

  async close(): Promise<void> {
    for (const server of this.#servers) server.close()
    for (const node of this.#nodes) await node.close()
    await this.#cluster.close()
    await run('ip', ['address', 'delete', `${serviceAddress}/32`, 'dev', 'lo'])
  }
}

/** Starts it in a network of this process's own (`enterOwnNetwork()`); resolves when claims are served. */
export async function startRig({ folder, suite, nodes: count }: RigOptions): Promise<Rig> {
  await mkdir(folder, { recursive: true })
  const nodeFolder = (name: string) => join(folder, 'nodes', name)
  const cluster = await startCluster({
    folder: join(folder, 'cluster'),
    address: ownAddress,
    // What is installed on the first node is there for the controller manager, too, as on a control-plane node.
    flexVolumePluginDir: join(nodeFolder('node-1'), flexPluginDir),
  })
  await writeFile(join(folder, 'kubectl'), `#!/bin/sh\nexec '${cluster.program}' kubectl "$@"\n`, { mode: 0o755 })
  const nodes: ContainerNode[] = []
  const servers: Server[] = []
  const rig = new Rig({ folder, cluster, nodes, servers })
  try {
    // The work of kube-proxy: the API server at the address of its service.
    await run('ip', ['address', 'add', `${serviceAddress}/32`, 'dev', 'lo'])
    servers.push(await forward(443, serviceAddress, Number(new URL(cluster.server).port)))
    const image = await ensureImage()
    const images = [image, { name: 'of the suite', archive: suite.images }]
    for (let number = 1; number <= count; number++) {
      const name = `node-${number}`
      nodes.push(await startContainerNode(cluster, { name, folder: nodeFolder(name), images }))
    }
    const manifest = await readFile(join(root, 'deploy.yaml'), 'utf8')
    const container = { image: image.name, imagePullPolicy: 'Never' }
    await cluster.apply(...overlayManifest(manifest, { container, env: { ELASTIC_LOCAL_DRIVER_KIND: 'LOOP' } }))
    for (const what of ['daemonset/elastic-local-daemon', 'deployment/elastic-local-provisioner'])
      await cluster.kubectl(['--namespace=elastic-local', 'rollout', 'status', what, '--timeout=600s'])
    // Some specs name no class.
    await cluster.kubectl([
      ...['annotate', 'storageclass', 'elastic-local'],
      'storageclass.kubernetes.io/is-default-class=true',
    ])
    await cluster.apply(...classes)
    const [first] = nodes
    if (first) servers.push(...(await serveNode(first, { folder, cluster, sshd: suite.sshd })))
    return rig
  } catch (error) {
    await rig.close()
    throw error
  }
}

/** Serves what the suite looks for on a node: its kubelet at the usual port, and SSH. */
async function serveNode(
  node: ContainerNode,
  { folder, cluster, sshd }: { folder: string; cluster: Cluster; sshd: string },
): Promise<Server[]> {
  const kubelet = JSON.parse(await readFile(join(node.folder, 'config/kubelet.json'), 'utf8'))
  const socket = join(folder, 'systemctl.sock')
  const servers = [await forward(10_250, ownAddress, kubelet.port), await serveSystemctl(node, socket)]
  const bin = join(folder, 'bin')
  const work = join(folder, 'work')
  for (const place of [bin, work]) await mkdir(place)
  for (const [name, text] of Object.entries(buildPrograms(socket)))
    await writeFile(join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
  const overlay = `lowerdir=/usr/local/bin,upperdir=${bin},workdir=${work}`
  await node.run('mount', '-t', 'overlay', '-o', overlay, 'overlay', '/usr/local/bin')
  const namespaces = `/proc/${node.pid}/ns`
  const program = new Program({
    name: 'sshd',
    command: [
      ...['nsenter', `--mount=${namespaces}/mnt`, `--pid=${namespaces}/pid_for_children`, '--'],
      ...[sshd, `${ownAddress}:22`],
    ],
    env: { PATH: `${bin}:${process.env.PATH}` },
    log: join(folder, 'sshd.log'),
    ready: (signal) => poll(() => listens(22, ownAddress), 10_000, signal),
  })
  await program.start()
  cluster.adopt(program)
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, 'ssh-key')])
  return servers
}

/** Programs that a real node has, as far as the suite calls them by SSH. */
function buildPrograms(socket: string): Record<string, string> {
  // crictl ps --label=io.kubernetes.pod.uid=UID --name NAME -q; crictl stop ID.
  const filter = `"labels.\\"io.kubernetes.pod.uid\\"==\${3#*=},labels.\\"io.kubernetes.container.name\\"==$5"`
  return {
    systemctl: `exec curl --silent --fail-with-body --unix-socket '${socket}' "http://rig/$1"`,
    sudo: '[ "$1" != --version ] || exec echo "Sudo version 0"\nexec "$@"',
    crictl: `[ "$1" = ps ] && exec ctr -n k8s.io containers list -q ${filter}\nexec ctr -n k8s.io tasks kill -s SIGKILL "$2"`,
  }
}

/** `systemctl start|stop|restart|show kubelet`, as HTTP. */
async function serveSystemctl(node: ContainerNode, socket: string): Promise<Server> {
  let isRunning = true
  const server = createHttpServer(async (request, response) => {
    const verb = request.url?.slice(1)
    try {
      if ((verb === 'stop' || verb === 'restart') && isRunning) {
        await node.kubelet.kill('SIGTERM')
        isRunning = false
      }
      if ((verb === 'start' || verb === 'restart') && !isRunning) {
        await node.kubelet.start()
        isRunning = true
      }
      response.end(verb === 'show' ? `${isRunning ? 'active' : 'inactive'}\n` : '')
    } catch (error) {
      response.statusCode = 500
      response.end(`${error}\n`)
    }
  })
  server.listen(socket)
  await once(server, 'listening')
  return server
}

/** Leads connections to a port of the cluster's address. */
async function forward(from: number, address: string, to: number): Promise<Server> {
  const server = createServer((incoming) => {
    const outgoing = connect(to, ownAddress)
    incoming.pipe(outgoing).pipe(incoming)
    incoming.on('error', () => outgoing.destroy())
    outgoing.on('error', () => incoming.destroy())
  })
  server.listen(from, address)
  await once(server, 'listening')
  return server
}

function listens(port: number, address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(port, address, () => {
      probe.destroy()
      resolve(true)
    }).on('error', () => resolve(false))
  })
}
