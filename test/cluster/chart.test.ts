import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { settings } from '../../src/cmd/docs/chart.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { ensureHelm } from './build.ts'
import { changes, everything, settingsSamples, type Values, withValue } from './chart-values.ts'
import { type Cluster, withCluster } from './cluster.ts'
import { withContainerNode } from './containers.ts'
import { ensureImage } from './image.ts'
import { enterOwnNetwork, ownAddress } from './network.ts'
import { runWithInput } from './program.ts'

await enterOwnNetwork()

const helm = await ensureHelm()
const chart = join(import.meta.dirname, '../../charts/elastic-local')
const test = suite('the chart on a real API server')
const ours = ['--namespace=elastic-local']

/** Runs Helm on the release, with values. */
const helmOn = (cluster: Cluster, folder: string) => (command: string, words: readonly string[], values: Values) =>
  runWithInput(helm, [command, 'elastic-local', ...words, ...ours, `--kubeconfig=${cluster.adminKubeconfig}`], {
    env: { HOME: folder },
    input: JSON.stringify(values),
  })

/** What OpenShift's own definition wants to be there (openshift/api, security/v1). */
const requiredOfConstraints = [
  ...['allowHostDirVolumePlugin', 'allowHostIPC', 'allowHostNetwork', 'allowHostPID', 'allowHostPorts'],
  ...['allowPrivilegedContainer', 'allowedCapabilities', 'defaultAddCapabilities', 'priority'],
  ...['readOnlyRootFilesystem', 'requiredDropCapabilities', 'volumes'],
]

/** Definitions of kinds that others bring: which there are, and little more. */
const definitions = (
  [
    ['monitoring.coreos.com', 'PodMonitor', 'podmonitors', 'Namespaced', ['spec']],
    ['monitoring.coreos.com', 'PrometheusRule', 'prometheusrules', 'Namespaced', ['spec']],
    [
      'security.openshift.io',
      'SecurityContextConstraints',
      'securitycontextconstraints',
      'Cluster',
      requiredOfConstraints,
    ],
  ] as const
).map(([group, kind, plural, scope, required]) => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: {
    name: `${plural}.${group}`,
    // Which the API server asks for where the group is one of Kubernetes' own.
    annotations: { 'api-approved.kubernetes.io': 'unapproved' },
  },
  spec: {
    group,
    scope,
    names: { kind, plural, singular: kind.toLowerCase() },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: 'object', required, 'x-kubernetes-preserve-unknown-fields': true } },
      },
    ],
  },
}))

/** Every value is another than by default. */
const allChanged = Object.entries(changes)
  .filter(([, { to }]) => to !== false)
  .map(([path, { to }]) => [path, to] as const)
  .concat(
    [['daemon.settings', settingsSamples(settings.daemon)]],
    [['provisioner.settings', settingsSamples(settings.provisioner)]],
  )
  .reduce((values, [path, value]) => withValue(values, path, value), everything)

/** Those of other kinds only where there are such. */
async function listOurs(cluster: Cluster, kinds: readonly string[] = []): Promise<string[]> {
  const workloads = 'daemonsets,deployments,serviceaccounts,roles,rolebindings,poddisruptionbudgets,networkpolicies'
  const more = 'resourcequotas,clusterroles,clusterrolebindings,storageclasses,csidrivers,validatingadmissionpolicies'
  const args = ['get', '--all-namespaces', '--output=name', [workloads, more, ...kinds].join()]
  const { stdout } = await cluster.kubectl(args)
  return stdout.split('\n').filter((name) => name.includes('elastic-local'))
}

test(
  'it takes every value that is changed, an upgrade to the defaults, and nothing stays when it is uninstalled',
  withCluster({ address: ownAddress }, async (cluster, folder) => {
    await cluster.apply(...definitions)
    await cluster.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=60s'])
    const call = helmOn(cluster, folder)
    const others = definitions.map(({ spec }) => String(spec.names.plural))
    await call('install', [chart, '--create-namespace', '--values=-'], allChanged)
    const changed = await listOurs(cluster, others)
    for (const kind of ['podmonitor', 'prometheusrule', 'networkpolicy', 'resourcequota', 'securitycontextconstraints'])
      assert.ok(
        changed.some((name) => name.startsWith(kind)),
        `${kind} among ${changed}`,
      )
    const daemons = changed.filter((name) => name.startsWith('daemonset'))
    assert.equal(daemons, ['daemonset.apps/elastic-local-daemon', 'daemonset.apps/elastic-local-daemon-slow'])
    const { items } = await cluster.api.request('GET', '/apis/apps/v1/namespaces/elastic-local/daemonsets')
    for (const { spec } of items) {
      const [{ env }] = spec.template.spec.containers
      const values = Object.fromEntries(env.map(({ name, value }: KubeObject) => [name, value]))
      for (const [name, value] of Object.entries(settingsSamples(settings.daemon)))
        assert.is(values[settings.daemon[name]?.env[0] ?? ''], String(value), name)
    }

    await call('upgrade', [chart, '--reset-values'], {})
    assert.ok((await listOurs(cluster, others)).includes('storageclass.storage.k8s.io/elastic-local'))
    assert.equal(
      (await listOurs(cluster, others)).filter((name) => /daemon-slow|monitor|quota|networkpolicy/.test(name)),
      [],
    )
    await call('uninstall', [], {})
    assert.equal(await listOurs(cluster, others), [])
  }),
)

test(
  'helm test has a volume of each class made, mounted, written to and removed, by the daemon of the group that the node is in',
  withCluster({ address: ownAddress }, async (cluster, folder) => {
    const image = await ensureImage()
    await withContainerNode(cluster, { name: 'node-1', images: [image], labels: { disks: 'none' } }, async (node) => {
      const call = helmOn(cluster, folder)
      const env = Object.entries(node.overlay(image).env ?? {}).map(([name, value]) => ({ name, value }))
      const values = {
        image: { pullPolicy: 'Never' },
        storageClasses: [
          { name: 'elastic-local', default: true },
          { name: 'elastic-local-xfs', parameters: { fsType: 'xfs' } },
          { name: 'elastic-local-kept', reclaimPolicy: 'Retain' },
        ],
        daemon: {
          env,
          groups: [{ name: 'images', nodeSelector: { disks: 'none' }, settings: { driverKind: 'LOOP' } }],
        },
        provisioner: { env, replicas: 1 },
        networkPolicy: { enabled: true },
        resourceQuota: { enabled: true },
      }
      await call('install', [chart, '--create-namespace', '--wait', '--timeout=5m', '--values=-'], values)
      const { items } = await cluster.api.request('GET', '/api/v1/namespaces/elastic-local/pods')
      const groups = items.flatMap(
        ({ metadata }: KubeObject) => metadata.labels?.['volumes.k8s.elastic.co/group'] ?? [],
      )
      assert.equal(groups, ['images'])
      const { stdout } = await call('test', ['--timeout=5m'], {})
      assert.equal(stdout.match(/elastic-local-test-\S+|Succeeded/g), [
        ...['elastic-local-test-elastic-local', 'Succeeded', 'elastic-local-test-elastic-local-xfs', 'Succeeded'],
      ])
      await cluster.waitFor('/api/v1/persistentvolumes', (list) => list?.items.length === 0, 60_000)
      await call('uninstall', ['--wait'], {})
      assert.equal(await listOurs(cluster), [])
    })
  }),
)

test.run()
