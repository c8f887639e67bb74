/**
 * Runs in a guest: LVM of a daemon in its container, on a host with udev and LVM settings of its own. The container is
 * namespaces with the mounts that deploy.yaml gives the daemon.
 */
import { writeFile } from 'node:fs/promises'
import * as assert from 'uvu/assert'
import { checkUdev } from '../../src/doctor/udev.ts'
import { findUdev } from '../../src/lvm/config.ts'
import { run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import { openLvmWorld, thinOptions } from '../machine-world.ts'
import { suite } from '../suite.ts'
import { findHostMounts, hostSettings, type Pod, readPod, startHost } from './host.ts'

const mebibyte = 1n << 20n
const volumeGroup = 'elastic-local-vg'
/** Well above what anything takes that waits for nobody. */
const patienceMs = 120_000
const isInside = process.argv[2] === 'inside'
const test = suite('LVM in a container')

// The guest's own; a daemon has another.
delete process.env.LVM_SYSTEM_DIR

/** Runs a program in a container of that pod; it sees of the host's `/run`, `/dev` and `/etc/lvm` what the pod mounts. */
async function inContainer(pod: Pod, ...command: string[]) {
  const mounts = findHostMounts(pod)
  const script = [
    'mkdir -p /tmp/host',
    ...mounts.map(({ name, path }) => `mkdir -p ${path} /tmp/host/${name} && mount --rbind ${path} /tmp/host/${name}`),
    ...['/run', '/dev', '/etc/lvm'].map((folder) => `mount -t tmpfs tmpfs ${folder}`),
    ...mounts.map(({ name, mountPath }) => `mkdir -p ${mountPath} && mount --rbind /tmp/host/${name} ${mountPath}`),
    'exec "$@"',
  ].join(' && ')
  const namespaces = ['--mount', '--propagation', 'private', '--uts', ...(pod.hostIPC ? [] : ['--ipc'])]
  const limited = ['timeout', '--signal', 'KILL', `${patienceMs / 1000}`, ...command]
  return await run('unshare', [...namespaces, '--', 'sh', '-ec', script, 'sh', ...limited])
}

/** Makes, mounts, grows and removes a volume with the LVM of the container, or with the host's. */
async function useVolumes(hostTools: boolean, thin: boolean): Promise<void> {
  const patient = { root: '/', settings: { driverKind: 'LVM', hostTools } } as Parameters<typeof checkUdev>[0]
  const [finding] = await checkUdev(patient)
  process.stdout.write(`udev ${await findUdev('/', hostTools)} ${finding?.status}\n`)
  const world = await openLvmWorld({ volumeGroup, hostTools, thin: thin ? thinOptions : undefined })
  const engine = new Engine(world.parts)
  await engine.start()
  if (process.argv.includes('listed')) {
    const theirs = await world.plantForeign('theirs').catch((error: Error) => error.message)
    process.stdout.write(`without our tag: ${theirs}\n`)
  }
  const target = world.target('a', 'one')
  await engine.create('one', { sizeBytes: 16n * mebibyte, fsType: 'ext4', mkfsOptions: [] })
  await engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
  await engine.grow('one', 32n * mebibyte)
  await engine.unmount('one', target)
  await engine.remove('one')
  await engine.stop()
  await world.close()
}

const again = (pod: Pod, ...args: string[]) =>
  inContainer(pod, process.execPath, import.meta.filename, 'inside', ...args)

test('the container of deploy.yaml uses a group that only the settings of its host show, and udev', async () => {
  const pod = await readPod()
  // Nothing else may be activated on that host.
  await writeFile('/etc/lvm/lvm.conf', `${hostSettings}activation { volume_list=["@elastic-local"] }\n`)
  const { stdout } = await again(pod, 'listed')
  await writeFile('/etc/lvm/lvm.conf', hostSettings)
  assert.match(stdout, /^udev together ok\nwithout our tag: .*(volume_list|not active)/)
})

test('without hostIPC it does without udev, and doctor says so; thin volumes, too', async () => {
  const { hostIPC: _, ...pod } = await readPod()
  const { stdout } = await again(pod, 'thin')
  assert.match(stdout, /^udev apart warn\n/)
})

test("the host's LVM, started from such a container, waits for the host's udev", async () => {
  const { hostIPC: _, ...pod } = await readPod()
  const { stdout } = await again(pod, 'host-tools')
  assert.match(stdout, /^udev together ok\n/)
})

if (isInside) await useVolumes(process.argv.includes('host-tools'), process.argv.includes('thin'))
else {
  await startHost(volumeGroup)
  test.run()
}
