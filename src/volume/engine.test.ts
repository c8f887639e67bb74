import { contract } from '../../test/contract.ts'
import { deviceContract } from '../../test/device-contract.ts'
import { openMemoryWorld } from '../../test/memory-world.ts'

contract('engine in memory', openMemoryWorld, ['ext4', 'xfs', 'btrfs'])
deviceContract('engine in memory', openMemoryWorld)
