/** Runs in a guest: disks that give errors, vanish, hang or lose LVM's metadata, and folders that take nothing. */
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import { hasErrno } from '../../src/volume/errors.ts'
import { rejects, type World } from '../contract.ts'
import { openLvmWorld } from '../machine-world.ts'
import { TestNode } from '../node.ts'
import { patience } from '../patience.ts'
import { suite } from '../suite.ts'
import { FaultyDisk } from './faulty-disk.ts'

const mebibyte = 1n << 20n
const volumeGroup = 'elastic-local-vg'
const test = suite('faults')
const spec = { sizeBytes: 64n * mebibyte, fsType: 'ext4', mkfsOptions: [] } as const
const grownBytes = 128n * mebibyte

const [good, bad] = [await FaultyDisk.make('good', 1000), await FaultyDisk.make('bad', 1000)]
for (const { path } of [good, bad]) await run('pvcreate', ['--quiet', path])
await run('vgcreate', ['--quiet', volumeGroup, good.path, bad.path])

/** From now on new extents come from that disk alone. */
async function placeOn(disk: FaultyDisk): Promise<void> {
  const other = disk === good ? bad : good
  await run('pvchange', ['--quiet', '--allocatable', 'y', disk.path], { accept: [5] })
  await run('pvchange', ['--quiet', '--allocatable', 'n', other.path], { accept: [5] })
}

class Node {
  readonly world: World
  engine: Engine
  /** The devices whose filesystems were checked. */
  readonly checked: string[] = []

  private constructor(world: World) {
    this.world = world
    this.engine = this.#build()
  }

  /** Its volumes folder is a filesystem of its own, with those options. */
  static async open(options: string): Promise<Node> {
    const folder = await mkdtemp(join(tmpdir(), 'elastic-local-test-'))
    await mkdir(join(folder, 'volumes'))
    await run('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', join(folder, 'volumes')])
    const node = new Node(await openLvmWorld({ volumeGroup, slowCommandMs: 2000, folder }))
    await node.engine.start()
    return node
  }

  /** What a restart of the daemon does. */
  async restart(): Promise<void> {
    await this.engine.stop()
    this.engine = this.#build()
    await this.engine.start()
    await this.engine.recover()
  }

  file(name: string, file = 'data'): string {
    return join(this.world.target('a', name), file)
  }

  mount(name: string, pod = 'a') {
    return this.engine.mount({ name, target: this.world.target(pod, name), readOnly: false, mountOptions: [] })
  }

  unmount(name: string, pod = 'a') {
    return this.engine.unmount(name, this.world.target(pod, name))
  }

  /** A volume that is mounted and holds its own name. */
  async make(name: string, mkfsOptions: readonly string[] = []): Promise<void> {
    await this.engine.create(name, { ...spec, mkfsOptions })
    await this.mount(name)
    await writeFile(this.file(name), name, { flush: true })
  }

  async mustHold(name: string): Promise<void> {
    assert.is(await readFile(this.file(name), 'utf8'), name)
  }

  /** Does with a volume all that can be done. */
  async mustServe(name: string): Promise<void> {
    await this.make(name)
    await this.engine.grow(name, grownBytes)
    await this.mount(name, 'b')
    for (const pod of ['a', 'b']) await this.unmount(name, pod)
    await this.mount(name)
    await this.mustHold(name)
    await this.unmount(name)
    await this.engine.remove(name)
  }

  async problemsOf(name: string): Promise<string> {
    return (await this.engine.list()).find((volume) => volume.name === name)?.problems.join() ?? 'not there'
  }

  /** Removes all volumes; nothing else may be there. */
  async close(): Promise<void> {
    for (const { name, mounts } of await this.engine.list()) {
      for (const { target } of mounts) await this.engine.unmount(name, target)
      await this.engine.remove(name)
    }
    assert.equal(await this.world.leftovers(), [this.world.parts.volumesDir])
    await this.engine.stop()
    await this.world.close()
  }

  #build(): Engine {
    const { parts } = this.world
    const check: typeof parts.filesystems.check = async (device, fsType) => {
      this.checked.push(device)
      await parts.filesystems.check(device, fsType)
    }
    return new Engine({ ...parts, filesystems: { ...parts.filesystems, check } })
  }
}

/** A test on a new node and well disks, of which nothing may stay. */
function check(name: string, body: (node: Node) => Promise<void>, options = 'size=16m'): void {
  test(name, async () => {
    const node = await Node.open(options)
    try {
      await body(node)
    } catch (error) {
      for (const disk of [good, bad]) await disk.mend()
      await node.close().catch(() => node.engine.stop())
      throw error
    }
    await node.close()
  })
}

/** Writes until the kernel has made the filesystem read-only. */
async function writeUntilReadOnly(node: Node, name: string): Promise<void> {
  for (let file = 0; file < 100; file++) {
    const error = await writeFile(node.file(name, String(file)), 'lost', { flush: true }).then(
      () => 0,
      (error) => error,
    )
    assert.ok(hasErrno(error, 'EIO', 'EROFS'), String(error))
    if (hasErrno(error, 'EROFS')) return
    // Its journal, which the kernel would write some seconds later.
    await run('sync', ['--file-system', node.world.target('a', name)], { accept: [1] })
  }
  assert.unreachable('the filesystem is still writable')
}

check(
  'a disk that gives errors fails its own volumes, harms no others, and serves again when it is well',
  async (node) => {
    const { engine, world } = node
    await placeOn(bad)
    for (const name of ['hurt', 'idle', 'doomed']) await node.make(name)
    for (const name of ['idle', 'doomed']) await node.unmount(name)
    await placeOn(good)
    await node.make('well')
    await placeOn(bad)

    await bad.failData()
    await writeUntilReadOnly(node, 'hurt')
    assert.match(await node.problemsOf('hurt'), 'the kernel has found errors on its filesystem')
    await rejects('failed', /Cannot create new of .*(wipe|initialize).*kernel log/s, () => engine.create('new', spec))
    assert.is(await engine.find('new'), undefined)
    assert.equal(await world.parts.journal.read(), new Map())
    await rejects('failed', /Cannot (mount|check) \/dev\/elastic-local-vg\/idle/, () => node.mount('idle'))
    await rejects('failed', /Cannot grow the ext4 on .*hurt.*kernel log/s, () => engine.grow('hurt', grownBytes))
    await rejects('failed', /Cannot wipe .*doomed.*lvremove/s, () => engine.remove('doomed'))
    await placeOn(good)
    await node.mustServe('other')
    await writeFile(node.file('well', 'more'), 'more', { flush: true })
    await node.unmount('hurt')
    await node.restart()
    for (const name of ['hurt', 'idle'])
      await rejects('failed', /Cannot (check|mount) (?!.*lost)/s, () => node.mount(name))
    await node.mustHold('well')

    await bad.mend()
    assert.is((await node.engine.remove('doomed')).action, 'removed')
    node.checked.length = 0
    for (const name of ['hurt', 'idle']) {
      await node.mount(name)
      await node.mustHold(name)
      await node.engine.grow(name, grownBytes)
      assert.ok(((await node.engine.find(name))?.usage?.sizeBytes ?? 0n) > (grownBytes * 7n) / 10n)
    }
    assert.equal(node.checked, ['/dev/elastic-local-vg/hurt', '/dev/elastic-local-vg/idle'])
    await placeOn(bad)
    await node.mustServe('new')
  },
)

check('a filesystem on which the kernel has found errors is checked when it is mounted again', async (node) => {
  await placeOn(bad)
  await node.make('hurt')
  await bad.failData()
  await writeUntilReadOnly(node, 'hurt')
  await bad.mend()
  node.checked.length = 0
  await node.unmount('hurt')
  await node.mount('hurt')
  assert.equal(node.checked, ['/dev/elastic-local-vg/hurt'])
  await node.mustHold('hurt')
  await writeFile(node.file('hurt'), 'hurt', { flush: true })
  assert.is(await node.problemsOf('hurt'), '')
})

check(
  'while a disk is missing, volumes on the others are mounted and removed, and it is said what holds up new ones',
  async (node) => {
    await placeOn(bad)
    // Nothing of it is written in the background while the disk is away, which would need a check by hand.
    await node.make('hurt', ['-E', 'lazy_itable_init=0,lazy_journal_init=0'])
    await run('sync', [])
    await placeOn(good)
    for (const name of ['well', 'doomed']) await node.make(name)
    await node.unmount('doomed')

    await bad.failWholly()
    const { problems, freeBytes } = await node.engine.report()
    assert.match(problems.join(), /1 of its disks are missing, so LVM creates and grows no volume in it/)
    assert.is(freeBytes, 0n)
    assert.match(await node.problemsOf('hurt'), 'part of it is on a missing disk')
    assert.is(await node.problemsOf('well'), '')
    await node.mount('well', 'b')
    assert.is((await node.engine.remove('doomed')).action, 'removed')
    await rejects('failed', /Cannot create new.*while PVs are missing.*restoremissing/s, () =>
      node.engine.create('new', spec),
    )
    await rejects('failed', /Cannot grow well.*while PVs are missing/s, () => node.engine.grow('well', grownBytes))
    assert.equal(await node.world.parts.journal.read(), new Map())
    await node.restart()
    await node.unmount('well')
    await node.mount('well')
    await node.mustHold('well')

    await bad.mend()
    await run('vgextend', ['--quiet', '--restoremissing', volumeGroup, bad.path])
    await node.unmount('hurt')
    await node.mount('hurt')
    await node.mustHold('hurt')
    assert.equal((await node.engine.report()).problems, [])
    await node.mustServe('new')
  },
)

check(
  'while an LVM command hangs, it is named, volumes are shown and mounted, and in the end all is done',
  async (node) => {
    const { engine } = node
    await placeOn(bad)
    await node.make('known')
    await placeOn(good)
    await bad.hang()
    await good.hang()
    const work = Promise.all([engine.create('late', spec), engine.remove('never')])
    const [report, volumes] = await Promise.all([engine.report(), engine.list()])
    assert.match(
      report.problems.join(),
      /^"(lvs|vgs|lvcreate) .* has been running for \d+ s and \d+ commands wait behind it$/,
    )
    assert.equal(
      volumes.map(({ name }) => name),
      ['known'],
    )
    await node.mount('known', 'b')
    await node.unmount('known', 'b')
    await good.resume()
    await bad.resume()
    const [{ action }] = await work
    assert.is(action, 'created')
    assert.equal((await engine.report()).problems, [])
    await node.mount('late')
    await node.mustHold('known')
  },
)

check(
  'a daemon that starts while LVM hangs serves, says what hangs, and goes on by itself when LVM answers',
  async (node) => {
    await placeOn(good)
    await node.make('known')
    await node.engine.stop()
    await good.hang()
    await bad.hang()
    const machine = new TestNode(dirname(node.world.parts.volumesDir))
    await mkdir(machine.kubeletDir)
    const daemon = await machine.start({ flags: { 'driver-kind': 'LVM' } })
    try {
      const hangs =
        /LVM has not reported what is in volume group elastic-local-vg.*"(vgs|lvs) .*" has been running for \d+ s.*dmesg/
      assert.match(daemon.output(), hangs)
      const options = { sizeBytes: String(spec.sizeBytes) }
      assert.match(await machine.mount('a', options, 'known'), hangs)
      const growth = { targetDir: machine.target('a', 'known'), newSize: String(grownBytes) }
      assert.match(await machine.callOut('/expandfs', growth), hangs)
      for (const path of ['/v1/pools', '/v1/volumes']) {
        const { status, body } = await machine.ask('GET', path)
        assert.is(status, 503)
        assert.match((body.error as { message: string }).message, hangs)
      }
      for (const disk of [good, bad]) await disk.resume()
      await daemon.says(/Found 1 volumes/)
      assert.is(await machine.mount('a', options, 'known'), 'Success')
      const data = join(machine.target('a', 'known'), 'data')
      assert.is(await readFile(data, 'utf8'), 'known')

      // What is left suspended is resumed while nobody asks for anything.
      const device = `${volumeGroup.replaceAll('-', '--')}-known`
      await run('dmsetup', ['suspend', '--noudevsync', '--nolockfs', device])
      const writing = writeFile(data, 'resumed', { flush: true }).then(() => 'written')
      const late = sleep(60_000 * patience, 'it is still suspended', { ref: false })
      const outcome = await Promise.race([writing, late])
      await run('dmsetup', ['resume', '--noudevsync', device])
      assert.is(outcome, 'written')
      assert.is(await machine.unmount('a', 'known'), 'Success')
    } finally {
      for (const disk of [good, bad]) await disk.resume()
      assert.is(await daemon.end('SIGTERM'), 0)
    }
    await node.restart()
  },
)

for (const [title, option] of [
  ['room', 'size=256k'],
  ['inodes', 'nr_inodes=20'],
] as const)
  check(
    `without ${title} in the volumes folder nothing is begun, and what is there can be unmounted and removed`,
    async (node) => {
      const { engine, world } = node
      for (const name of ['one', 'two']) await node.make(name)
      await node.unmount('two')
      await node.unmount('one')
      await node.mount('one')
      await fill(world.parts.volumesDir)
      const before = await engine.list()
      await rejects('no-space', /Cannot write .*new.json.*make room/, () => engine.create('new', spec))
      assert.equal(
        (await engine.list()).map(({ name, problems }) => [name, problems]),
        before.map(({ name, problems }) => [name, problems]),
      )
      if (title === 'inodes') {
        await rejects('no-space', /Cannot create the folder .*make room/, () => node.mount('two'))
        assert.match(await node.problemsOf('two'), /^mounting it failed: Cannot create the folder/)
      }
      await engine.grow('one', grownBytes)
      await node.mustHold('one')
      assert.is((await engine.remove('two')).action, 'removed')
      await node.unmount('one')
      assert.is((await engine.remove('one')).action, 'removed')
      assert.equal(await engine.list(), [])
      await run('find', [world.parts.volumesDir, '-name', 'filler-*', '-delete'])
      await node.mustServe('new')
    },
    option,
  )

/** Takes all inodes, or all bytes. */
async function fill(folder: string): Promise<void> {
  for (let index = 0; index < 1000; index++) {
    const error = await writeFile(join(folder, `filler-${index}`), Buffer.alloc(4096)).then(
      () => 0,
      (error) => error,
    )
    if (hasErrno(error, 'ENOSPC')) return
    assert.is(error, 0)
  }
  assert.unreachable('there is still room')
}

check(
  'with a read-only volumes folder what is mounted can be unmounted, and all else ends in clear errors',
  async (node) => {
    const { engine, world } = node
    const { volumesDir } = world.parts
    await node.make('one')
    await node.mount('one', 'b')
    await run('mount', ['-o', 'remount,ro', volumesDir])
    await rejects('failed', /Cannot write .*new.json.*read-only/, () => engine.create('new', spec))
    await node.unmount('one', 'b')
    await node.mount('one', 'b')
    for (const pod of ['a', 'b']) assert.is((await node.unmount('one', pod)).action, 'unmounted')
    await rejects('failed', /Cannot write .*one.json.*read-only/, () => engine.remove('one'))
    // Its folder could not be taken away, and is as good as new.
    await node.mount('one')
    await node.mustHold('one')
    await node.unmount('one')
    await run('mount', ['-o', 'remount,rw', volumesDir])
    await node.mustServe('new')
  },
)

check(
  "when LVM's metadata is damaged nothing is touched, mounts go on, and once it is restored all is as before",
  async (node) => {
    const { engine, world } = node
    const backup = join(world.parts.volumesDir, '.elastic-local/lvm/backup', volumeGroup)
    await node.make('one')
    const disks = await Promise.all(
      [good, bad].map(async ({ path }) => {
        const { stdout } = await run('pvs', ['--noheadings', '--options', 'pv_uuid', path])
        return { path, uuid: stdout.trim() }
      }),
    )
    // Label and metadata, all that lies before the volumes.
    const damage = ({ path }: FaultyDisk) =>
      run('dd', ['if=/dev/urandom', `of=${path}`, 'bs=1M', 'count=1', 'oflag=direct'])
    const missing = new RegExp(`existed before; do not recreate it.*vgcfgrestore --file ${backup} ${volumeGroup}`, 's')

    await damage(good)
    await node.mount('one', 'b')
    await node.mustHold('one')
    await damage(bad)
    await rejects('unavailable', missing, () => engine.create('new', spec))
    await rejects('unavailable', missing, () => engine.grow('one', grownBytes))
    const { freeBytes, problems } = await engine.report()
    assert.is(freeBytes, 0n)
    assert.match(problems.join(), missing)
    await rejects('unavailable', missing, () => engine.list())
    await node.unmount('one', 'b')
    await node.mount('one', 'b')
    await node.mustHold('one')
    await engine.stop()
    const next = new Engine(world.parts)
    await rejects('unavailable', missing, () => next.start())

    for (const pod of ['a', 'b']) await node.unmount('one', pod)
    // Else its disk would be in use.
    await run('dmsetup', ['remove', '--noudevsync', `/dev/${volumeGroup}/one`])
    for (const { path, uuid } of disks)
      await run('pvcreate', ['--quiet', '--yes', '-ff', '--restorefile', backup, '--uuid', uuid, path])
    await run('vgcfgrestore', ['--quiet', '--file', backup, volumeGroup])
    await node.restart()
    assert.equal((await node.engine.report()).problems, [])
    assert.is(await node.problemsOf('one'), '')
    await node.mount('one')
    await node.mustHold('one')
    await node.mustServe('new')
  },
)

test.run()
