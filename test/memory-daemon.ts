import { Drain } from '../src/daemon/drain.ts'
import { machineClock } from '../src/k8s/client/clock.ts'
import { Recorder } from '../src/k8s/client/events.ts'
import { NodeAgent } from '../src/k8s/node/node-agent.ts'
import type { Notes } from '../src/k8s/node/note.ts'
import { OrphanedMounts } from '../src/k8s/node/orphaned-mounts.ts'
import { Engine } from '../src/volume/engine.ts'
import type { MemoryMachine } from '../src/volume/memory.ts'
import type { MemoryClient } from './memory-api.ts'
import { namespace, silent } from './memory-cluster.ts'

export interface MemoryDaemon {
  agent: NodeAgent
  engine: Engine
  stop(): Promise<void>
}

/** The cluster's side of the daemon of node `a`, on a machine in memory. */
export async function startMemoryDaemon({
  client,
  machine,
  notes,
}: {
  client: MemoryClient
  machine: MemoryMachine
  notes: Notes
}): Promise<MemoryDaemon> {
  const { pool, mounts, filesystems, journal } = machine
  const isMade = (name: string) => agent.isMade(name)
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', isMade, log: silent })
  await engine.start()
  const drain = new Drain()
  const now = () => new Date()
  const clock = machineClock
  const recorder = new Recorder({ api: client, component: 'elastic-local-daemon', host: 'a', clock, now, log: silent })
  const agent: NodeAgent = new NodeAgent({
    api: client,
    namespace,
    node: 'a',
    engine,
    notes,
    drain,
    fronts: ['flex', 'csi'],
    recorder,
    orphanedMounts: new OrphanedMounts({
      ...{ api: client, node: 'a', engine, drain, recorder, log: silent },
      pods: { readAll: async () => new Map(), write: async () => {}, clear: async () => {} },
      kubeletDir: '/kubelet',
      bootId: 'boot',
      unmountAfterMs: 0,
      clock,
    }),
    takeover: false,
    removeAfterMs: undefined,
    clock,
    now,
    log: silent,
  })
  const abort = new AbortController()
  const ended = engine.recover().then(() => agent.run(abort.signal))
  const stop = async () => {
    abort.abort()
    await drain.stop()
    await ended
  }
  return { agent, engine, stop }
}
