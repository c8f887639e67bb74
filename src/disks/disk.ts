import { constants } from 'node:fs'
import { open, readdir, readFile, realpath } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { formatDeviceNumber } from '../device-number.ts'
import { parseMountInfo } from '../mount/table.ts'
import { formatBytes } from '../text/quantity.ts'
import { hasErrno, messageOf, VolumeError } from '../volume/errors.ts'
import type { Filesystems } from '../volume/host.ts'

/** A disk that may become one of a volume group's. */
export interface Disk {
  /** As it was named, such as `/dev/disk/by-id/…`. */
  path: string
  /** `major:minor`, which tells two names of one disk. */
  number: string
  sizeBytes: bigint
}

export interface DiskParts {
  filesystems: Pick<Filesystems, 'signatures'>
  /** What size the disk must have, as far as tools agree on units: within a tenth. */
  sizeBytes?: bigint | undefined
}

const sectorBytes = 512n
/** LVM, filesystems, partition tables and disk encryption all begin in it. */
const headBytes = 1 << 20

/**
 * Looks whether a disk is one that nobody uses and nothing is on. Changes nothing. Throws with the reason, and with what
 * to do, when it is not: there is no way around it but to make the disk blank by hand.
 */
export async function examineDisk(path: string, parts: DiskParts): Promise<Disk> {
  const refuse = (reason: string): never => {
    throw new VolumeError('invalid', `Cannot use ${path} as ${reason}`)
  }
  const device = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error) =>
    refuse(
      hasErrno(error, 'ENOENT') ? 'there is no such device; see "lsblk".' : `it cannot be read: ${messageOf(error)}`,
    ),
  )
  try {
    const stat = await device.stat()
    if (!stat.isBlockDevice()) refuse('it must be a disk, a block device: it is not; see "lsblk".')
    const number = formatDeviceNumber(stat.rdev)
    const folder = await realpath(`/sys/dev/block/${number}`)
    const read = async (file: string) => (await readFile(join(folder, file), 'utf8')).trim()
    const sizeBytes = BigInt(await read('size')) * sectorBytes
    if (sizeBytes === 0n) refuse('it has no size: there is no medium in it.')
    if ((await read('ro')) === '1') refuse('it is read-only.')
    const partitions = (await readdir(folder)).filter((name) => name.startsWith(basename(folder)))
    if (partitions.length > 0) refuse(`it has partitions: ${partitions.join(', ')}. Name one of them, if it is free.`)
    const holders = await readdir(join(folder, 'holders'))
    if (holders.length > 0) refuse(`${holders.join(', ')} is built on it; see "lsblk ${path}".`)
    await mustBeFree(path, number, refuse)
    if (parts.sizeBytes !== undefined && differ(sizeBytes, parts.sizeBytes))
      refuse(`its size must be ${formatBytes(parts.sizeBytes)}: it is ${formatBytes(sizeBytes)}.`)
    const signatures = await parts.filesystems.signatures(path)
    if (signatures.length > 0)
      refuse(
        `it is not blank: it holds ${signatures.join(', ')}. Look with "wipefs ${path}" and "lsblk --fs ${path}". ${advice(path)}`,
      )
    const { buffer, bytesRead } = await device.read(Buffer.alloc(headBytes), 0, headBytes, 0)
    if (buffer.subarray(0, bytesRead).some((byte) => byte !== 0))
      refuse(`it is not blank: its first MiB holds data that no tool recognises; it may be encrypted. ${advice(path)}`)
    return { path, number, sizeBytes }
  } finally {
    await device.close()
  }
}

const advice = (path: string) =>
  `If nobody needs what is on it, make it blank: "wipefs --all ${path} && dd if=/dev/zero of=${path} bs=1M count=1 conv=fsync".`

/** The kernel opens a device with O_EXCL for whatever uses it: mounts, swap, RAID, device-mapper (open(2)). */
async function mustBeFree(path: string, number: string, refuse: (reason: string) => never): Promise<void> {
  try {
    await (await open(path, constants.O_RDONLY | constants.O_EXCL)).close()
  } catch (error) {
    if (!hasErrno(error, 'EBUSY')) throw error
    const mounts = parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'))
    const mount = mounts.find(({ device }) => device === number)
    refuse(
      mount
        ? `it is mounted on ${mount.target}.`
        : `it is in use: mounted, swap space, or part of a RAID or a volume group; see "lsblk ${path}" and "swapon".`,
    )
  }
}

const differ = (actual: bigint, wanted: bigint) => actual * 10n < wanted * 9n || actual * 10n > wanted * 11n
