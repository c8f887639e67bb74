import type { Admission, Request } from '../../daemon/front.ts'
import { messageOf, VolumeError } from '../../volume/errors.ts'
import { optionsOf } from '../fronts/flex.ts'
import { isToGrow } from '../model/ledger.ts'
import type { VolumeFacts } from '../model/persistent-volume.ts'
import type { NodeContext } from './context.ts'
import type { Growing } from './growing.ts'
import type { Making } from './making.ts'
import { type Note, noteOf } from './note.ts'
import type { OrphanedMounts } from './orphaned-mounts.ts'
import { mustBeTheirs } from './who-may-mount.ts'

/** Says which pod may have which volume, and how. */
export class Admitting {
  readonly #context: NodeContext
  readonly #making: Making
  readonly #growing: Growing
  readonly #orphanedMounts: Pick<OrphanedMounts, 'note' | 'podOf'>

  constructor(
    context: NodeContext,
    { making, growing }: { making: Making; growing: Growing },
    orphanedMounts: Pick<OrphanedMounts, 'note' | 'podOf'>,
  ) {
    this.#context = context
    this.#making = making
    this.#growing = growing
    this.#orphanedMounts = orphanedMounts
  }

  async admit<T>(
    { front, volumeName, podUid, options }: Request,
    work: (admission: Admission) => Promise<T>,
  ): Promise<T> {
    const { api, node, held } = this.#context.parts
    const known = await this.#findVolume(volumeName)
    if (!known)
      throw new VolumeError(
        'not-found',
        `Cannot mount ${volumeName} as there is no PersistentVolume of that name on node ${node}.`,
      )
    if (known.note.front !== front)
      throw new VolumeError(
        'invalid',
        `Cannot mount ${volumeName} by ${front} as its PersistentVolume is one of ${known.note.front}.`,
      )
    // A CSI volume cannot be named by a pod: the kubelet found it by the pod's claim.
    if (front === 'flex') await mustBeTheirs(api, volumeName, known.note, options, podUid)
    if (known.volume) {
      await this.#mustBeMade(known.volume)
      await this.#growUnmounted(known.volume)
    }
    await this.#orphanedMounts.note(podUid, options.pod)
    const { fsType, mountOptions } = optionsOf(known.note)
    const admission = { readOnly: options.readOnly, mountOptions, ...(fsType ? { fsType } : {}) }
    if (!known.note.isForOnePod || podUid === undefined) return await work(admission)
    return await held.hold(volumeName, async () => {
      await this.#mustBeAlone(volumeName, podUid)
      return await work(admission)
    })
  }

  /**
   * The kubelet holds to ReadWriteOncePod by a name of the volume that differs between pods where nothing attaches it
   * (GenerateMountVolumeFunc, v1.37.2); what it says of the others is said here. Throws `busy`.
   */
  async #mustBeAlone(name: string, podUid: string): Promise<void> {
    const { mounts } = (await this.#context.parts.engine.find(name)) ?? { mounts: [] }
    const others = mounts.map(({ target }) => this.#orphanedMounts.podOf(target)).filter((pod) => pod && pod !== podUid)
    if (others.length > 0)
      throw new VolumeError(
        'busy',
        `Cannot mount ${name}: volume uses the ReadWriteOncePod access mode and is already in use by another pod (${others[0]}).`,
      )
  }

  /**
   * What was to grow while nobody had it grows before it is mounted: then the kernel may forbid it. Of a CSI volume only what
   * is granted counts.
   */
  async #growUnmounted({ name, front, capacityBytes }: VolumeFacts): Promise<void> {
    const { engine, held, ledger, log } = this.#context.parts
    const stored = await engine.stored(name)
    if (!stored) return
    const entry = ledger.latest?.entries.get(name)
    const isToGrowNow = front === 'csi' ? entry !== undefined && isToGrow(entry) : capacityBytes > stored.sizeBytes
    if (!isToGrowNow || (await engine.find(name))?.mounts.length !== 0) return
    const growing: Promise<unknown> =
      front === 'csi'
        ? held.hold(name, (volume) => this.#growing.growGranted(volume))
        : this.#growing.grow(name, capacityBytes)
    // Its owner is told of a refusal, and it is tried again; the pod may have what there is.
    await growing.catch((error) => log.warn(messageOf(error), this.#context.about(name)))
  }

  /** Throws `not-found` for a volume on its way out, and makes one that never was. */
  async #mustBeMade(known: VolumeFacts): Promise<void> {
    const { name } = known
    const refuseRemoved = (volume: VolumeFacts | undefined) => {
      if (volume && (!volume.isDeleting || volume.isInUse)) return volume
      throw new VolumeError('not-found', `Cannot mount ${name} as it is being removed.`)
    }
    refuseRemoved(known)
    const { engine, notes, held, volumes } = this.#context.parts
    // Nothing to wait for, also while the API server is away.
    if ((await notes.read(name)) && (await engine.stored(name))) return
    await held.hold(name, async (volume) => {
      const now = volumes.objects.get(name) ?? (await this.#context.readVolume(name))
      await this.#making.ensure(volume, refuseRemoved(now))
    })
  }

  /** What is known of a volume: from the API server, or noted here while it is away. */
  async #findVolume(name: string): Promise<{ note: Note; volume?: VolumeFacts } | undefined> {
    const { volumes, notes, node } = this.#context.parts
    const cached = volumes.objects.get(name)
    if (cached) return { note: noteOf(cached), volume: cached }
    const note = await notes.read(name)
    if (note) return { note }
    const volume = await this.#context.readVolume(name)
    return volume && volume.node === node ? { note: noteOf(volume), volume } : undefined
  }
}
