import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { CommandError, hostCommand, type Runner, run, searchPath } from './run.ts'
import { messageOf, VolumeError } from './volume/errors.ts'
import type { DriverKind } from './volume/pool.ts'

/** A program that the daemon runs. */
export interface Tool {
  tool: string
  /** Completes "It is needed for …". */
  neededFor: string
  /** The Debian package that has it. */
  package: string
  /** Whether volumes of the default kind can do without. */
  optional: boolean
  /** Run beside the daemon even where it uses the host's tools. */
  own?: true
}

/** The programs that a pool of that kind needs. `hostTools`: whether the daemon runs the host's, from a container. */
export function requiredTools(driverKind: DriverKind, thin: boolean, hostTools = false): Tool[] {
  const needed = (names: string[], neededFor: string, from: string): Tool[] =>
    names.map((tool) => ({ tool, neededFor, package: from, optional: false }))
  const useful = (names: string[], neededFor: string, from: string): Tool[] =>
    names.map((tool) => ({ tool, neededFor, package: from, optional: true }))
  const own = (tools: Tool[]): Tool[] => tools.map((tool) => ({ ...tool, own: true }))
  return [
    ...own(needed(['flock'], 'keeping a second daemon from the same volumes', 'util-linux')),
    ...(hostTools ? own(needed(['nsenter'], "running the host's tools", 'util-linux')) : []),
    ...needed(['mount', 'umount'], 'mounting volumes', 'mount'),
    ...(driverKind === 'LVM' ? needed(['lvm'], 'logical volumes', 'lvm2') : []),
    ...(driverKind === 'LVM' ? needed(['blkdiscard'], 'wiping removed volumes', 'util-linux') : []),
    ...(driverKind === 'LVM' && thin
      ? needed(['thin_check'], 'activating a thin pool', 'thin-provisioning-tools')
      : []),
    ...(driverKind === 'BINDMOUNT' ? [] : needed(['losetup'], 'loop devices', 'mount')),
    ...(driverKind === 'LOOP' ? useful(['fallocate'], 'images with --loop-preallocate', 'util-linux') : []),
    ...(driverKind === 'BINDMOUNT' ? needed(['rm'], 'removing volumes', 'coreutils') : []),
    // A directory as it is has the filesystem of its disk.
    ...(driverKind === 'BINDMOUNT'
      ? []
      : [
          ...needed(['blkid', 'wipefs'], 'checking that a disk is blank before formatting it', 'util-linux'),
          ...needed(['prlimit'], 'checking ext4 within the memory of a container', 'util-linux'),
          ...needed(['mkfs.ext4', 'e2fsck', 'resize2fs'], 'volumes with ext4', 'e2fsprogs'),
          ...useful(['mkfs.xfs', 'xfs_growfs'], 'volumes with xfs', 'xfsprogs'),
          ...useful(['mkfs.btrfs', 'btrfs'], 'volumes with btrfs', 'btrfs-progs'),
        ]),
  ]
}

/** Where to look for tools. */
export interface ToolPlaces {
  hostTools: boolean
  run?: Runner
  /** The folders of `PATH` (environ(7)). */
  folders?: readonly string[]
}

/** Those of the tools that are not there, in their order. Throws `failed` when the host's cannot be looked at. */
export async function findMissing(tools: readonly Tool[], places: ToolPlaces): Promise<Tool[]> {
  const folders = places.folders ?? searchPath().split(':')
  const isOwn = (tool: Tool) => !places.hostTools || tool.own === true
  const own = await findHere(tools.filter(isOwn), folders)
  const hosts = await findOnHost(
    tools.filter((tool) => !isOwn(tool)),
    folders,
    places.run ?? run,
  )
  return tools.filter(({ tool }) => !own.has(tool) && !hosts.has(tool))
}

async function findHere(tools: readonly Tool[], folders: readonly string[]): Promise<Set<string>> {
  const found = await Promise.all(
    tools.map(async ({ tool }) => {
      const tries = folders.map((folder) => access(join(folder, tool), constants.X_OK))
      return await Promise.any(tries).then(
        () => [tool],
        () => [],
      )
    }),
  )
  return new Set(found.flat())
}

/** One ls(1) over all places, as links of the host can only be followed on the host. */
async function findOnHost(tools: readonly Tool[], folders: readonly string[], runner: Runner): Promise<Set<string>> {
  if (tools.length === 0) return new Set()
  const paths = tools.flatMap(({ tool }) => folders.map((folder) => join(folder, tool)))
  try {
    const [file, args] = hostCommand('ls', ['-L', '-d', '--', ...paths])
    const output = await runner(file, args, { accept: [1, 2], timeoutMs: 10_000 })
    if (/^nsenter: /m.test(output.stderr)) throw new CommandError({ file, args }, output)
    const there = new Set(output.stdout.split('\n'))
    return new Set(
      tools.filter(({ tool }) => folders.some((folder) => there.has(join(folder, tool)))).map(({ tool }) => tool),
    )
  } catch (error) {
    throw new VolumeError(
      'failed',
      `Cannot check the host's tools; with --host-tools the container must be privileged and share the host's processes (hostPID): ${messageOf(error)}`,
      { cause: error },
    )
  }
}

/** What to do about tools that are missing: one command that brings them all. */
export function adviseOnTools(missing: readonly Tool[]): string {
  return `apt-get install ${[...new Set(missing.map((tool) => tool.package))].join(' ')}`
}
