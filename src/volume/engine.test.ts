import { contract, deviceContract } from '../../test/contract.ts'
import { openMemoryWorld } from '../../test/memory-world.ts'

contract('engine in memory', openMemoryWorld, ['ext4', 'xfs', 'btrfs'])
deviceContract('engine in memory', openMemoryWorld)
