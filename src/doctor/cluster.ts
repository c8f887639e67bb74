import type { VolumeFacts } from '../k8s/model/persistent-volume.ts'
import { formatBytes, formatCount } from '../text/quantity.ts'
import type { UnmarkedVolume } from '../volume/pool.ts'
import { type Finding, fail, ok, warn } from './finding.ts'
import { askEngine, type Patient } from './patient.ts'

const check = 'takeover'

/** What is here against the cluster's PVs, and what a daemon with --takeover would do about it. */
export async function checkCluster(patient: Patient): Promise<Finding[]> {
  if (!patient.cluster) return []
  const { node, readVolumes } = patient.cluster
  const [volumes, { stored, unmarked }] = await Promise.all([
    readVolumes(),
    askEngine(patient, async (engine) => {
      return { stored: await engine.list(), unmarked: await engine.unmarked() }
    }),
  ])
  const ours = new Set(stored.map(({ name }) => name))
  const theirs = new Map(unmarked.map((volume) => [volume.name, volume]))
  const known = new Map(volumes.map((volume) => [volume.name, volume]))
  const found = [
    ...volumes.flatMap((volume) => ofVolume(volume, node, ours, theirs.get(volume.name))),
    ...[...ours].flatMap((name) => ofStored(name, known.get(name), node)),
    ...[...theirs.values()].filter(({ name }) => !known.has(name) && name.startsWith('pvc-')).map(ofNobody),
  ]
  if (found.length > 0) return found
  const here = volumes.filter((volume) => volume.node === node)
  return [ok(check, `${formatCount(here.length, 'PersistentVolume')} of node ${node}, and each has its volume`)]
}

function ofVolume(
  { name, node: label, isOfOurMaking, isDeleting }: VolumeFacts,
  node: string,
  ours: ReadonlySet<string>,
  unmarked: UnmarkedVolume | undefined,
): Finding[] {
  if (ours.has(name) || (label !== node && label !== '')) return []
  if (unmarked && !isOfOurMaking) {
    const what = isDeleting ? 'mark as ours, and remove' : 'mark as ours'
    const whose = label === '' ? ', whose PersistentVolume names no node: it would be given this one' : ''
    return [
      warn(
        check,
        `${name} at ${unmarked.path}${sizeOf(unmarked)} is the predecessor's${whose}`,
        `A daemon with --takeover would ${what}; nothing in it is changed by that.`,
      ),
    ]
  }
  if (label === '') return []
  return [
    fail(
      check,
      `${name} is not here, although its PersistentVolume says so`,
      'If a pod has used it, its disk is missing or its data is lost; if none has, the daemon creates it.',
    ),
  ]
}

function ofStored(name: string, volume: VolumeFacts | undefined, node: string): Finding[] {
  if (!volume)
    return [
      warn(
        check,
        `${name} is ours, and the cluster has no PersistentVolume for it`,
        `Nothing removes it automatically. "elastic-local volumes adopt ${name} --claim <namespace>/<name>" prints one for "kubectl apply"; "elastic-local volumes remove ${name}" removes the data.`,
      ),
    ]
  if (volume.node === node) return []
  return [
    warn(
      check,
      `${name} is here, and its PersistentVolume is for node ${volume.node || '(none)'}`,
      `If that node has become this one, "elastic-local volumes adopt ${name}" prints the PersistentVolume that says so; docs/takeover.md says how it takes the place of the old one.`,
    ),
  ]
}

function ofNobody(unmarked: UnmarkedVolume): Finding {
  return warn(
    check,
    `${unmarked.name} at ${unmarked.path}${sizeOf(unmarked)} is not ours, and the cluster has no PersistentVolume for it`,
    'It is left alone, with and without --takeover.',
  )
}

function sizeOf({ sizeBytes }: UnmarkedVolume): string {
  return sizeBytes === undefined ? '' : ` (${formatBytes(sizeBytes)})`
}
