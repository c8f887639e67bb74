import { type Finding, fail, ok, warn } from './finding.ts'
import { type Patient, readRights } from './patient.ts'

const capSysAdmin = 1n << 21n
const capSysResource = 1n << 24n

/** Whether this process may do what the daemon does (capabilities(7)). */
export async function checkRights(patient: Patient): Promise<Finding[]> {
  const { uid, capabilities } = await readRights(patient)
  return [
    uid === 0
      ? ok('root', 'this is root')
      : fail(
          'root',
          `this is user ${uid}`,
          'Run it with sudo: an ordinary user can neither mount nor look everywhere.',
        ),
    ...(uid === 0 ? [checkCapabilities(capabilities)] : []),
  ]
}

function checkCapabilities(capabilities: bigint): Finding {
  const how = 'In a container set "securityContext.privileged: true"; in a service, check its CapabilityBoundingSet.'
  if ((capabilities & capSysAdmin) === 0n)
    return fail('capabilities', 'CAP_SYS_ADMIN is missing: nothing can be mounted', how)
  if ((capabilities & capSysResource) === 0n)
    return warn('capabilities', 'CAP_SYS_RESOURCE is missing: a mounted ext4 cannot grow', how)
  return ok('capabilities', 'CAP_SYS_ADMIN and CAP_SYS_RESOURCE are granted')
}
