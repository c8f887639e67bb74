/** The daemon's start, and a list, with 100, 1,000 and 5,000 volumes that are all mounted (BINDMOUNT). */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { request } from '../src/daemon/client.ts'
import { startDaemon } from './daemon.ts'
import { runProgram, say, sayRatio, timeMs } from './measure.ts'

const sizes = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [100, 1000, 5000]
const lists = 5
/** Of proc_pid_stat(5), as on all of Linux's usual machines. */
const tickMs = 10

/** Binds each folder on its target: syscall number of mount. */
const bindAll = `my $mount = shift; my $none = "";
while (my ($from, $to) = splice @ARGV, 0, 2) { syscall($mount + 0, $from, $to, $none, 4096, $none) == 0 or die "$to: $!" }`
const mountCall = process.arch === 'arm64' ? '40' : '165'

interface Cost {
  startMs: number
  startCpuMs: number
  listMs: number
  listCpuMs: number
}

async function measure(volumes: number): Promise<Cost> {
  const folder = await mkdtemp(join(tmpdir(), 'elastic-local-many-'))
  const volumesDir = join(folder, 'volumes')
  const markers = join(volumesDir, '.elastic-local/directories')
  const names = Array.from({ length: volumes }, (_, index) => `pvc-${index}`)
  const target = (name: string) => join(folder, 'pods', name)
  try {
    await mkdir(markers, { recursive: true })
    for (const name of names) {
      const marker = { id: name, sizeBytes: '4096', fsType: 'ext4', createdAt: '2026-01-01T00:00:00.000Z' }
      await writeFile(join(markers, `${name}.json`), JSON.stringify(marker))
      for (const path of [join(volumesDir, name), target(name)]) await mkdir(path, { recursive: true })
    }
    for (let first = 0; first < volumes; first += 500) {
      const pairs = names.slice(first, first + 500).flatMap((name) => [join(volumesDir, name), target(name)])
      runProgram('perl', '-e', bindAll, mountCall, ...pairs)
    }
    return await measureDaemon(volumesDir, volumes)
  } finally {
    runProgram('sh', '-c', 'umount --lazy "$1"/pods/* 2>/dev/null || true', 'sh', folder)
    await rm(folder, { recursive: true })
  }
}

async function measureDaemon(volumesDir: string, volumes: number): Promise<Cost> {
  const startedAt = process.hrtime.bigint()
  const daemon = await startDaemon(['--driver-kind=BINDMOUNT', `--volumes-dir=${volumesDir}`])
  const cpuMs = async () => {
    const fields = (await readFile(`/proc/${daemon.pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? []
    return (Number(fields[11]) + Number(fields[12])) * tickMs
  }
  const list = async () => {
    const { body } = await request({ socketPath: daemon.socket, method: 'GET', path: '/v1/volumes' })
    const found = (body as { volumes: { mounts: unknown[] }[] }).volumes.filter(({ mounts }) => mounts.length === 1)
    if (found.length !== volumes) throw new Error(`${found.length} of ${volumes} volumes are listed as mounted`)
  }
  try {
    // It has looked at what is there when it answers this.
    await list()
    const startMs = Number(process.hrtime.bigint() - startedAt) / 1e6
    const startCpuMs = await cpuMs()
    let listMs = 0
    for (let times = 0; times < lists; times += 1) listMs += await timeMs(list)
    return { startMs, startCpuMs, listMs: listMs / lists, listCpuMs: ((await cpuMs()) - startCpuMs) / lists }
  } finally {
    await daemon.stop()
  }
}

const empty = await measure(1)
const costs: Cost[] = []
for (const volumes of sizes) costs.push(await measure(volumes))
say('## Many volumes, all of them mounted (BINDMOUNT)\n')
say('| volumes | start to the first list | its processor time | a list | its processor time |')
say('|---|---|---|---|---|')
for (const [index, cost] of [empty, ...costs].entries())
  say(
    `| ${[1, ...sizes][index]} | ${cost.startMs.toFixed(0)} ms | ${cost.startCpuMs.toFixed(0)} ms | ${cost.listMs.toFixed(0)} ms | ${cost.listCpuMs.toFixed(0)} ms |`,
  )
const [few, most] = [costs.at(-2), costs.at(-1)]
if (few && most) {
  const times = (sizes.at(-1) ?? 1) / (sizes.at(-2) ?? 1)
  const grown = (of: (cost: Cost) => number, floor = 0) => (of(most) - floor) / (of(few) - floor) / times
  sayRatio(
    'processor time of a start, without that of an empty one, for each volume: the most / the fewer',
    grown((cost) => cost.startCpuMs, empty.startCpuMs),
    { most: 1.5 },
  )
  sayRatio(
    'processor time of a list, for each volume: the most / the fewer',
    grown((cost) => cost.listCpuMs),
    { most: 1.5 },
  )
}
