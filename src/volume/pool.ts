/** The filesystems a volume can hold. */
export const fsTypes = ['ext4', 'xfs', 'btrfs'] as const
export type FsType = (typeof fsTypes)[number]

/** What a volume is made to hold: a filesystem, or, as a raw block device, whatever its user writes on it. */
export const contents = [...fsTypes, 'block'] as const
export type Content = (typeof contents)[number]

/** Where the data of an activated volume is: a block device to put a filesystem on, or a directory as it is. */
export type Source = { kind: 'device'; path: string } | { kind: 'directory'; path: string }

/** A volume as its pool stores it. */
export interface StoredVolume {
  name: string
  /** What tells it from another volume of that name; missing on those of the predecessor. */
  id?: string
  /** What the volume really takes of its pool: whole extents. */
  sizeBytes: bigint
  /** What its creator asked for, as far as the pool remembers. */
  fsType?: Content
  createdAt?: Date
  /** Where the data is kept, for a person to look at: the logical volume's device, the image, the directory. */
  path: string
  /** Where it can be reached; missing while it is not active. */
  source?: Source
  /** Whether another volume may get its blocks as they are when it is removed, and whether it may have got such. */
  leavesBlocks?: boolean
  /** What is wrong with the stored volume itself, such as a missing image. */
  problem?: string
  /** Whether that means that its data is not there, or that all that uses it waits. */
  trouble?: 'lost' | 'stuck'
}

/** Something in a pool that has a volume's name and not our mark. */
export type UnmarkedVolume = Pick<StoredVolume, 'name' | 'path'> & Partial<Pick<StoredVolume, 'sizeBytes'>>

/** What another project made in a pool. */
export interface ForeignVolume {
  path: string
  /** 0 where nothing says it. */
  sizeBytes: bigint
  source: Source
  /** Throws `busy` where a process has the device open, mounted or not. */
  mustBeClosed?(): Promise<void>
}

/** What is in a pool and what is left. */
export interface PoolReport {
  name: string
  /** What tells it from another pool of that name; missing before it was started. */
  id?: string
  driverKind: DriverKind
  /** The most that can be allocated; for a thin pool, times the overcommit ratio. */
  sizeBytes: bigint
  /** What its volumes have. */
  allocatedBytes: bigint
  /** The largest volume that could be made now. */
  freeBytes: bigint
  volumes: number
  /** Volumes take whole multiples of it. */
  unitBytes: bigint
  /** Whether a volume can hold no more than its size. */
  enforcesSize: boolean
  /** Percentages in use of a thin pool's two areas. */
  thin?: { dataPercent: number; metadataPercent: number; overcommitRatio: number }
  problems: string[]
}

export const driverKinds = ['LVM', 'LOOP', 'BINDMOUNT'] as const
export type DriverKind = (typeof driverKinds)[number]

export interface CreateRequest {
  /** Becomes the volume's `id`: a UUID. */
  id: string
  sizeBytes: bigint
  fsType: Content
}

/** What came of a wish for a larger volume: it is at least that large. */
export interface Grown {
  action: 'grown' | 'unchanged'
  volume: StoredVolume
}

/**
 * Storage that volumes are cut from. Every method looks at what is there and does what is missing, so that calling it
 * again after a crash is right. A pool sees only volumes that carry its mark, and marks in the step that creates. The
 * caller holds the volume's lock; volumes of one pool are worked on in parallel, and the pool queues what must be.
 * All throw `VolumeError`.
 */
export interface Pool {
  readonly driverKind: DriverKind
  /** What its volumes activate to: only a device gets a filesystem. */
  readonly sourceKind: Source['kind']
  /** Makes the pool usable: activates, checks its parts. Throws when that cannot be. */
  start(): Promise<void>
  stop(): Promise<void>
  /** Throws `unavailable` where its disk is not there, or does not answer yet: then nothing of it may be looked for or made. */
  mustBeThere(): Promise<void>
  /** Throws `no-space`, `exists` (something without our mark has that name). `unchanged` when it is there already. */
  create(name: string, request: CreateRequest): Promise<{ action: 'created' | 'unchanged'; volume: StoredVolume }>
  /** May answer from what it knows when it does not know the name; `list` looks. */
  find(name: string): Promise<StoredVolume | undefined>
  /** `impatient`: where looking would wait behind something that hangs, says what is known. */
  list(options?: { impatient?: boolean }): Promise<StoredVolume[]>
  /** What could be volumes of the predecessor, which had no mark. */
  unmarked(): Promise<UnmarkedVolume[]>
  /**
   * Marks one of those as ours and changes nothing else; `origin`: or what another project made under that name, which is renamed
   * first. Throws `not-found`.
   */
  adopt(name: string, request: CreateRequest, origin?: string): Promise<StoredVolume>
  /**
   * What another project made in the pool and what can become volume `name` as it is: under its own name, or the volume's where
   * it was renamed already. Throws `not-found`, `exists`, `failed` with what is in the way.
   */
  foreign(origin: string, name: string): Promise<ForeignVolume>
  /** Makes the volume at least that large; never smaller. Throws `not-found`, `no-space`. */
  grow(name: string, sizeBytes: bigint): Promise<Grown>
  /**
   * Throws `busy` where a process has the volume's device open, mounted or not, or something of others would go with the volume,
   * such as a snapshot of it.
   */
  mustBeFree?(name: string): Promise<void>
  /** Removes the volume and its data. Throws `busy` while something uses it. */
  remove(name: string): Promise<{ action: 'removed' | 'unchanged' }>
  /** Makes the data reachable. Throws `not-found`, also when the mark is there and the data is gone. */
  activate(name: string): Promise<Source>
  /** Gives back what `activate` took, if that costs the node something. */
  deactivate(name: string): Promise<void>
  /** Of a disk that is not there: no room, and a problem. */
  report(): Promise<PoolReport>
}
