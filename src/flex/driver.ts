import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { ClientRequest } from '../daemon/client.ts'
import {
  decodeCallOut,
  decodeDaemonAnswer,
  type FlexAnswer,
  type FlexRequest,
  failure,
  formatAnswer,
} from './protocol.ts'
import { defaultSettings, type FlexSettings, readSettings, settingsFile } from './settings.ts'

/**
 * Does one call-out of the kubelet and ends the process.
 *
 * Invariant: exactly one line of JSON goes to standard output and standard error together, for the kubelet joins and
 * parses them. So standard error is led away first, and whatever ends the process ends it through `finish`, once.
 */
export function runFlexDriver(args: readonly string[], driverFolder: string | undefined): void {
  muteStderr()
  process.on('uncaughtException', (error) =>
    finish(failure(`The elastic-local flex driver failed: ${describe(error)}`)),
  )
  const settings = loadSettings(driverFolder)
  if ('status' in settings) return finish(settings)
  const task = decodeCallOut(args, settings)
  if ('answer' in task) return finish(task.answer)
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
    process.on(signal, () =>
      finish(failure(`The elastic-local flex driver was interrupted by ${signal}; the daemon may still be at work.`)),
    )
  askDaemon(task.request, settings.socket).then(finish, (error) => finish(failure(describe(error))))
}

/** The daemon's answer, or a `Failure` that says why there is none. */
export async function askDaemon(
  { path, body }: FlexRequest,
  socketPath: string,
  limits: Pick<ClientRequest, 'idleTimeoutMs' | 'maxBytes'> = {},
): Promise<FlexAnswer> {
  // Only here: the network costs milliseconds that the other call-outs need not pay.
  const { request, ClientError } = await import('../daemon/client.ts')
  try {
    const answer = await request({ socketPath, method: 'POST', path, body, ...limits })
    return decodeDaemonAnswer(answer.statusCode, answer.body)
  } catch (error) {
    if (error instanceof ClientError) return failure(error.message)
    throw error
  }
}

function loadSettings(driverFolder: string | undefined): FlexSettings | FlexAnswer {
  try {
    const settings = driverFolder === undefined ? defaultSettings : readSettings(join(driverFolder, settingsFile))
    return { ...settings, socket: process.env.ELASTIC_LOCAL_SOCKET || settings.socket }
  } catch (error) {
    return failure(describe(error))
  }
}

/** Nothing Node or a library has to say may reach the kubelet. */
function muteStderr(): void {
  try {
    closeSync(2)
    // The lowest free number (open(2)).
    openSync('/dev/null', 'w')
  } catch {
    // Without /dev/null, standard error stays closed, which is as silent.
  }
}

let finished = false

function finish(answer: FlexAnswer): void {
  if (finished) return
  finished = true
  const written = writeLine(formatAnswer(answer), (rest) => writeSync(1, rest))
  process.exit(answer.status === 'Failure' || !written ? 1 : 0)
}

/** Writes all of `line` with a `write` that may take a part, or refuse for now, and says whether it could. */
export function writeLine(line: string, write: (rest: Buffer) => number, timeoutMs = 5000): boolean {
  let rest = Buffer.from(line)
  const deadline = performance.now() + timeoutMs
  while (rest.length > 0) {
    try {
      rest = rest.subarray(write(rest))
    } catch (error) {
      // EAGAIN: a full pipe that somebody made non-blocking. With any other error nobody is left to be told.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || performance.now() > deadline) return false
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
    }
  }
  return true
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
