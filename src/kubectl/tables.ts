/** The cluster's nodes, pools and volumes for a person to read. */
import type { NodeRecord, Overview, PoolRecord, Problem, VolumeRecord } from '../overview/records.ts'
import { formatAge, formatBytes, formatShare } from '../text/quantity.ts'
import { type Column, formatTable, type Look, withNotes } from '../text/table.ts'

export function formatNodes(nodes: readonly NodeRecord[], look: Look, wide: boolean): string {
  const columns: Column<NodeRecord>[] = [
    { title: 'NAME', value: ({ name }) => name, cut: true },
    {
      title: 'STATE',
      value: stateOfNode,
      colour: ({ state }) => (state === 'ready' ? undefined : state === 'unknown' ? 'yellow' : 'red'),
    },
    {
      title: 'DAEMON',
      value: ({ daemon }) => daemon,
      colour: ({ daemon }) => (daemon === 'ready' ? undefined : 'yellow'),
    },
    { title: 'POOL', value: ({ pool }) => pool, cut: true },
    { title: 'VOLUMES', value: ({ volumes }) => String(volumes), right: true },
  ]
  if (wide)
    columns.push(
      { title: 'HOSTNAME', value: ({ hostname }) => hostname },
      { title: 'FRONTS', value: ({ fronts }) => fronts?.join(',') },
      { title: 'DAEMON POD', value: ({ daemonPod }) => daemonPod },
    )
  return withProblems(formatTable(columns, nodes, look), nodes, ({ name }) => name, look)
}

function stateOfNode({ state, schedulable }: NodeRecord): string {
  return state === 'ready' && !schedulable ? 'ready, cordoned' : state
}

export function formatPools(pools: readonly PoolRecord[], look: Look, wide: boolean): string {
  const columns: Column<PoolRecord>[] = [
    { title: 'NODE', value: ({ node }) => node, cut: true },
    { title: 'POOL', value: ({ name }) => name, cut: true },
    { title: 'KIND', value: ({ driverKind }) => driverKind },
    { title: 'SIZE', value: ({ sizeBytes }) => formatBytes(sizeBytes), right: true },
    { title: 'ALLOCATED', value: ({ allocatedBytes }) => formatBytes(allocatedBytes), right: true },
    {
      title: 'FREE',
      value: ({ freeBytes }) => formatBytes(freeBytes),
      right: true,
      colour: ({ freeBytes }) => (freeBytes === 0n ? 'yellow' : undefined),
    },
    { title: 'ALLOC%', value: ({ allocatedBytes, sizeBytes }) => formatShare(allocatedBytes, sizeBytes), right: true },
    { title: 'VOLUMES', value: ({ volumes }) => String(volumes), right: true },
  ]
  if (wide)
    columns.push(
      { title: 'UNIT', value: ({ unitBytes }) => formatBytes(unitBytes), right: true },
      { title: 'FRONTS', value: ({ fronts }) => fronts.join(',') },
    )
  return withProblems(formatTable(columns, pools, look), pools, ({ node }) => node, look)
}

/** `namespaces`: whether they are of several. */
export function formatVolumes(
  volumes: readonly VolumeRecord[],
  { now, namespaces }: { now: Date; namespaces: boolean },
  look: Look,
  wide: boolean,
): string {
  const columns: Column<VolumeRecord>[] = [
    ...(namespaces ? [{ title: 'NAMESPACE', value: ({ claim }: VolumeRecord) => claim?.namespace, cut: true }] : []),
    { title: 'CLAIM', value: ({ claim }) => claim?.name, cut: true },
    { title: 'STATE', value: ({ state }) => state, colour: colourOfVolume },
    { title: 'SIZE', value: sizeOfVolume, right: true },
    { title: 'NODE', value: ({ node }) => node, cut: true },
    { title: 'PODS', value: ({ pods }) => pods.map(({ name }) => name).join(','), cut: true },
    { title: 'AGE', value: ({ createdAt }) => createdAt && formatAge(createdAt, now) },
  ]
  // Without a claim there is no other name.
  if (wide || volumes.some(({ claim }) => !claim))
    columns.push({ title: 'VOLUME', value: ({ name }) => name, cut: true })
  if (wide)
    columns.push(
      { title: 'CLASS', value: ({ storageClass }) => storageClass },
      { title: 'FRONT', value: ({ front }) => front },
      { title: 'FS', value: ({ fsType }) => fsType },
      { title: 'RECLAIM', value: ({ reclaimPolicy }) => reclaimPolicy },
    )
  const nameOf = ({ claim, name }: VolumeRecord) =>
    claim ? `${namespaces ? `${claim.namespace}/` : ''}${claim.name}` : name
  const text = withProblems(formatTable(columns, volumes, look), volumes, nameOf, look)
  const isAiling = !look.bare && volumes.some(({ problems }) => problems.length > 0)
  return isAiling ? `${text}"kubectl elastic_local explain <claim>" says what to do.\n` : text
}

function sizeOfVolume({ sizeBytes, requestedBytes, state }: VolumeRecord): string | undefined {
  if (state === 'growing' && sizeBytes !== undefined && requestedBytes !== undefined)
    return `${formatBytes(sizeBytes)} → ${formatBytes(requestedBytes)}`
  const bytes = sizeBytes ?? requestedBytes
  return bytes === undefined ? undefined : formatBytes(bytes)
}

function colourOfVolume({ state, problems }: VolumeRecord): 'red' | 'yellow' | undefined {
  if (problems.some(({ status }) => status === 'fail')) return 'red'
  return state === 'ready' && problems.length === 0 ? undefined : 'yellow'
}

/** The table, and below it what is wrong. */
function withProblems<T extends { problems: readonly Problem[] }>(
  table: string,
  rows: readonly T[],
  nameOf: (row: T) => string,
  look: Look,
): string {
  const notes = rows.flatMap((row) =>
    row.problems.map(({ status, message }) => ({
      colour: status === 'fail' ? ('red' as const) : ('yellow' as const),
      subject: nameOf(row),
      message,
    })),
  )
  return withNotes(table, notes, look)
}

/** What was not looked at for want of rights, a line each. */
export function formatNotRead({ notRead }: Overview): string[] {
  return notRead.map(({ kind, message }) => `Not checked: ${kind}. ${message}`)
}
