import { realpath } from 'node:fs/promises'
import { join } from 'node:path'
import type { Lock } from '../daemon/lock.ts'
import { makeFolders } from '../files.ts'
import type { Log } from '../log.ts'
import { buildClaim, readMachineId } from '../lvm/claim.ts'
import { writeLvmConfig } from '../lvm/config.ts'
import { LvmPool } from '../lvm/pool.ts'
import { LvmShell } from '../lvm/shell.ts'
import { type Meter, observeMethods } from '../meter.ts'
import { DirectoryPool } from '../mount/directory.ts'
import { buildFilesystems } from '../mount/filesystems.ts'
import { findHostPath } from '../mount/host-path.ts'
import { LoopPool } from '../mount/loop.ts'
import { buildMounts } from '../mount/mounts.ts'
import { buildJournal, ownFolder } from '../mount/records.ts'
import { hostCommand, observeRunner, type Runner, run, runOnHost } from '../run.ts'
import { Engine, type EngineParts } from '../volume/engine.ts'
import { codeOf, writeError } from '../volume/errors.ts'
import type { Filesystems } from '../volume/host.ts'
import type { DriverKind, Pool } from '../volume/pool.ts'

/** What an engine for this machine's real disks is put together from. */
export interface MachineSettings {
  driverKind: DriverKind
  volumesDir: string
  lvmVolumeGroup: string
  lvmUseThinVolumes: boolean
  lvmThinPool: string
  lvmThinOvercommitRatio: number
  lvmThinDataWatermark: number
  lvmThinMetadataWatermark: number
  loopPreallocate: boolean
  /** Whether to run the host's tools, from a container. */
  hostTools: boolean
}

/** Whether this runs in a pod's container: Kubernetes tells it where the API server is. */
export const isPod = () => !!process.env.KUBERNETES_SERVICE_HOST

const now = () => new Date()
const uptimeMs = () => performance.now()

/**
 * The engine for this machine, not started. Makes `volumesDir` if it is missing. `lock` is what keeps others from it;
 * `meter` is told of what is done; `isMade` knows of volumes beside the journal.
 */
export async function openMachine(
  settings: MachineSettings,
  log: Pick<Log, 'info' | 'warn'>,
  { lock, meter, isMade }: { lock?: Lock; meter?: Meter; isMade?: EngineParts['isMade'] } = {},
): Promise<Engine> {
  await makeFolders(settings.volumesDir, 0o755).catch((error) => {
    throw writeError(`Cannot create the folder ${settings.volumesDir}`, error)
  })
  const volumesDir = await realpath(settings.volumesDir)
  const plainRunner = settings.hostTools ? runOnHost : run
  const runner = meter ? observeRunner(plainRunner, meter.command) : plainRunner
  const mounts = buildMounts({
    run: runner,
    mountInfo: settings.hostTools ? '/proc/1/mountinfo' : '/proc/self/mountinfo',
  })
  const holding: Runner = (file, args, options) => runner(file, args, { ...options, keepOpen: lock?.descriptors })
  const filesystems = buildFilesystems({ run: runner, lock: lock?.descriptors })
  const { zero } = filesystems
  const buildPool: Record<DriverKind, () => Pool | Promise<Pool>> = {
    LVM: () => buildLvmPool(settings, volumesDir, { runner, zero, log, meter }),
    // A losetup that outlives a killed daemon could attach an image once more, on a second device.
    LOOP: () => new LoopPool({ run: holding, volumesDir, preallocate: settings.loopPreallocate, now }),
    BINDMOUNT: () => new DirectoryPool({ run: runner, volumesDir, now }),
  }
  const pool = await buildPool[settings.driverKind]()
  const engine = new Engine({
    pool,
    mounts,
    filesystems,
    journal: buildJournal(volumesDir),
    volumesDir,
    // The host's tools mount where the kubelet sees it.
    mustShare: isPod() && !settings.hostTools,
    ...(isMade ? { isMade } : {}),
    log,
  })
  return meter ? observeMethods(engine, operations, meter.operation, codeOf) : engine
}

/** What the engine does to a volume. */
const operations = ['create', 'adopt', 'mount', 'attach', 'unmount', 'grow', 'remove'] as const

async function buildLvmPool(
  settings: MachineSettings,
  volumesDir: string,
  parts: { runner: Runner; zero: Filesystems['zero']; log: Pick<Log, 'info' | 'warn'>; meter: Meter | undefined },
): Promise<Pool> {
  const { runner, zero, log, meter } = parts
  const configDir = join(volumesDir, ownFolder, 'lvm')
  const { lvmVolumeGroup: volumeGroup, hostTools } = settings
  await writeLvmConfig({ run: runner, folder: configDir, volumeGroup, hostTools })
  const command: [string, readonly string[]] = hostTools ? hostCommand('lvm', []) : ['lvm', []]
  const thin = {
    poolName: settings.lvmThinPool,
    overcommitRatio: settings.lvmThinOvercommitRatio,
    dataWatermark: settings.lvmThinDataWatermark,
    metadataWatermark: settings.lvmThinMetadataWatermark,
  }
  const machineId = await readMachineId()
  return new LvmPool({
    shell: new LvmShell({ command, configDir, uptimeMs, meter }),
    volumeGroup,
    thin: settings.lvmUseThinVolumes ? thin : undefined,
    now,
    uptimeMs,
    backupFile: join(configDir, 'backup', volumeGroup),
    zero,
    claim: machineId && buildClaim(machineId, await findHostPath(volumesDir)),
    log,
  })
}
