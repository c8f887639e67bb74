import { codeOf, messageOf, VolumeError } from '../../volume/errors.ts'
import { letVolumeGo, readVolume } from '../model/lookups.ts'
import { finalizer } from '../model/names.ts'
import { aboutVolume } from '../model/persistent-volume.ts'
import type { NodeContext } from './context.ts'
import type { HeldVolume } from './held-volumes.ts'
import type { Making } from './making.ts'

/**
 * Removes the volumes of PVs on their way out, and those that have none.
 *
 * Invariant: data is removed only for a PV that the API server, asked at that moment, has on its way out, or has not.
 */
export class Removing {
  readonly #context: NodeContext
  readonly #making: Making

  constructor(context: NodeContext, making: Making) {
    this.#context = context
    this.#making = making
  }

  /** Removes what a PV on its way out has here, if its policy says so, and lets the PV go. */
  async letGo(held: HeldVolume): Promise<void> {
    const { name } = held
    const { api, node, log } = this.#context.parts
    const volume = await this.#context.readVolume(name)
    if (!volume?.isDeleting || volume.node !== node) return
    if (volume.isInUse || volume.phase === 'Bound' || !volume.finalizers.includes(finalizer)) return
    if (volume.deletesData) {
      try {
        if (!(await held.stored())) await this.#making.takeOver(held, volume).catch(unlessNotFound)
        const { action } = await held.remove()
        if (action === 'removed')
          log.info(`Removed volume ${name}, as its PersistentVolume is deleted.`, aboutVolume(volume))
      } catch (error) {
        await this.#context.say(volume, 'VolumeNotRemoved', messageOf(error))
        throw error
      }
      await this.#forget(held)
    } else if (held.entry?.madeFor) await this.#making.markMade(held, volume)
    await letVolumeGo(api, volume)
  }

  /** Removes a volume without a PV. Throws `busy` where there is one. */
  async remove(name: string): Promise<{ action: 'removed' | 'unchanged' }> {
    const { api, held, log } = this.#context.parts
    return await held.hold(name, async (volume) => {
      if (await readVolume(api, name))
        throw new VolumeError(
          'busy',
          `Cannot remove ${name} as it belongs to PersistentVolume ${name}; delete its claim, or the PersistentVolume.`,
        )
      const removed = await volume.remove()
      if (removed.action === 'removed')
        log.info(`Removed volume ${name}, which has no PersistentVolume.`, this.#context.about(name))
      await this.#forget(volume)
      return removed
    })
  }

  /** What is kept of a volume goes after it. */
  async #forget(held: HeldVolume): Promise<void> {
    await held.writeNote(undefined)
    await held.changeEntry(() => undefined)
  }
}

function unlessNotFound(error: unknown): void {
  if (codeOf(error) !== 'not-found') throw error
}
