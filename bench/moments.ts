import { readSync, watch as watchFile } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import type { KubernetesObject } from '@kubernetes/client-node'
import type { Api } from '../src/k8s/client/api.ts'
import { Reflector } from '../src/k8s/client/reflector.ts'
import { say } from './measure.ts'

const longestMs = 180_000

/** When which thing was first seen at which step, by this process's clock. */
export class Moments<Step extends string> {
  readonly #seen = new Map<string, number>()
  readonly #waiting = new Map<string, () => void>()

  see(name: string, step: Step): void {
    const key = `${name}/${step}`
    if (!this.#seen.has(key)) this.#seen.set(key, performance.now())
    this.#waiting.get(key)?.()
  }

  at(name: string, step: Step): number {
    return this.#seen.get(`${name}/${step}`) ?? Number.NaN
  }

  /** Resolves when that thing was seen at that step; throws when that takes minutes. */
  async reached(name: string, step: Step): Promise<void> {
    const key = `${name}/${step}`
    if (this.#seen.has(key)) return
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`Cannot go on: ${name} has not come to "${step}".`)), longestMs)
      this.#waiting.set(key, () => {
        clearTimeout(timer)
        resolve()
      })
    })
  }
}

/**
 * Tells of each object of a list, of each change of it, and of its end, until `signal` aborts; resolves once all that
 * is there was told. An API server that is short of time ends watches, which are then taken up again.
 */
export async function follow<T extends KubernetesObject>(
  api: Api,
  path: string,
  signal: AbortSignal,
  see: (object: T, isGone: boolean) => void,
): Promise<void> {
  const reflector = new Reflector<T, T>({ api, path, pick: (object) => object, log: { warn: say } })
  reflector.onChange((_, now, before) => {
    const object = now ?? before
    if (object) see(object, !now)
  })
  reflector.run(signal)
  await reflector.synced()
}

/** Tells of each line that is added to a log, until `signal` aborts. */
export async function followLog(path: string, signal: AbortSignal, see: (line: string) => void): Promise<void> {
  const file = await open(path)
  const buffer = Buffer.alloc(1 << 16)
  let rest = ''
  const watcher = watchFile(path, () => {
    for (let length = 1; length > 0; ) {
      length = readSync(file.fd, buffer)
      const lines = `${rest}${buffer.toString('utf8', 0, length)}`.split('\n')
      rest = lines.pop() ?? ''
      lines.forEach(see)
    }
  })
  signal.addEventListener('abort', () => {
    watcher.close()
    file.close()
  })
}

/** Milliseconds of processor time that a process, and the children it has waited for, have had (proc_pid_stat(5)). */
export async function readCpu(pid: number): Promise<{ ownMs: number; childrenMs: number }> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  // The kernel counts in hundredths of a second.
  const [user = 0, system = 0, childrenUser = 0, childrenSystem = 0] = fields.slice(11, 15).map((n) => Number(n) * 10)
  return { ownMs: user + system, childrenMs: childrenUser + childrenSystem }
}
