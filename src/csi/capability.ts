import { VolumeError } from '../volume/errors.ts'
import { parseMountOptions } from '../volume/options.ts'
import { type Content, fsTypes } from '../volume/pool.ts'
import { type VolumeCapability, VolumeCapability_AccessMode_Mode } from './proto/csi_pb.ts'

/** How a volume is to be had. */
export interface Capability {
  /** `block` for a block device; missing where no filesystem is named. */
  fsType?: Content
  mountOptions: string[]
  readOnly: boolean
  /** Whether it may be seen in one place only. */
  isAlone: boolean
}

const {
  SINGLE_NODE_WRITER,
  SINGLE_NODE_READER_ONLY,
  MULTI_NODE_READER_ONLY,
  SINGLE_NODE_SINGLE_WRITER,
  SINGLE_NODE_MULTI_WRITER,
} = VolumeCapability_AccessMode_Mode

/** What a volume of one node can be; of many readers, those that are on it. */
const modes: readonly number[] = [
  SINGLE_NODE_WRITER,
  SINGLE_NODE_READER_ONLY,
  MULTI_NODE_READER_ONLY,
  SINGLE_NODE_SINGLE_WRITER,
  SINGLE_NODE_MULTI_WRITER,
]

/** What a capability asks for. Throws `invalid` where it asks for what our volumes cannot be. */
export function parseCapability(capability: VolumeCapability | undefined): Capability {
  const { accessType, accessMode } = capability ?? {}
  if (!accessType?.case || !accessMode)
    throw wrong('it must name an access type and an access mode: one of them is missing')
  const { mode } = accessMode
  if (!modes.includes(mode)) throw wrong(`its access mode must be a single-node or a read-only one: it is ${mode}`)
  const access = {
    readOnly: mode === SINGLE_NODE_READER_ONLY || mode === MULTI_NODE_READER_ONLY,
    isAlone: mode === SINGLE_NODE_SINGLE_WRITER,
  }
  if (accessType.case === 'block') return { fsType: 'block', mountOptions: [], ...access }
  const { fsType: text, mountFlags, volumeMountGroup } = accessType.value
  if (volumeMountGroup !== '') throw wrong('it must name no group: the kubelet sets the group of a volume')
  const fsType = fsTypes.find((type) => type === text)
  if (text !== '' && !fsType)
    throw wrong(`its filesystem must be one of ${fsTypes.join(', ')}: it is ${JSON.stringify(text)}`)
  return {
    ...(fsType ? { fsType } : {}),
    // Each may hold several, as mount(8) takes them.
    mountOptions: parseMountOptions(fsType, mountFlags.join(',')),
    ...access,
  }
}

const wrong = (what: string) => new VolumeError('invalid', `Cannot serve this volume capability as ${what}.`)
