/** Runs in a guest: what others do in the volume group, and to the volume group, that a daemon uses. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { openMachine } from '../../src/cmd/machine.ts'
import { buildClaim } from '../../src/lvm/claim.ts'
import { run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import { rejects } from '../contract.ts'
import { buildLvmPool, openLvmWorld, thinOptions } from '../machine-world.ts'
import { patience } from '../patience.ts'
import { suite } from '../suite.ts'
import { FaultyDisk } from './faulty-disk.ts'

const mebibyte = 1n << 20n
const volumeGroup = 'elastic-local-vg'
const spec = { sizeBytes: 16n * mebibyte, fsType: 'ext4', mkfsOptions: [] } as const
const test = suite("others' doings")
const lvm = async (...args: string[]) => (await run('lvm', args)).stdout.trim()
const names = async () => (await lvm('lvs', '--noheadings', '-o', 'lv_name', volumeGroup)).split(/\s+/)

const disks = [await FaultyDisk.make('one', 1000), await FaultyDisk.make('two', 1000)]
const [first = '', second = ''] = disks.map(({ path }) => path)
await lvm('vgcreate', '--quiet', volumeGroup, first)

test('a volume that others have made a snapshot of stays whole, with its data, until that is gone', async () => {
  const world = await openLvmWorld({ volumeGroup })
  const engine = new Engine(world.parts)
  await engine.start()
  const target = world.target('a', 'one')
  const mount = () => engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
  await engine.create('one', spec)
  await mount()
  await writeFile(`${target}/data`, 'precious', { flush: true })
  await engine.unmount('one', target)
  await lvm('lvcreate', '--yes', '--quiet', '--snapshot', '--name', 'theirs', '--size', '8m', `${volumeGroup}/one`)
  await rejects('busy', /depends on it: elastic-local-vg\/theirs; remove that first/, () => engine.remove('one'))
  assert.equal(await names(), ['one', 'theirs'])
  await mount()
  assert.is(await readFile(`${target}/data`, 'utf8'), 'precious')
  await engine.unmount('one', target)
  await lvm('lvremove', '--yes', '--quiet', `${volumeGroup}/theirs`)
  // Another that LVM would take along: thin volumes that show the blocks of this one.
  await lvm('lvcreate', '--yes', '--quiet', '--thin', '--extents', '20', `${volumeGroup}/their-pool`)
  for (const change of [
    ['--activate', 'n'],
    ['--permission', 'r'],
  ])
    await lvm('lvchange', ...change, `${volumeGroup}/one`)
  await lvm(
    'lvcreate',
    '--yes',
    '--quiet',
    '--type',
    'thin',
    '--name',
    'shows',
    '--thinpool',
    'their-pool',
    `${volumeGroup}/one`,
  )
  await rejects('busy', /depends on it: elastic-local-vg\/shows; remove that first/, () => engine.remove('one'))
  await lvm('lvremove', '--yes', '--quiet', `${volumeGroup}/shows`, `${volumeGroup}/their-pool`)
  await lvm('lvchange', '--permission', 'rw', `${volumeGroup}/one`)
  assert.is((await engine.remove('one')).action, 'removed')
  await engine.stop()
  await world.close()
})

test('a volume that a process has open, or mounted where no table shows it, stays with its data until that is over', async () => {
  const world = await openLvmWorld({ volumeGroup })
  const engine = new Engine(world.parts)
  await engine.start()
  const target = world.target('a', 'one')
  const mount = () => engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
  await engine.create('one', spec)
  await mount()
  await writeFile(`${target}/data`, 'precious', { flush: true })
  await engine.unmount('one', target)
  const { path } = await engine.attach('one')
  const isKept = async (said: RegExp) => {
    await rejects('busy', said, () => engine.remove('one'))
    assert.equal(await names(), ['one'])
    // A daemon that was started anew mounts it all the same.
    const next = new Engine(await world.renew())
    await next.start()
    await next.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
    assert.is(await readFile(`${target}/data`, 'utf8'), 'precious')
    await next.unmount('one', target)
    await next.stop()
  }
  const holder = await open(path)
  await isKept(/as process \d+ \(.*\) has \/dev\/\S+ open; stop that first/)
  await holder.close()
  const script = 'mount "$1" /mnt && echo ready && read line'
  const other = spawn('unshare', ['--mount', 'sh', '-c', script, 'sh', path], { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(other.stdout, 'data')
  await isKept(/as process \d+ \(sh\) has it mounted on \/mnt; stop that first/)
  other.stdin.end('\n')
  await once(other, 'exit')
  assert.is((await engine.remove('one')).action, 'removed')
  await engine.stop()
  await world.close()
})

test("a start activates what is ours, and leaves others' volumes as they are", async () => {
  const world = await openLvmWorld({ volumeGroup })
  const engine = new Engine(world.parts)
  await engine.start()
  for (const name of ['one', 'two']) await engine.create(name, spec)
  await lvm(
    'lvcreate',
    '--yes',
    '--quiet',
    '--name',
    'theirs',
    '--size',
    '8m',
    '--addtag',
    'elastic-local.id=x',
    volumeGroup,
  )
  await lvm('vgchange', '--activate', 'n', volumeGroup)
  await engine.stop()
  const next = new Engine(world.parts)
  await next.start()
  const active = await lvm('lvs', '--noheadings', '-o', 'lv_name', '--select', 'lv_active=active', volumeGroup)
  assert.equal(active.split(/\s+/), ['one', 'two'])
  await lvm('lvremove', '--yes', '--quiet', `${volumeGroup}/theirs`)
  for (const name of ['one', 'two']) await next.remove(name)
  await next.stop()
  await world.close()
})

test('a volume, or the thin pool of volumes, that was left suspended is resumed by a look, and writers go on', async () => {
  const world = await openLvmWorld({ volumeGroup, thin: thinOptions })
  const engine = new Engine(world.parts)
  await engine.start()
  const target = world.target('a', 'one')
  await engine.create('one', spec)
  await engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
  for (const device of ['one', `${thinOptions.poolName}-tpool`]) {
    const name = `elastic--local--vg-${device}`
    await run('dmsetup', ['suspend', '--noudevsync', '--nolockfs', name])
    const writing = writeFile(`${target}/data`, device, { flush: true })
    await engine.report()
    const hangs = sleep(60_000 * patience, 'it is still suspended', { ref: false })
    const outcome = await Promise.race([writing.then(() => 'written'), hangs])
    // So that a failure is no hang.
    await run('dmsetup', ['resume', '--noudevsync', name])
    assert.is(outcome, 'written')
  }
  assert.equal((await engine.find('one'))?.problems, [])
  await engine.unmount('one', target)
  await engine.remove('one')
  await engine.stop()
  await world.close()
})

test('a thin pool that others made is used only when it zeroes blocks and fails when it is full', async () => {
  const world = await openLvmWorld({ volumeGroup, thin: thinOptions })
  const pool = `${volumeGroup}/${thinOptions.poolName}`
  const engine = new Engine(world.parts)
  await engine.start()
  await engine.create('one', spec)
  for (const [wrong, right, said] of [
    ['--zero=n', '--zero=y', /does not zero its blocks.*"lvchange --zero y"/],
    ['--errorwhenfull=n', '--errorwhenfull=y', /blocks writers when it is full.*"lvchange --errorwhenfull y"/],
  ] as const) {
    await lvm('lvchange', '--quiet', wrong, pool)
    await rejects('no-space', said, () => engine.create('two', spec))
    await rejects('no-space', said, () => engine.grow('one', spec.sizeBytes * 2n))
    const { freeBytes, problems } = await engine.report()
    assert.is(freeBytes, 0n)
    assert.match(problems.join(), said)
    await lvm('lvchange', '--quiet', right, pool)
    assert.equal((await engine.report()).problems, [])
  }
  await engine.remove('one')
  await lvm('lvremove', '--yes', '--quiet', pool)
  await engine.stop()
  await world.close()
})

test('a thin pool whose chunks others chose large promises only what can be written', async () => {
  const name = `${volumeGroup}/${thinOptions.poolName}`
  const choices = ['--chunksize', '8m', '--size', '128m', '--zero', 'y', '--errorwhenfull', 'y']
  await lvm('lvcreate', '--yes', '--quiet', '--thin', ...choices, name)
  const { pool } = await buildLvmPool({ volumeGroup, thin: thinOptions, volumesDir: '/run/chunks' })
  await pool.start()
  const create = (volume: string) => pool.create(volume, { id: volume, sizeBytes: 12n * mebibyte, fsType: 'ext4' })
  // A volume of three extents takes two chunks of two.
  const made = Array.from({ length: 8 }, (_, index) => `chunks-${index}`)
  for (const volume of made) assert.is((await create(volume)).volume.sizeBytes, 16n * mebibyte)
  await rejects('no-space', /may promise 0 B more/, () => create('more'))
  for (const volume of made) {
    const { path } = await pool.activate(volume)
    await run('dd', ['if=/dev/zero', `of=${path}`, 'bs=1M', 'count=16', 'conv=fsync'])
  }
  for (const volume of made) await pool.remove(volume)
  await lvm('lvremove', '--yes', '--quiet', name)
  await pool.stop()
})

test('a group that one daemon has claimed is refused to another, also when both began at once, until a person lets it go', async () => {
  const open = async (machine: string, folder: string) => {
    const claim = buildClaim(machine.repeat(32), folder)
    const world = await openLvmWorld({ volumeGroup, claim })
    return { claim, world, engine: new Engine(world.parts) }
  }
  const tags = () => lvm('vgs', '--noheadings', '-o', 'vg_tags', volumeGroup)
  const first = await open('1', '/mnt/volumes of ours')
  const second = await open('1', '/mnt/others')
  const refused = /it is claimed by the daemon of this machine with --volumes-dir .*"vgchange --deltag /
  await first.engine.start()
  await first.engine.start()
  assert.is(await tags(), first.claim)
  await first.engine.create('one', spec)
  await rejects('unavailable', refused, () => second.engine.start())
  await rejects('unavailable', refused, () => second.engine.list())
  assert.is(await tags(), first.claim)
  // What a daemon sees that has claimed the group while another did.
  await lvm('vgchange', '--quiet', '--addtag', second.claim, volumeGroup)
  await rejects('unavailable', refused, () => first.engine.create('two', spec))
  await lvm('vgchange', '--quiet', '--deltag', first.claim, volumeGroup)
  await second.engine.start()
  assert.equal(
    (await second.engine.list()).map(({ name }) => name),
    ['one'],
  )
  await second.engine.remove('one')
  await lvm('vgchange', '--quiet', '--deltag', second.claim, volumeGroup)
  for (const { engine, world } of [first, second]) {
    await engine.stop()
    await world.close()
  }
})

test('of two daemons of this machine with folders of their own, the second does not get the group of the first', async () => {
  const open = (volumesDir: string) =>
    openMachine(
      {
        driverKind: 'LVM',
        volumesDir,
        lvmVolumeGroup: volumeGroup,
        lvmUseThinVolumes: false,
        lvmThinPool: '',
        lvmThinOvercommitRatio: 1,
        lvmThinDataWatermark: 90,
        lvmThinMetadataWatermark: 80,
        loopPreallocate: false,
        hostTools: false,
      },
      { info: () => {}, warn: () => {} },
    )
  const [one, two] = [await open('/run/one'), await open('/run/two')]
  await one.start()
  await rejects('unavailable', /claimed by the daemon of this machine with --volumes-dir \/run\/one,/, () =>
    two.start(),
  )
  await one.stop()
  const again = await open('/run/one')
  await again.start()
  for (const engine of [two, again]) await engine.stop()
  const claim = await lvm('vgs', '--noheadings', '-o', 'vg_tags', volumeGroup)
  assert.match(claim, /^elastic-local\.daemon=[0-9a-f]{32}:\/run\/one$/)
  await lvm('vgchange', '--quiet', '--deltag', claim, volumeGroup)
})

test('a group that is renamed, exported or replaced under a running daemon offers nothing, and its volumes are not taken for gone', async () => {
  const world = await openLvmWorld({ volumeGroup })
  const engine = new Engine(world.parts)
  await engine.start()
  await engine.create('one', spec)
  const mustBeAway = async (said: RegExp) => {
    await rejects('unavailable', said, () => engine.list())
    await rejects('unavailable', said, () => engine.remove('one'))
    await rejects('unavailable', said, () => engine.create('two', spec))
    const { freeBytes, problems } = await engine.report()
    assert.is(freeBytes, 0n)
    assert.match(problems.join(), said)
  }
  await lvm('vgchange', '--activate', 'n', volumeGroup)
  await lvm('vgrename', volumeGroup, 'renamed-vg')
  await mustBeAway(/is now named renamed-vg. .*"vgrename renamed-vg elastic-local-vg"/)
  await lvm('vgcreate', '--quiet', volumeGroup, second)
  await mustBeAway(/it is another group than the one/)
  await lvm('vgremove', '--quiet', volumeGroup)
  await lvm('vgrename', 'renamed-vg', volumeGroup)
  await lvm('vgexport', volumeGroup)
  await mustBeAway(/it is exported; .*"vgimport elastic-local-vg"/)
  await lvm('vgimport', volumeGroup)
  assert.equal(
    (await engine.list()).map(({ name }) => name),
    ['one'],
  )
  assert.is((await engine.remove('one')).action, 'removed')
  await engine.stop()
  await world.close()
})

test.run()
