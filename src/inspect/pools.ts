import { formatBytes, formatPercent, formatShare } from '../text/quantity.ts'
import { type Column, formatTable, type Look, type Note, withNotes } from '../text/table.ts'
import type { PoolReport } from '../volume/pool.ts'

/** The pools, one a line, and below what a person should know of them. */
export function formatPools(pools: readonly PoolReport[], look: Look, wide: boolean): string {
  const columns: Column<PoolReport>[] = [
    { title: 'NAME', value: (pool) => pool.name, cut: true },
    { title: 'KIND', value: (pool) => pool.driverKind },
    { title: 'SIZE', value: (pool) => formatBytes(pool.sizeBytes), right: true },
    { title: 'ALLOCATED', value: (pool) => formatBytes(pool.allocatedBytes), right: true },
    {
      title: 'FREE',
      value: (pool) => formatBytes(pool.freeBytes),
      right: true,
      colour: (pool) => (pool.freeBytes === 0n ? 'yellow' : undefined),
    },
    { title: 'ALLOC%', value: (pool) => formatShare(pool.allocatedBytes, pool.sizeBytes), right: true },
    { title: 'VOLUMES', value: (pool) => String(pool.volumes), right: true },
  ]
  if (pools.some((pool) => pool.thin))
    columns.push(
      { title: 'DATA%', value: ({ thin }) => thin && formatPercent(thin.dataPercent), right: true },
      { title: 'META%', value: ({ thin }) => thin && formatPercent(thin.metadataPercent), right: true },
      { title: 'OVERCOMMIT', value: ({ thin }) => thin && `${thin.overcommitRatio}x`, right: true },
    )
  if (wide)
    columns.push(
      // What sizes are rounded up to, and what tells the pool from another of its name.
      { title: 'UNIT', value: (pool) => formatBytes(pool.unitBytes), right: true },
      { title: 'ID', value: ({ id }) => id },
    )
  return withNotes(formatTable(columns, pools, look), pools.flatMap(notesOn), look)
}

function notesOn({ name: subject, problems, enforcesSize, thin }: PoolReport): Note[] {
  const messages = [
    ...(enforcesSize ? [] : ['sizes are counted, not enforced. A volume can fill the whole disk.']),
    ...(thin && thin.overcommitRatio > 1
      ? ['it may be overcommitted; watch DATA%. A full pool fails the writes of all its volumes.']
      : []),
  ]
  return [
    ...problems.map((message) => ({ colour: 'yellow' as const, subject, message })),
    ...messages.map((message) => ({ subject, message })),
  ]
}
