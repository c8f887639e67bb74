import type { CallOptions } from '../../daemon/front.ts'
import { keyOption, parseOptions } from '../../flex/options.ts'
import { driverName } from '../../flex/target.ts'
import type { VolumeFront, VolumeSource } from './front.ts'

/** PVs of our FlexVolume driver. */
export const flexFront: VolumeFront = {
  name: 'flex',
  readSource: (_, { flexVolume }) =>
    flexVolume?.driver === driverName
      ? { fsType: flexVolume.fsType ?? '', options: flexVolume.options ?? {} }
      : undefined,
  buildSource: ({ fsType, options, sizeBytes, key }) => ({
    flexVolume: {
      driver: driverName,
      fsType,
      options: { ...options, sizeBytes: String(sizeBytes), [keyOption]: key },
    },
  }),
}

/** Whether a source holds a key, as those of the predecessor's PVs do not. */
export function hasKey({ options }: VolumeSource): boolean {
  return Boolean(options[keyOption])
}

/** A source's options; those of the kubelet's own names are left out, as only the kubelet may set them. Throws `invalid`. */
export function optionsOf({ fsType, options }: VolumeSource): CallOptions {
  if (fsType === 'block') return { ...parseOptions(options), fsType }
  const own = Object.entries(options).filter(([key]) => !key.startsWith('kubernetes.io/'))
  return parseOptions({ ...Object.fromEntries(own), ...(fsType ? { 'kubernetes.io/fsType': fsType } : {}) })
}
