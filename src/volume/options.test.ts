import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { suite } from '../../test/suite.ts'
import { parseMkfsOptions, parseMountOptions } from './options.ts'
import { type FsType, fsTypes } from './pool.ts'

const test = suite('volume options')

test('parseMountOptions() takes options that shape a plain filesystem', () => {
  const good: [FsType, string][] = [
    ['ext4', 'defaults,noatime,ro,data=ordered,commit=30,errors=remount-ro,nosuid,nodev,noexec,resuid=65534'],
    ['xfs', 'lazytime,logbsize=256k,largeio,prjquota,dax=inode'],
    ['btrfs', 'compress=zstd:3,compress-force=lzo,space_cache=v2,discard=async,commit=120'],
  ]
  for (const [fsType, text] of good) {
    assert.equal(parseMountOptions(fsType, text), text.split(','))
    assert.equal(parseMountOptions(undefined, text), text.split(','))
  }
})

test('parseMountOptions() refuses options that reach further or that nobody knows, and shows the first', async () => {
  const elsewhere =
    'bind rbind move remount loop loop=/dev/loop9 offset=4096 sizelimit=1 subvol=other subvolid=5 source=x'
  const spread = 'shared rshared private slave unbindable runbindable'
  const power = 'suid dev user users group owner errors=panic abort fatal_errors=panic nofail'
  const programs = 'helper=x uhelper=nfs x-mount.mkdir X-mount.owner=0 x-systemd.automount verity.hashdevice=x'
  const labels = 'context=x fscontext=x defcontext=x rootcontext=x'
  const devices = 'device=x logdev=x rtdev=x journal_dev=0x801 journal_path=x'
  const odd = [' noatime', 'no atime', '-o', '--bind', 'commit=/etc', 'commit="b"', 'commit=b=c', 'ä', 'ro\n', 'ro\0']
  const unknown = ['=', 'NOATIME', '_netdev', 'noatmie', 'constructor', '__proto__']
  const words = [elsewhere, spread, power, programs, labels, devices].join(' ').split(' ')
  for (const option of [...words, ...odd, ...unknown])
    for (const fsType of [...fsTypes, undefined])
      await rejects(
        'invalid',
        new RegExp(`^Cannot mount .* with option ${RegExp.escape(JSON.stringify(option))} of mountOptions`),
        () => parseMountOptions(fsType, `noatime,${option}`),
      )
})

test("parseMountOptions() refuses another filesystem's option once it knows which one it is", async () => {
  const foreign: [FsType, string][] = [
    ['ext4', 'logbsize=256k'],
    ['ext4', 'compress=zstd'],
    ['xfs', 'data=journal'],
    ['btrfs', 'inode64'],
  ]
  for (const [fsType, option] of foreign)
    await rejects('invalid', new RegExp(`^Cannot mount ${fsType} with option "${option}"`), () =>
      parseMountOptions(fsType, option),
    )
})

test('parseMkfsOptions() takes flags that shape a filesystem, each with its value', () => {
  const good: [FsType, string][] = [
    [
      'ext4',
      '-b 4096 -O ^has_journal,metadata_csum -m 1 -E stride=16,stripe_width=32,root_owner=999:999 -T largefile -I 256 -J size=64',
    ],
    ['xfs', '-b size=4096 -m reflink=0,crc=1 -d agcount=8,su=64k,sw=4 -i maxpct=25 -l size=64m'],
    ['btrfs', '--mixed -n 4096 --checksum xxhash -O no-holes -m single -M --features extref,free-space-tree'],
  ]
  for (const [fsType, text] of good)
    assert.equal(parseMkfsOptions(fsType, text.replaceAll(' ', ' \t')), text.split(' '))
})

test('parseMkfsOptions() refuses flags and values that reach beyond the device, and shows them', async () => {
  const bad: [FsType, string, string][] = [
    ['ext4', '-F', '-F'],
    ['ext4', '-n', '-n'],
    ['ext4', '-S', '-S'],
    ['ext4', '-d /etc', '-d'],
    ['ext4', '-l /etc/passwd', '-l'],
    ['ext4', '-b4096', '-b4096'],
    ['ext4', '-O /etc', '/etc'],
    ['ext4', '-E offset=4096', 'offset=4096'],
    ['ext4', '-E stride=16,offset=4096', 'stride=16,offset=4096'],
    ['ext4', '-O journal_dev', 'journal_dev'],
    ['ext4', '-e panic', 'panic'],
    ['ext4', '-L root', '-L'],
    ['ext4', '-U random', '-U'],
    ['ext4', '-c', '-c'],
    ['ext4', '-z undo', '-z'],
    ['ext4', '-J device=sda1', 'device=sda1'],
    ['ext4', '--', '--'],
    ['ext4', '-O $(id)', '$(id)'],
    ['xfs', '-p proto', '-p'],
    ['xfs', '-N', '-N'],
    ['xfs', '-d name=sda', 'name=sda'],
    ['xfs', '-d file,size=1g', 'file,size=1g'],
    ['xfs', '-l logdev=sda', 'logdev=sda'],
    ['xfs', '-r rtdev=sda', 'rtdev=sda'],
    ['xfs', '-m crc=1,uuid=0', 'crc=1,uuid=0'],
    ['xfs', '-c options=x', '-c'],
    ['btrfs', '-r rootdir', '-r'],
    ['btrfs', '--rootdir x', '--rootdir'],
    ['btrfs', '--nodesize=4096', '--nodesize=4096'],
    ['btrfs', '-U 0', '-U'],
    ['btrfs', '--uuid 0', '--uuid'],
  ]
  // A word that is no flag's value is another device or file for mkfs, and a flag without one takes our device for it.
  const unpaired: [FsType, string, string][] = [
    ['ext4', '4096', '4096'],
    ['ext4', '-b 4096 4096', '4096'],
    ['ext4', '-E -b sda', '-b'],
    ['ext4', '-m 1 -O', '-O'],
    ['btrfs', '-M swapfile', 'swapfile'],
    ['btrfs', '--mixed swapfile', 'swapfile'],
    ['btrfs', '-n -d swapfile', '-d'],
  ]
  for (const [fsType, text, shown] of [...bad, ...unpaired])
    await rejects(
      'invalid',
      new RegExp(`^Cannot format ${fsType} with ${RegExp.escape(JSON.stringify(shown))} of mkfsOptions`),
      () => parseMkfsOptions(fsType, text),
    )
})

test.run()
