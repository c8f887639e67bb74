/** Runs in a guest: what a pool says that it has room for can be had of real LVM, to the extent, and nothing more. */

import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { rejects } from '../contract.ts'
import { buildLvmPool, openLvmWorld, thinOptions } from '../machine-world.ts'
import { suite } from '../suite.ts'
import { FaultyDisk } from './faulty-disk.ts'

const volumeGroup = 'elastic-local-vg'
const test = suite('room')
const lvm = async (...args: string[]) => {
  await run('lvm', args)
}

/** Of each kind of size one: more than a chunk of a thin pool, no power of two, the usual one, few large ones. */
const extents = ['64k', '384k', '4m', '256m']
const moreExtents = ['8k', '128k', '640k', '1m', '32m', '1g']
const ratios = process.env.LONG ? [1, 0.37, 3.3] : [1, 3.3]

const disks = [
  await FaultyDisk.make('large', 4000),
  await FaultyDisk.make('small', 1501),
  await FaultyDisk.make('third', 777),
]
const [large = '', small = '', third = ''] = disks.map(({ path }) => path)
await lvm('pvcreate', '--quiet', large, small, third)

/** A group of three disks, of which one may not be allocated from, with something of others between what is free. */
async function makeGroup(extent: string): Promise<void> {
  await lvm('vgcreate', '--quiet', '--physicalextentsize', extent, volumeGroup, large, small, third)
  for (const [name, disk] of [
    ['first', large],
    ['theirs', large],
    ['second', small],
  ] as const)
    await lvm('lvcreate', '--yes', '--quiet', '--name', name, '--extents', '1', volumeGroup, disk)
  await lvm('lvremove', '--yes', '--quiet', `${volumeGroup}/first`)
  await lvm('pvchange', '--quiet', '--allocatable', 'n', third)
}

for (const extent of process.env.LONG ? [...extents, ...moreExtents] : extents)
  test(`with extents of ${extent}`, async () => {
    await makeGroup(extent)
    const world = await openLvmWorld({ volumeGroup })
    const { volumesDir } = world.parts
    for (const ratio of [0, ...ratios]) {
      const thin = ratio > 0 ? { ...thinOptions, overcommitRatio: ratio } : undefined
      const { pool } = await buildLvmPool({ volumeGroup, thin, volumesDir })
      // A thin pool is made by the first volume, and there for the second.
      for (const id of thin ? ['before', 'after'] : ['once']) {
        const { freeBytes, unitBytes, problems } = await pool.report()
        assert.equal(problems, [])
        assert.ok(freeBytes > 0n)
        const request = { id, fsType: 'ext4' } as const
        await rejects('no-space', /one/, () => pool.create('one', { ...request, sizeBytes: freeBytes + 1n }))
        const { volume } = await pool.create('one', { ...request, sizeBytes: freeBytes - unitBytes + 1n })
        assert.is(volume.sizeBytes, freeBytes)
        assert.is((await pool.report()).freeBytes, 0n)
        await pool.remove('one')
      }
      await pool.stop()
      if (thin) await lvm('lvremove', '--yes', '--quiet', `${volumeGroup}/${thin.poolName}`)
    }
    await world.parts.pool.stop()
    await world.close()
    await lvm('vgremove', '--yes', '--quiet', volumeGroup)
  })

test.run()
