/** What kind of failure a volume operation ended in; the only thing a caller may branch on. */
export type VolumeErrorCode =
  /** The request itself cannot be carried out, now or later. */
  | 'invalid'
  | 'not-found'
  /** The volume is there, and what was on it is not. */
  | 'lost'
  /** Something that is not ours stands where ours should go. */
  | 'exists'
  | 'no-space'
  | 'busy'
  /** The pool cannot be used at the moment, and nothing was done. */
  | 'unavailable'
  /** The daemon is stopping and takes no new work. */
  | 'stopping'
  | 'failed'

/** A volume operation that failed, with a message for the person who asked. */
export class VolumeError extends Error {
  readonly code: VolumeErrorCode

  constructor(code: VolumeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'VolumeError'
    this.code = code
  }
}

/** The code of anything thrown. */
export function codeOf(error: unknown): VolumeErrorCode {
  return error instanceof VolumeError ? error.code : 'failed'
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** What to do when the words of a program say that a disk gives errors; nothing when they do not. */
export function adviseOnDisk(error: unknown): string {
  const words =
    /Input\/output error|i\/o error|can't read superblock|Failed to (wipe start of|initialize) |Error (reading|writing) device|read error|write error/i
  return words.test(messageOf(error)) ? '; check the kernel log (dmesg) for disk errors' : ''
}

/** A failed writing to a filesystem of the machine's, with what to do about it; `what` is a sentence without its end. */
export function writeError(what: string, error: unknown): VolumeError {
  const isFull = hasErrno(error, 'ENOSPC', 'EDQUOT') || /No space left/.test(messageOf(error))
  const advice = isFull
    ? '; make room on that filesystem'
    : hasErrno(error, 'EROFS')
      ? '; check the kernel log for why that filesystem is read-only, and fix it'
      : ''
  const code = isFull || hasErrno(error, 'EFBIG') ? 'no-space' : 'failed'
  return new VolumeError(code, `${what}: ${messageOf(error)}${advice}`, { cause: error })
}

/** Whether `error` is a system error with that code, such as `ENOENT` (errno(3)). */
export function hasErrno(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}
