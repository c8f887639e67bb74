/** Runs all benchmarks, or those named, and prints their figures as Markdown; docs/benchmarks.md holds a run. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const all = ['flex', 'mount', 'memory', 'many', 'lvm', 'programs', 'claims', 'pods', 'scale']
const names = process.argv.length > 2 ? process.argv.slice(2) : all
const unknown = names.find((name) => !all.includes(name))
if (unknown) throw new Error(`Cannot run ${unknown} as benchmarks must be of ${all.join(', ')}.`)
for (const name of names) {
  // In a mount namespace of its own, so that nothing mounted stays, however it ends.
  const args = ['--mount', '--propagation', 'private', '--', process.execPath, join(import.meta.dirname, `${name}.ts`)]
  const { status } = spawnSync('unshare', args, { stdio: 'inherit' })
  if (status !== 0) process.exitCode = 1
}
