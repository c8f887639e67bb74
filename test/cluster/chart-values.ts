/** The chart's values, each changed from what it is by default, and what that has to change among the objects. */
import type { Flag, Flags, JsonSchema } from '../../src/cmd/flags.ts'

export type Values = Readonly<Record<string, unknown>>

/** All that is off by default is on, and of what there may be several there is one. */
export const everything: Values = {
  storageClasses: [{ name: 'elastic-local' }],
  daemon: { groups: [{ name: 'fast', nodeSelector: { disks: 'nvme' } }] },
  ...Object.fromEntries(
    ['page', 'viewer', 'podMonitor', 'prometheusRule', 'dashboard', 'networkPolicy', 'resourceQuota', 'openshift'].map(
      (name) => [name, { enabled: true }],
    ),
  ),
}

export interface Change {
  to: unknown
  /** The objects that it changes, makes or takes away, by kind and name: no others. */
  of: readonly string[]
  /** What each of those that are there then holds, and none held before; by default the value itself. */
  shows?: string
  /** What none of them holds any more. */
  hides?: string
}

const rest = 'DaemonSet elastic-local-daemon'
const fast = 'DaemonSet elastic-local-daemon-fast'
const provisioner = 'Deployment elastic-local-provisioner'
const testPod = 'Pod elastic-local-test-elastic-local'
const storageClass = 'StorageClass elastic-local'
const dashboard = 'ConfigMap elastic-local-dashboard'
const all = [rest, fast, provisioner, testPod]

const affinity = {
  podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: 'zone', labelSelector: {} }] },
}
const pods: Readonly<Record<string, Omit<Change, 'of'>>> = {
  affinity: { to: affinity, shows: '"topologyKey":"zone"' },
  tolerations: { to: [{ key: 'disks', operator: 'Exists' }] },
  priorityClassName: { to: 'high' },
  resources: { to: { limits: { memory: '1Gi' } }, shows: '"memory":"1Gi"' },
  podLabels: { to: { team: 'storage' }, shows: '"team":"storage"' },
  podAnnotations: { to: { note: 'ours' } },
  env: { to: [{ name: 'HTTPS_PROXY', value: 'http://proxy' }], shows: '{"name":"HTTPS_PROXY","value":"http://proxy"}' },
}
const daemon: typeof pods = {
  ...pods,
  updateStrategy: { to: { type: 'OnDelete' }, shows: '"updateStrategy":{"type":"OnDelete"}' },
  pluginDir: { to: '/plugins-of-the-node' },
  attach: { to: true, shows: '"--attach"' },
  hostIPC: { to: false, hides: '"hostIPC":true' },
}

const under = (prefix: string, changes: typeof pods, of: (name: string) => readonly string[]) =>
  Object.fromEntries(
    Object.entries(changes).map(([name, change]) => [`${prefix}.${name}`, { ...change, of: of(name) }]),
  )

/** By their paths; `[]` is the one entry of a list. */
export const changes: Readonly<Record<string, Change>> = {
  'image.repository': { to: 'registry.example.com/local', of: all, shows: '"registry.example.com/local:0.2.0"' },
  'image.tag': { to: '9.9.9', of: all, shows: '"elastic-local:9.9.9"' },
  'image.digest': { to: `sha256:${'a'.repeat(64)}`, of: all, shows: `"elastic-local@sha256:${'a'.repeat(64)}"` },
  'image.pullPolicy': { to: 'Always', of: all, shows: '"imagePullPolicy":"Always"' },
  imagePullSecrets: { to: [{ name: 'registry' }], of: all, shows: '"imagePullSecrets":[{"name":"registry"}]' },

  'storageClasses[].name': {
    to: 'other',
    of: [storageClass, testPod, 'StorageClass other', 'Pod elastic-local-test-other'],
  },
  'storageClasses[].annotations': { to: { note: 'ours' }, of: [storageClass] },
  'storageClasses[].labels': { to: { team: 'storage' }, of: [storageClass] },
  'storageClasses[].default': {
    to: true,
    of: [storageClass],
    shows: '"annotations":{"storageclass.kubernetes.io/is-default-class":"true"}',
  },
  'storageClasses[].parameters': { to: { fsType: 'xfs' }, of: [storageClass] },
  'storageClasses[].mountOptions': { to: ['noatime'], of: [storageClass] },
  'storageClasses[].reclaimPolicy': { to: 'Retain', of: [storageClass, testPod] },
  'storageClasses[].volumeBindingMode': { to: 'Immediate', of: [storageClass] },
  'storageClasses[].allowVolumeExpansion': {
    to: false,
    of: [storageClass],
    shows: '"allowVolumeExpansion":false',
  },
  'storageClasses[].allowedTopologies': {
    to: [{ matchLabelExpressions: [{ key: 'zone', values: ['a'] }] }],
    of: [storageClass],
  },

  'daemon.enabled': { to: false, of: [rest] },
  'daemon.nodeSelector': { to: { disks: 'local' }, of: [rest], shows: '"disks":"local"' },
  ...under('daemon', daemon, (name) => [rest, fast, ...(name === 'tolerations' ? [testPod] : [])]),
  'daemon.groups[].name': { to: 'slow', of: [fast, 'DaemonSet elastic-local-daemon-slow'], shows: '-slow"' },
  'daemon.groups[].nodeSelector': { to: { disks: 'hdd' }, of: [rest, fast], shows: '"hdd"' },
  ...under('daemon.groups[]', daemon, () => [fast]),

  'provisioner.replicas': {
    to: 1,
    of: [provisioner, 'PodDisruptionBudget elastic-local-provisioner'],
    shows: '"replicas":1',
  },
  'provisioner.nodeSelector': { to: { role: 'control' }, of: [provisioner], shows: '"role":"control"' },
  'provisioner.updateStrategy': { to: { type: 'Recreate' }, of: [provisioner] },
  ...under('provisioner', pods, () => [provisioner]),

  'page.enabled': {
    to: false,
    of: [provisioner, 'ClusterRole elastic-local-page', 'ClusterRoleBinding elastic-local-page'],
    hides: 'ELASTIC_LOCAL_PAGE',
  },
  'viewer.enabled': { to: false, of: ['ClusterRole elastic-local-viewer', 'Role elastic-local-viewer'] },
  'podMonitor.enabled': { to: false, of: ['PodMonitor elastic-local'] },
  'podMonitor.interval': { to: '15s', of: ['PodMonitor elastic-local'] },
  'podMonitor.metricRelabelings': {
    to: [{ action: 'drop', regex: 'elastic_local_volume_.*', sourceLabels: ['__name__'] }],
    of: ['PodMonitor elastic-local'],
  },
  'podMonitor.labels': { to: { release: 'ours' }, of: ['PodMonitor elastic-local'] },
  'prometheusRule.enabled': { to: false, of: ['PrometheusRule elastic-local'] },
  'prometheusRule.labels': { to: { release: 'ours' }, of: ['PrometheusRule elastic-local'] },
  'dashboard.enabled': { to: false, of: [dashboard] },
  'dashboard.labels': { to: { grafana: 'ours' }, of: [dashboard], shows: '"grafana":"ours"' },
  'dashboard.annotations': { to: { grafana_folder: 'Storage' }, of: [dashboard] },
  'networkPolicy.enabled': { to: false, of: ['NetworkPolicy elastic-local'] },
  'networkPolicy.from': { to: [{ ipBlock: { cidr: '192.0.2.0/24' } }], of: ['NetworkPolicy elastic-local'] },
  'resourceQuota.enabled': { to: false, of: ['ResourceQuota elastic-local-critical'] },
  'openshift.enabled': {
    to: false,
    of: ['SecurityContextConstraints elastic-local-daemon', 'RoleBinding elastic-local-provisioner-nonroot'],
  },
}

/** A value for each flag that is not its default. */
export function settingsSamples(flags: Flags): Record<string, unknown> {
  return Object.fromEntries(Object.entries(flags).map(([name, flag]) => [name, sampleOf(name, flag)]))
}

function sampleOf(name: string, { schema, values, default: standard }: Flag): unknown {
  if (name === 'httpAddress') return ':1234'
  if (values) return values.find((value) => value !== standard)
  if (schema?.type === 'boolean') return true
  if (schema?.type === 'number') return 2.5
  if (schema?.type === 'integer') return schema.maximum
  // A duration.
  if (schema?.oneOf) return '1h17m'
  return name === 'socket' || schema?.pattern === '^/' ? `/of/${name}` : `of-${name}`
}

/** The paths of all values that a schema knows; what it does not look into is one. */
export function leavesOf(schema: JsonSchema, path = ''): string[] {
  const items = schema.items as JsonSchema | undefined
  if (items?.properties && items.additionalProperties === false && path !== 'imagePullSecrets')
    return leavesOf(items, `${path}[]`)
  if (!schema.properties || (path !== '' && !isLookedInto(path))) return [path]
  const entries = Object.entries(schema.properties as Record<string, JsonSchema>)
  return entries.flatMap(([name, value]) => leavesOf(value, path === '' ? name : `${path}.${name}`))
}

/** What Kubernetes has as a whole is one value. */
const isLookedInto = (path: string) => !/\.(affinity|resources|updateStrategy|parameters|settings)$/.test(path)

/** Values with another one at that path; `[]` is the one entry of a list. */
export function withValue(values: Values, path: string, value: unknown): Values {
  const copy = structuredClone(values)
  const names = path.replaceAll('[]', '.0').split('.')
  const last = names.pop() ?? ''
  const place = names.reduce<Record<string, unknown>>((outer, name) => {
    outer[name] ??= {}
    return outer[name] as Record<string, unknown>
  }, copy)
  place[last] = value
  return copy
}
