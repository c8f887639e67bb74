import type { CallOptions } from '../daemon/front.ts'
import { VolumeError } from '../volume/errors.ts'
import { parseMkfsOptions, parseMountOptions } from '../volume/options.ts'
import { type FsType, fsTypes } from '../volume/pool.ts'
import { parseSize } from '../volume/size.ts'

/** Option of a PV that tells its pods from those that only name its volume. */
export const keyOption = 'key'

/** Reads the options of a call-out: a JSON object of texts. Throws `invalid` with the key and the value. */
export function parseOptions(options: unknown): CallOptions {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw new VolumeError(
      'invalid',
      `Cannot read the options as they must be a JSON object: they are ${typeNameOf(options)}.`,
    )
  const textOf = (key: string): string => {
    const value = Object.hasOwn(options, key) ? (options as Record<string, unknown>)[key] : ''
    if (typeof value === 'string') return value
    throw new VolumeError('invalid', `Cannot read option ${key} as it must be a string: it is ${typeNameOf(value)}.`)
  }
  const fsType = parseFsType(textOf('kubernetes.io/fsType'))
  const size = textOf('sizeBytes')
  const volumeName = textOf('kubernetes.io/pvOrVolumeName')
  const key = textOf(keyOption)
  const [namespace, name] = [textOf('kubernetes.io/pod.namespace'), textOf('kubernetes.io/pod.name')]
  return {
    ...(size ? { sizeBytes: parseSize(size, 'option sizeBytes') } : {}),
    ...(fsType ? { fsType } : {}),
    mkfsOptions: parseMkfsOptions(fsType ?? 'ext4', textOf('mkfsOptions')),
    mountOptions: parseMountOptions(fsType, textOf('mountOptions')),
    readOnly: parseReadOnly(textOf('kubernetes.io/readwrite')),
    ...(volumeName ? { volumeName } : {}),
    ...(key ? { key } : {}),
    ...(namespace && name ? { pod: { namespace, name } } : {}),
  }
}

/** What a value is, without showing it: there may be secrets among options. */
function typeNameOf(value: unknown): string {
  if (value === undefined) return 'missing'
  if (value === null) return 'null'
  return Array.isArray(value) ? 'an array' : `of type ${typeof value}`
}

function parseFsType(text: string): FsType | undefined {
  if (text === '') return undefined
  const fsType = fsTypes.find((type) => type === text)
  if (fsType) return fsType
  throw new VolumeError(
    'invalid',
    `Cannot use option kubernetes.io/fsType as it must be one of ${fsTypes.join(', ')}: it is ${JSON.stringify(text)}.`,
  )
}

function parseReadOnly(text: string): boolean {
  if (text === '' || text === 'rw') return false
  if (text === 'ro') return true
  throw new VolumeError(
    'invalid',
    `Cannot use option kubernetes.io/readwrite as it must be "ro" or "rw": it is ${JSON.stringify(text)}.`,
  )
}
