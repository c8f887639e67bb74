import type { CallOuts } from '../daemon/front.ts'
import { parseOptions } from './options.ts'
import { checkTarget } from './target.ts'

/** How call-outs of the kubelet with that folder are read. */
export function buildCallOuts(kubeletDir: string): CallOuts {
  return { checkTarget: (path) => checkTarget(kubeletDir, path), parseOptions }
}
