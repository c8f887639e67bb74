/** What to do about a problem of a volume, by the words of the problem. The first that fits holds. */
const advices: readonly [problem: RegExp, advice: (name: string) => string][] = [
  [/removal was not finished/, (name) => `Finish it with "elastic-local volumes remove ${name}".`],
  [
    /growth was not finished/,
    (name) =>
      `Starting the daemon anew finishes it, and so does "elastic-local volumes grow ${name} <size>" with the size that it has.`,
  ],
  [
    /never finished/,
    (name) =>
      `Mounting it or starting the daemon anew finishes it; if nobody needs it, "elastic-local volumes remove ${name}".`,
  ],
  [
    /(image|directory) .* is missing/,
    (name) =>
      `Its data is gone from there: put it back from a backup, or give it up with "elastic-local volumes remove ${name}".`,
  ],
  [
    /on a disk that is missing/,
    (name) =>
      `Look at "pvs" and bring the disk back; if it is lost, give the volume up with "elastic-local volumes remove ${name}".`,
  ],
  [
    /for pod .* which is gone/,
    () =>
      'See the events of the node ("kubectl describe node") for whether it is unmounted by itself; else "umount" it.',
  ],
  [
    /out of inodes/,
    (name) => `Remove small files, or grow it, which brings new inodes: "elastic-local volumes grow ${name} <size>".`,
  ],
  [
    /nearly full/,
    (name) =>
      `Remove files, or grow it: raise the request of its claim or, without a cluster, "elastic-local volumes grow ${name} <size>".`,
  ],
  [
    /read-only|found errors on its filesystem/,
    () =>
      'Look for errors of its disk in "dmesg". If there are any, stop its pods, so that it is unmounted: it is checked before it is mounted again.',
  ],
  [
    /usage cannot be read/,
    () => 'Look for errors of its disk in "dmesg"; stopping its pods and starting them again mounts it anew.',
  ],
]

/** What a person can do about that problem of that volume; nothing for one that says so itself. */
export function adviseOnVolume(name: string, problem: string): string | undefined {
  return advices.find(([pattern]) => pattern.test(problem))?.[1](name)
}
