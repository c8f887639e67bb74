import { createHash } from 'node:crypto'
import { lstat, rmdir, unlink } from 'node:fs/promises'
import { dirname, join, normalize, relative } from 'node:path'
import { findKubeletDir, isBrokenMount, mustBeFolders } from '../daemon/place.ts'
import { hasErrno, VolumeError } from '../volume/errors.ts'
import { csiDriverName } from './driver.ts'

/** A place where a volume shall be seen. */
export interface CsiTarget {
  /** Absolute, without links. */
  path: string
  /** Of a pod's place: whose it is, the volume that alone may be mounted there, and whether as a block device, on a file. */
  pod?: { uid: string; volumeName: string; isDevice: boolean }
}

const uid = '[0-9a-zA-Z-]{1,64}'
const folderWay = `pods/(?<folderUid>${uid})/volumes/kubernetes\\.io~csi/(?<folderVolume>[^/]+)/mount`
const fileWay = `plugins/kubernetes\\.io/csi/volumeDevices/publish/(?<fileVolume>[^/]+)/(?<fileUid>${uid})`
const podPattern = new RegExp(`^(?:${folderWay}|${fileWay})$`)
/** The kubelet's folder, and the way from there. */
const targetPattern = new RegExp(`^(?<kubelet>|/.*)/(?<way>${folderWay}|${fileWay})$`)

/** The pod and the volume of a place that a pod has for it below the kubelet's folder; nothing for other places. */
export function findPod(way: string): CsiTarget['pod'] {
  const { folderUid, folderVolume, fileUid, fileVolume } = podPattern.exec(way)?.groups ?? {}
  const [uid, volumeName] = [folderUid ?? fileUid, folderVolume ?? fileVolume]
  return uid && volumeName ? { uid, volumeName, isDevice: fileUid !== undefined } : undefined
}

/**
 * Checks that a path is one that the kubelet gives to CSI drivers (`GetPath` in its CSI plugin, for a block device `getPublishPath`),
 * below its own folder, with no symbolic link on the way; or, with `anywhere`, as other orchestrators have other places, any
 * below it. Throws `invalid`.
 */
export async function checkTarget(
  kubeletDir: string,
  path: string,
  { anywhere = false }: { anywhere?: boolean } = {},
): Promise<CsiTarget> {
  const { kubelet, way = relative(kubeletDir, path) } = targetPattern.exec(path)?.groups ?? {}
  const pod = findPod(way)
  const isPlace = anywhere ? way !== '' && path.startsWith(`${kubeletDir}/`) : pod !== undefined
  if (!isPlace || normalize(path) !== path || path.includes('\0'))
    throw new VolumeError(
      'invalid',
      `Cannot use ${path} as a target as it must be ${kubeletDir}/${anywhere ? '…' : 'pods/<pod UID>/volumes/kubernetes.io~csi/<volume>/mount, or plugins/kubernetes.io/csi/volumeDevices/publish/<volume>/<pod UID> of a block device'}.`,
    )
  const root = await findKubeletDir(kubeletDir, kubelet)
  await mustBeFolders(root, pod && !pod.isDevice ? way : dirname(way))
  const target = { path: join(root, way), ...(pod ? { pod } : {}) }
  if ((await lstatIfThere(target.path))?.isSymbolicLink())
    throw new VolumeError('invalid', `Cannot use ${target.path} in a target as it is a symbolic link.`)
  return target
}

const lstatIfThere = (path: string) =>
  lstat(path).catch((error) => {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR') || isBrokenMount(error)) return undefined
    throw error
  })

/** Removes the folder, or the empty file, of a target in which nothing is mounted any more. */
export async function removeTarget({ path }: CsiTarget): Promise<void> {
  const node = await lstatIfThere(path)
  if (!node?.isFile()) return await removeEmpty(path)
  if (node.size > 0) return
  await unlink(path).catch((error) => {
    if (!hasErrno(error, 'ENOENT', 'EBUSY', 'EROFS')) throw error
  })
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
