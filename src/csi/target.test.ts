import { existsSync } from 'node:fs'
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { VolumeError } from '../volume/errors.ts'
import { checkTarget, removeTarget } from './target.ts'

const test = suite('CSI targets')
const volumeName = 'pvc-0b5d3c1e-7a52-4f8e-9c1d-2f6f0a1b2c3d'
const uid = '11111111-aaaa-4000-8000-000000000001'
const podWay = `pods/${uid}/volumes/kubernetes.io~csi/${volumeName}/mount`
const refuses = (kubeletDir: string, path: string, options?: { anywhere: boolean }) =>
  rejects('invalid', /^Cannot use /, () => checkTarget(kubeletDir, path, options))

test("a pod's folder is a target, whether it is there or not", () =>
  withScratch(async (kubeletDir) => {
    const path = join(kubeletDir, podWay)
    for (const folder of [kubeletDir, dirname(path), path]) {
      await mkdir(folder, { recursive: true })
      assert.equal(await checkTarget(kubeletDir, path), { path, pod: { uid, volumeName, isDevice: false } })
    }
  }))

test("a block device's target is a file, with the same checks, and goes when it is empty", () =>
  withScratch(async (kubeletDir) => {
    const way = `plugins/kubernetes.io/csi/volumeDevices/publish/${volumeName}/${uid}`
    const path = join(kubeletDir, way)
    const pod = { uid, volumeName, isDevice: true }
    assert.equal(await checkTarget(kubeletDir, path), { path, pod })
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, '')
    const target = await checkTarget(kubeletDir, path)
    assert.equal(target, { path, pod })
    await removeTarget(target)
    await removeTarget(target)
    assert.not.ok(existsSync(path))
    await writeFile(path, 'not ours')
    await removeTarget(target)
    assert.ok(existsSync(path))
    await rm(path)
    await symlink('/dev/null', path)
    for (const anywhere of [false, true]) await refuses(kubeletDir, path, { anywhere })
    await refuses(kubeletDir, dirname(path))
    await rm(dirname(path), { recursive: true })
    await symlink('/tmp', dirname(path))
    await refuses(kubeletDir, path)
  }))

test("the kubelet, the daemon or both may reach the kubelet's folder through a link, and the target is then without it", () =>
  withScratch(async (scratch) => {
    const [kubeletDir, link] = [join(scratch, 'kubelet'), join(scratch, 'link')]
    await mkdir(kubeletDir)
    await symlink(kubeletDir, link)
    for (const ours of [kubeletDir, link])
      for (const theirs of [kubeletDir, link])
        assert.is((await checkTarget(ours, join(theirs, podWay))).path, join(kubeletDir, podWay))
    await refuses(link, join(scratch, podWay))
    await refuses(link, join(kubeletDir, podWay), { anywhere: true })
  }))

test('a link or a file anywhere on the way is refused', () =>
  withScratch(async (scratch) => {
    for (const [index, put] of [
      (path: string) => symlink('/tmp', path),
      (path: string) => writeFile(path, ''),
    ].entries())
      for (const depth of podWay.split('/').keys()) {
        const kubeletDir = join(scratch, `${index}-${depth}`)
        const bad = join(kubeletDir, ...podWay.split('/').slice(0, depth + 1))
        await mkdir(dirname(bad), { recursive: true })
        await put(bad)
        for (const anywhere of [false, true]) await refuses(kubeletDir, join(kubeletDir, podWay), { anywhere })
      }
  }))

test('any other place is refused', () =>
  withScratch(async (kubeletDir) => {
    for (const way of [
      '',
      'pods',
      `pods/${uid}/volumes/kubernetes.io~csi/${volumeName}`,
      `pods/${uid}/volumes/kubernetes.io~csi/${volumeName}/globalmount`,
      `pods/${uid}/volumes/kubernetes.io~csi/a/b/mount`,
      `pods/${uid}/volumes/kubernetes.io~nfs/${volumeName}/mount`,
      `pods/${'a'.repeat(65)}/volumes/kubernetes.io~csi/${volumeName}/mount`,
      `pods/a_b/volumes/kubernetes.io~csi/${volumeName}/mount`,
      `plugins/kubernetes.io/csi/x/globalmount`,
      `x/${podWay}`,
    ])
      await refuses(kubeletDir, join(kubeletDir, way))
    for (const path of ['', podWay, `/${podWay}`, `${kubeletDir}/../${podWay}`, `${kubeletDir}/${podWay}/../mount`])
      for (const anywhere of [false, true]) await refuses(kubeletDir, path, { anywhere })
    await refuses(kubeletDir, kubeletDir, { anywhere: true })
    await refuses(kubeletDir, `${kubeletDir}x/y`, { anywhere: true })
  }))

test('whatever is asked for, a target lies below the folder or is refused', () =>
  withScratch(async (kubeletDir) => {
    const part = fc.constantFrom('..', '.', '', 'pods', uid, 'volumes', 'kubernetes.io~csi', volumeName, 'mount', '\0')
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 9 }), fc.boolean(), async (parts, anywhere) => {
        try {
          const { path } = await checkTarget(kubeletDir, `${kubeletDir}/${parts.join('/')}`, { anywhere })
          assert.ok(path.startsWith(`${kubeletDir}/`) && !path.includes('/../'))
        } catch (error) {
          if (!(error instanceof VolumeError)) throw error
        }
      }),
    )
  }))

test.run()
