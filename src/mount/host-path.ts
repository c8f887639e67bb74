import { readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { isWithin, type MountEntry, parseMountInfo } from './table.ts'

/** The path that process 1 has for a folder that may be mounted into this container; the path itself where that is not to be seen. */
export async function findHostPath(path: string): Promise<string> {
  const [own, host] = await Promise.all(
    ['self', '1'].map((pid) => readFile(`/proc/${pid}/mountinfo`, 'utf8').then(parseMountInfo, () => [])),
  )
  return hostPathOf(path, own ?? [], host ?? [])
}

/** The same of two mount tables: where the host shows that very folder of that filesystem. */
export function hostPathOf(path: string, own: readonly MountEntry[], host: readonly MountEntry[]): string {
  const holder = own
    .filter(({ target }) => isWithin(target, path))
    .reduce<MountEntry | undefined>(
      (best, each) => (best && best.target.length > each.target.length ? best : each),
      undefined,
    )
  if (!holder) return path
  const place = join(holder.root, relative(holder.target, path))
  const shown = host
    .filter(({ device, root }) => device === holder.device && isWithin(root, place))
    .map(({ target, root }) => join(target, relative(root, place)))
  if (shown.includes(path)) return path
  return shown.sort((a, b) => a.length - b.length || (a < b ? -1 : 1))[0] ?? path
}
