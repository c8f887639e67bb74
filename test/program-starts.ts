import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { create, type DescMessage, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf'
import { buildNode } from '../src/csi/node.ts'
import {
  NodeGetCapabilitiesRequestSchema,
  NodeGetVolumeStatsRequestSchema,
  NodePublishVolumeRequestSchema,
  NodeUnpublishVolumeRequestSchema,
} from '../src/csi/proto/csi_pb.ts'
import { buildCallOutRunner } from '../src/daemon/call-out-runner.ts'
import { Drain } from '../src/daemon/drain.ts'
import { buildStandaloneFront } from '../src/daemon/front.ts'
import { Engine } from '../src/volume/engine.ts'
import { minimumBytes } from '../src/volume/host.ts'
import type { FsType } from '../src/volume/pool.ts'
import type { World } from './contract.ts'

/** The steps of a volume's life, in their order. */
export const lifeSteps = ['make', 'mount', 'unmount', 'mount again', 'unmount again', 'remove'] as const
export type LifeStep = (typeof lifeSteps)[number]

/**
 * What each step starts of a volume that is not the first of its daemon: the names that the runner, or LVM's shell, put into
 * `started`, in their order.
 */
export async function countStarts(
  world: World,
  started: string[],
  fsType: FsType,
): Promise<Record<LifeStep, string[]>> {
  const engine = new Engine(world.parts)
  await engine.start()
  await engine.recover()
  const spec = { sizeBytes: minimumBytes[fsType], fsType, mkfsOptions: [] }
  const target = world.target('a', 'one')
  const mount = () => engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
  const unmount = () => engine.unmount('one', target)
  const work: Record<LifeStep, () => Promise<unknown>> = {
    make: () => engine.create('one', spec),
    mount,
    unmount,
    'mount again': mount,
    'unmount again': unmount,
    remove: () => engine.remove('one'),
  }
  await engine.create('first', spec)
  const counted = Object.fromEntries(lifeSteps.map((step) => [step, [] as string[]])) as Record<LifeStep, string[]>
  for (const step of lifeSteps) {
    started.length = 0
    await work[step]()
    counted[step] = [...started]
  }
  await engine.remove('first')
  await engine.stop()
  return counted
}

/** What a kubelet's calls start where a volume is that is ready; how a pool gives back what activation took comes on top. */
export const startedByCalls = {
  capabilities: [],
  publish: ['mount', 'mount'],
  'publish once more': [],
  'publish for another pod': ['mount'],
  stats: [],
  'unpublish of the other': ['umount'],
  unpublish: ['umount', 'umount'],
  'unpublish once more': [],
}

/** What each of these calls starts, in their order; see `countStarts()`. */
export async function countCalls(world: World, started: string[]): Promise<Record<string, string[]>> {
  const engine = new Engine(world.parts)
  await engine.start()
  await engine.recover()
  const { log, volumesDir } = world.parts
  const kubeletDir = join(volumesDir, '../kubelet')
  await mkdir(kubeletDir)
  const front = buildStandaloneFront(engine)
  const run = buildCallOutRunner({ drain: new Drain(), front, log })
  const node = buildNode({ engine, front, run, node: 'node-1', kubeletDir, standalone: false })
  const target = (pod: string) => join(kubeletDir, 'pods', pod, 'volumes/kubernetes.io~csi/pvc-1/mount')
  const call =
    <S extends DescMessage>(
      handle: ((request: MessageShape<S>) => Promise<unknown>) | undefined,
      schema: S,
      fields: MessageInitShape<S>,
    ) =>
    () =>
      handle?.(create(schema, fields))
  const publish = (pod: string) =>
    call(node.nodePublishVolume, NodePublishVolumeRequestSchema, {
      volumeId: 'pvc-1',
      targetPath: target(pod),
      volumeCapability: { accessType: { case: 'mount', value: { fsType: 'ext4' } }, accessMode: { mode: 7 } },
    })
  const unpublish = (pod: string) =>
    call(node.nodeUnpublishVolume, NodeUnpublishVolumeRequestSchema, { volumeId: 'pvc-1', targetPath: target(pod) })
  const place = { volumeId: 'pvc-1', volumePath: target('a') }
  const calls: Record<keyof typeof startedByCalls, () => Promise<unknown> | undefined> = {
    capabilities: call(node.nodeGetCapabilities, NodeGetCapabilitiesRequestSchema, {}),
    publish: publish('a'),
    'publish once more': publish('a'),
    'publish for another pod': publish('b'),
    stats: call(node.nodeGetVolumeStats, NodeGetVolumeStatsRequestSchema, place),
    'unpublish of the other': unpublish('b'),
    unpublish: unpublish('a'),
    'unpublish once more': unpublish('a'),
  }
  await engine.create('pvc-1', { sizeBytes: minimumBytes.ext4, fsType: 'ext4', mkfsOptions: [] })
  const counted: Record<string, string[]> = {}
  for (const [name, call] of Object.entries(calls)) {
    started.length = 0
    await call()
    counted[name] = [...started]
  }
  await engine.remove('pvc-1')
  await engine.stop()
  return counted
}
