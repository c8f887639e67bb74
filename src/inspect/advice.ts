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
      `Nothing was changed, and it is not formatted again: restore it from a copy, or give it up: ${giveUp(volume)}.`,
  ],
  [/(image|directory) .* is missing/, (volume) => `Put it back from a copy, or give the volume up: ${giveUp(volume)}.`],
  [
    /on a disk that is missing/,
    ({ name, path, claim }) =>
      `Look at "pvs" on the machine and bring the disk back. What is left of it cannot be wiped: if the disk is lost, give the volume up by hand with "lvremove ${path}"${claim ? `, and then ${giveUp({ name, claim })}` : ''}.`,
  ],
  [
    /where it was made: its data is lost/,
    (volume) => `Bring its disk back; if its data is lost, give it up: ${giveUp(volume)}.`,
  ],
  [
    /its device is suspended/,
    ({ path }) => `Resume it, once it is known who has suspended it and why: "dmsetup resume ${path}".`,
  ],
  [
    /removal was not finished/,
    ({ name, claim }) =>
      claim
        ? 'Starting the daemon anew finishes it.'
        : `Finish it with "elastic-local volumes remove ${name}", or by starting the daemon anew.`,
  ],
  [
    /growth was not finished/,
    ({ name }) =>
      `Starting the daemon anew finishes it, and so does "elastic-local volumes grow ${name} <size>" with the size that it has.`,
  ],
  [
    /what was begun on it is not known/,
    (volume) => `If it was in use, remove that file and start the daemon anew; if it never was, ${giveUp(volume)}.`,
  ],
  [
    /never finished/,
    (volume) => `Mounting it or starting the daemon anew finishes it; if nobody needs it, ${giveUp(volume)}.`,
  ],
  [
    /for pod .* which is gone/,
    () =>
      'See the events of the node ("kubectl describe node") for whether it is unmounted by itself; else "umount" it.',
  ],
  [/^unmounting it failed/, () => 'It is tried again by itself for a pod; end what keeps it from that.'],
  [/^removing it failed/, () => 'For a PersistentVolume it is tried again by itself; mend what it says.'],
  [
    /^growing it failed/,
    (volume) => `Mend what it says; the volume has the size that it had, or more. To ask again, ${growIt(volume)}.`,
  ],
  [
    /^(mounting|attaching|making|finishing)\b.* failed/,
    () =>
      'For a pod it is tried again by itself. Mend what it says; "elastic-local doctor" looks at what volumes need.',
  ],
  [/out of inodes/, (volume) => `Remove small files, or grow it, which brings new inodes: ${growIt(volume)}.`],
  [/nearly full/, (volume) => `Remove files, or grow it: ${growIt(volume)}.`],
  [
    /read-only|found errors on its filesystem/,
    () =>
      "Look for errors of its disk in the kernel's log (dmesg). If there are any, stop its pods, so that it is unmounted: it is checked before it is mounted again.",
  ],
  [
    /usage cannot be read/,
    () =>
      "Look for errors of its disk in the kernel's log (dmesg); stopping its pods and starting them again mounts it anew.",
  ],
]

/** What a person can do about that problem of that volume; nothing for one that says so itself. */
export function adviseOnVolume(volume: Patient, problem: string): string | undefined {
  return advices.find(([pattern]) => pattern.test(problem))?.[1](volume)
}
