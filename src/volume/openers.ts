import { readdir, readFile, readlink, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { VolumeError } from './errors.ts'

/** How long whoever only looks into a device, as udev does, may take. */
const patienceMs = 2000
const pauseMs = 50

/** Throws `busy` when the device of a volume that is to be removed, or adopted, stays open; `isOpen` looks anew each time. */
export async function mustBeClosed(
  name: string,
  device: string,
  isOpen: () => Promise<boolean>,
  what: 'remove' | 'adopt' = 'remove',
): Promise<void> {
  for (let leftMs = patienceMs; await isOpen(); leftMs -= pauseMs) {
    if (leftMs <= 0)
      throw new VolumeError(
        'busy',
        `Cannot ${what} ${name} as ${(await findOpener(device)) ?? 'a process that is not seen from here'} has ${device} open; stop that first.`,
      )
    await sleep(pauseMs)
  }
}

/** A process that has the device open, by any name of it (proc_pid_fd(5)). */
async function findOpener(device: string): Promise<string | undefined> {
  const number = await deviceOf(device)
  if (number === undefined) return undefined
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name)))
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const link = `/proc/${pid}/fd/${fd}`
      // A look at any other file may hang.
      if (!(await readlink(link).catch(() => '')).startsWith('/dev/')) continue
      if ((await deviceOf(link)) === number) {
        const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')
        return `process ${pid} (${name.trim()})`
      }
    }
  return undefined
}

/** The number of a block device; nothing for what is none, or not there. */
async function deviceOf(path: string): Promise<number | undefined> {
  const node = await stat(path).catch(() => undefined)
  return node?.isBlockDevice() ? node.rdev : undefined
}
