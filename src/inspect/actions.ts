import { type DocumentFormat, formatDocument, isDocumentFormat } from '../text/document.ts'
import type { Listing } from '../text/listing.ts'
import { printable } from '../text/paint.ts'
import { formatBytes } from '../text/quantity.ts'
import type { Screen } from '../text/screen.ts'
import { VolumeError } from '../volume/errors.ts'
import { parseVolumeName } from '../volume/name.ts'
import type { PoolReport } from '../volume/pool.ts'
import { parseSize } from '../volume/size.ts'
import type { VolumeView } from '../volume/view.ts'
import type { Keeper } from './keeper.ts'
import { formatPools } from './pools.ts'
import { formatTotal, formatVolume, formatVolumes, nameWithSize } from './volumes.ts'

/** What a person's command works with. */
export interface Visit {
  keeper: Keeper
  screen: Screen
  output: 'table' | DocumentFormat
  now: () => Date
}

/** The exit status of a command: whether all that was asked is done. */
export type ExitCode = 0 | 1

/** All volumes of the node. */
export async function listVolumes({ keeper, screen, now }: Omit<Visit, 'output'>): Promise<Listing<VolumeView>> {
  const [volumes, pools] = await screen.progress('Reading the volumes', () =>
    Promise.all([keeper.list(), keeper.pools()]),
  )
  return {
    kind: 'volumes',
    records: volumes,
    nameOf: ({ name }) => name,
    format: (volumes, look, wide) => formatVolumes(volumes, { now: now(), pools }, look, wide),
    none: 'There are no volumes on this node.',
  }
}

/** Everything about one volume. */
export async function showVolume({ keeper, screen, output, now }: Visit, name: string): Promise<ExitCode> {
  const volume = await mustFind(keeper, name)
  if (isDocumentFormat(output)) screen.print(formatDocument(output, volume))
  else screen.print(formatVolume(volume, { now: now(), pools: await keeper.pools() }, screen))
  return 0
}

/** Makes a volume larger, up to the size given. Asking for what it has already is no failure. */
export async function growVolume({ keeper, screen, output }: Visit, name: string, size: string): Promise<ExitCode> {
  const sizeBytes = parseSize(size, 'the new size')
  const before = await mustFind(keeper, name)
  const grow = () => keeper.grow(before.name, sizeBytes)
  const { action, volume } = await screen.progress(`Growing ${nameWithSize(before)} to ${formatBytes(sizeBytes)}`, grow)
  if (isDocumentFormat(output)) screen.print(formatDocument(output, { action, volume }))
  else if (action === 'grown')
    screen.print(`${name} has grown from ${formatBytes(before.sizeBytes)} to ${formatBytes(volume.sizeBytes)}.\n`)
  else if (volume.sizeBytes === sizeBytes) screen.print(`${name} has ${formatBytes(volume.sizeBytes)} already.\n`)
  else
    screen.print(
      `${name} stays at ${formatBytes(volume.sizeBytes)}: that is more than ${formatBytes(sizeBytes)}, and volumes never shrink.\n`,
    )
  return 0
}

/**
 * Removes volumes and their data, after asking once. Goes on with the others when one cannot be removed. One that is
 * not there is no failure, so that a script may repeat itself.
 */
export async function removeVolumes(
  { keeper, screen, output }: Visit,
  names: readonly string[],
  { yes }: { yes: boolean },
): Promise<ExitCode> {
  const asked = [...new Set(names.map(parseVolumeName))]
  const found = await Promise.all(asked.map((name) => keeper.find(name)))
  const volumes = found.filter((volume) => volume !== undefined)
  const results: { name: string; action: 'removed' | 'unchanged' | 'failed'; message?: string }[] = []
  for (const name of asked.filter((_, index) => !found[index])) {
    screen.tell(`There is no volume ${name} on this node; nothing to remove.`)
    results.push({ name, action: 'unchanged' })
  }
  if (volumes.length > 0 && !yes && !(await mayRemove(screen, volumes))) {
    screen.tell('Nothing was removed.')
    return 1
  }
  for (const volume of volumes) {
    try {
      const { action } = await screen.progress(`Removing ${nameWithSize(volume)}`, () => keeper.remove(volume.name))
      results.push({ name: volume.name, action })
      if (output === 'table') screen.print(`Removed ${nameWithSize(volume)}.\n`)
    } catch (error) {
      // What ails one volume need not ail the next; a daemon that is gone, does.
      if (!(error instanceof VolumeError)) throw error
      screen.tell(error.message)
      results.push({ name: volume.name, action: 'failed', message: error.message })
    }
  }
  if (isDocumentFormat(output)) screen.print(formatDocument(output, { results }))
  return results.some(({ action }) => action === 'failed') ? 1 : 0
}

/** Asks before data is destroyed. Throws `busy` before that when it cannot be, and `invalid` when nobody can be asked. */
async function mayRemove(screen: Screen, volumes: readonly VolumeView[]): Promise<boolean> {
  const refusals = volumes
    .filter(({ mounts }) => mounts.length > 0)
    .map(({ name, mounts }) => {
      const targets = mounts.map((mount) => `\n  ${printable(mount.target)}`).join('')
      return `Cannot remove ${name} as it is mounted; first stop what uses it:${targets}`
    })
  if (refusals.length > 0) throw new VolumeError('busy', [...refusals, 'Nothing was removed.'].join('\n'))
  const [first] = volumes
  const single = first && volumes.length === 1
  if (!single) for (const volume of volumes) screen.tell(`  ${nameWithSize(volume)}`)
  const answer = await screen.confirm(
    single
      ? `Remove volume ${nameWithSize(first)} and all data in it?`
      : `Remove these ${formatTotal(volumes)} and all data in them?`,
  )
  if (answer !== undefined) return answer
  const what = single ? first.name : formatTotal(volumes)
  throw new VolumeError(
    'invalid',
    `Cannot ask whether to remove ${what} as this is not a terminal: use --yes to remove without asking.`,
  )
}

/** The pools that volumes are cut from. */
export async function listPools({ keeper, screen }: Omit<Visit, 'output'>): Promise<Listing<PoolReport>> {
  return {
    kind: 'pools',
    records: await screen.progress('Reading the pools', () => keeper.pools()),
    nameOf: ({ name }) => name,
    format: formatPools,
    none: 'There are no pools on this node.',
  }
}

/** The volume of that name. Throws `not-found`. */
export async function mustFind(keeper: Keeper, name: string): Promise<VolumeView> {
  const volume = await keeper.find(parseVolumeName(name))
  if (volume) return volume
  throw new VolumeError(
    'not-found',
    `Cannot find volume ${name} on this node; "elastic-local volumes" lists those that are there.`,
  )
}
