import type { V1APIGroupList, V1APIResourceList, V1SelfSubjectAccessReview } from '@kubernetes/client-node'
import * as assert from 'uvu/assert'
import { ApiClient, ApiError, findKubeConfig } from '../../src/k8s/client/api.ts'
import { suite } from '../suite.ts'
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
const ledger = (on: string, name = `elastic-local.${on}.ledger`) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace, labels: { [label]: on, 'volumes.k8s.elastic.co/ledger': 'true' } },
})
const lease = (on: string, name = `elastic-local.${on}.alive`) => ({
  apiVersion: 'coordination.k8s.io/v1',
  kind: 'Lease',
  metadata: { name, namespace, labels: { [label]: on, 'volumes.k8s.elastic.co/alive': 'true' } },
  spec: { holderIdentity: on },
})
/** Objects that would go with one which can be deleted. */
const owners = [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'bait', uid: '0f0e0d0c-1111-2222-3333-444455556666' }]
const event = (host: string) => ({
  apiVersion: 'v1',
  kind: 'Event',
  metadata: { name: `event-${host}`, namespace: 'default' },
  involvedObject: { apiVersion: 'v1', kind: 'PersistentVolume', name: 'own' },
  source: { component: 'elastic-local-daemon', host },
})

/** A PV of another driver. */
const foreign = (name: string, labels: Record<string, string> = {}) => ({
  apiVersion: 'v1',
  kind: 'PersistentVolume',
  metadata: { name, labels },
  spec: { capacity: { storage: '1Gi' }, accessModes: ['ReadWriteOnce'], hostPath: { path: '/etc' } },
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
    await cluster.apply(event('there'), capacity('there'), foreign('foreign', { [label]: 'here' }))
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
      // Of nodes whose names hold one another.
      ...[
        'elastic-local.here-2.ledger',
        'elastic-local.here.2.ledger',
        'elastic-local.here',
        'elastic-local-move.pvc-1',
      ].map((name) => [create, ledger('here', name), /only the ledger of its own node/] as [string[], object, RegExp]),
      [create, lease('there'), /only objects of its own node/],
      [create, lease('here', 'elastic-local.here-2.alive'), /only the Lease of its own node/],
      [create, lease('here', 'elastic-local-provisioner'), /only the Lease of its own node/],
      [patch('pv own', { metadata: { ownerReferences: owners } }), undefined, /what an object belongs to/],
      [
        create,
        { ...ledger('here'), metadata: { ...ledger('here').metadata, ownerReferences: owners } },
        /what an object belongs to/,
      ],
      [patch('pv foreign', { metadata: { finalizers: [] } }), undefined, /only PersistentVolumes of ours/],
      [
        patch(`configmap elastic-local.there.ledger --namespace=${namespace}`, { data: { a: 'b' } }),
        undefined,
        /only objects of its own node/,
      ],
      [create, event('there'), /in the name of its own node/],
      [patch('event event-there', { message: 'a lie' }), undefined, /in the name of its own node/],
    ]
    for (const [args, input, message] of refusedByPolicy) assert.match(await daemon(args, input), message)
    for (const verb of [
      'delete pv own',
      'get secrets --all-namespaces',
      'get pods --all-namespaces',
      'delete node there',
      'get pvc',
      'get leases',
      'get storageclasses',
      `delete lease elastic-local-provisioner --namespace=${namespace}`,
    ])
      refused(await daemon(verb.split(' ')))
    refused(await daemon(create, { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a' }, spec: { containers: [] } }))
    assert.is(await daemon(create, ledger('here')), 'done')
    // What its name says is the node's stays it, whatever a person did to its labels.
    const relabel = (on: string, labels: object | null) =>
      patch(`configmap elastic-local.${on}.ledger --namespace=${namespace}`, { metadata: { labels } })
    for (const on of ['here', 'there']) await cluster.kubectl(relabel(on, null))
    const { labels } = ledger('here').metadata
    assert.is(await daemon(relabel('here', labels)), 'done')
    assert.match(await daemon(relabel('there', labels)), /only the ledger of its own node/)
    assert.is(await daemon(create, event('here')), 'done')
    assert.is(await daemon(create, lease('here')), 'done')
    // Nobody's room is told by a daemon.
    refused(await daemon(create, capacity('here')))
    // kubectl would have to get them first, which a daemon may not.
    const api = new ApiClient(findKubeConfig(kubeconfig))
    const capacities = `/apis/storage.k8s.io/v1/namespaces/${namespace}/csistoragecapacities`
    for (const change of [{ method: 'PATCH', body: { capacity: '9Ti' } }, { method: 'DELETE' }] as const) {
      const refusal = await thrownBy(ApiError, () => api.send({ path: `${capacities}/capacity-there`, ...change }))
      assert.is(refusal.status, 403)
    }
    assert.is(await daemon(patch('pv own', { metadata: { finalizers: [] } })), 'done')
    const unlabelled = volume('old', 'here')
    await cluster.apply({ ...unlabelled, metadata: { ...unlabelled.metadata, labels: {} } })
    const giveTo = (node: string) => daemon(patch('pv old', { metadata: { labels: { [label]: node } } }))
    assert.match(await giveTo('there'), /only objects of its own node/)
    assert.is(await giveTo('here'), 'done')
    const unbound = as(cluster, await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon'))
    assert.match(
      await unbound(patch(`configmap elastic-local.here.ledger --namespace=${namespace}`, { data: { a: 'b' } })),
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
      'get pod any',
      'delete pod any',
      'get configmaps --namespace=kube-system',
    ])
      refused(await provisioner(verb.split(' ')))
    refused(await provisioner(create, ledger('here')))
    await cluster.apply(ledger('here'), { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'other', namespace } })
    const change = (name: string) => patch(`configmap ${name} --namespace=${namespace}`, { data: { a: 'b' } })
    const remove = (name: string) => ['delete', 'configmap', name, `--namespace=${namespace}`]
    await refusal(() => provisioner(change('other')), /only the ledgers of nodes/)
    assert.match(await provisioner(remove('other')), /only the ledgers of nodes/)
    for (const args of [change('elastic-local.here.ledger'), remove('elastic-local.here.ledger')])
      assert.is(await provisioner(args), 'done')
    assert.is(await provisioner(['get', 'pv,pvc', '--all-namespaces']), 'done')

    const uid = '0f0e0d0c-7777-8888-9999-000011112222'
    const claimRef = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace: 'default', name: 'data' }
    const own = (name: string, more: object) => {
      const made = volume(name, 'here')
      return { ...made, spec: { ...made.spec, ...more } }
    }
    await cluster.apply(foreign('foreign'))
    const forAClaim = { claimRef: { ...claimRef, uid } }
    const byCsi = (volumeHandle: string) => {
      const { flexVolume, ...spec } = own(`pvc-${uid}`, forAClaim).spec
      const csi = { driver: 'elastic-local.volumes.k8s.elastic.co', volumeHandle }
      return { ...own(`pvc-${uid}`, {}), spec: { ...spec, csi } }
    }
    for (const [args, input, message] of [
      [
        create,
        { ...foreign(`pvc-${uid}`), spec: { ...foreign('').spec, ...forAClaim } },
        /only PersistentVolumes of ours/,
      ],
      [create, own(`pvc-${uid}`, {}), /only for the claim with the UID in its name/],
      [create, own(`pvc-${uid}`, { claimRef }), /only for the claim with the UID in its name/],
      [create, own('anything', forAClaim), /only for the claim with the UID in its name/],
      [create, byCsi('pvc-another'), /only PersistentVolumes of ours/],
      [
        patch('pv foreign', { spec: { persistentVolumeReclaimPolicy: 'Delete' } }),
        undefined,
        /only PersistentVolumes of ours/,
      ],
      [['delete', 'pv', 'foreign', '--wait=false'], undefined, /only PersistentVolumes of ours/],
      [create, lease('here', 'another'), /only its own Lease/],
      [create, capacity('here'), /only capacity objects of ours/],
    ] as [string[], object | undefined, RegExp][])
      assert.match(await provisioner(args, input), message)
    for (const made of [own(`pvc-${uid}`, forAClaim), byCsi(`pvc-${uid}`)]) {
      assert.is(await provisioner(create, made), 'done')
      const change = (spec: object) => provisioner(patch(`pv pvc-${uid}`, { spec }))
      for (const other of [{ ...claimRef, name: 'another', uid: null }, null])
        assert.match(await change({ claimRef: other }), /may not change which claim a PersistentVolume is for/)
      assert.is(await change({ capacity: { storage: '2Gi' } }), 'done')
      assert.is(await provisioner(['delete', 'pv', `pvc-${uid}`, '--wait=false']), 'done')
      await cluster.kubectl([
        'patch',
        'pv',
        `pvc-${uid}`,
        '--type=merge',
        '--patch',
        '{"metadata":{"finalizers":null}}',
      ])
      await cluster.kubectl(['wait', '--for=delete', `pv/pvc-${uid}`])
    }
    await cluster.apply(lease('here'), lease('here', 'another'))
    assert.is(await provisioner(['delete', 'lease', 'elastic-local.here.alive', `--namespace=${namespace}`]), 'done')
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
async function findWhatAnybodyMay({ api }: Cluster): Promise<string[]> {
  const { versions } = await api.request('GET', '/apis/certificates.k8s.io')
  const paths: string[] = versions.map(({ groupVersion }: { groupVersion: string }) => `/apis/${groupVersion}`)
  const lists = await Promise.all(paths.map((path) => api.request('GET', path)))
  // Older versions do not serve these by themselves.
  const bundles = lists.flatMap(({ resources }) => resources).filter(({ name }) => name === 'clustertrustbundles')
  return [
    'create selfsubjectaccessreviews.authorization.k8s.io',
    'create selfsubjectrulesreviews.authorization.k8s.io',
    'create selfsubjectreviews.authentication.k8s.io',
    ...(bundles.length > 0 ? of('get list watch', 'clustertrustbundles.certificates.k8s.io') : []),
  ]
}

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
    const anybodyMay = await findWhatAnybodyMay(cluster)
    const daemon = await cluster.serviceAccountKubeconfig(namespace, 'elastic-local-daemon', 'here')
    assert.equal(
      await allAllowed(daemon),
      [
        ...anybodyMay,
        ...of('get list watch patch', 'persistentvolumes'),
        ...of('get', 'nodes'),
        ...everywhere('get', 'pods'),
        ...everywhere('get create patch', 'events'),
        ...inOurs('get list watch create patch', 'configmaps'),
        ...inOurs('create patch', 'leases.coordination.k8s.io'),
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
        ...everywhere('list watch', 'pods'),
        ...of('get list watch', 'storageclasses.storage.k8s.io'),
        ...everywhere('get create patch', 'events'),
        ...inOurs('get list watch patch delete', 'configmaps'),
        ...inOurs('list watch create delete', 'leases.coordination.k8s.io'),
        ...inOurs('list watch create patch delete', 'csistoragecapacities.storage.k8s.io'),
      ].sort(),
    )
  }),
)

test.run()
