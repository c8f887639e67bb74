import * as assert from 'uvu/assert'
import { parse } from 'yaml'
import { suite } from '../../test/suite.ts'
import { formatChecklist } from './checklist.ts'
import { formatDocument } from './document.ts'
import { buildPaint, plain, printable } from './paint.ts'
import {
  formatAge,
  formatBytes,
  formatCount,
  formatDuration,
  formatPercent,
  formatShare,
  formatSize,
} from './quantity.ts'
import { formatFields, formatTable, withNotes } from './table.ts'
import { cutMiddle, wrap, wrapCommand } from './wrap.ts'

const test = suite('text')
const second = 1000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

test('formatBytes() uses binary units, up to the largest size there is', () => {
  assert.is(formatBytes(0n), '0 B')
  assert.is(formatBytes(4096n), '4 KiB')
  assert.is(formatBytes(10n << 30n), '10 GiB')
  assert.is(formatBytes((3n << 30n) / 2n), '1.5 GiB')
  assert.is(formatBytes(2n ** 63n - 1n), '8 EiB')
})

test('formatSize() gives the bytes, too, where the readable size is rounded', () => {
  assert.is(formatSize(0n), '0 B')
  assert.is(formatSize((3n << 30n) / 2n), '1.5 GiB')
  assert.is(formatSize(100n << 40n), '100 TiB')
  assert.is(formatSize(10_240_000_000n), '9.54 GiB (10240000000 bytes)')
  assert.is(formatSize((1n << 40n) - 1n), '1 TiB (1099511627775 bytes)')
})

test('formatDuration() shows the two largest units', () => {
  assert.is(formatDuration(0), '0s')
  assert.is(formatDuration(999), '0s')
  assert.is(formatDuration(45 * second), '45s')
  assert.is(formatDuration(5 * minute + 30 * second + 7), '5m30s')
  assert.is(formatDuration(3 * day + 4 * hour + 59 * minute), '3d4h')
  assert.is(formatDuration(3 * day), '3d')
})

test('formatAge() is 0s for a clock that was set back', () => {
  const now = new Date('2026-01-01T00:00:00Z')
  assert.is(formatAge(new Date(now.getTime() - 2 * hour), now), '2h')
  assert.is(formatAge(new Date(now.getTime() + hour), now), '0s')
})

test('formatShare() rounds up, so that 0% means nothing at all', () => {
  assert.is(formatShare(0n, 100n), '0%')
  assert.is(formatShare(1n, 1000n), '1%')
  assert.is(formatShare(1000n, 1000n), '100%')
  assert.is(formatShare(1n, 0n), '-')
})

test('formatPercent() keeps one place', () => {
  assert.is(formatPercent(12.345), '12.3%')
  assert.is(formatPercent(80), '80%')
})

test('formatCount() knows the plural', () => {
  assert.equal(
    [formatCount(0, 'volume'), formatCount(1, 'volume'), formatCount(2, 'volume')],
    ['0 volumes', '1 volume', '2 volumes'],
  )
})

test('formatTable() pads columns, shows nothing as "-", and leaves no blank at the end of a line', () => {
  const columns = [
    { title: 'NAME', value: (row: string[]) => row[0] },
    { title: 'SIZE', value: (row: string[]) => row[1], right: true },
    { title: 'NOTE', value: (row: string[]) => row[2] },
  ]
  assert.is(
    formatTable(columns, [
      ['a', '10 GiB', ''],
      ['long-name', '1 B', 'x y'],
    ]),
    'NAME          SIZE   NOTE\na           10 GiB   -\nlong-name      1 B   x y\n',
  )
  assert.is(formatTable(columns, []), 'NAME   SIZE   NOTE\n')
})

test('formatTable() colours a cell without moving the columns', () => {
  const columns = [
    { title: 'A', value: (row: string) => row, colour: () => 'red' as const },
    { title: 'B', value: () => 'b' },
  ]
  const paint = buildPaint({ isTTY: true }, {})
  const escapes = new RegExp(`${String.fromCharCode(27)}\\[[0-9]+m`, 'g')
  assert.is(formatTable(columns, ['x', 'long'], { paint }).replace(escapes, ''), formatTable(columns, ['x', 'long']))
})

test('formatFields() puts values below one another, and the lines of a value too', () => {
  assert.is(
    formatFields([
      ['Name', 'a'],
      ['Problems', 'one\ntwo'],
    ]),
    'Name:       a\nProblems:   one\n            two\n',
  )
})

test('formatTable() cuts the longest names in the middle where it is too wide, and no further than a name can be told', () => {
  const columns = [
    { title: 'NAME', value: (row: string[]) => row[0], cut: true },
    { title: 'SIZE', value: (row: string[]) => row[1], right: true },
    { title: 'NODE', value: (row: string[]) => row[2], cut: true },
  ]
  const rows = [['pvc-0b5d3c1e-7a52-4f8e-9c1d', '10 GiB', 'node-1.example.com']]
  const wide =
    'NAME                            SIZE   NODE\npvc-0b5d3c1e-7a52-4f8e-9c1d   10 GiB   node-1.example.com\n'
  assert.is(formatTable(columns, rows, { width: 57 }), wide)
  assert.is(
    formatTable(columns, rows, { width: 44 }),
    'NAME                 SIZE   NODE\npvc-0b5d…8e-9c1d   10 GiB   node-1.e…ple.com\n',
  )
  assert.is(formatTable(columns, rows, { width: 10 }), 'NAME         SIZE   NODE\npvc-…c1d   10 GiB   node…com\n')
  assert.is(formatTable(columns, rows, { width: 57, bare: true }), wide.slice(wide.indexOf('\n') + 1))
})

test('withNotes() fits its notes into the width, and leaves them out where rows are wanted alone', () => {
  const notes = [{ colour: 'yellow' as const, subject: 'web', message: 'it is nearly full of\u0007 things' }]
  assert.is(withNotes('table\n', notes, { width: 20 }), 'table\n\n! web: it is nearly\n  full of\\x07 things\n')
  assert.is(withNotes('table\n', notes, { bare: true }), 'table\n')
  assert.is(withNotes('table\n', []), 'table\n')
})

test('wrap() breaks at blanks only, and counts no colours', () => {
  assert.equal(wrap('one two three', 7), ['one two', 'three'])
  assert.equal(wrap('unbreakable a', 4), ['unbreakable', 'a'])
  const red = buildPaint({ isTTY: true }, {})('red', 'ab')
  assert.equal(wrap(`${red} cd`, 5), [`${red} cd`])
})

test('wrapCommand() gives lines that a shell joins again', () => {
  assert.equal(wrapCommand('tool --a 1 --b "x y"', 12), ['tool --a 1 \\', '--b "x y"'])
  assert.equal(wrapCommand(`jq '.a | .b' x`, 13), [`jq \\`, `'.a | .b' x`])
  assert.equal(wrapCommand('tool', 80), ['tool'])
})

test('cutMiddle() keeps both ends', () => {
  assert.is(cutMiddle('abcdefgh', 8), 'abcdefgh')
  assert.is(cutMiddle('abcdefgh', 5), 'ab…gh')
  assert.is(cutMiddle('abcdefgh', 4), 'ab…h')
})

test('formatFields() and formatChecklist() go on below where a line is too long', () => {
  assert.is(
    formatFields([['Problems', '! it is nearly full\n  → remove some files']], { width: 26 }),
    'Problems:   ! it is nearly\n            full\n              → remove\n              some files\n',
  )
  const item = {
    title: 'one',
    status: 'fail',
    message: 'is not there',
    details: ['this and that'],
    advice: 'mend it now',
  } as const
  assert.is(
    formatChecklist([item], { paint: plain, terminal: true, width: 18 }),
    '✘  one  is not\n        there\n        - this and\n          that\n        → mend it\n          now\n',
  )
})

test('formatChecklist() ticks off, with what there is to say and to do below, in marks or in words', () => {
  const items = [
    { title: 'one', status: 'ok', message: 'done' },
    { title: 'second', status: 'fail', message: 'broken\u001b', details: ['this', 'that'], advice: 'mend it' },
    { title: 'third', status: 'open', message: 'not reached' },
  ] as const
  assert.is(
    formatChecklist(items, { paint: plain, terminal: true }),
    '✔  one     done\n✘  second  broken\\x1b\n           - this\n           - that\n           → mend it\n·  third   not reached\n',
  )
  assert.match(formatChecklist(items, { paint: plain, terminal: false }), /^OK {4}one {5}done\nFAIL {2}second/)
  assert.is(formatChecklist([], { paint: plain, terminal: true }), '')
})

test('buildPaint() colours on a terminal only, and never with NO_COLOR', () => {
  const coloured = (stream: { isTTY?: boolean }, env: NodeJS.ProcessEnv) => buildPaint(stream, env)('red', 'x') !== 'x'
  assert.ok(coloured({ isTTY: true }, {}))
  assert.ok(coloured({ isTTY: true }, { NO_COLOR: '' }))
  assert.not(coloured({ isTTY: true }, { NO_COLOR: '1' }))
  assert.not(coloured({ isTTY: true }, { TERM: 'dumb' }))
  assert.not(coloured({}, { FORCE_COLOR: '1' }))
  assert.is(plain('red', 'x'), 'x')
})

test('printable() lets nothing steer the terminal', () => {
  assert.is(printable('a\u001b[2Jb\u0007\u009b'), 'a\\x1b[2Jb\\x07\\x9b')
  assert.is(printable('gpj\u202e.exe'), 'gpj\\u202e.exe')
  assert.is(printable('two\nlines, ünïcode'), 'two lines, ünïcode')
})

test('formatDocument() writes sizes as decimal texts, the same in JSON and YAML', () => {
  const value = { sizeBytes: 2n ** 63n - 1n, createdAt: new Date(0), fsType: undefined, problems: [] }
  const expected = { sizeBytes: '9223372036854775807', createdAt: '1970-01-01T00:00:00.000Z', problems: [] }
  assert.equal(JSON.parse(formatDocument('json', value)), expected)
  assert.equal(parse(formatDocument('yaml', value)), expected)
})

test.run()
