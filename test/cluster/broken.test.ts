/**
 * One thing after another is broken in a cluster, and each time `explain`, the cluster's doctor, the provisioner's page,
 * events, figures, alerts and the docs on troubleshooting must say what it is and what to do.
 */
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { parse } from 'yaml'
import type { Finding } from '../../src/doctor/finding.ts'
import type { Chain, LinkName, Overview, PoolRecord } from '../../src/overview/records.ts'
import { type Output, run } from '../../src/run.ts'
import { quotedWords, readPages } from '../docs/pages.ts'
import { growthRecovery, needing } from '../kubernetes/version.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { claim, classOn, gibibyte, pod, storageClass } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { findFreePorts } from './control-plane.ts'
import { type Elastic, type ElasticNode, executable, namespace, openElastic } from './elastic.ts'
import { type Program, poll } from './program.ts'
import { type Prometheus, startPrometheus } from './prometheus.ts'
import { givePageRights, openViewer, setWell, startStandIn } from './viewer.ts'

const test = suite('broken situations')
const driver = 'volumes.k8s.elastic.co/elastic-local'
const root = join(import.meta.dirname, '../..')
const rulesFile = join(root, 'config/prometheus-rules.yaml')
const { groups } = parse(await readFile(rulesFile, 'utf8')) as {
  groups: { rules: { alert: string; expr: string }[] }[]
}
const rules = groups.flatMap((group) => group.rules)
const quotes = quotedWords((await readPages()).find(({ name }) => name === 'docs/troubleshooting.md')?.text ?? '')

let scratch: string
let cluster: Cluster
let elastic: Elastic
let close: () => Promise<void>
let provisioner: Program
/** Where the provisioner tells its figures, and serves its page. */
let leader: string
let prometheus: Prometheus
let kubectl: (...args: string[]) => Promise<Output>
const nodes = new Map<string, ElasticNode>()
const nodeOf = (name: string) => nodes.get(name) as ElasticNode
/** Where each node's daemon tells its figures, by the node's name. */
const addresses = new Map<string, string>()

const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
const claimPath = (name: string) => `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
const onNode = (name: string) => ({ spec: { nodeSelector: { 'kubernetes.io/hostname': name } } })
/** A class that makes volumes on one node, once a pod wants them. */
const waitingOn = (node: string) => ({ ...classOn(node), ...storageClass(`waiting-on-${node}`) })
const remove = (kind: string, ...names: string[]) =>
  cluster.kubectl(['delete', kind, ...names, ...(kind === 'pod' ? ['--force', '--grace-period=0'] : ['--wait=false'])])

/** What is to be seen of a broken situation. */
interface Sight {
  /** The link at which the chain of something stops, and what to do. */
  explain: { what: string; at: LinkName; message: RegExp; detail?: RegExp; advice: RegExp; status?: 'wait' }
  /** Nothing where nothing fails. The page says the same, of claims, nodes and the provisioner. */
  doctor?: { check: string; message: RegExp; status?: 'warn'; page?: false }
  /** What an event, or `explain`, says, which the page on troubleshooting quotes. */
  words: string
  /** The alert that goes by it; `least`: in place of the age, or the number of times, that it waits for. */
  alert?: { name: string; where: Readonly<Record<string, string>>; least?: number }
  /** Something that Prometheus can be asked, where there is no alert. */
  figure?: string
}

async function shows({ explain, doctor, words, alert, figure }: Sight): Promise<void> {
  const [explained, examined] = await Promise.all([
    kubectl('elastic_local', 'explain', explain.what, '--output=json'),
    kubectl('elastic_local', 'doctor', '--output=json'),
  ])
  const { chains } = JSON.parse(explained.stdout) as { chains: Chain[] }
  const link = chains.flatMap(({ links }) => links).find(({ link }) => link === explain.at)
  assert.is(link?.status, explain.status ?? 'fail', explained.stdout)
  assert.match(link?.message ?? '', explain.message)
  if (explain.detail) assert.match((link?.details ?? []).join('\n'), explain.detail)
  assert.match(link?.advice ?? '', explain.advice)

  const { findings } = JSON.parse(examined.stdout) as { findings: Finding[] }
  if (doctor) {
    const { check, message, status = 'fail', page = true } = doctor
    const found = findings.find((one) => one.check === check && message.test(one.message))
    assert.is(found?.status, status, `${check}: ${examined.stdout}`)
    assert.ok(found?.advice, `the doctor has no advice on ${check}: ${found?.message}`)
    if (page) await isOnPage(message)
  }
  assert.ok(
    quotes.some((quote) => quote.test(words)),
    `docs/troubleshooting.md has no row for: ${words}`,
  )
  if (alert) await alarms(alert)
  if (figure) await has(figure, {})
}

/** Resolves when the page has it, which reads the cluster anew after some seconds. */
async function isOnPage(message: RegExp): Promise<void> {
  const isShown = async () => {
    const { provisioner, nodes, volumes } = (await (await fetch(`http://${leader}/api/overview`)).json()) as Overview
    const problems = [provisioner, ...nodes, ...volumes].flatMap(({ problems }) => problems)
    return problems.some((problem) => problem.advice !== undefined && message.test(problem.message))
  }
  await poll(isShown, 60_000).catch(() => assert.unreachable(`the page does not say ${message}`))
}

/** Resolves when an alert's expression holds, from when on it counts until it tells. */
async function alarms({ name, where, least }: NonNullable<Sight['alert']>): Promise<void> {
  const expr = rules.find(({ alert }) => alert === name)?.expr ?? ''
  assert.ok(expr, `there is no alert ${name}`)
  await has(least === undefined ? expr : expr.replace(/> [\d.]+$/, `> ${least}`), where)
}

async function has(expression: string, where: Readonly<Record<string, string>>): Promise<void> {
  const isSo = ({ metric }: { metric: Record<string, string> }) =>
    Object.entries(where).every(([label, value]) => metric[label] === value)
  await poll(async () => (await prometheus.query(expression)).some(isSo), 60_000).catch(() =>
    assert.unreachable(`this does not hold for ${JSON.stringify(where)}: ${expression}`),
  )
}

const isRunning = (state: KubeObject | undefined) => state?.status?.phase === 'Running'

test.before(async () => {
  ;({ scratch, cluster, elastic, close } = await openElastic())
  const names = ['node-1', 'node-2', 'node-3']
  const ports = await findFreePorts(5, cluster.address)
  const [first = '', ...daemons] = ports.map((port) => `${cluster.address}:${port}`)
  leader = first
  for (const [index, name] of [...names, 'bare'].entries()) addresses.set(name, String(daemons[index]))
  const startNode = (name: string) =>
    elastic.startNode({ name, diskBytes: 2 * gibibyte, daemonFlags: { 'http-address': addresses.get(name) ?? '' } })
  for (const node of await Promise.all(names.map(startNode))) nodes.set(node.name, node)
  provisioner = await elastic.startProvisioner({ 'http-address': leader, page: 'true' })
  const [targets, here] = [[leader, ...daemons], onNode('node-1')]
  ;[prometheus, kubectl] = await Promise.all([
    startPrometheus(cluster, { targets: { 'elastic-local': targets }, rules: rulesFile }),
    openViewer(cluster, scratch),
    givePageRights(cluster),
    ...names.map((name) => startStandIn(cluster, 'daemon', name)),
    startStandIn(cluster, 'provisioner', 'node-1'),
    cluster.apply(
      ...names.map(classOn),
      ...['node-1', 'bare'].map(waitingOn),
      claim('data', { size: '64Mi' }),
      claim('kept', { size: '64Mi' }),
      pod('web', ['data', 'kept'], here),
    ),
  ])
  await cluster.waitFor(podPath('web'), isRunning, 120_000)
})

test.after(() => close())

test('a class with a typo in a parameter', async () => {
  await cluster.apply(
    storageClass('typo', { parameters: { fstype: 'xfs' } }),
    claim('typo', { class: 'typo' }),
    pod('typo', ['typo']),
  )
  const words = await cluster.said('typo', /^Cannot use StorageClass/)
  await shows({
    explain: { what: 'pvc/typo', at: 'class', message: /one is "fstype"/, advice: /delete it, and recreate it/ },
    doctor: { check: 'class typo', message: /parameters must be of fsType/ },
    words,
    alert: { name: 'ElasticLocalClaimPending', where: { stage: 'placing' }, least: 0 },
  })
  await remove('pod', 'typo')
  await remove('pvc', 'typo')
})

test('claims that ask for what a local disk cannot give', async () => {
  await cluster.apply(
    claim('block', { class: 'on-node-1', spec: { volumeMode: 'Block' } }),
    claim('many', { class: 'on-node-1', spec: { accessModes: ['ReadWriteMany'] } }),
  )
  for (const [name, message] of [
    ['block', /volumeMode must be Filesystem, as FlexVolumes are no block devices/],
    ['many', /accessModes must be of .*: one is ReadWriteMany/],
  ] as const)
    await shows({
      explain: { what: name, at: 'claim', message, advice: /delete it, and recreate it/ },
      doctor: { check: `claim default/${name}`, message },
      words: await cluster.said(name, message),
      alert: { name: 'ElasticLocalClaimPending', where: { stage: 'placing' }, least: 0 },
    })
  await remove('pvc', 'block', 'many')
})

test('a full pool', async () => {
  const { stdout } = await kubectl('elastic_local', 'pools', '--output=json')
  const { pools } = JSON.parse(stdout) as { pools: (PoolRecord & { freeBytes: string })[] }
  const freeBytes = BigInt(pools.find(({ node }) => node === 'node-1')?.freeBytes ?? 0)
  await elastic.place('filler', 'node-1', String(freeBytes - (64n << 20n)))
  await cluster.apply(
    claim('late', { class: 'waiting-on-node-1', size: '1Gi' }),
    claim('late-now', { class: 'on-node-1', size: '1Gi' }),
    pod('late', ['late']),
  )
  const detail = /node-1: has .* of .* free, and 1 GiB is needed/
  await shows({
    words: await cluster.said('late', /did not have enough free storage/),
    explain: { what: 'pvc/late', at: 'scheduling', message: /no node can take it/, detail, advice: /add a disk/ },
    doctor: { check: 'pool of node-1', message: /is nearly full/, status: 'warn', page: false },
    alert: { name: 'ElasticLocalPoolNearlyFull', where: { node: 'node-1' } },
  })
  await shows({
    words: await cluster.said('late-now', /Cannot place/),
    explain: {
      what: 'late-now',
      at: 'reservation',
      message: /on node node-1 as its pool/,
      detail,
      advice: /add a disk/,
    },
    doctor: { check: 'claim default/late-now', message: /Cannot place 1 GiB on node node-1/ },
    figure: 'elastic_local_operation_duration_seconds_count{operation="place",result="no-space"} > 0',
  })
  await remove('pod', 'late')
  await remove('pvc', 'late', 'late-now')
})

needing(test, growthRecovery)('growth beyond the pool', async () => {
  const request = (storage: string) => JSON.stringify({ spec: { resources: { requests: { storage } } } })
  await cluster.kubectl(['patch', 'pvc', 'data', '--patch', request('100Ti')])
  const words = await cluster.said('data', /Lower the request of the claim to cancel it/)
  const isRefused = (state: KubeObject | undefined) =>
    state?.status?.allocatedResourceStatuses?.storage === 'NodeResizeInfeasible'
  await cluster.waitFor(claimPath('data'), isRefused, 120_000)
  await shows({
    words,
    explain: {
      what: 'data',
      at: 'growth',
      message: /from 64 MiB to 100 TiB: Cannot grow pvc-.* free/,
      advice: /Lower the request to cancel it/,
    },
    doctor: { check: 'claim default/data', message: /it does not grow from 64 MiB to 100 TiB/ },
    figure: 'elastic_local_callout_duration_seconds_count{node="node-1",callout="expandfs",result="no-space"} > 0',
  })
})

test('a pod that names our driver inline', async () => {
  const { spec } = await cluster.api.request('GET', claimPath('data'))
  const volumes = [{ name: spec.volumeName, flexVolume: { driver, options: { sizeBytes: '1024' } } }]
  await cluster.apply(pod('thief', [], { volumes, spec: { nodeName: 'node-1' } }))
  await shows({
    words: await cluster.said('thief', /only a pod whose claim is bound to it may use it/),
    explain: {
      what: 'thief',
      at: 'mount',
      message: /is a flexVolume of our driver, which only claims may use/,
      detail: /only a pod whose claim is bound/,
      advice: /Use a persistentVolumeClaim in the pod/,
    },
    doctor: { check: 'pod default/thief', message: /is a flexVolume of our driver/, page: false },
    alert: {
      name: 'ElasticLocalCalloutsFail',
      where: { node: 'node-1', callout: 'mount', result: 'invalid' },
      least: 0,
    },
  })
  await remove('pod', 'thief')
})

test('a node without a volume group', async () => {
  const { rootDir } = await cluster.startKubelet({ name: 'bare' })
  await startStandIn(cluster, 'daemon', 'bare')
  await setWell(cluster, 'daemon', 'bare', false)
  const home = join(scratch, 'bare')
  await mkdir(join(home, 'volumes'), { recursive: true })
  const flags = {
    kubeconfig: await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon', 'bare'),
    namespace,
    'node-name': 'bare',
    'lvm-volume-group': 'elastic-local-none',
    'kubelet-dir': rootDir,
    'volumes-dir': join(home, 'volumes'),
    socket: join(home, 'socket'),
    'http-address': addresses.get('bare') ?? '',
  }
  const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
  await run(executable, ['daemon', ...args], { accept: [1] })
  await cluster.apply(claim('groupless', { class: 'waiting-on-bare' }), pod('groupless', ['groupless']))
  await cluster.said('groupless', /nodes are available/)
  await shows({
    words: await cluster.said('bare', /Cannot read volume group elastic-local-none/),
    explain: {
      what: 'pvc/groupless',
      at: 'scheduling',
      message: /no node can take it/,
      detail:
        /bare: cannot use its pool: Cannot read volume group elastic-local-none; create it with "elastic-local create-vg --lvm-volume-group elastic-local-none/,
      advice: /^Fix the nodes above/,
    },
    doctor: {
      check: 'node bare',
      message: /cannot use its pool: Cannot read volume group elastic-local-none; create it/,
    },
    alert: { name: 'ElasticLocalDown', where: { instance: addresses.get('bare') ?? '' } },
  })
  await remove('pod', 'groupless')
  await remove('pvc', 'groupless')
})

test('a kubelet that looks into another plugin folder', async () => {
  await elastic.place('unplugged', 'node-2')
  await rm(join(nodeOf('node-2').kubelet.pluginDir, driver.replace('/', '~')), { recursive: true })
  await cluster.apply(pod('unplugged', ['unplugged']))
  // No figure of ours: the kubelet never gets as far as to ask.
  await shows({
    words: await cluster.said('unplugged', /no volume plugin matched/),
    explain: {
      what: 'pod/unplugged',
      at: 'mount',
      message: /no volume plugin matched/,
      advice: /its --volume-plugin-dir is not the folder that the daemon installs it into/,
    },
    doctor: { check: 'claim default/unplugged', message: /no volume plugin matched/ },
  })
  await remove('pod', 'unplugged')
})

test('a volume whose data is lost', async () => {
  const volume = await elastic.place('lost', 'node-3')
  await elastic.loseVolume(nodeOf('node-3'), volume)
  await shows({
    words: await cluster.said(volume, /its data is lost/),
    explain: {
      what: 'lost',
      at: 'volume',
      message: /its data is lost, or its disk is missing.*Bring the disk back, or delete the claim/,
      advice: /make-lost-anew=true/,
    },
    doctor: { check: 'claim default/lost', message: /its data is lost/ },
    alert: { name: 'ElasticLocalVolumeLost', where: { node: 'node-3' } },
  })
})

test('a daemon that is down', async () => {
  await elastic.place('unserved', 'node-3')
  await nodeOf('node-3').daemon.kill()
  await setWell(cluster, 'daemon', 'node-3', false)
  await cluster.apply(pod('unserved', ['unserved']))
  await shows({
    words: await cluster.said('unserved', /The elastic-local daemon of this node is not running/),
    explain: {
      what: 'pod/unserved',
      at: 'node',
      message: /the daemon of node node-3 is unhealthy: pod daemon-node-3/,
      advice: /logs daemon-node-3/,
    },
    doctor: { check: 'node node-3', message: /the daemon of node node-3 is unhealthy/ },
    alert: { name: 'ElasticLocalDown', where: { instance: addresses.get('node-3') ?? '' } },
  })
})

test('a deletion that waits for a pod which uses the claim', async () => {
  await remove('pvc', 'kept')
  const message = /the claim is deleted when its pods are gone: web/
  await shows({
    explain: { what: 'pvc/kept', at: 'removal', status: 'wait', message, advice: /Delete those pods/ },
    // Nothing is broken.
    words: 'the claim is deleted when its pods are gone: web',
  })
  const { findings } = JSON.parse((await kubectl('elastic_local', 'doctor', '--output=json')).stdout)
  assert.not(findings.some(({ check }: Finding) => check === 'claim default/kept'))
})

test('a node that is away, for which a deletion waits, and then is gone', async () => {
  const [away, gone] = [await elastic.place('away', 'node-2'), await elastic.place('gone', 'node-2')]
  await Promise.all([nodeOf('node-2').kubelet.kill(), nodeOf('node-2').daemon.kill()])
  // As the controller manager says after 50 s.
  const ready = { type: 'Ready', status: 'Unknown', reason: 'NodeStatusUnknown', message: 'Kubelet stopped posting.' }
  const patch = JSON.stringify({ status: { conditions: [ready] } })
  await cluster.kubectl(['patch', 'node', 'node-2', '--subresource=status', '--patch', patch])
  await remove('pvc', 'away')
  const isLeaving = (state: KubeObject | undefined) => state?.metadata.deletionTimestamp !== undefined
  await cluster.waitFor(`/api/v1/persistentvolumes/${away}`, isLeaving, 120_000)
  await shows({
    explain: {
      what: `pv/${away}`,
      at: 'removal',
      message: /it waits for its node: node node-2 is away/,
      advice: /Bring it back/,
    },
    doctor: { check: 'node node-2', message: /node node-2 is away: not ready/ },
    words: 'node node-2 is away: not ready for 2m (Kubelet stopped posting.)',
    alert: { name: 'ElasticLocalDown', where: { instance: addresses.get('node-2') ?? '' } },
  })

  await cluster.kubectl(['delete', 'node', 'node-2'])
  await shows({
    explain: { what: `pv/${gone}`, at: 'node', message: /node node-2 is gone/, advice: /delete their claims/ },
    doctor: { check: 'node node-2', message: /node node-2 is gone/ },
    words: 'node node-2 is gone: there is no Node object of that name',
    alert: { name: 'ElasticLocalNodeGone', where: {} },
  })
})

test('no provisioner at work', async () => {
  await provisioner.kill('SIGTERM')
  await setWell(cluster, 'provisioner', 'node-1', false)
  await cluster.apply(claim('unled', { class: 'on-node-3', size: '64Mi' }))
  const message = /no provisioner is running: none leads/
  await shows({
    words: await cluster.said('unled', /Waiting for a volume to be created/),
    explain: { what: 'unled', at: 'reservation', message, advice: /logs provisioner-node-1/ },
    // With it goes its page.
    doctor: { check: 'provisioner', message, page: false },
    alert: { name: 'ElasticLocalNoLeader', where: {} },
  })
})

test.run()
