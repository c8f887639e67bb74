import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { Hono } from 'hono'
import { close, listen } from '../../daemon/server.ts'
import { watchSocket } from '../../daemon/socket.ts'
import type { Api } from '../../k8s/client/api.ts'
import { buildHealthRoutes } from '../../status/health.ts'
import { buildLogLevelRoutes } from '../../status/log-level.ts'
import { buildInfo } from '../build-info.ts'
import { defineCommand } from '../command.ts'
import { clusterFlags, provisionerFlags, socketFlag, statusFlags } from '../flags.ts'
import { UsageError } from '../usage-error.ts'
import { keepHeapSmall } from './heap.ts'
import { buildStatus } from './status.ts'

export const provisionerCommand = defineCommand({
  name: 'provisioner',
  group: 'Run',
  summary: 'Create PersistentVolumes for the claims of a cluster',
  description: `Watches claims of our StorageClasses, reserves room on a node, and creates the PersistentVolume; the node's
daemon creates the volume. Several may run: one leads, by a Lease, and another takes over when it stops.`,
  examples: ['elastic-local provisioner', 'elastic-local provisioner --kubeconfig ~/.kube/config --node-gone-grace 1h'],
  flags: { socket: socketFlag, ...clusterFlags, ...provisionerFlags, ...statusFlags },
  run: async ({ flags, log }) => {
    keepHeapSmall()
    const { ApiClient, findKubeConfig, observeApi } = await import('../../k8s/client/api.ts')
    const { machineClock } = await import('../../k8s/client/clock.ts')
    const { findDead, findUnsynced } = await import('../../k8s/client/health.ts')
    const { countPending, countStranded } = await import('../../k8s/provisioner/pending.ts')
    const { lead } = await import('../../k8s/client/lease.ts')
    const { leaseName } = await import('../../k8s/model/names.ts')
    const { Provisioner } = await import('../../k8s/provisioner/provisioner.ts')
    const { kubeconfig, namespace, defaultFront, nodeGoneGrace, deleteClaimsOfGoneNodes, socket, httpAddress, page } =
      flags
    if (page && !httpAddress) throw new UsageError('Cannot serve --page as it needs an address: set --http-address.')
    const client = new ApiClient(findKubeConfig(kubeconfig))
    const now = () => new Date()
    let isLeader = false
    const source = {
      component: 'provisioner',
      isLeader: () => isLeader,
      pending: () => countPending(provisioner.copies),
      stranded: () => countStranded(provisioner.copies),
      now,
    } as const
    const status = buildStatus(source, log)
    const { health, meter } = status
    const api = observeApi(client, meter.request)
    const stop = new AbortController()
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort())
    const provisioner = new Provisioner({
      api,
      namespace,
      defaultFront,
      nodeGoneGraceMs: nodeGoneGrace * 1000,
      deleteClaimsOfGoneNodes,
      clock: machineClock,
      now,
      log,
      meter,
    })
    health.alive.push(() => findDead(provisioner.copies.all))
    health.ready.push(() => findUnsynced(provisioner.copies.all))
    const app = new Hono()
    app.route('/', buildHealthRoutes(health, buildInfo.version)).route('/', buildLogLevelRoutes(log))
    await status.serve(httpAddress, page ? await openPage(api, namespace, now) : undefined)
    const server = await listen(app, socket).catch(async (error) => {
      await status.close()
      throw error
    })
    health.alive.push(await watchSocket(socket))
    // Also while another leads, so that taking over needs no listing.
    const following = provisioner.follow(stop.signal)
    const identity = `${hostname()}_${randomUUID()}`
    try {
      const name = leaseName
      await lead(
        { api, namespace, name, identity, clock: machineClock, now, log },
        stop.signal,
        async (fenced, signal) => {
          isLeader = true
          await provisioner.act(fenced, signal).finally(() => {
            isLeader = false
          })
        },
      )
    } finally {
      stop.abort()
      await following
      await close(server)
      await status.close()
    }
    log.info('Stopped.')
  },
})

/** Only where it is wanted, so that otherwise none of it needs memory. */
async function openPage(api: Api, namespace: string, now: () => Date): Promise<Hono> {
  const { machineClock } = await import('../../k8s/client/clock.ts')
  const { buildPage } = await import('../../page/app.ts')
  const { ClusterView } = await import('../../page/cluster-view.ts')
  const { readCluster } = await import('../../overview/read.ts')
  const view = new ClusterView({ read: () => readCluster(api, { namespace }, now()), now: machineClock.now })
  return buildPage({ view, version: buildInfo.version })
}
