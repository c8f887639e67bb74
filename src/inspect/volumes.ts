import { type Paint, printable } from '../text/paint.ts'
import { formatAge, formatBytes, formatCount, formatExactly, formatShare } from '../text/quantity.ts'
import type { Screen } from '../text/screen.ts'
import { type Column, formatFields, formatTable, type Look, withNotes } from '../text/table.ts'
import type { PoolReport } from '../volume/pool.ts'
import type { VolumeView } from '../volume/view.ts'
import { adviseOnVolume } from './advice.ts'

export interface Surroundings {
  now: Date
  pools: readonly PoolReport[]
}

const highPercent = 90n
const fullPercent = 95n

/** The volumes, one a line, and what is wrong with them below. */
export function formatVolumes(
  volumes: readonly VolumeView[],
  { now, pools }: Surroundings,
  look: Look,
  wide: boolean,
): string {
  const columns: Column<VolumeView>[] = [
    { title: 'NAME', value: (volume) => volume.name, cut: true },
    { title: 'SIZE', value: (volume) => formatBytes(volume.sizeBytes), right: true },
    { title: 'USED', value: (volume) => whenOwn(volume, (usage) => formatBytes(usage.usedBytes)), right: true },
    {
      title: 'USE%',
      value: (volume) => whenOwn(volume, (usage) => formatShare(usage.usedBytes, usage.sizeBytes)),
      right: true,
      colour: fullnessColour,
    },
    { title: 'FS', value: (volume) => volume.fsType },
    { title: 'STATE', value: (volume) => volume.state, colour: stateColour },
    { title: 'PODS', value: (volume) => String(podsOf(volume).length), right: true },
    { title: 'AGE', value: (volume) => volume.createdAt && formatAge(volume.createdAt, now) },
  ]
  if (wide && volumes.some(({ front }) => front)) columns.push({ title: 'FRONT', value: ({ front }) => front })
  if (wide)
    columns.push(
      { title: 'POOL', value: (volume) => poolOf(volume, pools) },
      { title: 'PATH', value: (volume) => volume.path },
      {
        title: 'MOUNTS',
        value: (volume) =>
          volume.mounts.map(({ target, readOnly }) => (readOnly ? `${target} (ro)` : target)).join(', '),
      },
    )
  const notes = volumes.flatMap(({ name, problems }) =>
    problems.map((message) => ({ colour: 'yellow' as const, subject: name, message })),
  )
  const text = withNotes(formatTable(columns, volumes, look), notes, look)
  return look.bare || notes.length === 0 ? text : `${text}"elastic-local volumes show <name>" says what to do.\n`
}

function filesystemOf({ fsType, driverKind }: VolumeView): string {
  if (fsType === 'block') return 'none: it is a block device'
  return fsType ?? (driverKind === 'BINDMOUNT' ? 'that of the underlying disk' : 'unknown')
}

/** All that is known of one volume, for a person to read. */
export function formatVolume(
  volume: VolumeView,
  { now, pools }: Surroundings,
  { paint, width }: Pick<Screen, 'paint' | 'width'>,
): string {
  const fields: [string, string][] = [
    ['Name', volume.name],
    ['State', paint(stateColour(volume) ?? 'green', volume.state)],
    ['Size', formatExactly(volume.sizeBytes)],
    ['Filesystem', filesystemOf(volume)],
    ['Pool', poolOf(volume, pools)],
    ['Path', volume.path === undefined ? 'gone' : printable(volume.path)],
    [
      'Created',
      volume.createdAt ? `${volume.createdAt.toISOString()} (${formatAge(volume.createdAt, now)} ago)` : 'unknown',
    ],
    ...(volume.front ? [['Front', printable(volume.front)] as [string, string]] : []),
    ...(volume.claim
      ? [['Claim', printable(`${volume.claim.namespace}/${volume.claim.name}`)] as [string, string]]
      : []),
    ...usageFields(volume),
    ['Mounts', volume.mounts.length > 0 ? volume.mounts.map(formatMount).join('\n') : 'none'],
    ...(volume.failure ? [['Last failure', formatFailure(volume.failure, now)] as [string, string]] : []),
    [
      'Problems',
      volume.problems.length > 0
        ? volume.problems.map((problem) => formatProblem(volume, problem, paint)).join('\n')
        : 'none',
    ],
  ]
  return formatFields(fields, { paint, width })
}

/** What a volume is called when something is about to happen to it: `volume web-0 (10 GiB)`. */
export function nameWithSize(volume: Pick<VolumeView, 'name' | 'sizeBytes'>): string {
  return `${volume.name} (${formatBytes(volume.sizeBytes)})`
}

/** UIDs of the pods that see the volume, each once, from the folders that their kubelet gave them. */
export function podsOf(volume: VolumeView): string[] {
  return [...new Set(volume.mounts.map((mount) => podUid(mount.target)).filter((uid) => uid !== undefined))]
}

/** Of a block device, the kubelet has ours, and a mount of its own beside it, outside of the pod's folder. */
const podPattern =
  /\/pods\/(?<folder>[^/]+)\/|\/kubernetes\.io\/csi\/volumeDevices\/(publish\/[^/]+|[^/]+\/dev)\/(?<file>[^/]+)$/

function podUid(target: string): string | undefined {
  const { folder, file } = podPattern.exec(target)?.groups ?? {}
  return folder ?? file
}

function formatMount({ target, readOnly }: VolumeView['mounts'][number]): string {
  const uid = podUid(target)
  return `${uid ? `pod ${printable(uid)}, ` : ''}${readOnly ? 'read-only' : 'read-write'}, ${printable(target)}`
}

function formatFailure({ operation, at, target }: NonNullable<VolumeView['failure']>, now: Date): string {
  return `${operation}${target ? ` of ${printable(target)}` : ''}, ${at.toISOString()} (${formatAge(at, now)} ago)`
}

function formatProblem(volume: VolumeView, problem: string, paint: Paint): string {
  const advice = adviseOnVolume(volume, problem)
  return `${paint('yellow', '!')} ${printable(problem)}${advice ? `\n  → ${advice}` : ''}`
}

function usageFields(volume: VolumeView): [string, string][] {
  const { usage } = volume
  if (!usage) return [['Usage', 'known only while it is mounted']]
  const { usedBytes, sizeBytes, freeBytes, inodes, inodesUsed } = usage
  const bytes = `${formatBytes(usedBytes)} of ${formatBytes(sizeBytes)} used (${formatShare(usedBytes, sizeBytes)}), ${formatBytes(freeBytes)} available`
  // btrfs makes inodes as it needs them, and counts none (statfs(2)).
  const inodeText = inodes > 0n ? `${inodesUsed} of ${inodes} used (${formatShare(inodesUsed, inodes)})` : 'no limit'
  if (isOwn(volume))
    return [
      ['Usage', bytes],
      ['Inodes', inodeText],
    ]
  return [
    ['Underlying disk', `${bytes}; shared by all volumes of the pool`],
    ['Inodes', inodeText],
  ]
}

/** Whether the usage is that of the volume alone: a directory shares its disk with others. */
function isOwn(volume: VolumeView): boolean {
  return volume.driverKind !== 'BINDMOUNT'
}

function whenOwn(volume: VolumeView, format: (usage: NonNullable<VolumeView['usage']>) => string): string | undefined {
  return volume.usage && isOwn(volume) ? format(volume.usage) : undefined
}

function poolOf(volume: VolumeView, pools: readonly PoolReport[]): string {
  const pool = pools.find((each) => each.driverKind === volume.driverKind)
  return pool ? `${pool.driverKind} ${pool.name}` : volume.driverKind
}

function fullnessColour(volume: VolumeView): 'red' | 'yellow' | undefined {
  if (!volume.usage || !isOwn(volume) || volume.usage.sizeBytes === 0n) return undefined
  const percent = (volume.usage.usedBytes * 100n) / volume.usage.sizeBytes
  if (percent >= fullPercent) return 'red'
  return percent >= highPercent ? 'yellow' : undefined
}

function stateColour({ state }: VolumeView): 'red' | 'yellow' | undefined {
  if (state === 'ready') return undefined
  return state === 'unfinished' || state === 'removing' ? 'yellow' : 'red'
}

/** The number and whole size of some volumes: `3 volumes (30 GiB)`. */
export function formatTotal(volumes: readonly VolumeView[]): string {
  return `${formatCount(volumes.length, 'volume')} (${formatBytes(volumes.reduce((sum, volume) => sum + volume.sizeBytes, 0n))})`
}
