import { messageOf, VolumeError } from '../../volume/errors.ts'
import type { StoredVolume } from '../../volume/pool.ts'
import { ApiError } from '../client/api.ts'
import { made, promise, withoutGrowth } from '../model/ledger.ts'
import type { NodeContext } from './context.ts'
import type { HeldVolume } from './held-volumes.ts'

/** Grants growth that a kubelet asks for, or refuses it. */
export class Growing {
  readonly #context: NodeContext

  constructor(context: NodeContext) {
    this.#context = context
  }

  async grow(name: string, sizeBytes: bigint): Promise<{ action: 'grown' | 'unchanged'; volume: StoredVolume }> {
    return await this.#context.parts.held.hold(name, async (held) => await this.#grow(held, sizeBytes))
  }

  async #grow(held: HeldVolume, sizeBytes: bigint): Promise<{ action: 'grown' | 'unchanged'; volume: StoredVolume }> {
    const { name } = held
    const { log } = this.#context.parts
    const stored = await held.stored()
    if (!stored || sizeBytes <= stored.sizeBytes) return await held.grow(sizeBytes)
    try {
      await held.changeEntry((_, ledger) => promise(ledger, name, sizeBytes))
    } catch (error) {
      await this.#sayNotGrown(name, error)
      throw error instanceof ApiError
        ? new VolumeError('failed', `Cannot grow ${name} while nobody can say whether there is room: ${error.message}`)
        : error
    }
    try {
      const grown = await held.grow(sizeBytes)
      const { sizeBytes: grownBytes } = grown.volume
      log.info(`Grew volume ${name} to ${grownBytes} bytes.`, { ...this.#context.about(name), sizeBytes: grownBytes })
      return grown
    } catch (error) {
      await this.#sayNotGrown(name, error)
      throw error
    } finally {
      const after = await held.stored()
      // What was granted here is given back here, where the machine could not give it.
      if (after)
        await held
          .changeEntry((entry) => withoutGrowth(made(entry, after.sizeBytes, entry?.madeFor)))
          .catch((error) => {
            log.warn(messageOf(error), this.#context.about(name))
            this.#context.parts.lookAgain(name)
          })
    }
  }

  async #sayNotGrown(name: string, error: unknown): Promise<void> {
    const volume = this.#context.parts.volumes.objects.get(name)
    const advice =
      error instanceof VolumeError && error.code === 'no-space'
        ? ' Lower the request of the claim to take it back, to more than it has: Kubernetes allows no less.'
        : ''
    if (volume) await this.#context.say(volume, 'VolumeNotGrown', `${messageOf(error)}${advice}`)
  }
}
