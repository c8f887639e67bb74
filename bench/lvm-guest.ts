/** Runs in a guest; see lvm.ts. */
import { randomUUID } from 'node:crypto'
import { run } from '../src/run.ts'
import { buildLvmPool } from '../test/machine-world.ts'
import { median, say, sayRatio, sayTimes, timeMs } from './measure.ts'

const volumeGroup = 'elastic-local-vg'
const sizeBytes = 8n << 20n
const batch = 20
const fills = [100, 300, 600]

await run('pvcreate', ['--quiet', '/dev/vda'])
await run('vgcreate', ['--quiet', volumeGroup, '/dev/vda'])
const { pool, shell } = await buildLvmPool({ volumeGroup, thin: undefined, volumesDir: '/run/bench' })
await pool.start()

let count = 0
const nextName = () => `v${count++}`
const shape = ['--type', 'linear', '--size', `${sizeBytes}b`, '--wipesignatures', 'y', '--zero', 'y']
const arguments_ = (name: string) => ['--yes', '--name', name, ...shape]
const tags = () => [
  '--addtag',
  'elastic-local',
  '--addtag',
  `elastic-local.id=${randomUUID()}`,
  '--addtag',
  'elastic-local.fs=ext4',
]

const ways = {
  'the pool': async () => void (await pool.create(nextName(), { id: randomUUID(), sizeBytes, fsType: 'ext4' })),
  'a bare `lvm` shell': async () =>
    void (await shell.run(['lvcreate', ...arguments_(nextName()), ...tags(), volumeGroup])),
  'an `lvcreate` process each': async () =>
    void (await run('lvcreate', [...arguments_(nextName()), ...tags(), volumeGroup])),
}
type Way = keyof typeof ways

/** Makes volumes in each way, in turns, with those in the group that are there; `after` comes after each turn. */
async function measure(after = async () => {}): Promise<Record<Way, number[]>> {
  const times: Record<Way, number[]> = { 'the pool': [], 'a bare `lvm` shell': [], 'an `lvcreate` process each': [] }
  for (let index = 0; index < batch; index++) {
    for (const way of Object.keys(ways) as Way[]) times[way].push(await timeMs(ways[way]))
    await after()
  }
  return times
}

const mean = (times: readonly number[]) => times.reduce((sum, time) => sum + time, 0) / times.length

say('## Making volumes on LVM (linear, in a guest)\n')
const first = await measure(async () => {
  for (; count > 0; count--) await shell.run(['lvremove', '--yes', `${volumeGroup}/v${count - 1}`])
})
say('In a group that is nearly empty:\n')
sayTimes(first)
sayRatio(
  'volumes a second: the pool / lvcreate processes',
  median(first['an `lvcreate` process each']) / median(first['the pool']),
  { least: 3 },
)
for (const fill of fills) {
  while (count < fill) await ways['a bare `lvm` shell']()
  const times = await measure()
  say(`With ${fill} volumes in the group:\n`)
  sayTimes(times)
  // Means, as the pool looks at the metadata area only now and then.
  sayRatio(`at ${fill} volumes: the pool / bare LVM`, mean(times['the pool']) / mean(times['a bare `lvm` shell']), {
    most: 1.1,
  })
}
await pool.stop()
