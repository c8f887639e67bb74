import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { MessageInitShape } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import * as assert from 'uvu/assert'
import { type CsiWorld, failureOf, withCsi } from '../../test/csi-world.ts'
import { suite } from '../../test/suite.ts'
import type { Front, Request } from '../daemon/front.ts'
import { VolumeError } from '../volume/errors.ts'
import type { Mounts } from '../volume/host.ts'
import { topologyKey } from './driver.ts'
import {
  VolumeCapability_AccessMode_Mode,
  type VolumeCapability_MountVolumeSchema,
  type VolumeCapabilitySchema,
} from './proto/csi_pb.ts'

const test = suite('CSI node')
const mebibyte = 1n << 20n
const spec = { sizeBytes: 64n * mebibyte, fsType: 'ext4', mkfsOptions: [] } as const
const { SINGLE_NODE_READER_ONLY, SINGLE_NODE_SINGLE_WRITER, SINGLE_NODE_MULTI_WRITER } =
  VolumeCapability_AccessMode_Mode
const capability = (
  mode: VolumeCapability_AccessMode_Mode = SINGLE_NODE_MULTI_WRITER,
  value: MessageInitShape<typeof VolumeCapability_MountVolumeSchema> = {},
): MessageInitShape<typeof VolumeCapabilitySchema> => ({
  accessType: { case: 'mount', value },
  accessMode: { mode },
})
const publish = ({ node, target }: CsiWorld, pod: string, more: object = {}) =>
  node.nodePublishVolume({ volumeId: 'pvc-1', targetPath: target(pod), volumeCapability: capability(), ...more })
const unpublish = ({ node, target }: CsiWorld, pod: string, more: object = {}) =>
  node.nodeUnpublishVolume({ volumeId: 'pvc-1', targetPath: target(pod), ...more })
const seen = ({ machine }: CsiWorld) =>
  machine.mounted.map(({ target: path, readOnly }) => [path, readOnly]).filter(([path]) => path !== '/volumes/pvc-1')

/** A world with volume pvc-1, in a cluster whose front takes down what it is asked. */
const inCluster = (work: (world: CsiWorld, requests: Request[]) => Promise<void>) => {
  const requests: Request[] = []
  return withCsi(
    async (world) => {
      await world.engine.create('pvc-1', spec)
      await work(world, requests)
    },
    ({ front }) => ({
      standalone: false,
      front: {
        ...front,
        admit: (request, work) => {
          requests.push(request)
          return front.admit(request, work)
        },
      },
    }),
  )
}

test('it says which node it is, and where its volumes can be had', () =>
  withCsi(async ({ node }) => {
    const { nodeId, accessibleTopology } = await node.nodeGetInfo()
    assert.is(nodeId, 'node-1')
    assert.equal(accessibleTopology?.segments, { [topologyKey]: 'node-1' })
    const { capabilities } = await node.nodeGetCapabilities()
    assert.equal(
      capabilities.map(({ type }) => type.value?.type),
      [2, 3, 5],
    )
  }))

test('a volume is published to two pods, however often that is asked for, and unpublished', () =>
  inCluster(async (world) => {
    const { machine, target } = world
    for (const pod of ['a', 'a', 'b']) await publish(world, pod)
    await publish(world, 'c', { readonly: true })
    assert.equal(seen(world), [
      [target('a'), false],
      [target('b'), false],
      [target('c'), true],
    ])
    for (const pod of ['a', 'b', 'b', 'c']) await unpublish(world, pod)
    assert.equal(machine.mounted, [])
  }))

test('the front is told what the call says: of the volume, of the pod, and how it is to be mounted', () =>
  inCluster(async (world, requests) => {
    const fields = { fsType: 'ext4', mountFlags: ['noatime', 'commit=30'] }
    const pod = { uid: 'a', namespace: 'default', name: 'web-0' }
    const said = Object.entries(pod).map(([key, value]) => [`csi.storage.k8s.io/pod.${key}`, value])
    await publish(world, 'a', {
      volumeCapability: capability(SINGLE_NODE_READER_ONLY, fields),
      volumeContext: Object.fromEntries(said),
    })
    assert.equal(requests, [
      {
        volumeName: 'pvc-1',
        front: 'csi',
        podUid: 'a',
        options: {
          fsType: 'ext4',
          mountOptions: ['noatime', 'commit=30'],
          readOnly: true,
          mkfsOptions: [],
          pod: { namespace: 'default', name: 'web-0' },
        },
      },
    ])
    assert.match(world.logged.at(-1) ?? '', /^NodePublishVolume \/.*\/mount: done$/)
  }))

test('what only one pod may write is refused to a second, until the first has let it go', () =>
  inCluster(async (world) => {
    const volumeCapability = capability(SINGLE_NODE_SINGLE_WRITER)
    for (let i = 0; i < 2; i++) await publish(world, 'a', { volumeCapability })
    const { code, details } = await failureOf(publish(world, 'b', { volumeCapability }))
    assert.is(code, status.FAILED_PRECONDITION)
    assert.match(details, /may be in one place only/)
    await unpublish(world, 'a')
    await publish(world, 'b', { volumeCapability })
  }))

test("fields that are missing, and places that are not the kubelet's, are refused", () =>
  inCluster(async (world) => {
    const { kubeletDir, target } = world
    for (const [what, more] of [
      ['volume_id', { volumeId: '' }],
      ['target_path', { targetPath: '' }],
      ['access type', { volumeCapability: undefined }],
      ['one of them is missing', { volumeCapability: { accessMode: { mode: 1 } } }],
      ['block device', { volumeCapability: { accessType: { case: 'block', value: {} }, accessMode: { mode: 1 } } }],
      ['single-node', { volumeCapability: capability(5) }],
      ['filesystem', { volumeCapability: capability(1, { fsType: 'vfat' }) }],
      ['option "dev"', { volumeCapability: capability(1, { mountFlags: ['dev'] }) }],
      ['as a target', { targetPath: join(kubeletDir, 'elsewhere') }],
      ['as a target', { targetPath: '/etc' }],
      ['as a target', { targetPath: `${target('a')}/../mount` }],
      ['that folder is for pvc-2', { targetPath: target('a', 'pvc-2') }],
      ['belongs to another pod', { volumeContext: { 'csi.storage.k8s.io/pod.uid': 'b' } }],
      ['only a claim', { volumeContext: { 'csi.storage.k8s.io/ephemeral': 'true' } }],
    ] as const) {
      const { code, details } = await failureOf(publish(world, 'a', more))
      assert.is(code, status.INVALID_ARGUMENT, what)
      assert.ok(details.includes(what), `${what}: ${details}`)
    }
    for (const more of [{ volumeId: '' }, { targetPath: '' }, { targetPath: '/etc' }])
      assert.is((await failureOf(unpublish(world, 'a', more))).code, status.INVALID_ARGUMENT)
    assert.equal(seen(world), [])
  }))

test('an unknown volume cannot be published, and nothing of the attempt stays', () =>
  inCluster(async (world) => {
    for (const volumeId of ['pvc-2', 'No such name']) {
      const targetPath = world.target('a', volumeId)
      assert.is((await failureOf(publish(world, 'a', { volumeId, targetPath }))).code, status.NOT_FOUND)
      assert.not.ok(existsSync(targetPath))
    }
  }))

test('unpublishing goes also where there is nothing, and of a volume that nobody knows', () =>
  inCluster(async (world) => {
    await unpublish(world, 'a')
    await unpublish(world, 'a', { volumeId: 'pvc-2', targetPath: world.target('a', 'pvc-2') })
    await unpublish(world, 'a', { volumeId: 'No such name', targetPath: world.target('a', 'No such name') })
  }))

test('unpublishing goes while the disk is away', () =>
  inCluster(async (world) => {
    await publish(world, 'a')
    world.machine.isAway = true
    assert.is((await failureOf(publish(world, 'b'))).code, status.UNAVAILABLE)
    await unpublish(world, 'a')
    assert.equal(seen(world), [])
  }))

test('the empty folders of a target and of a device go with it, what the kubelet wrote beside them stays', () =>
  inCluster(async (world) => {
    const { kubeletDir, target } = world
    const hash = '9d3a2a1a3b7f3b1c'
    const devices = join(kubeletDir, 'plugins/kubernetes.io/csi/elastic-local.volumes.k8s.elastic.co')
    const device = join(devices, createHash('sha256').update('pvc-1').digest('hex'), 'globalmount')
    const other = join(devices, hash, 'globalmount')
    for (const folder of [device, other, target('a')]) await mkdir(folder, { recursive: true })
    const note = join(dirname(target('a')), 'vol_data.json')
    await writeFile(note, '{}')
    await unpublish(world, 'a')
    assert.equal([device, dirname(device), target('a'), other, note].map(existsSync), [false, false, false, true, true])
  }))

test('a volume that is mounted there is not said to be missing where nobody may have it any more', () => {
  let isGone = false
  return withCsi(
    async (world) => {
      await world.engine.create('pvc-1', spec)
      await publish(world, 'a')
      isGone = true
      assert.is((await failureOf(publish(world, 'a'))).code, status.ABORTED)
      assert.is((await failureOf(publish(world, 'b'))).code, status.NOT_FOUND)
    },
    ({ front }) => ({
      standalone: false,
      front: {
        ...front,
        admit: async (request, work) => {
          if (isGone) throw new VolumeError('not-found', 'Cannot mount pvc-1 as it is being removed.')
          return await front.admit(request, work)
        },
      },
    }),
  )
})

test('a volume that is mounted there is not said to be missing where what is asked for is refused by now', () =>
  inCluster(async (world) => {
    await publish(world, 'a')
    for (const volumeCapability of [
      capability(SINGLE_NODE_MULTI_WRITER, { mountFlags: ['dev'] }),
      capability(5),
      { accessType: { case: 'block' as const, value: {} }, accessMode: { mode: SINGLE_NODE_MULTI_WRITER } },
    ]) {
      assert.is((await failureOf(publish(world, 'a', { volumeCapability }))).code, status.ABORTED)
      assert.is((await failureOf(publish(world, 'b', { volumeCapability }))).code, status.INVALID_ARGUMENT)
      assert.match(world.logged.at(-1) ?? '', /^NodePublishVolume .*: Cannot/)
    }
    assert.equal(seen(world), [[world.target('a'), false]])
  }))

test('what fails with the volume mounted there all the same is not said to be surely not mounted', () =>
  inCluster(async (world) => {
    await publish(world, 'a')
    const { code, details } = await failureOf(publish(world, 'a', { readonly: true }))
    assert.is(code, status.ABORTED)
    assert.match(details, /mounted there for writing/)
    assert.equal(seen(world), [[world.target('a'), false]])
  }))

test('whoever asks again for what is under way waits for that', async () => {
  const gate = Promise.withResolvers<void>()
  let admitted = 0
  await withCsi(
    async (world) => {
      await world.engine.create('pvc-1', spec)
      const both = [publish(world, 'a'), publish(world, 'a')]
      gate.resolve()
      await Promise.all(both)
      assert.is(admitted, 1)
    },
    ({ front }) => ({
      front: {
        ...front,
        admit: async (request, work) => {
          admitted += 1
          await gate.promise
          return await front.admit(request, work)
        },
      },
    }),
  )
})

for (const [where, hold] of [
  [
    'before it is admitted',
    (gate, { front }) => {
      const { admit } = front
      front.admit = async (request, work) => {
        if (request.podUid === 'a') await gate
        return await admit(request, work)
      }
    },
  ],
  [
    'while it is bound',
    (gate, { mounts }) => {
      const { bind } = mounts
      mounts.bind = async (...args) => {
        if (args[1].includes('/a/')) await gate
        await bind(...args)
      }
    },
  ],
] as [string, (gate: Promise<void>, parts: { front: Front; mounts: Mounts }) => void][])
  test(`what is asked for a target is done in that order, whatever a publish waits for: ${where}`, async () => {
    for (const [asked, isThere] of [
      [[publish, unpublish], false],
      [[publish, unpublish, publish], true],
    ] as const) {
      const gate = Promise.withResolvers<void>()
      let own: Front | undefined
      await withCsi(
        async (world) => {
          await world.engine.create('pvc-1', spec)
          hold(gate.promise, { front: own as Front, mounts: world.machine.mounts })
          const all = asked.map((ask) => ask(world, 'a'))
          await world.node.nodeUnpublishVolume({ volumeId: 'pvc-2', targetPath: world.target('b', 'pvc-2') })
          gate.resolve()
          await Promise.all(all)
          assert.equal(seen(world), isThere ? [[world.target('a'), false]] : [])
        },
        ({ front }) => {
          own = { ...front }
          return { front: own }
        },
      )
    }
  })

test('a block device is published on files, told by its size, grown, and never taken for a filesystem', () =>
  withCsi(
    async (world) => {
      const { node, engine, machine, kubeletDir } = world
      await engine.create('pvc-1', { ...spec, fsType: 'block' })
      await engine.create('pvc-2', spec)
      const place = (pod: string, name = 'pvc-1') =>
        join(kubeletDir, 'plugins/kubernetes.io/csi/volumeDevices/publish', name, pod)
      const asDevice = {
        accessType: { case: 'block' as const, value: {} },
        accessMode: { mode: SINGLE_NODE_MULTI_WRITER },
      }
      const device = (pod: string, name = 'pvc-1') =>
        node.nodePublishVolume({ volumeId: name, targetPath: place(pod, name), volumeCapability: asDevice })
      for (const pod of ['one', 'two', 'two']) await device(pod)
      assert.equal(
        machine.mounted.map(({ target, fsType }) => [target, fsType]),
        [
          [place('one'), 'devtmpfs'],
          [place('two'), 'devtmpfs'],
        ],
      )
      const { usage } = await node.nodeGetVolumeStats({ volumeId: 'pvc-1', volumePath: place('one') })
      assert.equal(
        usage.map(({ unit, total, used, available }) => [unit, total, used, available]),
        [[1, 64n * mebibyte, 0n, 0n]],
      )
      const range = { requiredBytes: 96n * mebibyte }
      const grown = await node.nodeExpandVolume({ volumeId: 'pvc-1', volumePath: place('one'), capacityRange: range })
      assert.is(grown.capacityBytes, 96n * mebibyte)
      for (const [call, message] of [
        [() => publish(world, 'three'), /as it is a block device/],
        [() => publish(world, 'three', { targetPath: place('three') }), /a path for block devices only/],
        [() => publish(world, 'three', { volumeCapability: asDevice }), /not a path for a block device/],
        [() => device('three', 'pvc-2'), /created with a filesystem, ext4/],
      ] as const) {
        const { code, details } = await failureOf(call())
        assert.is(code, status.INVALID_ARGUMENT)
        assert.match(details, message)
      }
      assert.is((await failureOf(engine.remove('pvc-1'))).code, 'busy')
      for (const pod of ['one', 'two', 'two'])
        await node.nodeUnpublishVolume({ volumeId: 'pvc-1', targetPath: place(pod) })
      assert.equal(machine.mounted, [])
    },
    // A front that has no say in what the volume is.
    ({ front }) => ({
      front: {
        ...front,
        admit: async (request, work) => await work({ readOnly: false, mountOptions: [], ...pick(request.options) }),
      },
    }),
  ))
const pick = ({ fsType }: Request['options']) => (fsType ? { fsType } : {})

test('a PersistentVolume of another volumeMode than the kubelet asks for is refused', () =>
  withCsi(
    async (world) => {
      await world.engine.create('pvc-1', { ...spec, fsType: 'block' })
      assert.match((await failureOf(publish(world, 'one'))).details, /its PersistentVolume has another volumeMode/)
      assert.equal(world.machine.mounted, [])
    },
    ({ front }) => ({
      front: {
        ...front,
        admit: async (_, work) => await work({ readOnly: false, mountOptions: [], fsType: 'block' }),
      },
    }),
  ))

test('whom the front refuses gets nothing', () =>
  withCsi(
    async (world) => {
      await world.engine.create('pvc-1', spec)
      const { code, details } = await failureOf(publish(world, 'a'))
      assert.equal([code, details], [status.INVALID_ARGUMENT, 'Not yours.'])
      assert.equal(world.machine.mounted, [])
    },
    ({ front }) => ({
      front: {
        ...front,
        admit: async () => {
          throw new VolumeError('invalid', 'Not yours.')
        },
      },
    }),
  ))

test('the usage of a volume is told in bytes and inodes, and only of where it is', () =>
  inCluster(async (world) => {
    const { node, target } = world
    await publish(world, 'a')
    const { usage } = await node.nodeGetVolumeStats({ volumeId: 'pvc-1', volumePath: target('a') })
    assert.equal(
      usage.map(({ unit }) => unit),
      [1, 2],
    )
    for (const { total, used, available } of usage) assert.ok(total > 0n && used + available <= total)
    const stats = (volumeId: string, volumePath: string) => failureOf(node.nodeGetVolumeStats({ volumeId, volumePath }))
    assert.is((await stats('pvc-1', target('b'))).code, status.NOT_FOUND)
    assert.is((await stats('pvc-1', 'some/path')).code, status.NOT_FOUND)
    assert.is((await stats('pvc-2', target('a'))).code, status.NOT_FOUND)
    assert.is((await stats('', target('a'))).code, status.INVALID_ARGUMENT)
    assert.is((await stats('pvc-1', '')).code, status.INVALID_ARGUMENT)
    world.machine.isAway = true
    assert.is((await stats('pvc-1', target('a'))).code, status.UNAVAILABLE)
  }))

test('a published volume is grown, once; without room its pods go on', () =>
  inCluster(async (world) => {
    const { node, target, engine } = world
    await publish(world, 'a')
    const expand = (requiredBytes: bigint, more: object = {}) =>
      node.nodeExpandVolume({ volumeId: 'pvc-1', volumePath: target('a'), capacityRange: { requiredBytes }, ...more })
    for (let i = 0; i < 2; i++) assert.is((await expand(128n * mebibyte)).capacityBytes, 128n * mebibyte)
    assert.is((await expand(0n, { capacityRange: undefined })).capacityBytes, 128n * mebibyte)
    assert.is((await engine.stored('pvc-1'))?.sizeBytes, 128n * mebibyte)
    assert.is((await failureOf(expand(1n << 40n))).code, status.OUT_OF_RANGE)
    assert.is((await failureOf(expand(1n, { volumePath: target('b') }))).code, status.NOT_FOUND)
    assert.is((await failureOf(expand(-1n))).code, status.INVALID_ARGUMENT)
    assert.is((await failureOf(expand(1n, { volumeId: 'pvc-2' }))).code, status.NOT_FOUND)
  }))

test('without a cluster, a volume is published anywhere below the folder, and nothing else is unmounted there', () =>
  withCsi(async (world) => {
    const { engine, kubeletDir, node } = world
    for (const name of ['pvc-1', 'pvc-2']) await engine.create(name, spec)
    const targetPath = join(kubeletDir, 'allocations/one')
    await publish(world, 'a', { targetPath })
    assert.equal(seen(world), [[targetPath, false]])
    for (const volumeId of ['pvc-2', 'pvc-3', 'No such name']) await node.nodeUnpublishVolume({ volumeId, targetPath })
    assert.equal(seen(world), [[targetPath, false]])
    await unpublish(world, 'a', { targetPath })
    assert.equal(world.machine.mounted, [])
    assert.is((await failureOf(publish(world, 'a', { targetPath: '/etc/x' }))).code, status.INVALID_ARGUMENT)
    assert.is((await failureOf(publish(world, 'a', { targetPath: kubeletDir }))).code, status.INVALID_ARGUMENT)
  }))

test.run()
