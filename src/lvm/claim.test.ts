import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { buildClaim, describeClaim, otherClaims, readMachineId } from './claim.ts'

const test = suite('claims of volume groups')
const [one, two] = ['1'.repeat(32), '2'.repeat(32)]

test('a claim has only what a tag may have, and is another for each folder', () => {
  assert.is(buildClaim(one, '/mnt/volumes-1'), `elastic-local.daemon=${one}:/mnt/volumes-1`)
  assert.is(buildClaim(one, '/a b/ä,!@'), `elastic-local.daemon=${one}:/a!20b/!c3!a4!2c!21!40`)
})

test('claims of others are found among all tags, and named', () => {
  const own = buildClaim(one, '/a')
  const others = [buildClaim(one, '/b'), buildClaim(two, '/a')]
  assert.equal(otherClaims(['elastic-local', own, 'x', ...others], own), others)
  assert.equal(otherClaims([own], own), [])
  assert.equal(
    others.map((claim) => describeClaim(claim, own)),
    ['this machine with --volumes-dir /b', `machine ${two} with --volumes-dir /a`],
  )
})

test('readMachineId() is that of process 1, and nothing where there is none', () =>
  withScratch(async (root) => {
    const put = async (folder: string, text: string) => {
      await mkdir(join(root, folder, 'etc'), { recursive: true })
      await writeFile(join(root, folder, 'etc/machine-id'), text)
    }
    assert.is(await readMachineId(root), undefined)
    await put('', `${one}\n`)
    assert.is(await readMachineId(root), one)
    await put('proc/1/root', 'uninitialized\n')
    assert.is(await readMachineId(root), one)
    await put('proc/1/root', `${two}\n`)
    assert.is(await readMachineId(root), two)
  }))

test.run()
