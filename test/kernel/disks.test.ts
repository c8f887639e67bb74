import { open, stat, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { ensureVolumeGroup } from '../../src/disks/volume-group.ts'
import { buildFilesystems } from '../../src/mount/filesystems.ts'
import { run } from '../../src/run.ts'
import { VolumeError } from '../../src/volume/errors.ts'
import { createDisk } from '../guest/guest.ts'
import { withScratch } from '../scratch.ts'
import { suite } from '../suite.ts'
import { thrownBy } from '../thrown.ts'

const test = suite('disks for a volume group')
const sizeBytes = 320n << 20n
const name = `elastic-local-test-${process.pid}`
const parts = { run, filesystems: buildFilesystems({ run }) }

interface Disks {
  folder: string
  /** Attaches a new image as a disk; `fill` writes into it before. */
  add(fill?: (image: string) => Promise<unknown>, ...flags: string[]): Promise<{ path: string; image: string }>
}

/** Gives `work` disks, which are loop devices, and takes away what it makes of them. */
const withDisks = (work: (disks: Disks) => Promise<void>) => () =>
  withScratch(async (folder) => {
    const paths: string[] = []
    const add: Disks['add'] = async (fill, ...flags) => {
      const image = join(folder, `disk-${paths.length}`)
      await createDisk(image, Number(sizeBytes))
      await fill?.(image)
      const path = (await run('losetup', ['--find', '--show', ...flags, image])).stdout.trim()
      paths.push(path)
      return { path, image }
    }
    try {
      await work({ folder, add })
    } finally {
      for (const group of [name, `${name}-other`]) await run('lvm', ['vgremove', '--yes', group], { accept: [5] })
      for (const path of paths) await run('losetup', ['--detach', path])
    }
  })

/** Writes bytes into an image. */
const write = (offset: number, bytes: Buffer) => async (image: string) => {
  await using file = await open(image, 'r+')
  await file.write(bytes, 0, bytes.length, offset)
}

/** A partition table with one partition from 1 MiB on (Documentation of the MBR; the rest is zeros). */
const partitionTable = () => {
  const sector = Buffer.alloc(512)
  sector.set([0x00, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff], 446)
  sector.writeUInt32LE(2048, 454)
  sector.writeUInt32LE(20480, 458)
  sector.set([0x55, 0xaa], 510)
  return sector
}

/** Changes with whatever is written into an image, through its loop device, too. */
const lastWrite = async (image: string) => (await stat(image, { bigint: true })).mtimeNs

/** Expects that the disk is refused, in these words, and left as it is; nor is any other one touched. */
async function refused(disk: { path: string; image?: string }, words: RegExp, other: { path: string; image: string }) {
  const images = [disk.image ?? other.image, other.image]
  const before = await Promise.all(images.map(lastWrite))
  const request = { name, disks: [other.path, disk.path] }
  const { message } = await thrownBy(VolumeError, () => ensureVolumeGroup(request, parts))
  assert.match(message, words)
  assert.match(message, `Cannot use ${disk.path} as `)
  assert.equal(await Promise.all(images.map(lastWrite)), before)
}

test(
  'what is no disk is refused',
  withDisks(async ({ folder, add }) => {
    const other = await add()
    await refused({ path: '/dev/no-such-disk' }, /there is no such device/, other)
    await refused({ path: '/dev/null' }, /must be a disk/, other)
    await refused({ path: folder }, /must be a disk/, other)
    await refused({ path: other.image }, /must be a disk/, other)
    await refused({ path: join(folder, 'disk-[x]') }, /there is no such device/, other)
    await refused({ path: 'sdb' }, /must be an absolute path/, other)
  }),
)

test(
  'a disk with anything on it is refused, with the words for it and what to do',
  withDisks(async ({ add }) => {
    const other = await add()
    for (const [file, flags] of [
      ['mkfs.ext4', ['-q']],
      ['mkfs.xfs', ['-q']],
      ['mkfs.btrfs', ['-q']],
      ['mkswap', []],
    ] as const) {
      const type = file.replace(/^mkfs\.|^mk/, '')
      const disk = await add((image) => run(file, [...flags, image]))
      await refused(disk, new RegExp(`holds ${type}\\..*wipefs --all ${disk.path} && dd`), other)
    }
    const luks = await add(write(0, Buffer.from('LUKS\xba\xbe\0\x01', 'latin1')))
    await refused(luks, /holds crypto_LUKS/, other)
    await refused(await add(write(0, partitionTable())), /holds dos/, other)
    const parted = await add(write(0, partitionTable()))
    await run('partx', ['--add', parted.path])
    await refused(parted, /has partitions: loop\d+p1/, other)
    await run('partx', ['--delete', parted.path])
    await refused(await add(write(12345, Buffer.from('x'))), /no tool recognises; it may be encrypted/, other)
  }),
)

test(
  'what the refusal says makes a disk blank does so',
  withDisks(async ({ add }) => {
    const disk = await add((image) => run('mkfs.btrfs', ['-q', image]))
    const { message } = await thrownBy(VolumeError, () => ensureVolumeGroup({ name, disks: [disk.path] }, parts))
    const command = /make it blank: "(.*)"/.exec(message)?.[1] ?? ''
    await run('sh', ['-c', command])
    assert.is((await ensureVolumeGroup({ name, disks: [disk.path] }, parts)).action, 'created')
  }),
)

test(
  'a disk in use is refused, also when what is on it cannot be seen',
  withDisks(async ({ folder, add }) => {
    const other = await add()
    const mounted = await add((image) => run('mkfs.ext4', ['-q', image]))
    const target = join(folder, 'target')
    await run('mkdir', [target])
    await run('mount', ['--read-only', mounted.path, target])
    try {
      await refused(mounted, new RegExp(`is mounted on ${target}`), other)
    } finally {
      await run('umount', [target])
    }
    const swap = await add((image) => run('mkswap', [image]))
    await run('swapon', [swap.path])
    try {
      await refused(swap, /in use: .*swap space/, other)
    } finally {
      await run('swapoff', [swap.path])
    }
    await refused(await add(undefined, '--read-only'), /it is read-only/, other)
  }),
)

test(
  'a disk of another size is refused where a size is asked for',
  withDisks(async ({ add }) => {
    const { path } = await add()
    const withSize = (wanted: bigint) => ensureVolumeGroup({ name, disks: [path], sizeBytes: wanted }, parts)
    for (const wanted of [sizeBytes * 2n, sizeBytes / 2n, 1n]) {
      const { message } = await thrownBy(VolumeError, () => withSize(wanted))
      assert.match(message, /its size must be .*: it is 320 MiB/)
    }
    assert.is((await withSize(320_000_000n)).action, 'created')
  }),
)

test(
  'blank disks become the group, once; others are added to it, and none of another group, nor one twice',
  withDisks(async ({ folder, add }) => {
    const [first, second, third, fourth] = [await add(), await add(), await add(), await add()]
    const ensure = async (...paths: string[]) => (await ensureVolumeGroup({ name, disks: paths }, parts)).action
    const link = join(folder, 'link')
    await symlink(first.path, link)
    const { message } = await thrownBy(VolumeError, () => ensure(first.path, link))
    assert.match(message, `Cannot use ${link} as it is the same disk as ${first.path}.`)

    await symlink(second.path, join(folder, 'by-id-2'))
    await symlink(first.path, join(folder, 'by-id-1'))
    assert.is(await ensure(join(folder, 'by-id-*')), 'created')
    assert.is(await ensure(first.path, second.path), 'unchanged')
    assert.is(await ensure(link), 'unchanged')
    assert.is(await ensure(second.path, third.path), 'extended')
    const fields = ['--noheadings', '--options', 'pv_count', name]
    assert.is((await run('lvm', ['vgs', ...fields])).stdout.trim(), '3')

    const others = { name: `${name}-other`, disks: [fourth.path] }
    assert.is((await ensureVolumeGroup(others, parts)).action, 'created')
    const another = `it is part of volume group ${name}-other\\. If that is the group you mean, name it: --lvm-volume-group ${name}-other\\.`
    await refused(fourth, new RegExp(another), first)
    // One that is in no group any more holds its label still, and is made blank as is said.
    await run('lvm', ['vgremove', '--yes', `${name}-other`])
    await refused(fourth, /holds LVM2_member\..*wipefs --all/, first)
  }),
)

test.run()
