import { Assertion } from 'uvu/assert'
import { messageOf } from '../../src/volume/errors.ts'

/** The text of an error, with the difference that an assertion saw. */
export function explain(error: unknown): string {
  const difference = error instanceof Assertion ? error.details : false
  return difference ? `${messageOf(error)}\n${difference}` : messageOf(error)
}
