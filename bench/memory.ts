/** The daemon's resident memory without volumes and with a thousand; by flex alone, and with both fronts served. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { csiSocket } from '../src/csi/driver.ts'
import { Node } from '../src/csi/proto/csi_pb.ts'
import { findFreePorts } from '../test/cluster/control-plane.ts'
import { callService } from '../test/csi-client.ts'
import { startDaemon } from './daemon.ts'
import { say, sayRatio } from './measure.ts'

const volumes = Number(process.argv[2] ?? 1000)
const atOnce = 4
const options = { 'kubernetes.io/fsType': 'ext4', sizeBytes: String(8 << 20) }

const scrapes = 20

const volumeCapability = {
  accessType: { case: 'mount' as const, value: { fsType: 'ext4' } },
  accessMode: { mode: 7 as const },
}

/** What is resident without volumes, and when each was made, and mounted and unmounted once by each front. */
async function measure({ metricsPort, csi = false }: { metricsPort?: number; csi?: boolean } = {}) {
  const daemon = await startDaemon([
    ...(metricsPort === undefined ? [] : [`--http-address=127.0.0.1:${metricsPort}`]),
    ...(csi ? ['--csi=true'] : []),
  ])
  const residentMb = async () => {
    for (let times = 0; metricsPort !== undefined && times < scrapes; times += 1)
      await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()
    const status = await readFile(`/proc/${daemon.pid}/status`, 'utf8')
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024
  }
  try {
    const before = await residentMb()
    const names = Array.from({ length: volumes }, (_, index) => `pvc-bench-${index}`)
    const work = async () => {
      for (let name = names.pop(); name; name = names.pop()) {
        await daemon.post('/mount', { targetDir: daemon.target('a', name), options })
        await daemon.post('/unmount', { targetDir: daemon.target('a', name) })
        if (!csi) continue
        const targetPath = join(daemon.kubelet, 'pods/b/volumes/kubernetes.io~csi', name, 'mount')
        const { calls, client } = callService(csiSocket(daemon.kubelet), Node)
        await calls.nodePublishVolume({ volumeId: name, targetPath, volumeCapability })
        await calls.nodeGetVolumeStats({ volumeId: name, volumePath: targetPath })
        await calls.nodeUnpublishVolume({ volumeId: name, targetPath })
        client.close()
      }
    }
    await Promise.all(Array.from({ length: atOnce }, work))
    return { before, after: await residentMb() }
  } finally {
    await daemon.stop()
  }
}

const [metricsPort = 0] = await findFreePorts(1, '127.0.0.1')
const [plain, counted] = [await measure(), await measure({ metricsPort })]
const both = await measure({ metricsPort, csi: true })
const row = (what: string, { before, after }: typeof plain) =>
  `| ${what} | ${before.toFixed(0)} MB | ${after.toFixed(0)} MB |`
say('## Memory of the daemon (LOOP)\n')
say(`| | no volumes | ${volumes}, each made, mounted and unmounted once |\n|---|---|---|`)
say(row('without metrics', plain))
say(row(`with \`--http-address\`, after ${scrapes} scrapes each`, counted))
say(row('the same with `--csi`, by both fronts', both))
sayRatio(`resident memory with ${volumes} volumes / 100 MB`, plain.after / 100, { most: 1 })
sayRatio(`resident memory with ${volumes} volumes and both fronts / 122 MB`, both.after / 122, { most: 1 })
