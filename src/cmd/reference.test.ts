import { readFile } from 'node:fs/promises'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { commands } from './commands.ts'
import { buildReference, referencePath } from './reference.ts'

const test = suite('reference')

test('docs/reference.md is what the code says; "make docs" makes it so', async () => {
  assert.fixture(await readFile(referencePath, 'utf8'), buildReference())
})

test('buildReference() has every command, every flag and every variable', () => {
  const page = buildReference()
  for (const { name, flags } of commands) {
    assert.ok(page.includes(`### \`${name}`), name)
    for (const flag of Object.values(flags)) {
      assert.ok(page.includes(`| \`--${flag.name}`), flag.name)
      for (const variable of flag.env) assert.ok(page.includes(variable), variable)
    }
  }
})

test.run()
