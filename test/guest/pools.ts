/** Runs in a guest: the contract on real LVM, and what loop images can do only where the kernel lets them. */
import { run } from '../../src/run.ts'
import { contract } from '../contract.ts'
import { deviceContract } from '../device-contract.ts'
import { openLoopWorld, openLvmWorld, thinOptions } from '../machine-world.ts'

const volumeGroup = 'elastic-local-vg'
const [part = 'linear'] = process.argv.slice(2)

await run('pvcreate', ['--quiet', '/dev/vda'])
await run('vgcreate', ['--quiet', volumeGroup, '/dev/vda'])

// Every filesystem on every kind in a long run; in a short one, the kernel's own tests have them on loop images.
const { LONG } = process.env
if (part === 'linear') {
  const openWorld = () => openLvmWorld({ volumeGroup })
  contract('linear volumes', openWorld, LONG ? ['ext4', 'xfs', 'btrfs'] : ['ext4'])
  // Of devices, what LVM has a part in.
  contract('linear volumes', openWorld, ['block'], LONG ? /^/ : /made once|grow|removed volume|died before/)
  deviceContract('linear volumes', openWorld, LONG ? /^/ : /blank|data|lost|growth|removal/)
}
if (part === 'thin') {
  const openWorld = () => openLvmWorld({ volumeGroup, thin: thinOptions })
  // In a short run, what LVM does otherwise for them.
  const only = LONG
    ? /^/
    : /made once|outlives|round up|grows|growth|does not fit|is removed|removed volume|many volumes|died before/
  contract('thin volumes', openWorld, LONG ? ['ext4', 'xfs', 'btrfs', 'block'] : ['xfs'], only)
  // How devices are formatted is no other on thin ones.
  if (LONG) deviceContract('thin volumes', openWorld)
}
if (part === 'host')
  contract("linear volumes with the host's tools", () => openLvmWorld({ volumeGroup, hostTools: true }), ['ext4'])
// The rest of it is shown on this machine's own kernel, which may not let anybody grow a mounted ext4.
if (part === 'loop')
  contract('loop images in the guest', () => openLoopWorld({ preallocate: false }), ['ext4'], LONG ? /^/ : /grow/)
