/** Runs in a guest: the crash matrix and random histories on real LVM. */
import '../crash/steps.ts'
import { run } from '../../src/run.ts'
import { histories } from '../crash/histories.ts'
import { crashMatrix } from '../crash/matrix.ts'
import { openLvmWorld, thinOptions } from '../machine-world.ts'

const volumeGroup = 'elastic-local-vg'
const [kind = 'linear'] = process.argv.slice(2)
const openWorld = () => openLvmWorld({ volumeGroup, thin: kind === 'thin' ? thinOptions : undefined })

await run('pvcreate', ['--quiet', '/dev/ubdb'])
await run('vgcreate', ['--quiet', volumeGroup, '/dev/ubdb'])

crashMatrix(`${kind} volumes`, openWorld, {
  fsTypes: ['ext4'],
  // Between two steps nothing changes: killed before one is killed after the other, but for what else runs then.
  moments: ['during', 'after'],
  // The records are written as on any disk: only their being there, and their going, are steps here.
  ...(process.env.TORTURE === undefined
    ? { steps: /^(lvm (lv[cer]|vgchange)|u?mount|mkfs|e2fsck|resize|rename|unlink .*[a-z]\.json$)/ }
    : {}),
})
histories(`${kind} volumes`, openWorld, { fsType: 'ext4', count: 6, rounds: 6 })
