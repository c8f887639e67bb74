import * as assert from 'uvu/assert'
import { contract, rejects } from '../../test/contract.ts'
import { deviceContract } from '../../test/device-contract.ts'
import { openMemoryWorld } from '../../test/memory-world.ts'
import { suite } from '../../test/suite.ts'
import { sharing } from '../sharing.ts'
import { Engine } from './engine.ts'
import { MemoryMachine } from './memory.ts'

contract('engine in memory', openMemoryWorld, ['ext4', 'xfs', 'btrfs', 'block'])
deviceContract('engine in memory', openMemoryWorld)

const test = suite('engine whose pool is away')
const spec = { sizeBytes: 64n << 20n, fsType: 'ext4', mkfsOptions: [] } as const

test('nothing is begun or looked for; what is mounted can be unmounted, and the rest follows when the pool is back', async () => {
  const machine = new MemoryMachine({ capacityBytes: 1n << 30n })
  const { pool, mounts, filesystems, journal } = machine
  const log = { info: () => {}, warn: () => {} }
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
  const request = (name: string) => ({ name, target: `/pods/${name}`, readOnly: false, mountOptions: [] })
  await engine.start()
  await engine.create('one', spec)
  await engine.mount(request('one'))
  const steps: string[] = []
  machine.onStep = (step) => {
    steps.push(step)
  }
  machine.isAway = true
  for (const work of [
    () => engine.create('two', spec),
    () => engine.adopt('two', spec),
    () => engine.mount({ ...request('two'), create: spec }),
    () => engine.attach('one'),
    () => engine.grow('one', spec.sizeBytes * 2n),
    () => engine.remove('one'),
    () => engine.stored('one'),
    () => engine.find('one'),
    () => engine.list(),
    () => engine.unmarked(),
  ])
    await rejects('unavailable', /away/, work)
  assert.equal(steps, [])
  assert.equal(await engine.unmount('one', '/pods/one'), { action: 'unmounted' })
  assert.equal(
    machine.mounted.map(({ target }) => target),
    ['/volumes/one'],
  )
  machine.isAway = false
  assert.equal(await engine.unmount('one', '/pods/one'), { action: 'unchanged' })
  assert.equal(machine.mounted, [])
  assert.is((await engine.remove('one')).action, 'removed')
})

test.run()

const moving = suite('engine whose device may come back as another')

moving('a mount that first finishes a growth which was cut short shows the device as it is then', async () => {
  const machine = new MemoryMachine({ capacityBytes: 1n << 30n })
  const { journal } = machine
  const filesystems = { ...machine.filesystems, zero: async () => {} }
  const log = { info: () => {}, warn: () => {} }
  let turn = 0
  // As with loop devices: what was let go, another volume may have by now.
  const pool = {
    ...machine.pool,
    activate: async (name: string) => ({ kind: 'device' as const, path: `/dev/memory/${name}-${turn}` }),
    deactivate: async () => {
      turn += 1
    },
  }
  const shown: string[] = []
  const bindNode = async (device: string) => {
    shown.push(device)
  }
  const start = async () => {
    const mounts = { ...machine.mounts, bindNode, isHeld: async () => false }
    const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
    await engine.start()
    return engine
  }
  await (await start()).create('one', { ...spec, fsType: 'block' })
  const id = machine.volumes.get('one')?.id
  await journal.write('one', { phase: 'growing', ...(id ? { id } : {}) })
  const engine = await start()
  await engine.mount({ name: 'one', target: '/pods/one', readOnly: false, mountOptions: [], fsType: 'block' })
  assert.equal(shown, [(await engine.attach('one')).path])
  assert.equal(machine.intents, new Map())
})

moving.run()

const inUse = suite('engine whose volume is in use where no mount table shows it')

inUse('it is not wiped, removed or checked, and is mounted all the same', async () => {
  const machine = new MemoryMachine({ capacityBytes: 1n << 30n })
  const { pool, mounts, filesystems, journal } = machine
  const log = { info: () => {}, warn: () => {} }
  const checked: string[] = []
  const check = async (device: string) => {
    checked.push(device)
  }
  const start = async () => {
    const parts = { pool, mounts, filesystems: { ...filesystems, check }, journal, volumesDir: '/volumes', log }
    const engine = new Engine(parts)
    await engine.start()
    return engine
  }
  const request = { name: 'one', target: '/pods/one', readOnly: false, mountOptions: [] }
  await (await start()).create('one', spec)
  machine.held.add('one')
  const steps: string[] = []
  machine.onStep = (step) => {
    steps.push(step)
  }
  const engine = await start()
  await rejects('busy', /^Cannot remove one as process 1 .*mounted/, () => engine.remove('one'))
  assert.equal(steps, [])
  assert.is((await engine.mount(request)).action, 'mounted')
  await engine.unmount('one', request.target)
  assert.equal(checked, [])
  machine.held.clear()
  await engine.mount(request)
  await engine.unmount('one', request.target)
  assert.equal(checked, ['/dev/memory/one'])
  assert.is((await engine.remove('one')).action, 'removed')
})

inUse('it is not formatted', async () => {
  const machine = new MemoryMachine({ capacityBytes: 1n << 30n })
  const { pool, mounts, filesystems, journal } = machine
  const log = { info: () => {}, warn: () => {} }
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
  machine.held.add('one')
  await rejects('busy', /^Cannot format one as the kernel has/, () => engine.create('one', spec))
  machine.held.clear()
  assert.is((await engine.create('one', spec)).action, 'created')
})

inUse.run()

const rights = suite('engine without the right to grow a mounted ext4')

rights('a mounted volume is not grown in part: nothing is changed, and it grows once it is unmounted', async () => {
  const machine = new MemoryMachine({ capacityBytes: 1n << 30n })
  machine.maySysResource = false
  const { pool, mounts, filesystems, journal } = machine
  const log = { info: () => {}, warn: () => {} }
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
  await engine.start()
  const { volume } = await engine.create('one', spec)
  const request = { name: 'one', target: '/pods/one', readOnly: false, mountOptions: [] }
  await engine.mount(request)
  const steps: string[] = []
  machine.onStep = (step) => {
    steps.push(step)
  }
  const growing = () => engine.grow('one', volume.sizeBytes * 2n)
  await rejects('failed', /CAP_SYS_RESOURCE.*Nothing was changed\. Stop its pods and start them again/, growing)
  assert.equal(steps, [])
  assert.equal([(await engine.find('one'))?.sizeBytes, machine.intents.size], [volume.sizeBytes, 0])
  // Of what it has already nothing is wanted.
  assert.is((await engine.grow('one', volume.sizeBytes)).action, 'unchanged')
  // As advised.
  await engine.unmount('one', request.target)
  assert.is((await growing()).action, 'grown')
  assert.equal(await engine.mount(request), { action: 'mounted' })
  const { state, usage, problems } = (await engine.find('one')) ?? {}
  assert.equal([state, usage?.sizeBytes, problems], ['ready', volume.sizeBytes * 2n, []])
})

rights.run()

const alone = suite('engine whose volume may be in one place only')

alone('it is in no second one, and is there still for whoever asks again, also beside a part of it', async () => {
  const machine = new MemoryMachine({ capacityBytes: 1n << 30n })
  const { pool, mounts, filesystems, journal } = machine
  const log = { info: () => {}, warn: () => {} }
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
  await engine.start()
  await engine.create('one', spec)
  const request = { name: 'one', target: '/pods/one', readOnly: false, mountOptions: [], isAlone: true }
  await engine.mount(request)
  // As the kubelet does for a subPath.
  await mounts.bind('/pods/one', '/pods/one/subpath', { readOnly: false })
  assert.equal(await engine.mount(request), { action: 'unchanged' })
  await rejects('busy', /may be in one place only/, () => engine.mount({ ...request, target: '/pods/two' }))
})

alone.run()

const many = suite('engine with many volumes')

many('a start and a list look at the mount table as often with 400 volumes as with 4', async () => {
  const count = async (volumes: number) => {
    const machine = new MemoryMachine({ capacityBytes: 1n << 40n })
    const { pool, mounts, filesystems, journal } = machine
    let looks = 0
    const read = sharing(async () => {
      looks += 1
      return await mounts.read()
    })
    const log = { info: () => {}, warn: () => {} }
    const parts = { pool, mounts: { ...mounts, read }, filesystems, journal, volumesDir: '/volumes', log }
    const engine = new Engine(parts)
    await engine.start()
    for (let index = 0; index < volumes; index += 1) {
      const name = `pvc-${index}`
      await engine.create(name, spec)
      if (index % 2 === 0) await engine.mount({ name, target: `/pods/${name}`, readOnly: false, mountOptions: [] })
    }
    const next = new Engine(parts)
    await next.start()
    looks = 0
    await next.recover()
    const looksAtStart = looks
    looks = 0
    assert.is((await next.list()).length, volumes)
    return { looksAtStart, looksOfList: looks }
  }
  assert.equal(await count(400), await count(4))
  assert.equal(await count(4), { looksAtStart: 2, looksOfList: 1 })
})

many(
  'a mount looks at the mount table once, and an unmount before and after it, whoever else has the volume',
  async () => {
    const machine = new MemoryMachine({ capacityBytes: 1n << 30n })
    const { pool, mounts, filesystems, journal } = machine
    let looks = 0
    const read = async () => {
      looks += 1
      return await mounts.read()
    }
    const log = { info: () => {}, warn: () => {} }
    const engine = new Engine({ pool, mounts: { ...mounts, read }, filesystems, journal, volumesDir: '/volumes', log })
    await engine.start()
    await engine.create('one', spec)
    const count = async (work: () => Promise<unknown>) => {
      looks = 0
      await work()
      return looks
    }
    const mount = (target: string) =>
      count(() => engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] }))
    const unmount = (target: string) => count(() => engine.unmount('one', target))
    assert.equal(
      [await mount('/a'), await mount('/b'), await mount('/b'), await unmount('/a'), await unmount('/b')],
      [1, 1, 1, 2, 2],
    )
  },
)

many.run()
