/** config/examples as they are, on kubelets without containers: who writes here are processes with the rights of the pods. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { parseAllDocuments } from 'yaml'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { gibibyte } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { overlayManifest } from './deploy-overlay.ts'
import { type ElasticNode, openElastic } from './elastic.ts'
import { placeOf } from './front.ts'

const test = suite('examples')
const examples = join(import.meta.dirname, '../../config/examples')
const files = (await readdir(examples)).sort()
const texts = await Promise.all(files.map((file) => readFile(join(examples, file), 'utf8')))
const objects = texts.flatMap((text) => parseAllDocuments(text).map((document) => document.toJS() as KubeObject))
const sets = objects.filter(({ kind }) => kind === 'StatefulSet')

let cluster: Cluster
let close: () => Promise<void>
const nodes = new Map<string, ElasticNode>()

/** The pods of all sets, and what they run with. */
const pods = sets.flatMap(({ metadata, spec }) =>
  Array.from({ length: spec.replicas }, (_, index) => ({
    set: metadata.name,
    name: `${metadata.name}-${index}`,
    security: spec.template.spec.securityContext as { runAsUser: number; runAsGroup: number; fsGroup: number },
  })),
)
const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`

/** A pod that runs, and the folder of its volume on its node. */
async function running(name: string, isOther: (uid: string) => boolean = () => true) {
  const isRunning = (pod: KubeObject | undefined) => pod?.status?.phase === 'Running' && isOther(pod.metadata.uid)
  const pod = await cluster.waitFor(podPath(name), isRunning, 120_000)
  const { volumeName } = (
    await cluster.api.request('GET', `/api/v1/namespaces/default/persistentvolumeclaims/data-${name}`)
  ).spec
  const rootDir = nodes.get(pod.spec.nodeName)?.kubelet.rootDir ?? ''
  return { pod, folder: join(rootDir, 'pods', pod.metadata.uid, placeOf(volumeName, 'csi')) }
}

/** Runs a script in a folder as a pod's process would. */
async function runAs({ security }: (typeof pods)[number], folder: string, script: string): Promise<string> {
  const { runAsUser, runAsGroup, fsGroup } = security
  const ids = [`--reuid=${runAsUser}`, `--regid=${runAsGroup}`, `--groups=${fsGroup}`]
  const enter = 'cd "$1" && shift && exec setpriv "$@"'
  return (await run('sh', ['-c', enter, 'sh', folder, ...ids, '--', 'sh', '-c', script])).stdout
}

test.before(async () => {
  const opened = await openElastic()
  cluster = opened.cluster
  close = opened.close
  const options = { diskBytes: 100 * gibibyte, daemonFlags: { csi: 'true', flex: 'false' } }
  for (const node of await Promise.all(
    ['node-1', 'node-2', 'node-3'].map((name) => opened.elastic.startNode({ name, ...options })),
  ))
    nodes.set(node.name, node)
  await opened.elastic.startProvisioner()
  // Nodes of the rig have less memory than these containers, which do not run, ask for.
  const items = texts.flatMap((text) => overlayManifest(text, { container: { resources: {} } }))
  const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items })
  await cluster.kubectl(['apply', '--validate=strict', '--filename=-'], { input })
})

test.after(() => close())

test('PostgreSQL, Elasticsearch and Kafka run, those of one set apart, on filesystems with the options that they want', async () => {
  assert.equal(sets.map(({ metadata }) => metadata.name).sort(), ['elasticsearch', 'kafka', 'postgresql'])
  const found = await Promise.all(pods.map(async ({ set, name }) => ({ set, ...(await running(name)) })))
  for (const set of ['elasticsearch', 'kafka'])
    assert.is(new Set(found.filter((one) => one.set === set).map(({ pod }) => pod.spec.nodeName)).size, 3, set)
  for (const { set, folder } of found) {
    const { stdout } = await run('findmnt', ['--noheadings', '--output=FSTYPE,OPTIONS', folder])
    assert.match(stdout, set === 'kafka' ? /^xfs .*\bnoatime\b/ : /^ext4 .*\brelatime\b/, set)
  }
})

test('their budgets count their pods', async () => {
  for (const { metadata, spec } of sets) {
    const path = `/apis/policy/v1/namespaces/default/poddisruptionbudgets/${metadata.name}`
    await cluster.waitFor(path, (budget) => budget?.status?.expectedPods === spec.replicas, 60_000)
  }
})

test('what their users write is there when their pods were deleted and are back', async () => {
  const uids = new Map<string, string>()
  for (const one of pods) {
    const { pod, folder } = await running(one.name)
    uids.set(one.name, pod.metadata.uid)
    await runAs(one, folder, `umask 077 && mkdir data && echo ${one.name} > data/file`)
  }
  await cluster.kubectl(['delete', 'pod', '--wait=false', ...pods.map(({ name }) => name)])
  for (const one of pods) {
    const { folder } = await running(one.name, (uid) => uid !== uids.get(one.name))
    assert.is(await runAs(one, folder, 'cat data/file'), `${one.name}\n`)
    // As PostgreSQL insists.
    assert.match(await runAs(one, folder, 'stat --format %a data'), /^2?700\n$/)
  }
})

test.run()
