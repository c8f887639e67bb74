import { readFile, realpath } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { csiSocket } from '../../csi/driver.ts'
import type { Csi, CsiParts } from '../../csi/server.ts'
import { buildApp } from '../../daemon/app.ts'
import { buildCallOutRunner } from '../../daemon/call-out-runner.ts'
import { Drain } from '../../daemon/drain.ts'
import { buildStandaloneFront } from '../../daemon/front.ts'
import { type Lock, lockFiles, volumesLockPath } from '../../daemon/lock.ts'
import { close, listen } from '../../daemon/server.ts'
import { watchSocket } from '../../daemon/socket.ts'
import { listVolumes } from '../../daemon/volumes.ts'
import { removeTemporaries } from '../../files.ts'
import { buildCallOuts } from '../../flex/call-outs.ts'
import { frontNames } from '../../k8s/fronts/front.ts'
import type { NodeAgent } from '../../k8s/node/node-agent.ts'
import { type LeveledLog, type Log, withFields } from '../../log.ts'
import type { Meter } from '../../meter.ts'
import { closeToOthers } from '../../mount/folder.ts'
import { buildNotes, buildPodNotes, ownFolder } from '../../mount/records.ts'
import { type Check, findStuckLvm, type Health } from '../../status/health.ts'
import { buildLogLevelRoutes } from '../../status/log-level.ts'
import { PoolView } from '../../status/pool-figures.ts'
import { adviseOnTools, findMissing, requiredTools, type Tool } from '../../tools.ts'
import type { Engine } from '../../volume/engine.ts'
import { hasErrno, messageOf } from '../../volume/errors.ts'
import { buildInfo } from '../build-info.ts'
import { defineCommand } from '../command.ts'
import { clusterFlags, daemonFlags, type FlagValues, machineFlags, ownNodeName, statusFlags } from '../flags.ts'
import { type MachineSettings, openMachine } from '../machine.ts'
import { keepHeapSmall } from './heap.ts'
import { buildStatus, type Status } from './status.ts'

export const daemonCommand = defineCommand({
  name: 'daemon',
  group: 'Run',
  summary: "Serve this node's volumes on a unix socket",
  description: `Creates, formats, mounts, grows and removes the volumes of this node, as the kubelet asks for them.
It checks what is there and does only what is missing: it can be stopped, killed and started at any time, and
unfinished work is completed at the next start. SIGTERM and SIGINT let running work finish first.`,
  examples: [
    'elastic-local daemon --standalone --driver-kind LOOP --volumes-dir /srv/volumes',
    'elastic-local daemon --node-name node-1 --kubeconfig /etc/kubernetes/daemon.conf --lvm-use-thin-volumes',
  ],
  flags: { ...machineFlags, ...daemonFlags, ...clusterFlags, ...statusFlags },
  run: async ({ flags, log: plainLog }) => {
    if (process.getuid?.() !== 0) throw new Error('Cannot run the daemon as it must be root: it mounts filesystems.')
    keepHeapSmall()
    const log = withFields(plainLog, { node: ownNodeName(flags.nodeName) })
    // Before anything is touched: without a way to the API server there is nothing to do.
    const served: Served = {}
    const status = openStatus(flags, served, log)
    const cluster = flags.standalone ? undefined : await openCluster(flags, status.meter, log)
    const told = new Promise<NodeJS.Signals>((resolve) => {
      for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, resolve)
    })
    const say: Say = async (error) => {
      await cluster?.say('PoolNotUsable', messageOf(error))
    }
    const sayAndThrow = async (error: unknown): Promise<never> => {
      await say(error)
      throw error
    }
    const lock = await lockFolders(flags).catch(sayAndThrow)
    try {
      // Before the disks are touched, which may hang.
      await status.serve(flags.httpAddress)
      const isMade = async (name: string) => (await served.agent?.isMade(name)) ?? false
      const engine = await openEngine(flags, { lock, meter: status.meter, isMade }, log).catch(sayAndThrow)
      try {
        const { started } = await start(engine, say, log)
        served.pool = new PoolView({
          list: () => listVolumes(engine, served.agent ?? buildStandaloneFront(engine)),
          report: () => engine.report(),
          now: () => new Date(),
        })
        await serve({ engine, started, settings: flags, cluster, status, served, told, log })
      } finally {
        await engine.stop()
      }
    } finally {
      await status.close()
      await lock.release()
    }
    log.info('Stopped.')
  },
})

/** What there is to look at by now. */
interface Served {
  pool?: PoolView
  drain?: Drain
  agent?: NodeAgent
}

function openStatus({ nodeName }: { nodeName: string | undefined }, served: Served, log: Log): Status {
  const status = buildStatus(
    {
      component: 'daemon',
      node: ownNodeName(nodeName),
      figures: async () => await served.pool?.take(),
      promisedBytes: () => served.agent?.promisedBytes,
      claimOf: (volume) => served.agent?.claimOf(volume),
    },
    log,
  )
  const { health, meter } = status
  health.ready.push(
    () => (served.pool ? served.pool.findFailure() : 'its pool has not started yet'),
    () => findStuckLvm(meter.backlogs),
    () => (served.drain?.isStopping ? 'it is stopping' : undefined),
  )
  return status
}

/** Keeps other daemons from the volumes and from the sockets. */
async function lockFolders({
  volumesDir,
  socket,
  csi,
  kubeletDir,
}: Pick<MachineSettings, 'volumesDir'> & Settings): Promise<Lock> {
  const sockets = [socket, ...(csi ? [csiSocket(kubeletDir)] : [])]
  return await lockFiles([volumesLockPath(volumesDir), ...sockets.map((path) => `${path}.lock`)]).catch((error) => {
    if (!hasErrno(error.cause, 'EROFS')) throw error
    throw new Error(`${messageOf(error)}; or choose other folders with --volumes-dir and --socket.`, { cause: error })
  })
}

async function openEngine(
  settings: MachineSettings,
  parts: Required<Parameters<typeof openMachine>[2]>,
  log: Log,
): Promise<Engine> {
  await checkTools(settings, log)
  // Whoever wrote there before is gone: the lock says so.
  await removeTemporaries(join(settings.volumesDir, ownFolder))
  const engine = await openMachine(settings, log, parts)
  const open = await closeToOthers(settings.volumesDir)
  if (open) log.warn(open)
  return engine
}

/** Whoever asks need not wait longer for a pool that gives no answer: it is said what hangs. */
const patienceMs = 10_000

/** In a cluster, it is looked at as often for its ledger. */
const lookMs = 30_000

/** Looks at the pool also while nobody asks: what LVM left suspended is resumed by that. What fails is said to whoever asks. */
function keepLooking(engine: Engine, signal: AbortSignal): void {
  const timer = setInterval(() => engine.report().catch(() => {}), lookMs)
  signal.addEventListener('abort', () => clearInterval(timer))
}

/** Says of the node why its pool cannot be used. */
type Say = (error: unknown) => Promise<void>

/** Resolves when the engine has started, or when that takes long: then what hangs is told of until it has. */
async function start(engine: Engine, say: Say, log: Log): Promise<{ started: Promise<void> }> {
  const late = Promise.withResolvers<void>()
  const timer = setInterval(async () => {
    late.resolve()
    await engine.mustBeThere().catch(async (error) => {
      log.warn(messageOf(error))
      await say(error)
    })
  }, patienceMs)
  const begin = async () => {
    try {
      await engine.start()
    } catch (error) {
      await say(error)
      throw error
    } finally {
      clearInterval(timer)
    }
  }
  const started = begin()
  await Promise.race([started, late.promise])
  return { started }
}

type Settings = Pick<FlagValues<typeof daemonFlags>, 'socket' | 'kubeletDir' | 'csi' | 'standalone' | 'nodeName'>

interface Cluster {
  /** Says of the node what is wrong with it. Never throws. */
  say(reason: string, message: string): Promise<void>
  /** What a daemon in a cluster is put together from, once there is an engine. */
  join(parts: { engine: Engine; drain: Drain }): Promise<NodeAgent>
  /** Why the daemon cannot do its work in the cluster yet, or not without a new start. */
  health: { [K in keyof Health]: (agent: NodeAgent) => Check }
}

async function openCluster(
  settings: Pick<
    FlagValues<typeof daemonFlags & typeof clusterFlags>,
    | 'kubeconfig'
    | 'namespace'
    | 'nodeName'
    | 'takeover'
    | 'removeOrphansAfter'
    | 'unmountOrphansAfter'
    | 'kubeletDir'
    | 'socket'
    | 'csi'
    | 'flex'
  > &
    Pick<MachineSettings, 'volumesDir'>,
  meter: Meter,
  log: Log,
): Promise<Cluster> {
  // Only here: without a cluster, none of it needs memory.
  const { ApiClient, findKubeConfig, observeApi } = await import('../../k8s/client/api.ts')
  const { nodeObject, Recorder } = await import('../../k8s/client/events.ts')
  const { findDead, findUnsynced } = await import('../../k8s/client/health.ts')
  const { NodeAgent } = await import('../../k8s/node/node-agent.ts')
  const { OrphanedMounts } = await import('../../k8s/node/orphaned-mounts.ts')
  const { machineClock: clock } = await import('../../k8s/client/clock.ts')
  const { longestNodeName } = await import('../../k8s/model/names.ts')
  const { namespace, takeover, removeOrphansAfter } = settings
  const node = ownNodeName(settings.nodeName)
  if (node.length > longestNodeName)
    throw new Error(
      `Cannot serve node ${node} as its name must have at most ${longestNodeName} characters: PersistentVolumes carry it as a label.`,
    )
  const api = observeApi(new ApiClient(orStandalone(() => findKubeConfig(settings.kubeconfig))), meter.request)
  const now = () => new Date()
  const recorder = new Recorder({ api, component: 'elastic-local-daemon', host: node, clock, now, log })
  const removeAfterMs = removeOrphansAfter === undefined ? undefined : removeOrphansAfter * 1000
  return {
    say: (reason, message) => recorder.say(nodeObject(node), 'Warning', reason, message),
    join: async ({ engine, drain }) => {
      const common = { api, node, engine, drain, recorder, clock, log }
      const orphanedMounts = new OrphanedMounts({
        ...common,
        // Beside the socket, where nothing outlives a restart of the machine.
        pods: buildPodNotes(join(dirname(settings.socket), 'pods')),
        kubeletDir: await realpath(settings.kubeletDir).catch(() => settings.kubeletDir),
        bootId: (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim(),
        unmountAfterMs: settings.unmountOrphansAfter * 1000,
      })
      const notes = buildNotes(settings.volumesDir)
      return new NodeAgent({
        ...common,
        namespace,
        notes,
        orphanedMounts,
        fronts: frontNames.filter((front) => settings[front]),
        takeover,
        removeAfterMs,
        now,
        meter,
      })
    },
    health: {
      alive: (agent) => () => findDead(agent.copies),
      ready: (agent) => () =>
        findUnsynced(agent.copies) ?? (agent.promisedBytes === undefined ? 'it has no ledger yet' : undefined),
    },
  }
}

/** Who has no cluster is told of the way to do without. */
function orStandalone<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw new Error(`${messageOf(error)} Without a cluster, use --standalone.`, { cause: error })
  }
}

interface ServeParts {
  engine: Engine
  started: Promise<void>
  settings: Settings
  cluster: Cluster | undefined
  status: Status
  served: Served
  told: Promise<string>
  log: LeveledLog
}

/** Serves until told to stop, and then until what runs has ended. Throws when the engine cannot be started. */
async function serve({ engine, started, settings, cluster, status, served, told, log }: ServeParts): Promise<void> {
  const { kubeletDir, socket } = settings
  const drain = new Drain()
  const stop = new AbortController()
  const agent = await cluster?.join({ engine, drain })
  Object.assign(served, { drain, agent })
  const front = agent ?? buildStandaloneFront(engine)
  const { health, meter } = status
  if (cluster && agent) {
    health.alive.push(cluster.health.alive(agent))
    health.ready.push(cluster.health.ready(agent))
  }
  const findUnseen = async () => await engine.findUnseen(await realpath(kubeletDir).catch(() => kubeletDir))
  health.ready.push(findUnseen)
  const unseen = await findUnseen()
  if (unseen) {
    log.warn(`Nothing is mounted for pods: ${unseen}.`)
    await cluster?.say('MountsNotSeen', `Nothing is mounted for pods of this node: ${unseen}.`)
  }
  const version = buildInfo.version
  const callOuts = buildCallOuts(kubeletDir)
  const app = buildApp({ engine, drain, callOuts, front, version, health, observe: meter.callout, log })
  app.route('/', buildLogLevelRoutes(log))
  const recover = async () => {
    await started
    await drain
      .run(() => engine.recover())
      .catch((error) => log.warn(`Cannot inspect what is there: ${messageOf(error)}`))
    recovered = true
  }
  // The kubelet forgets a driver whose registration it cannot write to the API server, also one that it had.
  const register = async () => {
    await agent?.reached(stop.signal)
    await csi?.register()
  }
  let recovered = false
  const server = await listen(app, socket)
  health.alive.push(await watchSocket(socket))
  const csi = settings.csi
    ? await openCsi({
        ...{ engine, front, kubeletDir, version, standalone: settings.standalone, log },
        run: buildCallOutRunner({ drain, front, observe: meter.callout, log }),
        node: ownNodeName(settings.nodeName),
        isReady: () => recovered,
        onRefused: (message) => cluster?.say('CsiNotRegistered', message),
      }).catch(async (error) => {
        await close(server)
        throw error
      })
    : undefined
  if (csi) health.alive.push(csi.findFailure)
  log.info(`Serving on ${socket}${csi ? ` and ${csiSocket(kubeletDir)}` : ''}.`)
  // What was begun before a crash is finished first.
  const followed = recover().then(() => Promise.all([agent?.run(stop.signal), register()]))
  const failed = followed.then(() => told)
  if (!agent) keepLooking(engine, stop.signal)
  try {
    log.info(`${await Promise.race([told, failed])}: finishing what runs.`)
  } finally {
    await csi?.leave()
    stop.abort()
    await drain.stop()
    await followed.catch(() => {})
    await Promise.all([close(server), csi?.close()])
  }
}

/** Only where it is served, it needs memory. */
async function openCsi(parts: CsiParts): Promise<Csi> {
  const { serveCsi } = await import('../../csi/server.ts')
  return await serveCsi(parts)
}

/** Throws when a program is missing without which no volume can be had; warns of the others. */
async function checkTools(settings: MachineSettings, log: Log): Promise<void> {
  const { driverKind, lvmUseThinVolumes, hostTools } = settings
  const missing = await findMissing(requiredTools(driverKind, lvmUseThinVolumes, hostTools), { hostTools })
  const describe = (tools: readonly Tool[]) =>
    tools.map(({ tool, neededFor }) => `${tool} (for ${neededFor})`).join(', ')
  const [needed, useful] = [missing.filter((tool) => !tool.optional), missing.filter((tool) => tool.optional)]
  if (useful.length > 0) log.warn(`Not installed: ${describe(useful)}; "${adviseOnTools(useful)}" installs them.`)
  if (needed.length > 0)
    throw new Error(
      `Cannot serve ${driverKind} volumes without ${describe(needed)}; "${adviseOnTools(needed)}" installs them.`,
    )
}
