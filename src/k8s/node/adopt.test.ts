import * as assert from 'uvu/assert'
import { rejects } from '../../../test/contract.ts'
import { MemoryApi } from '../../../test/memory-api.ts'
import { addLedger, addNode, addVolume, ledgerPath, namespace, volumesPath } from '../../../test/memory-cluster.ts'
import { suite } from '../../../test/suite.ts'
import { nodeLabel } from '../model/names.ts'
import { pickVolume } from '../model/persistent-volume.ts'
import { buildAdoption } from './adopt.ts'

const test = suite('adopt')
const sizeBytes = 64n << 20n
const adoption = { namespace, sizeBytes, fsType: 'xfs', node: 'a', storageClass: 'fast' }
const claim = { namespace: 'default', name: 'data' }

test('a volume without a PV gets one that is retained, for a claim by its name', async () => {
  const server = new MemoryApi()
  addNode(server, 'a')
  const { metadata, spec } = await buildAdoption(server.client(), { ...adoption, name: 'pvc-1', claim })
  assert.equal([metadata?.name, metadata?.labels?.[nodeLabel]], ['pvc-1', 'a'])
  assert.equal(spec?.claimRef, { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claim })
  assert.equal([spec?.persistentVolumeReclaimPolicy, spec?.storageClassName], ['Retain', 'fast'])
  assert.is(spec?.flexVolume?.options?.sizeBytes, String(sizeBytes))
  assert.match(spec?.flexVolume?.options?.key ?? '', /^[0-9a-f]{32}$/)
})

test('a volume without a PV gets one by which the daemon of its node serves volumes', async () => {
  const server = new MemoryApi()
  addNode(server, 'a')
  addLedger(server, 'a')
  const build = () => buildAdoption(server.client(), { ...adoption, name: 'pvc-1', claim })
  assert.is(pickVolume(await build())?.front, 'flex')
  const pool = JSON.parse(server.find(ledgerPath('a'))?.data['_pool.default'])
  server.change(ledgerPath('a'), { data: { '_pool.default': JSON.stringify({ ...pool, fronts: ['csi'] }) } })
  const { spec } = await build()
  assert.equal([spec?.csi?.volumeHandle, spec?.csi?.fsType, spec?.flexVolume], ['pvc-1', 'xfs', undefined])
})

test('a block device without a PV gets one of CSI, as no other front has such', async () => {
  const server = new MemoryApi()
  addNode(server, 'a')
  addLedger(server, 'a')
  const { spec } = await buildAdoption(server.client(), { ...adoption, fsType: 'block', name: 'pvc-1', claim })
  assert.equal([spec?.volumeMode, spec?.csi?.volumeHandle, spec?.csi?.fsType], ['Block', 'pvc-1', undefined])
})

test('a PV for another node is the same for this one, and its claim stays bound to it', async () => {
  const server = new MemoryApi()
  addNode(server, 'a')
  const name = addVolume(server, 'data', 'gone', sizeBytes)
  const known = server.find(`${volumesPath}/${name}`)
  const made = await buildAdoption(server.client(), { ...adoption, name, claim: undefined })
  assert.equal(made.spec?.claimRef, known?.spec.claimRef)
  assert.equal(made.spec?.flexVolume, known?.spec.flexVolume)
  assert.is(pickVolume(made)?.node, 'a')
  assert.equal(made.spec?.nodeAffinity?.required?.nodeSelectorTerms[0]?.matchExpressions?.[0]?.values, ['host-a'])
  assert.is(made.metadata?.resourceVersion, undefined)
})

test('it is refused where there is nothing to adopt, nobody to adopt for, or no such node', async () => {
  const server = new MemoryApi()
  addNode(server, 'a')
  const name = addVolume(server, 'data', 'a', sizeBytes)
  const adopt = (more: object) => buildAdoption(server.client(), { ...adoption, name: 'pvc-1', claim, ...more })
  await rejects('exists', /for node a already/, () => adopt({ name }))
  await rejects('invalid', /name one with --claim/, () => adopt({ claim: undefined }))
  await rejects('not-found', /no such node/, () => adopt({ node: 'b' }))
})

test.run()
