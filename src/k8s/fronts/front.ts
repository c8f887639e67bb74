import type { V1PersistentVolumeSpec } from '@kubernetes/client-node'

/** What a PV's source says of its volume. */
export interface VolumeSource {
  /** Empty where the source names none. */
  fsType: string
  options: Readonly<Record<string, string>>
}

/** What differs between fronts in PVs: how they are recognised, and how their source is built. */
export interface VolumeFront {
  name: string
  /** The source of a PV of this front; nothing for any other PV. */
  readSource(spec: V1PersistentVolumeSpec): VolumeSource | undefined
  /** The same for the same request. */
  buildSource(source: VolumeSource & { sizeBytes: bigint; key: string }): Partial<V1PersistentVolumeSpec>
}
