/** Runs in a guest: a thin pool that runs out of room, and what its volumes can still do. */
import { open, readFile, writeFile } from 'node:fs/promises'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import { rejects } from '../contract.ts'
import { openLvmWorld, thinOptions } from '../machine-world.ts'
import { suite } from '../suite.ts'

const mebibyte = 1n << 20n
const volumeGroup = 'elastic-local-vg'
const test = suite('full thin pool')
const spec = (sizeBytes: bigint) => ({ sizeBytes, fsType: 'ext4', mkfsOptions: [] }) as const
const fillMebibytes = 700

await run('pvcreate', ['--quiet', '/dev/vda'])
await run('vgcreate', ['--quiet', volumeGroup, '/dev/vda'])
// Most of the disk is set aside, so that little writing fills the pool.
await run('lvcreate', ['--yes', '--quiet', '--name', 'aside', '--size', '7500m', volumeGroup])

/** Writes until the pool or the filesystem refuses; gives the error's code. */
async function fill(path: string): Promise<string> {
  const file = await open(path, 'w')
  const block = Buffer.alloc(Number(mebibyte), 'x')
  try {
    for (let written = 0; written < fillMebibytes; written += 1) {
      await file.write(block)
      if (written % 16 === 0) await file.sync()
    }
    await file.sync()
    return 'none'
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error)
  } finally {
    await file.close().catch(() => {})
  }
}

test('a thin pool refuses what goes over its overcommit ratio', async () => {
  const world = await openLvmWorld({ volumeGroup, thin: { ...thinOptions, overcommitRatio: 2 } })
  const engine = new Engine(world.parts)
  await engine.start()
  const { freeBytes } = await engine.report()
  await engine.create('first', spec((freeBytes * 2n) / 3n))
  await rejects('no-space', /overcommit ratio 2/, () => engine.create('second', spec((freeBytes * 2n) / 3n)))
  await engine.create('second', spec(freeBytes / 4n))
  await rejects('no-space', /overcommit ratio 2/, () => engine.grow('second', freeBytes))
  const report = await engine.report()
  assert.ok(report.allocatedBytes <= report.sizeBytes)
  assert.is(report.thin?.overcommitRatio, 2)
  await engine.remove('first')
  await engine.remove('second')
  await engine.stop()
  await world.close()
})

test('above the watermark nothing new is created, volumes of a full pool fail cleanly, and their data stays', async () => {
  const world = await openLvmWorld({ volumeGroup, thin: { ...thinOptions, overcommitRatio: 3 } })
  const engine = new Engine(world.parts)
  await engine.start()
  const request = (name: string) => ({ name, target: world.target('a', name), readOnly: false, mountOptions: [] })
  for (const name of ['calm', 'greedy']) {
    await engine.create(name, spec(900n * mebibyte))
    await engine.mount(request(name))
  }
  const precious = `${world.target('a', 'calm')}/data`
  await writeFile(precious, 'precious', { flush: true })
  assert.is.not(await fill(`${world.target('a', 'greedy')}/data`), 'none')
  await rejects('no-space', /nothing new is created from 90 % on/, () => engine.create('late', spec(16n * mebibyte)))
  await rejects('no-space', /nothing new is created/, () => engine.grow('calm', 1000n * mebibyte))
  const report = await engine.report()
  assert.ok((report.thin?.dataPercent ?? 0) > 90)
  assert.is(report.freeBytes, 0n)
  assert.ok(
    report.problems.some((problem) => /data area in use/.test(problem)),
    report.problems.join(),
  )
  assert.is(await readFile(precious, 'utf8'), 'precious')
  for (const name of ['calm', 'greedy']) await engine.unmount(name, world.target('a', name))
  await engine.remove('greedy')
  await engine.mount(request('calm'))
  assert.is(await readFile(precious, 'utf8'), 'precious')
  await writeFile(precious, 'still writable', { flush: true })
  await engine.unmount('calm', world.target('a', 'calm'))
  assert.is((await engine.create('late', spec(16n * mebibyte))).action, 'created')
  await engine.remove('late')
  await engine.remove('calm')
  assert.equal(await world.leftovers().then((names) => names.filter((name) => name !== 'aside')), [])
  await engine.stop()
  await world.close()
})

test.run()
