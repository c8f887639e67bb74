/** A disk under the folder of volumes that is unmounted while the daemon runs. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { type TestNode, withNode } from '../node.ts'
import { suite } from '../suite.ts'

const test = suite('a disk that is away')
const main = join(import.meta.dirname, '../../src/main.ts')
const options = { sizeBytes: String(32 << 20) }

/** Gives the folder of volumes a disk that can be unmounted and mounted again. */
async function mountDisk(node: TestNode) {
  const image = join(node.folder, 'disk.img')
  await run('truncate', ['--size', '256M', image])
  await run('mkfs.ext4', ['-q', image])
  const device = (await run('losetup', ['--find', '--show', image])).stdout.trim()
  const mount = () => run('mount', [device, node.volumesDir])
  await mount()
  return {
    device,
    mount,
    // The daemon has its lock there, so only this goes; a disk that fails goes likewise.
    unmount: () => run('umount', ['--lazy', node.volumesDir]),
  }
}

for (const driverKind of ['LOOP', 'BINDMOUNT'])
  test(
    `nothing is made, listed or removed while the disk of ${driverKind} volumes is not mounted, and then all is as before`,
    withNode(async (node) => {
      const disk = await mountDisk(node)
      const { output } = await node.start({ flags: { 'driver-kind': driverKind } })
      assert.is(await node.mount('a', options), 'Success')
      await writeFile(join(node.target('a'), 'file'), 'precious', { flush: true })

      await disk.unmount()
      const away = /Cannot use volumes on this node as what is at .*its disk is no longer mounted there; mount it again/
      assert.match(await node.mount('b', options), away)
      assert.match(await node.mount('b', options, 'two'), away)
      for (const [method, path, body] of [
        ['GET', '/v1/volumes'],
        ['GET', '/v1/volumes/one'],
        ['POST', '/v1/volumes/one/grow', { sizeBytes: String(64 << 20) }],
        ['DELETE', '/v1/volumes/one'],
        ['DELETE', '/v1/volumes/two'],
      ] as const) {
        const answer = await node.ask(method, path, body)
        assert.equal([answer.status, (answer.body.error as { code: string }).code], [503, 'unavailable'], path)
      }
      const [pool] = (await node.ask('GET', '/v1/pools')).body.pools as Record<string, unknown>[]
      assert.equal([pool?.freeBytes, pool?.sizeBytes], ['0', '0'])
      assert.match(String(pool?.problems), /its disk is no longer mounted there/)
      const places = [`--socket=${node.socket}`, `--volumes-dir=${node.volumesDir}`, `--kubelet-dir=${node.kubeletDir}`]
      const doctor = [main, 'doctor', `--driver-kind=${driverKind}`, ...places]
      const { stdout } = await run(process.execPath, doctor, { accept: [0, 1] })
      assert.match(stdout, /FAIL +pool .*its disk is no longer mounted there.*\n.*Mount it again/)
      assert.equal(await readdir(node.volumesDir), [])
      // Who has it mounted keeps it, and can let it go.
      assert.is(await readFile(join(node.target('a'), 'file'), 'utf8'), 'precious')
      assert.is(await node.unmount('a'), 'Success')
      assert.equal(
        (await node.mounts()).filter((line) => line.includes(node.kubeletDir)),
        [],
      )

      await disk.mount()
      for (const pod of ['a', 'b']) assert.is(await node.mount(pod, options), 'Success')
      assert.is(await readFile(join(node.target('b'), 'file'), 'utf8'), 'precious')
      const again = (await node.ask('GET', '/v1/pools')).body.pools as Record<string, unknown>[]
      assert.equal([again[0]?.id, again[0]?.problems, again[0]?.volumes], [pool?.id, [], 1])
      for (const pod of ['a', 'b']) assert.is(await node.unmount(pod), 'Success')
      assert.is((await node.ask('DELETE', '/v1/volumes/one')).status, 200, output())
      assert.equal(await node.traces(), [disk.device])
    }),
  )

test.run()
