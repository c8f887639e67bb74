import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { csiSocket } from '../../src/csi/driver.ts'
import { run } from '../../src/run.ts'
import type { TestNode } from '../node.ts'
import { ensureCsiTools } from './build.ts'

const mebibyte = 2 ** 20

/**
 * Runs csi-sanity (kubernetes-csi/csi-test) on a daemon without a cluster, and asserts that all specs that its capabilities
 * select pass, and that nothing stays. `program` starts our command line, `pool` are the flags of the pool.
 */
export async function mustBeSane(
  node: TestNode,
  program: readonly string[],
  pool: readonly string[],
  accessType: 'mount' | 'block' = 'mount',
): Promise<void> {
  const { kubeletDir, volumesDir, socket } = node
  const folders = ['--kubelet-dir', kubeletDir, '--volumes-dir', volumesDir, '--socket', socket]
  const daemon = node.spawn([...program, 'daemon', '--standalone', '--csi', ...pool, ...folders])
  await daemon.says(/Serving/)
  const flags = {
    'csi.endpoint': csiSocket(kubeletDir),
    'csi.mountdir': join(kubeletDir, 'mount'),
    'csi.stagingdir': join(kubeletDir, 'staging'),
    'csi.testvolumeaccesstype': accessType,
    'csi.testvolumesize': 32 * mebibyte,
    'csi.testvolumeexpandsize': 64 * mebibyte,
  }
  const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
  const { sanity } = await ensureCsiTools()
  const { exitCode, stdout } = await run(sanity, [...args, '--ginkgo.no-color'], { accept: [0, 1] })
  const [, passed, failed] = /(\d+) Passed \| (\d+) Failed/.exec(stdout) ?? []
  assert.equal([exitCode, failed], [0, '0'], stdout)
  // Those of identity, controller and node; not those of what we do not say that we can.
  assert.is(passed, '44')
  assert.equal((await node.ask('GET', '/v1/volumes')).body, { volumes: [] })
  assert.equal(await node.traces(), [])
  assert.is(await daemon.end('SIGTERM'), 0)
}
