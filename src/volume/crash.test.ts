import { crashMatrix } from '../../test/crash/matrix.ts'
import { openMemoryWorld } from '../../test/memory-world.ts'

crashMatrix('engine in memory', openMemoryWorld, { fsTypes: ['ext4', 'block'], moments: ['before', 'after'], again: 1 })
