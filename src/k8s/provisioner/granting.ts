import type { V1PersistentVolumeClaim } from '@kubernetes/client-node'
import { formatSize } from '../../text/quantity.ts'
import { VolumeError } from '../../volume/errors.ts'
import { roundUp } from '../../volume/size.ts'
import { unlessOvertaken } from '../client/api.ts'
import { formatQuantity, parseQuantity } from '../client/quantity.ts'
import type { ClaimFacts } from '../model/claim.ts'
import { sayGranted, sayGrown, sayRefused } from '../model/granted-growth.ts'
import { adviceOnRefusal } from '../model/growth.ts'
import { type Entry, isRefused, poolOf, promise, withoutGrowth } from '../model/ledger.ts'
import { claimPath, readClaim, volumePath } from '../model/lookups.ts'
import { aboutVolume, type VolumeFacts } from '../model/persistent-volume.ts'
import type { LeaderParts } from './leader.ts'

/**
 * Grants the growth of CSI volumes: has room promised, upon which the node's daemon makes the volume larger, with or without
 * a pod; then says so in the PV and in the claim. A refusal changes nothing but the claim's status.
 *
 * Each look does the one step that is due, by what claim, PV and ledger say.
 */
export class Granting {
  readonly #parts: LeaderParts
  /** Claims whose growth is not at its end, and the node that their volume is on. */
  readonly #underWay = new Map<string, string>()

  constructor(parts: LeaderParts) {
    this.#parts = parts
  }

  /** Claims, as `namespace/name`, for which it matters what the ledger of that node says. */
  on(node: string): string[] {
    return [...this.#underWay].filter(([, its]) => its === node).map(([key]) => key)
  }

  /** Nobody has that claim any more. */
  forget(key: string): void {
    this.#underWay.delete(key)
  }

  async look(claim: ClaimFacts, volume: VolumeFacts): Promise<void> {
    const key = `${claim.namespace}/${claim.name}`
    const isBound = claim.volumeName === volume.name && volume.claim?.uid === claim.uid && claim.capacity !== ''
    // One on its way out keeps what it has.
    if (!isBound || claim.isDeleting) return this.forget(key)
    const ledger = this.#parts.ledgers.of(volume.node).latest
    const entry = ledger?.entries.get(volume.name)
    const isTakenBack = entry !== undefined && isPromiseRefused(entry)
    if (isTakenBack) await this.#takeBack(volume)
    const wanted = parseQuantity(claim.request, 'the size that the claim requests')
    const has = parseQuantity(claim.capacity, "the claim's capacity")
    if (wanted <= has && claim.growthPhase === '') return this.forget(key)
    this.#underWay.set(key, volume.node)
    // What was wanted and refused is taken back.
    if (wanted <= has) return await this.#say(claim, (found) => sayGrown(found, has))
    if (entry?.madeBytes !== undefined && entry.madeBytes >= wanted) return await this.#finish(claim, volume, wanted)
    if (ledger && entry && isRefused(entry, roundUp(wanted, poolOf(ledger).unitBytes))) {
      const { refusal = '' } = entry
      if (claim.growthPhase === 'refused') return
      return await this.#say(claim, (found) => sayRefused(found, wanted, refusal, this.#parts.now()))
    }
    if (!entry || isTakenBack || entry.promisedBytes < wanted) return await this.#grant(claim, volume, wanted)
    const { delay = '' } = entry
    if (claim.growthPhase !== 'granted' || claim.growthDelay !== delay)
      await this.#say(claim, (found) => sayGranted(found, wanted, delay, this.#parts.now()))
  }

  async #grant(claim: ClaimFacts, volume: VolumeFacts, wanted: bigint): Promise<void> {
    const { ledgers, now } = this.#parts
    const keeper = ledgers.of(volume.node)
    if (claim.growthPhase === 'refused' && !this.#seemsToFit(volume, wanted)) return
    try {
      await keeper.update((ledger) => [[volume.name, promise(ledger, volume.name, wanted)]])
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error
      const { code, message } = error
      // A ledger that is made, or recreated, brings the claim back.
      if (code !== 'no-space') return await this.#sayNotGrown(claim, volume, message)
      await this.#sayNotGrown(claim, volume, `${message} ${adviceOnRefusal}`)
      return await this.#say(claim, (found) => sayRefused(found, wanted, message, now()))
    }
    await this.#say(claim, (found) => sayGranted(found, wanted, '', now()))
  }

  /** Of what the machine could not give, no more stays promised than there is. */
  async #takeBack({ node, name }: VolumeFacts): Promise<void> {
    await this.#parts.ledgers.of(node).update(({ entries }) => {
      const entry = entries.get(name)
      return entry && isPromiseRefused(entry) ? [[name, withoutGrowth(entry)]] : []
    })
  }

  /** By what is known of the ledger, so that what was refused asks nobody before room has appeared. */
  #seemsToFit({ node, name }: VolumeFacts, wanted: bigint): boolean {
    const ledger = this.#parts.ledgers.of(node).latest
    if (!ledger) return false
    try {
      promise(ledger, name, wanted)
      return true
    } catch {
      return false
    }
  }

  /** The PV first: by the claim it is seen that nothing is left to do. */
  async #finish(claim: ClaimFacts, volume: VolumeFacts, wanted: bigint): Promise<void> {
    const { api, log } = this.#parts
    const { name, resourceVersion, capacityBytes } = volume
    const sizeBytes = wanted > capacityBytes ? wanted : capacityBytes
    if (sizeBytes > capacityBytes) {
      const body = { metadata: { resourceVersion }, spec: { capacity: { storage: formatQuantity(sizeBytes) } } }
      await api.send({ method: 'PATCH', path: volumePath(name), body })
    }
    await this.#say(claim, (found) => sayGrown(found, sizeBytes))
    log.info(`Volume ${name} has grown to ${formatSize(sizeBytes)}.`, { ...aboutVolume(volume), sizeBytes })
  }

  async #say({ namespace, name, uid }: ClaimFacts, patch: (found: V1PersistentVolumeClaim) => object): Promise<void> {
    const { api } = this.#parts
    const found = await readClaim(api, namespace, name)
    if (found?.metadata?.uid !== uid) return
    const path = `${claimPath(namespace, name)}/status`
    await api.send({ method: 'PATCH', path, body: patch(found) }).catch(unlessOvertaken)
  }

  async #sayNotGrown({ namespace, name, uid }: ClaimFacts, volume: VolumeFacts, message: string): Promise<void> {
    const { recorder } = this.#parts
    for (const object of [
      { kind: 'PersistentVolumeClaim', namespace, name, uid },
      { kind: 'PersistentVolume', name: volume.name, uid: volume.uid },
    ])
      await recorder.say(object, 'Warning', 'VolumeNotGrown', message)
  }
}

const isPromiseRefused = (entry: Entry) => isRefused(entry, entry.promisedBytes)
