import type { Engine, VolumeSpec } from '../volume/engine.ts'
import { VolumeError } from '../volume/errors.ts'
import { parseVolumeName } from '../volume/name.ts'
import type { Content, Grown } from '../volume/pool.ts'

/** By which protocol kubelets have a volume mounted. */
export const frontNames = ['flex', 'csi'] as const
export type FrontName = (typeof frontNames)[number]

/** What a call-out's options say about a volume. */
export interface CallOptions {
  /** Missing when the options name no size. */
  sizeBytes?: bigint
  /** Missing when the options name none; `block` for a block device. */
  fsType?: Content
  mkfsOptions: string[]
  mountOptions: string[]
  readOnly: boolean
  /** What the kubelet calls the volume; a pod's own option of that name would hide it. */
  volumeName?: string
  /** What only the PV's own options hold; a pod's own option of that name may stand in its place. */
  key?: string
  /** The pod that a mount is for, as its options say, which its author may have written. */
  pod?: { namespace: string; name: string }
}

/** A folder that the kubelet wants a volume in. */
export interface Target {
  /** Absolute, without links. */
  path: string
  volumeName: string
  /** The folder that all pods of a node share, where the kubelet has a device mounted first (attach mode). */
  sharedPath: string
  /** Missing when that folder is the target. */
  podUid?: string
}

/** How the kubelet's call-outs are read: what it says of places and of volumes. Both throw `invalid`. */
export interface CallOuts {
  checkTarget(path: unknown): Promise<Target>
  parseOptions(options: unknown): CallOptions
}

/** A call-out that wants a volume. */
export interface Request {
  /** By which protocol the kubelet asks. */
  front: FrontName
  volumeName: string
  /** The pod whose folder the target is in; missing for the folder that all pods of a node share. */
  podUid?: string
  options: CallOptions
}

/** How a volume may be mounted. */
export interface Admission {
  readOnly: boolean
  mountOptions: readonly string[]
  fsType?: Content
  /** How to make it, if it is not there and may be made. */
  create?: VolumeSpec
}

/** Whose volumes these are: it decides what the API may do with them. All throw `VolumeError`. */
export interface Front {
  /** Has `work` mount, or attach, the volume for whom it is. */
  admit<T>(request: Request, work: (admission: Admission) => Promise<T>): Promise<T>
  grow(name: string, sizeBytes: bigint): Promise<Grown>
  remove(name: string): Promise<{ action: 'removed' | 'unchanged' }>
  /** What is wrong with a volume besides what the node itself sees. */
  problemsOf(name: string): string[]
  /** The claim that a volume is for, as far as it is known. */
  claimOf(name: string): { namespace: string; name: string } | undefined
  /** By which protocol kubelets have it mounted, where that is settled. */
  frontOf(name: string): FrontName | undefined
  /** Volumes that were made here, of which nothing is left. */
  lost(): LostVolume[]
}

/** A volume of which nothing is left on its node. */
export interface LostVolume {
  name: string
  sizeBytes: bigint
  /** What is said of it. */
  message: string
}

/** Without a cluster, whoever can open the socket is believed; a call-out that names a size makes the volume. */
export function buildStandaloneFront(engine: Engine): Front {
  return {
    admit: async ({ options }, work) => {
      const { readOnly, mountOptions, fsType } = options
      return await work({
        readOnly,
        mountOptions,
        ...(fsType ? { fsType } : {}),
        ...(options.sizeBytes === undefined ? {} : { create: buildSpec(options) }),
      })
    },
    grow: (name, sizeBytes) => engine.grow(name, sizeBytes),
    remove: (name) => engine.remove(name),
    problemsOf: () => [],
    claimOf: () => undefined,
    frontOf: () => undefined,
    lost: () => [],
  }
}

/** What to make a volume by. Throws `invalid` when the options name no size. */
export function buildSpec({ sizeBytes, fsType = 'ext4', mkfsOptions }: CallOptions): VolumeSpec {
  if (sizeBytes === undefined)
    throw new VolumeError(
      'invalid',
      'Cannot create a volume as option sizeBytes must be its size in bytes: it is missing.',
    )
  return { sizeBytes, fsType, mkfsOptions }
}

/** The volume that a call-out without a target is about. Throws `invalid`. */
export function volumeNameIn({ volumeName = '' }: CallOptions): string {
  return parseVolumeName(volumeName)
}
