import { readFileSync } from 'node:fs'
import { readFile, realpath, stat } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { basename } from 'node:path'
import { formatDeviceNumber } from '../device-number.ts'
import { CommandError, type Runner } from '../run.ts'
import { adviseOnDisk, hasErrno, messageOf, VolumeError } from '../volume/errors.ts'
import type { Filesystems } from '../volume/host.ts'
import type { FsType } from '../volume/pool.ts'
import { isBlank } from './blank.ts'

const readTimeoutMs = 60_000
/** blkid(8): nothing was found, or what was found is ambivalent. */
const blkidNothing = 2
const blkidAmbivalent = 8

const makeCommands: Record<FsType, [string, string[]]> = {
  // The root reserve is of no use where nobody but pods writes. A new volume has nothing to discard, and discarding
  // would give back what a preallocated image has just taken.
  ext4: ['mkfs.ext4', ['-F', '-q', '-m', '0', '-E', 'nodiscard']],
  xfs: ['mkfs.xfs', ['-f', '-q', '-K']],
  btrfs: ['mkfs.btrfs', ['-f', '-q', '-K']],
}

/**
 * What makes a filesystem that is small fit for the size it may grow to, where that costs little: blocks and inodes of an ext4 as
 * large ones have them, from the size on where its journal is no larger for that; half as many groups of an xfs.
 */
function growthOptions(fsType: FsType, sizeBytes: bigint, given: readonly string[]): string[] {
  const isGiven = (pattern: RegExp) => given.some((option) => pattern.test(option))
  const isSmallExt4 = fsType === 'ext4' && sizeBytes >= 32n << 20n && sizeBytes < 512n << 20n
  if (isSmallExt4 && !isGiven(/^-T/)) return ['-T', 'default']
  if (fsType === 'xfs' && sizeBytes < 4n << 30n && !isGiven(/agcount|agsize/)) return ['-d', 'agcount=2']
  return []
}

/** CAP_SYS_RESOURCE, without which the kernel refuses to grow a mounted ext4 (capabilities(7)). */
function maySysResource(): boolean {
  const effective = /^CapEff:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return (BigInt(`0x${effective}`) & (1n << 24n)) !== 0n
}

export interface FilesystemsParts {
  run: Runner
  lock?: readonly number[] | undefined
  /** Whether the kernel lets this process grow a mounted ext4. */
  growsMounted?: boolean
  /** What the limit of this process's container leaves to programs, in bytes; nothing where there is no limit. */
  memoryLeft?: () => number | undefined
}

/** The container's limit without what this process has of it (cgroups(7)). */
function memoryLeft(): number | undefined {
  const limit = process.constrainedMemory()
  return limit > 0 && limit < totalmem() ? Math.max(limit - process.memoryUsage.rss(), leastCheckBytes) : undefined
}

/** Enough to check an ext4 of a few GiB. */
const leastCheckBytes = 64 << 20

/**
 * Filesystems by blkid(8), wipefs(8) and each filesystem's own tools. `lock` is kept open by mkfs: one that outlives a
 * killed daemon would write over what the next daemon makes of the volume, so that must not start before.
 */
export function buildFilesystems(parts: FilesystemsParts): Filesystems {
  const { run, lock, growsMounted = maySysResource() } = parts
  /**
   * Checks an ext4, and repairs what is safe to: 1 and 2, which add up, mean that it did (e2fsck(8)). The kernel ends what takes more
   * memory than its container may, mostly all that is in it, at each new try; so e2fsck ends by itself before.
   */
  const e2fsck = async (...args: string[]) => {
    const left = (parts.memoryLeft ?? memoryLeft)()
    const [file, ...all] =
      left === undefined ? ['e2fsck', ...args] : ['prlimit', `--as=${left}`, '--', 'e2fsck', ...args]
    await run(file as string, all, { accept: [1, 2, 3] }).catch((error) => {
      if (left === undefined || !/Memory allocation failed/.test(messageOf(error))) throw error
      throw new Error(
        `it needs more memory than the limit of this container leaves, ${left >> 20} MiB; raise that: ${messageOf(error)}`,
        { cause: error },
      )
    })
  }
  return {
    signatures: async (device) => {
      try {
        if (await isBlank(device)) return []
        const { stdout, exitCode } = await run('blkid', ['-p', '-o', 'export', device], {
          accept: [blkidNothing, blkidAmbivalent],
          timeoutMs: readTimeoutMs,
        })
        const type = exitCode === 0 && /^(?:TYPE|PTTYPE)=(.*)$/m.exec(stdout)?.[1]
        if (type) return [type]
        return await readWipefs(run, device)
      } catch (error) {
        throw new VolumeError(
          'failed',
          `Cannot check what is on ${device}: ${messageOf(error)}${adviseOnDisk(error)}`,
          {
            cause: error,
          },
        )
      }
    },

    make: async (device, fsType, options, sizeBytes) => {
      const [file, args] = makeCommands[fsType]
      const given = [...args, ...growthOptions(fsType, sizeBytes, options), ...options]
      try {
        const all = fsType === 'ext4' ? joinExtended(given) : given
        await run(file, [...all, device], { keepOpen: lock })
      } catch (error) {
        throw new VolumeError(
          'failed',
          `Cannot create ${fsType} on ${device}: ${messageOf(error)}${adviseOnDisk(error)}`,
          { cause: error },
        )
      }
    },

    check: async (device, fsType) => {
      // xfs and btrfs replay their logs when they are mounted.
      if (fsType !== 'ext4') return
      try {
        await e2fsck('-p', device)
      } catch (error) {
        const damaged = error instanceof CommandError && error.exitCode !== undefined && (error.exitCode & 4) !== 0
        throw new VolumeError(
          'failed',
          damaged
            ? `Cannot mount ${device} as its filesystem has errors that cannot safely be repaired automatically; save what is needed, then run "e2fsck ${device}": ${messageOf(error)}`
            : `Cannot check ${device}: ${messageOf(error)}${adviseOnDisk(error)}`,
          { cause: error },
        )
      }
    },

    wipe: async (device) => {
      try {
        // Cheap, where the disk can do it. Blocks that were given back are read as nothing, or at worst as garbage.
        await run('blkdiscard', [device]).catch(async (error) => {
          if (!/not supported/i.test(messageOf(error))) throw error
          await run('blkdiscard', ['--zeroout', device])
        })
      } catch (error) {
        const isBusy = /resource busy/i.test(messageOf(error))
        const advice = isBusy
          ? '; stop what uses it'
          : `${adviseOnDisk(error)}. Others could read what it holds; if its disk is to be discarded, remove it by hand: lvremove ${device}`
        throw new VolumeError(isBusy ? 'busy' : 'failed', `Cannot wipe ${device}: ${messageOf(error)}${advice}`, {
          cause: error,
        })
      }
    },

    zero: async (device) => {
      try {
        await run('blkdiscard', ['--zeroout', device], { keepOpen: lock })
      } catch (error) {
        throw new VolumeError('failed', `Cannot fill ${device} with zeros: ${messageOf(error)}${adviseOnDisk(error)}`, {
          cause: error,
        })
      }
    },

    hasErrors: async (device) => {
      // Of ext4 (Documentation/ABI/testing/sysfs-fs-ext4). Some kernels stop writing after an error and show no "ro".
      try {
        const { rdev } = await stat(device)
        const name = basename(await realpath(`/sys/dev/block/${formatDeviceNumber(rdev)}`))
        return Number(await readFile(`/sys/fs/ext4/${name}/errors_count`, 'utf8')) > 0
      } catch (error) {
        if (hasErrno(error, 'ENOENT')) return false
        throw new VolumeError('failed', `Cannot inspect ${device}: ${messageOf(error)}`, { cause: error })
      }
    },

    growsUnmounted: (fsType) => fsType === 'ext4' && !growsMounted,

    grow: async (device, mountPoint = '', fsType) => {
      const commands: Record<FsType, [string, string[]]> = {
        ext4: ['resize2fs', [device]],
        xfs: ['xfs_growfs', ['-d', mountPoint]],
        btrfs: ['btrfs', ['filesystem', 'resize', 'max', mountPoint]],
      }
      try {
        // resize2fs(8) wants that of one that is not mounted.
        if (mountPoint === '') await e2fsck('-f', '-p', device)
        await run(...commands[fsType])
      } catch (error) {
        // The kernel says the same of a missing right and of an ext4 on which it has found errors (ext4_resize_begin).
        const onRefusal = growsMounted
          ? '; the kernel does not grow an ext4 that has errors: check the kernel log (dmesg) for disk errors'
          : '; the kernel lets only a process with CAP_SYS_RESOURCE grow a mounted ext4'
        const isRefusal = /Permission denied to resize/.test(messageOf(error))
        const advice = isRefusal ? onRefusal : adviseOnDisk(error)
        throw new VolumeError('failed', `Cannot grow the ${fsType} on ${device}: ${messageOf(error)}${advice}`, {
          cause: error,
        })
      }
    },
  }
}

/** mke2fs(8) takes the last `-E` alone: all of them as one, so that a given one does not take ours away. */
function joinExtended(options: readonly string[]): string[] {
  const extended: string[] = []
  const others: string[] = []
  for (let index = 0; index < options.length; index += 1) {
    const option = options[index] ?? ''
    if (option === '-E') {
      index += 1
      extended.push(options[index] ?? '')
    } else if (option.startsWith('-E')) extended.push(option.slice(2))
    else others.push(option)
  }
  return extended.length > 0 ? [...others, '-E', extended.join(',')] : others
}

/** Every signature that wipefs sees, each type once. */
async function readWipefs(run: Runner, device: string): Promise<string[]> {
  const { stdout } = await run('wipefs', ['--json', '--output', 'TYPE', device], { timeoutMs: readTimeoutMs })
  const report: { signatures?: { type?: unknown }[] } = stdout.trim() === '' ? {} : JSON.parse(stdout)
  return [...new Set((report.signatures ?? []).map((signature) => String(signature.type)))]
}
