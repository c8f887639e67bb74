import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type ClaimFacts, type ClassFacts, decideClaim } from './claim.ts'
import { buildVolume, pickVolume } from './persistent-volume.ts'

const test = suite('claim')

const storageClass: ClassFacts = {
  name: 'fast',
  provisioner: 'elastic-local.volumes.k8s.elastic.co',
  parameters: {},
  mountOptions: [],
  reclaimPolicy: 'Delete',
  waitsForPod: true,
  topologies: [],
}
const claim: ClaimFacts = {
  namespace: 'default',
  name: 'data',
  uid: 'uid-1',
  resourceVersion: '1',
  className: 'fast',
  selectedNode: 'node-1',
  volumeName: '',
  request: '1Gi',
  accessModes: ['ReadWriteOnce'],
  volumeMode: 'Filesystem',
  hasSelector: false,
  hasDataSource: false,
  isDeleting: false,
  isGrowing: false,
  created: 0,
}
const decide = (changes: Partial<ClaimFacts>, more: Partial<ClassFacts> = {}) =>
  decideClaim({ ...claim, ...changes }, { ...storageClass, ...more })

test('decideClaim() lets alone what is bound, deleted, of another class, or not wanted by a pod yet', () => {
  assert.equal(decideClaim(claim, undefined), { kind: 'none' })
  for (const changes of [{ volumeName: 'pv' }, { isDeleting: true }, { selectedNode: '' }])
    assert.equal(decide(changes), { kind: 'none' })
})

test('decideClaim() refuses a claim of a class that is wrong also while no node is selected', () => {
  const decision = decide({ selectedNode: '' }, { parameters: { fstype: 'xfs' } })
  assert.match(decision.kind === 'refuse' ? decision.message : decision.kind, /one is "fstype"/)
})

test('decideClaim() takes the selected node, and chooses none itself only for Immediate', () => {
  assert.equal(decide({}), {
    kind: 'provision',
    provision: { sizeBytes: 1n << 30n, fsType: 'ext4', options: {}, node: 'node-1' },
  })
  assert.equal(decide({ selectedNode: '' }, { waitsForPod: false }), {
    kind: 'provision',
    provision: { sizeBytes: 1n << 30n, fsType: 'ext4', options: {} },
  })
})

test('decideClaim() makes a claim as large as its filesystem must be', () => {
  const decision = decide({ request: '1Mi' }, { parameters: { fsType: 'xfs' } })
  assert.is(decision.kind === 'provision' && decision.provision.sizeBytes, 300n << 20n)
})

test('decideClaim() hands on what the class says', () => {
  const parameters = { 'csi.storage.k8s.io/fstype': 'xfs', mkfsOptions: '-i size=1024', driverKind: 'LVM', pool: 'vg' }
  assert.equal(decide({}, { parameters, mountOptions: ['noatime', 'discard'] }), {
    kind: 'provision',
    provision: {
      sizeBytes: 1n << 30n,
      fsType: 'xfs',
      options: { mkfsOptions: '-i size=1024', mountOptions: 'noatime,discard' },
      driverKind: 'LVM',
      pool: 'vg',
      node: 'node-1',
    },
  })
})

test('decideClaim() refuses what cannot be, and says which', () => {
  const refused: [Partial<ClaimFacts>, Partial<ClassFacts>, RegExp][] = [
    [{ volumeMode: 'Block' }, {}, /volumeMode must be Filesystem/],
    [{ accessModes: ['ReadWriteOnce', 'ReadOnlyMany'] }, {}, /one is ReadOnlyMany/],
    [{ hasSelector: true }, {}, /selector/],
    [{ hasDataSource: true }, {}, /data source/],
    [{ request: '' }, {}, /Cannot read the size/],
    [{}, { parameters: { typo: '1' } }, /one is "typo"/],
    [{}, { parameters: { fsType: 'ntfs' } }, /fsType must be one of/],
    [{}, { parameters: { fsType: 'xfs', 'csi.storage.k8s.io/fstype': 'ext4' } }, /must be the same/],
    [{}, { parameters: { driverKind: 'ZFS' } }, /driverKind must be one of/],
    [{}, { parameters: { mkfsOptions: '/dev/sda' } }, /Cannot format ext4 with "\/dev\/sda"/],
    [{}, { mountOptions: ['suid'] }, /"suid"/],
  ]
  for (const [changes, more, message] of refused) {
    const decision = decide(changes, more)
    assert.match(decision.kind === 'refuse' ? decision.message : decision.kind, message)
  }
})

test('buildVolume() gives the same PV for the same claim, and pickVolume() reads it', () => {
  const request = {
    claim: { namespace: 'default', name: 'data', uid: 'uid-1', accessModes: ['ReadWriteOnce'] },
    storageClass,
    sizeBytes: 5n,
    fsType: 'xfs',
    options: { mountOptions: 'noatime' },
    node: 'node-1',
    hostname: 'host-1',
    key: 'secret',
  }
  assert.equal(buildVolume(request), buildVolume(request))
  const volume = pickVolume(buildVolume(request))
  assert.equal(
    [volume?.name, volume?.node, volume?.fsType, volume?.claim, volume?.deletesData],
    ['pvc-uid-1', 'node-1', 'xfs', { namespace: 'default', name: 'data', uid: 'uid-1' }, true],
  )
  assert.equal(volume?.options, { mountOptions: 'noatime', sizeBytes: '5', key: 'secret' })
})

test.run()
