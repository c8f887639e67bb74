import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import { buildRandom, pickSeed } from '../torture/random.ts'
import { agreement, ledgersPath, watchPromises } from './agreement.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { type Elastic, type ElasticNode, namespace, openElastic } from './elastic.ts'
import {
  type Fault,
  FaultyApi,
  type Passing,
  type Plan,
  randomFaults,
  requestFaults,
  watchFaults,
} from './faulty-api.ts'
import { placeOf } from './front.ts'
import type { Program } from './program.ts'

const test = suite('an API server that fails')
const seed = pickSeed()
const volumesPath = '/api/v1/persistentvolumes'
const podsPath = '/api/v1/namespaces/default/pods'
const claimsPath = '/api/v1/namespaces/default/persistentvolumeclaims'
const eventsPath = '/api/v1/namespaces/default/events'
const leasePath = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/elastic-local-provisioner`
/** For how long everything is refused, twice. */
const stormMs = 4000

let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let nodes: ElasticNode[]
let promisedTooMuch: string[]
/** Between the API server and the provisioners. */
let above: FaultyApi
/** Between the API server and the daemons. */
let below: FaultyApi
let provisioner: Program

const proxies = () => [above, below]
const names = (word: string, count: number) => Array.from({ length: count }, (_, i) => `${word}-${i}`)
const remove = (kind: string, names: readonly string[]) => cluster.kubectl(['delete', kind, ...names, '--wait=false'])
const grow = async (name: string, storage: string) => {
  const patch = { spec: { resources: { requests: { storage } } } }
  await cluster.kubectl(['patch', 'pvc', name, '--patch', JSON.stringify(patch)])
}

/** Resolves when all those objects are there and as awaited. */
async function waitFor(path: string, names: readonly string[], isSo: (object: KubeObject) => boolean): Promise<void> {
  const areSo = (list: KubeObject | undefined) => {
    const found = new Map((list?.items as KubeObject[]).map((object) => [object.metadata.name, object]))
    return names.every((name) => found.has(name) && isSo(found.get(name) as KubeObject))
  }
  await cluster.waitFor(path, areSo, 200_000)
}
const running = (names: readonly string[]) => waitFor(podsPath, names, ({ status }) => status.phase === 'Running')
const bound = (names: readonly string[]) => waitFor(claimsPath, names, ({ status }) => status.phase === 'Bound')
const grown = (names: readonly string[], storage: string) =>
  waitFor(claimsPath, names, ({ status }) => status.capacity.storage === storage)

/** Makes pods with a claim each. */
const begin = (names: readonly string[], more: Parameters<typeof claim>[1] = { size: '64Mi' }) =>
  cluster.apply(...names.flatMap((name) => [claim(name, more), pod(name, [name])]))

/** How many volumes of a GiB the cluster holds. */
async function countPlaces(): Promise<number> {
  const { items } = await cluster.api.request('GET', ledgersPath)
  const pools = items.map(({ data }: KubeObject) => Number(JSON.parse(data['_pool.default']).capacityBytes))
  return pools.reduce((sum: number, bytes: number) => sum + Math.floor(bytes / gibibyte), 0)
}

/** Resolves when so many of the claims are bound; gives which. */
async function boundOf(names: readonly string[], count: number): Promise<string[]> {
  const boundIn = (list: KubeObject | undefined): string[] =>
    list?.items
      .filter(({ metadata, status }: KubeObject) => names.includes(metadata.name) && status.phase === 'Bound')
      .map(({ metadata }: KubeObject) => metadata.name)
  return boundIn(await cluster.waitFor(claimsPath, (list) => boundIn(list).length >= count, 150_000))
}

const holderOf = (lease: KubeObject | undefined): string => lease?.spec.holderIdentity ?? ''
const isWrite = ({ method, path }: Passing) => method !== 'GET' && !path.includes('/leases')

/** Resolves when a provisioner has ended, as it lost its Lease. */
async function loses(program: Program): Promise<void> {
  await program.ended()
  assert.match(await readFile(program.log, 'utf8'), /Lost Lease/)
}

/** Resolves with the PVs when all tell the same of them, and nobody ever promised too much. */
async function agree(): Promise<KubeObject[]> {
  const volumes = await agreement(elastic, nodes)
  assert.equal(promisedTooMuch, [])
  return volumes
}

/** A class that makes volumes on that node, at once. */
const on = ({ name }: ElasticNode) => ({
  volumeBindingMode: 'Immediate',
  allowedTopologies: [{ matchLabelExpressions: [{ key: 'kubernetes.io/hostname', values: [name] }] }],
})

/** The folder of the volume of a pod that runs, whose claim has its name. */
async function folderOf(name: string): Promise<string> {
  const { metadata, spec } = await cluster.api.request('GET', `${podsPath}/${name}`)
  const { volumeName } = (await cluster.api.request('GET', `${claimsPath}/${name}`)).spec
  const rootDir = String(nodes.find((node) => node.name === spec.nodeName)?.kubelet.rootDir)
  return join(rootDir, 'pods', metadata.uid, placeOf(volumeName))
}

/** Takes away everything that a test made. */
async function clear(): Promise<void> {
  await cluster.kubectl(['delete', 'pods,pvc', '--all', '--wait=false', '--grace-period=1'])
  await cluster.waitFor(volumesPath, (list) => list?.items.length === 0, 150_000)
}

test.before(async () => {
  ;({ cluster, elastic, close } = await openElastic())
  above = await FaultyApi.start(cluster)
  below = await FaultyApi.start(cluster)
  const started = ['node-1', 'node-2'].map((name) => elastic.startNode({ name, diskBytes: 8 * gibibyte, via: below }))
  nodes = await Promise.all(started)
  promisedTooMuch = watchPromises(cluster)
  await cluster.apply(
    storageClass('immediate', { volumeBindingMode: 'Immediate' }),
    storageClass('xfs', { parameters: { fsType: 'xfs' } }),
  )
})

test.after.each(() => {
  for (const proxy of proxies()) Object.assign(proxy, { plan: () => undefined, lagMs: 0 })
})

test.after(async () => {
  for (const proxy of proxies()) proxy.close()
  await close()
})

test(`while requests fail, conflict, hang and lose their answers, and watches end, claims come, grow and go, each once (seed ${seed})`, async () => {
  provisioner = await elastic.startProvisioner({}, { via: above, again: true })
  const random = buildRandom(seed)
  for (const proxy of proxies()) {
    proxy.plan = randomFaults(random, 0.3)
    proxy.cutAll()
  }
  const [waiting, immediate, growing] = [names('waiting', 15), names('immediate', 20), names('growing', 5)]
  await begin(waiting)
  await begin(growing, { class: 'xfs', size: '300Mi' })
  await cluster.apply(...immediate.map((name) => claim(name, { class: 'immediate', size: '64Mi' })))
  await cluster.apply(...immediate.slice(0, 10).map((name) => pod(name, [name])))
  await running([...growing, ...immediate.slice(0, 5), ...waiting.slice(0, 5)])
  for (const name of growing) await grow(name, '400Mi')
  const gone = [...waiting.slice(0, 5), ...immediate.slice(10, 15)]
  await remove('pod', waiting.slice(0, 5))
  await remove('pvc', gone)
  const late = names('late', 10)
  await begin(late)
  await running(late.slice(0, 5))
  for (const proxy of proxies()) proxy.plan = () => undefined

  const left = [...waiting, ...immediate, ...growing, ...late].filter((name) => !gone.includes(name))
  await bound(left)
  await running(left.filter((name) => !immediate.slice(10).includes(name)))
  await grown(growing, '400Mi')
  const volumes = await agree()
  assert.is(volumes.length, left.length)
  const met = new Set(proxies().flatMap(({ passed }) => passed.map(({ fault }) => fault)))
  assert.equal(
    [...requestFaults, ...watchFaults].filter((fault) => !met.has(fault)),
    [],
  )
})

test('an API server that answers everything with 429 or 500 is asked ever more rarely', async () => {
  const [old, young] = [names('immediate', 5), names('young', 20)]
  let [watches, turn]: [Fault | undefined, number] = [undefined, 0]
  // Leases have a queue of their own in an API server that is busy.
  const counted = ({ path }: Passing) => !path.includes('/leases')
  const plan: Plan = (passing) => {
    if (!counted(passing)) return undefined
    turn += 1
    return passing.isWatch ? watches : turn % 2 ? 'busy' : 'broken'
  }
  for (const proxy of proxies()) {
    proxy.passed.length = 0
    proxy.plan = plan
  }
  const startedAt = performance.now()
  await cluster.apply(...young.map((name) => claim(name, { class: 'immediate', size: '64Mi' })))
  await remove('pod', old)
  await remove('pvc', old)
  await sleep(stormMs)
  watches = 'broken'
  for (const proxy of proxies()) proxy.cutAll()
  await sleep(stormMs)
  // What waits twice as long each time, beginning with 200 ms; and each claim changes a few times by itself.
  const tries = 4 + Math.log2((performance.now() - startedAt) / 200)
  const things = young.length + old.length
  const followed = [5, 4 * nodes.length]
  for (const [index, proxy] of proxies().entries()) {
    const asked = proxy.passed.filter(counted).length
    assert.ok(asked <= (things + (followed[index] ?? 0)) * tries, `${asked} requests in ${tries} tries`)
    proxy.plan = () => undefined
  }
  await bound(young)
  await agree()
})

test('with watches that are seconds late no node is promised more than it holds, and nothing is made twice', async () => {
  await clear()
  for (const proxy of proxies()) {
    proxy.cutAll()
    proxy.lagMs = 4000
  }
  const many = names('many', 20)
  await cluster.apply(...many.map((name) => claim(name, { class: 'immediate', size: '1Gi' })))
  const places = await countPlaces()
  const first = await boundOf(many, places)
  await remove('pvc', first.slice(0, 4))
  const rest = many.filter((name) => !first.slice(0, 4).includes(name))
  await boundOf(rest, places)
  assert.is((await agree()).length, places)
})

test('two provisioners that both believe they lead place each claim once and not one byte too much', async () => {
  await clear()
  await provisioner.kill()
  const [one, two] = [await FaultyApi.start(cluster), await FaultyApi.start(cluster)]
  try {
    await cluster.kubectl(['delete', 'lease', '--all', `--namespace=${namespace}`])
    const first = await elastic.startProvisioner({}, { via: one })
    const firstHolder = holderOf(await cluster.waitFor(leasePath, (lease) => holderOf(lease) !== ''))
    const second = await elastic.startProvisioner({}, { via: two })
    // The first cannot see that its Lease was taken. What it begins to write arrives when the second writes as well.
    const [blind, both] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
    const firstWrites = Promise.withResolvers<void>()
    let isBlind = false
    one.plan = (passing) => {
      if (isBlind && passing.path === leasePath) return blind.promise
      if (!isWrite(passing)) return undefined
      firstWrites.resolve()
      return both.promise
    }
    two.plan = (passing) => {
      if (isWrite(passing)) both.resolve(undefined)
      return undefined
    }
    const many = names('many', 20)
    await cluster.apply(...many.map((name) => claim(name, { class: 'immediate', size: '1Gi' })))
    await firstWrites.promise
    isBlind = true
    await cluster.kubectl(['delete', '--raw', leasePath])
    await cluster.waitFor(leasePath, (lease) => !['', firstHolder].includes(holderOf(lease)))
    await both.promise
    const places = await countPlaces()
    await boundOf(many, places)
    blind.resolve(undefined)
    await loses(first)
    assert.is((await agree()).length, places)

    // The second is frozen with promises and PVs on their way, which arrive when a third has done its work.
    await clear()
    const third = await elastic.startProvisioner()
    const secondHolder = holderOf(await cluster.api.request('GET', leasePath))
    const held = Promise.withResolvers<undefined>()
    const [promising, making] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    two.plan = (passing) => {
      if (!isWrite(passing)) return undefined
      if (passing.path === volumesPath) making.resolve()
      else if (passing.path.endsWith('elastic-local.node-2.ledger')) promising.resolve()
      else return undefined
      return held.promise
    }
    await cluster.apply(...many.map((name) => claim(name, { class: 'immediate', size: '1Gi' })))
    await Promise.all([promising.promise, making.promise])
    second.pause()
    await cluster.waitFor(leasePath, (lease) => !['', secondHolder].includes(holderOf(lease)))
    await boundOf(many, places)
    held.resolve(undefined)
    second.resume()
    await loses(second)
    assert.is((await agree()).length, places)
    provisioner = third
  } finally {
    for (const proxy of [one, two]) proxy.close()
  }
})

test('a clock that jumps by hours costs nobody the lead, gives up no node early, and silences nobody', async () => {
  await clear()
  await provisioner.kill('SIGTERM')
  // libfaketime keeps files there for each process, also once that was killed; they go with this namespace.
  await run('mount', ['-t', 'tmpfs', 'tmpfs', '/dev/shm'])
  const hour = join(cluster.folder, 'hour')
  const set = (offset: string) => writeFile(hour, `${offset}\n`)
  await set('+0h')
  const env = {
    LD_PRELOAD: '/usr/$LIB/faketime/libfaketimeMT.so.1',
    FAKETIME_TIMESTAMP_FILE: hour,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  }
  provisioner = await elastic.startProvisioner({ 'node-gone-grace': '3600' }, { env })
  const first = await cluster.waitFor(leasePath, (lease) => holderOf(lease) !== '')
  const standby = await elastic.startProvisioner({}, { env })
  const [here, away] = nodes as [ElasticNode, ElasticNode]
  await elastic.restartDaemon(here, { env })
  await cluster.apply(storageClass('away', on(away)), storageClass('here', on(here)), claim('away', { class: 'away' }))
  await bound(['away'])
  const [{ metadata }] = (await agree()) as [KubeObject]
  const image = join(away.volumesDir, '.elastic-local/loop', `${metadata.name}.img`)
  await Promise.all([away.kubelet.kill(), away.daemon.kill()])
  await cluster.kubectl(['delete', 'node', away.name])
  await remove('pvc', ['away'])
  const volumePath = `${volumesPath}/${metadata.name}`
  await cluster.waitFor(volumePath, (volume) => volume?.metadata.deletionTimestamp !== undefined)
  for (const [index, offset] of ['+5h', '+0h', '+7d', '+1h'].entries()) {
    await set(offset)
    const name = `after-jump-${index}`
    await cluster.apply(claim(name, { class: 'here', size: '64Mi' }), pod(name, [name]))
    await cluster.apply(claim(`huge-${index}`, { class: 'here', size: '100Ti' }))
    await running([name])
    await cluster.waitFor(eventsPath, (list) =>
      list?.items.some(({ involvedObject: { name } }: KubeObject) => name === `huge-${index}`),
    )
  }
  const lease = await cluster.api.request('GET', leasePath)
  assert.equal([holderOf(lease), lease.spec.leaseTransitions], [holderOf(first), first.spec.leaseTransitions])
  const volume = await cluster.api.request('GET', volumePath)
  assert.ok(volume.metadata.finalizers?.includes('volumes.k8s.elastic.co/elastic-local'))
  assert.ok(existsSync(image))
  await elastic.returnNode(away)
  await cluster.waitFor(volumePath, (volume) => volume === undefined, 120_000)
  assert.not.ok(existsSync(image))
  await standby.kill()
})

test('a daemon that is replaced in the middle of mounts and growths, politely or not, fails no pod and loses nothing', async () => {
  await clear()
  const [old, growing] = [names('old', 4), names('growing', 4)]
  await begin([...old, ...growing], { class: 'xfs', size: '300Mi' })
  await running([...old, ...growing])
  for (const name of [...old, ...growing]) await writeFile(join(await folderOf(name), 'file'), name)
  const young: string[] = []
  for (const [round, signal] of (['SIGTERM', 'SIGKILL', 'SIGTERM', 'SIGKILL'] as const).entries()) {
    const some = names(`young-${round}`, 6)
    young.push(...some)
    await begin(some, { class: round % 2 ? 'xfs' : 'elastic-local', size: '300Mi' })
    await grow(growing[round] ?? '', '400Mi')
    await remove('pod', [old[round] ?? ''])
    // Some are made, others are not.
    await bound(some.slice(0, 2))
    await Promise.all(nodes.map((node) => elastic.replaceDaemon(node, signal)))
  }
  const pods = [...growing, ...young]
  await running(pods)
  await grown(growing, '400Mi')
  await cluster.waitFor(
    podsPath,
    (list) => !list?.items.some(({ metadata }: KubeObject) => old.includes(metadata.name)),
  )
  await begin(old, { class: 'xfs', size: '300Mi' })
  await running(old)
  for (const name of [...old, ...growing]) assert.is(await readFile(join(await folderOf(name), 'file'), 'utf8'), name)
  assert.is((await agree()).length, pods.length + old.length)
})

test.run()
