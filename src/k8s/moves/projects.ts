import { basename, dirname } from 'node:path'
import type { KubernetesListObject, KubernetesObject, V1PersistentVolume } from '@kubernetes/client-node'
import type { Content, DriverKind } from '../../volume/pool.ts'
import { contents } from '../../volume/pool.ts'
import { type Api, orMissing } from '../client/api.ts'
import { isOrigin, type Origin, type ProjectName } from '../model/origin.ts'
import { provisionedBy } from '../model/persistent-volume.ts'

/** What another project keeps of a volume in an object of its own kind, by which its controllers would remove it. */
export interface Resource extends KubernetesObject {
  spec?: Record<string, unknown>
  status?: Record<string, unknown>
}

interface ResourceKind {
  kind: string
  group: string
  plural: string
  /** Where it is, and under which version. */
  read(api: Api, volume: V1PersistentVolume): Promise<Resource | undefined>
  pathOf(resource: Resource): string
  /** By which its controllers are asked to remove the data before the object goes. */
  finalizer: string
  /** With which they leave the object alone, where there is such. */
  leftAlone?: string
  /** Whether it is about that PV, on that node. Part of a sentence. */
  findWrong(resource: Resource, volume: V1PersistentVolume, node: string): string | undefined
}

/** What another project made for a PV. */
export interface Found extends Origin {
  fsType: Content
  mountOptions: readonly string[]
  /** The group, or the folder, that it is in, where the PV says so. */
  place?: string
}

/** Another project, as its own sources say that it makes volumes. */
export interface Project {
  title: string
  /** The pool that has such volumes. */
  driverKind: DriverKind
  /** Whether a PV says that it is its: by driver, or provisioner, never by the name of a class. */
  isIts(volume: V1PersistentVolume): boolean
  /** Throws, in a part of a sentence, where it is not as the project makes them. */
  read(volume: V1PersistentVolume): Found
  resource?: ResourceKind
  /** Finalizers of its own on claims. */
  claimFinalizers: readonly string[]
}

const csiFields = ['driver', 'volumeHandle', 'fsType', 'volumeAttributes']

/** Throws where it is not a plain PV of that CSI driver. */
function readCsi(project: ProjectName, volume: V1PersistentVolume): Found {
  const { csi, volumeMode, mountOptions = [] } = volume.spec ?? {}
  const field = Object.keys(csi ?? {}).find((one) => !csiFields.includes(one))
  if (field) throw new Error(`its PersistentVolume has csi.${field}, which would be lost`)
  const wanted = volumeMode === 'Block' ? 'block' : csi?.fsType || 'ext4'
  const fsType = contents.find((one) => one === wanted)
  if (!fsType) throw new Error(`it holds ${wanted}, which we cannot mount`)
  return { ...mustBeNamed({ project, name: csi?.volumeHandle ?? '' }, volume), fsType, mountOptions }
}

function mustBeNamed(origin: Origin, volume: V1PersistentVolume): Origin {
  if (isOrigin(origin, volume.metadata?.name ?? '')) return origin
  throw new Error(
    `what it names, ${JSON.stringify(origin.name)}, is not as ${projects[origin.project].title} names volumes`,
  )
}

const isOfDriver = (driver: string) => (volume: V1PersistentVolume) =>
  volume.spec?.csi?.driver === driver && volume.metadata?.annotations?.[provisionedBy] === driver

const topolvm: Project = {
  title: 'TopoLVM',
  driverKind: 'LVM',
  isIts: isOfDriver('topolvm.io'),
  read: (volume) => readCsi('topolvm', volume),
  resource: {
    kind: 'LogicalVolume',
    group: 'topolvm.io',
    plural: 'logicalvolumes',
    read: async (api, { metadata }) =>
      await orMissing(
        api.send<Resource>({ method: 'GET', path: `/apis/topolvm.io/v1/logicalvolumes/${metadata?.name}` }),
      ),
    pathOf: ({ metadata }) => `/apis/topolvm.io/v1/logicalvolumes/${metadata?.name}`,
    finalizer: 'topolvm.io/logicalvolume',
    leftAlone: 'topolvm.io/pendingdeletion',
    findWrong: ({ spec, status }, volume, node) =>
      status?.volumeID !== volume.spec?.csi?.volumeHandle
        ? `is about logical volume ${status?.volumeID}`
        : spec?.nodeName !== node
          ? `is of node ${spec?.nodeName}`
          : undefined,
  },
  claimFinalizers: ['topolvm.io/pvc', 'topolvm.cybozu.com/pvc'],
}

const openebs: Project = {
  title: 'OpenEBS LocalPV-LVM',
  driverKind: 'LVM',
  isIts: isOfDriver('local.csi.openebs.io'),
  read: (volume) => {
    const { 'openebs.io/volgroup': place, 'openebs.io/cas-type': type } = volume.spec?.csi?.volumeAttributes ?? {}
    if (type !== 'localpv-lvm' || !place)
      throw new Error('its PersistentVolume names no volume group of OpenEBS LocalPV-LVM')
    return { ...readCsi('openebs-lvm', volume), place }
  },
  resource: {
    kind: 'LVMVolume',
    group: 'local.openebs.io',
    plural: 'lvmvolumes',
    read: async (api, { metadata }) => {
      const list = await orMissing(
        api.send<KubernetesListObject<Resource>>({
          method: 'GET',
          path: '/apis/local.openebs.io/v1alpha1/lvmvolumes',
          query: { fieldSelector: `metadata.name=${metadata?.name}` },
        }),
      )
      return list?.items[0]
    },
    pathOf: ({ metadata }) =>
      `/apis/local.openebs.io/v1alpha1/namespaces/${metadata?.namespace}/lvmvolumes/${metadata?.name}`,
    finalizer: 'lvm.openebs.io/finalizer',
    findWrong: ({ spec, status }, volume, node) =>
      spec?.volGroup !== volume.spec?.csi?.volumeAttributes?.['openebs.io/volgroup']
        ? `is about volume group ${spec?.volGroup}`
        : spec?.ownerNodeID !== node
          ? `is of node ${spec?.ownerNodeID}`
          : status?.state !== 'Ready'
            ? `is ${status?.state}`
            : undefined,
  },
  claimFinalizers: [],
}

const selectedNode = 'local.path.provisioner/selected-node'

const localPath: Project = {
  title: 'local-path-provisioner',
  driverKind: 'BINDMOUNT',
  // Its chart gives it other names.
  isIts: ({ metadata, spec }) =>
    Boolean(spec?.hostPath ?? spec?.local) &&
    (metadata?.annotations?.[provisionedBy] === 'rancher.io/local-path' ||
      metadata?.annotations?.[selectedNode] !== undefined),
  read: (volume) => {
    const { hostPath, local, mountOptions = [], claimRef } = volume.spec ?? {}
    const path = hostPath?.path ?? local?.path ?? ''
    if (local?.fsType) throw new Error('its PersistentVolume has local.fsType, which would be lost')
    const origin = mustBeNamed({ project: 'local-path', name: basename(path) }, volume)
    if (origin.name !== [volume.metadata?.name, claimRef?.namespace, claimRef?.name].join('_'))
      throw new Error(`its directory, ${origin.name}, is named after another claim`)
    return { ...origin, fsType: 'ext4', mountOptions, place: dirname(path) }
  },
  claimFinalizers: [],
}

export const projects: Readonly<Record<ProjectName, Project>> = {
  topolvm,
  'openebs-lvm': openebs,
  'local-path': localPath,
}
