/** A cluster with volumes, some of which are in trouble, and two provisioners that serve the page. */
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod, storageClass } from './claim-objects.ts'
import { findFreePorts } from './control-plane.ts'
import { type ElasticNode, openElastic } from './elastic.ts'
import { ownAddress } from './network.ts'
import { givePageRights, startStandIn } from './viewer.ts'

const nodeNames = ['node-1', 'node-2', 'node-3'] as const

/** For a test that has entered a network of its own. */
export async function openTroubled() {
  const { cluster, elastic, close } = await openElastic(() => ({ address: ownAddress }))
  const nodes: ElasticNode[] = []
  const ports = await findFreePorts(2, ownAddress)
  const flags = (port: number | undefined) => ({ 'http-address': `:${port}`, page: 'true' })
  const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`
  const running = (name: string) =>
    cluster.waitFor(podPath(name), (state) => state?.status?.phase === 'Running', 60_000)
  const on = (node: string) => ({ spec: { nodeSelector: { 'kubernetes.io/hostname': node } } })

  return {
    cluster,
    elastic,
    close,
    nodes,
    ports,

    /** Nodes, volumes with pods, and the first provisioner, which leads. */
    start: async () => {
      nodes.push(...(await Promise.all(nodeNames.map((name) => elastic.startNode({ name, diskBytes: 2 * gibibyte })))))
      await elastic.startProvisioner(flags(ports[0]))
      await Promise.all(nodeNames.map((name) => startStandIn(cluster, 'daemon', name)))
      await startStandIn(cluster, 'provisioner', 'node-1')
      await cluster.apply(
        claim('data-postgres-0', { size: '1Gi' }),
        claim('data-search-0', { size: '512Mi' }),
        claim('data-search-1', { size: '512Mi' }),
        pod('postgres-0', ['data-postgres-0'], on('node-1')),
        pod('search-0', ['data-search-0'], on('node-2')),
        pod('search-1', ['data-search-1'], on('node-3')),
      )
      await Promise.all(['postgres-0', 'search-0', 'search-1'].map(running))
    },

    startStandby: () => elastic.startProvisioner(flags(ports[1])),

    /** Gives the provisioner what only the page needs. */
    giveRights: () => givePageRights(cluster),

    /** A claim without room, a class with a typo, a claim that nobody uses, and a node that is away. */
    breakThings: async () => {
      await cluster.apply(
        storageClass('fast', { volumeBindingMode: 'Immediate', parameters: { fstype: 'xfs' } }),
        claim('cache', { class: 'fast' }),
        claim('data-reports', { size: '100Ti' }),
        pod('reports', ['data-reports']),
        claim('scratch'),
      )
      const isRefused = (state: KubeObject | undefined) =>
        state?.status?.conditions?.some(({ message }: KubeObject) => /enough free storage/.test(String(message)))
      await cluster.waitFor(podPath('reports'), isRefused, 60_000)
      const [, , last] = nodes
      await Promise.all([last?.kubelet.kill(), last?.daemon.kill()])
      // As the controller manager says after 50 s.
      const message = 'Kubelet stopped posting node status.'
      const conditions = [{ type: 'Ready', status: 'Unknown', reason: 'NodeStatusUnknown', message }]
      const patch = JSON.stringify({ status: { conditions } })
      await cluster.kubectl(['patch', 'node', 'node-3', '--subresource=status', '--patch', patch])
    },
  }
}
