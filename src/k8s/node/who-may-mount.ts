import { timingSafeEqual } from 'node:crypto'
import type { CallOptions } from '../../daemon/front.ts'
import { VolumeError } from '../../volume/errors.ts'
import type { Api } from '../client/api.ts'
import { optionsOf } from '../fronts/flex.ts'
import { readPod } from '../model/lookups.ts'
import type { Note } from './note.ts'

/**
 * A pod can name our driver, any volume and any option itself. What it cannot have is the key in the options of a PV
 * that was not given to it; and where a PV has none, the pod is looked up by what the kubelet computed: its UID.
 */
export async function mustBeTheirs(
  api: Api,
  name: string,
  note: Note,
  options: CallOptions,
  podUid: string | undefined,
): Promise<void> {
  const refuse = (why: string) => new VolumeError('invalid', `Cannot mount ${name} as ${why}.`)
  const { key } = optionsOf(note)
  if (key) {
    if (options.key && isEqual(key, options.key)) return
    throw refuse('only a pod whose claim is bound to it may use it; use the claim instead of a flexVolume')
  }
  // On the folder that pods share nobody has it yet.
  if (podUid === undefined) return
  const { pod, claim } = { pod: options.pod, claim: note.claim }
  if (!pod || !claim) throw refuse('its PersistentVolume is not bound to a claim')
  const found = await readPod(api, pod.namespace, pod.name)
  const uses = found?.spec?.volumes?.some(
    (volume) =>
      volume.persistentVolumeClaim?.claimName === claim.name ||
      (volume.ephemeral && `${pod.name}-${volume.name}` === claim.name),
  )
  if (found?.metadata?.uid !== podUid || pod.namespace !== claim.namespace || !uses)
    throw refuse(`only a pod with claim ${claim.namespace}/${claim.name} may use it`)
}

function isEqual(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}
