import '../crash/memory-disk.ts'
import '../crash/steps.ts'
import { histories } from '../crash/histories.ts'
import { openDirectoryWorld, openLoopWorld } from '../machine-world.ts'

histories('directories', openDirectoryWorld, { fsType: 'ext4', count: 30, rounds: 8 })
// A filesystem that this kernel lets grow.
histories('loop images', () => openLoopWorld({ preallocate: false }), { fsType: 'xfs', count: 20, rounds: 8 })
