import { randomBytes } from 'node:crypto'
import type { V1ConfigMap, V1PersistentVolume } from '@kubernetes/client-node'
import { VolumeError } from '../../volume/errors.ts'
import { type Api, orMissing } from '../client/api.ts'
import type { FrontName } from '../fronts/front.ts'
import { parseLedger, poolOf } from '../model/ledger.ts'
import { readNode, readVolume } from '../model/lookups.ts'
import { finalizer, hostnameLabel, ledgerName, nodeLabel, provisionerNames } from '../model/names.ts'
import { findTopology, type Topology } from '../model/node.ts'
import { buildNodeAffinity, buildVolume } from '../model/persistent-volume.ts'

export interface Adoption {
  /** Of the ledgers. */
  namespace: string
  /** The volume's, and so its PV's. */
  name: string
  sizeBytes: bigint
  fsType: string
  /** The node that the volume is on. */
  node: string
  /** Whom it is for, where the cluster has no PV to tell. */
  claim: { namespace: string; name: string } | undefined
  storageClass: string
}

/**
 * The PV for a volume that the cluster does not know, or that it believes elsewhere: one that is retained, for the claim
 * given or the one it had. Throws `exists` when its PV is for that node already, `not-found` for a node that is not one,
 * `invalid` when nobody says whom it is for.
 */
export async function buildAdoption(api: Api, adoption: Adoption): Promise<V1PersistentVolume> {
  const { name, node } = adoption
  const [known, found] = await Promise.all([readVolume(api, name), readNode(api, node)])
  const topology = findTopology(node, found?.metadata?.labels ?? {})
  if (!topology)
    throw new VolumeError(
      'not-found',
      `Cannot adopt ${name} for node ${node} as there is no such node with a label ${hostnameLabel}.`,
    )
  if (known?.metadata?.labels?.[nodeLabel] === node)
    throw new VolumeError('exists', `Cannot adopt ${name} as its PersistentVolume is for node ${node} already.`)
  const made = known?.spec
    ? { metadata: known.metadata, spec: known.spec }
    : buildNew(adoption, topology, await findFront(api, adoption))
  const { annotations = {}, labels } = made.metadata ?? {}
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name, annotations, labels: { ...labels, [nodeLabel]: node }, finalizers: [finalizer] },
    spec: { ...made.spec, persistentVolumeReclaimPolicy: 'Retain', nodeAffinity: buildNodeAffinity(topology) },
  }
}

/** One by which the node's daemon says that it serves volumes; flex where it says nothing, which has no block devices. */
async function findFront(api: Api, { namespace, node, fsType }: Adoption): Promise<FrontName> {
  if (fsType === 'block') return 'csi'
  const path = `/api/v1/namespaces/${namespace}/configmaps/${ledgerName(node)}`
  const found = await orMissing(api.send<V1ConfigMap>({ method: 'GET', path }))
  const fronts = found ? poolOf(parseLedger(found)).fronts : []
  return fronts.includes('csi') && !fronts.includes('flex') ? 'csi' : 'flex'
}

function buildNew(
  { name, sizeBytes, fsType, node, claim, storageClass }: Adoption,
  topology: Topology,
  front: FrontName,
) {
  if (!claim)
    throw new VolumeError(
      'invalid',
      `Cannot adopt ${name} as its claim is unknown: name one with --claim <namespace>/<name>; it need not exist yet.`,
    )
  const { metadata, spec } = buildVolume({
    name,
    claim: { ...claim, uid: '', accessModes: ['ReadWriteOnce'] },
    storageClass: { name: storageClass, provisioner: provisionerNames[0] ?? '', reclaimPolicy: 'Retain' },
    sizeBytes,
    fsType,
    options: {},
    front,
    node,
    topology,
    key: randomBytes(16).toString('hex'),
  })
  const claimRef = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claim }
  return { metadata, spec: { ...spec, claimRef } }
}
