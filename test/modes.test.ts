/** Both modes of the flex driver, played through with the built executable and a daemon, as a kubelet does. */
import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import * as assert from 'uvu/assert'
import { build } from '../build.mjs'
import { type TestNode, withNode } from './node.ts'
import { suite } from './suite.ts'

const test = suite('driver modes')
const executable = await build({ log: () => {} })
const volume = 'pvc-modes'
const sizeBytes = 320 * 2 ** 20
const options = JSON.stringify({
  'kubernetes.io/fsType': 'xfs',
  'kubernetes.io/readwrite': 'rw',
  'kubernetes.io/pvOrVolumeName': volume,
  sizeBytes: String(sizeBytes),
})

interface Answer {
  status: string
  device?: string
  attached?: boolean
  volumeNewSize?: number
  capabilities?: { attach: boolean }
}

/** Starts the built daemon on the node, installs the driver, and gives what makes a call-out that must succeed. */
async function install(node: TestNode, ...flags: string[]): Promise<(...args: string[]) => Promise<Answer>> {
  const folders = ['--volumes-dir', node.volumesDir, '--kubelet-dir', node.kubeletDir, '--socket', node.socket]
  const daemon = node.spawn([executable, 'daemon', '--standalone', '--driver-kind', 'LOOP', ...folders])
  await daemon.says(/Serving/)
  const plugins = join(node.folder, 'plugins')
  await mkdir(plugins)
  await promisify(execFile)(executable, ['install', '--plugin-dir', plugins, '--socket', node.socket, ...flags])
  const driver = join(plugins, 'volumes.k8s.elastic.co~elastic-local/elastic-local')
  return async (...args) => {
    const { stdout } = await promisify(execFile)(driver, args)
    const answer: Answer = JSON.parse(stdout)
    assert.is(answer.status, 'Success', `${args[0]}: ${stdout}`)
    return answer
  }
}

test(
  'by default, mount and unmount do all',
  withNode(async (node) => {
    const call = await install(node)
    assert.is((await call('init')).capabilities?.attach, false)
    const [a, b] = [node.target('a', volume), node.target('b', volume)]
    await call('mount', a, options)
    await call('mount', b, options)
    await writeFile(join(a, 'file'), 'precious')
    await call('expandvolume', options, a, String(2 * sizeBytes), String(sizeBytes))
    assert.is(
      (await call('expandfs', options, '', a, String(2 * sizeBytes), String(sizeBytes))).volumeNewSize,
      2 * sizeBytes,
    )
    await call('unmount', a)
    assert.is(await readFile(join(b, 'file'), 'utf8'), 'precious')
    await call('unmount', b)
    assert.equal(await node.mounts(), [])
    assert.equal(await node.loopDevices(), [])
  }),
)

test(
  'with --attach, the device is given, mounted on the global path, shown to pods, and all of it undone',
  withNode(async (node) => {
    const call = await install(node, '--attach')
    assert.is((await call('init')).capabilities?.attach, true)
    const global = join(
      node.kubeletDir,
      'plugins/kubernetes.io/flexvolume/volumes.k8s.elastic.co/elastic-local/mounts',
      volume,
    )
    const { device: attached = '' } = await call('attach', options, 'node-1')
    assert.is((await call('isattached', options, 'node-1')).attached, true)
    for (let round = 0; round < 2; round++) {
      const { device = '' } = await call('waitforattach', attached, options)
      assert.match(device, /^\/dev\/loop[0-9]+$/)
      await call('mountdevice', global, device, options)
      const pods = ['a', 'b'].map((pod) => node.target(pod, volume))
      for (const target of pods) await call('mount', target, options)
      const file = join(pods[0] ?? '', 'file')
      if (round === 0) await writeFile(file, 'precious')
      assert.is(await readFile(join(global, 'file'), 'utf8'), 'precious')
      await call('expandfs', options, device, global, String(2 * sizeBytes), String(sizeBytes))
      for (const target of pods) await call('unmount', target)
      assert.is(await readFile(join(global, 'file'), 'utf8'), 'precious')
      await call('unmountdevice', global)
      await call('unmountdevice', global)
      assert.equal(await node.mounts(), [])
      assert.equal(await node.loopDevices(), [])
    }
    await call('detach', volume, 'node-1')
  }),
)

test.run()
