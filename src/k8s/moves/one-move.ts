import { isDeepStrictEqual } from 'node:util'
import type {
  V1ConfigMap,
  V1CSIDriver,
  V1CSINode,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1Pod,
} from '@kubernetes/client-node'
import { csiDriverName } from '../../csi/driver.ts'
import { keyOption } from '../../flex/options.ts'
import { type Api, hasStatus, listPages, orMissing } from '../client/api.ts'
import type { FrontName } from '../fronts/front.ts'
import { type Ledger, parseLedger } from '../model/ledger.ts'
import { claimPath, readClaim, readNode, readVolume, volumePath, volumesPath } from '../model/lookups.ts'
import { ledgerName, movedAnnotation, moveName } from '../model/names.ts'
import { pickVolume } from '../model/persistent-volume.ts'
import { findObstacle, ownFinalizers } from './obstacle.ts'
import { buildMoved, buildRecord, parseMove, type RecordedMove } from './record.ts'

export interface OneMoveParts {
  api: Api
  /** Of our own objects. */
  namespace: string
  to: FrontName
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

  /** Why it cannot be moved to that front; nothing where it can. */
  async findObstacle(volume: V1PersistentVolume, to: FrontName): Promise<string | undefined> {
    const { api, inUse } = this.#parts
    const { node = '', claim: ref } = pickVolume(volume) ?? {}
    const storage = '/apis/storage.k8s.io/v1'
    const [claim, nodeObject, ledger, csiNode, csiDriver, pods] = await Promise.all([
      ref && readClaim(api, ref.namespace, ref.name),
      readNode(api, node),
      this.#readLedger(node),
      this.#get<V1CSINode>(`${storage}/csinodes/${node}`),
      this.#get<V1CSIDriver>(`${storage}/csidrivers/${csiDriverName}`),
      inUse || !ref ? [] : this.#readPods(ref.namespace),
    ])
    return findObstacle({ volume, claim, node: nodeObject, ledger, csiNode, csiDriver, pods }, to, inUse)
  }

  async #begin(volume: V1PersistentVolume | undefined): Promise<Step> {
    const { namespace, to, by, key } = this.#parts
    const facts = volume && pickVolume(volume)
    if (!facts) return { outcome: 'refused', why: 'there is no PersistentVolume of ours for it' }
    if (facts.front === to) return { outcome: 'unchanged' }
    const why = await this.findObstacle(volume, to)
    if (why) return { outcome: 'refused', why }
    const { name, uid: oldUid, capacityBytes } = facts
    const move = {
      ...{ name, to, oldUid, by },
      policy: facts.deletesData ? 'Delete' : 'Retain',
      volume: buildMoved(volume, to, { key, claimCapacity: String(capacityBytes) }),
    }
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
    const { name, facts, to } = record
    const { uid, resourceVersion } = volume.metadata ?? {}
    if (!(await this.#readClaim(record))) return await this.#end(record, claimGone(record, volume))
    const isRetained = policyOf(volume) === 'Retain'
    const isAsked = this.#obstacle === undefined && isRetained
    if (isAsked && (await this.#readLedger(facts.node))?.entries.get(name)?.madeFor)
      return {
        waitsFor: `the daemon of node ${facts.node}, which must see that the data is to be kept,`,
        giveUp: (why) => {
          this.#obstacle = why
        },
      }
    this.#obstacle ??= await this.findObstacle(volume, to)
    if (this.#obstacle !== undefined) {
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
    const key = record.facts.options[keyOption] ?? ''
    const last = buildMoved(volume, record.to, { key, claimCapacity: claim?.status?.capacity?.storage })
    if (!isDeepStrictEqual(last, record.volume)) {
      const data = { persistentVolume: JSON.stringify(last) }
      await this.#send('PATCH', this.#recordPath, { metadata: { resourceVersion: record.resourceVersion }, data })
      return 'went'
    }
    const other = finalizers.find((one) => !ownFinalizers.includes(one))
    if (other) return { waitsFor: `whoever put finalizer ${other} on the PersistentVolume` }
    await this.#send('PATCH', volumePath(record.name), { metadata: { resourceVersion, finalizers: [] } })
    return 'went'
  }

  async #make(record: RecordedMove): Promise<Step> {
    const { name, facts, volume } = record
    const { key, value } = facts.heldTo
    const [claim, ledger, node] = await Promise.all([
      this.#readClaim(record),
      this.#readLedger(facts.node),
      readNode(this.#parts.api, facts.node),
    ])
    // After the claim all the rest was removed, as it is to be.
    if (!claim && ledger && !ledger.entries.has(name))
      return await this.#end(record, { outcome: 'given-up', why: 'it was removed with its claim' })
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
    if (policyOf(volume) !== policy) return await this.#setPolicy(volume, policy)
    return await this.#end(record, { outcome: 'moved' })
  }

  async #setPolicy({ metadata }: V1PersistentVolume, persistentVolumeReclaimPolicy: string): Promise<Step> {
    const { resourceVersion } = metadata ?? {}
    const body = { metadata: { resourceVersion }, spec: { persistentVolumeReclaimPolicy } }
    await this.#send('PATCH', volumePath(this.#name), body)
    return 'went'
  }

  async #end({ uid, resourceVersion, to }: RecordedMove, result: Result): Promise<Step> {
    // One that had been begun the other way is there now, and can be moved back.
    const isHalf = result.outcome === 'moved' && to !== this.#parts.to
    if (!isHalf) this.#result = result
    await this.#send('DELETE', this.#recordPath, { preconditions: { uid, resourceVersion } })
    return isHalf ? 'went' : result
  }

  /** The claim that it is for, unless that is gone, or another of its name. */
  async #readClaim({ facts: { claim } }: RecordedMove): Promise<V1PersistentVolumeClaim | undefined> {
    const found = await readClaim(this.#parts.api, claim.namespace, claim.name)
    return found?.metadata?.uid === claim.uid ? found : undefined
  }

  async #readLedger(node: string): Promise<Ledger | undefined> {
    const found = await this.#get<V1ConfigMap>(`${this.#recordsPath}/${ledgerName(node)}`)
    return found && parseLedger(found)
  }

  async #readPods(namespace: string): Promise<V1Pod[]> {
    const pods: V1Pod[] = []
    for await (const { items } of listPages<V1Pod>(this.#parts.api, `/api/v1/namespaces/${namespace}/pods`))
      pods.push(...items)
    return pods
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
