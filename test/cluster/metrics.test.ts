import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { parse, parseAllDocuments } from 'yaml'
import { request } from '../../src/daemon/client.ts'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import { alertCases, buildRuleTests } from './alerts.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { findFreePorts } from './control-plane.ts'
import { type Elastic, type ElasticNode, executable, openElastic } from './elastic.ts'
import { type GuestNode, makeBridge } from './guest-node.ts'
import { enterOwnNetwork } from './network.ts'
import { poll, runWithInput } from './program.ts'
import { type Prometheus, startPrometheus } from './prometheus.ts'

enterOwnNetwork()
const address = await makeBridge()
const test = suite('metrics, health and logs')

const root = join(import.meta.dirname, '../..')
const config = (file: string) => join(root, 'config', file)
const rulesFile = config('prometheus-rules.yaml')
const guestAddress = '198.51.100.2'

let cluster: Cluster
let elastic: Elastic
let scratch = ''
let close: () => Promise<void>
let node: ElasticNode
let guest: GuestNode
let prometheus: Prometheus
/** Where each component serves. */
const urls = { daemon: '', guest: `http://${guestAddress}:9810`, leader: '', other: '' }

const { groups } = parse(await readFile(rulesFile, 'utf8')) as {
  groups: { rules: { alert: string; expr: string }[] }[]
}
const rules = groups.flatMap((group) => group.rules)
const targets = ({ targets = [] }: { targets?: { expr: string }[] }) => targets
const { panels } = JSON.parse(await readFile(config('grafana-dashboard.json'), 'utf8')) as {
  panels: { title: string; targets?: { expr: string }[] }[]
}

const ask = async (url: string, path: string) => {
  const answer = await fetch(`${url}${path}`)
  return { status: answer.status, text: await answer.text() }
}
const reasons = async (url: string, path: string): Promise<string[]> => {
  const { status, text } = await ask(url, path)
  const { reasons = [] } = JSON.parse(text)
  assert.is(status, reasons.length > 0 ? 503 : 200)
  return reasons
}
const onNode = (name: string) => ({ spec: { nodeSelector: { 'kubernetes.io/hostname': name } } })
const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
const isRunning = (state: KubeObject | undefined) => state?.status?.phase === 'Running'
const volumeOf = async (name: string): Promise<string> =>
  (await cluster.api.request('GET', `/api/v1/namespaces/default/persistentvolumeclaims/${name}`)).spec.volumeName

test.before(async () => {
  ;({ scratch, cluster, elastic, close } = await openElastic(() => ({ address })))
  const ports = await findFreePorts(3, address)
  const [daemon, leader, other] = ports.map((port) => `${address}:${port}`)
  Object.assign(urls, { daemon: `http://${daemon}`, leader: `http://${leader}`, other: `http://${other}` })
  const options = {
    name: 'guest-1',
    folder: scratch,
    address: guestAddress,
    diskBytes: 4 * gibibyte,
    thin: true,
    daemonFlags: { 'http-address': ':9810' },
  }
  const started = await Promise.all([
    elastic.startNode({ name: 'node-1', diskBytes: 4 * gibibyte, daemonFlags: { 'http-address': String(daemon) } }),
    elastic.startLvmNode(options),
    elastic.startProvisioner({ 'http-address': String(leader) }),
  ])
  ;[node, guest] = started
  await poll(async () => (await ask(urls.leader, '/metrics')).text.includes('\nelastic_local_leader 1\n'), 30_000)
  await elastic.startProvisioner({ 'http-address': String(other) })
  const [targetsOfDaemons, provisioners] = [
    [String(daemon), `${guestAddress}:9810`],
    [String(leader), String(other)],
  ]
  prometheus = await startPrometheus(cluster, {
    targets: { daemons: targetsOfDaemons, provisioners },
    rules: rulesFile,
  })
  await cluster.apply(
    claim('here'),
    claim('there'),
    pod('here', ['here'], onNode('node-1')),
    pod('there', ['there'], onNode('guest-1')),
  )
  for (const name of ['here', 'there']) await cluster.waitFor(podPath(name), isRunning, 120_000)
})

test.after(() => close())

test('promtool finds nothing to say against the rules and what each component serves', async () => {
  await run('promtool', ['check', 'rules', rulesFile])
  for (const url of Object.values(urls)) {
    const { stdout, stderr } = await runWithInput('promtool', ['check', 'metrics'], {
      input: (await ask(url, '/metrics')).text,
    })
    assert.equal([stdout, stderr], ['', ''])
  }
})

test('what the docs give the operator is a PrometheusRule with these rules, and the PodMonitor finds each pod of deploy.yaml', async () => {
  const docs = await readFile(join(root, 'docs/metrics.md'), 'utf8')
  const command = /^ {4}(\{ printf [\s\S]*?) \| kubectl apply/m.exec(docs)?.[1] ?? ''
  const { stdout } = await run('sh', ['-c', command.replace('config/', `${root}/config/`)])
  const rule = parse(stdout)
  assert.equal([rule.kind, rule.spec.groups], ['PrometheusRule', groups])
  const { spec } = parse(await readFile(config('podmonitor.yaml'), 'utf8'))
  const objects = parseAllDocuments(await readFile(join(root, 'deploy.yaml'), 'utf8'), { merge: true })
  const templates = objects.map((document) => document.toJS().spec?.template).filter(Boolean)
  assert.is(templates.length, 2)
  for (const { metadata, spec: pod } of templates) {
    for (const [label, value] of Object.entries(spec.selector.matchLabels)) assert.is(metadata.labels[label], value)
    const [{ env, ports }] = pod.containers
    const address = env.find(({ name }: { name: string }) => name === 'ELASTIC_LOCAL_HTTP_ADDRESS').value
    assert.equal(ports, [{ name: spec.podMetricsEndpoints[0].port, containerPort: Number(address.slice(1)) }])
  }
})

test('each alert tells of what it is for, and not of a cluster that is well', async () => {
  assert.equal(
    rules.map(({ alert }) => alert),
    Object.keys(alertCases),
  )
  const file = join(scratch, 'rule-tests.json')
  await writeFile(file, JSON.stringify(buildRuleTests(rulesFile)))
  await run('promtool', ['test', 'rules', file])
})

test('each query of the dashboard gives data', async () => {
  const queries = panels.flatMap((panel) => targets(panel).map(({ expr }) => ({ title: panel.title, expr })))
  assert.ok(queries.length > 20)
  // A rate is told of what is counted again, once the first count was seen.
  const mounts = 'elastic_local_operation_duration_seconds_count{node="node-1",operation="mount"}'
  await poll(async () => (await prometheus.query(mounts)).length > 0, 30_000)
  await cluster.apply(pod('again', ['here'], onNode('node-1')))
  await cluster.waitFor(podPath('again'), isRunning, 120_000)
  for (const { title, expr } of queries) {
    const expression = expr.replaceAll('$node', '.*').replaceAll('$__rate_interval', '1m')
    const hasData = async () => (await prometheus.query(expression)).some(({ value }) => value[1] !== 'NaN')
    await poll(hasData, 60_000).catch(() => assert.unreachable(`"${title}" has no data: ${expression}`))
  }
})

test('each rule can be evaluated, none of its metrics is one that nobody has, and nothing is alarming', async () => {
  type Group = { rules: { name: string; health: string; lastError?: string; state: string }[] }
  const found = await prometheus.ask<{ groups: Group[] }>('rules')
  const evaluated = found.groups.flatMap((group) => group.rules)
  assert.is(evaluated.length, rules.length)
  for (const { name, health, state, lastError } of evaluated) {
    assert.is(health, 'ok', `${name}: ${lastError}`)
    assert.is.not(state, 'firing', name)
  }
  for (const { expr, alert } of rules)
    for (const [name] of expr.matchAll(/elastic_local_\w+/g))
      assert.ok((await prometheus.query(`count(${name})`)).length > 0, `${alert} goes by ${name}, which nobody has`)
})

test('figures are those of the cluster: pools, volumes with their claims, and one leader', async () => {
  const value = async (expression: string) => Number((await prometheus.query(expression))[0]?.value[1])
  assert.is(await value('sum(elastic_local_leader)'), 1)
  assert.is(await value('count(elastic_local_leader)'), 2)
  assert.is(await value('sum(elastic_local_ready)'), 4)
  // Figures of a pool may be of before the volume was made.
  const sizeOf = (name: string) => `elastic_local_volume_size_bytes{claim_namespace="default",claim="${name}"}`
  const sizes = async () => [await value(sizeOf('here')), await value(sizeOf('there'))]
  await poll(async () => (await sizes()).every((size) => size === 512 << 20), 60_000)
  const [row] = await prometheus.query(sizeOf('there'))
  assert.equal([row?.metric.node, row?.metric.volume], ['guest-1', await volumeOf('there')])
  const thin =
    'elastic_local_pool_data_written_ratio{node="guest-1",kind="LVM",pool="elastic-local-vg/elastic-local-thinpool"}'
  assert.ok((await value(thin)) > 0 && (await value(thin)) < 1)
  assert.ok((await value('elastic_local_pool_allocated_bytes{node="node-1"}')) >= 512 << 20)
  assert.ok((await value('elastic_local_command_duration_seconds_count{node="guest-1",command="lvcreate"}')) > 0)
  assert.ok((await value('elastic_local_operation_duration_seconds_count{operation="place",result="success"}')) >= 2)
})

test('the log has one JSON object a line, and all that happened to a claim is found by it', async () => {
  const lines = async (log: string) =>
    (await readFile(log, 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
  const volume = await volumeOf('here')
  const about = (await lines(node.daemon.log)).filter((line) => line.claim === 'default/here')
  for (const line of about) assert.equal([line.volume, line.node], [volume, 'node-1'])
  const messages = about.map(({ message }) => String(message))
  assert.ok(messages.some((message) => message.startsWith(`Created volume ${volume} of `)))
  const mounted = about.find(({ message }) => /^\/mount \S+: done$/.test(message))
  const { uid } = (await cluster.api.request('GET', podPath('here'))).metadata
  assert.equal([mounted.pod, typeof mounted.tookMs], [uid, 'number'])
  const placed = (await lines(join(cluster.folder, 'logs/provisioner-1.log'))).find((line) => line.volume === volume)
  assert.equal([placed.claim, placed.node], ['default/here', 'node-1'])
})

test('the level of the log can be changed while a daemon runs', async () => {
  const level = async (...args: string[]) =>
    (await run(executable, ['log-level', ...args, `--socket=${node.socket}`])).stdout
  assert.is(await level(), 'info\n')
  assert.is(await level('debug'), 'debug\n')
  const body = { targetDir: '/nowhere' }
  await request({ socketPath: node.socket, method: 'POST', path: '/unmount', body })
  assert.match(await readFile(node.daemon.log, 'utf8'), /"level":"debug","message":"callout unmount: invalid",/)
  assert.is(await level('info'), 'info\n')
})

test('LVM hangs on a node: scrapes go on, with what was seen before, and say so', async () => {
  await guest.run('pkill', ['-STOP', '-x', 'lvm'])
  const hanging = async () => {
    const { text } = await ask(urls.guest, '/metrics')
    assert.match(text, /^elastic_local_pool_size_bytes\{.*node="guest-1"\} [1-9]/m)
    const [, seconds] = /^elastic_local_queue_longest_running_seconds\{queue="lvm",.*\} (\S+)$/m.exec(text) ?? []
    return Number(seconds) > 3
  }
  await poll(hanging, 60_000)
  // Prometheus sees it, too: its scrapes of that time are answered.
  const seen = 'elastic_local_queue_longest_running_seconds{queue="lvm",instance="198.51.100.2:9810"} > 3'
  await poll(async () => (await prometheus.query(seen)).length > 0, 60_000)
})

test('a daemon that starts while the API server is away is alive, and not ready until that is back', async () => {
  const api = cluster.component('kube-apiserver')
  await api.kill()
  await node.daemon.kill()
  await node.daemon.start()
  assert.equal(await reasons(urls.daemon, '/healthz'), [])
  const [reason = ''] = await reasons(urls.daemon, '/readyz')
  assert.match(reason, /^not listed yet: \/api\/v1\/persistentvolumes, /)
  const probe = await run(executable, ['readyz', `--socket=${node.socket}`], { accept: [1] })
  assert.equal([probe.exitCode, JSON.parse(probe.stdout).reasons], [1, [reason]])
  // One that was ready stays so.
  assert.equal(await reasons(urls.other, '/readyz'), [])
  await api.start()
  await poll(async () => (await reasons(urls.daemon, '/readyz')).length === 0, 60_000)
})

test('a daemon whose socket is gone is not alive, as only a new start brings it back', async () => {
  await rename(node.socket, `${node.socket}.away`)
  const [reason] = await reasons(urls.daemon, '/healthz')
  assert.is(reason, `its socket ${node.socket} was removed or replaced`)
  await rename(`${node.socket}.away`, node.socket)
  assert.equal(await reasons(urls.daemon, '/healthz'), [])
  assert.is((await request({ socketPath: node.socket, method: 'GET', path: '/readyz' })).statusCode, 200)
})

test('LVM has been hanging for a minute: the daemon is alive and not ready, until it goes on', async () => {
  await poll(async () => (await reasons(urls.guest, '/readyz')).length > 0, 90_000)
  const [reason = ''] = await reasons(urls.guest, '/readyz')
  assert.match(reason, /^an LVM command has been running for \d+ s and \d+ wait behind it$/)
  assert.equal(await reasons(urls.guest, '/healthz'), [])
  await guest.run('pkill', ['-CONT', '-x', 'lvm'])
  await poll(async () => (await reasons(urls.guest, '/readyz')).length === 0, 60_000)
})

test.run()
