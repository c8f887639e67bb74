import { buildSpec, parseOptions, type VolumeOptions } from '../flex/options.ts'
import type { VolumeSpec } from '../volume/engine.ts'
import type { ClaimRef, VolumeFacts } from './persistent-volume.ts'

/** What the node remembers of a volume that it made, to mount it also while the API server is away. */
export interface Note {
  fsType: string
  options: Readonly<Record<string, string>>
  claim?: ClaimRef
}

/** The notes of this node, each on the disk when its change resolves. */
export interface Notes {
  read(name: string): Promise<Note | undefined>
  write(name: string, note: Note): Promise<void>
  clear(name: string): Promise<void>
}

export function noteOf({ fsType, options, claim }: VolumeFacts): Note {
  return { fsType, options, ...(claim ? { claim } : {}) }
}

/** A PV's options; those of the kubelet's own names are left out, as only the kubelet may set them. */
export function optionsOf({ fsType, options }: Note): VolumeOptions {
  const own = Object.entries(options).filter(([key]) => !key.startsWith('kubernetes.io/'))
  return parseOptions({ ...Object.fromEntries(own), ...(fsType ? { 'kubernetes.io/fsType': fsType } : {}) })
}

/** What a PV's volume is made by. */
export function specOf(volume: VolumeFacts): VolumeSpec {
  return buildSpec(optionsOf(noteOf(volume)))
}
