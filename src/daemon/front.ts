import { buildSpec, parseOptions } from '../flex/options.ts'
import type { Engine, VolumeSpec } from '../volume/engine.ts'
import { parseVolumeName } from '../volume/name.ts'
import type { FsType, StoredVolume } from '../volume/pool.ts'

/** A call-out that wants a volume. */
export interface Request {
  volumeName: string
  /** The pod whose folder the target is in; missing for the folder that all pods of a node share. */
  podUid?: string
  /** As they came: a JSON object of texts. */
  options: unknown
}

/** How a volume may be mounted. */
export interface Admission {
  readOnly: boolean
  mountOptions: readonly string[]
  fsType?: FsType
  /** How to make it, if it is not there and may be made. */
  create?: VolumeSpec
}

/** Whose volumes these are: it decides what the API may do with them. All throw `VolumeError`. */
export interface Front {
  admit(request: Request): Promise<Admission>
  grow(name: string, sizeBytes: bigint): Promise<{ action: 'grown' | 'unchanged'; volume: StoredVolume }>
  remove(name: string): Promise<{ action: 'removed' | 'unchanged' }>
  /** What is wrong with a volume besides what the node itself sees. */
  problemsOf(name: string): string[]
  /** The claim that a volume is for, as far as it is known. */
  claimOf(name: string): { namespace: string; name: string } | undefined
}

/** Without a cluster, whoever can open the socket is believed; a call-out that names a size makes the volume. */
export function buildStandaloneFront(engine: Engine): Front {
  return {
    admit: async ({ options: given }) => {
      const options = parseOptions(given)
      const { readOnly, mountOptions, fsType } = options
      return {
        readOnly,
        mountOptions,
        ...(fsType ? { fsType } : {}),
        ...(options.sizeBytes === undefined ? {} : { create: buildSpec(options) }),
      }
    },
    grow: (name, sizeBytes) => engine.grow(name, sizeBytes),
    remove: (name) => engine.remove(name),
    problemsOf: () => [],
    claimOf: () => undefined,
  }
}

/** The volume that a call-out without a target is about. Throws `invalid`. */
export function volumeNameIn(options: unknown): string {
  return parseVolumeName(parseOptions(options).volumeName ?? '')
}
