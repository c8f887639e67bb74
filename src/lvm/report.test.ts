import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { fixtureNames, formatLvmAnswer, readFixture } from '../../test/lvm-fixtures.ts'
import { suite } from '../../test/suite.ts'
import { thrownBy } from '../../test/thrown.ts'
import { CommandError } from '../run.ts'
import { lvColumns, parseAnswer, parseLogicalVolume, parseVolumeGroup, type Row, vgColumns } from './report.ts'

const test = suite('LVM report')

/** The recorded answer of that name, as the program reads it. */
function answerOf(name: string) {
  const { command, text } = readFixture(name)
  return parseAnswer(command, text)
}

const failureOf = (work: () => unknown) => thrownBy(CommandError, work)

/** How those recorded commands ended that did not succeed: their exit status and some of LVM's words. */
const failures: Record<string, [number, RegExp]> = {
  'shell-activate-thin-pending': [5, /No data available/],
  'shell-change-missing': [5, /^Failed to find logical volume "elastic-local-vg\/pvc-/],
  'shell-create-bad-name': [3, /"a@b" is invalid/],
  'shell-create-bad-option': [3, /Error during parsing/],
  'shell-create-bad-size': [3, /^Can't parse size argument\.\nInvalid argument for --size: 8q\n/],
  'shell-create-bad-tag': [3, /Invalid argument for --addtag/],
  'shell-create-exists': [5, /^Logical Volume "pvc-\S+" already exists in volume group "elastic-local-vg"$/],
  'shell-create-long-name': [3, /^Logical volume name "pvc-x+/],
  'shell-create-metadata-full': [5, /exceeds maximum metadata size/],
  'shell-create-missing-group': [5, /^Volume group "nope" not found\nCannot process volume group nope$/],
  'shell-create-no-space': [5, /has insufficient free space/],
  'shell-create-reserved-name': [3, /are reserved/],
  'shell-create-thin-exists': [5, /already exists/],
  'shell-create-thin-no-pool': [5, /^Pool elastic-local-thinpool not found/],
  'shell-create-thin-pool-exists': [5, /already exists/],
  'shell-create-thin-pool-no-space': [5, /WARNING: .*\n.*nsufficient/s],
  'shell-create-zero-size': [3, /may not be zero/],
  'shell-deactivate-in-use': [5, /in use\.$/],
  'shell-deactivate-open': [5, /contains a filesystem in use\.$/],
  'shell-extend-bad-size': [3, /1e3x/],
  'shell-extend-missing': [5, /not found in volume group/],
  'shell-extend-no-space': [5, /^Insufficient free space: 26214396 extents needed/],
  'shell-extend-same-linear': [5, /matches existing size/],
  'shell-extend-same-thin': [5, /matches existing size/],
  'shell-extend-smaller': [5, /not larger than existing size/],
  'shell-extend-suspended': [5, /matches existing size/],
  'shell-group-missing': [5, /^Volume group "nope" not found/],
  'shell-list-missing-group': [5, /^Volume group "nope" not found/],
  'shell-list-missing-volume': [5, /^Failed to find logical volume/],
  'shell-remove-in-use': [5, /in use\.$/],
  'shell-remove-missing': [5, /^Failed to find logical volume/],
  'shell-remove-missing-group': [5, /^Volume group "nope" not found/],
  'shell-remove-open': [5, /contains a filesystem in use\.$/],
  'shell-remove-open-btrfs': [5, /in use\.$/],
  'shell-remove-open-thin': [5, /contains a filesystem in use\.$/],
  'shell-remove-open-xfs': [5, /contains a filesystem in use\.$/],
  'shell-unknown-command': [2, /No such command 'frobnicate'/],
}

test("every recorded answer of LVM is read as the success or the failure that it was, with LVM's words", async () => {
  const names = fixtureNames()
  assert.ok(names.length >= 60)
  for (const name of names) {
    const failure = failures[name]
    if (!failure) {
      answerOf(name)
      continue
    }
    const { file, exitCode, stderr } = await failureOf(() => answerOf(name))
    assert.is(exitCode, failure[0], name)
    assert.match(stderr, failure[1])
    assert.is(file, `lvm ${readFixture(name).command[0]}`)
  }
  assert.equal(
    Object.keys(failures).filter((name) => !names.includes(name)),
    [],
  )
})

test('errors that LVM got over are no failure', () => {
  const { lv } = answerOf('shell-list-suspended')
  assert.is(lv.length, 1)
  assert.equal(parseAnswer(['lvextend'], formatLvmAnswer({}, ['Attempted to decrement below zero.'], '1')), {
    lv: [],
    vg: [],
    seg: [],
  })
})

test('an empty group is a report without rows', () => {
  assert.equal(answerOf('shell-list-empty-group'), { lv: [], vg: [], seg: [] })
})

test('the rows of several reports are put together', () => {
  const document = { report: [{ lv: [{ lv_name: 'a' }] }, { vg: [{ vg_name: 'b' }], lv: [{ lv_name: 'c' }] }] }
  const log = [{ log_type: 'status', log_object_name: '', log_message: 'success', log_ret_code: '1' }]
  assert.equal(parseAnswer(['lvs'], JSON.stringify({ ...document, log })), {
    lv: [{ lv_name: 'a' }, { lv_name: 'c' }],
    vg: [{ vg_name: 'b' }],
    seg: [],
  })
})

test('an answer without a last word on how the command ended is a failure', async () => {
  const row = { log_type: 'print', log_object_name: '', log_message: 'half way', log_ret_code: '1' }
  for (const log of [[], [row]]) await failureOf(() => parseAnswer(['lvs'], JSON.stringify({ log })))
})

test('an answer that nobody can read is a failure that shows it', async () => {
  const truncated = readFixture('shell-list-group').text.slice(0, -20)
  const trailingComma =
    '{"log": [\n{"log_type":"print","log_object_name":"","log_message":"","log_ret_code":"0"},\n]\n}'
  for (const text of [
    '',
    'rubbish',
    'null',
    '[]',
    '{}',
    '{"log":5}',
    '{"report":[{"lv":[{"lv_size":5}]}],"log":[]}',
    truncated,
    trailingComma,
  ]) {
    const error = await failureOf(() => parseAnswer(['lvs', '-o', 'x'], text))
    assert.match(error.message, /^lvm gave an unreadable answer/)
    assert.is(error.stdout, text)
    assert.equal(error.args, ['lvs', '-o', 'x'])
  }
})

/** What was recorded has fewer columns. */
const disk = { pv_allocatable: 'allocatable', pv_missing: '', pv_pe_count: '1023', pv_pe_alloc_count: '2' }
const groupRow: Row = { ...answerOf('shell-group').vg[0], ...disk, max_lv: '0', vg_exported: '', vg_tags: '' }
const lvRow = { lv_suspended: '', lv_device_open: '', origin: '', zero: 'unknown', lv_when_full: '', chunk_size: '0' }
const parseAll = (name: string) => answerOf(name).lv.map((row) => parseLogicalVolume({ ...lvRow, ...row }))

test('parseVolumeGroup() reads a real group, of which only disks that may be allocated from have room', () => {
  const group = {
    name: 'elastic-local-vg',
    uuid: '8frY6e-PoA7-hK38-OXma-OCVa-wzbd-QGt4Ae',
    extentBytes: 4194304n,
    freeBytes: 1021n * 4194304n,
    metadataAreaBytes: 1044480n,
    metadataFreeBytes: 520192n,
    missingDisks: 0,
    volumes: 1,
    mostVolumes: 0,
    exported: false,
    tags: [],
  }
  assert.equal(parseVolumeGroup(groupRow), group)
  const more = [{ pv_allocatable: '' }, { pv_missing: 'missing' }, {}].map((field) => ({ ...groupRow, ...field }))
  assert.equal(parseVolumeGroup(groupRow, ...more), { ...group, freeBytes: 2n * group.freeBytes })
  assert.is(parseVolumeGroup({ ...groupRow, vg_exported: 'exported' }).exported, true)
})

test('parseLogicalVolume() reads a real thin pool, its parts and its volumes', () => {
  const volumes = parseAll('shell-list-thin')
  assert.equal(volumes[0], {
    name: 'elastic-local-thinpool',
    uuid: 'l3n9RO-bJkL-f5rp-32P1-5s7c-8tXJ-hWo172',
    sizeBytes: 536870912n,
    tags: ['elastic-local'],
    createdAt: new Date(1795468824 * 1000),
    active: true,
    segmentType: 'thin-pool',
    thinPool: '',
    dataPercent: 0,
    metadataPercent: 10.25,
    health: '',
    metadataBytes: 16777216n,
    suspended: false,
    open: true,
    origin: '',
    zeroes: false,
    whenFull: '',
    chunkBytes: 0n,
  })
  assert.equal(volumes.map(({ name, thinPool }) => [name, thinPool]).slice(4), [
    ['pvc-0e3f1f7c-5b7d-4d5e-9a55-1f6f0b3f8a02', 'elastic-local-thinpool'],
    ['pvc-0e3f1f7c-5b7d-4d5e-9a55-1f6f0b3f8a03', 'elastic-local-thinpool'],
  ])
  assert.equal(
    [volumes[1]?.dataPercent, volumes[1]?.metadataPercent, volumes[1]?.metadataBytes],
    [undefined, undefined, undefined],
  )
  assert.is(parseAll('shell-list-thin-out-of-data')[0]?.dataPercent, 100)
})

test('parseLogicalVolume() tells what is active from what is not', () => {
  const active = (name: string) => parseAll(name).map((volume) => volume.active)
  assert.equal(active('shell-list-volume'), [true])
  assert.equal(active('shell-list-inactive'), [false])
  assert.equal(
    parseAll('shell-list-suspended').map((volume) => volume.suspended),
    [true],
  )
})

const volumeRow: Row = { ...lvRow, ...answerOf('shell-list-thin').lv[0] }

test('sizes beyond 2^53 are exact, and tags are split', () => {
  assert.is(parseLogicalVolume({ ...volumeRow, lv_size: '9223372036854775807' }).sizeBytes, 2n ** 63n - 1n)
  assert.equal(parseLogicalVolume({ ...volumeRow, lv_tags: 'a,b=c,d' }).tags, ['a', 'b=c', 'd'])
  assert.equal(parseLogicalVolume({ ...volumeRow, lv_tags: '' }).tags, [])
})

test('a row without one of the columns we ask for is an error that names the column', async () => {
  const without = (row: Row, column: string) =>
    Object.fromEntries(Object.entries(row).filter(([key]) => key !== column))
  for (const column of lvColumns.split(','))
    await rejects('failed', new RegExp(`logical volume: ${column} is undefined`), () =>
      parseLogicalVolume(without(volumeRow, column)),
    )
  for (const column of vgColumns.split(','))
    await rejects('failed', new RegExp(`volume group: ${column} is undefined`), () =>
      parseVolumeGroup(without(groupRow, column)),
    )
})

test('a row with a wrong value is an error that names column and value', async () => {
  const volumes = {
    lv_size: ['', '4.00m', '-1', '1e3', '8388608B'],
    lv_time: ['2026-03-05', ''],
    data_percent: ['many', '1,5'],
    lv_metadata_size: ['-'],
  }
  for (const [column, values] of Object.entries(volumes))
    for (const value of values)
      await rejects('failed', new RegExp(`${column} is "${RegExp.escape(value)}"`), () =>
        parseLogicalVolume({ ...volumeRow, [column]: value }),
      )
  for (const column of vgColumns.split(',').filter((name) => /_count|_size|_free|max_/.test(name)))
    await rejects('failed', new RegExp(`${column} is "<4.00g"`), () =>
      parseVolumeGroup({ ...groupRow, [column]: '<4.00g' }),
    )
})

test.run()
