import { readdirSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { formatDeviceNumber } from '../device-number.ts'
import type { MountPoint } from '../volume/host.ts'
import { buildMountTable, isWithin, type MountEntry, parseMountInfo, readSteadily } from './table.ts'

const test = suite('mount table')

/** Lines of real machines, in the kernel's order. */
const machine = `22 27 0:21 / /proc rw,relatime - proc proc rw
24 27 0:6 / /dev rw,nosuid - devtmpfs devtmpfs rw,size=12331664k,nr_inodes=3082916,mode=755
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard,resuid=65534
31 23 0:28 / /sys/fs/cgroup ro,nosuid master:9 propagate_from:2 - tmpfs tmpfs ro,mode=755
37 31 0:34 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
40 27 8:17 / /srv rw,noatime shared:24 master:1 unbindable - xfs /dev/sdb1 rw,attr2,inode64,logbufs=8
41 27 7:0 / /volumes/one rw,relatime - ext4 /dev/loop0 rw
42 27 7:0 / /pods/a/one rw,relatime - ext4 /dev/loop0 rw
43 27 7:0 / /pods/b/one ro,relatime - ext4 /dev/loop0 rw
44 27 0:45 /@data /volumes/two rw,relatime - btrfs /dev/loop1 rw,space_cache=v2,subvolid=256,subvol=/@data
45 40 8:17 /data/three /pods/a/three rw,noatime - xfs /dev/sdb1 rw,attr2,inode64
46 40 8:17 /data/three/sub /pods/b/three rw,noatime - xfs /dev/sdb1 rw,attr2,inode64
47 40 8:17 /data/threefold /pods/c/three rw,noatime - xfs /dev/sdb1 rw,attr2,inode64
48 27 0:50 / /mnt/it's\\040a\\011b\\012c\\134d rw - tmpfs my\\040disk rw
49 27 0:51 / /mnt/t\\303\\244st-ö rw - tmpfs t\\303\\244st-ö rw
50 27 0:52 / /mnt/none rw - tmpfs  rw
`
const table = buildMountTable(parseMountInfo(machine))
const targets = (mounts: MountPoint[]) => mounts.map((mount) => mount.target)

test('parseMountInfo() reads every field of a line, with and without optional ones', () => {
  const entries = parseMountInfo(machine)
  assert.is(entries.length, 16)
  assert.equal(entries[5], {
    id: 40,
    parentId: 27,
    device: '8:17',
    root: '/',
    target: '/srv',
    options: ['rw', 'noatime'],
    isShared: true,
    fsType: 'xfs',
    source: '/dev/sdb1',
    superOptions: ['rw', 'attr2', 'inode64', 'logbufs=8'],
  })
  assert.is(entries[9]?.root, '/@data')
  assert.is(entries[15]?.source, '')
})

test('parseMountInfo() puts back what the kernel escaped, which may be bytes of UTF-8', () => {
  const [spaces, umlauts] = parseMountInfo(machine).slice(13)
  assert.is(spaces?.target, "/mnt/it's a\tb\nc\\d")
  assert.is(spaces?.source, 'my disk')
  assert.is(umlauts?.target, '/mnt/täst-ö')
  assert.is(umlauts?.source, 'täst-ö')
})

test('parseMountInfo() refuses what is no mountinfo, and shows it', async () => {
  const wrong = [
    'rubbish',
    '22 27 0:21 / /proc rw,relatime proc proc rw',
    '22 27 0:21 / /proc - proc proc rw',
    '22 27 0:21 / - proc proc rw',
    '22 27 0:21 / /proc rw - proc',
    '22 27 0:21 / /proc rw - ',
    'a 27 0:21 / /proc rw - proc proc rw',
    '22 b 0:21 / /proc rw - proc proc rw',
    ' 27 0:21 / /proc rw - proc proc rw',
    '/dev/vda / ext4 rw 0 0',
  ]
  for (const line of wrong)
    await rejects('failed', new RegExp(`not mountinfo: ${RegExp.escape(line)}$`), () =>
      parseMountInfo(`${machine}${line}\n`),
    )
  await rejects('failed', /: x{200}$/, () => parseMountInfo('x'.repeat(100_000)))
})

test('parseMountInfo() gives back what it was built from', () => {
  const escapeOctal = (text: string) =>
    text.replace(/[ \t\n\\]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`)
  const format = (entry: Omit<MountEntry, 'isShared'> & { optional: string[] }) => {
    const { id, parentId, device, root, target, options, optional, fsType, source, superOptions } = entry
    const before = [id, parentId, device, escapeOctal(root), escapeOctal(target), options.join(','), ...optional]
    return `${before.join(' ')} - ${fsType} ${escapeOctal(source)} ${superOptions.join(',')}\n`
  }
  const path = fc.string({ unit: 'binary', maxLength: 20 }).map((text) => `/${text}`)
  const words = fc.array(fc.stringMatching(/^[a-z0-9=:/.]{1,9}$/), { minLength: 1, maxLength: 4 })
  const entry = fc.record({
    id: fc.nat(),
    parentId: fc.nat(),
    device: fc.tuple(fc.nat(4095), fc.nat(2 ** 20)).map((numbers) => numbers.join(':')),
    root: path,
    target: path,
    options: words,
    fsType: fc.constantFrom('ext4', 'xfs', 'btrfs', 'fuse.sshfs', 'tmpfs'),
    source: fc.string({ unit: 'binary', maxLength: 20 }),
    superOptions: words,
    optional: fc.subarray(['shared:1', 'master:2', 'propagate_from:3', 'unbindable']),
  })
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 6 }), (entries) => {
      const expected = entries.map(({ optional, ...fields }) => ({
        ...fields,
        isShared: optional.includes('shared:1'),
      }))
      assert.equal(parseMountInfo(entries.map(format).join('')), expected)
    }),
  )
})

test('a mount of something that is no path hides no other', () => {
  for (const source of ['/\0', `/${'x'.repeat(5000)}`, `/dev/null/x`]) {
    const odd = buildMountTable(parseMountInfo(`${machine}60 27 0:60 / /odd rw - btrfs ${source} rw\n`))
    assert.equal(targets(odd.of({ kind: 'device', path: '/dev/loop1' })), ['/volumes/two'])
  }
})

test('at() sees the topmost mount of a target, and only at exactly that path', () => {
  const stacked = buildMountTable(parseMountInfo(`${machine}60 41 7:3 / /volumes/one ro - ext4 /dev/loop3 ro\n`))
  assert.is(stacked.at('/volumes/one')?.source, '/dev/loop3')
  assert.is(table.at('/volumes/one')?.source, '/dev/loop0')
  for (const path of ['/volumes', '/volumes/', '/volumes/one/', '/volumes/one/sub', '/volumes/on', ''])
    assert.is(table.at(path), undefined)
})

test('a mount point tells a read-only mount from a read-only filesystem, and names a folder of a device', () => {
  const common = { fsType: 'ext4', source: '/dev/loop0', isShared: false }
  assert.equal(table.at('/pods/a/one'), {
    ...common,
    target: '/pods/a/one',
    readOnly: false,
    readOnlyFilesystem: false,
  })
  assert.equal(table.at('/pods/b/one'), { ...common, target: '/pods/b/one', readOnly: true, readOnlyFilesystem: false })
  assert.is(table.at('/sys/fs/cgroup')?.readOnlyFilesystem, true)
  assert.is(table.at('/pods/a/three')?.source, '/dev/sdb1[/data/three]')
})

test('holding() gives the mount that a path is seen in, and whether others see what is mounted there', () => {
  for (const [path, target, isShared] of [
    ['/srv/kubelet/pods', '/srv', true],
    ['/srv', '/srv', true],
    ['/srvother', '/', true],
    ['/volumes/one/sub', '/volumes/one', false],
    ['/sys/fs/cgroup/x', '/sys/fs/cgroup', false],
  ] as const) {
    const mount = table.holding(path)
    assert.equal([mount?.target, mount?.isShared], [target, isShared])
  }
})

test('under() gives the mounts at and below a folder, and none of a folder that only starts like it', () => {
  assert.equal(targets(table.under('/pods/a')), ['/pods/a/one', '/pods/a/three'])
  assert.equal(targets(table.under('/pods/a/one')), ['/pods/a/one'])
  assert.equal(targets(table.under('/pods/a/on')), [])
})

test('of() finds every mount of a device that the table names', () => {
  assert.equal(targets(table.of({ kind: 'device', path: '/dev/loop0' })), [
    '/volumes/one',
    '/pods/a/one',
    '/pods/b/one',
  ])
  assert.equal(table.of({ kind: 'device', path: '/dev/nothing' }), [])
})

test('of() finds every mount of a folder and of what is in it, through the mount that holds it, but not the holder', () => {
  const of = (path: string) => targets(table.of({ kind: 'directory', path }))
  assert.equal(of('/srv/data/three'), ['/pods/a/three', '/pods/b/three'])
  assert.equal(of('/srv/data/three/sub'), ['/pods/b/three'])
  assert.equal(of('/srv/data/fourth'), [])
  // Through /srv, which hides the folder of that name on the filesystem under it.
  assert.equal(of('/data/three'), [])
  // A folder of a subvolume goes by its path in the filesystem.
  const subvolume = '61 27 0:45 /@data/dir /pods/d/dir rw - btrfs /dev/loop1 rw\n'
  const more = buildMountTable(parseMountInfo(machine + subvolume))
  assert.equal(targets(more.of({ kind: 'directory', path: '/volumes/two/dir' })), ['/pods/d/dir'])
})

test('of() asks the topmost of stacked mounts what a folder is', () => {
  const over = '62 40 0:60 / /srv rw - tmpfs tmpfs rw\n63 27 0:60 /data/three /pods/e/three rw - tmpfs tmpfs rw\n'
  const stacked = buildMountTable(parseMountInfo(machine + over))
  assert.equal(targets(stacked.of({ kind: 'directory', path: '/srv/data/three' })), ['/pods/e/three'])
})

test('of() finds nothing for a folder without a mount that holds it', () => {
  assert.equal(buildMountTable([]).of({ kind: 'directory', path: '/srv/data' }), [])
})

const blockDevice = readdirSync('/dev')
  .map((file) => join('/dev', file))
  .find((path) => statSync(path, { throwIfNoEntry: false })?.isBlockDevice())

if (blockDevice) {
  const device = formatDeviceNumber(statSync(blockDevice).rdev)

  test('of() knows a device by its number under whatever name, and one of btrfs by the device that the mount names', () =>
    withScratch(async (folder) => {
      const link = join(folder, 'link')
      symlinkSync(blockDevice, link)
      const lines = `70 27 ${device} / /a rw - ext4 /dev/mapper/other rw
71 27 0:70 / /b rw - btrfs ${blockDevice} rw
72 27 0:71 / /c rw - tmpfs ${blockDevice} rw
73 27 0:72 / /d rw - btrfs /dev/nothing rw
74 27 4095:1 / /e rw - ext4 /dev/other rw
`
      const numbered = buildMountTable(parseMountInfo(lines))
      assert.equal(targets(numbered.of({ kind: 'device', path: link })), ['/a', '/b'])
    }))
}

test('a folder, and a file that is no block device, is no device whatever the table says', () => {
  const lines = '80 27 0:0 / /a rw - ext4 none rw\n'
  for (const path of ['/', '/dev/null', '/proc/self/status']) {
    assert.equal(buildMountTable(parseMountInfo(lines)).of({ kind: 'device', path }), [])
  }
})

test('a table of 5,000 mounts works', () => {
  const lines = Array.from(
    { length: 5000 },
    (_, i) => `${i + 100} 27 7:0 /v${i >> 1} /pods/p${i}/v rw - ext4 /dev/loop0 rw\n`,
  )
  const large = buildMountTable(parseMountInfo(machine + lines.join('')))
  assert.is(large.under('/pods').length, 5005)
  assert.is(large.of({ kind: 'device', path: '/dev/loop0' }).length, 5003)
  assert.equal(targets(large.of({ kind: 'directory', path: '/volumes/one/v2499' })), ['/pods/p4998/v', '/pods/p4999/v'])
  assert.is(large.at('/pods/p4321/v')?.source, '/dev/loop0[/v2160]')
})

test('isWithin() is true of the folder itself and what is below it', () => {
  for (const path of ['/a/b', '/a/b/', '/a/b/c', '/a/b/..c']) assert.ok(isWithin('/a/b', path), path)
  for (const path of ['/a', '/a/bc', '/', '/a/b/../c']) assert.not.ok(isWithin('/a/b', path), path)
})

if (blockDevice)
  test('the device that a btrfs mount names is looked up once, as long as it is mounted', () => {
    const line = (id: number, source: string) => `${id} 1 0:${id} / /btrfs-${id} rw - btrfs ${source} rw\n`
    const numbers = new Map<string, string | undefined>()
    const look = (text: string) =>
      buildMountTable(parseMountInfo(text), numbers).of({ kind: 'device', path: blockDevice })
    const targets = (text: string) => look(text).map(({ target }) => target)
    assert.equal(targets(line(70, '/dev/nowhere') + line(71, blockDevice)), ['/btrfs-71'])
    assert.equal([...numbers.keys()], ['70 /dev/nowhere', `71 ${blockDevice}`])
    // What is known is not asked again: here it would have another answer.
    numbers.set('70 /dev/nowhere', numbers.get(`71 ${blockDevice}`))
    assert.equal(targets(line(70, '/dev/nowhere') + line(71, blockDevice)), ['/btrfs-70', '/btrfs-71'])
    assert.equal(targets(line(71, blockDevice)), ['/btrfs-71'])
    assert.equal([...numbers.keys()], [`71 ${blockDevice}`])
  })

test('readSteadily() looks again where the kernel may leave a mount out while others go', async () => {
  const reading = (texts: string[], kernel: string) => {
    const left = [...texts]
    return readSteadily(async () => left.shift() ?? 'it looked too often', kernel)
  }
  for (const kernel of ['5.8.0', '5.10.0-28-amd64', '6.1', '10.0.1']) assert.is(await reading(['one'], kernel), 'one')
  for (const kernel of ['5.7.19', '4.19.0-26-amd64'])
    assert.is(await reading(['one', 'a part', 'one', 'one'], kernel), 'one')
  const restless = Array.from({ length: 20 }, (_, index) => String(index))
  await rejects('failed', /^Cannot read the mount table as it changed/, () => reading(restless, '4.19.0'))
})

test.run()
