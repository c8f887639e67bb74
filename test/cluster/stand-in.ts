import type { KubeObject } from './api.ts'
import { pod } from './claim-objects.ts'
import type { Cluster } from './cluster.ts'
import { namespace } from './elastic.ts'

/** A pod that stands for one of our programs, which run beside the kubelets here. */
function standIn(component: string, nodeName: string): KubeObject {
  const labels = { 'app.kubernetes.io/name': 'elastic-local', 'app.kubernetes.io/component': component }
  const object = pod(`${component}-${nodeName}`, [], { spec: { nodeName } })
  return { ...object, metadata: { ...object.metadata, namespace, labels } } as never
}

/** Has a pod on a node that stands for `component`; resolves when it is ready. */
export async function standInRuns(cluster: Cluster, component: string, node: string): Promise<void> {
  await cluster.apply(standIn(component, node))
  const isReady = (state: KubeObject | undefined) =>
    state?.status?.conditions?.some(({ type, status }: KubeObject) => type === 'Ready' && status === 'True')
  await cluster.waitFor(`/api/v1/namespaces/${namespace}/pods/${component}-${node}`, isReady, 120_000)
}
