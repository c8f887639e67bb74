import { open, stat } from 'node:fs/promises'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { LoopPool } from '../../src/mount/loop.ts'
import { type Runner, run } from '../../src/run.ts'
import { contract } from '../contract.ts'
import { deviceContract } from '../device-contract.ts'
import { openDirectoryWorld, openLoopWorld } from '../machine-world.ts'
import { withScratch } from '../scratch.ts'

contract('loop images', () => openLoopWorld({ preallocate: false }), ['ext4', 'xfs', 'btrfs'])
contract('preallocated loop images', () => openLoopWorld({ preallocate: true }), ['ext4'])
deviceContract('loop images', () => openLoopWorld({ preallocate: false }))
const test = suite('loop images on the disk')
for (const preallocate of [false, true])
  test(`${preallocate ? 'preallocated' : 'sparse'} images take ${preallocate ? 'all' : 'little'} of the disk, growth included`, async () => {
    const world = await openLoopWorld({ preallocate })
    const { pool } = world.parts
    await pool.start()
    try {
      const { volume } = await pool.create('one', { id: 'one', sizeBytes: 32n << 20n, fsType: 'ext4' })
      const { path } = await pool.activate('one')
      await world.parts.filesystems.make(path, 'ext4', [])
      await pool.grow('one', 64n << 20n)
      const takenBytes = (await stat(volume.path)).blocks * 512
      assert.ok(preallocate ? takenBytes >= 64 * 2 ** 20 : takenBytes < 16 * 2 ** 20, `${takenBytes} bytes are taken`)
      await pool.remove('one')
    } finally {
      await world.close()
    }
  })
test('a loop device that somebody still holds is taken back from its leaving', async () => {
  const world = await openLoopWorld({ preallocate: false })
  const { pool } = world.parts
  await pool.start()
  try {
    await pool.create('one', { id: 'one', sizeBytes: 32n << 20n, fsType: 'ext4' })
    const { path } = await pool.activate('one')
    const holder = await open(path)
    await pool.deactivate('one')
    assert.is((await pool.find('one'))?.source?.path, path)
    assert.is((await pool.activate('one')).path, path)
    await holder.close()
    assert.is((await pool.find('one'))?.source?.path, path)
    await pool.remove('one')
  } finally {
    await world.close()
  }
})
test('a loop device that is let go just when it is detached once more is gone, and no failure', () =>
  withScratch(async (volumesDir) => {
    let beforeDetach = async () => {}
    const runner: Runner = async (file, args, options) => {
      if (args[0] === '--detach') await beforeDetach()
      return await run(file, args, options)
    }
    const pool = new LoopPool({ run: runner, volumesDir, preallocate: false, now: () => new Date() })
    await pool.start()
    await pool.create('one', { id: 'one', sizeBytes: 32n << 20n, fsType: 'ext4' })
    const holder = await open((await pool.activate('one')).path)
    await pool.deactivate('one')
    beforeDetach = () => holder.close()
    await pool.deactivate('one')
    assert.is((await pool.find('one'))?.source, undefined)
    await pool.remove('one')
  }))
test.run()

contract('directories', openDirectoryWorld, ['ext4'])
