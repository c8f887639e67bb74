import type { Content } from './pool.ts'

/**
 * What was begun on a volume and is not known to be finished. `creating`: it may or may not exist, and is not even
 * blank for sure. `formatting`: it exists, blank, and mkfs may have run; or it is a block device, and is being zeroed. `growing`: its filesystem may be smaller than its
 * device. `removing`: its data is not wanted any more.
 * `id` is that of the volume which the intent is about; one of the same name with another id is not meant.
 */
export type Intent =
  | { phase: 'creating' | 'formatting'; id: string; sizeBytes: bigint; fsType: Content; mkfsOptions: readonly string[] }
  | { phase: 'growing' | 'removing'; id?: string }

/** Something was begun, and its record is damaged: nobody knows what. */
export interface UnreadableIntent {
  phase: 'unreadable'
  id?: never
  problem: string
}

/**
 * The intents of this node, and which volumes were once made. A change is on the disk when its promise resolves: only then does
 * the next step begin, so that an intent is there after a crash whenever a volume is half made, and never when it was once
 * given to a pod. What is damaged costs the one volume that it is about.
 */
export interface Journal {
  read(): Promise<Map<string, Intent | UnreadableIntent>>
  /** The ids of the volumes that were made, by name. */
  readMade(): Promise<Map<string, string>>
  write(name: string, intent: Intent): Promise<void>
  clear(name: string): Promise<void>
  /** Turns the intent to make a volume, in one step, into the record that it was made. */
  finish(name: string): Promise<void>
  /** The volume is gone. */
  forget(name: string): Promise<void>
}
