import { setTimeout as sleep } from 'node:timers/promises'
import type { ExitCode } from '../inspect/actions.ts'
import { type Listing, watchListing } from '../text/listing.ts'
import type { Call } from './command.ts'
import { type FlagValues, flag, outputFlag, toggle } from './flags.ts'

/** Flags of the commands that list records: kubectl's, with kubectl's meaning. */
export const listFlags = {
  output: outputFlag('table', 'wide', 'name', 'json', 'yaml', 'jsonpath='),
  noHeaders: toggle('no-headers', 'only the rows of the table: no header, no notes'),
  sortBy: flag(
    { mustBe: 'a JSONPath in a record', parse: (text) => text || undefined },
    { name: 'sort-by', value: '<path>', defaultHelp: 'their names', help: 'a field of -o json, such as .sizeBytes' },
  ),
  watch: toggle('watch', 'keep running, and print what changes', 'w'),
}

const lookAgainMs = 2000
/** Reading what takes long is done the more seldom. */
const readShare = 4

/** Prints a list, and what changes of it if that is wanted. */
export async function showListing<T extends object>(
  { screen, flags }: { flags: FlagValues<typeof listFlags> } & Pick<Call, 'screen'>,
  read: () => Promise<Listing<T>>,
): Promise<ExitCode> {
  await watchListing(screen, read, flags, async (readMs) => {
    if (flags.watch) await sleep(Math.max(lookAgainMs, readMs * readShare))
    return flags.watch
  })
  return 0
}
