/** csi-sanity on the built executable. On LVM: test/guest/csi.ts. */
import { build } from '../../build.mjs'
import { withNode } from '../node.ts'
import { suite } from '../suite.ts'
import { mustBeSane } from './sanity.ts'

const test = suite('csi-sanity')
const executable = await build({ log: () => {} })

for (const [kind, accessType] of [
  ['LOOP', 'mount'],
  ['LOOP', 'block'],
  ['BINDMOUNT', 'mount'],
] as const)
  test(
    `all specs that our capabilities select pass with ${kind}, accessed as ${accessType}, and nothing stays`,
    withNode((node) => mustBeSane(node, [executable], ['--driver-kind', kind], accessType)),
  )

test.run()
