import type {
  CoreV1Event,
  KubernetesObject,
  V1ConfigMap,
  V1CSIDriver,
  V1CSINode,
  V1CSIStorageCapacity,
  V1Lease,
  V1Node,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1Pod,
  V1StorageClass,
} from '@kubernetes/client-node'
import { type Api, hasStatus, listPages, orMissing } from '../k8s/client/api.ts'
import { type Ledger, parseLedger, withoutQuestions } from '../k8s/model/ledger.ts'
import { volumesPath } from '../k8s/model/lookups.ts'
import { aliveLabel, leaseName, ledgerLabel, nodeLabel, provisionerNames } from '../k8s/model/names.ts'
import { readMoves } from '../k8s/moves/record.ts'
import { messageOf } from '../volume/errors.ts'
import {
  type ClusterFacts,
  componentSelector,
  type Kind,
  pickCapacity,
  pickClaimState,
  pickClassState,
  pickCsiDriver,
  pickEvent,
  pickHeartbeat,
  pickLeaderLease,
  pickNodeState,
  pickPod,
  pickRegistered,
  pickVolumeState,
} from './facts.ts'

export interface Scope {
  /** The namespace of our own objects. */
  namespace: string
  /** Reads claims, pods and their events of this namespace only; of all by default. */
  within?: string
}

/**
 * Everything that concerns local volumes, read once. A kind that the user may not read is left out and named in `notRead`.
 * Throws `ApiError` when the API server cannot be asked.
 */
export async function readCluster(
  api: Pick<Api, 'send'>,
  { namespace, within }: Scope,
  now: Date,
): Promise<ClusterFacts> {
  const notRead = new Map<Kind, string>()
  const unlessForbidden = async <T>(kind: Kind, work: () => Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      if (!hasStatus(error, 403, 404)) throw error
      notRead.set(kind, messageOf(error))
      return otherwise
    }
  }
  const list = async <O extends KubernetesObject, R>(
    kind: Kind,
    path: string,
    pick: (object: O) => R,
    query: Readonly<Record<string, string>> = {},
  ): Promise<R[]> => {
    const all = async () => {
      const picked: R[] = []
      for await (const { items } of listPages<O>(api, path, query)) for (const item of items) picked.push(pick(item))
      return picked
    }
    return await unlessForbidden(kind, all, [])
  }
  const claimed = within === undefined ? '/api/v1' : `/api/v1/namespaces/${within}`
  const ours = `/api/v1/namespaces/${namespace}`
  const storage = '/apis/storage.k8s.io/v1'
  const findObject = <O>(kind: Kind, path: string) =>
    unlessForbidden(kind, () => orMissing(api.send<O>({ method: 'GET', path })), undefined)

  const leasesPath = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`
  const [
    nodes,
    classes,
    claims,
    allVolumes,
    ledgers,
    capacities,
    pods,
    components,
    events,
    elsewhere,
    lease,
    heartbeats,
    driver,
    registered,
    moves,
  ] = await Promise.all([
    list('nodes', '/api/v1/nodes', (node: V1Node) => pickNodeState(node)),
    list('storageclasses', `${storage}/storageclasses`, (one: V1StorageClass) => pickClassState(one)),
    list('persistentvolumeclaims', `${claimed}/persistentvolumeclaims`, (one: V1PersistentVolumeClaim) =>
      pickClaimState(one),
    ),
    list('persistentvolumes', volumesPath, (volume: V1PersistentVolume) => ({
      name: volume.metadata?.name ?? '',
      volume: pickVolumeState(volume),
    })),
    list('ledgers', `${ours}/configmaps`, (one: V1ConfigMap) => readLedger(one), { labelSelector: ledgerLabel }),
    list(
      'csistoragecapacities',
      `${storage}/namespaces/${namespace}/csistoragecapacities`,
      (one: V1CSIStorageCapacity) => pickCapacity(one),
    ),
    list('pods', `${claimed}/pods`, (pod: V1Pod) => pickPod(pod)),
    list('components', `${ours}/pods`, (pod: V1Pod) => pickPod(pod), { labelSelector: componentSelector }),
    list('events', `${claimed}/events`, (event: CoreV1Event) => pickEvent(event), warningsOnly),
    // What is said of nodes and PersistentVolumes is kept there.
    within === undefined || within === 'default'
      ? []
      : list('events', '/api/v1/namespaces/default/events', (event: CoreV1Event) => pickEvent(event), warningsOnly),
    findObject<V1Lease>('leases', `${leasesPath}/${leaseName}`),
    list('leases', leasesPath, (one: V1Lease) => pickHeartbeat(one), { labelSelector: aliveLabel }),
    findObject<V1CSIDriver>('csidrivers', `${storage}/csidrivers/${provisionerNames[0]}`),
    list('csinodes', `${storage}/csinodes`, (one: V1CSINode) => pickRegistered(one)),
    unlessForbidden('ledgers', () => readMoves(api, namespace), { moves: [], wrongs: [] }),
  ])
  const read = ledgers.filter((ledger) => 'entries' in ledger).map(withoutQuestions)
  const broken = ledgers.filter((ledger) => 'problem' in ledger)
  const volumes = allVolumes.map(({ volume }) => volume).filter((volume) => volume !== undefined)
  const warnings = [...events, ...elsewhere].filter((event) => event !== undefined)
  return {
    readAt: now,
    namespace,
    nodes: new Map(nodes.map((node) => [node.name, node])),
    classes: new Map(classes.map((one) => [one.name, one])),
    claims: new Map(claims.map((claim) => [`${claim.namespace}/${claim.name}`, claim])),
    volumes: new Map(volumes.map((volume) => [volume.name, volume])),
    foreignVolumes: new Set(allVolumes.filter(({ volume }) => !volume).map(({ name }) => name)),
    ledgers: new Map(read.map((ledger) => [ledger.node, ledger])),
    brokenLedgers: new Map(broken.map(({ node, problem }) => [node, problem])),
    capacities,
    pods,
    components,
    events: warnings.sort((a, b) => b.at.getTime() - a.at.getTime()),
    lease: lease && pickLeaderLease(lease),
    heartbeats: new Map(heartbeats.map((heartbeat) => [heartbeat.node, heartbeat])),
    csiDriver: driver && pickCsiDriver(driver),
    registered: new Set(registered.flat()),
    moves,
    notRead,
  }
}

/** Most events of a cluster are none. */
const warningsOnly = { fieldSelector: 'type=Warning' }

function readLedger(object: V1ConfigMap): Ledger | { node: string; problem: string } {
  try {
    return parseLedger(object)
  } catch (error) {
    return { node: object.metadata?.labels?.[nodeLabel] ?? '', problem: messageOf(error) }
  }
}
