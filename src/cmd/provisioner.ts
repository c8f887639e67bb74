import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { Hono } from 'hono'
import { close, listen } from '../daemon/server.ts'
import { buildInfo } from './build-info.ts'
import { defineCommand } from './command.ts'
import { clusterFlags, provisionerFlags, socketFlag } from './flags.ts'
import { keepHeapSmall } from './heap.ts'

export const provisionerCommand = defineCommand({
  name: 'provisioner',
  group: 'Run',
  summary: 'Make PersistentVolumes for the claims of a cluster',
  description: `Watches claims for StorageClasses of ours, has room promised on a node, and makes the PersistentVolume; the node's
daemon makes the volume. Several may run: one leads, by a Lease, and when it ends another goes on with what it began.`,
  examples: [
    'elastic-local provisioner',
    'elastic-local provisioner --kubeconfig ~/.kube/config --node-gone-grace 3600',
  ],
  flags: { socket: socketFlag, ...clusterFlags, ...provisionerFlags },
  run: async ({ flags, log }) => {
    keepHeapSmall()
    const { ApiClient, findKubeConfig } = await import('../k8s/api.ts')
    const { machineClock } = await import('../k8s/clock.ts')
    const { lead } = await import('../k8s/lease.ts')
    const { Provisioner } = await import('../k8s/provisioner.ts')
    const { kubeconfig, namespace, nodeGoneGrace, deleteClaimsOfGoneNodes, socket } = flags
    const api = new ApiClient(findKubeConfig(kubeconfig))
    const now = () => new Date()
    const stop = new AbortController()
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort())
    const app = new Hono().get('/healthz', (c) => c.json({ status: 'ok', version: buildInfo.version }))
    const server = await listen(app, socket)
    const provisioner = new Provisioner({
      api,
      namespace,
      nodeGoneGraceMs: nodeGoneGrace * 1000,
      deleteClaimsOfGoneNodes,
      clock: machineClock,
      now,
      log,
    })
    // Also while another leads, so that taking over needs no listing.
    const following = provisioner.follow(stop.signal)
    const identity = `${hostname()}_${randomUUID()}`
    try {
      const name = 'elastic-local-provisioner'
      await lead({ api, namespace, name, identity, clock: machineClock, now, log }, stop.signal, (fenced, signal) =>
        provisioner.act(fenced, signal),
      )
    } finally {
      stop.abort()
      await following
      await close(server)
    }
    log.info('Stopped.')
  },
})
