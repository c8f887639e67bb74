/** The cluster's nodes, pools and volumes for a person to read. */
import type { NodeRecord, Overview, PoolRecord, Problem, VolumeRecord } from '../overview/records.ts'
import { type Paint, printable } from '../text/paint.ts'
import { formatAge, formatBytes, formatShare } from '../text/quantity.ts'
import { type Column, formatTable } from '../text/table.ts'

interface Look {
  paint: Paint
  wide: boolean
  now: Date
}

export function formatNodes(nodes: readonly NodeRecord[], { paint, wide }: Look): string {
  const columns: Column<NodeRecord>[] = [
    { title: 'NAME', value: ({ name }) => name },
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
    { title: 'POOL', value: ({ pool }) => pool },
    { title: 'VOLUMES', value: ({ volumes }) => String(volumes), right: true },
  ]
  if (wide)
    columns.push(
      { title: 'HOSTNAME', value: ({ hostname }) => hostname },
      { title: 'FRONTS', value: ({ fronts }) => fronts?.join(',') },
      { title: 'DAEMON POD', value: ({ daemonPod }) => daemonPod },
    )
  return withProblems(formatTable(columns, nodes, paint), nodes, ({ name }) => name, paint)
}

function stateOfNode({ state, schedulable }: NodeRecord): string {
  return state === 'ready' && !schedulable ? 'ready, cordoned' : state
}

export function formatPools(pools: readonly PoolRecord[], { paint }: Look): string {
  const columns: Column<PoolRecord>[] = [
    { title: 'NODE', value: ({ node }) => node },
    { title: 'POOL', value: ({ name }) => name },
    { title: 'KIND', value: ({ driverKind }) => driverKind },
    { title: 'SIZE', value: ({ sizeBytes }) => formatBytes(sizeBytes), right: true },
    { title: 'PROMISED', value: ({ promisedBytes }) => formatBytes(promisedBytes), right: true },
    {
      title: 'FREE',
      value: ({ freeBytes }) => formatBytes(freeBytes),
      right: true,
      colour: ({ freeBytes }) => (freeBytes === 0n ? 'yellow' : undefined),
    },
    { title: 'USE%', value: ({ promisedBytes, sizeBytes }) => formatShare(promisedBytes, sizeBytes), right: true },
    { title: 'VOLUMES', value: ({ volumes }) => String(volumes), right: true },
  ]
  return withProblems(formatTable(columns, pools, paint), pools, ({ node }) => node, paint)
}

/** `namespaces`: whether they are of several. */
export function formatVolumes(
  volumes: readonly VolumeRecord[],
  { paint, wide, now }: Look,
  namespaces: boolean,
): string {
  const columns: Column<VolumeRecord>[] = [
    ...(namespaces ? [{ title: 'NAMESPACE', value: ({ claim }: VolumeRecord) => claim?.namespace }] : []),
    { title: 'CLAIM', value: ({ claim }) => claim?.name },
    { title: 'STATE', value: ({ state }) => state, colour: colourOfVolume },
    { title: 'SIZE', value: sizeOfVolume, right: true },
    { title: 'NODE', value: ({ node }) => node },
    { title: 'PODS', value: ({ pods }) => pods.map(({ name }) => name).join(',') },
    { title: 'AGE', value: ({ createdAt }) => createdAt && formatAge(createdAt, now) },
  ]
  // Without a claim there is no other name.
  if (wide || volumes.some(({ claim }) => !claim)) columns.push({ title: 'VOLUME', value: ({ name }) => name })
  if (wide)
    columns.push(
      { title: 'CLASS', value: ({ storageClass }) => storageClass },
      { title: 'FRONT', value: ({ front }) => front },
      { title: 'FS', value: ({ fsType }) => fsType },
      { title: 'RECLAIM', value: ({ reclaimPolicy }) => reclaimPolicy },
    )
  const nameOf = ({ claim, name }: VolumeRecord) =>
    claim ? `${namespaces ? `${claim.namespace}/` : ''}${claim.name}` : name
  const text = withProblems(formatTable(columns, volumes, paint), volumes, nameOf, paint)
  const isAiling = volumes.some(({ problems }) => problems.length > 0)
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
  paint: Paint,
): string {
  const lines = rows.flatMap((row) =>
    row.problems.map(
      ({ status, message }) =>
        `${paint(status === 'fail' ? 'red' : 'yellow', '!')} ${nameOf(row)}: ${printable(message)}\n`,
    ),
  )
  return lines.length > 0 ? `${table}\n${lines.join('')}` : table
}

/** What was not looked at for want of rights, a line each. */
export function formatNotRead({ notRead }: Overview): string[] {
  return notRead.map(({ kind, message }) => `Not looked at: ${kind}. ${message}`)
}
