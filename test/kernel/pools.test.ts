import { contract, deviceContract } from '../contract.ts'
import { openDirectoryWorld, openLoopWorld } from '../machine-world.ts'

contract('loop images', () => openLoopWorld({ preallocate: false }), ['ext4', 'xfs', 'btrfs'])
contract('preallocated loop images', () => openLoopWorld({ preallocate: true }), ['ext4'])
deviceContract('loop images', () => openLoopWorld({ preallocate: false }))
contract('directories', openDirectoryWorld, ['ext4'])
