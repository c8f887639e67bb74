import { create, type MessageInitShape } from '@bufbuild/protobuf'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { suite } from '../../test/suite.ts'
import { parseCapability } from './capability.ts'
import {
  VolumeCapability_AccessMode_Mode as Mode,
  type VolumeCapability_MountVolumeSchema,
  VolumeCapabilitySchema,
} from './proto/csi_pb.ts'
import { parseSizes } from './sizes.ts'

const test = suite('CSI capabilities')
const parse = (init: MessageInitShape<typeof VolumeCapabilitySchema>) =>
  parseCapability(create(VolumeCapabilitySchema, init))
const mount = (
  mode: Mode,
  value: MessageInitShape<typeof VolumeCapability_MountVolumeSchema> = {},
): MessageInitShape<typeof VolumeCapabilitySchema> => ({
  accessType: { case: 'mount', value },
  accessMode: { mode },
})

test('what a volume of one node can be is taken', () => {
  const plain = { mountOptions: [], readOnly: false, isAlone: false }
  assert.equal(parse(mount(Mode.SINGLE_NODE_WRITER)), plain)
  assert.equal(parse(mount(Mode.SINGLE_NODE_MULTI_WRITER)), plain)
  assert.equal(parse(mount(Mode.SINGLE_NODE_SINGLE_WRITER)), { ...plain, isAlone: true })
  assert.equal(parse(mount(Mode.SINGLE_NODE_READER_ONLY)), { ...plain, readOnly: true })
  assert.equal(parse(mount(Mode.MULTI_NODE_READER_ONLY)), { ...plain, readOnly: true })
  assert.equal(parse(mount(Mode.SINGLE_NODE_WRITER, { fsType: 'xfs', mountFlags: ['noatime', 'inode64,wsync'] })), {
    ...plain,
    fsType: 'xfs',
    mountOptions: ['noatime', 'inode64', 'wsync'],
  })
  const block = { accessType: { case: 'block' as const, value: {} } }
  assert.equal(parse({ ...block, accessMode: { mode: Mode.SINGLE_NODE_WRITER } }), { ...plain, fsType: 'block' })
  assert.equal(parse({ ...block, accessMode: { mode: Mode.SINGLE_NODE_SINGLE_WRITER } }), {
    ...plain,
    fsType: 'block',
    isAlone: true,
  })
})

test('what it cannot be is refused, and said', async () => {
  for (const [message, init] of [
    [/one of them is missing/, {}],
    [/one of them is missing/, { accessMode: { mode: 1 } }],
    [/one of them is missing/, { accessType: { case: 'mount', value: {} } }],
    [/access mode .* it is 0/, mount(Mode.UNKNOWN)],
    [/access mode .* it is 4/, mount(Mode.MULTI_NODE_SINGLE_WRITER)],
    [/access mode .* it is 5/, mount(Mode.MULTI_NODE_MULTI_WRITER)],
    [/access mode .* it is 99/, mount(99 as Mode)],
    [/it must name no group/, mount(1, { volumeMountGroup: '1000' })],
    [/its filesystem must be one of .*"vfat"/, mount(1, { fsType: 'vfat' })],
    [/option "suid"/, mount(1, { fsType: 'ext4', mountFlags: ['suid'] })],
  ] as [RegExp, MessageInitShape<typeof VolumeCapabilitySchema>][])
    await rejects('invalid', message, () => parse(init))
  await rejects('invalid', /one of them is missing/, () => parseCapability(undefined))
})

test('a capacity range says what is asked for, and of what it leaves open nothing', async () => {
  const range = (requiredBytes: bigint, limitBytes: bigint) =>
    parseSizes({ $typeName: 'csi.v1.CapacityRange', requiredBytes, limitBytes })
  assert.equal(parseSizes(undefined), {})
  assert.equal(range(0n, 0n), {})
  assert.equal(range(1n, 0n), { requiredBytes: 1n })
  assert.equal(range(0n, 2n), { limitBytes: 2n })
  assert.equal(range(2n, 2n), { requiredBytes: 2n, limitBytes: 2n })
  for (const [required, limit] of [
    [2n, 1n],
    [-1n, 0n],
    [0n, -1n],
  ] as const)
    await rejects('invalid', /no less than what is required/, () => range(required, limit))
})

test.run()
