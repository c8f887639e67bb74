/**
 * The same pods with a claim of ours, by each front, and with one of rancher/local-path-provisioner, on nodes with real
 * containers; folders in both: from the claim to the running pod, for one pod and for many at once, and until all is gone.
 */
import { mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { V1PersistentVolume, V1Pod } from '@kubernetes/client-node'
import { ApiClient, findKubeConfig } from '../src/k8s/client/api.ts'
import { ensureControlPlane, ensureInstalled } from '../test/cluster/build.ts'
import { claim } from '../test/cluster/claim-objects.ts'
import { startCluster } from '../test/cluster/cluster.ts'
import { type ContainerNode, startContainerNode } from '../test/cluster/containers.ts'
import { overlayManifest } from '../test/cluster/deploy-overlay.ts'
import { ensureBusyboxImage, ensureImage } from '../test/cluster/image.ts'
import { enterOwnNetwork, ownAddress } from '../test/cluster/network.ts'
import { Program } from '../test/cluster/program.ts'
import { buildPod } from '../test/cluster/toy.ts'
import { median, say, sayRatio, sayTimes } from './measure.ts'
import { follow, Moments } from './moments.ts'

const localPath = { module: 'github.com/rancher/local-path-provisioner', version: 'v0.0.30' }
const nodeCount = 2
const runs = 9
const many = 20
const crowdRuns = 3
const podsPath = '/api/v1/namespaces/default/pods'
const claimsPath = '/api/v1/namespaces/default/persistentvolumeclaims'
const kinds = ['emptyDir', 'local-path', 'elastic-local', 'elastic-local-csi'] as const
type Kind = (typeof kinds)[number]
type Step = 'pod running' | 'pod gone' | 'PV gone'

// What comes from outside is there before this process leaves for a network of its own.
const program = await ensureInstalled('local-path-provisioner', localPath)
const image = await ensureImage()
await ensureControlPlane()
await ensureBusyboxImage()
enterOwnNetwork()

const scratch = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-bench-')))
const cluster = await startCluster({ folder: join(scratch, 'cluster'), address: ownAddress })
const nodes: ContainerNode[] = []
const stop = new AbortController()
try {
  for (let i = 1; i <= nodeCount; i++)
    nodes.push(await startContainerNode(cluster, { name: `node-${i}`, images: [image] }))
  await installOurs(nodes[0] as ContainerNode)
  await startLocalPath()

  const api = new ApiClient(findKubeConfig(cluster.adminKubeconfig))
  /** Each by the name that a pod and its claim share. */
  const moments = new Moments<Step>()
  await Promise.all([
    follow<V1Pod>(api, podsPath, stop.signal, ({ metadata, status }, isGone) => {
      if (isGone) moments.see(metadata?.name ?? '', 'pod gone')
      else if (status?.phase === 'Running') moments.see(metadata?.name ?? '', 'pod running')
    }),
    follow<V1PersistentVolume>(api, '/api/v1/persistentvolumes', stop.signal, ({ spec }, isGone) => {
      if (isGone) moments.see(spec?.claimRef?.name ?? '', 'PV gone')
    }),
  ])

  const create = (path: string, body: object) => api.send({ method: 'POST', path, body })
  const start = async (name: string, kind: Kind, node?: string) => {
    const isEmpty = kind === 'emptyDir'
    if (!isEmpty) await create(claimsPath, claim(name, { size: '64Mi', class: kind }))
    const source = isEmpty ? { emptyDir: {} } : { persistentVolumeClaim: { claimName: name } }
    const spec = {
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          ...{ name: 'main', image: 'busybox:test', imagePullPolicy: 'Never', command: ['sleep', '1000000'] },
          volumeMounts: [{ name: 'data', mountPath: '/data' }],
        },
      ],
      ...(node ? { nodeSelector: { 'kubernetes.io/hostname': node } } : {}),
    }
    await create(podsPath, buildPod(name, [{ name: 'data', ...source }], spec))
  }
  const remove = async (name: string, kind: Kind) => {
    await api.send({ method: 'DELETE', path: `${podsPath}/${name}` })
    await moments.reached(name, 'pod gone')
    if (kind === 'emptyDir') return
    await api.send({ method: 'DELETE', path: `${claimsPath}/${name}` })
    await moments.reached(name, 'PV gone')
  }
  /** Milliseconds from the first claim until the last pod runs, and from there until all is gone. */
  const cycle = async (names: readonly string[], kind: Kind, node?: string) => {
    const startedAt = performance.now()
    await Promise.all(names.map((name) => start(name, kind, node)))
    await Promise.all(names.map((name) => moments.reached(name, 'pod running')))
    const runMs = performance.now() - startedAt
    await Promise.all(names.map((name) => remove(name, kind)))
    return { runMs, goneMs: performance.now() - startedAt - runMs }
  }

  for (const { name } of nodes)
    for (const kind of kinds) await cycle([`warm-${kind.toLowerCase()}-${name}`], kind, name)
  const measure = async (count: number, times: number) => {
    const found = Object.fromEntries(kinds.map((kind) => [kind, { runMs: [] as number[], goneMs: [] as number[] }]))
    for (let run = 0; run < times; run++)
      for (const kind of kinds) {
        const names = Array.from({ length: count }, (_, i) => `${kind.toLowerCase()}-${count}-${run}-${i}`)
        const { runMs, goneMs } = await cycle(names, kind)
        found[kind]?.runMs.push(runMs)
        found[kind]?.goneMs.push(goneMs)
      }
    return found
  }
  say(`## Beside local-path-provisioner ${localPath.version}\n`)
  for (const [count, times] of [
    [1, runs],
    [many, crowdRuns],
  ] as const) {
    const found = await measure(count, times)
    say(`### ${count === 1 ? 'One pod' : `${count} pods at once`}, on ${nodeCount} nodes with real containers\n`)
    sayTimes(
      Object.fromEntries(
        kinds.flatMap((kind) => [
          [`${kind}: claim to running`, found[kind]?.runMs ?? []],
          [`${kind}: pod and volume gone`, found[kind]?.goneMs ?? []],
        ]),
      ),
    )
    for (const kind of ['elastic-local', 'elastic-local-csi'] as const)
      for (const [what, key] of [
        ['claim to running', 'runMs'],
        ['until all is gone', 'goneMs'],
      ] as const) {
        const ratio = median(found[kind]?.[key] ?? []) / median(found['local-path']?.[key] ?? [])
        sayRatio(`${kind}, ${count}: ${what} / local-path-provisioner`, ratio, { most: 1 })
      }
  }
} finally {
  stop.abort()
  for (const node of nodes) await node.close()
  await cluster.close()
  await rm(scratch, { recursive: true, force: true })
}

/** What deploy.yaml says, with directories for volumes, as that is what the other makes. */
async function installOurs(node: ContainerNode): Promise<void> {
  const { container, env } = node.overlay(image)
  const text = await readFile(join(import.meta.dirname, '../deploy.yaml'), 'utf8')
  const overlay = { env: { ...env, ELASTIC_LOCAL_DRIVER_KIND: 'BINDMOUNT' }, ...(container ? { container } : {}) }
  await cluster.apply(...overlayManifest(text, overlay))
  for (const what of ['daemonset/elastic-local-daemon', 'deployment/elastic-local-provisioner'])
    await cluster.kubectl(['--namespace=elastic-local', 'rollout', 'status', what, '--timeout=600s'])
}

/** As its deploy/local-path-storage.yaml has it, but as a process of this machine, which saves it a container. */
async function startLocalPath(): Promise<void> {
  const namespace = 'local-path-storage'
  const nodePathMap = [{ node: 'DEFAULT_PATH_FOR_NON_LISTED_NODES', paths: ['/mnt/local-path-provisioner'] }]
  const config = JSON.stringify({ nodePathMap })
  const helper = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'helper-pod' },
    spec: {
      priorityClassName: 'system-node-critical',
      tolerations: [{ key: 'node.kubernetes.io/disk-pressure', operator: 'Exists', effect: 'NoSchedule' }],
      containers: [{ name: 'helper-pod', image: 'busybox:test', imagePullPolicy: 'IfNotPresent' }],
    },
  }
  const scripts = {
    setup: '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n',
    teardown: '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
  }
  const data = { 'config.json': config, ...scripts, 'helperPod.yaml': JSON.stringify(helper) }
  await cluster.apply(
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } },
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'local-path-provisioner', namespace } },
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'local-path-config', namespace }, data },
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: 'local-path' },
      provisioner: 'rancher.io/local-path',
      volumeBindingMode: 'WaitForFirstConsumer',
      reclaimPolicy: 'Delete',
    },
  )
  const files = { 'config.json': config, 'helperPod.yaml': JSON.stringify(helper) }
  for (const [file, content] of Object.entries(files)) await writeFile(join(scratch, file), content)
  const flags = {
    config: join(scratch, 'config.json'),
    'helper-pod-file': join(scratch, 'helperPod.yaml'),
    kubeconfig: cluster.adminKubeconfig,
    'helper-image': 'busybox:test',
    'service-account-name': 'local-path-provisioner',
    'configmap-name': 'local-path-config',
    namespace,
  }
  const provisioner = new Program({
    name: 'local-path-provisioner',
    command: [program, 'start', ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`)],
    log: join(cluster.folder, 'logs/local-path-provisioner.log'),
    ready: async () => {},
  })
  cluster.adopt(provisioner)
  await provisioner.start()
}
