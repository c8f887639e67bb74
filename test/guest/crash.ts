/** Runs in a guest: the crash matrix and random histories on real LVM. */
import '../crash/steps.ts'
import { run } from '../../src/run.ts'
import { histories } from '../crash/histories.ts'
import { crashMatrix } from '../crash/matrix.ts'
import { openLvmWorld, thinOptions } from '../machine-world.ts'

const volumeGroup = 'elastic-local-vg'
const [kind = 'linear'] = process.argv.slice(2)
const openWorld = () => openLvmWorld({ volumeGroup, thin: kind === 'thin' ? thinOptions : undefined })

await run('pvcreate', ['--quiet', '/dev/vda'])
await run('vgcreate', ['--quiet', volumeGroup, '/dev/vda'])

if (process.env.TORTURE === undefined) {
  // What is the same on loop images is played there, and the records are written as on any disk.
  const only = /^(a creation|a mount that|a first|the last|the growth|a removal|a start that finishes)/
  const changes = /^(lvm (lv[cer]|vgchange)|u?mount|mkfs|e2fsck|resize|rename|unlink .*[a-z]\.json$)/
  crashMatrix(`${kind} volumes`, openWorld, { fsTypes: ['ext4'], moments: ['after'], steps: changes, only })
  const inShell = /^lvm (lv[cer]|vgchange)/
  crashMatrix(`${kind} volumes, with the shell`, openWorld, {
    fsTypes: ['ext4'],
    moments: ['during'],
    steps: inShell,
    only,
  })
} else crashMatrix(`${kind} volumes`, openWorld, { fsTypes: ['ext4'], moments: ['before', 'during', 'after'] })
histories(`${kind} volumes`, openWorld, { fsType: 'ext4', count: 6, rounds: 6 })
