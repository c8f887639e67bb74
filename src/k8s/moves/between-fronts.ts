import type { V1PersistentVolume } from '@kubernetes/client-node'
import { keyOption } from '../../flex/options.ts'
import type { FrontName } from '../fronts/front.ts'
import { pickVolume } from '../model/persistent-volume.ts'
import type { Change, Due } from './change.ts'
import { findObstacle, ownFinalizers } from './obstacle.ts'
import { buildMoved, type RecordedMove } from './record.ts'
import { readLedger, readScene, type SceneParts } from './scene.ts'

export interface BetweenFrontsParts extends SceneParts {
  to: FrontName
  /** Also while pods use it. */
  inUse: boolean
  /** By which pods have a volume of flex. */
  key: string
}

/** A volume of ours that gets another front: nothing on its node is changed for that. */
export class BetweenFronts implements Change {
  readonly finalizers = ownFinalizers
  readonly #parts: BetweenFrontsParts

  constructor(parts: BetweenFrontsParts) {
    this.#parts = parts
  }

  get to(): FrontName {
    return this.#parts.to
  }

  async plan(volume: V1PersistentVolume): Promise<{ volume: V1PersistentVolume } | { why: string } | undefined> {
    const { to, key } = this.#parts
    const facts = pickVolume(volume)
    if (!facts) return { why: 'there is no PersistentVolume of ours for it' }
    if (facts.front === to) return undefined
    const why = await this.findObstacle(volume)
    return why ? { why } : { volume: buildMoved(volume, to, { key, claimCapacity: String(facts.capacityBytes) }) }
  }

  async findObstacle(volume: V1PersistentVolume): Promise<string | undefined> {
    const { to, inUse } = this.#parts
    const scene = await readScene(this.#parts, volume, pickVolume(volume)?.node ?? '', { withPods: !inUse })
    return findObstacle(scene, to, inUse)
  }

  async prepare({ name, facts: { node } }: RecordedMove): Promise<Due> {
    if (!(await readLedger(this.#parts, node))?.entries.get(name)?.madeFor) return 'ready'
    return { waitsFor: `the daemon of node ${node}, which must see that the data is to be kept,` }
  }

  async takeBack(): Promise<boolean> {
    return false
  }

  rebuild(volume: V1PersistentVolume, record: RecordedMove, claimCapacity: string | undefined): V1PersistentVolume {
    return buildMoved(volume, this.#parts.to, { key: record.facts.options[keyOption] ?? '', claimCapacity })
  }

  /** After the claim all the rest was removed, as it is to be. */
  async isRemoved({ name, facts: { node } }: RecordedMove): Promise<boolean> {
    const ledger = await readLedger(this.#parts, node)
    return ledger !== undefined && !ledger.entries.has(name)
  }

  async conclude(): Promise<'ready'> {
    return 'ready'
  }
}
