import { crashMatrix } from '../../test/crash/matrix.ts'
import { openMemoryWorld } from '../../test/memory-world.ts'

const options = { moments: ['before', 'after'], again: 1 } as const
crashMatrix('engine in memory', openMemoryWorld, { ...options, fsTypes: ['ext4', 'block'] })
crashMatrix('engine in memory', openMemoryWorld, { ...options, fsTypes: ['ext4'], front: 'csi' })
