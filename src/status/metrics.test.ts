import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { buildStatusApp } from './app.ts'
import { buildMetrics, type DaemonSource, type ProvisionerSource } from './metrics.ts'
import type { PoolFigures } from './pool-figures.ts'

const test = suite('metrics')
const build = { version: '1.2.3', commit: 'abc' }
const gibibyte = 1n << 30n

const figures: PoolFigures = {
  seenAt: new Date(5000),
  report: {
    name: 'vg/thin',
    driverKind: 'LVM',
    sizeBytes: 4n * gibibyte,
    allocatedBytes: gibibyte,
    freeBytes: 2n * gibibyte,
    volumes: 2,
    unitBytes: 4n << 20n,
    enforcesSize: true,
    thin: { dataPercent: 25, metadataPercent: 5, overcommitRatio: 1 },
    problems: ['it is not well'],
  },
  volumes: [
    {
      name: 'pvc-1',
      sizeBytes: gibibyte,
      state: 'stuck',
      front: 'csi',
      failure: { operation: 'unmount', at: new Date(7000) },
      usage: { sizeBytes: 1000n, usedBytes: 100n, freeBytes: 900n, inodes: 1n, inodesUsed: 1n },
      problems: 0,
    },
    { name: 'pvc-2', sizeBytes: 1n, state: 'lost', front: '', problems: 1 },
  ],
}

const daemon: DaemonSource = {
  component: 'daemon',
  node: 'node-1',
  figures: async () => figures,
  promisedBytes: () => 3n * gibibyte,
  claimOf: (volume) => (volume === 'pvc-1' ? { namespace: 'default', name: 'data' } : undefined),
}
const pending = { claims: 0, oldest: 0 }
const provisioner: ProvisionerSource = {
  component: 'provisioner',
  isLeader: () => true,
  pending: () => ({ scheduling: pending, placing: { claims: 2, oldest: 40 }, binding: pending, making: pending }),
  stranded: () => 3,
  now: () => new Date(100_000),
}

/** A clock that goes on when a test looks again. */
const later = { ms: 0, now: () => later.ms }

const open = (source: DaemonSource | ProvisionerSource, isReady = async () => true, clock = later) =>
  buildMetrics({
    build,
    backlogs: new Set([{ name: 'lvm', waiting: 3, running: 1, longestMs: 1500 }]),
    isReady,
    source,
    clock,
  })

/** The samples of a metric, without its comments. */
async function samples(metrics: ReturnType<typeof open>, name: string): Promise<string[]> {
  later.ms += 10_000
  const lines = (await metrics.render()).split('\n')
  return lines.filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
}

test('a daemon tells of its pool and its volumes, each with its claim, and of no volume that is gone', async () => {
  let seen: PoolFigures | undefined = figures
  const metrics = open({ ...daemon, figures: async () => seen })
  const of = (name: string) => samples(metrics, `elastic_local_${name}`)
  const pool = 'pool="vg/thin",kind="LVM",node="node-1"'
  assert.equal(await of('pool_size_bytes'), [`elastic_local_pool_size_bytes{${pool}} 4294967296`])
  assert.equal(await of('pool_allocated_bytes'), [`elastic_local_pool_allocated_bytes{${pool}} 3221225472`])
  assert.equal(await of('pool_data_written_ratio'), [`elastic_local_pool_data_written_ratio{${pool}} 0.25`])
  assert.equal(await of('pool_seen_timestamp_seconds'), [`elastic_local_pool_seen_timestamp_seconds{${pool}} 5`])
  const [first, second] = [
    'volume="pvc-1",claim_namespace="default",claim="data"',
    'volume="pvc-2",claim_namespace="",claim=""',
  ]
  assert.equal(await of('volume_problems'), [
    `elastic_local_volume_problems{${first},node="node-1"} 0`,
    `elastic_local_volume_problems{${second},node="node-1"} 1`,
  ])
  assert.equal(await of('lost_volumes'), ['elastic_local_lost_volumes{node="node-1"} 1'])
  assert.equal(await of('volumes'), [
    'elastic_local_volumes{state="stuck",front="csi",node="node-1"} 1',
    'elastic_local_volumes{state="lost",front="",node="node-1"} 1',
  ])
  assert.equal(await of('volume_failure_timestamp_seconds'), [
    `elastic_local_volume_failure_timestamp_seconds{${first},operation="unmount",node="node-1"} 7`,
  ])
  // Nobody knows how full a volume is that is not mounted.
  assert.equal(await of('volume_filesystem_used_bytes'), [
    `elastic_local_volume_filesystem_used_bytes{${first},node="node-1"} 100`,
  ])
  seen = { ...figures, volumes: figures.volumes.slice(0, 1) }
  assert.is((await of('volume_size_bytes')).length, 1)
  seen = undefined
  assert.equal([await of('volume_size_bytes'), await of('pool_size_bytes')], [[], []])
})

test('a provisioner tells of pending claims while it leads', async () => {
  let leads = false
  const metrics = open({ ...provisioner, isLeader: () => leads })
  const of = (name: string) => samples(metrics, `elastic_local_${name}`)
  assert.equal(await of('leader'), ['elastic_local_leader 0'])
  assert.equal([await of('pending_claims'), await of('stranded_volumes')], [[], ['elastic_local_stranded_volumes 0']])
  leads = true
  assert.equal(await of('leader'), ['elastic_local_leader 1'])
  assert.equal(await of('stranded_volumes'), ['elastic_local_stranded_volumes 3'])
  assert.ok((await of('pending_claims')).includes('elastic_local_pending_claims{stage="placing"} 2'))
  const ages = await of('oldest_pending_claim_age_seconds')
  assert.ok(ages.includes('elastic_local_oldest_pending_claim_age_seconds{stage="placing"} 60'))
  assert.ok(ages.includes('elastic_local_oldest_pending_claim_age_seconds{stage="binding"} 0'))
})

test('what is done is counted by kind and result, and what waits is told of', async () => {
  const metrics = open(daemon, async () => false)
  metrics.observe.operation({ what: 'mount', about: 'pvc-1', tookMs: 20, result: 'success' })
  metrics.observe.operation({ what: 'mount', about: 'pvc-2', tookMs: 20_000, result: 'busy' })
  metrics.observe.command({ what: 'lvcreate', tookMs: 300, result: 'success' })
  const count = await samples(metrics, 'elastic_local_operation_duration_seconds_count')
  assert.equal(count, [
    'elastic_local_operation_duration_seconds_count{node="node-1",operation="mount",result="success"} 1',
    'elastic_local_operation_duration_seconds_count{node="node-1",operation="mount",result="busy"} 1',
  ])
  later.ms += 10_000
  const text = await metrics.render()
  assert.match(
    text,
    /command_duration_seconds_bucket\{le="0.5",node="node-1",command="lvcreate",result="success"\} 1\n/,
  )
  assert.match(text, /elastic_local_queue_waiting\{queue="lvm",node="node-1"\} 3\n/)
  assert.match(text, /elastic_local_queue_longest_running_seconds\{queue="lvm",node="node-1"\} 1.5\n/)
  assert.match(text, /elastic_local_ready\{component="daemon",node="node-1"\} 0\n/)
  assert.match(text, /elastic_local_build_info\{component="daemon",version="1.2.3",commit="abc",node="node-1"\} 1\n/)
})

test('however many ask, metrics are made once in some seconds, and claims are counted once for it', async () => {
  const clock = { ms: 0, now: () => clock.ms }
  let counts = 0
  const counting: ProvisionerSource = {
    ...provisioner,
    pending: () => {
      counts += 1
      return provisioner.pending()
    },
  }
  const metrics = open(counting, async () => true, clock)
  await Promise.all(Array.from({ length: 100 }, () => metrics.render()))
  await metrics.render()
  assert.is(counts, 1)
  clock.ms += 10_000
  await Promise.all(Array.from({ length: 100 }, () => metrics.render()))
  assert.is(counts, 2)
})

test('the listener serves metrics in the text format, health, and nothing that changes anything', async () => {
  const app = buildStatusApp({ metrics: open(daemon), health: { alive: [], ready: [] }, version: '1' })
  const answer = await app.request('/metrics')
  assert.is(answer.status, 200)
  assert.match(answer.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/)
  assert.match(await answer.text(), /^process_open_fds\{node="node-1"\} \d+$/m)
  assert.is((await app.request('/readyz')).status, 200)
  for (const path of ['/v1/volumes', '/v1/log-level', '/mount', '/metrics'])
    assert.is((await app.request(path, { method: 'POST', body: '{}' })).status, 404, path)
})

test('docs/metrics.md has every metric of both components, as the code has it, and no other', async () => {
  const rows = new Map<string, string>()
  for (const source of [daemon, provisioner]) {
    const metrics = open(source)
    const state = await metrics.registry.getMetricsAsJSON()
    for (const { name, help, type } of state) {
      const { labelNames } = metrics.registry.getSingleMetric(name) as unknown as { labelNames: string[] }
      const labels = labelNames.map((label) => `\`${label}\``).join(', ')
      const of = rows.has(name) ? 'both' : source.component
      rows.set(name, `| \`${name}\` | ${type} | ${of} | ${labels} | ${help} |`)
    }
  }
  const docs = await readFile(join(import.meta.dirname, '../../docs/metrics.md'), 'utf8')
  const found = docs.split('\n').filter((line) => /^\| `(elastic_local|process|nodejs)_/.test(line))
  assert.equal(found.sort(), [...rows.values()].sort())
})

test.run()
