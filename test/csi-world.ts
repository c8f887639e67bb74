import { join } from 'node:path'
import type { Client, ServiceError } from '@grpc/grpc-js'
import { csiSocket } from '../src/csi/driver.ts'
import { Controller, Identity, Node } from '../src/csi/proto/csi_pb.ts'
import { type Csi, type CsiParts, serveCsi } from '../src/csi/server.ts'
import { buildCallOutRunner } from '../src/daemon/call-out-runner.ts'
import { Drain } from '../src/daemon/drain.ts'
import { buildStandaloneFront, type Front } from '../src/daemon/front.ts'
import { Engine } from '../src/volume/engine.ts'
import { MemoryMachine } from '../src/volume/memory.ts'
import { type Called, callService } from './csi-client.ts'
import { withScratch } from './scratch.ts'

/** A served CSI driver on a machine in memory that has 4 GiB, and a client of it. */
export interface CsiWorld {
  machine: MemoryMachine
  engine: Engine
  drain: Drain
  kubeletDir: string
  csi: Csi
  /** What it wrote to its log. */
  logged: string[]
  ready: { is: boolean }
  identity: Called<typeof Identity>
  node: Called<typeof Node>
  controller: Called<typeof Controller>
  /** The place that the kubelet has for a volume in a pod. */
  target(pod: string, name?: string): string
}

/** Runs `work` in such a world; `change` says how its driver differs from one without a cluster. */
export const withCsi = (
  work: (world: CsiWorld) => Promise<void>,
  change: (parts: { engine: Engine; front: Front }) => Partial<CsiParts> = () => ({}),
) =>
  withScratch(async (kubeletDir) => {
    const machine = new MemoryMachine({ capacityBytes: 4n << 30n })
    const { pool, mounts, filesystems, journal } = machine
    const logged: string[] = []
    const say = (message: string) => {
      logged.push(message)
    }
    const log = { info: say, warn: say }
    const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
    await engine.start()
    const drain = new Drain()
    const front = buildStandaloneFront(engine)
    const ready = { is: true }
    const parts = { engine, front, kubeletDir, node: 'node-1', version: '1.2.3', standalone: true, log }
    const csi = await serveCsi({
      ...{ ...parts, run: buildCallOutRunner({ drain, front, log }), isReady: () => ready.is },
      ...change({ engine, front }),
    })
    const clients: Client[] = []
    const calls = [Identity, Node, Controller].map((service) => {
      const { calls, client } = callService(csiSocket(kubeletDir), service)
      clients.push(client)
      return calls
    })
    const [identity, node, controller] = calls as [
      Called<typeof Identity>,
      Called<typeof Node>,
      Called<typeof Controller>,
    ]
    const target = (pod: string, name = 'pvc-1') =>
      join(kubeletDir, 'pods', pod, 'volumes/kubernetes.io~csi', name, 'mount')
    try {
      await work({ machine, engine, drain, kubeletDir, csi, logged, ready, identity, node, controller, target })
    } finally {
      for (const client of clients) client.close()
      await csi.close()
    }
  })

/** How a call fails, which must: its code and its message. */
export async function failureOf(call: Promise<unknown>): Promise<Pick<ServiceError, 'code' | 'details'>> {
  const error = await call.then(
    () => undefined,
    (error) => error,
  )
  if (error === undefined) throw new Error('The call did not fail.')
  const { code, details } = error
  return { code, details }
}
