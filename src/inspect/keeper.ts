import * as v from 'valibot'
import { type ClientAnswer, type ClientRequest, request } from '../daemon/client.ts'
import type { Engine } from '../volume/engine.ts'
import { VolumeError, type VolumeErrorCode } from '../volume/errors.ts'
import { driverKinds, type PoolReport } from '../volume/pool.ts'
import { type VolumeView, volumeStates } from '../volume/view.ts'

/** Who keeps a node's volumes, as far as a person's tools ask: the daemon, or an engine in this process. */
export interface Keeper {
  list(): Promise<VolumeView[]>
  find(name: string): Promise<VolumeView | undefined>
  /** Makes the volume at least that large. Throws `VolumeError`. */
  grow(name: string, sizeBytes: bigint): Promise<{ action: 'grown' | 'unchanged'; volume: VolumeView }>
  /** Throws `VolumeError`, `busy` while it is mounted. */
  remove(name: string): Promise<{ action: 'removed' | 'unchanged' }>
  pools(): Promise<PoolReport[]>
  /** Has the log say what a person does with the node besides. */
  note(what: string): Promise<void>
}

/** An engine of this process, started, as a keeper. */
export function buildEngineKeeper(engine: Engine): Keeper {
  return {
    list: () => engine.list(),
    find: (name) => engine.find(name),
    grow: async (name, sizeBytes) => {
      const { action } = await engine.grow(name, sizeBytes)
      const volume = await engine.find(name)
      if (volume) return { action, volume }
      throw new VolumeError('not-found', `Cannot show volume ${name}: it has just been removed.`)
    },
    remove: (name) => engine.remove(name),
    pools: async () => [await engine.report()],
    note: async () => {},
  }
}

/** The daemon behind a socket as a keeper. Its calls also throw `ClientError`, when there is no answer. */
export function buildDaemonKeeper(
  socketPath: string,
  options: Pick<ClientRequest, 'idleTimeoutMs' | 'user'> = {},
): Keeper {
  const ask = async <S extends v.GenericSchema>(
    schema: S,
    method: ClientRequest['method'],
    path: string,
    body?: object,
  ) => {
    const answer = await request({ socketPath, method, path, ...(body ? { body } : {}), ...options })
    return decodeAnswer(schema, `${method} ${path}`, answer)
  }
  const pathOf = (name: string) => `/v1/volumes/${encodeURIComponent(name)}`
  return {
    list: async () => (await ask(v.object({ volumes: v.array(volumeSchema) }), 'GET', '/v1/volumes')).volumes,
    find: async (name) => {
      try {
        return (await ask(v.object({ volume: volumeSchema }), 'GET', pathOf(name))).volume
      } catch (error) {
        if (error instanceof VolumeError && error.code === 'not-found') return undefined
        throw error
      }
    },
    grow: async (name, sizeBytes) =>
      await ask(grownSchema, 'POST', `${pathOf(name)}/grow`, { sizeBytes: String(sizeBytes) }),
    remove: async (name) => await ask(removedSchema, 'DELETE', pathOf(name)),
    note: async (what) => {
      await ask(v.object({}), 'POST', '/v1/notes', { what })
    },
    pools: async () => (await ask(v.object({ pools: v.array(poolSchema) }), 'GET', '/v1/pools')).pools,
  }
}

const bytes = v.pipe(
  v.string(),
  v.regex(/^[0-9]{1,20}$/),
  v.transform((digits) => BigInt(digits)),
)
const time = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.transform((text) => new Date(text)),
)

const volumeSchema = v.object({
  name: v.string(),
  driverKind: v.picklist(driverKinds),
  sizeBytes: bytes,
  state: v.picklist(volumeStates),
  fsType: v.exactOptional(v.string()),
  path: v.exactOptional(v.string()),
  createdAt: v.exactOptional(time),
  mounts: v.array(v.object({ target: v.string(), readOnly: v.boolean() })),
  usage: v.exactOptional(
    v.object({ sizeBytes: bytes, usedBytes: bytes, freeBytes: bytes, inodes: bytes, inodesUsed: bytes }),
  ),
  failure: v.exactOptional(
    v.object({ operation: v.string(), message: v.string(), at: time, target: v.exactOptional(v.string()) }),
  ),
  front: v.exactOptional(v.string()),
  claim: v.exactOptional(v.object({ namespace: v.string(), name: v.string() })),
  problems: v.array(v.string()),
})
const grownSchema = v.object({ action: v.picklist(['grown', 'unchanged']), volume: volumeSchema })
const removedSchema = v.object({ action: v.picklist(['removed', 'unchanged']) })

const poolSchema = v.object({
  name: v.string(),
  id: v.exactOptional(v.string()),
  driverKind: v.picklist(driverKinds),
  sizeBytes: bytes,
  allocatedBytes: bytes,
  freeBytes: bytes,
  volumes: v.number(),
  unitBytes: bytes,
  enforcesSize: v.boolean(),
  thin: v.exactOptional(
    v.object({ dataPercent: v.number(), metadataPercent: v.number(), overcommitRatio: v.number() }),
  ),
  problems: v.array(v.string()),
})

const errorCodes = [
  'invalid',
  'not-found',
  'lost',
  'exists',
  'no-space',
  'busy',
  'unavailable',
  'stopping',
  'failed',
] as const satisfies VolumeErrorCode[]
const failureSchema = v.object({
  error: v.object({ code: v.fallback(v.picklist(errorCodes), 'failed'), message: v.string() }),
})
/** What the daemon says of a request that reached none of its routes. */
const refusalSchema = v.object({ status: v.literal('Failure'), message: v.string() })

/**
 * What the daemon answered. Throws the `VolumeError` that it reports; its HTTP status says nothing when the work took
 * long, as it was sent before.
 */
function decodeAnswer<S extends v.GenericSchema>(
  schema: S,
  asked: string,
  { body, statusCode }: ClientAnswer,
): v.InferOutput<S> {
  const failure = v.safeParse(failureSchema, body)
  if (failure.success) throw new VolumeError(failure.output.error.code, failure.output.error.message)
  const refusal = v.safeParse(refusalSchema, body)
  if (refusal.success) throw new VolumeError('failed', refusal.output.message)
  const result = v.safeParse(schema, body)
  if (result.success) return result.output
  const issue = result.issues[0]
  throw new VolumeError(
    'failed',
    `Cannot use the daemon's answer to ${asked} (HTTP ${statusCode}): ${v.getDotPath(issue) ?? 'it'} must be ${issue.expected}: it is ${issue.received}. Is it of another version?`,
  )
}
