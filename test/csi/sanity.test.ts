/** csi-sanity (kubernetes-csi/csi-test) on the built executable, without a cluster. */
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { build } from '../../build.mjs'
import { csiSocket } from '../../src/csi/driver.ts'
import { run } from '../../src/run.ts'
import { withNode } from '../node.ts'
import { suite } from '../suite.ts'
import { ensureCsiTools } from './build.ts'

const test = suite('csi-sanity')
const executable = await build({ log: () => {} })
const { sanity } = await ensureCsiTools()
const mebibyte = 2 ** 20

for (const kind of ['LOOP', 'BINDMOUNT'])
  test(
    `all specs that our capabilities select pass with ${kind}, and nothing stays`,
    withNode(async (node) => {
      const { kubeletDir, volumesDir, socket } = node
      const folders = ['--kubelet-dir', kubeletDir, '--volumes-dir', volumesDir, '--socket', socket]
      const command = [executable, 'daemon', '--standalone', '--csi', '--driver-kind', kind, ...folders]
      const daemon = node.spawn(command)
      await daemon.says(/Serving/)
      const flags = {
        'csi.endpoint': csiSocket(kubeletDir),
        'csi.mountdir': join(kubeletDir, 'mount'),
        'csi.stagingdir': join(kubeletDir, 'staging'),
        'csi.testvolumesize': 32 * mebibyte,
        'csi.testvolumeexpandsize': 64 * mebibyte,
      }
      const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
      const { exitCode, stdout } = await run(sanity, [...args, '--ginkgo.no-color'], { accept: [0, 1] })
      const [, passed, failed] = /(\d+) Passed \| (\d+) Failed/.exec(stdout) ?? []
      assert.equal([exitCode, failed], [0, '0'], stdout)
      // Those of identity, controller and node; not those of what we do not say that we can.
      assert.is(passed, '44')
      assert.equal(await node.traces(), [])
      assert.is(await daemon.end('SIGTERM'), 0)
    }),
  )

test.run()
