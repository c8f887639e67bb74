/** The daemon's resident memory without volumes and with a thousand. */
import { readFile } from 'node:fs/promises'
import { startDaemon } from './daemon.ts'
import { say, sayRatio } from './measure.ts'

const volumes = Number(process.argv[2] ?? 1000)
const atOnce = 4
const options = { 'kubernetes.io/fsType': 'ext4', sizeBytes: String(8 << 20) }

const daemon = await startDaemon()
const residentMb = async () => {
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
  const after = await residentMb()
  say('## Memory of the daemon (LOOP)\n')
  say('| volumes | resident |\n|---|---|')
  say(`| 0 | ${before.toFixed(0)} MB |\n| ${volumes}, each made, mounted and unmounted once | ${after.toFixed(0)} MB |`)
  sayRatio(`resident memory with ${volumes} volumes / 100 MB`, after / 100, { most: 1 })
} finally {
  await daemon.stop()
}
