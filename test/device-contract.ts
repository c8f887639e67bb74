import * as assert from 'uvu/assert'
import { Engine, type EngineParts, type VolumeSpec } from '../src/volume/engine.ts'
import { VolumeError } from '../src/volume/errors.ts'
import type { Intent } from '../src/volume/journal.ts'
import type { Pool } from '../src/volume/pool.ts'
import { rejects, type World, withCleanUp } from './contract.ts'
import { suite } from './suite.ts'

const mebibyte = 1n << 20n

/** Contract tests of pools whose volumes are devices, which need a filesystem; all, or those that `only` matches. Registers a uvu suite. */
export function deviceContract(title: string, openWorld: () => Promise<World>, only = /^/): void {
  const test = suite(`${title}, formatting`)
  let world: World
  const spec: VolumeSpec = { sizeBytes: 32n * mebibyte, fsType: 'ext4', mkfsOptions: [] }

  async function startEngine(changes: Partial<EngineParts> = {}): Promise<Engine> {
    const engine = new Engine({ ...world.parts, ...changes })
    await engine.start()
    return engine
  }

  const check = (name: string, body: () => Promise<void>) => {
    if (only.test(name)) test(name, () => withCleanUp(body, startEngine, world))
  }

  test.before(async () => {
    world = await openWorld()
  })
  test.after(async () => {
    await world.parts.pool.stop()
    await world.close()
  })

  check('a size below what the filesystem needs is refused before anything is made', async () => {
    const engine = await startEngine()
    for (const fsType of ['ext4', 'xfs', 'btrfs'] as const)
      await rejects('invalid', /at least/, () => engine.create('one', { ...spec, fsType, sizeBytes: mebibyte }))
    assert.equal(await engine.list(), [])
  })

  check("a removed volume's data is not on the next one's device, also when its removal was cut short", async () => {
    const text = 'precious and secret'
    const target = world.target('a', 'one')
    for (const isCutShort of [false, true]) {
      let engine = await startEngine()
      await engine.create('one', spec)
      await engine.mount({ name: 'one', target, readOnly: false, mountOptions: ['sync'] })
      await world.write(target, 'file', text)
      assert.ok(await world.holds((await engine.attach('one')).path, text))
      await engine.unmount('one', target)
      if (isCutShort) {
        await new Promise<void>((resolve) => {
          const die = () => new Promise<never>(() => resolve())
          const pool = replacing(world.parts.pool, { remove: die })
          startEngine({ pool, filesystems: { ...world.parts.filesystems, wipe: die } }).then((doomed) =>
            doomed.remove('one'),
          )
        })
        engine = await startEngine()
        await engine.recover()
      } else await engine.remove('one')
      assert.is(await engine.find('one'), undefined)
      await engine.create('two', spec)
      assert.not.ok(await world.holds((await engine.attach('two')).path, text))
      await engine.remove('two')
    }
  })

  check('a failing mkfs says so, and leaves nothing', async () => {
    const engine = await startEngine()
    await rejects('failed', /Cannot (create|format)/, () => engine.create('one', { ...spec, mkfsOptions: ['--fail'] }))
    assert.equal(await engine.list(), [])
    assert.equal(await world.parts.journal.read(), new Map())
    assert.is((await engine.create('one', spec)).action, 'created')
  })

  check('a filesystem that this kernel cannot mount is found when it is made, and nothing of it stays', async () => {
    const engine = await startEngine()
    // No kernel mounts what holds nothing but a journal.
    const journal = { ...spec, mkfsOptions: ['-O', 'journal_dev'] }
    await rejects(
      'failed',
      /^Cannot create one with ext4 as this kernel cannot mount what mkfs made: .*mkfsOptions/s,
      () => engine.create('one', journal),
    )
    assert.equal(await engine.list(), [])
    assert.equal(await world.parts.journal.read(), new Map())
    assert.is((await engine.create('one', spec)).action, 'created')
    assert.equal((await world.parts.mounts.read()).under(world.parts.volumesDir), [])
  })

  check(
    'a volume whose maker died while it was seen whether it can be mounted is finished at the next start',
    async () => {
      const died = new Promise<void>((resolve) => {
        const unmount = () => new Promise<never>(() => resolve())
        startEngine({ mounts: { ...world.parts.mounts, unmount } }).then((doomed) => doomed.create('one', spec))
      })
      await died
      const engine = await startEngine()
      await engine.recover()
      assert.is((await engine.find('one'))?.state, 'ready')
      assert.equal((await world.parts.mounts.read()).under(world.parts.volumesDir), [])
    },
  )

  check('a new volume that turns out to hold something is not formatted', async () => {
    const died = new Promise<string>((resolve) => {
      const signatures = (device: string) => new Promise<never>(() => resolve(device))
      startEngine({ filesystems: { ...world.parts.filesystems, signatures } }).then((doomed) =>
        doomed.create('one', spec),
      )
    })
    const device = await died
    await world.plantSignature(device)
    const engine = await startEngine()
    await engine.recover()
    assert.is((await engine.find('one'))?.state, 'unfinished')
    assert.match((await engine.find('one'))?.problems.join() ?? '', /never finished/)
    await rejects('exists', /swap/, () => engine.attach('one'))
    assert.is((await engine.find('one'))?.state, 'unfinished')
    assert.equal(await world.parts.filesystems.signatures((await world.parts.pool.activate('one')).path), ['swap'])
  })

  check('a volume whose mkfs was interrupted is formatted again', async () => {
    const died = new Promise<void>((resolve) => {
      const finish = () => new Promise<never>(() => resolve())
      startEngine({ journal: { ...world.parts.journal, finish } }).then((doomed) => doomed.create('one', spec))
    })
    await died
    const engine = await startEngine()
    await engine.recover()
    assert.is((await engine.find('one'))?.state, 'ready')
    assert.equal(await world.parts.journal.read(), new Map())
  })

  check('a finished volume whose filesystem is lost is an error, never formatted anew', async () => {
    let engine = await startEngine()
    await engine.create('one', spec)
    const { path } = await engine.attach('one')
    await world.plantSignature(path)
    engine = await startEngine()
    const target = world.target('a', 'one')
    const mounting = () => engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
    await rejects('lost', /holds swap, and its filesystem is lost/, mounting)
    const { state, failure, problems } = (await engine.find('one')) ?? {}
    assert.equal([state, failure?.operation, failure?.target], ['lost', 'mount', target])
    assert.match(failure?.message ?? '', /its filesystem is lost/)
    assert.match(problems?.join() ?? '', /^mounting it failed: Cannot mount one /)
    assert.is((await engine.list())[0]?.state, 'lost')
    assert.equal(await world.parts.filesystems.signatures((await engine.attach('one')).path), ['swap'])
  })

  check('an intent about an earlier volume of that name harms nothing', async () => {
    let engine = await startEngine()
    await engine.create('one', spec)
    const { sizeBytes, fsType, mkfsOptions } = spec
    const making = { id: 'another', sizeBytes, fsType, mkfsOptions }
    const intents: Intent[] = [
      { phase: 'creating', ...making },
      { phase: 'formatting', ...making },
      { phase: 'growing', id: 'another' },
      { phase: 'removing', id: 'another' },
    ]
    for (const intent of intents) {
      await world.parts.journal.write('one', intent)
      engine = await startEngine()
      const target = world.target('a', 'one')
      await engine.mount({ name: 'one', target, readOnly: false, mountOptions: [], create: spec })
      await world.write(target, 'file', 'precious')
      await engine.unmount('one', target)
      await world.parts.journal.write('one', intent)
      engine = await startEngine()
      await engine.recover()
      assert.equal(await world.parts.journal.read(), new Map())
      await engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
      assert.is(await world.read(target, 'file'), 'precious')
      await engine.unmount('one', target)
    }
  })

  check('a volume that is known as made is never formatted or removed by an intent to make it', async () => {
    let engine = await startEngine()
    const { volume } = await engine.create('one', spec)
    const target = world.target('a', 'one')
    const request = { name: 'one', target, readOnly: false, mountOptions: [] }
    await engine.mount(request)
    await world.write(target, 'file', 'precious')
    await engine.unmount('one', target)
    const { sizeBytes, fsType, mkfsOptions } = spec
    for (const phase of ['creating', 'formatting'] as const) {
      // As an old backup of the journal brings it back.
      await world.parts.journal.write('one', { phase, id: volume.id ?? '', sizeBytes, fsType, mkfsOptions })
      engine = await startEngine()
      assert.is((await engine.find('one'))?.state, 'ready')
      assert.is((await engine.create('one', spec)).action, 'unchanged')
      await world.parts.journal.write('one', { phase, id: volume.id ?? '', sizeBytes, fsType, mkfsOptions })
      engine = await startEngine()
      await engine.recover()
      assert.equal(await world.parts.journal.read(), new Map())
      await engine.mount(request)
      assert.is(await world.read(target, 'file'), 'precious')
      await engine.unmount('one', target)
    }
    assert.is((await engine.remove('one')).action, 'removed')
    assert.equal(await world.parts.journal.readMade(), new Map())
  })

  check('a journal of an old backup, which knows of nothing that was made since, costs no data', async () => {
    const journal = { ...world.parts.journal, readMade: async () => new Map<string, string>() }
    let answer = async () => true
    const isMade = () => answer()
    let engine = await startEngine()
    const { volume } = await engine.create('one', spec)
    const target = world.target('a', 'one')
    const request = { name: 'one', target, readOnly: false, mountOptions: [] }
    await engine.mount(request)
    await world.write(target, 'file', 'precious')
    const isWhole = async () => {
      await engine.mount(request)
      assert.is(await world.read(target, 'file'), 'precious')
      await engine.unmount('one', target)
    }
    const { sizeBytes, fsType, mkfsOptions } = spec
    const intents = (['creating', 'formatting'] as const).map((phase) => ({
      ...{ phase, id: volume.id ?? '', sizeBytes, fsType, mkfsOptions },
    }))
    const restore = async (intent: Intent) => {
      await world.parts.journal.write('one', intent)
      engine = await startEngine({ journal, isMade })
      await engine.recover()
    }
    // As a pod has it while the daemon starts anew.
    await restore(intents[0] as Intent)
    assert.equal((await engine.find('one'))?.mounts.length, 1)
    await engine.unmount('one', target)
    await isWhole()
    for (const intent of intents) {
      // A note or the ledger says that it was made.
      await restore(intent)
      assert.equal([(await engine.find('one'))?.state, await journal.read()], ['ready', new Map()])
      await isWhole()
      // Neither can be asked, or neither knows of it: then its files say that it was in use.
      for (const [says, code, message] of [
        [() => Promise.reject(new VolumeError('unavailable', 'nobody answers')), 'unavailable', /nobody answers/],
        [async () => false, 'failed', /it holds files: the journal may be from an old backup/],
      ] as const) {
        answer = says
        await restore(intent)
        assert.is((await engine.find('one'))?.state, 'unfinished')
        for (const work of [() => engine.mount(request), () => engine.create('one', { ...spec, fsType: 'xfs' })])
          await rejects(code, message, work)
        assert.equal((await world.parts.mounts.read()).under(world.parts.volumesDir), [])
      }
      answer = async () => true
      // As a PersistentVolume has it made once somebody answers.
      assert.is((await engine.create('one', spec)).action, 'unchanged')
      assert.equal([(await engine.find('one'))?.state, (await engine.find('one'))?.problems.length], ['failing', 1])
      await isWhole()
      assert.equal([(await engine.find('one'))?.state, (await engine.find('one'))?.problems], ['ready', []])
    }
    // Who gives it up means what is there: the next one has none of it.
    answer = async () => false
    await restore(intents[0] as Intent)
    assert.is((await engine.remove('one')).action, 'removed')
    await engine.create('one', spec)
    assert.not.ok(await world.holds((await engine.attach('one')).path, 'precious'))
  })

  check('an intent that cannot be read costs its volume alone, and nothing where that is known as made', async () => {
    const { journal } = world.parts
    const damaged = async () =>
      new Map([...(await journal.read()), ['one', { phase: 'unreadable', problem: 'one.json is empty' } as const]])
    const startDamaged = (made: boolean) =>
      startEngine({
        journal: { ...journal, read: damaged, ...(made ? {} : { readMade: async () => new Map<string, string>() }) },
      })
    let engine = await startDamaged(false)
    await engine.create('one', spec)
    await engine.create('two', spec)
    const request = (name: string) => ({ name, target: world.target('a', name), readOnly: false, mountOptions: [] })
    engine = await startDamaged(false)
    await engine.recover()
    assert.equal(
      (await engine.list()).map(({ name, state }) => [name, state]),
      [
        ['one', 'unfinished'],
        ['two', 'ready'],
      ],
    )
    assert.match((await engine.find('one'))?.problems.join() ?? '', /unknown: one\.json is empty/)
    for (const work of [() => engine.mount(request('one')), () => engine.create('one', spec)])
      await rejects('failed', /it is unknown whether it was ever finished: one\.json is empty/, work)
    assert.is((await engine.find('one'))?.state, 'unfinished')
    await engine.mount(request('two'))
    await engine.unmount('two', world.target('a', 'two'))
    engine = await startDamaged(true)
    await engine.recover()
    assert.is((await engine.find('one'))?.state, 'ready')
    await engine.mount(request('one'))
    await engine.unmount('one', world.target('a', 'one'))
    engine = await startDamaged(false)
    assert.is((await engine.remove('one')).action, 'removed')
    assert.is((await engine.create('one', spec)).action, 'created')
  })

  check('a creation that was cut after its mkfs is repeated with another filesystem', async () => {
    const cut = async () => {
      await new Promise<void>((resolve) => {
        const finish = () => new Promise<never>(() => resolve())
        startEngine({ journal: { ...world.parts.journal, finish } }).then((doomed) => doomed.create('one', spec))
      })
    }
    const other = { ...spec, fsType: 'btrfs', sizeBytes: 256n * mebibyte } as const
    for (const recovers of [false, true]) {
      await cut()
      const engine = await startEngine()
      if (recovers) await engine.recover()
      assert.is((await engine.create('one', other)).action, recovers ? 'unchanged' : 'created')
      assert.is((await world.parts.pool.find('one'))?.fsType, recovers ? 'ext4' : 'btrfs')
      await engine.mount({ name: 'one', target: world.target('a', 'one'), readOnly: false, mountOptions: [] })
      await engine.unmount('one', world.target('a', 'one'))
      await engine.remove('one')
    }
  })

  check('a volume whose making was cut short before it was blank is not used', async () => {
    const engine = await startEngine()
    const { sizeBytes, fsType, mkfsOptions } = spec
    await world.parts.journal.write('one', { phase: 'creating', id: 'cut', sizeBytes, fsType, mkfsOptions })
    await world.parts.pool.create('one', { id: 'cut', sizeBytes, fsType })
    const device = (await world.parts.pool.activate('one')).path
    await world.parts.filesystems.make(device, 'ext4', [], spec.sizeBytes)
    await world.parts.pool.deactivate('one')
    const next = await startEngine()
    await next.create('one', spec)
    assert.is.not((await world.parts.pool.find('one'))?.id, 'cut')
    await engine.stop()
  })

  check('a mount that asks for another filesystem than there is, is refused', async () => {
    const engine = await startEngine()
    await engine.create('one', spec)
    const target = world.target('a', 'one')
    const mounting = () => engine.mount({ name: 'one', target, readOnly: false, mountOptions: [], fsType: 'xfs' })
    await rejects('invalid', /holds ext4/, mounting)
    // The request was wrong; the volume is as it was.
    assert.equal([(await engine.find('one'))?.state, (await engine.find('one'))?.problems], ['ready', []])
    assert.equal((await world.parts.mounts.read()).under(world.parts.volumesDir), [])
  })

  check(
    'a filesystem on which the kernel has found errors is said to have them, and checked at the next mount',
    async () => {
      let found = false
      let checks = 0
      const filesystems = {
        ...world.parts.filesystems,
        hasErrors: async () => found,
        check: async () => {
          checks += 1
        },
      }
      const engine = await startEngine({ filesystems })
      const target = world.target('a', 'one')
      const request = { name: 'one', target, readOnly: false, mountOptions: [] }
      await engine.mount({ ...request, create: spec })
      await engine.unmount('one', target)
      await engine.mount(request)
      assert.is(checks, 0)
      assert.equal((await engine.find('one'))?.problems, [])
      found = true
      assert.equal((await engine.find('one'))?.problems, ['the kernel has found errors on its filesystem'])
      await engine.unmount('one', target)
      await engine.mount(request)
      assert.is(checks, 1)
    },
  )

  check('what could not be mounted is checked before it is tried again', async () => {
    let fails = false
    let checks = 0
    const { filesystems, mounts } = world.parts
    const engine = await startEngine({
      mounts: {
        ...mounts,
        mountDevice: async (...args) => (fails ? Promise.reject(new Error('no')) : mounts.mountDevice(...args)),
      },
      filesystems: {
        ...filesystems,
        check: async () => {
          checks += 1
        },
      },
    })
    const request = { name: 'one', target: world.target('a', 'one'), readOnly: false, mountOptions: [] }
    await engine.create('one', spec)
    fails = true
    await engine.mount(request).then(
      () => assert.unreachable(),
      (error) => assert.is(error.message, 'no'),
    )
    const failing = await engine.find('one')
    assert.equal([failing?.state, failing?.problems], ['failing', ['mounting it failed: no']])
    fails = false
    await engine.mount(request)
    assert.is(checks, 1)
    const after = await engine.find('one')
    assert.equal([after?.state, after?.failure, after?.problems], ['ready', undefined, []])
  })

  check('a growth that was cut short between device and filesystem is finished at the next start', async () => {
    if (!world.canGrow('ext4')) return
    const failing = async () => {
      throw new VolumeError('failed', 'the disk burns')
    }
    const engine = await startEngine({ filesystems: { ...world.parts.filesystems, grow: failing } })
    await engine.create('one', spec)
    await rejects('failed', /burns/, () => engine.grow('one', spec.sizeBytes * 2n))
    const view = await engine.find('one')
    assert.equal(
      [view?.state, view?.problems],
      ['failing', ['its growth was not finished; grow it again', 'growing it failed: the disk burns']],
    )
    assert.equal([view?.failure?.operation, view?.failure?.message], ['grow', 'the disk burns'])
    const request = { name: 'one', target: world.target('a', 'one'), readOnly: false, mountOptions: [] }
    await engine.mount(request)
    await world.write(request.target, 'file', 'precious')
    await engine.create('one', spec)
    await rejects('no-space', /one/, () => engine.grow('one', 1n << 50n))
    await rejects('failed', /burns/, () => engine.grow('one', spec.sizeBytes * 2n))
    const next = await startEngine()
    await next.recover()
    const after = await next.find('one')
    assert.equal(after?.problems, [])
    assert.ok((after?.usage?.sizeBytes ?? 0n) > (spec.sizeBytes * 3n) / 2n)
    assert.is(await world.read(request.target, 'file'), 'precious')
    assert.equal(await world.parts.journal.read(), new Map())
  })

  check('a growth that was refused, or that failed before it began, is not made up for at the next start', async () => {
    const { pool } = world.parts
    const engine = await startEngine()
    await engine.create('one', spec)
    await rejects('no-space', /one/, () => engine.grow('one', 1n << 50n))
    const failing = async () => {
      throw new VolumeError('failed', 'the disk burns')
    }
    const next = await startEngine({ pool: replacing(pool, { grow: failing }) })
    assert.is((await engine.find('one'))?.state, 'ready')
    await rejects('failed', /burns/, () => next.grow('one', spec.sizeBytes * 2n))
    assert.is((await next.find('one'))?.state, 'failing')
    assert.equal(await world.parts.journal.read(), new Map())
  })

  check('a removal that fails leaves a volume that is stuck, until it succeeds', async () => {
    const { filesystems, pool } = world.parts
    const failing = async () => {
      throw new VolumeError('failed', 'the disk burns')
    }
    const engine = await startEngine({
      filesystems: { ...filesystems, wipe: failing },
      pool: replacing(pool, { remove: failing }),
    })
    await engine.create('one', spec)
    await rejects('failed', /burns/, () => engine.remove('one'))
    const view = await engine.find('one')
    assert.equal([view?.state, view?.failure?.operation, view?.failure?.message], ['stuck', 'remove', 'the disk burns'])
    const next = await startEngine()
    await next.recover()
    assert.is(await next.find('one'), undefined)
  })

  check('the removal of a volume whose growth was cut short wipes it all the same', async () => {
    const wiped: string[] = []
    const { filesystems } = world.parts
    const wipe = async (device: string) => {
      wiped.push(device)
      await filesystems.wipe(device)
    }
    const engine = await startEngine({ filesystems: { ...filesystems, wipe } })
    const { volume } = await engine.create('one', spec)
    await world.parts.journal.write('one', { phase: 'growing', ...(volume.id ? { id: volume.id } : {}) })
    const next = await startEngine({ filesystems: { ...filesystems, wipe } })
    await next.remove('one')
    assert.is(wiped.length, volume.leavesBlocks ? 1 : 0)
  })

  check('an interrupted removal is finished at the next start', async () => {
    const engine = await startEngine()
    await engine.create('one', spec)
    const id = (await world.parts.pool.find('one'))?.id ?? ''
    await world.parts.journal.write('one', { phase: 'removing', id })
    const next = await startEngine()
    assert.is((await next.find('one'))?.state, 'removing')
    await rejects('not-found', /being removed/, () => next.attach('one'))
    await next.recover()
    assert.is(await next.find('one'), undefined)
    assert.equal(await world.parts.journal.read(), new Map())
  })

  test.run()
}

/** The same pool with some methods of its own. */
function replacing(pool: Pool, changes: Partial<Pool>): Pool {
  return new Proxy(pool, {
    get: (_, key: keyof Pool) => {
      const value = changes[key] ?? pool[key]
      return typeof value === 'function' ? value.bind(pool) : value
    },
  })
}
