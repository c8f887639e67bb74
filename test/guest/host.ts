/** A host with udev and LVM settings of its own, and what deploy.yaml lets the daemon's container see of it; in a guest. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { run } from '../../src/run.ts'

/** What matters here of the DaemonSet's pod. */
export interface Pod {
  hostIPC?: boolean
  volumes: { name: string; hostPath: { path: string } }[]
  containers: [{ volumeMounts: { name: string; mountPath: string }[] }]
}

export async function readPod(): Promise<Pod> {
  const text = await readFile(join(import.meta.dirname, '../../deploy.yaml'), 'utf8')
  const objects = parseAllDocuments(text, { merge: true }).map((document) => document.toJS())
  return objects.find(({ kind }) => kind === 'DaemonSet').spec.template.spec
}

/** The folders of the host's `/run`, `/dev` and `/etc` that its container has, and where. */
export function findHostMounts(pod: Pod): { name: string; path: string; mountPath: string }[] {
  return pod.containers[0].volumeMounts.flatMap(({ name, mountPath }) => {
    const path = pod.volumes.find((volume) => volume.name === name)?.hostPath.path ?? ''
    return /^\/(run|dev|etc)\b/.test(path) ? [{ name, path, mountPath }] : []
  })
}

export const hostSettings =
  'devices { use_devicesfile=1 }\nglobal { system_id_source="lvmlocal" }\nreport { list_item_separator=";" }\n'

/** Starts udev and makes the volume group, which only the host's own settings show. */
export async function startHost(volumeGroup: string): Promise<void> {
  await run('mount', ['-t', 'tmpfs', 'tmpfs', '/etc/lvm'])
  await mkdir('/etc/lvm/devices')
  await writeFile('/etc/lvm/lvm.conf', hostSettings)
  await writeFile('/etc/lvm/lvmlocal.conf', 'local { system_id="this-host" }\n')
  await run('/lib/systemd/systemd-udevd', ['--daemon'])
  await run('udevadm', ['trigger', '--action=add', '--subsystem-match=block'])
  await run('udevadm', ['settle'])
  await run('pvcreate', ['--quiet', '/dev/vda'])
  await run('vgcreate', ['--quiet', volumeGroup, '/dev/vda'])
}
