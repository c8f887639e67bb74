import { chmod, readdir, stat } from 'node:fs/promises'
import { writeError } from '../volume/errors.ts'
import { ownFolder } from './records.ts'

/** What may be in a new folder for volumes: our own, and what mkfs.ext4 makes. */
const harmless = [ownFolder, 'lost+found']
const othersBits = 0o077

/**
 * Keeps the machine's other users out of a folder for volumes, in which a pod may leave a program that is setuid root.
 * Says what is wrong when the folder is open and holds other things, too, whose users it may have.
 */
export async function closeToOthers(folder: string): Promise<string | undefined> {
  const mode = (await stat(folder)).mode & 0o7777
  if ((mode & othersBits) === 0) return undefined
  const others = (await readdir(folder)).filter((name) => !harmless.includes(name))
  if (others.length > 0)
    return `Other users of this machine can read ${folder} (mode ${mode.toString(8)}), and so reach volumes: if nobody but root needs what is in it, run "chmod 700 ${folder}".`
  await chmod(folder, mode & ~othersBits).catch((error) => {
    throw writeError(`Cannot close ${folder} to other users`, error)
  })
  return undefined
}
