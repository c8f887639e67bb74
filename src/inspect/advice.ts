import type { VolumeView } from '../volume/view.ts'

/** What is known of the volume that advice is for. */
export type Patient = Pick<VolumeView, 'name' | 'path' | 'claim'>

/** In a cluster the data of a volume goes with its claim: nothing else may remove it. */
const giveUp = ({ name, claim }: Patient) =>
  claim
    ? `delete claim ${claim.namespace}/${claim.name}, and PersistentVolume ${name} if that stays`
    : `"elastic-local volumes remove ${name}"`

const growIt = ({ name, claim }: Patient) =>
  claim ? `raise the request of claim ${claim.namespace}/${claim.name}` : `"elastic-local volumes grow ${name} <size>"`

/** What to do about a problem of a volume, by the words of the problem. The first that fits holds. */
const advices: readonly [problem: RegExp, advice: (volume: Patient) => string][] = [
  [
    /its filesystem is lost/,
    (volume) =>
      `Nothing was changed, and it is not formatted again: restore it from a backup, or give it up: ${giveUp(volume)}.`,
  ],
  [
    /(image|directory) .* is missing/,
    (volume) => `Restore it from a backup, or give the volume up: ${giveUp(volume)}.`,
  ],
  [
    /on a missing disk/,
    ({ name, path, claim }) =>
      `See "pvs" on the machine and bring the disk back. What is left of it cannot be wiped: if the disk is lost, give the volume up by hand with "lvremove ${path}"${claim ? `, and then ${giveUp({ name, claim })}` : ''}.`,
  ],
  [
    /where it was created: its data is lost/,
    (volume) => `Bring its disk back; if its data is lost, give it up: ${giveUp(volume)}.`,
  ],
  [
    /its device is suspended/,
    ({ path }) => `Once you know who suspended it and why, resume it: "dmsetup resume ${path}".`,
  ],
  [
    /removal was not finished/,
    ({ name, claim }) =>
      claim
        ? 'Restarting the daemon finishes it.'
        : `Finish it with "elastic-local volumes remove ${name}", or by restarting the daemon.`,
  ],
  [
    /growth was not finished/,
    ({ name }) =>
      `Restarting the daemon finishes it, and so does "elastic-local volumes grow ${name} <size>" with the size that it has.`,
  ],
  [
    /its unfinished work is unknown/,
    (volume) => `If it was in use, remove that file and restart the daemon; if it never was, ${giveUp(volume)}.`,
  ],
  [
    /never finished/,
    (volume) => `Mounting it or restarting the daemon finishes it; if nobody needs it, ${giveUp(volume)}.`,
  ],
  [
    /for pod .* which is gone/,
    () =>
      'See the events of the node ("kubectl describe node") for whether it is unmounted automatically; else "umount" it.',
  ],
  [/^unmounting it failed/, () => 'It is retried automatically for a pod; stop what blocks it.'],
  [/^removing it failed/, () => 'For a PersistentVolume it is retried automatically; fix what the message says.'],
  [
    /^growing it failed/,
    (volume) => `Fix what the message says; the volume has its old size, or more. To retry, ${growIt(volume)}.`,
  ],
  [
    /^(mounting|attaching|making|finishing)\b.* failed/,
    () =>
      'For a pod it is retried automatically. Fix what the message says; "elastic-local doctor" checks what volumes need.',
  ],
  [/out of inodes/, (volume) => `Remove small files, or grow it, which adds inodes: ${growIt(volume)}.`],
  [/nearly full/, (volume) => `Remove files, or grow it: ${growIt(volume)}.`],
  [
    /read-only|found errors on its filesystem/,
    () =>
      'Check the kernel log (dmesg) for errors of its disk. If there are any, stop its pods, so that it is unmounted: it is checked before it is mounted again.',
  ],
  [
    /usage cannot be read/,
    () =>
      'Check the kernel log (dmesg) for errors of its disk. To have it mounted again, stop its pods and start them.',
  ],
]

/** What a person can do about that problem of that volume; nothing for one that says so itself. */
export function adviseOnVolume(volume: Patient, problem: string): string | undefined {
  return advices.find(([pattern]) => pattern.test(problem))?.[1](volume)
}
