/** What each alert of config/prometheus-rules.yaml goes by: series, in promtool's notation, of which it tells, or not. */
export interface AlertCase {
  /** Series by name and labels, with values a minute. */
  fires: Readonly<Record<string, string>>
  /** Those of a cluster that is well. */
  quiet: Readonly<Record<string, string>>
  /** When it is to tell, from when on it is so. */
  after: string
}

const callouts = (result: string) =>
  `elastic_local_callout_duration_seconds_count{node="a",callout="mount",result="${result}"}`
const places = (result: string) =>
  `elastic_local_operation_duration_seconds_count{operation="place",result="${result}"}`
const work = (result: string) =>
  `elastic_local_work_duration_seconds_count{node="a",queue="volumes",result="${result}"}`

/** By the name of the alert. */
export const alertCases: Readonly<Record<string, AlertCase>> = {
  ElasticLocalNotReady: {
    fires: { 'elastic_local_ready{component="daemon",node="a"}': '0x10' },
    quiet: { 'elastic_local_ready{component="daemon",node="a"}': '0x4 1x6' },
    after: '6m',
  },
  ElasticLocalDown: {
    fires: { 'up{job="elastic-local/elastic-local",instance="a"}': '0x10' },
    quiet: {
      'up{job="elastic-local/elastic-local",instance="a"}': '0x4 1x6',
      'up{job="another",instance="b"}': '0x10',
    },
    after: '6m',
  },
  ElasticLocalNoLeader: {
    fires: { 'elastic_local_leader{instance="a"}': '0x10', 'elastic_local_leader{instance="b"}': '0x10' },
    quiet: { 'elastic_local_leader{instance="a"}': '0x10', 'elastic_local_leader{instance="b"}': '1x10' },
    after: '3m',
  },
  ElasticLocalClaimPending: {
    fires: { 'elastic_local_oldest_pending_claim_age_seconds{stage="making"}': '0+60x20' },
    quiet: { 'elastic_local_oldest_pending_claim_age_seconds{stage="scheduling"}': '0+60x20' },
    after: '12m',
  },
  ElasticLocalNoRoom: {
    fires: { [places('no-space')]: '0+1x30' },
    quiet: { [places('success')]: '0+1x30', [places('no-space')]: '0 1x30' },
    after: '25m',
  },
  ElasticLocalPoolNearlyFull: {
    fires: {
      'elastic_local_pool_allocated_bytes{node="a",pool="vg"}': '95x30',
      'elastic_local_pool_size_bytes{node="a",pool="vg"}': '100x30',
    },
    quiet: {
      'elastic_local_pool_allocated_bytes{node="a",pool="vg"}': '85x30',
      'elastic_local_pool_size_bytes{node="a",pool="vg"}': '100x30',
    },
    after: '20m',
  },
  ElasticLocalThinPoolFull: {
    fires: { 'elastic_local_pool_data_written_ratio{node="a",pool="vg/thin"}': '0.9x10' },
    quiet: { 'elastic_local_pool_data_written_ratio{node="a",pool="vg/thin"}': '0.8x10' },
    after: '6m',
  },
  ElasticLocalThinPoolMetadataFull: {
    fires: { 'elastic_local_pool_metadata_written_ratio{node="a",pool="vg/thin"}': '0.71x10' },
    quiet: { 'elastic_local_pool_metadata_written_ratio{node="a",pool="vg/thin"}': '0.6x10' },
    after: '6m',
  },
  ElasticLocalPoolProblem: {
    fires: { 'elastic_local_pool_problems{node="a",pool="vg"}': '1x20' },
    quiet: { 'elastic_local_pool_problems{node="a",pool="vg"}': '0x20' },
    after: '11m',
  },
  ElasticLocalPoolNotSeen: {
    fires: { 'elastic_local_pool_seen_timestamp_seconds{node="a",pool="vg"}': '60x20' },
    quiet: { 'elastic_local_pool_seen_timestamp_seconds{node="a",pool="vg"}': '0+60x20' },
    after: '13m',
  },
  ElasticLocalCommandHangs: {
    fires: { 'elastic_local_queue_longest_running_seconds{node="a",queue="lvm"}': '0+60x10' },
    quiet: { 'elastic_local_queue_longest_running_seconds{node="a",queue="volumes"}': '0+60x10' },
    after: '5m',
  },
  ElasticLocalCalloutsFail: {
    fires: { [callouts('busy')]: '0+1x40' },
    quiet: { [callouts('success')]: '0+1x40', [callouts('busy')]: '0 1x40' },
    after: '30m',
  },
  ElasticLocalWorkFails: {
    fires: { [work('failed')]: '0+1x60' },
    quiet: { [work('success')]: '0+1x60', [work('failed')]: '0 1 2 2x57' },
    after: '45m',
  },
  ElasticLocalVolumeNearlyFull: {
    fires: {
      'elastic_local_volume_filesystem_used_bytes{volume="pvc-1"}': '91x20',
      'elastic_local_volume_filesystem_size_bytes{volume="pvc-1"}': '100x20',
    },
    quiet: {
      'elastic_local_volume_filesystem_used_bytes{volume="pvc-1"}': '89x20',
      'elastic_local_volume_filesystem_size_bytes{volume="pvc-1"}': '100x20',
    },
    after: '16m',
  },
  ElasticLocalVolumeProblem: {
    fires: { 'elastic_local_volume_problems{volume="pvc-1"}': '2x20' },
    quiet: { 'elastic_local_volume_problems{volume="pvc-1"}': '2x10 0x10' },
    after: '16m',
  },
  ElasticLocalVolumeLost: {
    fires: { 'elastic_local_lost_volumes{node="a"}': '1x10' },
    quiet: { 'elastic_local_lost_volumes{node="a"}': '0x10' },
    after: '6m',
  },
  ElasticLocalNodeGone: {
    fires: { elastic_local_stranded_volumes: '1x20' },
    quiet: { elastic_local_stranded_volumes: '1x10 0x10' },
    after: '16m',
  },
}

/** The file in which promtool (`promtool test rules`) is told all that. */
export function buildRuleTests(rulesFile: string): object {
  const tests = Object.entries(alertCases).flatMap(([alert, { fires, quiet, after }]) =>
    [fires, quiet].map((series) => ({
      interval: '1m',
      input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
      promql_expr_test: [
        {
          expr: `count(ALERTS{alertname="${alert}",alertstate="firing"})`,
          eval_time: after,
          exp_samples: series === fires ? [{ labels: '{}', value: 1 }] : [],
        },
      ],
    })),
  )
  return { rule_files: [rulesFile], evaluation_interval: '1m', tests }
}
