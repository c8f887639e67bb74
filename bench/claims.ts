/**
 * From 200 claims (Immediate), created at once, to 200 PVs, against bare parallel creation of 200 PVs through the same
 * client on the same API server; and to 200 bound claims, with the controller manager's default rate and without. Beside
 * it stand 200 claims whose PVs the bench itself makes, each as soon as its claim is there: a provisioner that takes no time.
 */
import { mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  CoreV1Api,
  type KubernetesObject,
  type V1PersistentVolume,
  type V1PersistentVolumeClaim,
} from '@kubernetes/client-node'
import { ApiClient, findKubeConfig } from '../src/k8s/client/api.ts'
import { buildLease } from '../src/k8s/model/lease.ts'
import { buildLedger } from '../src/k8s/model/ledger.ts'
import { buildVolume } from '../src/k8s/model/persistent-volume.ts'
import { claim, storageClass } from '../test/cluster/claim-objects.ts'
import { type Cluster, startCluster } from '../test/cluster/cluster.ts'
import { Elastic, namespace } from '../test/cluster/elastic.ts'
import { say, sayRatio, timeMs } from './measure.ts'
import { follow } from './moments.ts'

const count = 200
const nodes = ['node-1', 'node-2', 'node-3', 'node-4']
const volumesPath = '/api/v1/persistentvolumes'
const claimsPath = '/api/v1/namespaces/default/persistentvolumeclaims'
const pool = {
  name: 'vg',
  driverKind: 'LVM',
  capacityBytes: 1n << 50n,
  unitBytes: 4n << 20n,
  fronts: ['flex'],
} as const
const indexes = Array.from({ length: count }, (_, i) => i)

interface Times {
  bareMs: number
  /** The same by client-node's own client: about what bare creation took where the aim was set. */
  clientNodeMs: number
  /** Claims, and PVs for them by somebody who need not think. */
  floorMs: number
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
      storageClass('bare', { volumeBindingMode: 'Immediate', provisioner: 'none' }),
      ...nodes.flatMap((name) => [
        { apiVersion: 'v1', kind: 'Node', metadata: { name, labels: { 'kubernetes.io/hostname': name } } },
        buildLedger(namespace, name, pool, new Map()),
        buildLease(namespace, name, 3600, new Date()),
      ]),
    )
    for (const name of nodes) await makeReady(cluster, name)
    const provisioner = await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-provisioner')
    const api = new ApiClient(findKubeConfig(provisioner))
    const admin = new ApiClient(findKubeConfig(cluster.adminKubeconfig))
    const describeVolume = (namespace: string, name: string, uid: string) =>
      buildVolume({
        claim: { namespace, name, uid, accessModes: ['ReadWriteOnce'] },
        storageClass: { name: 'bare', provisioner: 'none', reclaimPolicy: 'Retain' },
        sizeBytes: 1n << 30n,
        fsType: 'ext4',
        options: {},
        node: 'node-1',
        front: 'flex',
        topology: { key: 'kubernetes.io/hostname', value: 'node-1' },
        key: 'key',
      })
    const makeVolume = (namespace: string, name: string, uid: string) =>
      api.send({ method: 'POST', path: volumesPath, body: describeVolume(namespace, name, uid) })
    const makeClaim = (name: string, of = 'immediate') =>
      admin.send<V1PersistentVolumeClaim>({
        method: 'POST',
        path: claimsPath,
        body: claim(name, { class: of, size: '1Gi' }),
      })
    const uidOf = (group: number, i: number) => `00000000-0000-0000-000${group}-${String(i).padStart(12, '0')}`
    const theirs = findKubeConfig(provisioner).makeApiClient(CoreV1Api)
    const clientNodeMs = await timeMs(() =>
      Promise.all(
        indexes.map((i) => theirs.createPersistentVolume({ body: describeVolume('bare', `theirs-${i}`, uidOf(0, i)) })),
      ),
    )
    const bareMs = await timeMs(() => Promise.all(indexes.map((i) => makeVolume('bare', `bare-${i}`, uidOf(1, i)))))
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
    const bound = countWhere<V1PersistentVolumeClaim>(
      admin,
      claimsPath,
      ({ metadata, status }) => metadata?.name?.startsWith('claim-') === true && status?.phase === 'Bound',
    )
    const make = (name: string) => Promise.all(indexes.map((i) => makeClaim(`${name}-${i}`)))
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
    const floorMs = await timeMs(() =>
      Promise.all(
        indexes.map(async (i) => {
          const { metadata } = await makeClaim(`floor-${i}`, 'bare')
          await makeVolume('default', `floor-${i}`, metadata?.uid ?? '')
        }),
      ),
    )
    return { bareMs, clientNodeMs, floorMs, madeMs, boundMs, placedMs }
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
say(
  '| controller manager | bare creation | by the client of client-node | claims that are there to PVs | claims to PVs | the same, by the bench itself | claims to bound |',
)
say('|---|---|---|---|---|---|---|')
const measured: [string, Times][] = []
for (const fast of [true, false]) {
  const times = await measure(fast)
  const { bareMs, clientNodeMs, floorMs, madeMs, boundMs, placedMs } = times
  const cells = [bareMs, clientNodeMs, placedMs, madeMs, floorMs, boundMs].map((ms) => `${(ms / 1000).toFixed(2)} s`)
  const limit = fast ? 'no limit' : 'default'
  say(`| ${limit} | ${cells.join(' | ')} |`)
  measured.push([limit, times])
}
for (const [limit, { bareMs, clientNodeMs, floorMs, madeMs, placedMs }] of measured) {
  const of = `controller manager: ${limit}`
  sayRatio(`claims that are there to PVs / bare creation, ${of}`, placedMs / bareMs, { most: 2 })
  sayRatio(`claims to PVs, their creation included / bare creation, ${of}`, madeMs / bareMs, { most: 2 })
  sayRatio(
    `claims to PVs, their creation included / bare creation by the client of client-node, ${of}`,
    madeMs / clientNodeMs,
    {
      most: 2,
    },
  )
  say(`claims to PVs, their creation included / the same by the bench itself, ${of}: ${(madeMs / floorMs).toFixed(2)}`)
  say(`the same by the bench itself / bare creation, ${of}: ${(floorMs / bareMs).toFixed(2)}`)
}
