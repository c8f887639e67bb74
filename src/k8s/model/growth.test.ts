import * as assert from 'uvu/assert'
import { suite } from '../../../test/suite.ts'
import { describeNoRoom, settleGrowth } from './growth.ts'

const test = suite('growth')
const gibibyte = 1n << 30n

const message = `reason: ${describeNoRoom('pvc-1', { fromBytes: gibibyte, toBytes: 4n * gibibyte, freeBytes: 5n }, { pool: 'vg', node: 'n' })}`
const claim = (storage: string, phase: string, error = message) => ({
  metadata: { name: 'a', resourceVersion: '7' },
  spec: { resources: { requests: { storage } } },
  status: {
    allocatedResources: { storage: '4Gi' },
    allocatedResourceStatuses: { storage: phase },
    conditions: [
      { type: 'Resizing', status: 'True' },
      ...(error ? [{ type: 'NodeResizeError', status: 'True', message: error }] : []),
    ],
  },
})
const statusOf = (patch: object | undefined) => (patch as { status?: Record<string, unknown> } | undefined)?.status

test('a refused growth is marked infeasible, so that the pod can start again, and then left alone', () => {
  assert.equal(statusOf(settleGrowth(claim('4Gi', 'NodeResizeInProgress'), 5n))?.allocatedResourceStatuses, {
    storage: 'NodeResizeInfeasible',
  })
  assert.is(settleGrowth(claim('4Gi', 'NodeResizeInfeasible'), 5n), undefined)
})

test('a lowered request is offered to the node again, without the old error, and only over the version that was seen', () => {
  const patch = settleGrowth(claim('2Gi', 'NodeResizeInfeasible'), 5n)
  assert.equal(patch, {
    metadata: { resourceVersion: '7' },
    status: {
      allocatedResources: { storage: '2Gi' },
      allocatedResourceStatuses: { storage: 'NodeResizePending' },
      conditions: [{ type: 'Resizing', status: 'True' }],
    },
  })
})

test('room that appears lets a refused growth be tried again', () => {
  assert.equal(statusOf(settleGrowth(claim('4Gi', 'NodeResizeInfeasible'), 3n * gibibyte))?.allocatedResourceStatuses, {
    storage: 'NodeResizePending',
  })
  assert.is(settleGrowth(claim('4Gi', 'NodeResizeInfeasible'), 3n * gibibyte - 1n), undefined)
})

test('growth that is under way, or failed for another reason, is the kubelet’s', () => {
  assert.is(settleGrowth(claim('4Gi', 'NodeResizeInProgress', ''), 5n), undefined)
  assert.is(settleGrowth(claim('4Gi', 'NodeResizeInProgress', 'the disk burns'), 5n), undefined)
  assert.is(settleGrowth(claim('4Gi', 'ControllerResizeInProgress'), 5n), undefined)
})

test.run()
