import { chmod, mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { closeToOthers } from './folder.ts'

const test = suite('folder for volumes')
const modeOf = async (folder: string) => (await stat(folder)).mode & 0o7777

test('closeToOthers() takes a new folder from all but its owner, and says nothing', () =>
  withScratch(async (folder) => {
    for (const name of ['.elastic-local', 'lost+found']) await mkdir(join(folder, name))
    for (const mode of [0o755, 0o700, 0o1777]) {
      await chmod(folder, mode)
      assert.is(await closeToOthers(folder), undefined)
      assert.is(await modeOf(folder), mode & 0o7700)
    }
  }))

test('closeToOthers() leaves a folder with other things in it, and says what to do if others can get in', () =>
  withScratch(async (folder) => {
    await mkdir(join(folder, 'theirs'))
    await chmod(folder, 0o755)
    assert.match((await closeToOthers(folder)) ?? '', /mode 755.*chmod 700/)
    assert.is(await modeOf(folder), 0o755)
    await chmod(folder, 0o700)
    assert.is(await closeToOthers(folder), undefined)
  }))

test.run()
