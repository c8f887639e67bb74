import type { V1PersistentVolumeSpec } from '@kubernetes/client-node'
import { csiFront } from './csi.ts'
import { flexFront } from './flex.ts'
import type { FrontName, VolumeFront, VolumeSource } from './front.ts'

/** All fronts that PVs of ours can have, by their names. */
export const fronts: Readonly<Record<FrontName, VolumeFront>> = { flex: flexFront, csi: csiFront }

/** The front and the source of a PV of ours; nothing for any other PV. */
export function findSource(
  name: string,
  spec: V1PersistentVolumeSpec,
): (VolumeSource & { front: FrontName }) | undefined {
  for (const front of Object.values(fronts)) {
    const source = front.readSource(name, spec)
    if (source) return { ...source, front: front.name }
  }
  return undefined
}
