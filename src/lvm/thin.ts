import { roundUp } from '../volume/size.ts'
import type { LogicalVolume, VolumeGroup } from './report.ts'

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
  /** Its volumes are made of whole ones. */
  unitBytes: bigint
  promisableBytes: bigint
  freeBytes: bigint
  /** Why it takes nothing new. */
  refusal: string | undefined
}

/** Share of a volume group's free space that a new thin pool takes at the most, so that its metadata can grow. */
const thinPoolPercent = 95n
/** Each chunk takes 64 bytes of the metadata area; of larger pools LVM makes the chunks larger (lvmthin(7)). */
const leastChunkBytes = 64n << 10n
const dataPerMetadata = leastChunkBytes / 64n
const [leastMetadataBytes, mostMetadataBytes] = [2n << 20n, 128n << 20n]

/** What a thin pool is made of, in extents. */
export interface ThinPoolPlan {
  data: bigint
  metadata: bigint
}

/** The thin pool that is made where so much is free: LVM keeps as much as its metadata has once more, to repair it. */
export function planThinPool(freeBytes: bigint, extentBytes: bigint): ThinPoolPlan {
  const free = freeBytes / extentBytes
  const wantedBytes = freeBytes / dataPerMetadata
  const metadataBytes =
    wantedBytes < leastMetadataBytes
      ? leastMetadataBytes
      : wantedBytes > mostMetadataBytes
        ? mostMetadataBytes
        : wantedBytes
  const metadata = roundUp(metadataBytes, extentBytes) / extentBytes
  const share = (free * thinPoolPercent) / 100n
  const left = free - 2n * metadata
  const data = left < share ? left : share
  return { data: data > 0n ? data : 0n, metadata }
}

/** What the thin pool, or the one that would be made, can still promise. */
export function measureThinPool(
  thin: ThinOptions,
  volumes: ReadonlyMap<string, LogicalVolume>,
  { freeBytes: groupFreeBytes, extentBytes }: Pick<VolumeGroup, 'freeBytes' | 'extentBytes'>,
): ThinRoom {
  const pool = volumes.get(thin.poolName)
  const dataBytes = pool ? pool.sizeBytes : planThinPool(groupFreeBytes, extentBytes).data * extentBytes
  const wholeBytes = BigInt(Math.floor(Number(dataBytes) * thin.overcommitRatio))
  // A volume has whole extents and takes whole chunks, which others may have chosen large, as LVM does for a pool of many TiB.
  const unitBytes = leastCommonMultiple(extentBytes, pool?.chunkBytes || leastChunkBytes)
  const promisableBytes = wholeBytes - (wholeBytes % unitBytes)
  const promised = [...volumes.values()].filter((volume) => volume.thinPool === thin.poolName)
  const leftBytes = promised.reduce((left, { sizeBytes }) => left - roundUp(sizeBytes, unitBytes), promisableBytes)
  const freeBytes = leftBytes > 0n ? leftBytes : 0n
  return { pool, unitBytes, promisableBytes, freeBytes, refusal: pool && thinRefusal(thin, pool) }
}

function leastCommonMultiple(a: bigint, b: bigint): bigint {
  let [greater, smaller] = [a, b]
  while (smaller > 0n) [greater, smaller] = [smaller, greater % smaller]
  return (a / greater) * b
}

function thinRefusal(thin: ThinOptions, pool: LogicalVolume): string | undefined {
  if (pool.segmentType !== 'thin-pool') return `${pool.name} exists and is not a thin pool but ${pool.segmentType}`
  const { dataPercent = 0, metadataPercent = 0 } = pool
  if (dataPercent >= thin.dataWatermark)
    return `thin pool ${pool.name} has ${dataPercent} % of its data area in use, and nothing new is created from ${thin.dataWatermark} % on`
  const metadataLimit = Math.min(thin.metadataWatermark, lvmMetadataLimit(pool))
  if (metadataPercent >= metadataLimit)
    return `thin pool ${pool.name} has ${metadataPercent} % of its metadata area in use, and nothing new is created from ${metadataLimit} % on`
  // LVM tells no percentages of a pool that has failed, and calls one that is full not well, too.
  if (pool.health !== '')
    return `thin pool ${pool.name} is unhealthy (LVM calls it ${pool.health}), and nothing new is created until it is repaired, see lvmthin(7)`
  // Made by others, perhaps: of what they chose, this is what a volume of ours cannot live with.
  if (!pool.zeroes)
    return `thin pool ${pool.name} does not zero its blocks, which may hold others' data, and nothing new is created until "lvchange --zero y" fixes that`
  if (pool.whenFull !== 'error')
    return `thin pool ${pool.name} blocks writers when it is full, and nothing new is created until "lvchange --errorwhenfull y" fixes that`
  return undefined
}

/** Percent from which on LVM itself makes nothing new: it leaves a quarter, or 4 MiB of a large area (thin_manip.c). */
function lvmMetadataLimit({ metadataBytes = 0n }: LogicalVolume): number {
  const areaBytes = Number(metadataBytes)
  return 100 - Math.min(25, ((4 << 20) * 100) / Math.max(areaBytes, 1))
}
