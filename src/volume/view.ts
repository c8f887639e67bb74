import type { MountPoint, Usage } from './host.ts'
import type { Intent, UnreadableIntent } from './journal.ts'
import type { Pool, StoredVolume } from './pool.ts'

/** A volume as a person sees it. */
export interface VolumeView {
  name: string
  driverKind: Pool['driverKind']
  sizeBytes: bigint
  state: 'ready' | 'unfinished' | 'removing'
  fsType?: string
  path: string
  createdAt?: Date
  /** Where it is seen, the engine's own mount not counted. */
  mounts: { target: string; readOnly: boolean }[]
  /** Only while it is mounted. */
  usage?: Usage
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
export function buildView({ volume, pool, intent, isBusy, shown, targets, hasErrors, usage }: Observation): VolumeView {
  const fsType = shown[0]?.fsType ?? volume.fsType
  const problems = [
    ...(volume.problem ? [volume.problem] : []),
    ...(intent && !isBusy ? [unfinishedBy(intent)] : []),
    ...(typeof usage === 'string' ? [`its usage cannot be read: ${usage}`] : []),
    ...(typeof usage === 'object' ? fullness(usage) : []),
    ...(hasErrors ? ['the kernel has found errors on its filesystem'] : []),
    ...(shown.some((mount) => mount.readOnlyFilesystem) ? ['its filesystem is read-only, perhaps after an error'] : []),
  ]
  return {
    name: volume.name,
    driverKind: pool.driverKind,
    sizeBytes: volume.sizeBytes,
    state: intent ? stateIn[intent.phase] : 'ready',
    ...(fsType && pool.sourceKind === 'device' ? { fsType } : {}),
    path: volume.path,
    ...(volume.createdAt ? { createdAt: volume.createdAt } : {}),
    mounts: targets.map(({ target, readOnly }) => ({ target, readOnly })),
    ...(typeof usage === 'object' ? { usage } : {}),
    problems,
  }
}

const stateIn = {
  creating: 'unfinished',
  formatting: 'unfinished',
  growing: 'ready',
  removing: 'removing',
  unreadable: 'unfinished',
} as const

const unfinishedBy = (intent: Intent | UnreadableIntent) =>
  intent.phase === 'unreadable' ? `what was begun on it is not known: ${intent.problem}` : unfinished[intent.phase]

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
