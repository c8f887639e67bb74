/** Single objects of the API server: where they are, and what they are now; nothing where there is none. */
import type {
  V1Node,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1PersistentVolumeList,
  V1Pod,
} from '@kubernetes/client-node'
import { type Api, orMissing } from '../client/api.ts'
import { finalizer } from './names.ts'
import { pickVolume, type VolumeFacts } from './persistent-volume.ts'

export const volumesPath = '/api/v1/persistentvolumes'
export const volumePath = (name: string) => `${volumesPath}/${name}`
export const claimPath = (namespace: string, name: string) =>
  `/api/v1/namespaces/${namespace}/persistentvolumeclaims/${name}`

export async function readVolume(api: Api, name: string): Promise<V1PersistentVolume | undefined> {
  return await orMissing(api.send<V1PersistentVolume>({ method: 'GET', path: volumePath(name) }))
}

/** All PVs of our driver. */
export async function readVolumes(api: Api): Promise<VolumeFacts[]> {
  const { items } = await api.send<V1PersistentVolumeList>({ method: 'GET', path: volumesPath })
  return items.map(pickVolume).filter((volume) => volume !== undefined)
}

/** Takes our finalizer from a PV, over the very version that was decided on: from then on nothing of ours holds it. */
export async function letVolumeGo(api: Api, { name, resourceVersion, finalizers }: VolumeFacts): Promise<void> {
  const body = { metadata: { resourceVersion, finalizers: finalizers.filter((one) => one !== finalizer) } }
  await orMissing(api.send({ method: 'PATCH', path: volumePath(name), body }))
}

export async function readClaim(
  api: Api,
  namespace: string,
  name: string,
): Promise<V1PersistentVolumeClaim | undefined> {
  return await orMissing(api.send<V1PersistentVolumeClaim>({ method: 'GET', path: claimPath(namespace, name) }))
}

export async function readNode(api: Api, name: string): Promise<V1Node | undefined> {
  return await orMissing(api.send<V1Node>({ method: 'GET', path: `/api/v1/nodes/${name}` }))
}

export async function readPod(api: Api, namespace: string, name: string): Promise<V1Pod | undefined> {
  return await orMissing(api.send<V1Pod>({ method: 'GET', path: `/api/v1/namespaces/${namespace}/pods/${name}` }))
}
