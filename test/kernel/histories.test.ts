import '../crash/memory-disk.ts'
import '../crash/steps.ts'
import { histories } from '../crash/histories.ts'
import { openDirectoryWorld, openLoopWorld } from '../machine-world.ts'

const times = process.env.LONG ? 2 : 1
histories('directories', openDirectoryWorld, { fsType: 'ext4', count: 15 * times, rounds: 8 })
histories('directories', openDirectoryWorld, { front: 'csi', fsType: 'ext4', count: 5 * times, rounds: 8 })
// A filesystem that this kernel lets grow.
histories('loop images', () => openLoopWorld({ preallocate: false }), { fsType: 'xfs', count: 10 * times, rounds: 8 })
if (process.env.LONG || process.env.TORTURE)
  histories('loop images', () => openLoopWorld({ preallocate: false }), {
    front: 'csi',
    fsType: 'xfs',
    count: 10 * times,
    rounds: 8,
  })
