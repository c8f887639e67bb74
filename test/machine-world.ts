import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeTemporaries } from '../src/files.ts'
import { writeLvmConfig } from '../src/lvm/config.ts'
import { LvmPool } from '../src/lvm/pool.ts'
import { LvmShell } from '../src/lvm/shell.ts'
import type { ThinOptions } from '../src/lvm/thin.ts'
import type { Backlog, Observe } from '../src/meter.ts'
import { DirectoryPool } from '../src/mount/directory.ts'
import { buildFilesystems } from '../src/mount/filesystems.ts'
import { LoopPool } from '../src/mount/loop.ts'
import { buildMounts } from '../src/mount/mounts.ts'
import { buildJournal, ownFolder } from '../src/mount/records.ts'
import { hostCommand, observeRunner, type Runner, run, runOnHost } from '../src/run.ts'
import { hasErrno, VolumeError } from '../src/volume/errors.ts'
import type { Pool } from '../src/volume/pool.ts'
import type { World } from './contract.ts'

const now = () => new Date()
const uptimeMs = () => performance.now()
const mebibyte = 1n << 20n

/** CAP_SYS_RESOURCE, without which the kernel refuses to grow a mounted ext4 (capabilities(7)). */
const capabilities = BigInt(`0x${/^CapEff:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]}`)
const maySysResource = (capabilities & (1n << 24n)) !== 0n

/** Of a world, what differs between pools. */
interface Ground {
  pool: Pool
  renewPool(): Pool | Promise<Pool>
  extentBytes: bigint
  plantForeign(name: string): Promise<void>
  /** A place for what another project makes: a folder, or a device. */
  makeOther?(name: string, sizeBytes: bigint): Promise<string>
  unmark(name: string): Promise<boolean>
  isForeignUntouched(name: string): Promise<boolean>
  /** What the pool holds besides volumes. */
  leftovers(): Promise<string[]>
  /** Takes away what stays when the folder is gone. */
  close?(): Promise<void>
  /** Makes the pool forget what the machine forgets; called with everything unmounted. */
  reboot?(): Promise<void>
}

const isDevice = (path: string) =>
  stat(path).then(
    (node) => node.isBlockDevice(),
    () => false,
  )
const sectorBytes = 512

/** The one text that a test has on a block device is its first sector. */
async function writeDevice(device: string, text: string): Promise<void> {
  const file = await open(device, 'r+')
  await file.write(Buffer.concat([Buffer.from(text), Buffer.alloc(sectorBytes)], sectorBytes), 0, sectorBytes, 0)
  await file.sync()
  await file.close()
}

async function readDevice(device: string): Promise<string | undefined> {
  const file = await open(device)
  const { buffer } = await file.read(Buffer.alloc(sectorBytes), 0, sectorBytes, 0)
  await file.close()
  return buffer.toString().replace(/\0+$/, '') || undefined
}

/** A world on this machine's kernel, in `folder` or a new scratch folder, with the pool that `build` makes there. */
async function openWorld(
  build: (volumesDir: string) => Promise<Ground>,
  options: { folder?: string | undefined; runner?: Runner; mountInfo?: string } = {},
): Promise<World> {
  const { folder, runner = run, mountInfo = '/proc/self/mountinfo' } = options
  const scratch = folder ?? (await mkdtemp(join(tmpdir(), 'elastic-local-test-')))
  const volumesDir = join(scratch, 'volumes')
  await mkdir(volumesDir, { recursive: true })
  const mounts = buildMounts({ run: runner, mountInfo })
  const ground = await build(volumesDir)
  const isEmpty = async (folder: string) => (await readdir(folder).catch(() => [])).map((file) => join(folder, file))
  const unmountAll = async () => {
    for (const { target } of (await mounts.read()).under(scratch).reverse()) await mounts.unmount(target)
  }
  const others = new Map<string, string>()
  const useOther = async (name: string) => {
    const place = others.get(name) ?? ''
    const folder = join(scratch, 'other')
    await mkdir(folder, { recursive: true })
    const isFolder = !(await isDevice(place))
    if (!isFolder && (await parts.filesystems.signatures(place)).length === 0) {
      const file = await open(place)
      return async () => await file.close()
    }
    await run('mount', [...(isFolder ? ['--bind'] : []), place, folder])
    return async () => void (await run('umount', [folder]))
  }
  const parts = {
    pool: ground.pool,
    mounts,
    filesystems: buildFilesystems({ run: runner }),
    journal: buildJournal(volumesDir),
    volumesDir,
    log: { info: () => {}, warn: () => {} },
  }
  return {
    parts,
    renew: async () => {
      await removeTemporaries(join(volumesDir, ownFolder))
      return { ...parts, pool: await ground.renewPool() }
    },
    extentBytes: ground.extentBytes,
    canGrow: (fsType) => fsType !== 'ext4' || maySysResource || ground.pool.sourceKind === 'directory',
    kubeletDir: scratch,
    target: (pod, name) => join(scratch, 'pods', pod, name),
    write: async (folder, file, text) => {
      if (await isDevice(folder)) return await writeDevice(folder, text)
      try {
        await writeFile(join(folder, file), text)
      } catch (error) {
        throw hasErrno(error, 'EROFS') ? new VolumeError('failed', 'read-only file system') : error
      }
    },
    read: async (folder, file) => {
      if (await isDevice(folder)) return await readDevice(folder)
      return await readFile(join(folder, file), 'utf8').catch((error) => {
        if (hasErrno(error, 'ENOENT')) return undefined
        throw error
      })
    },
    sizeAt: async (target) => BigInt((await run('blockdev', ['--getsize64', target])).stdout.trim()),
    reboot: async () => {
      await unmountAll()
      await ground.reboot?.()
    },
    plantForeign: ground.plantForeign,
    plantOther: async (name, { fsType, sizeBytes }, text) => {
      const place = await ground.makeOther?.(name, sizeBytes)
      if (place === undefined) return false
      others.set(name, place)
      if (!(await isDevice(place))) await writeFile(join(place, 'file'), text)
      else if (fsType === 'block') await writeDevice(place, text)
      else {
        await run(`mkfs.${fsType}`, ['-q', place])
        const release = await useOther(name)
        await writeFile(join(scratch, 'other', 'file'), text)
        await release()
      }
      return true
    },
    useOther,
    unmark: ground.unmark,
    isForeignUntouched: ground.isForeignUntouched,
    holds: async (device, text) => {
      const { exitCode } = await run('grep', ['--quiet', '--text', text, device], { accept: [1] })
      return exitCode === 0
    },
    plantSignature: async (device) => {
      await run('wipefs', ['--all', '--quiet', device])
      await run('mkswap', [device])
    },
    leftovers: async () => [
      ...(await mounts.read()).under(scratch).map((mount) => mount.target),
      ...(await isEmpty(join(volumesDir, ownFolder, 'intents'))),
      ...(await isEmpty(join(volumesDir, ownFolder, 'made'))),
      ...(await readdir(volumesDir)).filter((file) => file !== ownFolder),
      ...(await ground.leftovers()),
    ],
    close: async () => {
      await unmountAll()
      await ground.close?.()
      await rm(scratch, { recursive: true, force: true })
    },
  }
}

/** Volumes in image files. */
export async function openLoopWorld({
  folder,
  runner = run,
  ...options
}: {
  preallocate: boolean
  folder?: string
  runner?: Runner
}): Promise<World> {
  return await openWorld(
    async (volumesDir) => {
      const images = join(volumesDir, ownFolder, 'loop')
      const attached = async () => {
        const { stdout } = await run('losetup', ['--list', '--noheadings', '--output', 'NAME,AUTOCLEAR,BACK-FILE'])
        // One that others on this machine look into is leaving.
        const isLeaving = (line: string) => /^\S+ +1 /.test(line)
        return stdout.split('\n').filter((line) => line.includes(volumesDir) && !isLeaving(line))
      }
      const renewPool = () => new LoopPool({ run: runner, volumesDir, now, ...options })
      return {
        pool: renewPool(),
        renewPool,
        extentBytes: 4096n,
        plantForeign: (name) => writeFile(join(images, `${name}.img`), 'theirs'),
        unmark: async () => false,
        isForeignUntouched: async (name) => {
          const text = await readFile(join(images, `${name}.img`), 'utf8')
          await rm(join(images, `${name}.img`))
          return text === 'theirs'
        },
        leftovers: async () => [...(await readdir(images)), ...(await attached())],
        close: async () => {
          for (const line of await attached()) await run('losetup', ['--detach', line.split(' ')[0] ?? ''])
        },
      }
    },
    { folder, runner },
  )
}

/** Volumes in plain directories. */
export async function openDirectoryWorld({ runner = run }: { runner?: Runner } = {}): Promise<World> {
  const build = async (volumesDir: string): Promise<Ground> => {
    const renewPool = () => new DirectoryPool({ run: runner, volumesDir, now })
    return {
      pool: renewPool(),
      renewPool,
      extentBytes: 1n,
      plantForeign: async (name) => {
        await mkdir(join(volumesDir, name))
        await writeFile(join(volumesDir, name, 'file'), 'theirs')
      },
      makeOther: async (name) => {
        await mkdir(join(volumesDir, name), { mode: 0o777 })
        return join(volumesDir, name)
      },
      unmark: async (name) => {
        await rm(join(volumesDir, ownFolder, 'directories', `${name}.json`))
        return true
      },
      isForeignUntouched: async (name) => {
        const text = await readFile(join(volumesDir, name, 'file'), 'utf8')
        await rm(join(volumesDir, name), { recursive: true })
        return text === 'theirs'
      },
      leftovers: async () => [
        ...(await readdir(join(volumesDir, ownFolder, 'directories')).catch(() => [])),
        ...(await readdir(join(volumesDir, ownFolder, 'trash'))),
      ],
    }
  }
  return await openWorld(build, { runner })
}

export const thinOptions: ThinOptions = {
  poolName: 'thinpool',
  overcommitRatio: 1,
  dataWatermark: 90,
  metadataWatermark: 80,
}

/** Volumes in the volume group of that name, which must be there. */
export async function openLvmWorld(options: {
  volumeGroup: string
  thin?: ThinOptions | undefined
  folder?: string
  /** Runs the tools of process 1's mount namespace. */
  hostTools?: boolean
  slowCommandMs?: number
  /** The tag by which the group is this world's. */
  claim?: string
  /** Told of each program and of each command of LVM's shell. */
  observe?: Observe
}): Promise<World> {
  const { volumeGroup, thin, folder, hostTools = false, slowCommandMs, claim, observe } = options
  const runner = observe ? observeRunner(run, observe) : run
  const host = hostTools ? { runner: runOnHost, mountInfo: '/proc/1/mountinfo' } : { runner }
  const build = async (volumesDir: string): Promise<Ground> => {
    const settings = {
      volumeGroup,
      thin,
      volumesDir,
      hostTools,
      ...(slowCommandMs ? { slowCommandMs } : {}),
      ...(claim ? { claim } : {}),
      ...(observe ? { observe } : {}),
    }
    const { pool, shell } = await buildLvmPool(settings)
    const lvs = async () =>
      (await shell.run(['lvs', '-o', 'lv_name,lv_tags,lv_size', '--units', 'b', '--nosuffix', volumeGroup])).lv
    return {
      pool,
      renewPool: async () => (await buildLvmPool(settings)).pool,
      extentBytes: 4n * mebibyte,
      plantForeign: async (name) => {
        await shell.run(['lvcreate', '--yes', '--name', name, '--size', '4m', volumeGroup])
      },
      // As TopoLVM does, and OpenEBS LocalPV-LVM in other words.
      makeOther: async (name, sizeBytes) => {
        const wiping = ['-W', 'y', '-y']
        const plain = ['lvcreate', '-n', name, '-L', `${sizeBytes}b`, ...wiping, volumeGroup]
        const pool = `${volumeGroup}/${thin?.poolName}`
        await shell.run(thin ? ['lvcreate', '-T', pool, '-n', name, '-V', `${sizeBytes}b`, ...wiping] : plain)
        return `/dev/${volumeGroup}/${name}`
      },
      unmark: async (name) => {
        const tags = (await lvs()).find((row) => row.lv_name === name)?.lv_tags?.split(',') ?? []
        await shell.run(['lvchange', ...tags.flatMap((tag) => ['--deltag', tag]), `${volumeGroup}/${name}`])
        return true
      },
      isForeignUntouched: async (name) => {
        const found = (await lvs()).find((row) => row.lv_name === name)
        await shell.run(['lvremove', '--yes', `${volumeGroup}/${name}`])
        return found?.lv_tags === '' && found.lv_size === String(4n * mebibyte)
      },
      leftovers: async () =>
        (await lvs())
          .map((row) => row.lv_name ?? '')
          .filter((name) => name !== thin?.poolName && !name.startsWith('[')),
      reboot: async () => {
        await shell.run(['vgchange', '--activate', 'n', volumeGroup])
      },
    }
  }
  return await openWorld(build, { folder, ...host })
}

/** An LVM pool with a shell of its own, configured in `volumesDir`. */
export async function buildLvmPool(options: {
  volumeGroup: string
  thin: ThinOptions | undefined
  volumesDir: string
  hostTools?: boolean
  slowCommandMs?: number
  claim?: string
  observe?: Observe
}): Promise<{ pool: LvmPool; shell: LvmShell }> {
  const { volumesDir, hostTools, observe, ...rest } = options
  const configDir = join(volumesDir, ownFolder, 'lvm')
  const runner = hostTools ? runOnHost : run
  const { volumeGroup } = options
  await writeLvmConfig({ run: runner, folder: configDir, volumeGroup, hostTools: hostTools ?? false })
  const { zero } = buildFilesystems({ run: runner })
  const meter = observe && { command: observe, backlogs: new Set<Backlog>() }
  const shell = new LvmShell({ command: hostTools ? hostCommand('lvm', []) : ['lvm', []], configDir, uptimeMs, meter })
  const backupFile = join(configDir, 'backup', options.volumeGroup)
  return { shell, pool: new LvmPool({ ...rest, shell, zero, now, uptimeMs, backupFile, log: { warn: () => {} } }) }
}
