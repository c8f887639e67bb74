/** Runs in a guest: a volume group that is missing, shared with others, or whose description no longer fits. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { CommandError, run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import { rejects } from '../contract.ts'
import { openLvmWorld, thinOptions } from '../machine-world.ts'
import { countCalls, countStarts, startedByCalls } from '../program-starts.ts'
import { suite } from '../suite.ts'
import { thrownBy } from '../thrown.ts'

const main = join(import.meta.dirname, '../../src/main.ts')
const mebibyte = 1n << 20n
const spec = { sizeBytes: 8n * mebibyte, fsType: 'ext4', mkfsOptions: [] } as const
const test = suite('volume groups')

/** Process ids of the `lvm` shells. */
async function shells(): Promise<string[]> {
  return (await run('pgrep', ['-x', 'lvm'], { accept: [1] })).stdout.split('\n').filter(Boolean)
}

/** Kills the shells that run now, and waits until they are gone, so that what is asked next goes to a new one. */
async function killShells(): Promise<void> {
  const killed = await shells()
  for (const pid of killed) process.kill(Number(pid), 'SIGKILL')
  while ((await shells()).some((pid) => killed.includes(pid))) await new Promise(setImmediate)
}

test('a missing volume group is an error that says how to make it', async () => {
  const world = await openLvmWorld({ volumeGroup: 'missing-vg' })
  const engine = new Engine(world.parts)
  await rejects('unavailable', /create-vg --lvm-volume-group missing-vg/s, () => engine.start())
  await engine.stop()
  await world.close()
})

test('create-vg makes the group of a blank disk, once; volumes are made in it, and others may not have the disk', async () => {
  const createVg = async (...args: string[]) =>
    (await run(process.execPath, [main, 'create-vg', ...args])).stdout.trim().split('\n').at(-1)
  assert.is(await createVg('/dev/vda'), 'Created volume group elastic-local-vg.')
  assert.match(String(await createVg('/dev/vda')), /nothing to do/)
  const world = await openLvmWorld({ volumeGroup: 'elastic-local-vg' })
  const engine = new Engine(world.parts)
  await engine.start()
  await engine.create('one', spec)
  const { message } = await thrownBy(CommandError, () => createVg('--lvm-volume-group', 'other-vg', '/dev/vda'))
  assert.match(message, 'Cannot use /dev/vda as it is part of volume group elastic-local-vg.')
  await engine.remove('one')
  await engine.stop()
  await world.close()
  await run('vgremove', ['--yes', 'elastic-local-vg'])
  await run('pvremove', ['--yes', '/dev/vda'])
})

test('a group whose metadata area fills refuses new volumes early, and what is there goes on', async () => {
  await run('pvcreate', ['--quiet', '--yes', '--metadatasize', '32k', '--dataalignment', '32k', '/dev/vda'])
  await run('vgcreate', ['--quiet', 'small-vg', '/dev/vda'])
  const world = await openLvmWorld({ volumeGroup: 'small-vg' })
  const { pool } = world.parts
  await pool.start()
  let made = 0
  const makeAll = async () => {
    for (; made < 2000; made += 1) await pool.create(`v${made}`, { ...spec, id: `id-${made}` })
  }
  await rejects('no-space', /metadata area of volume group small-vg is nearly full/, makeAll)
  assert.ok(made > 20, `${made} volumes were made before`)
  assert.ok((await pool.report()).problems.some((problem) => /metadata area/.test(problem)))
  assert.is((await pool.grow('v0', 12n * mebibyte)).action, 'grown')
  for (let index = 0; index < made; index += 1) assert.is((await pool.remove(`v${index}`)).action, 'removed')
  assert.is((await pool.create('again', { ...spec, id: 'again' })).action, 'created')
  await pool.remove('again')
  await pool.stop()
  await world.close()
  await run('vgremove', ['--yes', 'small-vg'])
  await run('pvremove', ['--yes', '/dev/vda'])
})

test('a shell that is killed in the middle is replaced, and asking again ends well', async () => {
  await run('pvcreate', ['--quiet', '--yes', '/dev/vda'])
  await run('vgcreate', ['--quiet', 'elastic-local-vg', '/dev/vda'])
  const world = await openLvmWorld({ volumeGroup: 'elastic-local-vg' })
  const engine = new Engine(world.parts)
  await engine.start()
  for (let index = 0; index < 5; index += 1) {
    const name = `cut-${index}`
    const creation = engine.create(name, spec).then(
      () => 'made',
      (error) => String(error),
    )
    await new Promise((resolve) => setTimeout(resolve, index * 25))
    await killShells()
    await creation
    assert.is.not((await engine.create(name, spec)).volume.sizeBytes, 0n)
    assert.is((await engine.find(name))?.state, 'ready')
    await engine.mount({ name, target: world.target('a', name), readOnly: false, mountOptions: [] })
    await engine.unmount(name, world.target('a', name))
    await engine.remove(name)
  }
  assert.equal(await world.leftovers(), [])
  await engine.stop()
  await world.close()
})

test('a growth whose shell is killed in the middle is finished by asking again, and writing goes on', async () => {
  const world = await openLvmWorld({ volumeGroup: 'elastic-local-vg' })
  const engine = new Engine(world.parts)
  await engine.start()
  const target = world.target('a', 'growing')
  await engine.create('growing', { ...spec, sizeBytes: 64n * mebibyte })
  await engine.mount({ name: 'growing', target, readOnly: false, mountOptions: [] })
  let sizeBytes = 64n * mebibyte
  for (let delayMs = 0; delayMs <= 240; delayMs += process.env.LONG ? 20 : 60) {
    sizeBytes += 16n * mebibyte
    const growth = engine.grow('growing', sizeBytes).catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, delayMs))
    await killShells()
    await growth
    assert.is((await engine.grow('growing', sizeBytes)).volume.sizeBytes, sizeBytes)
    await writeFile(`${target}/data`, String(sizeBytes), { flush: true })
    assert.ok(((await engine.find('growing'))?.usage?.sizeBytes ?? 0n) > (sizeBytes * 7n) / 10n)
  }
  await engine.unmount('growing', target)
  await engine.remove('growing')
  await engine.stop()
  await world.close()
})

for (const thin of [undefined, thinOptions])
  test(`a ${thin ? 'thin' : 'linear'} volume is made, mounted, unmounted and removed by few programs, and few commands of the LVM shell`, async () => {
    const started: string[] = []
    const world = await openLvmWorld({
      volumeGroup: 'elastic-local-vg',
      thin,
      observe: ({ what }) => started.push(what),
    })
    assert.equal(await countStarts(world, started, 'ext4'), {
      make: ['vgs', ...(thin ? ['lvs'] : []), 'lvcreate', 'mkfs.ext4'],
      mount: ['mount', 'mount'],
      unmount: ['umount', 'umount'],
      'mount again': ['mount', 'mount'],
      'unmount again': ['umount', 'umount'],
      remove: ['vgs', 'lvs', ...(thin ? [] : ['blkdiscard']), 'vgs', 'lvs', 'lvremove'],
    })
    assert.equal(await countCalls(world, started), startedByCalls)
    await world.close()
  })

test.run()
