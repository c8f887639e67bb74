import { type ChecklistLook, formatChecklist } from '../text/checklist.ts'
import { formatCount } from '../text/quantity.ts'
import { hasErrno, messageOf } from '../volume/errors.ts'
import { checkClaim } from './claim.ts'
import { checkCluster } from './cluster.ts'
import { checkCsi } from './csi.ts'
import { checkDaemon } from './daemon.ts'
import { type Finding, fail, type Status, warn } from './finding.ts'
import { checkKernel } from './kernel.ts'
import { checkDriver, checkKubeletDir } from './kubelet.ts'
import type { Patient } from './patient.ts'
import { checkPool, checkVolumesDir } from './pool.ts'
import { checkRights } from './rights.ts'
import { checkScanning } from './scanning.ts'
import { checkTools } from './tools.ts'
import { checkUdev } from './udev.ts'
import { checkVolumes } from './volumes.ts'

/** The checks, from the kernel to the socket. */
const checks: readonly [name: string, check: (patient: Patient) => Promise<Finding[]>][] = [
  ['rights', checkRights],
  ['kernel', checkKernel],
  ['tools', checkTools],
  ['udev', checkUdev],
  ['LVM of the machine', checkScanning],
  ['volumes folder', checkVolumesDir],
  ['pool', checkPool],
  ['claim', checkClaim],
  ['kubelet folder', checkKubeletDir],
  ['flex driver', checkDriver],
  ['CSI', checkCsi],
  ['daemon', checkDaemon],
  ['volumes', checkVolumes],
  ['takeover', checkCluster],
]

/** Looks at everything, one after another; a check that fails itself is a finding like any other. */
export async function examine(patient: Patient, onCheck: (name: string) => void = () => {}): Promise<Finding[]> {
  const findings = []
  for (const [name, check] of checks) {
    onCheck(name)
    findings.push(...(await check(patient).catch((error) => [describeFailure(name, error)])))
  }
  return findings
}

function describeFailure(check: string, error: unknown): Finding {
  if (hasErrno(error, 'EACCES', 'EPERM')) return warn(check, `not checked: ${messageOf(error)}`, 'Run it with sudo.')
  return fail(check, messageOf(error), 'The check itself failed; what it checks may still be fine.')
}

/** The findings for a person to read, and under each that is not well what to do. */
export function formatFindings(findings: readonly Finding[], look: ChecklistLook): string {
  const items = findings.map(({ check, ...finding }) => ({ title: check, ...finding }))
  return `${formatChecklist(items, look)}\n${summarize(findings)}\n`
}

function summarize(findings: readonly Finding[]): string {
  const count = (status: Status) => findings.filter((finding) => finding.status === status).length
  const failed = count('fail')
  const warned = count('warn')
  if (failed === 0 && warned === 0) return 'No problems found.'
  if (failed === 0) return `No failures, ${formatCount(warned, 'warning')}.`
  return `${formatCount(failed, 'failure')}${warned > 0 ? `, ${formatCount(warned, 'warning')}` : ''}.`
}
