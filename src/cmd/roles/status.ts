import type { Server } from 'node:http'
import type { Hono } from 'hono'
import { type Address, close, formatAddress, listenOn } from '../../daemon/server.ts'
import type { Log } from '../../log.ts'
import { buildMeter, type Meter } from '../../meter.ts'
import { buildStatusApp } from '../../status/app.ts'
import { type Check, type Health, isReady } from '../../status/health.ts'
import type { MetricsParts } from '../../status/metrics.ts'
import { buildInfo } from '../build-info.ts'

/** What a component tells of itself while it runs. */
export interface Status {
  meter: Meter
  /** Checks are added as there is more to look at. */
  health: { [K in keyof Health]: Check[] }
  /**
   * Begins to count, and serves that and `page` by HTTP, if there is an address for it. Throws `failed` when it cannot be
   * used.
   */
  serve(address: Address | undefined, page?: Hono): Promise<void>
  close(): Promise<void>
}

export function buildStatus(source: MetricsParts['source'], log: Log): Status {
  const health: Status['health'] = { alive: [], ready: [] }
  const meter = buildMeter(log)
  let server: Server | undefined
  return {
    meter,
    health,
    serve: async (address, page) => {
      if (!address) return
      // Only here: without an address, none of it needs memory.
      const { buildMetrics } = await import('../../status/metrics.ts')
      const metrics = buildMetrics({
        build: buildInfo,
        backlogs: meter.backlogs,
        isReady: () => isReady(health),
        source,
        clock: performance,
      })
      meter.count(metrics.observe)
      const app = buildStatusApp({ metrics, health, version: buildInfo.version })
      // Last, as it answers to all that is left.
      if (page) app.route('/', page)
      server = await listenOn(app, address)
      log.info(`Metrics and health are at ${formatAddress(address)}.`)
    },
    close: async () => {
      if (server) await close(server)
    },
  }
}
