import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { withScratch } from '../../test/scratch.ts'
import { type Step, scripted } from '../../test/scripted-runner.ts'
import { suite } from '../../test/suite.ts'
import { findOpeners } from './holders.ts'

const test = suite('holders')
const path = '/dev/vg/one'

const dmsetup = (output: Partial<Step>): Step => ({
  file: 'dmsetup',
  args: ['info', '--columns', '--noheadings', '--options', 'open', '--major', '253', '--minor', '7'],
  ...output,
})

/** What is found of a device of which the kernel has those files. */
const find = async (files: Record<string, string>, steps: Step[]) => {
  let found: string | undefined
  await withScratch(async (sys) => {
    for (const [name, text] of Object.entries(files)) {
      const file = join(sys, 'dev/block/253:7', name)
      await mkdir(dirname(file), { recursive: true })
      await writeFile(file, text)
    }
    found = await scripted(steps, (run) => findOpeners(path, '253:7', { run, sys }))
  })
  return found
}

test("findOpeners() asks for the device mapper's count of those who have a logical volume open", async () => {
  const files = { 'dm/uuid': 'LVM-x\n' }
  assert.is(await find(files, [dmsetup({ stdout: '0\n' })]), undefined)
  for (const stdout of ['1\n', ' 12 \n', ''])
    assert.match((await find(files, [dmsetup({ stdout })])) ?? '', /^a process has \/dev\/vg\/one open; .*fuser/)
  await rejects('failed', /^Cannot look who has \/dev\/vg\/one open: .*Device does not exist/, () =>
    find(files, [dmsetup({ exitCode: 1, stderr: 'Device does not exist.' })]),
  )
})

test('findOpeners() believes the kernel that a loop device which was detached is still open', async () => {
  assert.match((await find({ 'loop/autoclear': '1\n' }, [])) ?? '', /^a process has/)
  assert.is(await find({ 'loop/autoclear': '0\n' }, []), undefined)
})

test('findOpeners() knows of no others than the kernel counts', async () => {
  assert.is(await find({ size: '8\n' }, []), undefined)
  assert.is(await find({}, []), undefined)
})

test.run()
