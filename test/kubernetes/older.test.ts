import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { readSources } from '../cluster/build.ts'
import { suite } from '../suite.ts'
import { rewriteForOlder } from './older.ts'
import { defaultVersion, parseVersion } from './version.ts'

const test = suite('older versions of Kubernetes')
const folder = join(import.meta.dirname, '../cluster/control-plane')
const sources = await readSources(
  folder,
  (await readdir(folder)).filter((file) => file.endsWith('.go')),
)

test('the sources can be rewritten for every version that we name, and stay as they are for the newest', () => {
  for (const minor of [31, 32, 33, 34, 35, 36]) {
    const rewritten = rewriteForOlder(sources, minor)
    assert.equal([...rewritten.keys()], [...sources.keys()])
    assert.match(rewritten.get('stats.go') ?? '', /cadvisor\/info\/v1/)
    assert.is(/NewKubeletCommand\(\)/.test(rewritten.get('main.go') ?? ''), minor <= 33)
  }
  assert.equal(rewriteForOlder(sources, parseVersion(defaultVersion).minor), sources)
})

test('sources that have changed where an older version differs are told of', () => {
  const changed = new Map(sources).set('stats.go', 'package main\n')
  assert.throws(() => rewriteForOlder(changed, 36), /Cannot build Kubernetes v1\.36 as stats\.go must have this once/)
})

test('a version must be one in full', () => {
  assert.equal(parseVersion('v1.34.4'), { version: 'v1.34.4', minor: 34, patch: 4 })
  for (const version of ['1.34.4', 'v1.34', 'v2.0.0', 'v1.34.4-rc.1', 'newest'])
    assert.throws(
      () => parseVersion(version),
      (error: Error) => error.message.includes(`must be a version such as ${defaultVersion}: it is "${version}"`),
    )
})

test.run()
