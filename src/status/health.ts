import { Hono } from 'hono'
import type { Backlog } from '../meter.ts'

/** Looks at one thing that must be well: gives the reason why it is not, such as `the pool has not been read yet`. */
export type Check = () => string | undefined | Promise<string | undefined>

/** What a probe goes by. */
export interface Health {
  /** Only what a new start would mend: the kubelet starts a container again for it. */
  alive: readonly Check[]
  /** What must be there for the component to do its work. */
  ready: readonly Check[]
}

/** The reasons of those that are not well. */
async function findReasons(checks: readonly Check[]): Promise<string[]> {
  return (await Promise.all(checks.map((check) => check()))).filter((reason) => reason !== undefined)
}

/** What has to be well for a component to do its work: what is not alive does none. */
const allOf = ({ alive, ready }: Health): readonly Check[] => [...alive, ...ready]

/** Whether `/readyz` says yes. */
export async function isReady(health: Health): Promise<boolean> {
  return (await findReasons(allOf(health))).length === 0
}

/** `/healthz` and `/readyz`: 200, or 503 with the reasons. A process that cannot answer at all is not alive either. */
export function buildHealthRoutes(health: Health, version: string): Hono {
  const app = new Hono()
  const probe = (path: string, checks: () => readonly Check[]) =>
    app.get(path, async (c) => {
      const reasons = await findReasons(checks())
      if (reasons.length === 0) return c.json({ status: 'ok', version })
      return c.json({ status: 'failed', version, reasons }, 503)
    })
  probe('/healthz', () => health.alive)
  probe('/readyz', () => allOf(health))
  return app
}

/** A command of LVM that works for longer hangs: what else is wanted of its volume group waits behind it. */
const stuckMs = 60_000

/** Why LVM serves nobody, if so. A new start would wait behind the same disk. */
export function findStuckLvm(backlogs: Iterable<Backlog>): string | undefined {
  const stuck = [...backlogs].find(({ name, longestMs }) => name === 'lvm' && longestMs > stuckMs)
  return (
    stuck &&
    `an LVM command has been running for ${Math.round(stuck.longestMs / 1000)} s and ${stuck.waiting} wait behind it`
  )
}
