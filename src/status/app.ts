import { Hono } from 'hono'
import { buildHealthRoutes, type Health } from './health.ts'
import type { Metrics } from './metrics.ts'

/** What anybody may ask a component by HTTP: it changes nothing. More pages are added to it with `route()`. */
export function buildStatusApp(parts: {
  metrics: Pick<Metrics, 'render' | 'contentType'>
  health: Health
  version: string
}): Hono {
  const { metrics, health, version } = parts
  const app = new Hono()
  app.get('/metrics', async (c) => c.body(await metrics.render(), 200, { 'content-type': metrics.contentType }))
  app.route('/', buildHealthRoutes(health, version))
  return app
}
