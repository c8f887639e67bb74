import type { MessageInitShape } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import * as assert from 'uvu/assert'
import { failureOf, withCsi } from '../../test/csi-world.ts'
import { suite } from '../../test/suite.ts'
import { isVolumeName } from '../volume/name.ts'
import { volumeNameOf } from './controller.ts'
import { topologyKey } from './driver.ts'
import type { CreateVolumeRequestSchema, VolumeCapabilitySchema } from './proto/csi_pb.ts'

const test = suite('CSI controller')
const mebibyte = 1n << 20n
const gibibyte = 1n << 30n

const capability = (fsType = '', mode: 1 | 5 = 1): MessageInitShape<typeof VolumeCapabilitySchema> => ({
  accessType: { case: 'mount', value: { fsType } },
  accessMode: { mode },
})
const request = (name: string, more: object = {}): MessageInitShape<typeof CreateVolumeRequestSchema> => ({
  name,
  capacityRange: { requiredBytes: 64n * mebibyte },
  volumeCapabilities: [capability()],
  ...more,
})

test('a volume is made once, found in the list, grown and removed', () =>
  withCsi(async ({ controller, engine }) => {
    for (let i = 0; i < 2; i++) {
      const { volume } = await controller.createVolume(request('pvc-1'))
      assert.is(volume?.volumeId, 'pvc-1')
      assert.is(volume?.capacityBytes, 64n * mebibyte)
      assert.equal(
        volume?.accessibleTopology.map(({ segments }) => segments),
        [{ [topologyKey]: 'node-1' }],
      )
    }
    const range = { requiredBytes: 128n * mebibyte }
    const grown = await controller.controllerExpandVolume({ volumeId: 'pvc-1', capacityRange: range })
    assert.equal([grown.capacityBytes, grown.nodeExpansionRequired], [128n * mebibyte, false])
    const { entries } = await controller.listVolumes()
    assert.equal(
      entries.map(({ volume }) => [volume?.volumeId, volume?.capacityBytes]),
      [['pvc-1', 128n * mebibyte]],
    )
    for (const volumeId of ['pvc-1', 'pvc-1', 'No such name']) await controller.deleteVolume({ volumeId })
    assert.equal(await engine.list(), [])
  }))

test('a block device is made, and neither found nor made where a filesystem is asked for as well', () =>
  withCsi(async ({ controller, engine, machine }) => {
    const block = { accessType: { case: 'block' as const, value: {} }, accessMode: { mode: 1 as const } }
    const asked = request('pvc-1', { volumeCapabilities: [block], parameters: { mkfsOptions: '-i size=1024' } })
    for (let i = 0; i < 2; i++) await controller.createVolume(asked)
    assert.is((await engine.stored('pvc-1'))?.fsType, 'block')
    assert.is((await failureOf(controller.createVolume(request('pvc-1')))).code, status.ALREADY_EXISTS)
    await controller.createVolume(request('pvc-2'))
    const other = request('pvc-2', { volumeCapabilities: [block] })
    assert.is((await failureOf(controller.createVolume(other))).code, status.ALREADY_EXISTS)
    const both = request('pvc-3', { volumeCapabilities: [block, capability()] })
    assert.is((await failureOf(controller.createVolume(both))).code, status.INVALID_ARGUMENT)
    const validate = (capabilities: object[]) =>
      controller.validateVolumeCapabilities({ volumeId: 'pvc-1', volumeCapabilities: capabilities })
    assert.ok((await validate([block])).confirmed)
    assert.match((await validate([capability()])).message, /The volume holds block/)
    const room = { volumeCapabilities: [block] }
    assert.ok((await controller.getCapacity(room)).availableCapacity > 0n)
    Object.assign(machine.pool, { sourceKind: 'directory' })
    const { code, details } = await failureOf(
      controller.createVolume(request('pvc-4', { volumeCapabilities: [block] })),
    )
    assert.is(code, status.INVALID_ARGUMENT)
    assert.match(details, /as a block device as the volumes of this LVM pool are directories/)
  }))

test('one that is there and is another is not taken for it', () =>
  withCsi(async ({ controller }) => {
    await controller.createVolume(request('pvc-1'))
    for (const more of [
      { capacityRange: { requiredBytes: 128n * mebibyte } },
      { capacityRange: { requiredBytes: mebibyte, limitBytes: 32n * mebibyte } },
      { volumeCapabilities: [capability('xfs')] },
    ])
      assert.is((await failureOf(controller.createVolume(request('pvc-1', more)))).code, status.ALREADY_EXISTS)
    await controller.createVolume(request('pvc-1', { capacityRange: { requiredBytes: mebibyte } }))
    await controller.createVolume({ name: 'pvc-1', volumeCapabilities: [capability()] })
  }))

test('what cannot be made is said, and nothing of it stays', () =>
  withCsi(async ({ controller, engine }) => {
    const { INVALID_ARGUMENT, OUT_OF_RANGE, RESOURCE_EXHAUSTED } = status
    const elsewhere = { requisite: [{ segments: { [topologyKey]: 'node-2' } }] }
    for (const [code, more] of [
      [INVALID_ARGUMENT, { name: '' }],
      [INVALID_ARGUMENT, { volumeCapabilities: [] }],
      [INVALID_ARGUMENT, { volumeCapabilities: [capability('', 5)] }],
      [INVALID_ARGUMENT, { volumeCapabilities: [capability('ext4'), capability('xfs')] }],
      [INVALID_ARGUMENT, { parameters: { type: 'ssd' } }],
      [INVALID_ARGUMENT, { parameters: { mkfsOptions: '-E offset=1' } }],
      [INVALID_ARGUMENT, { mutableParameters: { iops: '1' } }],
      [INVALID_ARGUMENT, { volumeContentSource: { type: { case: 'volume', value: { volumeId: 'pvc-2' } } } }],
      [INVALID_ARGUMENT, { capacityRange: { requiredBytes: 2n, limitBytes: 1n } }],
      [OUT_OF_RANGE, { capacityRange: { requiredBytes: 64n * mebibyte + 1n, limitBytes: 64n * mebibyte + 2n } }],
      [RESOURCE_EXHAUSTED, { capacityRange: { requiredBytes: 5n * gibibyte } }],
      [RESOURCE_EXHAUSTED, { accessibilityRequirements: elsewhere }],
    ] as const)
      assert.is((await failureOf(controller.createVolume(request('pvc-1', more)))).code, code)
    assert.equal(await engine.list(), [])
  }))

test('what nobody says the size of has 1 GiB, or the most that it may have', () =>
  withCsi(async ({ controller }) => {
    const sizeOf = async (name: string, limitBytes?: bigint) => {
      const more = limitBytes ? { capacityRange: { limitBytes } } : {}
      return (await controller.createVolume({ name, volumeCapabilities: [capability()], ...more })).volume
        ?.capacityBytes
    }
    assert.is(await sizeOf('pvc-1'), gibibyte)
    assert.is(await sizeOf('pvc-2', 2n * gibibyte), gibibyte)
    assert.is(await sizeOf('pvc-3', 64n * mebibyte), 64n * mebibyte)
  }))

test('what is in use is not removed', () =>
  withCsi(async ({ controller, node, target }) => {
    await controller.createVolume(request('pvc-1'))
    const place = { volumeId: 'pvc-1', targetPath: target('a') }
    await node.nodePublishVolume({ ...place, volumeCapability: capability() })
    assert.is((await failureOf(controller.deleteVolume({ volumeId: 'pvc-1' }))).code, status.FAILED_PRECONDITION)
    await node.nodeUnpublishVolume(place)
    await controller.deleteVolume({ volumeId: 'pvc-1' })
  }))

test('a list comes in pages, and goes on after what was removed meanwhile', () =>
  withCsi(async ({ controller }) => {
    for (const name of ['pvc-a', 'pvc-b', 'pvc-c']) await controller.createVolume(request(name))
    const list = async (maxEntries: number, startingToken = '') => {
      const { entries, nextToken } = await controller.listVolumes({ maxEntries, startingToken })
      return { names: entries.map(({ volume }) => volume?.volumeId), nextToken }
    }
    const first = await list(2)
    assert.equal(first.names, ['pvc-a', 'pvc-b'])
    await controller.deleteVolume({ volumeId: 'pvc-b' })
    assert.equal(await list(2, first.nextToken), { names: ['pvc-c'], nextToken: '' })
    assert.equal(await list(0), { names: ['pvc-a', 'pvc-c'], nextToken: '' })
    for (const token of ['invalid-token', 'pvc-a']) assert.is((await failureOf(list(2, token))).code, status.ABORTED)
    assert.is((await failureOf(list(-1))).code, status.INVALID_ARGUMENT)
  }))

test('the room that there is is told, of this node and for what can be had', () =>
  withCsi(async ({ controller }) => {
    const { availableCapacity, maximumVolumeSize } = await controller.getCapacity()
    assert.equal([availableCapacity, maximumVolumeSize], [4n * gibibyte, 4n * gibibyte])
    const at = (name: string) => ({ accessibleTopology: { segments: { [topologyKey]: name } } })
    assert.is((await controller.getCapacity(at('node-1'))).availableCapacity, 4n * gibibyte)
    assert.is((await controller.getCapacity(at('node-2'))).availableCapacity, 0n)
    assert.is((await controller.getCapacity({ volumeCapabilities: [capability('', 5)] })).availableCapacity, 0n)
  }))

test('capabilities are confirmed, or it is said why not', () =>
  withCsi(async ({ controller }) => {
    await controller.createVolume(request('pvc-1'))
    const ask = (...volumeCapabilities: MessageInitShape<typeof VolumeCapabilitySchema>[]) =>
      controller.validateVolumeCapabilities({ volumeId: 'pvc-1', volumeCapabilities, parameters: { a: 'b' } })
    const { confirmed } = await ask(capability('ext4'))
    assert.equal(confirmed?.parameters, { a: 'b' })
    assert.is(confirmed?.volumeCapabilities.length, 1)
    for (const [wanted, message] of [
      [capability('xfs'), 'The volume holds ext4.'],
      [
        capability('', 5),
        'Cannot serve this volume capability as its access mode must be a single-node or a read-only one: it is 5.',
      ],
    ] as const) {
      const answer = await ask(wanted)
      assert.equal([answer.confirmed, answer.message], [undefined, message])
    }
    assert.is((await failureOf(ask())).code, status.INVALID_ARGUMENT)
    const unknown = { volumeId: 'pvc-2', volumeCapabilities: [capability()] }
    assert.is((await failureOf(controller.validateVolumeCapabilities(unknown))).code, status.NOT_FOUND)
  }))

test('a volume has the name that Kubernetes gives it, and of any other name a hash', () => {
  const claim = 'pvc-0b5d3c1e-7a52-4f8e-9c1d-2f6f0a1b2c3d'
  assert.is(volumeNameOf(claim), claim)
  const others = ['Data', 'data', 'pvc-', 'pvc-A', `pvc-${'x'.repeat(124)}`, '../pvc-1', 'csi-1', 'ü']
  const names = others.map(volumeNameOf)
  assert.ok(names.every(isVolumeName))
  assert.is(new Set([...names, ...others]).size, 2 * others.length)
  assert.is(volumeNameOf('Data'), volumeNameOf('Data'))
})

test.run()
