import { status } from '@grpc/grpc-js'
import type { RunCallOut, Subject } from '../daemon/call-out-runner.ts'
import type { Front } from '../daemon/front.ts'
import { Turns } from '../daemon/turns.ts'
import { inTurn } from '../in-turn.ts'
import type { Engine } from '../volume/engine.ts'
import { codeOf, messageOf, VolumeError } from '../volume/errors.ts'
import { isVolumeName } from '../volume/name.ts'
import type { VolumeView } from '../volume/view.ts'
import { parseCapability } from './capability.ts'
import { CallError, need } from './codes.ts'
import { topologyKey } from './driver.ts'
import {
  type Node,
  type NodePublishVolumeRequest,
  NodeServiceCapability_RPC_Type,
  type NodeUnpublishVolumeRequest,
  VolumeUsage_Unit,
} from './proto/csi_pb.ts'
import type { Handlers } from './service.ts'
import { parseSizes } from './sizes.ts'
import { type CsiTarget, checkTarget, removeDeviceFolders, removeTarget } from './target.ts'

export interface NodeParts {
  engine: Engine
  front: Front
  run: RunCallOut
  /** The node's name. */
  node: string
  kubeletDir: string
  /** Whether volumes are mounted for the kubelet only, or anywhere below its folder. */
  standalone: boolean
}

/** An answer without fields. */
type Nothing = Record<string, never>

/** How many looks at volumes go on at a time, so that those who watch do not hold up those who work. */
const looksAtOnce = 4

/**
 * What the kubelet asks of a node, for each target in the order in which it asks. Whoever asks again for what is under way, as
 * the kubelet does when its patience has ended, waits for that.
 */
export function buildNode(parts: NodeParts): Handlers<typeof Node> {
  const { engine, front, run, node, kubeletDir, standalone } = parts
  const looks = new Turns(looksAtOnce)
  const inOrder = inTurn<Nothing>()
  const targetAt = (path: string) => checkTarget(kubeletDir, need(path, 'target_path'), { anywhere: standalone })

  /** The volume, seen at that path. Throws `not-found`. */
  const seenAt = async (id: string, path: string): Promise<VolumeView> => {
    const volume = isVolumeName(id) ? await engine.find(id) : undefined
    const target = volume && (await checkTarget(kubeletDir, path, { anywhere: true }).catch(() => undefined))
    if (volume && target && isSeen(volume, target)) return volume
    throw new VolumeError('not-found', `Cannot find volume ${id} at ${path}.`)
  }

  const publish = async (request: NodePublishVolumeRequest): Promise<Nothing> => {
    const name = need(request.volumeId, 'volume_id')
    const place = need(request.targetPath, 'target_path')
    return await run({ what: 'NodePublishVolume', shown: `NodePublishVolume ${place}` }, async (about) => {
      const target = await targetAt(place)
      const podUid = target.pod?.uid
      note(about, name, target)
      mustBeFor(name, target, request.volumeContext)
      // What is refused may be mounted there all the same, by a daemon that took it.
      try {
        const { isAlone, ...capability } = parseCapability(request.volumeCapability)
        const isDevice = capability.fsType === 'block'
        const readOnly = request.readonly || capability.readOnly
        if (target.pod && target.pod.isDevice !== isDevice)
          throw new VolumeError(
            'invalid',
            `Cannot mount ${name} on ${target.path} as that is ${isDevice ? 'not a path for a block device' : 'a path for block devices only'}.`,
          )
        const pod = podIn(request.volumeContext)
        const options = { ...capability, readOnly, mkfsOptions: [], ...(pod ? { pod } : {}) }
        const wanted = { front: 'csi' as const, volumeName: name, options, ...(podUid ? { podUid } : {}) }
        await front.admit(wanted, async (admission) => {
          if ((admission.fsType === 'block') !== isDevice)
            throw new VolumeError(
              'invalid',
              `Cannot mount ${name} on ${target.path} as its PersistentVolume has another volumeMode.`,
            )
          await engine.mount({ name, target: target.path, isAlone, ...admission })
        })
      } catch (error) {
        await removeTarget(target)
        throw await asUncertain(error, name, target)
      }
      return {}
    })
  }

  /** What failed with the volume mounted there all the same must not be taken for surely not mounted. */
  const asUncertain = async (error: unknown, name: string, target: CsiTarget): Promise<unknown> => {
    if (!isVolumeName(name)) return error
    const isThere = await engine.find(name).then(
      (volume) => volume && isSeen(volume, target),
      () => codeOf(error) === 'failed',
    )
    return isThere ? new CallError(status.ABORTED, messageOf(error), { cause: error }) : error
  }

  const unpublish = async (request: NodeUnpublishVolumeRequest): Promise<Nothing> => {
    const name = need(request.volumeId, 'volume_id')
    const place = need(request.targetPath, 'target_path')
    return await run({ what: 'NodeUnpublishVolume', shown: `NodeUnpublishVolume ${place}` }, async (about) => {
      const target = await targetAt(place)
      note(about, name, target)
      // In a pod's folder for it nothing else is mounted; of any other place, the mount itself is asked.
      if (isVolumeName(name) && (target.pod?.volumeName === name || (await isMountedAt(name, target))))
        await engine.unmount(name, target.path)
      await removeTarget(target)
      if (target.pod) await removeDeviceFolders(kubeletDir, name)
      return {}
    })
  }
  const isMountedAt = async (name: string, target: CsiTarget) => {
    const volume = await engine.find(name)
    return volume !== undefined && isSeen(volume, target)
  }

  const { GET_VOLUME_STATS, EXPAND_VOLUME, SINGLE_NODE_MULTI_WRITER } = NodeServiceCapability_RPC_Type
  return {
    nodeGetInfo: async () => ({ nodeId: node, accessibleTopology: { segments: { [topologyKey]: node } } }),
    nodeGetCapabilities: async () => ({
      capabilities: [GET_VOLUME_STATS, EXPAND_VOLUME, SINGLE_NODE_MULTI_WRITER].map((type) => ({
        type: { case: 'rpc' as const, value: { type } },
      })),
    }),
    nodePublishVolume: (request) => inOrder(request.targetPath, JSON.stringify(request), () => publish(request)),
    nodeUnpublishVolume: (request) => inOrder(request.targetPath, JSON.stringify(request), () => unpublish(request)),
    nodeGetVolumeStats: async ({ volumeId, volumePath }) => {
      const [name, path] = [need(volumeId, 'volume_id'), need(volumePath, 'volume_path')]
      const { usage, problems, fsType, sizeBytes } = await looks.take(() => seenAt(name, path))
      // What of it is in use, only its user knows.
      if (fsType === 'block') return { usage: [{ unit: VolumeUsage_Unit.BYTES, total: sizeBytes }] }
      if (!usage) throw new VolumeError('failed', `Cannot read the usage of ${name}: ${problems.join('; ')}`)
      const bytes = {
        unit: VolumeUsage_Unit.BYTES,
        total: usage.sizeBytes,
        used: usage.usedBytes,
        available: usage.freeBytes,
      }
      const inodes = {
        unit: VolumeUsage_Unit.INODES,
        total: usage.inodes,
        used: usage.inodesUsed,
        available: usage.inodes - usage.inodesUsed,
      }
      // btrfs has no number of them.
      return { usage: usage.inodes > 0n ? [bytes, inodes] : [bytes] }
    },
    nodeExpandVolume: async ({ volumeId, volumePath, capacityRange }) => {
      const [name, path] = [need(volumeId, 'volume_id'), need(volumePath, 'volume_path')]
      const { requiredBytes } = parseSizes(capacityRange)
      return await run({ what: 'NodeExpandVolume', shown: `NodeExpandVolume ${path}` }, async (about) => {
        about.volume = name
        const { sizeBytes } = await seenAt(name, path)
        if (requiredBytes === undefined) return { capacityBytes: sizeBytes }
        const { volume } = await front.grow(name, requiredBytes).catch((error) => {
          if (codeOf(error) !== 'no-space') throw error
          throw new CallError(status.OUT_OF_RANGE, messageOf(error), { cause: error })
        })
        return { capacityBytes: volume.sizeBytes }
      })
    },
  }
}

const isSeen = ({ mounts }: VolumeView, { path }: CsiTarget) => mounts.some(({ target }) => target === path)

function note(about: Subject, volume: string, { pod }: CsiTarget): void {
  about.volume = volume
  about.pod = pod?.uid
}

/** Throws `not-found` for what can be no volume of ours, `invalid` for what the kubelet does not ask for. */
function mustBeFor(name: string, { path, pod }: CsiTarget, context: Record<string, string>): void {
  const wrong = (what: string) => new VolumeError('invalid', `Cannot mount ${name} on ${path} as ${what}.`)
  if (context['csi.storage.k8s.io/ephemeral'] === 'true')
    throw wrong('only a claim can have it; use a claim instead of an inline volume')
  if (!isVolumeName(name)) throw new VolumeError('not-found', `Cannot find volume ${name} on this node.`)
  const uid = context['csi.storage.k8s.io/pod.uid']
  if (pod && pod.volumeName !== name) throw wrong(`that folder is for ${pod.volumeName}`)
  if (pod && uid && pod.uid !== uid) throw wrong(`that folder belongs to another pod than ${uid}`)
}

/** The pod as the kubelet says it, where the CSIDriver object has it do so. */
function podIn(context: Record<string, string>): { namespace: string; name: string } | undefined {
  const namespace = context['csi.storage.k8s.io/pod.namespace']
  const name = context['csi.storage.k8s.io/pod.name']
  return namespace && name ? { namespace, name } : undefined
}
