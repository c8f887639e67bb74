import { appendFile, mkdir, readdir, readFile, realpath, rename, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { withScratch } from '../../test/scratch.ts'
import { type Step, scripted } from '../../test/scripted-runner.ts'
import { suite } from '../../test/suite.ts'
import type { Mounts } from '../volume/host.ts'
import { buildMounts } from './mounts.ts'

const test = suite('mounts')
const device = '/dev/loop7'

/** Mounts whose table says what the script mounted; `swap` happens between mounting's looks. */
const on = async <T>(steps: Step[], work: (mounts: Mounts) => Promise<T>, swap = async () => {}): Promise<T> => {
  let done: T | undefined
  await withScratch(async (scratch) => {
    const mountInfo = join(scratch, 'mountinfo')
    await writeFile(mountInfo, await readFile('/proc/self/mountinfo'))
    done = await scripted(steps, (run) =>
      work(
        buildMounts({
          mountInfo,
          run: async (file, args, options) => {
            const output = await run(file, args, options)
            if (file === 'mount') {
              await swap()
              const [source, target = ''] = args.slice(-2)
              await appendFile(mountInfo, `999 1 7:7 / ${await realpath(target)} rw - ext4 ${source} rw\n`)
            }
            return output
          },
        }),
      ),
    )
  })
  return done as T
}

const mounting = (args: string[], output: Partial<Step> = {}): Step => ({ file: 'mount', args, ...output })

test('mountDevice() makes the folder, and mounts with our options before the given ones', () =>
  withScratch(async (scratch) => {
    const folder = join(scratch, 'a/b')
    const cases: [Parameters<Mounts['mountDevice']>[2], string[], string[]][] = [
      ['ext4', [], ['-t', 'ext4', '--', device, folder]],
      ['ext4', ['noatime', 'ro'], ['-t', 'ext4', '-o', 'noatime,ro', '--', device, folder]],
      ['xfs', [], ['-t', 'xfs', '-o', 'nouuid', '--', device, folder]],
      ['xfs', ['noatime', 'ro'], ['-t', 'xfs', '-o', 'nouuid,noatime,ro', '--', device, folder]],
      ['btrfs', ['compress=zstd'], ['-t', 'btrfs', '-o', 'compress=zstd', '--', device, folder]],
    ]
    for (const [fsType, options, args] of cases)
      await on([mounting(args)], (mounts) => mounts.mountDevice(device, folder, fsType, options))
    assert.is((await stat(folder)).mode & 0o777, 0o750)
  }))

test('mountDevice() takes back a btrfs of another device, which says that it is the same', () =>
  withScratch(async (scratch) => {
    const folder = join(scratch, 'one')
    const mountInfo = join(scratch, 'mountinfo')
    const steps: Step[] = [mounting(['-t', 'btrfs', '--', device, folder]), { file: 'umount', args: ['--', folder] }]
    const work = scripted(steps, async (run) => {
      const mounts = buildMounts({
        mountInfo,
        run: async (file, args, options) => {
          await writeFile(mountInfo, `999 1 0:70 / ${folder} rw - btrfs /dev/loop8 rw\n`)
          return await run(file, args, options)
        },
      })
      await mounts.mountDevice(device, folder, 'btrfs', [])
    })
    await rejects('failed', /the kernel has mounted \/dev\/loop8 in its place.*btrfs device scan --forget/, () => work)
  }))

test('mountDevice() that fails says why, and takes the folder away again', () =>
  withScratch(async (scratch) => {
    const folder = join(scratch, 'one')
    const stderr = `mount: ${folder}: wrong fs type, bad option, bad superblock on ${device}.`
    const step = mounting(['-t', 'ext4', '--', device, folder], { exitCode: 32, stderr })
    const work = () => on([step], (mounts) => mounts.mountDevice(device, folder, 'ext4', []))
    await rejects('failed', /^Cannot mount \/dev\/loop7 on .*one: mount exited with 32: .*wrong fs type/, work)
    assert.equal(await readdir(scratch), [])
  }))

test('bind() makes the target, and mounts for writing or not', () =>
  withScratch(async (scratch) => {
    const target = join(scratch, 'pods/a')
    await on([mounting(['-o', 'bind', '--', '/v/one', target])], (mounts) =>
      mounts.bind('/v/one', target, { readOnly: false }),
    )
    await on([mounting(['-o', 'bind,ro', '--', '/v/one', target])], (mounts) =>
      mounts.bind('/v/one', target, { readOnly: true }),
    )
    assert.ok((await stat(target)).isDirectory())
  }))

test('nothing is mounted on a file or through a link', () =>
  withScratch(async (scratch) => {
    await mkdir(join(scratch, 'folder'))
    await writeFile(join(scratch, 'file'), '')
    await symlink(join(scratch, 'folder'), join(scratch, 'link'))
    for (const [name, kind] of [
      ['file', 'file'],
      ['link', 'symbolic link'],
    ] as const) {
      const target = join(scratch, name)
      await rejects('invalid', new RegExp(`${target} as it must be a folder: it is a ${kind}`), () =>
        on([], (mounts) => mounts.bind('/v/one', target, { readOnly: false })),
      )
      await rejects('invalid', /must be a folder/, () =>
        on([], (mounts) => mounts.mountDevice(device, target, 'ext4', [])),
      )
    }
    await rejects('failed', /Cannot create the folder .*file\/sub/, () =>
      on([], (mounts) => mounts.bind('/v/one', join(scratch, 'file/sub'), { readOnly: false })),
    )
  }))

test('a mount that a link led elsewhere while it was made is taken back, and is a failure', () =>
  withScratch(async (scratch) => {
    const [pods, elsewhere] = [join(scratch, 'pods'), join(scratch, 'elsewhere')]
    const target = join(pods, 'one')
    await mkdir(join(elsewhere, 'one'), { recursive: true })
    const swap = async () => {
      await rename(pods, join(scratch, 'pods-before'))
      await symlink(elsewhere, pods)
    }
    const steps: Step[] = [
      mounting(['-o', 'bind', '--', '/v/one', target]),
      { file: 'umount', args: ['--', join(elsewhere, 'one')] },
    ]
    await rejects('failed', /^Cannot mount \/v\/one on .*pods\/one: a symbolic link appeared in the path/, () =>
      on(steps, (mounts) => mounts.bind('/v/one', target, { readOnly: false }), swap),
    )
  }))

test('a bind mount that fails says why', () =>
  withScratch(async (scratch) => {
    const target = join(scratch, 'a')
    const step = mounting(['-o', 'bind', '--', '/v/one', target], {
      exitCode: 32,
      stderr: 'special device /v/one does not exist.',
    })
    await rejects('failed', /^Cannot mount \/v\/one on .*does not exist/, () =>
      on([step], (mounts) => mounts.bind('/v/one', target, { readOnly: false })),
    )
  }))

test('unmount() tells a mount in which somebody works from other failures', async () => {
  const unmounting = (output: Partial<Step>) => () =>
    on([{ file: 'umount', args: ['--', '/pods/a'], ...output }], (mounts) => mounts.unmount('/pods/a'))
  await unmounting({})()
  const busy = { exitCode: 32, stderr: 'umount: /pods/a: target is busy.\n' }
  await rejects(
    'busy',
    /^Cannot unmount \/pods\/a: .*target is busy.*; no process visible from here uses it/s,
    unmounting(busy),
  )
  const failed = { exitCode: 32, stderr: 'umount: /pods/a: not mounted.\n' }
  await rejects(
    'failed',
    /^Cannot unmount \/pods\/a: umount exited with 32: umount: \/pods\/a: not mounted\.$/,
    unmounting(failed),
  )
})

test('removeFolder() removes an empty folder and nothing else', () =>
  withScratch(async (scratch) => {
    await mkdir(join(scratch, 'empty'))
    await mkdir(join(scratch, 'full/inside'), { recursive: true })
    await writeFile(join(scratch, 'file'), '')
    for (const name of ['empty', 'empty', 'full', 'file'])
      await on([], (mounts) => mounts.removeFolder(join(scratch, name)))
    assert.equal((await readdir(scratch)).sort(), ['file', 'full'])
  }))

test('usage() gives the numbers of statfs(2), and read() the table of the kernel', async () => {
  const usage = await on([], (mounts) => mounts.usage('/'))
  assert.ok(usage.sizeBytes > 0n && usage.usedBytes > 0n && usage.sizeBytes >= usage.usedBytes + usage.freeBytes)
  assert.ok(usage.inodes >= usage.inodesUsed)
  const table = await on([], (mounts) => mounts.read())
  assert.is(table.at('/proc')?.fsType, 'proc')
})

test.run()
