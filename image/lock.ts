import { spawn } from 'node:child_process'
import { once } from 'node:events'

/** Does `work` while nobody else has the lock of that file; it lasts until then, or until this process ends. */
export async function withLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  const child = spawn('flock', ['--exclusive', file, 'sh', '-c', 'echo locked; cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const closed = once(child, 'close')
  const locked = once(child.stdout, 'data').then(() => true)
  if (!(await Promise.race([locked, closed.then(() => false)]))) throw new Error(`Cannot lock ${file}`)
  try {
    return await work()
  } finally {
    child.stdin.end()
    await closed
  }
}
