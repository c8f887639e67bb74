import { checkSocketPath, removeSocket, watchSocket } from '../daemon/socket.ts'
import { buildController } from './controller.ts'
import { csiSocket, registrationSocket } from './driver.ts'
import { serveGrpc } from './grpc-server.ts'
import { buildIdentity } from './identity.ts'
import { buildNode, type NodeParts } from './node.ts'
import { Controller, Identity, Node } from './proto/csi_pb.ts'
import { Registration } from './proto/registration_pb.ts'
import { buildRegistration, type RegistrationParts } from './registration.ts'
import { addService } from './service.ts'

export interface CsiParts extends NodeParts, RegistrationParts {
  version: string
  /** Whether what was begun before a crash is finished. */
  isReady: () => boolean
}

/** A served CSI driver. */
export interface Csi {
  /** Makes it known to the kubelet; nothing to do once it has left. */
  register(): Promise<void>
  /** Has the kubelet forget it, so that nobody is sent here any more. */
  leave(): Promise<void>
  close(): Promise<void>
  /** Why the kubelet cannot find it any more, or not without a new start. */
  findFailure(): Promise<string | undefined>
}

/**
 * Serves CSI below the kubelet's folder; the caller holds the lock of its socket. Without a cluster, volumes are also made and
 * removed for whoever calls. Throws `invalid`, `failed`.
 */
export async function serveCsi(parts: CsiParts): Promise<Csi> {
  const { kubeletDir, standalone } = parts
  const [endpoint, registry] = [csiSocket(kubeletDir), registrationSocket(kubeletDir)]
  for (const path of [endpoint, registry]) checkSocketPath(path)
  const driver = await serveGrpc(endpoint, (server) => {
    addService(server, Identity, buildIdentity({ ...parts, hasController: standalone }))
    addService(server, Node, buildNode(parts))
    if (standalone) addService(server, Controller, buildController(parts))
  })
  const servers = [driver]
  let hasLeft = false
  let registering: Promise<unknown> = Promise.resolve()
  const checks = [await watchSocket(endpoint)]
  return {
    register: async () => {
      if (hasLeft) return
      const add = buildRegistration(endpoint, parts)
      const register = async () => {
        servers.push(await serveGrpc(registry, (server) => addService(server, Registration, add)))
        checks.push(await watchSocket(registry))
      }
      registering = register()
      await registering
    },
    leave: async () => {
      hasLeft = true
      // What is removed before it is there would come after it.
      await registering.catch(() => {})
      checks.length = 0
      await removeSocket(registry)
    },
    close: async () => {
      await Promise.all(servers.map((server) => server.close()))
    },
    findFailure: async () => (await Promise.all(checks.map((check) => check()))).find((failure) => failure),
  }
}
