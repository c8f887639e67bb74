/** What must be true of a cluster whatever went on in it: everybody tells the same of its volumes, and nobody promised too much. */
import * as assert from 'uvu/assert'
import type { KubeObject } from './api.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, namespace } from './elastic.ts'

/** The ledgers of all nodes. */
export const ledgersPath = `/api/v1/namespaces/${namespace}/configmaps?labelSelector=volumes.k8s.elastic.co/ledger`
const volumesPath = '/api/v1/persistentvolumes'
const nodeLabel = 'volumes.k8s.elastic.co/node-affinity'
const poolKey = '_pool.default'

type Entry = { promisedBytes: string; pendingFor?: string }
type Stored = { name: string; sizeBytes: string; mounts: unknown[] }

const nodeOf = ({ metadata }: KubeObject) => String(metadata.labels?.[nodeLabel])
const nameOf = ({ metadata }: KubeObject) => metadata.name

function entriesOf({ data }: KubeObject): Map<string, Entry> {
  const rows = Object.entries(data as Record<string, string>).filter(([key]) => key !== poolKey)
  return new Map(rows.map(([key, value]) => [key, JSON.parse(value) as Entry]))
}

/**
 * Waits until each PV is bound, and the ledgers are about the same ones, and gives the PVs. Throws unless each has a claim
 * of its own, and the volumes on the nodes are the same in place and size, mounted once where a pod runs, and else not
 * at all. Claims of which the caller still awaits something are not waited for.
 */
export async function agreement(
  { cluster, ask }: Elastic,
  nodes: readonly ElasticNode[],
  timeoutMs = 120_000,
): Promise<KubeObject[]> {
  const areBound = (list: KubeObject | undefined) =>
    list?.items.every(
      ({ metadata, status }: KubeObject) => status.phase === 'Bound' && metadata.deletionTimestamp === undefined,
    )
  const volumes: KubeObject[] = (await cluster.waitFor(volumesPath, areBound, timeoutMs)).items
  const wanted = volumes.map((volume) => [nodeOf(volume), nameOf(volume), undefined]).sort()
  // A PV that goes is the last thing of its volume.
  const areSettled = (list: KubeObject | undefined) => {
    const told = (list?.items as KubeObject[]).flatMap((ledger) =>
      [...entriesOf(ledger)].map(([name, { pendingFor }]) => [nodeOf(ledger), name, pendingFor]),
    )
    return JSON.stringify(told.sort()) === JSON.stringify(wanted)
  }
  const ledgers = await cluster.waitFor(ledgersPath, areSettled, timeoutMs)
  const { items: claims } = await cluster.api.request('GET', '/api/v1/persistentvolumeclaims')
  const bound = claims.filter(({ spec }: KubeObject) => spec.volumeName)
  assert.equal(
    bound.map(({ metadata, spec }: KubeObject) => [metadata.uid, spec.volumeName]).sort(),
    volumes.map(({ metadata, spec }) => [spec.claimRef.uid, metadata.name]).sort(),
  )
  const { items: pods } = await cluster.api.request('GET', '/api/v1/pods')
  const claimsOfPods = pods
    .filter(({ status }: KubeObject) => status.phase === 'Running')
    .flatMap(({ spec }: KubeObject) =>
      spec.volumes.map((volume: KubeObject) => volume.persistentVolumeClaim?.claimName),
    )
  for (const { name, socket } of nodes) {
    const stored = (await ask(socket, '/v1/volumes')).volumes as Stored[]
    const own = volumes.filter((volume) => nodeOf(volume) === name)
    assert.equal(
      stored.map((volume) => [volume.name, volume.mounts.length]).sort(),
      own.map((volume) => [nameOf(volume), claimsOfPods.includes(volume.spec.claimRef.name) ? 1 : 0]).sort(),
    )
    const ledger = ledgers.items.find((one: KubeObject) => nodeOf(one) === name)
    assert.equal(
      stored.map(({ name, sizeBytes }) => [name, `${sizeBytes}`]).sort(),
      [...entriesOf(ledger)].map(([name, { promisedBytes }]) => [name, promisedBytes]).sort(),
    )
  }
  return volumes
}

/** Looks at every version of the ledgers from now on; gives what was ever promised beyond a pool, in words. */
export function watchPromises(cluster: Cluster): string[] {
  const wrong: string[] = []
  const look = (ledgers: KubeObject | undefined) => {
    for (const ledger of ledgers?.items ?? []) {
      const capacity = BigInt(JSON.parse(ledger.data[poolKey]).capacityBytes)
      const promised = [...entriesOf(ledger).values()].reduce((sum, entry) => sum + BigInt(entry.promisedBytes), 0n)
      if (promised > capacity) wrong.push(`${promised} of ${capacity} bytes of ${nodeOf(ledger)}`)
    }
    return false
  }
  // Until the cluster is closed.
  cluster.waitFor(ledgersPath, look, 2 ** 31 - 1).catch(() => {})
  return wrong
}

/** What a provisioner writes into a ledger that promises 64 MiB to a claim. */
export function promisedEntry(pendingFor: string): string {
  return JSON.stringify({ pool: 'default', kind: 'volume', promisedBytes: String(64 << 20), pendingFor })
}
