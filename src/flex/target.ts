import { join, normalize } from 'node:path'
import type { Target } from '../daemon/front.ts'
import { findKubeletDir, mustBeFolders } from '../daemon/place.ts'
import { VolumeError } from '../volume/errors.ts'
import { parseVolumeName } from '../volume/name.ts'

/** The driver's name as the cluster's objects hold it. */
export const driverName = 'volumes.k8s.elastic.co/elastic-local'

const podWay = `pods/([0-9a-zA-Z-]{1,64})/volumes/${RegExp.escape(driverName.replace('/', '~'))}/([^/]+)`
/** A place in a pod's folder, below the kubelet's: the pod's UID and the volume. */
export const podPattern = new RegExp(`^${podWay}$`)
const sharedFolder = `plugins/kubernetes.io/flexvolume/${driverName}/mounts`
const sharedWay = `${RegExp.escape(sharedFolder)}/([^/]+)`
/** The kubelet's folder, the way from there, and what is in that: a pod and its volume, or a volume. */
const targetPattern = new RegExp(`^(|/.*)/(${podWay}|${sharedWay})$`)

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
  const root = await findKubeletDir(kubeletDir, folderAsked)
  await mustBeFolders(root, way)
  const sharedPath = join(root, sharedFolder, volumeName)
  return { path: join(root, way), volumeName, sharedPath, ...(podUid ? { podUid } : {}) }
}
