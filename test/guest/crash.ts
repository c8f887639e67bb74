/** Runs in a guest: the crash matrix and random histories on real LVM. */
import '../crash/steps.ts'
import { frontNames } from '../../src/daemon/front.ts'
import { run } from '../../src/run.ts'
import { histories } from '../crash/histories.ts'
import { crashMatrix } from '../crash/matrix.ts'
import { openLvmWorld, thinOptions } from '../machine-world.ts'

const volumeGroup = 'elastic-local-vg'
const [kind = 'linear'] = process.argv.slice(2)
const openWorld = () => openLvmWorld({ volumeGroup, thin: kind === 'thin' ? thinOptions : undefined })

await run('pvcreate', ['--quiet', '/dev/vda'])
await run('vgcreate', ['--quiet', volumeGroup, '/dev/vda'])

const { LONG, TORTURE } = process.env
if (TORTURE === undefined) {
  // What is the same on loop images is played there, and the records are written as on any disk.
  const only = LONG
    ? /^(a creation|a mount that|a first|the last|the growth|a removal|a start that finishes)/
    : /^(a creation|the growth of a mounted volume|a removal)$/
  const changes = /^(lvm (lv[cer]|vgchange)|u?mount|mkfs|e2fsck|resize|rename|unlink .*[a-z]\.json$)/
  crashMatrix(`${kind} volumes`, openWorld, { fsTypes: ['ext4'], moments: ['after'], steps: changes, only })
  const inShell = /^lvm (lv[cer]|vgchange)/
  crashMatrix(`${kind} volumes, with the shell`, openWorld, {
    fsTypes: ['ext4'],
    moments: ['during'],
    steps: inShell,
    only: LONG ? only : /^a removal$/,
  })
  // Below the calls of CSI is the same engine: of them, one.
  const byCsi = LONG ? /^/ : /^the last unmount$/
  crashMatrix(`${kind} volumes`, openWorld, {
    front: 'csi',
    fsTypes: ['ext4'],
    moments: ['after'],
    steps: changes,
    only: byCsi,
  })
} else {
  for (const front of frontNames)
    crashMatrix(`${kind} volumes`, openWorld, { front, fsTypes: ['ext4'], moments: ['before', 'during', 'after'] })
}
if (LONG || TORTURE)
  for (const front of frontNames)
    histories(`${kind} volumes`, openWorld, { front, fsType: 'ext4', count: 6, rounds: 6 })
