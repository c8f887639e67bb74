/**
 * Many nodes and bound claims with their PVs on a real API server, 1,000 and 10,000 unless told otherwise: what a daemon hears
 * of them, what a provisioner keeps of them, how long its start takes, and one more claim, against the same on an empty cluster,
 * and what both ask for while nothing happens.
 *
 *   node bench/scale.ts [nodes] [volumes of each node]
 */
import { mkdir, mkdtemp, readFile, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type {
  KubernetesListObject,
  V1ConfigMap,
  V1CSIStorageCapacity,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
} from '@kubernetes/client-node'
import { ApiClient, findKubeConfig } from '../src/k8s/client/api.ts'
import { selectedNodeAnnotation } from '../src/k8s/model/claim.ts'
import { buildLease } from '../src/k8s/model/lease.ts'
import { buildLedger, type Entry, onlyPool, parseLedger } from '../src/k8s/model/ledger.ts'
import { nodeLabel } from '../src/k8s/model/names.ts'
import { buildVolume, volumeNameOf } from '../src/k8s/model/persistent-volume.ts'
import { claim, storageClass } from '../test/cluster/claim-objects.ts'
import { type Cluster, startCluster } from '../test/cluster/cluster.ts'
import { findFreePorts } from '../test/cluster/control-plane.ts'
import { Elastic, executable, namespace } from '../test/cluster/elastic.ts'
import { FaultyApi } from '../test/cluster/faulty-api.ts'
import { Program } from '../test/cluster/program.ts'
import { median, runProgram, say, sayRatio, sayTimes } from './measure.ts'
import { follow, Moments, readCpu } from './moments.ts'

const nodeCount = Number(process.argv[2] ?? 1000)
const volumesPerNode = Number(process.argv[3] ?? 10)
const changes = Math.min(1000, (nodeCount - 1) * volumesPerNode)
const probes = 25
/** Before these the provisioner does not know everything, and everybody's code is cold. */
const warmups = 15
const atOnce = 48
const settleMs = 5000
/** A daemon renews its Lease each minute. */
const restMs = 240_000
/** Of the provisioner; beyond the usual size, what deploy.yaml lets it have. */
const mostMb = nodeCount * volumesPerNode > 10_000 ? 512 : 200
const gibibyte = 1n << 30n
const pool = {
  name: 'vg',
  driverKind: 'LVM',
  capacityBytes: 1n << 44n,
  unitBytes: 4n << 20n,
  fronts: ['flex'],
} as const
/** An API server that is filled as fast as it can be may keep one waiting. */
const patientTimes = { requestMs: 300_000, watchIdleMs: 150_000, pingMs: 60_000 }
/** The one of the empty cluster. */
const firstNode = 'first'
/** The one with a daemon. */
const ownNode = 'own'
const volumesPath = '/api/v1/persistentvolumes'
const claimsPath = '/api/v1/namespaces/default/persistentvolumeclaims'
const capacitiesPath = `/apis/storage.k8s.io/v1/namespaces/${namespace}/csistoragecapacities`

/** Does that much work, some of it at once. */
async function forEach(count: number, work: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const worker = async () => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
}

async function createNode(api: ApiClient, name: string): Promise<void> {
  const labels = { 'kubernetes.io/hostname': name }
  const time = new Date().toISOString()
  const times = { lastHeartbeatTime: time, lastTransitionTime: time }
  const conditions = [{ type: 'Ready', status: 'True', reason: 'Bench', message: '', ...times }]
  const body = { apiVersion: 'v1', kind: 'Node', metadata: { name, labels }, status: { conditions } }
  await api.send({ method: 'POST', path: '/api/v1/nodes', body })
  // A new one is tainted as not ready until the controller manager has looked at it.
  await api.send({ method: 'PATCH', path: `/api/v1/nodes/${name}`, body: { spec: { taints: null } } })
}

async function createLedger(api: ApiClient, node: string, entries: ReadonlyMap<string, Entry>): Promise<void> {
  const path = `/api/v1/namespaces/${namespace}/configmaps`
  await api.send({ method: 'POST', path, body: buildLedger(namespace, node, pool, entries) })
  // As long as the bench takes, its daemon is alive.
  const leases = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`
  await api.send({ method: 'POST', path: leases, body: buildLease(namespace, node, 3600, new Date()) })
}

/** A claim with its PV, bound to each other; gives the name of the PV. */
async function createBound(api: ApiClient, name: string, node: string): Promise<string> {
  const template = claim(name, { class: 'immediate', size: '1Gi' })
  // Named by the claim from the beginning, so that a provisioner would leave it alone.
  const body = { ...template, spec: { ...template.spec, volumeName: `to-be-${name}` } }
  const { metadata } = await api.send<V1PersistentVolumeClaim>({ method: 'POST', path: claimsPath, body })
  const uid = metadata?.uid ?? ''
  const volume = buildVolume({
    claim: { namespace: 'default', name, uid, accessModes: ['ReadWriteOnce'] },
    storageClass: { name: 'immediate', provisioner: 'elastic-local.volumes.k8s.elastic.co', reclaimPolicy: 'Delete' },
    sizeBytes: gibibyte,
    fsType: 'ext4',
    options: {},
    node,
    front: 'flex',
    topology: { key: 'kubernetes.io/hostname', value: node },
    key: '0123456789abcdef0123456789abcdef',
  })
  await api.send({ method: 'POST', path: volumesPath, body: volume })
  return volumeNameOf(uid)
}

/** Fills the cluster and gives the PVs; those of the own node are promised, and still to be made. */
async function fill(api: ApiClient): Promise<{ own: string[]; others: string[] }> {
  const [own, others]: [string[], string[]] = [[], []]
  await forEach(nodeCount, async (index) => {
    const node = index === 0 ? ownNode : `node-${index}`
    await createNode(api, node)
    const entries = new Map<string, Entry>()
    for (let i = 0; i < volumesPerNode; i++) {
      const name = `bound-${index}-${i}`
      const volume = await createBound(api, name, node)
      const pending = node === ownNode ? { pendingFor: `default/${name}` } : {}
      entries.set(volume, { pool: onlyPool, kind: 'volume', promisedBytes: gibibyte, ...pending })
      if (node === ownNode) own.push(volume)
      else others.push(volume)
    }
    await createLedger(api, node, entries)
  })
  return { own, others }
}

/** How much JSON all PVs are. */
async function measureVolumes(api: ApiClient): Promise<number> {
  let bytes = 0
  let next = ''
  do {
    const query = { limit: '500', ...(next ? { continue: next } : {}) }
    const page = await api.send<KubernetesListObject<V1PersistentVolume>>({ method: 'GET', path: volumesPath, query })
    bytes += JSON.stringify(page).length
    next = (page.metadata as { continue?: string }).continue ?? ''
  } while (next)
  return bytes
}

/** Times claims one after the other, from the request to the sight of the PV. */
async function buildProbe(api: ApiClient, signal: AbortSignal) {
  const moments = new Moments<'made'>()
  await follow<V1PersistentVolume>(api, volumesPath, signal, ({ spec }) =>
    moments.see(spec?.claimRef?.name ?? '', 'made'),
  )
  return async (name: string, selectedNode?: string): Promise<number> => {
    const annotations = {
      // What the controller manager would say, for which a claim is waited with.
      'volume.kubernetes.io/storage-provisioner': 'elastic-local.volumes.k8s.elastic.co',
      ...(selectedNode ? { [selectedNodeAnnotation]: selectedNode } : {}),
    }
    const template = claim(name, selectedNode ? {} : { class: 'immediate' })
    const body = { ...template, metadata: { ...template.metadata, annotations } }
    const start = performance.now()
    await api.send({ method: 'POST', path: claimsPath, body })
    await moments.reached(name, 'made')
    return moments.at(name, 'made') - start
  }
}

/** A control plane with our objects and one node that has a pool. */
async function startSmall(folder: string): Promise<{ cluster: Cluster; api: ApiClient }> {
  const cluster = await startCluster({ folder })
  try {
    await new Elastic(cluster).applyObjects()
    await cluster.apply(storageClass('immediate', { volumeBindingMode: 'Immediate' }))
    // It would take nodes without heartbeats for dead, and bound claims without PVs of that name for lost.
    await cluster.component('kube-controller-manager').kill()
    const api = new ApiClient(findKubeConfig(cluster.adminKubeconfig), patientTimes)
    await createNode(api, firstNode)
    await createLedger(api, firstNode, new Map())
    return { cluster, api }
  } catch (error) {
    await cluster.close()
    throw error
  }
}

async function start(cluster: Cluster, role: string, args: readonly string[], ready: () => Promise<unknown>) {
  const log = join(cluster.folder, 'logs', `${role}.log`)
  const socket = join(cluster.folder, `${role}.socket`)
  const command = [executable, role, `--namespace=${namespace}`, `--socket=${socket}`, ...args]
  const program = new Program({ name: role, command, log, ready })
  cluster.adopt(program)
  await program.start()
  return program
}

interface Started {
  program: Program
  /** How many requests it has sent so far, watches not counted. */
  requests(): Promise<number>
}

/** Starts a role that counts its requests. */
async function startCounting(cluster: Cluster, role: string, args: readonly string[], ready: () => Promise<unknown>) {
  const [port = 0] = await findFreePorts(1, cluster.address)
  const address = `${cluster.address}:${port}`
  const program = await start(cluster, role, [`--http-address=${address}`, ...args], ready)
  const requests = async () => {
    const text = await (await fetch(`http://${address}/metrics`)).text()
    const counts = text.matchAll(/^elastic_local_api_request_duration_seconds_count\{.*\} (\d+)$/gm)
    return counts.reduce((sum, [, count]) => sum + Number(count), 0)
  }
  return { program, requests }
}

async function startProvisioner(cluster: Cluster): Promise<Started> {
  const kubeconfig = await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-provisioner')
  const lease = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/elastic-local-provisioner`
  const isLed = () => cluster.waitFor(lease, (found) => Boolean(found?.spec.holderIdentity))
  return await startCounting(cluster, 'provisioner', [`--kubeconfig=${kubeconfig}`], isLed)
}

/** Gives what resolves when the scheduler is told of each node. */
async function followCapacities(api: ApiClient, signal: AbortSignal): Promise<() => Promise<void>> {
  const nodes = new Set<string>()
  const { promise, resolve } = Promise.withResolvers<void>()
  await follow<V1CSIStorageCapacity>(api, capacitiesPath, signal, ({ metadata }) => {
    nodes.add(metadata?.labels?.[nodeLabel] ?? '')
    if (nodes.size === nodeCount + 1) resolve()
  })
  return () => promise
}

async function residentMb({ pid }: Program): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024
}

const scratch = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-bench-')))
const stop = new AbortController()
const closing: (() => unknown)[] = [() => stop.abort()]
try {
  // Both at the same time, so that whatever else the machine does slows both.
  const empty = await startSmall(join(scratch, 'empty'))
  closing.push(() => empty.cluster.close())
  const full = await startSmall(join(scratch, 'full'))
  closing.push(() => full.cluster.close())
  const { own, others } = await fill(full.api)
  const allBytes = await measureVolumes(full.api)

  const proxy = await FaultyApi.start(full.cluster)
  closing.push(() => proxy.close())
  const kubeconfig = await full.cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon', ownNode)
  await proxy.redirect(kubeconfig)
  const volumesDir = join(scratch, 'volumes')
  await mkdir(volumesDir)
  // A disk that only its pool fills: what the API server writes beside it would be told of in the ledger.
  runProgram('mount', '-t', 'tmpfs', '-o', 'size=1T', 'tmpfs', volumesDir)
  closing.push(() => runProgram('umount', '--lazy', volumesDir))
  const flags = [`--kubeconfig=${kubeconfig}`, `--node-name=${ownNode}`, `--volumes-dir=${volumesDir}`]
  const ledgerPath = `/api/v1/namespaces/${namespace}/configmaps/elastic-local.${ownNode}.ledger`
  const areMade = (ledger: V1ConfigMap | undefined) => {
    const entries = ledger ? [...parseLedger(ledger).entries.values()] : []
    return entries.filter(({ pendingFor }) => !pendingFor).length === volumesPerNode
  }
  const daemon = await startCounting(full.cluster, 'daemon', ['--driver-kind=BINDMOUNT', ...flags], () =>
    full.cluster.waitFor<V1ConfigMap>(ledgerPath, areMade),
  )
  const change = async (volumes: readonly string[]) => {
    const before = proxy.bytes
    const body = { metadata: { annotations: { bench: 'changed' } } }
    const send = (name: string) => full.api.send({ method: 'PATCH', path: `${volumesPath}/${name}`, body })
    await forEach(volumes.length, (i) => send(volumes[i] ?? ''))
    await sleep(settleMs)
    return proxy.bytes - before
  }
  await sleep(settleMs)
  const startBytes = proxy.bytes
  const othersBytes = await change(others.slice(0, changes))
  const ownBytes = await change(own)
  const daemonMb = await residentMb(daemon.program)

  const published = await followCapacities(full.api, stop.signal)
  const startedAt = performance.now()
  const leader = await startProvisioner(full.cluster)
  await published()
  const startMs = performance.now() - startedAt
  const { ownMs: startCpuMs } = await readCpu(leader.program.pid)
  const provisioners = { empty: await startProvisioner(empty.cluster), full: leader }
  const probeEmpty = await buildProbe(empty.api, stop.signal)
  const probeFull = await buildProbe(full.api, stop.signal)
  const times = {
    'Immediate claim to PV, empty cluster': [] as number[],
    'Immediate claim to PV': [] as number[],
    'claim with its node selected to PV, empty cluster': [] as number[],
    'claim with its node selected to PV': [] as number[],
  }
  for (let i = -warmups; i < probes; i++) {
    const round = [
      await probeEmpty(`immediate-${i + warmups}`),
      await probeFull(`immediate-${i + warmups}`),
      await probeEmpty(`selected-${i + warmups}`, firstNode),
      await probeFull(`selected-${i + warmups}`, firstNode),
    ]
    if (i >= 0) for (const [at, list] of Object.values(times).entries()) list.push(round[at] ?? Number.NaN)
  }
  await sleep(settleMs)
  const emptyMb = await residentMb(provisioners.empty.program)
  const fullMb = await residentMb(provisioners.full.program)
  const programs = [provisioners.full, daemon]
  const before = await Promise.all(programs.map(({ requests }) => requests()))
  await sleep(restMs)
  const after = await Promise.all(programs.map(({ requests }) => requests()))
  const [provisionerRate = Number.NaN, daemonRate = Number.NaN] = after.map(
    (count, i) => (count - (before[i] ?? 0)) / (restMs / 1000),
  )

  const kilobytes = (bytes: number) => `${(bytes / 1000).toFixed(0)} kB`
  say(`## ${nodeCount} nodes, ${nodeCount * volumesPerNode} PVs\n`)
  say('| what | bytes |\n|---|---|')
  say(`| all PVs, as JSON | ${kilobytes(allBytes)} |`)
  say(`| on a daemon's wire: its start, and making the ${own.length} volumes of its node | ${kilobytes(startBytes)} |`)
  say(`| the same, while ${changes} PVs of other nodes change | ${kilobytes(othersBytes)} |`)
  say(`| the same, while its own ${own.length} change | ${kilobytes(ownBytes)} |`)
  say('\n| resident | MB |\n|---|---|')
  say(`| daemon | ${daemonMb.toFixed(0)} MB |`)
  say(`| provisioner, empty cluster | ${emptyMb.toFixed(0)} MB |`)
  say(`| provisioner | ${fullMb.toFixed(0)} MB |\n`)
  say(`| the provisioner's start, until the scheduler is told of all nodes | |\n|---|---|`)
  say(
    `| it takes | ${(startMs / 1000).toFixed(1)} s |\n| of its processor time | ${(startCpuMs / 1000).toFixed(1)} s |\n`,
  )
  say('| at rest | requests a second |\n|---|---|')
  say(`| provisioner | ${provisionerRate.toFixed(2)} |\n| a daemon | ${daemonRate.toFixed(3)} |`)
  say(`| all daemons | ${(daemonRate * nodeCount).toFixed(1)} |\n`)
  sayTimes(times)
  const [emptyImmediate = Number.NaN, immediate = Number.NaN, emptySelected = Number.NaN, selected = Number.NaN] =
    Object.values(times).map(median)
  sayRatio('bytes that a daemon hears at its start / all PVs', startBytes / allBytes, { most: 0.02 })
  sayRatio(`resident memory of the provisioner / ${mostMb} MB`, fullMb / mostMb, { most: 1 })
  sayRatio('Immediate claim to PV / on an empty cluster', immediate / emptyImmediate, { most: 2 })
  sayRatio('claim with its node selected to PV / on an empty cluster', selected / emptySelected, { most: 2 })
} finally {
  for (const close of closing.reverse()) await close()
  await rm(scratch, { recursive: true, force: true })
}
