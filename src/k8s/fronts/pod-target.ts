import { join, relative } from 'node:path'
import { podPattern as csiPattern } from '../../csi/target.ts'
import { podPattern as flexPattern } from '../../flex/target.ts'

/** The pod's folder and the volume that a path is a target of, by any front, below the kubelet's folder; nothing for other paths. */
export function findPodTarget(
  kubeletDir: string,
  path: string,
): { podUid: string; volumeName: string; folder: string } | undefined {
  const way = relative(kubeletDir, path)
  const [, podUid, volumeName] = flexPattern.exec(way) ?? csiPattern.exec(way) ?? []
  return podUid && volumeName ? { podUid, volumeName, folder: join(kubeletDir, 'pods', podUid) } : undefined
}
