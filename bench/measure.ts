import { spawnSync } from 'node:child_process'

/** The value below which that share of the values lies. */
function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
}

export const median = (values: readonly number[]) => quantile(values, 0.5)

export const say = (line: string) => process.stdout.write(`${line}\n`)

/** Milliseconds that `work` takes. */
export async function timeMs(work: () => unknown): Promise<number> {
  const start = process.hrtime.bigint()
  await work()
  return Number(process.hrtime.bigint() - start) / 1e6
}

/** Runs a program to its end and gives what it printed. Throws when it fails. */
export function runProgram(file: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(file, args, { encoding: 'utf8' })
  if (status !== 0) throw error ?? new Error(`${file} exited with ${status}: ${stderr}${stdout}`)
  return stdout
}

/** A table in Markdown, of the median and the 10th and 90th percentile of each row's times. */
export function sayTimes(rows: Readonly<Record<string, readonly number[]>>): void {
  say('| what | median | p10 | p90 | runs |')
  say('|---|---|---|---|---|')
  for (const [name, times] of Object.entries(rows)) {
    const cells = [0.5, 0.1, 0.9].map((share) => `${quantile(times, share).toFixed(1)} ms`)
    say(`| ${name} | ${cells.join(' | ')} | ${times.length} |`)
  }
}

/** One ratio, and whether it is as good as it should be. */
export function sayRatio(what: string, ratio: number, aim: { most: number } | { least: number }): void {
  const met = 'most' in aim ? ratio <= aim.most : ratio >= aim.least
  const wanted = 'most' in aim ? `at most ${aim.most}` : `at least ${aim.least}`
  say(`\n${what}: ${ratio.toFixed(2)} (aim: ${wanted}; ${met ? 'met' : 'NOT met'})\n`)
}
