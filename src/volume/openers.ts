import { setTimeout as sleep } from 'node:timers/promises'
import { VolumeError } from './errors.ts'

/** How long whoever only looks into a device, as udev does, may take. */
const patienceMs = 2000
const pauseMs = 50

/** Throws `busy` when the device of a volume that is to be removed stays open; `isOpen` looks anew each time. */
export async function mustBeClosed(name: string, device: string, isOpen: () => Promise<boolean>): Promise<void> {
  for (let leftMs = patienceMs; await isOpen(); leftMs -= pauseMs) {
    if (leftMs <= 0)
      throw new VolumeError(
        'busy',
        `Cannot remove ${name} as a process has ${device} open; find it with "fuser -v ${device}", and end that first.`,
      )
    await sleep(pauseMs)
  }
}
