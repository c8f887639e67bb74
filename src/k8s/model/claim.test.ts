import { V1PersistentVolumeClaimSpec, V1StorageClass } from '@kubernetes/client-node'
import * as assert from 'uvu/assert'
import { suite } from '../../../test/suite.ts'
import {
  type ClaimFacts,
  type ClassFacts,
  decideClaim,
  knownClaimFields,
  knownClassFields,
  pickClaim,
} from './claim.ts'
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
  provisioner: '',
  volumeName: '',
  request: '1Gi',
  limit: '',
  accessModes: ['ReadWriteOnce'],
  volumeMode: 'Filesystem',
  hasSelector: false,
  dataSource: '',
  isPopulated: false,
  attributesClass: '',
  refusedAttributesClass: '',
  isDeleting: false,
  isGrowing: false,
  capacity: '',
  growthPhase: '',
  growthDelay: '',
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
  assert.equal(decide({ selectedNode: '', provisioner: storageClass.provisioner }, { waitsForPod: false }), {
    kind: 'provision',
    provision: { sizeBytes: 1n << 30n, fsType: 'ext4', options: {} },
  })
})

test('decideClaim() leaves an Immediate claim to the controller manager until that wants a PV made', () => {
  for (const provisioner of ['', 'another'])
    assert.equal(decide({ provisioner }, { waitsForPod: false }), { kind: 'none' })
})

test('pickClaim() reads the class and who is to make the PV where Kubernetes does, also by their old names', () => {
  const annotations = {
    'volume.beta.kubernetes.io/storage-class': 'old',
    'volume.beta.kubernetes.io/storage-provisioner': 'someone',
  }
  const { className, provisioner } = pickClaim({ metadata: { annotations }, spec: { storageClassName: 'new' } })
  assert.equal([className, provisioner], ['old', 'someone'])
})

test('decideClaim() leaves a claim to the populator of its data source, and says nothing', () => {
  const dataSourceRef = { apiGroup: 'example.com', kind: 'Dump', name: 'one' }
  const { isPopulated, dataSource } = pickClaim({ spec: { dataSourceRef } })
  assert.equal(decide({ isPopulated, dataSource }), { kind: 'none' })
  const clone = pickClaim({ spec: { dataSourceRef: { kind: 'PersistentVolumeClaim', name: 'other' } } })
  assert.is(decide({ isPopulated: clone.isPopulated, dataSource: clone.dataSource }).kind, 'refuse')
})

test('every field of a claim and of a class that the API has is known', () => {
  const fieldsOf = (type: { getAttributeTypeMap(): { name: string }[] }) =>
    type.getAttributeTypeMap().map(({ name }) => name)
  assert.equal(fieldsOf(V1PersistentVolumeClaimSpec), knownClaimFields)
  const common = ['apiVersion', 'kind', 'metadata']
  assert.equal(
    fieldsOf(V1StorageClass).filter((field) => !common.includes(field)),
    knownClassFields,
  )
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

test('decideClaim() makes a block device of what wants one, and leaves out what the class says of filesystems', () => {
  const parameters = { front: 'csi', fsType: 'xfs', mkfsOptions: '-i size=1024', pool: 'vg' }
  assert.equal(decide({ volumeMode: 'Block', request: '4Mi' }, { parameters, mountOptions: ['noatime'] }), {
    kind: 'provision',
    provision: {
      sizeBytes: 4n << 20n,
      fsType: 'block',
      options: {},
      front: 'csi',
      pool: 'vg',
      isBlock: true,
      node: 'node-1',
    },
  })
})

test('decideClaim() refuses what cannot be, and says which', () => {
  const refused: [Partial<ClaimFacts>, Partial<ClassFacts>, RegExp][] = [
    [{ volumeMode: 'Block' }, {}, /volumeMode must be Filesystem, as FlexVolumes are no block devices/],
    [{ volumeMode: 'Block' }, { parameters: { front: 'flex' } }, /use a StorageClass with front csi/],
    [
      { volumeMode: 'Block' },
      { parameters: { front: 'csi', driverKind: 'BINDMOUNT' } },
      /volumeMode must be Filesystem, as volumes of driverKind BINDMOUNT are directories/,
    ],
    [{ volumeMode: 'Tape' }, {}, /volumeMode must be Filesystem or Block: it is Tape/],
    [{ accessModes: ['ReadWriteOnce', 'ReadOnlyMany'] }, {}, /one is ReadOnlyMany/],
    [{ hasSelector: true }, {}, /selector/],
    [{ dataSource: 'PersistentVolumeClaim' }, {}, /data source \(PersistentVolumeClaim\)/],
    [{ attributesClass: 'gold' }, {}, /volumeAttributesClassName must not be set.*gold/],
    [
      { request: '1Mi', limit: '100Mi' },
      { parameters: { fsType: 'xfs' } },
      /xfs needs at least 300 MiB: its limit is 100Mi/,
    ],
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
    front: 'flex' as const,
    topology: { key: 'kubernetes.io/hostname', value: 'host-1' },
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

test('a PV of CSI has its mount options where Kubernetes has them, and no key', () => {
  const volume = buildVolume({
    claim: { namespace: 'default', name: 'data', uid: 'uid-1', accessModes: ['ReadWriteOnce'] },
    storageClass,
    sizeBytes: 5n,
    fsType: 'xfs',
    options: { mountOptions: 'noatime,discard', mkfsOptions: '-i size=512' },
    front: 'csi',
    node: 'node-1',
    topology: { key: 'volumes.k8s.elastic.co/node', value: 'node-1' },
    key: 'secret',
  })
  assert.equal(volume.spec?.csi, {
    driver: 'elastic-local.volumes.k8s.elastic.co',
    volumeHandle: 'pvc-uid-1',
    fsType: 'xfs',
    volumeAttributes: { mkfsOptions: '-i size=512', sizeBytes: '5' },
  })
  assert.equal(volume.spec?.mountOptions, ['noatime', 'discard'])
  const facts = pickVolume(volume)
  assert.equal(
    [facts?.front, facts?.isOfOurMaking, facts?.heldTo],
    ['csi', true, { key: 'volumes.k8s.elastic.co/node', value: 'node-1' }],
  )
  assert.equal(facts?.options, { mkfsOptions: '-i size=512', mountOptions: 'noatime,discard', sizeBytes: '5' })
  const of = (name: string) => pickVolume({ ...volume, metadata: { ...volume.metadata, name } })
  assert.is(of('another'), undefined)
})

test.run()
