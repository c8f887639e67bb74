import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import type { Intent } from '../volume/journal.ts'
import { fsTypes } from '../volume/pool.ts'
import { buildJournal, buildRecords, type Marker, markerSchema, ownFolder } from './records.ts'

const test = suite('records')
const marker: Marker = {
  id: 'an-id',
  sizeBytes: '9223372036854775807',
  fsType: 'xfs',
  createdAt: '2026-03-05T10:00:00.000Z',
}
const intent: Intent = {
  phase: 'formatting',
  id: 'i',
  sizeBytes: 2n ** 62n + 1n,
  fsType: 'btrfs',
  mkfsOptions: ['-O', '^x'],
}

/** Runs `work` with the records of a folder that is not there yet. */
const withMarkers = (
  work: (markers: ReturnType<typeof buildRecords<typeof markerSchema>>, folder: string) => Promise<void>,
) =>
  withScratch(async (scratch) => {
    const folder = join(scratch, 'a/b')
    await work(buildRecords(folder, markerSchema), folder)
  })

test('a record is there after it was written, changes when it is written again, and is gone after it was cleared', () =>
  withMarkers(async (markers) => {
    assert.is(await markers.read('one'), undefined)
    assert.equal(await markers.readAll(), new Map())
    await markers.clear('one')
    await markers.write('one', { ...marker, sizeBytes: '1' })
    await markers.write('one', marker)
    await markers.write('two', marker)
    assert.equal(await markers.read('one'), marker)
    await markers.clear('one')
    await markers.clear('one')
    assert.is(await markers.read('one'), undefined)
    assert.equal(await markers.readAll(), new Map([['two', marker]]))
  }))

test('a record is written by one process and read by another', () =>
  withMarkers(async (markers, folder) => {
    await markers.write('one', marker)
    assert.equal(await buildRecords(folder, markerSchema).read('one'), marker)
  }))

test('what a crash left of a file, and files of other kinds, are not taken for records', () =>
  withMarkers(async (markers, folder) => {
    await mkdir(folder, { recursive: true })
    for (const file of ['.one.json.tmp', '.hidden.json', 'one.img', 'lock'])
      await writeFile(join(folder, file), '{"id":')
    assert.is(await markers.read('one'), undefined)
    assert.equal(await markers.readAll(), new Map())
    await markers.write('one', marker)
    assert.equal(await markers.readAll(), new Map([['one', marker]]))
    assert.not.ok((await readdir(folder)).includes('.one.json.tmp'))
  }))

test('a damaged record is an error that names its file', () =>
  withMarkers(async (markers, folder) => {
    await markers.write('good', marker)
    const path = join(folder, 'bad.json')
    const without = (key: keyof Marker) => JSON.stringify({ ...marker, [key]: undefined })
    const changed = (change: object) => JSON.stringify({ ...marker, ...change })
    const damaged = [
      '',
      '\0\0\0\0',
      '{"id":"an-i',
      'null',
      '[]',
      '"text"',
      '{}',
      ...(['id', 'sizeBytes', 'fsType', 'createdAt'] as const).map(without),
      ...[
        { sizeBytes: 5 },
        { sizeBytes: '-5' },
        { sizeBytes: '1e3' },
        { sizeBytes: '' },
        { sizeBytes: '1'.repeat(20) },
      ].map(changed),
      ...[{ fsType: 'ext3' }, { createdAt: 'yesterday' }, { createdAt: 5 }, { id: null }].map(changed),
    ]
    for (const text of damaged) {
      await writeFile(path, text)
      const named = new RegExp(`^Cannot read ${RegExp.escape(path)}: `)
      await rejects('failed', named, () => markers.read('bad'))
      // It costs itself alone.
      assert.equal(await markers.readAll(), new Map([['good', marker]]))
      const each = await markers.readEach()
      assert.equal([...each.keys()].sort(), ['bad', 'good'])
      assert.match((each.get('bad') as Error).message, named)
      assert.is(await readFile(path, 'utf8'), text)
    }
    assert.equal(await markers.read('good'), marker)
    assert.equal((await markers.names()).sort(), ['bad', 'good'])
  }))

test('a record that cannot be written is an error that names its file', () =>
  withMarkers(async (markers, folder) => {
    await mkdir(dirname(folder), { recursive: true })
    await writeFile(folder, 'a file')
    await rejects('failed', new RegExp(`^Cannot write ${RegExp.escape(join(folder, 'one.json'))}: `), () =>
      markers.write('one', marker),
    )
  }))

test('the journal keeps intents of every phase, with exact sizes, from one process to the next', () =>
  withScratch(async (volumesDir) => {
    const intents: [string, Intent][] = [
      ['creating', { ...intent, phase: 'creating' }],
      ['formatting', intent],
      ['removing', { phase: 'removing', id: 'i' }],
      ['growing', { phase: 'growing', id: 'i' }],
      ['removing-theirs', { phase: 'removing' }],
    ]
    for (const [name, intent] of intents) await buildJournal(volumesDir).write(name, intent)
    assert.equal(await buildJournal(volumesDir).read(), new Map(intents))
    await buildJournal(volumesDir).clear('formatting')
    await buildJournal(volumesDir).write('creating', { phase: 'removing', id: 'j' })
    const left = new Map([...intents, ['creating', { phase: 'removing', id: 'j' }]] as [string, Intent][])
    left.delete('formatting')
    assert.equal(await buildJournal(volumesDir).read(), left)
  }))

test('the journal gives back whatever it is given', () =>
  withScratch(async (volumesDir) => {
    const journal = buildJournal(volumesDir)
    const making = fc.record({
      phase: fc.constantFrom('creating' as const, 'formatting' as const),
      id: fc.uuid(),
      sizeBytes: fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }),
      fsType: fc.constantFrom(...fsTypes),
      mkfsOptions: fc.array(fc.string({ unit: 'binary' })),
    })
    const phase = fc.constantFrom('growing' as const, 'removing' as const)
    const removing = fc.record({ phase, id: fc.uuid() }, { requiredKeys: ['phase'] })
    await fc.assert(
      fc.asyncProperty(fc.oneof(making, removing), async (any) => {
        // JSON has no objects without a prototype.
        const intent: Intent = { ...any }
        await journal.write('one', intent)
        assert.equal((await journal.read()).get('one'), intent)
      }),
      { numRuns: 30 },
    )
  }))

test('an intent that is damaged, or of a phase nobody knows, is told of by the name of its file, and costs no other', () =>
  withScratch(async (volumesDir) => {
    const journal = buildJournal(volumesDir)
    for (const name of ['one', 'two']) await journal.write(name, intent)
    const path = join(volumesDir, ownFolder, 'intents/one.json')
    for (const text of [
      '',
      '{"phase":"formatting"',
      '{"phase":"formatting","id":"i"}',
      '{"phase":"shrinking","id":"i"}',
      '{"phase":"removing","id":5}',
    ]) {
      await writeFile(path, text)
      const all = await journal.read()
      assert.equal(all.get('two'), intent)
      const damaged = all.get('one')
      assert.ok(damaged?.phase === 'unreadable' && damaged.problem.includes(path))
    }
  }))

test('an intent to make a volume becomes, in one step, the record that it was made', () =>
  withScratch(async (volumesDir) => {
    const journal = buildJournal(volumesDir)
    for (const name of ['one', 'two']) {
      await journal.write(name, intent)
      await journal.finish(name)
    }
    assert.equal(await journal.read(), new Map())
    const id = 'id' in intent ? intent.id : ''
    const made = new Map([
      ['one', id],
      ['two', id],
    ])
    assert.equal(await journal.readMade(), made)
    await writeFile(join(volumesDir, ownFolder, 'made/two.json'), '')
    made.delete('two')
    assert.equal(await journal.readMade(), made)
    await journal.forget('one')
    await journal.forget('one')
    assert.equal(await journal.readMade(), new Map())
  }))

test.run()
