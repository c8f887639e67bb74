import * as assert from 'uvu/assert'
import { type Hook, MemoryApi } from '../../../test/memory-api.ts'
import { suite } from '../../../test/suite.ts'
import { Recorder } from './events.ts'

const test = suite('events')
const path = '/api/v1/namespaces/shop/events'
const claim = { kind: 'PersistentVolumeClaim', namespace: 'shop', name: 'data', uid: 'uid-1' }
const minuteMs = 60_000

function open(hook?: Hook) {
  const server = new MemoryApi()
  const client = server.client(hook)
  const warnings: string[] = []
  const time = { ms: 0 }
  const hour = { ms: 0 }
  const make = (host?: string) =>
    new Recorder({
      api: client,
      component: 'elastic-local-provisioner',
      ...(host ? { host } : {}),
      clock: { now: () => time.ms },
      now: () => new Date(hour.ms + time.ms),
      log: { debug: () => {}, warn: (message) => warnings.push(message) },
    })
  return { server, client, warnings, time, hour, make, recorder: make() }
}

test('an event names its object, who says it, and when', async () => {
  const { server, recorder, make } = open()
  await recorder.say(claim, 'Warning', 'ProvisioningFailed', 'no room')
  const [event] = server.list(path)
  assert.equal(event?.involvedObject, { apiVersion: 'v1', ...claim })
  assert.equal(
    [event?.type, event?.reason, event?.message, event?.count, event?.firstTimestamp, event?.source],
    [
      'Warning',
      'ProvisioningFailed',
      'no room',
      1,
      '1970-01-01T00:00:00.000Z',
      { component: 'elastic-local-provisioner' },
    ],
  )
  await make('node-1').say({ kind: 'PersistentVolume', name: 'pv', uid: 'uid-2' }, 'Normal', 'Made', 'made')
  assert.equal(server.list('/api/v1/namespaces/default/events')[0]?.source, {
    component: 'elastic-local-provisioner',
    host: 'node-1',
  })
})

test('words that differ only in numbers and sizes are one event', async () => {
  const { server, recorder, time } = open()
  for (const left of ['12 MiB', '9.5 GiB', '0 B', '1.07 GiB (1148903752 bytes)', '3', '4.19 GiB (4500000001 bytes)']) {
    time.ms += minuteMs
    await recorder.say(claim, 'Warning', 'Failed', `pool vg-1 of node-2 has ${left} of 10.2 GiB free; see 10.0.0.1`)
  }
  assert.equal(
    server.list(path).map(({ count }) => count),
    [6],
  )
  time.ms += minuteMs
  await recorder.say(claim, 'Warning', 'Failed', 'pool vg-1 of node-3 has 12 MiB of 10.2 GiB free; see 10.0.0.1')
  assert.is(server.list(path).length, 2)
})

test('what is said twice in a minute is written once, also when it is said at the same time', async () => {
  const { server, client, recorder, time } = open()
  const say = () => recorder.say(claim, 'Warning', 'Failed', 'no room')
  await Promise.all([say(), say()])
  time.ms = minuteMs - 1
  await say()
  assert.is(client.requests.length, 1)
  assert.is(server.list(path)[0]?.count, 1)
})

test('what is said again later raises the count of the event that is there, whoever wrote it', async () => {
  const { server, recorder, make, time } = open()
  await recorder.say(claim, 'Warning', 'Failed', 'no room')
  time.ms = minuteMs
  await recorder.say(claim, 'Warning', 'Failed', 'no room')
  time.ms = 2 * minuteMs
  await make().say(claim, 'Warning', 'Failed', 'no room')
  const [event, ...others] = server.list(path)
  assert.equal(others, [])
  assert.equal(
    [event?.count, event?.firstTimestamp, event?.lastTimestamp],
    [3, '1970-01-01T00:00:00.000Z', '1970-01-01T00:02:00.000Z'],
  )
})

test('an hour that is set back silences nobody', async () => {
  const { server, recorder, time, hour } = open()
  hour.ms = 5 * 60 * minuteMs
  await recorder.say(claim, 'Warning', 'Failed', 'no room')
  hour.ms = 0
  time.ms = minuteMs
  await recorder.say(claim, 'Warning', 'Failed', 'no room')
  assert.is(server.list(path)[0]?.count, 2)
})

test('other words, and words about another object, are other events', async () => {
  const { server, recorder } = open()
  await recorder.say(claim, 'Warning', 'Failed', 'no room')
  await recorder.say(claim, 'Warning', 'Failed', 'no node')
  await recorder.say({ ...claim, uid: 'uid-2' }, 'Warning', 'Failed', 'no room')
  assert.is(server.list(path).length, 3)
})

test('a message that is longer than the API server takes is cut', async () => {
  const { server, recorder } = open()
  await recorder.say(claim, 'Warning', 'Failed', 'x'.repeat(5000))
  assert.is(server.list(path)[0]?.message, 'x'.repeat(1024))
})

test('the name of an event is one that the API server takes, however the object is called', async () => {
  const { server, recorder } = open()
  for (const end of ['-', '.', '-.', 'x'])
    await recorder.say({ ...claim, name: `${'a'.repeat(198)}${end}${'b'.repeat(40)}` }, 'Warning', 'Failed', 'no room')
  const names = server.list(path).map(({ metadata }) => metadata.name)
  assert.is(names.length, 4)
  for (const name of names)
    assert.match(name, /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/)
})

test('an event that cannot be written is logged, never throws, and is said the next time', async () => {
  const { server, recorder, warnings } = open((_, count) => (count < 3 ? { refused: count === 1 ? 403 : 0 } : 'done'))
  const say = () => recorder.say(claim, 'Warning', 'Failed', 'no room')
  await say()
  await say()
  assert.is(warnings.length, 2)
  for (const warning of warnings)
    assert.match(warning, /^Cannot write the event "Failed: no room" about PersistentVolumeClaim data: /)
  await say()
  assert.is(server.list(path).length, 1)
})

test('however many things are said, none is said again within a minute', async () => {
  const { server, recorder, time } = open()
  const count = 10_500
  const sayAll = async () => {
    for (let index = 0; index < count; index += 1)
      await recorder.say({ ...claim, uid: String(index), name: `data-${index}` }, 'Warning', 'Failed', 'no room')
  }
  await sayAll()
  const sent = server.list(path).length
  assert.is(sent, count)
  time.ms += 59_000
  await sayAll()
  assert.ok(server.list(path).every((event) => event.count === 1))
})

test('an event that is gone before its count is raised is logged', async () => {
  const { recorder, warnings } = open((_, count) => (count === 1 ? { refused: 409 } : 'done'))
  await recorder.say(claim, 'Warning', 'Failed', 'no room')
  assert.is(warnings.length, 1)
})

test.run()
