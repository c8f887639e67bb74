import { readFile, stat } from 'node:fs/promises'
import { formatDeviceNumber } from '../device-number.ts'
import { hasErrno, messageOf, VolumeError } from '../volume/errors.ts'

/** The UUID in LVM's form of the logical volume behind a device node, if it is one (`LVM-<VG UUID><LV UUID>`). */
export async function readDeviceUuid(device: string): Promise<string | undefined> {
  const uuid = /^LVM-[A-Za-z0-9]{32}([A-Za-z0-9]{32})$/.exec((await readDeviceFile(device, 'dm/uuid')) ?? '')?.[1]
  return uuid?.replace(/^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})$/, '$1-$2-$3-$4-$5-$6-$7')
}

/** A file of the kernel's about the block device behind a node, such as `size`; nothing when there is none (sysfs(5)). */
export async function readDeviceFile(device: string, file: string): Promise<string | undefined> {
  try {
    const { rdev } = await stat(device)
    return (await readFile(`/sys/dev/block/${formatDeviceNumber(rdev)}/${file}`, 'utf8')).trim()
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw new VolumeError('failed', `Cannot look at ${device}: ${messageOf(error)}`, { cause: error })
  }
}
