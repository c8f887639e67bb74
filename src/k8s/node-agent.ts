import { isDeepStrictEqual } from 'node:util'
import type { V1ConfigMap, V1PersistentVolume } from '@kubernetes/client-node'
import AsyncLock from 'async-lock'
import type { Admission, Front, Request } from '../daemon/front.ts'
import { parseOptions } from '../flex/options.ts'
import type { Log, LogFields } from '../log.ts'
import type { Meter } from '../meter.ts'
import type { Engine } from '../volume/engine.ts'
import { messageOf, VolumeError } from '../volume/errors.ts'
import type { PoolReport, StoredVolume } from '../volume/pool.ts'
import { type Api, ApiError } from './api.ts'
import type { Clock } from './clock.ts'
import type { Recorder } from './events.ts'
import { type Changes, type Entry, mustBeItsPool, parseLedger, promise, promisedBytes } from './ledger.ts'
import { LedgerKeeper } from './ledger-keeper.ts'
import { letVolumeGo, readVolume, volumePath, volumesPath } from './lookups.ts'
import { finalizer, ledgerLabel, makeAnewAnnotation, nodeLabel } from './names.ts'
import { type Note, type Notes, noteOf, optionsOf, specOf } from './note.ts'
import type { OrphanedMounts } from './orphaned-mounts.ts'
import { Orphans } from './orphans.ts'
import { aboutVolume, type ClaimRef, pickVolume, type VolumeFacts } from './persistent-volume.ts'
import { Publisher } from './publisher.ts'
import { WorkQueue } from './queue.ts'
import { aborted, type CopyState, Reflector } from './reflector.ts'
import { mustBeTheirs } from './who-may-mount.ts'

export interface NodeAgentParts {
  api: Api
  namespace: string
  node: string
  engine: Engine
  notes: Notes
  /** Runs work that a stop waits for. */
  drain: { run<T>(work: () => Promise<T>): Promise<T> }
  recorder: Recorder
  /** For which pods volumes are mounted, and what becomes of mounts whose pod is gone. */
  orphanedMounts: OrphanedMounts
  /** Whether volumes that the predecessor made for PVs are marked as ours. */
  takeover: boolean
  /** How long a volume's PV must be gone until the volume is removed; for ever where nothing is said. */
  removeAfterMs: number | undefined
  clock: Pick<Clock, 'now'>
  /** For what people read. */
  now: () => Date
  log: Pick<Log, 'info' | 'warn'>
  meter?: Pick<Meter, 'work' | 'backlogs'>
}

const concurrency = 8
/** What may have come apart is looked at again after so long. */
const settleMs = 600_000

/**
 * The cluster's side of a node: makes the volumes of the PVs that carry this node's label, removes those of PVs that are
 * on their way out, and says which pod may have which volume. It follows only what belongs to this node.
 *
 * Invariants: a volume is made only for an entry of the node's ledger that says it never was; once made, that is noted
 * here and then there, and it is never made again. Data is removed only for a PV that the API server, asked at that
 * moment, has on its way out.
 */
export class NodeAgent implements Front {
  readonly #parts: NodeAgentParts
  readonly #volumes: Reflector<V1PersistentVolume, VolumeFacts>
  readonly #ledger: Reflector<V1ConfigMap, string>
  readonly #keeper: LedgerKeeper
  readonly #publisher: Publisher
  readonly #queue: WorkQueue
  /** The pool, as it was seen first. */
  #pool: PoolReport | undefined
  readonly #orphans: Orphans
  /** A volume is made, for its PV or for a mount, or let go: never both at a time. */
  readonly #locks = new AsyncLock({ maxPending: Number.POSITIVE_INFINITY })
  /** Volumes that were to grow since the start: their promises may be ahead of them. */
  readonly #grown = new Set<string>()
  /** Volumes that were made here and are not there any more, as they were looked for last. */
  readonly #lost = new Set<string>()

  constructor(parts: NodeAgentParts) {
    this.#parts = parts
    const { api, namespace, node, engine, recorder, log, meter } = parts
    const labelSelector = `${nodeLabel}=${node}`
    this.#volumes = new Reflector({ api, log, path: volumesPath, query: { labelSelector }, pick: pickVolume })
    this.#keeper = new LedgerKeeper({ api, namespace, node })
    this.#ledger = new Reflector({
      api,
      log,
      path: `/api/v1/namespaces/${namespace}/configmaps`,
      query: { labelSelector: `${ledgerLabel},${labelSelector}` },
      pick: (object) => {
        try {
          this.#keeper.see(parseLedger(object))
        } catch (error) {
          log.warn(messageOf(error))
        }
        return object.metadata?.resourceVersion
      },
    })
    const report = () => engine.report()
    const initial = () => this.#knownEntries()
    this.#publisher = new Publisher({
      api,
      namespace,
      node,
      keeper: this.#keeper,
      report,
      initial,
      recorder,
      log,
      meter,
    })
    const work = (key: string) => parts.drain.run(() => this.#locks.acquire(key, () => this.#converge(key)))
    this.#queue = new WorkQueue({ name: 'volumes', about: (name) => this.#about(name), work, concurrency, log, meter })
    this.#orphans = new Orphans({
      ...parts,
      keeper: this.#keeper,
      isKnown: (name) => this.#volumes.objects.has(name),
      remove: (name) => this.#locks.acquire(name, () => this.remove(name)),
    })
    this.#volumes.onChange((key) => this.#queue.add(key))
    this.#ledger.onChange((_, now) => {
      if (!now) this.#keeper.see(undefined)
      this.#publisher.soon()
    })
  }

  /** What it follows. */
  get copies(): readonly CopyState[] {
    return [this.#volumes, this.#ledger, ...this.#publisher.copies]
  }

  /** What this node has promised in all, as it was seen last; nothing before there is a ledger. */
  get promisedBytes(): bigint | undefined {
    const { latest } = this.#keeper
    return latest && promisedBytes(latest)
  }

  /** How many volumes were made here and are not there any more. */
  get lostVolumes(): number {
    return this.#lost.size
  }

  #about(name: string): LogFields {
    const volume = this.#volumes.objects.get(name)
    return volume ? aboutVolume(volume) : { volume: name, node: this.#parts.node }
  }

  claimOf(name: string): ClaimRef | undefined {
    return this.#volumes.objects.get(name)?.claim
  }

  /** Follows the cluster until `signal` aborts; resolves when what was begun has ended. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.#volumes.run(signal),
      this.#ledger.run(signal),
      this.#publisher.run(signal),
      this.#settle(signal),
      this.#parts.orphanedMounts.run(signal),
    ])
    await this.#queue.stop()
  }

  /** Once all PVs are known, and then now and again: brings promises in line with what is there. */
  async #settle(signal: AbortSignal): Promise<void> {
    const stopped = aborted(signal)
    await Promise.race([Promise.all([this.#volumes.synced(), this.#ledger.synced()]), stopped])
    if (signal.aborted) return
    const { log, meter } = this.#parts
    const queue = new WorkQueue({
      name: 'ledger',
      about: () => ({ node: this.#parts.node }),
      work: () =>
        this.#parts.drain.run(async () => {
          await this.#labelTakenOver()
          await this.#reconcileEntries()
          await this.#orphans.look()
        }),
      concurrency: 1,
      log,
      meter,
    })
    queue.add('entries')
    const timer = setInterval(() => queue.add('entries'), settleMs)
    await stopped
    clearInterval(timer)
    await queue.stop()
  }

  async #converge(name: string): Promise<void> {
    const volume = this.#volumes.objects.get(name)
    if (!volume || volume.isDeleting) this.#lost.delete(name)
    if (!volume) return
    if (volume.isDeleting) return await this.#letGo(volume)
    try {
      await this.#ensureMade(volume)
    } catch (error) {
      if (error instanceof VolumeError) await this.#say(volume, 'VolumeNotMade', messageOf(error))
      throw error
    }
  }

  /** The volume of a PV, made if it never was. Throws `not-found` when it was made and is gone, `no-space`. */
  async #ensureMade(volume: VolumeFacts): Promise<void> {
    const { engine, notes, log } = this.#parts
    const { name } = volume
    this.#lost.delete(name)
    const note = await notes.read(name)
    const isNoted = note !== undefined
    const stored = (await engine.stored(name)) ?? (await this.#takeOver(volume))
    if (isNoted && stored) {
      // The PV was made anew, with another key.
      if (!isDeepStrictEqual(note, noteOf(volume))) await notes.write(name, noteOf(volume))
      // Noted here, but not there: something came between.
      const entry = this.#keeper.latest?.entries.get(name)
      if (entry && (entry.pendingFor || entry.madeFor !== madeFor(volume))) await this.#markMade(volume)
      return
    }
    const spec = specOf(volume)
    const claim = volume.claim ? `${volume.claim.namespace}/${volume.claim.name}` : name
    const isToBeMade = (entry: Entry | undefined) => Boolean(entry?.pendingFor) && !isNoted
    let entry: Entry | undefined
    let isLost = false
    this.#pool ??= await engine.report()
    const pool = this.#pool
    await this.#keeper.update((ledger) => {
      mustBeItsPool(ledger, pool)
      entry = ledger.entries.get(name)
      isLost = !stored && entry !== undefined && !isToBeMade(entry)
      if (isLost && !volume.mayBeMadeAnew) {
        this.#lost.add(name)
        throw lost(name, this.#parts.node)
      }
      if (entry && !isLost) return []
      // Nobody promised anything: a PV of the predecessor, of a person, or one whose ledger was lost.
      entry = stored ? madeEntry(stored.sizeBytes, madeFor(volume)) : promise(ledger, name, spec.sizeBytes, claim)
      return [[name, entry]]
    })
    if (stored && !entry?.pendingFor) return await notes.write(name, noteOf(volume))
    if (isLost)
      await this.#say(
        volume,
        'VolumeMadeAnew',
        `Made anew and empty, as ${makeAnewAnnotation} allows: its data was lost.`,
      )
    const { volume: made } = await engine.create(name, spec)
    await notes.write(name, noteOf(volume))
    log.info(`Made volume ${name} of ${made.sizeBytes} bytes.`, { ...aboutVolume(volume), sizeBytes: made.sizeBytes })
    await this.#markMade(volume)
  }

  /** What the predecessor made for a PV, which has no key; it is marked as ours where the operator wants that. */
  async #takeOver(volume: VolumeFacts): Promise<StoredVolume | undefined> {
    const { engine, takeover, log } = this.#parts
    const { name } = volume
    if (volume.hasKey) return undefined
    const there = (await engine.unmarked()).find((unmarked) => unmarked.name === name)
    if (!there) return undefined
    if (!takeover)
      throw new VolumeError(
        'exists',
        `Cannot use ${name} as ${there.path} is there without our mark. If it is the predecessor's, start the daemon with --takeover (docs/takeover.md).`,
      )
    const adopted = await engine.adopt(name, specOf(volume))
    log.info(`Took over volume ${name} at ${adopted.path}.`, aboutVolume(volume))
    return adopted
  }

  /** Gives PVs of the predecessor that name no node the label of this one, where their volumes are here. */
  async #labelTakenOver(): Promise<void> {
    const { api, engine, node, takeover } = this.#parts
    if (!takeover) return
    for (const { name } of await engine.unmarked()) {
      const volume = await this.#readVolume(name)
      if (!volume || volume.node || volume.isDeleting || volume.hasKey) continue
      const { resourceVersion } = volume
      const body = { metadata: { resourceVersion, labels: { [nodeLabel]: node } } }
      await api.send({ method: 'PATCH', path: volumePath(name), body })
    }
  }

  async #markMade(volume: VolumeFacts): Promise<void> {
    const { name } = volume
    const stored = await this.#parts.engine.stored(name)
    if (stored) await this.#keeper.update(() => [[name, madeEntry(stored.sizeBytes, madeFor(volume))]])
    this.#publisher.soon()
  }

  /** Removes what a PV on its way out has here, if its policy says so, and lets the PV go. */
  async #letGo({ name }: VolumeFacts): Promise<void> {
    const { api, engine, log } = this.#parts
    const volume = await this.#readVolume(name)
    if (!volume?.isDeleting || volume.node !== this.#parts.node) return
    if (volume.isInUse || volume.phase === 'Bound' || !volume.finalizers.includes(finalizer)) return
    if (volume.deletesData) {
      try {
        if (!(await engine.stored(name))) await this.#takeOver(volume)
        const { action } = await engine.remove(name)
        if (action === 'removed')
          log.info(`Removed volume ${name}, as its PersistentVolume is deleted.`, aboutVolume(volume))
      } catch (error) {
        await this.#say(volume, 'VolumeNotRemoved', messageOf(error))
        throw error
      }
      await this.#forget(name)
    } else if (this.#keeper.latest?.entries.get(name)?.madeFor) await this.#markMade(volume)
    await letVolumeGo(api, volume)
  }

  async admit({ volumeName, podUid, options: given }: Request): Promise<Admission> {
    const options = parseOptions(given)
    const known = await this.#findVolume(volumeName)
    if (!known)
      throw new VolumeError(
        'not-found',
        `Cannot mount ${volumeName} as there is no PersistentVolume of that name on node ${this.#parts.node}.`,
      )
    await mustBeTheirs(this.#parts.api, volumeName, known.note, options, podUid)
    if (known.volume) {
      await this.#mustBeMade(known.volume)
      await this.#growUnmounted(known.volume)
    }
    await this.#parts.orphanedMounts.note(podUid, options.pod)
    const { fsType, mountOptions } = optionsOf(known.note)
    return { readOnly: options.readOnly, mountOptions, ...(fsType ? { fsType } : {}) }
  }

  /** What was to grow while nobody had it grows before it is mounted: then the kernel may forbid it. */
  async #growUnmounted({ name, wantedBytes }: VolumeFacts): Promise<void> {
    const { engine, log } = this.#parts
    const stored = await engine.stored(name)
    if (!stored || wantedBytes <= stored.sizeBytes) return
    if ((await engine.find(name))?.mounts.length !== 0) return
    // Its owner is told of a refusal, and the kubelet asks again; the pod may have what there is.
    await this.grow(name, wantedBytes).catch((error) => log.warn(messageOf(error), this.#about(name)))
  }

  /** Throws `not-found` for a volume on its way out, and makes one that never was. */
  async #mustBeMade(known: VolumeFacts): Promise<void> {
    const { name } = known
    const refuseRemoved = (volume: VolumeFacts | undefined) => {
      if (volume && (!volume.isDeleting || volume.isInUse)) return volume
      throw new VolumeError('not-found', `Cannot mount ${name} as it is being removed.`)
    }
    refuseRemoved(known)
    const { engine, notes } = this.#parts
    // Nothing to wait for, also while the API server is away.
    if ((await notes.read(name)) && (await engine.stored(name))) return
    await this.#locks.acquire(name, async () => {
      await this.#ensureMade(refuseRemoved(this.#volumes.objects.get(name) ?? (await this.#readVolume(name))))
    })
  }

  /** What is known of a volume: from the API server, or noted here while it is away. */
  async #findVolume(name: string): Promise<{ note: Note; volume?: VolumeFacts } | undefined> {
    const cached = this.#volumes.objects.get(name)
    if (cached) return { note: noteOf(cached), volume: cached }
    const note = await this.#parts.notes.read(name)
    if (note) return { note }
    const volume = await this.#readVolume(name)
    return volume && volume.node === this.#parts.node ? { note: noteOf(volume), volume } : undefined
  }

  async #readVolume(name: string): Promise<VolumeFacts | undefined> {
    const found = await readVolume(this.#parts.api, name)
    return found && pickVolume(found)
  }

  async grow(name: string, sizeBytes: bigint): Promise<{ action: 'grown' | 'unchanged'; volume: StoredVolume }> {
    const { engine, log } = this.#parts
    const stored = await engine.stored(name)
    if (!stored || sizeBytes <= stored.sizeBytes) return await engine.grow(name, sizeBytes)
    this.#grown.add(name)
    try {
      await this.#keeper.update((ledger) => [[name, promise(ledger, name, sizeBytes)]])
    } catch (error) {
      await this.#sayOfGrowth(name, error)
      throw error instanceof ApiError
        ? new VolumeError('failed', `Cannot grow ${name} while nobody can say whether there is room: ${error.message}`)
        : error
    }
    try {
      const grown = await engine.grow(name, sizeBytes)
      const { sizeBytes: grownBytes } = grown.volume
      log.info(`Grew volume ${name} to ${grownBytes} bytes.`, { ...this.#about(name), sizeBytes: grownBytes })
      return grown
    } catch (error) {
      await this.#sayOfGrowth(name, error)
      throw error
    } finally {
      const after = await engine.stored(name)
      if (after)
        await this.#keeper
          .update(({ entries }) => [[name, madeEntry(after.sizeBytes, entries.get(name)?.madeFor)]])
          .catch((error) => log.warn(messageOf(error), this.#about(name)))
      this.#publisher.soon()
    }
  }

  async #sayOfGrowth(name: string, error: unknown): Promise<void> {
    const volume = this.#volumes.objects.get(name)
    const advice =
      error instanceof VolumeError && error.code === 'no-space'
        ? ' Lower the request of the claim to take it back, to more than it has: Kubernetes allows no less.'
        : ''
    if (volume) await this.#say(volume, 'VolumeNotGrown', `${messageOf(error)}${advice}`)
  }

  problemsOf(name: string): string[] {
    return this.#parts.orphanedMounts.problemsOf(name)
  }

  async remove(name: string): Promise<{ action: 'removed' | 'unchanged' }> {
    const { api, engine, log } = this.#parts
    const found = await readVolume(api, name)
    if (found)
      throw new VolumeError(
        'busy',
        `Cannot remove ${name} as it belongs to PersistentVolume ${name}; delete its claim, or the PersistentVolume.`,
      )
    const removed = await engine.remove(name)
    if (removed.action === 'removed')
      log.info(`Removed volume ${name}, which has no PersistentVolume.`, this.#about(name))
    await this.#forget(name)
    return removed
  }

  /** What is kept of a volume goes after it. */
  async #forget(name: string): Promise<void> {
    await this.#parts.notes.clear(name)
    await this.#keeper.update((ledger) => (ledger.entries.has(name) ? [[name, undefined]] : []))
    this.#publisher.soon()
  }

  /**
   * What a new ledger begins with: volumes that are there, and those of PVs. Whether the latter were made nobody knows, so
   * they are said to be: one that is not there may be lost, and is not made anew.
   */
  async #knownEntries(): Promise<Changes> {
    // Not waited for: a stop would wait as well. The queue comes back.
    if (!this.#volumes.isSynced) throw new Error('Cannot make the ledger before all PersistentVolumes are known.')
    const entries = new Map(await this.#storedEntries())
    for (const volume of this.#volumes.objects.values())
      if (!entries.has(volume.name)) entries.set(volume.name, { sizeBytes: specOf(volume).sizeBytes })
    return entries
  }

  async #storedEntries(): Promise<Map<string, Entry>> {
    const stored = await this.#parts.engine.list()
    return new Map(stored.map(({ name, sizeBytes }) => [name, { sizeBytes }]))
  }

  /** Promises become what is there: volumes without one get one, and those to volumes that are gone are taken back. */
  async #reconcileEntries(): Promise<void> {
    // What changes between a look and a writing is seen by the next look.
    for (let again = true; again; ) {
      const stored = await this.#storedEntries()
      const noted = new Set<string>()
      for (const name of stored.keys()) if (await this.#parts.notes.read(name)) noted.add(name)
      await this.#keeper.update((ledger) => {
        const isWrong = (name: string, { sizeBytes }: Entry) => {
          const entry = ledger.entries.get(name)
          if (!entry) return !this.#volumes.objects.get(name)?.isDeleting
          if (!noted.has(name) || this.#grown.has(name)) return false
          return entry.pendingFor !== undefined || entry.sizeBytes !== sizeBytes
        }
        const wrong = [...stored].filter(([name, entry]) => isWrong(name, entry))
        const left = [...ledger.entries].filter(
          ([name, { pendingFor }]) => !pendingFor && !stored.has(name) && !this.#volumes.objects.has(name),
        )
        again = wrong.length + left.length > 0
        const right = wrong.map(
          ([name, { sizeBytes }]) => [name, madeEntry(sizeBytes, ledger.entries.get(name)?.madeFor)] as const,
        )
        return [...right, ...left.map(([name]) => [name, undefined] as const)]
      })
    }
  }

  /** Where a person will look: on the PV, and on the claim. */
  async #say(volume: VolumeFacts, reason: string, message: string): Promise<void> {
    const { name, uid, claim } = volume
    const { recorder } = this.#parts
    await recorder.say({ kind: 'PersistentVolume', name, uid }, 'Warning', reason, message)
    if (claim) await recorder.say({ kind: 'PersistentVolumeClaim', ...claim }, 'Warning', reason, message)
  }
}

/** What an entry says of the PV whose data goes with it. */
const madeFor = ({ deletesData, uid }: VolumeFacts) => (deletesData ? uid : undefined)

function madeEntry(sizeBytes: bigint, madeFor: string | undefined): Entry {
  return { sizeBytes, ...(madeFor ? { madeFor } : {}) }
}

function lost(name: string, node: string): VolumeError {
  return new VolumeError(
    'not-found',
    `Cannot find volume ${name} on node ${node}, where it was made: its data is lost, or its disk is missing. It is not made anew. Bring the disk back, or delete the claim; or, to begin empty, set annotation ${makeAnewAnnotation}=true on the PersistentVolume.`,
  )
}
