import type { Engine } from '../volume/engine.ts'
import type { VolumeView } from '../volume/view.ts'
import type { Front } from './front.ts'

type Known = Pick<Front, 'problemsOf' | 'claimOf' | 'frontOf' | 'lost'>

/** All volumes of the node for people: what the engine sees of them, and what their front knows. */
export async function listVolumes(engine: Engine, front: Known): Promise<VolumeView[]> {
  const seen = await engine.list()
  const names = new Set(seen.map(({ name }) => name))
  const lost = front.lost().filter(({ name }) => !names.has(name))
  const views: VolumeView[] = lost.map(({ name, sizeBytes, message }) => ({
    name,
    driverKind: engine.driverKind,
    sizeBytes,
    state: 'lost',
    mounts: [],
    problems: [message],
  }))
  return [...seen, ...views].map((view) => withFront(view, front)).sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** One of them. */
export async function findVolume(engine: Engine, front: Known, name: string): Promise<VolumeView | undefined> {
  const seen = await engine.find(name)
  if (seen) return withFront(seen, front)
  return front.lost().some((one) => one.name === name)
    ? (await listVolumes(engine, front)).find((one) => one.name === name)
    : undefined
}

function withFront(view: VolumeView, front: Known): VolumeView {
  const [claim, by] = [front.claimOf(view.name), front.frontOf(view.name)]
  return {
    ...view,
    ...(claim ? { claim: { namespace: claim.namespace, name: claim.name } } : {}),
    ...(by ? { front: by } : {}),
    problems: [...view.problems, ...front.problemsOf(view.name)],
  }
}
