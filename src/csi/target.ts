import { createHash } from 'node:crypto'
import { rmdir } from 'node:fs/promises'
import { dirname, join, normalize, relative } from 'node:path'
import { findKubeletDir, mustBeFolders } from '../daemon/place.ts'
import { hasErrno, VolumeError } from '../volume/errors.ts'
import { csiDriverName } from './driver.ts'

/** A place where a volume shall be seen. */
export interface CsiTarget {
  /** Absolute, without links. */
  path: string
  /** Of a pod's folder: whose it is, and the volume that alone may be mounted there. */
  pod?: { uid: string; volumeName: string }
}

const podWay = 'pods/([0-9a-zA-Z-]{1,64})/volumes/kubernetes\\.io~csi/([^/]+)/mount'
/** A place in a pod's folder, below the kubelet's: the pod's UID and the volume. */
export const podPattern = new RegExp(`^${podWay}$`)
/** The kubelet's folder, and the way from there. */
const targetPattern = new RegExp(`^(|/.*)/(${podWay})$`)

/**
 * Checks that a path is one that the kubelet gives to CSI drivers (`GetPath` in its CSI plugin), below its own folder, with
 * no symbolic link on the way; or, with `anywhere`, as other orchestrators have other places, any folder below it. Throws
 * `invalid`.
 */
export async function checkTarget(
  kubeletDir: string,
  path: string,
  { anywhere = false }: { anywhere?: boolean } = {},
): Promise<CsiTarget> {
  const [, folderAsked, found, uid, volumeName] = targetPattern.exec(path) ?? []
  const way = found ?? relative(kubeletDir, path)
  const isPlace = anywhere ? way !== '' && path.startsWith(`${kubeletDir}/`) : uid !== undefined
  if (!isPlace || normalize(path) !== path || path.includes('\0'))
    throw new VolumeError(
      'invalid',
      `Cannot use ${path} as a target as it must be ${kubeletDir}/${anywhere ? '…' : 'pods/<pod UID>/volumes/kubernetes.io~csi/<volume>/mount'}.`,
    )
  const root = await findKubeletDir(kubeletDir, folderAsked)
  await mustBeFolders(root, way)
  return { path: join(root, way), ...(uid && volumeName ? { pod: { uid, volumeName } } : {}) }
}

/** Removes the folder of a target in which nothing is mounted any more. */
export async function removeTarget({ path }: CsiTarget): Promise<void> {
  await removeEmpty(path)
}

/**
 * Removes the folders that the kubelet makes for the device of a volume (`makeDeviceMountPath`), and leaves where a driver
 * mounts none.
 */
export async function removeDeviceFolders(kubeletDir: string, volumeName: string): Promise<void> {
  const hash = createHash('sha256').update(volumeName).digest('hex')
  const folder = join(kubeletDir, 'plugins/kubernetes.io/csi', csiDriverName, hash, 'globalmount')
  for (const path of [folder, dirname(folder)]) await removeEmpty(path)
}

/** Never what is in it, nor what somebody has mounted there. */
async function removeEmpty(folder: string): Promise<void> {
  await rmdir(folder).catch((error) => {
    if (!hasErrno(error, 'ENOENT', 'ENOTEMPTY', 'EBUSY', 'ENOTDIR', 'EROFS')) throw error
  })
}
