/** What a program or library says of the libraries it needs (elf(5)). */
export interface Linkage {
  /** The path of what loads it, in a program. */
  loader: string | undefined
  /** The names of libraries. */
  needed: string[]
}

const ptLoad = 1
const ptDynamic = 2
const ptInterp = 3
const dtNeeded = 1n
const dtStringTable = 5n

/** Reads the linkage of a file of 64 bits, little-endian; `undefined` when it is no such file. */
export function parseLinkage(file: Buffer): Linkage | undefined {
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46 || file[4] !== 2 || file[5] !== 1) return undefined
  const number = (offset: number) => Number(file.readBigUInt64LE(offset))
  const text = (offset: number) => file.toString('latin1', offset, file.indexOf(0, offset))
  const headers = Array.from({ length: file.readUInt16LE(56) }, (_, index) => {
    const at = number(32) + index * file.readUInt16LE(54)
    return { type: file.readUInt32LE(at), offset: number(at + 8), address: number(at + 16), size: number(at + 32) }
  })
  const find = (type: number) => headers.find((header) => header.type === type)
  const dynamic = find(ptDynamic)
  const loader = find(ptInterp)
  const entries = Array.from({ length: Math.floor((dynamic?.size ?? 0) / 16) }, (_, index) => {
    const at = (dynamic?.offset ?? 0) + index * 16
    return { tag: file.readBigInt64LE(at), value: number(at + 8) }
  })
  const table = entries.find(({ tag }) => tag === dtStringTable)?.value ?? 0
  const holder = headers.find(
    ({ type, address, size }) => type === ptLoad && address <= table && table < address + size,
  )
  const strings = table - (holder?.address ?? 0) + (holder?.offset ?? 0)
  return {
    loader: loader && text(loader.offset),
    needed: entries.filter(({ tag }) => tag === dtNeeded).map(({ value }) => text(strings + value)),
  }
}
