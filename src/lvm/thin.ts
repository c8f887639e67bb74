import type { LogicalVolume } from './report.ts'

/** How thin volumes share their pool (lvmthin(7)). */
export interface ThinOptions {
  poolName: string
  /** How many times its data area the pool may promise. */
  overcommitRatio: number
  /** Percent in use from which on nothing new is made. */
  dataWatermark: number
  metadataWatermark: number
}

/** What a thin pool can promise. */
export interface ThinRoom {
  /** Missing before the first volume. */
  pool: LogicalVolume | undefined
  promisableBytes: bigint
  freeBytes: bigint
  /** Why it takes nothing new. */
  refusal: string | undefined
}

/** Share of a volume group that a new thin pool leaves free, so that its metadata can grow. */
export const thinPoolPercent = 95

/** What the thin pool, or the one that would be made of `groupFreeBytes`, can still promise. */
export function measureThinPool(
  thin: ThinOptions,
  volumes: ReadonlyMap<string, LogicalVolume>,
  groupFreeBytes: bigint,
): ThinRoom {
  const pool = volumes.get(thin.poolName)
  const dataBytes = pool ? pool.sizeBytes : (groupFreeBytes * BigInt(thinPoolPercent)) / 100n
  const promisableBytes = BigInt(Math.floor(Number(dataBytes) * thin.overcommitRatio))
  const promised = [...volumes.values()].filter((volume) => volume.thinPool === thin.poolName)
  const leftBytes = promised.reduce((left, { sizeBytes }) => left - sizeBytes, promisableBytes)
  const freeBytes = leftBytes > 0n ? leftBytes : 0n
  return { pool, promisableBytes, freeBytes, refusal: pool && thinRefusal(thin, pool) }
}

function thinRefusal(thin: ThinOptions, pool: LogicalVolume): string | undefined {
  if (pool.segmentType !== 'thin-pool') return `${pool.name} is there and no thin pool but ${pool.segmentType}`
  const { dataPercent = 0, metadataPercent = 0 } = pool
  if (dataPercent >= thin.dataWatermark)
    return `thin pool ${pool.name} has ${dataPercent} % of its data area in use, and nothing new is made from ${thin.dataWatermark} % on`
  const metadataLimit = Math.min(thin.metadataWatermark, lvmMetadataLimit(pool))
  if (metadataPercent >= metadataLimit)
    return `thin pool ${pool.name} has ${metadataPercent} % of its metadata area in use, and nothing new is made from ${metadataLimit} % on`
  // LVM tells no percentages of a pool that has failed, and calls one that is full not well, too.
  if (pool.health !== '')
    return `thin pool ${pool.name} is not well (LVM calls it ${pool.health}), and nothing new is made until it is repaired, see lvmthin(7)`
  return undefined
}

/** Percent from which on LVM itself makes nothing new: it leaves a quarter, or 4 MiB of a large area (thin_manip.c). */
function lvmMetadataLimit({ metadataBytes = 0n }: LogicalVolume): number {
  const areaBytes = Number(metadataBytes)
  return 100 - Math.min(25, ((4 << 20) * 100) / Math.max(areaBytes, 1))
}
