import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolders, replaceFile } from '../files.ts'
import type { Runner } from '../run.ts'

/**
 * Writes the `lvm.conf` that all our LVM commands run with into `folder` (lvm.conf(5), lvmreport(7)): the machine's
 * own `devices` section, so that its filters hold, and every answer as one JSON document with a log. Where no udev
 * listens, as in a container, LVM makes the device nodes itself. `root` is the root folder of the machine whose LVM
 * is run.
 */
export async function writeLvmConfig({
  run,
  folder,
  root,
}: {
  run: Runner
  folder: string
  root: string
}): Promise<void> {
  const udev = await access(join(root, 'run/udev/control')).then(
    () => 1,
    () => 0,
  )
  const devices = await run('lvm', ['lvmconfig', '--type', 'current', 'devices'], { accept: [5], timeoutMs: 60_000 })
  const text = `# Written by elastic-local.
${devices.exitCode === 0 ? devices.stdout : ''}
${udev ? '' : 'devices/obtain_device_list_from_udev=0\n'}activation { udev_sync=${udev} udev_rules=${udev} monitoring=0 }
backup { backup=1 archive=0 }
global { use_lvmpolld=0 }
log {
  report_command_log=1
  command_log_selection="all"
  command_log_cols="log_seq_num,log_type,log_context,log_object_type,log_object_name,log_message,log_errno,log_ret_code"
}
report { output_format="json" time_format="%s" }
`
  const path = join(folder, 'lvm.conf')
  // Another process of ours may be reading it, or about to write the very same.
  if ((await readFile(path, 'utf8').catch(() => '')) === text) return
  await makeFolders(folder, 0o700)
  await replaceFile(path, text)
}
