import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { readSettings, settingsFile } from '../flex/settings.ts'
import { driverName } from '../flex/target.ts'
import { buildMountTable } from '../mount/table.ts'
import { messageOf } from '../volume/errors.ts'
import { type Finding, fail, ok, warn } from './finding.ts'
import { findRootDir } from './kubelet-flags.ts'
import { at, findNode, findReal, type Patient, readMounts } from './patient.ts'

/** The kubelet's folder, whether mounts made in a container are seen in it, and whether the kubelet has the same. */
export async function checkKubeletDir(patient: Patient): Promise<Finding[]> {
  const { kubeletDir } = patient.settings
  const node = await findNode(patient, kubeletDir)
  if (!node)
    return [
      fail(
        'kubelet folder',
        `${kubeletDir} is missing`,
        'Is there a kubelet on this machine? If its --root-dir is elsewhere, set --kubelet-dir.',
      ),
    ]
  // What is mounted has names without links.
  const real = await findReal(patient, kubeletDir)
  if (!(await findNode(patient, real))?.isDirectory())
    return [
      fail(
        'kubelet folder',
        node.isSymbolicLink() ? `${kubeletDir} is a link that leads to no folder` : `${kubeletDir} is not a folder`,
        "Set --kubelet-dir to the kubelet's --root-dir.",
      ),
    ]
  return [await checkPropagation(patient, real), ...(await compareRootDirs(patient, real))]
}

async function checkPropagation(patient: Patient, real: string): Promise<Finding> {
  const { kubeletDir } = patient.settings
  const mount = buildMountTable(await readMounts(patient)).holding(real)
  const name = real === kubeletDir ? kubeletDir : `${kubeletDir}, which is ${real},`
  if (mount?.isShared) return ok('kubelet folder', `${name} is there, and mounts in it are shared with containers`)
  const message = `${name} is there, but its mount ${mount?.target ?? '/'} is not shared`
  if (patient.inContainer)
    return fail(
      'kubelet folder',
      `${message}: pods do not see what is mounted here`,
      'Mount it into the container with "mountPropagation: Bidirectional".',
    )
  return warn(
    'kubelet folder',
    `${message}: a daemon in a container could not reach pods`,
    `Only if it runs in a container: "mount --bind ${real} ${real} && mount --make-rshared ${real}" before the kubelet starts.`,
  )
}

/** Targets of mounts are named by the kubelet, with its own `--root-dir`: in a container there are no links of the node. */
async function compareRootDirs(patient: Patient, real: string): Promise<Finding[]> {
  const { kubeletDir } = patient.settings
  const theirs = await findRootDir(patient)
  if (theirs === undefined || theirs === kubeletDir || (await findReal(patient, theirs)) === real) return []
  const inContainer =
    ', and mount that folder of the node at the same path (with Helm, daemon.settings.kubeletDir does both)'
  return [
    fail(
      'kubelet folder',
      `the kubelet's --root-dir is ${theirs}, and the daemon's --kubelet-dir is ${kubeletDir}: no pod can mount a volume`,
      `Set --kubelet-dir, or ELASTIC_LOCAL_KUBELET_DIR, to ${theirs}${patient.inContainer ? inContainer : ''}.`,
    ),
  ]
}

/** Longest wait for the driver's answer to `init`. */
const initTimeoutMs = 5000
const reinstall = 'Run "elastic-local install".'

/** What the kubelet runs, and whether it leads to this machine's daemon. */
export async function checkDriver(patient: Patient): Promise<Finding[]> {
  const { pluginDir, flex } = patient.settings
  if (!flex) return []
  const folder = join(pluginDir, driverName.replace('/', '~'))
  const path = join(folder, 'elastic-local')
  const node = await findNode(patient, path)
  if (!node) {
    const advice = (await findNode(patient, pluginDir))
      ? reinstall
      : `${reinstall} If the kubelet's --volume-plugin-dir is elsewhere, set --plugin-dir.`
    return [fail('flex driver', `${path} is missing: no pod can mount a volume`, advice)]
  }
  if (!node.isFile()) return [fail('flex driver', `${path} is not a file`, `Move it away. ${reinstall}`)]
  if ((node.mode & 0o111) === 0) return [fail('flex driver', `${path} is not executable`, reinstall)]
  const failure = await tryInit(patient, path)
  if (failure)
    return [
      fail(
        'flex driver',
        failure,
        `${reinstall} If that does not help, check whether ${dirname(folder)} is mounted "noexec".`,
      ),
    ]
  return [await compareVersions(patient, path), await checkSettings(patient, join(folder, settingsFile))]
}

/** What is wrong with the driver's answer to the kubelet's first call. */
async function tryInit(patient: Patient, path: string): Promise<string | undefined> {
  try {
    const { stdout, stderr } = await patient.run(at(patient, path), ['init'], { timeoutMs: initTimeoutMs })
    const answer: unknown = JSON.parse(stdout + stderr)
    if (typeof answer === 'object' && answer !== null && 'status' in answer && answer.status === 'Success')
      return undefined
    return `${path} init answers ${JSON.stringify(answer)}`
  } catch (error) {
    return `${path} init does not answer: ${messageOf(error)}`
  }
}

async function compareVersions(patient: Patient, path: string): Promise<Finding> {
  if (!patient.executable)
    return ok('flex driver', `${path} answers; this program runs from source, so the two are not compared`)
  const [theirs, ours] = await Promise.all([digest(at(patient, path)), digest(patient.executable)])
  if (theirs === ours) return ok('flex driver', `${path} answers, and is this version (${patient.version})`)
  return warn('flex driver', `${path} answers, but is not this version (${patient.version})`, reinstall)
}

async function digest(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}

async function checkSettings(patient: Patient, path: string): Promise<Finding> {
  try {
    const { socket, attach } = readSettings(at(patient, path))
    if (socket !== patient.settings.socket)
      return fail(
        'flex driver',
        `it asks a daemon on ${socket}, and this one is on ${patient.settings.socket}`,
        `Run "elastic-local install --socket ${patient.settings.socket}".`,
      )
    return ok('flex driver', `it asks the daemon on ${socket}${attach ? ', in attach mode' : ''}`)
  } catch (error) {
    return fail('flex driver', messageOf(error), reinstall)
  }
}
