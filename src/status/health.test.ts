import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { buildHealthRoutes, type Check, findStuckLvm, isReady } from './health.ts'

const test = suite('health')

test('/healthz and /readyz say ok, or why not; what is not alive is not ready; checks may be added at any time', async () => {
  const health: { alive: Check[]; ready: Check[] } = { alive: [], ready: [] }
  const app = buildHealthRoutes(health, '1.2.3')
  const ask = async (path: string) => {
    const response = await app.request(path)
    return [response.status, await response.json()]
  }
  const ok = [200, { status: 'ok', version: '1.2.3' }]
  assert.equal([await ask('/healthz'), await ask('/readyz')], [ok, ok])

  let missing: string | undefined = 'its pool has not started yet'
  health.ready.push(async () => missing)
  assert.equal(await ask('/healthz'), ok)
  assert.equal(await ask('/readyz'), [503, { status: 'failed', version: '1.2.3', reasons: [missing] }])
  assert.is(await isReady(health), false)
  missing = undefined
  assert.equal(await ask('/readyz'), ok)

  health.alive.push(() => 'its socket was removed')
  const failed = [503, { status: 'failed', version: '1.2.3', reasons: ['its socket was removed'] }]
  assert.equal([await ask('/healthz'), await ask('/readyz')], [failed, failed])
})

test('findStuckLvm() tells of an LVM command that hangs, and of no other work', () => {
  const backlog = (name: string, longestMs: number) => ({ name, waiting: 3, running: 1, longestMs })
  assert.is(findStuckLvm([backlog('lvm', 59_000), backlog('volumes', 3_600_000)]), undefined)
  assert.is(findStuckLvm([backlog('lvm', 61_000)]), 'an LVM command has been running for 61 s and 3 wait behind it')
})

test.run()
