import type { V1ConfigMap } from '@kubernetes/client-node'
import * as v from 'valibot'
import { toJson } from '../../json.ts'
import { messageOf, VolumeError } from '../../volume/errors.ts'
import { type DriverKind, driverKinds } from '../../volume/pool.ts'
import { roundUp } from '../../volume/size.ts'
import { ledgerLabel, ledgerName, nodeLabel } from './names.ts'

/** What a node's pool is, as its daemon says. */
export interface PoolFacts {
  /** The volume group, `group/thinpool`, or the folder. */
  name: string
  /** The pool's own; missing in ledgers of before. */
  id?: string
  driverKind: DriverKind
  /** The most that may be promised in all, to volumes that exist and to those that do not yet. */
  capacityBytes: bigint
  /** Volumes take whole multiples of it. */
  unitBytes: bigint
}

/** Room that is promised to one volume. */
export interface Entry {
  sizeBytes: bigint
  /** `namespace/name` of the claim it was promised to, until the daemon has made the volume. */
  pendingFor?: string
  /** UID of the PV that it was made for, if its data is to go with that. */
  madeFor?: string
}

/**
 * What is promised on one node, to whom: a ConfigMap that the node's daemon makes. Whoever promises room, the provisioner
 * for a new volume or the daemon for growth, first writes it here, and only over the very version that showed the room:
 * so no two can promise the same (docs/decisions/0005-ledger.md).
 */
export interface Ledger {
  node: string
  resourceVersion: string
  pool: PoolFacts
  entries: ReadonlyMap<string, Entry>
}

/** Key in the ConfigMap of what the daemon says; no volume has such a name. */
const poolKey = '_pool'

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
})
const entrySchema = v.object({
  sizeBytes: bytes,
  pendingFor: v.exactOptional(v.string()),
  madeFor: v.exactOptional(v.string()),
})

/** The ledger in a ConfigMap. Throws `failed` with the key that cannot be read. */
export function parseLedger({ metadata, data = {} }: V1ConfigMap): Ledger {
  const name = metadata?.name ?? ''
  const read = <S extends v.GenericSchema>(key: string, schema: S): v.InferOutput<S> => {
    try {
      return v.parse(schema, JSON.parse(data[key] ?? ''))
    } catch (error) {
      throw new VolumeError(
        'failed',
        `Cannot read ${key} in ConfigMap ${metadata?.namespace}/${name}: ${messageOf(error)}; remove that key, and the daemon of the node writes what it knows.`,
      )
    }
  }
  const volumes = Object.keys(data).filter((key) => key !== poolKey)
  return {
    node: metadata?.labels?.[nodeLabel] ?? '',
    resourceVersion: metadata?.resourceVersion ?? '',
    pool: read(poolKey, poolSchema),
    entries: new Map(volumes.map((volume) => [volume, read(volume, entrySchema)])),
  }
}

/** Changes of a ledger by volume; nothing stands for its removal. */
export type Changes = ReadonlyMap<string, Entry | undefined>

export function applyChanges(ledger: Ledger, changes: Changes): Ledger {
  const entries = new Map(ledger.entries)
  for (const [volume, entry] of changes) {
    if (entry) entries.set(volume, entry)
    else entries.delete(volume)
  }
  return { ...ledger, entries }
}

/** A ConfigMap of a new ledger. */
export function buildLedger(namespace: string, node: string, pool: PoolFacts, entries: Changes): V1ConfigMap {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: ledgerName(node), namespace, labels: { [ledgerLabel]: 'true', [nodeLabel]: node } },
    data: buildData(pool, entries) as Record<string, string>,
  }
}

/** The `data` of a merge patch. */
export function buildData(pool: PoolFacts | undefined, changes: Changes): Record<string, string | null> {
  const rows = [...changes].map(([volume, entry]) => [volume, entry ? toJson(entry) : null])
  return Object.fromEntries([...(pool ? [[poolKey, toJson(pool)]] : []), ...rows])
}

/** Throws `failed` when the node's pool is not the one that the ledger is about: a disk may be missing, or another. */
export function mustBeItsPool(ledger: Ledger, pool: Pick<PoolFacts, 'id' | 'name'>): void {
  if (!ledger.pool.id || !pool.id || ledger.pool.id === pool.id) return
  throw new VolumeError(
    'failed',
    `Cannot use pool ${pool.name} of node ${ledger.node} as it is not the one that its volumes were made in (${ledger.pool.id}): it is ${pool.id}. Is its disk mounted? If the disk was replaced for good, delete ConfigMap ${ledgerName(ledger.node)}.`,
  )
}

/** What a ledger has promised in all. */
export function promisedBytes({ entries }: Ledger): bigint {
  return entries.values().reduce((sum, entry) => sum + entry.sizeBytes, 0n)
}

/** What a ledger can still promise; never below 0. */
export function freeBytes(ledger: Ledger): bigint {
  const left = ledger.pool.capacityBytes - promisedBytes(ledger)
  return left > 0n ? left : 0n
}

/**
 * The change that promises a volume that much, counted in whole units; what it had before is not lost if it had more.
 * Throws `no-space` with what is asked and what there is.
 */
export function promise(ledger: Ledger, volume: string, sizeBytes: bigint, pendingFor?: string): Entry {
  const { sizeBytes: had, madeFor } = ledger.entries.get(volume) ?? { sizeBytes: 0n }
  const wanted = roundUp(sizeBytes, ledger.pool.unitBytes)
  const free = freeBytes(ledger)
  if (wanted - had > free)
    throw new VolumeError(
      'no-space',
      had > 0n
        ? `Cannot grow ${volume} from ${had} to ${wanted} bytes as pool ${ledger.pool.name} of node ${ledger.node} has ${free} bytes left.`
        : `Cannot place ${wanted} bytes on node ${ledger.node} as its pool ${ledger.pool.name} has ${free} of ${ledger.pool.capacityBytes} bytes left.`,
    )
  return {
    sizeBytes: wanted > had ? wanted : had,
    ...(pendingFor ? { pendingFor } : {}),
    ...(madeFor && !pendingFor ? { madeFor } : {}),
  }
}
