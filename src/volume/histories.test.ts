import { histories } from '../../test/crash/histories.ts'
import { openMemoryWorld } from '../../test/memory-world.ts'

histories('engine in memory', openMemoryWorld, { fsType: 'ext4', count: 2000, rounds: 12, shuffling: true })
histories('engine in memory', openMemoryWorld, {
  front: 'csi',
  fsType: 'ext4',
  count: 500,
  rounds: 12,
  shuffling: true,
})
histories('engine in memory', openMemoryWorld, { fsType: 'block', count: 200, rounds: 12, shuffling: true })
