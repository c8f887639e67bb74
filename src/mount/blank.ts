import { type FileHandle, open, readFile } from 'node:fs/promises'
import { formatDeviceNumber } from '../device-number.ts'

const kibibyte = 1 << 10
const mebibyte = 1 << 20
const sectorBytes = 512
/**
 * Where everything that blkid(8) and wipefs(8) know has its mark (libblkid/src/superblocks and partitions): nearly all in the first
 * or last 512 KiB, of which ZFS takes the most; at 1 and 2 MiB VMFS, at powers of two up to 4 MiB a second LUKS2 header, and up to 3,087
 * sectors from the end Promise RAID. From a place, in bytes, where negative ones count from the end; and how many bytes.
 */
const marks: readonly [place: number, bytes: number][] = [
  [0, 576 * kibibyte],
  [mebibyte, 64 * kibibyte],
  [2 * mebibyte, 64 * kibibyte],
  [4 * mebibyte, 64 * kibibyte],
  [-3088 * sectorBytes, 64 * kibibyte],
  [-512 * kibibyte, 512 * kibibyte],
]
const zeros = Buffer.alloc(576 * kibibyte)

/** Whether a block device, or an image of one, has nothing but zeros where any mark would be. Throws when it cannot be read. */
export async function isBlank(device: string): Promise<boolean> {
  const file = await open(device)
  try {
    const sizeBytes = await readSize(file)
    for (const [place, bytes] of marks) {
      const from = Math.max(0, place < 0 ? sizeBytes + place : place)
      if (!(await isZero(file, from, Math.min(from + bytes, sizeBytes)))) return false
    }
    return true
  } finally {
    await file.close()
  }
}

async function isZero(file: FileHandle, from: number, to: number): Promise<boolean> {
  const piece = Buffer.allocUnsafe(Math.max(0, to - from))
  for (let read = 0; read < piece.length; ) {
    const { bytesRead } = await file.read(piece, read, piece.length - read, from + read)
    if (bytesRead === 0) throw new Error(`it ends after ${from + read} of ${to} bytes`)
    read += bytesRead
  }
  return piece.equals(zeros.subarray(0, piece.length))
}

/** `st_size` of a block device is 0 (sysfs(5) has it). */
async function readSize(file: FileHandle): Promise<number> {
  const stat = await file.stat()
  if (!stat.isBlockDevice()) return stat.size
  return Number(await readFile(`/sys/dev/block/${formatDeviceNumber(stat.rdev)}/size`, 'utf8')) * sectorBytes
}
