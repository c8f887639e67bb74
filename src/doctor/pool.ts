import { constants } from 'node:fs'
import { access, realpath, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { ownFolder } from '../mount/records.ts'
import { CommandError } from '../run.ts'
import { formatBytes, formatCount } from '../text/quantity.ts'
import { messageOf, VolumeError } from '../volume/errors.ts'
import type { PoolReport } from '../volume/pool.ts'
import { type Finding, fail, ok, warn } from './finding.ts'
import { askDaemon, askEngine, at, findNode, type Patient, poolTimeoutMs, readRights } from './patient.ts'

const folderCheck = 'volumes folder'
/** Less than this leaves no room for the records of what is under way. */
const littleBytes = 64n << 20n
const fewInodes = 1000n
/** Filesystems that are gone with the machine's memory or with the container, by their number in statfs(2). */
const fleeting = new Map([
  [0x01021994n, 'in memory (tmpfs)'],
  [0x858458f6n, 'in memory (ramfs)'],
  [0x794c7630n, "in a container's own layer (overlay)"],
])

/** The folder that volumes are first mounted in, and where the daemon keeps its records. */
export async function checkVolumesDir(patient: Patient): Promise<Finding[]> {
  const { volumesDir, driverKind } = patient.settings
  const path = at(patient, volumesDir)
  const node = await findNode(patient, volumesDir)
  if (!node) {
    const advice = 'The daemon creates it at its first start; --volumes-dir chooses another.'
    return [warn(folderCheck, `${volumesDir} is not there yet`, advice)]
  }
  const folder = await stat(path).catch(() => undefined)
  if (!folder?.isDirectory())
    return [fail(folderCheck, `${volumesDir} is not a folder`, 'Move it away, or choose another with --volumes-dir.')]
  const findings: Finding[] = []
  const isRoot = (await readRights(patient)).uid === 0
  // What an ordinary user may write says nothing.
  const refused = isRoot
    ? await access(path, constants.W_OK | constants.X_OK).then(() => undefined, messageOf)
    : undefined
  if (refused !== undefined) {
    const advice = `Check for a read-only filesystem with "findmnt -T ${volumesDir}", and for the cause with "dmesg".`
    findings.push(fail(folderCheck, `${volumesDir} cannot be written: ${refused}`, advice))
  }
  const { type, bavail, bsize, files, ffree } = await statfs(path, { bigint: true })
  const freeBytes = bavail * bsize
  if (freeBytes < littleBytes) {
    const advice = 'Make room on that filesystem: without it no volume can be created, grown or removed.'
    findings.push(fail(folderCheck, `${volumesDir} has ${formatBytes(freeBytes)} free`, advice))
  }
  if (files > 0n && ffree < fewInodes)
    findings.push(
      warn(folderCheck, `${volumesDir} has ${ffree} inodes left`, 'Remove small files from that filesystem.'),
    )
  const place = fleeting.get(type)
  if (place && driverKind !== 'LVM') {
    const message = `${volumesDir} is ${place}: its volumes are lost at a restart`
    findings.push(warn(folderCheck, message, 'Choose a folder on a disk with --volumes-dir.'))
  }
  if (findings.length > 0) return findings
  const real = node.isSymbolicLink() ? `, which is ${await realpath(path)},` : ''
  return [
    ok(folderCheck, `${volumesDir}${real} ${isRoot ? 'can be written' : 'is there'}, ${formatBytes(freeBytes)} free`),
  ]
}

/** What volumes are cut from. */
export async function checkPool(patient: Patient): Promise<Finding[]> {
  const { driverKind, volumesDir, lvmVolumeGroup } = patient.settings
  if ((await readRights(patient)).uid !== 0)
    return [warn('pool', 'it was not checked', 'Only root can: run it with sudo.')]
  // A daemon that runs knows what hangs, and whether its disk is still there.
  const fromDaemon = await askDaemon(patient.daemon.pools())
  if (fromDaemon instanceof VolumeError) return [fail('pool', fromDaemon.message, 'What is mounted keeps working.')]
  if (fromDaemon) return fromDaemon.flatMap(judgePool)
  const begun = driverKind === 'LOOP' ? join(volumesDir, ownFolder, 'loop') : volumesDir
  if (await findNode(patient, begun)) return judgePool(await askEngine(patient, (engine) => engine.report()))
  if (driverKind === 'LVM') return [await checkVolumeGroup(patient, lvmVolumeGroup)]
  return [warn('pool', `there is none in ${volumesDir} yet`, 'The daemon creates it at its first start.')]
}

/** What to do about a problem of a pool, by its words. */
const advices: readonly [problem: RegExp, advice: string][] = [
  [
    /no longer mounted there/,
    'Mount it again; the daemon continues automatically. If it is another disk for good, restart the daemon.',
  ],
  [
    /disks are missing/,
    'See "pvs", reconnect the disk, and run "vgextend --restoremissing <group> <disk>". If it is lost: docs/maintenance.md, "Replace a disk that is lost".',
  ],
  [
    /metadata area is nearly full/,
    'Remove volumes, or use a group whose disks were created with "pvcreate --metadatasize 64m".',
  ],
  [
    /data area in use/,
    'Remove volumes, or give the thin pool more: "lvextend --size +<size> <group>/<pool>", after a "vgextend" if need be.',
  ],
  [
    /does not zero its blocks/,
    'Volumes in it may show the data of others: "lvchange --zero y <group>/<pool>"; elastic-local may not have created it.',
  ],
  [
    /blocks writers when it is full/,
    'A full pool would hang every volume in it: "lvchange --errorwhenfull y <group>/<pool>".',
  ],
  [
    /^Cannot (use|read) volume group/,
    'See "vgs" and "pvs"; nothing is created or removed meanwhile, and what is mounted keeps working.',
  ],
  [
    /is claimed by the daemon of/,
    'Give each daemon a volume group of its own. After a reinstallation of the machine, or with another --volumes-dir, remove the old claim as it says: docs/decisions/0016-claim-of-a-volume-group.md.',
  ],
  [
    /was left suspended/,
    'Nothing more to do. A program killed in the middle of a change leaves a volume so: check the kernel log (dmesg).',
  ],
  [/metadata area in use/, 'Give it more: "lvextend --poolmetadatasize +<size> <group>/<pool>".'],
]

function judgePool(pool: PoolReport): Finding[] {
  const name = `${pool.driverKind} ${pool.name}`
  if (pool.problems.length > 0)
    return pool.problems.map((problem) => {
      // "metadata area in use" holds "data area in use".
      const advice = advices.findLast(([pattern]) => pattern.test(problem))?.[1]
      return fail('pool', `${name}: ${problem}`, advice ?? 'See "elastic-local pools".')
    })
  if (pool.freeBytes === 0n)
    return [warn('pool', `${name} has no room for another volume`, 'Remove volumes, or add a disk.')]
  const room = `${formatBytes(pool.freeBytes)} of ${formatBytes(pool.sizeBytes)} free`
  const note = pool.enforcesSize ? '' : '; sizes are counted, not enforced'
  return [ok('pool', `${name}: ${room}, ${formatCount(pool.volumes, 'volume')}${note}`)]
}

/** Only whether the group is there: anything more needs the folder of the volumes. */
async function checkVolumeGroup(patient: Patient, group: string): Promise<Finding> {
  try {
    await patient.run('lvm', ['vgs', '--noheadings', '-o', 'vg_name', group], { timeoutMs: poolTimeoutMs })
    return ok('pool', `volume group ${group} is there`)
  } catch (error) {
    if (error instanceof CommandError && /not found/.test(error.stderr)) {
      const advice = `Create it with "elastic-local create-vg --lvm-volume-group ${group} <disk>…", which takes blank disks only, or name another with --lvm-volume-group.`
      return fail('pool', `volume group ${group} is missing`, advice)
    }
    return fail('pool', messageOf(error), 'See "vgs" and "pvs".')
  }
}
