import { readFile, stat } from 'node:fs/promises'
import { formatDeviceNumber } from '../device-number.ts'
import { hasErrno, messageOf, VolumeError } from '../volume/errors.ts'

/** The UUID in LVM's form of the logical volume behind a device node, if it is one. */
export async function readDeviceUuid(device: string): Promise<string | undefined> {
  return parseUuids(await readDeviceFile(device, 'dm/uuid'))?.volume
}

/** What the kernel says of a device of its mapper. */
export interface MapperDevice {
  name: string | undefined
  uuid: string | undefined
}

export async function readMapperDevice(device: string): Promise<MapperDevice> {
  return { name: await readDeviceFile(device, 'dm/name'), uuid: await readDeviceFile(device, 'dm/uuid') }
}

/**
 * The UUID of a volume that LVM has just made, as the device at its path has it: if that is the kernel's one device of that name, and
 * of that very group. Where the path leads elsewhere, nothing.
 */
export function uuidOfNew(
  { name, uuid }: MapperDevice,
  group: { name: string; uuid: string },
  volumeName: string,
): string | undefined {
  // As LVM names its devices (build_dm_name in lib/misc/lvm-string.c).
  const wanted = [group.name, volumeName].map((part) => part.replaceAll('-', '--')).join('-')
  const uuids = parseUuids(uuid)
  return name === wanted && uuids?.group === group.uuid ? uuids.volume : undefined
}

/** `LVM-<VG UUID><LV UUID>`, without LVM's hyphens. */
function parseUuids(text = ''): { group: string; volume: string } | undefined {
  const [, group, volume] = /^LVM-([A-Za-z0-9]{32})([A-Za-z0-9]{32})$/.exec(text) ?? []
  const format = (uuid: string) => uuid.replace(/^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})$/, '$1-$2-$3-$4-$5-$6-$7')
  return group && volume ? { group: format(group), volume: format(volume) } : undefined
}

/** A file of the kernel's about the block device behind a node, such as `size`; nothing when there is none (sysfs(5)). */
export async function readDeviceFile(device: string, file: string): Promise<string | undefined> {
  try {
    const { rdev } = await stat(device)
    return (await readFile(`/sys/dev/block/${formatDeviceNumber(rdev)}/${file}`, 'utf8')).trim()
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw new VolumeError('failed', `Cannot inspect ${device}: ${messageOf(error)}`, { cause: error })
  }
}
