import { buildSpec } from '../../daemon/front.ts'
import type { VolumeSpec } from '../../volume/engine.ts'
import { optionsOf } from '../fronts/flex.ts'
import type { FrontName, VolumeSource } from '../fronts/front.ts'
import type { ClaimRef, VolumeFacts } from '../model/persistent-volume.ts'

/** What the node remembers of a volume that it made, to mount it also while the API server is away. */
export interface Note extends VolumeSource {
  front: FrontName
  claim?: ClaimRef
  /** Whether one pod at a time may have it. */
  isForOnePod?: boolean
}

/** The notes of this node, each on the disk when its change resolves. */
export interface Notes {
  read(name: string): Promise<Note | undefined>
  write(name: string, note: Note): Promise<void>
  clear(name: string): Promise<void>
}

export function noteOf({ front, fsType, options, claim, isForOnePod }: VolumeFacts): Note {
  return { front, fsType, options, ...(claim ? { claim } : {}), ...(isForOnePod ? { isForOnePod } : {}) }
}

/** What a PV's volume is made by. */
export function specOf(volume: VolumeFacts): VolumeSpec {
  return buildSpec(optionsOf(volume))
}
