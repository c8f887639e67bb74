import * as assert from 'uvu/assert'
import { suite } from '../../../test/suite.ts'
import { buildCapacity } from './capacity.ts'
import type { ClassFacts } from './claim.ts'
import { buildLedger, made, parseLedger } from './ledger.ts'

const test = suite('capacity')
const mebibyte = 1n << 20n
const node = { name: 'a', uid: 'uid', topology: { key: 'kubernetes.io/hostname', value: 'host-a' } }

/** What a class with these parameters is told of a node whose pool has that much left. */
function offerOf(parameters: Record<string, string>, freeBytes: bigint, unitBytes = 4n * mebibyte): string | undefined {
  const storageClass: ClassFacts = {
    name: 'fast',
    provisioner: 'elastic-local.volumes.k8s.elastic.co',
    parameters,
    mountOptions: [],
    reclaimPolicy: 'Delete',
    waitsForPod: true,
    topologies: [],
  }
  const pool = {
    name: 'vg',
    driverKind: 'LVM',
    capacityBytes: freeBytes + 64n * mebibyte,
    unitBytes,
    fronts: ['flex'],
  } as const
  const entries = new Map([['pvc-1', made(undefined, 64n * mebibyte, undefined)]])
  const ledger = parseLedger(buildLedger('elastic-local', 'a', pool, entries))
  return buildCapacity('elastic-local', node, storageClass, ledger)?.capacity
}

test('buildCapacity() offers what is left', () => {
  assert.is(offerOf({}, 100n * mebibyte), String(100n * mebibyte))
  assert.is(offerOf({ fsType: 'xfs', driverKind: 'LVM', pool: 'vg' }, 300n * mebibyte), String(300n * mebibyte))
})

test('buildCapacity() offers nothing below the least that a filesystem needs', () => {
  assert.is(offerOf({ fsType: 'xfs' }, 100n * mebibyte), '0')
  assert.is(offerOf({ fsType: 'xfs' }, 300n * mebibyte - 1n), '0')
})

test('buildCapacity() offers whole units only, as nothing else can be had', () => {
  assert.is(offerOf({}, 102n * mebibyte), String(100n * mebibyte))
})

test('buildCapacity() gives no object for a class that wants another pool, or is wrong', () => {
  for (const parameters of [{ driverKind: 'LOOP' }, { pool: 'other' }, { typo: '1' }, { fsType: 'ntfs' }])
    assert.is(offerOf(parameters, 100n * mebibyte), undefined)
})

test.run()
