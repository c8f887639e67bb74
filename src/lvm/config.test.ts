import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { formatDeviceNumber } from '../device-number.ts'
import type { Runner } from '../run.ts'
import { writeLvmConfig } from './config.ts'

const test = suite('LVM settings')
const volumeGroup = 'vg'

/** The devices section that is written where the machine's settings and loop devices are those, and `disks` are the group's. */
async function devicesOf(current: string, loops = '', disks = '') {
  const asked: string[] = []
  let line = ''
  await withScratch(async (folder) => {
    const run: Runner = async (file, args) => {
      asked.push([file, ...args].join(' '))
      const stdout = args[0] === 'lvmconfig' ? current : file === 'losetup' ? loops : disks
      return { exitCode: 0, stdout, stderr: '' }
    }
    await writeLvmConfig({ run, folder, volumeGroup, hostTools: false })
    const text = await readFile(join(folder, 'lvm.conf'), 'utf8')
    line = text.split('\n').find((line) => line.startsWith('devices { hints="none"')) ?? ''
  })
  return { line, asksForDisks: asked.some((command) => command.startsWith('lvm pvs')) }
}

test('LVM looks into no logical volume and no loop device, whatever the machine says', async () => {
  const loops = '"r|^/dev/loop[0-9]+(p[0-9]+)?$|"'
  for (const [current, filter] of [
    ['', `filter=[ ${loops} ]`],
    ['devices {\n\tscan_lvs=1\n\tglobal_filter=["a|.*|"]\n}\n', `filter=[ ${loops} ]`],
    ['devices {\n\tfilter=["a|^/dev/sd|","r|.*|"]\n}\n', `global_filter=[ ${loops} ]`],
    ['devices {\n\tfilter="a|.*|"\n\tglobal_filter=["r|^/dev/sr|"]\n}\n', `global_filter=[ ${loops}, "r|^/dev/sr|" ]`],
  ] as const) {
    const { line, asksForDisks } = await devicesOf(current)
    assert.ok(line.includes(`scan_lvs=0 ${filter} `), line)
    assert.is(asksForDisks, false)
  }
})

test('but for loop devices that the group is made of: never those over images of ours, or over devices', async () => {
  const nodes = formatDeviceNumber((await stat('/dev')).dev)
  const theirs = [
    `/dev/loop1 \\x20\\x20${nodes}\\x20 /var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/pvc-1/dev/uid`,
    '/dev/loop2 \\x20\\x208:1\\x20 /mnt/volumes/.elastic-local/loop/pvc-2.img',
  ]
  assert.is((await devicesOf('', theirs.join('\n'), '/dev/loop1 /dev/loop2')).asksForDisks, false)
  const all = [
    ...theirs,
    '/dev/loop3 \\x20\\x208:1\\x20 /var/disk.img',
    '/dev/loop4 \\x20\\x208:1\\x20 /snap/core',
  ].join('\n')
  const disks = '  /dev/loop1\n  /dev/loop2p1\n  /dev/loop3\n  /dev/loop4p2\n /dev/sda3\n'
  const { line } = await devicesOf('', all, disks)
  const own = '"a|^/dev/loop3$|", "a|^/dev/loop4p2$|"'
  assert.ok(line.includes(`filter=[ ${own}, "r|^/dev/loop[0-9]+(p[0-9]+)?$|" ]`), line)
})

test.run()
