import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { suite } from '../../test/suite.ts'
import { buildSpec } from '../daemon/front.ts'
import { VolumeError } from '../volume/errors.ts'
import { fsTypes } from '../volume/pool.ts'
import { parseOptions } from './options.ts'

const test = suite('call-out options')
const keys = [
  'kubernetes.io/fsType',
  'kubernetes.io/readwrite',
  'kubernetes.io/pvOrVolumeName',
  'sizeBytes',
  'mkfsOptions',
  'mountOptions',
]
const bare = { mkfsOptions: [], mountOptions: [], readOnly: false }

test('parseOptions() reads what the kubelet and the PV say, and leaves what it does not know', () => {
  const options = {
    'kubernetes.io/fsType': 'xfs',
    'kubernetes.io/readwrite': 'ro',
    'kubernetes.io/pvOrVolumeName': 'pvc-1',
    'kubernetes.io/pod.uid': 'u',
    'kubernetes.io/secret/key': 'c2VjcmV0',
    sizeBytes: '1073741824',
    mkfsOptions: ' -m  reflink=0 ',
    mountOptions: 'noatime,,discard,',
    other: 5,
  }
  assert.equal(parseOptions(options), {
    sizeBytes: 1n << 30n,
    fsType: 'xfs',
    mkfsOptions: ['-m', 'reflink=0'],
    mountOptions: ['noatime', 'discard'],
    readOnly: true,
    volumeName: 'pvc-1',
  })
})

test('parseOptions() takes missing and empty options for not given', () => {
  assert.equal(parseOptions({}), bare)
  assert.equal(parseOptions(Object.fromEntries(keys.map((key) => [key, '']))), bare)
  assert.equal(parseOptions({ 'kubernetes.io/readwrite': 'rw' }), bare)
})

test('parseOptions() believes only what the object itself holds', () => {
  assert.equal(parseOptions(Object.create({ sizeBytes: '5', mountOptions: 'noatime' })), bare)
  assert.equal(parseOptions(JSON.parse('{"__proto__":{"sizeBytes":"5"}}')), bare)
})

test('parseOptions() refuses what is no object, and an option that is no text, and names it', async () => {
  for (const options of [undefined, null, 5, 'text', true, [], [{}]])
    await rejects('invalid', /^Cannot read the options as they must be a JSON object: they are /, () =>
      parseOptions(options),
    )
  for (const key of keys)
    for (const value of [5, null, true, {}, ['ext4']])
      await rejects(
        'invalid',
        new RegExp(`^Cannot read option ${key} as it must be a string: it is (of type \\w+|null|an array)\\.$`),
        () => parseOptions({ [key]: value }),
      )
})

test('parseOptions() refuses a size, a filesystem and an access that are none, and shows them', async () => {
  for (const sizeBytes of ['0', '-1', '1e3', '9223372036854775808', 'ten', '1.5', ' 1'])
    await rejects('invalid', /option sizeBytes as a size/, () => parseOptions({ sizeBytes }))
  for (const fsType of ['ext3', 'EXT4', 'ext4 ', 'ntfs', '../ext4', '-F', 'constructor'])
    await rejects('invalid', new RegExp(`fsType .* one of ext4, xfs, btrfs: it is "${RegExp.escape(fsType)}"`), () =>
      parseOptions({ 'kubernetes.io/fsType': fsType }),
    )
  for (const access of ['RO', 'true', 'r', 'wr'])
    await rejects('invalid', /must be "ro" or "rw"/, () => parseOptions({ 'kubernetes.io/readwrite': access }))
})

test('buildSpec() makes ext4 by default, and needs a size', async () => {
  assert.equal(buildSpec({ ...bare, sizeBytes: 5n }), { sizeBytes: 5n, fsType: 'ext4', mkfsOptions: [] })
  assert.is(buildSpec({ ...bare, sizeBytes: 5n, fsType: 'btrfs' }).fsType, 'btrfs')
  await rejects('invalid', /sizeBytes .* missing/, () => buildSpec(bare))
})

test('whatever the options are, the answer is options that reach nothing else, or a VolumeError', () => {
  const word = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 8 }),
    fc.constantFrom('-b', '-M', '-O', '--mixed', '-d', 'bind', 'noatime', 'name=x', '4096', '/etc', ',', ' ', '='),
  )
  const text = fc.array(word, { maxLength: 6 }).chain((words) => fc.constantFrom(words.join(' '), words.join(',')))
  const value = fc.oneof(text, fc.jsonValue())
  const options = fc.record(
    {
      'kubernetes.io/fsType': fc.oneof(fc.constantFrom(...fsTypes, ''), value),
      'kubernetes.io/readwrite': fc.oneof(fc.constantFrom('ro', 'rw', ''), value),
      'kubernetes.io/pvOrVolumeName': value,
      sizeBytes: fc.oneof(fc.bigInt().map(String), value),
      mkfsOptions: value,
      mountOptions: value,
    },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(fc.oneof(options, fc.jsonValue()), (asked) => {
      try {
        const { mountOptions, mkfsOptions, sizeBytes = 1n } = parseOptions(asked)
        for (const option of mountOptions) assert.match(option, /^[a-z0-9_-]+(=[\w.:+-]+)?$/)
        for (const word of mkfsOptions) assert.not.match(word, /[/\s]/)
        assert.ok(sizeBytes > 0n && sizeBytes < 2n ** 63n)
      } catch (error) {
        if (!(error instanceof VolumeError && error.code === 'invalid')) throw error
      }
    }),
    { numRuns: 500 },
  )
})

test.run()
