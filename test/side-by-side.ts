import type { Test } from 'uvu'

/** Registers tests that mostly wait: all begin with the first test of the suite, so that they wait at the same time. */
export function sideBySide(test: Test): (title: string, work: () => Promise<void>) => void {
  const begins: (() => void)[] = []
  test.before(() => {
    for (const begin of begins) begin()
  })
  return (title, work) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    promise.catch(() => {})
    begins.push(() => work().then(resolve, reject))
    test(title, () => promise)
  }
}
