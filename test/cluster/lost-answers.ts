/** Stands between a kubelet and its CSI driver, and has answers lost. */
import { once } from 'node:events'
import { rename } from 'node:fs/promises'
import { connect as connectHttp2, createServer, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import { connect } from 'node:net'
import { buffer } from 'node:stream/consumers'

/**
 * Takes the place of a driver's socket until that driver is started anew; resolves when it has. `lost` resolves when the
 * driver has answered a call of that method, and `before` was done in place of handing on the answer.
 */
export async function loseAnswer(
  socketPath: string,
  method: string,
  before: () => Promise<void>,
): Promise<{ lost: Promise<void> }> {
  // Short, as a path of a socket has at most 107 bytes.
  const behind = `${socketPath}.b`
  await rename(socketPath, behind)
  const lost = Promise.withResolvers<void>()
  const server = createServer()
  server.on('stream', async (stream, { ':path': path = '' }) => {
    const answer = await ask(behind, path, await buffer(stream)).catch(() => undefined)
    if (!answer || path.endsWith(`/${method}`)) {
      if (answer) await before().then(lost.resolve, lost.reject)
      stream.session?.destroy()
      if (answer) server.close()
      return
    }
    handOn(stream, answer)
  })
  server.listen({ path: socketPath })
  await once(server, 'listening')
  return { lost: lost.promise }
}

interface Answer {
  headers: IncomingHttpHeaders
  body: Buffer
  /** Missing where the headers are all there is. */
  trailers: IncomingHttpHeaders | undefined
}

async function ask(socketPath: string, path: string, body: Buffer): Promise<Answer> {
  const session = connectHttp2('http://localhost', { createConnection: () => connect(socketPath) })
  try {
    const failed = once(session, 'error').then(([error]) => Promise.reject(error))
    const call = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    const asking = async () => {
      let trailers: IncomingHttpHeaders | undefined
      call.once('trailers', (found) => {
        trailers = found
      })
      const responding = once(call, 'response') as Promise<[IncomingHttpHeaders]>
      call.end(body)
      const [headers] = await responding
      return { headers, body: await buffer(call), trailers }
    }
    return await Promise.race([asking(), failed])
  } finally {
    session.destroy()
  }
}

function handOn(stream: ServerHttp2Stream, { headers, body, trailers }: Answer): void {
  if (!trailers) return stream.respond(headers, { endStream: true })
  stream.respond(headers, { waitForTrailers: true })
  stream.once('wantTrailers', () => stream.sendTrailers(trailers))
  stream.end(body)
}
