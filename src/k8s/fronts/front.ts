import type { V1PersistentVolumeSpec } from '@kubernetes/client-node'
import type { FrontName } from '../../daemon/front.ts'

export { type FrontName, frontNames } from '../../daemon/front.ts'

/** What a PV's source says of its volume. */
export interface VolumeSource {
  /** Empty where the source names none; `block` for a block device. */
  fsType: string
  options: Readonly<Record<string, string>>
}

/** What differs between fronts in PVs: how they are recognised, and how their source is built. */
export interface VolumeFront {
  name: FrontName
  /** The source of a PV of this front and that name; nothing for any other PV. */
  readSource(name: string, spec: V1PersistentVolumeSpec): VolumeSource | undefined
  /** The same for the same request. */
  buildSource(request: VolumeSource & { name: string; sizeBytes: bigint; key: string }): Partial<V1PersistentVolumeSpec>
}
