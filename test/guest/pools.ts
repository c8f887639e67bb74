/** Runs in a guest: the contract on real LVM, and what loop images can do only where the kernel lets them. */
import { run } from '../../src/run.ts'
import { contract } from '../contract.ts'
import { deviceContract } from '../device-contract.ts'
import { openLoopWorld, openLvmWorld, thinOptions } from '../machine-world.ts'

const volumeGroup = 'elastic-local-vg'
const [part = 'linear'] = process.argv.slice(2)

await run('pvcreate', ['--quiet', '/dev/vda'])
await run('vgcreate', ['--quiet', volumeGroup, '/dev/vda'])

if (part === 'linear') {
  contract('linear volumes', () => openLvmWorld({ volumeGroup }), ['ext4', 'xfs', 'btrfs'])
  deviceContract('linear volumes', () => openLvmWorld({ volumeGroup }))
}
if (part === 'thin') {
  contract('thin volumes', () => openLvmWorld({ volumeGroup, thin: thinOptions }), ['ext4', 'xfs', 'btrfs'])
  deviceContract('thin volumes', () => openLvmWorld({ volumeGroup, thin: thinOptions }))
}
if (part === 'host')
  contract("linear volumes with the host's tools", () => openLvmWorld({ volumeGroup, hostTools: true }), ['ext4'])
if (part === 'loop') contract('loop images in the guest', () => openLoopWorld({ preallocate: false }), ['ext4'])
