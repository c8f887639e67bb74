/** Runs in a guest: csi-sanity on LVM. */
import { join } from 'node:path'
import { run } from '../../src/run.ts'
import { mustBeSane } from '../csi/sanity.ts'
import { withNode } from '../node.ts'
import { suite } from '../suite.ts'

const test = suite('csi-sanity on LVM')
const program = [process.execPath, join(import.meta.dirname, '../../src/main.ts')]

await run('pvcreate', ['--quiet', '/dev/vda'])
await run('vgcreate', ['--quiet', 'elastic-local-vg', '/dev/vda'])

test(
  'all specs that our capabilities select pass with linear volumes, and nothing stays',
  withNode((node) => mustBeSane(node, program, [])),
)

test(
  'all specs that our capabilities select pass with thin volumes, and nothing stays',
  withNode((node) => mustBeSane(node, program, ['--lvm-use-thin-volumes'])),
)

test.run()
