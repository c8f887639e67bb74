/** Single objects, asked of the API server now; nothing where there is none. */
import type {
  V1Node,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1PersistentVolumeList,
} from '@kubernetes/client-node'
import { type Api, orMissing } from './api.ts'
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
