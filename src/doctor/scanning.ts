import { csiSocket } from '../csi/driver.ts'
import { looksIntoLoops, looksIntoVolumes } from '../lvm/config.ts'
import { CommandError, hostCommand } from '../run.ts'
import { type Finding, ok, warn } from './finding.ts'
import { findNode, type Patient } from './patient.ts'

const check = 'LVM of the machine'
const danger = 'finds, and activates, volume groups that tenants write on block devices of theirs'

/**
 * Whether the machine's own LVM, which udev starts for each device that appears, looks into block devices of tenants. Ours does not,
 * whatever the machine says.
 */
export async function checkScanning(patient: Patient): Promise<Finding[]> {
  const { driverKind, hostTools, kubeletDir } = patient.settings
  // Only CSI gives block devices.
  if (driverKind === 'BINDMOUNT' || !(await findNode(patient, csiSocket(kubeletDir)))) return []
  const args = ['lvmconfig', '--typeconfig', 'full', 'devices']
  const isHosts = hostTools || patient.inContainer
  const [file, words] = isHosts ? hostCommand('lvm', args) : ['lvm', args]
  const settings = await patient.run(file as string, words as string[]).catch((error) => {
    // Nobody there activates anything.
    if (error instanceof CommandError && /is not installed|No such file/.test(error.message)) return undefined
    throw error
  })
  if (!settings) return [ok(check, 'there is none')]
  const place = isHosts ? '/proc/1/root/etc/lvm' : '/etc/lvm'
  const hasDevicesFile = (await findNode(patient, `${place}/devices/system.devices`)) !== undefined
  if (looksIntoLoops(settings.stdout, hasDevicesFile))
    return [
      warn(
        check,
        `it scans loop devices: it ${danger}`,
        'In section "devices" of its /etc/lvm/lvm.conf, set global_filter = [ "r|^/dev/loop|" ], before which you may accept loop devices of your own.',
      ),
    ]
  if (looksIntoVolumes(settings.stdout))
    return [
      warn(
        check,
        `it scans logical volumes: it ${danger}`,
        'In section "devices" of its /etc/lvm/lvm.conf, set scan_lvs = 0.',
      ),
    ]
  return [ok(check, 'it does not scan block devices of tenants')]
}
