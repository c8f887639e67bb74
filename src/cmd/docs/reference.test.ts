import { readFile } from 'node:fs/promises'
import * as assert from 'uvu/assert'
import { suite } from '../../../test/suite.ts'
import { elasticLocal, kubectlPlugin } from '../programs.ts'
import { buildReference, referencePath } from './reference.ts'

const test = suite('reference')

test('docs/reference.md is what the code says; "make docs" makes it so', async () => {
  assert.fixture(await readFile(referencePath, 'utf8'), buildReference())
})

test('buildReference() has every command, every flag and every variable', () => {
  const page = buildReference()
  for (const { name, flags } of [...elasticLocal.commands, ...kubectlPlugin.commands]) {
    assert.match(page, new RegExp(`^### \`(kubectl elastic_local )?${name}`, 'm'))
    for (const flag of Object.values(flags)) {
      assert.ok(page.includes(`| \`--${flag.name}`), flag.name)
      for (const variable of flag.env) assert.ok(page.includes(variable), variable)
    }
  }
})

test.run()
