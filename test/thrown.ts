import * as assert from 'uvu/assert'

/** The error that `work` throws, which must be one of that class. Fails when it throws none. */
export async function thrownBy<E extends Error>(kind: new (...args: never[]) => E, work: () => unknown): Promise<E> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof kind)) throw error
    return error
  }
  return assert.unreachable(`expected a ${kind.name}`) as never
}
