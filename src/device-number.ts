/** `major:minor` of a device node's `st_rdev`, as the kernel writes it in `/sys` and `/proc` (makedev(3)). */
export function formatDeviceNumber(rdev: number): string {
  const major = ((rdev >> 8) & 0xfff) | (Math.floor(rdev / 2 ** 32) & ~0xfff)
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)
  return `${major}:${minor}`
}
