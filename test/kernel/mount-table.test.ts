import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import { openLoopWorld } from '../machine-world.ts'
import { withScratch } from '../scratch.ts'
import { suite } from '../suite.ts'

const test = suite('full mount table')
const doublings = 13
const spec = { sizeBytes: 32n << 20n, fsType: 'ext4', mkfsOptions: [] } as const

/** Shows the folder with all its mounts in a folder of its own, again and again, which doubles them each time. */
async function fillMountTable(folder: string): Promise<void> {
  const script = `for i in $(seq ${doublings}); do mkdir "$1/$i"; mount --rbind "$1" "$1/$i"; done`
  await run('sh', ['-e', '-c', script, 'sh', folder])
}

test('among 5,000 mounts of others, volumes are mounted, found, listed and unmounted as in an empty table', () =>
  withScratch(async (folder) => {
    const many = join(folder, 'many')
    await mkdir(many)
    await run('mount', ['-t', 'tmpfs', 'tmpfs', many])
    await run('mount', ['--make-private', many])
    const world = await openLoopWorld({ preallocate: false })
    const engine = new Engine(world.parts)
    try {
      await fillMountTable(many)
      assert.ok((await world.parts.mounts.read()).under(many).length > 5000)
      await engine.start()
      await engine.recover()
      for (const name of ['one', 'two']) {
        const target = world.target('a', name)
        const request = { name, target, readOnly: false, mountOptions: [] }
        assert.is((await engine.mount({ ...request, create: spec })).action, 'mounted')
        assert.is((await engine.mount(request)).action, 'unchanged')
      }
      assert.equal(
        (await engine.list()).map(({ name, mounts }) => [name, mounts.map(({ target }) => target)]),
        ['one', 'two'].map((name) => [name, [world.target('a', name)]]),
      )
      for (const name of ['one', 'two']) {
        assert.is((await engine.unmount(name, world.target('a', name))).action, 'unmounted')
        await engine.remove(name)
      }
      assert.equal(await world.leftovers(), [])
    } finally {
      await engine.stop()
      await world.close()
      await run('umount', ['--lazy', many])
    }
  }))

test.run()
