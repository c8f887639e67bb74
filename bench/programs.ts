/**
 * The programs that each step of a volume's life starts, on every kind of pool: names and numbers, no times. LVM runs in a guest, as
 * `programs.ts lvm` there; its shell is one program, whose commands are counted by themselves.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Observe } from '../src/meter.ts'
import { observeRunner, run } from '../src/run.ts'
import type { World } from '../test/contract.ts'
import { createDisk, runInGuest } from '../test/guest/guest.ts'
import { openDirectoryWorld, openLoopWorld, openLvmWorld, thinOptions } from '../test/machine-world.ts'
import { countStarts, lifeSteps } from '../test/program-starts.ts'
import { say } from './measure.ts'

const volumeGroup = 'elastic-local-vg'

async function count(open: (observe: Observe) => Promise<World>): Promise<string[][]> {
  const started: string[] = []
  const world = await open(({ what }) => started.push(what))
  try {
    const counted = await countStarts(world, started, 'ext4')
    return lifeSteps.map((step) => counted[step])
  } finally {
    await world.close()
  }
}

function sayRows(rows: Readonly<Record<string, string[][]>>): void {
  for (const [kind, cells] of Object.entries(rows)) {
    const isShell = (name: string) => /^(lv|vg|pv)/.test(name)
    const programs = cells.map((names) => names.filter((name) => !isShell(name)))
    const commands = cells.flat().filter(isShell).length
    const all = programs.flat().length
    say(`| ${kind} | ${programs.map((names) => names.join(', ') || '–').join(' | ')} | ${all} | ${commands} |`)
  }
}

if (process.argv[2] === 'lvm') {
  await run('pvcreate', ['--quiet', '/dev/vda'])
  await run('vgcreate', ['--quiet', volumeGroup, '/dev/vda'])
  const linear = await count((observe) => openLvmWorld({ volumeGroup, observe }))
  sayRows({ 'LVM, linear': linear })
  sayRows({ 'LVM, thin': await count((observe) => openLvmWorld({ volumeGroup, thin: thinOptions, observe })) })
} else {
  say('## Programs that a volume starts (ext4)\n')
  say(`| kind | ${lifeSteps.join(' | ')} | programs | commands of the LVM shell |`)
  say(`|---|${'---|'.repeat(lifeSteps.length + 2)}`)
  sayRows({
    LOOP: await count((observe) => openLoopWorld({ preallocate: false, runner: observeRunner(run, observe) })),
    BINDMOUNT: await count((observe) => openDirectoryWorld({ runner: observeRunner(run, observe) })),
  })
  const scratchDir = await mkdtemp(join(tmpdir(), 'elastic-local-bench-'))
  try {
    const disk = join(scratchDir, 'disk.img')
    await createDisk(disk, 2 ** 30)
    const onOutput = (text: string) => process.stdout.write(text)
    const options = { disk, scratchDir, program: import.meta.filename, args: ['lvm'], timeoutMs: 30 * 60_000, onOutput }
    process.exitCode = (await runInGuest(options)).exitCode
  } finally {
    await rm(scratchDir, { recursive: true, force: true })
  }
}
