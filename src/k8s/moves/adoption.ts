import type { V1Node, V1PersistentVolume, V1VolumeAttachment, V1VolumeNodeAffinity } from '@kubernetes/client-node'
import { messageOf } from '../../volume/errors.ts'
import { listPages } from '../client/api.ts'
import { optionsOf } from '../fronts/flex.ts'
import { asked, poolOf, type Question } from '../model/ledger.ts'
import { LedgerKeeper } from '../model/ledger-keeper.ts'
import { claimPath, readClaim } from '../model/lookups.ts'
import { adoptedAnnotation, nodeLabel, provisionerNames } from '../model/names.ts'
import { findTopology, type Topology } from '../model/node.ts'
import { formatOrigin, type ProjectName } from '../model/origin.ts'
import { buildNodeAffinity, inUseFinalizer, pickVolume, provisionedBy } from '../model/persistent-volume.ts'
import type { Change, Due } from './change.ts'
import { findByBinding, findByFields, findByGrowth, findByService, findUser, isReady, type Scene } from './obstacle.ts'
import { type Project, projects, type Resource } from './projects.ts'
import { buildAnew, type RecordedMove } from './record.ts'
import { readLedger, readScene, type SceneParts } from './scene.ts'

export interface AdoptionParts extends SceneParts {
  from: ProjectName
}

/** The node that a PV's pods are held to. */
interface Place {
  node: string
  topology: Topology
}

/** By whom the object of another project is left alone. */
const owner = 'elastic-local'
const accessModes = ['ReadWriteOnce', 'ReadWriteOncePod']

/**
 * A volume of another project that becomes one of ours, by CSI. Until the PV of the other goes, nothing of the volume is
 * changed on its node: its daemon is asked in its ledger whether it could adopt it, and does so for the PV that comes.
 */
export class Adoption implements Change {
  readonly to = 'csi'
  readonly from: ProjectName
  /** A provisioner of others holds its PVs until their data is removed, which that of a retained one is not to be. */
  readonly finalizers: readonly string[] = [inUseFinalizer, 'external-provisioner.volume.kubernetes.io/finalizer']
  readonly #parts: AdoptionParts
  readonly #project: Project

  constructor(parts: AdoptionParts) {
    this.#parts = parts
    this.from = parts.from
    this.#project = projects[parts.from]
  }

  async plan(volume: V1PersistentVolume): Promise<{ volume: V1PersistentVolume } | { why: string } | undefined> {
    if (pickVolume(volume)) return undefined
    const place = await this.#findPlace(volume)
    const why = typeof place === 'string' ? place : await this.#findObstacle(volume, place)
    if (why || typeof place === 'string') return { why: why ?? '' }
    return { volume: this.#build(volume, place, undefined) }
  }

  async findObstacle(volume: V1PersistentVolume): Promise<string | undefined> {
    const place = await this.#findPlace(volume)
    return typeof place === 'string' ? place : await this.#findObstacle(volume, place)
  }

  async #findPlace(volume: V1PersistentVolume): Promise<Place | string> {
    const { title, isIts } = this.#project
    if (!isIts(volume)) return `its PersistentVolume is not one of ${title}`
    const nodes: V1Node[] = []
    for await (const { items } of listPages<V1Node>(this.#parts.api, '/api/v1/nodes'))
      nodes.push(...items.filter(({ metadata }) => isHeldTo(volume.spec?.nodeAffinity, metadata?.labels ?? {})))
    const [only, ...others] = nodes
    const node = only?.metadata?.name ?? ''
    const topology = findTopology(node, only?.metadata?.labels ?? {})
    if (!topology || others.length > 0)
      return `${nodes.length} nodes have what its PersistentVolume holds pods to, not one`
    return { node, topology }
  }

  async #findObstacle(volume: V1PersistentVolume, place: Place): Promise<string | undefined> {
    const { node } = place
    const scene = await readScene(this.#parts, volume, node, { withPods: true })
    const own = this.#findByOrigin(scene)
    if (own) return own
    const other =
      findByBinding(scene) ??
      findByFields(volume, this.finalizers) ??
      findByGrowth(scene, () => optionsOf(mustPick(this.#build(volume, place, undefined))))
    if (other) return other
    if (!isReady(scene.node)) return `node ${node} is not ready`
    return (
      findByService(scene, node, 'csi') ??
      this.#findByPool(scene, node) ??
      findUser(scene, 'stop it first') ??
      (await this.#findAttachment(volume)) ??
      (await this.#findByResource(volume, node))
    )
  }

  #findByOrigin({ volume }: Scene): string | undefined {
    const mode = volume.spec?.accessModes?.find((one) => !accessModes.includes(one))
    if (mode) return `its access mode is ${mode}, and one node's disk gives ${accessModes.join(' and ')}`
    try {
      this.#project.read(volume)
    } catch (error) {
      return messageOf(error)
    }
    return undefined
  }

  #findByPool({ volume, ledger }: Scene, node: string): string | undefined {
    const { driverKind, read } = this.#project
    const { place } = read(volume)
    const pool = ledger && poolOf(ledger)
    if (pool?.driverKind !== driverKind)
      return `the daemon of node ${node} has a pool of driverKind ${pool?.driverKind}, and such volumes want ${driverKind}`
    // A thin pool is named after its group.
    if (place !== undefined && pool.name !== place && pool.name.split('/')[0] !== place)
      return `it is in ${place}, and the pool of node ${node} is ${pool.name}`
    const entry = ledger?.entries.get(volume.metadata?.name ?? '')
    return entry && !entry.question ? `the ledger of node ${node} has a volume of that name already` : undefined
  }

  async #findAttachment({ metadata }: V1PersistentVolume): Promise<string | undefined> {
    const path = '/apis/storage.k8s.io/v1/volumeattachments'
    for await (const { items } of listPages<V1VolumeAttachment>(this.#parts.api, path)) {
      const found = items.find(({ spec }) => spec.source.persistentVolumeName === metadata?.name)
      if (found) return `VolumeAttachment ${found.metadata?.name} has it attached to node ${found.spec.nodeName}`
    }
    return undefined
  }

  async #findByResource(volume: V1PersistentVolume, node: string): Promise<string | undefined> {
    const { resource } = this.#project
    const found = await resource?.read(this.#parts.api, volume)
    if (!resource || !found) return undefined
    const { finalizers = [], annotations = {}, deletionTimestamp } = found.metadata ?? {}
    const its = `its ${resource.kind}`
    if (deletionTimestamp) return `${its} is being deleted`
    const wrong = resource.findWrong(found, volume, node)
    if (wrong) return `${its} ${wrong}`
    const other = finalizers.find((one) => one !== resource.finalizer)
    if (other) return `finalizer ${other} holds ${its}`
    const word = resource.leftAlone && annotations[resource.leftAlone]
    return word === undefined || word === owner ? undefined : `${its} has annotation ${resource.leftAlone}`
  }

  rebuild(volume: V1PersistentVolume, { facts }: RecordedMove, claimCapacity: string | undefined): V1PersistentVolume {
    return this.#build(volume, { node: facts.node, topology: facts.heldTo }, claimCapacity)
  }

  #build(volume: V1PersistentVolume, { node, topology }: Place, claimCapacity: string | undefined): V1PersistentVolume {
    const { fsType, mountOptions, ...origin } = this.#project.read(volume)
    return buildAnew(volume, {
      to: 'csi',
      claimCapacity,
      labels: { [nodeLabel]: node },
      annotations: { [provisionedBy]: provisionerNames[0] ?? '', [adoptedAnnotation]: formatOrigin(origin) },
      nodeAffinity: buildNodeAffinity(topology),
      source: { fsType, options: mountOptions.length > 0 ? { mountOptions: mountOptions.join(',') } : {}, key: '' },
    })
  }

  /** First the daemon has to have seen the volume, and then the other project has to leave it. */
  async prepare(record: RecordedMove): Promise<Due> {
    const answer = await this.#ask(record)
    if (answer === 'went' || 'waitsFor' in answer) return answer
    if ('why' in answer) return { why: answer.why }
    const { resource } = this.#project
    const found = await this.#readResource(record)
    if (!resource || !found || this.#isLeftAlone(found)) return 'ready'
    await this.#disarm(found)
    return 'went'
  }

  /** What the daemon says, asked by whoever goes on with it. */
  async #ask({
    name,
    by,
    facts,
  }: RecordedMove): Promise<'went' | { waitsFor: string } | NonNullable<Question['answer']>> {
    const { node, adoptedFrom = '' } = facts
    const question = (await readLedger(this.#parts, node))?.entries.get(name)?.question
    if (question?.by === by)
      return question.answer ?? { waitsFor: `the daemon of node ${node}, which must look at the volume,` }
    const fsType = this.#contentOf(facts)
    await this.#keeper(node).update(({ entries }) => {
      const entry = entries.get(name)
      return !entry || entry.question ? [[name, asked({ origin: adoptedFrom, fsType, by })]] : []
    })
    return 'went'
  }

  #contentOf(facts: RecordedMove['facts']): Question['fsType'] {
    return optionsOf(facts).fsType ?? 'ext4'
  }

  /** Nothing of the volume was changed. */
  async takeBack(record: RecordedMove): Promise<boolean> {
    const { resource } = this.#project
    const found = await this.#readResource(record)
    if (resource && found && this.#isLeftAlone(found)) {
      const { resourceVersion } = found.metadata ?? {}
      const annotations = resource.leftAlone ? { [resource.leftAlone]: null } : {}
      const body = { metadata: { resourceVersion, annotations, finalizers: [resource.finalizer] } }
      await this.#parts.api.send({ method: 'PATCH', path: resource.pathOf(found), body })
      return true
    }
    return await this.#forget(record)
  }

  /** Takes the question away, and says whether there was one. */
  async #forget({ name, facts: { node } }: RecordedMove): Promise<boolean> {
    const isAsked = (await readLedger(this.#parts, node))?.entries.get(name)?.question !== undefined
    if (isAsked)
      await this.#keeper(node).update(({ entries }) => (entries.get(name)?.question ? [[name, undefined]] : []))
    return isAsked
  }

  async isRemoved(record: RecordedMove): Promise<boolean | { waitsFor: string }> {
    const { name, facts } = record
    const entry = (await readLedger(this.#parts, facts.node))?.entries.get(name)
    if (entry && !entry.question) return false
    const answer = await this.#ask(record)
    if (answer === 'went') return { waitsFor: `the daemon of node ${facts.node}, which must look at the volume,` }
    if ('waitsFor' in answer) return answer
    if (!('code' in answer) || answer.code !== 'not-found') return false
    await this.#forget(record)
    return true
  }

  /** The daemon has it, and then nothing of the other project tells of it any more. */
  async conclude(record: RecordedMove): Promise<Exclude<Due, { why: string }>> {
    const { api } = this.#parts
    const { name, facts } = record
    const { node, claim } = facts
    if ((await readLedger(this.#parts, node))?.entries.get(name)?.madeBytes === undefined)
      return {
        waitsFor: `the daemon of node ${node}, which must adopt the volume (events of the claim say what keeps it),`,
      }
    const { resource, claimFinalizers } = this.#project
    const found = await this.#readResource(record)
    if (resource && found) {
      await this.#discard(resource.pathOf(found), found, record)
      return 'went'
    }
    const object = claimFinalizers.length > 0 ? await readClaim(api, claim.namespace, claim.name) : undefined
    const { uid, resourceVersion, finalizers = [] } = object?.metadata ?? {}
    const left = finalizers.filter((one) => !claimFinalizers.includes(one))
    if (uid !== claim.uid || left.length === finalizers.length) return 'ready'
    const body = { metadata: { uid, resourceVersion, finalizers: left } }
    await api.send({ method: 'PATCH', path: claimPath(claim.namespace, claim.name), body })
    return 'went'
  }

  /** Has the other project's object deleted, in a way that leaves the data. */
  async #discard(path: string, found: Resource, { name, facts: { adoptedFrom } }: RecordedMove): Promise<void> {
    const { finalizers = [], deletionTimestamp } = found.metadata ?? {}
    // What has another name by now, its controllers do not find: so they may be asked, and old versions want to be.
    const isRenamed = adoptedFrom !== formatOrigin({ project: this.from, name })
    const isHeld = finalizers.length > 0 && (!isRenamed || deletionTimestamp !== undefined)
    const { uid, resourceVersion } = isHeld ? await this.#disarm(found) : (found.metadata ?? {})
    if (deletionTimestamp) return
    const body = { preconditions: { uid, ...(isRenamed ? {} : { resourceVersion }) } }
    await this.#parts.api.send({ method: 'DELETE', path, body })
  }

  /** Has the other project's controllers do nothing when its object goes. */
  async #disarm(found: Resource): Promise<{ uid?: string; resourceVersion?: string }> {
    const { resource } = this.#project
    const { resourceVersion } = found.metadata ?? {}
    const annotations = resource?.leftAlone ? { [resource.leftAlone]: owner } : {}
    const body = { metadata: { resourceVersion, annotations, finalizers: [] } }
    const path = resource?.pathOf(found) ?? ''
    return (await this.#parts.api.send<Resource>({ method: 'PATCH', path, body })).metadata ?? {}
  }

  /** Versions of TopoLVM that do not know its annotation put their finalizer back: what is said counts. */
  #isLeftAlone({ metadata }: Resource): boolean {
    const { leftAlone, finalizer } = this.#project.resource ?? {}
    if (leftAlone) return metadata?.annotations?.[leftAlone] === owner
    return !metadata?.finalizers?.some((one) => one === finalizer)
  }

  async #readResource({ volume }: RecordedMove): Promise<Resource | undefined> {
    return await this.#project.resource?.read(this.#parts.api, volume)
  }

  #keeper(node: string): LedgerKeeper {
    return new LedgerKeeper({ ...this.#parts, node })
  }
}

/** Whether labels are all that an affinity asks for. */
function isHeldTo(affinity: V1VolumeNodeAffinity | undefined, labels: Readonly<Record<string, string>>): boolean {
  const [term, ...others] = affinity?.required?.nodeSelectorTerms ?? []
  const { matchExpressions = [], matchFields } = term ?? {}
  if (others.length > 0 || matchFields || matchExpressions.length === 0) return false
  return matchExpressions.every(
    ({ key, operator, values = [] }) => operator === 'In' && values.includes(labels[key] ?? ''),
  )
}

function mustPick(volume: V1PersistentVolume) {
  const facts = pickVolume(volume)
  if (!facts) throw new Error(`Cannot read PersistentVolume ${volume.metadata?.name}, which is to come.`)
  return facts
}
