import type { V1PersistentVolume, V1PersistentVolumeClaim, V1Pod } from '@kubernetes/client-node'
import * as assert from 'uvu/assert'
import { claimsPath, ledgerPath, volumesPath } from '../../../test/memory-cluster.ts'
import { World } from '../../../test/overview-world.ts'
import { suite } from '../../../test/suite.ts'
import { csiDriverName } from '../../csi/driver.ts'
import type { FrontName } from '../fronts/front.ts'
import { parseLedger } from '../model/ledger.ts'
import { findObstacle, type Scene } from './obstacle.ts'

const test = suite('obstacles of a move')

/** A volume that nothing keeps from being moved. */
function open(front: FrontName = 'flex'): Scene {
  const world = new World()
  const name = world.addBound('data', 'node-1', front)
  const { server } = world
  return {
    volume: server.find(`${volumesPath}/${name}`) as unknown as V1PersistentVolume,
    claim: server.find(`${claimsPath}/data`) as unknown as V1PersistentVolumeClaim,
    node: server.find('/api/v1/nodes/node-1') as object,
    ledger: parseLedger(server.find(ledgerPath('node-1')) as never),
    csiNode: { spec: { drivers: [{ name: csiDriverName, nodeID: 'node-1' }] } },
    csiDriver: { spec: {} },
    pods: [],
  }
}

/** The scene with what stands at a path made another. */
function change(scene: Scene, path: string, value: unknown): Scene {
  const copy = structuredClone({ ...scene, ledger: undefined }) as Record<string, unknown>
  copy.ledger = scene.ledger
  const keys = path.split('.')
  const last = keys.pop() as string
  let at = copy
  for (const key of keys) {
    at[key] ??= {}
    at = at[key] as Record<string, unknown>
  }
  if (value === undefined) delete at[last]
  else at[last] = value
  return copy as unknown as Scene
}

const pod = (name: string, phase: string, claimName = 'data'): V1Pod => ({
  metadata: { name, namespace: 'default' },
  spec: { containers: [], volumes: [{ name: 'data', persistentVolumeClaim: { claimName } }] },
  status: { phase },
})

test('nothing keeps a volume that is bound and that no pod uses', () => {
  assert.is(findObstacle(open(), 'csi', false), undefined)
  assert.is(findObstacle(open('csi'), 'flex', false), undefined)
  const others = [pod('ended', 'Succeeded'), pod('other', 'Running', 'another')]
  assert.is(findObstacle({ ...open(), pods: others }, 'csi', false), undefined)
  assert.is(findObstacle({ ...open(), pods: [pod('web', 'Running')] }, 'csi', true), undefined)
})

test('what keeps a volume from being moved is said', () => {
  for (const [path, value, why] of [
    ['volume.spec.claimRef', undefined, /not one of ours with a claim/],
    ['volume.spec.flexVolume.driver', 'other', /not one of ours with a claim/],
    ['volume.metadata.deletionTimestamp', '2026-01-01T00:00:00Z', /it is being deleted/],
    ['claim.metadata.deletionTimestamp', '2026-01-01T00:00:00Z', /it is being deleted/],
    ['claim', undefined, /not bound to its claim/],
    ['claim.metadata.uid', 'other', /not bound to its claim/],
    ['claim.spec.volumeName', 'other', /not bound to its claim/],
    ['claim.status.phase', 'Lost', /not bound to its claim/],
    ['volume.status.phase', 'Released', /not bound to its claim/],
    ['volume.metadata.name', 'pvc-1', /not bound to its claim/],
    ['volume.spec.nodeAffinity', undefined, /not tied to one node/],
    ['volume.metadata.labels', {}, /not tied to one node/],
    ['volume.metadata.annotations', { 'volumes.k8s.elastic.co/make-lost-anew': 'true' }, /make-lost-anew/],
    ['volume.metadata.finalizers', ['mine.org/backup'], /finalizer mine.org\/backup holds/],
    ['volume.spec.volumeAttributesClassName', 'fast', /volumeAttributesClassName, which a move would lose/],
    ['claim.spec.resources.requests.storage', '1Gi', /is growing, or its growth was refused/],
    ['volume.spec.capacity.storage', '1Gi', /is growing/],
    ['claim.status.allocatedResourceStatuses', { storage: 'NodeResizeInfeasible' }, /is growing/],
    ['claim.status.capacity.storage', 'much', /cannot be read/],
    ['volume.spec.flexVolume.options.sizeBytes', 'much', /cannot be read/],
    ['node', undefined, /node node-1 is not ready/],
    ['node.status.conditions', [{ type: 'Ready', status: 'Unknown' }], /node node-1 is not ready/],
    ['node.metadata.labels', { 'kubernetes.io/hostname': 'other' }, /tied to kubernetes.io\/hostname=host-node-1/],
    ['ledger', undefined, /has not reported that it created it/],
    ['csiDriver', undefined, /no CSIDriver object .*: apply deploy.yaml again/],
    ['csiNode', undefined, /does not know our CSI driver/],
    ['csiNode.spec.drivers', [{ name: 'other', nodeID: 'node-1' }], /does not know our CSI driver/],
    ['pods', [pod('web', 'Pending')], /^pod web uses it: stop it first, or use --in-use/],
  ] as const)
    assert.match(findObstacle(change(open(), path, value), 'csi', false) ?? 'nothing', why, path)
})

test('a volume is not moved to a front that its node does not serve, nor a raw block volume to FlexVolume', () => {
  const withFronts = (scene: Scene, fronts: string[]): Scene => {
    const ledger = scene.ledger as NonNullable<Scene['ledger']>
    return {
      ...scene,
      ledger: { ...ledger, pools: new Map([...ledger.pools].map(([key, one]) => [key, { ...one, fronts }])) },
    }
  }
  assert.match(
    findObstacle(withFronts(open(), ['flex']), 'csi', false) ?? '',
    /node-1 does not serve CSI: start it with --csi/,
  )
  assert.match(findObstacle(withFronts(open('csi'), ['csi']), 'flex', false) ?? '', /does not serve FlexVolumes/)
  const block = change(open('csi'), 'volume.spec.volumeMode', 'Block')
  assert.match(findObstacle(block, 'flex', false) ?? '', /raw block volume, which FlexVolume does not support/)
})

test('a volume that was adopted for another claim is not moved: a record goes by the claim in its name', () => {
  const scene = open()
  const adopted = change(change(scene, 'volume.metadata.name', 'pvc-old'), 'claim.spec.volumeName', 'pvc-old')
  assert.match(
    findObstacle(adopted, 'csi', false) ?? '',
    /it is bound to another claim than the one that it was created for/,
  )
})

test.run()
