import { cp, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { PoolFolder } from './pool-folder.ts'

const test = suite('pool folder')
const away =
  /^Cannot use volumes on this node as what is at .* is not the folder that the daemon was started with \(pool /

test('the folder gets an id once, by which it is known to the next process', () =>
  withScratch(async (path) => {
    const first = new PoolFolder(path)
    assert.is(first.id, undefined)
    await first.mustBeThere()
    await first.open()
    const second = new PoolFolder(path)
    await second.open()
    assert.ok(first.id)
    assert.is(second.id, first.id)
    await second.mustBeThere()
  }))

test('another folder in its place is not taken for it, and nothing is written there', () =>
  withScratch(async (scratch) => {
    const [path, kept, other] = ['volumes', 'kept', 'other'].map((name) => join(scratch, name)) as [
      string,
      string,
      string,
    ]
    for (const folder of [path, other]) await mkdir(folder)
    const folder = new PoolFolder(path)
    await folder.open()
    await new PoolFolder(other).open()
    await rename(path, kept)
    await rejects('unavailable', away, () => folder.mustBeThere())
    await mkdir(path)
    await rejects('unavailable', away, () => folder.mustBeThere())
    assert.equal(await readdir(path), [])
    await rm(path, { recursive: true })
    await rename(other, path)
    await rejects('unavailable', away, () => folder.mustBeThere())
    await rename(path, other)
    await rename(kept, path)
    await folder.mustBeThere()
  }))

test('the same pool is known again when its disk comes back with another number', () =>
  withScratch(async (scratch) => {
    const path = join(scratch, 'volumes')
    await mkdir(path)
    const folder = new PoolFolder(path)
    await folder.open()
    await rename(path, join(scratch, 'kept'))
    await mkdir(path)
    await rejects('unavailable', away, () => folder.mustBeThere())
    await cp(join(scratch, 'kept'), path, { recursive: true })
    await folder.mustBeThere()
  }))

test.run()
