import { CommandError } from '../run.ts'
import { adviseOnDisk, messageOf, VolumeError, type VolumeErrorCode } from '../volume/errors.ts'

/** What kind of failure LVM's words mean. Its exit status is 5 for all of them. */
export function classify(error: unknown): VolumeErrorCode {
  if (!(error instanceof CommandError)) return 'failed'
  const { stderr } = error
  if (/already exists in volume group|already used by/.test(stderr)) return 'exists'
  if (
    /insufficient (free space|suitable)|not enough (free|space)|free space \(|free space .* reached threshold|exceeds maximum metadata size|too large for|is over quota|Maximum number of logical volumes/i.test(
      stderr,
    )
  )
    return 'no-space'
  if (isGroupMissing(error)) return 'unavailable'
  if (/Failed to find logical volume|not found in volume group/.test(stderr)) return 'not-found'
  if (/in use|contains a filesystem in use|is used by another device/.test(stderr)) return 'busy'
  return 'failed'
}

/** Whether LVM finds no volume group of that name, as when no disk holds its description any more. */
export function isGroupMissing(error: unknown): boolean {
  return error instanceof CommandError && /Volume group .* not found/.test(error.stderr)
}

/** LVM's failure as one of ours: what could not be done, and LVM's own words. */
export function lvmError(what: string, error: unknown): VolumeError {
  return new VolumeError(classify(error), `${what}: ${messageOf(error)}${adviseOnDisk(error)}`, { cause: error })
}
