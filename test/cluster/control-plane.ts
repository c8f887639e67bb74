import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { kubernetes } from '../kubernetes/version.ts'
import { Program, poll } from './program.ts'

export type ComponentName = 'etcd' | 'kube-apiserver' | 'kube-controller-manager' | 'kube-scheduler'

/** Everything the four programs have to agree on. */
export interface ControlPlaneOptions {
  /** The program that holds all of them; see `ensureControlPlane()`. */
  program: string
  /** A folder with `data`, `logs` and `tmp` in it. */
  folder: string
  address: string
  fastControllerManager: boolean
  flexVolumePluginDir: string | undefined
}

/** A control plane that runs. */
export interface ControlPlane {
  components: Record<ComponentName, Program>
  server: string
  /** The API server's certificate, which vouches for itself. */
  ca: string
  /** The token of a user in the group `system:masters`. */
  adminToken: string
}

/** Starts etcd, the API server, the controller manager and the scheduler; resolves when all serve. */
export async function startControlPlane(
  options: ControlPlaneOptions,
  onProgram: (program: Program) => void,
): Promise<ControlPlane> {
  const { address, folder, program, fastControllerManager, flexVolumePluginDir } = options
  const data = (name: string) => join(folder, 'data', name)
  const [etcd = 0, peer = 0, api = 0, manager = 0, scheduler = 0] = await findFreePorts(5, address)
  const url = (port: number, scheme = 'https') => `${scheme}://${address}:${port}`
  const server = url(api)

  const tokens: Record<string, string> = {}
  for (const user of ['admin', 'system:kube-controller-manager', 'system:kube-scheduler'])
    tokens[user] = randomBytes(16).toString('hex')
  const tokenLines = Object.entries(tokens).map(
    ([user, token]) => `${token},${user},${user},${user === 'admin' ? 'system:masters' : ''}\n`,
  )
  await writeFile(data('tokens.csv'), tokenLines.join(''))
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await writeFile(data('service-accounts.key'), privateKey.export({ type: 'sec1', format: 'pem' }))

  const build = (name: ComponentName, health: string, flags: Readonly<Record<string, string | number | boolean>>) => {
    const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`)
    const component = new Program({
      name,
      command: [program, name, ...args],
      env: { TMPDIR: join(folder, 'tmp') },
      log: join(folder, 'logs', `${name}.log`),
      ready: (signal) => poll(() => isHealthy(health), 60_000, signal),
    })
    onProgram(component)
    return component
  }
  const user = async (name: string) => {
    const path = data(`${name}.kubeconfig`)
    const ca = await readFile(data('certificates/apiserver.crt'), 'utf8')
    await writeFile(path, buildKubeconfig(server, ca, { token: tokens[`system:${name}`] ?? '' }))
    return path
  }

  const etcdProgram = build('etcd', `${url(etcd, 'http')}/health`, {
    'data-dir': data('etcd'),
    'unsafe-no-fsync': true,
    'listen-client-urls': url(etcd, 'http'),
    'advertise-client-urls': url(etcd, 'http'),
    'listen-peer-urls': url(peer, 'http'),
    'initial-advertise-peer-urls': url(peer, 'http'),
    'initial-cluster': `default=${url(peer, 'http')}`,
  })
  const apiServer = build('kube-apiserver', `${server}/readyz`, {
    'etcd-servers': url(etcd, 'http'),
    'bind-address': address,
    'advertise-address': address,
    'secure-port': api,
    // Nobody asks for the endpoints, and a loopback address cannot be one.
    'endpoint-reconciler-type': 'none',
    'cert-dir': data('certificates'),
    'token-auth-file': data('tokens.csv'),
    'authorization-mode': 'Node,RBAC',
    'enable-admission-plugins': 'NodeRestriction',
    'allow-privileged': true,
    // Nodes' names do not resolve.
    'kubelet-preferred-address-types': 'InternalIP',
    'service-account-key-file': data('service-accounts.key'),
    'service-account-signing-key-file': data('service-accounts.key'),
    'service-account-issuer': 'https://kubernetes.default.svc',
    'service-cluster-ip-range': '10.0.0.0/16',
    // The rig's own client lists and watches in one request, which was first on for good in 1.34; ours does not.
    ...(kubernetes.minor < 34 ? { 'feature-gates': 'WatchList=true' } : {}),
  })
  await Promise.all([etcdProgram.start(), apiServer.start()])

  const rate = fastControllerManager ? { 'kube-api-qps': 1000, 'kube-api-burst': 2000 } : {}
  const common = { 'leader-elect': false, 'bind-address': address, ...rate }
  const managerProgram = build('kube-controller-manager', `${url(manager)}/healthz`, {
    ...common,
    'secure-port': manager,
    kubeconfig: await user('kube-controller-manager'),
    'use-service-account-credentials': true,
    'root-ca-file': data('certificates/apiserver.crt'),
    'service-account-private-key-file': data('service-accounts.key'),
    ...(flexVolumePluginDir ? { 'flex-volume-plugin-dir': flexVolumePluginDir } : {}),
  })
  const schedulerProgram = build('kube-scheduler', `${url(scheduler)}/healthz`, {
    ...common,
    'secure-port': scheduler,
    kubeconfig: await user('kube-scheduler'),
  })
  await Promise.all([managerProgram.start(), schedulerProgram.start()])
  return {
    components: {
      etcd: etcdProgram,
      'kube-apiserver': apiServer,
      'kube-controller-manager': managerProgram,
      'kube-scheduler': schedulerProgram,
    },
    server,
    ca: await readFile(data('certificates/apiserver.crt'), 'utf8'),
    adminToken: tokens.admin ?? '',
  }
}

/** A kubeconfig, as JSON; the user has kubeconfig's own fields. It names no file, so it holds in a guest, too. */
export function buildKubeconfig(server: string, ca: string, user: object): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster: { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') } }],
    users: [{ name: 'user', user }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'user' } }],
    'current-context': 'test',
  })
}

/**
 * Ports on which nobody listens. Below those that the kernel gives to clients: a client that calls a server which is
 * down would else in the end be given the very port, and keep the server from starting again.
 */
export async function findFreePorts(count: number, address: string): Promise<number[]> {
  const ports = new Set<number>()
  while (ports.size < count) {
    const port = 15_000 + Math.floor(Math.random() * 15_000)
    if (await isFree(port, address)) ports.add(port)
  }
  return [...ports]
}

/** Throws when the address is none of this machine's. */
function isFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? resolve(false) : reject(error),
    )
    server.listen({ port, host }, () => server.close(() => resolve(true)))
  })
}

/** Whether a URL answers 200. */
export function isHealthy(url: string): Promise<boolean> {
  const request = url.startsWith('https:') ? httpsRequest : httpRequest
  return new Promise((resolve) => {
    const call = request(url, { agent: false, rejectUnauthorized: false, timeout: 2000 }, (response) => {
      resolve(response.statusCode === 200)
      response.destroy()
    })
    call.once('timeout', () => call.destroy())
    call.once('error', () => resolve(false))
    call.end()
  })
}
