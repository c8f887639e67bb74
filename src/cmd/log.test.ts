import { PassThrough } from 'node:stream'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { withFields } from '../log.ts'
import { buildLogLevelRoutes } from '../status/log-level.ts'
import { type LogParts, openLog } from './log.ts'

const test = suite('log')

/** A log, and what it wrote since it was asked last. */
function open(format: LogParts['format'], level: LogParts['level'] = 'info') {
  const stderr = new PassThrough()
  const log = openLog({ format, level, stderr: stderr as unknown as NodeJS.WriteStream })
  return { log, wrote: () => String(stderr.read() ?? '') }
}

test('as JSON, a line is one object: time, level, message, and what it is about', () => {
  const { log, wrote } = open('json')
  log.info('Made volume "pvc-1".\nIt is new.', { volume: 'pvc-1', claim: undefined, sizeBytes: 5n })
  log.warn('Cannot.')
  const [first = '', second = '', end] = wrote().split('\n')
  const { time, ...rest } = JSON.parse(first)
  assert.is(new Date(time).toISOString(), time)
  assert.equal(rest, { level: 'info', message: 'Made volume "pvc-1".\nIt is new.', volume: 'pvc-1', sizeBytes: '5' })
  assert.equal([JSON.parse(second).level, end], ['warn', ''])
})

test('as text, a line is the message, with what it does not name itself', () => {
  const { log, wrote } = open('text')
  log.info('Made volume pvc-1.', { volume: 'pvc-1', claim: 'default/data', pod: undefined, node: 'node-1' })
  assert.match(wrote(), /^\[info\] Made volume pvc-1\. claim=default\/data\n$/)
})

test('the level says what is shown, and can be changed at any time', () => {
  const { log, wrote } = open('json', 'warn')
  const say = () => {
    for (const level of ['debug', 'info', 'warn', 'error'] as const) log[level](level)
    const lines = wrote().trim().split('\n')
    return lines.map((line) => JSON.parse(line).level)
  }
  assert.equal(say(), ['warn', 'error'])
  log.level = 'debug'
  assert.equal(say(), ['debug', 'info', 'warn', 'error'])
  log.level = 'error'
  assert.equal([log.level, ...say()], ['error', 'error'])
})

test('withFields() says the same of every line, unless the line says otherwise, and has the level of its log', () => {
  const { log, wrote } = open('json')
  const named = withFields(log, { node: 'node-1' })
  named.info('one', { volume: 'pvc-1' })
  named.warn('two', { node: 'node-2' })
  const [one = '', two = ''] = wrote().split('\n')
  assert.equal([JSON.parse(one).node, JSON.parse(one).volume, JSON.parse(two).node], ['node-1', 'pvc-1', 'node-2'])
  named.level = 'debug'
  named.debug('three')
  assert.match(wrote(), 'three')
})

test('a line that is said again and again says how often', () => {
  const { log, wrote } = open('json')
  for (let times = 0; times < 20; times += 1) log.info('again', { volume: 'pvc-1' })
  log.info('else')
  const lines = wrote()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.ok(lines.length < 20)
  assert.ok(lines.some(({ message, volume }) => /^again \(repeated \d+ times\)$/.test(message) && volume === 'pvc-1'))
})

test('/v1/log-level tells and changes the level, and refuses what is none', async () => {
  const { log } = open('json')
  const app = buildLogLevelRoutes(log)
  const ask = async (body?: string) => {
    const init = body === undefined ? {} : { method: 'POST', body }
    const response = await app.request('/v1/log-level', init)
    return [response.status, (await response.json()) as object] as const
  }
  assert.equal(await ask(), [200, { level: 'info' }])
  assert.equal(await ask('{"level":"debug"}'), [200, { level: 'debug' }])
  assert.is(log.level, 'debug')
  for (const wrong of ['{"level":"loud"}', '{}', 'null', 'level', '']) {
    const [status, body] = await ask(wrong)
    assert.is(status, 400)
    assert.match(JSON.stringify(body), /"code":"invalid"/)
  }
  assert.is(log.level, 'debug')
})

test.run()
