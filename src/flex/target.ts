import { lstat, realpath } from 'node:fs/promises'
import { join, normalize, relative, sep } from 'node:path'
import type { Target } from '../daemon/front.ts'
import { hasErrno, messageOf, VolumeError } from '../volume/errors.ts'
import { parseVolumeName } from '../volume/name.ts'

/** The driver's name as the cluster's objects hold it. */
export const driverName = 'volumes.k8s.elastic.co/elastic-local'

const podWay = `pods/([0-9a-zA-Z-]{1,64})/volumes/${RegExp.escape(driverName.replace('/', '~'))}/([^/]+)`
const podPattern = new RegExp(`^${podWay}$`)
const sharedFolder = `plugins/kubernetes.io/flexvolume/${driverName}/mounts`
const sharedWay = `${RegExp.escape(sharedFolder)}/([^/]+)`
/** The kubelet's folder, the way from there, and what is in that: a pod and its volume, or a volume. */
const targetPattern = new RegExp(`^(|/.*)/(${podWay}|${sharedWay})$`)

/** The pod's folder and the volume that a path is a target of, below the kubelet's folder; nothing for other paths. */
export function findPodTarget(
  kubeletDir: string,
  path: string,
): { podUid: string; volumeName: string; folder: string } | undefined {
  const [, podUid, volumeName] = podPattern.exec(relative(kubeletDir, path)) ?? []
  return podUid && volumeName ? { podUid, volumeName, folder: join(kubeletDir, 'pods', podUid) } : undefined
}

/**
 * Checks that a path is one the kubelet gives to this driver (`GetPodVolumeDir` and `getDeviceMountPath` in its
 * FlexVolume plugin), below its own folder, with no symbolic link on the way. Throws `invalid`.
 */
export async function checkTarget(kubeletDir: string, path: unknown): Promise<Target> {
  if (typeof path !== 'string' || path === '')
    throw new VolumeError(
      'invalid',
      `Cannot use targetDir as it must be a path: it is ${JSON.stringify(path) ?? 'missing'}.`,
    )
  const [, folderAsked, way = '', podUid, podVolume, sharedVolume] = targetPattern.exec(path) ?? []
  const name = podVolume ?? sharedVolume
  if (folderAsked === undefined || name === undefined || normalize(path) !== path)
    throw new VolumeError(
      'invalid',
      `Cannot use ${path} as a target as it must be ${kubeletDir}/pods/<pod UID>/volumes/${driverName.replace('/', '~')}/<volume>.`,
    )
  const volumeName = parseVolumeName(name)
  const root = await realpath(kubeletDir).catch((error) => {
    throw new VolumeError('invalid', `Cannot use ${kubeletDir} as the kubelet's folder: ${messageOf(error)}`)
  })
  const theirs = folderAsked || '/'
  // Either may name it by a link; one of the node is not there in a container.
  if (theirs !== kubeletDir && (await realpath(theirs).catch(() => undefined)) !== root)
    throw new VolumeError(
      'invalid',
      `Cannot use ${path} as the kubelet's folder must be the daemon's --kubelet-dir, ${kubeletDir}: it is ${theirs}. Set --kubelet-dir to that, and in a container mount the folder at that path.`,
    )
  let folder = root
  for (const part of way.split(sep)) {
    folder = join(folder, part)
    if (!(await isFolder(folder))) break
  }
  const sharedPath = join(root, sharedFolder, volumeName)
  return { path: join(root, way), volumeName, sharedPath, ...(podUid ? { podUid } : {}) }
}

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
    throw error
  }
}
