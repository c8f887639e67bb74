import { Hono } from 'hono'
import { type LeveledLog, logLevels } from '../log.ts'

/** `/v1/log-level`: tells the level, and changes it while the program runs. Only for a socket that is root's. */
export function buildLogLevelRoutes(log: LeveledLog): Hono {
  const app = new Hono()
  const path = '/v1/log-level'
  app.get(path, (c) => c.json({ level: log.level }))
  app.post(path, async (c) => {
    const body: unknown = await c.req.json().catch(() => undefined)
    const level = logLevels.find((known) => known === (body as { level?: unknown } | undefined)?.level)
    if (!level) {
      const message = `Cannot change the level as it must be one of ${logLevels.join(', ')}.`
      return c.json({ error: { code: 'invalid', message } }, 400)
    }
    log.level = level
    log.info(`The log level is ${level}.`)
    return c.json({ level })
  })
  return app
}
