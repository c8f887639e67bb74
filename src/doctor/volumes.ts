import { basename, dirname, join } from 'node:path'
import { adviseOnVolume } from '../inspect/advice.ts'
import { findPodTarget } from '../k8s/fronts/pod-target.ts'
import { buildJournal, ownFolder } from '../mount/records.ts'
import { formatCount, formatDuration } from '../text/quantity.ts'
import { VolumeError } from '../volume/errors.ts'
import type { VolumeView } from '../volume/view.ts'
import { type Finding, fail, ok, warn } from './finding.ts'
import {
  askDaemon,
  askEngine,
  at,
  findNode,
  findReal,
  type Patient,
  readMounts,
  readNames,
  readRights,
  readText,
} from './patient.ts'

const leftovers = 'leftovers'

/** What is wrong with single volumes, and what nothing belongs to any more. */
export async function checkVolumes(patient: Patient): Promise<Finding[]> {
  const { volumesDir } = patient.settings
  const fromDaemon = await askDaemon(patient.daemon.list())
  if (fromDaemon instanceof VolumeError)
    return [warn('volumes', 'they cannot be checked now', 'See the check of the pool.')]
  if (!fromDaemon && (await readRights(patient)).uid !== 0)
    return [warn('volumes', 'they were not checked', 'Only root can: run it with sudo.')]
  if (!fromDaemon && !(await findNode(patient, volumesDir))) return [ok('volumes', 'there are none yet')]
  const volumes = fromDaemon ?? (await askEngine(patient, (engine) => engine.list()))
  const found = [
    ...volumes.flatMap((volume) => volume.problems.map((problem) => describeProblem(volume, problem))),
    ...(await findOldIntents(patient, volumes, fromDaemon !== undefined)),
    ...(await findStaleMounts(patient, volumes)),
    ...(await findDeadLoops(patient)),
  ]
  if (found.length > 0) return found
  return [ok('volumes', `${formatCount(volumes.length, 'volume')}, nothing wrong, nothing left over`)]
}

/** States in which a volume does not do what it is for. */
const badStates: readonly VolumeView['state'][] = ['lost', 'stuck', 'failing']

function describeProblem(volume: VolumeView, problem: string): Finding {
  const advice = adviseOnVolume(volume, problem) ?? `See "elastic-local volumes show ${volume.name}".`
  const find = badStates.includes(volume.state) ? fail : warn
  return find('volumes', `${volume.name}${find === fail ? ` (${volume.state})` : ''}: ${problem}`, advice)
}

/** While the daemon works, an intent that is younger is about work under way. */
const oldIntentMs = 10 * 60_000

async function findOldIntents(
  patient: Patient,
  volumes: readonly VolumeView[],
  daemonWorks: boolean,
): Promise<Finding[]> {
  const { volumesDir } = patient.settings
  const told = new Set(volumes.filter((volume) => volume.problems.length > 0).map((volume) => volume.name))
  const findings = []
  for (const [name, intent] of await buildJournal(at(patient, volumesDir)).read()) {
    const since = (await findNode(patient, join(volumesDir, ownFolder, 'intents', `${name}.json`)))?.mtime
    const ageMs = since ? patient.now.getTime() - since.getTime() : 0
    if (told.has(name)) continue
    if (intent.phase === 'unreadable') {
      const advice = 'If the volume was in use, remove that file; if not, remove the volume. Then restart the daemon.'
      findings.push(warn(leftovers, `${name}: its unfinished work is unknown: ${intent.problem}`, advice))
      continue
    }
    if (daemonWorks && ageMs < oldIntentMs) continue
    const what = { creating: 'making', formatting: 'making', growing: 'growth', removing: 'removal' }[intent.phase]
    const message = `${name}: its ${what} was started ${formatDuration(ageMs)} ago and not finished`
    findings.push(warn(leftovers, message, 'Restarting the daemon finishes it.'))
  }
  return findings
}

async function findDeadLoops(patient: Patient): Promise<Finding[]> {
  const images = join(await findReal(patient, patient.settings.volumesDir), ownFolder, 'loop')
  const findings = []
  for (const block of await readNames(patient, '/sys/block')) {
    const file = block.startsWith('loop') ? await readText(patient, `/sys/block/${block}/loop/backing_file`) : undefined
    const image = /^(.*) \(deleted\)\n?$/.exec(file ?? '')?.[1]
    if (image === undefined || dirname(image) !== images) continue
    const advice = `Free its space with "losetup --detach /dev/${block}".`
    findings.push(warn(leftovers, `/dev/${block} still holds the deleted image ${image}`, advice))
  }
  return findings
}

async function findStaleMounts(patient: Patient, volumes: readonly VolumeView[]): Promise<Finding[]> {
  const names = new Set(volumes.map((volume) => volume.name))
  const volumesDir = await findReal(patient, patient.settings.volumesDir)
  const kubeletDir = await findReal(patient, patient.settings.kubeletDir)
  // The last mounted is the first to be unmounted.
  return (await readMounts(patient)).toReversed().flatMap(({ target, source }) => {
    const name = dirname(target) === volumesDir ? basename(target) : findPodTarget(kubeletDir, target)?.volumeName
    if (name === undefined || name === ownFolder || names.has(name)) return []
    const message = `${source} is mounted on ${target}, and there is no volume ${name}`
    return [warn(leftovers, message, `If nobody needs it: "umount ${target}".`)]
  })
}
