/**
 * Runs all benchmarks, or those named, and prints their figures as Markdown; docs/benchmarks.md holds a run. Numbers after a
 * name are that benchmark's own: `scale 5000 20`.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const all = ['flex', 'mount', 'memory', 'many', 'lvm', 'programs', 'claims', 'pods', 'beside', 'scale']
const runs: string[][] = []
for (const word of process.argv.length > 2 ? process.argv.slice(2) : all) {
  const [current] = runs.slice(-1)
  if (current && /^[0-9]+$/.test(word)) current.push(word)
  else if (all.includes(word)) runs.push([word])
  else throw new Error(`Cannot run ${word} as benchmarks must be of ${all.join(', ')}.`)
}
for (const [name, ...numbers] of runs) {
  // In a mount namespace of its own, so that nothing mounted stays, however it ends.
  const program = [process.execPath, join(import.meta.dirname, `${name}.ts`), ...numbers]
  const { status } = spawnSync('unshare', ['--mount', '--propagation', 'private', '--', ...program], {
    stdio: 'inherit',
  })
  if (status !== 0) process.exitCode = 1
}
