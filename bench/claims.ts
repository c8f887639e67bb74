/**
 * From 200 claims (Immediate), created at once, to 200 PVs, against bare parallel creation of 200 PVs through the same
 * client on the same API server; and to 200 bound claims, with the controller manager's default rate and without.
 */
import { mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { KubernetesObject, V1PersistentVolume, V1PersistentVolumeClaim } from '@kubernetes/client-node'
import { ApiClient, findKubeConfig } from '../src/k8s/api.ts'
import { buildLedger } from '../src/k8s/ledger.ts'
import { buildVolume } from '../src/k8s/persistent-volume.ts'
import { claim, storageClass } from '../test/cluster/claim-objects.ts'
import { type Cluster, startCluster } from '../test/cluster/cluster.ts'
import { Elastic, namespace } from '../test/cluster/elastic.ts'
import { say, sayRatio, timeMs } from './measure.ts'
import { follow } from './moments.ts'

const count = 200
const nodes = ['node-1', 'node-2', 'node-3', 'node-4']
const volumesPath = '/api/v1/persistentvolumes'
const claimsPath = '/api/v1/namespaces/default/persistentvolumeclaims'
const pool = { name: 'vg', driverKind: 'LVM', capacityBytes: 1n << 50n, unitBytes: 4n << 20n } as const
const indexes = Array.from({ length: count }, (_, i) => i)

interface Times {
  bareMs: number
  madeMs: number
  boundMs: number
  /** From claims that are there to their PVs. */
  placedMs: number
}

async function measure(fastControllerManager: boolean): Promise<Times> {
  const scratch = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-bench-')))
  const cluster = await startCluster({ folder: join(scratch, 'cluster'), fastControllerManager })
  try {
    const elastic = new Elastic(cluster)
    await elastic.applyObjects()
    await cluster.apply(
      storageClass('immediate', { volumeBindingMode: 'Immediate' }),
      ...nodes.flatMap((name) => [
        { apiVersion: 'v1', kind: 'Node', metadata: { name, labels: { 'kubernetes.io/hostname': name } } },
        buildLedger(namespace, name, pool, new Map()),
      ]),
    )
    for (const name of nodes) await makeReady(cluster, name)
    const provisioner = await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-provisioner')
    const api = new ApiClient(findKubeConfig(provisioner))
    const admin = new ApiClient(findKubeConfig(cluster.adminKubeconfig))
    const bare = indexes.map((i) =>
      buildVolume({
        claim: {
          namespace: 'bare',
          name: `bare-${i}`,
          uid: `00000000-0000-0000-0000-${String(i).padStart(12, '0')}`,
          accessModes: ['ReadWriteOnce'],
        },
        storageClass: { name: 'bare', provisioner: 'none', reclaimPolicy: 'Retain' },
        sizeBytes: 1n << 30n,
        fsType: 'ext4',
        options: {},
        node: 'node-1',
        hostname: 'node-1',
        key: 'key',
      }),
    )
    const bareMs = await timeMs(() =>
      Promise.all(bare.map((body) => api.send({ method: 'POST', path: volumesPath, body }))),
    )
    const program = await elastic.startProvisioner()
    await cluster.waitFor(
      `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/elastic-local-provisioner`,
      (lease) => Boolean(lease?.spec.holderIdentity),
    )
    const volumes = countWhere<V1PersistentVolume>(
      admin,
      volumesPath,
      ({ spec }) => spec?.claimRef?.name?.startsWith('claim-') === true,
    )
    const bound = countWhere<V1PersistentVolumeClaim>(admin, claimsPath, ({ status }) => status?.phase === 'Bound')
    const make = (name: string) =>
      Promise.all(
        indexes
          .map((i) => claim(`${name}-${i}`, { class: 'immediate', size: '1Gi' }))
          .map((body) => admin.send({ method: 'POST', path: claimsPath, body })),
      )
    let madeMs = 0
    const boundMs = await timeMs(async () => {
      const creating = make('claim')
      madeMs = await timeMs(() => volumes)
      await creating
      await bound
    })
    const placed = countWhere<V1PersistentVolume>(
      admin,
      volumesPath,
      ({ spec }) => spec?.claimRef?.name?.startsWith('later-') === true,
    )
    // The controller manager has not heard of them for a while.
    for (const name of nodes) await makeReady(cluster, name)
    program.pause()
    await make('later')
    program.resume()
    const placedMs = await timeMs(() => placed)
    return { bareMs, madeMs, boundMs, placedMs }
  } finally {
    await cluster.close()
    await rm(scratch, { recursive: true, force: true })
  }
}

/** Resolves when so many objects of a list are as wanted. */
async function countWhere<T extends KubernetesObject>(
  api: ApiClient,
  path: string,
  isWanted: (object: T) => boolean,
): Promise<void> {
  const seen = new Set<string>()
  const stop = new AbortController()
  await new Promise<void>((resolve) => {
    follow<T>(api, path, stop.signal, (object) => {
      if (isWanted(object)) seen.add(object.metadata?.name ?? '')
      if (seen.size === count) resolve()
    })
  })
  stop.abort()
}

async function makeReady(cluster: Cluster, name: string): Promise<void> {
  const time = new Date().toISOString()
  const conditions = [
    { type: 'Ready', status: 'True', lastHeartbeatTime: time, lastTransitionTime: time, reason: 'Bench', message: '' },
  ]
  await cluster.api.request('PATCH', `/api/v1/nodes/${name}/status`, { status: { conditions } })
}

say(`\n## ${count} claims to PVs\n`)
say('| controller manager | bare creation | claims that are there to PVs | claims to PVs | claims to bound |')
say('|---|---|---|---|---|')
const ratios: { created: number; placed: number }[] = []
for (const fast of [true, false]) {
  const { bareMs, madeMs, boundMs, placedMs } = await measure(fast)
  ratios.push({ created: madeMs / bareMs, placed: placedMs / bareMs })
  const cells = [bareMs, placedMs, madeMs, boundMs].map((ms) => `${(ms / 1000).toFixed(2)} s`)
  say(`| ${fast ? 'no limit' : 'default'} | ${cells.join(' | ')} |`)
}
for (const [i, name] of ['no limit', 'default'].entries()) {
  sayRatio(
    `claims that are there to PVs / bare creation, controller manager: ${name}`,
    ratios[i]?.placed ?? Number.NaN,
    {
      most: 2,
    },
  )
  sayRatio(`claims to PVs, their creation included, controller manager: ${name}`, ratios[i]?.created ?? Number.NaN, {
    most: 2,
  })
}
