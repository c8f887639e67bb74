/** Runs in a guest, in three boots of one disk: volumes, their data and what was half made, across restarts. */
import { mkdir, open, readFile } from 'node:fs/promises'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import { fsTypes } from '../../src/volume/pool.ts'
import { csiCalls, csiTarget } from '../crash/csi-calls.ts'
import { openLvmWorld, thinOptions } from '../machine-world.ts'
import { suite } from '../suite.ts'

const [kind = 'linear', step = 'make', front = 'flex'] = process.argv.slice(2)
const volumeGroup = 'elastic-local-vg'
const sizeBytes = 320n << 20n
const names = fsTypes.map((fsType) => `pvc-${fsType}`)

if (step === 'make') {
  await run('pvcreate', ['--quiet', '/dev/vda'])
  await run('vgcreate', ['--quiet', volumeGroup, '/dev/vda'])
  await mkdir('world')
}
const world = await openLvmWorld({
  volumeGroup,
  thin: kind === 'thin' ? thinOptions : undefined,
  folder: `${process.cwd()}/world`,
})
const engine = new Engine(world.parts)
const test = suite(`reboot, ${kind} by ${front}, ${step}`)
const csi = front === 'csi' ? csiCalls(world, engine) : undefined
const target = (name: string) => (csi ? csiTarget(world, 'a', name) : world.target('a', name))
const mount = (name: string) =>
  csi?.publish('a', name) ?? engine.mount({ name, target: target(name), readOnly: false, mountOptions: [] })
const unmount = (name: string) => csi?.unpublish('a', name) ?? engine.unmount(name, target(name))

async function writeSynced(name: string): Promise<void> {
  const file = await open(`${target(name)}/data`, 'w')
  await file.writeFile(`precious ${name}`.repeat(10_000))
  await file.sync()
  await file.close()
}

async function mustHoldData(name: string): Promise<void> {
  assert.is(await readFile(`${target(name)}/data`, 'utf8'), `precious ${name}`.repeat(10_000))
}

if (step === 'make') {
  test('volumes of each filesystem are made, mounted and written to', async () => {
    await engine.start()
    await engine.recover()
    for (const fsType of fsTypes) {
      await engine.create(`pvc-${fsType}`, { sizeBytes, fsType, mkfsOptions: [] })
      await mount(`pvc-${fsType}`)
      await writeSynced(`pvc-${fsType}`)
    }
    await engine.create('gone', { sizeBytes, fsType: 'ext4', mkfsOptions: [] })
    // The mounts stay, for the restart to take away.
    await engine.stop()
  })
}

if (step === 'interrupt') {
  test('after the restart all data is there, and work under way is cut', async () => {
    const { filesystems, pool } = world.parts
    const hang = () => new Promise<never>(() => {})
    const making = new Promise<void>((resolve) => {
      const make = async (...args: Parameters<typeof filesystems.make>) => {
        await filesystems.make(...args)
        resolve()
        return await hang()
      }
      const doomed = new Engine({ ...world.parts, filesystems: { ...filesystems, make } })
      doomed.start().then(() => doomed.create('half', { sizeBytes, fsType: 'ext4', mkfsOptions: [] }))
    })
    await making
    await engine.start()
    for (const name of names) {
      await mount(name)
      await mustHoldData(name)
    }
    const removing = new Promise<void>((resolve) => {
      pool.remove = () => {
        resolve()
        return hang()
      }
    })
    engine.remove('gone').catch(assert.unreachable)
    await removing
    process.stdout.write('CUT\n')
    await hang()
  })
}

if (step === 'check') {
  test('after the power cut all data is there, and what was under way is finished', async () => {
    await engine.start()
    await engine.recover()
    assert.equal(
      (await engine.list()).map(({ name, state }) => `${name} ${state}`),
      ['half', ...names].sort().map((name) => `${name} ready`),
    )
    for (const name of names) {
      await mount(name)
      await mustHoldData(name)
      await (csi?.expand('a', name, sizeBytes * 2n) ?? engine.grow(name, sizeBytes * 2n))
      await mustHoldData(name)
      assert.ok(((await engine.find(name))?.usage?.sizeBytes ?? 0n) > (sizeBytes * 3n) / 2n)
    }
    await mount('half')
    await writeSynced('half')
    for (const { name } of await engine.list()) {
      await unmount(name)
      await engine.remove(name)
    }
    assert.equal(await world.leftovers(), [])
    await engine.stop()
  })
}

test.run()
