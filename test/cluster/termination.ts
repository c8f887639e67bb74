const signals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const
const works = new Set<() => Promise<void>>()

/**
 * Has `work` done when a signal ends this process, the latest first; the test runner ends a file that takes too long
 * in that way. The result takes it back. The process then exits with its `exitCode`, or 1 if it has set none.
 */
export function atTermination(work: () => Promise<void>): () => void {
  if (works.size === 0) for (const signal of signals) process.on(signal, terminate)
  works.add(work)
  return () => {
    works.delete(work)
    if (works.size === 0) for (const signal of signals) process.off(signal, terminate)
  }
}

async function terminate(): Promise<void> {
  for (const work of [...works].reverse())
    await work().catch((error) => {
      process.stderr.write(`${error}\n`)
      process.exitCode = 1
    })
  process.exit(process.exitCode ?? 1)
}
