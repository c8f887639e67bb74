/** Somebody who may only look at a cluster, and pods that stand for our programs, which run beside the kubelets here. */
import { mkdir, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { commandEnv, type Output } from '../../src/run.ts'
import type { KubeObject } from './api.ts'
import { pod } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { executable, namespace } from './elastic.ts'
import { runWithInput } from './program.ts'

const root = join(import.meta.dirname, '../..')

/** Gives provisioners what only their page needs. */
export async function givePageRights(cluster: Cluster): Promise<void> {
  await cluster.apply(...(await readRights('kustomize/page/rights.yaml')))
}

async function readRights(file: string): Promise<KubeObject[]> {
  return parseAllDocuments(await readFile(join(root, 'config', file), 'utf8')).map((one) => one.toJS() as KubeObject)
}

/**
 * Gives a user the rights of config/viewer.yaml and no other; what it returns runs the real kubectl, with our plugin, as
 * that user.
 */
export async function openViewer(cluster: Cluster, folder: string): Promise<(...args: string[]) => Promise<Output>> {
  const roles = (await readRights('viewer.yaml')) as [KubeObject, KubeObject]
  const subjects = [{ kind: 'ServiceAccount', name: 'viewer', namespace: 'default' }]
  const [clusterRole, role] = roles
  const refTo = ({ kind, metadata }: KubeObject) => ({
    apiGroup: 'rbac.authorization.k8s.io',
    kind,
    name: metadata.name,
  })
  const { apiVersion } = role
  await cluster.apply(
    ...roles,
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'viewer', namespace: 'default' } },
    { apiVersion, kind: 'ClusterRoleBinding', metadata: { name: 'viewer' }, roleRef: refTo(clusterRole), subjects },
    { apiVersion, kind: 'RoleBinding', metadata: { name: 'viewer', namespace }, roleRef: refTo(role), subjects },
  )
  const path = join(folder, 'bin')
  await mkdir(path)
  for (const name of ['kubectl-elastic_local', 'kubectl_complete-elastic_local'])
    await symlink(executable, join(path, name))
  const KUBECONFIG = await cluster.serviceAccountKubeconfig('default', 'viewer')
  const env = { KUBECONFIG, PATH: `${path}:${commandEnv().PATH}` }
  return (...args) => runWithInput(cluster.program, ['kubectl', ...args], { env, accept: [1, 2] })
}

/** What a stand-in has instead of a probe. */
const wellGate = 'elastic-local.test/well'
const standInPath = (component: string, node: string) => `/api/v1/namespaces/${namespace}/pods/${component}-${node}`

/** Makes a pod stand for a program of ours on a node; resolves when it is ready. */
export async function startStandIn(cluster: Cluster, component: string, node: string): Promise<void> {
  const labels = { 'app.kubernetes.io/name': 'elastic-local', 'app.kubernetes.io/component': component }
  const name = `${component}-${node}`
  const object = pod(name, [], { spec: { nodeName: node, readinessGates: [{ conditionType: wellGate }] } })
  await cluster.apply({ ...object, metadata: { name, namespace, labels } })
  await setWell(cluster, component, node, true)
}

/** Says whether the program does that a stand-in stands for; resolves when its pod shows that. */
export async function setWell(cluster: Cluster, component: string, node: string, isWell: boolean): Promise<void> {
  const status = isWell ? 'True' : 'False'
  const patch = JSON.stringify({ status: { conditions: [{ type: wellGate, status }] } })
  const args = [`--namespace=${namespace}`, '--subresource=status', '--patch', patch]
  await cluster.kubectl(['patch', 'pod', `${component}-${node}`, ...args])
  const isShown = (state: KubeObject | undefined) =>
    state?.status?.conditions?.some((one: KubeObject) => one.type === 'Ready' && one.status === status)
  await cluster.waitFor(standInPath(component, node), isShown, 120_000)
}

export async function removeStandIn(cluster: Cluster, component: string, node: string): Promise<void> {
  const args = [`--namespace=${namespace}`, '--force', '--grace-period=0']
  await cluster.kubectl(['delete', 'pod', `${component}-${node}`, ...args])
}
