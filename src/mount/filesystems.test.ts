import { open, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { withScratch } from '../../test/scratch.ts'
import { type Step, scripted } from '../../test/scripted-runner.ts'
import { suite } from '../../test/suite.ts'
import type { Filesystems } from '../volume/host.ts'
import { buildFilesystems } from './filesystems.ts'

const test = suite('filesystems')
const device = '/dev/loop7'

const on = <T>(steps: Step[], work: (filesystems: Filesystems) => Promise<T>) =>
  scripted(steps, (run) => work(buildFilesystems({ run })))

const blkid = (output: Partial<Step>): Step => ({ file: 'blkid', args: ['-p', '-o', 'export', device], ...output })
const wipefs = (output: Partial<Step>): Step => ({
  file: 'wipefs',
  args: ['--json', '--output', 'TYPE', device],
  ...output,
})
/** What is asked of a device that has that text where a superblock is. */
const signatures = async (...steps: Step[]) => {
  let found: string[] = []
  await withScratch(async (folder) => {
    const path = join(folder, 'disk')
    await writeFile(path, 'something')
    const named = steps.map((step) => ({ ...step, args: step.args.map((arg) => (arg === device ? path : arg)) }))
    found = await on(named, (filesystems) => filesystems.signatures(path))
  })
  return found
}
const e2fsck = (output: Partial<Step>): Step => ({ file: 'e2fsck', args: ['-p', device], ...output })

/** Of util-linux 2.38.1. */
const recorded = {
  ext4: `DEVNAME=${device}\nUUID=ca248f88-1be8-4de1-b7a2-dc52c501ca94\nVERSION=1.0\nBLOCK_SIZE=1024\nTYPE=ext4\nUSAGE=filesystem\n`,
  partitions: `DEVNAME=${device}\nPTUUID=8a5d7f1e\nPTTYPE=dos\n`,
  two: '{\n   "signatures": [\n      {\n         "type": "btrfs"\n      },{\n         "type": "ext4"\n      },{\n         "type": "ext4"\n      }\n   ]\n}\n',
  none: '{\n   "signatures": [\n\n   ]\n}\n',
}

test('signatures() names the filesystem that blkid sees, and asks no further', async () => {
  assert.equal(await signatures(blkid({ stdout: recorded.ext4 })), ['ext4'])
})

test('signatures() names a partition table', async () => {
  assert.equal(await signatures(blkid({ stdout: recorded.partitions })), ['dos'])
})

test('a device is blank when neither blkid nor wipefs sees anything', async () => {
  assert.equal(await signatures(blkid({ exitCode: 2 }), wipefs({ stdout: recorded.none })), [])
  assert.equal(await signatures(blkid({ exitCode: 2 }), wipefs({ stdout: '' })), [])
})

test('signatures() starts no program where head and tail are zeros, and asks blkid where anything is in them', () =>
  withScratch(async (folder) => {
    const path = join(folder, 'disk')
    const mebibyte = 1 << 20
    const asked = { file: 'blkid', args: ['-p', '-o', 'export', path], stdout: recorded.ext4 }
    for (const [size, places] of [
      [0, []],
      [512, [0, 511]],
      [1 * mebibyte, [0, 1080, mebibyte - 1]],
      [8 * mebibyte, [0, 1080, 0x80004, mebibyte + 1, 2 * mebibyte + 1, 4 * mebibyte + 1, 8 * mebibyte - 1]],
      [64 * mebibyte, [0, 65_600, 64 * mebibyte - 3087 * 512, 64 * mebibyte - 512 * 1024, 64 * mebibyte - 1]],
    ] as const) {
      await writeFile(path, '')
      await truncate(path, size)
      assert.equal(await on([], (filesystems) => filesystems.signatures(path)), [])
      for (const place of places) {
        const file = await open(path, 'r+')
        await file.write(Buffer.of(1), 0, 1, place)
        assert.equal(await on([asked], (filesystems) => filesystems.signatures(path)), ['ext4'], `${size} ${place}`)
        await file.write(Buffer.of(0), 0, 1, place)
        await file.close()
      }
    }
  }))

test('signatures() names what only wipefs sees', async () => {
  assert.equal(
    await signatures(blkid({ exitCode: 2 }), wipefs({ stdout: '{"signatures":[{"type":"LVM2_member"}]}' })),
    ['LVM2_member'],
  )
})

test('where blkid cannot decide, signatures() names all that wipefs sees, each type once', async () => {
  assert.equal(await signatures(blkid({ exitCode: 8 }), wipefs({ stdout: recorded.two })), ['btrfs', 'ext4'])
})

test('signatures() asks wipefs, too, when blkid sees something without a name', async () => {
  assert.equal(
    await signatures(blkid({ stdout: `DEVNAME=${device}\nUSAGE=other\n` }), wipefs({ stdout: recorded.two })),
    ['btrfs', 'ext4'],
  )
})

test('a device never counts as blank when it could not be looked at', async () => {
  const failed = /^Cannot check what is on \/.*\/disk: /
  await rejects('failed', failed, () => signatures(blkid({ exitCode: 4, stderr: 'bad usage' })))
  await rejects('failed', failed, () => signatures(blkid({ exitCode: 1 })))
  const looked = blkid({ exitCode: 2 })
  await rejects('failed', failed, () =>
    signatures(looked, wipefs({ exitCode: 1, stderr: 'probing initialization failed' })),
  )
  for (const stdout of ['rubbish', '{"signatures":[{', 'null', '{"signatures":5}'])
    await rejects('failed', failed, () => signatures(looked, wipefs({ stdout })))
  await rejects('failed', /^Cannot check what is on \/nowhere: /, () =>
    on([], (filesystems) => filesystems.signatures('/nowhere')),
  )
})

test('check() gives e2fsck no more memory than the container has left, and says so where that is too little', async () => {
  const bounded = (step: Partial<Step>) =>
    scripted([{ file: 'prlimit', args: ['--as=67108864', '--', 'e2fsck', '-p', device], ...step }], (run) =>
      buildFilesystems({ run, memoryLeft: () => 64 << 20 }).check(device, 'ext4'),
    )
  await bounded({ exitCode: 1 })
  const stderr = 'Error allocating icount structure: Memory allocation failed\ne2fsck: aborted'
  await rejects('failed', /^Cannot check \/dev\/loop7: it needs more memory than .* leaves, 64 MiB; raise that: /, () =>
    bounded({ exitCode: 8, stderr }),
  )
  await rejects('failed', /has errors that cannot safely be repaired/, () => bounded({ exitCode: 4 }))
})

test('make() formats without asking, leaves the device as sparse or full as it is, and puts the options last', async () => {
  const options = ['-O', '^x']
  const commands: [Parameters<Filesystems['make']>[1], string, string[]][] = [
    ['ext4', 'mkfs.ext4', ['-F', '-q', '-m', '0', ...options, '-E', 'nodiscard']],
    ['xfs', 'mkfs.xfs', ['-f', '-q', '-K', ...options]],
    ['btrfs', 'mkfs.btrfs', ['-f', '-q', '-K', ...options]],
  ]
  for (const [fsType, file, args] of commands)
    await on([{ file, args: [...args, device] }], (filesystems) => filesystems.make(device, fsType, options, 8n << 30n))
})

test('make() of ext4 puts all extended options into one, as mkfs takes the last alone', async () => {
  const args = ['-F', '-q', '-m', '0', '-b', '4096', '-E', 'nodiscard,stride=2,stripe_width=4', device]
  await on([{ file: 'mkfs.ext4', args }], (filesystems) =>
    filesystems.make(device, 'ext4', ['-E', 'stride=2', '-b', '4096', '-Estripe_width=4'], 8n << 20n),
  )
})

test('make() of a small filesystem takes what suits a large one, unless other options say how', async () => {
  const mebibyte = 1n << 20n
  const ext4 = (...more: string[]) => ['-F', '-q', '-m', '0', ...more, '-E', 'nodiscard', device]
  const xfs = (...more: string[]) => ['-f', '-q', '-K', ...more, device]
  const cases: [Parameters<Filesystems['make']>[1], string[], bigint, string[]][] = [
    ['ext4', [], 32n * mebibyte - 1n, ext4()],
    ['ext4', [], 32n * mebibyte, ext4('-T', 'default')],
    ['ext4', [], 512n * mebibyte, ext4()],
    ['ext4', ['-T', 'news'], 64n * mebibyte, ext4('-T', 'news')],
    ['xfs', [], 300n * mebibyte, xfs('-d', 'agcount=2')],
    ['xfs', [], 4096n * mebibyte, xfs()],
    ['xfs', ['-d', 'agsize=64m'], 300n * mebibyte, xfs('-d', 'agsize=64m')],
  ]
  for (const [fsType, options, sizeBytes, args] of cases)
    await on([{ file: `mkfs.${fsType}`, args }], (filesystems) => filesystems.make(device, fsType, options, sizeBytes))
})

test('grow() of an ext4 that nobody has mounted checks it first, as resize2fs wants', async () => {
  const check = (output: Partial<Step>) => ({ file: 'e2fsck', args: ['-f', '-p', device], ...output })
  const resize = { file: 'resize2fs', args: [device] }
  for (const exitCode of [0, 1, 2])
    await on([check({ exitCode }), resize], (filesystems) => filesystems.grow(device, undefined, 'ext4'))
  await on([check({ exitCode: 4, stdout: 'UNEXPECTED INCONSISTENCY' })], (filesystems) =>
    rejects('failed', /Cannot grow the ext4 .*UNEXPECTED/s, () => filesystems.grow(device, undefined, 'ext4')),
  )
  for (const growsMounted of [false, true])
    await scripted([], async (run) => {
      const filesystems = buildFilesystems({ run, growsMounted })
      assert.equal(
        (['ext4', 'xfs', 'btrfs'] as const).filter((fsType) => filesystems.growsUnmounted(fsType)),
        growsMounted ? [] : ['ext4'],
      )
    })
})

test('make() says what mkfs said', async () => {
  const making = (output: Partial<Step>) => () =>
    on([{ file: 'mkfs.xfs', args: ['-f', '-q', '-K', device], ...output }], (filesystems) =>
      filesystems.make(device, 'xfs', [], 8n << 30n),
    )
  await rejects(
    'failed',
    /^Cannot create xfs on \/dev\/loop7: mkfs.xfs exited with 1: too small$/,
    making({ exitCode: 1, stderr: 'too small\n' }),
  )
})

test('check() takes a clean and a repaired ext4 for good: statuses 0, 1, 2 and their sum', async () => {
  for (const exitCode of [0, 1, 2, 3])
    await on([e2fsck({ exitCode })], (filesystems) => filesystems.check(device, 'ext4'))
})

test('check() tells a filesystem that a person must repair from one that could not be checked', async () => {
  const checking = (exitCode: number) => () =>
    on([e2fsck({ exitCode, stdout: 'UNEXPECTED INCONSISTENCY' })], (filesystems) => filesystems.check(device, 'ext4'))
  for (const exitCode of [4, 5, 12])
    await rejects(
      'failed',
      /cannot safely be repaired automatically.*run "e2fsck \/dev\/loop7".*UNEXPECTED INCONSISTENCY/,
      checking(exitCode),
    )
  for (const exitCode of [8, 16, 32, 128]) await rejects('failed', /^Cannot check \/dev\/loop7: /, checking(exitCode))
})

test('check() leaves xfs and btrfs to the kernel, which replays their logs at the mount', async () => {
  for (const fsType of ['xfs', 'btrfs'] as const) await on([], (filesystems) => filesystems.check(device, fsType))
})

const blkdiscard = (args: string[], output: Partial<Step> = {}): Step => ({
  file: 'blkdiscard',
  args: [...args, device],
  ...output,
})
const refused = { exitCode: 1, stderr: `blkdiscard: ${device}: BLKDISCARD ioctl failed: Operation not supported\n` }

test('wipe() gives the blocks back, or overwrites them where the disk cannot take them back', async () => {
  await on([blkdiscard([])], (filesystems) => filesystems.wipe(device))
  await on([blkdiscard([], refused), blkdiscard(['--zeroout'])], (filesystems) => filesystems.wipe(device))
})

test('wipe() says what to do about a disk that is broken', async () => {
  const busy = { exitCode: 1, stderr: `blkdiscard: cannot open ${device}: Device or resource busy\n` }
  await on([blkdiscard([], busy)], (filesystems) =>
    rejects('busy', /^Cannot wipe \/dev\/loop7: (?!.*lvremove).*stop what uses it$/s, () => filesystems.wipe(device)),
  )
  const broken = { exitCode: 1, stderr: 'blkdiscard: BLKDISCARD ioctl failed: Input/output error\n' }
  await on([blkdiscard([], broken)], (filesystems) =>
    rejects('failed', /Cannot wipe \/dev\/loop7: .*Input\/output error.*lvremove \/dev\/loop7/s, () =>
      filesystems.wipe(device),
    ),
  )
})

test('grow() asks each filesystem by the tool of its own: ext4 by its device, the others by where they are mounted', async () => {
  const steps: [Parameters<Filesystems['grow']>[2], Step][] = [
    ['ext4', { file: 'resize2fs', args: [device] }],
    ['xfs', { file: 'xfs_growfs', args: ['-d', '/volumes/one'] }],
    ['btrfs', { file: 'btrfs', args: ['filesystem', 'resize', 'max', '/volumes/one'] }],
  ]
  for (const [fsType, step] of steps)
    await on([step], (filesystems) => filesystems.grow(device, '/volumes/one', fsType))
})

test('grow() names the capability that the kernel wants for a mounted ext4, or errors where it has that, and nothing but what went wrong otherwise', async () => {
  const growing =
    (stderr: string, growsMounted = false) =>
    () =>
      scripted([{ file: 'resize2fs', args: [device], exitCode: 1, stderr }], (run) =>
        buildFilesystems({ run, growsMounted }).grow(device, '/v', 'ext4'),
      )
  const denied = 'resize2fs 1.47.0 (5-Feb-2023)\nresize2fs: Permission denied to resize filesystem'
  await rejects('failed', /Permission denied to resize filesystem; .* CAP_SYS_RESOURCE/s, growing(denied))
  await rejects(
    'failed',
    /Permission denied to resize filesystem; .* ext4 that has errors: check the kernel log/s,
    growing(denied, true),
  )
  await rejects(
    'failed',
    /^Cannot grow the ext4 on \/dev\/loop7: resize2fs exited with 1: No space left$/,
    growing('No space left'),
  )
})

test.run()
