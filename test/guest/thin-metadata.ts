/** Runs in a guest: a thin pool whose metadata area runs out under its volumes. */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import { rejects } from '../contract.ts'
import { openLvmWorld, thinOptions } from '../machine-world.ts'
import { suite } from '../suite.ts'

const mebibyte = 1n << 20n
const volumeGroup = 'elastic-local-vg'
const pool = `${volumeGroup}/${thinOptions.poolName}`
const chunkBytes = 64 * 1024
const fillerMebibytes = 7400
const test = suite('thin metadata')
const spec = { sizeBytes: 64n * mebibyte, fsType: 'ext4', mkfsOptions: [] } as const

await run('pvcreate', ['--quiet', '/dev/vda'])
await run('vgcreate', ['--quiet', '--physicalextentsize', '1m', volumeGroup, '/dev/vda'])
// The smallest area there is, and small chunks, so that it is full before the data area is.
const areas = ['--size', '7600m', '--poolmetadatasize', '2m', '--chunksize', String(chunkBytes / 1024)]
await run('lvcreate', ['--yes', '--quiet', '--thin', ...areas, '--zero', 'y', '--errorwhenfull', 'y', pool])

const world = await openLvmWorld({ volumeGroup, thin: { ...thinOptions, overcommitRatio: 2 } })
const engine = new Engine(world.parts)
test.after(() => engine.stop())

/**
 * Writes a little into chunk after chunk, each of which takes its share of the metadata; says whether all took it. Nothing
 * else goes on meanwhile, and each write by way of another thread takes ten times as long.
 */
function fillMetadata(device: string): boolean {
  const file = openSync(device, 'r+')
  const block = Buffer.alloc(4096, 'x')
  try {
    for (let chunk = 0; chunk < (fillerMebibytes * 2 ** 20) / chunkBytes; chunk++) {
      writeSync(file, block, 0, block.length, chunk * chunkBytes)
      if (chunk % 1024 === 0) fsyncSync(file)
    }
    fsyncSync(file)
    return true
  } catch {
    return false
  } finally {
    closeSync(file)
  }
}

test('volumes keep their data when the metadata area is full, nothing new is made, and with more of it all goes on', async () => {
  await engine.start()
  const target = world.target('a', 'calm')
  const mount = () => engine.mount({ name: 'calm', target, readOnly: false, mountOptions: [] })
  const mustHoldData = async () => assert.is(await readFile(`${target}/data`, 'utf8'), 'precious')
  await engine.create('calm', spec)
  await mount()
  await writeFile(`${target}/data`, 'precious', { flush: true })
  // So that chunks are taken without being written whole.
  await run('lvchange', ['--quiet', '--zero', 'n', pool])
  const filler = ['--virtualsize', `${fillerMebibytes}m`, '--name', 'filler']
  await run('lvcreate', [
    '--yes',
    '--quiet',
    '--type',
    'thin',
    '--thinpool',
    thinOptions.poolName,
    ...filler,
    volumeGroup,
  ])
  assert.not.ok(fillMetadata(`/dev/${volumeGroup}/filler`), 'there is room for all')

  const full = /metadata area in use|unhealthy \(LVM calls it (metadata_read_only|failed)\)/
  const { problems, freeBytes } = await engine.report()
  assert.match(problems.join(), full)
  assert.is(freeBytes, 0n)
  await rejects('no-space', full, () => engine.create('late', spec))
  await rejects('no-space', full, () => engine.grow('calm', spec.sizeBytes * 2n))
  assert.equal(await world.parts.journal.read(), new Map())
  await mustHoldData()
  await engine.unmount('calm', target)

  // What lvmthin(7) says of a pool that ran out.
  await run('vgchange', ['--quiet', '--activate', 'n', volumeGroup])
  await run('lvextend', ['--quiet', '--poolmetadatasize', '+8m', pool])
  await run('lvconvert', ['--quiet', '--yes', '--repair', pool])
  await mount()
  await mustHoldData()
  await writeFile(`${target}/more`, 'more', { flush: true })
  await run('lvremove', ['--quiet', '--yes', `${volumeGroup}/filler`])
  await run('lvchange', ['--quiet', '--zero', 'y', pool])
  assert.equal((await engine.report()).problems, [])
  assert.is((await engine.create('late', spec)).action, 'created')
  await engine.unmount('calm', target)
  for (const name of ['calm', 'late']) await engine.remove(name)
  await world.close()
})

test.run()
