import { findUdev } from '../lvm/config.ts'
import { type Finding, ok, warn } from './finding.ts'
import type { Patient } from './patient.ts'

/** Whether LVM can wait for udev, which makes the device nodes of the machine. */
export async function checkUdev({ root, settings }: Patient): Promise<Finding[]> {
  if (settings.driverKind !== 'LVM') return []
  const findings = {
    none: ok('udev', 'there is none, and LVM creates the device nodes itself'),
    together: ok('udev', 'LVM waits for it'),
    apart: warn(
      'udev',
      'LVM cannot wait for it, as this IPC namespace is not that of the machine, and creates the device nodes itself',
      'Set "hostIPC: true" in the pod of the daemon.',
    ),
  }
  return [findings[await findUdev(root, settings.hostTools)]]
}
