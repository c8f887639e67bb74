import { lstat, realpath } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { hasErrno, messageOf, VolumeError } from '../volume/errors.ts'

/** Checks of a place below the kubelet's folder that a request names, whichever protocol it came by. */

/**
 * The kubelet's own folder without links, by which we or the kubelet, which calls it `theirs`, may reach it. Throws `invalid`,
 * also when theirs is another.
 */
export async function findKubeletDir(kubeletDir: string, theirs = kubeletDir): Promise<string> {
  const root = await realpath(kubeletDir).catch((error) => {
    throw new VolumeError('invalid', `Cannot use ${kubeletDir} as the kubelet's folder: ${messageOf(error)}`)
  })
  const folder = theirs || '/'
  // One of the node is not there in a container.
  if (folder === kubeletDir || (await realpath(folder).catch(() => undefined)) === root) return root
  throw new VolumeError(
    'invalid',
    `Cannot use ${folder} as the kubelet's folder must be the daemon's --kubelet-dir, ${kubeletDir}: it is ${folder}. Set --kubelet-dir to that, and in a container mount the folder at that path.`,
  )
}

/** Throws `invalid` when something on the way from `root` down is no real folder; what is not there may be made. */
export async function mustBeFolders(root: string, way: string): Promise<void> {
  let folder = root
  for (const part of way.split(sep)) {
    folder = join(folder, part)
    if (!(await isFolder(folder))) return
  }
}

/** Whether the kernel cannot tell of a place as a filesystem is mounted there that it has shut down: xfs then knows nothing of its root. */
export const isBrokenMount = (error: unknown): boolean => hasErrno(error, 'EIO', 'EUCLEAN')

/** Whether there is something: a real folder. Throws `invalid` for anything else. */
async function isFolder(path: string): Promise<boolean> {
  try {
    const node = await lstat(path)
    if (node.isDirectory()) return true
    throw new VolumeError(
      'invalid',
      `Cannot use ${path} in a target as it must be a folder: it is a ${node.isSymbolicLink() ? 'symbolic link' : 'file'}.`,
    )
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false
    if (isBrokenMount(error)) return true
    throw error
  }
}
