/** What `make cluster` plays. */
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'

const test = suite('play')

test('the sample pod runs in a cluster of its own, of which nothing is left', async () => {
  const { stdout } = await run(process.execPath, [join(import.meta.dirname, 'play.ts'), '--once'])
  assert.match(stdout, /pod\/elastic-local-sample condition met/)
  assert.match(stdout, /persistentvolume\/pvc-\S+ +1Gi .*Bound/)
  assert.match(stdout, /Nothing is left\.\n$/)
})

test.run()
