import { formatSize } from '../../text/quantity.ts'
import { messageOf, VolumeError } from '../../volume/errors.ts'
import type { Grown } from '../../volume/pool.ts'
import { ApiError } from '../client/api.ts'
import { adviceOnRefusal } from '../model/growth.ts'
import { isToGrow, made, promise, withDelay, withoutGrowth, withRefusal } from '../model/ledger.ts'
import type { NodeContext } from './context.ts'
import type { HeldVolume } from './held-volumes.ts'

/** Grants the growth of flex volumes that a kubelet asks for, or refuses it; and grows those of CSI as it was granted. */
export class Growing {
  readonly #context: NodeContext

  constructor(context: NodeContext) {
    this.#context = context
  }

  async grow(name: string, sizeBytes: bigint): Promise<Grown> {
    return await this.#context.parts.held.hold(name, async (held) => await this.#grow(held, sizeBytes))
  }

  async #grow(held: HeldVolume, sizeBytes: bigint): Promise<Grown> {
    const { name } = held
    const stored = await held.stored()
    // Of a PV that is not known here, as after a start, the note tells.
    const isCsi = (this.#context.parts.volumes.objects.get(name) ?? (await held.note()))?.front === 'csi'
    if (stored && isCsi) {
      // Done, mostly, before the kubelet asks: then nothing is started for it.
      await this.growGranted(held)
      return await this.#mustHaveGrown(held, sizeBytes)
    }
    if (!stored || sizeBytes <= stored.sizeBytes) return await held.grow(sizeBytes)
    try {
      await held.changeEntry((_, ledger) => promise(ledger, name, sizeBytes))
    } catch (error) {
      await this.#sayNotGrown(name, error)
      throw error instanceof ApiError
        ? new VolumeError('failed', `Cannot grow ${name} while it is unknown whether there is room: ${error.message}`)
        : error
    }
    try {
      return await this.#growHeld(held, sizeBytes)
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
            this.#context.parts.log.warn(messageOf(error), this.#context.about(name))
            this.#context.parts.lookAgain(name)
          })
    }
  }

  /** Makes a CSI volume as large as the provisioner has promised it, who says of that in PV and claim. */
  async growGranted(held: HeldVolume): Promise<void> {
    const { entry } = held
    if (!entry || !isToGrow(entry)) return
    try {
      // Also where the device is that large: of its filesystem nobody knows.
      const { volume } = await this.#growHeld(held, entry.promisedBytes)
      await held.changeEntry((entry) => made(entry, volume.sizeBytes, entry?.madeFor))
    } catch (error) {
      await this.#sayNotGrown(held.name, error)
      if (!(error instanceof VolumeError && error.code === 'no-space')) {
        await this.noteDelay(held, error)
        throw error
      }
      // Asking the machine again and again gives nothing; who granted it is told, and asks for less or later.
      const { message } = error
      await held.changeEntry((now) => (now?.promisedBytes === entry.promisedBytes ? withRefusal(now, message) : now))
    }
  }

  /** Has the provisioner say in the claim why it has not grown yet. */
  async noteDelay(held: HeldVolume, error: unknown): Promise<void> {
    if (!(error instanceof VolumeError) || error.code === 'stopping') return
    await held
      .changeEntry((entry) => entry && withDelay(entry, error.message))
      .catch((other) => this.#context.parts.log.warn(messageOf(other), this.#context.about(held.name)))
  }

  async #growHeld(held: HeldVolume, sizeBytes: bigint): Promise<Grown> {
    const { name } = held
    const grown = await held.grow(sizeBytes)
    const { sizeBytes: grownBytes } = grown.volume
    const about = { ...this.#context.about(name), sizeBytes: grownBytes }
    this.#context.parts.log.info(`Grew volume ${name} to ${formatSize(grownBytes)}.`, about)
    return grown
  }

  /** Throws `no-space` where nobody has granted that much. */
  async #mustHaveGrown(held: HeldVolume, sizeBytes: bigint): Promise<Grown> {
    const stored = await held.stored()
    if (stored && stored.sizeBytes >= sizeBytes) return { action: 'unchanged', volume: stored }
    throw new VolumeError(
      'no-space',
      `Cannot grow ${held.name} to ${formatSize(sizeBytes)} as that was not granted: it has ${formatSize(stored?.sizeBytes ?? 0n)}. Raise the request of its claim.`,
    )
  }

  async #sayNotGrown(name: string, error: unknown): Promise<void> {
    const volume = this.#context.parts.volumes.objects.get(name)
    const advice = error instanceof VolumeError && error.code === 'no-space' ? ` ${adviceOnRefusal}` : ''
    if (volume) await this.#context.say(volume, 'VolumeNotGrown', `${messageOf(error)}${advice}`)
  }
}
