/** Folders that cannot be written: the whole root, or that of volumes. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { type Daemon, type TestNode, withNode } from '../node.ts'
import { suite } from '../suite.ts'

const test = suite('read-only filesystems')
const main = join(import.meta.dirname, '../../src/main.ts')
const options = { sizeBytes: String(32 << 20) }
/** On the root filesystem, and never made. */
const nowhere = '/elastic-local-test-read-only'
const mountTmpfs = (folder: string) => run('mount', ['-t', 'tmpfs', 'tmpfs', folder])

/** Starts a daemon where nothing of the root filesystem can be written, as with an image that is the same on each node. */
function launch(node: TestNode, flags: Record<string, string>): Daemon {
  const script = 'mount -o remount,bind,ro / && exec "$@"'
  const all = Object.entries({ 'kubelet-dir': node.kubeletDir, 'driver-kind': 'LOOP', standalone: 'true', ...flags })
  return node.spawn([
    ...['unshare', '--mount', '--propagation', 'private', '--', 'sh', '-c', script, 'sh'],
    ...[process.execPath, main, 'daemon', ...all.map(([name, value]) => `--${name}=${value}`)],
  ])
}

test(
  'on a read-only root the daemon says which folder it cannot make, and how to name another',
  withNode(async (node) => {
    await mountTmpfs(node.volumesDir)
    for (const flags of [
      { 'volumes-dir': `${nowhere}/volumes`, socket: join(node.volumesDir, 'socket') },
      { 'volumes-dir': node.volumesDir, socket: `${nowhere}/run/socket` },
    ]) {
      const daemon = launch(node, flags)
      assert.is(await daemon.ended, 1)
      assert.match(
        daemon.output(),
        /Cannot create \/elastic-local-test-read-only\/\S+: EROFS.* read-only.*--volumes-dir and --socket/,
      )
    }
  }),
)

test(
  'on a read-only root volumes are served from folders that can be written',
  withNode(async (node) => {
    for (const folder of [node.volumesDir, node.kubeletDir]) await mountTmpfs(folder)
    const volumesDir = join(node.volumesDir, 'volumes')
    const socket = join(node.volumesDir, 'run/socket')
    await mkdir(volumesDir)
    const daemon = launch(node, { 'volumes-dir': volumesDir, socket })
    await daemon.says(/Serving/)
    const call = async (path: string) =>
      (await node.ask('POST', path, { targetDir: node.target('a'), options }, socket)).body
    assert.equal(await call('/mount'), { status: 'Success' })
    await writeFile(join(`/proc/${daemon.child.pid}/root`, node.target('a'), 'file'), 'text')
    assert.equal(await call('/unmount'), { status: 'Success' })
    assert.equal((await node.ask('DELETE', '/v1/volumes/one', undefined, socket)).body, { action: 'removed' })
    assert.is(await daemon.end('SIGTERM'), 0)
  }),
)

test(
  'a daemon that starts on a read-only folder of volumes shows what is there, says what it cannot do, and does it when it can',
  withNode(async (node) => {
    await mountTmpfs(node.volumesDir)
    const first = await node.start()
    assert.is(await node.mount('a', options), 'Success')
    await writeFile(join(node.target('a'), 'file'), 'precious', { flush: true })
    assert.is(await node.unmount('a'), 'Success')
    await first.end('SIGTERM')

    await run('mount', ['-o', 'remount,ro', node.volumesDir])
    await node.start()
    const readOnly =
      /read-only.*; check the kernel log for why that filesystem is read-only|cannot be written; check the/
    assert.is((await node.show()).name, 'one')
    assert.match(await node.mount('a', options), readOnly)
    assert.match(await node.mount('b', options, 'two'), readOnly)
    const growth = { sizeBytes: String(64 << 20) }
    for (const [method, path, body] of [
      ['POST', '/v1/volumes/one/grow', growth],
      ['DELETE', '/v1/volumes/one'],
    ] as const)
      assert.match(((await node.ask(method, path, body)).body.error as { message: string }).message, readOnly)
    assert.is(await node.unmount('a'), 'Success')
    assert.equal(await node.loopDevices(), [])

    await run('mount', ['-o', 'remount,rw', node.volumesDir])
    assert.is(await node.mount('a', options), 'Success')
    assert.is(await readFile(join(node.target('a'), 'file'), 'utf8'), 'precious')
    assert.is(await node.unmount('a'), 'Success')
    assert.equal((await node.ask('DELETE', '/v1/volumes/one')).body, { action: 'removed' })
  }),
)

test.run()
