import * as assert from 'uvu/assert'
import { nextTurn } from '../../test/memory-api.ts'
import { suite } from '../../test/suite.ts'
import { Engine } from '../volume/engine.ts'
import { MemoryMachine } from '../volume/memory.ts'
import { PoolView } from './pool-figures.ts'

const test = suite('pool figures')
const gibibyte = 1n << 30n

/** The view of a pool in memory, whose looks can be held up. */
async function open(freshMs: number) {
  const machine = new MemoryMachine({ capacityBytes: 4n * gibibyte })
  const { pool, mounts, filesystems, journal } = machine
  const log = { info: () => {}, warn: () => {} }
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
  await engine.start()
  await engine.create('pvc-1', { sizeBytes: gibibyte, fsType: 'ext4', mkfsOptions: [] })
  let looks = 0
  let held: Promise<void> | undefined
  const list = async () => {
    looks += 1
    await held
    return (await engine.list()).map((view) => ({ ...view, front: 'csi', problems: ['its pod is gone'] }))
  }
  const view = new PoolView({
    list,
    report: () => engine.report(),
    now: () => new Date(5000),
    freshMs,
    patienceMs: 20,
  })
  return {
    view,
    looks: () => looks,
    hold: (until: Promise<void>) => {
      held = until
    },
  }
}

test('however many ask, there is one look in so long', async () => {
  const { view, looks } = await open(3_600_000)
  const [figures] = await Promise.all([view.take(), view.take(), view.take()])
  await view.take()
  assert.is(looks(), 1)
  assert.is(figures?.report.allocatedBytes, gibibyte)
  assert.equal(figures?.volumes, [{ name: 'pvc-1', sizeBytes: gibibyte, state: 'ready', front: 'csi', problems: 1 }])
  assert.equal(figures?.seenAt, new Date(5000))
  assert.is(await view.findFailure(), undefined)
})

test('nobody waits for a look that hangs, and none is begun behind it', async () => {
  const { view, looks, hold } = await open(0)
  const go = Promise.withResolvers<void>()
  hold(go.promise)
  assert.is(await view.take(), undefined)
  assert.is(await view.findFailure(), 'the pool has not been read yet')
  assert.is(looks(), 1)
  go.resolve()
  await nextTurn()
  assert.ok(await view.take())
  hold(new Promise(() => {}))
  // What was seen before is better than nothing.
  assert.ok(await view.take())
  assert.is(await view.findFailure(), undefined)
})

test('a look that fails is the reason why the pool is not ready, until one does not', async () => {
  const { view, hold } = await open(0)
  assert.ok(await view.take())
  hold(Promise.reject(new Error('Cannot read volume group vg: it is gone.')))
  assert.is(await view.findFailure(), 'Cannot read volume group vg: it is gone.')
  hold(Promise.resolve())
  assert.is(await view.findFailure(), undefined)
})

test.run()
