/**
 * Runs in a guest: the image's root folder, given as an argument, as a node's daemon with thin volumes would have it, with
 * the host's udev and what deploy.yaml mounts of the host; with its IPC namespace, and without.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { findHostMounts, readPod, startHost } from './host.ts'

const [root = ''] = process.argv.slice(2)
const megabyte = 2 ** 20
// The guest's own; the image has another.
delete process.env.LVM_SYSTEM_DIR

await startHost('elastic-local-vg')
for (const folder of ['/dev', '/proc', '/sys']) await run('mount', ['--rbind', folder, join(root, folder)])
for (const folder of ['/run', '/tmp', '/mnt']) await run('mount', ['-t', 'tmpfs', 'tmpfs', join(root, folder)])
const pod = await readPod()
assert.is(pod.hostIPC, true)
for (const { path, mountPath } of findHostMounts(pod)) {
  if (path === '/dev') continue
  for (const folder of [path, join(root, mountPath)]) await mkdir(folder, { recursive: true })
  await run('mount', ['--rbind', path, join(root, mountPath)])
}
const executable = '/usr/local/bin/elastic-local'
const callOut = async (...args: string[]) => {
  const answer = JSON.parse((await run('chroot', [root, executable, ...args])).stdout)
  assert.is(answer.status, 'Success', answer.message)
}

/** Has a daemon make, grow and remove a volume of each filesystem; gives what it listed, and what doctor says of udev. */
async function play(fsTypes: readonly string[], ...namespaces: string[]) {
  const enter = ['unshare', '--uts', ...namespaces, '--', 'chroot', root, executable]
  const inside = async (...args: string[]) => (await run('env', [...enter, ...args], { accept: [1] })).stdout
  const daemonArgs = ['daemon', '--standalone', '--lvm-use-thin-volumes', '--kubelet-dir=/mnt/kubelet']
  const daemon = spawn('env', [...enter, ...daemonArgs], { stdio: ['ignore', 'inherit', 'pipe'] })
  let log = ''
  await new Promise<void>((resolve, reject) => {
    daemon.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text
      if (log.includes('Serving')) resolve()
    })
    daemon.once('exit', () => reject(new Error(`The daemon ended: ${log}`)))
  })
  for (const fsType of fsTypes) {
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
  const { volumes }: { volumes: { name: string }[] } = JSON.parse(await inside('volumes', '--output=json'))
  const { findings }: { findings: { check: string; status: string }[] } = JSON.parse(
    await inside('doctor', '-o', 'json'),
  )
  for (const { name } of volumes) await inside('volumes', 'remove', '--yes', name)
  daemon.kill('SIGTERM')
  const [exitCode] = await once(daemon, 'exit')
  assert.is(exitCode, 0, log)
  return { volumes, udev: findings.find(({ check }) => check === 'udev')?.status }
}

const together = await play(['ext4', 'xfs', 'btrfs'])
assert.is(together.udev, 'ok')
const apart = await play(['ext4'], '--ipc')
assert.is(apart.udev, 'warn')
process.stdout.write(`${JSON.stringify(together.volumes)}\n`)
