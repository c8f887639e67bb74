import { isDeepStrictEqual } from 'node:util'
import type { V1ConfigMap, V1PersistentVolume, V1VolumeNodeAffinity } from '@kubernetes/client-node'
import * as v from 'valibot'
import { keyOption } from '../../flex/options.ts'
import { messageOf, VolumeError } from '../../volume/errors.ts'
import { parseSize } from '../../volume/size.ts'
import { type Api, listPages } from '../client/api.ts'
import { formatQuantity, parseQuantity } from '../client/quantity.ts'
import { hasKey, optionsOf } from '../fronts/flex.ts'
import { type FrontName, frontNames, type VolumeSource } from '../fronts/front.ts'
import { findSource, fronts } from '../fronts/fronts.ts'
import {
  adoptedAnnotation,
  finalizer,
  makeAnewAnnotation,
  movedAnnotation,
  moveLabel,
  moveName,
} from '../model/names.ts'
import { type ProjectName, parseOrigin, projectNames } from '../model/origin.ts'
import { buildNodeAffinity, pickVolume, type VolumeFacts, volumeNameOf } from '../model/persistent-volume.ts'

const texts = v.record(v.string(), v.string())
const specSchema = v.strictObject({
  capacity: v.strictObject({ storage: v.string() }),
  accessModes: v.array(v.string()),
  volumeMode: v.exactOptional(v.string()),
  // Until the move is at its end.
  persistentVolumeReclaimPolicy: v.literal('Retain'),
  storageClassName: v.exactOptional(v.string()),
  claimRef: v.strictObject({
    apiVersion: v.literal('v1'),
    kind: v.literal('PersistentVolumeClaim'),
    namespace: v.string(),
    name: v.string(),
    uid: v.string(),
  }),
  mountOptions: v.exactOptional(v.array(v.string())),
  flexVolume: v.exactOptional(v.strictObject({ driver: v.string(), fsType: v.string(), options: texts })),
  csi: v.exactOptional(
    v.strictObject({ driver: v.string(), volumeHandle: v.string(), fsType: v.string(), volumeAttributes: texts }),
  ),
  nodeAffinity: v.looseObject({}),
})
/** Every field of a PV that a move makes: a record with another one is none. */
const volumeSchema = v.strictObject({
  apiVersion: v.literal('v1'),
  kind: v.literal('PersistentVolume'),
  metadata: v.strictObject({
    name: v.string(),
    labels: texts,
    annotations: texts,
    finalizers: v.strictTuple([v.literal(finalizer)]),
  }),
  spec: specSchema,
})

/** Fields of a PV that are its source: what another project's says there is looked at by itself. */
const otherSources = ['hostPath', 'local']

/** Fields of a PV that a move would lose. */
export function findUnknownFields({ spec }: V1PersistentVolume): string[] {
  return Object.keys(spec ?? {}).filter(
    (field) => ![...Object.keys(specSchema.entries), ...otherSources].includes(field),
  )
}

/** A move that was begun: what has to be known to bring it to its end, whatever happens to who began it. */
export interface Move {
  /** The name of the volume, and of its PV. */
  name: string
  to: FrontName
  /** Whose it is before, where that is another project. */
  from?: ProjectName
  /** The PV that goes. */
  oldUid: string
  /** What its reclaim policy is while nobody moves it. */
  policy: string
  /** The PV that comes. */
  volume: V1PersistentVolume
  /** Who is at it: a word of his own. */
  by: string
}

/** A move as its record has it. */
export interface RecordedMove extends Move {
  uid: string
  resourceVersion: string
  begunAt: Date
  /** The PV that comes. */
  facts: VolumeFacts & Required<Pick<VolumeFacts, 'claim' | 'heldTo'>>
}

/** The ConfigMap of a new move. */
export function buildRecord(namespace: string, move: Move): V1ConfigMap {
  const { name, to, from, by, oldUid, policy, volume } = move
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: moveName(name), namespace, labels: { [moveLabel]: to } },
    data: {
      ...{ to, by, oldUid, reclaimPolicy: policy, persistentVolume: JSON.stringify(volume) },
      ...(from ? { from } : {}),
    },
  }
}

/**
 * The move in a ConfigMap. Throws `invalid` for one that would make anything but a retained PV of ours, of that name, for the
 * claim with the UID in the name: whoever may write ConfigMaps can have nothing else made by one.
 */
export function parseMove({ metadata, data = {} }: V1ConfigMap): RecordedMove {
  const refuse = (why: string) =>
    new VolumeError(
      'invalid',
      `Cannot continue the move in ConfigMap ${metadata?.namespace}/${metadata?.name} as ${why}. Nothing was done. Check who wrote it, and delete it.`,
    )
  const { by = '', oldUid = '', reclaimPolicy: policy = '' } = data
  const to = frontNames.find((name) => name === data.to)
  if (!to) throw refuse(`to must be one of ${frontNames.join(', ')}: it is ${JSON.stringify(data.to)}`)
  const from = projectNames.find((name) => name === data.from)
  if (data.from !== undefined && !from)
    throw refuse(`from must be one of ${projectNames.join(', ')}: it is ${JSON.stringify(data.from)}`)
  if (!['Delete', 'Retain'].includes(policy))
    throw refuse(`reclaimPolicy must be Delete or Retain: it is ${JSON.stringify(policy)}`)
  try {
    const volume = v.parse(volumeSchema, JSON.parse(data.persistentVolume ?? '')) as V1PersistentVolume
    const name = volume.metadata?.name ?? ''
    if (metadata?.name !== moveName(name)) throw new Error(`it is named ${name}`)
    const { uid = '', resourceVersion = '', creationTimestamp } = metadata
    const facts = mustBeOfMove(volume, to, from)
    return {
      ...(from ? { from } : {}),
      ...{ name, to, oldUid, policy, volume, by, uid, resourceVersion, facts },
      begunAt: new Date(creationTimestamp ?? 0),
    }
  } catch (error) {
    throw refuse(`its persistentVolume is not one that a move to ${to} creates: ${messageOf(error)}`)
  }
}

/** Throws unless it is one that a move to that front makes. */
function mustBeOfMove(volume: V1PersistentVolume, to: FrontName, from: ProjectName | undefined): RecordedMove['facts'] {
  const refuse = (why: string) => new Error(why)
  const { flexVolume, csi, mountOptions, nodeAffinity } = volume.spec ?? {}
  const facts = pickVolume(volume)
  if (facts?.front !== to || (flexVolume && csi)) throw refuse(`it is not one of ${to}`)
  const { name, claim, heldTo, node, mayBeMadeAnew, adoptedFrom } = facts
  if (!claim || name !== volumeNameOf(claim.uid)) throw refuse('it is for another claim than the one in its name')
  if (to === 'flex' && (mountOptions || !hasKey(facts))) throw refuse('it has spec.mountOptions, or no key')
  if (!node || !heldTo || !isDeepStrictEqual(nodeAffinity, buildNodeAffinity(heldTo)))
    throw refuse('it is not tied to one node')
  if (mayBeMadeAnew) throw refuse(`it has annotation ${makeAnewAnnotation}`)
  const origin = adoptedFrom === undefined ? undefined : parseOrigin(adoptedFrom, name)
  if (origin?.project !== from) throw refuse(`it has annotation ${adoptedAnnotation} ${adoptedFrom ?? 'not'}`)
  if (from && to !== 'csi') throw refuse(`what was made by ${from} is served by csi only`)
  // What may be in a source.
  optionsOf(facts)
  return { ...facts, claim, heldTo }
}

export interface Moves {
  moves: RecordedMove[]
  wrongs: string[]
}

/** The records of all moves that have not come to their end, and what is wrong with those that are none. */
export async function readMoves(api: Pick<Api, 'send'>, namespace: string): Promise<Moves> {
  const found: Moves = { moves: [], wrongs: [] }
  const path = `/api/v1/namespaces/${namespace}/configmaps`
  for await (const { items } of listPages<V1ConfigMap>(api, path, { labelSelector: moveLabel }))
    for (const item of items)
      try {
        found.moves.push(parseMove(item))
      } catch (error) {
        found.wrongs.push(messageOf(error))
      }
  return found
}

/** What is only about the object that goes. */
const droppedAnnotations = [
  'kubectl.kubernetes.io/last-applied-configuration',
  ...[makeAnewAnnotation, movedAnnotation, adoptedAnnotation],
]

/**
 * The PV of the other front in place of one, as long as it is moved: the same in all but its source. `claimCapacity` is what
 * the claim has: a flex PV that is to grow has a capacity that nobody granted yet. Throws `invalid`.
 */
export function buildMoved(
  volume: V1PersistentVolume,
  to: FrontName,
  { key, claimCapacity }: { key: string; claimCapacity: string | undefined },
): V1PersistentVolume {
  const { metadata, spec } = volume
  const name = metadata?.name ?? ''
  const { fsType = '', options = {} } = (spec && findSource(name, spec)) ?? {}
  const { [keyOption]: _, sizeBytes, ...own } = options
  const annotations = Object.entries(metadata?.annotations ?? {}).filter(([one]) => !droppedAnnotations.includes(one))
  return buildAnew(volume, {
    to,
    claimCapacity,
    labels: metadata?.labels ?? {},
    annotations: Object.fromEntries(annotations),
    nodeAffinity: spec?.nodeAffinity,
    source: { fsType, options: own, key },
    ...(sizeBytes ? { sizeBytes: parseSize(sizeBytes, 'option sizeBytes') } : {}),
  })
}

/** What of a PV becomes another when it is made anew for the same claim. */
export interface Anew {
  to: FrontName
  claimCapacity: string | undefined
  labels: Record<string, string>
  annotations: Record<string, string>
  nodeAffinity: V1VolumeNodeAffinity | undefined
  source: VolumeSource & { key: string }
  /** What its source says; its capacity where nothing is said. */
  sizeBytes?: bigint
}

/** A PV of ours for the claim of another, retained. Throws `invalid`. */
export function buildAnew({ metadata, spec }: V1PersistentVolume, anew: Anew): V1PersistentVolume {
  const { to, claimCapacity, labels, annotations, nodeAffinity, source } = anew
  const name = metadata?.name ?? ''
  const capacityBytes = parseQuantity(spec?.capacity?.storage, 'the capacity of the PersistentVolume')
  const claimBytes = claimCapacity === undefined ? capacityBytes : parseQuantity(claimCapacity, "the claim's capacity")
  const bytes = claimBytes < capacityBytes ? claimBytes : capacityBytes
  const { namespace, name: claim, uid } = spec?.claimRef ?? {}
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name, labels, annotations, finalizers: [finalizer] },
    spec: {
      capacity: { storage: formatQuantity(bytes) },
      accessModes: spec?.accessModes ?? [],
      ...(spec?.volumeMode ? { volumeMode: spec.volumeMode } : {}),
      persistentVolumeReclaimPolicy: 'Retain',
      ...(spec?.storageClassName ? { storageClassName: spec.storageClassName } : {}),
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...{ namespace, name: claim, uid } } as object,
      ...fronts[to].buildSource({ name, sizeBytes: bytes, ...source, ...pickSize(anew) }),
      ...(nodeAffinity ? { nodeAffinity } : {}),
    },
  }
}

const pickSize = ({ sizeBytes }: Anew) => (sizeBytes === undefined ? {} : { sizeBytes })
