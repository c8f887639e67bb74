import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Cluster, withCluster } from './cluster.ts'
import { namespace, readObjects } from './elastic.ts'
import { poll } from './program.ts'

const test = suite('rights of the accounts')
const label = 'volumes.k8s.elastic.co/node-affinity'

const node = (name: string) => ({ apiVersion: 'v1', kind: 'Node', metadata: { name } })
const volume = (name: string, on: string) => ({
  apiVersion: 'v1',
  kind: 'PersistentVolume',
  metadata: { name, labels: { [label]: on }, finalizers: ['volumes.k8s.elastic.co/elastic-local'] },
  spec: {
    capacity: { storage: '1Gi' },
    accessModes: ['ReadWriteOnce'],
    flexVolume: { driver: 'volumes.k8s.elastic.co/elastic-local', options: { sizeBytes: '1' } },
  },
})
const ledger = (on: string, name = `ledger-${on}`) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace, labels: { [label]: on, 'volumes.k8s.elastic.co/ledger': 'true' } },
})
const event = (host: string) => ({
  apiVersion: 'v1',
  kind: 'Event',
  metadata: { name: `event-${host}`, namespace: 'default' },
  involvedObject: { apiVersion: 'v1', kind: 'PersistentVolume', name: 'own' },
  source: { component: 'elastic-local-daemon', host },
})

/** kubectl with somebody's kubeconfig: what it said, and whether it was let. */
function as(cluster: Cluster, kubeconfig: string) {
  return async (args: readonly string[], input?: object): Promise<string> => {
    const options = { accept: [0, 1], ...(input ? { input: JSON.stringify(input) } : {}) }
    const { exitCode, stderr } = await cluster.kubectl([`--kubeconfig=${kubeconfig}`, ...args], options)
    return exitCode === 0 ? 'done' : stderr
  }
}
const create = ['create', '--filename=-']
const patch = (what: string, change: object) => [
  'patch',
  ...what.split(' '),
  '--type=merge',
  '--patch',
  JSON.stringify(change),
]
/** The API server reads a policy a while after it was written, and nothing tells when: its first refusal is awaited. */
const refusal = (work: () => Promise<string>, message: RegExp) =>
  poll(async () => message.test(await work()), 120_000, new AbortController().signal)
const refused = (said: string) => assert.match(said, /forbidden|Forbidden/)

test(
  "a daemon's token changes objects of its own node and nothing else",
  withCluster({}, async (cluster) => {
    await cluster.apply(...(await readObjects()))
    await cluster.apply(node('here'), node('there'), volume('own', 'here'), volume('other', 'there'), ledger('there'))
    const kubeconfig = await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon', 'here')
    const daemon = as(cluster, kubeconfig)
    const unlabel = { metadata: { labels: { [label]: 'here' } } }
    await refusal(() => daemon(patch('pv other', { metadata: { annotations: { a: 'b' } } })), /own node/)
    const refusedByPolicy: [readonly string[], object | undefined, RegExp][] = [
      [patch('pv other', { metadata: { finalizers: [] } }), undefined, /only objects of its own node/],
      [patch('pv other', unlabel), undefined, /only objects of its own node/],
      [patch('pv own', { metadata: { labels: { [label]: 'there' } } }), undefined, /only objects of its own node/],
      [
        patch('pv own', { spec: { persistentVolumeReclaimPolicy: 'Delete' } }),
        undefined,
        /only let a PersistentVolume go/,
      ],
      [create, ledger('there', 'ledger-new'), /only objects of its own node/],
      [create, ledger('here', 'ledger-there-2'), /only the ledger of its own node/],
      [
        patch(`configmap ledger-there --namespace=${namespace}`, { data: { a: 'b' } }),
        undefined,
        /only objects of its own node/,
      ],
      [create, event('there'), /in the name of its own node/],
    ]
    for (const [args, input, message] of refusedByPolicy) assert.match(await daemon(args, input), message)
    for (const verb of [
      'delete pv own',
      'get secrets --all-namespaces',
      'get pods --all-namespaces',
      'delete node there',
      'get pvc',
      'get leases',
    ])
      refused(await daemon(verb.split(' ')))
    refused(await daemon(create, { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a' }, spec: { containers: [] } }))
    assert.is(await daemon(create, ledger('here')), 'done')
    assert.is(await daemon(create, event('here')), 'done')
    assert.is(await daemon(patch('pv own', { metadata: { finalizers: [] } })), 'done')
    const unbound = as(cluster, await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon'))
    assert.match(
      await unbound(patch(`configmap ledger-here --namespace=${namespace}`, { data: { a: 'b' } })),
      /must be bound to a pod or a node/,
    )
  }),
)

test(
  "the provisioner's account reads no secrets, starts no pods, and changes no ConfigMap but ledgers",
  withCluster({}, async (cluster) => {
    await cluster.apply(...(await readObjects()))
    const provisioner = as(cluster, await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-provisioner'))
    for (const verb of [
      'get secrets --all-namespaces',
      'get pods --all-namespaces',
      'get configmaps --namespace=kube-system',
    ])
      refused(await provisioner(verb.split(' ')))
    refused(await provisioner(create, ledger('here')))
    await cluster.apply(ledger('here'), { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'other', namespace } })
    const change = (name: string) => patch(`configmap ${name} --namespace=${namespace}`, { data: { a: 'b' } })
    const remove = (name: string) => ['delete', 'configmap', name, `--namespace=${namespace}`]
    await refusal(() => provisioner(change('other')), /only the ledgers of nodes/)
    assert.match(await provisioner(remove('other')), /only the ledgers of nodes/)
    for (const args of [change('ledger-here'), remove('ledger-here')]) assert.is(await provisioner(args), 'done')
    assert.is(await provisioner(['get', 'pv,pvc', '--all-namespaces']), 'done')
  }),
)

test.run()
