/** What `make cluster` plays. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'

const test = suite('play')

test('the sample pod runs in a cluster of its own, until Ctrl-C, of which nothing is left; what it invites to works meanwhile', async () => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'play.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    said += text
  })
  const invited = /\n {2}(\S+) elastic_local explain (\S+)\n.* at (http:\S+)\.\n.*\.\n$/s
  while (!invited.test(said))
    await Promise.race([once(child.stdout, 'data'), exited.then(() => assert.unreachable(said))])
  assert.match(said, /pod\/elastic-local-sample condition met/)
  assert.match(said, /persistentvolume\/pvc-\S+ +1Gi .*Bound/)
  assert.match(said, /OK +pod +elastic-local-sample runs/)
  const [, kubectl = '', claim = '', page = ''] = invited.exec(said) ?? []
  assert.match((await run(kubectl, ['elastic_local', 'explain', claim])).stdout, /OK +mount/)
  assert.match(await (await fetch(page)).text(), 'default/elastic-local-sample')
  child.kill('SIGINT')
  assert.equal(await exited, [0, null])
  assert.match(said, /\nNothing is left\.\n$/)
})

test.run()
