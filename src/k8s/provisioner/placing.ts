import { randomBytes } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { V1PersistentVolume } from '@kubernetes/client-node'
import { observed } from '../../meter.ts'
import { formatSize } from '../../text/quantity.ts'
import { codeOf, VolumeError } from '../../volume/errors.ts'
import { ApiError, hasStatus, unlessOvertaken } from '../client/api.ts'
import { WorkQueue } from '../client/queue.ts'
import {
  type ClaimFacts,
  type ClassFacts,
  decideClaim,
  describePool,
  describeWish,
  isWanted,
  type Provision,
  selectedNodeAnnotation,
} from '../model/claim.ts'
import { settleGrowth } from '../model/growth.ts'
import { applyChanges, type Entry, freeBytes, type Ledger, leftBytes, poolOf, promise } from '../model/ledger.ts'
import { claimPath, readClaim, readNode, readVolume, volumesPath } from '../model/lookups.ts'
import { formatTaint, isAllowed, isPlaceable, type NodeFacts, type PlaceableNode, pickNode } from '../model/node.ts'
import { buildVolume, type ClaimRef, pickVolume, type VolumeFacts, volumeNameOf } from '../model/persistent-volume.ts'
import { tolerates } from '../model/pod.ts'
import { Granting } from './granting.ts'
import type { LeaderParts } from './leader.ts'
import { chooseNode } from './placement.ts'

/** How many claims are worked on at once. */
const concurrency = 256
/** Claims that wait for room are tried again so long after room appeared: once for many changes. */
const roomMs = 250
const usualLookAgainMs = 180_000

/** A claim, and what it is to become. */
interface Wanted {
  claim: ClaimFacts
  provision: Provision
}

/** From claims to PVs: has room promised for each claim that wants a volume, and makes the PV. */
export class Placing {
  readonly #parts: LeaderParts
  readonly #queue: WorkQueue
  readonly #granting: Granting
  /** Claims that nobody has room for. */
  readonly #waiting = new Set<string>()
  /** What is being asked of each node and is not answered. */
  readonly #askedBytes = new Map<string, bigint>()
  /** PVs that a person made and keeps for a claim, of which there are few. */
  readonly #kept = new Map<string, ClaimRef>()
  /** Claims without a volume, by UID. */
  readonly #unbound = new Map<string, string>()
  #roomTimer: NodeJS.Timeout | undefined
  #lookTimer: NodeJS.Timeout | undefined

  constructor(parts: LeaderParts) {
    this.#parts = parts
    this.#granting = new Granting(parts)
    this.#queue = new WorkQueue({
      ...parts,
      name: 'claims',
      about: (claim) => ({ claim }),
      work: (key) => this.#provision(key),
      concurrency,
    })
  }

  /** Begins, and goes on with what changes until `signal` aborts. */
  start(signal: AbortSignal): void {
    const { claims, classes, nodes, ledgers, volumes } = this.#parts.copies
    volumes.onChange((name, now) => this.#noteKept(name, now?.claim), signal)
    for (const [name, { claim }] of volumes.objects) this.#noteKept(name, claim)
    claims.onChange((key, now, before) => {
      this.#noteUnbound(key, now, before)
      this.#queue.add(key)
    }, signal)
    for (const [key, claim] of claims.objects) this.#noteUnbound(key, claim)
    // A PV of that name, of whatever driver, may have been in a claim's way.
    volumes.onGone((name) => {
      const key = name.startsWith(volumeNameOf('')) && this.#unbound.get(name.slice(volumeNameOf('').length))
      if (key) this.#queue.add(key)
    }, signal)
    classes.onChange((name) => {
      for (const [key, claim] of claims.objects) if (claim.className === name && !claim.volumeName) this.#queue.add(key)
    }, signal)
    nodes.onChange((_, now, before) => {
      if (now && !isDeepStrictEqual(now, before)) this.#roomAppeared()
    }, signal)
    ledgers.onChange((_, now, before) => {
      if (now && (!before || freeBytes(now) > freeBytes(before) || !isDeepStrictEqual(now.pools, before.pools)))
        this.#roomAppeared()
      for (const key of now ? this.#granting.on(now.node) : []) this.#queue.add(key)
    }, signal)
    this.#parts.liveness.onChange((node) => {
      if (this.#parts.liveness.isAlive(node)) this.#roomAppeared()
    }, signal)
    for (const key of claims.objects.keys()) this.#queue.add(key)
    const { lookAgainMs = usualLookAgainMs } = this.#parts
    this.#lookTimer = setInterval(() => this.#lookAgain(lookAgainMs), lookAgainMs)
  }

  /** What helps may not be seen: every claim that waits is looked at again, not all at once, and what it lacks is said anew. */
  #lookAgain(withinMs: number): void {
    for (const [key, { volumeName, isGrowing }] of this.#parts.copies.claims.objects)
      if (!volumeName || isGrowing) this.#queue.addAfter(key, Math.random() * withinMs)
  }

  #noteUnbound(key: string, now: ClaimFacts | undefined, before?: ClaimFacts): void {
    if (before) this.#unbound.delete(before.uid)
    if (now && !now.volumeName) this.#unbound.set(now.uid, key)
  }

  /** Resolves when what was begun has ended. */
  async stop(): Promise<void> {
    clearTimeout(this.#roomTimer)
    clearInterval(this.#lookTimer)
    await this.#queue.stop()
  }

  async #provision(key: string): Promise<void> {
    const claim = this.#parts.copies.claims.objects.get(key)
    this.#waiting.delete(key)
    const volume = claim && this.#parts.copies.volumes.objects.get(claim.volumeName || volumeNameOf(claim.uid))
    if (!claim) this.#granting.forget(key)
    if (claim && volume && claim.attributesClass !== claim.refusedAttributesClass) await this.#refuseToModify(claim)
    if (claim && volume?.front === 'csi') return await this.#granting.look(claim, volume)
    if (claim && volume && claim.isGrowing) return await this.#settleGrowth(claim, volume)
    if (!claim || volume) return
    const storageClass = this.#parts.copies.classes.objects.get(claim.className)
    const decision = decideClaim(claim, storageClass)
    if (decision.kind === 'none' || !storageClass || this.#isAwaited(claim)) return
    if (decision.kind === 'refuse') return await this.#sayFailed(claim, decision.message)
    try {
      await observed(
        this.#parts.meter?.operation,
        { what: 'place', about: key },
        async () => {
          const node = await this.#reserve(claim, storageClass, decision.provision)
          await this.#createVolume(claim, storageClass, decision.provision, node)
        },
        codeOf,
      )
    } catch (error) {
      if (!(error instanceof VolumeError) || !['no-space', 'not-found'].includes(error.code)) throw error
      this.#waiting.add(key)
      await this.#sayFailed(claim, error.message)
      if (decision.provision.node) await this.#letSchedulerChoose(claim)
    }
  }

  /** Whether somebody made a PV of ours for that claim, by its name: the controller manager binds it. */
  #isAwaited({ namespace, name }: ClaimFacts): boolean {
    return this.#kept.values().some((claim) => claim.name === name && claim.namespace === namespace)
  }

  #noteKept(volume: string, claim: ClaimRef | undefined): void {
    const before = this.#kept.get(volume)
    if (claim?.uid === '') this.#kept.set(volume, claim)
    else if (before) {
      this.#kept.delete(volume)
      this.#queue.add(`${before.namespace}/${before.name}`)
    }
  }

  /** A volume that is there has nothing that a VolumeAttributesClass could set, which is said once. */
  async #refuseToModify({ namespace, name, uid, attributesClass }: ClaimFacts): Promise<void> {
    const { api, recorder } = this.#parts
    const isWanted = attributesClass !== ''
    const modifyVolumeStatus = isWanted
      ? { targetVolumeAttributesClassName: attributesClass, status: 'Infeasible' }
      : null
    const path = `${claimPath(namespace, name)}/status`
    await api.send({ method: 'PATCH', path, body: { status: { modifyVolumeStatus } } }).catch(unlessOvertaken)
    if (!isWanted) return
    const message = `Cannot change the volume to VolumeAttributesClass ${attributesClass} as volumes have no attributes to set: remove volumeAttributesClassName, or restore its former value.`
    await recorder.say({ kind: 'PersistentVolumeClaim', namespace, name, uid }, 'Warning', 'VolumeNotModified', message)
  }

  /** Brings a growth that the node refused to an end, or lets it be tried again. */
  async #settleGrowth({ namespace, name }: ClaimFacts, { node }: VolumeFacts): Promise<void> {
    const { api } = this.#parts
    const path = claimPath(namespace, name)
    const ledger = this.#parts.ledgers.of(node).latest
    const found = await readClaim(api, namespace, name)
    const body = found && settleGrowth(found, ledger ? leftBytes(ledger) : 0n)
    if (!body) return
    await api.send({ method: 'PATCH', path: `${path}/status`, body }).catch(unlessOvertaken)
  }

  /** Has room promised on a node, the selected or the best one, and gives the node. Throws `no-space`, `not-found`. */
  async #reserve(claim: ClaimFacts, storageClass: ClassFacts, provision: Provision): Promise<PlaceableNode> {
    const volume = volumeNameOf(claim.uid)
    const promisedOn = this.#parts.ledgers.holding(volume)[0]
    if (promisedOn && (!provision.node || provision.node === promisedOn.node)) {
      const node = await this.#findNode(promisedOn.node)
      if (node && isPlaceable(node)) return node
    }
    if (promisedOn) await this.#parts.ledgers.release(promisedOn.node, volume)
    if (provision.node) {
      const node = await this.#mustFindNode(provision.node, storageClass)
      this.#mustBeTolerated(node, `${claim.namespace}/${claim.name}`)
      await this.#promise(node, this.#together(claim, storageClass, provision))
      return node
    }
    for (;;) {
      const best = chooseNode(
        this.#parts.copies.nodes.objects.values(),
        (name) => this.#parts.ledgers.of(name).latest,
        (name) => this.#parts.liveness.isAlive(name),
        (name) => this.#askedBytes.get(name) ?? 0n,
        { ...provision, topologies: storageClass.topologies },
      )
      if (!best)
        throw new VolumeError(
          'not-found',
          `Cannot place ${formatSize(provision.sizeBytes)} as no node that StorageClass ${storageClass.name} allows is ready and has ${describeWish(provision)}; only those count that are neither cordoned nor tainted, and whose daemon is running.`,
        )
      try {
        // What is known may be old: a node that seems full is asked as well, and says what there is.
        await this.#promise(best.node, [{ claim, provision }])
        return best.node
      } catch (error) {
        const seemedToFit = best.freeBytes >= provision.sizeBytes
        // Others were faster, and the ledger is up to date now.
        if (!(seemedToFit && error instanceof VolumeError && error.code === 'no-space')) throw error
      }
    }
  }

  /**
   * What is to be on one node with a claim that the scheduler selected one for: all that the pods which wait for it want of
   * ours. Promised one after the other, some might find no room where the others are bound by then, and the pod no node at all.
   */
  #together(claim: ClaimFacts, storageClass: ClassFacts, provision: Provision): Wanted[] {
    const { copies, pods } = this.#parts
    const { claims, classes, volumes } = copies
    const wanted = new Map([[claim.uid, { claim, provision }]])
    for (const key of pods.sharing(`${claim.namespace}/${claim.name}`)) {
      const other = claims.objects.get(key)
      const itsClass =
        other && (other.className === storageClass.name ? storageClass : classes.objects.get(other.className))
      if (!other || !itsClass?.waitsForPod || wanted.has(other.uid) || volumes.objects.has(volumeNameOf(other.uid)))
        continue
      // The scheduler writes its selection into one claim after the other.
      const decision = decideClaim({ ...other, selectedNode: claim.selectedNode }, itsClass)
      if (decision.kind === 'provision' && !this.#isAwaited(other))
        wanted.set(other.uid, { claim: other, provision: decision.provision })
    }
    return [...wanted.values()]
  }

  async #promise(node: NodeFacts, wanted: readonly Wanted[]): Promise<void> {
    const sizeBytes = wanted.reduce((sum, { provision }) => sum + provision.sizeBytes, 0n)
    const count = (bytes: bigint) => this.#askedBytes.set(node.name, (this.#askedBytes.get(node.name) ?? 0n) + bytes)
    count(sizeBytes)
    try {
      // All or none: one patch.
      await this.#parts.ledgers.of(node.name).update((ledger) => {
        const changes = new Map<string, Entry>()
        for (const one of wanted) {
          const entry = this.#promiseIn(applyChanges(ledger, changes), node, one, wanted)
          if (entry) changes.set(volumeNameOf(one.claim.uid), entry)
        }
        return changes
      })
    } finally {
      count(-sizeBytes)
    }
  }

  /** The entry that is new in a ledger; nothing where there is one already. */
  #promiseIn(ledger: Ledger, node: NodeFacts, { claim, provision }: Wanted, all: readonly Wanted[]): Entry | undefined {
    const volume = volumeNameOf(claim.uid)
    try {
      if (ledger.entries.has(volume)) return undefined
      const pool = poolOf(ledger)
      if (!isWanted(provision, pool))
        throw new VolumeError(
          'not-found',
          `Cannot place a volume on node ${node.name} as StorageClass ${claim.className} wants ${describeWish(provision)}, and its pool is ${describePool(pool, provision)}.`,
        )
      return promise(ledger, volume, provision.sizeBytes, `${claim.namespace}/${claim.name}`)
    } catch (error) {
      if (all.length === 1 || !(error instanceof VolumeError)) throw error
      const names = all.map(({ claim }) => claim.name).join(', ')
      throw new VolumeError(error.code, `${error.message} The claims ${names} are needed together, by one pod.`)
    }
  }

  /** The node that was selected; not all that may write a selection have looked at what the scheduler looks at. */
  async #mustFindNode(name: string, { name: className, topologies }: ClassFacts): Promise<PlaceableNode> {
    const refuse = (why: string) => new VolumeError('not-found', `Cannot place a volume on node ${name} as ${why}.`)
    const node = await this.#findNode(name)
    if (!node) throw refuse('there is no such node')
    if (!isPlaceable(node)) throw refuse('it has no label kubernetes.io/hostname')
    if (!node.isReady) throw refuse('it is not ready')
    if (!this.#parts.liveness.isAlive(name))
      throw refuse('its elastic-local daemon is not running, or cannot use its pool')
    if (!isAllowed(node.labels, topologies))
      throw refuse(`it is not in the allowedTopologies of StorageClass ${className}`)
    return node
  }

  /** The scheduler places a pod where there are taints only if it tolerates them. Who may not list pods cannot tell. */
  #mustBeTolerated({ name, taints }: NodeFacts, claim: string): void {
    const { pods } = this.#parts
    if (!pods.isKnown || pods.using(claim).some((pod) => taints.every((taint) => tolerates(pod, taint)))) return
    const [wrong] = taints
    if (wrong)
      throw new VolumeError(
        'not-found',
        `Cannot place a volume on node ${name} as no pod that waits for claim ${claim} tolerates its taint ${formatTaint(wrong)}.`,
      )
  }

  async #findNode(name: string): Promise<NodeFacts | undefined> {
    const { api, copies } = this.#parts
    const known = copies.nodes.objects.get(name)
    const found = known ? undefined : await readNode(api, name)
    return known ?? (found && pickNode(found))
  }

  async #createVolume(
    claim: ClaimFacts,
    storageClass: ClassFacts,
    provision: Provision,
    node: PlaceableNode,
  ): Promise<void> {
    const { api, copies, log } = this.#parts
    const { namespace, name, uid, accessModes } = claim
    const { sizeBytes, fsType, options, front = 'flex' } = provision
    const body = buildVolume({
      claim: { namespace, name, uid, accessModes },
      storageClass,
      sizeBytes,
      fsType,
      options,
      front,
      node: node.name,
      topology: node.topology,
      key: randomBytes(16).toString('hex'),
    })
    const volume = volumeNameOf(uid)
    try {
      const made = await api.send<V1PersistentVolume>({ method: 'POST', path: volumesPath, body })
      // Or a change of the claim that is told before the PV would have it made again.
      copies.volumes.note(made)
      log.info(
        `Created PV ${volume} of ${formatSize(sizeBytes)} on node ${node.name} for claim ${namespace}/${name}.`,
        {
          volume,
          claim: `${namespace}/${name}`,
          node: node.name,
          sizeBytes,
        },
      )
    } catch (error) {
      if (hasStatus(error, 409)) return await this.#adopt(claim, node.name)
      if (!(error instanceof ApiError && [400, 403, 422].includes(error.status))) throw error
      await this.#parts.ledgers.release(node.name, volume)
      await this.#sayFailed(claim, error.message)
      if (error.status === 403) throw error
    }
  }

  /** A PV of that name is there already: made by a request whose answer was lost, or by another provisioner. */
  async #adopt(claim: ClaimFacts, node: string): Promise<void> {
    const volume = volumeNameOf(claim.uid)
    const found = await readVolume(this.#parts.api, volume)
    if (!found) throw new Error(`PV ${volume} existed and is gone; trying again.`)
    const facts = pickVolume(found)
    if (facts?.claim?.uid !== claim.uid)
      return await this.#sayFailed(
        claim,
        `Cannot create PV ${volume} as one of that name exists that is not for this claim; delete it if nobody needs it.`,
      )
    if (facts.node !== node) await this.#parts.ledgers.release(node, volume)
  }

  async #letSchedulerChoose(claim: ClaimFacts): Promise<void> {
    const { api } = this.#parts
    const body = {
      metadata: { resourceVersion: claim.resourceVersion, annotations: { [selectedNodeAnnotation]: null } },
    }
    await api.send({ method: 'PATCH', path: claimPath(claim.namespace, claim.name), body }).catch(unlessOvertaken)
  }

  #roomAppeared(): void {
    this.#roomTimer ??= setTimeout(() => {
      this.#roomTimer = undefined
      for (const key of this.#waiting) this.#queue.add(key)
      for (const [key, { isGrowing }] of this.#parts.copies.claims.objects) if (isGrowing) this.#queue.add(key)
    }, roomMs)
  }

  async #sayFailed({ namespace, name, uid }: ClaimFacts, message: string): Promise<void> {
    const claim = { kind: 'PersistentVolumeClaim', namespace, name, uid }
    await this.#parts.recorder.say(claim, 'Warning', 'ProvisioningFailed', message)
  }
}
