import * as assert from 'uvu/assert'
import { Engine, type EngineParts, type VolumeSpec } from '../src/volume/engine.ts'
import { VolumeError, type VolumeErrorCode } from '../src/volume/errors.ts'
import { minimumBytes } from '../src/volume/host.ts'
import type { Content } from '../src/volume/pool.ts'
import { suite } from './suite.ts'

const mebibyte = 1n << 20n

/** A machine with a pool on it, real or not, and what a test must be able to do there behind the engine's back. */
export interface World {
  parts: EngineParts
  /** Parts as a daemon that starts anew puts them together: they know nothing of what others did. */
  renew(): Promise<EngineParts>
  /** What sizes round up to. */
  extentBytes: bigint
  /** Whether this process may grow that filesystem while it is mounted. */
  canGrow(fsType: Content): boolean
  /** The folder of a kubelet, in which pods have theirs. */
  kubeletDir: string
  /** A folder where a pod would want a volume, or a file for a block device; not there yet. */
  target(pod: string, name: string): string
  write(folder: string, file: string, text: string): Promise<void>
  read(folder: string, file: string): Promise<string | undefined>
  /** How large the block device is that is seen there. */
  sizeAt(target: string): Promise<bigint>
  /** Does what a restart of the machine does to mounts. */
  reboot(): Promise<void>
  /** Puts something with that name into the pool that is not ours. */
  plantForeign(name: string): Promise<void>
  /** Makes, as another project does, what holds that text in `file`; says whether others make such. */
  plantOther(name: string, spec: { fsType: Content; sizeBytes: bigint }, text: string): Promise<boolean>
  /** Uses that, as a pod of the other project does, until what it gives is called. */
  useOther(name: string): Promise<() => Promise<void>>
  /** Makes a volume look as the predecessor left it, where it made such; says whether it could. */
  unmark(name: string): Promise<boolean>
  /** Whether what `plantForeign` put there is as it was. */
  isForeignUntouched(name: string): Promise<boolean>
  /** Writes the signature of swap space on an activated volume's device. */
  plantSignature(device: string): Promise<void>
  /** Whether that text is anywhere on an activated volume's device. */
  holds(device: string, text: string): Promise<boolean>
  /** Mounts, devices and files of ours that are still there although no volume is. */
  leftovers(): Promise<string[]>
  close(): Promise<void>
}

/**
 * What every pool must do, whatever it is made of: the same tests run on all of them, or those that `only` matches.
 * Registers a uvu suite.
 */
export function contract(title: string, openWorld: () => Promise<World>, kinds: readonly Content[], only = /^/): void {
  for (const fsType of kinds) contractFor(`${title}, ${fsType}`, openWorld, fsType, only)
}

function contractFor(title: string, openWorld: () => Promise<World>, fsType: Content, only: RegExp): void {
  const isBlock = fsType === 'block'
  const test = suite(title)
  let world: World
  let engine: Engine
  const spec = (sizeBytes = minimumBytes[fsType] + 8n * mebibyte): VolumeSpec => ({
    sizeBytes,
    fsType,
    mkfsOptions: [],
  })
  const request = (name: string, pod = 'a') => ({
    name,
    target: world.target(pod, name),
    readOnly: false,
    mountOptions: [],
    ...(isBlock ? { fsType } : {}),
  })
  /** How much the pods of a mounted volume have of it. */
  const seenBytes = async (name: string, pod = 'a') =>
    isBlock ? await world.sizeAt(world.target(pod, name)) : ((await engine.find(name))?.usage?.sizeBytes ?? 0n)

  async function startEngine(changes: Partial<EngineParts> = {}): Promise<Engine> {
    const started = new Engine({ ...world.parts, ...changes })
    await started.start()
    await started.recover()
    return started
  }

  /** A test that begins and ends with a new engine on an empty pool. */
  const check = (name: string, body: () => Promise<void>) => {
    if (!only.test(name)) return
    test(name, async () => {
      engine = await startEngine()
      await withCleanUp(body, startEngine, world)
    })
  }

  test.before(async () => {
    world = await openWorld()
  })
  test.after(async () => {
    await engine.stop()
    await world.close()
  })

  check('a volume is made once, and is seen by every pod that mounts it', async () => {
    assert.is((await engine.create('one', spec())).action, 'created')
    assert.is((await engine.create('one', spec())).action, 'unchanged')
    assert.is((await engine.mount(request('one', 'a'))).action, 'mounted')
    assert.is((await engine.mount(request('one', 'b'))).action, 'mounted')
    await world.write(world.target('a', 'one'), 'file', 'text')
    assert.is(await world.read(world.target('b', 'one'), 'file'), 'text')
    const view = await engine.find('one')
    assert.equal(view?.mounts.map((mount) => mount.target).sort(), [world.target('a', 'one'), world.target('b', 'one')])
    assert.is(view?.state, 'ready')
    assert.equal(view?.problems, [])
  })

  check('mounting and unmounting twice changes nothing, and the last unmount takes the device mount away', async () => {
    await engine.create('one', spec())
    for (const pod of ['a', 'b']) await engine.mount(request('one', pod))
    assert.is((await engine.mount(request('one', 'a'))).action, 'unchanged')
    const staged = `${world.parts.volumesDir}/one`
    assert.is((await engine.unmount('one', world.target('a', 'one'))).action, 'unmounted')
    assert.is((await engine.unmount('one', world.target('a', 'one'))).action, 'unchanged')
    if (world.parts.pool.sourceKind === 'device' && !isBlock) assert.ok((await world.parts.mounts.read()).at(staged))
    assert.is((await engine.unmount('one', world.target('b', 'one'))).action, 'unmounted')
    assert.is((await world.parts.mounts.read()).at(staged), undefined)
    assert.equal((await engine.find('one'))?.mounts, [])
  })

  check(
    "a stage of the caller's is the device's only mount beside the pods', and is held until it is unmounted",
    async () => {
      if (isBlock) return
      await engine.create('one', spec())
      const stage = world.target('stage', 'one')
      assert.is((await engine.mount({ ...request('one', 'stage'), stage })).action, 'mounted')
      assert.is((await engine.mount({ ...request('one', 'stage'), stage })).action, 'unchanged')
      await engine.mount({ ...request('one', 'a'), stage })
      assert.equal((await world.parts.mounts.read()).under(world.parts.volumesDir), [])
      await world.write(world.target('a', 'one'), 'file', 'text')
      await engine.unmount('one', world.target('a', 'one'))
      assert.is(await world.read(stage, 'file'), 'text')
      await rejects('busy', /mounted on/, () => engine.remove('one'))
      assert.is((await engine.unmount('one', stage)).action, 'unmounted')
      assert.equal((await engine.find('one'))?.mounts, [])
      await engine.mount({ ...request('one', 'b'), stage })
      assert.is(await world.read(world.target('b', 'one'), 'file'), 'text')
    },
  )

  check('data outlives unmounting, a restart of the daemon and a restart of the machine', async () => {
    await engine.create('one', spec())
    await engine.mount(request('one'))
    await world.write(world.target('a', 'one'), 'file', 'precious')
    await engine.unmount('one', world.target('a', 'one'))
    await engine.mount(request('one', 'b'))
    engine = await startEngine()
    assert.is(await world.read(world.target('b', 'one'), 'file'), 'precious')
    assert.is((await engine.mount(request('one', 'b'))).action, 'unchanged')
    await world.reboot()
    engine = await startEngine()
    assert.is((await engine.create('one', spec())).action, 'unchanged')
    await engine.mount(request('one', 'c'))
    assert.is(await world.read(world.target('c', 'one'), 'file'), 'precious')
  })

  check('a read-only mount refuses writes while another pod writes', async () => {
    await engine.create('one', spec())
    await engine.mount(request('one', 'a'))
    await engine.mount({ ...request('one', 'b'), readOnly: true })
    await world.write(world.target('a', 'one'), 'file', 'text')
    assert.is(await world.read(world.target('b', 'one'), 'file'), 'text')
    // The kernel lets devices be written to on a read-only mount: that is for the container's runtime to hold.
    if (!isBlock) await rejects('failed', /read-only/i, () => world.write(world.target('b', 'one'), 'file', 'other'))
    assert.equal((await engine.find('one'))?.mounts.map((mount) => mount.readOnly).sort(), [false, true])
  })

  check('sizes round up to whole extents, exactly', async () => {
    const { extentBytes } = world
    const wanted = minimumBytes[fsType] + extentBytes
    assert.is((await engine.create('exact', spec(wanted))).volume.sizeBytes, wanted)
    assert.is(
      (await engine.create('above', spec(wanted + 1n))).volume.sizeBytes,
      wanted + (extentBytes > 1n ? extentBytes : 1n),
    )
  })

  check('a volume grows while it is mounted, with its filesystem, once and never back', async () => {
    const { sizeBytes } = spec()
    await engine.create('one', spec())
    await engine.mount(request('one'))
    await world.write(world.target('a', 'one'), 'file', 'text')
    const before = await seenBytes('one')
    if (!world.canGrow(fsType)) return await refusesGrowth()
    const grown = await engine.grow('one', sizeBytes * 2n)
    assert.is(grown.action, 'grown')
    assert.is(grown.volume.sizeBytes, sizeBytes * 2n)
    assert.is((await engine.grow('one', sizeBytes * 2n)).action, 'unchanged')
    assert.is((await engine.grow('one', sizeBytes)).volume.sizeBytes, sizeBytes * 2n)
    const after = await engine.find('one')
    assert.is(after?.sizeBytes, sizeBytes * 2n)
    if (world.parts.pool.sourceKind === 'device')
      assert.ok((await seenBytes('one')) > (before * 3n) / 2n, 'the filesystem grew too')
    assert.is(await world.read(world.target('a', 'one'), 'file'), 'text')
  })

  check('a volume grows while nobody has it mounted, and is left unmounted', async () => {
    const { sizeBytes } = spec()
    await engine.create('one', spec())
    assert.is((await engine.grow('one', sizeBytes * 2n)).action, 'grown')
    assert.equal((await world.parts.mounts.read()).under(world.parts.volumesDir), [])
    await engine.mount(request('one'))
    if (world.parts.pool.sourceKind === 'device') assert.ok((await seenBytes('one')) > (sizeBytes * 3n) / 2n)
  })

  check('growth that stopped between device and filesystem is finished by asking again', async () => {
    const { sizeBytes } = spec()
    await engine.create('one', spec())
    await engine.mount(request('one'))
    await world.parts.pool.grow('one', sizeBytes * 2n)
    if (!world.canGrow(fsType)) return await refusesGrowth()
    assert.is((await engine.grow('one', sizeBytes * 2n)).action, 'unchanged')
    if (world.parts.pool.sourceKind === 'device') assert.ok((await seenBytes('one')) > (sizeBytes * 3n) / 2n)
  })

  check('what does not fit is refused, and nothing of it stays', async () => {
    const { freeBytes } = await engine.report()
    const grow = () => engine.grow('one', freeBytes * 2n)
    await rejects('no-space', /one/, () => engine.create('one', spec(freeBytes + 64n * mebibyte)))
    await rejects('not-found', /one/, grow)
    assert.equal(await engine.list(), [])
    assert.equal(await world.parts.journal.read(), new Map())
    const { volume } = await engine.create('one', spec())
    await rejects('no-space', /one/, grow)
    assert.is((await engine.find('one'))?.sizeBytes, volume.sizeBytes)
    // Whoever asked has the answer; the volume is as it was.
    assert.equal([(await engine.find('one'))?.state, (await engine.find('one'))?.problems], ['ready', []])
    await engine.mount(request('one'))
  })

  check('a removed volume gives back its space, and its name gives a new, empty volume', async () => {
    const { allocatedBytes } = await engine.report()
    await engine.create('one', spec())
    await engine.mount(request('one'))
    await world.write(world.target('a', 'one'), 'file', 'old')
    await engine.unmount('one', world.target('a', 'one'))
    assert.is((await engine.remove('one')).action, 'removed')
    assert.is((await engine.remove('one')).action, 'unchanged')
    assert.is(await engine.find('one'), undefined)
    assert.is((await engine.report()).allocatedBytes, allocatedBytes)
    await engine.create('one', spec())
    await engine.mount(request('one'))
    assert.is(await world.read(world.target('a', 'one'), 'file'), undefined)
  })

  check('a volume is removed also when there is no room left to note that', async () => {
    await engine.create('one', spec())
    const write = async () => {
      throw new VolumeError('no-space', 'the disk is full')
    }
    engine = await startEngine({ journal: { ...world.parts.journal, write } })
    assert.is((await engine.remove('one')).action, 'removed')
    assert.equal(await engine.list(), [])
  })

  check('a mounted volume is not removed', async () => {
    await engine.create('one', spec())
    await engine.mount(request('one'))
    await world.write(world.target('a', 'one'), 'file', 'text')
    await rejects('busy', /mounted on/, () => engine.remove('one'))
    assert.is(await world.read(world.target('a', 'one'), 'file'), 'text')
    assert.equal([(await engine.find('one'))?.state, (await engine.find('one'))?.problems], ['ready', []])
  })

  check('what is not ours is never listed, mounted, grown or removed', async () => {
    await world.plantForeign('theirs')
    assert.equal(await engine.list(), [])
    await rejects('exists', /theirs/, () => engine.create('theirs', spec()))
    await rejects('not-found', /theirs/, () => engine.mount(request('theirs')))
    await rejects('not-found', /theirs/, () => engine.grow('theirs', spec().sizeBytes))
    assert.is((await engine.remove('theirs')).action, 'unchanged')
    assert.equal(await world.parts.journal.read(), new Map())
    assert.ok(await world.isForeignUntouched('theirs'))
  })

  check(
    'a volume of the predecessor is not ours until it is taken over, and then it is one like any other',
    async () => {
      // Who had none that were block devices.
      if (isBlock) return
      await engine.create('one', spec())
      await engine.mount(request('one'))
      await world.write(world.target('a', 'one'), 'file', 'precious')
      const isPredecessors = await world.unmark('one')
      engine = await startEngine()
      if (!isPredecessors) {
        assert.equal(await engine.unmarked(), [])
        return await rejects('not-found', /two/, () => engine.adopt('two', spec()))
      }
      assert.equal(await engine.list(), [])
      assert.equal(
        (await engine.unmarked()).map(({ name }) => name),
        ['one'],
      )
      await engine.adopt('one', spec())
      await engine.adopt('one', spec())
      assert.equal(await engine.unmarked(), [])
      assert.equal(
        (await engine.find('one'))?.mounts.map((mount) => mount.target),
        [world.target('a', 'one')],
      )
      await engine.mount(request('one', 'b'))
      assert.is(await world.read(world.target('b', 'one'), 'file'), 'precious')
      for (const pod of ['a', 'b']) await engine.unmount('one', world.target(pod, 'one'))
      engine = await startEngine()
      await engine.grow('one', spec().sizeBytes + 64n * mebibyte)
      await engine.mount(request('one', 'c'))
      assert.is(await world.read(world.target('c', 'one'), 'file'), 'precious')
      await rejects('not-found', /Cannot take over two/, () => engine.adopt('two', spec()))
    },
  )

  check('what another project made becomes a volume like any other, with its data, once nothing uses it', async () => {
    const origin = '3e1d2c5a-93f4-4f7e-9a3b-2f6c1d5a7e11'
    if (!(await world.plantOther(origin, spec(), 'precious')))
      return await rejects('failed', /Cannot adopt/, () => engine.examine('one', fsType, origin))
    const release = await world.useOther(origin)
    await rejects('busy', /Cannot adopt/, () => engine.examine('one', fsType, origin))
    await rejects('busy', /Cannot adopt/, () => engine.adopt('one', spec(), origin))
    await release()
    await rejects('not-found', /Cannot adopt/, () => engine.examine('one', fsType, `${origin.slice(0, -1)}2`))
    const isDevice = world.parts.pool.sourceKind === 'device'
    if (isDevice && !isBlock)
      await rejects('failed', /must hold/, () => engine.examine('one', fsType === 'xfs' ? 'ext4' : 'xfs', origin))
    if (!isDevice) await rejects('failed', /no block device/, () => engine.examine('one', 'block', origin))
    assert.ok((await engine.examine('one', fsType, origin)).sizeBytes >= (isDevice ? spec().sizeBytes : 0n))
    assert.equal(await engine.list(), [])
    const adopted = await engine.adopt('one', spec(), origin)
    assert.equal(await engine.adopt('one', spec(), origin), adopted)
    assert.equal([adopted.name, adopted.sizeBytes >= spec().sizeBytes], ['one', true])
    await rejects('exists', /there is a volume one/, () => engine.examine('one', fsType, origin))
    engine = await startEngine()
    await engine.mount(request('one'))
    assert.is(await world.read(world.target('a', 'one'), 'file'), 'precious')
    await engine.unmount('one', world.target('a', 'one'))
    await engine.grow('one', spec().sizeBytes + 64n * mebibyte)
    await engine.mount(request('one'))
    assert.is(await world.read(world.target('a', 'one'), 'file'), 'precious')
    await engine.unmount('one', world.target('a', 'one'))
    await engine.remove('one')
    // Whoever died in between had it renamed, and not marked; and others name theirs as we do.
    await world.plantOther('two', spec(), 'precious')
    await engine.adopt('two', spec(), origin)
    await engine.mount(request('two'))
    assert.is(await world.read(world.target('a', 'two'), 'file'), 'precious')
  })

  check('a target that shows another volume is left alone', async () => {
    await engine.create('one', spec())
    await engine.create('two', spec())
    await engine.mount(request('one'))
    await rejects('busy', /mounted there/, () => engine.mount({ ...request('two'), target: world.target('a', 'one') }))
    assert.equal((await engine.find('two'))?.mounts, [])
    assert.is((await engine.find('one'))?.mounts.length, 1)
    // Whoever asked has the answer; the volumes are as they were.
    for (const name of ['one', 'two'])
      assert.equal([(await engine.find(name))?.state, (await engine.find(name))?.problems], ['ready', []])
  })

  check('what a failed mount took is given back', async () => {
    await engine.create('one', spec())
    await engine.create('two', spec())
    await engine.mount(request('one'))
    await engine.mount(request('two'))
    await engine.unmount('two', world.target('a', 'two'))
    await rejects('busy', /mounted there/, () => engine.mount({ ...request('two'), target: world.target('a', 'one') }))
    const bind = () => Promise.reject(new Error('no'))
    const failing = new Engine({ ...world.parts, mounts: { ...world.parts.mounts, bind, bindNode: bind } })
    await failing.start()
    await failing.mount(request('two')).then(
      () => assert.unreachable(),
      (error) => assert.is(error.message, 'no'),
    )
    assert.is((await world.parts.mounts.read()).at(`${world.parts.volumesDir}/two`), undefined)
    if (world.parts.pool.driverKind === 'LOOP') assert.is((await world.parts.pool.find('two'))?.source, undefined)
  })

  check(
    'an unmounting that fails leaves a volume that is stuck there, until it is not mounted there any more',
    async () => {
      await engine.create('one', spec())
      for (const pod of ['a', 'b']) await engine.mount(request('one', pod))
      const { mounts } = world.parts
      let isBusy = true
      const unmount = async (target: string) => {
        if (isBusy && target === world.target('a', 'one'))
          throw new VolumeError('busy', `Cannot unmount ${target}: it is busy.`)
        await mounts.unmount(target)
      }
      engine = await startEngine({ mounts: { ...mounts, unmount } })
      const heard: string[] = []
      engine.failures.onFailure((name, { operation, target }) => heard.push(`${name} ${operation} ${target}`))
      await rejects('busy', /it is busy/, () => engine.unmount('one', world.target('a', 'one')))
      assert.equal(heard, [`one unmount ${world.target('a', 'one')}`])
      const look = async () => {
        const { state, failure, problems } = (await engine.find('one')) ?? {}
        return [state, failure?.operation, failure?.target, problems]
      }
      const problem = `unmounting it failed: Cannot unmount ${world.target('a', 'one')}: it is busy.`
      assert.equal(await look(), ['stuck', 'unmount', world.target('a', 'one'), [problem]])
      // Another pod's end says nothing of this one's.
      await engine.unmount('one', world.target('b', 'one'))
      assert.is((await look())[0], 'stuck')
      isBusy = false
      await engine.unmount('one', world.target('a', 'one'))
      assert.equal(await look(), ['ready', undefined, undefined, []])
    },
  )

  check('what is mounted while the daemon still looks at what is there stays mounted, and known', async () => {
    await engine.create('one', spec())
    const early = new Engine(world.parts)
    await early.start()
    await Promise.all([
      early.recover(),
      early.mount(request('one', 'a')),
      early.recover(),
      early.mount(request('one', 'b')),
    ])
    assert.is((await early.find('one'))?.mounts.length, 2)
    await rejects('busy', /mounted on/, () => early.remove('one'))
  })

  check('many volumes at once, and many callers for one volume, each end as alone', async () => {
    const names = ['p', 'q', 'r', 's']
    await Promise.all(names.map((name) => engine.create(name, spec())))
    const pods = ['a', 'b', 'c']
    await Promise.all(names.flatMap((name) => pods.map((pod) => engine.mount(request(name, pod)))))
    await Promise.all(names.map((name) => world.write(world.target('a', name), 'file', name)))
    for (const name of names) assert.is(await world.read(world.target('c', name), 'file'), name)
    assert.equal(
      (await engine.list()).map((view) => [view.name, view.mounts.length]),
      names.map((name) => [name, 3]),
    )
    const created = await Promise.all([1, 2, 3].map(() => engine.create('same', spec())))
    assert.equal(created.map(({ action }) => action).sort(), ['created', 'unchanged', 'unchanged'])
    await Promise.all(names.flatMap((name) => pods.map((pod) => engine.unmount(name, world.target(pod, name)))))
    assert.equal((await world.parts.mounts.read()).under(world.parts.volumesDir), [])
  })

  check('a volume whose maker died before formatting is finished at the next start', async () => {
    const { pool, filesystems, journal } = world.parts
    await new Promise<void>((resolve) => {
      const hang = () => new Promise<never>(() => resolve())
      const isDevice = pool.sourceKind === 'device' && !isBlock
      const changes = isDevice
        ? { filesystems: { ...filesystems, signatures: hang } }
        : { journal: { ...journal, finish: hang } }
      startEngine(changes).then((doomed) => doomed.create('one', spec()), assert.unreachable)
    })
    engine = await startEngine()
    assert.is((await engine.find('one'))?.state, 'ready')
    await engine.mount(request('one'))
    await world.write(world.target('a', 'one'), 'file', 'text')
  })

  if (fsType === 'ext4') {
    check('a name that is none is refused before anything is done', async () => {
      for (const name of ['', 'a/b', '..', '-a', 'a b', 'ä', 'A', 'a'.repeat(300)])
        await rejects('invalid', /volume name/, () => engine.create(name, spec()))
      assert.equal(await engine.list(), [])
    })
  }

  check('a volume that was never made is not mounted', async () => {
    await rejects('not-found', /one/, () => engine.mount(request('one')))
    await engine.mount({ ...request('one'), create: spec() })
    assert.is((await engine.find('one'))?.mounts.length, 1)
  })

  check('the unmounting of a volume that is gone succeeds', async () => {
    assert.is((await engine.unmount('one', world.target('a', 'one'))).action, 'unchanged')
  })

  /** What growth ends in where the kernel does not allow it: an error that says so, and an unharmed volume. */
  async function refusesGrowth(): Promise<void> {
    await rejects('failed', /CAP_SYS_RESOURCE/, () => engine.grow('one', spec().sizeBytes * 2n))
    await engine.mount(request('one', 'after'))
    await world.write(world.target('after', 'one'), 'file', 'text')
  }

  test.run()
}

/** Runs a test's body, removes all volumes it left, and fails if anything of them stays. */
export async function withCleanUp(
  body: () => Promise<void>,
  startEngine: () => Promise<Engine>,
  world: World,
): Promise<void> {
  try {
    await body()
  } finally {
    const engine = await startEngine()
    await engine.recover()
    for (const { name, mounts } of await engine.list()) {
      for (const mount of mounts) await engine.unmount(name, mount.target)
      await engine.remove(name)
    }
  }
  assert.equal(await world.leftovers(), [], 'left behind')
}

/** Fails unless `work` throws a `VolumeError` of that code whose message matches. */
export async function rejects(code: VolumeErrorCode, message: RegExp, work: () => unknown): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof VolumeError)) throw error
    assert.is(error.code, code, error.message)
    assert.ok(message.test(error.message), `expected ${message}, not: ${error.message}`)
    return
  }
  assert.unreachable(`expected ${code}: ${message}`)
}
