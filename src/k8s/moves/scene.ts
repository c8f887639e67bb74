import type { V1ConfigMap, V1CSIDriver, V1CSINode, V1PersistentVolume, V1Pod } from '@kubernetes/client-node'
import { csiDriverName } from '../../csi/driver.ts'
import { type Api, listPages, orMissing } from '../client/api.ts'
import { type Ledger, parseLedger } from '../model/ledger.ts'
import { readClaim, readNode } from '../model/lookups.ts'
import { ledgerName } from '../model/names.ts'
import type { Scene } from './obstacle.ts'

export interface SceneParts {
  api: Api
  /** Of our own objects. */
  namespace: string
}

export async function readLedger({ api, namespace }: SceneParts, node: string): Promise<Ledger | undefined> {
  const path = `/api/v1/namespaces/${namespace}/configmaps/${ledgerName(node)}`
  const found = await orMissing(api.send<V1ConfigMap>({ method: 'GET', path }))
  return found && parseLedger(found)
}

/** All that decides whether the PV of a node may be made anew. */
export async function readScene(
  parts: SceneParts,
  volume: V1PersistentVolume,
  node: string,
  { withPods }: { withPods: boolean },
): Promise<Scene> {
  const { api } = parts
  const { namespace, name } = volume.spec?.claimRef ?? {}
  const storage = '/apis/storage.k8s.io/v1'
  const [claim, nodeObject, ledger, csiNode, csiDriver, pods] = await Promise.all([
    namespace && name ? readClaim(api, namespace, name) : undefined,
    readNode(api, node),
    readLedger(parts, node),
    orMissing(api.send<V1CSINode>({ method: 'GET', path: `${storage}/csinodes/${node}` })),
    orMissing(api.send<V1CSIDriver>({ method: 'GET', path: `${storage}/csidrivers/${csiDriverName}` })),
    withPods && namespace ? readPods(api, namespace) : [],
  ])
  return { volume, claim, node: nodeObject, ledger, csiNode, csiDriver, pods }
}

async function readPods(api: Api, namespace: string): Promise<V1Pod[]> {
  const pods: V1Pod[] = []
  for await (const { items } of listPages<V1Pod>(api, `/api/v1/namespaces/${namespace}/pods`)) pods.push(...items)
  return pods
}
