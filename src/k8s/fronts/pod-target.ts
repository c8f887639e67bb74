import { relative } from 'node:path'
import { findPod } from '../../csi/target.ts'
import { podPattern } from '../../flex/target.ts'

/** The pod and the volume that a path is a target of, by any front, below the kubelet's folder; nothing for other paths. */
export function findPodTarget(kubeletDir: string, path: string): { podUid: string; volumeName: string } | undefined {
  const way = relative(kubeletDir, path)
  const pod = findPod(way)
  const [, podUid = pod?.uid, volumeName = pod?.volumeName] = podPattern.exec(way) ?? []
  return podUid && volumeName ? { podUid, volumeName } : undefined
}
