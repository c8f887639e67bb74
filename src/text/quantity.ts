import prettyBytes from 'pretty-bytes'
import prettyMs from 'pretty-ms'

/** A size as people read it, in binary units: `10 GiB`. */
export function formatBytes(bytes: bigint): string {
  return prettyBytes(bytes, { binary: true })
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']

/** The same, and in bytes, for who reads both: `10 GiB (10737418240 bytes)`. */
export function formatExactly(bytes: bigint): string {
  return `${formatBytes(bytes)} (${bytes} bytes)`
}

/** A size, and in bytes where that is rounded: `9.54 GiB (10240000000 bytes)`. For what is compared with another size. */
export function formatSize(bytes: bigint): string {
  const text = formatBytes(bytes)
  const [number, unit = ''] = text.split(' ')
  const isExact = BigInt(Math.round(Number(number) * 1024 ** units.indexOf(unit))) === bytes
  return isExact ? text : formatExactly(bytes)
}

/** A time span in its two largest units: `3d4h`, `5m30s`. */
export function formatDuration(ms: number): string {
  return prettyMs(Math.max(0, Math.floor(ms / 1000) * 1000), { unitCount: 2 })
    .replaceAll(' ', '')
    .replace('0ms', '0s')
}

/** How long ago `since` was: `3d4h`. */
export function formatAge(since: Date, now: Date): string {
  return formatDuration(now.getTime() - since.getTime())
}

/** The share of `part` in `whole`, rounded up as df(1) does, so that `0%` means nothing at all. */
export function formatShare(part: bigint, whole: bigint): string {
  return whole > 0n ? `${(part * 100n + whole - 1n) / whole}%` : '-'
}

/** A percentage that was measured: `12.5%`. */
export function formatPercent(percent: number): string {
  return `${Number(percent.toFixed(1))}%`
}

/** A number and its noun: `1 volume`, `3 volumes`. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}
