/** What others can do to a daemon by its socket: nothing to those who wait for an answer. */
import { chmod } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { ClientError, request } from '../../src/daemon/client.ts'
import { type TestNode, withNode } from '../node.ts'
import { suite } from '../suite.ts'
import { thrownBy } from '../thrown.ts'

const test = suite('socket of the daemon')
const mebibyte = 2 ** 20
const small = { sizeBytes: String(32 * mebibyte), 'kubernetes.io/fsType': 'ext4' }
const head = 'POST /mount HTTP/1.1\r\nhost: x\r\n'
const halfHead = `${head}content-type: app`
const halfBody = `${head}content-length: 1000\r\n\r\n{"targetDir":`

/** A connection that sends this and then waits; `closed` resolves when it ends, with what was answered. */
function hold(node: TestNode, text: string): { socket: Socket; closed: Promise<string> } {
  const socket = connect({ path: node.socket })
  let answer = ''
  socket.setEncoding('utf8').on('data', (chunk) => {
    answer += chunk
  })
  // Not every one of a flood gets in.
  socket.on('error', () => {})
  if (text !== '') socket.write(text)
  return { socket, closed: new Promise((resolve) => socket.once('close', () => resolve(answer))) }
}

/** What others do meanwhile; each of these throws when the daemon is silent for 10 s. */
async function others(node: TestNode, pod: string): Promise<void> {
  assert.is(await node.mount(pod, small, pod), 'Success')
  assert.is((await node.ask('GET', `/v1/volumes/${pod}`)).status, 200)
  assert.is(await node.unmount(pod, pod), 'Success')
  assert.equal((await node.ask('DELETE', `/v1/volumes/${pod}`)).body, { action: 'removed' })
}

test(
  'no user but root can use the socket, even one who can see it',
  withNode(async (node) => {
    await node.start()
    for (const folder of [node.folder, dirname(node.socket)]) await chmod(folder, 0o755)
    const nobody = 65534
    process.seteuid?.(nobody)
    try {
      const error = await thrownBy(ClientError, () =>
        request({ socketPath: node.socket, method: 'GET', path: '/healthz' }),
      )
      assert.is(error.code, 'forbidden')
    } finally {
      process.seteuid?.(0)
    }
    assert.is((await node.ask('GET', '/healthz')).status, 200)
  }),
)

for (const [title, text] of [
  ['that send nothing', ''],
  ['with half a head', halfHead],
  ['with half a body', halfBody],
  ['that read no answer', 'GET /v1/volumes HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(5)],
] as const)
  test(
    `10,000 connections ${title} keep nobody from being served, nor the daemon from stopping`,
    withNode(async (node) => {
      const daemon = await node.start()
      const held: Socket[] = []
      for (let i = 0; i < 10_000; i++) {
        const { socket } = hold(node, text)
        socket.pause()
        held.push(socket)
        if (i % 100 === 0) await turn()
      }
      await others(node, 'a')
      await others(node, 'b')
      assert.is(await daemon.end('SIGTERM'), 0)
      for (const socket of held) socket.destroy()
      assert.equal(await node.traces(), [])
    }),
  )

test(
  'a request that stays half is ended, and one whose work takes longer is not',
  withNode(async (node) => {
    await node.start()
    const { begunBy, letGo } = await node.hold('mkfs.ext4')
    const mounting = node.mount('a', small)
    await begunBy(mounting)
    const halves = ['', halfHead, halfBody].map((text) => hold(node, text).closed)
    for (const answer of await Promise.all(halves)) assert.not.match(answer, /Success/)
    await letGo()
    assert.is(await mounting, 'Success')
  }),
)

test(
  'bodies of 10 MB, 50 at a time, are refused while others are served',
  withNode(async (node) => {
    await node.start()
    const body = Buffer.alloc(10 * mebibyte, 'x')
    const refused = Array.from({ length: 50 }, () => {
      const { socket, closed } = hold(node, `${head}connection: close\r\ncontent-length: ${body.length}\r\n\r\n`)
      socket.write(body)
      return closed
    })
    await others(node, 'b')
    for (const answer of await Promise.all(refused)) assert.match(answer, /^HTTP\/1\.1 413 /)
  }),
)

test(
  '800 people who list the volumes do not hold up the kubelet, and each gets an answer',
  withNode(async (node) => {
    await node.start()
    const lists = Promise.all(Array.from({ length: 800 }, () => node.ask('GET', '/v1/volumes')))
    await others(node, 'b')
    assert.equal([...new Set((await lists).map(({ status }) => status))], [200])
  }),
)

test.run()
