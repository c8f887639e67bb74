/** What is in the image besides the executable. */

/** The release of Debian that the tools are of, as in config/Dockerfile. */
export const release = 'bookworm'

/** How Debian and OCI call an architecture, by Node's word for it. */
export const architectures = { x64: 'amd64', arm64: 'arm64' } as const

export type NodeArch = keyof typeof architectures
export type Architecture = (typeof architectures)[NodeArch]

/**
 * The files of each package, with all in a folder where a path ends in a slash. A program's other names and the
 * libraries it needs come with it. There is no shell, so what would be run by one is left out.
 */
export const contents: Readonly<Record<string, readonly string[]>> = {
  'base-files': [
    '/etc/debian_version',
    '/etc/os-release',
    // Where the packages' copyright files point to.
    '/usr/share/common-licenses/',
  ],
  'btrfs-progs': ['/usr/bin/btrfs', '/usr/sbin/mkfs.btrfs'],
  // The chart's test of a volume writes with dd(1).
  coreutils: ['/usr/bin/cat', '/usr/bin/dd', '/usr/bin/rm'],
  e2fsprogs: [
    '/etc/mke2fs.conf',
    '/usr/sbin/dumpe2fs',
    '/usr/sbin/e2fsck',
    '/usr/sbin/mke2fs',
    '/usr/sbin/resize2fs',
    '/usr/sbin/tune2fs',
  ],
  lvm2: ['/etc/lvm/', '/usr/sbin/lvm'],
  mount: ['/usr/bin/mount', '/usr/bin/umount', '/usr/sbin/losetup'],
  'thin-provisioning-tools': ['/usr/sbin/pdata_tools'],
  'util-linux': [
    '/usr/bin/fallocate',
    '/usr/bin/findmnt',
    '/usr/bin/flock',
    '/usr/bin/lsblk',
    '/usr/bin/nsenter',
    '/usr/bin/prlimit',
    '/usr/sbin/blkdiscard',
    '/usr/sbin/blkid',
    '/usr/sbin/wipefs',
  ],
  xfsprogs: ['/usr/sbin/mkfs.xfs', '/usr/sbin/xfs_db', '/usr/sbin/xfs_growfs', '/usr/sbin/xfs_repair'],
}

/** Files that Debian makes when it is installed. */
export const ownFiles: Readonly<Record<string, string>> = {
  '/etc/passwd': 'root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n',
  '/etc/group': 'root:x:0:\nnogroup:x:65534:\n',
  '/etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
}

/** Folders that are there, empty, with their modes. */
export const ownFolders: Readonly<Record<string, number>> = {
  '/dev': 0o755,
  '/mnt': 0o755,
  '/proc': 0o555,
  '/root': 0o700,
  '/run': 0o755,
  '/sys': 0o555,
  '/tmp': 0o1777,
  '/var/tmp': 0o1777,
}

/** Links that Debian has in its root folder, and where they lead. */
export const ownLinks: Readonly<Record<string, string>> = {
  '/bin': 'usr/bin',
  '/lib': 'usr/lib',
  '/lib64': 'usr/lib64',
  '/sbin': 'usr/sbin',
  '/var/run': '/run',
}
