import { type FileHandle, open, readFile } from 'node:fs/promises'
import { formatDeviceNumber } from '../device-number.ts'

/**
 * Where everything that blkid(8) and wipefs(8) know has its mark: at most 4 MiB and a header from the start (a second LUKS2
 * header) and 1.5 MiB from the end (Promise RAID; see libblkid/src/superblocks).
 */
const headBytes = 5 << 20
const tailBytes = 2 << 20
const pieceBytes = 1 << 20
const sectorBytes = 512
const zeros = Buffer.alloc(pieceBytes)

/** Whether a block device, or an image of one, has nothing but zeros where any mark would be. Throws when it cannot be read. */
export async function isBlank(device: string): Promise<boolean> {
  const file = await open(device)
  try {
    const sizeBytes = await readSize(file)
    const tailAt = Math.max(headBytes, sizeBytes - tailBytes)
    return (
      (await isZero(file, 0, Math.min(headBytes, sizeBytes))) &&
      (await isZero(file, tailAt, Math.max(tailAt, sizeBytes)))
    )
  } finally {
    await file.close()
  }
}

async function isZero(file: FileHandle, from: number, to: number): Promise<boolean> {
  const piece = Buffer.allocUnsafe(pieceBytes)
  for (let at = from; at < to; ) {
    const { bytesRead } = await file.read(piece, 0, Math.min(pieceBytes, to - at), at)
    if (bytesRead === 0) throw new Error(`it ends after ${at} of ${to} bytes`)
    if (!piece.subarray(0, bytesRead).equals(zeros.subarray(0, bytesRead))) return false
    at += bytesRead
  }
  return true
}

/** `st_size` of a block device is 0 (sysfs(5) has it). */
async function readSize(file: FileHandle): Promise<number> {
  const stat = await file.stat()
  if (!stat.isBlockDevice()) return stat.size
  return Number(await readFile(`/sys/dev/block/${formatDeviceNumber(stat.rdev)}/size`, 'utf8')) * sectorBytes
}
