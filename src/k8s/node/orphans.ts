import type { Log } from '../../log.ts'
import type { Engine } from '../../volume/engine.ts'
import { messageOf } from '../../volume/errors.ts'
import type { VolumeView } from '../../volume/view.ts'
import type { Api } from '../client/api.ts'
import type { Clock } from '../client/clock.ts'
import { nodeObject, type Recorder } from '../client/events.ts'
import type { LedgerKeeper } from '../model/ledger-keeper.ts'
import { readVolume } from '../model/lookups.ts'

export interface OrphansParts {
  api: Api
  node: string
  engine: Pick<Engine, 'list'>
  keeper: Pick<LedgerKeeper, 'latest'>
  recorder: Recorder
  /** How long a volume's PV must be gone until the volume is removed; for ever where nothing is said. */
  removeAfterMs: number | undefined
  /** Whether a PV of that name is there, as far as a watch has seen. */
  isKnown: (name: string) => boolean
  /** Removes the volume, and what is kept of it, unless the API server, asked then, has a PV of that name. */
  remove: (name: string) => Promise<unknown>
  /** For how long it is gone, which setting the hour must not change. */
  clock: Pick<Clock, 'now'>
  /** For what people read. */
  now: () => Date
  log: Pick<Log, 'info' | 'warn'>
}

/**
 * Volumes whose PV is gone and did not take them along: somebody took its finalizer away, or the node was away when it
 * was given up. They are told of, and removed only where the operator wants that, after a grace time.
 *
 * Invariant: an orphan is a volume of which this cluster's ledger says that it was made for a PV that is to be deleted
 * with its data, and for which the API server, asked at that moment, has no PV. So a volume of another cluster, one that
 * is retained, or one of a PV whose label was changed, is none.
 */
export class Orphans {
  readonly #parts: OrphansParts
  /** When each was first seen to be one: by the clock, and what hour it was. */
  readonly #since = new Map<string, { at: number; hour: number }>()

  constructor(parts: OrphansParts) {
    this.#parts = parts
  }

  /** Looks at all volumes once. Throws `ApiError` when the API server cannot be asked. */
  async look(): Promise<void> {
    const volumes = await this.#parts.engine.list()
    const orphans = new Set<string>()
    for (const volume of volumes)
      if (await this.#isOrphan(volume.name)) {
        orphans.add(volume.name)
        await this.#treat(volume)
      }
    for (const name of this.#since.keys()) if (!orphans.has(name)) this.#since.delete(name)
  }

  async #isOrphan(name: string): Promise<boolean> {
    const { api, isKnown, keeper } = this.#parts
    if (isKnown(name) || !keeper.latest?.entries.get(name)?.madeFor) return false
    return (await readVolume(api, name)) === undefined
  }

  async #treat({ name, path, mounts }: VolumeView): Promise<void> {
    const { removeAfterMs, remove, clock, now, log } = this.#parts
    const since = this.#since.get(name) ?? { at: clock.now(), hour: now().getTime() }
    this.#since.set(name, since)
    const what = `Volume ${name} at ${path} has no PersistentVolume`
    if (removeAfterMs === undefined)
      return await this.#say(
        'VolumeOrphaned',
        `${what}. It is kept: "elastic-local volumes remove ${name}" removes its data, "elastic-local volumes adopt ${name} --claim <namespace>/<name>" prints a PersistentVolume for it.`,
      )
    const until = new Date(since.hour + removeAfterMs).toISOString()
    if (clock.now() - since.at < removeAfterMs)
      return await this.#say('VolumeOrphaned', `${what}. It is removed after ${until}.`)
    if (mounts.length > 0)
      return await this.#say('VolumeOrphaned', `${what}. It is not removed as it is mounted on ${mounts[0]?.target}.`)
    try {
      await remove(name)
      await this.#say('VolumeRemoved', `${what}, and was removed, as --remove-orphans-after says.`)
    } catch (error) {
      log.warn(messageOf(error), { volume: name, node: this.#parts.node })
      await this.#say('VolumeNotRemoved', messageOf(error))
    }
  }

  async #say(reason: string, message: string): Promise<void> {
    const { recorder, node } = this.#parts
    await recorder.say(nodeObject(node), 'Warning', reason, message)
  }
}
