import { readMachineId } from '../lvm/claim.ts'
import { type Finding, ok, warn } from './finding.ts'
import type { Patient } from './patient.ts'

/** Whether the daemon can keep others from its volume group; that another has it, the pool's check says. */
export async function checkClaim({ root, settings }: Patient): Promise<Finding[]> {
  const { driverKind, lvmVolumeGroup } = settings
  if (driverKind !== 'LVM') return []
  if (await readMachineId(root))
    return [ok('claim', `volume group ${lvmVolumeGroup} can be claimed in the name of this machine`)]
  return [
    warn(
      'claim',
      `nothing keeps a second daemon from volume group ${lvmVolumeGroup}: there is no persistent /etc/machine-id`,
      'Create one with "systemd-machine-id-setup" on the machine; in a pod of the daemon, set "hostPID: true".',
    ),
  ]
}
