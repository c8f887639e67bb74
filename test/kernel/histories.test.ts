import '../crash/memory-disk.ts'
import '../crash/steps.ts'
import { askedFor, histories } from '../crash/histories.ts'
import { openDirectoryWorld, openLoopWorld } from '../machine-world.ts'

const limitMs = 60_000

histories('directories', openDirectoryWorld, { fsType: 'ext4', rounds: 8, limitMs, ...askedFor(20) })
// A filesystem that this kernel lets grow.
histories('loop images', () => openLoopWorld({ preallocate: false }), {
  fsType: 'xfs',
  rounds: 8,
  limitMs,
  ...askedFor(20),
})
