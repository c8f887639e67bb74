import type { V1APIGroupList, V1APIResourceList, V1SelfSubjectAccessReview } from '@kubernetes/client-node'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ApiClient, ApiError, findKubeConfig } from '../../src/k8s/client/api.ts'
import { thrownBy } from '../thrown.ts'
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

const capacity = (on: string) => ({
  apiVersion: 'storage.k8s.io/v1',
  kind: 'CSIStorageCapacity',
  metadata: { name: `capacity-${on}`, namespace, labels: { [label]: on } },
  storageClassName: 'elastic-local',
  capacity: '1Gi',
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
    await cluster.apply(event('there'), capacity('there'))
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
      [patch('event event-there', { message: 'a lie' }), undefined, /in the name of its own node/],
      [create, capacity('elsewhere'), /only objects of its own node/],
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
    assert.is(await daemon(create, capacity('here')), 'done')
    // kubectl would have to get them first, which a daemon may not.
    const api = new ApiClient(findKubeConfig(kubeconfig))
    const capacities = `/apis/storage.k8s.io/v1/namespaces/${namespace}/csistoragecapacities`
    for (const change of [{ method: 'PATCH', body: { capacity: '9Ti' } }, { method: 'DELETE' }] as const) {
      const refusal = await thrownBy(ApiError, () => api.send({ path: `${capacities}/capacity-there`, ...change }))
      assert.match(refusal.message, /only objects of its own node/)
      await api.send({ path: `${capacities}/capacity-here`, ...change })
    }
    assert.is(await daemon(patch('pv own', { metadata: { finalizers: [] } })), 'done')
    const unlabelled = volume('old', 'here')
    await cluster.apply({ ...unlabelled, metadata: { ...unlabelled.metadata, labels: {} } })
    const giveTo = (node: string) => daemon(patch('pv old', { metadata: { labels: { [label]: node } } }))
    assert.match(await giveTo('there'), /only objects of its own node/)
    assert.is(await giveTo('here'), 'done')
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

const verbs = ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete', 'deletecollection']
/** Verbs of some kinds alone that lend somebody else's rights. */
const lendingVerbs = [
  ...['users', 'groups', 'serviceaccounts'].map((resource) => ({ verb: 'impersonate', group: '', resource })),
  ...['roles', 'clusterroles'].flatMap((resource) =>
    ['bind', 'escalate'].map((verb) => ({ verb, group: 'rbac.authorization.k8s.io', resource })),
  ),
  ...['approve', 'sign', 'attest'].map((verb) => ({ verb, group: 'certificates.k8s.io', resource: 'signers' })),
]
const urls = ['/metrics', '/logs', '/configz', '/debug/pprof', '/statusz', '/flagz']
/** All that anybody with a token may do: ask what they may do, and read the certificates that a cluster trusts. */
const anybodyMay = [
  'create selfsubjectaccessreviews.authorization.k8s.io',
  'create selfsubjectrulesreviews.authorization.k8s.io',
  'create selfsubjectreviews.authentication.k8s.io',
  ...['get', 'list', 'watch'].map((verb) => `${verb} clustertrustbundles.certificates.k8s.io`),
]

/** Every verb on every kind that the API server knows, in our namespace and outside: those that a user is let do. */
async function allAllowed(kubeconfig: string): Promise<string[]> {
  const api = new ApiClient(findKubeConfig(kubeconfig))
  const ask = async (spec: object) => {
    const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews'
    const body = { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec }
    return (await api.send<V1SelfSubjectAccessReview>({ method: 'POST', path, body })).status?.allowed === true
  }
  const { groups } = await api.send<V1APIGroupList>({ method: 'GET', path: '/apis' })
  const versions = groups.flatMap(({ versions }) => versions.map(({ groupVersion }) => `/apis/${groupVersion}`))
  const asked = new Map<string, () => Promise<boolean>>()
  const add = (verb: string, group: string, kind: string, places: (string | undefined)[]) => {
    const [resource, subresource = ''] = kind.split('/')
    for (const place of places) {
      const where = place === undefined ? '' : place === '' ? ' anywhere' : ` in ${place}`
      const resourceAttributes = { verb, group, resource, subresource, ...(place ? { namespace: place } : {}) }
      asked.set(`${verb} ${kind}${group ? `.${group}` : ''}${where}`, () => ask({ resourceAttributes }))
    }
  }
  for (const path of ['/api/v1', ...versions]) {
    const { resources } = await api.send<V1APIResourceList>({ method: 'GET', path })
    const group = path.split('/')[3] === undefined ? '' : (path.split('/')[2] ?? '')
    for (const { name, namespaced } of resources)
      for (const verb of verbs) add(verb, group, name, namespaced ? ['', namespace, 'kube-system'] : [undefined])
  }
  for (const { verb, group, resource } of lendingVerbs) add(verb, group, resource, [undefined])
  for (const path of urls) asked.set(`get ${path}`, () => ask({ nonResourceAttributes: { verb: 'get', path } }))
  assert.ok(asked.size > 1500, `${asked.size}`)
  const left = [...asked]
  const allowed: string[] = []
  const work = async () => {
    for (let next = left.shift(); next; next = left.shift()) if (await next[1]()) allowed.push(next[0])
  }
  await Promise.all(Array.from({ length: 8 }, work))
  return allowed.sort()
}

/** What is allowed everywhere, so also in each namespace. */
const everywhere = (verbs: string, kind: string) =>
  verbs
    .split(' ')
    .flatMap((verb) => [' anywhere', ` in ${namespace}`, ' in kube-system'].map((at) => `${verb} ${kind}${at}`))
const of = (verbs: string, kind: string) => verbs.split(' ').map((verb) => `${verb} ${kind}`)
const inOurs = (verbs: string, kind: string) => of(verbs, `${kind} in ${namespace}`)

test(
  'of every verb on every kind, the accounts may do what they need and no more, whoever holds their tokens',
  withCluster({}, async (cluster) => {
    await cluster.apply(...(await readObjects()), node('here'))
    const daemon = await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon', 'here')
    assert.equal(
      await allAllowed(daemon),
      [
        ...anybodyMay,
        ...of('get list watch patch', 'persistentvolumes'),
        ...of('get', 'nodes'),
        ...of('get list watch', 'storageclasses.storage.k8s.io'),
        ...everywhere('get', 'pods'),
        ...everywhere('get create patch', 'events'),
        ...inOurs('get list watch create patch', 'configmaps'),
        ...inOurs('list watch create patch delete', 'csistoragecapacities.storage.k8s.io'),
      ].sort(),
    )
    const provisioner = await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-provisioner')
    assert.equal(
      await allAllowed(provisioner),
      [
        ...anybodyMay,
        ...of('get list watch create patch delete', 'persistentvolumes'),
        ...everywhere('get list watch patch delete', 'persistentvolumeclaims'),
        ...everywhere('patch', 'persistentvolumeclaims/status'),
        ...of('get list watch', 'nodes'),
        ...of('get list watch', 'storageclasses.storage.k8s.io'),
        ...everywhere('get create patch', 'events'),
        ...inOurs('get list watch patch delete', 'configmaps'),
        ...inOurs('create', 'leases.coordination.k8s.io'),
      ].sort(),
    )
  }),
)

test.run()
