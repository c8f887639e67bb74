import { createServer, type Socket } from 'node:net'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import { listenOnSocket } from '../daemon/socket.ts'

/** Time to read the last answers of a server that ends. */
const readingMs = 2000

export interface GrpcServer {
  /** Ends the server after the answers that are under way, if somebody reads them; its socket goes with it. */
  close(): Promise<void>
}

/** Serves on a unix socket that only root can use; `add` gives the server its services. Throws `failed`. */
export async function serveGrpc(socketPath: string, add: (server: Server) => void): Promise<GrpcServer> {
  const server = new Server({ 'grpc.enable_channelz': 0 })
  add(server)
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const open = new Set<Socket>()
  const listener = createServer((socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    injector.injectConnection(socket)
  })
  await listenOnSocket(listener, socketPath)
  return {
    close: async () => {
      const closed = new Promise((resolve) => listener.close(resolve))
      server.tryShutdown(() => {})
      // grpc-js waits for ever for who never says anything.
      const timer = setTimeout(() => {
        for (const socket of open) socket.destroy()
      }, readingMs)
      await closed
      clearTimeout(timer)
      server.forceShutdown()
    },
  }
}
