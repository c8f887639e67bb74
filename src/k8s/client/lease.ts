import type { V1Lease } from '@kubernetes/client-node'
import type { Log } from '../../log.ts'
import { messageOf } from '../../volume/errors.ts'
import { type Api, ApiError, type ApiRequest, hasStatus, orMissing } from './api.ts'
import type { Clock } from './clock.ts'

export interface LeaseParts {
  api: Api
  namespace: string
  name: string
  /** Who we are, unlike anybody else: the pod's name and something random. */
  identity: string
  clock: Clock
  now: () => Date
  log: Pick<Log, 'info' | 'warn'>
}

/** A holder who has not renewed for so long is taken for dead. */
const leaseMs = 10_000
/** A holder who could not renew for so long stops acting: well before anybody else begins. */
const deadlineMs = 7000
const retryMs = 1000

/**
 * Waits until the Lease is ours and then runs `work`, with an API that refuses every request once the Lease may be
 * another's. Resolves when `signal` has aborted and `work` has ended; throws when the Lease was lost (coordination.k8s.io/v1;
 * the same rules as client-go's leaderelection: a clock is only ever compared with itself).
 */
export async function lead(
  parts: LeaseParts,
  signal: AbortSignal,
  work: (api: Api, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const { identity, name, clock, log } = parts
  const lease = new LeaseRecord(parts)
  while (!signal.aborted && !(await lease.take().catch(warn))) await clock.sleep(retryMs, signal)
  if (signal.aborted) return
  log.info(`Leading as ${identity} (Lease ${name}).`, { lease: name, identity })

  const lost = new AbortController()
  const working = work(fence(parts.api, lease), AbortSignal.any([signal, lost.signal]))
  const ended = working.then(
    () => 'ended',
    () => 'ended',
  )
  while (!signal.aborted && lease.isHeld) {
    const next = await Promise.race([ended, clock.sleep(retryMs, signal)])
    if (next === 'ended' || signal.aborted) break
    // A request that hangs must not keep us from seeing that the time is up.
    await Promise.race([lease.take().catch(warn), clock.sleep(retryMs * 2, signal)])
  }
  if (!signal.aborted && !lease.isHeld) {
    lost.abort()
    await ended
    throw new Error(`Lost Lease ${name}: another holds it, or it could not be renewed for ${deadlineMs / 1000} s.`)
  }
  await working
  await lease.release().catch(warn)

  function warn(error: unknown): false {
    log.warn(`Cannot renew Lease ${name}: ${messageOf(error)}`)
    return false
  }
}

class LeaseRecord {
  readonly #parts: LeaseParts
  readonly #path: string
  /** The newest record of another's, and when we first saw it. */
  #seen: { version: string; at: number } | undefined
  #renewedAt = Number.NEGATIVE_INFINITY

  constructor(parts: LeaseParts) {
    this.#parts = parts
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${parts.namespace}/leases`
  }

  get isHeld(): boolean {
    return this.#parts.clock.now() - this.#renewedAt < deadlineMs
  }

  /** Takes or renews the Lease if it is free, ours, or its holder is silent for too long; says whether it is ours. */
  async take(): Promise<boolean> {
    const { api, identity } = this.#parts
    const askedAt = this.#parts.clock.now()
    const found = await orMissing(api.send<V1Lease>({ method: 'GET', path: `${this.#path}/${this.#parts.name}` }))
    const holder = found?.spec?.holderIdentity ?? ''
    if (found && holder && holder !== identity) {
      const version = found.metadata?.resourceVersion ?? ''
      if (this.#seen?.version !== version) this.#seen = { version, at: askedAt }
      if (askedAt - this.#seen.at < leaseMs) {
        // Taken from us, as when somebody had deleted it: no need to wait for our deadline.
        this.#renewedAt = Number.NEGATIVE_INFINITY
        return false
      }
    }
    try {
      await this.#write(found, identity)
    } catch (error) {
      if (hasStatus(error, 409)) return false
      throw error
    }
    this.#renewedAt = askedAt
    return true
  }

  /** Lets the next one have it at once. */
  async release(): Promise<void> {
    const { api, identity } = this.#parts
    const found = await orMissing(api.send<V1Lease>({ method: 'GET', path: `${this.#path}/${this.#parts.name}` }))
    this.#renewedAt = Number.NEGATIVE_INFINITY
    if (found?.spec?.holderIdentity === identity) await this.#write(found, '')
  }

  async #write(found: V1Lease | undefined, holder: string): Promise<void> {
    const { api, namespace, name, now } = this.#parts
    // MicroTime of the API: six digits.
    const time = now().toISOString().replace('Z', '000Z')
    const before = found?.spec
    const isNew = before?.holderIdentity !== holder
    const body = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: found ? { name, namespace, resourceVersion: found.metadata?.resourceVersion } : { name, namespace },
      spec: {
        holderIdentity: holder,
        leaseDurationSeconds: leaseMs / 1000,
        renewTime: time,
        acquireTime: isNew ? time : before?.acquireTime,
        leaseTransitions: (before?.leaseTransitions ?? 0) + (isNew && holder ? 1 : 0),
      },
    }
    if (found) await api.send({ method: 'PUT', path: `${this.#path}/${name}`, body })
    else await api.send({ method: 'POST', path: this.#path, body })
  }
}

/** An API that sends nothing when the Lease is not surely ours. */
function fence(api: Api, lease: LeaseRecord): Api {
  return {
    watch: (path, query, signal) => api.watch(path, query, signal),
    send: async <T>(request: ApiRequest): Promise<T> => {
      if (!lease.isHeld)
        throw new ApiError(`Cannot send ${request.method} ${request.path} as we may no longer lead.`, { status: 0 })
      return await api.send<T>(request)
    },
  }
}
