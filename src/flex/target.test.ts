import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { VolumeError } from '../volume/errors.ts'
import { checkTarget } from './target.ts'

const test = suite('targets')
const volumeName = 'pvc-0b5d3c1e-7a52-4f8e-9c1d-2f6f0a1b2c3d'
const podUid = '11111111-aaaa-4000-8000-000000000001'
const podWay = `pods/${podUid}/volumes/volumes.k8s.elastic.co~elastic-local/${volumeName}`
const globalWay = `plugins/kubernetes.io/flexvolume/volumes.k8s.elastic.co/elastic-local/mounts/${volumeName}`

/** Runs `work` with a kubelet's folder in which nothing is. */
const withKubelet = (work: (kubeletDir: string) => Promise<void>) =>
  withScratch(async (scratch) => {
    const kubeletDir = join(scratch, 'kubelet')
    await mkdir(kubeletDir)
    await work(kubeletDir)
  })

const refuses = (kubeletDir: string, path: unknown, message = /^Cannot use /) =>
  rejects('invalid', message, () => checkTarget(kubeletDir, path))

test("a pod's folder is a target, whether it is there or not", () =>
  withKubelet(async (kubeletDir) => {
    const path = join(kubeletDir, podWay)
    const target = { path, volumeName, podUid, sharedPath: join(kubeletDir, globalWay) }
    assert.equal(await checkTarget(kubeletDir, path), target)
    await mkdir(dirname(path), { recursive: true })
    assert.equal(await checkTarget(kubeletDir, path), target)
    await mkdir(path)
    assert.equal(await checkTarget(kubeletDir, path), target)
  }))

test('the folder that all pods of a node share is a target without a pod', () =>
  withKubelet(async (kubeletDir) => {
    const path = join(kubeletDir, globalWay)
    assert.equal(await checkTarget(kubeletDir, path), { path, volumeName, sharedPath: path })
  }))

test("the kubelet, the daemon or both may reach the kubelet's folder through a link, and the target is then without it", () =>
  withKubelet(async (kubeletDir) => {
    const [link, other] = [`${kubeletDir}-link`, `${kubeletDir}-other`]
    await symlink(kubeletDir, link)
    await symlink(link, other)
    for (const ours of [kubeletDir, link])
      for (const theirs of [kubeletDir, link, other])
        for (const way of [podWay, globalWay])
          assert.is((await checkTarget(ours, join(theirs, way))).path, join(kubeletDir, way))
  }))

test('a kubelet with another folder than the daemon is told of, with the flag that is wrong', () =>
  withKubelet(async (kubeletDir) => {
    const message = (theirs: string) =>
      new RegExp(
        `the kubelet's folder must be the daemon's --kubelet-dir, ${RegExp.escape(kubeletDir)}: it is ${RegExp.escape(theirs)}\\. Set --kubelet-dir to that`,
      )
    await mkdir(`${kubeletDir}-2`)
    await symlink('/nowhere', `${kubeletDir}-3`)
    // As MicroK8s has it, where a container has no link.
    const elsewhere = '/var/snap/microk8s/common/var/lib/kubelet'
    for (const theirs of [`${kubeletDir}-2`, `${kubeletDir}-3`, `${kubeletDir}/x`, elsewhere])
      await refuses(kubeletDir, join(theirs, podWay), message(theirs))
    await refuses(kubeletDir, `/${podWay}`, message('/'))
  }))

test("a kubelet's folder that is not there is an error that names it", () =>
  withKubelet(async (kubeletDir) => {
    await rm(kubeletDir, { recursive: true })
    await refuses(kubeletDir, join(kubeletDir, podWay), /as the kubelet's folder: ENOENT/)
  }))

test('a target that is no text is refused', () =>
  withKubelet(async (kubeletDir) => {
    for (const path of [undefined, null, '', 5, true, {}, [join(kubeletDir, podWay)]])
      await refuses(kubeletDir, path, /^Cannot use targetDir as it must be a path: it is /)
  }))

test('a target that is no plain path below the folder is refused', () =>
  withKubelet(async (kubeletDir) => {
    const path = join(kubeletDir, podWay)
    for (const wrong of [
      podWay,
      `./${podWay}`,
      `${kubeletDir}//${podWay}`,
      `${kubeletDir}/./${podWay}`,
      `${kubeletDir}/../kubelet/${podWay}`,
      `${kubeletDir}/${podWay}/.`,
      `${kubeletDir}/${podWay}/..`,
      `${kubeletDir}/${podWay}/../${volumeName}`,
      `${kubeletDir}/${podWay}/../../../../../../etc`,
      `/${path}`,
      `${path}\0`,
      `${path}\0/etc`,
      `\0${path}`,
      `${path}\n`,
      `file://${path}`,
      ` ${path}`,
    ])
      await refuses(kubeletDir, wrong)
  }))

test('a target elsewhere is refused', () =>
  withKubelet(async (kubeletDir) => {
    const driver = 'volumes.k8s.elastic.co~elastic-local'
    for (const wrong of [
      '/',
      '/etc',
      kubeletDir,
      `${kubeletDir}/pods`,
      `${kubeletDir}/pods/${podUid}/volumes/${driver}`,
      `${kubeletDir}/pods/${podUid}/volumes/kubernetes.io~secret/${volumeName}`,
      `${kubeletDir}/pods/${podUid}/volumes/volumesxk8s.elastic.co~elastic-local/${volumeName}`,
      `${kubeletDir}/pods/${podUid}/volumes/${driver}2/${volumeName}`,
      `${kubeletDir}/pods/${podUid}/volumes/${driver.replace('~', '/')}/${volumeName}`,
      `${kubeletDir}/pods/${podUid}/volume-subpaths/${driver}/${volumeName}`,
      `${kubeletDir}/pods/${podUid}/volumes/${driver}/${volumeName}/mount`,
      `${kubeletDir}/pods/a.b/volumes/${driver}/${volumeName}`,
      `${kubeletDir}/pods/${'a'.repeat(65)}/volumes/${driver}/${volumeName}`,
      `${kubeletDir}/${globalWay.replace('mounts', 'mount')}`,
      `${kubeletDir}/${globalWay.replace('volumes.k8s', 'volumesxk8s')}`,
      `${kubeletDir}/${globalWay}/sub`,
    ])
      await refuses(kubeletDir, wrong, /^Cannot use .* as a target as it must be .*\/pods\/<pod UID>\/volumes\//)
  }))

test('a target whose last part is no volume name is refused', () =>
  withKubelet(async (kubeletDir) => {
    for (const name of ['-a', 'A', 'a b', 'ä', 'a.b', '%2e%2e', '.hidden', '*', 'a'.repeat(64), 'a'.repeat(300)])
      for (const way of [podWay, globalWay])
        await refuses(kubeletDir, join(kubeletDir, dirname(way), name), /as a volume name/)
  }))

/** The parts of the way, from the first folder to the volume's. */
const levels = (way: string) => way.split('/').map((_, level, parts) => parts.slice(0, level + 1).join('/'))

for (const [title, way] of [
  ['a pod', podWay],
  ['the shared folder', globalWay],
] as const) {
  test(`a symbolic link, a file or a broken link at any level of ${title} is refused and named`, () =>
    withKubelet(async (kubeletDir) => {
      const elsewhere = `${kubeletDir}-elsewhere`
      await mkdir(join(elsewhere, way), { recursive: true })
      for (const level of levels(way)) {
        const path = join(kubeletDir, level)
        await mkdir(dirname(path), { recursive: true })
        const check = (kind: string) =>
          refuses(
            kubeletDir,
            join(kubeletDir, way),
            new RegExp(`Cannot use ${RegExp.escape(path)} in a target .*: it is a ${kind}`),
          )
        await symlink(join(elsewhere, level), path)
        await check('symbolic link')
        await rm(path)
        await symlink('/nowhere', path)
        await check('symbolic link')
        await rm(path)
        await writeFile(path, '')
        await check('file')
        await rm(path)
      }
    }))
}

test('whatever is asked for, the answer is a target of our driver below the folder, or a VolumeError', () =>
  withKubelet(async (kubeletDir) => {
    const parts = [...podWay.split('/'), ...globalWay.split('/'), '..', '.', '', '~', '\0', 'a'.repeat(300), kubeletDir]
    const mixed = fc.array(fc.oneof(fc.constantFrom(...parts), fc.string({ unit: 'binary' })), { maxLength: 9 })
    const nearly = fc.tuple(fc.constantFrom(podWay, globalWay), fc.nat(80), fc.string({ unit: 'binary', maxLength: 3 }))
    const path = fc.oneof(
      mixed.map((names) => [kubeletDir, ...names].join('/')),
      mixed.map((names) => names.join('/')),
      nearly.map(([way, at, text]) => `${kubeletDir}/${way.slice(0, at)}${text}${way.slice(at)}`),
      nearly.map(([way, at, text]) => `${kubeletDir}/${way.slice(0, at)}${text}${way.slice(at + text.length)}`),
    )
    await fc.assert(
      fc.asyncProperty(fc.oneof(path, fc.jsonValue()), async (asked) => {
        const target = await checkTarget(kubeletDir, asked).catch((error: unknown) => {
          if (error instanceof VolumeError && error.code === 'invalid') return undefined
          throw error
        })
        if (!target) return
        const ways = [`pods/${target.podUid}/volumes/volumes.k8s.elastic.co~elastic-local`, dirname(globalWay)]
        assert.ok(
          ways.some((way) => target.path === join(kubeletDir, way, target.volumeName)),
          target.path,
        )
      }),
      { numRuns: 300 },
    )
  }))

test.run()
