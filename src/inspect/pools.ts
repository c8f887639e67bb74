import { type Paint, printable } from '../text/paint.ts'
import { formatBytes, formatPercent, formatShare } from '../text/quantity.ts'
import { type Column, formatTable } from '../text/table.ts'
import type { PoolReport } from '../volume/pool.ts'

/** The pools, one a line, and below what a person should know of them. */
export function formatPools(pools: readonly PoolReport[], paint: Paint): string {
  const columns: Column<PoolReport>[] = [
    { title: 'NAME', value: (pool) => pool.name },
    { title: 'KIND', value: (pool) => pool.driverKind },
    { title: 'SIZE', value: (pool) => formatBytes(pool.totalBytes), right: true },
    { title: 'RESERVED', value: (pool) => formatBytes(pool.reservedBytes), right: true },
    {
      title: 'FREE',
      value: (pool) => formatBytes(pool.freeBytes),
      right: true,
      colour: (pool) => (pool.freeBytes === 0n ? 'yellow' : undefined),
    },
    { title: 'USE%', value: (pool) => formatShare(pool.reservedBytes, pool.totalBytes), right: true },
    { title: 'VOLUMES', value: (pool) => String(pool.volumes), right: true },
  ]
  if (pools.some((pool) => pool.thin))
    columns.push(
      { title: 'DATA%', value: ({ thin }) => thin && formatPercent(thin.dataPercent), right: true },
      { title: 'META%', value: ({ thin }) => thin && formatPercent(thin.metadataPercent), right: true },
      { title: 'OVERCOMMIT', value: ({ thin }) => thin && `${thin.overcommitRatio}x`, right: true },
    )
  const notes = pools.flatMap((pool) => [
    ...pool.problems.map((problem) => `${paint('yellow', '!')} ${pool.name}: ${printable(problem)}\n`),
    ...(pool.enforcesSize
      ? []
      : [`${pool.name}: sizes are counted, not enforced. A volume can fill the whole disk.\n`]),
    ...(pool.thin && pool.thin.overcommitRatio > 1
      ? [
          `${pool.name}: it may promise more than it holds; watch DATA%. A full pool fails the writes of all its volumes.\n`,
        ]
      : []),
  ])
  return `${formatTable(columns, pools, paint)}${notes.length > 0 ? `\n${notes.join('')}` : ''}`
}
