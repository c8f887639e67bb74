import * as v from 'valibot'
import { ClientError, request } from '../daemon/client.ts'
import { volumesLockPath } from '../daemon/lock.ts'
import { messageOf } from '../volume/errors.ts'
import { type Finding, fail, ok, warn } from './finding.ts'
import { at, findNode, type Patient, readText } from './patient.ts'

const answerTimeoutMs = 3000
const start = 'Start it with "elastic-local daemon", or check why its pod does not run.'

/** The daemon's socket, and whether somebody answers there. */
export async function checkDaemon(patient: Patient, timeoutMs = answerTimeoutMs): Promise<Finding[]> {
  const { socket } = patient.settings
  const node = await findNode(patient, socket)
  if (!node) {
    const holder = await isLocked(patient)
    if (holder)
      return [
        fail(
          'daemon',
          `${socket} is missing, yet a process holds the lock of ${patient.settings.volumesDir}`,
          'Its daemon may listen elsewhere: set --socket; or it is starting or stopping: try again.',
        ),
      ]
    return [fail('daemon', `it does not run: ${socket} is missing`, start)]
  }
  if (!node.isSocket()) return [fail('daemon', `${socket} is not a socket`, `Move it away. ${start}`)]
  const mode = node.mode & 0o777
  const secure = node.uid === 0 && (mode & 0o077) === 0
  const socketFinding = secure
    ? ok('socket', `${socket} is accessible to root only`)
    : fail(
        'socket',
        `${socket} has mode ${mode.toString(8).padStart(4, '0')} and owner ${node.uid}: users other than root could remove volumes`,
        `Run "chown 0:0 ${socket} && chmod 600 ${socket}"; restart the daemon to be sure.`,
      )
  return [socketFinding, await askDaemon(patient, timeoutMs)]
}

async function askDaemon(patient: Patient, timeoutMs: number): Promise<Finding> {
  const { socket } = patient.settings
  try {
    const { body } = await request({
      socketPath: at(patient, socket),
      method: 'GET',
      path: '/readyz',
      idleTimeoutMs: timeoutMs,
    })
    const { version, reasons } = v.parse(answerSchema, body)
    if (reasons.length > 0)
      return fail(
        'daemon',
        `it answers, but is not ready: ${reasons.join('; ')}`,
        'It continues automatically once that is fixed.',
      )
    if (version === patient.version) return ok('daemon', `it answers, version ${version}`)
    return warn(
      'daemon',
      `it answers, but is version ${version}; this is ${patient.version}`,
      'Use the same version for both: restart the daemon from this executable.',
    )
  } catch (error) {
    const code = error instanceof ClientError ? error.code : undefined
    if (code === 'refused') return fail('daemon', `it does not run: nothing listens on ${socket}`, start)
    if (code === 'forbidden')
      return warn('daemon', `it was not asked, as this user may not use ${socket}`, 'Run it with sudo.')
    return fail('daemon', messageOf(error), 'Its log may say more: "kubectl logs" of its pod, or "journalctl".')
  }
}

/** What `/readyz` answers, of whatever version. */
const answerSchema = v.fallback(
  v.object({ version: v.fallback(v.string(), 'unknown'), reasons: v.fallback(v.array(v.string()), []) }),
  { version: 'unknown', reasons: [] },
)

/** Whether a process holds the lock of the volumes (proc_locks(5)). */
async function isLocked(patient: Patient): Promise<boolean> {
  const file = await findNode(patient, volumesLockPath(patient.settings.volumesDir))
  const locks = (await readText(patient, '/proc/locks')) ?? ''
  return file !== undefined && new RegExp(` FLOCK .*:${file.ino} `, 'm').test(locks)
}
