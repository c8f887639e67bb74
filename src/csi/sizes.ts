import { VolumeError } from '../volume/errors.ts'
import type { CapacityRange } from './proto/csi_pb.ts'

/** What a capacity range asks for; of what it leaves open, nothing. Throws `invalid`. */
export function parseSizes(range: CapacityRange | undefined): { requiredBytes?: bigint; limitBytes?: bigint } {
  const { requiredBytes = 0n, limitBytes = 0n } = range ?? {}
  if (requiredBytes < 0n || limitBytes < 0n || (limitBytes > 0n && limitBytes < requiredBytes))
    throw new VolumeError(
      'invalid',
      `Cannot serve a capacity range as its limit must be no less than what is required: they are ${limitBytes} and ${requiredBytes} bytes.`,
    )
  return { ...(requiredBytes ? { requiredBytes } : {}), ...(limitBytes ? { limitBytes } : {}) }
}
