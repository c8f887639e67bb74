import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { defaultSettings, formatSettings, readSettings } from './settings.ts'

const test = suite('flex settings')
const folder = mkdtempSync(join(tmpdir(), 'elastic-local-settings-'))
const path = join(folder, 'file')

test.after(() => rmSync(folder, { recursive: true }))

test('readSettings() gives the defaults when there is no file', () => {
  assert.equal(readSettings(join(folder, 'none')), defaultSettings)
})

test('readSettings() reads what formatSettings() wrote, and fills in what is missing', () => {
  const settings = { socket: '/run/x', attach: true }
  writeFileSync(path, formatSettings(settings))
  assert.equal(readSettings(path), settings)
  writeFileSync(path, '{"attach":true}')
  assert.equal(readSettings(path), { ...defaultSettings, attach: true })
})

test('readSettings() names a file that it cannot use', () => {
  for (const text of [
    '',
    '{',
    'null',
    '[]',
    '"x"',
    '{"socket":""}',
    '{"socket":1}',
    '{"attach":"true"}',
    '{"socket":"a\\u0000"}',
  ]) {
    writeFileSync(path, text)
    assert.throws(
      () => readSettings(path),
      (error: Error) => error.message.includes(path),
      text,
    )
  }
  const directory = join(folder, 'directory')
  mkdirSync(directory)
  assert.throws(
    () => readSettings(directory),
    (error: Error) => error.message.includes(directory),
  )
})

test.run()
