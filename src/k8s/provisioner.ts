import { randomBytes } from 'node:crypto'
import type {
  V1ConfigMap,
  V1Node,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1StorageClass,
} from '@kubernetes/client-node'
import { messageOf, VolumeError } from '../volume/errors.ts'
import { type Api, ApiError, hasStatus, orMissing } from './api.ts'
import {
  type ClaimFacts,
  type ClassFacts,
  decideClaim,
  isWanted,
  type Provision,
  pickClaim,
  pickClass,
  selectedNodeAnnotation,
} from './claim.ts'
import { type EventObject, Recorder } from './events.ts'
import { settleGrowth } from './growth.ts'
import { freeBytes, type Ledger, parseLedger, promise } from './ledger.ts'
import { LedgerKeeper } from './ledger-keeper.ts'
import { finalizer, ledgerLabel, provisionerNames } from './names.ts'
import { buildVolume, pickVolume, type VolumeFacts, volumeNameOf } from './persistent-volume.ts'
import { chooseNode, type NodeFacts, pickNode } from './placement.ts'
import { WorkQueue } from './queue.ts'
import { aborted, Reflector } from './reflector.ts'

export interface ProvisionerParts {
  /** For following the cluster, which also a provisioner does that waits for its turn. */
  api: Api
  namespace: string
  /** How long a node's object must be gone before its volumes are given up. */
  nodeGoneGraceMs: number
  /** Whether claims of a node that is gone are deleted, so that their owners get new ones elsewhere. */
  deleteClaimsOfGoneNodes: boolean
  now: () => Date
  log: { info(message: string): void; warn(message: string): void }
}

/** How many claims, and how many PVs, are worked on at once. */
const concurrency = 32
/** Promises nobody came back for are looked at again after so long. */
const tidyMs = 60_000
/** Claims that wait for room are tried again so long after room appeared: once for many changes. */
const roomMs = 250
const volumesPath = '/api/v1/persistentvolumes'
const claimPath = (namespace: string, name: string) => `/api/v1/namespaces/${namespace}/persistentvolumeclaims/${name}`

/**
 * Makes a PV for each claim that wants one, and sees PVs off whose claim, or node, is gone. It holds no state of its own:
 * whatever was begun and not ended, here or by a predecessor, is seen in the cluster and gone on with.
 */
export class Provisioner {
  readonly #parts: ProvisionerParts
  readonly #claims: Reflector<V1PersistentVolumeClaim, ClaimFacts>
  readonly #classes: Reflector<V1StorageClass, ClassFacts>
  readonly #volumes: Reflector<V1PersistentVolume, VolumeFacts>
  readonly #nodes: Reflector<V1Node, NodeFacts>
  readonly #ledgers: Reflector<V1ConfigMap, Ledger>

  constructor(parts: ProvisionerParts) {
    this.#parts = parts
    const { api, namespace, log } = parts
    const common = { api, log }
    this.#claims = new Reflector({ ...common, path: '/api/v1/persistentvolumeclaims', pick: pickClaim })
    this.#classes = new Reflector({ ...common, path: '/apis/storage.k8s.io/v1/storageclasses', pick: pickClass })
    this.#volumes = new Reflector({ ...common, path: volumesPath, pick: pickVolume })
    this.#nodes = new Reflector({ ...common, path: '/api/v1/nodes', pick: pickNode })
    this.#ledgers = new Reflector({
      ...common,
      path: `/api/v1/namespaces/${namespace}/configmaps`,
      query: { labelSelector: ledgerLabel },
      pick: (object) => {
        try {
          return parseLedger(object)
        } catch (error) {
          log.warn(messageOf(error))
          return undefined
        }
      },
    })
  }

  get #reflectors() {
    return [this.#claims, this.#classes, this.#volumes, this.#nodes, this.#ledgers]
  }

  /** Follows the cluster until `signal` aborts; resolves with that. */
  async follow(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#reflectors.map((reflector) => reflector.run(signal)))
  }

  /** Acts until `signal` aborts, by `api`, which may refuse. Resolves when what was begun has ended. */
  async act(api: Api, signal: AbortSignal): Promise<void> {
    await Promise.race([Promise.all(this.#reflectors.map((reflector) => reflector.synced())), aborted(signal)])
    if (signal.aborted) return
    const { claims, classes, volumes, nodes, ledgers } = {
      claims: this.#claims,
      classes: this.#classes,
      volumes: this.#volumes,
      nodes: this.#nodes,
      ledgers: this.#ledgers,
    }
    const actor = new Actor({ ...this.#parts, api, claims, classes, volumes, nodes, ledgers })
    try {
      actor.start()
      await aborted(signal)
    } finally {
      await actor.stop()
    }
  }
}

interface ActorParts extends ProvisionerParts {
  claims: Reflector<V1PersistentVolumeClaim, ClaimFacts>
  classes: Reflector<V1StorageClass, ClassFacts>
  volumes: Reflector<V1PersistentVolume, VolumeFacts>
  nodes: Reflector<V1Node, NodeFacts>
  ledgers: Reflector<V1ConfigMap, Ledger>
}

/** The provisioner while it leads. */
class Actor {
  readonly #parts: ActorParts
  readonly #recorder: Recorder
  readonly #keepers = new Map<string, LedgerKeeper>()
  readonly #claimQueue: WorkQueue
  readonly #volumeQueue: WorkQueue
  /** Keys are `node/volume`. */
  readonly #tidyQueue: WorkQueue
  /** Claims that nobody has room for. */
  readonly #waiting = new Set<string>()
  /** What is being asked of each node and is not answered. */
  readonly #askedBytes = new Map<string, bigint>()
  /** Nodes whose object is gone, and since when we know. */
  readonly #goneSince = new Map<string, number>()
  #roomTimer: NodeJS.Timeout | undefined
  #tidyTimer: NodeJS.Timeout | undefined

  constructor(parts: ActorParts) {
    this.#parts = parts
    const { log } = parts
    this.#recorder = new Recorder({ ...parts, component: 'elastic-local-provisioner' })
    this.#claimQueue = new WorkQueue({ work: (key) => this.#provision(key), concurrency, log })
    this.#volumeQueue = new WorkQueue({ work: (key) => this.#seeOff(key), concurrency, log })
    this.#tidyQueue = new WorkQueue({ work: (key) => this.#tidy(key), concurrency: 4, log })
  }

  start(): void {
    const { claims, classes, volumes, nodes, ledgers } = this.#parts
    claims.onChange((key, now, before) => {
      this.#claimQueue.add(key)
      if (before && !now) this.#tidyVolume(volumeNameOf(before.uid))
    })
    classes.onChange((name) => {
      for (const [key, claim] of claims.objects)
        if (claim.className === name && !claim.volumeName) this.#claimQueue.add(key)
    })
    volumes.onChange((key) => this.#volumeQueue.add(key))
    nodes.onChange((name, now, before) => {
      if (now && !before?.isReady) this.#roomAppeared()
      if (!now) this.#addVolumesOf(name)
    })
    ledgers.onChange((_, now, before) => {
      const node = (now ?? before)?.node ?? ''
      this.#keeperOf(node).see(now)
      if (now && (!before || freeBytes(now) > freeBytes(before))) this.#roomAppeared()
    })
    for (const ledger of ledgers.objects.values()) this.#keeperOf(ledger.node).see(ledger)
    for (const key of claims.objects.keys()) this.#claimQueue.add(key)
    for (const key of volumes.objects.keys()) this.#volumeQueue.add(key)
    this.#tidyAll()
    this.#tidyTimer = setInterval(() => this.#tidyAll(), tidyMs)
  }

  async stop(): Promise<void> {
    clearInterval(this.#tidyTimer)
    clearTimeout(this.#roomTimer)
    await Promise.all([this.#claimQueue, this.#volumeQueue, this.#tidyQueue].map((queue) => queue.stop()))
  }

  #keeperOf(node: string): LedgerKeeper {
    const { api, namespace } = this.#parts
    const keeper = this.#keepers.get(node) ?? new LedgerKeeper({ api, namespace, node })
    this.#keepers.set(node, keeper)
    return keeper
  }

  async #provision(key: string): Promise<void> {
    const claim = this.#parts.claims.objects.get(key)
    this.#waiting.delete(key)
    const volume = claim && this.#parts.volumes.objects.get(volumeNameOf(claim.uid))
    if (claim && volume && claim.isGrowing) return await this.#settleGrowth(claim, volume)
    if (!claim || volume) return
    const storageClass = this.#parts.classes.objects.get(claim.className)
    const decision = decideClaim(claim, storageClass)
    if (decision.kind === 'refuse') return await this.#say(claim, 'Warning', 'ProvisioningFailed', decision.message)
    if (decision.kind === 'none' || !storageClass) return
    try {
      const node = await this.#reserve(claim, storageClass, decision.provision)
      await this.#createVolume(claim, storageClass, decision.provision, node)
    } catch (error) {
      if (!(error instanceof VolumeError) || !['no-space', 'not-found'].includes(error.code)) throw error
      this.#waiting.add(key)
      await this.#say(claim, 'Warning', 'ProvisioningFailed', error.message)
      if (decision.provision.node) await this.#letSchedulerChoose(claim)
    }
  }

  /** Brings a growth that the node refused to an end, or lets it be tried again. */
  async #settleGrowth({ namespace, name }: ClaimFacts, { node }: VolumeFacts): Promise<void> {
    const { api } = this.#parts
    const path = claimPath(namespace, name)
    const ledger = this.#keepers.get(node)?.latest
    const found = await orMissing(api.send<V1PersistentVolumeClaim>({ method: 'GET', path }))
    const body = found && settleGrowth(found, ledger ? freeBytes(ledger) : 0n)
    if (!body) return
    await api.send({ method: 'PATCH', path: `${path}/status`, body }).catch((error) => {
      // Changed or deleted in the meantime, which brings it back to the queue.
      if (!hasStatus(error, 404, 409)) throw error
    })
  }

  /** Has room promised on a node, the selected or the best one, and gives the node. Throws `no-space`, `not-found`. */
  async #reserve(claim: ClaimFacts, storageClass: ClassFacts, provision: Provision): Promise<NodeFacts> {
    const volume = volumeNameOf(claim.uid)
    const promisedOn = this.#ledgersWith(volume)[0]
    if (promisedOn && (!provision.node || provision.node === promisedOn.node))
      return await this.#mustFindNode(promisedOn.node)
    if (promisedOn) await this.#release(promisedOn.node, volume)
    if (provision.node) {
      const node = await this.#mustFindNode(provision.node)
      await this.#promise(node, claim, provision)
      return node
    }
    for (;;) {
      const best = chooseNode(
        this.#parts.nodes.objects.values(),
        (name) => this.#keepers.get(name)?.latest,
        (name) => this.#askedBytes.get(name) ?? 0n,
        { ...provision, topologies: storageClass.topologies },
      )
      if (!best)
        throw new VolumeError(
          'not-found',
          `Cannot place ${provision.sizeBytes} bytes as no node that StorageClass ${storageClass.name} allows is ready and has a pool.`,
        )
      if (best.freeBytes < provision.sizeBytes) {
        // What is known may be old: the node with the most room is asked once more, and says what there is.
        await this.#promise(best.node, claim, provision)
        return best.node
      }
      try {
        await this.#promise(best.node, claim, provision)
        return best.node
      } catch (error) {
        // Others were faster, and the ledger is up to date now.
        if (!(error instanceof VolumeError && error.code === 'no-space')) throw error
      }
    }
  }

  async #promise(node: NodeFacts, claim: ClaimFacts, provision: Provision): Promise<void> {
    const count = (bytes: bigint) => this.#askedBytes.set(node.name, (this.#askedBytes.get(node.name) ?? 0n) + bytes)
    count(provision.sizeBytes)
    try {
      await this.#promiseOn(node, claim, provision)
    } finally {
      count(-provision.sizeBytes)
    }
  }

  async #promiseOn(node: NodeFacts, claim: ClaimFacts, provision: Provision): Promise<void> {
    const volume = volumeNameOf(claim.uid)
    await this.#keeperOf(node.name).update((ledger) => {
      if (ledger.entries.has(volume)) return []
      if (!isWanted(provision, ledger.pool))
        throw new VolumeError(
          'not-found',
          `Cannot place a volume on node ${node.name} as StorageClass ${claim.className} wants another pool than ${ledger.pool.name} (${ledger.pool.driverKind}).`,
        )
      return [[volume, promise(ledger, volume, provision.sizeBytes, `${claim.namespace}/${claim.name}`)]]
    })
  }

  async #mustFindNode(name: string): Promise<NodeFacts> {
    const node = this.#parts.nodes.objects.get(name) ?? (await this.#readNode(name))
    if (node?.hostname) return node
    throw new VolumeError(
      'not-found',
      node
        ? `Cannot place a volume on node ${name} as it has no label kubernetes.io/hostname.`
        : `Cannot place a volume on node ${name} as there is no such node.`,
    )
  }

  async #readNode(name: string): Promise<NodeFacts | undefined> {
    const found = await orMissing(this.#parts.api.send<V1Node>({ method: 'GET', path: `/api/v1/nodes/${name}` }))
    return found && pickNode(found)
  }

  async #createVolume(
    claim: ClaimFacts,
    storageClass: ClassFacts,
    provision: Provision,
    node: NodeFacts,
  ): Promise<void> {
    const { api, log } = this.#parts
    const { namespace, name, uid, accessModes } = claim
    const { sizeBytes, fsType, options } = provision
    const body = buildVolume({
      claim: { namespace, name, uid, accessModes },
      storageClass,
      sizeBytes,
      fsType,
      options,
      node: node.name,
      hostname: node.hostname,
      key: randomBytes(16).toString('hex'),
    })
    const volume = volumeNameOf(uid)
    try {
      await api.send({ method: 'POST', path: volumesPath, body })
      log.info(`Made PV ${volume} of ${sizeBytes} bytes on node ${node.name} for claim ${namespace}/${name}.`)
    } catch (error) {
      if (hasStatus(error, 409)) return await this.#adopt(claim, node.name)
      if (!(error instanceof ApiError && [400, 403, 422].includes(error.status))) throw error
      await this.#release(node.name, volume)
      await this.#say(claim, 'Warning', 'ProvisioningFailed', error.message)
      if (error.status === 403) throw error
    }
  }

  /** A PV of that name is there already: made by a request whose answer was lost, or by another provisioner. */
  async #adopt(claim: ClaimFacts, node: string): Promise<void> {
    const volume = volumeNameOf(claim.uid)
    const found = await orMissing(
      this.#parts.api.send<V1PersistentVolume>({ method: 'GET', path: `${volumesPath}/${volume}` }),
    )
    if (!found) throw new Error(`PV ${volume} was there and is gone; trying again.`)
    const facts = pickVolume(found)
    if (facts?.claim?.uid !== claim.uid)
      return await this.#say(
        claim,
        'Warning',
        'ProvisioningFailed',
        `Cannot make PV ${volume} as there is one of that name which is not for this claim; delete it if nobody needs it.`,
      )
    if (facts.node !== node) await this.#release(node, volume)
  }

  async #letSchedulerChoose(claim: ClaimFacts): Promise<void> {
    const { api } = this.#parts
    const body = {
      metadata: { resourceVersion: claim.resourceVersion, annotations: { [selectedNodeAnnotation]: null } },
    }
    try {
      await api.send({ method: 'PATCH', path: claimPath(claim.namespace, claim.name), body })
    } catch (error) {
      // Changed or deleted in the meantime: the change has brought the claim back to the queue.
      if (!hasStatus(error, 404, 409)) throw error
    }
  }

  #roomAppeared(): void {
    this.#roomTimer ??= setTimeout(() => {
      this.#roomTimer = undefined
      for (const key of this.#waiting) this.#claimQueue.add(key)
      for (const [key, { isGrowing }] of this.#parts.claims.objects) if (isGrowing) this.#claimQueue.add(key)
    }, roomMs)
  }

  /** Takes a PV on its way out one step further. */
  async #seeOff(name: string): Promise<void> {
    const volume = this.#parts.volumes.objects.get(name)
    if (!volume) return this.#tidyVolume(name)
    const isGone = volume.node !== '' && !this.#parts.nodes.objects.has(volume.node)
    if (!isGone) this.#goneSince.delete(volume.node)
    if (isGone && (volume.isDeleting || this.#parts.deleteClaimsOfGoneNodes)) return await this.#giveUp(volume)
    if (volume.isDeleting || volume.phase !== 'Released' || !volume.deletesData) return
    if (!provisionerNames.includes(volume.provisionedBy)) return
    if (volume.claim && (await this.#isClaimed(volume, volume.claim))) return
    const { uid, resourceVersion } = volume
    try {
      const body = { preconditions: { uid, resourceVersion } }
      await this.#parts.api.send({ method: 'DELETE', path: `${volumesPath}/${name}`, body })
    } catch (error) {
      if (!hasStatus(error, 404, 409)) throw error
    }
  }

  /** Whether the API server, asked now, knows the claim that the PV is for. */
  async #isClaimed(volume: VolumeFacts, claim: NonNullable<VolumeFacts['claim']>): Promise<boolean> {
    const path = claimPath(claim.namespace, claim.name)
    const found = await orMissing(this.#parts.api.send<V1PersistentVolumeClaim>({ method: 'GET', path }))
    return found?.metadata?.uid === claim.uid && found.spec?.volumeName === volume.name
  }

  /** The PV's node is gone: after a grace time nothing waits for it any more. */
  async #giveUp(volume: VolumeFacts): Promise<void> {
    const { api, nodeGoneGraceMs, now } = this.#parts
    const since = this.#goneSince.get(volume.node) ?? now().getTime()
    this.#goneSince.set(volume.node, since)
    const leftMs = since + nodeGoneGraceMs - now().getTime()
    if (leftMs > 0) return this.#volumeQueue.addAfter(volume.name, leftMs)
    if (await this.#readNode(volume.node)) return
    const object = { kind: 'PersistentVolume', name: volume.name, uid: volume.uid }
    if (volume.isDeleting) {
      if (volume.isInUse || !volume.finalizers.includes(finalizer)) return
      await this.#recorder.say(
        object,
        'Warning',
        'NodeGone',
        `Released without removing its data, as node ${volume.node} is gone; if it comes back, "elastic-local doctor" there shows what is left.`,
      )
      const finalizers = volume.finalizers.filter((name) => name !== finalizer)
      const body = { metadata: { resourceVersion: volume.resourceVersion, finalizers } }
      await orMissing(api.send({ method: 'PATCH', path: `${volumesPath}/${volume.name}`, body }))
      return
    }
    if (volume.phase !== 'Bound' || !volume.claim) return
    const { namespace, name, uid } = volume.claim
    await this.#recorder.say(
      { kind: 'PersistentVolumeClaim', namespace, name, uid },
      'Warning',
      'NodeGone',
      `Deleted, as the operator asked for it: node ${volume.node}, which holds its volume, is gone.`,
    )
    await api
      .send({ method: 'DELETE', path: claimPath(namespace, name), body: { preconditions: { uid } } })
      .catch((error) => {
        if (!hasStatus(error, 404, 409)) throw error
      })
  }

  #addVolumesOf(node: string): void {
    for (const [key, volume] of this.#parts.volumes.objects) if (volume.node === node) this.#volumeQueue.add(key)
  }

  #ledgersWith(volume: string): Ledger[] {
    const known = [...this.#keepers.values()].map((keeper) => keeper.latest)
    return known.filter((ledger) => ledger !== undefined).filter(({ entries }) => entries.has(volume))
  }

  #tidyAll(): void {
    for (const { latest } of this.#keepers.values())
      for (const [volume, { pendingFor }] of latest?.entries ?? [])
        if (pendingFor) this.#tidyQueue.add(`${latest?.node}/${volume}`)
  }

  #tidyVolume(volume: string): void {
    for (const { node } of this.#ledgersWith(volume)) this.#tidyQueue.add(`${node}/${volume}`)
  }

  /** Takes back a promise that was made to a claim which is gone, or which got its volume elsewhere. */
  async #tidy(key: string): Promise<void> {
    const { api, claims, volumes } = this.#parts
    const [node = '', volume = ''] = key.split('/')
    const pendingFor = this.#keepers.get(node)?.latest?.entries.get(volume)?.pendingFor
    if (!pendingFor) return
    const isFor = (uid: string | undefined) => uid !== undefined && volumeNameOf(uid) === volume
    if (isFor(claims.objects.get(pendingFor)?.uid)) return
    if (volumes.objects.get(volume)?.node === node) return
    const found = await orMissing(api.send<V1PersistentVolume>({ method: 'GET', path: `${volumesPath}/${volume}` }))
    if (found && pickVolume(found)?.node === node) return
    const [namespace = '', name = ''] = pendingFor.split('/')
    const claim = await orMissing(
      api.send<V1PersistentVolumeClaim>({ method: 'GET', path: claimPath(namespace, name) }),
    )
    if (!found && isFor(claim?.metadata?.uid)) return
    await this.#release(node, volume)
  }

  /** Takes a promise back, unless the daemon has kept it. */
  async #release(node: string, volume: string): Promise<void> {
    await this.#keeperOf(node).update((ledger) => (ledger.entries.get(volume)?.pendingFor ? [[volume, undefined]] : []))
  }

  async #say(claim: ClaimFacts, type: 'Normal' | 'Warning', reason: string, message: string): Promise<void> {
    const { namespace, name, uid } = claim
    const object: EventObject = { kind: 'PersistentVolumeClaim', namespace, name, uid }
    await this.#recorder.say(object, type, reason, message)
  }
}
