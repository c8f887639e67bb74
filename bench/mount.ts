/**
 * A ready volume is mounted: by `mount` of the flex driver, against the driver's floor and the bare mount(2) calls; and by
 * NodePublishVolume, against mount(8) run twice.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { csiSocket } from '../src/csi/driver.ts'
import { Controller, Node } from '../src/csi/proto/csi_pb.ts'
import { type Called, callService } from '../test/csi-client.ts'
import { startDaemon } from './daemon.ts'
import { median, runProgram, say, sayRatio, sayTimes, timeMs } from './measure.ts'

const runs = Number(process.argv[2] ?? 40)
const volume = 'pvc-bench'
const options = JSON.stringify({ 'kubernetes.io/fsType': 'ext4', sizeBytes: String(64 << 20) })

/** Device mount and bind mount as system calls in one process, which times itself: syscall numbers of mount, umount2. */
const bareMounts = `use Time::HiRes 'time';
my ($mount, $umount, $device, $folder, $target) = @ARGV; my ($none, $type) = ("", "ext4");
my $start = time;
syscall($mount + 0, $device, $folder, $type, 0, $none) == 0 or die "mount: $!";
syscall($mount + 0, $folder, $target, $none, 4096, $none) == 0 or die "bind: $!";
printf "%.4f", (time - $start) * 1000;
syscall($umount + 0, $_, 0) == 0 or die "umount: $!" for $target, $folder;`
const syscalls = process.arch === 'arm64' ? ['40', '39'] : ['165', '166']

const volumeCapability = {
  accessType: { case: 'mount' as const, value: { fsType: 'ext4' } },
  accessMode: { mode: 7 as const },
}

const daemon = await startDaemon(['--csi=true'])
const controller = callService(csiSocket(daemon.kubelet), Controller)
/** As the kubelet calls: by a connection for each call. */
const call = async (work: (node: Called<typeof Node>) => Promise<unknown>) => {
  const { calls, client } = callService(csiSocket(daemon.kubelet), Node)
  await work(calls).finally(() => client.close())
}
const targetIn = (pod: string, name: string) =>
  join(daemon.kubelet, 'pods', pod, 'volumes/kubernetes.io~csi', name, 'mount')
const publish = (pod: string, name: string) =>
  call((node) => node.nodePublishVolume({ volumeId: name, targetPath: targetIn(pod, name), volumeCapability }))
const unpublish = (pod: string, name: string) =>
  call((node) => node.nodeUnpublishVolume({ volumeId: name, targetPath: targetIn(pod, name) }))

const times: Record<'init' | 'mount' | 'second' | 'bare', number[]> = { init: [], mount: [], second: [], bare: [] }
const csiTimes = { floor: [] as number[], publish: [] as number[], second: [] as number[], mounts: [] as number[] }
try {
  const plugins = join(daemon.folder, 'plugins')
  await mkdir(plugins)
  runProgram(daemon.executable, 'install', '--plugin-dir', plugins, '--socket', daemon.socket)
  const driver = join(plugins, 'volumes.k8s.elastic.co~elastic-local/elastic-local')
  const [first, second] = ['a', 'b'].map((pod) => daemon.target(pod, volume)) as [string, string]
  const bare = {
    image: join(daemon.folder, 'bare.img'),
    folder: join(daemon.folder, 'bare'),
    target: join(daemon.folder, 'bound'),
  }
  for (const folder of [first, second, bare.folder, bare.target]) await mkdir(folder, { recursive: true })
  runProgram('truncate', '--size', '64M', bare.image)
  runProgram('mkfs.ext4', '-q', bare.image)
  const device = runProgram('losetup', '--find', '--show', bare.image).trim()
  try {
    runProgram(driver, 'mount', first, options)
    runProgram(driver, 'unmount', first)
    for (let run = 0; run < runs; run++) {
      times.init.push(await timeMs(() => runProgram(driver, 'init')))
      times.mount.push(await timeMs(() => runProgram(driver, 'mount', first, options)))
      times.second.push(await timeMs(() => runProgram(driver, 'mount', second, options)))
      for (const target of [second, first]) runProgram(driver, 'unmount', target)
      times.bare.push(Number(runProgram('perl', '-e', bareMounts, ...syscalls, device, bare.folder, bare.target)))
    }
    for (let run = 0; run < runs; run++) {
      // One that was made just now is as the kubelet finds it: its device is there.
      const name = `pvc-csi-${run}`
      await controller.calls.createVolume({
        name,
        capacityRange: { requiredBytes: 64n << 20n },
        volumeCapabilities: [volumeCapability],
      })
      csiTimes.floor.push(await timeMs(() => call((node) => node.nodeGetInfo({}))))
      csiTimes.publish.push(await timeMs(() => publish('a', name)))
      csiTimes.second.push(await timeMs(() => publish('b', name)))
      for (const pod of ['b', 'a']) await unpublish(pod, name)
      await controller.calls.deleteVolume({ volumeId: name })
      csiTimes.mounts.push(
        await timeMs(() => {
          runProgram('mount', '-t', 'ext4', '--', device, bare.folder)
          runProgram('mount', '-o', 'bind', '--', bare.folder, bare.target)
        }),
      )
      for (const target of [bare.target, bare.folder]) runProgram('umount', '--', target)
    }
  } finally {
    runProgram('losetup', '--detach', device)
  }
} finally {
  controller.client.close()
  await daemon.stop()
}

say('## Mounting a ready volume (LOOP, ext4)\n')
sayTimes({
  'flex floor: `init`': times.init,
  'bare mount(2) calls: device, bind': times.bare,
  'flex `mount`': times.mount,
  'flex `mount` for a second pod': times.second,
})
sayRatio('flex mount / (floor + bare calls)', median(times.mount) / (median(times.init) + median(times.bare)), {
  most: 1.3,
})

say('### By CSI\n')
sayTimes({
  'mount(8) twice: device, bind': csiTimes.mounts,
  'CSI floor: NodeGetInfo, which does nothing': csiTimes.floor,
  NodePublishVolume: csiTimes.publish,
  'NodePublishVolume for a second pod': csiTimes.second,
})
sayRatio('NodePublishVolume / mount(8) twice', median(csiTimes.publish) / median(csiTimes.mounts), { most: 1.3 })
