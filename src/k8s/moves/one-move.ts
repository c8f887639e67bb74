import { isDeepStrictEqual } from 'node:util'
import type { V1ConfigMap, V1PersistentVolume, V1PersistentVolumeClaim } from '@kubernetes/client-node'
import { hasStatus, orMissing } from '../client/api.ts'
import type { FrontName } from '../fronts/front.ts'
import { claimPath, readClaim, readNode, readVolume, volumePath, volumesPath } from '../model/lookups.ts'
import { movedAnnotation, moveName } from '../model/names.ts'
import type { ProjectName } from '../model/origin.ts'
import { pickVolume } from '../model/persistent-volume.ts'
import { Adoption } from './adoption.ts'
import { BetweenFronts } from './between-fronts.ts'
import type { Change } from './change.ts'
import { buildRecord, parseMove, type RecordedMove } from './record.ts'
import type { SceneParts } from './scene.ts'

export interface OneMoveParts extends SceneParts {
  to: FrontName
  /** Whose volumes are adopted; missing for ours, which get another front. */
  from?: ProjectName | undefined
  /** Also while pods use it. */
  inUse: boolean
  /** A word that nobody else has. */
  by: string
  /** By which pods have a volume of flex. */
  key: string
}

export type Result =
  /** `unchanged`: it was there before. */
  | { outcome: 'moved' | 'unchanged' }
  /** `refused`: nothing is changed. `given-up`: something else became of it. */
  | { outcome: 'refused' | 'given-up'; why: string }

export type Step =
  | 'went'
  /** Part of a sentence; `giveUp`: what to do when it takes too long, if something can be done. */
  | { waitsFor: string; giveUp?: (why: string) => void }
  | Result

/**
 * The move of one volume, step by step: what is due is decided on what the API server has at that moment, and done over
 * that version. So whoever dies, at whatever request, anybody else goes on.
 *
 * Invariants: a PV goes only when a record holds the one that comes, and when the daemon of its node has seen that its data
 * stays without it. What a record makes is retained until it is bound to the claim with the UID in its name.
 */
export class OneMove {
  readonly #parts: OneMoveParts
  readonly #name: string
  /** Whether there is, or was, a record of it. */
  #isBegun = false
  #isOwn = false
  /** Why it is taken back. */
  #obstacle: string | undefined
  /** What it is at the end, which is when the record is gone. */
  #result: Result | undefined

  constructor(parts: OneMoveParts, name: string) {
    this.#parts = parts
    this.#name = name
  }

  get isBegun(): boolean {
    return this.#isBegun
  }

  /** Throws where somebody else has changed something in the meantime, among other things: it may be called again. */
  async step(): Promise<Step> {
    const { api, by } = this.#parts
    const [found, volume] = await Promise.all([this.#get<V1ConfigMap>(this.#recordPath), readVolume(api, this.#name)])
    if (!found) return this.#result ?? (await this.#begin(volume))
    this.#isBegun = true
    const record = parseMove(found)
    if (record.by !== by) return await this.#takeOver(record)
    this.#isOwn = true
    if (!volume) return await this.#make(record)
    if (volume.metadata?.uid !== record.oldUid) return await this.#finish(record, volume)
    return volume.metadata.deletionTimestamp ? await this.#letGo(record, volume) : await this.#takeAway(record, volume)
  }

  /** Why it cannot be begun; nothing where it can. */
  async findObstacle(volume: V1PersistentVolume): Promise<string | undefined> {
    const plan = await this.#change(this.#parts).plan(volume)
    return plan && 'why' in plan ? plan.why : undefined
  }

  /** What a record, or whoever asks, would make of it. */
  #change({ to, from }: { to: FrontName; from?: ProjectName | undefined }): Change {
    return from ? new Adoption({ ...this.#parts, from }) : new BetweenFronts({ ...this.#parts, to })
  }

  async #begin(volume: V1PersistentVolume | undefined): Promise<Step> {
    const { namespace, by, from, to } = this.#parts
    const { name = '', uid: oldUid = '' } = volume?.metadata ?? {}
    const plan = volume ? await this.#change(this.#parts).plan(volume) : { why: 'there is no PersistentVolume for it' }
    if (!plan) return { outcome: 'unchanged' }
    if ('why' in plan) return { outcome: 'refused', why: plan.why }
    const policy = volume && policyOf(volume) === 'Delete' ? 'Delete' : 'Retain'
    const move = { name, to, ...(from ? { from } : {}), oldUid, by, policy, volume: plan.volume }
    await this.#send('POST', this.#recordsPath, buildRecord(namespace, move))
    return 'went'
  }

  /** Of several who would, the last one goes on. */
  async #takeOver({ resourceVersion }: RecordedMove): Promise<Step> {
    if (this.#isOwn) return { outcome: 'given-up', why: 'somebody else is continuing it' }
    await this.#send('PATCH', this.#recordPath, { metadata: { resourceVersion }, data: { by: this.#parts.by } })
    return 'went'
  }

  /** Has the PV deleted, once its data stays without it. Until then everything can be taken back. */
  async #takeAway(record: RecordedMove, volume: V1PersistentVolume): Promise<Step> {
    const { name } = record
    const { uid, resourceVersion } = volume.metadata ?? {}
    const change = this.#change(record)
    if (!(await this.#readClaim(record)))
      return (await change.takeBack(record)) ? 'went' : await this.#end(record, claimGone(record, volume))
    const isRetained = policyOf(volume) === 'Retain'
    if (this.#obstacle === undefined && isRetained) {
      const due = await change.prepare(record)
      if (due === 'went') return due
      if (due !== 'ready' && 'waitsFor' in due)
        return {
          ...due,
          giveUp: (why) => {
            this.#obstacle = why
          },
        }
      if (due !== 'ready') this.#obstacle = due.why
    }
    this.#obstacle ??= await change.findObstacle(volume)
    if (this.#obstacle !== undefined) {
      if (await change.takeBack(record)) return 'went'
      if (policyOf(volume) === record.policy)
        return await this.#end(record, { outcome: 'refused', why: this.#obstacle })
      return await this.#setPolicy(volume, record.policy)
    }
    if (!isRetained) return await this.#setPolicy(volume, 'Retain')
    await this.#send('DELETE', volumePath(name), { preconditions: { uid, resourceVersion } })
    return 'went'
  }

  /** Takes off what holds a PV that is being deleted, when the record has it as it is at its end. */
  async #letGo(record: RecordedMove, volume: V1PersistentVolume): Promise<Step> {
    const { resourceVersion, finalizers = [] } = volume.metadata ?? {}
    if (policyOf(volume) !== 'Retain')
      return await this.#end(record, { outcome: 'given-up', why: 'somebody is deleting it with its data' })
    const claim = await this.#readClaim(record)
    const change = this.#change(record)
    const last = change.rebuild(volume, record, claim?.status?.capacity?.storage)
    if (!isDeepStrictEqual(last, record.volume)) {
      const data = { persistentVolume: JSON.stringify(last) }
      await this.#send('PATCH', this.#recordPath, { metadata: { resourceVersion: record.resourceVersion }, data })
      return 'went'
    }
    const other = finalizers.find((one) => !change.finalizers.includes(one))
    if (other) return { waitsFor: `whoever put finalizer ${other} on the PersistentVolume` }
    await this.#send('PATCH', volumePath(record.name), { metadata: { resourceVersion, finalizers: [] } })
    return 'went'
  }

  async #make(record: RecordedMove): Promise<Step> {
    const { facts, volume } = record
    const { key, value } = facts.heldTo
    const [claim, node] = await Promise.all([this.#readClaim(record), readNode(this.#parts.api, facts.node)])
    const isRemoved = !claim && (await this.#change(record).isRemoved(record))
    if (typeof isRemoved === 'object') return isRemoved
    if (isRemoved) return await this.#end(record, { outcome: 'given-up', why: 'it was removed with its claim' })
    if (node && node.metadata?.labels?.[key] !== value)
      throw new Error(`its PersistentVolume is to be tied to ${key}=${value}, and node ${facts.node} has no such label`)
    await this.#send('POST', volumesPath, volume)
    return 'went'
  }

  /** The PV that comes is there: waits until it is bound, and makes its policy what it was. */
  async #finish(record: RecordedMove, volume: V1PersistentVolume): Promise<Step> {
    const { to, policy, facts } = record
    const { namespace, name, uid } = facts.claim
    const now = pickVolume(volume)
    if (now?.front !== to || now.claim?.uid !== uid)
      return await this.#end(record, { outcome: 'given-up', why: 'somebody else has created its PersistentVolume' })
    const due = await this.#change(record).conclude(record)
    if (due !== 'ready') return due
    const claim = await this.#readClaim(record)
    if (!claim) return await this.#end(record, claimGone(record, volume))
    const waits = { waitsFor: `the controller manager, which must bind claim ${namespace}/${name},` }
    if (now.phase !== 'Bound') return waits
    if (claim.status?.phase !== 'Bound') {
      // It has seen the PV by now, and looks at the claim by itself within a quarter of a minute only.
      if (claim.metadata?.annotations?.[movedAnnotation] === to) return waits
      await this.#send('PATCH', claimPath(namespace, name), {
        metadata: { uid, annotations: { [movedAnnotation]: to } },
      })
      return 'went'
    }
    // Once: a record may be left for long, and others may have said something else since.
    const isGivenBack = policy === 'Retain' || volume.metadata?.annotations?.[movedAnnotation] === to
    if (!isGivenBack) return await this.#setPolicy(volume, policy, { annotations: { [movedAnnotation]: to } })
    return await this.#end(record, { outcome: 'moved' })
  }

  async #setPolicy(
    { metadata }: V1PersistentVolume,
    persistentVolumeReclaimPolicy: string,
    more: { annotations?: Record<string, string> } = {},
  ): Promise<Step> {
    const { resourceVersion } = metadata ?? {}
    const body = { metadata: { resourceVersion, ...more }, spec: { persistentVolumeReclaimPolicy } }
    await this.#send('PATCH', volumePath(this.#name), body)
    return 'went'
  }

  async #end({ uid, resourceVersion, to, from }: RecordedMove, result: Result): Promise<Step> {
    // Where another was begun, it is there now, and what is asked for can be.
    const isHalf = result.outcome === 'moved' && (to !== this.#parts.to || from !== this.#parts.from)
    if (!isHalf) this.#result = result
    await this.#send('DELETE', this.#recordPath, { preconditions: { uid, resourceVersion } })
    return isHalf ? 'went' : result
  }

  /** The claim that it is for, unless that is gone, or another of its name. */
  async #readClaim({ facts: { claim } }: RecordedMove): Promise<V1PersistentVolumeClaim | undefined> {
    const found = await readClaim(this.#parts.api, claim.namespace, claim.name)
    return found?.metadata?.uid === claim.uid ? found : undefined
  }

  get #recordsPath(): string {
    return `/api/v1/namespaces/${this.#parts.namespace}/configmaps`
  }

  get #recordPath(): string {
    return `${this.#recordsPath}/${moveName(this.#name)}`
  }

  async #get<T>(path: string): Promise<T | undefined> {
    return await orMissing(this.#parts.api.send<T>({ method: 'GET', path }))
  }

  async #send(method: 'POST' | 'PATCH' | 'DELETE', path: string, body: unknown): Promise<void> {
    await this.#parts.api.send({ method, path, body })
  }
}

function policyOf({ spec }: V1PersistentVolume): string {
  return spec?.persistentVolumeReclaimPolicy ?? ''
}

/** Its owner has deleted it: what is kept of it by then is kept. */
function claimGone({ policy, name }: RecordedMove, volume: V1PersistentVolume): Result {
  const isKept = policyOf(volume) === 'Retain' && policy !== 'Retain'
  const kept = `, and PersistentVolume ${name} is kept: set its persistentVolumeReclaimPolicy to Delete to have it removed with its data`
  return { outcome: 'given-up', why: `its claim was deleted in the meantime${isKept ? kept : ''}` }
}

/** Whether an error may be none when it is tried again. */
export function mayPass(error: unknown, isBegun: boolean): boolean {
  // An API server that only starts refuses what it will allow.
  return hasStatus(error, 0, 404, 409, 429, 500, 502, 503, 504, ...(isBegun ? [401, 403] : []))
}
