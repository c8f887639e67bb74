import { status } from '@grpc/grpc-js'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { VolumeError, type VolumeErrorCode } from '../volume/errors.ts'
import { CallError, need, statusOf } from './codes.ts'

const test = suite('CSI codes')

test('each failure of a volume has its code, and its message goes with it', () => {
  const expected: Record<VolumeErrorCode, keyof typeof status> = {
    invalid: 'INVALID_ARGUMENT',
    'not-found': 'NOT_FOUND',
    lost: 'DATA_LOSS',
    exists: 'ALREADY_EXISTS',
    'no-space': 'RESOURCE_EXHAUSTED',
    busy: 'FAILED_PRECONDITION',
    unavailable: 'UNAVAILABLE',
    stopping: 'UNAVAILABLE',
    failed: 'INTERNAL',
  }
  for (const [code, name] of Object.entries(expected))
    assert.equal(statusOf(new VolumeError(code as VolumeErrorCode, 'why')), { code: status[name], details: 'why' })
})

test('a call may end with a code of its own, and a bug is internal', () => {
  assert.equal(statusOf(new CallError(status.ABORTED, 'why')), { code: status.ABORTED, details: 'why' })
  assert.equal(statusOf(new TypeError('why')), { code: status.INTERNAL, details: 'why' })
  assert.equal(statusOf('why'), { code: status.INTERNAL, details: 'why' })
})

test('need() gives what is there', () => {
  assert.is(need('pvc-1', 'volume_id'), 'pvc-1')
  assert.throws(() => need('', 'volume_id'), /volume_id must be given/)
})

test.run()
