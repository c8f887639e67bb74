import { csiDriverName } from '../../csi/driver.ts'
import type { VolumeFront } from './front.ts'

/**
 * PVs of our CSI driver, whose handle is their name. The kubelet tells of a volume only by its PV: nobody needs a key. Their
 * mount options stand where Kubernetes has a place for them.
 */
export const csiFront: VolumeFront = {
  name: 'csi',
  readSource: (name, { csi, volumeMode, mountOptions = [] }) =>
    csi?.driver === csiDriverName && csi.volumeHandle === name
      ? {
          fsType: volumeMode === 'Block' ? 'block' : (csi.fsType ?? ''),
          options: {
            ...csi.volumeAttributes,
            ...(mountOptions.length > 0 ? { mountOptions: mountOptions.join(',') } : {}),
          },
        }
      : undefined,
  buildSource: ({ name, fsType, options: { mountOptions, ...attributes }, sizeBytes }) => ({
    ...(fsType === 'block' ? { volumeMode: 'Block' } : {}),
    ...(mountOptions ? { mountOptions: mountOptions.split(',') } : {}),
    csi: {
      driver: csiDriverName,
      volumeHandle: name,
      ...(fsType === 'block' ? {} : { fsType }),
      volumeAttributes: { ...attributes, sizeBytes: String(sizeBytes) },
    },
  }),
}
