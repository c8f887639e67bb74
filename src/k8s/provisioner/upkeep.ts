import type { LogFields } from '../../log.ts'
import { unlessOvertaken } from '../client/api.ts'
import { WorkQueue } from '../client/queue.ts'
import type { ClaimFacts } from '../model/claim.ts'
import { claimPath, letVolumeGo, readClaim, readNode, readVolume, volumePath } from '../model/lookups.ts'
import { finalizer, nodeLabel, provisionerNames } from '../model/names.ts'
import {
  aboutVolume,
  buildNodeAffinity,
  pickVolume,
  type VolumeFacts,
  volumeNameOf,
} from '../model/persistent-volume.ts'
import { GoneNodes } from './gone-nodes.ts'
import type { LeaderParts } from './leader.ts'

/** How many PVs are worked on at once. */
const concurrency = 32
const usualTidyMs = 60_000

/**
 * Looks after the PVs that are there: gives those of the predecessor what ours have, sees those off whose claim, or node,
 * is gone, and takes back promises that nobody needs.
 */
export class Upkeep {
  readonly #parts: LeaderParts
  readonly #queue: WorkQueue
  /** Keys are `node/volume`. */
  readonly #tidyQueue: WorkQueue
  readonly #goneNodes: GoneNodes
  #tidyTimer: NodeJS.Timeout | undefined

  constructor(parts: LeaderParts) {
    this.#parts = parts
    const { copies } = parts
    this.#goneNodes = new GoneNodes({ ...parts, isKnown: (node) => copies.nodes.objects.has(node) })
    this.#queue = new WorkQueue({
      ...parts,
      name: 'volumes',
      about: (name) => this.#about(name),
      work: (key) => this.#keep(key),
      concurrency,
    })
    this.#tidyQueue = new WorkQueue({
      ...parts,
      name: 'promises',
      about: aboutPromise,
      work: (key) => this.#tidy(key),
      concurrency: 4,
    })
  }

  /** Begins, and goes on with what changes until `signal` aborts. */
  start(signal: AbortSignal): void {
    const { claims, volumes, nodes, ledgers, leases } = this.#parts.copies
    claims.onChange((_, now, before) => {
      if (before && !now) this.#tidyVolume(volumeNameOf(before.uid))
    }, signal)
    volumes.onChange((key, now, before) => {
      this.#queue.add(key)
      if (before && !now) this.#goneNodes.see(before.node)
    }, signal)
    ledgers.onChange((_, now, before) => this.#goneNodes.see((now ?? before)?.node ?? ''), signal)
    for (const { node } of ledgers.objects.values()) this.#goneNodes.see(node)
    // One that is removed was removed for that.
    leases.onChange((_, now) => now && this.#goneNodes.see(now.node), signal)
    for (const { node } of leases.objects.values()) this.#goneNodes.see(node)
    nodes.onChange((name, now) => {
      this.#goneNodes.see(name)
      if (!now) this.#addVolumesOf(name)
    }, signal)
    for (const key of volumes.objects.keys()) this.#queue.add(key)
    this.#tidyAll()
    this.#tidyTimer = setInterval(() => this.#tidyAll(), this.#parts.tidyMs ?? usualTidyMs)
  }

  /** Resolves when what was begun has ended. */
  async stop(): Promise<void> {
    clearInterval(this.#tidyTimer)
    await Promise.all([this.#queue, this.#tidyQueue, this.#goneNodes].map((part) => part.stop()))
  }

  #about(name: string): LogFields {
    const volume = this.#parts.copies.volumes.objects.get(name)
    return volume ? aboutVolume(volume) : { volume: name }
  }

  async #keep(name: string): Promise<void> {
    const volume = this.#parts.copies.volumes.objects.get(name)
    if (!volume) return this.#tidyVolume(name)
    await this.#complete(volume)
    await this.#seeOff(volume)
  }

  /**
   * The predecessor's PVs have no finalizer of ours, without which the data would outlive them, and perhaps no node; of ours
   * somebody may have taken the finalizer, or the label without which no daemon sees them.
   */
  async #complete(volume: VolumeFacts) {
    const { name, isDeleting, finalizers, hasNode, heldTo, resourceVersion } = volume
    const { nodes } = this.#parts.copies
    const label =
      volume.node ||
      (heldTo && nodes.objects.values().find(({ labels }) => labels[heldTo.key] === heldTo.value)?.name) ||
      ''
    const topology = nodes.objects.get(label)?.topology
    const lacksLabel = label !== volume.node
    const lacksNode = !hasNode && topology
    const lacksFinalizer = !isDeleting && !finalizers.includes(finalizer)
    if (!isOurs(volume) || (isDeleting && !lacksLabel) || !(lacksLabel || lacksNode || lacksFinalizer)) return
    const body = {
      metadata: {
        resourceVersion,
        ...(lacksLabel ? { labels: { [nodeLabel]: label } } : {}),
        finalizers: lacksFinalizer ? [...finalizers, finalizer] : finalizers,
      },
      ...(lacksNode ? { spec: { nodeAffinity: buildNodeAffinity(topology) } } : {}),
    }
    await this.#parts.api.send({ method: 'PATCH', path: volumePath(name), body }).catch(unlessOvertaken)
  }

  /** Takes a PV on its way out one step further. */
  async #seeOff(volume: VolumeFacts): Promise<void> {
    const { name } = volume
    const isGone = volume.node !== '' && !this.#parts.copies.nodes.objects.has(volume.node)
    const endsWithNode = volume.isDeleting || (volume.phase === 'Bound' && this.#parts.deleteClaimsOfGoneNodes)
    if (isGone && endsWithNode) return await this.#giveUp(volume)
    if (volume.isDeleting || volume.phase !== 'Released' || !volume.deletesData) return
    if (!isOurs(volume)) return
    if (volume.claim && (await this.#isClaimed(volume, volume.claim))) return
    const { uid, resourceVersion } = volume
    const body = { preconditions: { uid, resourceVersion } }
    const deleted = this.#parts.api.send({ method: 'DELETE', path: volumePath(name), body })
    const say = () => this.#parts.log.info(`Deleted PV ${name}, whose claim is gone.`, aboutVolume(volume))
    await deleted.then(say, unlessOvertaken)
  }

  /** Whether the API server, asked now, knows the claim that the PV is for. */
  async #isClaimed(volume: VolumeFacts, claim: NonNullable<VolumeFacts['claim']>): Promise<boolean> {
    const found = await readClaim(this.#parts.api, claim.namespace, claim.name)
    return found?.metadata?.uid === claim.uid && found.spec?.volumeName === volume.name
  }

  /** The PV's node is gone: after a grace time nothing waits for it any more. */
  async #giveUp(volume: VolumeFacts): Promise<void> {
    const { api, log } = this.#parts
    const leftMs = this.#goneNodes.leftMs(volume.node)
    if (leftMs > 0) return this.#queue.addAfter(volume.name, leftMs)
    if (await readNode(api, volume.node)) return
    const object = { kind: 'PersistentVolume', name: volume.name, uid: volume.uid }
    if (volume.isDeleting) {
      if (volume.isInUse || !volume.finalizers.includes(finalizer)) return
      await this.#parts.recorder.say(
        object,
        'Warning',
        'NodeGone',
        `Released without removing its data, as node ${volume.node} is gone; if it comes back, "elastic-local doctor" there shows what is left.`,
      )
      await letVolumeGo(api, volume)
      return log.info(`Released PV ${volume.name}, as node ${volume.node} is gone.`, aboutVolume(volume))
    }
    if (!volume.claim) return
    const { namespace, name, uid } = volume.claim
    await this.#parts.recorder.say(
      { kind: 'PersistentVolumeClaim', namespace, name, uid },
      'Warning',
      'NodeGone',
      `Deleted, as the operator requested: node ${volume.node}, which holds its volume, is gone.`,
    )
    const body = { preconditions: { uid } }
    const deleted = api.send({ method: 'DELETE', path: claimPath(namespace, name), body })
    const say = () =>
      log.info(`Deleted claim ${namespace}/${name}, as node ${volume.node} is gone.`, aboutVolume(volume))
    await deleted.then(say, unlessOvertaken)
  }

  #addVolumesOf(node: string): void {
    for (const [key, volume] of this.#parts.copies.volumes.objects) if (volume.node === node) this.#queue.add(key)
  }

  #tidyAll(): void {
    for (const latest of this.#parts.ledgers.known())
      for (const [volume, { pendingFor }] of latest.entries)
        if (pendingFor) this.#tidyQueue.add(`${latest.node}/${volume}`)
  }

  #tidyVolume(volume: string): void {
    for (const { node } of this.#parts.ledgers.holding(volume)) this.#tidyQueue.add(`${node}/${volume}`)
  }

  #isForgotten({ className, selectedNode, namespace, name, volumeName }: ClaimFacts): boolean {
    const { copies, pods } = this.#parts
    if (selectedNode || volumeName || !copies.classes.objects.get(className)?.waitsForPod) return false
    return pods.sharing(`${namespace}/${name}`).size === 0
  }

  /** Takes back a promise that was made to a claim which is gone, or which got its volume elsewhere. */
  async #tidy(key: string): Promise<void> {
    const { api, copies } = this.#parts
    const { claims, volumes } = copies
    const [node = '', volume = ''] = key.split('/')
    const pendingFor = this.#parts.ledgers.of(node).latest?.entries.get(volume)?.pendingFor
    if (!pendingFor) return
    const isFor = (uid: string | undefined) => uid !== undefined && volumeNameOf(uid) === volume
    const known = volumes.objects.get(volume)
    const wanting = claims.objects.get(pendingFor)
    // Promised together with another claim of its pod, which no longer waits: nobody has selected a node for it.
    const isForgotten = wanting !== undefined && this.#isForgotten(wanting)
    if (known?.node === node || (!known && isFor(wanting?.uid) && !isForgotten)) return
    const found = await readVolume(api, volume)
    if (found && pickVolume(found)?.node === node) return
    const [namespace = '', name = ''] = pendingFor.split('/')
    const claim = await readClaim(api, namespace, name)
    if (!found && isFor(claim?.metadata?.uid) && !isForgotten) return
    await this.#parts.ledgers.release(node, volume)
  }
}

/** Whether our provisioner, or the predecessor's, made it; also when somebody took away the annotation that says so. */
function isOurs({ name, provisionedBy, claim, isOfOurMaking }: VolumeFacts): boolean {
  if (provisionedBy !== '') return provisionerNames.includes(provisionedBy)
  return isOfOurMaking && claim !== undefined && name === volumeNameOf(claim.uid)
}

/** Keys of promises are `node/volume`. */
function aboutPromise(key: string): LogFields {
  const [node, volume] = key.split('/')
  return { volume, node }
}
