import * as assert from 'uvu/assert'
import { suite } from '../../../test/suite.ts'
import type { PoolReport } from '../../volume/pool.ts'
import { poolFacts } from './publisher.ts'

const test = suite('publisher')
const mebibyte = 1n << 20n
const report: PoolReport = {
  name: '/volumes',
  id: 'id',
  driverKind: 'LOOP',
  sizeBytes: 10_240n * mebibyte,
  allocatedBytes: 0n,
  freeBytes: 0n,
  volumes: 0,
  unitBytes: mebibyte,
  enforcesSize: true,
  problems: [],
}
/** What is said one after the other of a disk with so many MiB free. */
function said(...frees: number[]): number[] {
  let known: ReturnType<typeof poolFacts> | undefined
  return frees.map((free) => {
    known = poolFacts({ ...report, freeBytes: BigInt(free) * mebibyte }, known)
    return Number(known.capacityBytes / mebibyte)
  })
}

test('a disk that others write to is told of in steps, and not anew for what goes to and fro', () => {
  assert.equal(said(1000, 990, 1010, 961, 1087), [960, 960, 960, 960, 960])
})

test('no more is said than there is, and much more room is said at once', () => {
  assert.equal(said(1000, 959, 961, 970, 2000, 0), [960, 896, 896, 896, 1984, 0])
})

test('of a volume group each extent is said', () => {
  assert.is(poolFacts({ ...report, driverKind: 'LVM', freeBytes: 5n }, undefined).capacityBytes, 5n)
})

test.run()
