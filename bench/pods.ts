/**
 * From a claim (WaitForFirstConsumer) and its pod to the pod running, on kubelets without containers: for one pod, with
 * the time of each step, and for 50 created at once, until the last one runs. The floor of either is the same with
 * emptyDir pods, plus the second after which the stock scheduler first looks whether a claim is bound. Beside the 50 stand
 * 50 with claims for folders whose PVs are there already: what Kubernetes itself takes to bind claims to PVs.
 */
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { V1ConfigMap, V1PersistentVolume, V1PersistentVolumeClaim, V1Pod } from '@kubernetes/client-node'
import { ApiClient, findKubeConfig } from '../src/k8s/client/api.ts'
import { selectedNodeAnnotation } from '../src/k8s/model/claim.ts'
import { parseLedger } from '../src/k8s/model/ledger.ts'
import { volumeNameOf } from '../src/k8s/model/persistent-volume.ts'
import { claim, gibibyte, pod, storageClass } from '../test/cluster/claim-objects.ts'
import { startCluster } from '../test/cluster/cluster.ts'
import { Elastic, type ElasticNode, namespace } from '../test/cluster/elastic.ts'
import type { Component } from '../test/cluster/program.ts'
import { median, say, sayRatio, sayTimes } from './measure.ts'
import { follow, followLog, Moments, readCpu } from './moments.ts'

const runs = 15
const many = 50
const crowdRuns = 3
/** A kubelet makes 50 requests a second, and a pod with a claim costs it some 18: with few nodes, that is the limit. */
const nodeCount = 5
const schedulerMs = 1000
const podsPath = '/api/v1/namespaces/default/pods'
const claimsPath = '/api/v1/namespaces/default/persistentvolumeclaims'
const volumesPath = '/api/v1/persistentvolumes'
const ledgersPath = `/api/v1/namespaces/${namespace}/configmaps`

const folderClass = 'folders'

const steps = [
  'claim created',
  'node selected',
  'PV created',
  'volume made',
  'claim bound',
  'pod scheduled',
  'volume mounted',
  'pod running',
] as const
type Step = (typeof steps)[number] | 'pod gone' | 'PV gone'

const scratch = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-bench-')))
const cluster = await startCluster({ folder: join(scratch, 'cluster') })
const elastic = new Elastic(cluster)
const stop = new AbortController()
try {
  await elastic.applyObjects()
  await cluster.apply(storageClass(folderClass, { provisioner: 'kubernetes.io/no-provisioner' }))
  const nodes: ElasticNode[] = []
  for (let i = 1; i <= nodeCount; i++)
    nodes.push(await elastic.startNode({ name: `node-${i}`, diskBytes: 64 * gibibyte }))
  const provisioner = await elastic.startProvisioner()
  const api = new ApiClient(findKubeConfig(cluster.adminKubeconfig))
  const { signal } = stop

  /** Each by the name that a pod and its claim share. */
  const moments = new Moments<Step>()
  const nameOfVolume = new Map<string, string>()
  const seeVolume = (volume: string, step: Step) => {
    const name = nameOfVolume.get(volume)
    if (name) moments.see(name, step)
  }
  await Promise.all([
    follow<V1PersistentVolumeClaim>(api, claimsPath, signal, ({ metadata, status }) => {
      const { name = '', uid = '', annotations = {} } = metadata ?? {}
      nameOfVolume.set(volumeNameOf(uid), name)
      moments.see(name, 'claim created')
      if (annotations[selectedNodeAnnotation]) moments.see(name, 'node selected')
      if (status?.phase === 'Bound') moments.see(name, 'claim bound')
    }),
    follow<V1PersistentVolume>(api, volumesPath, signal, ({ metadata }, isGone) =>
      seeVolume(metadata?.name ?? '', isGone ? 'PV gone' : 'PV created'),
    ),
    follow<V1ConfigMap>(api, ledgersPath, signal, (object) => {
      if (!object.metadata?.name?.endsWith('.ledger')) return
      for (const [volume, { pendingFor }] of parseLedger(object).entries)
        if (!pendingFor) seeVolume(volume, 'volume made')
    }),
    follow<V1Pod>(api, podsPath, signal, ({ metadata, spec, status }, isGone) => {
      const name = metadata?.name ?? ''
      if (isGone) return moments.see(name, 'pod gone')
      if (spec?.nodeName) moments.see(name, 'pod scheduled')
      if (status?.phase === 'Running') moments.see(name, 'pod running')
    }),
    ...nodes.map(({ daemon }) =>
      followLog(daemon.log, signal, (line) => {
        const volume = /\/mount \S+\/(\S+): done/.exec(line)?.[1]
        if (volume) seeVolume(volume, 'volume mounted')
      }),
    ),
  ])

  const create = (path: string, body: object) => api.send({ method: 'POST', path, body })
  const createPod = async (name: string, kind: Kind, node?: string) => {
    const withClaim = kind !== 'emptyDir'
    const volumes = withClaim ? [] : [{ name: 'own', emptyDir: {} }]
    const spec = {
      containers: [buildContainer(withClaim ? name : 'own')],
      ...(node ? { nodeSelector: { 'kubernetes.io/hostname': node } } : {}),
    }
    const storage = kind === 'folder' ? folderClass : 'elastic-local'
    if (withClaim) await create(claimsPath, claim(name, { size: '256Mi', class: storage }))
    await create(podsPath, pod(name, withClaim ? [name] : [], { volumes, spec }))
  }
  const remove = async (name: string, kind: Kind) => {
    await api.send({ method: 'DELETE', path: `${podsPath}/${name}` })
    await moments.reached(name, 'pod gone')
    if (kind === 'emptyDir') return
    await api.send({ method: 'DELETE', path: `${claimsPath}/${name}` })
    if (kind === 'claim') await moments.reached(name, 'PV gone')
  }
  const makeFolder = async (name: string) => {
    const path = join(scratch, 'folders', name)
    await mkdir(path, { recursive: true })
    return path
  }
  /** Creates pods at once and takes them away again; resolves with the time that they were created at. */
  const cycle = async (
    names: readonly string[],
    kind: Kind,
    { node, look }: { node?: string; look?: () => Promise<void> } = {},
  ): Promise<number> => {
    const start = performance.now()
    await Promise.all(names.map((name) => createPod(name, kind, node)))
    await Promise.all(names.map((name) => moments.reached(name, 'pod running')))
    await look?.()
    await Promise.all(names.map((name) => remove(name, kind)))
    return start
  }

  // Each kubelet then has the image, and has called the flex driver.
  for (const { name } of nodes) await cycle([`warm-${name}`], 'claim', { node: name })
  const times = Object.fromEntries(steps.map((step) => [step, [] as number[]]))
  const floors: number[] = []
  for (let run = 0; run < runs; run++) {
    const floorStart = await cycle([`empty-${run}`], 'emptyDir')
    floors.push(moments.at(`empty-${run}`, 'pod running') - floorStart)
    const start = await cycle([`one-${run}`], 'claim')
    for (const step of steps) times[step]?.push(moments.at(`one-${run}`, step) - start)
  }
  say('## From a claim to a running pod\n')
  say(`One pod at a time, on ${nodeCount} nodes; since the claim was sent:\n`)
  sayTimes({ 'emptyDir pod running': floors, ...times })
  const floorMs = median(floors) + schedulerMs
  sayRatio('claim to running / (emptyDir pod + 1 s)', median(times['pod running'] ?? []) / floorMs, { most: 1.05 })

  const programs: Record<string, readonly Component[]> = {
    etcd: [cluster.component('etcd')],
    'API server': [cluster.component('kube-apiserver')],
    'controller manager': [cluster.component('kube-controller-manager')],
    scheduler: [cluster.component('kube-scheduler')],
    kubelets: nodes.map(({ kubelet }) => kubelet),
    provisioner: [provisioner],
    daemons: nodes.map(({ daemon }) => daemon),
  }
  /** Runs many pods at once; gives the time until the last is running, and what each program had of the processors. */
  const crowd = async (kind: Kind, run: number): Promise<Crowd> => {
    const names = Array.from({ length: many }, (_, i) => `${kind.toLowerCase()}s-${run}-${i}`)
    if (kind === 'folder')
      for (const [i, name] of names.entries())
        await create(volumesPath, folderVolume(name, await makeFolder(name), nodes[i % nodes.length]?.name ?? ''))
    const before = await readCpus(programs)
    let after = before
    const look = async () => {
      after = await readCpus(programs)
    }
    const start = await cycle(names, kind, { look })
    const at = Object.fromEntries(steps.map((step) => [step, names.map((name) => moments.at(name, step) - start)]))
    const cpuMs = Object.fromEntries(
      Object.keys(before).map((name) => [name, (after[name] ?? 0) - (before[name] ?? 0)]),
    )
    const running = (at['pod running'] ?? []).sort((a, b) => a - b)
    return { mostMs: running[many * 0.9 - 1] ?? Number.NaN, lastMs: running.at(-1) ?? Number.NaN, at, cpuMs }
  }
  const kinds = ['emptyDir', 'folder', 'claim'] as const
  const crowds: Record<Kind, Crowd>[] = []
  for (let run = 0; run < crowdRuns; run++) {
    const [emptyDir, folder, claim] = [
      await crowd('emptyDir', run),
      await crowd('folder', run),
      await crowd('claim', run),
    ]
    crowds.push({ emptyDir, folder, claim })
  }
  say(`### ${many} pods at once\n`)
  say(
    '| run | emptyDir: 45 running | all running | PVs that are there: 45 running | all running | ours: 45 running | all running |',
  )
  say('|---|---|---|---|---|---|---|')
  for (const [run, crowd] of crowds.entries()) {
    const cells = kinds.flatMap((kind) => [seconds(crowd[kind].mostMs), seconds(crowd[kind].lastMs)])
    say(`| ${run + 1} | ${cells.join(' | ')} |`)
  }
  const [last] = crowds.slice(-1)
  say(`\nThe last run, since the first claim was sent:\n`)
  say('| step | first | half | last |')
  say('|---|---|---|---|')
  for (const step of steps) {
    const sorted = (last?.claim.at[step] ?? []).sort((a, b) => a - b)
    say(`| ${step} | ${seconds(sorted[0])} | ${seconds(median(sorted))} | ${seconds(sorted.at(-1))} |`)
  }
  say('\nProcessor time in it:\n')
  say('| program | emptyDir | PVs that are there | ours |')
  say('|---|---|---|---|')
  for (const name of Object.keys(programs).flatMap((name) => [name, `started by ${name}`])) {
    if (last?.claim.cpuMs[name] === undefined) continue
    say(`| ${name} | ${kinds.map((kind) => seconds(last[kind].cpuMs[name])).join(' | ')} |`)
  }
  const ratio = (of: Kind, floor: (crowd: Record<Kind, Crowd>) => number) =>
    median(crowds.map((crowd) => crowd[of].lastMs / floor(crowd)))
  const empty = (crowd: Record<Kind, Crowd>) => crowd.emptyDir.lastMs + schedulerMs
  say(`\nPVs that are there / (${many} emptyDir pods + 1 s): ${ratio('folder', empty).toFixed(2)}\n`)
  sayRatio(`${many} claims to running / (${many} emptyDir pods + 1 s)`, ratio('claim', empty), { most: 1.5 })
  sayRatio(
    `${many} claims to running / with PVs that are there`,
    ratio('claim', ({ folder }) => folder.lastMs),
    { most: 1.5 },
  )
} finally {
  stop.abort()
  await elastic.close()
  await rm(scratch, { recursive: true, force: true })
}

/** Its image is not pulled again: a kubelet pulls 5 a second, and what is over waits for 10 s and more. */
function buildContainer(volume: string): object {
  const volumeMounts = [{ name: volume, mountPath: '/data' }]
  return { name: 'main', image: 'none', imagePullPolicy: 'IfNotPresent', volumeMounts }
}

/** A PV of a folder on that node, kept back for the claim of that name. */
function folderVolume(name: string, path: string, node: string): object {
  const matchExpressions = [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }]
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: `folder-${name}` },
    spec: {
      storageClassName: folderClass,
      capacity: { storage: '256Mi' },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Retain',
      local: { path },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions }] } },
    },
  }
}

/** What the pods have: nothing, a claim for a PV of a folder that is there, or a claim of ours. */
type Kind = 'emptyDir' | 'folder' | 'claim'

interface Crowd {
  /** Until 9 of 10 ran. */
  mostMs: number
  lastMs: number
  at: Record<string, number[]>
  cpuMs: Record<string, number>
}

function seconds(ms = Number.NaN): string {
  return `${(ms / 1000).toFixed(2)} s`
}

/** The processor time of all programs so far; what they had started is told apart. */
async function readCpus(programs: Readonly<Record<string, readonly Component[]>>): Promise<Record<string, number>> {
  const sums: Record<string, number> = {}
  for (const [name, components] of Object.entries(programs)) {
    const cpus = await Promise.all(components.map(({ pid }) => readCpu(pid)))
    sums[name] = cpus.reduce((sum, { ownMs }) => sum + ownMs, 0)
    if (name === 'kubelets' || name === 'daemons')
      sums[`started by ${name}`] = cpus.reduce((sum, { childrenMs }) => sum + childrenMs, 0)
  }
  return sums
}
