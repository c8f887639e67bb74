import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { formatJsonPath, valuesAt } from './json-path.ts'

const test = suite('JSONPath')

const document = {
  volumes: [
    { name: 'a', state: 'ready', claim: { namespace: 'shop', name: 'x' }, sizeBytes: '5' },
    { name: 'b', state: 'lost', pods: [] },
  ],
}

test('formatJsonPath() finds what kubectl finds', () => {
  for (const [template, expected] of [
    ['{.volumes[*].name}', 'a b'],
    ['{$.volumes[0].name}', 'a'],
    ['{.volumes[-1].name}', 'b'],
    ['{.volumes[-2].name}', 'a'],
    ['{..namespace}', 'shop'],
    ["{.volumes[0]['name','state']}", 'a ready'],
    ['{.volumes[?(@.state=="lost")].name}', 'b'],
    ['{.volumes[?(@.claim.namespace=="shop")].name}', 'a'],
    ['{.volumes[1].pods}', '[]'],
    ['{.volumes[0].claim}', '{"namespace":"shop","name":"x"}'],
    ['{.nothing}', ''],
    ['no path', 'no path'],
    ['size: {.volumes[0].sizeBytes}{"\\n\\"}"}', 'size: 5\n"}'],
    ['{range .volumes[*]}{.name}={@.state}{"\\n"}{end}', 'a=ready\nb=lost\n'],
    ['{range .volumes[*]}{range .claim}{.name}{end};{end}', 'x;;'],
  ] as const)
    assert.is(formatJsonPath(template, document), expected, template)
})

test('formatJsonPath() says what is wrong with a template', () => {
  for (const [template, said] of [
    ['{.volumes', /Cannot use the JSONPath \{\.volumes: each \{ must have its \}/],
    ['.volumes}', /each \{ must have its \}/],
    ['{}', /there must be a path between \{ and \}/],
    ['{range .volumes}', /each \{range\} must have its \{end\}/],
    ['{end}', /each \{end\} must have its \{range\}/],
    ['{.volumes[?(@.name==)]}', /Cannot use the JSONPath/],
    ['{.volumes[?(process.exit())]}', /process is not defined/],
  ] as const)
    assert.throws(() => formatJsonPath(template, document), said, template)
})

test('valuesAt() takes a path with braces, with a dot, and bare', () => {
  for (const path of ['{.volumes[*].name}', '.volumes[*].name', 'volumes[*].name'])
    assert.equal(valuesAt(path, document), ['a', 'b'])
})

test.run()
