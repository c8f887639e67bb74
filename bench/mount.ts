/** `mount` of a ready volume through the flex driver, against the driver's floor and the bare mount(2) calls. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
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

const daemon = await startDaemon()
const times: Record<'init' | 'mount' | 'second' | 'bare', number[]> = { init: [], mount: [], second: [], bare: [] }
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
  } finally {
    runProgram('losetup', '--detach', device)
  }
} finally {
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
