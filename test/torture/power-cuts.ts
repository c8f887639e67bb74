/** A node that loses its power again and again, at random moments of a busy life. */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { parseLedger } from '../../src/k8s/model/ledger.ts'
import { ApiError, type KubeObject } from '../cluster/api.ts'
import { claim, gibibyte, pod, storageClass } from '../cluster/claim-objects.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { Elastic, namespace } from '../cluster/elastic.ts'
import { className, placeOf } from '../cluster/front.ts'
import { type GuestNode, guestPaths } from '../cluster/guest-node.ts'
import { buildRandom, type Random } from './random.ts'

const volumeGroup = 'elastic-local-vg'
const nodeName = 'guest-1'
const tenantsAtOnce = 4
const patienceMs = 180_000
const mostBusyMs = 25_000
/** How long after a boot the power may be cut once more, before anybody has looked. */
const mostShortMs = 3000

export interface PowerCuts {
  cuts: number
  seed: number
  say(text: string): void
}

/** Plays that many cuts; throws when anything is lost or left over. The seed says what is tried, not how fast it goes. */
export async function playPowerCuts(cluster: Cluster, folder: string, { cuts, seed, say }: PowerCuts): Promise<void> {
  const random = buildRandom(seed)
  const thin = random.chance(0.5)
  const node = await startNode(cluster, folder, thin)
  const town = new Town(cluster, node, random)
  say(`${thin ? 'thin' : 'linear'} volumes`)
  for (let cut = 1; cut <= cuts; cut++) {
    const busyMs = random.below(mostBusyMs)
    await town.liveUntilCut(busyMs)
    await node.boot()
    const again = random.chance(0.25)
    if (again) {
      await sleep(random.below(mostShortMs))
      await node.powerCut()
      await node.boot()
    }
    await town.settle()
    const { synced, volumes } = await town.mustAgree()
    say(
      `cut ${cut} after ${busyMs} ms${again ? ', and once more' : ''}: ${volumes} volumes with ${synced} synced records`,
    )
  }
}

async function startNode(cluster: Cluster, folder: string, thin: boolean): Promise<GuestNode> {
  const elastic = new Elastic(cluster)
  await elastic.applyObjects()
  const options = { name: nodeName, folder, address: '198.51.100.2', diskBytes: 6 * gibibyte, thin }
  const node = await elastic.startLvmNode(options)
  await elastic.startProvisioner()
  await cluster.apply(storageClass('xfs', { parameters: { fsType: 'xfs' } }))
  return node
}

/** The claims and pods of a node. */
class Town {
  readonly #cluster: Cluster
  readonly #node: GuestNode
  readonly #tenants: Tenant[]

  constructor(cluster: Cluster, node: GuestNode, random: Random) {
    this.#cluster = cluster
    this.#node = node
    this.#tenants = Array.from({ length: tenantsAtOnce }, (_, slot) => new Tenant(cluster, node, random, slot))
  }

  /** Lets all live for so long, then cuts the power under them. */
  async liveUntilCut(busyMs: number): Promise<void> {
    const power = new AbortController()
    const lives = Promise.all(this.#tenants.map((tenant) => tenant.live(power.signal)))
    await Promise.race([sleep(busyMs), lives])
    power.abort()
    await this.#node.powerCut()
    await lives
  }

  /** Finishes what each was at when the power went, and looks whether all is there that was synced. */
  async settle(): Promise<void> {
    await Promise.all(this.#tenants.map((tenant) => tenant.settle()))
  }

  /** Waits until PVs, logical volumes, ledger and journal say the same. */
  async mustAgree(): Promise<{ synced: number; volumes: number }> {
    const volumes = this.#tenants.map(({ volume }) => volume).sort()
    const wanted = { persistentVolumes: volumes, stored: volumes, promised: volumes, sizesDiffer: [], unfinished: [] }
    const deadline = AbortSignal.timeout(patienceMs)
    let seen = await this.#look()
    while (JSON.stringify(seen) !== JSON.stringify(wanted) && !deadline.aborted) {
      await sleep(500)
      seen = await this.#look()
    }
    assert.equal(seen, wanted)
    const synced = this.#tenants.reduce((sum, tenant) => sum + tenant.synced, 0)
    return { synced, volumes: volumes.length }
  }

  async #look() {
    const { api } = this.#cluster
    const { items } = await api.request('GET', '/api/v1/persistentvolumes')
    const { stdout } = await this.#node.run('lvs', [
      ...['--noheadings', '--units=b', '--nosuffix', '--separator=/', '--options=name,size,segtype', volumeGroup],
    ])
    // A row for each piece of a volume.
    const rows = [...new Set(stdout.split('\n').filter(Boolean))]
    const stored = rows.map((row) => row.trim().split('/')).filter(([, , type]) => type !== 'thin-pool')
    const { entries } = parseLedger(
      await api.request('GET', `/api/v1/namespaces/${namespace}/configmaps/elastic-local.${nodeName}.ledger`),
    )
    const intents = await this.#node.run('ls', [`${guestPaths.volumesDir}/.elastic-local/intents`], { accept: [2] })
    const sizesDiffer = stored.filter(([name = '', size]) => String(entries.get(name)?.promisedBytes) !== size)
    const pending = [...entries].filter(([, entry]) => entry.pendingFor).map(([name]) => name)
    return {
      persistentVolumes: items.map(({ metadata }: KubeObject) => metadata.name).sort(),
      stored: stored.map(([name]) => name).sort(),
      promised: [...entries.keys()].sort(),
      sizesDiffer,
      unfinished: [...pending, ...intents.stdout.split('\n').filter(Boolean)],
    }
  }
}

/** One claim and the pod that uses it; when they are gone, another one moves in. */
class Tenant {
  /** Name of the claim's PV, once it is known. */
  volume = ''
  readonly #cluster: Cluster
  readonly #node: GuestNode
  readonly #random: Random
  readonly #slot: number
  #moves = 0
  #sizeMebibytes = 0
  #class = className
  #isLeaving = false
  /** How many records of each file were synced; each life writes a file of its own. */
  #files: number[] = []

  constructor(cluster: Cluster, node: GuestNode, random: Random, slot: number) {
    this.#cluster = cluster
    this.#node = node
    this.#random = random
    this.#slot = slot
    this.#moveIn()
  }

  get synced(): number {
    return this.#files.reduce((sum, each) => sum + each, 0)
  }

  /** Lives until the power goes. */
  async live(power: AbortSignal): Promise<void> {
    const step = untilAborted(power)
    this.#files.push(0)
    try {
      for (;;) {
        if (this.#isLeaving) await this.#leave(step)
        const folder = await this.#arrive(step)
        for (let again = 1 + this.#random.below(4); again > 0; again--) await this.#append(step, folder)
        const dice = this.#random.below(10)
        if (dice < 3) await this.#grow(step)
        else if (dice < 6) await this.#endPod(step)
        else if (dice < 8) this.#isLeaving = true
      }
    } catch (error) {
      if (!power.aborted) throw error
    }
  }

  async settle(): Promise<void> {
    if (this.#isLeaving) await this.#leave(directly)
    const folder = await this.#arrive(directly)
    for (const [index, synced] of this.#files.entries()) {
      if (synced === 0) continue
      const { stdout } = await this.#node.run('cat', [`${folder}/records-${index}`], { accept: [1] })
      const lost = `${this.#name} in ${this.volume} has lost synced records of its life ${index}`
      assert.equal(stdout.split('\n').slice(0, synced), count(1, synced), lost)
    }
  }

  #moveIn(): void {
    this.#moves += 1
    this.#isLeaving = false
    this.#files = [0]
    this.volume = ''
    this.#class = this.#random.chance(0.25) ? 'xfs' : className
    this.#sizeMebibytes = this.#class === 'xfs' ? 320 : 32 + this.#random.below(200)
  }

  get #name(): string {
    return `tenant-${this.#slot}-${this.#moves}`
  }

  get #claimPath(): string {
    return `/api/v1/namespaces/default/persistentvolumeclaims/${this.#name}`
  }

  get #podPath(): string {
    return `/api/v1/namespaces/default/pods/${this.#name}`
  }

  /** Makes claim and pod if they are not there, and gives the folder in which the pod has the volume. */
  async #arrive(step: Step): Promise<string> {
    const size = `${this.#sizeMebibytes}Mi`
    await step(this.#make(this.#claimPath, claim(this.#name, { class: this.#class, size })))
    // One that is on its way out makes room first.
    await step(this.#cluster.waitFor(this.#podPath, (state) => !state?.metadata.deletionTimestamp, patienceMs))
    await step(this.#make(this.#podPath, pod(this.#name, [this.#name])))
    const isRunning = (state: KubeObject | undefined) => state?.status.phase === 'Running'
    const { metadata } = await step(this.#cluster.waitFor(this.#podPath, isRunning, patienceMs))
    this.volume = (await step(this.#cluster.api.request('GET', this.#claimPath))).spec.volumeName
    const folder = join(guestPaths.kubeletDir, 'pods', metadata.uid, placeOf(this.volume))
    // Its status is that of before the cut at first.
    for (const deadline = AbortSignal.timeout(patienceMs); ; await step(sleep(200))) {
      const { exitCode } = await step(this.#node.run('mountpoint', ['-q', folder], { accept: [1, 32] }))
      if (exitCode === 0) return folder
      if (deadline.aborted) throw new Error(`${this.#name} runs without ${folder} after ${patienceMs} ms`)
    }
  }

  /** Adds records; they count as synced when the guest has said so. */
  async #append(step: Step, folder: string): Promise<void> {
    const index = this.#files.length - 1
    const from = (this.#files[index] ?? 0) + 1
    const to = from + this.#random.below(50)
    const script = 'mountpoint -q "$1"; seq "$3" "$4" >> "$1/$2"; sync "$1/$2"'
    await step(this.#node.run('sh', ['-e', '-c', script, 'sh', folder, `records-${index}`, String(from), String(to)]))
    this.#files[index] = to
  }

  async #grow(step: Step): Promise<void> {
    if (this.#sizeMebibytes > 500) return
    this.#sizeMebibytes += 64
    const resources = { requests: { storage: `${this.#sizeMebibytes}Mi` } }
    await step(this.#cluster.api.request('PATCH', this.#claimPath, { spec: { resources } }))
  }

  async #endPod(step: Step): Promise<void> {
    await step(this.#remove(this.#podPath))
    await step(this.#cluster.waitFor(this.#podPath, (state) => state === undefined, patienceMs))
  }

  /** Ends pod and claim; the next one need not wait until the volume is gone. */
  async #leave(step: Step): Promise<void> {
    await step(this.#remove(this.#podPath))
    await step(this.#remove(this.#claimPath))
    await step(this.#cluster.waitFor(this.#claimPath, (state) => state === undefined, patienceMs))
    this.#moveIn()
  }

  async #make(path: string, object: object): Promise<void> {
    await this.#cluster.api.request('POST', path.slice(0, path.lastIndexOf('/')), object).catch(unless(409))
  }

  async #remove(path: string): Promise<void> {
    await this.#cluster.api.request('DELETE', path).catch(unless(404))
  }
}

/** Awaits one thing of several. */
type Step = <T>(work: Promise<T>) => Promise<T>
const directly: Step = (work) => work

/** Ends at once, with whoever goes from step to step, when the signal aborts. */
function untilAborted(signal: AbortSignal): Step {
  const aborted = new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  aborted.catch(() => {})
  return async (work) => {
    const result = await Promise.race([work, aborted])
    signal.throwIfAborted()
    return result
  }
}

function unless(status: number) {
  return (error: unknown) => {
    if (!(error instanceof ApiError) || error.status !== status) throw error
  }
}

/** The numbers from `from` to `to`, as text. */
const count = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => String(from + index))
