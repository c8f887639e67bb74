import type { V1ConfigMap } from '@kubernetes/client-node'
import * as v from 'valibot'
import { toJson } from '../../json.ts'
import { formatSize } from '../../text/quantity.ts'
import { messageOf, VolumeError } from '../../volume/errors.ts'
import { type Content, contents, type DriverKind, driverKinds } from '../../volume/pool.ts'
import { roundUp } from '../../volume/size.ts'
import type { FrontName } from '../fronts/front.ts'
import { describeNoRoom } from './growth.ts'
import { ledgerLabel, ledgerName, nodeLabel } from './names.ts'

/** What a pool of a node is, as its daemon says. */
export interface PoolFacts {
  /** The volume group, `group/thinpool`, or the folder. */
  name: string
  /** The pool's own; missing where a kind of pool has none. */
  id?: string
  driverKind: DriverKind
  /** The most that may be promised in all, to volumes that exist and to those that do not yet. */
  capacityBytes: bigint
  /** Volumes take whole multiples of it. */
  unitBytes: bigint
  /** By which fronts the node's daemon serves its volumes. */
  fronts: readonly string[]
}

/** What is promised and made for one volume: each has one who writes it. */
export interface Entry {
  /** The pool, by its key in the ledger. */
  pool: string
  kind: 'volume'
  /** Raised by whoever grants room, and lowered by nobody else: the provisioner for a volume, the daemon for growth. */
  promisedBytes: bigint
  /** What is there, as the daemon says; missing before it was made, and where nobody knows. */
  madeBytes?: bigint
  /** `namespace/name` of the claim it was promised to, until the daemon has made the volume. */
  pendingFor?: string
  /** UID of the PV that it was made for, if its data is to go with that. */
  madeFor?: string
  /** The size that the machine could not give, as the daemon says, and why: whoever promised it takes that back. */
  refusedBytes?: bigint
  refusal?: string
  /** Why what is promised beyond what is made was not made by now, as the daemon says, which tries it again. */
  delay?: string
  /** What somebody would have it become, while it is another project's. */
  question?: Question
}

/** Asks a daemon whether what another project made in its pool can become a volume of ours, as it is. */
export interface Question {
  /** As `formatOrigin` writes it. */
  origin: string
  fsType: Content
  /** Who asks: a word of his own. */
  by: string
  /** The daemon's answer: that it can, or why not. */
  answer?: { foundBytes: bigint } | { code: string; why: string }
}

/**
 * What is promised on one node, to whom: a ConfigMap that the node's daemon makes. Whoever promises room, the provisioner
 * for a new volume or the daemon for growth, first writes it here, and only over the very version that showed the room:
 * so no two can promise the same (docs/decisions/0005-ledger.md).
 */
export interface Ledger {
  node: string
  /** Whether it carries the labels by which others find it. */
  isLabelled: boolean
  resourceVersion: string
  /** By key; at least the one that the node's daemon serves. */
  pools: ReadonlyMap<string, PoolFacts>
  entries: ReadonlyMap<string, Entry>
  /** What the entries of each pool take in all, kept so that looking for room costs no look at each. */
  takenBytes: ReadonlyMap<string, bigint>
  /** How long it is as a ConfigMap, of which there may be no more than a MiB. */
  textLength: number
}

/** A ledger that long takes no further volume, so that what it holds can still change. */
export const fullLength = 900 << 10

/** Of what there is to say of a refusal or a delay, so much is kept. */
const longestWords = 400

/** The key of the pool that a daemon serves. */
export const onlyPool = 'default'
/** Before the key of a pool, in the ConfigMap; no volume has such a name. */
const poolPrefix = '_pool.'

const bytes = v.pipe(
  v.string(),
  v.regex(/^[0-9]{1,19}$/),
  v.transform((text) => BigInt(text)),
)
const poolSchema = v.object({
  name: v.string(),
  id: v.exactOptional(v.string()),
  driverKind: v.picklist(driverKinds),
  capacityBytes: bytes,
  unitBytes: v.pipe(bytes, v.minValue(1n)),
  fronts: v.optional(v.array(v.string()), ['flex']),
})
const entrySchema = v.object({
  pool: v.string(),
  kind: v.literal('volume'),
  promisedBytes: bytes,
  madeBytes: v.exactOptional(bytes),
  pendingFor: v.exactOptional(v.string()),
  madeFor: v.exactOptional(v.string()),
  refusedBytes: v.exactOptional(bytes),
  refusal: v.exactOptional(v.string()),
  delay: v.exactOptional(v.string()),
  question: v.exactOptional(
    v.object({
      origin: v.string(),
      fsType: v.picklist(contents),
      by: v.string(),
      answer: v.exactOptional(
        v.union([v.object({ foundBytes: bytes }), v.object({ code: v.string(), why: v.string() })]),
      ),
    }),
  ),
})

/** The ledger in a ConfigMap. Throws `failed` with the key that cannot be read. */
export function parseLedger({ metadata, data = {} }: V1ConfigMap): Ledger {
  const read = <S extends v.GenericSchema>(key: string, schema: S): v.InferOutput<S> => {
    try {
      return v.parse(schema, JSON.parse(data[key] ?? ''))
    } catch (error) {
      throw new VolumeError(
        'failed',
        `Cannot read ${key} in ConfigMap ${metadata?.namespace}/${metadata?.name}: ${messageOf(error)}; remove that key, and the node's daemon writes it again.`,
      )
    }
  }
  const pools = new Map([[onlyPool, read(`${poolPrefix}${onlyPool}`, poolSchema)]])
  const entries = new Map<string, Entry>()
  for (const key of Object.keys(data))
    if (!key.startsWith(poolPrefix)) entries.set(key, read(key, entrySchema))
    else pools.set(key.slice(poolPrefix.length), read(key, poolSchema))
  const labels = metadata?.labels ?? {}
  const node = labels[nodeLabel] ?? ''
  return {
    node,
    isLabelled: labels[ledgerLabel] === 'true' && metadata?.name === ledgerName(node),
    resourceVersion: metadata?.resourceVersion ?? '',
    pools,
    entries,
    takenBytes: sumUp(entries),
    textLength: Object.entries(data).reduce((sum, [key, text]) => sum + key.length + text.length, 0),
  }
}

function sumUp(entries: ReadonlyMap<string, Entry>): Map<string, bigint> {
  const sums = new Map<string, bigint>()
  for (const entry of entries.values()) sums.set(entry.pool, (sums.get(entry.pool) ?? 0n) + takenBytes(entry))
  return sums
}

/** What an entry takes of its pool: what is promised, or made where that is more. */
export function takenBytes({ promisedBytes, madeBytes = 0n }: Entry): bigint {
  return promisedBytes > madeBytes ? promisedBytes : madeBytes
}

/** Whether more is promised to a volume that is there than was made of it by now, growth of its filesystem included. */
function isGranted(entry: Entry): entry is Entry & { madeBytes: bigint } {
  return entry.madeBytes !== undefined && entry.promisedBytes > entry.madeBytes
}

/** Whether it is to be made larger: what was granted, and not refused by the machine. */
export function isToGrow(entry: Entry): entry is Entry & { madeBytes: bigint } {
  return isGranted(entry) && !isRefused(entry, entry.promisedBytes)
}

/** Whether the machine could not give that much when it was asked last. */
export function isRefused({ refusedBytes }: Entry, sizeBytes: bigint): boolean {
  return refusedBytes !== undefined && sizeBytes >= refusedBytes
}

/** The entry when the machine could not give what is promised. */
export function withRefusal(entry: Entry, why: string): Entry {
  return { ...withoutRefusal(entry), refusedBytes: entry.promisedBytes, refusal: why.slice(0, longestWords) }
}

/** The entry when what is promised could not be made by now, and is tried again. */
export function withDelay(entry: Entry, why: string): Entry {
  return isToGrow(entry) ? { ...entry, delay: why.slice(0, longestWords) } : entry
}

/** The entry when it is to be tried again, or is promised something else. */
export function withoutRefusal({ refusedBytes, refusal, delay, ...entry }: Entry): Entry {
  return entry
}

/** The entry of a volume that is not ours: nothing is promised to it, as it is there. */
export function asked(question: Question): Entry {
  return { pool: onlyPool, kind: 'volume', promisedBytes: 0n, question }
}

/** Without volumes that are only asked about, and are another project's. */
export function withoutQuestions(ledger: Ledger): Ledger {
  return { ...ledger, entries: new Map([...ledger.entries].filter(([, { question }]) => !question)) }
}

/** The entry with an answer of a daemon to what is asked in it. */
export function answered(entry: Entry, question: Question, answer: NonNullable<Question['answer']>): Entry {
  const short = 'why' in answer ? { ...answer, why: answer.why.slice(0, longestWords) } : answer
  return { ...entry, question: { ...question, answer: short } }
}

/** The pool that a node's daemon serves. */
export function poolOf({ pools }: Pick<Ledger, 'pools'>): PoolFacts {
  return pools.get(onlyPool) as PoolFacts
}

/** Changes of a ledger by volume; nothing stands for its removal. */
export type Changes = ReadonlyMap<string, Entry | undefined>

export function applyChanges(ledger: Ledger, changes: Changes): Ledger {
  const entries = new Map(ledger.entries)
  let { textLength } = ledger
  for (const [volume, entry] of changes) {
    textLength += lengthOf(volume, entry) - lengthOf(volume, entries.get(volume))
    if (entry) entries.set(volume, entry)
    else entries.delete(volume)
  }
  return { ...ledger, entries, takenBytes: sumUp(entries), textLength }
}

const lengthOf = (volume: string, entry: Entry | undefined) => (entry ? volume.length + toJson(entry).length : 0)

/** By which a node's ledger is found. */
export const labelsOf = (node: string) => ({ [ledgerLabel]: 'true', [nodeLabel]: node })

/** A ConfigMap of a new ledger. */
export function buildLedger(namespace: string, node: string, pool: PoolFacts, entries: Changes): V1ConfigMap {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: ledgerName(node), namespace, labels: labelsOf(node) },
    data: buildData(pool, entries) as Record<string, string>,
  }
}

/** The `data` of a merge patch. */
export function buildData(pool: PoolFacts | undefined, changes: Changes): Record<string, string | null> {
  const rows = [...changes].map(([volume, entry]) => [volume, entry ? toJson(entry) : null])
  return Object.fromEntries([...(pool ? [[`${poolPrefix}${onlyPool}`, toJson(pool)]] : []), ...rows])
}

/** Throws `failed` when the node's pool is not the one that the ledger is about: a disk may be missing, or another. */
export function mustBeItsPool(ledger: Ledger, pool: Pick<PoolFacts, 'id' | 'name'>): void {
  const { id } = poolOf(ledger)
  if (!id || !pool.id || id === pool.id) return
  throw new VolumeError(
    'failed',
    `Cannot use pool ${pool.name} of node ${ledger.node} as it is not the one that its volumes were created in (${id}): it is ${pool.id}. Is its disk mounted? If the disk was replaced for good, delete ConfigMap ${ledgerName(ledger.node)}.`,
  )
}

/** What a ledger has promised in all. */
export function promisedBytes({ takenBytes }: Ledger): bigint {
  return takenBytes.get(onlyPool) ?? 0n
}

/** What is left for volumes that are there to grow; never below 0. */
export function leftBytes(ledger: Ledger): bigint {
  const left = poolOf(ledger).capacityBytes - promisedBytes(ledger)
  return left > 0n ? left : 0n
}

/** What a ledger can still promise to a new volume; never below 0. */
export function freeBytes(ledger: Ledger): bigint {
  return isFull(ledger) ? 0n : leftBytes(ledger)
}

/** Whether it can hold no further volume, whatever room there is. */
export function isFull({ textLength }: Ledger): boolean {
  return textLength >= fullLength
}

/** What is said of a ledger that can hold no more. */
export function fullLedger(node: string): VolumeError {
  return new VolumeError(
    'no-space',
    `Cannot place anything more on node ${node} as its ledger is full (ConfigMap ${ledgerName(node)}): a node can have some 5,000 volumes.`,
  )
}

/**
 * The entry that promises a volume that much, counted in whole units; what it had before is not lost if it had more.
 * Throws `no-space` with what is asked and what there is.
 */
export function promise(ledger: Ledger, volume: string, sizeBytes: bigint, pendingFor?: string): Entry {
  const before = ledger.entries.get(volume)
  const { name, unitBytes, capacityBytes } = poolOf(ledger)
  const had = before ? takenBytes(before) : 0n
  const wanted = roundUp(sizeBytes, unitBytes)
  const free = leftBytes(ledger)
  if (!before && isFull(ledger)) throw fullLedger(ledger.node)
  if (wanted - had > free)
    throw new VolumeError(
      'no-space',
      had > 0n
        ? describeNoRoom(
            volume,
            { fromBytes: had, toBytes: wanted, freeBytes: free },
            { pool: name, node: ledger.node },
          )
        : `Cannot place ${formatSize(wanted)} on node ${ledger.node} as its pool ${name} has ${formatSize(free)} of ${formatSize(capacityBytes)} free.`,
    )
  const promisedBytes = wanted > had ? wanted : had
  if (pendingFor) return { pool: onlyPool, kind: 'volume', promisedBytes, pendingFor }
  return { ...(before ? withoutRefusal(before) : { pool: onlyPool, kind: 'volume' }), promisedBytes }
}

/** The entry of a volume that was found with that size, on top of what was promised before. */
export function made(before: Entry | undefined, sizeBytes: bigint, madeFor: string | undefined): Entry {
  const promisedBytes = before?.promisedBytes ?? sizeBytes
  return {
    pool: before?.pool ?? onlyPool,
    kind: 'volume',
    promisedBytes,
    madeBytes: sizeBytes,
    ...(madeFor ? { madeFor } : {}),
    ...(before && isRefused(before, sizeBytes) ? {} : pickRefusal(before)),
    ...(before?.delay !== undefined && promisedBytes > sizeBytes ? { delay: before.delay } : {}),
  }
}

function pickRefusal({ refusedBytes, refusal }: Partial<Entry> = {}): Partial<Entry> {
  return refusedBytes !== undefined && refusal !== undefined ? { refusedBytes, refusal } : {}
}

/**
 * The entry of a volume that was found and of which no entry tells. The capacity of a PV of CSI is raised when a growth has
 * ended: what is there beyond may be a device whose filesystem has not grown yet.
 */
export function found(
  sizeBytes: bigint,
  volume: { front: FrontName; capacityBytes: bigint } | undefined,
  madeFor: string | undefined,
): Entry {
  const entry = made(undefined, sizeBytes, madeFor)
  const mayBeLess = volume?.front === 'csi' && volume.capacityBytes < sizeBytes
  return mayBeLess ? { ...entry, madeBytes: volume.capacityBytes } : entry
}

/**
 * The entry of a volume that is there with that size while nobody works on it. What is promised beyond is of a growth that was
 * given up; where another has granted it, `byAnother`, it is one that is to come, and what was made is what it was.
 */
export function settled(
  before: Entry | undefined,
  sizeBytes: bigint,
  { madeFor, byAnother }: { madeFor: string | undefined; byAnother: boolean },
): Entry {
  const unchanged = made(before, before?.madeBytes ?? sizeBytes, madeFor)
  return byAnother && isGranted(unchanged) ? unchanged : withoutGrowth(made(before, sizeBytes, madeFor))
}

/** The entry when the growth that was granted last has ended, or was given up: no more is promised than is made. */
export function withoutGrowth({ delay, ...entry }: Entry): Entry {
  return entry.madeBytes === undefined ? entry : { ...entry, promisedBytes: entry.madeBytes }
}
