import * as assert from 'uvu/assert'
import { observeRunner, run } from '../../src/run.ts'
import { openDirectoryWorld, openLoopWorld } from '../machine-world.ts'
import { countCalls, countStarts, startedByCalls } from '../program-starts.ts'
import { suite } from '../suite.ts'

const test = suite('programs that a volume starts')

test('a loop image is made, mounted, unmounted and removed by seven programs', async () => {
  const started: string[] = []
  const runner = observeRunner(run, ({ what }) => started.push(what))
  const world = await openLoopWorld({ preallocate: false, runner })
  assert.equal(await countStarts(world, started, 'ext4'), {
    make: ['losetup', 'mkfs.ext4'],
    mount: ['mount', 'mount'],
    unmount: ['umount', 'umount', 'losetup'],
    'mount again': ['losetup', 'mount', 'mount'],
    'unmount again': ['umount', 'umount', 'losetup'],
    remove: [],
  })
  await world.close()
})

test('a directory is made, mounted, unmounted and removed by three programs', async () => {
  const started: string[] = []
  const world = await openDirectoryWorld({ runner: observeRunner(run, ({ what }) => started.push(what)) })
  assert.equal(await countStarts(world, started, 'ext4'), {
    make: [],
    mount: ['mount'],
    unmount: ['umount'],
    'mount again': ['mount'],
    'unmount again': ['umount'],
    remove: ['rm'],
  })
  await world.close()
})

test("a kubelet's calls about a ready loop image start no program but mount and umount, and at the end losetup", async () => {
  const started: string[] = []
  const world = await openLoopWorld({
    preallocate: false,
    runner: observeRunner(run, ({ what }) => started.push(what)),
  })
  assert.equal(await countCalls(world, started), { ...startedByCalls, unpublish: ['umount', 'umount', 'losetup'] })
  await world.close()
})

test.run()
