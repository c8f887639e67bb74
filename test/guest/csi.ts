/** Runs in a guest: csi-sanity on LVM. */
import { join } from 'node:path'
import { run } from '../../src/run.ts'
import { mustBeSane } from '../csi/sanity.ts'
import { withNode } from '../node.ts'
import { suite } from '../suite.ts'

const test = suite('csi-sanity on LVM')
const program = [process.execPath, join(import.meta.dirname, '../../src/main.ts')]

await run('pvcreate', ['--quiet', '/dev/vda'])

/** A group of its own for a daemon, as it claims that for its folder. */
const withGroup = (flags: readonly string[], accessType: 'mount' | 'block' = 'mount') =>
  withNode(async (node) => {
    await run('vgcreate', ['--quiet', 'elastic-local-vg', '/dev/vda'])
    try {
      await mustBeSane(node, program, flags, accessType)
    } finally {
      await run('vgremove', ['--quiet', '--force', '--yes', 'elastic-local-vg'])
    }
  })

test('all specs that our capabilities select pass with linear volumes, and nothing stays', withGroup([]))

test('so do they with block devices that are linear volumes', withGroup([], 'block'))

test(
  'all specs that our capabilities select pass with thin volumes, and nothing stays',
  withGroup(['--lvm-use-thin-volumes']),
)

test.run()
