import { VolumeError } from './errors.ts'
import { type FsType, fsTypes } from './pool.ts'

const mountOption = /^([a-z][a-z0-9_-]*)(=[A-Za-z0-9_.:+-]+)?$/
const names = (text: string) => text.split(/\s+/)
/** Options that shape the use of one filesystem and reach nothing else (mount(8), ext4(5), xfs(5), btrfs(5)). */
export const commonMountOptions = names(
  `defaults async sync dirsync atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime lazytime
   nolazytime exec noexec nodev nosuid nosymfollow iversion noiversion ro rw silent loud`,
)
/** The same, of each filesystem's own. */
export const ownMountOptions: Record<FsType, readonly string[]> = {
  ext4: names(
    `acl noacl auto_da_alloc noauto_da_alloc barrier nobarrier block_validity noblock_validity bsddf minixdf commit data
     data_err dax delalloc nodelalloc dioread_lock dioread_nolock discard nodiscard errors grpid bsdgroups nogrpid
     sysvgroups i_version init_itable noinit_itable inlinecrypt inode_readahead_blks journal_async_commit
     journal_checksum nojournal_checksum journal_ioprio max_batch_time min_batch_time max_dir_size_kb mb_optimize_scan
     nombcache orlov oldalloc prefetch_block_bitmaps no_prefetch_block_bitmaps quota noquota usrquota grpquota prjquota
     usrjquota grpjquota jqfmt resuid resgid stripe user_xattr nouser_xattr nouid32`,
  ),
  xfs: names(
    `allocsize attr2 noattr2 dax discard nodiscard grpid bsdgroups nogrpid sysvgroups filestreams ikeep noikeep inode32
     inode64 largeio nolargeio logbufs logbsize noalign nouuid noquota quota uquota usrquota uqnoenforce qnoenforce gquota
     grpquota gqnoenforce pquota prjquota pqnoenforce sunit swidth swalloc wsync lifetime nolifetime`,
  ),
  btrfs: names(
    `acl noacl autodefrag noautodefrag barrier nobarrier commit compress compress-force datacow nodatacow datasum
     nodatasum discard nodiscard flushoncommit noflushoncommit max_inline metadata_ratio space_cache nospace_cache ssd
     nossd ssd_spread nossd_spread thread_pool treelog notreelog user_subvol_rm_allowed enospc_debug noenospc_debug`,
  ),
}
/** A broken volume must not take the machine down. */
const refusedMountOption = 'errors=panic'

/** Flags of each mkfs that shape a filesystem and reach nothing else (mkfs.ext4(8), mkfs.xfs(8), mkfs.btrfs(8)). */
const mkfsFlags: Record<FsType, RegExp> = {
  ext4: /^-[bCgGiIJmNOTEe]$/,
  xfs: /^-[bdilmnrs]$/,
  btrfs: /^(-[nsOdm]|--(nodesize|sectorsize|features|data|metadata|csum|checksum|mixed|runtime-features)|-[MR])$/,
}
/** Those of them that take no value. */
const mkfsSwitches = /^(-M|--mixed)$/
const mkfsValue = /^[A-Za-z0-9_.=:^+%][A-Za-z0-9_.,=:^+%-]*$/
/**
 * Values that name files or other devices, give the filesystem the identity of another, make no filesystem of it, or let
 * a broken one take the machine down.
 */
const refusedMkfsValue = /(^|,)(name|file|device|logdev|rtdev|protofile|test_fs|offset|uuid|journal_dev|panic)(=|,|$)/

/**
 * The options of a comma list (mount(8)), for a filesystem, or for any while it is not known. Throws `invalid` for one
 * that reaches beyond it.
 */
export function parseMountOptions(fsType: FsType | undefined, text: string): string[] {
  const options = text.split(',').filter(Boolean)
  const own = fsType ? ownMountOptions[fsType] : fsTypes.flatMap((type) => ownMountOptions[type])
  const fits = (option: string) => {
    const name = mountOption.exec(option)?.[1] ?? ''
    return option !== refusedMountOption && (commonMountOptions.includes(name) || own.includes(name))
  }
  const bad = options.find((option) => !fits(option))
  if (bad === undefined) return options
  throw new VolumeError(
    'invalid',
    `Cannot mount ${fsType ?? 'a volume'} with option ${JSON.stringify(bad)} of mountOptions as it is not one that a volume may have.`,
  )
}

/**
 * The words of mkfs options such as `-b 4096 -O ^has_journal`. Throws `invalid` for one that reaches beyond the device:
 * among them a word that belongs to no flag, which mkfs would take for a device or a file.
 */
export function parseMkfsOptions(fsType: FsType, text: string): string[] {
  const words = text.split(/\s+/).filter(Boolean)
  const wrong = (word: string) =>
    new VolumeError(
      'invalid',
      `Cannot format ${fsType} with ${JSON.stringify(word)} of mkfsOptions as it is not one that a volume may have.`,
    )
  let flag: string | undefined
  for (const word of words) {
    const fits = flag ? mkfsValue.test(word) && !refusedMkfsValue.test(word) : mkfsFlags[fsType].test(word)
    if (!fits) throw wrong(word)
    flag = flag || mkfsSwitches.test(word) ? undefined : word
  }
  if (flag) throw wrong(flag)
  return words
}
