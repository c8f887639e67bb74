/**
 * The flex driver's `init` against a bare SEA program: what a call-out costs beyond Node itself.
 *
 *   node bench/flex.ts [runs]
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bake, build } from '../build.mjs'
import { median, say, sayRatio, sayTimes } from './measure.ts'

const runs = Number(process.argv[2] ?? 60)

const executable = await build({ log: () => {} })
const work = mkdtempSync(join(tmpdir(), 'elastic-local-bench-'))
try {
  const entry = join(work, 'bare.cjs')
  const bare = join(work, 'bare')
  writeFileSync(entry, `require('node:fs').writeSync(1, '{"status":"Success"}\\n')\n`)
  await bake({ entry, output: bare })
  if (!existsSync(bare)) throw new Error('The bare program was not built.')

  const programs = { bare: [bare], init: [executable, 'init'] } as const
  const times: Record<keyof typeof programs, number[]> = { bare: [], init: [] }
  for (const [file, ...args] of Object.values(programs)) for (let i = 0; i < 5; i++) execFileSync(file, args)
  for (let i = 0; i < runs; i++) {
    // In turn, and in turns, so that neither profits from what else the machine does.
    const order = Object.keys(programs) as (keyof typeof programs)[]
    for (const name of i % 2 ? order : order.reverse()) {
      const [file, ...args] = programs[name]
      const start = process.hrtime.bigint()
      const { status } = spawnSync(file, args)
      times[name].push(Number(process.hrtime.bigint() - start) / 1e6)
      if (status !== 0) throw new Error(`${name} exited with ${status}.`)
    }
  }

  say('## The flex driver beside a bare SEA program\n')
  sayTimes(times)
  sayRatio('flex init / bare SEA program', median(times.init) / median(times.bare), { most: 1.15 })
} finally {
  rmSync(work, { recursive: true, force: true })
}
