import { readFile } from 'node:fs/promises'
import * as assert from 'uvu/assert'
import { suite } from '../test/suite.ts'
import { parseLinkage } from './elf.ts'

const test = suite('elf')

test('a program names its loader and its libraries', async () => {
  const { loader, needed } = parseLinkage(await readFile(process.execPath)) ?? { loader: undefined, needed: [] }
  assert.match(loader ?? '', /^\/lib(64)?\/ld-linux-/)
  assert.ok(needed.includes('libc.so.6') && needed.includes('libstdc++.so.6'), needed.join())
})

test('a script, an empty file and a cut one are no programs', () => {
  for (const bytes of ['#!/bin/sh\n'.padEnd(100), '', '\x7fELF\x02\x01'])
    assert.is(parseLinkage(Buffer.from(bytes, 'latin1')), undefined)
})

test.run()
