/** uvu's suites, which tell why a hook failed: uvu drops that error, and with a `before` all of its tests. */
import { inspect } from 'node:util'
// biome-ignore lint/style/noRestrictedImports: here it is made one that tells.
import { type Callback, suite as silentSuite, type Test } from 'uvu'

/** A suite of tests as uvu's `suite()` makes it. */
export function suite<T = Record<string, unknown>>(name: string, state?: T): Test<T> {
  const test = silentSuite<T>(name, state)
  const telling =
    (hook: Callback<T>): Callback<T> =>
    async (context) => {
      try {
        await hook(context)
      } catch (error) {
        process.stdout.write(`\n  FAIL  ${name}, in a hook\n${inspect(error)}\n`)
        throw error
      }
    }
  for (const when of ['before', 'after'] as const) {
    const { each, ...rest } = test[when]
    const all = test[when].bind(test)
    test[when] = Object.assign((hook: Callback<T>) => all(telling(hook)), rest, {
      each: (hook: Callback<T>) => each(telling(hook)),
    })
  }
  return test
}
