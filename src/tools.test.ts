import * as assert from 'uvu/assert'
import { suite } from '../test/suite.ts'
import { CommandError, type Runner } from './run.ts'
import { adviseOnTools, findMissing, requiredTools } from './tools.ts'
import { driverKinds } from './volume/pool.ts'

const test = suite('tools')
const namesOf = (tools: { tool: string }[]) => tools.map(({ tool }) => tool)

test('requiredTools() names what each kind of pool needs, and nothing else', () => {
  assert.equal(namesOf(requiredTools('BINDMOUNT', false)), ['flock', 'mount', 'umount', 'rm'])
  assert.ok(namesOf(requiredTools('LOOP', false)).includes('losetup'))
  assert.not(namesOf(requiredTools('LOOP', false)).includes('lvm'))
  assert.ok(namesOf(requiredTools('LVM', false)).includes('lvm'))
  assert.not(namesOf(requiredTools('LVM', false)).includes('thin_check'))
  assert.ok(namesOf(requiredTools('LVM', true)).includes('thin_check'))
  assert.ok(namesOf(requiredTools('LVM', true, true)).includes('nsenter'))
})

test('requiredTools() names each tool once, with its package, and can do without xfs and btrfs', () => {
  for (const kind of driverKinds) {
    const tools = requiredTools(kind, true, true)
    assert.is(new Set(namesOf(tools)).size, tools.length)
    assert.ok(tools.every((tool) => tool.package && tool.neededFor))
  }
  const optional = requiredTools('LVM', true).filter((tool) => tool.optional)
  assert.equal(namesOf(optional), ['mkfs.xfs', 'xfs_growfs', 'mkfs.btrfs', 'btrfs'])
})

test('findMissing() finds nothing missing among tools that are there, and all among none', async () => {
  const tools = requiredTools('BINDMOUNT', false)
  assert.equal(await findMissing(tools, { hostTools: false }), [])
  assert.equal(await findMissing(tools, { hostTools: false, folders: ['/nonexistent'] }), tools)
})

test('findMissing() fails when the host has no ls or cannot be entered', async () => {
  const noLs: Runner = async (file, args) => {
    throw new CommandError(
      { file, args },
      { exitCode: 127, stderr: 'nsenter: failed to execute ls: No such file or directory' },
    )
  }
  const forbidden: Runner = async () => ({
    exitCode: 1,
    stdout: '',
    stderr: 'nsenter: cannot open /proc/1/ns/mnt: Permission denied',
  })
  for (const run of [noLs, forbidden]) {
    const error = await findMissing(requiredTools('LVM', false), { hostTools: true, run }).catch((thrown) => thrown)
    assert.match(error.message, /Cannot check the host's tools; .*nsenter: /)
  }
})

test('adviseOnTools() brings each package once', () => {
  const tools = requiredTools('LOOP', false).filter(({ tool }) => ['mkfs.ext4', 'e2fsck', 'losetup'].includes(tool))
  assert.is(adviseOnTools(tools), 'apt-get install mount e2fsprogs')
})

test.run()
