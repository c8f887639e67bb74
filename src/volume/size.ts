import { VolumeError } from './errors.ts'

const units: Record<string, bigint> = {
  '': 1n,
  k: 1000n,
  M: 1000n ** 2n,
  G: 1000n ** 3n,
  T: 1000n ** 4n,
  P: 1000n ** 5n,
  Ki: 1024n,
  Mi: 1024n ** 2n,
  Gi: 1024n ** 3n,
  Ti: 1024n ** 4n,
  Pi: 1024n ** 5n,
}
const largestBytes = 2n ** 63n - 1n

/**
 * Bytes from a whole Kubernetes quantity such as `1073741824`, `10Gi` or `5G`. Throws `invalid`, naming `field`, for
 * anything else, for zero, and for what does not fit a signed 64-bit number.
 */
export function parseSize(text: unknown, field: string): bigint {
  const match = typeof text === 'string' ? /^([0-9]{1,20})(|[kMGTP]|[KMGTP]i)$/.exec(text) : null
  const sizeBytes = match ? BigInt(match[1] ?? '') * (units[match[2] ?? ''] ?? 0n) : 0n
  if (sizeBytes < 1n || sizeBytes > largestBytes)
    throw new VolumeError(
      'invalid',
      `Cannot read ${field} as a size must be a whole number of bytes from 1 to 2^63-1, such as 1073741824 or 1Gi: it is ${JSON.stringify(text) ?? 'missing'}.`,
    )
  return sizeBytes
}

/** `sizeBytes` rounded up to a whole number of `unitBytes`. */
export function roundUp(sizeBytes: bigint, unitBytes: bigint): bigint {
  return ((sizeBytes + unitBytes - 1n) / unitBytes) * unitBytes
}
