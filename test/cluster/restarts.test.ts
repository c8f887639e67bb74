import * as assert from 'uvu/assert'
import { suite } from '../suite.ts'
import { agreement } from './agreement.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod } from './claim-objects.ts'
import { withCluster } from './cluster.ts'
import { Elastic, namespace } from './elastic.ts'
import type { Component } from './program.ts'

const test = suite('restarts')
const leasePath = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/elastic-local-provisioner`
const holderOf = (lease: KubeObject | undefined): string => lease?.spec.holderIdentity ?? ''

test(
  'whatever is killed in the middle of claims, all end bound and mounted, and none twice; a killed leader is replaced',
  withCluster({}, async (cluster) => {
    const elastic = new Elastic(cluster)
    await elastic.applyObjects()
    try {
      const names = ['node-1', 'node-2']
      const nodes = await Promise.all(names.map((name) => elastic.startNode({ name, diskBytes: 8 * gibibyte })))
      const leader = await elastic.startProvisioner()
      const { spec } = await cluster.waitFor(leasePath, (lease) => holderOf(lease) !== '')
      await elastic.startProvisioner()

      const pods: string[] = []
      const begin = async () => {
        const some = Array.from({ length: 8 }, (_, i) => `p${pods.length + i}`)
        pods.push(...some)
        await cluster.apply(...some.flatMap((name) => [claim(name, { size: '64Mi' }), pod(name, [name])]))
      }
      await begin()
      await leader.kill()
      await cluster.waitFor(leasePath, (lease) => !['', spec.holderIdentity].includes(holderOf(lease)), 15_000)

      const parts: (Component | undefined)[] = [
        nodes[0]?.daemon,
        nodes[1]?.kubelet,
        ...(['kube-apiserver', 'etcd', 'kube-controller-manager', 'kube-scheduler'] as const).map((name) =>
          cluster.component(name),
        ),
      ]
      for (const part of parts) {
        await begin()
        await part?.kill()
        await part?.start()
      }
      const runs = (list: KubeObject | undefined) =>
        list?.items.filter(({ status }: KubeObject) => status.phase === 'Running').length === pods.length
      await cluster.waitFor('/api/v1/namespaces/default/pods', runs, 120_000)

      assert.is((await agreement(elastic, nodes)).length, pods.length)
    } finally {
      await elastic.close()
    }
  }),
)

test.run()
