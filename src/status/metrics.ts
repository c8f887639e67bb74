import Counter from 'prom-client/lib/counter.js'
import Gauge from 'prom-client/lib/gauge.js'
import Histogram from 'prom-client/lib/histogram.js'
import Registry from 'prom-client/lib/registry.js'
import type { Stage } from '../k8s/provisioner/pending.ts'
import type { Backlog, Meter, Observe } from '../meter.ts'
import type { PoolFigures } from './pool-figures.ts'
import { processFigures } from './process.ts'

/** The claim that a volume is for. */
export interface ClaimName {
  namespace: string
  name: string
}

export interface MetricsParts {
  build: { version: string; commit: string }
  backlogs: ReadonlySet<Backlog>
  isReady: () => Promise<boolean>
  source: DaemonSource | ProvisionerSource
  /** Milliseconds, of a clock that nobody sets. */
  clock: { now(): number }
}

/** What a daemon tells; nothing of what is not there yet. */
export interface DaemonSource {
  component: 'daemon'
  node: string
  figures: () => Promise<PoolFigures | undefined>
  /** What the ledger promises to volumes, also to those that are not made yet; nothing without a cluster. */
  promisedBytes: () => bigint | undefined
  claimOf: (volume: string) => ClaimName | undefined
}

/** What a provisioner tells. */
export interface ProvisionerSource {
  component: 'provisioner'
  isLeader: () => boolean
  /** Told by the one that leads only. */
  pending: () => Record<Stage, { claims: number; oldest: number }>
  /** How many volumes have no node any more. */
  stranded: () => number
  now: () => Date
}

/** What is counted, and what it looks like when it is asked for. */
export interface Metrics {
  registry: Registry
  contentType: string
  /**
   * All metrics in Prometheus' text format, as they were some seconds ago at most, however many ask; takes no longer than a
   * look at the pool may, see `PoolView`.
   */
  render(): Promise<string>
  observe: Omit<Meter, 'backlogs'>
}

/** What is younger is given as it is; and at most so much of the time is spent on making it. */
const freshMs = 3000
const mostOfTheTime = 1 / 5

/** In seconds: from a mount to the wiping of a disk. */
const buckets = [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300]

type Labels = Record<string, string | number>
type Row = readonly [labels: Labels, value: number | bigint]

/** The metrics of a component, in a registry of their own. What each means stands in docs/metrics.md. */
export function buildMetrics(parts: MetricsParts): Metrics {
  const { build, backlogs, isReady, source, clock } = parts
  const registry = new Registry()
  const registers = [registry]
  if (source.component === 'daemon') registry.setDefaultLabels({ node: source.node })

  const timed = (subject: string, label: string, help: string): Observe => {
    const name = `elastic_local_${subject}_duration_seconds`
    const histogram = new Histogram({ name, help, labelNames: [label, 'result'], buckets, registers })
    return ({ what, result, tookMs }) => histogram.observe({ [label]: what, result }, tookMs / 1000)
  }
  /** A gauge whose rows are looked up when it is asked for; no row stays that is not there any more. */
  const gauge = (name: string, help: string, labelNames: readonly string[], rows: () => Iterable<Row>) =>
    new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers,
      collect() {
        this.reset()
        for (const [labels, value] of rows()) this.set(labels, Number(value))
      },
    })
  const backlog = (subject: string, help: string, value: (backlog: Backlog) => number) =>
    gauge(`elastic_local_queue_${subject}`, help, ['queue'], function* () {
      for (const one of backlogs) yield [{ queue: one.name }, value(one)]
    })

  let ready = false
  gauge('elastic_local_build_info', 'Always 1; the labels say what runs.', ['component', 'version', 'commit'], () => [
    [{ component: source.component, ...build }, 1],
  ])
  gauge('elastic_local_ready', 'Whether /readyz says yes: 1 or 0.', ['component'], () => [
    [{ component: source.component }, ready ? 1 : 0],
  ])
  const observe = {
    operation: timed('operation', 'operation', 'Duration of operations on volumes and claims, by kind and result.'),
    callout: timed('callout', 'callout', "Duration of the kubelet's call-outs, by kind and result."),
    command: timed(
      'command',
      'command',
      "Duration of programs, and of commands of LVM's shell without the wait for their turn.",
    ),
    request: timed(
      'api_request',
      'method',
      'Duration of requests to the API server, by method and result: its status if it refused.',
    ),
    work: timed('work', 'queue', 'Duration of the work items of a queue; a failed one is retried.'),
  }
  backlog('waiting', 'Work items that wait in a queue.', ({ waiting }) => waiting)
  backlog('running', 'Work items of a queue that run now.', ({ running }) => running)
  backlog(
    'longest_running_seconds',
    'How long the longest-running work item has been running.',
    ({ longestMs }) => longestMs / 1000,
  )
  addProcess(registry)

  let figures: PoolFigures | undefined
  let rendering: Promise<string> | undefined
  let freshUntil = Number.NEGATIVE_INFINITY
  const render = async () => {
    // Both may wait for the same look at the pool.
    const seen = source.component === 'daemon' ? source.figures() : undefined
    ;[ready, figures] = await Promise.all([isReady(), seen])
    const beganAt = clock.now()
    try {
      return await registry.metrics()
    } finally {
      const endedAt = clock.now()
      freshUntil = endedAt + Math.max(freshMs, (endedAt - beganAt) / mostOfTheTime)
    }
  }
  if (source.component === 'daemon') addPool(gauge, source, () => figures)
  else addCluster(gauge, source)
  return {
    registry,
    contentType: registry.contentType,
    observe,
    render: async () => {
      if (clock.now() >= freshUntil) {
        freshUntil = Number.POSITIVE_INFINITY
        rendering = render().catch((error) => {
          freshUntil = Number.NEGATIVE_INFINITY
          throw error
        })
      }
      return await (rendering as Promise<string>)
    },
  }
}

type AddGauge = (name: string, help: string, labelNames: readonly string[], rows: () => Iterable<Row>) => void

function addPool(gauge: AddGauge, source: DaemonSource, latest: () => PoolFigures | undefined): void {
  const pool = (subject: string, help: string, value: (figures: PoolFigures) => number | bigint | undefined) =>
    gauge(`elastic_local_pool_${subject}`, help, ['pool', 'kind'], function* () {
      const figures = latest()
      const found = figures && value(figures)
      if (figures && found !== undefined) yield [{ pool: figures.report.name, kind: figures.report.driverKind }, found]
    })
  pool(
    'size_bytes',
    'The most that can be allocated; of a thin pool, with overcommitment.',
    ({ report }) => report.sizeBytes,
  )
  pool(
    'allocated_bytes',
    'What volumes have of it; in a cluster, also those not created yet.',
    ({ report }) => source.promisedBytes() ?? report.allocatedBytes,
  )
  pool(
    'free_bytes',
    'The largest volume that could be created now; also 0 where nothing new may be created.',
    ({ report }) => report.freeBytes,
  )
  pool('volumes', 'Volumes in the pool.', ({ report }) => report.volumes)
  pool('problems', 'Problems of the pool; "elastic-local pools" lists them.', ({ report }) => report.problems.length)
  pool('data_written_ratio', "Share of a thin pool's data area that is written, from 0 to 1.", ({ report }) =>
    share(report.thin?.dataPercent),
  )
  pool('metadata_written_ratio', "Share of a thin pool's metadata area that is written, from 0 to 1.", ({ report }) =>
    share(report.thin?.metadataPercent),
  )
  pool(
    'seen_timestamp_seconds',
    'When the pool was last read; all of its figures are as of then.',
    ({ seenAt }) => seenAt.getTime() / 1000,
  )

  gauge(
    'elastic_local_lost_volumes',
    'Volumes that were created here and whose data, filesystem or disk is gone.',
    [],
    () => [[{}, latest()?.volumes.filter(({ state }) => state === 'lost').length ?? 0]],
  )
  gauge(
    'elastic_local_volumes',
    'Volumes by state, and by the front that mounts them.',
    ['state', 'front'],
    function* () {
      const groups = Map.groupBy(latest()?.volumes ?? [], ({ state, front }) => `${state} ${front}`)
      for (const [{ state, front } = { state: '', front: '' }, ...others] of groups.values())
        yield [{ state, front }, 1 + others.length]
    },
  )

  const claimLabels = (volume: string) => {
    const { namespace = '', name = '' } = source.claimOf(volume) ?? {}
    return { volume, claim_namespace: namespace, claim: name }
  }
  gauge(
    'elastic_local_volume_failure_timestamp_seconds',
    'When the last failure that is not over happened; "elastic-local volumes show" has the details.',
    ['volume', 'claim_namespace', 'claim', 'operation'],
    function* () {
      for (const { name, failure } of latest()?.volumes ?? [])
        if (failure) yield [{ ...claimLabels(name), operation: failure.operation }, failure.at.getTime() / 1000]
    },
  )

  type Volume = PoolFigures['volumes'][number]
  const volume = (subject: string, help: string, value: (volume: Volume) => number | bigint | undefined) =>
    gauge(`elastic_local_volume_${subject}`, help, ['volume', 'claim_namespace', 'claim'], function* () {
      for (const one of latest()?.volumes ?? []) {
        const found = value(one)
        if (found !== undefined) yield [claimLabels(one.name), found]
      }
    })
  volume('size_bytes', 'Size of the volume: what it has of its pool.', ({ sizeBytes }) => sizeBytes)
  volume('filesystem_size_bytes', 'Size of its filesystem, while it is mounted.', ({ usage }) => usage?.sizeBytes)
  volume('filesystem_used_bytes', 'Used space of its filesystem, while it is mounted.', ({ usage }) => usage?.usedBytes)
  volume('problems', 'Problems of the volume; "elastic-local volumes show" lists them.', ({ problems }) => problems)
}

const share = (percent: number | undefined) => (percent === undefined ? undefined : percent / 100)

function addCluster(gauge: AddGauge, { isLeader, pending, stranded, now }: ProvisionerSource): void {
  gauge('elastic_local_leader', 'Whether this one leads: 1 or 0.', [], () => [[{}, isLeader() ? 1 : 0]])
  // Counted once for both, by the one that comes first.
  let counted: ReturnType<typeof pending> | undefined
  const byStage = (name: string, help: string, value: (pending: { claims: number; oldest: number }) => number) =>
    gauge(name, help, ['stage'], function* () {
      if (!isLeader()) return
      const given = counted ?? pending()
      counted = counted ? undefined : given
      for (const [stage, found] of Object.entries(given)) yield [{ stage }, value(found)]
    })
  byStage('elastic_local_pending_claims', 'Claims that have no usable volume yet, by stage.', ({ claims }) => claims)
  byStage(
    'elastic_local_oldest_pending_claim_age_seconds',
    'How long ago the oldest of them was created.',
    ({ oldest }) => (oldest === 0 ? 0 : Math.max(0, now().getTime() / 1000 - oldest)),
  )
  gauge(
    'elastic_local_stranded_volumes',
    'Volumes whose node is gone (no Node object); 0 unless this provisioner leads.',
    [],
    () => [[{}, isLeader() ? stranded() : 0]],
  )
}

function addProcess(registry: Registry): void {
  const registers = [registry]
  const add = (name: string, help: string, value: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value())
      },
    })
  new Counter({
    name: 'process_cpu_seconds_total',
    help: 'CPU time that this process has used.',
    registers,
    collect() {
      this.reset()
      this.inc(processFigures.cpuSeconds())
    },
  })
  add('process_start_time_seconds', 'When this process started.', processFigures.startSeconds)
  add('process_resident_memory_bytes', 'Resident memory of this process.', processFigures.residentBytes)
  add('process_open_fds', 'Open files of this process.', processFigures.openFiles)
  add('nodejs_heap_size_used_bytes', 'Used memory of the JavaScript heap.', processFigures.heapBytes)
}
