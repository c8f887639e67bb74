/** The daemon's resident memory without volumes and with a thousand. */
import { readFile } from 'node:fs/promises'
import { findFreePorts } from '../test/cluster/control-plane.ts'
import { startDaemon } from './daemon.ts'
import { say, sayRatio } from './measure.ts'

const volumes = Number(process.argv[2] ?? 1000)
const atOnce = 4
const options = { 'kubernetes.io/fsType': 'ext4', sizeBytes: String(8 << 20) }

const scrapes = 20

/** What is resident without volumes, and when each was made, mounted and unmounted once. */
async function measure(metricsPort?: number): Promise<{ before: number; after: number }> {
  const daemon = await startDaemon(metricsPort === undefined ? [] : [`--http-address=127.0.0.1:${metricsPort}`])
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
      }
    }
    await Promise.all(Array.from({ length: atOnce }, work))
    return { before, after: await residentMb() }
  } finally {
    await daemon.stop()
  }
}

const [plain, counted] = [await measure(), await measure((await findFreePorts(1, '127.0.0.1'))[0])]
const row = (what: string, { before, after }: typeof plain) =>
  `| ${what} | ${before.toFixed(0)} MB | ${after.toFixed(0)} MB |`
say('## Memory of the daemon (LOOP)\n')
say(`| | no volumes | ${volumes}, each made, mounted and unmounted once |\n|---|---|---|`)
say(row('without metrics', plain))
say(row(`with \`--http-address\`, after ${scrapes} scrapes each`, counted))
sayRatio(`resident memory with ${volumes} volumes / 100 MB`, plain.after / 100, { most: 1 })
