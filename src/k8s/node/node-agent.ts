import type { V1ConfigMap, V1PersistentVolume } from '@kubernetes/client-node'
import type { Admission, Front, LostVolume, Request } from '../../daemon/front.ts'
import type { Log } from '../../log.ts'
import type { Meter } from '../../meter.ts'
import type { Engine } from '../../volume/engine.ts'
import { messageOf, VolumeError } from '../../volume/errors.ts'
import type { Failure, Operation } from '../../volume/failures.ts'
import type { Grown } from '../../volume/pool.ts'
import { type Api, ApiError } from '../client/api.ts'
import type { Clock } from '../client/clock.ts'
import type { Recorder } from '../client/events.ts'
import { WorkQueue } from '../client/queue.ts'
import { aborted, type CopyState, Reflector } from '../client/reflector.ts'
import type { FrontName } from '../fronts/front.ts'
import { isToGrow, parseLedger, promisedBytes } from '../model/ledger.ts'
import { LedgerKeeper } from '../model/ledger-keeper.ts'
import { volumesPath } from '../model/lookups.ts'
import { ledgerName, nodeLabel } from '../model/names.ts'
import { type ClaimRef, pickVolume, type VolumeFacts } from '../model/persistent-volume.ts'
import { Admitting } from './admitting.ts'
import { Answering, openQuestion } from './answering.ts'
import { NodeContext } from './context.ts'
import { Entries } from './entries.ts'
import { Growing } from './growing.ts'
import { type HeldVolume, HeldVolumes } from './held-volumes.ts'
import { Making } from './making.ts'
import type { Notes } from './note.ts'
import type { OrphanedMounts } from './orphaned-mounts.ts'
import { Orphans } from './orphans.ts'
import { Publisher } from './publisher.ts'
import { Removing } from './removing.ts'

export interface NodeAgentParts {
  api: Api
  namespace: string
  node: string
  engine: Engine
  notes: Notes
  /** Runs work that a stop waits for. */
  drain: { run<T>(work: () => Promise<T>): Promise<T> }
  recorder: Recorder
  /** By which the daemon serves volumes. */
  fronts: readonly FrontName[]
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
/** By which events a failure is told of. */
const failureReasons: Partial<Record<Operation, string>> = {
  mount: 'VolumeNotMounted',
  attach: 'VolumeNotMounted',
  unmount: 'VolumeNotUnmounted',
}
/** What could not be written is tried again after so long. */
const againMs = 1000

/**
 * The cluster's side of a node: makes the volumes of the PVs that carry this node's label, removes those of PVs that are
 * on their way out, and says which pod may have which volume. It follows only what belongs to this node.
 */
export class NodeAgent implements Front {
  readonly #parts: NodeAgentParts
  readonly #context: NodeContext
  readonly #volumes: Reflector<V1PersistentVolume, VolumeFacts>
  readonly #ledger: Reflector<V1ConfigMap, string>
  readonly #keeper: LedgerKeeper
  readonly #publisher: Publisher
  readonly #queue: WorkQueue
  readonly #entries: Entries
  readonly #making: Making
  readonly #removing: Removing
  readonly #growing: Growing
  readonly #answering: Answering
  readonly #admitting: Admitting
  readonly #orphans: Orphans

  constructor(parts: NodeAgentParts) {
    this.#parts = parts
    const { api, namespace, node, engine, notes, recorder, orphanedMounts, clock, now, log, meter } = parts
    const labelSelector = `${nodeLabel}=${node}`
    this.#volumes = new Reflector({ api, log, path: volumesPath, query: { labelSelector }, pick: pickVolume })
    this.#keeper = new LedgerKeeper({ api, namespace, node })
    this.#ledger = new Reflector({
      api,
      log,
      path: `/api/v1/namespaces/${namespace}/configmaps`,
      // By name, which costs the API server no look at each.
      query: { fieldSelector: `metadata.name=${ledgerName(node)}` },
      pick: (object) => {
        try {
          this.#keeper.see(parseLedger(object))
        } catch (error) {
          log.warn(messageOf(error))
        }
        return object.metadata?.resourceVersion
      },
    })
    const held = new HeldVolumes({ engine, keeper: this.#keeper, notes, onWritten: () => this.#publisher.soon() })
    this.#context = new NodeContext({
      ...{ api, namespace, node, engine, notes, recorder, clock, now, log, meter },
      ledger: this.#keeper,
      held,
      volumes: this.#volumes,
      lookAgain: (name) => this.#queue.addAfter(name, againMs),
    })
    this.#entries = new Entries(this.#context)
    this.#making = new Making(this.#context, parts)
    this.#removing = new Removing(this.#context, this.#making)
    this.#growing = new Growing(this.#context)
    this.#answering = new Answering(this.#context)
    this.#admitting = new Admitting(this.#context, { making: this.#making, growing: this.#growing }, orphanedMounts)
    this.#publisher = new Publisher({
      ...{ api, namespace, node, recorder, clock, now, log, meter },
      keeper: this.#keeper,
      fronts: parts.fronts,
      report: () => engine.report(),
      initial: () => this.#entries.initial(),
    })
    this.#queue = new WorkQueue({
      name: 'volumes',
      about: (name) => this.#context.about(name),
      work: (name) => parts.drain.run(() => held.hold(name, (volume) => this.#converge(volume))),
      ...{ concurrency, log, meter },
    })
    this.#orphans = new Orphans({
      ...parts,
      keeper: this.#keeper,
      isKnown: (name) => this.#volumes.objects.has(name),
      remove: (name) => this.remove(name),
    })
    engine.failures.onFailure((name, failure) => void this.#sayFailure(name, failure))
    this.#volumes.onChange((key) => this.#queue.add(key))
    this.#ledger.onChange((_, now) => {
      if (!now) this.#keeper.see(undefined)
      this.#publisher.soon()
      this.#doWhatIsAsked()
    })
  }

  /** What it follows. */
  get copies(): readonly CopyState[] {
    return [this.#volumes, this.#ledger]
  }

  /** What this node has promised in all, as it was seen last; nothing before there is a ledger. */
  get promisedBytes(): bigint | undefined {
    const { latest } = this.#keeper
    return latest && promisedBytes(latest)
  }

  claimOf(name: string): ClaimRef | undefined {
    return this.#volumes.objects.get(name)?.claim
  }

  frontOf(name: string): FrontName | undefined {
    return this.#volumes.objects.get(name)?.front
  }

  lost(): LostVolume[] {
    return [...this.#making.lost].flatMap(([name, message]) => {
      const sizeBytes = this.#volumes.objects.get(name)?.capacityBytes
      return sizeBytes === undefined ? [] : [{ name, sizeBytes, message }]
    })
  }

  problemsOf(name: string): string[] {
    return this.#parts.orphanedMounts.problemsOf(name)
  }

  /** Whether a note or the ledger says that the volume was made. Throws `unavailable` where neither can be asked. */
  async isMade(name: string): Promise<boolean> {
    if (await this.#parts.notes.read(name)) return true
    const ledger =
      this.#keeper.latest ??
      (await this.#keeper.find().catch((error) => {
        if (!(error instanceof ApiError)) throw error
        const message = `Cannot use ${name} while nobody can say whether it was ever made: ${error.message}`
        throw new VolumeError('unavailable', message, { cause: error })
      }))
    const entry = ledger?.entries.get(name)
    return entry !== undefined && !entry.pendingFor
  }

  async admit<T>(request: Request, work: (admission: Admission) => Promise<T>): Promise<T> {
    return await this.#admitting.admit(request, work)
  }

  async grow(name: string, sizeBytes: bigint): Promise<Grown> {
    return await this.#growing.grow(name, sizeBytes)
  }

  async remove(name: string): Promise<{ action: 'removed' | 'unchanged' }> {
    return await this.#removing.remove(name)
  }

  /** Resolves when the API server has answered once, or `signal` has aborted. */
  async reached(signal: AbortSignal): Promise<void> {
    await Promise.race([this.#volumes.attempted(), aborted(signal)])
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
    const { log, meter, node, drain } = this.#parts
    const queue = new WorkQueue({
      name: 'ledger',
      about: () => ({ node }),
      work: () =>
        drain.run(async () => {
          await this.#making.labelTakenOver()
          await this.#entries.reconcile()
          await this.#orphans.look()
          await this.#sayLosses()
        }),
      ...{ concurrency: 1, log, meter },
    })
    queue.add('entries')
    const timer = setInterval(() => queue.add('entries'), settleMs)
    await stopped
    clearInterval(timer)
    await queue.stop()
  }

  /** What is said elsewhere, by whoever does it, is left to them. */
  async #sayFailure(name: string, { operation, code, message }: Failure): Promise<void> {
    const volume = this.#volumes.objects.get(name)
    const reason = code === 'lost' ? 'VolumeLost' : failureReasons[operation]
    if (volume && reason) await this.#context.say(volume, reason, message)
  }

  /** Also what nobody tries to mount is told of. */
  async #sayLosses(): Promise<void> {
    for (const { name, state, problems } of await this.#parts.engine.list()) {
      const volume = this.#volumes.objects.get(name)
      if (volume && state === 'lost')
        await this.#context.say(volume, 'VolumeLost', `Volume ${name}: ${problems.join('; ')}`)
    }
  }

  /** What others have written into the ledger for this daemon. */
  #doWhatIsAsked(): void {
    for (const [name, entry] of this.#keeper.latest?.entries ?? []) {
      const isToBeGrown = isToGrow(entry) && this.#volumes.objects.get(name)?.front === 'csi'
      if (isToBeGrown || openQuestion(entry)) this.#queue.add(name)
    }
  }

  async #converge(held: HeldVolume): Promise<void> {
    const volume = this.#volumes.objects.get(held.name)
    if (!volume || volume.isDeleting) this.#making.forget(held.name)
    if (!volume) return await this.#answering.answer(held)
    if (volume.isDeleting) return await this.#removing.letGo(held)
    try {
      await this.#making.ensure(held, volume)
    } catch (error) {
      if (error instanceof VolumeError) await this.#context.say(volume, 'VolumeNotMade', messageOf(error))
      if (volume.front === 'csi') await this.#growing.noteDelay(held, error)
      throw error
    }
    if (volume.front === 'csi') await this.#growing.growGranted(held)
  }
}
