import { connect } from 'node:net'
import { csiSocket, registrationSocket } from '../csi/driver.ts'
import { hasErrno } from '../volume/errors.ts'
import { type Finding, fail, ok } from './finding.ts'
import { at, type Patient } from './patient.ts'

/** Where the kubelet calls the daemon by CSI, and where it finds it. That it does, its CSINode says. */
export async function checkCsi(patient: Patient): Promise<Finding[]> {
  const { csi, kubeletDir } = patient.settings
  if (!csi) return []
  const [calls, registration] = [csiSocket(kubeletDir), registrationSocket(kubeletDir)]
  if (!(await listens(patient, calls)))
    return [
      fail(
        'CSI',
        `nothing listens on ${calls}: no pod can mount a CSI volume`,
        'Start the daemon with --csi and the same --kubelet-dir.',
      ),
    ]
  if (!(await listens(patient, registration)))
    return [
      fail(
        'CSI',
        `nothing listens on ${registration}: the kubelet does not find the driver`,
        "The daemon listens there once it has inspected its volumes; if this stays so, check its log, and the permissions of the kubelet's folder.",
      ),
    ]
  return [ok('CSI', `the daemon listens on ${calls}, and the kubelet finds it by ${registration}`)]
}

/** Whether a process listens there; what only root may see counts as well. */
async function listens(patient: Patient, path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(at(patient, path))
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.on('connect', () => end(true)).on('error', (error) => end(hasErrno(error, 'EACCES', 'EPERM')))
  })
}
