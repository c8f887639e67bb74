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

/** What is written where the machine's settings and loop devices are those, and `disks` are the group's. */
async function writeOn(current: string, loops = '', disks = ''): Promise<{ text: string; asked: string[] }> {
  const asked: string[] = []
  let text = ''
  await withScratch(async (folder) => {
    const run: Runner = async (file, args) => {
      asked.push([file, ...args].join(' '))
      const stdout = args[0] === 'lvmconfig' ? current : file === 'losetup' ? loops : disks
      return { exitCode: 0, stdout, stderr: '' }
    }
    await writeLvmConfig({ run, folder, volumeGroup, hostTools: false })
    text = await readFile(join(folder, 'lvm.conf'), 'utf8')
  })
  return { text, asked }
}

/** The devices section that is written where the machine's settings and loop devices are those, and `disks` are the group's. */
async function devicesOf(current: string, loops = '', disks = '') {
  const { text, asked } = await writeOn(current, loops, disks)
  const line = text.split('\n').find((line) => line.startsWith('devices { hints="none"')) ?? ''
  return { line, asksForDisks: asked.some((command) => command.startsWith('lvm pvs')) }
}

test("all of the machine's settings stay, but for how LVM answers, and ours come after them", async () => {
  // As lvmconfig(8) says them.
  const current = `config {
\tchecks=1
}
log {
\tprefix="theirs"
}
activation {
\tvolume_list=["@theirs","vg"]
\tauto_activation_volume_list=[]
\tmonitoring=1
}
global {
\tuse_lvmlockd=1
\tlocking_dir="/srv/lock"
\tsystem_id_source="lvmlocal"
}
local {
\tsystem_id="theirs"
}
report {
\tlist_item_separator=";"
}
devices {
\tuse_devicesfile=1
\tdevicesfile="theirs.devices"
}
tags {
\thosttags=1
}
`
  const { text, asked } = await writeOn(current)
  assert.ok(asked.includes('lvm lvmconfig --type current'))
  const kept = current.replace(/^(log|report) \{\n.*\n\}\n/gm, '')
  assert.not.match(kept, /list_item_separator|prefix/)
  assert.ok(text.includes(`\n${kept}`), text)
  assert.not.match(text, /list_item_separator|prefix/)
  // Of a setting that is there twice, LVM takes the last.
  assert.ok(text.lastIndexOf('monitoring=0') > text.lastIndexOf('monitoring=1'))
})

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
