import * as assert from 'uvu/assert'
import { suite } from '../suite.ts'
import { judge, parseReports, type Spec } from './report.ts'

const test = suite('judging a report of the storage suite')

const spec = (name: string, state: Spec['state'], message = ''): Spec => ({ name, state, message })
const exception = { slice: 'storage', spec: 'grows', why: 'it must not' }
const report = (fields: object) => ({
  ContainerHierarchyTexts: ['outer', 'inner'],
  LeafNodeType: 'It',
  LeafNodeText: 'works',
  State: 'passed',
  NumAttempts: 1,
  ...fields,
})

test('specs that nobody asked for do not count, nor what is around specs, unless that failed', () => {
  assert.equal(
    parseReports([
      report({}),
      report({ LeafNodeText: 'was filtered', State: 'skipped', NumAttempts: 0 }),
      report({ LeafNodeText: 'lacks', State: 'skipped', Failure: { Message: 'the driver cannot' } }),
      report({ LeafNodeText: 'panics', State: 'panicked', Failure: { Message: 'nil' } }),
      report({ LeafNodeType: 'SynchronizedBeforeSuite' }),
      report({ LeafNodeType: 'SynchronizedAfterSuite', State: 'failed', Failure: { Message: 'leaks' } }),
    ]),
    [
      spec('outer inner works', 'passed'),
      spec('outer inner lacks', 'skipped', 'the driver cannot'),
      spec('outer inner panics', 'failed', 'nil'),
      spec('SynchronizedAfterSuite', 'failed', 'leaks'),
    ],
  )
})

test('a spec that fails counts, unless it is known to, and one that is known to and passes counts as well', () => {
  const specs = [
    spec('a reads', 'passed'),
    spec('b writes', 'failed', 'no'),
    spec('c grows', 'failed'),
    spec('d', 'skipped'),
  ]
  const { lines, ...counts } = judge(specs, [exception])
  assert.equal(counts, { passed: 1, failed: 1, excepted: 1, skipped: 1 })
  assert.equal(lines, ['Failed: b writes\nno', 'Known not to pass: c grows\n  it must not'])
  const passed = judge([spec('a grows', 'passed')], [exception])
  assert.is(passed.failed, 1)
  assert.match(passed.lines.join('\n'), /Passed, though it is known not to: a grows/)
})

test('an exception that was not met counts as a failure, and so does a slice of no specs', () => {
  assert.is(judge([spec('a', 'passed')], [exception]).failed, 1)
  assert.is(judge([spec('a', 'skipped')], []).failed, 1)
})

test.run()
