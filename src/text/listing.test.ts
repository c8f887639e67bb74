import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { type Listing, type ListWishes, printListing, watchListing } from './listing.ts'
import { buildScreen } from './screen.ts'
import { formatTable, withNotes } from './table.ts'

const test = suite('listing')

interface Disk {
  name: string
  sizeBytes?: bigint
}

const columns = [
  { title: 'NAME', value: ({ name }: Disk) => name, cut: true },
  { title: 'SIZE', value: ({ sizeBytes }: Disk) => sizeBytes?.toString(), right: true },
]
const listing = (...records: Disk[]): Listing<Disk> => ({
  kind: 'disks',
  records,
  more: { notRead: [] },
  nameOf: ({ name }) => `disk/${name}`,
  format: (disks, look) =>
    withNotes(formatTable(columns, disks, look), [{ subject: 'b', message: 'is not well' }], look),
  none: 'There are no disks.',
})
const disks = listing({ name: 'b', sizeBytes: 9n }, { name: 'a', sizeBytes: 10n }, { name: 'c' })

/** A screen, and what was printed on it and told beside. */
function open() {
  const shown = { out: '', err: '' }
  const stream = (name: 'out' | 'err') => ({
    write: (text: string) => {
      shown[name] += text
    },
  })
  const screen = buildScreen({ stdin: {}, stdout: stream('out'), stderr: stream('err'), env: {} } as never)
  return { screen, shown }
}

function print(from: Listing<Disk>, wishes: Partial<ListWishes>): { out: string; err: string } {
  const { screen, shown } = open()
  printListing(screen, from, { output: 'table', noHeaders: false, ...wishes })
  return shown
}

test('printListing() prints a table, bare rows, names, documents and what a JSONPath finds', () => {
  assert.is(print(disks, {}).out, 'NAME   SIZE\nb         9\na        10\nc         -\n\nb: is not well\n')
  assert.is(print(disks, { noHeaders: true }).out, 'b    9\na   10\nc    -\n')
  assert.is(print(disks, { output: 'name' }).out, 'disk/b\ndisk/a\ndisk/c\n')
  assert.equal(JSON.parse(print(disks, { output: 'json' }).out), {
    disks: [{ name: 'b', sizeBytes: '9' }, { name: 'a', sizeBytes: '10' }, { name: 'c' }],
    notRead: [],
  })
  assert.is(print(disks, { output: 'jsonpath={.disks[*].name}' }).out, 'b a c')
})

test('printListing() tells a person that there is nothing, and gives a program an empty list', () => {
  assert.equal(print(listing(), {}), { out: '', err: 'There are no disks.\n' })
  assert.equal(JSON.parse(print(listing(), { output: 'json' }).out), { disks: [], notRead: [] })
})

test('printListing() sorts numbers by their size, texts by their letters, and what has none last', () => {
  for (const [sortBy, names] of [
    ['.sizeBytes', 'b a c'],
    ['{.name}', 'a b c'],
    ['name', 'a b c'],
    ['.nothing', 'b a c'],
  ] as const)
    assert.is(print(disks, { output: 'jsonpath={.disks[*].name}', sortBy }).out, names, sortBy)
  assert.throws(() => print(disks, { sortBy: '[?(@==)]' }), /Cannot use the JSONPath \[\?\(@==\)\]/)
})

/** What is printed while the list is read again and again, as each of these. */
async function watch(lists: readonly Listing<Disk>[], wishes: Partial<ListWishes>): Promise<string> {
  const { screen, shown } = open()
  const left = [...lists]
  const read = async () => left.shift() as Listing<Disk>
  await watchListing(screen, read, { output: 'table', noHeaders: false, ...wishes }, async () => left.length > 0)
  return shown.out
}

test('watchListing() goes on with the rows that are new or have changed', async () => {
  const lists = [
    listing({ name: 'a', sizeBytes: 1n }, { name: 'b' }),
    listing({ name: 'a', sizeBytes: 1n }, { name: 'b' }),
    listing({ name: 'a', sizeBytes: 20n }, { name: 'b' }, { name: 'c' }),
    listing({ name: 'c' }),
  ]
  assert.is(await watch(lists, { noHeaders: true }), 'a   1\nb   -\na   20\nc    -\n')
  assert.is(await watch(lists, { output: 'name' }), 'disk/a\ndisk/b\ndisk/a\ndisk/c\n')
  assert.is(
    await watch(lists.slice(1, 3), { output: 'jsonpath={.name} ' }),
    ' a c ',
    'a record that has changed is a document of its own',
  )
})

test('watchListing() says once that it cannot look, as while a daemon is started anew, and goes on', async () => {
  const { screen, shown } = open()
  const looks: (Listing<Disk> | string)[] = [
    listing({ name: 'a' }),
    'it is away',
    'it is away',
    'it is not ready',
    listing({ name: 'a' }, { name: 'b' }),
    'it is away',
    listing({ name: 'c' }),
  ]
  const read = async () => {
    const look = looks.shift()
    if (typeof look === 'object') return look
    throw new Error(look)
  }
  const wishes = { output: 'name', noHeaders: false } as const
  await watchListing(screen, read, wishes, async () => looks.length > 0)
  assert.is(shown.out, 'disk/a\ndisk/b\ndisk/c\n')
  assert.is(shown.err, 'it is away\nit is not ready\nit is away\n')
  looks.push('it is away')
  await watchListing(screen, read, wishes, async () => true).then(
    () => assert.unreachable(),
    (error) => assert.is(error.message, 'it is away'),
  )
})

test.run()
