import { toJson } from '../json.ts'
import { messageOf } from '../volume/errors.ts'
import { type DocumentFormat, formatDocument, isDocumentFormat } from './document.ts'
import { valuesAt } from './json-path.ts'
import type { Screen } from './screen.ts'
import type { Look } from './table.ts'

/** Records of one kind, and the ways in which they can be printed. */
export interface Listing<T extends object> {
  /** Under which name a document has them. */
  kind: string
  records: readonly T[]
  /** More that a document has. */
  more?: object
  /** As `-o name` prints a record, so that another command can take it. */
  nameOf(record: T): string
  /** One line a record, below their titles, and then what is to be said of them; the lines alone where `look` is bare. */
  format(records: readonly T[], look: Look, wide: boolean): string
  /** What is told when there are none. */
  none: string
}

/** What a person asks of a list. */
export interface ListWishes {
  output: 'table' | 'wide' | 'name' | DocumentFormat
  noHeaders: boolean
  /** A JSONPath in a record. */
  sortBy?: string | undefined
}

/** Prints a list once. */
export function printListing<T extends object>(screen: Screen, listing: Listing<T>, wishes: ListWishes): void {
  const { kind, more, none, format } = listing
  const { output } = wishes
  const records = sort(listing.records, wishes.sortBy)
  if (isDocumentFormat(output)) screen.print(formatDocument(output, { [kind]: records, ...more }))
  else if (records.length === 0) screen.tell(none)
  else if (output === 'name') screen.print(records.map((record) => `${listing.nameOf(record)}\n`).join(''))
  else screen.print(format(records, lookFor(screen, wishes), output === 'wide'))
}

/** The records that are new or have changed since, as lines of the table that they all are, or as documents of their own. */
export function printChanges<T extends object>(
  screen: Screen,
  before: Listing<T>,
  now: Listing<T>,
  wishes: ListWishes,
): void {
  const { output } = wishes
  const known = new Set(before.records.map(toJson))
  const records = sort(now.records, wishes.sortBy)
  const isChanged = (record: T) => !known.has(toJson(record))
  if (isDocumentFormat(output))
    for (const record of records.filter(isChanged)) screen.print(formatDocument(output, record))
  else if (output === 'name') for (const record of records.filter(isChanged)) screen.print(`${now.nameOf(record)}\n`)
  else {
    const lines = now.format(records, { ...lookFor(screen, wishes), bare: true }, output === 'wide').split('\n')
    for (const [index, record] of records.entries()) if (isChanged(record)) screen.print(`${lines[index]}\n`)
  }
}

/** Prints a list and, for as long as `wait` says, what changes of it; what keeps it from looking later it tells of, and looks again. */
export async function watchListing<T extends object>(
  screen: Screen,
  read: () => Promise<Listing<T>>,
  wishes: ListWishes,
  wait: (readMs: number) => Promise<boolean>,
): Promise<void> {
  const timed = async () => {
    const begunAt = performance.now()
    const listing = await read()
    return { listing, readMs: performance.now() - begunAt }
  }
  let before = await timed()
  printListing(screen, before.listing, wishes)
  let told = ''
  while (await wait(before.readMs)) {
    const now = await timed().catch(messageOf)
    if (typeof now === 'string') {
      if (now !== told) screen.tell(now)
      told = now
      continue
    }
    told = ''
    printChanges(screen, before.listing, now.listing, wishes)
    before = now
  }
}

function lookFor({ paint, width }: Screen, { output, noHeaders }: ListWishes): Look {
  return { paint, width: output === 'wide' ? undefined : width, bare: noHeaders }
}

/** By the first value at the path: numbers by their size, and what has none last. Throws `invalid` for a wrong path. */
function sort<T extends object>(records: readonly T[], path: string | undefined): readonly T[] {
  if (path === undefined) return records
  const keyed = records.map((record) => ({ record, key: valuesAt(path, JSON.parse(toJson(record)))[0] }))
  return keyed.sort((a, b) => compare(a.key, b.key)).map(({ record }) => record)
}

function compare(a: unknown, b: unknown): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined)
  const [left, right] = [String(a), String(b)]
  const isCount = (text: string) => /^[0-9]+$/.test(text)
  if (isCount(left) && isCount(right)) return Number(BigInt(left) - BigInt(right))
  return left < right ? -1 : Number(left > right)
}
