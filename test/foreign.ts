/**
 * What other projects make for a claim, as their sources say: TopoLVM (internal/driver/controller.go, internal/controller,
 * internal/driver/internal/k8s/logicalvolume_service.go), OpenEBS LocalPV-LVM (pkg/driver/controller.go, pkg/lvm), and
 * local-path-provisioner (provisioner.go); PersistentVolumes of the first two as the external-provisioner makes them.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { ProjectName } from '../src/k8s/model/origin.ts'

// biome-ignore lint/suspicious/noExplicitAny: tests look into objects of every kind.
type Fields = Record<string, any>

/** An object that is to be made. */
export interface NewObject extends Fields {
  metadata: Fields
}

export interface Foreign {
  /** Of the logical volume, or the directory. */
  name: string
  volume: NewObject
  /** Its custom resource, and where that is made. */
  resource?: { path: string; object: NewObject }
}

export interface ForeignRequest {
  claim: { namespace: string; name: string; uid: string }
  node: string
  hostname: string
  size: string
  /** The volume group, or the folder. */
  place: string
  fsType?: string
  volumeMode?: string
  /** Of TopoLVM's LogicalVolume, where an API server has given it one. */
  uid?: string
}

/** Labels that the kubelet, told by their plugins, gives a node. */
export const foreignLabels = (node: string) => ({
  'topology.topolvm.io/node': node,
  'openebs.io/nodename': node,
})

export const foreignClasses: Readonly<Record<ProjectName, string>> = {
  topolvm: 'topolvm-provisioner',
  'openebs-lvm': 'openebs-lvmpv',
  'local-path': 'local-path',
}

const provisioners: Readonly<Record<ProjectName, string>> = {
  topolvm: 'topolvm.io',
  'openebs-lvm': 'local.csi.openebs.io',
  'local-path': 'rancher.io/local-path',
}

/** The class that each project's manifests bring. */
export const foreignClass = (project: ProjectName) => ({
  apiVersion: 'storage.k8s.io/v1',
  kind: 'StorageClass',
  metadata: { name: foreignClasses[project] },
  provisioner: provisioners[project],
  volumeBindingMode: 'WaitForFirstConsumer',
  ...(project === 'local-path' ? {} : { allowVolumeExpansion: true }),
  reclaimPolicy: 'Delete',
})

/** What a project has made for a claim that is there. */
export function buildForeign(project: ProjectName, request: ForeignRequest): Foreign {
  return { topolvm: buildTopolvm, 'openebs-lvm': buildOpenebs, 'local-path': buildLocalPath }[project](request)
}

function buildVolume(
  project: ProjectName,
  { claim, size, volumeMode = 'Filesystem' }: ForeignRequest,
  { annotations, finalizers = [], affinity, spec }: Fields,
): NewObject {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: {
      name: `pvc-${claim.uid}`,
      annotations: { 'pv.kubernetes.io/provisioned-by': provisioners[project], ...annotations },
      finalizers,
    },
    spec: {
      accessModes: ['ReadWriteOnce'],
      capacity: { storage: size },
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claim, resourceVersion: '1' },
      nodeAffinity: {
        required: { nodeSelectorTerms: [{ matchExpressions: [{ operator: 'In', ...affinity }] }] },
      },
      persistentVolumeReclaimPolicy: 'Delete',
      storageClassName: foreignClasses[project],
      volumeMode,
      ...spec,
    },
  }
}

function buildCsi(
  project: ProjectName,
  request: ForeignRequest,
  { handle, affinity, attributes = {} }: { handle: string; affinity: object; attributes?: object },
): NewObject {
  const driver = provisioners[project]
  return buildVolume(project, request, {
    annotations: {
      'volume.kubernetes.io/provisioner-deletion-secret-name': '',
      'volume.kubernetes.io/provisioner-deletion-secret-namespace': '',
    },
    finalizers: ['external-provisioner.volume.kubernetes.io/finalizer'],
    affinity,
    spec: {
      csi: {
        driver,
        ...(request.volumeMode === 'Block' ? {} : { fsType: request.fsType ?? 'ext4' }),
        volumeAttributes: {
          ...attributes,
          'storage.kubernetes.io/csiProvisionerIdentity': `1700000000000-8081-${driver}`,
        },
        volumeHandle: handle,
      },
    },
  })
}

function buildTopolvm(request: ForeignRequest): Foreign {
  const { claim, node, size } = request
  const [uid, name] = [request.uid ?? randomUUID(), `pvc-${claim.uid}`]
  return {
    name: uid,
    volume: buildCsi('topolvm', request, {
      handle: uid,
      affinity: { key: 'topology.topolvm.io/node', values: [node] },
    }),
    resource: {
      path: '/apis/topolvm.io/v1/logicalvolumes',
      object: {
        apiVersion: 'topolvm.io/v1',
        kind: 'LogicalVolume',
        metadata: {
          name,
          uid,
          finalizers: ['topolvm.io/logicalvolume'],
          labels: { 'app.kubernetes.io/created-by': 'topolvm-controller' },
        },
        spec: { name, nodeName: node, size, deviceClass: '' },
        status: { volumeID: uid, currentSize: size },
      },
    },
  }
}

function buildOpenebs(request: ForeignRequest): Foreign {
  const { claim, node, place, size } = request
  const name = `pvc-${claim.uid}`
  return {
    name,
    volume: buildCsi('openebs-lvm', request, {
      handle: name,
      affinity: { key: 'openebs.io/nodename', values: [node] },
      attributes: { 'openebs.io/cas-type': 'localpv-lvm', 'openebs.io/volgroup': place },
    }),
    resource: {
      path: '/apis/local.openebs.io/v1alpha1/namespaces/openebs/lvmvolumes',
      object: {
        apiVersion: 'local.openebs.io/v1alpha1',
        kind: 'LVMVolume',
        metadata: {
          name,
          namespace: 'openebs',
          finalizers: ['lvm.openebs.io/finalizer'],
          labels: { 'kubernetes.io/nodename': node },
        },
        spec: {
          capacity: String(Number.parseInt(size, 10) * 2 ** 20),
          ownerNodeID: node,
          shared: 'no',
          thinProvision: 'no',
          vgPattern: `^${place}$`,
          volGroup: place,
        },
        status: { state: 'Ready' },
      },
    },
  }
}

function buildLocalPath(request: ForeignRequest): Foreign {
  const { claim, node, hostname, place } = request
  const name = [`pvc-${claim.uid}`, claim.namespace, claim.name].join('_')
  return {
    name,
    volume: buildVolume('local-path', request, {
      annotations: { 'local.path.provisioner/selected-node': node },
      affinity: { key: 'kubernetes.io/hostname', values: [hostname] },
      spec: { hostPath: { path: join(place, name), type: 'DirectoryOrCreate' } },
    }),
  }
}
