import { readFile, statfs } from 'node:fs/promises'
import { join } from 'node:path'

/** The tag of a volume group that says which daemon uses it: `elastic-local.daemon=<machine's id>:<its folder for volumes>`. */
const claimPrefix = 'elastic-local.daemon='

/** `TMPFS_MAGIC` of statfs(2). */
const tmpfs = 0x01021994n

/** The claim of a daemon. What a tag may not hold is written as `!` and a byte in hexadecimal digits (lvm(8), TAGS). */
export function buildClaim(machineId: string, folder: string): string {
  const escapeByte = (byte: number) => `!${byte.toString(16).padStart(2, '0')}`
  const plain = [...Buffer.from(folder)].map((byte) =>
    /[\w./:=+-]/.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : escapeByte(byte),
  )
  return `${claimPrefix}${machineId}:${plain.join('')}`
}

/** The claims of others among the tags of a group. */
export const otherClaims = (tags: readonly string[], own: string): string[] =>
  tags.filter((tag) => tag.startsWith(claimPrefix) && tag !== own)

/** Whose a claim is, in words that complete "the daemon of". */
export function describeClaim(claim: string, own: string): string {
  const parse = (tag: string) => /^([^:]*):(.*)$/.exec(tag.slice(claimPrefix.length))?.slice(1) ?? [tag, '']
  const [[machine, folder], [ownMachine]] = [parse(claim), parse(own)]
  return `${machine === ownMachine ? 'this machine' : `machine ${machine}`} with --volumes-dir ${folder}`
}

/**
 * The id of the machine (machine-id(5)): of process 1, as a container has another or none. Nothing where it has none that lasts: in
 * memory, it is another after each start.
 */
export async function readMachineId(root = '/'): Promise<string | undefined> {
  for (const place of ['proc/1/root', '']) {
    const path = join(root, place, 'etc/machine-id')
    const id = await readFile(path, 'utf8').catch(() => '')
    if (!/^[0-9a-f]{32}\s*$/.test(id)) continue
    return (await statfs(path, { bigint: true })).type === tmpfs ? undefined : id.trim()
  }
  return undefined
}
