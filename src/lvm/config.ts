import { access, readFile, readlink, rm, stat, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { formatDeviceNumber } from '../device-number.ts'
import { makeFolders, replaceFile } from '../files.ts'
import type { Runner } from '../run.ts'
import { hasErrno } from '../volume/errors.ts'

/** The IPC namespace that the machine was started in (`PROC_IPC_INIT_INO` in include/linux/proc_ns.h). */
const initialIpc = 'ipc:[4026531839]'

/**
 * What udev is to LVM, which waits for it on a semaphore (udev_sync in lvm.conf(5)): `apart` where the two are in IPC
 * namespaces of their own, so that LVM would wait for ever.
 */
export type Udev = 'none' | 'apart' | 'together'

/** What udev is to the LVM of this process, or of the host. `root` is the folder that stands for `/`. */
export async function findUdev(root: string, hostTools: boolean): Promise<Udev> {
  const hostRoot = hostTools ? 'proc/1/root' : ''
  const listens = await access(join(root, hostRoot, 'run/udev/control')).then(
    () => true,
    () => false,
  )
  if (!listens) return 'none'
  const ipc = await readlink(join(root, 'proc', hostTools ? '1' : 'self', 'ns/ipc')).catch(() => undefined)
  return ipc === initialIpc ? 'together' : 'apart'
}

/** How LVM answers is for whoever reads the answers to say. */
const ownSections = /^(log|report) \{\n(?:.*\n)*?\}\n/gm

/** A setting as a line of lvmconfig(8). */
const settingIn = (text: string, name: string) => new RegExp(`^\\s*${name}=(.*)$`, 'm').exec(text)?.[1]

/**
 * Whether LVM with these settings, all of them as lvmconfig(8) has them, looks for volume groups in what a loop device shows: what a
 * tenant wrote on a block device among it.
 */
export function looksIntoLoops(text: string, hasDevicesFile: boolean): boolean {
  if (hasDevicesFile && settingIn(text, 'use_devicesfile') === '1') return false
  return ['global_filter', 'filter'].every((name) => {
    const patterns = [...(settingIn(text, name) ?? '').matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(
      ([, pattern = '']) => pattern,
    )
    const first = patterns.find((pattern) => matches(pattern.slice(2, -1), '/dev/loop99'))
    return !first?.startsWith('r')
  })
}

/** Whether LVM looks for volume groups in what logical volumes hold. */
export const looksIntoVolumes = (text: string): boolean => settingIn(text, 'scan_lvs') === '1'

function matches(pattern: string, path: string): boolean {
  try {
    return new RegExp(pattern).test(path)
  } catch {
    return false
  }
}

/**
 * What keeps LVM from what tenants have written: from loop devices and partitions on them, which show the images of volumes, and which the kubelet lays over
 * block devices. But for those that the group itself is made of.
 */
function buildFilter(text: string, ownLoops: readonly string[]): string {
  const patterns = [...ownLoops.map((path) => `"a|^${path}$|"`), '"r|^/dev/loop[0-9]+(p[0-9]+)?$|"'].join(', ')
  // A device must pass both. The one that the machine has not set is ours alone: there no pattern lets it pass by another name.
  const name = settingIn(text, 'filter') === undefined ? 'filter' : 'global_filter'
  const theirs = settingIn(text, name)?.replace(/^\[|\]$/g, '')
  return `${name}=[ ${patterns}${theirs ? `, ${theirs}` : ''} ]`
}

/** Loop devices, or partitions on them, that are disks of the group; never on those over a volume of ours, an image or a device's node. */
async function findOwnLoops(run: Runner, volumeGroup: string): Promise<string[]> {
  const { stdout } = await run('losetup', [
    '--list',
    '--raw',
    '--noheadings',
    '--output',
    'NAME,BACK-MAJ:MIN,BACK-FILE',
  ])
  const nodes = formatDeviceNumber((await stat('/dev')).dev)
  const loops = [...stdout.matchAll(/^(\S+) (?:\\x20)*(\d+:\d+)(?:\\x20)* (.*)$/gm)]
    .filter(([, , disk, file = '']) => disk !== nodes && !file.includes('/.elastic-local/loop/'))
    .map(([, path = '']) => path)
  if (loops.length === 0) return []
  const wanted = ['--noheadings', '--options', 'pv_name', '--select', `vg_name=${volumeGroup}`]
  const disks = (await run('lvm', ['pvs', ...wanted], { timeoutMs: 60_000 })).stdout.split(/\s+/)
  return disks.filter((disk) => loops.includes(disk.replace(/(?<=[0-9])p[0-9]+$/, '')))
}

/**
 * Writes the `lvm.conf` that all our LVM commands run with into `folder` (lvm.conf(5), lvmreport(7)): the machine's own
 * settings, so that its filters, devices file, system ID and locks hold, and on top of them ours: every answer is one
 * JSON document with a log, and LVM looks into nothing that tenants have written. Where LVM cannot wait for udev it makes the device nodes itself. Hints are not used: those of
 * a container know nothing of what the host's LVM has done.
 */
export async function writeLvmConfig({
  run,
  folder,
  volumeGroup,
  hostTools,
}: {
  run: Runner
  folder: string
  volumeGroup: string
  hostTools: boolean
}): Promise<void> {
  const waits = (await findUdev('/', hostTools)) === 'together'
  const systemDir = process.env.LVM_SYSTEM_DIR || '/etc/lvm'
  const { stdout } = await run('lvm', ['lvmconfig', '--type', 'current'], { timeoutMs: 60_000 })
  const hasDevicesFile = await access(join(hostTools ? '/proc/1/root' : '/', systemDir, 'devices/system.devices')).then(
    () => true,
    () => false,
  )
  // An LVM that was built for another system may have another default.
  const usesDevicesFile = hasDevicesFile && !/^\s*use_devicesfile=/m.test(stdout)
  const filter = buildFilter(stdout, await findOwnLoops(run, volumeGroup))
  const text = `# Written by elastic-local.
${stdout.replaceAll(ownSections, '')}
${usesDevicesFile ? 'devices/use_devicesfile=1\n' : ''}devices { hints="none" scan_lvs=0 ${filter} ${waits ? '' : 'obtain_device_list_from_udev=0 '}}
activation { udev_sync=${waits ? 1 : 0} udev_rules=${waits ? 1 : 0} monitoring=0 }
backup { backup=1 backup_dir="${join(folder, 'backup')}" archive=0 }
global { use_lvmpolld=0 }
log {
  report_command_log=1
  command_log_selection="all"
  command_log_cols="log_seq_num,log_type,log_context,log_object_type,log_object_name,log_message,log_errno,log_ret_code"
}
report { output_format="json" time_format="%s" }
`
  await makeFolders(folder, 0o700)
  await ensureLink(join(systemDir, 'devices'), join(folder, 'devices'))
  const path = join(folder, 'lvm.conf')
  // Another process of ours may be reading it, or about to write the very same.
  if ((await readFile(path, 'utf8').catch(() => '')) !== text) await replaceFile(path, text)
}

/** LVM looks for the devices file beside its settings (lvmdevices(8)). */
async function ensureLink(target: string, path: string): Promise<void> {
  if ((await readlink(path).catch(() => undefined)) === target) return
  await rm(path, { recursive: true, force: true })
  await symlink(target, path).catch((error) => {
    // Another process of ours has just made it.
    if (!hasErrno(error, 'EEXIST')) throw error
  })
}
