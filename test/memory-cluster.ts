import type { ApiRequest } from '../src/k8s/client/api.ts'
import type { FrontName } from '../src/k8s/fronts/front.ts'
import { buildLease } from '../src/k8s/model/lease.ts'
import { buildLedger, type Entry, onlyPool, parseLedger, poolOf, promisedBytes } from '../src/k8s/model/ledger.ts'
import { finalizer, ledgerLabel, ledgerName, nodeLabel, provisionerNames } from '../src/k8s/model/names.ts'
import { buildVolume } from '../src/k8s/model/persistent-volume.ts'
import { claim, gibibyte, storageClass } from './cluster/claim-objects.ts'
import type { Fate, Hook, MemoryApi, MemoryClient, StoredObject } from './memory-api.ts'

export const namespace = 'elastic-local'
export const volumesPath = '/api/v1/persistentvolumes'
export const claimsPath = '/api/v1/namespaces/default/persistentvolumeclaims'
export const eventsPath = '/api/v1/namespaces/default/events'
export const configMapsPath = `/api/v1/namespaces/${namespace}/configmaps`
export const ledgerPath = (node: string) => `${configMapsPath}/${ledgerName(node)}`
export const leasesPath = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`
export const capacitiesPath = `/apis/storage.k8s.io/v1/namespaces/${namespace}/csistoragecapacities`
export const selectedNode = 'volume.kubernetes.io/selected-node'
const protection = 'kubernetes.io/pv-protection'
export const extentBytes = 4n << 20n

export const silent = { debug: () => {}, info: () => {}, warn: () => {} }

/** A StorageClass and a Ready node. */
export function addClass(
  server: MemoryApi,
  name = 'elastic-local',
  more: Parameters<typeof storageClass>[1] = {},
): void {
  server.create('/apis/storage.k8s.io/v1/storageclasses', storageClass(name, more))
}

export function addNode(server: MemoryApi, name: string): void {
  server.create('/api/v1/nodes', {
    metadata: { name, labels: { 'kubernetes.io/hostname': `host-${name}` } },
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
  })
}

/** What the daemon of a node would say of its pool. */
export function addLedger(server: MemoryApi, node: string, capacityBytes = 10n * BigInt(gibibyte)): void {
  const pool = {
    name: 'vg',
    driverKind: 'LVM',
    capacityBytes,
    unitBytes: extentBytes,
    fronts: ['flex', 'csi'],
  } as const
  server.create(configMapsPath, buildLedger(namespace, node, pool, new Map()))
  renewLease(server, node)
}

/** What the daemon of a node does as long as it is at work. */
export function renewLease(server: MemoryApi, node: string, durationSeconds = 600): void {
  const lease = buildLease(namespace, node, durationSeconds, new Date())
  if (server.find(`${leasesPath}/${lease.metadata.name}`)) server.change(`${leasesPath}/${lease.metadata.name}`, lease)
  else server.create(leasesPath, lease)
}

/** A claim, and its PV as the provisioner makes it; gives the PV's name. What is promised is the caller's to say. */
export function addVolume(
  server: MemoryApi,
  claimName: string,
  node: string,
  sizeBytes: bigint,
  front: FrontName = 'flex',
): string {
  const { metadata } = server.create(claimsPath, claim(claimName, { size: String(sizeBytes) }))
  const volume = buildVolume({
    claim: { namespace: 'default', name: claimName, uid: metadata.uid, accessModes: ['ReadWriteOnce'] },
    storageClass: { name: 'elastic-local', provisioner: provisionerNames[0] ?? '', reclaimPolicy: 'Delete' },
    sizeBytes,
    fsType: 'ext4',
    options: {},
    node,
    front,
    topology: { key: 'kubernetes.io/hostname', value: `host-${node}` },
    key: 'key',
  })
  return server.create(volumesPath, volume).metadata.name
}

/** Writes a promise into the ledger of a node. */
export function addPromise(server: MemoryApi, node: string, volume: string, sizeBytes: bigint, pendingFor?: string) {
  const [promised, pool] = [String(sizeBytes), onlyPool]
  const entry = {
    pool,
    kind: 'volume',
    promisedBytes: promised,
    ...(pendingFor ? { pendingFor } : { madeBytes: promised }),
  }
  server.change(ledgerPath(node), { data: { [volume]: JSON.stringify(entry) } })
}

const ledgersOf = (server: MemoryApi) =>
  server.list(configMapsPath).filter(({ metadata }) => metadata.labels?.[ledgerLabel] !== undefined)

/** What is promised to volumes, with the node that promised it. */
export function promises(server: MemoryApi): ({ node: string; volume: string } & Entry)[] {
  return ledgersOf(server).flatMap((object) => {
    const { node, entries } = parseLedger(object as never)
    return [...entries].map(([volume, entry]) => ({ node, volume, ...entry }))
  })
}

/** The ledgers that ever promised more than their pool has. */
export function overbookings(server: MemoryApi): string[] {
  return ledgersOf(server)
    .flatMap(({ metadata }) => server.statesOf(`${configMapsPath}/${metadata.name}`))
    .map((object) => parseLedger(object as never))
    .filter((ledger) => promisedBytes(ledger) > poolOf(ledger).capacityBytes)
    .map(({ node, resourceVersion }) => `${node} at ${resourceVersion}`)
}

/** Lets somebody do `step` after each change, by himself, until what it gives is called. */
export function play(server: MemoryApi, step: () => void): () => void {
  let isCalled = false
  const call = () => {
    if (isCalled) return
    isCalled = true
    queueMicrotask(() => {
      isCalled = false
      step()
    })
  }
  call()
  return server.onChange(call)
}

/**
 * Does what the controller manager does about PVs: protects them, binds them to their claims, and releases them when
 * those are gone (pkg/controller/volume/persistentvolume, pvprotection).
 */
export function playControllerManager(server: MemoryApi): () => void {
  return play(server, () => {
    for (const volume of server.list(volumesPath)) control(server, volume)
  })
}

function control(server: MemoryApi, volume: StoredObject): void {
  const { name, finalizers = [], deletionTimestamp } = volume.metadata
  const path = `${volumesPath}/${name}`
  const { claimRef } = volume.spec
  const claim =
    claimRef && server.find(`/api/v1/namespaces/${claimRef.namespace}/persistentvolumeclaims/${claimRef.name}`)
  const isClaimed = claim !== undefined && claim.metadata.uid === claimRef?.uid
  const phase = isClaimed ? 'Bound' : 'Released'
  if (volume.status?.phase !== phase) server.change(path, { status: { phase } })
  else if (isClaimed && claim.spec.volumeName !== name)
    server.change(`${claimsPath}/${claim.metadata.name}`, {
      spec: { volumeName: name },
      status: { capacity: volume.spec.capacity },
    })
  else if (!deletionTimestamp && !finalizers.includes(protection))
    server.change(path, { metadata: { finalizers: [...finalizers, protection] } })
  else if (deletionTimestamp && !isClaimed && finalizers.includes(protection))
    server.change(path, { metadata: { finalizers: finalizers.filter((one) => one !== protection) } })
}

/** Does what the daemons of all nodes do about PVs on their way out. */
export function playDaemons(server: MemoryApi): () => void {
  return play(server, () => {
    for (const { metadata } of server.list(volumesPath)) {
      const { name, deletionTimestamp, finalizers = [], labels = {} } = metadata
      if (!deletionTimestamp || finalizers.join() !== finalizer) continue
      server.change(ledgerPath(labels[nodeLabel] ?? ''), { data: { [name]: null } })
      server.change(`${volumesPath}/${name}`, { metadata: { finalizers: [] } })
    }
  })
}

/** Does what the daemons do about growth that was granted. */
export function playGrowth(server: MemoryApi): () => void {
  return play(server, () => {
    for (const { volume, node, promisedBytes, madeBytes } of promises(server))
      if (madeBytes !== undefined && promisedBytes > madeBytes) addPromise(server, node, volume, promisedBytes)
  })
}

/** Does what the daemons do about PVs that nobody promised room for. */
export function playLateDaemons(server: MemoryApi): () => void {
  return play(server, () => {
    for (const { metadata, spec } of server.list(volumesPath)) {
      const { name, deletionTimestamp, labels = {} } = metadata
      const path = ledgerPath(labels[nodeLabel] ?? '')
      if (deletionTimestamp || server.find(path)?.data[name]) continue
      addPromise(server, labels[nodeLabel] ?? '', name, BigInt(spec.flexVolume.options.sizeBytes))
    }
  })
}

/** What goes wrong at one request. */
export interface Fault {
  title: string
  fate: Fate
  /** Whether the one who asks dies at that moment. */
  dies?: true
  /** What somebody else does just before. */
  before?: (server: MemoryApi) => void
}

export const usualFaults: readonly Fault[] = [
  { title: 'refused with 500', fate: { refused: 500 } },
  { title: 'refused with 429', fate: { refused: 429 } },
  { title: 'never carried out', fate: { refused: 0 } },
  { title: 'too late, as somebody else changed the object', fate: 'conflict' },
  { title: 'carried out without an answer', fate: 'answer-lost' },
  { title: 'carried out late, without an answer', fate: 'late' },
  { title: 'the last thing that was wanted', fate: { refused: 0 }, dies: true },
  { title: 'the last thing that was done', fate: 'answer-lost', dies: true },
]

/** One fault, at one request, counted from 1. */
export interface Strike {
  at: number
  fault: Fault
}

/** A client whose request fails as the strike says, and what resolves if it dies of it. */
export function strikeAt(server: MemoryApi, strike: Strike | undefined): { client: MemoryClient; died: Promise<void> } {
  const { promise: died, resolve } = Promise.withResolvers<void>()
  const hook: Hook = (_, count) => {
    if (!strike || count !== strike.at) return 'done'
    strike.fault.before?.(server)
    if (strike.fault.dies) {
      client.kill()
      resolve()
    }
    return strike.fault.fate
  }
  const client = server.client(hook)
  return { client, died }
}

/** Plays once undisturbed, which gives the requests that were sent, and then with each fault at each of them. */
export async function strikeEverywhere(
  play: (strike?: Strike) => Promise<readonly ApiRequest[]>,
  faults: readonly Fault[] = usualFaults,
): Promise<void> {
  const requests = await play()
  const strikes = faults.flatMap((fault) => requests.map((request, index) => ({ request, at: index + 1, fault })))
  await Promise.all(
    strikes.map(async ({ request: { method, path }, ...strike }) => {
      await play(strike).catch((error) => {
        error.message = `With ${method} ${path} (request ${strike.at}) ${strike.fault.title}: ${error.message}`
        throw error
      })
    }),
  )
}
