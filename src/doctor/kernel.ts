import type { DriverKind } from '../volume/pool.ts'
import { type Finding, fail, ok, warn } from './finding.ts'
import { findNode, type Patient, readText } from './patient.ts'

interface Feature {
  name: string
  /** The module that brings it, as modprobe(8) calls it. */
  module: string
  /** Where the kernel names it once it has it. */
  listed?: { file: string; pattern: RegExp }
  required: boolean
  /** What does not work without it, and what to do when the kernel will never have it. */
  without: string
  instead: string
}

const filesystem = (name: string, required: boolean): Feature => ({
  name,
  module: name,
  listed: { file: '/proc/filesystems', pattern: new RegExp(`\\t${name}$`, 'm') },
  required,
  without: `volumes with ${name} cannot be mounted`,
  instead: 'Use another filesystem for volumes of this node, or another kernel.',
})
const filesystems = [filesystem('ext4', true), filesystem('xfs', false), filesystem('btrfs', false)]
const otherKind = (kinds: string) => `Use another kernel, or another kind of pool: --driver-kind ${kinds}.`

const loop: Feature = {
  name: 'loop devices',
  module: 'loop',
  listed: { file: '/proc/devices', pattern: /^ *\d+ loop$/m },
  required: true,
  without: 'there are no image volumes',
  instead: otherKind('LVM or BINDMOUNT'),
}
const deviceMapper: Feature = {
  name: 'device-mapper',
  module: 'dm-mod',
  listed: { file: '/proc/devices', pattern: /^ *\d+ device-mapper$/m },
  required: true,
  without: 'there are no logical volumes',
  instead: otherKind('LOOP or BINDMOUNT'),
}
const thinPool: Feature = {
  name: 'thin pools',
  module: 'dm-thin-pool',
  required: true,
  without: 'there are no thin volumes',
  instead: 'Use another kernel, or leave out --lvm-use-thin-volumes.',
}

function featuresOf(driverKind: DriverKind, thin: boolean): Feature[] {
  if (driverKind === 'BINDMOUNT') return []
  if (driverKind === 'LOOP') return [loop, ...filesystems]
  return [deviceMapper, ...(thin ? [thinPool] : []), ...filesystems]
}

/** Whether the kernel has, or can load, what the pool's kind needs. */
export async function checkKernel(patient: Patient): Promise<Finding[]> {
  const { driverKind, lvmUseThinVolumes } = patient.settings
  const release = (await readText(patient, '/proc/sys/kernel/osrelease'))?.trim() ?? ''
  const found = await Promise.all(
    featuresOf(driverKind, lvmUseThinVolumes).map(async (feature) => ({
      feature,
      state: await stateOf(patient, release, feature),
    })),
  )
  const good = found.filter(({ state }) => state === 'there' || state === 'loadable')
  const names = good.map(({ feature, state }) =>
    state === 'there' ? feature.name : `${feature.name} (loaded when needed)`,
  )
  const findings = names.length > 0 ? [ok('kernel', `${release} has ${names.join(', ')}`)] : []
  for (const { feature, state } of found) {
    const finding = judge(feature, state, release)
    if (finding) findings.push(finding)
  }
  if (driverKind === 'BINDMOUNT') findings.push(ok('kernel', `${release}; directories need nothing special from it`))
  if (driverKind === 'LOOP' && !(await findNode(patient, '/dev/loop-control')))
    findings.push(
      fail(
        'kernel',
        '/dev/loop-control is missing',
        'Run "modprobe loop"; in a container, mount the host\'s /dev into it.',
      ),
    )
  return findings
}

type State = 'there' | 'loadable' | 'absent' | 'unknown'

function judge(
  { name, module, required, without, instead }: Feature,
  state: State,
  release: string,
): Finding | undefined {
  if (state === 'absent') {
    const message = `the kernel has no ${name}: ${without}`
    return required ? fail('kernel', message, instead) : warn('kernel', message, instead)
  }
  if (state === 'unknown')
    return warn(
      'kernel',
      `${name}: not loaded, and it is unknown whether it could be, as /lib/modules/${release} is not here`,
      `Run "modprobe ${module}" on the host; if that fails, ${without}.`,
    )
  return undefined
}

async function stateOf(patient: Patient, release: string, { module, listed }: Feature): Promise<State> {
  if (listed?.pattern.test((await readText(patient, listed.file)) ?? '')) return 'there'
  if (await findNode(patient, `/sys/module/${module.replaceAll('-', '_')}`)) return 'there'
  // A kernel that cannot load modules has what it has.
  if (!(await findNode(patient, '/proc/modules'))) return 'absent'
  for (const folder of [`/lib/modules/${release}`, `/proc/1/root/lib/modules/${release}`]) {
    const listOf = async (file: string) => (await readText(patient, `${folder}/${file}`))?.replaceAll('_', '-')
    const file = new RegExp(`/${module}\\.ko[.a-z0-9]*(:|$)`, 'm')
    if (file.test((await listOf('modules.builtin')) ?? '')) return 'there'
    const loadable = await listOf('modules.dep')
    if (loadable !== undefined) return file.test(loadable) ? 'loadable' : 'absent'
  }
  return 'unknown'
}
