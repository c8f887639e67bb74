import type { VolumeSpec } from '../volume/engine.ts'
import { VolumeError } from '../volume/errors.ts'
import { type FsType, fsTypes } from '../volume/pool.ts'
import { parseSize } from '../volume/size.ts'

/** What a call-out's options say about a volume. */
export interface VolumeOptions {
  /** Missing when the options name no size. */
  sizeBytes?: bigint
  /** Missing when the options name none. */
  fsType?: FsType
  mkfsOptions: string[]
  mountOptions: string[]
  readOnly: boolean
  /** What the kubelet calls the volume; a pod's own option of that name would hide it. */
  volumeName?: string
  /** What only the PV's own options hold; a pod's own option of that name may stand in its place. */
  key?: string
  /** The pod that a mount is for, as its options say, which its author may have written. */
  pod?: { namespace: string; name: string }
}

/** Option of a PV that tells its pods from those that only name its volume. */
export const keyOption = 'key'

const mountOption = /^[a-z][a-z0-9_]*(=[A-Za-z0-9_.:+-]+)?$/
/** Options that would change what is mounted or where, or give a pod more than a plain filesystem. */
const refusedMountOptions =
  /^(bind|rbind|move|remount|loop|offset|sizelimit|(r?(un)?bindable|r?private|r?shared|r?slave)|suid|dev|users?|group|owner|device|logdev|rtdev|journal_path|journal_dev|subvol|subvolid|u?helper|context|fscontext|defcontext|rootcontext)(=|$)/

/** Flags of each mkfs that shape a filesystem and reach nothing else (mkfs.ext4(8), mkfs.xfs(8), mkfs.btrfs(8)). */
const mkfsFlags: Record<FsType, RegExp> = {
  ext4: /^-[bCgGiIJmNOTEe]$/,
  xfs: /^-[bdilmnrs]$/,
  btrfs: /^(-[nsOdm]|--(nodesize|sectorsize|features|data|metadata|csum|checksum|mixed|runtime-features)|-[MR])$/,
}
/** Those of them that take no value. */
const mkfsSwitches = /^(-M|--mixed)$/
const mkfsValue = /^[A-Za-z0-9_.=:^+%][A-Za-z0-9_.,=:^+%-]*$/
/** Values that name files or other devices. */
const refusedMkfsValue = /(^|,)(name|file|device|logdev|rtdev|protofile|root_owner|test_fs|offset)(=|,|$)/

/** Reads the options of a call-out: a JSON object of texts. Throws `invalid` with the key and the value. */
export function parseOptions(options: unknown): VolumeOptions {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw new VolumeError(
      'invalid',
      `Cannot read the options as they must be a JSON object: they are ${JSON.stringify(options) ?? 'missing'}.`,
    )
  const textOf = (key: string): string => {
    const value = Object.hasOwn(options, key) ? (options as Record<string, unknown>)[key] : ''
    if (typeof value === 'string') return value
    throw new VolumeError('invalid', `Cannot read option ${key} as it must be a text: it is ${JSON.stringify(value)}.`)
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
    mountOptions: parseMountOptions(textOf('mountOptions')),
    readOnly: parseReadOnly(textOf('kubernetes.io/readwrite')),
    ...(volumeName ? { volumeName } : {}),
    ...(key ? { key } : {}),
    ...(namespace && name ? { pod: { namespace, name } } : {}),
  }
}

/** What to make a volume by. Throws `invalid` when the options name no size. */
export function buildSpec({ sizeBytes, fsType = 'ext4', mkfsOptions }: VolumeOptions): VolumeSpec {
  if (sizeBytes === undefined)
    throw new VolumeError(
      'invalid',
      'Cannot make a volume as option sizeBytes must be its size in bytes: it is missing.',
    )
  return { sizeBytes, fsType, mkfsOptions }
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

/** The options of a comma list (mount(8)). Throws `invalid` for one that reaches beyond a plain filesystem. */
export function parseMountOptions(text: string): string[] {
  const options = text.split(',').filter(Boolean)
  const bad = options.find((option) => !mountOption.test(option) || refusedMountOptions.test(option))
  if (bad === undefined) return options
  throw new VolumeError(
    'invalid',
    `Cannot mount with option ${JSON.stringify(bad)} of mountOptions as it is not one that a volume may have.`,
  )
}

/**
 * The words of mkfs options such as `-b 4096 -O ^has_journal`. Throws `invalid` for one that reaches beyond the device:
 * among them a word that belongs to no flag, which mkfs would take for a device or a file.
 */
export function parseMkfsOptions(fsType: FsType, text: string): string[] {
  const words = text.split(/\s+/).filter(Boolean)
  const wrong = (word: string) =>
    new VolumeError(
      'invalid',
      `Cannot format ${fsType} with ${JSON.stringify(word)} of mkfsOptions as it is not one that a volume may have.`,
    )
  let flag: string | undefined
  for (const word of words) {
    const fits = flag ? mkfsValue.test(word) && !refusedMkfsValue.test(word) : mkfsFlags[fsType].test(word)
    if (!fits) throw wrong(word)
    flag = flag || mkfsSwitches.test(word) ? undefined : word
  }
  if (flag) throw wrong(flag)
  return words
}
