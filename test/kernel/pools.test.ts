import { existsSync } from 'node:fs'
import { open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { buildFilesystems } from '../../src/mount/filesystems.ts'
import { LoopPool } from '../../src/mount/loop.ts'
import { type Runner, run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import type { Filesystems } from '../../src/volume/host.ts'
import { createCgroups, findCgroups, nameCgroups, removeCgroups } from '../cluster/cgroups.ts'
import { contract, rejects, type World } from '../contract.ts'
import { deviceContract } from '../device-contract.ts'
import { openDirectoryWorld, openLoopWorld } from '../machine-world.ts'
import { withScratch } from '../scratch.ts'
import { suite } from '../suite.ts'

contract('loop images', () => openLoopWorld({ preallocate: false }), ['ext4', 'xfs', 'btrfs', 'block'])
contract('preallocated loop images', () => openLoopWorld({ preallocate: true }), ['ext4'])
deviceContract('loop images', () => openLoopWorld({ preallocate: false }))
const test = suite('loop images on the disk')
for (const preallocate of [false, true])
  test(`${preallocate ? 'preallocated' : 'sparse'} images take ${preallocate ? 'all' : 'little'} of the disk, growth included`, async () => {
    const world = await openLoopWorld({ preallocate })
    const { pool } = world.parts
    await pool.start()
    try {
      const { volume } = await pool.create('one', { id: 'one', sizeBytes: 32n << 20n, fsType: 'ext4' })
      const { path } = await pool.activate('one')
      await world.parts.filesystems.make(path, 'ext4', [], volume.sizeBytes)
      await pool.grow('one', 64n << 20n)
      const takenBytes = (await stat(volume.path)).blocks * 512
      assert.ok(preallocate ? takenBytes >= 64 * 2 ** 20 : takenBytes < 16 * 2 ** 20, `${takenBytes} bytes are taken`)
      await pool.remove('one')
    } finally {
      await world.close()
    }
  })
/** Gives `work` a preallocated volume `one` of 64 MiB, mounted, on a disk that has room for little more. */
const withPreallocated = (
  mkfsOptions: string[],
  work: (parts: { engine: Engine; world: World; image: string; target: string; disk: string }) => Promise<void>,
) =>
  withScratch(async (disk) => {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=80m', 'tmpfs', disk])
    const world = await openLoopWorld({ preallocate: true, folder: join(disk, 'world') })
    try {
      const engine = new Engine(world.parts)
      await engine.start()
      const { volume } = await engine.create('one', { sizeBytes: 64n << 20n, fsType: 'ext4', mkfsOptions })
      const target = world.target('a', 'one')
      await engine.mount({ name: 'one', target, readOnly: false, mountOptions: ['discard'] })
      await work({ engine, world, image: volume.path, target, disk })
    } finally {
      await world.close()
      await run('umount', ['--lazy', disk])
    }
  })
const takenMiB = async (image: string) => ((await stat(image)).blocks * 512) / 2 ** 20

for (const mkfsOptions of [[], ['-E', 'stride=2'], ['-Ediscard,lazy_itable_init=0']])
  test(`what a preallocated image has taken stays taken, whatever is trimmed or discarded (${mkfsOptions.join(' ')})`, () =>
    withPreallocated(mkfsOptions, async ({ image, target }) => {
      assert.is(await takenMiB(image), 64)
      await run('fstrim', [target], { accept: [1, 32] })
      assert.is(await takenMiB(image), 64, 'after fstrim')
      await writeFile(join(target, 'file'), Buffer.alloc(8 << 20, 1))
      await run('sync', ['-f', target])
      await rm(join(target, 'file'))
      await run('sync', ['-f', target])
      await run('fstrim', [target], { accept: [1, 32] })
      assert.is(await takenMiB(image), 64, 'after a file came and went')
    }))

test('what an ext4 zeroes in the first seconds after its first mount stays taken, or is taken again by the next look', () =>
  withPreallocated(['-E', 'lazy_itable_init=1,lazy_journal_init=1'], async ({ engine, image, target }) => {
    const { path } = await engine.attach('one')
    // The kernel begins within 5 s, and marks each group that it has done.
    const isDone = async () => {
      await run('sync', ['-f', target])
      const groups = (await run('dumpe2fs', [path])).stdout.match(/^Group \d+:.*$/gm) ?? []
      return groups.length > 0 && groups.every((group) => group.includes('ITABLE_ZEROED'))
    }
    while (!(await isDone())) await sleep(100)
    assert.equal((await engine.report()).problems, [])
    assert.is(await takenMiB(image), 64)
  }))

test('room that an image has lost all the same is taken again, and told of while the disk is too full', () =>
  withPreallocated([], async ({ engine, world, image, target, disk }) => {
    const lose = () => run('fallocate', ['--punch-hole', '--offset', '40MiB', '--length', '16MiB', image])
    await lose()
    assert.equal((await engine.report()).problems, [])
    assert.is(await takenMiB(image), 64)
    await lose()
    await engine.unmount('one', target)
    await engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
    assert.is(await takenMiB(image), 64)
    await lose()
    await run('fallocate', ['--length', '24MiB', join(disk, 'filler')])
    assert.match(
      (await engine.report()).problems.join(),
      /^\S+ [KMG]iB( \(\d+ bytes\))? of its volumes could not be preallocated/,
    )
    await engine.unmount('one', target)
    await engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
    await rm(join(disk, 'filler'))
    assert.equal((await engine.report()).problems, [])
    assert.is(await takenMiB(image), 64)
    assert.is((await world.parts.pool.list()).length, 1)
  }))

test('a full check that needs more memory than its container has left ends, says so, and is done where there is enough', () =>
  withScratch(async (folder) => {
    const image = join(folder, 'image')
    await run('truncate', ['--size', '4T', image])
    await run('mkfs.ext4', ['-F', '-q', '-O', '^has_journal', image])
    await run('tune2fs', ['-E', 'force_fsck', image])
    const check = (mebibytes: number) =>
      buildFilesystems({ run, memoryLeft: () => mebibytes << 20 }).check(image, 'ext4')
    await rejects('failed', /^Cannot check .* leaves, 24 MiB; raise that: .*Memory allocation failed/s, () => check(24))
    await check(256)
  }))

test('in a control group with a limit of memory a full check that needs more ends by itself, and nobody is killed', () =>
  withScratch(async (folder) => {
    const image = join(folder, 'image')
    await run('truncate', ['--size', '15T', image])
    await run('mkfs.ext4', ['-F', '-q', '-O', '^has_journal', '-E', 'lazy_itable_init=1', image])
    await run('tune2fs', ['-E', 'force_fsck', image])
    const name = nameCgroups()
    await createCgroups(name)
    try {
      const groups = await findCgroups(name)
      const [group = ''] = groups.filter((one) => !one.includes('/unified/') || groups.length === 1)
      const memory = groups.find((one) => one.includes('/memory/')) ?? group
      const limit = existsSync(join(memory, 'memory.max')) ? 'memory.max' : 'memory.limit_in_bytes'
      await writeFile(join(memory, limit), String(160 << 20))
      // As the daemon is put together, which finds the limit itself.
      const check = `const { buildFilesystems } = await import(${JSON.stringify(resolve('src/mount/filesystems.ts'))})
const { run } = await import(${JSON.stringify(resolve('src/run.ts'))})
await buildFilesystems({ run }).check(${JSON.stringify(image)}, 'ext4').then(() => console.log('checked'), (error) => console.log(error.message))`
      const shell = 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"'
      const node = [process.execPath, '--input-type=module', '--eval', check]
      const { stdout } = await run('sh', ['-c', shell, 'sh', memory, ...node])
      assert.match(stdout, /needs more memory than the limit of this container leaves, \d+ MiB; raise that/)
      const events = await readFile(
        join(memory, limit === 'memory.max' ? 'memory.events' : 'memory.oom_control'),
        'utf8',
      )
      assert.match(events, /^oom_kill 0$/m)
    } finally {
      await removeCgroups(name)
    }
  }))

test('a loop device that somebody still holds is taken back from its leaving', async () => {
  const world = await openLoopWorld({ preallocate: false })
  const { pool } = world.parts
  await pool.start()
  try {
    await pool.create('one', { id: 'one', sizeBytes: 32n << 20n, fsType: 'ext4' })
    const { path } = await pool.activate('one')
    const holder = await open(path)
    await pool.deactivate('one')
    assert.is((await pool.find('one'))?.source?.path, path)
    assert.is((await pool.activate('one')).path, path)
    await holder.close()
    assert.is((await pool.find('one'))?.source?.path, path)
    await pool.remove('one')
  } finally {
    await world.close()
  }
})
test('a loop device that is let go just when it is detached once more is gone, and no failure', () =>
  withScratch(async (volumesDir) => {
    let beforeDetach = async () => {}
    const runner: Runner = async (file, args, options) => {
      if (args[0] === '--detach') await beforeDetach()
      return await run(file, args, options)
    }
    const pool = new LoopPool({ run: runner, volumesDir, preallocate: false, now: () => new Date() })
    await pool.start()
    await pool.create('one', { id: 'one', sizeBytes: 32n << 20n, fsType: 'ext4' })
    const holder = await open((await pool.activate('one')).path)
    await pool.deactivate('one')
    beforeDetach = () => holder.close()
    await pool.deactivate('one')
    assert.is((await pool.find('one'))?.source, undefined)
    await pool.remove('one')
  }))
test('where a mounted ext4 may not be grown, it is grown before it is mounted, also when that was cut short', async () => {
  const world = await openLoopWorld({ preallocate: false })
  const request = { name: 'one', target: world.target('a', 'one'), readOnly: false, mountOptions: [] }
  const filesystems = buildFilesystems({ run, growsMounted: false })
  const start = async (changes: Partial<Filesystems> = {}) => {
    const engine = new Engine({ ...world.parts, filesystems: { ...filesystems, ...changes } })
    await engine.start()
    return engine
  }
  const totalMiB = async (engine: Engine) => Number((await engine.find('one'))?.usage?.sizeBytes ?? 0n) / 2 ** 20
  try {
    let engine = await start()
    await engine.mount({ ...request, create: { sizeBytes: 64n << 20n, fsType: 'ext4', mkfsOptions: [] } })
    await world.write(request.target, 'file', 'precious')
    await engine.unmount('one', request.target)
    assert.is((await engine.grow('one', 128n << 20n)).action, 'grown')
    assert.equal((await world.parts.mounts.read()).under(world.parts.volumesDir), [])
    engine = await start({ grow: () => Promise.reject(new Error('the disk burns')) })
    await engine.grow('one', 256n << 20n).then(
      () => assert.unreachable(),
      (error) => assert.is(error.message, 'the disk burns'),
    )
    // It is mounted all the same, while that cannot be finished.
    await engine.mount(request)
    assert.ok((await totalMiB(engine)) > 100 && (await totalMiB(engine)) < 128)
    await engine.unmount('one', request.target)
    engine = await start()
    await engine.mount(request)
    assert.ok((await totalMiB(engine)) > 220, `${await totalMiB(engine)} MiB`)
    assert.is(await world.read(request.target, 'file'), 'precious')
    assert.equal(await world.parts.journal.read(), new Map())
    const { stdout } = await run('dumpe2fs', ['-h', (await engine.attach('one')).path])
    assert.match(stdout, /^Block size: +4096$/m)
    assert.match(stdout, /^Total journal size: +4096k$/m)
  } finally {
    await world.close()
  }
})

test('a small xfs has few allocation groups, so that a grown one has not too many', async () => {
  const world = await openLoopWorld({ preallocate: false })
  try {
    const engine = new Engine(world.parts)
    await engine.start()
    const target = world.target('a', 'one')
    const create = { sizeBytes: 300n << 20n, fsType: 'xfs', mkfsOptions: [] } as const
    await engine.mount({ name: 'one', target, readOnly: false, mountOptions: [], create })
    await engine.grow('one', 8n << 30n)
    const groups = /agcount=(\d+)/.exec((await run('xfs_growfs', ['-n', target])).stdout)?.[1]
    assert.is(groups, '55')
  } finally {
    await world.close()
  }
})

for (const [kind, folder, open] of [
  ['LOOP', 'loop', () => openLoopWorld({ preallocate: false })],
  ['BINDMOUNT', 'directories', openDirectoryWorld],
] as const)
  test(`an empty or damaged marker or intent costs its one volume only (${kind})`, async () => {
    const world = await open()
    const own = join(world.parts.volumesDir, '.elastic-local')
    const request = (name: string) => ({ name, target: world.target('a', name), readOnly: false, mountOptions: [] })
    const start = async () => {
      const engine = new Engine({ ...world.parts, ...(await world.renew()) })
      await engine.start()
      await engine.recover()
      return engine
    }
    try {
      const spec = { sizeBytes: 32n << 20n, fsType: 'ext4', mkfsOptions: [] } as const
      const first = await start()
      for (const name of ['one', 'two', 'three']) await first.create(name, spec)
      await writeFile(join(own, folder, 'one.json'), '')
      await writeFile(join(own, 'intents/two.json'), '{"phase":"form')
      await writeFile(join(own, 'intents/four.json'), '')
      const engine = await start()
      const views = new Map((await engine.list()).map((view) => [view.name, view]))
      assert.equal([...views.keys()], ['one', 'three', 'two'])
      assert.match(views.get('one')?.problems.join() ?? '', /its marker is damaged \(Cannot read .*one\.json/)
      await rejects('not-found', /^Cannot use one as its marker is damaged/, () => engine.mount(request('one')))
      for (const name of ['two', 'three']) {
        await engine.mount(request(name))
        await engine.unmount(name, world.target('a', name))
      }
      assert.is((await engine.report()).volumes, 3)
      await engine.create('four', spec)
      for (const name of ['one', 'two', 'three', 'four']) assert.is((await engine.remove(name)).action, 'removed')
      assert.equal(await world.leftovers(), [])
    } finally {
      await world.close()
    }
  })

test.run()

contract('directories', openDirectoryWorld, ['ext4'])
