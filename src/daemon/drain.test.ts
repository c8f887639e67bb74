import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { suite } from '../../test/suite.ts'
import { thrownBy } from '../../test/thrown.ts'
import { Drain } from './drain.ts'

const test = suite('drain')

test('run() gives what the work gives, and throws what it throws', async () => {
  const drain = new Drain()
  assert.is(await drain.run(async () => 5), 5)
  const atOnce = () => {
    throw new Error('it failed')
  }
  for (const work of [atOnce, async () => atOnce()])
    assert.is((await thrownBy(Error, () => drain.run(work))).message, 'it failed')
})

test('stop() has nothing to wait for when nothing runs', async () => {
  await new Drain().stop()
  const drain = new Drain()
  await drain.run(async () => {})
  await drain.stop()
  await drain.stop()
})

test('stop() waits for all that runs, also for what fails, and from then on nothing is begun', async () => {
  const drain = new Drain()
  const [first, second] = [Promise.withResolvers<string>(), Promise.withResolvers<string>()]
  const results = Promise.allSettled([drain.run(() => first.promise), drain.run(() => second.promise)])
  const events: string[] = []
  const stopping = drain.stop().then(() => events.push('stopped'))
  await rejects('stopping', /the daemon is stopping; try again/, () => drain.run(async () => events.push('begun')))
  first.reject(new Error('it failed'))
  await new Promise(setImmediate)
  assert.equal(events, [])
  second.resolve('done')
  await stopping
  assert.equal(events, ['stopped'])
  assert.equal(
    (await results).map(({ status }) => status),
    ['rejected', 'fulfilled'],
  )
  await rejects('stopping', /stopping/, () => drain.run(async () => events.push('begun')))
})

test.run()
