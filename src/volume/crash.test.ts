import { crashMatrix } from '../../test/crash/matrix.ts'
import { openMemoryWorld } from '../../test/memory-world.ts'
import { frontNames } from '../daemon/front.ts'

for (const front of frontNames)
  crashMatrix('engine in memory', openMemoryWorld, { fsTypes: ['ext4'], moments: ['before', 'after'], again: 1, front })
