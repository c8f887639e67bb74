/** Runs in a guest: the image's root folder, given as an argument, as a node's daemon with thin volumes would have it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'

const [root = ''] = process.argv.slice(2)
const megabyte = 2 ** 20
// The guest's own; the image has another.
delete process.env.LVM_SYSTEM_DIR

for (const folder of ['/dev', '/proc', '/sys']) await run('mount', ['--rbind', folder, join(root, folder)])
for (const folder of ['/run', '/tmp', '/mnt']) await run('mount', ['-t', 'tmpfs', 'tmpfs', join(root, folder)])
const inside = async (...command: string[]) => (await run('chroot', [root, ...command])).stdout
const executable = '/usr/local/bin/elastic-local'

await inside('pvcreate', '--quiet', '/dev/vda')
await inside('vgcreate', '--quiet', 'elastic-local-vg', '/dev/vda')
const daemonArgs = ['daemon', '--standalone', '--lvm-use-thin-volumes', '--kubelet-dir=/mnt/kubelet']
const daemon = spawn('chroot', [root, executable, ...daemonArgs], { stdio: ['ignore', 'inherit', 'pipe'] })
let log = ''
await new Promise<void>((resolve, reject) => {
  daemon.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text
    if (log.includes('Serving')) resolve()
  })
  daemon.once('exit', () => reject(new Error(`The daemon ended: ${log}`)))
})

const callOut = async (...args: string[]) => {
  const answer = JSON.parse(await inside(executable, ...args))
  assert.is(answer.status, 'Success', answer.message)
}
for (const fsType of ['ext4', 'xfs', 'btrfs']) {
  const name = `pvc-${fsType}`
  const target = `/mnt/kubelet/pods/11111111-aaaa-4000-8000-000000000001/volumes/volumes.k8s.elastic.co~elastic-local/${name}`
  const options = (sizeBytes: number) =>
    JSON.stringify({
      'kubernetes.io/pvOrVolumeName': name,
      'kubernetes.io/fsType': fsType,
      sizeBytes: `${sizeBytes}`,
    })
  const [before, after] = [320 * megabyte, 400 * megabyte]
  await mkdir(join(root, target), { recursive: true })
  await callOut('mount', target, options(before))
  await writeFile(join(root, target, 'data'), fsType, { flush: true })
  await callOut('expandfs', options(before), '', target, `${after}`, `${before}`)
  await callOut('unmount', target)
  await callOut('mount', target, options(after))
  assert.is(await readFile(join(root, target, 'data'), 'utf8'), fsType)
  await callOut('unmount', target)
}
const { volumes } = JSON.parse(await inside(executable, 'volumes', '--output=json'))
process.stdout.write(`${JSON.stringify(volumes)}\n`)
for (const { name } of volumes) await inside(executable, 'volumes', 'remove', '--yes', name)
daemon.kill('SIGTERM')
const [exitCode] = await once(daemon, 'exit')
assert.is(exitCode, 0)
