/**
 * From a claim (WaitForFirstConsumer) and its pod to the pod running, on kubelets without containers, by each front: for one
 * pod, with the time of each step, and for 50 created at once, until the last one runs; then all 50 claims grow at once. The
 * floor is the same with emptyDir pods, plus the second after which the stock scheduler first looks whether a claim is bound.
 * Beside the 50 stand 50 with claims for folders whose PVs are there already: what Kubernetes itself takes to bind claims to PVs.
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
import { median, say, sayRatio, sayTimes, timeMs } from './measure.ts'
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
const fronts = ['flex', 'csi'] as const
type FrontName = (typeof fronts)[number]
/** Not every machine lets a mounted ext4 grow; an xfs has at least 300 MiB. */
const growing = { flex: 'flex-xfs', csi: 'csi-xfs' } as const
const classNames = { folder: folderClass, flex: 'elastic-local', csi: 'elastic-local-csi' }
const [size, growingSize, grownSize] = ['256Mi', '320Mi', '640Mi']

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
type Step = (typeof steps)[number] | 'claim grown' | 'pod gone' | 'PV gone'

const scratch = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-bench-')))
const cluster = await startCluster({ folder: join(scratch, 'cluster') })
const elastic = new Elastic(cluster)
const stop = new AbortController()
try {
  await elastic.applyObjects()
  await cluster.apply(
    storageClass(folderClass, { provisioner: 'kubernetes.io/no-provisioner' }),
    ...fronts.map((front) =>
      storageClass(growing[front], { parameters: { front, 'csi.storage.k8s.io/fstype': 'xfs' } }),
    ),
  )
  const nodes: ElasticNode[] = []
  for (let i = 1; i <= nodeCount; i++)
    nodes.push(await elastic.startNode({ name: `node-${i}`, diskBytes: 64 * gibibyte, daemonFlags: { csi: 'true' } }))
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
      if (status?.capacity?.storage === grownSize) moments.see(name, 'claim grown')
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
        const volume = /(?:\/mount|NodePublishVolume) \S+\/(pvc-[^/ ]+)(?:\/mount)?: done/.exec(line)?.[1]
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
    if (kind === 'flex-xfs' || kind === 'csi-xfs')
      await create(claimsPath, claim(name, { size: growingSize, class: kind }))
    else if (kind !== 'emptyDir') await create(claimsPath, claim(name, { size, class: classNames[kind] }))
    await create(podsPath, pod(name, withClaim ? [name] : [], { volumes, spec }))
  }
  const remove = async (name: string, kind: Kind) => {
    await api.send({ method: 'DELETE', path: `${podsPath}/${name}` })
    await moments.reached(name, 'pod gone')
    if (kind === 'emptyDir') return
    await api.send({ method: 'DELETE', path: `${claimsPath}/${name}` })
    if (kind !== 'folder') await moments.reached(name, 'PV gone')
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
  for (const { name } of nodes)
    for (const front of fronts) await cycle([`warm-${front}-${name}`], front, { node: name })
  const noTimes = () => Object.fromEntries(steps.map((step) => [step, [] as number[]]))
  const times: Record<FrontName, Record<string, number[]>> = { flex: noTimes(), csi: noTimes() }
  const floors: number[] = []
  for (let run = 0; run < runs; run++) {
    const floorStart = await cycle([`empty-${run}`], 'emptyDir')
    floors.push(moments.at(`empty-${run}`, 'pod running') - floorStart)
    for (const front of fronts) {
      const name = `one-${front}-${run}`
      const start = await cycle([name], front)
      for (const step of steps) times[front][step]?.push(moments.at(name, step) - start)
    }
  }
  say('## From a claim to a running pod\n')
  say(`One pod at a time, on ${nodeCount} nodes; since the claim was sent:\n`)
  sayTimes({
    'emptyDir pod running': floors,
    ...Object.fromEntries(
      steps.flatMap((step) => fronts.map((front) => [`${front}: ${step}`, times[front][step] ?? []])),
    ),
  })
  const floorMs = median(floors) + schedulerMs
  for (const front of fronts)
    sayRatio(`${front}: claim to running / (emptyDir pod + 1 s)`, median(times[front]['pod running'] ?? []) / floorMs, {
      most: 1.05,
    })

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
  const kinds = ['emptyDir', 'folder', ...fronts] as const
  /** Has many claims grow at once, with their pods running; gives the time until the last says so. */
  const grow = async (front: FrontName): Promise<number> => {
    const names = Array.from({ length: many }, (_, i) => `grows-${front}-${i}`)
    const body = { spec: { resources: { requests: { storage: grownSize } } } }
    let grownMs = Number.NaN
    const look = async () => {
      grownMs = await timeMs(async () => {
        await Promise.all(names.map((name) => api.send({ method: 'PATCH', path: `${claimsPath}/${name}`, body })))
        await Promise.all(names.map((name) => moments.reached(name, 'claim grown')))
      })
    }
    await cycle(names, growing[front], { look })
    return grownMs
  }
  type Crowds = Record<(typeof kinds)[number], Crowd>
  const crowds: Crowds[] = []
  for (let run = 0; run < crowdRuns; run++) {
    const [emptyDir, folder] = [await crowd('emptyDir', run), await crowd('folder', run)]
    crowds.push({ emptyDir, folder, flex: await crowd('flex', run), csi: await crowd('csi', run) })
  }
  say(`### ${many} pods at once\n`)
  const columns = ['emptyDir', 'PVs that are there', ...fronts]
  say(`| run | ${columns.map((name) => `${name}: 45 running | all running`).join(' | ')} |`)
  say(`|---|${'---|---|'.repeat(columns.length)}`)
  for (const [run, crowd] of crowds.entries()) {
    const cells = kinds.flatMap((kind) => [seconds(crowd[kind].mostMs), seconds(crowd[kind].lastMs)])
    say(`| ${run + 1} | ${cells.join(' | ')} |`)
  }
  const [last] = crowds.slice(-1)
  say(`\nThe last run, since the first claim was sent:\n`)
  say(`| step | ${fronts.map((front) => `${front}: first | half | last`).join(' | ')} |`)
  say(`|---|${'---|---|---|'.repeat(fronts.length)}`)
  for (const step of steps) {
    const cells = fronts.flatMap((front) => {
      const sorted = (last?.[front].at[step] ?? []).sort((a, b) => a - b)
      return [seconds(sorted[0]), seconds(median(sorted)), seconds(sorted.at(-1))]
    })
    say(`| ${step} | ${cells.join(' | ')} |`)
  }
  say('\nProcessor time in it:\n')
  say(`| program | ${columns.join(' | ')} |`)
  say(`|---|${'---|'.repeat(columns.length)}`)
  for (const name of Object.keys(programs).flatMap((name) => [name, `started by ${name}`])) {
    if (last?.flex.cpuMs[name] === undefined) continue
    say(`| ${name} | ${kinds.map((kind) => seconds(last[kind].cpuMs[name])).join(' | ')} |`)
  }
  say(
    `\n${many} claims grow at once from ${growingSize} to ${grownSize}, pods running (xfs), until the last says so:\n`,
  )
  for (const front of fronts) say(`- ${front}: ${seconds(await grow(front))}`)
  const ratio = (of: keyof Crowds, until: 'mostMs' | 'lastMs', floor: (crowd: Crowds) => number) =>
    median(crowds.map((crowd) => crowd[of][until] / floor(crowd)))
  const empty = (crowd: Crowds) => crowd.emptyDir.lastMs + schedulerMs
  say(`\nPVs that are there / (${many} emptyDir pods + 1 s): ${ratio('folder', 'lastMs', empty).toFixed(2)}\n`)
  for (const front of fronts) {
    sayRatio(`${front}: ${many} claims to running / (${many} emptyDir pods + 1 s)`, ratio(front, 'lastMs', empty), {
      most: 1.5,
    })
    // The last few wait for their kubelet, which asked for the claim too early and tries again seconds later: by chance.
    for (const [until, what] of [
      ['mostMs', `until ${many * 0.9} run`],
      ['lastMs', 'until all run'],
    ] as const)
      sayRatio(
        `${front}: ${many} claims ${what} / with PVs that are there`,
        ratio(front, until, ({ folder }) => folder[until]),
        { most: 2 },
      )
  }
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

/** What the pods have: nothing, a claim for a PV of a folder that is there, or a claim of ours by a front. */
type Kind = 'emptyDir' | 'folder' | FrontName | (typeof growing)[FrontName]

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
