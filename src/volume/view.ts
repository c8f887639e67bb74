import type { Failure, Operation } from './failures.ts'
import type { MountPoint, Usage } from './host.ts'
import type { Intent, UnreadableIntent } from './journal.ts'
import type { Pool, StoredVolume } from './pool.ts'

/**
 * `unfinished`: it was never finished. `removing`: its removal was begun. `lost`: its data, its filesystem or a disk of it is
 * gone. `stuck`: it cannot be unmounted or removed, or all that uses it waits. `failing`: something else of it fails.
 */
export const volumeStates = ['ready', 'unfinished', 'removing', 'lost', 'stuck', 'failing'] as const

/** A volume as a person sees it. */
export interface VolumeView {
  name: string
  driverKind: Pool['driverKind']
  sizeBytes: bigint
  state: (typeof volumeStates)[number]
  fsType?: string
  /** Missing where nothing of it is left. */
  path?: string
  createdAt?: Date
  /** Where it is seen, the engine's own mount not counted. */
  mounts: { target: string; readOnly: boolean }[]
  /** Only while it is mounted. */
  usage?: Usage
  /** What failed last, and is not over. */
  failure?: { operation: string; message: string; at: Date; target?: string }
  /** By which protocol kubelets have it mounted, in a cluster. */
  front?: string
  /** Whom it is for, in a cluster. */
  claim?: { namespace: string; name: string }
  problems: string[]
}

/** What was observed of a volume. */
export interface Observation {
  volume: StoredVolume
  pool: Pick<Pool, 'driverKind' | 'sourceKind'>
  /** What the journal says of this very volume. */
  intent: Intent | UnreadableIntent | undefined
  /** Whether an operation is under way on it, which explains an intent. */
  isBusy: boolean
  /** What failed and is not over, the newest last. */
  failures: readonly Failure[]
  /** All mounts that show it. */
  shown: readonly MountPoint[]
  /** Those of them that are not the engine's own. */
  targets: readonly MountPoint[]
  /** Whether the kernel has found errors on its filesystem. */
  hasErrors: boolean
  /** Why there is none, if it should be there. */
  usage: Usage | string | undefined
}

/** Share of a filesystem in use, in percent, from which on it is called a problem. */
const fullPercent = 95n

/** Puts together what a person should know of a volume. */
export function buildView(observed: Observation): VolumeView {
  const { volume, pool, intent, isBusy, shown, targets, hasErrors, usage } = observed
  // What is not mounted any more need not be unmounted, whoever has done it.
  const failures = observed.failures.filter(
    ({ operation, target }) => operation !== 'unmount' || targets.some((mount) => mount.target === target),
  )
  const last = failures.at(-1)
  const fsType = volume.fsType === 'block' ? 'block' : (shown[0]?.fsType ?? volume.fsType)
  const problems = [
    ...(volume.problem ? [volume.problem] : []),
    ...(intent && !isBusy ? [unfinishedBy(intent)] : []),
    ...failures.map(({ operation, message }) => `${doing[operation]} failed: ${message}`),
    ...(typeof usage === 'string' ? [`its usage cannot be read: ${usage}`] : []),
    ...(typeof usage === 'object' ? fullness(usage) : []),
    ...(hasErrors ? ['the kernel has found errors on its filesystem'] : []),
    ...(shown.some((mount) => mount.readOnlyFilesystem) ? ['its filesystem is read-only, perhaps after an error'] : []),
  ]
  return {
    name: volume.name,
    driverKind: pool.driverKind,
    sizeBytes: volume.sizeBytes,
    state: stateOf(volume, intent, failures, hasErrors || shown.some((mount) => mount.readOnlyFilesystem)),
    ...(fsType && pool.sourceKind === 'device' ? { fsType } : {}),
    path: volume.path,
    ...(volume.createdAt ? { createdAt: volume.createdAt } : {}),
    mounts: targets.map(({ target, readOnly }) => ({ target, readOnly })),
    ...(typeof usage === 'object' ? { usage } : {}),
    ...(last ? { failure: pickFailure(last) } : {}),
    problems,
  }
}

function stateOf(
  { problem, trouble }: StoredVolume,
  intent: Intent | UnreadableIntent | undefined,
  failures: readonly Failure[],
  isDamaged: boolean,
): VolumeView['state'] {
  if (trouble) return trouble
  if (failures.some(({ code }) => code === 'lost')) return 'lost'
  if (failures.some(({ operation }) => operation === 'unmount' || operation === 'remove')) return 'stuck'
  const state = intent ? stateIn[intent.phase] : 'ready'
  return state === 'ready' && (problem || isDamaged || failures.length > 0) ? 'failing' : state
}

const pickFailure = ({ operation, message, at, target }: Failure) => ({
  operation,
  message,
  at,
  ...(target === undefined ? {} : { target }),
})

const doing: Record<Operation, string> = {
  create: 'making it',
  mount: 'mounting it',
  attach: 'attaching it',
  unmount: 'unmounting it',
  grow: 'growing it',
  remove: 'removing it',
  finish: 'finishing its earlier work',
}

const stateIn = {
  creating: 'unfinished',
  formatting: 'unfinished',
  growing: 'ready',
  removing: 'removing',
  unreadable: 'unfinished',
} as const

const unfinishedBy = (intent: Intent | UnreadableIntent) =>
  intent.phase === 'unreadable' ? `its unfinished work is unknown: ${intent.problem}` : unfinished[intent.phase]

const unfinished = {
  creating: 'it was never finished; mounting it finishes it',
  formatting: 'it was never finished; mounting it finishes it',
  growing: 'its growth was not finished; grow it again',
  removing: 'its removal was not finished; remove it again',
}

function fullness(usage: Usage): string[] {
  const isFull = (used: bigint, total: bigint) => total > 0n && (used * 100n) / total >= fullPercent
  return [
    ...(isFull(usage.usedBytes, usage.sizeBytes) ? ['it is nearly full'] : []),
    ...(isFull(usage.inodesUsed, usage.inodes) ? ['it is nearly out of inodes'] : []),
  ]
}
