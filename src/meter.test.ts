import * as assert from 'uvu/assert'
import { suite } from '../test/suite.ts'
import { thrownBy } from '../test/thrown.ts'
import { buildMeter, type Done, observed, observeMethods } from './meter.ts'

const test = suite('meter')

/** Keeps what is told, without the times. */
function openEar() {
  const told: Omit<Done, 'tookMs'>[] = []
  const observe = ({ tookMs, ...done }: Done) => {
    assert.ok(tookMs >= 0)
    told.push(done)
  }
  return { told, observe }
}

test('observed() tells how work ended, gives what it gave, and throws what it threw', async () => {
  const { told, observe } = openEar()
  assert.is(await observed(observe, { what: 'a' }, async () => 1), 1)
  const fail = async () => {
    throw new Error('broken')
  }
  await thrownBy(Error, () => observed(observe, { what: 'b', about: 'x' }, fail))
  await thrownBy(Error, () => observed(observe, { what: 'c' }, fail, (error) => (error as Error).message))
  assert.equal(told, [
    { what: 'a', result: 'success' },
    { what: 'b', about: 'x', result: 'failed' },
    { what: 'c', result: 'broken' },
  ])
  assert.is(await observed(undefined, { what: 'a' }, async () => 2), 2)
})

class Counter {
  #count = 0
  async add(_name: string): Promise<number> {
    this.#count += 1
    return this.#count
  }
  async make({ name }: { name: string }): Promise<string> {
    return name
  }
  get count(): number {
    return this.#count
  }
  async read(): Promise<number> {
    return this.#count
  }
}

test('observeMethods() tells of the methods named, and leaves the object what it is', async () => {
  const { told, observe } = openEar()
  const counter = observeMethods(new Counter(), ['add', 'make'], observe, () => 'failed')
  assert.is(await counter.add('one'), 1)
  assert.is(await counter.make({ name: 'two' }), 'two')
  assert.is(await counter.read(), 1)
  assert.is(counter.count, 1)
  assert.instance(counter, Counter)
  assert.equal(told, [
    { what: 'add', about: 'one', result: 'success' },
    { what: 'make', about: 'two', result: 'success' },
  ])
})

test('a meter says everything on level debug, and has it counted from when there is somebody to count', () => {
  const lines: string[] = []
  const meter = buildMeter({ debug: (message) => lines.push(message) })
  const done = { what: 'mount', about: 'pvc-1', tookMs: 12.3, result: 'busy' }
  meter.operation(done)
  const { told, observe } = openEar()
  const none = () => {}
  meter.count({ operation: observe, callout: none, command: none, request: none, work: none })
  meter.operation(done)
  meter.command({ what: 'lvs', tookMs: 1, result: 'success' })
  assert.equal(told, [{ what: 'mount', about: 'pvc-1', result: 'busy' }])
  assert.equal(lines, ['operation mount pvc-1: busy', 'operation mount pvc-1: busy', 'command lvs: success'])
})

test.run()
