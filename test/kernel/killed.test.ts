import '../crash/memory-disk.ts'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { ClientError } from '../../src/daemon/client.ts'
import { explain } from '../crash/explain.ts'
import { type Daemon, type TestNode, withNode } from '../node.ts'
import { suite } from '../suite.ts'

const test = suite('a daemon that is killed')
const options = { sizeBytes: String(32 * 2 ** 20), 'kubernetes.io/fsType': 'ext4' }
const preload = join(import.meta.dirname, '../crash/doomed.ts')
/** How many of the steps a daemon is killed at; each takes two daemons. */
const deaths = process.env.TORTURE === undefined ? 12 : Number.POSITIVE_INFINITY

const moments = ['before', 'after', 'during']

/** A request, and what must be true when it was answered. */
type Request = (node: TestNode) => Promise<void>

const requests: Request[] = [
  async (node) => {
    assert.is(await node.mount('a', options), 'Success')
    await writeFile(join(node.target('a'), 'file'), 'precious', { flush: true })
  },
  async (node) => {
    assert.is(await node.mount('b', { ...options, 'kubernetes.io/readwrite': 'ro' }), 'Success')
    assert.is(await readFile(join(node.target('b'), 'file'), 'utf8'), 'precious')
  },
  async (node) => assert.is(await node.unmount('a'), 'Success'),
  async (node) => {
    assert.is(await node.unmount('b'), 'Success')
    assert.equal(await node.mounts(), [])
    assert.equal(await node.loopDevices(), [])
  },
  async (node) => {
    assert.is(await node.mount('a', {}), 'Success')
    assert.is(await readFile(join(node.target('a'), 'file'), 'utf8'), 'precious')
    const { state, problems } = await node.show()
    assert.equal([state, problems], ['ready', []])
    assert.is(await node.unmount('a'), 'Success')
  },
  async (node) => assert.is((await node.ask('DELETE', '/v1/volumes/one')).status, 200),
]

/** Starts a daemon that is to be killed at a step, or only tells its steps. */
const startDoomed = (node: TestNode, doom: string, steps = '/dev/null') =>
  node.launch({ env: { NODE_OPTIONS: `--import=${preload}`, DOOM: doom, DOOM_STEPS: steps } })

/** Asks everything, one after the other; of a new daemon from that request on in which the first is killed. */
async function askAll(node: TestNode, doomed: Daemon): Promise<void> {
  const serves = await doomed.says(/Serving/).then(
    () => true,
    () => false,
  )
  if (!serves) await node.start()
  for (const request of requests)
    try {
      await request(node)
    } catch (error) {
      if (!(error instanceof ClientError)) throw error
      await doomed.ended
      await node.start()
      await request(node)
    }
}

/** What a daemon does in all, from its start on. */
async function readSteps(): Promise<string[]> {
  let text = ''
  await withNode(async (node) => {
    const log = join(node.folder, 'steps')
    await askAll(node, await startDoomed(node, '', log))
    text = await readFile(log, 'utf8')
  })()
  return text.trimEnd().split('\n')
}

test('a daemon that is killed leaves nothing behind wherever it was, and the next one goes on', async () => {
  const steps = await readSteps()
  const stride = Math.max(1, Math.floor(steps.length / deaths))
  assert.ok(steps.length > 50, `${steps.length} steps`)
  for (let step = 0; step < steps.length; step += stride)
    for (const moment of stride === 1 ? moments : [moments[(step / stride) % moments.length]]) {
      const dying = withNode(async (node) => {
        const doomed = await startDoomed(node, `${moment} ${step}`)
        await askAll(node, doomed)
        assert.is(doomed.child.signalCode, 'SIGKILL')
        assert.equal(await node.traces(), [])
      })
      await dying().catch((error) => {
        throw new Error(`Killed ${moment} "${steps[step]}": ${explain(error)}`, { cause: error })
      })
    }
})

test.run()
