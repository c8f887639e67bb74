import { PassThrough } from 'node:stream'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { buildScreen } from './screen.ts'

const test = suite('screen')

/** Streams that are a terminal or not, and what was written to them. */
function openStreams(terminal: boolean, env: NodeJS.ProcessEnv = {}) {
  const stream = () => Object.assign(new PassThrough(), { isTTY: terminal })
  const streams = { stdin: stream(), stdout: stream(), stderr: stream(), env }
  const textOf = (name: 'stdout' | 'stderr') => String(streams[name].read() ?? '')
  return { streams, textOf, screen: buildScreen(streams) }
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

test('progress() shows on a terminal what goes on, and leaves an empty line', async () => {
  const { screen, textOf } = openStreams(true)
  assert.is(await screen.progress('Growing', () => sleep(1300).then(() => 7)), 7)
  const text = textOf('stderr')
  assert.match(text, 'Growing')
  assert.match(text, '1s')
  assert.ok(text.endsWith('\r\u001b[2K'))
  assert.is(textOf('stdout'), '')
})

test('progress() says nothing of quick work, nor without a terminal, nor on one that is dumb', async () => {
  const quick = openStreams(true)
  await quick.screen.progress('Growing', async () => {})
  assert.is(quick.textOf('stderr'), '')
  const silent = [openStreams(false), openStreams(true, { TERM: 'dumb' })]
  await Promise.all(silent.map(({ screen }) => screen.progress('Growing', () => sleep(500))))
  assert.equal(
    silent.map(({ textOf }) => textOf('stderr')),
    ['', ''],
  )
})

test('progress() passes on what the work throws, and clears its line', async () => {
  const { screen, textOf } = openStreams(true)
  const work = async () => {
    await sleep(500)
    throw new Error('no')
  }
  await screen.progress('Growing', work).then(assert.unreachable, (error) => assert.is(error.message, 'no'))
  assert.ok(textOf('stderr').endsWith('\r\u001b[2K'))
})

test('confirm() takes y and yes for yes, and everything else for no', async () => {
  for (const [answer, expected] of [
    ['y', true],
    ['YES', true],
    ['', false],
    ['n', false],
    ['yeah', false],
  ] as const) {
    const { screen, streams, textOf } = openStreams(true)
    const confirmed = screen.confirm('Remove?')
    streams.stdin.write(`${answer}\n`)
    assert.is(await confirmed, expected, answer)
    assert.match(textOf('stderr'), 'Remove? [y/N] ')
  }
})

test('confirm() takes the end of the input for no', async () => {
  const { screen, streams } = openStreams(true)
  const confirmed = screen.confirm('Remove?')
  streams.stdin.end()
  assert.is(await confirmed, false)
})

test('confirm() takes Ctrl-C for no', async () => {
  const { screen, streams } = openStreams(true)
  const confirmed = screen.confirm('Remove?')
  streams.stdin.write('\u0003')
  assert.is(await confirmed, false)
})

test('confirm() asks nobody where there is no terminal', async () => {
  const { screen, textOf } = openStreams(false)
  assert.is(await screen.confirm('Remove?'), undefined)
  assert.is(textOf('stderr'), '')
})

test.run()
