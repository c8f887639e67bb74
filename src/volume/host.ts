import type { Content, FsType, Source } from './pool.ts'

/** One line of the mount table, as far as volumes are concerned. */
export interface MountPoint {
  target: string
  /** Whether this mount, or the filesystem under it, is read-only. */
  readOnly: boolean
  /** Whether the filesystem itself is read-only, which a kernel also does after errors. */
  readOnlyFilesystem: boolean
  /** Whether what is mounted below it is seen in other containers, too. */
  isShared: boolean
  /** The filesystem's type as the kernel names it. */
  fsType: string
  /** What a person would call the thing mounted: the device, or a directory of one. */
  source: string
}

/** The mounts of this machine at one moment. */
export interface MountTable {
  /** The mount that is seen at exactly that path: the topmost. */
  at(target: string): MountPoint | undefined
  /** The mount that a path is seen in, be it there or not. */
  holding(path: string): MountPoint | undefined
  /** All mounts that show that source or a folder in it, its own path not counted. */
  of(source: Source): MountPoint[]
  /** All mounts that show the device's node itself, by which whoever opens it has the device. */
  ofNode(source: Source): MountPoint[]
  /** All mounts at or below that folder. */
  under(folder: string): MountPoint[]
}

/** What a mounted filesystem holds (statfs(2)). */
export interface Usage {
  sizeBytes: bigint
  usedBytes: bigint
  /** What an unprivileged program can still write. */
  freeBytes: bigint
  inodes: bigint
  inodesUsed: bigint
}

/** Mounts of the machine. All throw `VolumeError`. */
export interface Mounts {
  read(): Promise<MountTable>
  /** Makes the folder, which must not exist or be an empty, real folder, and mounts the device on it. */
  mountDevice(device: string, folder: string, fsType: FsType, options: readonly string[]): Promise<void>
  /** Shows the folder `from` also at `target`, which is made if missing. */
  bind(from: string, target: string, options: { readOnly: boolean }): Promise<void>
  /** Shows the node of a device at `target`, a file that is made if missing. */
  bindNode(device: string, target: string, options: { readOnly: boolean }): Promise<void>
  /** Throws `busy` while a process works in it. */
  unmount(target: string): Promise<void>
  /** Removes an empty folder that was a mount point; nothing to do when there is none. */
  removeFolder(folder: string): Promise<void>
  usage(folder: string): Promise<Usage>
  /** Whether there is more in the folder than what a new filesystem begins with. */
  holdsFiles(folder: string): Promise<boolean>
  /**
   * What has the device for itself, or uses the directory, as the kernel says it, in words that complete "as …": also what no
   * table of ours shows, such as a mount in another namespace, one that was taken away lazily, an open file of a directory.
   * Nothing when nothing does.
   */
  findHolder(source: Source): Promise<string | undefined>
  /** Whether the kernel has the device in use, mounted anywhere. */
  isHeld(device: string): Promise<boolean>
  /** Who shows the device's node in whatever namespace, in words that complete "as …"; nothing when nobody does. */
  findNodeHolder(device: string): Promise<string | undefined>
}

/** Filesystems on block devices. All throw `VolumeError`. */
export interface Filesystems {
  /** Every signature on the device (blkid(8), wipefs(8)); empty when it is blank. */
  signatures(device: string): Promise<string[]>
  /** Makes a filesystem over whatever is there, as suits one that may grow from that size. */
  make(device: string, fsType: FsType, options: readonly string[], sizeBytes: bigint): Promise<void>
  /** Repairs what an unclean shutdown left; throws when a person has to look. */
  check(device: string, fsType: FsType): Promise<void>
  /** Makes what is on the device unreadable for whoever gets its blocks next. */
  wipe(device: string): Promise<void>
  /** Makes a new device read as zeros from its begin to its end. */
  zero(device: string): Promise<void>
  /** Whether the kernel has found errors on the mounted filesystem, which a check will have to repair. */
  hasErrors(device: string): Promise<boolean>
  /** Whether it is to be grown while nobody has it mounted, as this process may not grow it then. */
  growsUnmounted(fsType: FsType): boolean
  /** Grows the filesystem to its device's size: the one mounted there, or, without a mount point, one that nobody has mounted. */
  grow(device: string, mountPoint: string | undefined, fsType: FsType): Promise<void>
}

/**
 * The smallest device each filesystem can be made on, as its mkfs says, with room to breathe; a block device is an
 * extent of a volume group, as it usually is. The kernel resizes no btrfs
 * to less (btrfs_ioctl_resize in fs/btrfs/ioctl.c).
 */
export const minimumBytes: Record<Content, bigint> = {
  ext4: 8n << 20n,
  xfs: 300n << 20n,
  btrfs: 256n << 20n,
  block: 4n << 20n,
}
