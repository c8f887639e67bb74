/**
 * Runs in a guest: tenants who write a volume group on a block device of theirs, on a host with udev, whose rules have LVM activate
 * what appears.
 */
import { readFile, writeFile } from 'node:fs/promises'
import * as assert from 'uvu/assert'
import type { Patient } from '../../src/doctor/patient.ts'
import { checkScanning } from '../../src/doctor/scanning.ts'
import { run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import { rejects } from '../contract.ts'
import { openLoopWorld, openLvmWorld } from '../machine-world.ts'
import { suite } from '../suite.ts'

const mebibyte = 1n << 20n
const volumeGroup = 'elastic-local-vg'
const spec = { sizeBytes: 64n * mebibyte, fsType: 'block', mkfsOptions: [] } as const
const test = suite('block devices of hostile tenants')
const lvm = async (...args: string[]) => (await run('lvm', args)).stdout.trim()
const settle = () => run('udevadm', ['settle'])
const attach = async (...args: string[]) => (await run('losetup', ['--find', '--show', ...args])).stdout.trim()
const detach = (device: string) => run('losetup', ['--detach', device])

// The guest's own; a host has another.
delete process.env.LVM_SYSTEM_DIR

/** Images of disks with a volume group, by its name. */
const hostile = new Map<string, Buffer>()
const hostileDisk = (group: string) => hostile.get(group) ?? Buffer.alloc(0)

async function startHost(): Promise<void> {
  await run('mount', ['-t', 'tmpfs', 'tmpfs', '/etc/lvm'])
  await writeFile('/etc/lvm/lvm.conf', 'devices { use_devicesfile=0 }\n')
  // Before the machine could see them.
  for (const group of [volumeGroup, 'tenant']) hostile.set(group, await buildHostileDisk(group))
  await run('/lib/systemd/systemd-udevd', ['--daemon'])
  await run('udevadm', ['trigger', '--action=add', '--subsystem-match=block'])
  await settle()
  await run('pvcreate', ['--quiet', '/dev/vda'])
  await run('vgcreate', ['--quiet', volumeGroup, '/dev/vda'])
}

/** An image with a physical volume of a group of that name, and a logical volume in it. */
async function buildHostileDisk(group: string): Promise<Buffer> {
  const path = `/tmp/${group}.img`
  await run('truncate', ['--size', '48M', path])
  const device = await attach(path)
  const config = ['--config', `devices { filter=[ "a|^${device}$|", "r|.*|" ] } activation { udev_sync=0 }`]
  await lvm('vgcreate', '--quiet', ...config, group, device)
  await lvm(
    'lvcreate',
    '--yes',
    '--quiet',
    ...config,
    '--wipesignatures=n',
    '--zero=n',
    '--name',
    'theirs',
    '--size',
    '8m',
    '--activate',
    'n',
    group,
  )
  await detach(device)
  return await readFile(path)
}

/** Waits until the host's LVM, which nobody waits for, has activated a group. */
async function activated(name: string): Promise<boolean> {
  for (let tries = 0; tries < 100; tries += 1) {
    await settle()
    if ((await run('dmsetup', ['ls'])).stdout.includes(name)) return true
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return false
}

const patient = {
  root: '/',
  inContainer: false,
  run,
  settings: { driverKind: 'LOOP', hostTools: false, kubeletDir: '/run/kubelet' },
} as Patient
const diagnose = async () => (await checkScanning(patient))[0]

test('a physical volume on a logical volume, which the kubelet has a loop device over, disturbs no command of ours', async () => {
  const world = await openLvmWorld({ volumeGroup })
  const engine = new Engine(world.parts)
  await engine.start()
  const target = world.target('a', 'one')
  await engine.create('one', spec)
  await engine.mount({ name: 'one', target, readOnly: false, mountOptions: [], fsType: 'block' })
  await writeFile(target, hostileDisk(volumeGroup), { flush: true })
  // As the kubelet does, by a mount of its own.
  const lock = await attach(`/dev/${volumeGroup}/one`)
  await settle()
  const seen = await lvm('pvs', '--noheadings', '-o', 'pv_name,vg_name')
  assert.match(seen, new RegExp(`${lock} +${volumeGroup}`), 'the host sees it')
  // As a daemon that is started now.
  const next = new Engine(await world.renew())
  await next.start()
  await next.recover()
  await next.create('two', spec)
  await next.grow('two', spec.sizeBytes * 2n)
  await next.grow('one', spec.sizeBytes * 2n)
  assert.equal(
    (await next.list()).map(({ name, problems }) => [name, problems]),
    [
      ['one', []],
      ['two', []],
    ],
  )
  assert.equal((await next.report()).problems, [])
  await next.unmount('one', target)
  await rejects('busy', /one/, () => next.remove('one'))
  // Where the host's LVM has activated it, its own administrator has to see to that.
  await run('dmsetup', ['remove', '--retry', 'elastic--local--vg-theirs'], { accept: [1] })
  await detach(lock)
  await settle()
  for (const name of ['one', 'two']) assert.is((await next.remove(name)).action, 'removed')
  for (const each of [engine, next]) await each.stop()
  await world.close()
})

test("a block device has nothing of others' on it, neither at first nor when it has grown while it is open", async () => {
  const world = await openLvmWorld({ volumeGroup })
  const engine = new Engine(world.parts)
  await engine.start()
  const free = async () => (await lvm('vgs', '--noheadings', '-o', 'vg_free_count', volumeGroup)).trim()
  const before = await free()
  // What others wrote, and removed without wiping it.
  await lvm('lvcreate', '--yes', '--quiet', '--name', 'others', '--size', '200m', volumeGroup)
  await run('sh', ['-c', `yes secret | head -c 200M > /dev/${volumeGroup}/others; sync`])
  await lvm('lvremove', '--yes', '--quiet', `${volumeGroup}/others`)
  const target = world.target('a', 'one')
  await engine.create('one', spec)
  await engine.create('between', spec)
  await engine.mount({ name: 'one', target, readOnly: false, mountOptions: [], fsType: 'block' })
  assert.not.ok(await world.holds(target, 'secret'))
  await world.write(target, 'file', 'precious')
  await engine.grow('one', spec.sizeBytes * 3n)
  assert.is(await world.sizeAt(target), spec.sizeBytes * 3n)
  assert.is(await world.read(target, 'file'), 'precious')
  assert.not.ok(await world.holds(target, 'secret'))
  await engine.unmount('one', target)
  // What a daemon leaves that is killed while it makes room.
  await lvm(
    'lvcreate',
    '--yes',
    '--quiet',
    '--name',
    'one_room',
    '--size',
    '8m',
    '--addtag',
    'elastic-local.room',
    volumeGroup,
  )
  const next = new Engine(await world.renew())
  await next.start()
  for (const name of ['one', 'between']) await next.remove(name)
  assert.is(await free(), before)
  for (const each of [engine, next]) await each.stop()
  await world.close()
})

test("on an image, it is activated by the host's LVM unless that has the filter that doctor names", async () => {
  const world = await openLoopWorld({ preallocate: false })
  const engine = new Engine(world.parts)
  await engine.start()
  const target = world.target('a', 'one')
  const mount = () => engine.mount({ name: 'one', target, readOnly: false, mountOptions: [], fsType: 'block' })
  await engine.create('one', spec)
  await mount()
  await writeFile(target, hostileDisk('tenant'), { flush: true })
  await engine.unmount('one', target)
  await mount()
  assert.ok(await activated('tenant-theirs'))
  await engine.unmount('one', target)
  await rejects('busy', /in use: tenant-theirs built on it/, () => engine.remove('one'))
  const found = await diagnose()
  assert.is(found?.status, 'warn')
  const [filter = ''] = /global_filter = \[.*?\]/.exec(found?.advice ?? '') ?? []
  await writeFile('/etc/lvm/lvm.conf', `devices { use_devicesfile=0\n${filter} }\n`)
  assert.is((await diagnose())?.status, 'ok')
  await run('dmsetup', ['remove', 'tenant-theirs'])
  await mount()
  await engine.unmount('one', target)
  await mount()
  await settle()
  assert.not.ok((await run('dmsetup', ['ls'])).stdout.includes('tenant'))
  await engine.unmount('one', target)
  assert.is((await engine.remove('one')).action, 'removed')
  await engine.stop()
  await world.close()
})

await startHost()
await run('mkdir', ['-p', '/run/kubelet/plugins/elastic-local'])
await writeFile('/run/kubelet/plugins/elastic-local/csi.sock', '')
test.run()
