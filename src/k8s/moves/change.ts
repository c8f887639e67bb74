import type { V1PersistentVolume } from '@kubernetes/client-node'
import type { FrontName } from '../fronts/front.ts'
import type { ProjectName } from '../model/origin.ts'
import type { RecordedMove } from './record.ts'

/** What stands in the way: nothing, or somebody else's part, or that it cannot be. Parts of sentences. */
export type Due = 'ready' | 'went' | { waitsFor: string } | { why: string }

/** What becomes of a PV that is made anew: all that is not the same for each. Every method may be called again at any time. */
export interface Change {
  readonly to: FrontName
  readonly from?: ProjectName
  /** The PV that comes in place of one; or nothing where that is it already. */
  plan(volume: V1PersistentVolume): Promise<{ volume: V1PersistentVolume } | { why: string } | undefined>
  /** Why it cannot be done now; nothing where it can. */
  findObstacle(volume: V1PersistentVolume): Promise<string | undefined>
  /** Does the next thing that must be so before a PV, which is retained, may go. */
  prepare(record: RecordedMove): Promise<Due>
  /** Takes the next thing of that back; false when there is nothing left of it. */
  takeBack(record: RecordedMove): Promise<boolean>
  /** The finalizers that it takes off the PV that goes. */
  readonly finalizers: readonly string[]
  /** The PV that comes, by the one that goes as it is at its end. */
  rebuild(volume: V1PersistentVolume, record: RecordedMove, claimCapacity: string | undefined): V1PersistentVolume
  /** Whether all of a volume without a claim, and without a PV, is gone. */
  isRemoved(record: RecordedMove): Promise<boolean | { waitsFor: string }>
  /** Does the next thing that must be so before the PV that has come may be deleted with its data. */
  conclude(record: RecordedMove): Promise<Exclude<Due, { why: string }>>
}
