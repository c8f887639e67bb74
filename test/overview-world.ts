/** A cluster in memory in which all is well, for tests that break one thing of it and look at what is said. */

import { csiDriverName, topologyKey } from '../src/csi/driver.ts'
import { toJson } from '../src/json.ts'
import type { FrontName } from '../src/k8s/fronts/front.ts'
import { buildCapacity } from '../src/k8s/model/capacity.ts'
import { pickClass } from '../src/k8s/model/claim.ts'
import { made, parseLedger } from '../src/k8s/model/ledger.ts'
import { aliveName } from '../src/k8s/model/names.ts'
import type { ClusterFacts } from '../src/overview/facts.ts'
import { readCluster } from '../src/overview/read.ts'
import { claim } from './cluster/claim-objects.ts'
import { MemoryApi } from './memory-api.ts'
import {
  addClass,
  addLedger,
  addNode,
  addPromise,
  addVolume,
  claimsPath,
  eventsPath,
  leasesPath,
  ledgerPath,
  namespace,
  volumesPath,
} from './memory-cluster.ts'

export const now = new Date('2026-03-01T12:00:00Z')
export const ago = (seconds: number) => new Date(now.getTime() - seconds * 1000).toISOString()
export const podsPath = '/api/v1/namespaces/default/pods'
export const classesPath = '/apis/storage.k8s.io/v1/storageclasses'
export const csiDriverPath = `/apis/storage.k8s.io/v1/csidrivers/${csiDriverName}`
const csiNodesPath = '/apis/storage.k8s.io/v1/csinodes'
export const nodePath = (name: string) => `/api/v1/nodes/${name}`
const capacitiesPath = `/apis/storage.k8s.io/v1/namespaces/${namespace}/csistoragecapacities`
const mebibyte = 1n << 20n
export const halfGibibyte = 512n * mebibyte

export interface PodWish {
  claims?: readonly string[]
  node?: string
  phase?: string
  /** Why no node takes it. */
  unschedulable?: string
  waiting?: string
  spec?: object
  metadata?: object
}

/** A cluster in memory, and the hands that change it. */
export class World {
  readonly server = new MemoryApi()

  constructor(nodes: readonly string[] = ['node-1', 'node-2']) {
    const { server } = this
    server.create('/apis/storage.k8s.io/v1/csidrivers', {
      metadata: { name: csiDriverName },
      spec: { attachRequired: false, podInfoOnMount: true, storageCapacity: true, fsGroupPolicy: 'File' },
    })
    this.addComponent('provisioner', '')
    this.lead(now.toISOString())
    addClass(server)
    for (const node of nodes) this.addNode(node)
  }

  /** A node with a daemon, which has said what it has. */
  addNode(name: string): void {
    addNode(this.server, name)
    addLedger(this.server, name)
    this.hear(name, now.toISOString())
    this.addComponent('daemon', name)
    this.server.create(csiNodesPath, {
      metadata: { name },
      spec: { drivers: [{ name: csiDriverName, nodeID: name, topologyKeys: [topologyKey] }] },
    })
    this.tell(name)
  }

  /** The daemon of a node said then that it is alive; nothing: it never did. */
  hear(node: string, renewTime: string | undefined): void {
    const path = `${leasesPath}/${aliveName(node)}`
    if (renewTime === undefined) this.server.delete(path)
    else this.server.change(path, { spec: { renewTime, leaseDurationSeconds: 150 } })
  }

  /** There is no daemon on a node, and there never was. */
  removeDaemon(node: string): void {
    this.breakComponent(`daemon-${node}`)
    this.hear(node, undefined)
  }

  /** The kubelet of a node does not know our CSI driver. */
  unregister(node: string): void {
    this.server.change(`${csiNodesPath}/${node}`, { spec: { drivers: null } })
  }

  /** A class, of which the scheduler is told. */
  addClass(name: string, more: Parameters<typeof addClass>[2]): void {
    addClass(this.server, name, more)
    for (const { metadata } of this.server.list('/api/v1/nodes')) this.tell(metadata.name)
  }

  /** Publishes the room of a node for all classes. */
  tell(node: string): void {
    const ledger = parseLedger(this.server.find(ledgerPath(node)) as never)
    for (const object of this.server.list(classesPath)) {
      const storageClass = pickClass(object as never)
      if (!storageClass) continue
      const capacity = buildCapacity(
        namespace,
        { name: node, uid: node, topology: { key: 'kubernetes.io/hostname', value: `host-${node}` } },
        storageClass,
        ledger,
      )
      if (capacity && !this.server.find(`${capacitiesPath}/${capacity.metadata?.name}`))
        this.server.create(capacitiesPath, capacity)
    }
  }

  untell(): void {
    for (const { metadata } of this.server.list(capacitiesPath))
      this.server.delete(`${capacitiesPath}/${metadata.name}`)
  }

  addComponent(component: string, node: string): void {
    const labels = { 'app.kubernetes.io/name': 'elastic-local', 'app.kubernetes.io/component': component }
    this.server.create(`/api/v1/namespaces/${namespace}/pods`, {
      metadata: { name: `${component}${node && `-${node}`}`, labels },
      spec: { nodeName: node || 'node-1' },
      status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
    })
  }

  /** The pod of a component has gone, or does not do. */
  breakComponent(name: string, waiting?: string): void {
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`
    if (!waiting) return this.server.delete(path)
    const containerStatuses = [{ restartCount: 3, state: { waiting: { reason: waiting } } }]
    this.server.change(path, { status: { conditions: [{ type: 'Ready', status: 'False' }], containerStatuses } })
  }

  lead(renewTime: string, holderIdentity = 'provisioner_0f0e0d0c-1111-2222-3333-444455556666'): void {
    const path = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`
    const spec = { holderIdentity, renewTime, leaseDurationSeconds: 10 }
    if (this.server.find(`${path}/elastic-local-provisioner`))
      this.server.change(`${path}/elastic-local-provisioner`, { spec })
    else this.server.create(path, { metadata: { name: 'elastic-local-provisioner' }, spec })
  }

  /** A claim without a PV; gives the name that it would have. */
  addClaim(name: string, more: Parameters<typeof claim>[1] & { selected?: string } = {}): string {
    const annotations = more.selected ? { 'volume.kubernetes.io/selected-node': more.selected } : {}
    const object = { ...claim(name, more), status: { phase: 'Pending' } }
    const { metadata } = this.server.create(claimsPath, { ...object, metadata: { ...object.metadata, annotations } })
    return `pvc-${metadata.uid}`
  }

  /** A claim with its volume, which is made, and bound. */
  addBound(name: string, node: string, front: FrontName = 'flex'): string {
    const volume = addVolume(this.server, name, node, halfGibibyte, front)
    const uid = this.server.find(`${volumesPath}/${volume}`)?.metadata.uid
    this.server.change(`${claimsPath}/${name}`, {
      spec: { volumeName: volume },
      status: { phase: 'Bound', capacity: { storage: '512Mi' } },
    })
    this.server.change(`${volumesPath}/${volume}`, { status: { phase: 'Bound' } })
    this.promise(node, volume, { madeFor: uid })
    return volume
  }

  promise(node: string, volume: string, more: { madeFor?: string | undefined; pendingFor?: string } = {}): void {
    addPromise(this.server, node, volume, halfGibibyte, more.pendingFor)
    if (!more.madeFor) return
    const entry = made(undefined, halfGibibyte, more.madeFor)
    this.server.change(ledgerPath(node), { data: { [volume]: toJson(entry) } })
  }

  addPod(
    name: string,
    { claims = [], node, phase = 'Pending', unschedulable, waiting, spec, metadata }: PodWish,
  ): void {
    this.server.create(podsPath, {
      metadata: { name, ...metadata },
      spec: {
        ...(node ? { nodeName: node } : {}),
        volumes: claims.map((claimName) => ({ name: claimName, persistentVolumeClaim: { claimName } })),
        containers: [{ name: 'app', volumeMounts: claims.map((name) => ({ name, mountPath: `/${name}` })) }],
        ...spec,
      },
      status: {
        phase,
        conditions: [
          { type: 'Ready', status: phase === 'Running' && !waiting ? 'True' : 'False' },
          ...(unschedulable
            ? [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: unschedulable }]
            : []),
        ],
        ...(waiting ? { containerStatuses: [{ restartCount: 0, state: { waiting: { reason: waiting } } }] } : {}),
      },
    })
  }

  /** A warning about an object, so many seconds ago. */
  say(
    path: string,
    reason: string,
    message: string,
    { component = 'elastic-local-daemon', secondsAgo = 10 } = {},
  ): void {
    const { metadata } = this.server.find(path) ?? { metadata: { name: path.split('/').at(-1) ?? '', uid: '' } }
    const [, , , ...rest] = path.split('/')
    const kinds: Record<string, string> = {
      nodes: 'Node',
      persistentvolumes: 'PersistentVolume',
      persistentvolumeclaims: 'PersistentVolumeClaim',
      pods: 'Pod',
    }
    const kind = kinds[rest.at(-2) ?? '']
    const { name, uid } = metadata
    const at = 'namespace' in metadata && metadata.namespace ? { namespace: metadata.namespace } : {}
    this.server.create(eventsPath, {
      metadata: { name: `${name}.${this.server.list(eventsPath).length}` },
      involvedObject: { kind, name, ...at, uid: kind === 'Node' ? name : uid },
      type: 'Warning',
      reason,
      message,
      source: { component },
      lastTimestamp: ago(secondsAgo),
    })
  }

  async read(scope: { within?: string } = {}): Promise<ClusterFacts> {
    return await readCluster(this.server.client(), { namespace, ...scope }, now)
  }
}
