import { lstat, readdir, readFile, realpath } from 'node:fs/promises'
import { join, relative } from 'node:path'
import type { Keeper } from '../inspect/keeper.ts'
import type { VolumeFacts } from '../k8s/model/persistent-volume.ts'
import { type MountEntry, parseMountInfo } from '../mount/table.ts'
import type { Runner } from '../run.ts'
import type { Engine } from '../volume/engine.ts'
import { hasErrno, VolumeError } from '../volume/errors.ts'
import type { DriverKind } from '../volume/pool.ts'

/** What the daemon of this machine is, or will be, started with. */
export interface PatientSettings {
  driverKind: DriverKind
  volumesDir: string
  lvmVolumeGroup: string
  lvmUseThinVolumes: boolean
  hostTools: boolean
  socket: string
  kubeletDir: string
  pluginDir: string
  /** By which the daemon serves volumes. */
  flex: boolean
  csi: boolean
}

/** The machine that the doctor looks at. Nothing of it is changed. */
export interface Patient {
  /** The folder that stands for `/`. */
  root: string
  settings: PatientSettings
  /** Version of this very program. */
  version: string
  /** The file of this very program, when it is one that was built. */
  executable?: string
  inContainer: boolean
  run: Runner
  /** An engine on the machine's volumes, not started; made only where `volumesDir` is there. */
  openEngine(): Promise<Engine>
  daemon: Keeper
  /** The cluster, where it is to be compared with. */
  cluster?: { node: string; readVolumes(): Promise<VolumeFacts[]> }
  now: Date
}

/** The path of the machine as seen from here. */
export function at(patient: Pick<Patient, 'root'>, path: string): string {
  return join(patient.root, path)
}

/** The text of a file; nothing when it is not there or may not be read. */
export async function readText(patient: Pick<Patient, 'root'>, path: string): Promise<string | undefined> {
  return await readFile(at(patient, path), 'utf8').catch(() => undefined)
}

/** The names in a folder; none when it is not there or may not be read. */
export async function readNames(patient: Pick<Patient, 'root'>, path: string): Promise<string[]> {
  return await readdir(at(patient, path)).catch(() => [])
}

/** What is at that path, a link not followed; nothing when nothing is. */
export async function findNode(patient: Pick<Patient, 'root'>, path: string) {
  return await lstat(at(patient, path)).catch((error) => {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  })
}

/** User and effective capabilities of this process (proc_pid_status(5)). */
export async function readRights(patient: Pick<Patient, 'root'>): Promise<{ uid: number; capabilities: bigint }> {
  const status = (await readText(patient, '/proc/self/status')) ?? ''
  // The second is the effective one.
  const uid = /^Uid:\s*\d+\s+(\d+)/m.exec(status)?.[1]
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1]
  return { uid: Number(uid ?? -1), capabilities: BigInt(`0x${capabilities ?? '0'}`) }
}

/** The mounts that the daemon sees, in the kernel's order. */
export async function readMounts(patient: Patient): Promise<MountEntry[]> {
  const text = await readText(patient, patient.settings.hostTools ? '/proc/1/mountinfo' : '/proc/self/mountinfo')
  return parseMountInfo(text ?? '')
}

/** The path of the machine without links in it, as the kernel names it; the path itself when nothing is there. */
export async function findReal(patient: Patient, path: string): Promise<string> {
  const real = await realpath(at(patient, path)).catch(() => undefined)
  return real === undefined ? path : join('/', relative(await realpath(patient.root), real))
}

/** Longest wait for a pool: LVM waits for every disk. */
export const poolTimeoutMs = 30_000

/** Asks an engine on the machine's volumes. Throws `failed` when it takes too long. */
export async function askEngine<T>(patient: Patient, ask: (engine: Engine) => Promise<T>): Promise<T> {
  const answer = patient.openEngine().then((engine) => ask(engine).finally(() => engine.stop()))
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    const message = `The pool gave no answer in ${poolTimeoutMs / 1000} s; perhaps a disk hangs: see "dmesg".`
    timer = setTimeout(() => reject(new VolumeError('failed', message)), poolTimeoutMs)
  })
  try {
    return await Promise.race([answer, late])
  } finally {
    clearTimeout(timer)
  }
}

/** What the daemon answers; why not, where its pool cannot be used at the moment; nothing where nobody answers. */
export async function askDaemon<T>(answer: Promise<T>): Promise<T | VolumeError | undefined> {
  return await answer.catch((error) =>
    error instanceof VolumeError && error.code === 'unavailable' ? error : undefined,
  )
}
