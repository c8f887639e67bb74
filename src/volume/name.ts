import { VolumeError } from './errors.ts'

const namePattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

/** Whether it can be a volume's name. */
export const isVolumeName = (text: string): boolean => namePattern.test(text)

/**
 * The volume name, if it is one: a DNS label (RFC 1123), which is also safe as a file name and as the name of a
 * logical volume (lvm(8)). Throws `invalid`.
 */
export function parseVolumeName(text: string): string {
  if (namePattern.test(text)) return text
  const shown = text.length > 80 ? `${text.slice(0, 80)}… (${text.length} characters)` : text
  throw new VolumeError(
    'invalid',
    `Cannot use ${JSON.stringify(shown)} as a volume name as it must be 1 to 63 of a-z, 0-9 and "-", with "-" neither first nor last.`,
  )
}
