import { type Api, hasStatus } from '../client/api.ts'
import type { Clock } from '../client/clock.ts'
import { buildLease } from '../model/lease.ts'

/** Asked each 30 s, it renews each minute. */
const renewMs = 50_000
/** Who is silent for so long is taken for dead; a renewal that fails is tried again within seconds. */
const durationSeconds = 150

/** Says by a Lease of the node that its daemon does its work. */
export class Heartbeat {
  readonly #parts: { api: Api; namespace: string; node: string; clock: Pick<Clock, 'now'>; now: () => Date }
  #renewedAt = Number.NEGATIVE_INFINITY

  constructor(parts: { api: Api; namespace: string; node: string; clock: Pick<Clock, 'now'>; now: () => Date }) {
    this.#parts = parts
  }

  /** Renews the Lease, unless that was done just now. */
  async beat(): Promise<void> {
    const { api, namespace, node, clock, now } = this.#parts
    const beganAt = clock.now()
    if (beganAt - this.#renewedAt < renewMs) return
    const body = buildLease(namespace, node, durationSeconds, now())
    const path = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`
    try {
      await api.send({ method: 'PATCH', path: `${path}/${body.metadata.name}`, body })
    } catch (error) {
      if (!hasStatus(error, 404)) throw error
      await api.send({ method: 'POST', path, body })
    }
    this.#renewedAt = beganAt
  }
}
