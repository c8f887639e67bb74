import '../crash/memory-disk.ts'
import '../crash/steps.ts'
import { crashMatrix, type MatrixOptions } from '../crash/matrix.ts'
import { openDirectoryWorld, openLoopWorld } from '../machine-world.ts'

const isTorture = process.env.TORTURE !== undefined
// Between two steps nothing changes: killed before one is killed after the other, but for what else runs then.
const moments: MatrixOptions['moments'] = isTorture
  ? ['before', 'during', 'after', 'outlived']
  : ['during', 'after', 'outlived']
const again = isTorture ? { again: 3 } : {}
const isLong = isTorture || process.env.LONG !== undefined

crashMatrix('directories', openDirectoryWorld, {
  fsTypes: ['ext4'],
  moments: ['before', 'during', 'after', 'outlived'],
  ...again,
})
crashMatrix('loop images', () => openLoopWorld({ preallocate: false }), { fsTypes: ['ext4'], moments, ...again })
// The filesystems that this kernel lets grow while they are mounted.
crashMatrix('loop images', () => openLoopWorld({ preallocate: false }), {
  fsTypes: isLong ? ['xfs', 'btrfs'] : ['xfs'],
  moments,
  only: isTorture ? /^/ : isLong ? /^(a creation|the growth)/ : /^the growth of a mounted/,
  ...again,
})
// What of them is not as with a filesystem.
crashMatrix('loop images', () => openLoopWorld({ preallocate: false }), {
  fsTypes: ['block'],
  moments,
  only: isLong ? /^/ : /^the growth of a mounted/,
  ...again,
})
crashMatrix('preallocated loop images', () => openLoopWorld({ preallocate: true }), {
  fsTypes: ['xfs'],
  moments,
  only: isTorture ? /^/ : isLong ? /^(a creation|the growth of an unmounted)/ : /^a creation/,
  ...again,
})
// Below the calls of CSI is the same engine: of them, one of each kind.
crashMatrix('loop images', () => openLoopWorld({ preallocate: false }), {
  front: 'csi',
  fsTypes: ['xfs'],
  moments: isLong ? moments : ['after'],
  only: isLong ? /^/ : /^(a first mount|the last unmount|the growth of a mounted)/,
  ...again,
})
if (isLong) crashMatrix('directories', openDirectoryWorld, { front: 'csi', fsTypes: ['ext4'], moments, ...again })
