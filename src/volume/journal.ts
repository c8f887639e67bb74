import type { FsType } from './pool.ts'

/**
 * What was begun on a volume and is not known to be finished. `creating`: it may or may not exist, and is not even
 * blank for sure. `formatting`: it exists, blank, and mkfs may have run. `growing`: its filesystem may be smaller than its
 * device. `removing`: its data is not wanted any more.
 * `id` is that of the volume which the intent is about; one of the same name with another id is not meant.
 */
export type Intent =
  | { phase: 'creating' | 'formatting'; id: string; sizeBytes: bigint; fsType: FsType; mkfsOptions: readonly string[] }
  | { phase: 'growing' | 'removing'; id?: string }

/**
 * The intents of this node. A change is on the disk when its promise resolves: only then does the next step begin, so
 * that an intent is there after a crash whenever a volume is half made, and never when it was once given to a pod.
 */
export interface Journal {
  read(): Promise<Map<string, Intent>>
  write(name: string, intent: Intent): Promise<void>
  clear(name: string): Promise<void>
}
