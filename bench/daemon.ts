import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { request } from '../src/daemon/client.ts'
import { followLog } from './moments.ts'

const executable = join(import.meta.dirname, '../dist/elastic-local')

/** A built daemon with LOOP volumes in a scratch folder, for the time of a benchmark. */
export interface BenchDaemon {
  pid: number
  folder: string
  executable: string
  socket: string
  /** The kubelet's folder. */
  kubelet: string
  target(pod: string, volume: string): string
  post(path: string, body: object): Promise<void>
  stop(): Promise<void>
}

/** Starts it, with more flags `--name=value`, or others in place of the usual ones; `folder` is gone after `stop`. */
export async function startDaemon(flags: readonly string[] = []): Promise<BenchDaemon> {
  const folder = await mkdtemp(join(tmpdir(), 'elastic-local-bench-'))
  const socket = join(folder, 'socket')
  const kubelet = join(folder, 'kubelet')
  const usual = ['--driver-kind=LOOP', `--volumes-dir=${join(folder, 'volumes')}`]
  const isGiven = (flag: string) => flags.some((given) => given.split('=')[0] === flag.split('=')[0])
  const args = ['--standalone', '--log-level=info', ...usual.filter((flag) => !isGiven(flag)), ...flags]
  await mkdir(kubelet)
  // Into a file: it would wait for a reader, which a benchmark that waits for a program is not.
  const log = join(folder, 'log')
  const file = await open(log, 'a')
  const daemon: ChildProcess = spawn(executable, ['daemon', ...args, '--kubelet-dir', kubelet, '--socket', socket], {
    stdio: ['ignore', 'ignore', file.fd],
  })
  await file.close()
  const isServing = new AbortController()
  await new Promise<void>((resolve, reject) => {
    daemon.once('exit', (exitCode) => reject(new Error(`The daemon ended with ${exitCode}.`)))
    followLog(log, isServing.signal, (line) => {
      if (line.includes('Serving')) resolve()
    })
  })
  isServing.abort()
  return {
    pid: daemon.pid ?? 0,
    folder,
    executable,
    socket,
    kubelet,
    target: (pod, volume) => join(kubelet, 'pods', pod, 'volumes/volumes.k8s.elastic.co~elastic-local', volume),
    post: async (path, body) => {
      const answer = await request({ socketPath: socket, method: 'POST', path, body })
      const { status } = answer.body as { status?: string }
      if (status !== 'Success') throw new Error(`${path} answered ${JSON.stringify(answer.body)}`)
    },
    stop: async () => {
      const ended = once(daemon, 'exit')
      daemon.kill('SIGTERM')
      await ended
      await rm(folder, { recursive: true })
    },
  }
}
