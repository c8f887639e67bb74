/** The suites, and what they need before the clock of their first test starts. */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { FrontName } from '../../src/daemon/front.ts'
import { type Boot, fileJob, guestJob, type Job, type Lane } from './jobs.ts'
import { canBootGuest, canIsolate, canUseLoops } from './machine.ts'

const root = join(import.meta.dirname, '../..')

export interface Suite {
  /** Throws, in one line, when this machine cannot run it; makes what is made once. */
  prepare(): Promise<void>
  /** Those of `make test`; where the runner is told `LONG`, those of `make test-long`, of which each holds all of the former. */
  jobs(): Promise<Job[]>
}

const isLong = process.env.LONG !== undefined

async function files(folder: string, lane: Lane): Promise<Job[]> {
  const names = await readdir(join(root, folder), { recursive: true })
  return names
    .filter((name) => name.endsWith('.test.ts'))
    .sort()
    .map((name) => fileJob(join(folder, name), lane))
}

/**
 * Files of the cluster suite that `make test` leaves out: what they show, power.test.ts shows once, without chance,
 * move.test.ts with few volumes, and adopt.test.ts and the guests' contract each a part.
 */
const longOnly = ['guest-node.test.ts', 'power-cuts.test.ts', 'moves.test.ts', 'adopt-lvm.test.ts']

/** Files of the cluster suite that are run for each front, as what they show is not the same for both. */
const bothFronts = [
  ...['claims.test.ts', 'workloads.test.ts', 'restarts.test.ts', 'orphaned-mounts.test.ts', 'hostile.test.ts'],
  // What is the same for both takes the most of their time.
  ...(isLong ? ['faults.test.ts', 'nodes.test.ts', 'placement.test.ts', 'power-cuts.test.ts'] : []),
]

async function clusterFiles(): Promise<Job[]> {
  const jobs = await files('test/cluster', 'cluster')
  return jobs.flatMap((job) => {
    const { title, lane } = job
    if (!isLong && longOnly.includes(basename(title))) return []
    return bothFronts.includes(basename(title)) ? [job, fileJob(title, lane, 'csi')] : [job]
  })
}

async function canMount(): Promise<void> {
  await canIsolate()
  await canUseLoops()
}

const crash = (kind: string) => guestJob('crash.ts', { args: [kind] })
const reboots = (kind: string, front: FrontName = 'flex') => {
  const boots: Boot[] = [
    { args: [kind, 'make', front] },
    { args: [kind, 'interrupt', front], cutAt: 'CUT' },
    { args: [kind, 'check', front] },
  ]
  return guestJob('reboot.ts', ...boots)
}

export const suites: Readonly<Record<string, Suite>> = {
  unit: {
    prepare: async () => {},
    jobs: async () =>
      (
        await Promise.all(
          ['src', 'image', 'test/config', 'test/conformance', 'test/docs', 'test/kubernetes', 'test/runner'].map(
            (folder) => files(folder, 'free'),
          ),
        )
      ).flat(),
  },
  kernel: { prepare: canMount, jobs: () => files('test/kernel', 'machine') },
  executable: {
    prepare: async () => {
      await canMount()
      const { gather } = await import('../../image/build.ts')
      const { ensureImage, prepareDockerfileImage } = await import('../cluster/image.ts')
      for (const arch of ['x64', 'arm64'] as const) await gather(arch, false, () => {})
      await ensureImage()
      await prepareDockerfileImage()
      const { ensureCsiTools } = await import('../csi/build.ts')
      await ensureCsiTools()
    },
    jobs: async () => [
      ...['image', 'fuzz', 'executable', 'demo', 'modes', 'completion'].map((name) =>
        fileJob(`test/${name}.test.ts`, 'machine'),
      ),
      ...(await files('test/csi', 'machine')),
    ],
  },
  guest: {
    prepare: async () => {
      await canBootGuest()
      const { ensureCsiTools } = await import('../csi/build.ts')
      await ensureCsiTools()
    },
    jobs: async () => [
      crash('linear'),
      ...['linear', 'thin'].map((part) => guestJob('pools.ts', { args: [part] })),
      guestJob('faults.ts', { args: [] }),
      guestJob('pools.ts', { args: ['loop'] }),
      reboots('linear'),
      ...[
        'csi.ts',
        'room.ts',
        'others.ts',
        'container.ts',
        'tenants.ts',
        'group.ts',
        'full.ts',
        'thin-metadata.ts',
      ].map((program) => guestJob(program, { args: [] })),
      ...(isLong
        ? [crash('thin'), reboots('thin'), reboots('linear', 'csi'), guestJob('pools.ts', { args: ['host'] })]
        : []),
    ],
  },
  cluster: {
    prepare: async () => {
      await canMount()
      await canBootGuest()
      const { ensureControlPlane, ensureHelm } = await import('../cluster/build.ts')
      const { ensureBusyboxImage, ensureImage } = await import('../cluster/image.ts')
      await ensureControlPlane()
      await ensureHelm()
      await ensureImage()
      await ensureBusyboxImage()
    },
    jobs: clusterFiles,
  },
  long: { prepare: canMount, jobs: () => files('test/long', 'machine') },
  torture: {
    prepare: async () => {
      await canMount()
      await canBootGuest()
    },
    jobs: async () => [
      ...['crash', 'histories'].map((name) => fileJob(`src/volume/${name}.test.ts`, 'free')),
      ...['crash', 'histories', 'killed'].map((name) => fileJob(`test/kernel/${name}.test.ts`, 'machine')),
      ...['linear', 'thin'].map(crash),
    ],
  },
}

/** Throws when a file of tests belongs to no suite, or a suite names one that is not there. */
export async function checkComplete(): Promise<void> {
  const jobs = (await Promise.all(Object.values(suites).map((suite) => suite.jobs()))).flat()
  const titles = [
    ...jobs.map(({ title }) => title.split(' ')[0] ?? ''),
    ...longOnly.map((name) => `test/cluster/${name}`),
  ]
  const found = (await Promise.all(['src', 'image', 'test'].map((folder) => files(folder, 'free')))).flat()
  const orphan = found.find(({ title }) => !titles.includes(title))
  if (orphan) throw new Error(`Cannot run all tests as each must belong to a suite: ${orphan.title} does not`)
  const missing = titles.find((title) => !existsSync(join(root, title)))
  if (missing) throw new Error(`Cannot run all tests as ${missing} is not there`)
}
