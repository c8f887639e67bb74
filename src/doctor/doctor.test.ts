import { chmod, mkdir, mkdtemp, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { buildApp } from '../daemon/app.ts'
import { Drain } from '../daemon/drain.ts'
import { buildStandaloneFront } from '../daemon/front.ts'
import { close, listen } from '../daemon/server.ts'
import { buildCallOuts } from '../flex/call-outs.ts'
import { formatSettings } from '../flex/settings.ts'
import { buildDaemonKeeper } from '../inspect/keeper.ts'
import type { VolumeFacts } from '../k8s/model/persistent-volume.ts'
import { CommandError, type Output, type Runner, searchPath } from '../run.ts'
import { plain } from '../text/paint.ts'
import { Engine } from '../volume/engine.ts'
import { VolumeError } from '../volume/errors.ts'
import { MemoryMachine } from '../volume/memory.ts'
import type { PoolReport } from '../volume/pool.ts'
import { checkClaim } from './claim.ts'
import { checkCluster } from './cluster.ts'
import { checkCsi } from './csi.ts'
import { checkDaemon } from './daemon.ts'
import { examine, formatFindings } from './doctor.ts'
import type { Finding } from './finding.ts'
import { checkKernel } from './kernel.ts'
import { checkDriver, checkKubeletDir } from './kubelet.ts'
import type { Patient, PatientSettings } from './patient.ts'
import { checkPool, checkVolumesDir } from './pool.ts'
import { checkRights } from './rights.ts'
import { checkScanning } from './scanning.ts'
import { checkTools } from './tools.ts'
import { checkUdev } from './udev.ts'
import { checkVolumes } from './volumes.ts'

const now = new Date('2026-03-05T10:00:00Z')
const allCapabilities = '000001ffffffffff'
const driver = '/plugins/volumes.k8s.elastic.co~elastic-local/elastic-local'
const settings: PatientSettings = {
  driverKind: 'LOOP',
  volumesDir: '/volumes',
  lvmVolumeGroup: 'vg',
  lvmUseThinVolumes: false,
  hostTools: false,
  socket: '/socket',
  kubeletDir: '/kubelet',
  pluginDir: '/plugins',
  flex: true,
  csi: false,
}
const log = { info: () => {}, warn: () => {} }

/** A machine that is a folder, with those files in it, and everything else missing. */
async function openPatient(
  files: Record<string, string> = {},
  parts: Partial<Patient> & { with?: Partial<PatientSettings> } = {},
) {
  const root = await mkdtemp(join(tmpdir(), 'elastic-local-doctor-'))
  const put = async (path: string, text: string) => {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
  await put('/proc/self/status', `Uid:\t0\t0\t0\t0\nCapEff:\t${allCapabilities}\n`)
  await put('/proc/sys/kernel/osrelease', '6.1.0\n')
  await put('/proc/self/mountinfo', '1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n')
  for (const [path, text] of Object.entries(files)) {
    if (path.endsWith('/')) await mkdir(join(root, path), { recursive: true })
    else await put(path, text)
  }
  const patient: Patient = {
    root,
    version: '1.2.3',
    inContainer: false,
    run: async (file, args) => {
      throw new CommandError({ file, args }, { reason: 'is not installed' })
    },
    openEngine: async () => {
      throw new VolumeError('failed', 'no engine here')
    },
    daemon: buildDaemonKeeper(join(root, 'socket')),
    now,
    ...parts,
    settings: { ...settings, ...parts.with },
  }
  return { patient, root, put, close: () => rm(root, { recursive: true }) }
}

/** What checks found, as one line each. */
async function lines(found: Promise<Finding[]>): Promise<string[]> {
  return (await found).map(({ check, status, message, advice }) => {
    assert.is(advice === undefined, status === 'ok', `${check} must have advice exactly when it is not ok`)
    return `${status} ${check}: ${message}`
  })
}

async function adviceOf(found: Promise<Finding[]>): Promise<string> {
  return (await found).map((finding) => finding.advice ?? '').join('\n')
}

const answering =
  (output: Partial<Output>): Runner =>
  async () => ({ exitCode: 0, stdout: '', stderr: '', ...output })

/** An engine on a machine in memory, with what its pool reports changed. */
function openEngine(machine: MemoryMachine, change: (report: PoolReport) => Partial<PoolReport> = () => ({})): Engine {
  const { mounts, filesystems, journal } = machine
  const pool = {
    ...machine.pool,
    report: async () => {
      const report = await machine.pool.report()
      return { ...report, ...change(report) }
    },
  }
  return new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
}

const fronts = suite('doctor: fronts')

fronts('of a front that the daemon does not serve nothing is said', async () => {
  const { patient, close } = await openPatient({}, { with: { flex: false, csi: false } })
  assert.equal([...(await lines(checkDriver(patient))), ...(await lines(checkCsi(patient)))], [])
  await close()
})

fronts('CSI is well where the daemon listens for calls and for the kubelet', async () => {
  const { patient, root, put, close } = await openPatient({}, { with: { csi: true, kubeletDir: '/k' } })
  const servers: Server[] = []
  const serve = async (path: string) => {
    await mkdir(dirname(join(root, path)), { recursive: true })
    const server = createServer()
    servers.push(server)
    await new Promise<void>((resolve) => server.listen(join(root, path), resolve))
  }
  await put('/k/plugins_registry/file', '')
  assert.match(
    (await lines(checkCsi(patient))).join(),
    /^fail CSI: nothing listens on \/k\/plugins\/elastic-local\/csi\.sock/,
  )
  await serve('/k/plugins/elastic-local/csi.sock')
  assert.match(
    (await lines(checkCsi(patient))).join(),
    /^fail CSI: nothing listens on \/k\/plugins_registry\/elastic-local-reg\.sock: the kubelet does not find the driver/,
  )
  await serve('/k/plugins_registry/elastic-local-reg.sock')
  assert.match((await lines(checkCsi(patient))).join(), /^ok CSI: the daemon listens on /)
  for (const server of servers) server.close()
  await close()
})

fronts.run()

const rights = suite('doctor: rights')

rights('root with all capabilities is well', async () => {
  const { patient, close } = await openPatient()
  assert.equal(await lines(checkRights(patient)), [
    'ok root: this is root',
    'ok capabilities: CAP_SYS_ADMIN and CAP_SYS_RESOURCE are granted',
  ])
  await close()
})

rights('an ordinary user is told to become root, and nothing of capabilities', async () => {
  const { patient, close } = await openPatient({
    '/proc/self/status': 'Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n',
  })
  assert.equal(await lines(checkRights(patient)), ['fail root: this is user 1000'])
  await close()
})

rights('root without CAP_SYS_RESOURCE is warned, without CAP_SYS_ADMIN it fails', async () => {
  const withCaps = async (caps: string) => {
    const { patient, close } = await openPatient({ '/proc/self/status': `Uid:\t0\t0\t0\t0\nCapEff:\t${caps}\n` })
    const found = await lines(checkRights(patient))
    await close()
    return found[1]
  }
  assert.is(
    await withCaps('000001fffeffffff'),
    'warn capabilities: CAP_SYS_RESOURCE is missing: a mounted ext4 cannot grow',
  )
  assert.is(await withCaps('0000000000000000'), 'fail capabilities: CAP_SYS_ADMIN is missing: nothing can be mounted')
})

rights('a machine without /proc is nobody known', async () => {
  const { patient, close } = await openPatient({ '/proc/self/status': '' })
  assert.equal(await lines(checkRights(patient)), ['fail root: this is user -1'])
  await close()
})

rights.run()

const kernel = suite('doctor: kernel')
const filesystems = '\text4\n\txfs\n\tbtrfs\nnodev\ttmpfs\n'

kernel('finds what is loaded, built in, or can be loaded', async () => {
  const { patient, close } = await openPatient(
    {
      '/proc/filesystems': '\text4\n',
      '/proc/modules': '',
      '/proc/devices': 'Character devices:\n  1 mem\n\nBlock devices:\n253 device-mapper\n',
      '/lib/modules/6.1.0/modules.builtin': 'kernel/fs/xfs/xfs.ko\n',
      '/lib/modules/6.1.0/modules.dep':
        'kernel/drivers/md/dm-thin-pool.ko.zst: kernel/drivers/md/dm-mod.ko\nkernel/fs/btrfs/btrfs.ko.xz:\n',
    },
    { with: { driverKind: 'LVM', lvmUseThinVolumes: true } },
  )
  assert.equal(await lines(checkKernel(patient)), [
    'ok kernel: 6.1.0 has device-mapper, thin pools (loaded when needed), ext4, xfs, btrfs (loaded when needed)',
  ])
  await close()
})

kernel('fails for what is required and absent, and warns of the rest', async () => {
  const { patient, close } = await openPatient(
    {
      '/proc/filesystems': '\text4\n',
      '/proc/modules': '',
      '/lib/modules/6.1.0/modules.dep': 'kernel/fs/notxfs.ko:\n',
    },
    { with: { driverKind: 'LVM', lvmUseThinVolumes: true } },
  )
  assert.equal(await lines(checkKernel(patient)), [
    'ok kernel: 6.1.0 has ext4',
    'fail kernel: the kernel has no device-mapper: there are no logical volumes',
    'fail kernel: the kernel has no thin pools: there are no thin volumes',
    'warn kernel: the kernel has no xfs: volumes with xfs cannot be mounted',
    'warn kernel: the kernel has no btrfs: volumes with btrfs cannot be mounted',
  ])
  await close()
})

kernel('does not pretend to know when the modules are not here, as in a container', async () => {
  const { patient, close } = await openPatient({
    '/proc/filesystems': '\text4\n\tbtrfs\n',
    '/proc/modules': '',
    '/sys/module/loop/': '',
    '/dev/loop-control': '',
  })
  assert.equal(await lines(checkKernel(patient)), [
    'ok kernel: 6.1.0 has loop devices, ext4, btrfs',
    'warn kernel: xfs: not loaded, and it is unknown whether it could be, as /lib/modules/6.1.0 is not here',
  ])
  assert.match(await adviceOf(checkKernel(patient)), 'modprobe xfs')
  await close()
})

kernel("looks at the host's modules from a container that sees the host's processes", async () => {
  const { patient, close } = await openPatient(
    {
      '/proc/filesystems': filesystems,
      '/proc/modules': '',
      '/proc/1/root/lib/modules/6.1.0/modules.dep': 'kernel/drivers/md/dm-mod.ko.xz:\n',
    },
    { with: { driverKind: 'LVM' } },
  )
  assert.match((await lines(checkKernel(patient)))[0] ?? '', 'device-mapper (loaded when needed)')
  await close()
})

kernel('knows that a kernel without modules has what it has, and wants loop-control', async () => {
  const { patient, close } = await openPatient({ '/proc/filesystems': filesystems })
  assert.equal(await lines(checkKernel(patient)), [
    'ok kernel: 6.1.0 has ext4, xfs, btrfs',
    'fail kernel: the kernel has no loop devices: there are no image volumes',
    'fail kernel: /dev/loop-control is missing',
  ])
  await close()
})

kernel('wants nothing for directories', async () => {
  const { patient, close } = await openPatient({}, { with: { driverKind: 'BINDMOUNT' } })
  assert.equal(await lines(checkKernel(patient)), ['ok kernel: 6.1.0; directories need nothing special from it'])
  await close()
})

kernel.run()

const tools = suite('doctor: tools')

tools('names each tool that is missing, what it is for, and its package', async () => {
  const { patient, root, put, close } = await openPatient()
  for (const tool of [
    'flock',
    'mount',
    'umount',
    'losetup',
    'fallocate',
    'blkid',
    'wipefs',
    'mkfs.ext4',
    'e2fsck',
    'mkfs.btrfs',
    'btrfs',
    'mkfs.xfs',
  ]) {
    await put(`/bin/${tool}`, '')
    await chmod(join(root, 'bin', tool), 0o755)
  }
  await chmod(join(root, 'bin/mkfs.xfs'), 0o644)
  const found = checkTools(patient, [join(root, 'bin')])
  assert.equal(await lines(found), [
    'ok tools: 11 of 15 tools are there',
    'fail tools: prlimit is missing; it is needed for checking ext4 within the memory of a container',
    'fail tools: resize2fs is missing; it is needed for volumes with ext4',
    'warn tools: mkfs.xfs is missing; it is needed for volumes with xfs',
    'warn tools: xfs_growfs is missing; it is needed for volumes with xfs',
  ])
  assert.match(await adviceOf(found), 'apt-get install e2fsprogs\napt-get install xfsprogs')
  await close()
})

tools('are all missing on an empty machine, and that is said of each', async () => {
  const { patient, close } = await openPatient()
  const found = await lines(checkTools(patient, ['/nonexistent']))
  assert.is(found.length, 15)
  assert.not(found.some((line) => line.startsWith('ok')))
  await close()
})

tools('are looked for on the host, but its own beside it', async () => {
  const asked: string[][] = []
  const run: Runner = async (file, args) => {
    asked.push([file, ...args])
    const there = args.filter((arg) => arg.startsWith('/sbin/') && !arg.endsWith('/lvm')).join('\n')
    return { exitCode: 2, stdout: `${there}\n`, stderr: 'ls: cannot access' }
  }
  const { patient, root, put, close } = await openPatient({}, { run, with: { driverKind: 'LVM', hostTools: true } })
  await put('/own/nsenter', '')
  await chmod(join(root, 'own/nsenter'), 0o755)
  assert.equal((await lines(checkTools(patient, [join(root, 'own'), '/sbin']))).slice(1), [
    'fail tools: flock is missing; it is needed for keeping a second daemon from the same volumes',
    'fail tools: lvm is missing on the host; it is needed for logical volumes',
  ])
  assert.is(asked.length, 1)
  assert.equal(asked[0]?.slice(0, 7), ['nsenter', '--target', '1', '--mount', '--ipc', '--', 'ls'])
  await close()
})

tools('of a host that cannot be reached are one failure', async () => {
  const run = answering({ exitCode: 1, stderr: 'nsenter: cannot open /proc/1/ns/mnt: Permission denied' })
  const { patient, close } = await openPatient({}, { run, with: { hostTools: true } })
  const findings = await examine(patient)
  const found = findings.filter((finding) => finding.check === 'tools')
  assert.is(found.length, 1)
  assert.match(found[0]?.message ?? '', /hostPID.*Permission denied/)
  await close()
})

tools('are found on this machine', async () => {
  const { patient, close } = await openPatient({}, { with: { driverKind: 'BINDMOUNT' } })
  assert.equal(await lines(checkTools(patient, searchPath().split(':'))), [
    'ok tools: all are there: flock, mount, umount, rm',
  ])
  await close()
})

tools.run()

const udev = suite('doctor: udev')

udev('is waited for by LVM where there is one, and where LVM can', async () => {
  for (const [files, hostTools, line] of [
    [{}, false, 'ok udev: there is none, and LVM creates the device nodes itself'],
    [{ '/run/udev/control': '' }, false, 'ok udev: LVM waits for it'],
    [
      { '/proc/1/root/run/udev/control': '' },
      true,
      /^warn udev: LVM cannot wait for it, as this IPC namespace is not that of the machine/,
    ],
  ] as const) {
    const { patient, root, close } = await openPatient(files, { with: { driverKind: 'LVM', hostTools } })
    for (const [process, ipc] of [
      ['self', 'ipc:[4026531839]'],
      ['1', 'ipc:[4026532000]'],
    ] as const) {
      await mkdir(join(root, 'proc', process, 'ns'), { recursive: true })
      await symlink(ipc, join(root, 'proc', process, 'ns/ipc'))
    }
    const [found = ''] = await lines(checkUdev(patient))
    if (typeof line === 'string') assert.is(found, line)
    else assert.match(found, line)
    await close()
  }
  const { patient, close } = await openPatient()
  assert.equal(await lines(checkUdev(patient)), [])
  await close()
})

const claim = suite('doctor: claim')

claim('of a volume group needs an id of the machine that lasts', async () => {
  const { patient, put, close } = await openPatient({}, { with: { driverKind: 'LVM' } })
  assert.match(
    (await lines(checkClaim(patient)))[0] ?? '',
    /^warn claim: nothing keeps a second daemon from volume group vg/,
  )
  await put('/etc/machine-id', `${'a'.repeat(32)}\n`)
  const others = { ...patient, settings: { ...patient.settings, driverKind: 'LOOP' as const } }
  assert.equal(await lines(checkClaim(others)), [])
  assert.equal(await lines(checkClaim(patient)), [
    'ok claim: volume group vg can be claimed in the name of this machine',
  ])
  await close()
})

claim.run()

udev.run()

const scanning = suite('doctor: LVM of the machine')

scanning('must not look into block devices of tenants, which the finding says how to see to', async () => {
  const socket = { '/kubelet/plugins/elastic-local/csi.sock': '' }
  const devicesFile = { ...socket, '/etc/lvm/devices/system.devices': '' }
  const all = 'devices {\n\tfilter=["a|.*|"]\n\tglobal_filter=["a|.*|"]\n\tuse_devicesfile=0\n\tscan_lvs=0\n}\n'
  const filtered = all.replace('["a|.*|"]', '[ "a|^/dev/sd|", "r|^/dev/loop|", "a/.*/" ]')
  for (const [files, stdout, line] of [
    [socket, all, /^warn LVM of the machine: it scans loop devices/],
    [socket, filtered, /^ok LVM of the machine/],
    [socket, all.replace('global_filter=["a|.*|"]', 'global_filter=["r|loop|"]'), /^ok /],
    [socket, all.replace('["a|.*|"]', '["a|^/dev/loop|", "r|^/dev/loop|"]'), /^warn /],
    [socket, all.replace('["a|.*|"]', '["a|(|"]'), /^warn /],
    [socket, all.replace('use_devicesfile=0', 'use_devicesfile=1'), /^warn /],
    [devicesFile, all.replace('use_devicesfile=0', 'use_devicesfile=1'), /^ok /],
    [devicesFile, all, /^warn /],
    [socket, filtered.replace('scan_lvs=0', 'scan_lvs=1'), /^warn LVM of the machine: it scans logical volumes/],
  ] as const) {
    const { patient, close } = await openPatient(files, { with: { driverKind: 'LVM' }, run: answering({ stdout }) })
    const [found = ''] = await lines(checkScanning(patient))
    assert.match(found, line)
    if (found.startsWith('warn'))
      assert.match(await adviceOf(checkScanning(patient)), /global_filter = \[ "r\|\^\/dev\/loop\|" \]|scan_lvs = 0/)
    await close()
  }
})

scanning('is of no interest without LVM, or where there are no block devices', async () => {
  const socket = { '/kubelet/plugins/elastic-local/csi.sock': '' }
  for (const [files, driverKind, expected] of [
    [socket, 'LOOP', ['ok LVM of the machine: there is none']],
    [socket, 'BINDMOUNT', []],
    [{}, 'LOOP', []],
  ] as const) {
    const { patient, close } = await openPatient(files, { with: { driverKind } })
    assert.equal(await lines(checkScanning(patient)), expected)
    await close()
  }
})

scanning('is asked of the host where the daemon is in a container', async () => {
  const asked: string[] = []
  const run: Runner = async (file, args) => {
    asked.push([file, ...args].join(' '))
    return { exitCode: 0, stdout: '', stderr: '' }
  }
  const files = { '/kubelet/plugins/elastic-local/csi.sock': '' }
  const { patient, close } = await openPatient(files, { with: { driverKind: 'LOOP' }, inContainer: true, run })
  await checkScanning(patient)
  assert.match(asked.join(), /^nsenter --target 1 .* lvm lvmconfig/)
  await close()
})

scanning.run()

const folder = suite('doctor: volumes folder')

folder('that is missing will be made', async () => {
  const { patient, close } = await openPatient()
  assert.equal(await lines(checkVolumesDir(patient)), ['warn volumes folder: /volumes is not there yet'])
  await close()
})

folder('must be a folder, or a link to one', async () => {
  const { patient, root, close } = await openPatient({ '/volumes': 'text', '/disk/': '' })
  assert.equal(await lines(checkVolumesDir(patient)), ['fail volumes folder: /volumes is not a folder'])
  await rm(join(root, 'volumes'))
  await symlink('nowhere', join(root, 'volumes'))
  assert.equal(await lines(checkVolumesDir(patient)), ['fail volumes folder: /volumes is not a folder'])
  await rm(join(root, 'volumes'))
  await symlink(join(root, 'disk'), join(root, 'volumes'))
  const [line] = await lines(checkVolumesDir(patient))
  assert.match(
    line ?? '',
    /^ok volumes folder: \/volumes, which is .*\/disk, can be written, .* free$|in memory|overlay/,
  )
  await close()
})

folder('below a file is missing', async () => {
  const { patient, close } = await openPatient({ '/file': '' }, { with: { volumesDir: '/file/volumes' } })
  assert.equal(await lines(checkVolumesDir(patient)), ['warn volumes folder: /file/volumes is not there yet'])
  await close()
})

folder('that cannot be written fails', async () => {
  // sysfs takes no files from anybody.
  const { patient, close } = await openPatient({}, { root: '/', with: { volumesDir: '/proc/sys', driverKind: 'LVM' } })
  const found = await lines(checkVolumesDir(patient))
  assert.ok(
    found.some((line) => line.startsWith('fail volumes folder: /proc/sys')),
    found.join('\n'),
  )
  await close()
})

folder.run()

const pool = suite('doctor: pool')
const gibibyte = 1n << 30n

pool('with room is well', async () => {
  const machine = new MemoryMachine({ capacityBytes: 10n * gibibyte })
  const { patient, close } = await openPatient(
    { '/volumes/.elastic-local/loop/': '' },
    { openEngine: async () => openEngine(machine) },
  )
  assert.equal(await lines(checkPool(patient)), ['ok pool: LVM memory: 10 GiB of 10 GiB free, 0 volumes'])
  await close()
})

pool('that enforces no sizes says so, one without room warns, problems fail', async () => {
  const machine = new MemoryMachine({ capacityBytes: 10n * gibibyte })
  let change: Partial<PoolReport> = { enforcesSize: false }
  const { patient, close } = await openPatient(
    { '/volumes/.elastic-local/loop/': '' },
    { openEngine: async () => openEngine(machine, () => change) },
  )
  assert.match((await lines(checkPool(patient)))[0] ?? '', 'sizes are counted, not enforced')
  change = { freeBytes: 0n }
  assert.equal(await lines(checkPool(patient)), ['warn pool: LVM memory has no room for another volume'])
  change = {
    problems: [
      '1 of its disks are missing',
      'its metadata area is nearly full',
      'thin pool p has 91 % of its data area in use, and nothing new is created from 90 % on',
      'thin pool p has 81 % of its metadata area in use, and nothing new is created from 80 % on',
      'thin pool p does not zero its blocks, which may hold others\' data, and nothing new is created until "lvchange --zero y" fixes that',
      'thin pool p blocks writers when it is full, and nothing new is created until "lvchange --errorwhenfull y" fixes that',
      'Cannot use volume group vg as it is claimed by the daemon of this machine with --volumes-dir /b',
      'one was left suspended, which blocked all its users, and was resumed',
      'something new',
    ],
  }
  const found = await checkPool(patient)
  assert.equal(
    found.map((finding) => finding.status),
    Array(9).fill('fail'),
  )
  const advice = found.map((finding) => finding.advice ?? '')
  for (const [index, word] of [
    'pvs',
    '--metadatasize',
    'lvextend --size',
    '--poolmetadatasize',
    'may show the data of others: "lvchange --zero y',
    'would hang every volume in it: "lvchange --errorwhenfull y',
    'Give each daemon a volume group of its own',
    'killed in the middle of a change',
    'elastic-local pools',
  ].entries())
    assert.match(advice[index] ?? '', word)
  await close()
})

pool('is asked of the daemon that runs: what it cannot use now is said, with what to do', async () => {
  const { patient, machine, close } = await openDaemon()
  assert.equal(await lines(checkPool(patient)), ['ok pool: LVM memory: 10 GiB of 10 GiB free, 0 volumes'])
  machine.isAway = true
  assert.equal(await lines(checkVolumes(patient)), ['warn volumes: they cannot be checked now'])
  const report = machine.pool.report
  machine.pool.report = async () => {
    await machine.pool.mustBeThere()
    return await report()
  }
  assert.equal(await lines(checkPool(patient)), ['fail pool: Cannot use volumes on this node as its disk is away.'])
  const problem = 'what is at /volumes is not the folder: its disk is no longer mounted there; mount it again'
  machine.pool.report = async () => ({ ...(await report()), problems: [problem] })
  assert.match(await adviceOf(checkPool(patient)), /Mount it again; the daemon continues automatically/)
  await close()
})

pool('is not looked at without root', async () => {
  const { patient, close } = await openPatient({ '/proc/self/status': 'Uid:\t7\t7\t7\t7\n' })
  assert.equal(await lines(checkPool(patient)), ['warn pool: it was not checked'])
  await close()
})

pool('of images or directories is not there before the first start, and is not made', async () => {
  for (const driverKind of ['LOOP', 'BINDMOUNT'] as const) {
    const { patient, close } = await openPatient({}, { with: { driverKind } })
    assert.equal(await lines(checkPool(patient)), ['warn pool: there is none in /volumes yet'])
    await close()
  }
})

pool('of LVM is looked for without the volumes folder, too', async () => {
  const missing: Runner = async (file, args) => {
    throw new CommandError({ file, args }, { exitCode: 5, stderr: '  Volume group "vg" not found' })
  }
  for (const [run, line] of [
    [missing, 'fail pool: volume group vg is missing'],
    [answering({ stdout: '  vg\n' }), 'ok pool: volume group vg is there'],
    [undefined, 'fail pool: lvm is not installed'],
  ] as const) {
    const { patient, close } = await openPatient({}, { ...(run ? { run } : {}), with: { driverKind: 'LVM' } })
    assert.equal(await lines(checkPool(patient)), [line])
    await close()
  }
})

pool.run()

const kubelet = suite('doctor: kubelet')

kubelet('its folder must be there', async () => {
  const { patient, close } = await openPatient()
  assert.equal(await lines(checkKubeletDir(patient)), ['fail kubelet folder: /kubelet is missing'])
  await close()
  const file = await openPatient({ '/kubelet': '' })
  assert.equal(await lines(checkKubeletDir(file.patient)), ['fail kubelet folder: /kubelet is not a folder'])
  await file.close()
})

kubelet('its folder should be shared, and must be in a container', async () => {
  const isolated = '1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n2 1 8:2 / /kubelet rw master:3 - ext4 /dev/sdb rw\n'
  const { patient, put, close } = await openPatient({ '/kubelet/': '' })
  assert.equal(await lines(checkKubeletDir(patient)), [
    'ok kubelet folder: /kubelet is there, and mounts in it are shared with containers',
  ])
  await put('/proc/self/mountinfo', isolated)
  assert.match(
    (await lines(checkKubeletDir(patient)))[0] ?? '',
    /^warn kubelet folder: .* its mount \/kubelet is not shared: a daemon in a container/,
  )
  assert.match(
    (await lines(checkKubeletDir({ ...patient, inContainer: true })))[0] ?? '',
    /^fail kubelet folder: .* pods do not see/,
  )
  await close()
})

kubelet('its folder may be a link, and what is mounted there counts', async () => {
  const { patient, root, put, close } = await openPatient({ '/snap/kubelet/': '' })
  await symlink(join(root, 'snap/kubelet'), join(root, 'kubelet'))
  await put(
    '/proc/self/mountinfo',
    '1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /snap/kubelet rw shared:3 - ext4 /dev/sdb rw\n',
  )
  assert.equal(await lines(checkKubeletDir(patient)), [
    'ok kubelet folder: /kubelet, which is /snap/kubelet, is there, and mounts in it are shared with containers',
  ])
  await put(
    '/proc/self/mountinfo',
    '1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n2 1 8:2 / /snap/kubelet rw - ext4 /dev/sdb rw\n',
  )
  assert.match((await lines(checkKubeletDir(patient)))[0] ?? '', /^warn .* its mount \/snap\/kubelet is not shared/)
  assert.match(await adviceOf(checkKubeletDir(patient)), 'mount --make-rshared /snap/kubelet')
  await rm(join(root, 'snap'), { recursive: true })
  assert.equal(await lines(checkKubeletDir(patient)), [
    'fail kubelet folder: /kubelet is a link that leads to no folder',
  ])
  await close()
})

kubelet('that has another folder than the daemon is told of, however it was started', async () => {
  const { patient, root, put, close } = await openPatient({ '/kubelet/': '', '/other/': '' })
  await put('/proc/7/cmdline', '/usr/bin/something\0--root-dir=/elsewhere\0')
  const isFine = async () => assert.equal((await lines(checkKubeletDir(patient))).length, 1)
  await isFine()
  const starts: readonly [string, string][] = [
    ['/usr/bin/kubelet\0--v=2\0', '/var/lib/kubelet'],
    ['/var/lib/k0s/bin/kubelet\0--root-dir=/other\0', '/other'],
    ['/hyperkube\0kubelet\0--root-dir\0/gone/\0', '/gone'],
    ['/snap/microk8s/1/kubelite\0--kubelet-args-file=/args/kubelet\0', '/snap/common/var/lib/kubelet'],
  ]
  await put('/proc/9/root/args/kubelet', '--v=1\n--root-dir=$@SNAP_COMMON}/var/lib/kubelet\n'.replace('@', '{'))
  await put('/proc/9/environ', 'SNAP=/snap\0SNAP_COMMON=/snap/common\0')
  for (const [cmdline, rootDir] of starts) {
    await put('/proc/9/cmdline', cmdline)
    assert.equal((await lines(checkKubeletDir(patient))).slice(1), [
      `fail kubelet folder: the kubelet's --root-dir is ${rootDir}, and the daemon's --kubelet-dir is /kubelet: no pod can mount a volume`,
    ])
    assert.match(await adviceOf(checkKubeletDir(patient)), `ELASTIC_LOCAL_KUBELET_DIR, to ${rootDir}.`)
    assert.match(await adviceOf(checkKubeletDir({ ...patient, inContainer: true })), 'daemon.settings.kubeletDir')
  }
  // Where both are seen, they are the same.
  await mkdir(join(root, 'snap/common/var/lib'), { recursive: true })
  await symlink(join(root, 'kubelet'), join(root, 'snap/common/var/lib/kubelet'))
  await isFine()
  // A kubelet in a container has other mounts.
  await put('/proc/9/cmdline', '/usr/bin/kubelet\0')
  for (const [pid, namespace] of [
    ['1', 'mnt:[1]'],
    ['9', 'mnt:[2]'],
  ]) {
    await mkdir(join(root, `proc/${pid}/ns`), { recursive: true })
    await symlink(String(namespace), join(root, `proc/${pid}/ns/mnt`))
  }
  await isFine()
  await close()
})

/** A patient with a driver installed that answers `init` like that. */
async function openDriver(output: Partial<Output>, config?: string) {
  const opened = await openPatient({ [driver]: 'the program' }, { run: answering(output) })
  await chmod(join(opened.root, driver), 0o755)
  if (config !== undefined) await opened.put(join(dirname(driver), '.elastic-local.json'), config)
  return opened
}
const success = { stdout: '{"status":"Success"}\n' }
const here = formatSettings({ socket: '/socket', attach: false })

kubelet('wants a driver that is a file and may be executed', async () => {
  const { patient, put, root, close } = await openPatient()
  assert.equal(await lines(checkDriver(patient)), [`fail flex driver: ${driver} is missing: no pod can mount a volume`])
  const withoutFlex = { ...patient, settings: { ...patient.settings, flex: false } }
  assert.equal(await lines(checkDriver(withoutFlex)), [])
  assert.match(await adviceOf(checkDriver(patient)), '--volume-plugin-dir')
  await put(driver, '')
  await chmod(join(root, driver), 0o644)
  assert.equal(await lines(checkDriver(patient)), [`fail flex driver: ${driver} is not executable`])
  await rm(join(root, driver))
  await mkdir(join(root, driver))
  assert.equal(await lines(checkDriver(patient)), [`fail flex driver: ${driver} is not a file`])
  await close()
})

kubelet('wants a driver that answers init', async () => {
  for (const output of [
    { stdout: '{"status":"Failure"}' },
    { stdout: 'a shell script' },
    { stdout: '{"status":"Success"}', stderr: 'warning' },
  ]) {
    const { patient, close } = await openDriver(output)
    assert.match((await lines(checkDriver(patient)))[0] ?? '', /^fail flex driver: .* init (answers|does not answer)/)
    await close()
  }
  const { patient, close } = await openPatient({ [driver]: '' })
  await chmod(join(patient.root, driver), 0o755)
  assert.match((await lines(checkDriver(patient)))[0] ?? '', 'init does not answer')
  assert.match(await adviceOf(checkDriver(patient)), 'noexec')
  await close()
})

kubelet('compares the driver with this program', async () => {
  const { patient, root, put, close } = await openDriver(success, here)
  assert.match((await lines(checkDriver(patient)))[0] ?? '', /^ok flex driver: .* this program runs from source/)
  const executable = join(root, 'this')
  await put('/this', 'the program')
  assert.match(
    (await lines(checkDriver({ ...patient, executable })))[0] ?? '',
    /^ok flex driver: .* is this version \(1\.2\.3\)$/,
  )
  await put('/this', 'the next program')
  assert.match(
    (await lines(checkDriver({ ...patient, executable })))[0] ?? '',
    /^warn flex driver: .* is not this version/,
  )
  await close()
})

kubelet('wants the driver to ask this daemon', async () => {
  for (const [config, line] of [
    [here, 'ok flex driver: it asks the daemon on /socket'],
    [
      formatSettings({ socket: '/socket', attach: true }),
      'ok flex driver: it asks the daemon on /socket, in attach mode',
    ],
    [undefined, 'fail flex driver: it asks a daemon on /var/run/elastic-local/socket, and this one is on /socket'],
  ] as const) {
    const { patient, close } = await openDriver(success, config)
    assert.is((await lines(checkDriver(patient)))[1], line)
    await close()
  }
  const { patient, close } = await openDriver(success, '[]')
  assert.match((await lines(checkDriver(patient)))[1] ?? '', /^fail flex driver: Cannot use .*\.elastic-local\.json/)
  await close()
})

kubelet.run()

const daemon = suite('doctor: daemon')
/** For a socket that must be root's. */
const asRoot = process.getuid?.() === 0 ? daemon : daemon.skip

/** A patient whose daemon runs on a machine in memory. */
async function openDaemon(version = '1.2.3', reason?: string) {
  const opened = await openPatient({ '/volumes/': '' })
  const machine = new MemoryMachine({ capacityBytes: 10n * gibibyte })
  const engine = openEngine(machine)
  await engine.start()
  const app = buildApp({
    engine,
    drain: new Drain(),
    callOuts: buildCallOuts('/kubelet'),
    front: buildStandaloneFront(engine),
    version,
    health: { alive: [], ready: [() => reason] },
    log,
  })
  const server = await listen(app, join(opened.root, 'socket'))
  return {
    ...opened,
    machine,
    engine,
    close: async () => {
      await close(server)
      await opened.close()
    },
  }
}

asRoot('that runs, of this version, is well', async () => {
  const { patient, close } = await openDaemon()
  assert.equal(await lines(checkDaemon(patient)), [
    'ok socket: /socket is accessible to root only',
    'ok daemon: it answers, version 1.2.3',
  ])
  await close()
})

asRoot('of another version, or on a socket that others may use, is told of', async () => {
  const { patient, root, close } = await openDaemon('1.0.0')
  await chmod(join(root, 'socket'), 0o666)
  assert.equal(await lines(checkDaemon(patient)), [
    'fail socket: /socket has mode 0666 and owner 0: users other than root could remove volumes',
    'warn daemon: it answers, but is version 1.0.0; this is 1.2.3',
  ])
  await close()
})

asRoot('that is not ready says why', async () => {
  const { patient, close } = await openDaemon('1.2.3', 'it has no ledger yet')
  assert.is((await lines(checkDaemon(patient)))[1], 'fail daemon: it answers, but is not ready: it has no ledger yet')
  await close()
})

daemon('that is not there is told from one that left its socket, and from a file in its place', async () => {
  const none = await openPatient()
  assert.equal(await lines(checkDaemon(none.patient)), ['fail daemon: it does not run: /socket is missing'])
  await none.put('/socket', '')
  assert.equal(await lines(checkDaemon(none.patient)), ['fail daemon: /socket is not a socket'])
  await none.close()
  const stale = await openPatient()
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(join(stale.root, 'socket'), resolve))
  await rename(join(stale.root, 'socket'), join(stale.root, 'kept'))
  await new Promise((resolve) => server.close(resolve))
  await rename(join(stale.root, 'kept'), join(stale.root, 'socket'))
  assert.is((await lines(checkDaemon(stale.patient)))[1], 'fail daemon: it does not run: nothing listens on /socket')
  await stale.close()
})

daemon('that hangs is given up', async () => {
  const { patient, root, close } = await openPatient()
  const server = createServer(() => {})
  await new Promise<void>((resolve) => server.listen(join(root, 'socket'), resolve))
  await chmod(join(root, 'socket'), 0o600)
  const begun = Date.now()
  assert.match((await lines(checkDaemon(patient, 200)))[1] ?? '', /^fail daemon: .*it sent nothing for 0\.2 s/)
  assert.ok(Date.now() - begun < 2000)
  server.close()
  server.closeAllConnections()
  await close()
})

daemon('whose volumes are locked listens elsewhere', async () => {
  const { patient, root, put, close } = await openPatient({ '/volumes/.elastic-local/lock': '' })
  const { ino } = await stat(join(root, 'volumes/.elastic-local/lock'))
  await put(
    '/proc/locks',
    `1: POSIX  ADVISORY  WRITE 1 08:01:7 0 EOF\n2: FLOCK  ADVISORY  WRITE 99 08:01:${ino} 0 EOF\n`,
  )
  assert.match((await lines(checkDaemon(patient)))[0] ?? '', 'a process holds the lock of /volumes')
  await close()
})

daemon.run()

const volumes = suite('doctor: volumes')

volumes('that are well are counted', async () => {
  const { patient, engine, close } = await openDaemon()
  await engine.create('web', { sizeBytes: gibibyte, fsType: 'ext4', mkfsOptions: [] })
  assert.equal(await lines(checkVolumes(patient)), ['ok volumes: 1 volume, nothing wrong, nothing left over'])
  await close()
})

volumes('with problems are told of with what to do', async () => {
  const { patient, engine, machine, close } = await openDaemon()
  await engine.create('web', { sizeBytes: gibibyte, fsType: 'ext4', mkfsOptions: [] })
  machine.intents.set('web', { phase: 'removing', id: machine.volumes.get('web')?.id ?? '' })
  await engine.start()
  assert.equal(await lines(checkVolumes(patient)), ['warn volumes: web: its removal was not finished; remove it again'])
  assert.match(await adviceOf(checkVolumes(patient)), 'elastic-local volumes remove web')
  await close()
})

volumes('are looked at directly when there is no daemon', async () => {
  const machine = new MemoryMachine({ capacityBytes: 10n * gibibyte })
  const { patient, close } = await openPatient({ '/volumes/': '' }, { openEngine: async () => openEngine(machine) })
  assert.equal(await lines(checkVolumes(patient)), ['ok volumes: 0 volumes, nothing wrong, nothing left over'])
  const poor = await openPatient({ '/volumes/': '', '/proc/self/status': 'Uid:\t7\t7\t7\t7\n' })
  assert.equal(await lines(checkVolumes(poor.patient)), ['warn volumes: they were not checked'])
  const empty = await openPatient()
  assert.equal(await lines(checkVolumes(empty.patient)), ['ok volumes: there are none yet'])
  await Promise.all([close(), poor.close(), empty.close()])
})

const intent = JSON.stringify({ phase: 'removing', id: 'x' })
const intentFile = '/volumes/.elastic-local/intents/web.json'

volumes('leave intents, which are old when the daemon works and any when it does not', async () => {
  const working = await openDaemon()
  await working.put(intentFile, intent)
  const touch = (minutes: number) =>
    utimes(join(working.root, intentFile), now, new Date(now.getTime() - minutes * 60_000))
  await touch(5)
  assert.match((await lines(checkVolumes(working.patient)))[0] ?? '', /^ok/)
  await touch(90)
  assert.equal(await lines(checkVolumes(working.patient)), [
    'warn leftovers: web: its removal was started 1h30m ago and not finished',
  ])
  await working.close()
})

volumes('leave loop devices and mounts', async () => {
  const { patient, root, put, engine, close } = await openDaemon()
  await engine.create('web', { sizeBytes: gibibyte, fsType: 'ext4', mkfsOptions: [] })
  await put('/sys/block/loop0/loop/backing_file', '/volumes/.elastic-local/loop/gone.img (deleted)\n')
  await put('/sys/block/loop1/loop/backing_file', '/volumes/.elastic-local/loop/web.img\n')
  await put('/sys/block/loop2/loop/backing_file', '/elsewhere/gone.img (deleted)\n')
  await mkdir(join(root, 'sys/block/loop3'))
  const pod = '/kubelet/pods/uid/volumes/volumes.k8s.elastic.co~elastic-local'
  await put(
    '/proc/self/mountinfo',
    [
      '1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw',
      '2 1 7:0 / /volumes/gone rw - ext4 /dev/loop0 rw',
      '3 1 7:1 / /volumes/web rw - ext4 /dev/loop1 rw',
      '4 1 7:1 / /volumes/web/deeper rw - ext4 /dev/sdz rw',
      `5 1 7:0 / ${pod}/gone rw - ext4 /dev/loop0 rw`,
      `6 1 7:1 / ${pod}/web rw - ext4 /dev/loop1 rw`,
      '7 1 7:2 / /kubelet/pods/uid/volumes/kubernetes.io~csi/other rw - ext4 /dev/sdy rw',
      '',
    ].join('\n'),
  )
  assert.equal(await lines(checkVolumes(patient)), [
    `warn leftovers: /dev/loop0 is mounted on ${pod}/gone, and there is no volume gone`,
    'warn leftovers: /dev/loop0 is mounted on /volumes/gone, and there is no volume gone',
    'warn leftovers: /dev/loop0 still holds the deleted image /volumes/.elastic-local/loop/gone.img',
  ])
  await close()
})

volumes.run()

const doctor = suite('doctor')

doctor('says something useful with everything missing, and not as root', async () => {
  const { patient, close } = await openPatient({
    '/proc/self/status': 'Uid:\t7\t7\t7\t7\n',
    '/proc/self/mountinfo': '',
  })
  const findings = await examine(patient)
  assert.equal(
    [...new Set(findings.map((finding) => finding.check))],
    ['root', 'kernel', 'tools', 'volumes folder', 'pool', 'kubelet folder', 'flex driver', 'daemon', 'volumes'],
  )
  assert.equal(
    findings.filter((finding) => finding.status !== 'ok' && !finding.advice),
    [],
  )
  await close()
})

doctor('goes on when a check itself fails', async () => {
  const { patient, close } = await openPatient({ '/proc/self/mountinfo': 'no mountinfo at all\n', '/kubelet/': '' })
  const checked: string[] = []
  const findings = await examine(patient, (name) => checked.push(name))
  assert.match(
    findings.find((finding) => finding.check === 'kubelet folder')?.message ?? '',
    'this line is not mountinfo',
  )
  assert.is(checked.at(-1), 'takeover')
  await close()
})

doctor('does not call a fault what only this user may not see', async () => {
  const openEngine = async () => {
    throw Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' })
  }
  const { patient, close } = await openPatient({ '/volumes/.elastic-local/loop/': '' }, { openEngine })
  const found = (await examine(patient)).find((finding) => finding.check === 'pool')
  assert.equal([found?.status, found?.advice], ['warn', 'Run it with sudo.'])
  await close()
})

const takeover = suite('doctor: takeover')

takeover('says what a daemon with --takeover would do, and to what nobody belongs', async () => {
  const machine = new MemoryMachine({ capacityBytes: 1n << 30n })
  const engine = openEngine(machine)
  const spec = { sizeBytes: 64n << 20n, fsType: 'ext4', mkfsOptions: [] } as const
  const unmark = (name: string) => Object.assign(machine.volumes.get(name) ?? {}, { marked: false })
  for (const name of ['pvc-ours', 'pvc-orphan', 'pvc-moved', 'pvc-old', 'pvc-nowhere', 'pvc-nobodys', 'home'])
    await engine.create(name, spec)
  for (const name of ['pvc-old', 'pvc-nowhere', 'pvc-nobodys', 'home']) unmark(name)
  const volume = (name: string, label: string, more: Partial<VolumeFacts> = {}) =>
    Object.assign({} as VolumeFacts, { name, node: label, isOfOurMaking: false, isDeleting: false, ...more })
  const volumes = [
    volume('pvc-ours', 'here', { isOfOurMaking: true }),
    volume('pvc-old', 'here'),
    volume('pvc-nowhere', ''),
    volume('pvc-moved', 'there'),
    volume('pvc-lost', 'here', { isOfOurMaking: true }),
    volume('pvc-elsewhere', 'there'),
    volume('pvc-unmade', ''),
  ]
  const cluster = { node: 'here', readVolumes: async () => volumes }
  const { patient, close } = await openPatient({}, { openEngine: async () => engine, cluster })
  const found = (await checkCluster(patient)).map(({ status, message }) => `${status} ${message}`)
  assert.equal(found, [
    "warn pvc-old at /dev/memory/pvc-old (64 MiB) is the predecessor's",
    "warn pvc-nowhere at /dev/memory/pvc-nowhere (64 MiB) is the predecessor's, whose PersistentVolume names no node: it would be given this one",
    'fail pvc-lost is not here, although its PersistentVolume says so',
    'warn pvc-moved is here, and its PersistentVolume is for node there',
    'warn pvc-orphan is ours, and the cluster has no PersistentVolume for it',
    'warn pvc-nobodys at /dev/memory/pvc-nobodys (64 MiB) is not ours, and the cluster has no PersistentVolume for it',
  ])
  assert.ok(!machine.volumes.get('pvc-old')?.marked)
  await close()
})

takeover('finds nothing to say where all is well, or nobody asked', async () => {
  const machine = new MemoryMachine({ capacityBytes: 1n << 30n })
  const cluster = { node: 'here', readVolumes: async () => [] }
  const { patient, close } = await openPatient({}, { openEngine: async () => openEngine(machine), cluster })
  assert.equal(
    (await checkCluster(patient)).map(({ message }) => message),
    ['0 PersistentVolumes of node here, and each has its volume'],
  )
  const { cluster: _, ...alone } = patient
  assert.equal(await checkCluster(alone), [])
  await close()
})

takeover.run()

const sample: Finding[] = [
  { check: 'root', status: 'ok', message: 'this is root' },
  { check: 'tools', status: 'warn', message: 'btrfs is missing', advice: 'apt-get install btrfs-progs' },
  { check: 'daemon', status: 'fail', message: 'it does\u001b not run', advice: 'Start it.' },
]

doctor('marks findings with signs on a terminal, and with words elsewhere', () => {
  assert.is(
    formatFindings(sample, { paint: plain, terminal: true }),
    '✔  root    this is root\n!  tools   btrfs is missing\n           → apt-get install btrfs-progs\n✘  daemon  it does\\x1b not run\n           → Start it.\n\n1 failure, 1 warning.\n',
  )
  assert.match(
    formatFindings(sample, { paint: plain, terminal: false }),
    /^OK {4}root .*\nWARN {2}tools .*\n +→ apt.*\nFAIL {2}daemon /,
  )
})

doctor('sums up', () => {
  const last = (findings: Finding[]) =>
    formatFindings(findings, { paint: plain, terminal: false }).trim().split('\n').at(-1)
  assert.is(last(sample.slice(0, 1)), 'No problems found.')
  assert.is(last(sample.slice(0, 2)), 'No failures, 1 warning.')
  assert.is(last([...sample.slice(2), ...sample.slice(2)]), '2 failures.')
})

doctor.run()
