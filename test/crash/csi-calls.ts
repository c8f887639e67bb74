/** What a kubelet asks of the CSI driver of a world's engine, in this process: as a life's own, each call dies with it. */
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { buildNode } from '../../src/csi/node.ts'
import {
  NodeExpandVolumeRequestSchema,
  NodePublishVolumeRequestSchema,
  NodeUnpublishVolumeRequestSchema,
} from '../../src/csi/proto/csi_pb.ts'
import { buildStandaloneFront } from '../../src/daemon/front.ts'
import type { Engine } from '../../src/volume/engine.ts'
import type { World } from '../contract.ts'

/** Where a kubelet has a CSI volume in the folder of a pod. */
export const csiTarget = ({ kubeletDir }: Pick<World, 'kubeletDir'>, pod: string, name: string) =>
  join(kubeletDir, 'pods', pod, 'volumes/kubernetes.io~csi', name, 'mount')

const volumeCapability = {
  accessType: { case: 'mount' as const, value: {} },
  accessMode: { mode: 7 as const },
}

export interface CsiCalls {
  publish(pod: string, name: string, options?: { readOnly?: boolean }): Promise<unknown>
  unpublish(pod: string, name: string): Promise<unknown>
  /** Grows a volume that the pod has. */
  expand(pod: string, name: string, sizeBytes: bigint): Promise<unknown>
}

export function csiCalls(world: Pick<World, 'kubeletDir'>, engine: Engine): CsiCalls {
  const node = buildNode({
    engine,
    front: buildStandaloneFront(engine),
    run: async (_, work) => await work({}),
    node: 'node-1',
    kubeletDir: world.kubeletDir,
    standalone: false,
  })
  return {
    publish: async (pod, name, { readOnly = false } = {}) =>
      await node.nodePublishVolume?.(
        create(NodePublishVolumeRequestSchema, {
          volumeId: name,
          targetPath: csiTarget(world, pod, name),
          readonly: readOnly,
          volumeCapability,
        }),
      ),
    unpublish: async (pod, name) =>
      await node.nodeUnpublishVolume?.(
        create(NodeUnpublishVolumeRequestSchema, { volumeId: name, targetPath: csiTarget(world, pod, name) }),
      ),
    expand: async (pod, name, sizeBytes) =>
      await node.nodeExpandVolume?.(
        create(NodeExpandVolumeRequestSchema, {
          volumeId: name,
          volumePath: csiTarget(world, pod, name),
          capacityRange: { requiredBytes: sizeBytes },
        }),
      ),
  }
}
