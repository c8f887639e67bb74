import { status } from '@grpc/grpc-js'
import { messageOf, VolumeError, type VolumeErrorCode } from '../volume/errors.ts'

/** A call that ends with a code which no volume operation has. */
export class CallError extends Error {
  readonly code: status

  constructor(code: status, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CallError'
    this.code = code
  }
}

/**
 * What the codes of volume operations are in gRPC. After CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE, RESOURCE_EXHAUSTED and
 * ABORTED the kubelet takes a volume for perhaps mounted, and asks to take it away; after all others for surely not mounted.
 */
const codes: Record<VolumeErrorCode, status> = {
  invalid: status.INVALID_ARGUMENT,
  'not-found': status.NOT_FOUND,
  lost: status.DATA_LOSS,
  exists: status.ALREADY_EXISTS,
  'no-space': status.RESOURCE_EXHAUSTED,
  busy: status.FAILED_PRECONDITION,
  unavailable: status.UNAVAILABLE,
  stopping: status.UNAVAILABLE,
  failed: status.INTERNAL,
}

/** How a call ends that threw. */
export function statusOf(error: unknown): { code: status; details: string } {
  const code = error instanceof CallError ? error.code : error instanceof VolumeError ? codes[error.code] : undefined
  return { code: code ?? status.INTERNAL, details: messageOf(error) }
}

/** The text of a field that must not be empty. Throws `invalid`. */
export function need(text: string, field: string): string {
  if (text !== '') return text
  throw new VolumeError('invalid', `Cannot serve this call as ${field} must be given: it is empty.`)
}
